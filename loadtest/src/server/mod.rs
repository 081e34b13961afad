//! A server under test: start it, wait until it serves, read its scoreboard, stop it.

pub mod nginx;
pub mod process;
pub mod spec;

use std::cmp::Reverse;
use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use common::scoreboard::{Scoreboard, State};
use nix::sys::signal::Signal;
use procfs::process::Process;

use crate::interrupt;
use crate::kernel::procfs::Usage;
use crate::measure::bench::Worker;
use crate::server::process::Child;

/// How long a server may take until it serves.
const START_WITHIN: Duration = Duration::from_secs(5);

/// The two ways to share a port, each with its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    /// One listening socket for all workers
    Shared,
    /// A listening socket for each worker, with SO_REUSEPORT
    Reuseport,
}

impl Strategy {
    /// As the command line and results name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Reuseport => "reuseport",
        }
    }

    /// The program that does it.
    pub fn program(self) -> &'static str {
        match self {
            Self::Shared => "shared-fd-server",
            Self::Reuseport => "reuseport-server",
        }
    }
}

/// A running server.
pub struct Server {
    program: &'static str,
    child: Child,
    scoreboard: Scoreboard,
}

/// What a worker had counted at some moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    index: usize,
    pid: u32,
    socket_inode: u64,
    connections: u64,
    requests: u64,
    wakeups_without_connection: u64,
    steered: u64,
    migrated: u64,
    gated: u64,
    usage: Usage,
}

/// What a whole server had counted at some moment.
#[derive(Debug)]
pub struct Readings(Vec<Reading>);

impl Server {
    /// Starts a server and waits until all its workers serve. It is asked nothing over HTTP: its
    /// scoreboard says when it is ready, so the wait leaves no trace in what is counted.
    ///
    /// # Errors
    /// When it does not serve within 5 s, with the server's own reason.
    pub fn start(strategy: Strategy, options: &[String]) -> Result<Self> {
        let program = strategy.program();
        let mut command = Command::new(find(program)?);
        // The last of several --port wins, so the user's comes through.
        command.args(["--port", "0"]).args(options);
        Self::from(program, command, Stdio::null())
    }

