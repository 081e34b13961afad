//! System calls on sockets that the standard library does not have.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::GetStruct;
use nix::sys::socket::{SockFlag, getsockopt};
use nix::sys::stat::fstat;
use socket2::SockRef;

/// accept(2): waits if the socket is a blocking one. Unlike the standard library's it returns when it is
/// interrupted.
pub fn accept(listener: &TcpListener) -> io::Result<std::net::TcpStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK; // of the new socket
    let (stream, _peer) = SockRef::from(listener).accept4(flags.bits())?;
    Ok(stream.into())
}

/// The first seven words of TCP_INFO, up to `tcpi_unacked`.
#[derive(Clone, Copy)]
struct TcpInfo;
nix::getsockopt_impl!(TcpInfo, libc::IPPROTO_TCP, libc::TCP_INFO, [u32; 7], GetStruct<[u32; 7]>);

/// How many connections wait in the accept queue of a listening socket. The kernel returns that in `tcpi_unacked`
/// (tcp_get_info() in net/ipv4/tcp.c).
///
/// # Errors
/// When it is no TCP socket.
pub fn queued(listener: &impl AsFd) -> io::Result<u32> {
    Ok(getsockopt(listener, TcpInfo)?[6])
}

/// The inode by which `/proc/PID/fd` and `ss -e` name a socket.
pub fn inode(socket: impl AsFd) -> u64 {
    fstat(socket).map_or(0, |found| found.st_ino)
}

/// Whether something waits: a connection in an accept queue, or bytes.
pub fn is_readable(it: impl AsFd) -> bool {
    loop {
        let it = PollFd::new(it.as_fd(), PollFlags::POLLIN);
        match poll(&mut [it], PollTimeout::ZERO) {
            Err(Errno::EINTR) => {}
            ready => return ready.is_ok_and(|ready| ready > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_listening_socket_tells_how_many_connections_wait_to_be_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(queued(&listener).unwrap(), 0);
        let address = listener.local_addr().unwrap();
        let _clients = [0; 3].map(|_| TcpStream::connect(address).unwrap());
        assert_eq!(queued(&listener).unwrap(), 3);
        let _accepted = accept(&listener).unwrap();
        assert_eq!(queued(&listener).unwrap(), 2);
    }
}
