//! The errors of accept(2), and what to do about each.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use nix::errno::Errno;

/// How long to wait for a free descriptor or memory. HAProxy waits as long.
const PAUSE: Duration = Duration::from_millis(100);

/// Returns when accepting may go on, or with an error that will not pass.
///
/// - The connection ended before it was accepted, or the network reported an error for it: accept(2) lists
///   these errors. The next connection is not affected.
/// - Out of descriptors or memory: the connection stays in the queue, so the socket stays ready, and
///   a loop that went on at once would spin. It pauses; meanwhile clients wait, and none is lost. So it does if
///   accept(2) itself is forbidden (EPERM): by a firewall for one connection, or by a filter of system calls for all.
/// - Any other error, for example of a socket that was shut down, would occur again for ever.
pub async fn get_over(error: io::Error) -> io::Result<()> {
    use Errno::*;
    /// Whether the shortage has been logged.
    static TOLD: AtomicBool = AtomicBool::new(false);

    match error.raw_os_error().map(Errno::from_raw) {
        Some(
            ECONNABORTED | ECONNRESET | EINTR | EPROTO | ENETDOWN | ENETUNREACH | ENOPROTOOPT
            | EHOSTDOWN | EHOSTUNREACH | ENONET | EOPNOTSUPP | ETIMEDOUT,
        ) => Ok(()),
        Some(EMFILE | ENFILE | ENOBUFS | ENOMEM | EPERM) => {
            if !TOLD.swap(true, Relaxed) {
                tracing::warn!(
                    "cannot accept ({error}): new connections wait; without descriptors until others \
                     have ended: raise the limit of open files (`ulimit -n`); this is logged only once"
                );
            }
            tokio::time::sleep(PAUSE).await;
            Ok(())
        }
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get_over_now(errno: Errno) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(get_over(io::Error::from(errno)))
    }

    #[test]
    fn only_errors_that_pass_are_got_over() {
        for errno in [Errno::ECONNABORTED, Errno::EMFILE, Errno::ENOMEM] {
            assert!(get_over_now(errno).is_ok(), "{errno}");
        }
        for errno in [Errno::EINVAL, Errno::EBADF] {
            assert!(get_over_now(errno).is_err(), "{errno}");
        }
    }
}
