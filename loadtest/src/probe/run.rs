//! What all tasks of a run share. They run on one thread, so nothing here needs a lock.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::probe::arrivals::Arrivals;
use crate::probe::client::{self, Asked};
use crate::probe::counters::Counters;
use crate::probe::outcome::Outcome;
use crate::probe::target::Target;

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
pub struct Run {
    /// What is asked.
    pub load: Load,
    /// Of whom.
    pub target: Target,
    /// When it began.
    pub start: Instant,
    /// What was counted so far.
    pub counters: RefCell<Counters>,
    /// Ctrl-C came: nothing new is begun.
    pub stopped: Cell<bool>,
    /// Tasks that have not ended.
    pub active: Cell<usize>,
    /// The first error of a task.
    pub failure: RefCell<Option<anyhow::Error>>,
}

impl Run {
    /// Nothing asked yet.
    pub fn new(load: Load, target: Target, start: Instant) -> Result<Rc<Self>> {
        Ok(Rc::new(Self {
            load,
            target,
            start,
            counters: RefCell::new(Counters::new()?),
            stopped: Cell::new(false),
            active: Cell::new(0),
            failure: RefCell::new(None),
        }))
    }

    /// Runs a task, which counts as active until it ends, however it does.
    pub fn spawn(self: Rc<Self>, task: impl Future<Output = Result<()>> + 'static) {
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
    pub fn stop(&self) {
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
    pub fn goes_on(&self, due: Duration) -> bool {
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
    pub fn begin(&self) {
        self.counters.borrow_mut().attempted += 1;
    }

    /// Asks once, counts what comes of it, and gives back the connection if it stays open.
    pub async fn ask(
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
        Ok((
            outcome,
            match stream {
                Some(stream) if closing => {
                    client::say_goodbye(stream).await;
                    None
                }
                open => open.filter(|_| self.load.keep_alive),
            },
        ))
    }
}
