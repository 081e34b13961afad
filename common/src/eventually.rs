//! For tests: waits for what is so in a moment.

use std::thread::sleep;
use std::time::Duration;

/// Whether it is so within 10 s. A descriptor that was closed may be open still: while another test of this
/// process starts a program, its child has all of them, until it has become that program.
pub fn eventually(is_so: impl Fn() -> bool) -> bool {
    (0..10_000).any(|_| {
        is_so() || {
            sleep(Duration::from_millis(1));
            false
        }
    })
}
