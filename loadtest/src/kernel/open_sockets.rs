//! The sockets that a process has open, and those that it waits for: in an epoll instance, or with a thread in
//! accept(2), select(2) or poll(2).

use std::io::Read;
use std::os::unix::fs::FileExt;

use nix::libc;
use procfs::process::{FDTarget, Process, Syscall};
use procfs::{ProcError, ProcResult};
use serde::{Deserialize, Serialize};

use crate::kernel::borrow;

/// The size of select(2)'s sets, in bytes.
const FD_SET: usize = 1024 / 8;

/// At most this many descriptors of one poll(2) are read.
const MOST_POLLED: usize = 4096;

/// How a process waits for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names say it
pub enum How {
    /// A thread is in accept(2): the kernel wakes one waiter.
    Accept,
    /// A thread is in select(2) or poll(2): the kernel wakes all waiters.
    Poll,
    /// It is registered in an epoll instance: the kernel wakes all waiters, but of those with EPOLLEXCLUSIVE one.
    Epoll { exclusive: bool, edge: bool },
    /// An accept is under way in an io_uring; the kernel does not show on which socket.
    IoUring,
}

/// A waiter, a thread or an epoll instance: the inode of the socket, and how it waits.
pub type Wait = (u64, How);

/// What a process waits for.
#[derive(Clone, Debug, Default)]
pub struct Waits {
    /// The waiters whose socket is known.
    pub found: Vec<Wait>,
    /// The number of threads in accept(2) whose socket may not be read.
    pub in_accept: usize,
    /// Whether an io_uring has an accept under way.
    pub by_ring: bool,
    /// Why something could not be read, if so.
    pub hidden: Option<String>,
}

/// The open descriptors of a process.
#[derive(Debug)]
pub struct OpenSockets {
    process: Process,
    /// Descriptor and inode of every socket.
    sockets: Vec<(i32, u64)>,
    /// The descriptors that are epoll instances, io_urings, and BPF programs.
    epolls: Vec<i32>,
    rings: Vec<i32>,
    programs: Vec<i32>,
}

impl OpenSockets {
    /// Reads `/proc/PID/fd`.
    /// Fails when the process has ended, or this program may not read it.
    pub fn of(pid: u32) -> ProcResult<Self> {
        let process = Process::new(pid as i32)?;
        let (mut sockets, mut epolls) = (Vec::new(), Vec::new());
        let (mut rings, mut programs) = (Vec::new(), Vec::new());
        // A descriptor may have been closed meanwhile.
        for open in process.fd()?.flatten() {
            match open.target {
                FDTarget::Socket(inode) => sockets.push((open.fd, inode)),
                FDTarget::AnonInode(kind) if kind.contains("eventpoll") => epolls.push(open.fd),
                FDTarget::AnonInode(kind) if kind.contains("io_uring") => rings.push(open.fd),
                FDTarget::AnonInode(kind) if kind.contains("bpf-prog") => programs.push(open.fd),
                _ => {}
            }
        }
        Ok(Self { process, sockets, epolls, rings, programs })
    }

    /// The inodes of all sockets; a socket that is open twice occurs twice.
    pub fn inodes(&self) -> impl Iterator<Item = u64> {
        self.sockets.iter().map(|&(_, inode)| inode)
    }

    /// The descriptors of a socket.
    pub fn descriptors(&self, inode: u64) -> impl Iterator<Item = i32> {
        self.sockets.iter().filter(move |socket| socket.1 == inode).map(|socket| socket.0)
    }

    /// What the process waits for at this moment, or has registered in an epoll instance: once for each thread and
    /// each epoll instance.
    pub fn waits(&self) -> Waits {
        let mut waits = Waits::default();
        let mut told: Vec<(i32, String)> = Vec::new();
        for &epoll in &self.epolls {
            let text = match self.fdinfo(epoll) {
                Ok(text) => text,
                Err(error) => {
                    waits.hide("fdinfo", &error);
                    continue;
                }
            };
            // Two descriptors of one epoll instance, as tokio has them, are one waiter. If the kernel cannot
            // compare them, instances that watch the same are taken for one.
            let pid = self.process.pid as u32;
            let same = |(other, known): &(i32, String)| {
                borrow::is_same_file(pid, *other, epoll).unwrap_or_else(|_| *known == text)
            };
            if !told.iter().any(same) {
                waits.found.extend(watched(&text));
                told.push((epoll, text));
            }
        }
        let mut rings = self.rings.iter().filter_map(|ring| self.fdinfo(*ring).ok());
        waits.by_ring = rings.any(|text| text.lines().any(|line| line.contains(RING_ACCEPT)));
        let memory = self.process.mem().ok();
        let peek = |at: u64, length: usize| {
            let mut bytes = vec![0; length];
            memory.as_ref()?.read_exact_at(&mut bytes, at).ok()?;
            Some(bytes)
        };
        for task in self.process.tasks().into_iter().flatten().flatten() {
            let (how, waited) = match task.syscall() {
                Ok(call) => waited(&call, peek),
                Err(error @ ProcError::PermissionDenied(_)) => {
                    waits.hide("system calls", &error);
                    waits.in_accept += usize::from(self.is_in_accept(task.tid));
                    continue;
                }
                Err(_) => continue, // it has just ended
            };
            let found = self.sockets.iter().filter(|(fd, _)| waited.contains(fd));
            waits.found.extend(found.map(|socket| (socket.1, how)));
        }
        waits
    }

