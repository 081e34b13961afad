//! Many requests: in a closed loop, where each client waits for its answer before it asks again,
//! or in an open one, where the clock says when to ask, whatever became of the requests before.
//!
//! All tasks of a run share one thread, so nothing here needs a lock.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet, yield_now};
use tokio::time::sleep;

use crate::interrupt;
use crate::probe::client::{self, Asked};
use crate::probe::counters::Counters;
use crate::probe::load::{Load, Target};
use crate::probe::on_time::OnTime;
use crate::probe::outcome::Outcome;
use crate::probe::ticker::Ticker;

/// How long a client waits after a refusal. Asking again at once would be refused tens of thousands
/// of times a second, and take the CPU that a server needs to come back.
pub const AFTER_REFUSAL: Duration = Duration::from_millis(10);

/// So many connections an open loop keeps alive at least, and takes turns among them: with the few
/// that a fast server needs, some of its workers would never be asked.
const POOL: usize = 64;

/// How long after its end an open loop that is late still sends.
const LATEST: Duration = Duration::from_millis(500);

/// How often Ctrl-C and the end are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long requests that are under way may take after Ctrl-C.
const GRACE: Duration = Duration::from_millis(500);

/// Puts the load on a server, until its end or Ctrl-C, and waits for every request's outcome.
///
/// `look` is called every few milliseconds with the time that has passed since `start`.
///
/// # Errors
/// When this program fails, as without ports or files left, and after a second Ctrl-C. If anything was
/// answered before it failed, [`Counters::failure`] says so instead.
pub fn run(
    address: SocketAddr,
    load: &Load,
    start: Instant,
    mut look: impl FnMut(&Counters, Duration),
) -> Result<Counters> {
    let runtime = client::runtime()?;
    let tasks = LocalSet::new();
    let run = Rc::new(Run {
        load: load.clone(),
        target: Target::new(address, load),
        start,
        counters: RefCell::new(Counters {
            ends_by_number: load.requests.is_some(),
            end: load.end().filter(|_| load.rate.is_none()),
            lead_in: load.lead_in,
            ..Counters::new()
        }),
        stopped: Cell::new(false),
        tasks: RefCell::default(),
        idle: RefCell::default(),
        in_use: Cell::new(0),
    });
    let on_time = load.rate.map(|_| OnTime::begin());
    let ended = tasks.block_on(&runtime, async {
        match load.rate {
            None => (0..load.connections).for_each(|_| run.spawn(run.clone().closed_loop())),
            Some(rate) => run.spawn(run.clone().open_loop(rate)),
        }
        run.oversee(&mut look).await
    });
    drop(on_time);
    // Ends what was cut off, and closes all connections.
    drop(tasks);
    finish(run.counters.replace(Counters::new()), ended)
}

/// Closes the count. `ended` says whether requests were cut off.
fn finish(mut counters: Counters, ended: Result<bool>) -> Result<Counters> {
    let cut = match ended {
        Ok(cut) => cut,
        Err(error) if counters.outcomes.ok == 0 || interrupt::count() > 1 => return Err(error),
        Err(error) => {
            counters.failure = Some(format!("{error:#}"));
            true
        }
    };
    counters.close(cut)?;
    Ok(counters)
}

/// What all tasks of a run share.
struct Run {
    load: Load,
    target: Target,
    start: Instant,
    counters: RefCell<Counters>,
    /// Ctrl-C came: nothing new is begun.
    stopped: Cell<bool>,
    tasks: RefCell<JoinSet<Result<()>>>,
    /// Connections that an open loop keeps alive. The one that was used last is at the end.
    idle: RefCell<VecDeque<TcpStream>>,
    /// How many others are in use.
    in_use: Cell<usize>,
}

impl Run {
    fn spawn(&self, task: impl Future<Output = Result<()>> + 'static) {
        self.tasks.borrow_mut().spawn_local(task);
    }

    /// How many tasks have not ended. Fails if one of those that have did.
    fn active(&self) -> Result<usize> {
        let mut tasks = self.tasks.borrow_mut();
        while let Some(ended) = tasks.try_join_next() {
            ended.context("a task of the prober panicked")??;
        }
        Ok(tasks.len())
    }

