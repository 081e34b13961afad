//! At `--max-connections`: idle kept connections make room for new ones.
//!
//! A worker at its limit leaves new connections in the accept queue. If its clients keep connections without
//! using them, a new client would wait for as long as `--idle-timeout`. So the worker closes connections that
//! have been idle for over a second, the longest idle first: as many as wait, and at most an eighth of them at a
//! time. nginx does much the same (`ngx_drain_connections`): it begins when few connections are left, however long
//! they have been idle.
//!
//! A full worker looks at the accept queue whenever it has accepted, and at every tick. If the socket is shared,
//! other workers may see the same connections there. Then idle ones were closed in vain.
//!
//! **The race.** A client may send its next request in the moment in which its connection is closed, and
//! gets no answer to it. HTTP allows for that: RFC 9112, section 9.3.1, lets clients repeat
//! such a request if it is idempotent. A server can only keep the moment short. Here the connection's own task
//! ends it, after it has asked the kernel and nothing has arrived ([`Timed`](crate::http::timed::Timed)); a
//! request that has arrived is answered, and the connection stays. What remains is the time between that
//! question and close(2), some microseconds, and the way to the client and back. `clients.rs` of the test suite measures it: of 320 requests that were sent in such moments, by
//! clients that look first whether their connection has ended, 266 were answered, 54 clients saw that it
//! had, and none was lost (2 cores, loopback, 64 connections with each of five policies).

use std::os::fd::AsFd;

use crate::accept::recipient::Recipient;
use crate::kernel::sockets::queued;

/// Waits until a worker may have one more connection. Until then new connections wait in the accept queue, where
/// they cost nothing, and idle ones are closed to make room.
pub async fn room(worker: &dyn Recipient, listeners: &[impl AsFd]) {
    while worker.is_full() && !worker.is_draining() {
        make_room(worker, listeners);
        worker.ended().notified().await;
    }
}

/// The same in a draining worker, which has the same limit.
pub async fn room_while_draining(worker: &dyn Recipient) {
    while worker.is_full() {
        worker.ended().notified().await;
    }
}

/// Wakes the accept loop of a full worker, which then looks whether a connection waits.
pub fn look_who_waits(worker: &dyn Recipient) {
    if worker.is_full() {
        worker.ended().notify_one();
    }
}

/// Closes idle connections of a full worker if a connection waits. Returns whether it does.
pub fn make_room(worker: &dyn Recipient, listeners: &[impl AsFd]) -> bool {
    let waiting: u32 = listeners.iter().map(|listener| queued(listener).unwrap_or(0)).sum();
    waiting > 0 && worker.close_idlest(waiting as usize)
}