    /// Whether it holds a program that picks a socket of a group (BPF_PROG_TYPE_SK_REUSEPORT).
    pub fn holds_steering_program(&self) -> bool {
        let mut texts = self.programs.iter().filter_map(|program| self.fdinfo(*program).ok());
        texts.any(|text| text.lines().any(|line| line == STEERING))
    }

    fn fdinfo(&self, descriptor: i32) -> ProcResult<String> {
        let mut text = String::new();
        let mut file = self.process.open_relative(format!("fdinfo/{descriptor}"))?;
        file.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Whether the thread waits in accept(2), by its wait channel, which may be readable when its system call is not.
    fn is_in_accept(&self, thread: i32) -> bool {
        let mut text = String::new();
        let file = self.process.open_relative(format!("task/{thread}/wchan"));
        let is_read = file.is_ok_and(|mut file| file.read_to_string(&mut text).is_ok());
        is_read && (text.contains("csk_accept") || text.contains("wait_for_connect"))
    }
}

impl Waits {
    fn hide(&mut self, what: &str, error: &ProcError) {
        if let ProcError::PermissionDenied(_) = error {
            self.hidden.get_or_insert_with(|| format!("its {what} may not be read"));
        }
    }
}

/// A pending accept (IORING_OP_ACCEPT) in the fdinfo of an io_uring.
const RING_ACCEPT: &str = "op=13,";

/// The type BPF_PROG_TYPE_SK_REUSEPORT in the fdinfo of a program.
const STEERING: &str = "prog_type:\t21";

/// The event bits of epoll(7).
const IN: u32 = 1;
const EXCLUSIVE: u32 = 1 << 28;
const EDGE: u32 = 1 << 31;

/// The entries of an epoll instance: `tfd: 5 events: 19 data: 5 pos:0 ino:1a2b sdev:8`. An EPOLLONESHOT entry that
/// has fired has no events, and does not wait.
fn watched(fdinfo: &str) -> impl Iterator<Item = Wait> {
    let lines = fdinfo.lines().filter(|line| line.starts_with("tfd:"));
    lines.filter_map(|line| {
        let hex = |name: &str| Some(line.split_once(name)?.1.split_whitespace().next()?.to_owned());
        let inode = u64::from_str_radix(&hex("ino:")?, 16).ok()?;
        let events = u32::from_str_radix(&hex("events:")?, 16).ok()?;
        let how = How::Epoll { exclusive: events & EXCLUSIVE != 0, edge: events & EDGE != 0 };
        (events & IN != 0).then_some((inode, how))
    })
}

/// The descriptors that a thread waits for in this system call, and how. `peek` reads the process's memory, which
/// contains sets of descriptors.
fn waited(call: &Syscall, peek: impl Fn(u64, usize) -> Option<Vec<u8>>) -> (How, Vec<i32>) {
    let Syscall::Blocked { syscall_number: number, argument_registers, .. } = call else {
        return (How::Poll, Vec::new());
    };
    if [libc::SYS_accept, libc::SYS_accept4].contains(number) {
        return (How::Accept, vec![argument_registers[0] as i32]);
    }
    (How::Poll, polled(*number, argument_registers, peek))
}

fn polled(
    number: i64,
    arguments: &[u64; 6],
    peek: impl Fn(u64, usize) -> Option<Vec<u8>>,
) -> Vec<i32> {
    let [first, second, ..] = *arguments;
    let number = &number;
    if POLL.contains(number) {
        let length = (second as usize).min(MOST_POLLED) * 8;
        let bytes = peek(first, length).unwrap_or_default();
        let entries = bytes.chunks_exact(8).map(|entry| [entry[0], entry[1], entry[2], entry[3]]);
        return entries.map(i32::from_ne_bytes).collect();
    }
    if SELECT.contains(number) && second != 0 {
        let set = peek(second, FD_SET).unwrap_or_default();
        let is_set =
            |fd: &i32| set.get(*fd as usize / 8).is_some_and(|byte| byte >> (fd % 8) & 1 == 1);
        return (0..first.min(1024) as i32).filter(is_set).collect();
    }
    Vec::new()
}

#[cfg(target_arch = "x86_64")]
const POLL: [i64; 2] = [libc::SYS_poll, libc::SYS_ppoll];
#[cfg(not(target_arch = "x86_64"))]
const POLL: [i64; 1] = [libc::SYS_ppoll];

#[cfg(target_arch = "x86_64")]
const SELECT: [i64; 2] = [libc::SYS_select, libc::SYS_pselect6];
#[cfg(not(target_arch = "x86_64"))]
const SELECT: [i64; 1] = [libc::SYS_pselect6];

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
    use nix::sys::stat::fstat;

