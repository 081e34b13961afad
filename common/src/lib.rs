//! Everything that `shared-fd-server` and `reuseport-server` have in common, which is everything
//! but where a worker's listening socket comes from.
//!
//! In the order in which to read it:
//!
//! 1. [`handler`]: the web app, `GET /` -> `hello`;
//! 2. [`socket`]: how a listening socket is made, and [`socket::Sharing`], the one variable;
//! 3. [`worker`]: one worker's life: a runtime, the accept loop;
//! 4. [`connection`]: one connection's life;
//! 5. the two `main.rs`, side by side.
//!
//! Those lines call the rest, which can be left closed at a first reading:
//!
//! - [`supervisor`]: the parent's life: starts workers, watches them, stops them;
//! - [`start`]: the two ways to start a worker, fork and exec;
//! - [`channel`]: the line between parent and worker;
//! - [`scoreboard`]: who accepted what, in shared memory;
//! - [`options`], [`cli`]: the command line;
//! - [`burn`], [`limits`], [`log`], [`port_owner`]: CPU time to order, open files, who has the port.

pub mod burn;
pub mod channel;
pub mod cli;
pub mod connection;
pub mod handler;
pub mod limits;
pub mod log;
pub mod options;
pub mod port_owner;
pub mod scoreboard;
pub mod socket;
pub mod start;
pub mod supervisor;
pub mod worker;

/// The allocator of both servers, see the workspace's table of versions for why.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
