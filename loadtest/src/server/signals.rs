//! Which signal makes the parent of a server do what: known for some programs, told for others.

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal::{self, *};

use crate::server::spec::{Kind, Spec};

/// What a parent can be asked to do by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Replace every worker, losing nothing.
    Reload,
    /// Start one worker more.
    Add,
    /// Stop one worker.
    Remove,
    /// Serve what is under way, and end.
    Drain,
    /// End at once.
    Quit,
}

impl Action {
    const ALL: [Self; 5] = [Self::Reload, Self::Add, Self::Remove, Self::Drain, Self::Quit];

    /// As `--signal` and messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Add => "add-worker",
            Self::Remove => "remove-worker",
            Self::Drain => "drain",
            Self::Quit => "quit",
        }
    }
}

/// The signals of one program, in the order of [`Action::ALL`].
type Known = (&'static str, [Option<Signal>; 5]);

/// What this repository's servers are called here.
pub const OURS: &str = "ours";

/// As each program's manual has them.
const KNOWN: [Known; 11] = [
    (OURS, [Some(SIGHUP), Some(SIGTTIN), Some(SIGTTOU), Some(SIGTERM), Some(SIGQUIT)]),
    ("nginx", [Some(SIGHUP), None, None, Some(SIGQUIT), Some(SIGTERM)]),
    ("gunicorn", [Some(SIGHUP), Some(SIGTTIN), Some(SIGTTOU), Some(SIGTERM), Some(SIGQUIT)]),
    ("puma", [Some(SIGUSR1), Some(SIGTTIN), Some(SIGTTOU), Some(SIGTERM), Some(SIGINT)]),
    ("granian", [Some(SIGHUP), None, None, Some(SIGTERM), Some(SIGINT)]),
    ("uvicorn", [Some(SIGHUP), Some(SIGTTIN), Some(SIGTTOU), Some(SIGTERM), None]),
    ("unicorn", [Some(SIGHUP), Some(SIGTTIN), Some(SIGTTOU), Some(SIGQUIT), Some(SIGTERM)]),
    ("haproxy", [Some(SIGUSR2), None, None, Some(SIGUSR1), Some(SIGTERM)]),
    ("apache2", [Some(SIGUSR1), None, None, Some(SIGWINCH), Some(SIGTERM)]),
    ("httpd", [Some(SIGUSR1), None, None, Some(SIGWINCH), Some(SIGTERM)]),
    ("uwsgi", [Some(SIGHUP), None, None, None, Some(SIGQUIT)]),
];

/// What a server's parent understands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals {
    program: String,
    known: [Option<Signal>; 5],
}

impl Signals {
    /// Those of a program, by its base name; none of one that is not known.
    pub fn of(program: &str) -> Self {
        let known = KNOWN.iter().find(|(name, _)| *name == program);
        let known = known.map_or([None; 5], |(_, signals)| *signals);
        Self { program: program.into(), known }
    }

    /// Those of a command: of the first of its words that names a known program, as `python -m
    /// gunicorn` and `bundle exec puma` do.
    fn of_command(words: &[String]) -> Self {
        let names = || words.iter().map(|word| word.rsplit('/').next().unwrap_or(word));
        let known = names().find(|name| KNOWN.iter().any(|(known, _)| known == name));
        Self::of(known.or(names().next()).unwrap_or_default())
    }

    /// Those of a server under test; none of one that is not started here.
    pub fn of_spec(spec: &Spec) -> Self {
        match &spec.kind {
            Kind::Ours { .. } => Self::of(OURS),
            Kind::Nginx { .. } => Self::of("nginx"),
            Kind::Command { words } => Self::of_command(words),
            Kind::Running { url } => Self::of(url),
        }
    }

    /// Takes over one `--signal ACTION=SIGNAL`, such as `reload=USR2`.
    ///
    /// # Errors
    /// When there is no such action or signal; with those that there are.
    pub fn set(&mut self, text: &str) -> Result<()> {
        let form = "expected ACTION=SIGNAL, such as reload=USR2";
        let (action, signal) =
            text.split_once('=').with_context(|| format!("--signal {text}: {form}"))?;
        let action = if action == "term" { "drain" } else { action };
        let place = Action::ALL.iter().position(|known| known.name() == action);
        let Some(place) = place else {
            let names = Action::ALL.map(Action::name).join(", ");
            bail!("--signal {text}: there is no action '{action}'; there are {names}")
        };
        let name = signal.to_uppercase();
        let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
        let signal = Signal::from_str(&name)
            .with_context(|| format!("--signal {text}: there is no signal '{signal}'; {form}"))?;
        ensure!(
            !matches!(signal, SIGKILL | SIGSTOP),
            "--signal {text}: no program can handle {signal}; name one that it handles"
        );
        self.known[place] = Some(signal);
        Ok(())
    }

    /// The signal that makes the parent do this.
    ///
    /// # Errors
    /// When it is not known; with the remedy.
    pub fn signal(&self, action: Action) -> Result<Signal> {
        let place = Action::ALL.iter().position(|known| *known == action);
        place.and_then(|place| self.known[place]).with_context(|| {
            let (program, action) = (&self.program, action.name());
            format!(
                "which signal makes {program} do '{action}' is not known; say it with --signal \
                 {action}=SIGNAL, such as --signal {action}=USR2"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_known_program_is_found_behind_what_runs_it() {
        for (command, action, signal) in [
            ("/usr/sbin/nginx -c x", Action::Drain, SIGQUIT),
            ("python3 -m gunicorn app:app", Action::Add, SIGTTIN),
            ("bundle exec puma -p {port}", Action::Reload, SIGUSR1),
            ("/opt/haproxy -W", Action::Reload, SIGUSR2),
        ] {
            assert_eq!(Signals::of_command(&words(command)).signal(action).unwrap(), signal);
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
