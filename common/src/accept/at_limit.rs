//! At `--max-connections`: connections that are kept and idle make room for new ones.
//!
//! A worker that has as many connections as it may leaves new ones in the accept queue. If most of those
//! it has are kept by clients that do not ask for anything, such a client would keep a new one waiting
//! for as long as `--idle-timeout`. So those that have been idle for over a second are closed for those
//! that wait, the longest idle first, an eighth of them at a time. nginx does much the same
//! (`ngx_drain_connections`): it begins when few connections are left, and does not ask for how long they
//! have been idle.
//!
//! A full worker looks into the accept queue whenever it has accepted, and at every tick. Where a socket is
//! shared, another worker may be about to take what is seen there: then a connection is closed that need not
//! have been. It was idle.
//!
//! **The race.** A client may send its next request in the moment in which its connection is closed, and
//! gets no answer to it. HTTP knows that: RFC 9112, section 9.3.1, has clients repeat such a request by
//! themselves if it is idempotent. What can be done here is to keep the moment short. A connection is not
//! ended where it is chosen, but by its own task, once that has asked the kernel and nothing has come
//! ([`Timed`](crate::http::timed::Timed)); a request that waits is answered, and the connection stays. What
//! remains is the time between that question and close(2), some microseconds, and the way to the client
//! and back. `clients.rs` of the test suite measures it: of 320 requests that were sent in such moments, by
//! clients that look first whether their connection has ended, 266 were answered, 54 clients saw that it
//! had, and none was lost (2 cores, loopback, 64 connections with each of five policies).

use std::os::fd::AsFd;

use crate::accept::recipient::Recipient;
use crate::kernel::sockets::is_readable;

/// Waits until a worker may have one more connection. Beyond the limit they wait in the accept queue, where
/// they cost nothing; for them those are closed that nobody has used for a while.
pub async fn room(worker: &dyn Recipient, listeners: &[impl AsFd]) {
    while worker.is_full() && !worker.is_draining() {
        make_room(worker, listeners);
        worker.ended().notified().await;
    }
}

/// The same in a worker that drains: the limit holds as it did before.
pub async fn room_while_draining(worker: &dyn Recipient) {
    while worker.is_full() {
        worker.ended().notified().await;
    }
}

/// Has the accept loop look whether anybody waits, if there is no room.
pub fn look_who_waits(worker: &dyn Recipient) {
    if worker.is_full() {
        worker.ended().notify_one();
    }
}

/// Closes idle connections of a full worker if somebody waits for room. Whether it does.
pub fn make_room(worker: &dyn Recipient, listeners: &[impl AsFd]) -> bool {
    listeners.iter().any(is_readable) && worker.close_idlest()
}
