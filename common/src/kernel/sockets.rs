//! What the kernel does with a socket when it is asked, and the standard library does not ask it.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::SockFlag;
use nix::sys::stat::fstat;
use socket2::SockRef;

/// accept(2): waits if the socket is a blocking one. Unlike the standard library's it comes back when it
/// is interrupted.
pub fn accept(listener: &TcpListener) -> io::Result<std::net::TcpStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK; // of the new socket
    let (stream, _peer) = SockRef::from(listener).accept4(flags.bits())?;
    Ok(stream.into())
}

/// The inode by which `/proc/PID/fd` and `ss -e` name a socket.
pub fn inode(socket: impl AsFd) -> u64 {
    fstat(socket).map_or(0, |found| found.st_ino)
}

/// Whether something waits here now: a connection in an accept queue, or bytes.
pub fn is_readable(it: impl AsFd) -> bool {
    loop {
        let it = PollFd::new(it.as_fd(), PollFlags::POLLIN);
        match poll(&mut [it], PollTimeout::ZERO) {
            Err(Errno::EINTR) => {}
            ready => return ready.is_ok_and(|ready| ready > 0),
        }
    }
}
