//! Workers that accept nothing, and old ones that keep their connections.

use super::queues::named;
use super::{Finding, Id, Severity};
use crate::diagnose::model::{Readings, Role, Socket, Worker};
use crate::report::format::{are, plural};

/// Seconds: a shorter observation may fall between two connections of a worker.
const LONG_ENOUGH: f64 = 0.9;

/// A process that uses this part of a core may be serving.
const SERVES: f64 = 0.05;

/// Workers that were started this many seconds apart are of different generations.
const GENERATION: f64 = 2.0;

/// The least number of kept connections for a finding.
const ENOUGH: u64 = 10;

/// Workers that are stopped, and those that accepted nothing while their queue was never empty.
pub fn stalled(readings: &Readings) -> Vec<Finding> {
    let stopped =
        readings.own().filter(|worker| worker.is_stopped() && takes_part(readings, worker));
    let mut found: Vec<Finding> = stopped.map(|worker| is_stopped(readings, worker)).collect();
    if readings.seconds < LONG_ENOUGH {
        return found;
    }
    for socket in readings.own_sockets().filter(|socket| socket.queued_range[0] > 0) {
        let who = who_should_accept(readings, socket);
        let is_idle = |worker: &&Worker| worker.accepted == 0 && !worker.is_stopped();
        if who.iter().all(is_idle) && is_stuck(readings, socket, &who) {
            found.push(is_silent(readings, socket, &who));
        }
    }
    found
}

/// The processes that accept from a socket; if none is known, all that have it open, the topmost last: it may only
/// have made the socket.
fn who_should_accept<'a>(readings: &'a Readings, socket: &Socket) -> Vec<&'a Worker> {
    let accepting = readings.accepting(socket);
    let pids: Vec<u32> = match accepting.is_empty() {
        true => socket.holders.clone(),
        false => accepting.into_iter().collect(),
    };
    let mut who: Vec<&Worker> = pids.into_iter().filter_map(|pid| readings.worker(pid)).collect();
    who.sort_by_key(|worker| worker.pid == readings.server);
    who
}

/// Whether nothing was accepted from a socket whose queue was never empty, also nothing that came and went between two
/// looks: the kernel counted nothing, or those that waited at the beginning still wait. Where it is not known at
/// which socket of several these wait, a process that uses CPU time is taken to serve.
fn is_stuck(readings: &Readings, socket: &Socket, who: &[&Worker]) -> bool {
    let is_known = !who.is_empty() && who.iter().all(|worker| worker.is_counted);
    let alone = readings.sockets.iter().filter(|other| other.queued_range[1] > 0).count() == 1;
    let may_be = alone || who.iter().all(|worker| worker.cpu < SERVES);
    is_known || readings.waited_throughout >= socket.queued_range[0] && may_be
}

/// A process that only has a socket open matters if no other process has that socket.
fn takes_part(readings: &Readings, worker: &Worker) -> bool {
    match worker.role {
        Role::Holder => readings.own_sockets().any(|socket| socket.holders == [worker.pid]),
        _ => true,
    }
}

fn is_stopped(readings: &Readings, worker: &Worker) -> Finding {
    let is_own = readings.sockets_of_its_own(worker).next().is_some();
    let queued = match is_own {
        true => {
            let queued = readings.queued_for(worker);
            format!(", and {queued} {} queued for it only", are(queued.into()))
        }
        false => String::new(),
    };
    let evidence = format!(
        "{} (pid {}) is stopped (state {}): it has {}{queued}",
        worker.name,
        worker.pid,
        worker.state,
        plural(worker.held, "connection")
    );
    let remedy = match is_own {
        true => {
            "continue it (`kill -CONT`), or kill it; it has its own socket, and still gets new \
             connections"
        }
        false => "continue it (`kill -CONT`), or kill it; what it has waits until then",
    };
    Finding::warning(Id::StalledWorker, evidence, remedy).of(worker.pid)
}

