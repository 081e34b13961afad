//! Actions on a server, and the signals that make its parent carry them out: known for some programs, given by the
//! user for others.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::server::spec::{Kind, Spec};

/// The actions, by their names on the command line and in results.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// SIGSTOP to the busiest worker that is not stopped yet: by answers or, if they are not counted, by connections.
    StopWorker,
    /// SIGCONT to the workers that were stopped.
    ContinueWorker,
    /// SIGKILL to a worker: a stopped one if there is one, else the busiest.
    KillWorker,
    /// By a signal to the parent: replace every worker without losing a request.
    #[default]
    Reload,
    /// By a signal to the parent: start one worker more.
    AddWorker,
    /// By a signal to the parent: stop one worker.
    RemoveWorker,
    /// By a signal to the parent: answer open requests, and end. `term` is its older name.
    #[value(alias = "term")]
    Drain,
    /// By a signal to the parent: end at once.
    Quit,
    /// SIGKILL to the parent.
    KillParent,
}

impl Action {
    /// Whether it is a signal to the parent that differs between programs.
    pub fn is_by_signal(self) -> bool {
        use Action::*;
        matches!(self, Reload | AddWorker | RemoveWorker | Drain | Quit)
    }

    /// Whether the server ends by it.
    pub fn ends_the_server(self) -> bool {
        matches!(self, Self::KillParent | Self::Drain | Self::Quit)
    }

    /// The names of the matching actions, for messages.
    pub fn names(fit: fn(Self) -> bool) -> String {
        let all = Self::value_variants().iter().filter(|action| fit(**action));
        all.map(Self::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// The name of this repository's servers in the table.
const OURS: &str = "ours";

/// The signals of known programs, from their manuals.
const KNOWN: [(&str, &str); 13] = [
    (OURS, "reload=HUP add-worker=TTIN remove-worker=TTOU drain=TERM quit=QUIT"),
    ("nginx", "reload=HUP drain=QUIT quit=TERM"),
    ("gunicorn", "reload=HUP add-worker=TTIN remove-worker=TTOU drain=TERM quit=QUIT"),
    ("puma", "reload=USR1 add-worker=TTIN remove-worker=TTOU drain=TERM quit=INT"),
    ("granian", "reload=HUP drain=TERM quit=INT"),
    ("uvicorn", "reload=HUP add-worker=TTIN remove-worker=TTOU drain=TERM"),
    ("unicorn", "reload=HUP add-worker=TTIN remove-worker=TTOU drain=QUIT quit=TERM"),
    ("haproxy", "reload=USR2 drain=USR1 quit=TERM"),
    ("apache2", "reload=USR1 drain=WINCH quit=TERM"),
    ("httpd", "reload=USR1 drain=WINCH quit=TERM"),
    ("uwsgi", "reload=HUP quit=QUIT"),
    ("uwsgi-core", "reload=HUP quit=QUIT"),
    ("lighttpd", "reload=USR1 drain=INT quit=TERM"),
];

/// The signals that a server's parent understands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals {
    program: String,
    /// The last entry of an action counts.
    known: Vec<(Action, Signal)>,
}

impl Signals {
    /// The signals of a program, by its base name; none if it is not known.
    fn of(program: &str) -> Self {
        let mut signals = Self { program: program.into(), known: Vec::new() };
        let known = KNOWN.iter().filter(|(name, _)| *name == program);
        for pair in known.flat_map(|(_, pairs)| pairs.split(' ')) {
            let _ = signals.set(pair); // a test checks the table
        }
        signals
    }

    /// The signals of a command: by the first word that names a known program, as in `python -m gunicorn` and
    /// `bundle exec puma`.
    fn of_command(words: &[String]) -> Self {
        let names = || words.iter().map(|word| word.rsplit('/').next().unwrap_or(word));
        let known = names().find(|name| KNOWN.iter().any(|(known, _)| known == name));
        Self::of(known.or(names().next()).unwrap_or_default())
    }

    /// The signals of a server under test; none if it is not started here.
    pub fn of_spec(spec: &Spec) -> Self {
        match &spec.kind {
            Kind::Ours { .. } => Self::of(OURS),
            Kind::Nginx { .. } => Self::of("nginx"),
            Kind::Command { words } => Self::of_command(words),
            Kind::Running { url } => Self::of(url),
        }
    }

    /// Adds one `--signal ACTION=SIGNAL`, such as `reload=USR2`.
    /// Fails when there is no such action or signal; the message lists them.
    pub fn set(&mut self, text: &str) -> Result<()> {
        let form = "expected ACTION=SIGNAL, such as reload=USR2";
        let (action, signal) =
            text.split_once('=').with_context(|| format!("--signal {text}: {form}"))?;
        let known = Action::from_str(action, false).ok().filter(|action| action.is_by_signal());
        let action = known.with_context(|| {
            let names = Action::names(Action::is_by_signal);
            format!("--signal {text}: there is no action '{action}'; there are {names}")
        })?;
        let name = signal.to_uppercase();
        let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
        let signal = Signal::from_str(&name)
            .with_context(|| format!("--signal {text}: there is no signal '{signal}'; {form}"))?;
        ensure!(
            !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP),
            "--signal {text}: no program can handle {signal}; name one that it handles"
        );
        self.known.push((action, signal));
        Ok(())
    }

    /// The signal for an action.
    /// Fails when it is not known; with the remedy.
    pub fn signal(&self, action: Action) -> Result<Signal> {
        let known = self.known.iter().rfind(|(known, _)| *known == action);
        known.map(|(_, signal)| *signal).with_context(|| {
            let program = &self.program;
            format!(
                "which signal makes {program} do '{action}' is not known; set it with --signal \
                 {action}=SIGNAL, such as --signal {action}=USR2"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::Signal::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_known_program_is_found_behind_what_runs_it() {
        for (command, action, signal) in [
            ("/usr/sbin/nginx -c x", Action::Drain, SIGQUIT),
            ("python3 -m gunicorn app:app", Action::AddWorker, SIGTTIN),
            ("bundle exec puma -p {port}", Action::Reload, SIGUSR1),
            ("/opt/haproxy -W", Action::Reload, SIGUSR2),
        ] {
            assert_eq!(Signals::of_command(&words(command)).signal(action).unwrap(), signal);
        }
        for (name, pairs) in KNOWN {
            assert_eq!(Signals::of(name).known.len(), pairs.split(' ').count(), "{name}");
        }
        assert_eq!(Signals::of(OURS).signal(Action::Quit).unwrap(), SIGQUIT);
    }

    #[test]
    fn what_is_not_known_is_refused_until_it_is_said() {
        let mut signals = Signals::of_command(&words("./serve {port}"));
        let refusal = signals.signal(Action::Reload).unwrap_err().to_string();
        assert!(refusal.contains("serve") && refusal.contains("--signal reload="), "{refusal}");
        for text in ["reload=USR2", "reload=SIGUSR2", "reload=usr2"] {
            signals.set(text).unwrap();
            assert_eq!(signals.signal(Action::Reload).unwrap(), SIGUSR2);
        }
        for (bad, reason) in [
            ("reload", "ACTION=SIGNAL"),
            ("explode=USR1", "there are reload, add-worker"),
            ("reload=USR9", "no signal 'USR9'"),
            ("drain=KILL", "no program can handle"),
        ] {
            assert!(signals.set(bad).unwrap_err().to_string().contains(reason), "{bad}");
        }
    }
}
