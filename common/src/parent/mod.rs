//! The parent: it starts the workers, watches them, replaces them and stops them.
//!
//! The parent serves nobody and has one thread; it never touches tokio, so that it may fork at any time.
//! What it decides and what it does are apart:
//!
//! ```text
//!   signals, messages, deaths, time        driver: poll(2), waitpid(2)
//!                 | an event
//!                 v
//!         step(state, event, now)          step, advance: pure, no system call
//!                 | actions
//!                 v
//!   fork, kill, send, steer, log           driver: carries them out, and reports what came of it
//! ```
//!
//! - [`state`]: what the parent knows, learns and can have done;
//! - [`step`](mod@step): what follows from an event, with a table;
//! - `advance`: the next step from what is to what is wanted;
//! - [`backoff`]: when a worker that died is started again;
//! - [`driver`]: the one part that makes system calls; how it starts processes is in
//!   `processes`, its words for the log in `notes`;
//! - [`start`]: the two ways to start a worker, fork and exec;
//! - [`channel`]: the line between parent and worker, and what is told over it;
//! - [`succession`]: another program in this one's place;
//! - [`signals`]: what an administrator tells the parent.

pub mod backoff;
pub mod channel;
pub mod driver;
pub mod signals;
pub mod start;
pub mod state;
pub mod step;
pub mod succession;

mod advance;
mod notes;
mod processes;
#[cfg(test)]
mod property;
#[cfg(test)]
mod table;

pub use driver::run;
