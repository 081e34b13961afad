//! A server under test, of any kind: starts it, waits until it serves, watches its workers, stops it.
//!
//! - [`spec`]: how the command line names it;
//! - [`process`]: a child process that must not outlive this program;
//! - [`ours`]: this repository's servers, which have a scoreboard;
//! - [`foreign`]: any other command, seen through the kernel; [`nginx`]: a configuration for nginx;
//! - [`workers`]: the workers of a foreign server, and what each does;
//! - [`telemetry`]: what workers did, from either source;
//! - [`signals`]: actions on a server, and the signals for them.

pub mod foreign;
pub mod nginx;
pub mod ours;
pub mod process;
pub mod signals;
pub mod spec;
pub mod telemetry;
mod url;
mod workers;

use std::iter;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use common::scoreboard::Scoreboard;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::kernel::procfs::Running;
use crate::server::process::Child;
use crate::server::signals::Signals;
pub use crate::server::spec::{Kind, Spec, Strategy};
pub use crate::server::telemetry::Readings;
use crate::server::telemetry::{Role, WorkerUsage};
use crate::server::workers::Workers;
use crate::warnings::Warning;
use common::kernel::sock_diag;

/// How long a server that runs already may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A running server. Dropping it ends the server, if it was started here.
pub struct Server {
    /// `None` if it was not started here.
    child: Option<Child>,
    view: View,
    address: SocketAddr,
    /// The host and path of its URLs, if not its address and the requested path.
    written: Option<(String, String)>,
    /// The signals that its parent understands.
    pub signals: Signals,
    /// Whether its workers changed during a load.
    replaced_workers: bool,
    /// The folder with its files; removed after its end.
    _folder: Option<TempDir>,
}

/// The source of what its workers do.
enum View {
    Scoreboard(Scoreboard),
    /// Empty for a server that was not started here.
    Kernel(Workers),
}

impl Server {
    /// Starts a server and waits until it serves. `extra` are options for all subjects of an experiment;
    /// they come before the spec's own options, which so win. Of these, foreign servers get only
    /// `--workers`, and only nginx.
    /// Fails when it does not serve in time, with the server's own reason.
    pub fn start(spec: &Spec, extra: &[String]) -> Result<Self> {
        let mut server = match &spec.kind {
            Kind::Ours { strategy, options } => {
                ours::start(*strategy, &[extra, &options[..]].concat())?
            }
            Kind::Command { words } => {
                foreign::start(&spec.display_name(), words, foreign::free_address()?)?
            }
            Kind::Nginx { workers, reuseport } => {
                let address = foreign::free_address()?;
                let (words, folder) = nginx::command(*workers, extra, *reuseport, address)?;
                let server = foreign::start(&spec.display_name(), &words, address)?;
                Self { _folder: Some(folder), ..server }
            }
            Kind::Running { url } => Self::running(url)?,
        };
        server.signals = Signals::of_spec(spec);
        Ok(server)
    }

    /// Starts a command, as [`start`](Self::start) does, on an address of the caller's choice, which a
    /// configuration file may name. `folder` is removed after its end.
    pub fn start_at(spec: &Spec, address: SocketAddr, folder: Option<TempDir>) -> Result<Self> {
        let Kind::Command { words } = &spec.kind else { bail!("'{}' is not a command", spec.text) };
        let server = foreign::start(&spec.display_name(), words, address)?;
        Ok(Self { signals: Signals::of_spec(spec), _folder: folder, ..server })
    }

    /// A server that was started and serves. A server on all addresses is reached on the loopback.
    fn started(child: Child, view: View, mut address: SocketAddr) -> Self {
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        Self { child: Some(child), view, ..Self::at(address) }
    }

    fn at(address: SocketAddr) -> Self {
        Self {
            child: None,
            view: View::Kernel(Workers::new(None, address.port())),
            address,
            written: None,
            signals: Signals::default(),
            replaced_workers: false,
            _folder: None,
        }
    }

    /// Checks that a server that runs already accepts connections.
    /// Fails when it does not; with the reason and the remedy.
    pub fn check_reachable(&self) -> Result<()> {
        if self.written.is_some() {
            TcpStream::connect_timeout(&self.address, CONNECT_WITHIN).with_context(|| {
                format!(
                    "nothing can be reached at {}; start that server first, or correct the URL",
                    self.url("/")
                )
            })?;
        }
        Ok(())
    }

    /// Its name in messages: our program's, or the name in the spec.
    pub fn name(&self) -> &str {
        self.child.as_ref().map_or("", Child::name)
    }