fn is_silent(readings: &Readings, socket: &Socket, waiting: &[&Worker]) -> Finding {
    let [least, most] = socket.queued_range;
    let does = |worker: &&Worker| {
        let sits = worker.sits_in.as_ref().map_or_else(String::new, |place| format!(" in {place}"));
        format!(
            "{} (pid {}) is {}{sits} and used {:.0} % of a core",
            worker.name,
            worker.pid,
            worker.state_in_words(),
            worker.cpu * 100.0
        )
    };
    let who = match waiting {
        [] => "no process that has it open can be seen".into(),
        [one] => does(one),
        [first, ..] => format!("none of {} accepted, for instance {}", waiting.len(), does(first)),
    };
    let count = match least == most {
        true => plural(most.into(), "connection"),
        false => format!("{least} to {most} connections"),
    };
    let evidence = format!(
        "{count} waited at {} during all of {:.1} s, and none was accepted: {who}",
        named(readings, socket),
        readings.seconds
    );
    let remedy = "see what it does (a stack trace, `strace -p`): the handler may block the event \
                  loop, wait for a lock or loop; close a socket that no process accepts from";
    let found = Finding::warning(Id::StalledWorker, evidence, remedy);
    match waiting {
        [one] => found.of(one.pid),
        _ => found,
    }
}

/// Old workers that have most of the connections: after a reload those that no longer accept, or after scaling up
/// those that were there before.
pub fn old_keep(readings: &Readings) -> Vec<Finding> {
    of_old_processes(readings).or_else(|| of_the_older(readings)).into_iter().collect()
}

fn of_old_processes(readings: &Readings) -> Option<Finding> {
    let held = |role| readings.own().filter(|it| it.role == role).map(|it| it.held).sum::<u64>();
    let (old, new) = (held(Role::Old), held(Role::Worker));
    let processes =
        readings.own().filter(|worker| worker.role == Role::Old && worker.held > 0).count();
    if old == 0 {
        return None;
    }
    let evidence = format!(
        "{} no longer {} and {} {}; the workers that accept have {new}",
        plural(processes as u64, "process"),
        if processes == 1 { "listens" } else { "listen" },
        if processes == 1 { "keeps" } else { "keep" },
        plural(old, "connection")
    );
    let remedy = "let the server close idle connections when it reloads, limit how long one is kept, and give \
                  the drain a deadline";
    let severity = if old >= ENOUGH && old >= new { Severity::Warning } else { Severity::Info };
    Some(Finding::new(Id::OldWorkersKeep, severity, evidence, remedy))
}

fn of_the_older(readings: &Readings) -> Option<Finding> {
    let mut workers: Vec<&Worker> = readings.serving().collect();
    workers.sort_by(|a, b| a.started.total_cmp(&b.started));
    let gap = |place: usize| workers[place].started - workers[place - 1].started;
    let widest = (1..workers.len()).max_by(|&a, &b| gap(a).total_cmp(&gap(b)))?;
    if gap(widest) < GENERATION {
        return None;
    }
    let (older, newer) = workers.split_at(widest);
    let sum = |workers: &[&Worker]| workers.iter().map(|worker| worker.held).sum::<u64>();
    let (old, new) = (sum(older), sum(newer));
    let each = |sum: u64, workers: &[&Worker]| sum as f64 / workers.len() as f64;
    // The newer workers' connections if all had the same number.
    let expected = each(old + new, &workers) * newer.len() as f64;
    let is_much = old >= ENOUGH && expected >= 5.0;
    if !is_much || each(new, newer) > 0.25 * each(old, older) {
        return None;
    }
    let evidence = format!(
        "{} started {:.0} s or more before the others {} {old} of {}, {} {new}",
        plural(older.len() as u64, "worker"),
        gap(widest),
        if older.len() == 1 { "has" } else { "have" },
        plural(old + new, "connection"),
        match newer.len() {
            1 => "the newer one".to_owned(),
            count => format!("the {count} newer ones"),
        }
    );
    let remedy = "kept connections stay with the worker that accepted them: limit how long one is kept, or how \
                  many requests it may bring";
    Some(Finding::warning(Id::OldWorkersKeep, evidence, remedy))
}
