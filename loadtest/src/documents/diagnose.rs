//! `diagnose`: how a server listens, which worker has what, what is wrong, and what a crash would lose.

use crate::diagnose::findings::{Finding, Severity};
use crate::diagnose::lose_now::{self, Loss};
use crate::diagnose::model::{Counted, Readings, Role, Socket, Worker, ways};
use crate::diagnose::{Report, words};
use crate::documents::facts;
use crate::report::format::plural;
use crate::report::model::{Block, Cell, Document, Field, Mark, Table, Unit, escaped, with_code};

/// The most rows: of more workers or sockets, only those with most connections are shown.
const MOST_ROWS: usize = 32;

/// A worker, with the readings.
type Row<'a> = (&'a Readings, &'a Worker);

fn of_workers<'a>() -> [Field<Row<'a>>; 8] {
    [
        ("", Unit::Text, |(_, worker)| role(worker).into()),
        ("connections", Unit::Count, |(_, worker)| worker.held.into()),
        ("new", Unit::Count, |(_, worker)| worker.accepted.into()),
        ("share", Unit::Part, |(readings, worker)| share(readings, worker).into()),
        ("queued", Unit::Count, |(readings, worker)| readings.queued_for(worker).into()),
        ("CPU", Unit::Part, |(_, worker)| worker.cpu.into()),
        ("run-queue wait", Unit::Part, |(_, worker)| worker.waited.into()),
        ("state", Unit::Text, |(_, worker)| state(worker)),
    ]
}

/// The document.
pub fn document(report: &Report) -> Document {
    let readings = &report.readings;
    let name = readings.worker(readings.server).or_else(|| readings.own().next());
    let title = match name {
        Some(worker) => {
            format!("Port {}: {} (pid {})", readings.port, worker.name, readings.server)
        }
        None => format!("Port {}: the server of process {}", readings.port, readings.server),
    };
    let mut blocks = vec![
        Block::Warnings(report.warnings.clone()),
        Block::Verdict(format!("Model in use: {}", report.model)),
        facts([
            ("SO_REUSEPORT", Some(words::reuse_port(readings).to_owned())),
            ("steering", words::steering(readings)),
            ("spread", words::spread(readings)),
            ("observed", Some(format!("{:.1} s", readings.seconds))),
        ]),
        Block::Table(sockets(readings)),
        Block::Heading("Workers".into()),
        Block::Table(workers(readings)),
        Block::Heading("Findings".into()),
    ];
    blocks.extend(report.findings.iter().map(finding));
    if report.findings.is_empty() {
        blocks.push(Block::Text("None.".into()));
    }
    blocks.extend([
        Block::Heading("What a crash or a reload would lose now".into()),
        Block::Text(with_code(&lose_now::in_words(readings))),
        Block::Table(losses(report)),
        Block::Heading("What could not be seen".into()),
        Block::Text(readings.unseen.iter().map(|it| format!("- {}\n", escaped(it))).collect()),
    ]);
    Document { title, blocks }
}

fn finding(found: &Finding) -> Block {
    let severity = match found.severity {
        Severity::Warning => "Warning",
        Severity::Info => "Info",
    };
    Block::Text(format!(
        "**{severity}: {}**\n\n{}.\n\nRemedy: {}.",
        found.id,
        escaped(&found.evidence),
        with_code(&found.remedy)
    ))
}

fn sockets(readings: &Readings) -> Table {
    let cap = readings.somaxconn.map_or_else(String::new, |cap| {
        format!("net.core.somaxconn limits every backlog to {cap}.")
    });
    let columns: [Field<(&Readings, &Socket)>; 7] = [
        ("address", Unit::Text, |(_, socket)| socket.address.to_string().into()),
        ("of", Unit::Text, |(readings, socket)| owner(readings, socket).into()),
        ("waiters", Unit::Text, |(readings, socket)| waiters(readings, socket).into()),
        ("holders", Unit::Count, |(readings, socket)| {
            let accepting = readings.accepting(socket);
            socket.holders.iter().filter(|pid| !accepting.contains(pid)).count().into()
        }),
        ("queued", Unit::Count, |(_, socket)| socket.queued.into()),
        ("at most", Unit::Count, |(_, socket)| socket.queued_range[1].into()),
        ("backlog", Unit::Count, |(_, socket)| {
            Cell::from(socket.backlog).mark(socket.was_full().then_some(Mark::Bad))
        }),
    ];
    let mut all: Vec<&Socket> = readings.sockets.iter().collect();
    all.sort_by_key(|socket| {
        (std::cmp::Reverse(socket.queued_range[1]), socket.address, socket.inode)
    });
    let left = left_out(&mut all);
    let rows: Vec<_> = all.into_iter().map(|socket| (readings, socket)).collect();
    let names = rows.iter().map(|(_, socket)| socket.inode.to_string());
    let table = Table::of("Listening sockets", names).with("", &columns, &rows);
    Table { note: format!("{left}{cap}"), ..table }
}

