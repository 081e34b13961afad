//! Many requests: in a closed loop, where each client waits for its answer before it asks again,
//! or in an open one, where the clock says when to ask.
//!
//! Everything runs on one thread, so what is shared needs no locks.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::sleep;

use crate::interrupt;
use crate::probe::arrivals::Arrivals;
use crate::probe::client::{self, Asked, Connection, ask, say_goodbye};
use crate::probe::counters::Counters;
use crate::probe::outcome::Outcome;
use crate::probe::target::Target;
use crate::probe::ticker::Ticker;

/// How long a client waits after a refusal. Asking again at once would be refused tens of thousands
/// of times a second, and take the CPU that a server needs to come back.
pub const AFTER_REFUSAL: Duration = Duration::from_millis(10);

/// So many connections an open loop keeps alive at least, and takes turns among them: with the few
/// that a fast server needs, some of its workers would never be asked.
pub const POOL: usize = 32;

/// How often Ctrl-C and the end are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long requests that are under way may take after Ctrl-C; and how long after its end an open
/// loop that is late still sends.
const GRACE: Duration = Duration::from_millis(500);

/// What is asked of the prober.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Clients of a closed loop; the most requests under way in an open one.
    pub connections: u64,
    /// Requests per second of an open loop; without it the loop is closed.
    pub rate: Option<u64>,
    /// How the requests of an open loop follow each other; a closed one does not ask.
    pub arrivals: Arrivals,
    /// Whether connections serve many requests, or one each.
    pub keep_alive: bool,
    /// When no more requests are begun.
    pub until: Until,
}

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After this time.
    Time(Duration),
    /// After so many requests.
    Requests(u64),
}

/// What all tasks of a run share.
struct Run {
    load: Load,
    target: Target,
    start: Instant,
    counters: RefCell<Counters>,
    /// Ctrl-C came: nothing new is begun.
    stopped: Cell<bool>,
    /// Tasks that have not ended.
    active: Cell<usize>,
    /// The first error of a task.
    failure: RefCell<Option<anyhow::Error>>,
}

/// The prober failed, and not the server. What was counted until then is no less true.
#[derive(Debug)]
pub struct Failed {
    /// The counts; requests under way are cut off.
    pub counters: Box<Counters>,
    reason: String,
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
    let run = Rc::new(Run {
        load: *load,
        target,
        start,
        counters: RefCell::new(Counters::new()?),
        stopped: Cell::new(false),
        active: Cell::new(0),
        failure: RefCell::new(None),
    });
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

impl Run {
    /// Runs a task, which counts as active until it ends, however it does.
    fn spawn(self: Rc<Self>, task: impl Future<Output = Result<()>> + 'static) {
        struct Active(Rc<Run>);
        impl Drop for Active {
            fn drop(&mut self) {
                self.0.active.set(self.0.active.get() - 1);
            }
        }
        self.active.set(self.active.get() + 1);
        let active = Active(self);
        spawn_local(async move {
            if let Err(error) = task.await {
                active.0.stopped.set(true);
                active.0.failure.borrow_mut().get_or_insert(error);
            }
        });
    }

    /// Begins nothing new after Ctrl-C.
    fn stop(&self) {
        self.stopped.set(true);
        let mut counters = self.counters.borrow_mut();
        counters.interrupted = true;
        let now = self.start.elapsed();
        counters.lasted = match self.load.until {
            Until::Time(end) => now.min(end),
            Until::Requests(_) => now,
        };
    }

    /// Whether a request that is due at this time may still be begun.
    fn goes_on(&self, due: Duration) -> bool {
        if self.stopped.get() {
            return false;
        }
        let mut counters = self.counters.borrow_mut();
        match self.load.until {
            Until::Time(end) if due >= end => counters.lasted = end,
            Until::Requests(count) if counters.attempted >= count => {}
            _ => {
                counters.lasted = counters.lasted.max(due);
                return true;
            }
        }
        false
    }

    /// Counts a request as begun; it must be asked then.
    fn begin(&self) {
        self.counters.borrow_mut().attempted += 1;
    }

