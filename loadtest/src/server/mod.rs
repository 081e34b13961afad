//! A server under test of any kind: start it, wait until it serves, see what its workers do, stop it.
//!
//! - [`spec`]: what the command line says it is;
//! - [`process`]: a program that was started and must not outlive this one;
//! - [`ours`]: this repository's servers, which tell of themselves on a scoreboard;
//! - [`foreign`]: any other command, of which the kernel tells; [`nginx`]: such a one with a
//!   configuration made for it; [`running`]: a server that somebody else started;
//! - [`workers`]: who of a foreign server's processes serves;
//! - [`telemetry`]: what workers did, whoever told it;
//! - [`signals`]: which signal makes a parent do what.

mod foreign;
pub mod nginx;
mod ours;
pub mod process;
mod running;
pub mod signals;
pub mod spec;
pub mod telemetry;
mod workers;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use common::scoreboard::Scoreboard;
use nix::sys::signal::Signal;

use crate::kernel::{family, sock_diag};
use crate::server::foreign::Foreign;
use crate::server::ours::Ours;
use crate::server::process::Child;
use crate::server::running::Running;
use crate::server::signals::{OURS, Signals};
pub use crate::server::spec::{Kind, Spec, Strategy};
pub use crate::server::telemetry::Readings;
use crate::warnings::Warning;

/// A server that runs. Dropping it ends it, if it was started here.
pub struct Server {
    name: String,
    subject: Subject,
    signals: Signals,
}

enum Subject {
    Ours(Ours),
    Foreign(Foreign),
    Running(Running),
}

impl Server {
    /// Starts a server and waits until it serves. `extra` are options that all subjects of an
    /// experiment have in common; they come before the spec's own, which so win. Servers that are not
    /// ours get none of them, but nginx its `--workers`.
    ///
    /// # Errors
    /// When it does not serve in time, with the server's own reason.
    pub fn start(spec: &Spec, extra: &[String]) -> Result<Self> {
        let name = spec.display_name();
        let subject = match &spec.kind {
            Kind::Ours { strategy, options } => {
                let ours = Ours::start(*strategy, &[extra, &options[..]].concat())?;
                return Ok(Self::ours(*strategy, ours));
            }
            Kind::Command { words } => {
                let address = foreign::free_address()?;
                Subject::Foreign(Foreign::start(&name, words, address, None)?)
            }
            Kind::Nginx { workers, reuseport } => {
                let option =
                    |pair: &[String]| pair[1].parse().ok().filter(|_| pair[0] == "--workers");
                let workers = workers.or_else(|| extra.windows(2).rev().find_map(option));
                let cpus = || available_parallelism().map_or(1, |cpus| cpus.get() as u16);
                Subject::Foreign(nginx::start(workers.unwrap_or_else(cpus), *reuseport)?)
            }
            Kind::Running { url } => Subject::Running(Running::find(url)?),
        };
        Ok(Self { name, subject, signals: Signals::of_spec(spec) })
    }

