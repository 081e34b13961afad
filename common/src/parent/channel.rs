//! The line between the parent and one worker: a pair of Unix sockets.
//!
//! Orders and reports are messages, not signals, because a terminal sends its signals to the whole
//! process group: a worker that obeyed them would stop before its parent could decide anything. A
//! worker that is sent SIGTERM reports it here. Messages can carry descriptors (SCM_RIGHTS, unix(7)).
//! And the line breaks when either process dies, however it dies, so the other one notices.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc::cmsghdr;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, recvmsg, sendmsg, socketpair,
};
use socket2::SockRef;
use tokio::io::unix::AsyncFd;

/// The longest text a message carries, in bytes.
const LONGEST: usize = 2000;

/// A message. SOCK_SEQPACKET keeps messages apart.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Parent to a worker started by exec: the message carries the worker's descriptors.
    Start {
        /// The lane that it keeps, if any.
        lane: Option<usize>,
        /// The CPU that it is pinned to, if it is.
        cpu: Option<usize>,
    },
    /// Parent to the new server that will replace it: the message carries the bound socket, and the number of
    /// workers.
    Succeed(u16),
    /// Parent to worker: answer open requests, then end.
    Drain,
    /// Parent to worker: send listening sockets over the line that the message carries. The worker goes on using
    /// them until it drains or releases them.
    Give {
        /// All of them, or only the last.
        all: bool,
    },
    /// Parent to worker: close the last of your listening sockets, another worker serves it now.
    Release,
    /// Parent to worker: take listening sockets from that line, and accept from them too.
    Adopt,
    /// Worker to parent: this many listening sockets came over the line that it was started with.
    Holds(u16),
    /// Worker to parent: the accept loop runs.
    Ready,
    /// Worker to parent: the adopted sockets are in the accept loop.
    Adopted,
    /// Worker to parent: why it could not adopt the sockets; it keeps none of them.
    NotAdopted(String),
    /// Worker to parent: it was sent SIGTERM. The parent decides what that means.
    Terminated,
    /// Worker to worker, or to the parent: the message carries a listening socket.
    Socket,
    /// Worker to worker: that was the last one.
    Done,
    /// Worker to parent: it cannot serve, and why.
    Failed(String),
}

/// A message with the descriptors that it carried.
pub type Received = (Message, Vec<OwnedFd>);