    /// Starts shared-fd-server with a socket that listens already, as systemd would: descriptor 3,
    /// and the pid that it is meant for (sd_listen_fds(3)). A shell can say which pid it will have as
    /// the server; this program could not, before the server runs.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_on(listener: OwnedFd, options: &[String]) -> Result<Self> {
        let program = Strategy::Shared.program();
        let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(find(program)?).args(options);
        Self::from(program, command, Stdio::from(listener))
    }

    /// Starts a server as another user, whose group has the same number. That user need not be able
    /// to read the folder that this program lies in: it gets a copy.
    ///
    /// # Errors
    /// When this program may not become that user, and as for [`start`](Self::start).
    pub fn start_as(user: u32, strategy: Strategy, options: &[String]) -> Result<Self> {
        let program = strategy.program();
        let no_copy = || format!("cannot copy {program} for another user");
        let folder = tempfile::tempdir().with_context(no_copy)?;
        let readable = Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), readable).with_context(no_copy)?;
        let copy = folder.path().join(program);
        std::fs::copy(find(program)?, &copy).with_context(no_copy)?;
        let mut command = Command::new(copy);
        command.args(["--port", "0"]).args(options).uid(user).gid(user);
        // Once it serves, or has ended, nobody needs the file's name any more.
        Self::from(program, command, Stdio::null())
    }

    fn from(program: &'static str, mut command: Command, input: Stdio) -> Result<Self> {
        // Its log is read here, and shown as part of a line of ours.
        command.env("NO_COLOR", "1");
        let mut child = Child::start_with(program, &mut command, input)?;
        let serves = child.wait_for(START_WITHIN, |child| {
            interrupt::check()?;
            if let Some(status) = child.ended()? {
                bail!("{program} did not start ({status}): {}", reason(child));
            }
            let scoreboard = Scoreboard::of_process(child.pid()).ok();
            Ok(scoreboard.filter(Scoreboard::is_serving))
        })?;
        let Some(scoreboard) = serves else {
            let limit = START_WITHIN.as_secs();
            bail!("{program} did not serve within {limit} s: {}", reason(&child));
        };
        Ok(Self { program, child, scoreboard })
    }

    /// Where to reach it from this machine. A server on all addresses is reached on the loopback.
    pub fn address(&self) -> SocketAddr {
        let mut address = self.scoreboard.address();
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        address
    }

    /// Its workers' process ids.
    pub fn pids(&self) -> Vec<u32> {
        self.scoreboard.workers().filter_map(|(_, slot)| slot.pid()).collect()
    }

    /// Its workers' process ids, each with the inode of the socket that it accepts from.
    pub fn sockets(&self) -> Vec<(u32, u64)> {
        let workers = self.scoreboard.workers();
        workers
            .filter_map(|(_, slot)| Some((slot.pid()?, slot.socket_inode.load(Relaxed))))
            .collect()
    }

    /// Its workers that serve, those first that have answered most: to do something to a worker
    /// that nobody asks, as the newest may be, would show nothing.
    ///
    /// Those of other servers are left out, with which it may share its scoreboard (--join).
    pub fn busiest(&self) -> impl Iterator<Item = u32> {
        let serving = self.scoreboard.workers().filter(|(_, slot)| slot.state() == State::Serving);
        let mut found: Vec<(u64, u32)> = serving
            .filter_map(|(_, slot)| Some((slot.requests.load(Relaxed), slot.pid()?)))
            .collect();
        found.sort_by_key(|&(requests, _)| Reverse(requests));
        found.into_iter().map(|(_, pid)| pid).filter(|&pid| self.is_parent_of(pid))
    }

    /// Whether a process is a worker of its own.
    pub fn is_parent_of(&self, pid: u32) -> bool {
        let stat = Process::new(pid as i32).and_then(|process| process.stat());
        stat.is_ok_and(|stat| stat.ppid == self.child.pid() as i32)
    }

    /// The parent's process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Sends a signal to the parent.
    pub fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Whether the parent is gone.
    pub fn has_ended(&mut self) -> bool {
        // An error means that there is nobody to wait for.
        self.child.ended().map_or(true, |status| status.is_some())
    }

    /// Requests that all its workers have answered since the start.
    pub fn requests(&self) -> u64 {
        self.scoreboard.total_requests()
    }

    /// Connections that each worker has accepted since its start, in the workers' order.
    pub fn accepted(&self) -> Vec<u64> {
        let slots = self.scoreboard.workers().map(|(_, slot)| slot);
        slots.map(|slot| slot.connections_accepted.load(Relaxed)).collect()
    }

    /// What it is.
    pub fn program(&self) -> &'static str {
        self.program
    }

    /// Waits until none of its workers has a connection open, for so long at most.
    pub fn wait_until_idle(&mut self, limit: Duration) {
        let scoreboard = &self.scoreboard;
        let idle = || scoreboard.workers().all(|(_, s)| s.connections_open.load(Relaxed) == 0);
        // It cannot fail: nothing is asked that could.
        let _ = self.child.wait_for(limit, |_| Ok(idle().then_some(())));
    }

    /// Reads every worker's counters.
    pub fn read(&self) -> Result<Readings> {
        let readings = self.scoreboard.workers().filter_map(|(index, slot)| {
            let pid = slot.pid()?;
            Some(Usage::of(pid).map(|usage| Reading {
                index,
                pid,
                socket_inode: slot.socket_inode.load(Relaxed),
                connections: slot.connections_accepted.load(Relaxed),
                requests: slot.requests.load(Relaxed),
                wakeups_without_connection: slot.wakeups_without_connection.load(Relaxed),
                steered: slot.steered.load(Relaxed),
                migrated: slot.migrated.load(Relaxed),
                gated: slot.gated.load(Relaxed),
                usage,
            }))
        });
        let readings = readings.collect::<Result<_>>().map(Readings);
        // A worker that has died is found here first, if its parent has not noticed yet.
        readings.with_context(|| format!("cannot look at a worker of {}", self.program))
    }

    /// Fails when the server, or one of the workers that were there before, is gone.
    pub fn check_alive(&mut self, before: &Readings) -> Result<()> {
        let program = self.program;
        if let Some(status) = self.child.ended()? {
            bail!("{program} ended during the run ({status}): {}", reason(&self.child));
        }
        for Reading { index, pid, .. } in &before.0 {
            // Its parent empties the slot of a worker that has died. Looking there costs a load
            // from memory; looking into /proc for hundreds of workers would disturb the run.
            ensure!(
                self.scoreboard.slot(*index).pid() == Some(*pid),
                "worker {index} (pid {pid}) of {program} died during the run: {}",
                reason(&self.child)
            );
        }
        Ok(())
    }

    /// What it warned of in its log.
    pub fn warnings(&self) -> Vec<String> {
        let errors = self.child.errors();
        errors.lines().filter_map(warning_in).map(str::to_owned).collect()
    }

    /// Stops it. Gives what was wrong if it did not end as it should.
    pub fn stop(mut self) -> Result<Option<String>> {
        self.end()
    }

    /// The same, of a server whose counts are still to be read: they are whole only now.
    pub fn end(&mut self) -> Result<Option<String>> {
        let status = self.child.stop()?;
        Ok((!status.success()).then(|| format!("{status}: {}", reason(&self.child))))
    }
}

