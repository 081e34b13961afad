//! Everything that `shared-fd-server` and `reuseport-server` have in common: all but the place where a
//! worker's listening socket comes from.
//!
//! In the order in which to read it, [`lesson`]:
//!
//! 1. [`lesson::app`]: the web app, `GET /` -> `hello`;
//! 2. [`lesson::socket`]: how a listening socket is made, and [`lesson::socket::Sharing`], the one
//!    variable;
//! 3. [`lesson::worker`]: one worker's life: a runtime, the accept loop;
//! 4. [`lesson::connection`]: one connection's life; [`lesson::counters`]: who counts them;
//! 5. the two `main.rs`, side by side; and [`parent::start`], by fork and by exec.
//!
//! The lesson calls the other modules. A first reading can skip them:
//!
//! | room | what is in it |
//! |---|---|
//! | [`accept`] | how a worker waits for connections where tokio cannot; what it does without free descriptors, and at `--max-connections` |
//! | [`http`] | time limits for clients that stall, refusals of requests that HTTP forbids |
//! | [`parent`] | starts workers, watches, restarts, reloads and stops them |
//! | [`handover`] | the parent's orders to a worker, and how a per-worker socket outlives its worker |
//! | [`steering`] | per-worker sockets: what parent and workers do for a steering policy. The policies are `reuseport-server`'s |
//! | [`scoreboard`] | the counters of all workers, in shared memory |
//! | [`platform`] | rights, limits, CPUs and how the kernel schedules a process, systemd |
//! | [`kernel`] | questions to the kernel: about sockets, and about who uses a port |
//! | [`bpf`] | BPF programs, assembled and loaded without a compiler |
//! | [`cli`] | options, the line printed at the start, the log |
//! | [`lab`] | a handler that burns CPU time, and the routes of `--lab` |

pub mod accept;
pub mod bpf;
pub mod cli;
pub mod handover;
pub mod http;
pub mod kernel;
pub mod lab;
pub mod lesson;
pub mod parent;
pub mod platform;
pub mod scoreboard;
pub mod steering;

#[cfg(test)]
mod eventually;