/// One end of the line.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends: the parent's and the worker's.
    pub fn pair() -> Result<(Self, Self)> {
        let kind = SockType::SeqPacket;
        let (one, other) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
            .context("cannot make a channel to a worker")?;
        Ok((Self(one), Self(other)))
    }

    /// Sends a message, and copies of descriptors with it. Waits if the line is full.
    pub fn send(&self, message: &Message, descriptors: &[BorrowedFd]) -> Result<()> {
        self.send_with(message, descriptors, MsgFlags::empty())
    }

    /// Sends a message, or fails if the line is full: then the other end has not read for very long, and the parent
    /// must not wait for a worker.
    pub fn try_send(&self, message: &Message, descriptors: &[BorrowedFd]) -> Result<()> {
        self.send_with(message, descriptors, MsgFlags::MSG_DONTWAIT)
    }

    fn send_with(
        &self,
        message: &Message,
        descriptors: &[BorrowedFd],
        flags: MsgFlags,
    ) -> Result<()> {
        let none = String::new();
        let (kind, text) = match message {
            Message::Start { lane, cpu } => {
                (b'S', [lane, cpu].map(|it| it.map_or("-".into(), |n| n.to_string())).join(" "))
            }
            Message::Succeed(workers) => (b'U', workers.to_string()),
            Message::Holds(sockets) => (b'h', sockets.to_string()),
            Message::Drain => (b'D', none),
            Message::Give { all: true } => (b'G', none),
            Message::Give { all: false } => (b'1', none),
            Message::Release => (b'r', none),
            Message::Adopt => (b'A', none),
            Message::Ready => (b'R', none),
            Message::Adopted => (b'a', none),
            Message::NotAdopted(reason) => (b'n', reason.clone()),
            Message::Terminated => (b't', none),
            Message::Socket => (b's', none),
            Message::Done => (b'.', none),
            Message::Failed(reason) => (b'F', reason.clone()),
        };
        let text = &text.as_bytes()[..text.len().min(LONGEST)];
        let kind = [kind];
        let parts = [IoSlice::new(&kind), IoSlice::new(text)];
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        let flags = flags | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.0.as_raw_fd(), &parts, rights, flags, None)?;
        Ok(())
    }

    /// Waits for the next message; `None` if the other end is gone.
    pub fn receive(&self) -> Result<Option<Received>> {
        self.receive_with(MsgFlags::empty())
    }

    /// The next message, without waiting: the outer `None` means that there is none yet.
    pub fn try_receive(&self) -> Result<Option<Option<Received>>> {
        match self.receive_with(MsgFlags::MSG_DONTWAIT) {
            Err(error) if error.downcast_ref() == Some(&Errno::EAGAIN) => Ok(None),
            received => received.map(Some),
        }
    }

    /// Whether receiving failed because no descriptor is free; the message is still there.
    pub fn is_for_want_of_room(error: &anyhow::Error) -> bool {
        error.downcast_ref() == Some(&Errno::ENOBUFS)
    }

    /// Whether the other end is gone. Receives nothing.
    pub fn is_broken(&self) -> bool {
        let mut end = [PollFd::new(self.0.as_fd(), PollFlags::empty())]; // POLLHUP is always reported
        poll(&mut end, PollTimeout::ZERO) == Ok(1)
    }

    /// Lets the calling task wait for messages, in a process that runs tokio.
    #[allow(unsafe_code)]
    pub fn watch(&self) -> std::io::Result<AsyncFd<BorrowedFd<'_>>> {
        // SAFETY: a BorrowedFd stays open, and the same file, as long as it lives.
        Ok(unsafe { AsyncFd::register(self.0.as_fd()) }?)
    }

    /// It peeks at the message first, and removes it only when its descriptors have arrived: recvmsg(2) drops the
    /// descriptors for which this process has no room, and they would be lost. So a message for which there is
    /// no room (ENOBUFS) stays in the line, and can be received later.
    fn receive_with(&self, flags: MsgFlags) -> Result<Option<Received>> {
        let mut bytes = [0; 1 + LONGEST];
        let mut control = nix::cmsg_space!([RawFd; 4]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let look = flags | MsgFlags::MSG_PEEK | MsgFlags::MSG_CMSG_CLOEXEC;
        let received = match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut control), look)
        {
            Err(Errno::ECONNRESET) => return Ok(None), // gone, with unread messages
            other => other?,
        };
        let (length, is_cut) = (received.bytes, received.flags.contains(MsgFlags::MSG_CTRUNC));
        let descriptors = descriptors_in(&control);
        if is_cut {
            return Err(Errno::ENOBUFS.into()); // the descriptors that arrived are closed
        }
        if length > 0 {
            recv(self.0.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT)?; // one byte: the rest of the message goes with it
        }
        let message = match bytes[..length].split_first() {
            None => return Ok(None),
            Some((b'S', numbers)) => {
                let mut numbers = str::from_utf8(numbers)?.split(' ').map(|it| it.parse().ok());
                let mut next = || numbers.next().flatten();
                Message::Start { lane: next(), cpu: next() }
            }
            Some((b'U', number)) => Message::Succeed(str::from_utf8(number)?.parse()?),
            Some((b'h', number)) => Message::Holds(str::from_utf8(number)?.parse()?),
            Some((b'D', _)) => Message::Drain,
            Some((b'G', _)) => Message::Give { all: true },
            Some((b'1', _)) => Message::Give { all: false },
            Some((b'r', _)) => Message::Release,
            Some((b'A', _)) => Message::Adopt,
            Some((b'R', _)) => Message::Ready,
            Some((b'a', _)) => Message::Adopted,
            Some((b'n', text)) => Message::NotAdopted(shown(text)),
            Some((b't', _)) => Message::Terminated,
            Some((b's', _)) => Message::Socket,
            Some((b'.', _)) => Message::Done,
            Some((b'F', text)) => Message::Failed(shown(text)),
            Some((kind, _)) => bail!("unknown message {kind:#x} between parent and worker"),
        };
        Ok(Some((message, descriptors)))
    }
}

/// The descriptors in the control message that recvmsg(2) has written into a buffer of zeros: a header (cmsg(3)),
/// which begins with the length of all of it, then the descriptors' numbers.
///
/// Parsed here, as nix returns none of them if there was room for only some. But those are open by then, and must
/// be closed: one may be a listening socket, which would outlive its worker here.
#[allow(unsafe_code)]
fn descriptors_in(control: &[u8]) -> Vec<OwnedFd> {
    let (length, _) = control.split_first_chunk().expect("there is room for a header");
    let numbers = size_of::<cmsghdr>()..usize::from_ne_bytes(*length).min(control.len());
    let (numbers, _) = control.get(numbers).unwrap_or_default().as_chunks();
    // SAFETY: the kernel has just made these descriptors for this process, and no other code knows their numbers, so
    // each of them gets its only owner here.
    let received =
        numbers.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(RawFd::from_ne_bytes(fd)) });
    // A worker that an attacker has taken over may send a socket with which close(2) would wait for its client.
    received.inspect(|it| _ = SockRef::from(it).set_linger(None)).collect()
}