    /// Waits for the end. Gives whether requests were cut off.
    async fn oversee(&self, look: &mut impl FnMut(&Counters, Duration)) -> Result<bool> {
        let mut interrupted: Option<Instant> = None;
        while self.active()? > 0 {
            look(&self.counters.borrow(), self.start.elapsed());
            match (interrupt::count(), interrupted) {
                (0, _) => {}
                (1, None) => {
                    interrupted = Some(Instant::now());
                    self.stop();
                }
                (1, Some(at)) if at.elapsed() < GRACE => {}
                (1, _) => return Ok(true),
                _ => bail!("interrupted"),
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(false)
    }

    /// Begins nothing new.
    fn stop(&self) {
        self.stopped.set(true);
        let mut counters = self.counters.borrow_mut();
        counters.interrupted = true;
        let now = self.start.elapsed();
        counters.lasted = self.load.end().map_or(now, |end| now.min(end));
    }

    /// Whether a request that is due at this time may still be begun.
    fn goes_on(&self, due: Duration) -> bool {
        if self.stopped.get() {
            return false;
        }
        let mut counters = self.counters.borrow_mut();
        if let Some(end) = self.load.end().filter(|end| due >= *end) {
            counters.lasted = end;
            return false;
        }
        if self.load.requests.is_some_and(|count| counters.attempted >= count) {
            return false;
        }
        counters.lasted = counters.lasted.max(due);
        true
    }

    /// One client that asks, waits for the answer, and asks again.
    async fn closed_loop(self: Rc<Self>) -> Result<()> {
        let mut kept = None;
        loop {
            let due = self.start.elapsed();
            if !self.goes_on(due) {
                return Ok(());
            }
            // Of the request, not of the client: a client of a mix would otherwise ask for one path only.
            let number = self.counters.borrow().attempted as usize;
            self.counters.borrow_mut().attempted += 1;
            let (outcome, connection) = self.ask(due, kept, number).await?;
            kept = connection;
            if outcome == Outcome::Refused {
                sleep(AFTER_REFUSAL).await;
            }
        }
    }

    /// Asks whenever it is time to.
    async fn open_loop(self: Rc<Self>, rate: u64) -> Result<()> {
        let ticker = Ticker::new()?;
        let mut last = Duration::ZERO;
        let arrivals = self.load.arrivals.unwrap_or_default();
        let mut arrivals = arrivals.at(rate, self.load.seed).enumerate();
        while let Some((number, due)) = arrivals.next() {
            if !self.goes_on(due) {
                break;
            }
            ticker.wait_until(self.start + due).await?;
            // When it is late it does not wait; others want their turn all the same.
            yield_now().await;
            if self.stopped.get() {
                break;
            }
            last = due;
            let mut counters = self.counters.borrow_mut();
            if let Some(end) = self.load.end().filter(|end| self.start.elapsed() > *end + LATEST) {
                let later = arrivals.take_while(|&(_, due)| due < end).count();
                counters.not_sent += 1 + later as u64;
                counters.fell_behind = true;
                break;
            }
            // This loop is a task as well.
            if self.active()? as u64 > self.load.connections {
                counters.not_sent += 1;
                continue;
            }
            counters.attempted += 1;
            self.spawn(self.clone().one_request(due, number));
        }
        let now = self.start.elapsed();
        self.counters.borrow_mut().all_sent(last, now);
        Ok(())
    }

    async fn one_request(self: Rc<Self>, due: Duration, number: usize) -> Result<()> {
        self.counters.borrow_mut().sent(due, self.start.elapsed());
        let kept = self.longest_idle();
        self.in_use.update(|count| count + 1);
        let (_, connection) = self.ask(due, kept, number).await?;
        self.in_use.update(|count| count - 1);
        self.idle.borrow_mut().extend(connection);
        Ok(())
    }

    /// The connection that has been idle longest, if there are enough to take turns. Whether it still
    /// stands is looked at when it is used.
    fn longest_idle(&self) -> Option<TcpStream> {
        let mut idle = self.idle.borrow_mut();
        if idle.len() + self.in_use.get() >= POOL { idle.pop_front() } else { None }
    }

    /// Asks once, counts what comes of it, and gives back the connection if it stays open.
    async fn ask(
        &self,
        due: Duration,
        kept: Option<TcpStream>,
        number: usize,
    ) -> Result<(Outcome, Option<TcpStream>)> {
        let Asked { outcome, reason, stream, closing } =
            client::ask(&self.target, kept, number).await?;
        {
            let mut counters = self.counters.borrow_mut();
            counters.count(outcome, due, self.start.elapsed());
            if let Some(reason) = reason {
                counters.first_wrong.get_or_insert(reason);
            }
        }
        if let Some(stream) = stream {
            if !closing {
                return Ok((outcome, Some(stream).filter(|_| self.load.keep_alive)));
            }
            client::say_goodbye(stream).await;
        }
        Ok((outcome, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Share;
    use crate::load::wrk::tests::serve_hello;
    use crate::probe::arrivals::Arrivals;
    use anyhow::anyhow;
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// A server that answers `hello`, and the counts of which the last is of its connections.
    fn server() -> (SocketAddr, Arc<[AtomicU64; 3]>) {
        let (url, counts) = serve_hello();
        (url["http://".len()..].trim_end_matches('/').parse().unwrap(), counts)
    }

    /// For 200 ms. Answers may take long: other tests want the CPU, too.
    fn closed(connections: u64, keep_alive: bool) -> Load {
        let (url, expect) = ("http://here/".into(), Some("hello".into()));
        let (seconds, timeout_ms) = (0.2, 20_000);
        Load { url, expect, connections, keep_alive, seconds, timeout_ms, ..Load::default() }
    }

    fn open(connections: u64, keep_alive: bool) -> Load {
        let (rate, arrivals) = (Some(500), Some(Arrivals::Even));
        Load { rate, arrivals, ..closed(connections, keep_alive) }
    }

    fn drive(address: SocketAddr, load: Load) -> Counters {
        run(address, &load, Instant::now(), |_, _| {}).unwrap()
    }

    #[test]
    fn a_closed_loop_ends_after_so_many_requests_on_a_connection_each_or_one_per_client() {
        for (keep_alive, expected) in [(false, 50), (true, 3)] {
            let (address, counts) = server();
            let load = Load { requests: Some(50), ..closed(3, keep_alive) };
            let counters = drive(address, load);
            assert_eq!((counters.attempted, counters.outcomes.ok), (50, 50));
            let fastest = Duration::from_micros(counters.latency.min());
            assert!(counters.took() >= counters.lasted + fastest / 2, "{counters:?}");
            assert_eq!(counts[2].load(Relaxed), expected);
        }
    }

    #[test]
    fn each_client_of_a_closed_loop_asks_for_all_paths_of_a_mix() {
        let share = |path: &str| Share { weight: 1.0, path: path.into() };
        let (address, counts) = server();
        let mix = vec![share("/"), share("/rare")];
        drive(address, Load { requests: Some(200), mix, ..closed(1, true) });
        let [rare, all, _] = counts.each_ref().map(|count| count.load(Relaxed));
        assert!(all == 200 && (70..130).contains(&rare), "{rare} of {all}");
    }

    #[test]
    fn an_open_loop_asks_at_its_rate_and_takes_turns_among_a_pool() {
        for (keep_alive, expected) in [(false, 100), (true, POOL as u64)] {
            let (address, counts) = server();
            let counters = drive(address, open(1000, keep_alive));
            let Counters { attempted, outcomes, not_sent, .. } = counters;
            assert_eq!((attempted, outcomes.ok, not_sent), (100, 100, 0));
            assert!(counters.lasted >= Duration::from_millis(200));
            assert_eq!((counters.lateness.len(), counters.arrivals.len()), (100, 100));
            // A slow machine may need more than the pool's least.
            assert!(counts[2].load(Relaxed) >= expected);
        }
    }

    #[test]
    fn a_stalled_server_does_not_slow_the_questions_and_what_exceeds_the_limit_is_counted() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let load = Load { timeout_ms: 300, ..open(30, false) };
        let Counters { attempted, outcomes, not_sent, .. } =
            drive(silent.local_addr().unwrap(), load);
        assert_eq!((attempted, outcomes.timed_out_answering, not_sent), (30, 30, 70));
    }

    #[test]
    fn what_was_counted_before_the_prober_failed_is_kept() {
        let failed = |answered| {
            let mut counters = Counters::new();
            counters.attempted = 3;
            (0..answered).for_each(|_| counters.count(Outcome::Ok, GRACE, GRACE));
            finish(counters, Err(anyhow!("no port left")))
        };
        let kept = failed(2).unwrap();
        assert_eq!((kept.attempted, kept.cut_off), (2, 1));
        assert_eq!(kept.failure.as_deref(), Some("no port left"));
        assert!(failed(0).is_err());
    }

    #[test]
    fn whoever_is_refused_waits_a_moment() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        // A child of another test may have it open until it has become its program.
        while std::net::TcpStream::connect(address).is_ok() {}
        let counters = drive(address, closed(2, false));
        assert_eq!(counters.attempted, counters.outcomes.refused);
        assert!((2..=40).contains(&counters.attempted), "{}", counters.attempted);
    }
}
