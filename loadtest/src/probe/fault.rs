//! What is to be done to the server, and when: `FAULT@TIME`, or `FAULT@TIME*COUNT/EVERY`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::server::signals::Action;

/// The most faults of one option: more would be an attack and no experiment.
const MOST: u32 = 10_000;

/// What can be done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SIGSTOP to the worker that has answered most and is not stopped yet.
    StopWorker,
    /// SIGCONT to the workers that were stopped.
    ContinueWorker,
    /// SIGKILL to a worker: a stopped one if there is any, else the one that has answered most.
    KillWorker,
    /// SIGKILL to the parent.
    KillParent,
    /// To the parent, the signal that makes it do this.
    Signal(Action),
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::StopWorker,
        Self::ContinueWorker,
        Self::KillWorker,
        Self::Signal(Action::Reload),
        Self::Signal(Action::Add),
        Self::Signal(Action::Remove),
        Self::Signal(Action::Drain),
        Self::Signal(Action::Quit),
        Self::KillParent,
    ];

    /// As the command line and results name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::StopWorker => "stop-worker",
            Self::ContinueWorker => "continue-worker",
            Self::KillWorker => "kill-worker",
            Self::KillParent => "kill-parent",
            Self::Signal(action) => action.name(),
        }
    }

    /// Whether the server is not meant to serve any more after it.
    pub fn ends_the_server(self) -> bool {
        matches!(self, Self::KillParent | Self::Signal(Action::Drain | Action::Quit))
    }
}

/// One `--fault`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    kind: Kind,
    /// As it was written.
    text: String,
    /// From the start of the load.
    at: Duration,
    times: u32,
    every: Duration,
}

/// One thing to be done at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// From the start of the load.
    pub at: Duration,
    /// What.
    pub kind: Kind,
    /// The `--fault` that it comes from.
    pub asked: Arc<str>,
}

impl Fault {
    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// When the last of it is due.
    pub fn last(&self) -> Duration {
        self.at + self.every * (self.times - 1)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "expected FAULT@TIME, such as reload@1s, or FAULT@TIME*COUNT/EVERY, such as \
                    reload@1s*20/250ms";
        let (name, when) = text.split_once('@').ok_or(form)?;
        let name = if name == "term" { Action::Drain.name() } else { name }; // its older name
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let names = Kind::ALL.map(Kind::name).join(", ");
            format!("there is no fault {name:?}; there are {names}")
        })?;
        let time = |text: &str| {
            humantime::parse_duration(text).map_err(|error| format!("{text:?}: {error}; {form}"))
        };
        let (at, times, every) = match when.split_once('*') {
            None => (time(when)?, 1, Duration::ZERO),
            Some((at, repeat)) => {
                let (times, every) = repeat.split_once('/').ok_or(form)?;
                let times = times.parse().ok().filter(|times| (1..=MOST).contains(times));
                let times = times.ok_or_else(|| format!("COUNT is a number from 1 to {MOST}"))?;
                (time(at)?, times, time(every)?)
            }
        };
        // Far beyond any run, and yet its last one can be told without an overflow.
        if at.max(every) > Duration::from_secs(24 * 60 * 60) {
            return Err("that is longer than a day; choose up to 24h".into());
        }
        Ok(Self { kind, text: text.into(), at, times, every })
    }
}

/// Everything that is to be done, in the order of time.
pub fn plan(faults: &[Fault]) -> Vec<Due> {
    let mut plan: Vec<Due> = Vec::new();
    for Fault { kind, text, at, times, every } in faults {
        let asked: Arc<str> = text.as_str().into();
        let due = |count| Due { at: *at + *every * count, kind: *kind, asked: asked.clone() };
        plan.extend((0..*times).map(due));
    }
    // What is due at the same time happens in the order in which it was asked for.
    plan.sort_by_key(|due| due.at);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Fault, String> {
        text.parse()
    }

    fn milliseconds(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn every_fault_has_a_name_that_is_understood() {
        for kind in Kind::ALL {
            let fault = parse(&format!("{}@1500ms", kind.name())).unwrap();
            assert_eq!((fault.kind, fault.at, fault.times), (kind, milliseconds(1500), 1));
            assert_eq!(fault.last(), fault.at);
        }
    }

    #[test]
    fn a_fault_can_be_repeated() {
        let fault = parse("reload@1s*20/250ms").unwrap();
        assert_eq!(
            (fault.at, fault.times, fault.every),
            (milliseconds(1000), 20, milliseconds(250))
        );
        assert_eq!(fault.last(), milliseconds(5750));
    }

    #[test]
    fn the_plan_is_in_the_order_of_time_and_then_of_asking() {
        let faults =
            ["term@3s", "reload@1s*3/1s", "kill-worker@2s"].map(|text| parse(text).unwrap());
        let plan = plan(&faults);
        let shown: Vec<_> = plan.iter().map(|due| (due.at.as_secs(), due.kind.name())).collect();
        let expected =
            [(1, "reload"), (2, "reload"), (2, "kill-worker"), (3, "drain"), (3, "reload")];
        assert_eq!(shown, expected);
        assert_eq!(&*plan[1].asked, "reload@1s*3/1s");
    }

    #[test]
    fn what_is_no_fault_is_refused_by_name() {
        for (text, reason) in [
            ("reload", "FAULT@TIME"),
            ("explode@1s", "no fault \"explode\"; there are stop-worker, continue-worker"),
            ("reload@", "FAULT@TIME"),
            ("reload@soon", "\"soon\""),
            ("reload@1", "\"1\""),
            ("reload@1s*20", "COUNT/EVERY"),
            ("reload@1s*0/1s", "from 1 to"),
            ("reload@1s*x/1s", "from 1 to"),
            ("reload@1s*2/x", "\"x\""),
            ("reload@1s*4000000000/1s", "from 1 to"),
            ("reload@1s*9/1000000years", "24h"),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(refusal.contains(reason), "{text}: {refusal}");
        }
    }
}
