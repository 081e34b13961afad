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
//! Those lines call the rest, which can be left closed at a first reading.
//!
//! What clients cannot do: stall ([`deadlines`]); confuse, with what HTTP forbids ([`guard`]);
//! flood, until descriptors run out ([`accept_error`]). What a server survives: the parent's life
//! is in [`supervisor`], which starts workers, watches, restarts, reloads and stops them; when a
//! worker that died is started again in [`restarts`]; the two ways to start one, fork and exec, in
//! [`start`]; the line between parent and worker, and what is told over it, in [`channel`] and
//! [`orders`]; how a worker's own socket outlives it in [`handover`], and what its queue holds is
//! served ([`last_call`]); what an administrator tells the parent in [`signals`].
//!
//! Who waits for connections where tokio cannot: a thread ([`waiter`]), or the event loop itself
//! ([`parking`]). Who gets the next one: the parent's part in [`steering`], how loaded each worker is
//! in [`lane`]. The policies themselves are the two servers'.
//!
//! The rest: who accepted what, in shared memory ([`scoreboard`]); what goes in and what comes out
//! ([`options`], [`cli`], [`announce`], [`log`]); CPU time to order ([`burn`]), when ([`schedule`])
//! and where ([`affinity`]); limits of the machine ([`limits`]), others there ([`port_owner`], [`systemd`]).

pub mod accept_error;
pub mod affinity;
pub mod announce;
pub mod burn;
pub mod channel;
pub mod cli;
pub mod connection;
pub mod deadlines;
pub mod guard;
pub mod handler;
pub mod handover;
pub mod lane;
pub mod last_call;
pub mod limits;
pub mod log;
pub mod options;
pub mod orders;
pub mod parking;
pub mod port_owner;
pub mod restarts;
pub mod schedule;
pub mod scoreboard;
pub mod signals;
pub mod socket;
pub mod start;
pub mod steering;
pub mod supervisor;
pub mod systemd;
pub mod waiter;
pub mod worker;

/// The allocator of both servers, see the workspace's table of versions for why.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