    use super::*;

    /// How many waiters this process has for a socket.
    fn waiters(inode: u64) -> usize {
        let waits = OpenSockets::of(std::process::id()).unwrap().waits();
        waits.found.iter().filter(|wait| wait.0 == inode).count()
    }

    #[test]
    fn a_socket_in_an_epoll_is_waited_for_and_one_that_is_only_open_is_not() {
        let (watched, open) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        epoll.add(&watched, EpollEvent::new(EpollFlags::EPOLLIN, 7)).unwrap();
        let inodes = [&watched, &open].map(|socket| fstat(socket).unwrap().st_ino);
        let own = OpenSockets::of(std::process::id()).unwrap();
        assert!(inodes.iter().all(|inode| own.inodes().any(|found| found == *inode)));
        assert_eq!(inodes.map(waiters), [1, 0]);

        // A copy of its descriptor is no other epoll; an epoll that watches the same is one.
        let _copy = epoll.0.try_clone().unwrap();
        assert_eq!(waiters(inodes[0]), 1);
        let other = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        other.add(&watched, EpollEvent::new(EpollFlags::EPOLLIN, 7)).unwrap();
        assert_eq!(waiters(inodes[0]), 2);
    }

    #[test]
    fn how_an_epoll_watches_is_told() {
        let text = "pos:\t0\nflags:\t02\ntfd:        6 events: 10000019 data: 6  pos:0 ino:1a sdev:8\n\
                    tfd:        7 events: 8000201d data: 7  pos:0 ino:1b sdev:8\n\
                    tfd:        8 events: 40000000 data: 8  pos:0 ino:1c sdev:8\n";
        let epoll = |exclusive, edge| How::Epoll { exclusive, edge };
        let found: Vec<Wait> = watched(text).collect();
        assert_eq!(found, [(0x1a, epoll(true, false)), (0x1b, epoll(false, true))]);
    }

    #[test]
    fn a_thread_in_accept_waits_for_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (inode, address) = (fstat(&listener).unwrap().st_ino, listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || listener.accept().map(drop));
        let begin = Instant::now();
        while waiters(inode) == 0 {
            assert!(begin.elapsed() < Duration::from_secs(20));
        }
        std::net::TcpStream::connect(address).unwrap();
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn the_sets_of_select_and_poll_are_read_from_memory() {
        let call = |syscall_number, first, second| Syscall::Blocked {
            syscall_number,
            argument_registers: [first, second, 0, 0, 0, 0],
            stack_pointer: 1,
            program_counter: 2,
        };
        let mut set = vec![0; FD_SET];
        set[17 / 8] = 1 << (17 % 8);
        let select = call(libc::SYS_pselect6, 0x20, 0x7f00);
        assert_eq!(waited(&select, |at, _| (at == 0x7f00).then(|| set.clone())).1, [17]);
        let poll = call(libc::SYS_ppoll, 0x7f00, 2);
        let entries = [5_i32, 1, 9, 1].map(i32::to_ne_bytes).concat();
        assert_eq!(waited(&poll, |_, length| Some(entries[..length].to_vec())).1, [5, 9]);
        let accept = call(libc::SYS_accept4, 4, 0);
        assert_eq!(waited(&accept, |_, _| None), (How::Accept, vec![4]));
        for other in [Syscall::Running, call(libc::SYS_read, 4, 0), call(-1, 1, 2)] {
            assert_eq!(waited(&other, |_, _| None).1, [0; 0], "{other:?}");
        }
    }
}
