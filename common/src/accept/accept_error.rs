//! What accept(2) can fail with, and what to do then.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use nix::errno::Errno;

/// How long to wait for a descriptor or memory to become free; what HAProxy waits.
const PAUSE: Duration = Duration::from_millis(100);

/// Comes back when accepting may go on, or with an error that will not pass.
///
/// - A connection that ended before we came is nobody's fault; accept(2) lists the errors that a
///   network may leave there.
/// - Out of descriptors or memory: the connection stays in the queue, so the socket stays ready, and
///   a loop that just went on would spin. It pauses; the clients wait meanwhile, but are not lost.
/// - Anything else, such as a socket that somebody has shut down, would come again for ever.
pub async fn get_over(error: io::Error) -> io::Result<()> {
    use Errno::*;
    /// Whether the shortage has been told of.
    static TOLD: AtomicBool = AtomicBool::new(false);

    match error.raw_os_error().map(Errno::from_raw) {
        Some(
            ECONNABORTED | ECONNRESET | EINTR | EPERM | EPROTO | ENETDOWN | ENETUNREACH
            | ENOPROTOOPT | EHOSTDOWN | EHOSTUNREACH | ENONET | EOPNOTSUPP | ETIMEDOUT,
        ) => Ok(()),
        Some(EMFILE | ENFILE | ENOBUFS | ENOMEM) => {
            if !TOLD.swap(true, Relaxed) {
                tracing::warn!(
                    "cannot accept ({error}): new connections wait until others have ended; raise \
                     the limit of open files (`ulimit -n`); this is logged only once"
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
