//! A server under test as the command line names it.
//!
//! | text | meaning |
//! |---|---|
//! | `shared --workers 8` | one of ours, with its options |
//! | `nginx --workers 4 --reuseport` | nginx with a configuration made for it |
//! | `cmd:gunicorn -b {host}:{port} app:app` | any command; `{port}` and `{host}` are replaced |
//! | `http://host:port/path` | runs already: neither started nor stopped |
//!
//! Each form may begin with a name: `NAME=...`.

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;

use crate::types::http_url;

/// The two ways to share a port, each with its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    /// One listening socket for all workers
    Shared,
    /// A listening socket for each worker, with SO_REUSEPORT
    Reuseport,
}

impl Strategy {
    /// The program of this strategy.
    pub fn program(self) -> &'static str {
        match self {
            Self::Shared => "shared-fd-server",
            Self::Reuseport => "reuseport-server",
        }
    }
}

/// A server under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// The text without the name.
    pub text: String,
    /// The parsed text.
    pub kind: Kind,
}

/// The kinds of servers under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of this repository's servers.
    Ours {
        /// Which of the two.
        strategy: Strategy,
        /// Its options.
        options: Vec<String>,
    },
    /// Any command that serves on a given port.
    Command {
        /// Program and arguments, with `{port}` and `{host}` in them.
        words: Vec<String>,
    },
    /// A server that runs already.
    Running {
        /// Its URL: `http://host:port/path`.
        url: String,
    },
    /// nginx, which answers `hello`.
    Nginx {
        /// The number of workers: `--workers`, else one for each CPU.
        workers: Option<u16>,
        /// Whether each worker has a listening socket of its own.
        reuseport: bool,
    },
}

impl Spec {
    /// Parses one.
    /// Fails when it is none of the forms above, or a command has no `{port}`; with the remedy.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let (name, rest) = split_name(text);
        let spec = |kind| Self { name: name.map(str::to_owned), text: rest.to_owned(), kind };
        if rest.starts_with("http://") {
            let url = http_url(rest).map_err(|reason| anyhow!("'{text}': {reason}"))?;
            return Ok(spec(Kind::Running { url }));
        }
        ensure!(
            !rest.starts_with("https://"),
            "'{text}' is an https: address; wrk and the prober speak plain http: give http://"
        );
        let command = rest.strip_prefix("cmd:");
        let words = shlex::split(command.unwrap_or(rest))
            .with_context(|| format!("the server '{text}' has a quote that is not closed"))?;
        let Some((first, options)) = words.split_first() else {
            bail!("the server '{text}' has no name; begin with {FORMS}")
        };
        if command.is_some() {
            ensure!(
                words.iter().any(|word| word.contains("{port}")),
                "the command '{text}' has no {{port}}, so it cannot be told where to listen; put \
                 {{port}}, and {{host}} if it takes an address, where its command line has them"
            );
            return Ok(spec(Kind::Command { words }));
        }
        if first == "nginx" {
            return nginx(text, options).map(spec);
        }
        let Ok(strategy) = Strategy::from_str(first, false) else {
            bail!("'{text}' begins with '{first}', which is not a server; begin with {FORMS}")
        };
        Ok(spec(Kind::Ours { strategy, options: options.to_vec() }))
    }

    /// The same with more options after its own.
    /// Fails when it is not one of our servers.
    pub fn with_options(mut self, more: &[String]) -> Result<Self> {
        match &mut self.kind {
            Kind::Ours { options, .. } => options.extend_from_slice(more),
            _ => ensure!(
                more.is_empty(),
                "options after -- are for shared and reuseport; write those of '{}' into its command",
                self.text
            ),
        }
        Ok(self)
    }

    /// Its name in reports: the given name; else a command's program, or the whole text.
    pub fn display_name(&self) -> String {
        let program = match &self.kind {
            Kind::Command { words } => words[0].rsplit('/').next(),
            _ => None,
        };
        self.name.clone().unwrap_or_else(|| program.unwrap_or(&self.text).to_owned())
    }

    /// Whether it is one of our servers, built without optimization, as this program is.
    pub fn is_debug_build(&self) -> bool {
        cfg!(debug_assertions) && self.strategy().is_some()
    }

    /// Which of our servers it is, if it is one.
    pub fn strategy(&self) -> Option<Strategy> {
        match self.kind {
            Kind::Ours { strategy, .. } => Some(strategy),
            _ => None,
        }
    }
}

/// The ways to begin, for messages.
const FORMS: &str = "shared, reuseport, nginx, cmd: or http://";

