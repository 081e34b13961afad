//! A server to be measured: it can be started any number of times, with four workers.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::probe::connection::Connection;
use crate::server::foreign::free_address;
use crate::server::{Kind, Server, Spec};
use crate::servers::catalogue::{Program, Setting, WORKERS};
use crate::servers::install::{Installed, Place};

/// The number of first connections, and how long the server may take to notice that they were closed.
const FIRST: usize = 4 * WORKERS;
const IDLE_WITHIN: Duration = Duration::from_secs(2);

/// A server, and what is known of it before the start.
pub struct Subject {
    /// Its name in tables.
    pub name: String,
    /// Its version, if it is known.
    pub version: Option<String>,
    /// How many blocking handlers a worker runs at a time; `None` if the server runs none of our code.
    pub at_once: Option<usize>,
    /// Whether its workers are threads of one process.
    pub has_threads: bool,
    /// Signals given by the user, such as `reload=USR2`.
    pub signals: Vec<String>,
    start: Start,
}

#[derive(Debug)]
enum Start {
    /// A server as on the command line; our servers also get these options.
    Spec(Spec, Vec<String>),
    /// A command that may read a file: both with placeholders.
    Installed { words: Vec<String>, file: Option<String> },
}

impl Subject {
    /// What is measured: samples of the same name may be of another command, signals or version.
    pub fn identity(&self) -> String {
        format!("{} {:?} {:?} {:?}", self.name, self.version, self.signals, self.start)
    }

    /// A server from the command line: `NAME=cmd:COMMAND`.
    pub fn given(spec: Spec, signals: &[String]) -> Self {
        Self {
            name: spec.display_name(),
            version: None,
            at_once: None,
            has_threads: false,
            signals: signals.to_vec(),
            start: Start::Spec(spec, Vec::new()),
        }
    }

    /// One of our servers.
    /// Fails when the catalogue is wrong.
    pub fn ours(program: &Program, setting: &Setting) -> Result<Self> {
        let options = ["--lab", "--workers", &WORKERS.to_string()].map(str::to_owned);
        let start = Start::Spec(Spec::parse(setting.command)?, options.into());
        Ok(Self::of(program, setting, None, start))
    }

    /// An installed server.
    /// Fails when the catalogue is wrong.
    pub fn installed(
        program: &Program,
        setting: &Setting,
        installed: &Installed,
        place: &Place,
    ) -> Result<Self> {
        let user = if nix::unistd::getuid().is_root() { "www-data" } else { "nobody" };
        let fill = |text: &str| {
            text.replace("{program}", &installed.file.display().to_string())
                .replace("{python}", &place.python().display().to_string())
                .replace("{workers}", &WORKERS.to_string())
                .replace("{apps}", &place.apps().display().to_string())
                .replace("{root}", &installed.root.display().to_string())
                .replace("{user}", user)
                .replace("{setting}", setting.setting)
        };
        let words = shlex::split(setting.command).context("a quote that is not closed")?;
        let words = installed.prefix.iter().cloned().chain(words.iter().map(|it| fill(it)));
        let start = Start::Installed { words: words.collect(), file: setting.file.map(fill) };
        Ok(Self::of(program, setting, installed.version.clone(), start))
    }

    fn of(program: &Program, setting: &Setting, version: Option<String>, start: Start) -> Self {
        Self {
            name: setting.name.into(),
            version,
            at_once: setting.at_once,
            has_threads: program.has_threads,
            signals: Vec::new(),
            start,
        }
    }

    /// The path that blocks a worker for this long, if it runs our code; otherwise the front page.
    pub fn path_that_blocks(&self, microseconds: u64) -> String {
        self.at_once.map_or_else(|| "/".into(), |_| format!("/block/{microseconds}"))
    }

