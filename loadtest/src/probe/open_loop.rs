//! The open loop: a request is sent when it is due, whatever became of those before.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use tokio::net::TcpStream;
use tokio::task::yield_now;

use crate::probe::client::stands;
use crate::probe::run::{Run, Until};
use crate::probe::ticker::Ticker;

/// So many connections an open loop keeps alive at least, and takes turns among them: with the few
/// that a fast server needs, some of its workers would never be asked.
pub const POOL: usize = 64;

/// How long after its end a loop that is late still sends.
const LATEST: Duration = Duration::from_millis(500);

/// Asks whenever it is time to, whatever became of those before.
pub async fn open_loop(run: Rc<Run>, rate: u64) -> Result<()> {
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
            && run.start.elapsed() > end + LATEST
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
            if stands(&stream) {
                return Some(stream);
            }
        }
        None
    }
}
