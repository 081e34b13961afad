//! Many requests: in a closed loop, where each client waits for its answer before it asks again,
//! or in an open one, where the clock says when to ask.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::interrupt;
use crate::probe::client;
use crate::probe::counters::Counters;
use crate::probe::open_loop::open_loop;
use crate::probe::outcome::Outcome;
use crate::probe::run::Run;
pub use crate::probe::run::{Load, Until};
use crate::probe::target::Target;

/// How long a client waits after a refusal. Asking again at once would be refused tens of thousands
/// of times a second, and take the CPU that a server needs to come back.
pub const AFTER_REFUSAL: Duration = Duration::from_millis(10);

/// How often Ctrl-C and the end are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long requests that are under way may take after Ctrl-C.
const GRACE: Duration = Duration::from_millis(500);

/// The prober failed, and not the server. What was counted until then is no less true.
#[derive(Debug)]
pub struct Failed {
    /// The counts; requests under way are cut off.
    pub counters: Box<Counters>,
    /// Why it failed.
    pub reason: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failed {}

/// Puts the load on the target, until its end or Ctrl-C, and waits for every request's outcome.
///
/// `look` is called every few milliseconds with the time that has passed since `start`.
///
/// # Errors
/// When this program fails, as without ports or files left, and after a second Ctrl-C. If anything was
/// answered by then, the error is a [`Failed`].
pub fn run(
    target: Target,
    load: &Load,
    start: Instant,
    mut look: impl FnMut(&Counters, Duration),
) -> Result<Counters> {
    let runtime = client::runtime()?;
    let tasks = LocalSet::new();
    let run = Run::new(*load, target, start)?;
    let cut = tasks.block_on(&runtime, async {
        match load.rate {
            None => (0..load.connections as usize)
                .for_each(|number| run.clone().spawn(closed_loop(run.clone(), number))),
            Some(rate) => run.clone().spawn(open_loop(run.clone(), rate)),
        }
        oversee(&run, &mut look).await
    });
    // Ends what was cut off, and closes all connections.
    drop(tasks);
    finish(run.counters.replace(Counters::new()?), cut)
}

/// Closes the count. `ended` says whether requests were cut off.
fn finish(mut counters: Counters, ended: Result<bool>) -> Result<Counters> {
    let interrupted = interrupt::count() > 1;
    let failure = match ended {
        Ok(cut) => return counters.close(cut).map(|()| counters),
        Err(error) if counters.outcomes.ok == 0 || interrupted => return Err(error),
        Err(error) => error,
    };
    counters.close(true)?;
    Err(Failed { counters: Box::new(counters), reason: format!("{failure:#}") }.into())
}

/// Waits for the end. Gives whether requests were cut off.
async fn oversee(run: &Run, look: &mut impl FnMut(&Counters, Duration)) -> Result<bool> {
    let mut interrupted: Option<Instant> = None;
    while run.active.get() > 0 {
        look(&run.counters.borrow(), run.start.elapsed());
        if let Some(failure) = run.failure.take() {
            return Err(failure);
        }
        match interrupt::count() {
            0 => {}
            1 if interrupted.is_none_or(|at| at.elapsed() < GRACE) => {
                if interrupted.is_none() {
                    interrupted = Some(Instant::now());
                    run.stop();
                }
            }
            1 => return Ok(true),
            _ => bail!("interrupted"),
        }
        sleep(LOOK_EVERY).await;
    }
    // A task may have failed as the last one.
    run.failure.take().map_or(Ok(false), Err)
}

/// One client that asks, waits for the answer, and asks again.
async fn closed_loop(run: Rc<Run>, number: usize) -> Result<()> {
    let mut kept = None;
    loop {
        let due = run.start.elapsed();
        if !run.goes_on(due) {
            return Ok(());
        }
        run.begin();
        let (outcome, connection) = run.ask(due, kept, number).await?;
        kept = connection;
        if outcome == Outcome::Refused {
            sleep(AFTER_REFUSAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::arrivals::Arrivals;
    use crate::probe::open_loop::POOL;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// A server that answers on as many connections as come; it ends with the test program.
    fn server() -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                count.fetch_add(1, Relaxed);
                std::thread::spawn(move || {
                    let mut buffer = [0; 1000];
                    while let Ok(1..) = stream.read(&mut buffer) {
                        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
                        stream.write_all(answer.as_bytes()).unwrap();
                    }
                });
            }
        });
        (address, connections)
    }