/// Splits off the name, if there is one: `NAME=`, in quotes if it has spaces. The rest may contain an `=`, too.
fn split_name(text: &str) -> (Option<&str>, &str) {
    for quote in ["'", "\""] {
        let quoted = text.strip_prefix(quote);
        if let Some((name, rest)) = quoted.and_then(|rest| rest.split_once(&format!("{quote}="))) {
            return (Some(name), rest.trim_start());
        }
    }
    let is_name = |text: &str| {
        let is_form = ["cmd:", "http:", "https:"].iter().any(|form| text.starts_with(form));
        !text.is_empty() && !is_form && !text.contains([' ', '\t', '\'', '"'])
    };
    match text.split_once('=') {
        Some((name, rest)) if is_name(name) => (Some(name), rest.trim_start()),
        _ => (None, text),
    }
}

/// Parses nginx's options, which are named as our servers' options.
fn nginx(text: &str, options: &[String]) -> Result<Kind> {
    let (mut workers, mut reuseport) = (None, false);
    let mut options = options.iter().flat_map(|word| word.splitn(2, '='));
    while let Some(option) = options.next() {
        match option {
            "--reuseport" => reuseport = true,
            "--workers" => {
                let count = options.next().and_then(|word| word.parse().ok()).filter(|&n| n > 0);
                workers = Some(count.with_context(|| {
                    format!("'{text}': --workers needs a number from 1 to {}", u16::MAX)
                })?);
            }
            other => bail!(
                "'{text}' has the option '{other}'; nginx takes --workers N and --reuseport here, \
                 and anything else through a configuration of yours: cmd:nginx -c ..."
            ),
        }
    }
    Ok(Kind::Nginx { workers, reuseport })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_taken_apart() {
        use Strategy::*;
        let words = |words: &str| words.split('|').map(str::to_owned).collect();
        let ours = |strategy, options| Kind::Ours { strategy, options: words(options) };
        let command = |text| Kind::Command { words: words(text) };
        let running = |url: &str| Kind::Running { url: url.into() };
        let nginx = |workers, reuseport| Kind::Nginx { workers, reuseport };
        for (text, expected) in [
            ("shared --exec --scoreboard 'a b'", ours(Shared, "--exec|--scoreboard|a b")),
            ("a=reuseport --workers=4", ours(Reuseport, "--workers=4")),
            ("cmd:gunicorn -b {host}:{port} 'a b'", command("gunicorn|-b|{host}:{port}|a b")),
            ("x=cmd:serve --port={port}", command("serve|--port={port}")),
            ("http://localhost:80/a?b=c", running("http://localhost:80/a?b=c")),
            ("there=http://h:1", running("http://h:1")),
            ("nginx", nginx(None, false)),
            ("n=nginx --reuseport --workers 3", nginx(Some(3), true)),
        ] {
            assert_eq!(Spec::parse(text).unwrap().kind, expected, "{text}");
        }
    }

    #[test]
    fn a_server_is_called_by_its_name_or_by_what_it_is() {
        for (text, name, rest) in [
            ("four=reuseport --workers=4", "four", "reuseport --workers=4"),
            ("'a b'=shared", "a b", "shared"),
            (" shared --workers=4 ", "shared --workers=4", "shared --workers=4"),
            ("cmd:/usr/bin/puma -p {port}", "puma", "cmd:/usr/bin/puma -p {port}"),
            ("g=cmd:gunicorn {port}", "g", "cmd:gunicorn {port}"),
            ("http://h:1/", "http://h:1/", "http://h:1/"),
        ] {
            let spec = Spec::parse(text).unwrap();
            assert_eq!((&*spec.display_name(), &*spec.text), (name, rest));
        }
    }

    #[test]
    fn options_that_are_added_come_last_and_only_ours_take_them() {
        let more = ["--workers".to_owned(), "8".to_owned()];
        let spec = Spec::parse("shared --workers 2").unwrap().with_options(&more).unwrap();
        let Kind::Ours { options, .. } = &spec.kind else { panic!("{spec:?}") };
        assert_eq!(options.join(" "), "--workers 2 --workers 8");
        let foreign = Spec::parse("cmd:serve {port}").unwrap();
        assert!(foreign.clone().with_options(&[]).is_ok());
        assert!(foreign.with_options(&more).unwrap_err().to_string().contains("into its command"));
    }

    #[test]
    fn what_is_no_server_is_refused_with_the_remedy() {
        for (bad, reason) in [
            ("", "no name"),
            ("apache", "'apache'"),
            ("a=apache", "'apache'"),
            ("=shared", "'=shared'"),
            ("shared 'x", "quote"),
            ("cmd:", "no name"),
            ("cmd:gunicorn app:app", "{port}"),
            ("https://h/", "http://"),
            ("http://", "'http://': expected http://host:port/path"),
            ("a=http:///x", "expected http://host:port/path"),
            ("nginx --workers 0", "--workers"),
            ("nginx -c x", "'-c'"),
        ] {
            let refusal = Spec::parse(bad).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{bad}: {refusal}");
        }
    }
}
