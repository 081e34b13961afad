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
//! flood, until descriptors run out ([`accept_error`]) or all are kept ([`at_limit`]). What a server survives is decided in its
//! [`parent`], which starts workers, watches, restarts, reloads and stops them. What a worker is told by
//! it in [`orders`]; how a worker's own socket outlives it in [`handover`], and what its queue holds is
//! served ([`drain_accept_queue`](mod@drain_accept_queue)).
//!
//! Who waits for connections where tokio cannot: a thread ([`waiter`]), or the event loop itself
//! ([`parking`]). Who gets the next one: the parent's part in [`steering`], how loaded each worker is
//! in [`lane`]. The policies themselves are the two servers'.
//!
//! The rest: who accepted what, in shared memory ([`scoreboard`]); what goes in and what comes out
//! ([`options`], [`cli`], [`announce`], [`log`]); CPU time to order ([`burn`]), when ([`schedule`])
//! and where ([`affinity`]); limits ([`limits`], [`rights`]), others there ([`port_owner`], [`systemd`]).

pub mod accept_error;
pub mod affinity;
pub mod announce;
pub mod at_limit;
pub mod burn;
pub mod cli;
pub mod connection;
pub mod deadlines;
pub mod drain_accept_queue;
pub mod guard;
pub mod handler;
pub mod handover;
pub mod lane;
pub mod limits;
pub mod log;
pub mod options;
pub mod orders;
pub mod parent;
pub mod parking;
pub mod port_owner;
pub mod rights;
pub mod schedule;
pub mod scoreboard;
pub mod socket;
pub mod steering;
pub mod systemd;
pub mod waiter;
pub mod worker;
