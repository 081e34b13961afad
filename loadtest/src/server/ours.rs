//! This repository's own servers: where they are, when they serve, and their logs.

use std::cmp::Reverse;
use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use common::scoreboard::{Scoreboard, State};

use crate::kernel::procfs::Usage;
use crate::server::process::Child;
use crate::server::spec::Strategy;
use crate::server::telemetry::{Reading, Readings, Role, WorkerUsage};
use crate::server::{Server, View};

/// How long a server may take until it serves.
const START_WITHIN: Duration = Duration::from_secs(5);

/// Starts one on a port of the kernel's choice. The last of several `--port` wins, so one among the options has
/// effect.
pub(super) fn start(strategy: Strategy, options: &[String]) -> Result<Server> {
    let program = strategy.program();
    let mut command = Command::new(find(program)?);
    command.args(["--port", "0"]).args(options);
    start_with(program, command, Stdio::null())
}

/// Starts shared-fd-server with a listening socket, as systemd does: descriptor 3, and the pid that it is for
/// (sd_listen_fds(3)). A shell knows the pid that it will have as the server; this program does not know it before
/// the server runs.
pub fn start_on(listener: OwnedFd, options: &[String]) -> Result<Server> {
    let program = Strategy::Shared.program();
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(find(program)?).args(options);
    start_with(program, command, Stdio::from(listener))
}

/// Starts one as another user, whose group has the same number. That user gets a copy of the program, as it may not
/// be able to read this program's folder.
pub fn start_as(user: u32, strategy: Strategy, options: &[String]) -> Result<Server> {
    let program = strategy.program();
    let copy = || -> Result<_> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        std::fs::copy(find(program)?, folder.path().join(program))?;
        Ok(folder)
    };
    let folder = copy().with_context(|| format!("cannot copy {program} for another user"))?;
    let mut command = Command::new(folder.path().join(program));
    command.args(["--port", "0"]).args(options).uid(user).gid(user);
    // Once it serves, or has ended, the file's name is not needed any more.
    start_with(program, command, Stdio::null())
}

/// Starts one, and waits until all its workers serve. The scoreboard tells that: a request over HTTP would be
/// counted.
fn start_with(program: &'static str, mut command: Command, input: Stdio) -> Result<Server> {
    // Without colours, as lines of its log become part of messages.
    let mut child = Child::start_server(program, command.env("NO_COLOR", "1"), input)?;
    let pid = child.pid();
    let serves = child.wait_until_it_serves(START_WITHIN, reason, || {
        Ok(Scoreboard::of_process(pid).ok().filter(Scoreboard::is_serving))
    })?;
    let Some(scoreboard) = serves else {
        let limit = START_WITHIN.as_secs();
        bail!("{program} did not serve within {limit} s: {}", reason(&child));
    };
    let address = scoreboard.address();
    Ok(Server::started(child, View::Scoreboard(scoreboard), address))
}

/// What every worker has done since its start, by its own count; and how many connections it has open.
pub(super) fn totals(scoreboard: &Scoreboard) -> Vec<WorkerUsage> {
    let totals = scoreboard.workers().filter_map(|(index, slot)| {
        Some(WorkerUsage {
            index,
            pid: slot.pid()?,
            role: Role::Worker,
            socket_inode: Some(slot.socket_inode.load(Relaxed)),
            connections: Some(slot.connections_accepted.load(Relaxed)),
            held: Some(slot.connections_open.load(Relaxed) as f64),
            requests: Some(slot.requests.load(Relaxed)),
            wakeups_without_connection: Some(slot.wakeups_without_connection.load(Relaxed)),
            steered: Some(slot.steered.load(Relaxed)),
            migrated: Some(slot.migrated.load(Relaxed)),
            gated: Some(slot.gated.load(Relaxed)),
            ..WorkerUsage::default()
        })
    });
    totals.collect()
}

/// Reads every worker's counters.
pub(super) fn read(scoreboard: &Scoreboard) -> Result<Readings> {
    let readings = totals(scoreboard).into_iter().map(|totals| {
        let usage = Usage::of(totals.pid)?;
        Ok(Reading { totals, usage, serves: true, ..Reading::default() })
    });
    readings.collect::<Result<_>>().map(Readings)
}

/// The workers that serve, those with most answers first.
pub(super) fn busiest(scoreboard: &Scoreboard) -> Vec<u32> {
    let serving = scoreboard.workers().filter(|(_, slot)| slot.state() == State::Serving);
    let mut found: Vec<(u64, u32)> =
        serving.filter_map(|(_, slot)| Some((slot.requests.load(Relaxed), slot.pid()?))).collect();
    found.sort_by_key(|&(requests, _)| Reverse(requests));
    found.into_iter().map(|(_, pid)| pid).collect()
}

/// The warnings in a server's log.
pub(super) fn warnings(child: &Child) -> Vec<String> {
    child.errors().lines().filter_map(warning_in).map(str::to_owned).collect()
}

/// Finds a server in the folder of this program: they are built together.
fn find(program: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the folder of this program")?;
    let path = own.with_file_name(program);
    ensure!(
        path.is_file(),
        "{program} is not in {}; `make build` puts it there",
        path.parent().unwrap_or(&path).display()
    );
    Ok(path)
}

/// Why a server ended, from its output, without its name, which the message has already.
pub(super) fn reason(child: &Child) -> String {
    let words = child.last_words();
    let words = warning_in(&words).unwrap_or(&words);
    words.strip_prefix(&format!("{}: ", child.name())).unwrap_or(words).to_owned()
}

/// The text of a log line of level WARN or ERROR, after time, level and module.
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
}
