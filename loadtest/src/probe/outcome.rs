//! The ways a request can end. Every request ends in exactly one.

use std::io::{self, ErrorKind};

use anyhow::anyhow;
use nix::errno::Errno;

use crate::load::NO_PORT_LEFT;
use crate::types::counts;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // see `Outcomes`
pub enum Outcome {
    Ok,
    Refused,
    Reset,
    ClosedEarly,
    WrongAnswer,
    TimedOutConnecting,
    TimedOutAnswering,
}

counts! {
    /// How many requests ended how.
    Outcomes {
        /// Answered, and as it should be.
        ok "ok",
        /// Nobody listened.
        refused "refused",
        /// The server's side tore the connection down, while it opened, while sending or reading.
        reset "reset",
        /// The connection ended before the answer did.
        closed_early "closed early",
        /// Something else than expected was answered.
        wrong_answer "wrong answer",
        /// No connection within the time.
        timed_out_connecting "timed out in connect",
        /// A connection, but no answer within the time.
        timed_out_answering "timed out in answer",
    }
}

impl Outcomes {
    /// Counts one more.
    pub fn add(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Ok => &mut self.ok,
            Outcome::Refused => &mut self.refused,
            Outcome::Reset => &mut self.reset,
            Outcome::ClosedEarly => &mut self.closed_early,
            Outcome::WrongAnswer => &mut self.wrong_answer,
            Outcome::TimedOutConnecting => &mut self.timed_out_connecting,
            Outcome::TimedOutAnswering => &mut self.timed_out_answering,
        } += 1;
    }

    /// All that were not answered as they should be.
    pub fn lost(&self) -> u64 {
        self.total() - self.ok
    }
}

impl Outcome {
    /// The outcome that an error means. `timed_out` is the one to be had after --timeout, or where the
    /// kernel's own patience is shorter.
    ///
    /// # Errors
    /// When it says something about this program or the way to the server, and nothing about the
    /// server: then there is no result, but a remedy.
    pub fn of(error: io::Error, timed_out: Self) -> anyhow::Result<Self> {
        use ErrorKind::*;
        match error.kind() {
            ConnectionRefused => return Ok(Self::Refused),
            ConnectionReset | BrokenPipe | ConnectionAborted => return Ok(Self::Reset),
            UnexpectedEof => return Ok(Self::ClosedEarly),
            InvalidData => return Ok(Self::WrongAnswer),
            TimedOut => return Ok(timed_out),
            _ => {}
        }
        let remedy = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EADDRNOTAVAIL) => {
                let load = "choose --keep-alive, a lower --rate or fewer requests";
                return Err(anyhow!(
                    "the prober failed, not the server: {NO_PORT_LEFT}; or {load}"
                ));
            }
            Some(Errno::EMFILE | Errno::ENFILE) => {
                "this program has no file left for another connection; choose fewer --connections, \
                 or raise the hard limit (`ulimit -Hn`)"
            }
            Some(Errno::ENOBUFS | Errno::ENOMEM) => {
                "this machine has no memory left for another connection; choose fewer --connections"
            }
            _ => "the server's address cannot be asked; is it the right one?",
        };
        Err(anyhow!("the prober failed, not the server: {remedy} ({error})"))
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::*;
    use super::*;

    #[test]
    fn every_outcome_is_counted_under_a_name_of_its_own() {
        let mut outcomes = Outcomes::default();
        let all =
            [Ok, Refused, Reset, ClosedEarly, WrongAnswer, TimedOutConnecting, TimedOutAnswering];
        for (index, outcome) in all.into_iter().enumerate() {
            (0..=index).for_each(|_| outcomes.add(outcome));
        }
        let counts = |outcomes: Outcomes| outcomes.kinds().map(|(_, count)| count);
        assert_eq!(counts(outcomes), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((outcomes.total(), outcomes.lost()), (28, 27));
        outcomes += outcomes;
        assert_eq!(counts(outcomes), [2, 4, 6, 8, 10, 12, 14]);
    }

    #[test]
    fn an_error_is_the_servers_or_the_probers() {
        for (errno, outcome) in [
            (Errno::ECONNREFUSED, Some(Refused)),
            (Errno::ECONNRESET, Some(Reset)),
            (Errno::EPIPE, Some(Reset)),
            (Errno::ETIMEDOUT, Some(TimedOutConnecting)),
            (Errno::EADDRNOTAVAIL, None),
            (Errno::EMFILE, None),
            (Errno::EHOSTUNREACH, None),
        ] {
            let found = Outcome::of(errno.into(), TimedOutConnecting);
            assert_eq!(found.as_ref().ok(), outcome.as_ref(), "{errno}");
            if errno == Errno::EADDRNOTAVAIL {
                let text = found.unwrap_err().to_string();
                assert!(text.contains("not the server") && text.contains("ip_local_port_range"));
            }
        }
    }
}
