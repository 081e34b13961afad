//! Facts about another process's descriptors that system calls tell, and /proc does not: the options of a socket,
//! read from a copy of it; and whether two descriptors refer to the same file.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use socket2::SockRef;

/// Whether a listening socket of another process has SO_REUSEPORT set. Its copy is closed at once.
///
/// # Errors
/// When there is no such process or descriptor, or this program may not trace it (as another user, or
/// under the sysctl kernel.yama.ptrace_scope).
pub fn has_reuse_port(pid: u32, descriptor: i32) -> io::Result<bool> {
    SockRef::from(&borrow(pid, descriptor)?).reuse_port()
}

/// Whether two descriptors of a process are of the same open file (kcmp(2), KCMP_FILE).
///
/// # Errors
/// When this program may not look at the process, or the kernel was built without it.
#[allow(unsafe_code)]
pub fn is_same_file(pid: u32, one: i32, other: i32) -> io::Result<bool> {
    const KCMP_FILE: i32 = 0;
    // SAFETY: it takes only numbers.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, one, other) };
    Ok(Errno::result(order)? == 0)
}

/// pidfd_open(2) and pidfd_getfd(2), which neither the standard library nor nix has.
#[allow(unsafe_code)]
fn borrow(pid: u32, descriptor: i32) -> io::Result<OwnedFd> {
    // SAFETY: both take only numbers.
    let open = || unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    // SAFETY: a result that is no error is a new descriptor, which no other code owns.
    let owned =
        |result: i64| Errno::result(result).map(|it| unsafe { OwnedFd::from_raw_fd(it as i32) });
    let process = owned(open())?;
    // SAFETY: as above.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), descriptor, 0) };
    Ok(owned(copy)?)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_flag_of_a_socket_is_read_and_what_is_none_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let read = || has_reuse_port(std::process::id(), listener.as_raw_fd());
        assert!(!read().unwrap());
        SockRef::from(&listener).set_reuse_port(true).unwrap();
        assert!(read().unwrap());
        assert!(has_reuse_port(std::process::id(), i32::MAX).is_err());
        assert!(has_reuse_port(u32::MAX / 2, 0).is_err());
    }
}
