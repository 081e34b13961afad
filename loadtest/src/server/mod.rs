//! A server under test of any kind: start it, wait until it serves, see what its workers do, stop it.
//!
//! - [`spec`]: what the command line says it is;
//! - [`process`]: a program that was started and must not outlive this one;
//! - [`ours`]: this repository's servers, which tell of themselves on a scoreboard;
//! - [`nginx`]: nginx with a configuration made for it;
//! - [`telemetry`]: what workers did, whoever told it.

pub mod nginx;
mod ours;
pub mod process;
pub mod spec;
pub mod subject;
pub mod telemetry;

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use common::scoreboard::{Scoreboard, State};
use nix::sys::signal::Signal;
use procfs::process::Process;

use crate::server::ours::{Ours, reason};
pub use crate::server::spec::{Kind, Spec, Strategy};
pub use crate::server::telemetry::Readings;
use crate::warnings::Warning;

/// A server that runs. Dropping it ends it, if it was started here.
pub struct Server {
    name: String,
    subject: Ours,
}

impl Server {
    /// Starts a server and waits until it serves. `extra` are options that all subjects of an
    /// experiment have in common; they come before the spec's own, which so win, and servers that are
    /// not ours get none of them.
    ///
    /// # Errors
    /// When it does not serve in time, with the server's own reason.
    pub fn start(spec: &Spec, extra: &[String]) -> Result<Self> {
        match &spec.kind {
            Kind::Ours { strategy, options } => {
                let subject = Ours::start(*strategy, &[extra, &options[..]].concat())?;
                Ok(Self { name: strategy.program().into(), subject })
            }
            _ => bail!("'{}' cannot be started here yet", spec.text),
        }
    }

    /// Starts shared-fd-server on a socket that listens already, as systemd would.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_on(listener: OwnedFd, options: &[String]) -> Result<Self> {
        let name = Strategy::Shared.program().into();
        Ok(Self { name, subject: Ours::start_on(listener, options)? })
    }

    /// Starts one of ours as another user, whose group has the same number.
    ///
    /// # Errors
    /// When this program may not become that user, and as for [`start`](Self::start).
    pub fn start_as(user: u32, strategy: Strategy, options: &[String]) -> Result<Self> {
        let name = strategy.program().into();
        Ok(Self { name, subject: Ours::start_as(user, strategy, options)? })
    }

    /// What messages call it: its program.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is none of ours: it has no scoreboard, and what its workers do is told by the kernel.
    pub fn is_foreign(&self) -> bool {
        self.scoreboard().is_none()
    }

    /// What it tells of itself, if it is one of ours.
    pub fn scoreboard(&self) -> Option<&Scoreboard> {
        Some(&self.subject.scoreboard)
    }

    /// Where to reach it from this machine. A server on all addresses is reached on the loopback.
    pub fn address(&self) -> SocketAddr {
        let mut address = self.subject.scoreboard.address();
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        address
    }

    /// The URL of a path of it. A server that runs already and was named with a path of its own keeps
    /// that where `path` is `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// Its workers' process ids. Of a server that is not ours: those that were seen to accept.
    pub fn worker_pids(&mut self) -> Vec<u32> {
        self.subject.scoreboard.workers().filter_map(|(_, slot)| slot.pid()).collect()
    }

    /// Its workers' process ids, each with the inode of the socket that it accepts from.
    pub fn sockets(&self) -> Vec<(u32, u64)> {
        let workers = self.subject.scoreboard.workers();
        workers
            .filter_map(|(_, slot)| Some((slot.pid()?, slot.socket_inode.load(Relaxed))))
            .collect()
    }

    /// Its workers that serve, those first that have done most: to do something to a worker that
    /// nobody asks, as the newest may be, would show nothing.
    ///
    /// Those of other servers are left out, with which it may share its scoreboard (--join).
    pub fn busiest(&mut self) -> Vec<u32> {
        let workers = self.subject.scoreboard.workers();
        let mut found: Vec<(u64, u32)> = workers
            .filter(|(_, slot)| slot.state() == State::Serving)
            .filter_map(|(_, slot)| Some((slot.requests.load(Relaxed), slot.pid()?)))
            .filter(|&(_, pid)| self.is_parent_of(pid))
            .collect();
        found.sort_by_key(|&(requests, _)| Reverse(requests));
        found.into_iter().map(|(_, pid)| pid).collect()
    }

    /// Whether a process is a worker of its own.
    pub fn is_parent_of(&self, pid: u32) -> bool {
        let stat = Process::new(pid as i32).and_then(|process| process.stat());
        stat.is_ok_and(|stat| Some(stat.ppid as u32) == self.pid())
    }

    /// The process id of the parent; none of a server that was not started here.
    pub fn pid(&self) -> Option<u32> {
        Some(self.subject.child.pid())
    }

    /// Sends a signal to the parent.
    pub fn signal(&self, signal: Signal) {
        self.subject.child.signal(signal);
    }

    /// Whether the parent is gone.
    pub fn has_ended(&mut self) -> bool {
        // An error means that there is nobody to wait for.
        self.subject.child.ended().map_or(true, |status| status.is_some())
    }

    /// Requests that all its workers have answered since the start, by their own count.
    pub fn requests(&self) -> Option<u64> {
        Some(self.scoreboard()?.total_requests())
    }

    /// Connections that each worker has accepted since its start, in the workers' order.
    pub fn accepted(&self) -> Vec<u64> {
        let slots = self.subject.scoreboard.workers().map(|(_, slot)| slot);
        slots.map(|slot| slot.connections_accepted.load(Relaxed)).collect()
    }

    /// Waits until none of its workers has a connection open, for so long at most.
    pub fn wait_until_idle(&mut self, limit: Duration) {
        let Ours { child, scoreboard } = &mut self.subject;
        let idle = || scoreboard.workers().all(|(_, s)| s.connections_open.load(Relaxed) == 0);
        // It cannot fail: nothing is asked that could.
        let _ = child.wait_for(limit, |_| Ok(idle().then_some(())));
    }

    /// Reads every worker's counters.
    ///
    /// # Errors
    /// When a worker has just died.
    pub fn read(&mut self) -> Result<Readings> {
        self.subject.read()
    }

    /// To be called every few milliseconds while a load runs: fails when the server, or one of the
    /// workers that were there before, is gone.
    pub fn check_alive(&mut self, before: &Readings) -> Result<()> {
        let program = &self.name;
        let child = &mut self.subject.child;
        if let Some(status) = child.ended()? {
            bail!("{program} ended during the run ({status}): {}", reason(child));
        }
        for (index, pid) in before.workers() {
            ensure!(
                self.subject.has(index, pid),
                "worker {index} (pid {pid}) of {program} died during the run: {}",
                reason(&self.subject.child)
            );
        }
        Ok(())
    }

    /// What it warned of in its log.
    pub fn warnings(&self) -> Vec<Warning> {
        let server = |text| Warning::Server { program: self.name.clone(), text };
        self.subject.warnings().into_iter().map(server).collect()
    }

    /// Stops it. Gives what was wrong if it did not end as it should.
    pub fn stop(mut self) -> Result<Option<String>> {
        self.end()
    }

    /// The same, of a server whose counts are still to be read: they are whole only now.
    pub fn end(&mut self) -> Result<Option<String>> {
        let child = &mut self.subject.child;
        let status = child.stop()?;
        Ok((!status.success()).then(|| format!("{status}: {}", reason(child))))
    }
}
