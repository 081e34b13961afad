//! The phase of a connection, and since when it is in that phase.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What a connection waits for, or does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ConnectionPhase {
    /// Waiting for the rest of a request's head; from accept, or from its first byte.
    Head,
    /// Accepted, and no byte has arrived. The limit of a head applies; a draining worker treats the connection as
    /// idle.
    Silent,
    /// Waiting for the rest of a request's body.
    Body,
    /// The worker computes the answer. No limit: the time is the server's own.
    Answer,
    /// Waiting for the client to read; from the last byte that it took.
    Write,
    /// Waiting for the next request.
    Idle,
    /// The last answer is sent, and the client may still be sending: the worker reads on until the client has
    /// noticed. Closing a socket with unread data resets the connection, and the reset may overtake the answer.
    Linger,
}

impl ConnectionPhase {
    /// Whether no byte of the next request has arrived.
    pub(super) fn is_before_a_request(self) -> bool {
        matches!(self, Self::Silent | Self::Idle)
    }
}

/// All phases, in the order of their numbers.
pub(super) const PHASES: [ConnectionPhase; 7] = [
    ConnectionPhase::Head,
    ConnectionPhase::Silent,
    ConnectionPhase::Body,
    ConnectionPhase::Answer,
    ConnectionPhase::Write,
    ConnectionPhase::Idle,
    ConnectionPhase::Linger,
];

/// How far a connection has come.
#[derive(Default)]
pub(super) struct Progress {
    /// Its phase and the tick at which that began, in one word.
    phase: AtomicU64,
    /// Whether the last bytes end within a head: they hold the beginning of the next request, after a request
    /// without a body. (After a body this is not noticed, and the idle limit applies.)
    pub(super) in_head: AtomicBool,
    /// Whether the head that is checked next had a Content-Length, see [`Lengths`](crate::http::guard::Lengths).
    pub(super) has_length: AtomicBool,
    /// Whether to close it, unless a request has arrived.
    pub(super) is_to_end: AtomicBool,
    /// Whether its next answer is its last, or its last one was, see [`rebalance`](crate::http::rebalance).
    pub(super) is_asked_to_leave: AtomicBool,
    /// Whether it counts as kept, see [`Deadlines::keeps`](crate::http::deadlines::Deadlines::keeps).
    pub(super) is_kept: AtomicBool,
    /// Whether hyper has begun to shut it down.
    pub(super) is_shut_down: AtomicBool,
    /// The tick at which it began, and the number of ticks after which it is too old.
    born: u32,
    age: u32,
}

impl Progress {
    pub(super) fn new(phase: ConnectionPhase, now: u32, age: u32) -> Self {
        let progress = Self { born: now, age, ..Self::default() };
        progress.set(phase, now);
        progress
    }

    pub(super) fn set(&self, phase: ConnectionPhase, now: u32) {
        self.phase.store(u64::from(phase as u32) << 32 | u64::from(now), Relaxed);
    }

    pub(super) fn is_too_old(&self, now: u32) -> bool {
        now.wrapping_sub(self.born) >= self.age
    }

    pub(super) fn get(&self) -> (ConnectionPhase, u32) {
        let word = self.phase.load(Relaxed);
        (PHASES[(word >> 32) as usize], word as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_and_its_tick_come_back_as_they_were_noted() {
        let progress = Progress::new(ConnectionPhase::Head, 0, 0);
        for phase in PHASES {
            progress.set(phase, u32::MAX);
            assert_eq!(progress.get(), (phase, u32::MAX));
        }
    }
}
