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
//! - [`state`]: the types: state, events, actions;
//! - [`step`](mod@step): what follows from an event, with a table;
//! - `upgrade`: the part of it about a new server that replaces this one;
//! - `due`: what follows from time alone;
//! - `advance`: the next step towards the wanted state;
//! - [`backoff`]: when a worker that died is started again;
//! - [`driver`]: the only part that makes system calls. `receive` turns signals, messages and deaths into events,
//!   `exit` says how a process ended, `carry_out` carries out actions, `processes` starts processes, `notes` writes the log;
//! - `port_look`: other servers' sockets on the port, see [`port_watch`](crate::kernel::port_watch);
//! - [`setup`]: what a program gives the parent to run a server;
//! - [`start`]: the two ways to start a worker, fork and exec; [`context`]: what every worker has;
//! - [`channel`]: the line between parent and worker, and its messages;
//! - [`reservation`]: how a port is kept for workers that have sockets of their own;
//! - [`succession`]: a new server that replaces this one;
//! - [`signals`]: the signals that an administrator sends to the parent.

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
mod exit;
#[cfg(test)]
mod faults_table;
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