    /// Starts shared-fd-server on a socket that listens already, as systemd would.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_on(listener: OwnedFd, options: &[String]) -> Result<Self> {
        Ok(Self::ours(Strategy::Shared, Ours::start_on(listener, options)?))
    }

    /// Starts one of ours as another user, whose group has the same number.
    ///
    /// # Errors
    /// When this program may not become that user, and as for [`start`](Self::start).
    pub fn start_as(user: u32, strategy: Strategy, options: &[String]) -> Result<Self> {
        Ok(Self::ours(strategy, Ours::start_as(user, strategy, options)?))
    }

    fn ours(strategy: Strategy, ours: Ours) -> Self {
        let signals = Signals::of(OURS);
        Self { name: strategy.program().into(), subject: Subject::Ours(ours), signals }
    }

    /// Which signal makes its parent do what.
    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Takes over what the user says of that.
    pub fn set_signals(&mut self, signals: Signals) {
        self.signals = signals;
    }

    /// What messages call it: our program, or the name in the spec.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is none of ours: it has no scoreboard, and what its workers do is told by the kernel.
    pub fn is_foreign(&self) -> bool {
        self.scoreboard().is_none()
    }

    /// What it tells of itself, if it is one of ours.
    pub fn scoreboard(&self) -> Option<&Scoreboard> {
        match &self.subject {
            Subject::Ours(ours) => Some(&ours.scoreboard),
            _ => None,
        }
    }

    fn child(&self) -> Option<&Child> {
        match &self.subject {
            Subject::Ours(ours) => Some(&ours.child),
            Subject::Foreign(foreign) => Some(&foreign.child),
            Subject::Running(_) => None,
        }
    }

    fn child_mut(&mut self) -> Option<&mut Child> {
        match &mut self.subject {
            Subject::Ours(ours) => Some(&mut ours.child),
            Subject::Foreign(foreign) => Some(&mut foreign.child),
            Subject::Running(_) => None,
        }
    }

    /// Where to reach it from this machine. A server on all addresses is reached on the loopback.
    pub fn address(&self) -> SocketAddr {
        let mut address = match &self.subject {
            Subject::Ours(ours) => ours.scoreboard.address(),
            Subject::Foreign(foreign) => foreign.address,
            Subject::Running(running) => running.address,
        };
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        address
    }

    /// The URL of a path of it. A server that runs already keeps the path that it was named with
    /// where `path` is `/`.
    pub fn url(&self, path: &str) -> String {
        match &self.subject {
            Subject::Running(running) => running.url(path),
            _ => format!("http://{}{path}", self.address()),
        }
    }

    /// Its workers' process ids. Of a server that is not ours: of those that were seen to serve.
    pub fn worker_pids(&mut self) -> Vec<u32> {
        match &mut self.subject {
            Subject::Ours(ours) => ours.pids(),
            Subject::Foreign(foreign) => foreign.look().pids(),
            Subject::Running(_) => Vec::new(),
        }
    }

    /// Its workers' process ids, each with the inode of the socket that it accepts from.
    pub fn sockets(&self) -> Vec<(u32, u64)> {
        match &self.subject {
            Subject::Ours(ours) => ours.sockets(),
            Subject::Foreign(foreign) => foreign.workers.sockets(),
            Subject::Running(_) => Vec::new(),
        }
    }

    /// Its workers that serve, those first that have done most, or have most connections: to do
    /// something to a worker that nobody asks, as the newest may be, would show nothing.
    ///
    /// Those of other servers are left out, with which it may share its scoreboard (--join).
    pub fn busiest(&mut self) -> Vec<u32> {
        match &mut self.subject {
            Subject::Ours(ours) => ours.busiest(),
            Subject::Foreign(foreign) => foreign.look().busiest(),
            Subject::Running(_) => Vec::new(),
        }
    }

    /// Whether a process is a worker of its own, and not its parent itself. Workers of others may share
    /// a scoreboard with its own.
    pub fn is_parent_of(&self, pid: u32) -> bool {
        match &self.subject {
            Subject::Ours(ours) => family::parent(pid) == Some(ours.child.pid()),
            _ => self.pid() != Some(pid),
        }
    }

    /// The process id of the parent; none of a server that was not started here.
    pub fn pid(&self) -> Option<u32> {
        self.child().map(Child::pid)
    }

    /// Sends a signal to the parent.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = self.child() {
            child.signal(signal);
        }
    }

    /// Whether the parent is gone.
    pub fn has_ended(&mut self) -> bool {
        // An error means that there is nobody to wait for.
        let ended = |child: &mut Child| child.ended().map_or(true, |status| status.is_some());
        self.child_mut().is_some_and(ended)
    }

    /// Requests that all its workers have answered since the start, by their own count.
    pub fn requests(&self) -> Option<u64> {
        Some(self.scoreboard()?.total_requests())
    }

    /// Connections that each worker has accepted since its start, in the workers' order; none where
    /// nobody counts them.
    pub fn accepted(&self) -> Vec<u64> {
        match &self.subject {
            Subject::Ours(ours) => ours.accepted(),
            _ => Vec::new(),
        }
    }

    /// Waits until none of its workers has a connection open, for so long at most.
    pub fn wait_until_idle(&mut self, limit: Duration) {
        // It cannot fail: nothing is asked that could.
        let _ = match &mut self.subject {
            Subject::Ours(Ours { child, scoreboard }) => {
                child.wait_for(limit, |_| Ok(ours::is_idle(scoreboard).then_some(())))
            }
            Subject::Foreign(Foreign { child, address, .. }) => child.wait_for(limit, |_| {
                let open = sock_diag::connections(address.port()).unwrap_or_default();
                Ok(open.is_empty().then_some(()))
            }),
            Subject::Running(_) => return,
        };
    }

    /// Reads every worker's counters.
    ///
    /// # Errors
    /// When a worker has just died.
    pub fn read(&mut self) -> Result<Readings> {
        match &mut self.subject {
            Subject::Ours(ours) => ours.read(),
            Subject::Foreign(foreign) => foreign.read(),
            Subject::Running(_) => Ok(Readings::default()),
        }
    }

    /// To be called every few milliseconds while a load runs: fails when the server, or one of the
    /// workers that were there before, is gone. A foreign server's connections are sampled here.
    pub fn check_alive(&mut self, before: &Readings) -> Result<()> {
        if let Some(status) = self.child_mut().map(Child::ended).transpose()?.flatten() {
            bail!("{} ended during the run ({status}): {}", self.name, self.reason());
        }
        self.sample()?;
        for (index, pid) in before.workers() {
            let there = match &self.subject {
                Subject::Ours(ours) => ours.has(index, pid),
                Subject::Foreign(foreign) => foreign.workers.has(pid),
                Subject::Running(_) => true,
            };
            let name = &self.name;
            ensure!(
                there,
                "worker {index} (pid {pid}) of {name} died during the run: {}",
                self.reason()
            );
        }
        Ok(())
    }

    /// To be called every few milliseconds while a load runs that workers may die of: looks at a foreign
    /// server's processes when it is time to.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn sample(&mut self) -> Result<()> {
        match &mut self.subject {
            Subject::Foreign(foreign) => foreign.sample(),
            _ => Ok(()),
        }
    }

    /// Why it ended, or what it said last, in its own words.
    fn reason(&self) -> String {
        match &self.subject {
            Subject::Ours(ours) => ours::reason(&ours.child),
            Subject::Foreign(foreign) => foreign::output(&foreign.child),
            Subject::Running(_) => String::new(),
        }
    }

    /// What a reader should know of it: what ours warned of in its log; how much can be seen of others.
    pub fn warnings(&self) -> Vec<Warning> {
        let who = || self.name.clone();
        match &self.subject {
            Subject::Ours(ours) => {
                let server = |text| Warning::Server { program: who(), text };
                ours.warnings().into_iter().map(server).collect()
            }
            Subject::Foreign(Foreign { workers, .. }) => match workers.children_of_an_acceptor() {
                0 if workers.pids().is_empty() => {
                    let reason = workers.hidden().unwrap_or("none waits for the listening socket");
                    vec![Warning::CannotSeeWorkers { who: who(), reason: reason.into() }]
                }
                0 => vec![Warning::KernelView { who: who() }],
                children => vec![Warning::OnlyParentAccepts { who: who(), children }],
            },
            Subject::Running(_) => Vec::new(),
        }
    }

    /// Stops it. Gives what was wrong if it did not end as it should.
    pub fn stop(mut self) -> Result<Option<String>> {
        self.end()
    }

    /// The same, of a server whose counts are still to be read: they are whole only now. With which
    /// status a foreign server ends when it is told to is its own affair.
    pub fn end(&mut self) -> Result<Option<String>> {
        let status = match &mut self.subject {
            Subject::Ours(ours) => ours.child.stop()?,
            Subject::Foreign(foreign) => {
                foreign.child.stop_group()?;
                return Ok(None);
            }
            Subject::Running(_) => return Ok(None),
        };
        Ok((!status.success()).then(|| format!("{status}: {}", self.reason())))
    }
}