    /// The path that answers with the pid of the worker, if there is one; otherwise the front page.
    pub fn path_that_tells(&self) -> &'static str {
        let is_ours = matches!(&self.start, Start::Spec(..));
        if self.at_once.is_some() && !is_ours { "/pid" } else { "/" }
    }

    /// Starts the server on a free port, and waits until it serves. Some connections are opened and closed
    /// again: if only the parent accepts, its workers are known only once they have connections.
    pub fn start(&self) -> Result<Server> {
        let mut server = self.start_on(None)?;
        drop(meet(&mut server));
        server.wait_until_idle(IDLE_WITHIN);
        Ok(server)
    }

    /// Starts the server on this address, which may be another server's.
    pub fn start_on(&self, address: Option<SocketAddr>) -> Result<Server> {
        let mut server = match &self.start {
            Start::Spec(spec @ Spec { kind: Kind::Ours { .. }, .. }, options) => {
                let port = address.map(|it| ["--port".to_owned(), it.port().to_string()]);
                let port = port.into_iter().flatten();
                Server::start(spec, &options.iter().cloned().chain(port).collect::<Vec<_>>())?
            }
            Start::Spec(spec, _) => match address {
                Some(address) => Server::start_at(spec, address, None)?,
                None => Server::start(spec, &[])?,
            },
            Start::Installed { words, file } => {
                let address = address.map_or_else(free_address, Ok)?;
                let (folder, conf) = lay_out(file.as_deref(), address)?;
                let [folder_text, conf] = [folder.path(), &conf].map(|it| it.display().to_string());
                let fill =
                    |word: &String| word.replace("{conf}", &conf).replace("{folder}", &folder_text);
                let words = words.iter().map(fill).collect();
                let (name, text) = (Some(self.name.clone()), self.name.clone());
                let spec = Spec { name, text, kind: Kind::Command { words } };
                Server::start_at(&spec, address, Some(folder))?
            }
        };
        self.signals.iter().try_for_each(|told| server.signals.set(told))?;
        Ok(server)
    }
}

/// Opens some connections to a server, and looks which workers have them. If the server does not answer,
/// the next request finds that.
pub fn meet(server: &mut Server) -> Vec<Connection> {
    let ask = |_| Some(Connection::served(server.address(), "/").ok()?.0);
    let opened = (0..FIRST).map_while(ask).collect();
    server.held();
    opened
}

/// A folder that any user may read, with a front page and the server's configuration file.
fn lay_out(file: Option<&str>, address: SocketAddr) -> Result<(TempDir, PathBuf)> {
    let make = || -> Result<(TempDir, PathBuf)> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        std::fs::write(folder.path().join("index.html"), "hello")?;
        let conf = folder.path().join("conf");
        let text = file.unwrap_or_default();
        let text = text
            .replace("{host}", &address.ip().to_string())
            .replace("{port}", &address.port().to_string())
            .replace("{folder}", &folder.path().display().to_string());
        std::fs::write(&conf, text)?;
        Ok((folder, conf))
    };
    make().context("cannot create a folder for a server; check the space in the folder TMPDIR")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::catalogue::CATALOGUE;

    #[test]
    fn the_places_in_commands_and_files_are_filled_and_those_of_the_address_wait() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path()).unwrap();
        let installed = Installed {
            prefix: vec!["/usr/bin/env".into()],
            file: "/x/unicorn".into(),
            root: "/x".into(),
            version: Some("6.0.0".into()),
        };
        let program = CATALOGUE.iter().find(|program| program.name == "unicorn").unwrap();
        let own = &program.settings[1];
        let subject = Subject::installed(program, own, &installed, &place).unwrap();
        let Start::Installed { words, file } = &subject.start else { panic!() };
        assert_eq!(words[..5].join(" "), "/usr/bin/env /x/unicorn -E none -c");
        let (laid, conf) = lay_out(file.as_deref(), ([127, 0, 0, 1], 81).into()).unwrap();
        let text = std::fs::read_to_string(&conf).unwrap();
        assert_eq!(text, "worker_processes 4\nlisten '127.0.0.1:81', reuseport: true\n");
        assert_eq!(std::fs::read_to_string(laid.path().join("index.html")).unwrap(), "hello");
        assert_eq!(
            (subject.path_that_tells(), &*subject.path_that_blocks(7)),
            ("/pid", "/block/7")
        );
    }
}
