//! Everything that `shared-fd-server` and `reuseport-server` have in common, which is everything
//! but where a worker's listening socket comes from.
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
//! Those lines call the rest, which can be left closed at a first reading:
//!
//! | room | what is in it |
//! |---|---|
//! | [`accept`] | who waits for connections, where tokio cannot; what to do without descriptors, and with all connections that a worker may have |
//! | [`http`] | what clients cannot do: stall, and confuse with what HTTP forbids |
//! | [`parent`] | starts workers, watches, restarts, reloads and stops them |
//! | [`handover`] | what a worker is told by its parent, and how a worker's own socket outlives it |
//! | [`steering`] | who gets the next connection where each has a socket of its own: what the parent and the workers do for a policy. The policies themselves are `reuseport-server`'s |
//! | [`scoreboard`] | who accepted what, in shared memory |
//! | [`platform`] | rights, limits, CPUs and how the kernel schedules a process, systemd |
//! | [`kernel`] | what the kernel is asked: of sockets, and who has a port |
//! | [`bpf`] | programs that the kernel runs, put together and loaded without a compiler's help |
//! | [`cli`] | what goes in and what comes out: options, announcement, log |
//! | [`lab`] | CPU time to order, and the routes of `--lab` |

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
