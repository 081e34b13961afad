//! How kept connections are spread over workers: one after the other, and all at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::interrupt;
use crate::probe::connection::Connection;
use crate::server::Server;
use crate::servers::catalogue::WORKERS;
use crate::servers::record::{Form, Spread};
use crate::servers::subject::Subject;

/// Connections of each way.
pub const CONNECTIONS: usize = 200;

/// A server that holds fewer than this closes each connection; others may close some when they have many.
const KEPT: u64 = CONNECTIONS as u64 / 2;

/// How long opening all connections may take: far longer than normal.
const OPEN_WITHIN: Duration = Duration::from_secs(20);

/// How long a server may take to notice that connections were closed.
const IDLE_WITHIN: Duration = Duration::from_secs(5);

/// Counts the connections of each worker, in several rounds.
pub fn measure(subject: &Subject, form: Form) -> Result<Spread> {
    let mut server = subject.start()?;
    let mut found = Spread { kept: true, ..Spread::default() };
    for _ in 0..form.choose(3, 2, 1) {
        for is_burst in [false, true] {
            let (kept, counts) = count(subject, &mut server, is_burst)?;
            found.kept &= kept;
            if is_burst { &mut found.burst } else { &mut found.trickle }.push(counts);
            server.wait_until_idle(IDLE_WITHIN);
        }
    }
    server.stop()?;
    Ok(found)
}

/// Whether the connections were kept, and how many each worker got.
fn count(subject: &Subject, server: &mut Server, is_burst: bool) -> Result<(bool, Vec<u64>)> {
    let (clients, answers) = open(server, subject.path_that_tells(), is_burst)?;
    let mut held = server.held();
    drop(clients);
    let kept = held.iter().sum::<u64>() >= KEPT;
    if !kept {
        held = by_answer(&answers);
    }
    // A worker without connections may not have been seen at all.
    if !subject.has_threads && held.iter().sum::<u64>() > 0 {
        held.resize(held.len().max(WORKERS), 0);
    }
    Ok((kept, held))
}

/// Opens connections, each with an answer. Returns them and the answers.
pub fn open(server: &Server, path: &str, is_burst: bool) -> Result<(Vec<Connection>, Vec<String>)> {
    let (mut clients, mut answers) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    let check = |answered: usize| {
        interrupt::check()?;
        ensure!(
            begin.elapsed() < OPEN_WITHIN,
            "{answered} of {CONNECTIONS} connections were answered within {} s",
            OPEN_WITHIN.as_secs()
        );
        Ok(())
    };
    for _ in 0..CONNECTIONS {
        check(answers.len())?;
        let mut client = Connection::open(server.address())?;
        client.ask(path)?;
        if !is_burst {
            answers.push(client.body()?);
        }
        clients.push(client);
    }
    if is_burst {
        for client in &mut clients {
            check(answers.len())?;
            answers.push(client.body()?);
        }
    }
    Ok((clients, answers))
}

/// The number of answers with each pid; empty if answers have none.
fn by_answer(answers: &[String]) -> Vec<u64> {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    for pid in answers.iter().filter_map(|answer| answer.parse().ok()) {
        *counts.entry(pid).or_default() += 1;
    }
    counts.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_who_gave_them_and_other_words_are_nobodys() {
        let answers = ["7", "8", "7", "hello"].map(str::to_owned);
        assert_eq!(by_answer(&answers), [2, 1]);
    }
}
