//! A call that a signal may interrupt.

use std::io::{ErrorKind, Result};

/// Repeats a call as long as a signal interrupts it.
///
/// A read from a socket with a timeout ends with EINTR at any signal, even one without a handler (signal(7)).
/// SIGCHLD is one: the kernel sends it to another thread if the thread that started the child is just starting the
/// next one (posix_spawn(3) blocks all signals meanwhile). [`std::io::Read::read_exact`] and similar functions
/// repeat the call, [`std::io::Read::read`] does not.
///
/// # Errors
///
/// Those of the call, except EINTR.
pub fn uninterrupted<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_interrupted_is_called_again_and_other_errors_are_told() {
        let mut results = [Err(ErrorKind::Interrupted.into()), Ok(5)].into_iter();
        assert_eq!(uninterrupted(|| results.next().unwrap()).unwrap(), 5);
        let mut results = [Err(ErrorKind::WouldBlock.into()), Ok(5)].into_iter();
        let error = uninterrupted(|| results.next().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}
