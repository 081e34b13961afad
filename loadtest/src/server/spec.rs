//! A server that takes its turn in an experiment with several: one of ours, or nginx.

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::load::Load;
use crate::load::perf::Meter;
use crate::load::wrk::{Measured, Moment, Wrk};
use crate::measure::cost::CostRun;
use crate::measure::cross_check::{check_answered, check_count};
use crate::server::nginx::Nginx;
use crate::server::{Readings, Server, Strategy};

/// A server as the command line asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The name it is given, if it is.
    pub name: Option<String>,
    /// The server with its options, less that name.
    pub server: String,
    /// Which server.
    pub strategy: Strategy,
    /// Its options.
    pub options: Vec<String>,
}

/// Takes a quoted `shared --exec`, or `name=shared --exec`, apart, as a shell would.
///
/// # Errors
/// When it does not begin with a server's name, or a quote is not closed.
pub fn parse(text: &str) -> Result<Asked> {
    let words = shlex::split(text)
        .with_context(|| format!("the server '{text}' has a quote that is not closed"))?;
    let Some((first, options)) = words.split_first() else {
        bail!("the server '{text}' has no name; begin with shared or reuseport")
    };
    let (name, word) = match first.split_once('=') {
        Some((name, word)) if !name.is_empty() => (Some(name.to_owned()), word),
        _ => (None, first.as_str()),
    };
    let Ok(strategy) = Strategy::from_str(word, false) else {
        bail!("'{text}' begins with '{word}', which is no server; begin with shared or reuseport")
    };
    let server = text.trim_start();
    let server = name.as_ref().map_or(server, |name| {
        server.strip_prefix(&format!("{name}=")).unwrap_or(server) // a quoted name stays as it is
    });
    Ok(Asked { name, server: server.trim().into(), strategy, options: options.to_vec() })
}

/// A server that takes its turn.
pub struct Subject {
    /// What it is called, with its options.
    pub name: String,
    /// Whose server it is; nginx is nobody's.
    pub strategy: Option<Strategy>,
    url: String,
    pids: Vec<u32>,
    running: Running,
}

enum Running {
    Server(Server, Readings),
    Nginx(Nginx),
}

impl Subject {
    /// Starts one of our servers. `asked` is the server with its options, as [`parse`] took it
    /// apart; they come after those that all have in common, and so win.
    pub fn server(name: &str, asked: &Asked, workers: u16) -> Result<Self> {
        let mut options = vec!["--workers".to_owned(), workers.to_string()];
        options.extend_from_slice(&asked.options);
        let server = Server::start(asked.strategy, &options)?;
        let readings = server.read()?;
        Ok(Self {
            name: name.into(),
            strategy: Some(asked.strategy),
            url: format!("http://{}/", server.address()),
            pids: server.pids(),
            running: Running::Server(server, readings),
        })
    }

    /// Takes in the yardstick.
    pub fn nginx(name: &str, nginx: Nginx) -> Self {
        Self {
            name: name.into(),
            strategy: None,
            url: format!("http://{}/", nginx.address),
            pids: nginx.pids.clone(),
            running: Running::Nginx(nginx),
        }
    }

    /// One run of wrk, and what it cost.
    ///
    /// # Errors
    /// When it dies, nothing is answered, or wrk and the server count differently.
    pub fn measure(
        &mut self,
        meter: &Meter,
        wrk: &Wrk,
        load: &Load,
        mut look: impl FnMut(Moment) -> Result<()>,
    ) -> Result<(CostRun, Measured)> {
        let before = self.requests();
        let running = &mut self.running;
        let (measured, spent) = meter.measure(&self.pids, wrk, load, &self.url, |now| {
            look(now)?;
            match running {
                Running::Server(server, readings) => server.check_alive(readings),
                Running::Nginx(nginx) => nginx.check_alive(),
            }
        })?;
        check_answered(&measured)?;
        if let (Some(before), Some(after)) = (before, self.requests()) {
            check_count(load, &measured, after.saturating_sub(before))?;
        }
        let requests = measured.requests;
        let each = |spent: f64| spent / requests as f64;
        let run = CostRun {
            requests,
            user: each(spent.user),
            system: each(spent.system),
            total: each(spent.total),
        };
        Ok((run, measured))
    }

    /// Requests answered by its own count, if it has one.
    fn requests(&self) -> Option<u64> {
        match &self.running {
            Running::Server(server, _) => Some(server.requests()),
            Running::Nginx(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_server_is_taken_apart() {
        let asked = parse("shared --exec --scoreboard 'a b'").unwrap();
        assert_eq!(asked.strategy, Strategy::Shared);
        assert_eq!(asked.options, ["--exec", "--scoreboard", "a b"]);
        assert_eq!((asked.name, &*asked.server), (None, "shared --exec --scoreboard 'a b'"));
        let named = parse("four=reuseport --workers=4").unwrap();
        assert_eq!(
            (named.name.as_deref(), &*named.server),
            (Some("four"), "reuseport --workers=4")
        );
        for (bad, reason) in [
            ("", "no name"),
            ("nginx", "'nginx'"),
            ("a=nginx", "'nginx'"),
            ("=shared", "'=shared'"),
            ("shared 'x", "quote"),
        ] {
            assert!(parse(bad).unwrap_err().to_string().contains(reason), "{bad}");
        }
    }
}
