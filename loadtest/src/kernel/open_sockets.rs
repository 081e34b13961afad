//! The sockets that a process has open, and those that it waits for: in an epoll, or with a thread in
//! accept(2), select(2) or poll(2).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use nix::libc;

/// The size of select(2)'s sets, in bytes.
const FD_SET: usize = 1024 / 8;

/// More descriptors of one poll(2) are not looked at.
const MOST_POLLED: usize = 4096;

/// What a process has open.
#[derive(Debug, Default, PartialEq)]
pub struct OpenSockets {
    /// Descriptor and inode of every socket.
    sockets: Vec<(i32, u64)>,
    /// The descriptors that are epoll instances.
    epolls: Vec<i32>,
}

impl OpenSockets {
    /// Looks into `/proc/PID/fd`.
    ///
    /// # Errors
    /// When the process has ended, or this one may not look into it.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut open = Self::default();
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            let entry = entry?;
            let fd = entry.file_name().to_str().and_then(|name| name.parse().ok());
            // It may have been closed meanwhile.
            let (Some(fd), Ok(target)) = (fd, fs::read_link(entry.path())) else { continue };
            let target = target.to_string_lossy();
            let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok()) {
                open.sockets.push((fd, inode));
            } else if target == "anon_inode:[eventpoll]" {
                open.epolls.push(fd);
            }
        }
        Ok(open)
    }

    /// The inodes of all sockets; one that is open twice is there twice.
    pub fn inodes(&self) -> impl Iterator<Item = u64> {
        self.sockets.iter().map(|&(_, inode)| inode)
    }

    /// The inodes of those sockets that the process waits for at this moment, or has registered in an
    /// epoll. Where nothing more may be read than what is open, none.
    pub fn waits_for(&self, pid: u32) -> BTreeSet<u64> {
        let read = |path: String| fs::read_to_string(format!("/proc/{pid}/{path}")).ok();
        let mut found: BTreeSet<u64> = BTreeSet::new();
        for epoll in &self.epolls {
            found.extend(watched(&read(format!("fdinfo/{epoll}")).unwrap_or_default()));
        }
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let memory = File::open(format!("/proc/{pid}/mem")).ok();
        for task in tasks {
            let thread = task.file_name().to_string_lossy().into_owned();
            let call = read(format!("task/{thread}/syscall")).unwrap_or_default();
            let peek = |at: u64, length: usize| {
                let mut bytes = vec![0; length];
                memory.as_ref()?.read_exact_at(&mut bytes, at).ok()?;
                Some(bytes)
            };
            let waited = waited(&call, peek);
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

/// The descriptors that a thread waits for in this system call: its number, and its arguments in hexadecimal.
/// Sets of descriptors lie in the process's memory.
fn waited(call: &str, peek: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Vec<i32> {
    let mut words = call.split_whitespace();
    // A thread that runs has the word `running` there.
    let Some(number) = words.next().and_then(|word| word.parse::<i64>().ok()) else {
        return Vec::new();
    };
    let hexadecimal = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let arguments: Vec<u64> = words.map_while(hexadecimal).collect();
    let &[first, second, ..] = &arguments[..] else { return Vec::new() };
    if [libc::SYS_accept, libc::SYS_accept4].contains(&number) {
        return vec![first as i32];
    }
    if POLL.contains(&number) {
        let length = (second as usize).min(MOST_POLLED) * 8;
        let bytes = peek(first, length).unwrap_or_default();
        let entries = bytes.chunks_exact(8).map(|entry| [entry[0], entry[1], entry[2], entry[3]]);
        return entries.map(i32::from_ne_bytes).collect();
    }
    if SELECT.contains(&number) && second != 0 {
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
        let waits = own.waits_for(std::process::id());
        assert_eq!(inodes.map(|inode| waits.contains(&inode)), [true, false]);
    }

    #[test]
    fn a_thread_in_accept_waits_for_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (inode, address) = (fstat(&listener).unwrap().st_ino, listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || listener.accept().map(drop));
        let begin = Instant::now();
        let own = std::process::id();
        while !OpenSockets::of(own).unwrap().waits_for(own).contains(&inode) {
            assert!(begin.elapsed() < Duration::from_secs(20));
        }
        std::net::TcpStream::connect(address).unwrap();
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn the_sets_of_select_and_poll_are_read_from_memory() {
        let set = |fd: usize| {
            let mut set = vec![0; FD_SET];
            set[fd / 8] = 1 << (fd % 8);
            set
        };
        let select = format!("{} 0x20 0x7f00 0x0 0x0 0x0 0x0 0x1 0x2", libc::SYS_pselect6);
        assert_eq!(waited(&select, |at, _| (at == 0x7f00).then(|| set(17))), [17]);
        let poll = format!("{} 0x7f00 0x2 0x0 0x0 0x0 0x0 0x1 0x2", libc::SYS_ppoll);
        let entries = [5_i32, 1, 9, 1].map(i32::to_ne_bytes).concat();
        assert_eq!(waited(&poll, |_, length| Some(entries[..length].to_vec())), [5, 9]);
        let accept = format!("{} 0x4 0x0 0x0 0x0 0x0 0x0 0x1 0x2", libc::SYS_accept4);
        assert_eq!(waited(&accept, |_, _| None), [4]);
        for other in ["running", "", "0 0x4 0x0 0x0 0x0 0x0 0x0 0x1 0x2", "-1 0x1 0x2"] {
            assert_eq!(waited(other, |_, _| None), [0; 0], "{other}");
        }
    }
}
