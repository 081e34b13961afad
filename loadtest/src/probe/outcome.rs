//! The ways a request can end. Every request ends in exactly one.

use std::io;

use anyhow::anyhow;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, and as it should be.
    Ok,
    /// Nobody listened.
    Refused,
    /// The server's side tore the connection down, while it opened, while sending or reading.
    Reset,
    /// The connection ended before the answer did.
    ClosedEarly,
    /// Something else than expected was answered.
    WrongAnswer,
    /// No connection within the time.
    TimedOutConnecting,
    /// A connection, but no answer within the time.
    TimedOutAnswering,
}

/// What was being done when an error came.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// Opening the connection.
    Connecting,
    /// Sending the request or reading the answer.
    Answering,
}

impl Outcome {
    /// The outcome that an error means.
    ///
    /// # Errors
    /// When it says something about this program or the way to the server, and nothing about the
    /// server: then there is no result, but a remedy.
    pub fn of(error: io::Error, stage: Stage) -> anyhow::Result<Self> {
        let remedy = match (error.raw_os_error().map(Errno::from_raw), stage) {
            (Some(Errno::ECONNREFUSED), _) => return Ok(Self::Refused),
            (Some(Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED), _) => {
                return Ok(Self::Reset);
            }
            // After --timeout, or where the kernel's own patience is shorter.
            (Some(Errno::ETIMEDOUT), Stage::Connecting) => return Ok(Self::TimedOutConnecting),
            (Some(Errno::ETIMEDOUT), Stage::Answering) => return Ok(Self::TimedOutAnswering),
            (Some(Errno::EADDRNOTAVAIL), _) => {
                "this machine has no port left for another connection: each that was closed keeps \
                 its own for a minute (TIME_WAIT); choose --keep-alive, a lower --rate or fewer \
                 requests, or `sysctl -w net.ipv4.ip_local_port_range='1024 65535'` or \
                 net.ipv4.tcp_tw_reuse=1"
            }
            (Some(Errno::EMFILE | Errno::ENFILE), _) => {
                "this program has no file left for another connection; choose fewer --connections, \
                 or raise the hard limit (`ulimit -Hn`)"
            }
            (Some(Errno::ENOBUFS | Errno::ENOMEM), _) => {
                "this machine has no memory left for another connection; choose fewer --connections"
            }
            _ => "the server's address cannot be asked; is it the right one?",
        };
        Err(anyhow!("the prober failed, not the server: {remedy} ({error})"))
    }
}

/// How many requests ended how.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // the names are those of the outcomes
pub struct Outcomes {
    pub ok: u64,
    pub refused: u64,
    pub reset: u64,
    pub closed_early: u64,
    pub wrong_answer: u64,
    pub timed_out_connecting: u64,
    pub timed_out_answering: u64,
}

impl Outcomes {
    /// Counts one more.
    pub fn add(&mut self, outcome: Outcome) {
        *self.counts()[outcome as usize] += 1;
    }

    /// These and others.
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = *self;
        sum.counts().into_iter().zip(other.kinds()).for_each(|(mine, (_, more))| *mine += more);
        sum
    }

    /// Each count, in the order of [`Outcome`].
    fn counts(&mut self) -> [&mut u64; 7] {
        [
            &mut self.ok,
            &mut self.refused,
            &mut self.reset,
            &mut self.closed_early,
            &mut self.wrong_answer,
            &mut self.timed_out_connecting,
            &mut self.timed_out_answering,
        ]
    }

    /// Each outcome with its name, as people read it.
    pub fn kinds(&self) -> [(&'static str, u64); 7] {
        [
            ("ok", self.ok),
            ("refused", self.refused),
            ("reset", self.reset),
            ("closed early", self.closed_early),
            ("wrong answer", self.wrong_answer),
            ("timed out in connect", self.timed_out_connecting),
            ("timed out in answer", self.timed_out_answering),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.kinds().iter().map(|(_, count)| count).sum()
    }

    /// All that were not answered as they should be.
    pub fn lost(&self) -> u64 {
        self.total() - self.ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Outcome; 7] = [
        Outcome::Ok,
        Outcome::Refused,
        Outcome::Reset,
        Outcome::ClosedEarly,
        Outcome::WrongAnswer,
        Outcome::TimedOutConnecting,
        Outcome::TimedOutAnswering,
    ];

    #[test]
    fn every_outcome_is_counted_under_a_name_of_its_own() {
        let mut outcomes = Outcomes::default();
        for (index, outcome) in ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| outcomes.add(outcome));
        }
        assert_eq!(outcomes.kinds().map(|(_, count)| count), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((outcomes.total(), outcomes.lost()), (28, 27));
        assert_eq!(
            outcomes.plus(&outcomes).kinds().map(|(_, count)| count),
            [2, 4, 6, 8, 10, 12, 14]
        );
    }

    #[test]
    fn an_error_is_the_servers_or_the_probers() {
        use Stage::{Answering, Connecting};
        for (errno, stage, outcome) in [
            (Errno::ECONNREFUSED, Connecting, Some(Outcome::Refused)),
            (Errno::ECONNRESET, Connecting, Some(Outcome::Reset)),
            (Errno::ECONNRESET, Answering, Some(Outcome::Reset)),
            (Errno::EPIPE, Answering, Some(Outcome::Reset)),
            (Errno::ETIMEDOUT, Connecting, Some(Outcome::TimedOutConnecting)),
            (Errno::ETIMEDOUT, Answering, Some(Outcome::TimedOutAnswering)),
            (Errno::EADDRNOTAVAIL, Connecting, None),
            (Errno::EMFILE, Connecting, None),
            (Errno::EHOSTUNREACH, Connecting, None),
        ] {
            let found = Outcome::of(io::Error::from(errno), stage);
            assert_eq!(found.ok(), outcome, "{errno} {stage:?}");
        }
    }

    #[test]
    fn ports_that_ran_out_are_no_fault_of_the_server_and_have_a_remedy() {
        let error = Outcome::of(io::Error::from(Errno::EADDRNOTAVAIL), Stage::Connecting);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("not the server") && text.contains("ip_local_port_range"), "{text}");
    }
}
