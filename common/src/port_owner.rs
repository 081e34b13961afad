//! Who listens on a port, as far as /proc lets us see: for the message that refuses to start.

use std::net::SocketAddr;

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process, all_processes};

/// Describes the process that listens on `address`, or on all addresses of its port; `None` if
/// /proc shows nobody, for instance because the process is another user's.
pub fn find(address: SocketAddr) -> Option<String> {
    let sockets = procfs::net::tcp().into_iter().chain(procfs::net::tcp6()).flatten();
    let inodes: Vec<u64> = sockets
        .filter(|socket| socket.state == TcpState::Listen)
        .filter(|socket| socket.local_address.port() == address.port())
        .map(|socket| socket.inode)
        .collect();
    // A forked worker has its parent's socket too; the lowest pid is most likely the parent's.
    let mut owners: Vec<(i32, String)> = all_processes()
        .ok()?
        .flatten()
        .filter(|process| {
            process.fd().is_ok_and(|mut all| {
                all.any(|fd| matches!(fd, Ok(fd) if matches!(fd.target, FDTarget::Socket(inode) if inodes.contains(&inode))))
            })
        })
        .map(|process| (process.pid, name(&process)))
        .collect();
    owners.sort();
    let (pid, name) = owners.first()?;
    Some(format!("{name} (pid {pid})"))
}

/// A process's name as it was called; what the kernel keeps by itself ends after 15 characters.
fn name(process: &Process) -> String {
    let called = process.cmdline().ok().and_then(|words| words.into_iter().next());
    let name = called.as_deref().and_then(|word| word.rsplit('/').next()).map(str::to_owned);
    name.or_else(|| Some(process.stat().ok()?.comm)).unwrap_or_else(|| "a process".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_this_very_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = find(listener.local_addr().unwrap()).unwrap();
        assert!(owner.ends_with(&format!("(pid {})", std::process::id())), "{owner}");
    }
}