    /// Whether it is not one of our servers: it has no scoreboard, and its workers are seen through the kernel.
    pub fn is_foreign(&self) -> bool {
        !matches!(self.view, View::Scoreboard(_))
    }

    /// Its address, as seen from this machine.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path. For a server that runs already, `/` means the path that it was named with.
    pub fn url(&self, path: &str) -> String {
        match &self.written {
            Some((host, own)) => format!("http://{host}{}", if path == "/" { own } else { path }),
            None => format!("http://{}{path}", self.address),
        }
    }

    /// What is known of its processes that take part in an answer; of a foreign server, by the last look.
    fn totals(&self) -> Vec<WorkerUsage> {
        match &self.view {
            View::Scoreboard(board) => ours::totals(board),
            View::Kernel(workers) => workers.totals().collect(),
        }
    }

    /// Looks at a foreign server again, or keeps the last look if the kernel does not answer. Returns the workers: all
    /// that take part, except a parent that only accepts.
    fn workers(&mut self) -> impl Iterator<Item = WorkerUsage> {
        self.look();
        self.totals().into_iter().filter(|worker| worker.role != Role::Acceptor)
    }

    fn look(&mut self) {
        if let View::Kernel(workers) = &mut self.view {
            let _ = workers.look();
        }
    }

    /// Its workers' process ids. Of a foreign server: the processes that were seen to serve.
    pub fn worker_pids(&mut self) -> Vec<u32> {
        self.workers().map(|worker| worker.pid).collect()
    }

    /// The process ids of all processes that take part in an answer, including a parent that accepts for its workers.
    pub fn serving_pids(&mut self) -> Vec<u32> {
        self.look();
        self.totals().into_iter().map(|worker| worker.pid).collect()
    }

    /// Its workers' process ids, each with the inode of the socket that it accepts from.
    pub fn sockets(&self) -> Vec<(u32, u64)> {
        let workers = self.totals().into_iter();
        workers.filter_map(|worker| Some((worker.pid, worker.socket_inode?))).collect()
    }

    /// How many connections each of its workers has open now.
    pub fn held(&mut self) -> Vec<u64> {
        self.workers().map(|worker| worker.held.unwrap_or(0.0) as u64).collect()
    }

    /// Its workers that serve, the busiest first, by requests or connections: a fault of a worker without requests,
    /// as the newest may be, would show nothing.
    ///
    /// Without the workers of other servers that share its scoreboard (--join).
    pub fn busiest(&mut self) -> Vec<u32> {
        self.look();
        let pids = match &self.view {
            View::Scoreboard(board) => ours::busiest(board),
            View::Kernel(workers) => workers.busiest(),
        };
        pids.into_iter().filter(|&pid| self.is_parent_of(pid)).collect()
    }

    /// Finds out which processes are a foreign server's workers, if one process may accept for its children.
    pub fn settle(&mut self) {
        if let View::Kernel(workers) = &mut self.view {
            workers.settle();
        }
    }

    /// Whether a process is one of its own workers: servers may share a scoreboard.
    pub fn is_parent_of(&self, pid: u32) -> bool {
        self.is_foreign() || Running::of(pid).map(|it| it.parent) == self.pid()
    }

