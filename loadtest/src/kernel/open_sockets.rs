//! The sockets that a process has open, and those that it waits for: in an epoll, or with a thread in
//! accept(2), select(2) or poll(2).

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::FileExt;

use nix::libc;
use procfs::ProcResult;
use procfs::process::{FDTarget, Process, Syscall};

/// The size of select(2)'s sets, in bytes.
const FD_SET: usize = 1024 / 8;

/// More descriptors of one poll(2) are not looked at.
const MOST_POLLED: usize = 4096;

/// What a process has open.
#[derive(Debug)]
pub struct OpenSockets {
    process: Process,
    /// Descriptor and inode of every socket.
    sockets: Vec<(i32, u64)>,
    /// The descriptors that are epoll instances.
    epolls: Vec<i32>,
}

impl OpenSockets {
    /// Looks into `/proc/PID/fd`.
    /// Fails when the process has ended, or this one may not look into it.
    pub fn of(pid: u32) -> ProcResult<Self> {
        let process = Process::new(pid as i32)?;
        let (mut sockets, mut epolls) = (Vec::new(), Vec::new());
        // One may have been closed meanwhile.
        for open in process.fd()?.flatten() {
            match open.target {
                FDTarget::Socket(inode) => sockets.push((open.fd, inode)),
                FDTarget::AnonInode(kind) if kind.contains("eventpoll") => epolls.push(open.fd),
                _ => {}
            }
        }
        Ok(Self { process, sockets, epolls })
    }

    /// The inodes of all sockets; one that is open twice is there twice.
    pub fn inodes(&self) -> impl Iterator<Item = u64> {
        self.sockets.iter().map(|&(_, inode)| inode)
    }

    /// The inodes of those sockets that the process waits for at this moment, or has registered in an
    /// epoll. Where nothing more may be read than what is open, none.
    pub fn waits_for(&self) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        for epoll in &self.epolls {
            let mut text = String::new();
            let file = self.process.open_relative(format!("fdinfo/{epoll}"));
            if file.is_ok_and(|mut file| file.read_to_string(&mut text).is_ok()) {
                found.extend(watched(&text));
            }
        }
        let memory = self.process.mem().ok();
        let peek = |at: u64, length: usize| {
            let mut bytes = vec![0; length];
            memory.as_ref()?.read_exact_at(&mut bytes, at).ok()?;
            Some(bytes)
        };
        for task in self.process.tasks().into_iter().flatten().flatten() {
            let waited = task.syscall().map(|call| waited(&call, peek)).unwrap_or_default();
            found.extend(self.sockets.iter().filter(|(fd, _)| waited.contains(fd)).map(|s| s.1));
        }
        found
    }
}

/// The inodes that an epoll watches: `tfd: 5 events: 19 data: 5 pos:0 ino:1a2b sdev:8`.
fn watched(fdinfo: &str) -> impl Iterator<Item = u64> {
    let lines = fdinfo.lines().filter(|line| line.starts_with("tfd:"));
    lines.filter_map(|line| {
        let inode = line.split_once("ino:")?.1.split_whitespace().next()?;
        u64::from_str_radix(inode, 16).ok()
    })
}

/// The descriptors that a thread waits for in this system call. Sets of them lie in the process's
/// memory.
fn waited(call: &Syscall, peek: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Vec<i32> {
    let Syscall::Blocked { syscall_number: number, argument_registers, .. } = call else {
        return Vec::new();
    };
    let [first, second, ..] = *argument_registers;
    if [libc::SYS_accept, libc::SYS_accept4].contains(number) {
        return vec![first as i32];
    }
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

    #[test]
    fn a_socket_in_an_epoll_is_waited_for_and_one_that_is_only_open_is_not() {
        let (watched, open) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        epoll.add(&watched, EpollEvent::new(EpollFlags::EPOLLIN, 7)).unwrap();
        let inodes = [&watched, &open].map(|socket| fstat(socket).unwrap().st_ino);
        let own = OpenSockets::of(std::process::id()).unwrap();
        assert!(inodes.iter().all(|inode| own.inodes().any(|found| found == *inode)));
        let waits = own.waits_for();
        assert_eq!(inodes.map(|inode| waits.contains(&inode)), [true, false]);
    }

    #[test]
    fn a_thread_in_accept_waits_for_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (inode, address) = (fstat(&listener).unwrap().st_ino, listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || listener.accept().map(drop));
        let begin = Instant::now();
        let own = std::process::id();
        while !OpenSockets::of(own).unwrap().waits_for().contains(&inode) {
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
        assert_eq!(waited(&select, |at, _| (at == 0x7f00).then(|| set.clone())), [17]);
        let poll = call(libc::SYS_ppoll, 0x7f00, 2);
        let entries = [5_i32, 1, 9, 1].map(i32::to_ne_bytes).concat();
        assert_eq!(waited(&poll, |_, length| Some(entries[..length].to_vec())), [5, 9]);
        assert_eq!(waited(&call(libc::SYS_accept4, 4, 0), |_, _| None), [4]);
        for other in [Syscall::Running, call(libc::SYS_read, 4, 0), call(-1, 1, 2)] {
            assert_eq!(waited(&other, |_, _| None), [0; 0], "{other:?}");
        }
    }
}
