//! Which process listens on a port, as far as /proc shows it: for the error at the start, and for the parent's
//! warning of foreign sockets.

use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
use std::net::{IpAddr, SocketAddr};

use anyhow::Error;
use procfs::net::TcpState;
use procfs::process::{FDTarget, Process, all_processes};

/// Says why an address cannot be used, and what would help; the hint is for an address in use.
pub fn explain(error: std::io::Error, address: SocketAddr, hint: &str) -> Error {
    let (ip, port) = (address.ip(), address.port());
    let remedy = match error.kind() {
        AddrInUse => match find(address) {
            Some(owner) => {
                format!("{owner} listens there{hint}; stop it or choose another --port")
            }
            None => format!(
                "another process listens there{hint}; choose another --port (as root, `ss -ltnp` \
                 names it)"
            ),
        },
        AddrNotAvailable => format!("this machine has no address {ip}; `ip address` lists them"),
        PermissionDenied => format!(
            "port {port} needs root or CAP_NET_BIND_SERVICE; choose a --port from 1024 upwards"
        ),
        _ => "choose another --host or --port".into(),
    };
    Error::new(error).context(format!("cannot listen on {address}: {remedy}"))
}

/// Describes the server that listens on `address`, or on all addresses of its port; `None` if /proc
/// shows none, for example because the process is another user's.
fn find(address: SocketAddr) -> Option<String> {
    let overlaps =
        |ip: IpAddr| ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified();
    let sockets = procfs::net::tcp().into_iter().chain(procfs::net::tcp6()).flatten();
    let inodes: Vec<u64> = sockets
        .filter(|socket| socket.state == TcpState::Listen)
        .filter(|socket| socket.local_address.port() == address.port())
        .filter(|socket| overlaps(socket.local_address.ip()))
        .map(|socket| socket.inode)
        .collect();
    let mut owner = all_processes().ok()?.flatten().find(|it| holds(it, &inodes))?;
    // If a user ended a worker, its parent would replace it: name the topmost process of the program.
    while let Some(parent) = owner.stat().ok().and_then(|stat| Process::new(stat.ppid).ok())
        && parent.exe().is_ok_and(|exe| owner.exe().is_ok_and(|own| own == exe))
    {
        owner = parent;
    }
    Some(describe(&owner))
}

/// Describes the process that has this socket open; `None` if /proc shows none.
pub fn holder(inode: u64) -> Option<String> {
    all_processes().ok()?.flatten().find(|it| holds(it, &[inode])).as_ref().map(describe)
}

/// The name of a process; `None` if it has ended.
pub fn name_of(pid: u32) -> Option<String> {
    Process::new(pid as i32).ok().as_ref().map(name)
}

fn holds(process: &Process, inodes: &[u64]) -> bool {
    let mut open = process.fd().into_iter().flatten().flatten();
    open.any(|fd| matches!(fd.target, FDTarget::Socket(inode) if inodes.contains(&inode)))
}

fn describe(process: &Process) -> String {
    format!("{} (pid {})", name(process), process.pid)
}

/// A process's name from its command line; the kernel's own name for it ends after 15 characters.
fn name(process: &Process) -> String {
    let called = process.cmdline().ok().and_then(|words| words.into_iter().next());
    let name = called.as_deref().map(program_in).map(str::to_owned);
    name.or_else(|| Some(process.stat().ok()?.comm)).unwrap_or_else(|| "a process".into())
}

/// The program in the first word of a command line. Some programs write a title there, such as `nginx: master
/// process nginx -c FILE`; a path may contain blanks, too.
fn program_in(called: &str) -> &str {
    let title = called.split(": ").next().unwrap_or_default();
    let is_path = title.starts_with(['/', '.']);
    let program = if is_path { Some(title) } else { title.split(' ').next() };
    program.and_then(|program| program.rsplit('/').next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_a_path_and_in_a_title_that_it_gave_itself() {
        for (called, program) in [
            ("nginx", "nginx"),
            ("bin/nginx", "nginx"),
            ("/opt/my server/bin/web server", "web server"),
            ("nginx: master process nginx -c /tmp/x/c.conf", "nginx"),
            ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups", "sshd"),
            ("puma 5.6 (tcp://0.0.0.0:3000) [app]", "puma"),
        ] {
            assert_eq!(program_in(called), program, "{called}");
        }
    }

    #[test]
    fn it_finds_this_very_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = find(listener.local_addr().unwrap()).unwrap();
        assert!(owner.ends_with(&format!("(pid {})", std::process::id())), "{owner}");
    }
}