    /// The process id of the parent; `None` if it was not started here.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::pid)
    }

    /// Sends a signal to the parent.
    pub fn signal(&self, signal: Signal) {
        self.child.iter().for_each(|child| child.signal(signal));
    }

    /// Whether the parent has ended.
    pub fn has_ended(&mut self) -> bool {
        // An error means that there is no child to wait for.
        self.child.as_mut().is_some_and(|child| !matches!(child.ended(), Ok(None)))
    }

    /// If the parent has ended during the run: how, and why.
    /// Fails when there is no child to wait for.
    pub fn end(&mut self) -> Result<Option<String>> {
        let ended = self.child.as_mut().map(Child::ended).transpose()?.flatten();
        Ok(ended.map(|status| {
            format!("{} ended during the run ({status}): {}", self.name(), self.reason())
        }))
    }

    /// The last lines of its output so far, joined into one.
    pub fn said(&self) -> String {
        self.child.as_ref().map_or_else(String::new, foreign::reason)
    }

    /// How many requests its workers have answered since the start, by their own count.
    pub fn requests(&self) -> Option<u64> {
        let View::Scoreboard(board) = &self.view else { return None };
        Some(board.total_requests())
    }

    /// How many connections each worker has accepted since its start, in the workers' order; empty if that is not
    /// counted.
    pub fn accepted(&self) -> Vec<u64> {
        self.totals().into_iter().filter_map(|worker| worker.connections).collect()
    }

    /// Waits until none of its workers has a connection open, at most this long.
    pub fn wait_until_idle(&mut self, limit: Duration) {
        let Self { child: Some(child), view, address, .. } = self else { return };
        let mut idle = || match view {
            View::Scoreboard(board) => {
                board.workers().all(|(_, slot)| slot.connections_open.load(Relaxed) == 0)
            }
            View::Kernel(_) => {
                sock_diag::connections(address.port()).unwrap_or_default().is_empty()
            }
        };
        // It cannot fail: the check never does.
        let _ = child.wait_for(limit, |_| Ok(idle().then_some(())));
    }

    /// Reads every worker's counters.
    /// Fails when a worker has just died.
    pub fn read(&mut self) -> Result<Readings> {
        let readings = match &mut self.view {
            View::Scoreboard(board) => ours::read(board),
            View::Kernel(workers) => workers.read(),
        };
        // A dead worker is found here first, if its parent has not noticed yet.
        readings.with_context(|| format!("cannot look at a worker of {}", self.name()))
    }

    /// To be called every few milliseconds while a load runs: fails when the server, or one of our servers' workers
    /// that were there before, has ended. Other servers may replace their workers at any time. Samples a foreign
    /// server's connections.
    pub fn check_alive(&mut self, before: &Readings) -> Result<()> {
        if let Some(end) = self.end()? {
            bail!(end);
        }
        self.sample()?;
        let View::Scoreboard(board) = &self.view else { return Ok(()) };
        for (index, pid) in before.workers() {
            let name = self.name();
            // The parent clears the slot of a dead worker. Reading it costs a load from memory; reading /proc for
            // hundreds of workers would disturb the run.
            ensure!(
                board.slot(index).pid() == Some(pid),
                "worker {index} (pid {pid}) of {name} died during the run: {}",
                self.reason()
            );
        }
        Ok(())
    }

    /// What each worker did between two readings. `None` if a foreign server has replaced, added or removed some.
    ///
    /// # Errors
    /// When workers of one of our servers changed.
    pub fn used(
        &mut self,
        before: &Readings,
        after: &Readings,
    ) -> Result<Option<Vec<WorkerUsage>>> {
        match after.since(before) {
            Err(_) if self.is_foreign() => {
                self.replaced_workers = true;
                Ok(None)
            }
            used => used.map(Some),
        }
    }

    /// To be called every few milliseconds while a load runs in which workers may die: samples a foreign server's
    /// processes when that is due.
    /// Fails when the kernel does not answer.
    pub fn sample(&mut self) -> Result<()> {
        let View::Kernel(workers) = &mut self.view else { return Ok(()) };
        workers.sample_if_due()
    }

    /// Why it ended, or its last output.
    fn reason(&self) -> String {
        let reason = if self.is_foreign() { foreign::reason } else { ours::reason };
        self.child.as_ref().map(reason).unwrap_or_default()
    }

    /// Warnings for the reader: those in our servers' logs; what cannot be seen of foreign servers.
    pub fn warnings(&self) -> Vec<Warning> {
        let (Some(child), who) = (&self.child, || self.name().to_owned()) else {
            return Vec::new();
        };
        let View::Kernel(workers) = &self.view else {
            let warning = |text: String| Warning::Server { program: who(), text };
            return ours::warnings(child).into_iter().map(warning).collect();
        };
        let changed = self.replaced_workers.then(|| Warning::WorkersChanged { who: who() });
        let roles: Vec<Role> = workers.totals().map(|worker| worker.role).collect();
        let seen = match roles.iter().filter(|role| **role == Role::Child).count() {
            0 if roles.iter().all(|role| *role == Role::Acceptor) => {
                let reason = workers.hidden();
                let reason = reason.unwrap_or("none waits for the listening socket".into());
                Warning::CannotSeeWorkers { who: who(), reason }
            }
            0 => Warning::KernelView { who: who() },
            children => Warning::OnlyParentAccepts { who: who(), children },
        };
        iter::once(seen).chain(changed).collect()
    }

    /// Stops it; only now its counters are final. Returns what was wrong if it did not end as it should. The exit
    /// status of a foreign server does not matter.
    pub fn stop(&mut self) -> Result<Option<String>> {
        let foreign = self.is_foreign();
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.stop()?;
        Ok((!foreign && !status.success()).then(|| format!("{status}: {}", self.reason())))
    }
}