    /// Asks once, counts what comes of it, and gives back the connection if it stays open.
    async fn ask(
        &self,
        due: Duration,
        kept: Option<TcpStream>,
        number: usize,
    ) -> Result<(Outcome, Option<TcpStream>)> {
        let Asked { outcome, reason, connection } = ask(&self.target, kept, number).await?;
        {
            let mut counters = self.counters.borrow_mut();
            counters.count(outcome, due, self.start.elapsed());
            if let Some(reason) = reason {
                counters.first_wrong.get_or_insert(reason);
            }
        }
        let kept = match connection {
            Connection::Open(stream) => Some(stream).filter(|_| self.load.keep_alive),
            Connection::Closing(stream) => {
                say_goodbye(stream).await;
                None
            }
            Connection::Gone => None,
        };
        Ok((outcome, kept))
    }
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

/// Asks whenever it is time to, whatever became of those before.
async fn open_loop(run: Rc<Run>, rate: u64) -> Result<()> {
    let ticker = Ticker::new()?;
    let pool = Rc::new(Pool::default());
    let mut last = Duration::ZERO;
    for (number, due) in run.load.arrivals.at(rate).enumerate() {
        if !run.goes_on(due) {
            break;
        }
        ticker.wait_until(run.start + due).await?;
        // When it is late it does not wait; others want their turn all the same.
        yield_now().await;
        if run.stopped.get() {
            break;
        }
        last = due;
        if let Until::Time(end) = run.load.until
            && run.start.elapsed() > end + GRACE
        {
            let left = (end - due).as_secs_f64() * rate as f64;
            run.counters.borrow_mut().not_sent += left.ceil() as u64;
            break;
        }
        // This loop is a task as well.
        if run.active.get() as u64 > run.load.connections {
            run.counters.borrow_mut().not_sent += 1;
            continue;
        }
        run.begin();
        run.clone().spawn(one_request(run.clone(), pool.clone(), due, number));
    }
    let now = run.start.elapsed();
    run.counters.borrow_mut().all_sent(last, now);
    Ok(())
}

async fn one_request(run: Rc<Run>, pool: Rc<Pool>, due: Duration, number: usize) -> Result<()> {
    run.counters.borrow_mut().sent(due, run.start.elapsed());
    if !run.load.keep_alive {
        run.ask(due, None, number).await?;
        return Ok(());
    }
    let kept = pool.take();
    pool.in_use.set(pool.in_use.get() + 1);
    let (_, connection) = run.ask(due, kept, number).await?;
    pool.in_use.set(pool.in_use.get() - 1);
    pool.idle.borrow_mut().extend(connection);
    Ok(())
}

/// Connections of an open loop that are kept alive.
#[derive(Default)]
struct Pool {
    /// The one that was used last is at the end.
    idle: RefCell<VecDeque<TcpStream>>,
    in_use: Cell<usize>,
}

impl Pool {
    /// The connection that has been idle longest, if there are enough to take turns.
    fn take(&self) -> Option<TcpStream> {
        let mut idle = self.idle.borrow_mut();
        while idle.len() + self.in_use.get() >= POOL {
            let stream = idle.pop_front()?;
            if client::stands(&stream) {
                return Some(stream);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
                        let close = buffer.windows(5).any(|window| window == b"close");
                        let header = if close { "Connection: close\r\n" } else { "" };
                        let head = format!("HTTP/1.1 200 OK\r\n{header}Content-Length: 5\r\n\r\n");
                        stream.write_all(format!("{head}hello").as_bytes()).unwrap();
                        if close {
                            return;
                        }
                    }
                });
            }
        });
        (address, connections)
    }

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
            let until = Until::Time(Duration::from_millis(200));
            let load = open(1000, keep_alive, until);
            let counters = drive(address, &load);
            assert_eq!(
                (counters.attempted, counters.outcomes.ok, counters.not_sent),
                (100, 100, 0)
            );
            assert!(counters.lasted >= Duration::from_millis(200));
            assert_eq!((counters.lateness.len(), counters.arrivals.len()), (100, 100));
            // A slow machine may need more than the pool's least.
            assert!(connections.load(Relaxed) >= expected);
        }
    }

    #[test]
    fn a_stalled_server_does_not_slow_the_questions_and_what_exceeds_the_limit_is_counted() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let until = Until::Time(Duration::from_millis(200));
        let load = open(30, false, until);
        let counters =
            drive_within(silent.local_addr().unwrap(), &load, Duration::from_millis(300));
        assert_eq!(
            (counters.attempted, counters.outcomes.timed_out_answering, counters.not_sent),
            (30, 30, 70)
        );
    }

    #[test]
    fn whoever_is_refused_waits_a_moment() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let until = Until::Time(Duration::from_millis(100));
        let load = closed(2, false, until);
        let counters = drive(address, &load);
        assert_eq!(counters.attempted, counters.outcomes.refused);
        assert!((2..=20).contains(&counters.attempted), "{}", counters.attempted);
    }
}