impl Readings {
    /// What each worker did from an earlier reading to this one.
    ///
    /// # Errors
    /// When these are not the same workers.
    pub fn since(&self, earlier: &Self) -> Result<Vec<Worker>> {
        let pids = |readings: &Self| readings.0.iter().map(|r| r.pid).collect::<Vec<_>>();
        ensure!(
            pids(self) == pids(earlier),
            "the workers changed during the run: pids {:?} became {:?}",
            pids(earlier),
            pids(self)
        );
        let both = self.0.iter().zip(&earlier.0);
        Ok(both.map(|(now, then)| now.since(then)).collect())
    }
}

impl Readings {
    /// CPU time, and time spent waiting for a core, of all workers since an earlier reading; seconds.
    pub fn spent_since(&self, earlier: &Self) -> (f64, f64) {
        let both = self.0.iter().zip(&earlier.0);
        both.map(|(now, then)| now.usage.since(&then.usage)).fold((0.0, 0.0), |sum, usage| {
            (sum.0 + usage.cpu_seconds(), sum.1 + usage.wait_nanoseconds as f64 / 1e9)
        })
    }
}

impl Reading {
    fn since(&self, earlier: &Self) -> Worker {
        let usage = self.usage.since(&earlier.usage);
        Worker {
            index: self.index,
            pid: self.pid,
            socket_inode: self.socket_inode,
            connections: self.connections.saturating_sub(earlier.connections),
            requests: self.requests.saturating_sub(earlier.requests),
            cpu_seconds: usage.cpu,
            context_switches: usage.switches,
            wakeups_without_connection: self
                .wakeups_without_connection
                .saturating_sub(earlier.wakeups_without_connection),
            steered: self.steered.saturating_sub(earlier.steered),
            migrated: self.migrated.saturating_sub(earlier.migrated),
            gated: self.gated.saturating_sub(earlier.gated),
        }
    }
}

/// Finds a server in the folder that this program lies in: they are built together.
fn find(program: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program lies")?;
    let path = own.with_file_name(program);
    ensure!(
        path.is_file(),
        "{program} is not in {}; `make build` puts it there",
        path.parent().unwrap_or(&path).display()
    );
    Ok(path)
}

/// Why a server ended, in its own words, less its name, which the message has already.
fn reason(child: &Child) -> String {
    let words = child.last_words();
    let words = warning_in(&words).unwrap_or(&words);
    words.strip_prefix(&format!("{}: ", child.name())).unwrap_or(words).to_owned()
}

/// The text of a log line of level WARN or ERROR: what follows time, level and module.
fn warning_in(line: &str) -> Option<&str> {
    let rest = [" WARN ", " ERROR "].iter().find_map(|level| Some(line.split_once(level)?.1))?;
    Some(rest.split_once(": ").map_or(rest, |(_module, text)| text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_lines_text_is_found_behind_time_level_and_module() {
        let line = "2026-01-01T00:00:00.0Z  WARN common::limits: --backlog 9 is capped at 4: so";
        assert_eq!(warning_in(line), Some("--backlog 9 is capped at 4: so"));
        assert_eq!(warning_in("2026-01-01T00:00:00.0Z  INFO common: hello"), None);
    }

    #[test]
    fn a_server_that_was_not_built_is_named_with_the_remedy() {
        let refusal = find("no-such-server").unwrap_err().to_string();
        assert!(refusal.contains("no-such-server") && refusal.contains("make build"));
    }

    #[test]
    fn a_worker_that_was_replaced_makes_no_row() {
        let reading = |pid| Reading {
            index: 0,
            pid,
            socket_inode: 1,
            connections: 2,
            requests: 3,
            wakeups_without_connection: 4,
            steered: 0,
            migrated: 0,
            gated: 0,
            usage: Usage::default(),
        };
        let before = Readings(vec![reading(10)]);
        assert!(Readings(vec![reading(11)]).since(&before).is_err());
        assert!(Readings(vec![]).since(&before).is_err());
        assert_eq!(Readings(vec![reading(10)]).since(&before).unwrap()[0].requests, 0);
    }
}
