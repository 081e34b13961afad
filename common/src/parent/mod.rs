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
//! - `upgrade`: the part of it that concerns another server in this one's place;
//! - `due`: what follows from time alone;
//! - `advance`: the next step from what is to what is wanted;
//! - [`backoff`]: when a worker that died is started again;
//! - [`driver`]: the one part that makes system calls. What it learns is in `receive`, what it does in
//!   `carry_out`; how it starts processes in `processes`, its words for the log in `notes`;
//! - `port_look`: who else is on the port, see [`port_watch`](crate::kernel::port_watch);
//! - [`setup`]: what a program gives it to run a server with;
//! - [`start`]: the two ways to start a worker, fork and exec; [`context`]: what makes it one;
//! - [`channel`]: the line between parent and worker, and what is told over it;
//! - [`reservation`]: how a port is kept for workers that have sockets of their own;
//! - [`succession`]: another program in this one's place;
//! - [`signals`]: what an administrator tells the parent.

pub mod backoff;
pub mod channel;
pub mod context;
pub mod driver;
pub mod reservation;
pub mod setup;
pub mod signals;
pub mod start;
pub mod state;
pub mod step;
pub mod succession;

mod advance;
mod carry_out;
mod due;
mod notes;
mod port_look;
mod processes;
#[cfg(test)]
mod property;
mod receive;
#[cfg(test)]
mod succession_table;
#[cfg(test)]
mod table;
mod upgrade;
#[cfg(test)]
mod world;

pub use driver::run;