/// A text that another process has sent, safe for a log and a terminal: without control characters, which would
/// begin another line there, or do worse.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(char::is_control, " ")
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(end: OwnedFd) -> Self {
        Self(end)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually::eventually;

    #[test]
    fn messages_arrive_whole_and_one_by_one() {
        let (parent, worker) = Channel::pair().unwrap();
        worker.send(&Message::Ready, &[]).unwrap();
        worker.send(&Message::Failed("no luck".into()), &[]).unwrap();
        for (lane, cpu) in [(None, None), (Some(2048), None), (None, Some(0)), (Some(1), Some(255))]
        {
            parent.send(&Message::Start { lane, cpu }, &[]).unwrap();
            assert_eq!(worker.receive().unwrap().unwrap().0, Message::Start { lane, cpu });
        }
        for message in [Message::Succeed(1024), Message::Holds(2), Message::Done] {
            parent.send(&message, &[]).unwrap();
            assert_eq!(worker.receive().unwrap().unwrap().0, message);
        }
        assert_eq!(parent.receive().unwrap().unwrap().0, Message::Ready);
        assert_eq!(parent.receive().unwrap().unwrap().0, Message::Failed("no luck".into()));
        assert!(parent.try_receive().unwrap().is_none());
    }

    #[test]
    fn a_descriptor_that_is_sent_is_the_same_file() {
        let (parent, worker) = Channel::pair().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        parent.send(&Message::Adopt, &[listener.as_fd()]).unwrap();
        let (_, descriptors) = worker.receive().unwrap().unwrap();
        assert_eq!(
            crate::kernel::sockets::inode(&descriptors[0]),
            crate::kernel::sockets::inode(&listener)
        );
    }

    #[test]
    fn a_message_whose_descriptor_finds_no_room_stays_in_the_line() {
        let child = |limit| {
            // In a process of its own: the limit is the whole process's.
            let test = std::env::current_exe().unwrap();
            let name = "parent::channel::tests::a_message_whose_descriptor_finds_no_room_stays_in_the_line";
            let mut command = std::process::Command::new(test);
            command.args(["--exact", name]).env("NO_ROOM_FOR_DESCRIPTORS", limit);
            command.output().unwrap()
        };
        if std::env::var_os("NO_ROOM_FOR_DESCRIPTORS").is_none() {
            let output = child("1");
            return assert!(output.status.success(), "{output:?}");
        }
        let (parent, worker) = Channel::pair().unwrap();
        parent.send(&Message::Adopt, &[parent.as_fd()]).unwrap();
        parent.send(&Message::Drain, &[]).unwrap();
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
        let mut full = Vec::new();
        while let Ok(descriptor) = worker.as_fd().try_clone_to_owned() {
            full.push(descriptor);
        }
        for _ in 0..3 {
            assert!(Channel::is_for_want_of_room(&worker.try_receive().unwrap_err()));
        }
        full.pop();
        let (message, descriptors) = worker.try_receive().unwrap().unwrap().unwrap();
        assert_eq!((message, descriptors.len()), (Message::Adopt, 1));
        assert_eq!(worker.try_receive().unwrap().unwrap().unwrap().0, Message::Drain);
        // There is room for one of two, as that one is open here no more.
        drop(descriptors);
        parent.send(&Message::Socket, &[parent.as_fd(); 2]).unwrap();
        for _ in 0..3 {
            assert!(Channel::is_for_want_of_room(&worker.try_receive().unwrap_err()));
        }
        full.pop();
        let (message, descriptors) = worker.try_receive().unwrap().unwrap().unwrap();
        assert_eq!((message, descriptors.len()), (Message::Socket, 2));
    }

    #[test]
    fn a_text_has_no_control_characters_and_ends_somewhere() {
        let (parent, worker) = Channel::pair().unwrap();
        let text = format!("no\n\u{1b}[2Jluck{}", "!".repeat(3 * LONGEST));
        worker.send(&Message::Failed(text), &[]).unwrap();
        let Some((Message::Failed(text), _)) = parent.receive().unwrap() else { panic!() };
        assert!(text.starts_with("no  [2Jluck!"), "{text}");
        assert_eq!(text.len(), LONGEST);
    }

    #[test]
    fn more_descriptors_than_any_message_has_are_refused_and_none_of_them_is_kept() {
        let (parent, worker) = Channel::pair().unwrap();
        let (sent, other_end) = Channel::pair().unwrap();
        worker.send(&Message::Ready, &[sent.as_fd(); 9]).unwrap();
        assert!(parent.try_receive().is_err());
        drop((sent, parent, worker));
        assert!(eventually(|| other_end.is_broken()), "nobody has it open any more");
    }

    #[test]
    fn the_line_breaks_when_an_end_is_gone() {
        let (parent, worker) = Channel::pair().unwrap();
        parent.send(&Message::Drain, &[]).unwrap();
        assert!(!worker.is_broken());
        assert_eq!(worker.receive().unwrap().unwrap().0, Message::Drain, "it was not taken");
        drop(parent);
        assert!(eventually(|| worker.is_broken()));
        assert!(worker.receive().unwrap().is_none());
    }
}