fn owner(readings: &Readings, socket: &Socket) -> String {
    match socket.server {
        Some(server) if server == readings.server => "this server".into(),
        Some(_) => {
            let holder = socket.holders.first().and_then(|&pid| readings.worker(pid));
            holder.map_or_else(|| "another".into(), |it| format!("{} (pid {})", it.name, it.pid))
        }
        None => format!("no visible process (user {})", socket.uid),
    }
}

fn waiters(readings: &Readings, socket: &Socket) -> String {
    let how: Vec<_> = socket.waiters.iter().map(|waiter| waiter.how).collect();
    match *socket.waiting().iter().collect::<Vec<_>>() {
        [] => match readings.accepting(socket).len() {
            0 => "none seen".into(),
            busy => format!("none seen: {} always busy", plural(busy as u64, "process")),
        },
        [pid] => format!("{pid}: {}", ways(&how)),
        ref many => format!("{} processes: {}", many.len(), ways(&how)),
    }
}

fn workers(readings: &Readings) -> Table {
    let mut all: Vec<&Worker> = readings.workers.iter().collect();
    let order = |worker: &&Worker| {
        let is_other = worker.server != readings.server;
        (is_other, worker.role == Role::Holder, std::cmp::Reverse(worker.held), worker.pid)
    };
    all.sort_by_key(order);
    let left = left_out(&mut all);
    let rows: Vec<Row> = all.into_iter().map(|worker| (readings, worker)).collect();
    let names = rows.iter().map(|(_, worker)| worker.pid.to_string());
    let table = Table::of("", names).with("", &of_workers(), &rows).known_columns();
    let counted = match readings.counted {
        Counted::ByKernel => "`new` was counted by the kernel.",
        Counted::BySockets => {
            "`new` counts the connections that were seen to appear; short ones may be missed."
        }
    };
    let labels = LABELS.iter().filter(|(role, _)| rows.iter().any(|row| row.1.role == *role));
    let labels: String = labels.map(|(_, meaning)| format!(" {meaning}")).collect();
    Table { note: format!("{left}{counted}{labels}"), ..table }
}

/// What each worker would lose, without those that would lose nothing.
fn losses(report: &Report) -> Table {
    const OF_LOSSES: [Field<Loss>; 3] = [
        ("has", Unit::Count, |loss| loss.held.into()),
        ("queued for it only", Unit::Count, |loss| loss.queued.into()),
        ("a crash loses", Unit::Count, |loss| (loss.held + u64::from(loss.queue_lost)).into()),
    ];
    let has_some = |loss: &&Loss| loss.held > 0 || loss.queued > 0;
    let mut losses: Vec<&Loss> = report.lose_now.iter().filter(has_some).collect();
    losses.sort_by_key(|loss| std::cmp::Reverse(loss.held + u64::from(loss.queue_lost)));
    let note = left_out(&mut losses);
    let names = losses.iter().map(|loss| loss.worker.to_string());
    let table = Table::of("Connections", names).with("", &OF_LOSSES, losses.iter().copied());
    Table { note, ..table }
}

/// Leaves out all but the first rows, and returns the note about that.
fn left_out<T>(rows: &mut Vec<T>) -> String {
    let left = rows.drain(rows.len().min(MOST_ROWS)..).count();
    if left > 0 { format!("{left} more are in --json. ") } else { String::new() }
}

/// What the shorter labels mean.
const LABELS: [(Role, &str); 3] = [
    (Role::Acceptor, "An acceptor accepts for its children."),
    (Role::Old, "An old worker no longer listens."),
    (Role::Holder, "A holder only has the socket open."),
];

fn role(worker: &Worker) -> &'static str {
    match worker.role {
        Role::Worker => "worker",
        Role::Acceptor => "acceptor",
        Role::Child => "child",
        Role::Old => "old",
        Role::Holder => "holder",
    }
}

/// A worker's part of the accepted connections.
fn share(readings: &Readings, worker: &Worker) -> Option<f64> {
    let all: u64 = readings.serving().map(|worker| worker.accepted).sum();
    let is_one = readings.serving().any(|it| it.pid == worker.pid);
    (all > 0 && is_one).then(|| worker.accepted as f64 / all as f64)
}

/// Its state and, unless it is stopped, the kernel function in which it is.
fn state(worker: &Worker) -> Cell {
    let state = worker.state_in_words();
    match &worker.sits_in {
        _ if worker.is_stopped() => Cell::from(state).mark(Some(Mark::Bad)),
        Some(place) => format!("{state} in {place}").into(),
        None => state.into(),
    }
}
