//! For tests: waits for a condition.

use std::thread::sleep;
use std::time::Duration;

/// Whether the condition holds within 10 s. A descriptor that was closed may still be open: while another test of
/// this process starts a program, the child has all descriptors until its exec.
pub fn eventually(is_so: impl Fn() -> bool) -> bool {
    (0..10_000).any(|_| {
        is_so() || {
            sleep(Duration::from_millis(1));
            false
        }
    })
}
