//! What a connection is at, and since when.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ConnectionPhase {
    /// Waiting for the rest of a request's head; from accept, or from its first byte.
    Head,
    /// Accepted, and no byte has come. The head's limit applies; but who has not begun to ask is idle for a
    /// worker that drains.
    Silent,
    /// Waiting for the rest of a request's body.
    Body,
    /// The worker's own turn. No limit: nobody but we ourselves take this time.
    Answer,
    /// Waiting for the client to read; from the last byte it took.
    Write,
    /// Waiting for the next request.
    Idle,
    /// The last answer is given, and the client does not know it; reading on until it has noticed.
    /// Closing a socket with unread data resets the connection, and the reset may overtake the
    /// answer.
    Linger,
}

impl ConnectionPhase {
    /// Whether the client is to begin: no byte of its next request has come.
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

/// How far a connection is.
pub(super) struct Progress {
    /// Its phase and the tick at which that began, in one word.
    phase: AtomicU64,
    /// Whether what came last leaves a head unfinished: the beginning of the next request, behind
    /// one without a body. (Behind a body it goes unnoticed, and the idle limit applies.)
    pub(super) in_head: AtomicBool,
    /// Whether the head that is judged next had a Content-Length, see [`Lengths`](crate::http::guard::Lengths).
    pub(super) has_length: AtomicBool,
    /// Whether it is to be closed, if its client has still not asked for anything.
    pub(super) is_to_end: AtomicBool,
    /// Whether its next answer is to be its last, see [`rebalance`](crate::http::rebalance).
    pub(super) is_asked_to_leave: AtomicBool,
    /// Whether it counts as kept, see [`Deadlines::keeps`](crate::http::deadlines::Deadlines::keeps).
    pub(super) is_kept: AtomicBool,
    /// Whether hyper has begun to shut it down.
    pub(super) is_shut_down: AtomicBool,
    /// The tick at which it began, and after how many it is too old.
    born: u32,
    age: u32,
}

impl Progress {
    pub(super) fn new(phase: ConnectionPhase, now: u32, age: u32) -> Self {
        let no = AtomicBool::new;
        let progress = Self {
            phase: AtomicU64::new(0),
            in_head: no(false),
            has_length: no(false),
            is_to_end: no(false),
            is_asked_to_leave: no(false),
            is_kept: no(false),
            is_shut_down: no(false),
            born: now,
            age,
        };
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
