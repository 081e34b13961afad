//! The ways a request can end. Every request ends in exactly one.

use std::io;

use anyhow::anyhow;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
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

impl Fate {
    /// The fate that an error means.
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
            // The kernel's own patience ended, where it is shorter than --timeout.
            (Some(Errno::ETIMEDOUT), Stage::Connecting) => return Ok(Self::TimedOutConnecting),
            (Some(Errno::ETIMEDOUT), Stage::Answering) => return Ok(Self::TimedOutAnswering),
            (Some(Errno::EADDRNOTAVAIL), _) => {
                "this machine has no port left for another connection; choose fewer --connections, \
                 a lower --rate or --keep-alive, or widen net.ipv4.ip_local_port_range"
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
#[allow(missing_docs)] // the names are those of the fates
pub struct Fates {
    pub ok: u64,
    pub refused: u64,
    pub reset: u64,
    pub closed_early: u64,
    pub wrong_answer: u64,
    pub timed_out_connecting: u64,
    pub timed_out_answering: u64,
}

impl Fates {
    /// Counts one more.
    pub fn add(&mut self, fate: Fate) {
        *match fate {
            Fate::Ok => &mut self.ok,
            Fate::Refused => &mut self.refused,
            Fate::Reset => &mut self.reset,
            Fate::ClosedEarly => &mut self.closed_early,
            Fate::WrongAnswer => &mut self.wrong_answer,
            Fate::TimedOutConnecting => &mut self.timed_out_connecting,
            Fate::TimedOutAnswering => &mut self.timed_out_answering,
        } += 1;
    }

    /// These and others.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            ok: self.ok + other.ok,
            refused: self.refused + other.refused,
            reset: self.reset + other.reset,
            closed_early: self.closed_early + other.closed_early,
            wrong_answer: self.wrong_answer + other.wrong_answer,
            timed_out_connecting: self.timed_out_connecting + other.timed_out_connecting,
            timed_out_answering: self.timed_out_answering + other.timed_out_answering,
        }
    }

    /// Each fate with its name, as people read it.
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

    const ALL: [Fate; 7] = [
        Fate::Ok,
        Fate::Refused,
        Fate::Reset,
        Fate::ClosedEarly,
        Fate::WrongAnswer,
        Fate::TimedOutConnecting,
        Fate::TimedOutAnswering,
    ];

    #[test]
    fn every_fate_is_counted_under_a_name_of_its_own() {
        let mut fates = Fates::default();
        for (index, fate) in ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| fates.add(fate));
        }
        assert_eq!(fates.kinds().map(|(_, count)| count), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((fates.total(), fates.lost()), (28, 27));
        assert_eq!(fates.plus(&fates).kinds().map(|(_, count)| count), [2, 4, 6, 8, 10, 12, 14]);
    }

    #[test]
    fn an_error_is_the_servers_or_the_probers() {
        use Stage::{Answering, Connecting};
        for (errno, stage, fate) in [
            (Errno::ECONNREFUSED, Connecting, Some(Fate::Refused)),
            (Errno::ECONNRESET, Connecting, Some(Fate::Reset)),
            (Errno::ECONNRESET, Answering, Some(Fate::Reset)),
            (Errno::EPIPE, Answering, Some(Fate::Reset)),
            (Errno::ETIMEDOUT, Connecting, Some(Fate::TimedOutConnecting)),
            (Errno::ETIMEDOUT, Answering, Some(Fate::TimedOutAnswering)),
            (Errno::EADDRNOTAVAIL, Connecting, None),
            (Errno::EMFILE, Connecting, None),
            (Errno::EHOSTUNREACH, Connecting, None),
        ] {
            let found = Fate::of(io::Error::from(errno), stage);
            assert_eq!(found.ok(), fate, "{errno} {stage:?}");
        }
    }

    #[test]
    fn ports_that_ran_out_are_no_fault_of_the_server_and_have_a_remedy() {
        let error = Fate::of(io::Error::from(Errno::EADDRNOTAVAIL), Stage::Connecting);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("not the server") && text.contains("ip_local_port_range"), "{text}");
    }
}
