//! Workers or whole servers that are replaced or ended under load: by a reload, and by TERM. Requests
//! arrive on new connections and on kept ones at the same time.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::probe::arrivals::Arrivals;
use crate::probe::fault::parsed;
use crate::probe::fault_run::run_with_faults;
use crate::probe::load::Load;
use crate::probe::outcome::Outcomes;
use crate::probe::run::run;
use crate::server::Server;
use crate::server::signals::Action;
use crate::servers::faults::{lost_accepted, steady};
use crate::servers::record::{After, Form, Reload, Replaced};
use crate::servers::subject::Subject;

/// Requests per second on each kind of connection.
const RATE: u64 = 100;

/// How long a handler blocks, in microseconds, if the server has one: so requests are often in flight.
const BLOCKED_US: u64 = 5000;

/// The time of the first reload, or of TERM; in milliseconds.
const BEGIN_MS: u64 = 500;

/// The least time from one reload to the next, in milliseconds.
const RELOAD_EVERY_MS: u64 = 1000;

/// How long a server may take to end, and to replace all workers after a reload; and how often it is
/// checked.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
const REPLACED_WITHIN: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Reloads a server again and again.
pub fn reload(subject: &Subject, form: Form) -> Result<Reload> {
    let Some(every) = time_between_reloads(subject)? else { return Ok(Reload::None) };
    let mut server = subject.start()?;
    let before = server.worker_pids();
    let times = form.choose(20, 5, 1);
    let fault = format!("reload@{BEGIN_MS}ms*{times}/{every}ms");
    let (new, kept) = ask(subject, &mut server, &fault, BEGIN_MS + times * every)?;
    let all_gone = are_replaced(&mut server, &before);
    let after = match (server.has_ended(), all_gone) {
        (true, _) => After::Nobody,
        (_, true) => After::Others,
        (_, false) => After::SomeOfBefore,
    };
    server.stop()?;
    Ok(Reload::Done(Replaced { times, every_ms: Some(every), new, kept, after }))
}

/// A time from one reload to the next in which the server replaces all its workers, in milliseconds: one
/// and a half times what it took without load. Reloads that overlap would be another question. If some
/// workers stay, it is the least time, or a server that replaces none would take an hour; if the server has no
/// reload, there is none.
pub fn time_between_reloads(subject: &Subject) -> Result<Option<u64>> {
    let mut server = subject.start()?;
    let signal = server.signals.signal(Action::Reload).ok();
    let every = signal.map(|signal| {
        let (before, begin) = (server.worker_pids(), Instant::now());
        server.signal(signal);
        let took = are_replaced(&mut server, &before).then(|| begin.elapsed().as_millis() as u64);
        took.map_or(RELOAD_EVERY_MS, |took| RELOAD_EVERY_MS.max(took + took / 2))
    });
    server.stop()?;
    Ok(every)
}

/// Waits until others have taken the place of these workers, or the server has ended.
fn are_replaced(server: &mut Server, before: &[u32]) -> bool {
    within(REPLACED_WITHIN, || {
        let now = server.worker_pids();
        let others = now.iter().filter(|pid| !before.contains(pid)).count();
        server.has_ended() || others == now.len() && others >= before.len()
    })
}

/// Sends TERM to a server, whatever TERM means to it; several times, each to a new server.
pub fn term(subject: &Subject, form: Form) -> Result<Replaced> {
    let mut found = Replaced { after: After::Nobody, ..Replaced::default() };
    for _ in 0..form.choose(5, 3, 1) {
        let mut server = subject.start()?;
        server.signals.set("drain=TERM")?;
        let (new, kept) = ask(subject, &mut server, &format!("drain@{BEGIN_MS}ms"), 2 * BEGIN_MS)?;
        found.times += 1;
        found.new += new;
        found.kept += kept;
        if !within(ENDS_WITHIN, || server.has_ended()) {
            found.after = After::SomeOfBefore;
        }
        server.stop()?;
    }
    Ok(found)
}

fn within(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        let (now, late) = (is_so(), begin.elapsed() >= limit);
        if now || late {
            return now;
        }
        sleep(LOOK_EVERY);
    }
}

/// Sends requests on new connections and on kept ones, with a fault. Returns the outcomes of both.
fn ask(
    subject: &Subject,
    server: &mut Server,
    fault: &str,
    milliseconds: u64,
) -> Result<(Outcomes, Outcomes)> {
    let path = subject.path_that_blocks(BLOCKED_US);
    let new = steady(server, &path, RATE, milliseconds);
    let kept = Load { keep_alive: true, arrivals: Some(Arrivals::Poisson), ..new.clone() };
    let (address, faults) = (server.address(), parsed(&[fault.to_owned()])?);
    let (new, kept) = thread::scope(|scope| {
        let kept = scope.spawn(|| run(address, &kept, Instant::now(), |_, _| {}));
        (run_with_faults(server, &new, &faults, |_, _| {}), kept.join())
    });
    let kept = kept.map_err(|_| anyhow!("the thread that asks on kept connections panicked"))??;
    Ok((new?.counters.unbroken()?.outcomes, kept.unbroken()?.outcomes))
}

impl Replaced {
    /// Requests that were lost after the kernel had accepted their connection: on new and on kept ones.
    pub fn lost_accepted(&self) -> [u64; 2] {
        [self.new, self.kept].map(|it| lost_accepted(&it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_never_connected_is_not_lost_by_a_server_that_ends() {
        let new = Outcomes { ok: 9, refused: 5, reset: 2, ..Outcomes::default() };
        let kept = Outcomes { closed_early: 1, timed_out_connecting: 4, ..Outcomes::default() };
        let found = Replaced { times: 1, new, kept, ..Replaced::default() };
        assert_eq!(found.lost_accepted(), [2, 1]);
    }
}