    const TIME: Until = Until::Time(Duration::from_millis(200));

    fn closed(connections: u64, keep_alive: bool, until: Until) -> Load {
        Load { connections, rate: None, arrivals: Arrivals::Even, keep_alive, until }
    }

    fn open(connections: u64, keep_alive: bool, until: Until) -> Load {
        Load { rate: Some(500), ..closed(connections, keep_alive, until) }
    }

    /// Answers may take long: other tests want the CPU, too.
    fn drive(address: SocketAddr, load: &Load) -> Counters {
        drive_within(address, load, Duration::from_secs(20))
    }

    fn drive_within(address: SocketAddr, load: &Load, limit: Duration) -> Counters {
        let target = Target::new(address, "here", "/", load.keep_alive, limit);
        run(target, load, Instant::now(), |_, _| {}).unwrap()
    }

    #[test]
    fn a_closed_loop_ends_after_so_many_requests_on_a_connection_each_or_one_per_client() {
        for (keep_alive, expected) in [(false, 50), (true, 3)] {
            let (address, connections) = server();
            let until = Until::Requests(50);
            let counters = drive(address, &closed(3, keep_alive, until));
            assert_eq!((counters.attempted, counters.outcomes.ok), (50, 50));
            assert_eq!(connections.load(Relaxed), expected);
        }
    }

    #[test]
    fn an_open_loop_asks_at_its_rate_and_takes_turns_among_a_pool() {
        for (keep_alive, expected) in [(false, 100), (true, POOL)] {
            let (address, connections) = server();
            let counters = drive(address, &open(1000, keep_alive, TIME));
            let Counters { attempted, outcomes, not_sent, .. } = counters;
            assert_eq!((attempted, outcomes.ok, not_sent), (100, 100, 0));
            assert!(counters.lasted >= Duration::from_millis(200));
            assert_eq!((counters.lateness.len(), counters.arrivals.len()), (100, 100));
            // A slow machine may need more than the pool's least.
            assert!(connections.load(Relaxed) >= expected);
        }
    }

    #[test]
    fn a_stalled_server_does_not_slow_the_questions_and_what_exceeds_the_limit_is_counted() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let Counters { attempted, outcomes, not_sent, .. } =
            drive_within(address, &open(30, false, TIME), Duration::from_millis(300));
        assert_eq!((attempted, outcomes.timed_out_answering, not_sent), (30, 30, 70));
    }

    #[test]
    fn what_was_counted_before_the_prober_failed_is_kept() {
        let failed = |answered| {
            let mut counters = Counters::new().unwrap();
            counters.attempted = 3;
            (0..answered).for_each(|_| counters.count(Outcome::Ok, GRACE, GRACE));
            finish(counters, Err(anyhow::anyhow!("no port left"))).err().unwrap()
        };
        let kept: Failed = failed(2).downcast().unwrap();
        assert_eq!((kept.counters.attempted, kept.counters.cut_off), (2, 1));
        assert_eq!(kept.to_string(), "no port left");
        assert!(failed(0).downcast::<Failed>().is_err());
    }

    #[test]
    fn whoever_is_refused_waits_a_moment() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let counters = drive(address, &closed(2, false, TIME));
        assert_eq!(counters.attempted, counters.outcomes.refused);
        assert!((2..=40).contains(&counters.attempted), "{}", counters.attempted);
    }
}
