//! One worker's life: a runtime of its own, and the accept loop this project is about.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;

use anyhow::{Context, Result};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::accept::accept_error;
use crate::accept::acceptor::{Acceptor, Sockets};
use crate::accept::at_limit::{look_who_waits, room};
use crate::accept::drain_accept_queue::drain_accept_queues;
use crate::accept::in_turn::accept;
use crate::accept::recipient::{ConnectionGuard, Recipient};
use crate::cli::options::Options;
use crate::handover::orders::{Order, Orders, watch};
use crate::http::deadlines::{Deadlines, TICK};
use crate::kernel::sockets::inode;
use crate::lesson::app::App;
use crate::lesson::counters::Worker;
use crate::parent::channel::Message;
use crate::parent::context::WorkerContext;
use crate::platform::schedule::ByLoad;
use crate::scoreboard::State;

/// Workers begin their ticks at one of this many points of a tick's time.
const APART: u32 = 16;

/// Serves these listening sockets until the parent says stop. There is one, or several if the worker
/// took over the socket of another.
///
/// The worker makes its runtime here, after it was forked: a runtime holds an epoll instance and
/// other descriptors, and two processes that share those steal each other's events. One thread is
/// enough, since the processes are what spreads the work over the cores.
pub fn run(context: &WorkerContext, sockets: impl Into<Sockets>, options: &Options) -> Result<()> {
    let mut sockets: Sockets = sockets.into();
    context.slot.occupy();
    let by_load = context.settle(options)?; // it has its sockets
    // Leaked, so that no request and no connection has to count references. It lives as long as the process.
    let worker: &'static Worker = Box::leak(Box::new(Worker {
        app: App::new(options),
        slot: context.slot,
        lane: sockets.lane,
        deadlines: Deadlines::new(options, context.slot, context.slots),
        max_connections: options.max_connections.into(),
        ended: Notify::new(),
    }));
    sockets.build_event_loop(context.slot)?.block_on(worker.live(context, sockets, by_load))
}

impl Worker {
    async fn live(
        &'static self,
        context: &WorkerContext,
        mut sockets: Sockets,
        by_load: Option<ByLoad>,
    ) -> Result<()> {
        let first = sockets.listeners.first().context("the worker has no listening socket")?;
        self.slot.set(|slot| &slot.socket_inode, inode(first));
        self.slot.set(|slot| &slot.sockets, sockets.listeners.len() as u64);
        let mut acceptor = sockets.start_acceptor(self)?;
        let mut listeners = watch(sockets.listeners)?; // none, if an acceptor has them
        self.slot.beat();
        tokio::spawn(self.tick(by_load));
        let mut orders = Orders::of(&context.channel)?;
        self.slot.set_state(State::Serving);
        context.channel.send(&Message::Ready, &[])?;
        loop {
            let accepting = async {
                match &mut acceptor {
                    None => self.accept_connections(&listeners).await,
                    Some(acceptor) => acceptor.run().await,
                }
            };
            let order = tokio::select! {
                biased;
                order = orders.next() => order?,
                error = accepting => return Err(error.into()),
            };
            match order {
                Order::Drain => break,
                order => order.carry_out(&mut listeners, &context.channel)?,
            }
            self.slot.set(|slot| &slot.sockets, listeners.len() as u64);
        }
        self.drain(listeners, acceptor).await;
        Ok(())
    }

    /// The accept loop: takes a connection off an accept queue, counts it, serves it in a task of its
    /// own. Returns only with an error that would occur again at once.
    async fn accept_connections(&'static self, listeners: &[AsyncFd<TcpListener>]) -> io::Error {
        let mut turn = 0;
        loop {
            room(self, listeners).await;
            match accept(listeners, &mut turn, self.slot).await {
                Ok(stream) => self.serve(stream, ConnectionGuard::new(self)),
                Err(error) => {
                    if let Err(error) = accept_error::get_over(error).await {
                        return error;
                    }
                }
            }
        }
    }

    /// Ends in good order: accepts what is queued, then nothing more, and answers what it has.
    ///
    /// A client in the accept queue is connected as far as it knows. Closing the listening socket
    /// would reset it.
    async fn drain(
        &'static self,
        listeners: Vec<AsyncFd<TcpListener>>,
        acceptor: Option<Box<dyn Acceptor>>,
    ) {
        self.slot.set_state(State::Draining);
        self.deadlines.drain();
        let mut left: Vec<_> = listeners.into_iter().map(AsyncFd::into_inner).collect();
        if let Some(acceptor) = acceptor {
            left.extend(acceptor.drain().await);
        }
        drain_accept_queues(left, self).await;
        // No deadline here: the parent has one, and kills.
        while self.open() > 0 {
            self.ended.notified().await;
        }
    }

    /// Four times a second: a heartbeat, and a look at the load and at stalled clients.
    async fn tick(&'static self, mut by_load: Option<ByLoad>) -> Infallible {
        // Workers that start together must not tick together: with hundreds of workers, requests would wait
        // for all their ticks.
        sleep(TICK / APART * (std::process::id() % APART)).await;
        loop {
            self.slot.beat();
            self.lane.inspect(|lane| lane.tick(self.slot));
            by_load.iter_mut().for_each(ByLoad::look);
            self.deadlines.tick();
            look_who_waits(self);
            // Not an interval: after a late tick it sends an early one, and what began just before the
            // late tick would have that much less time than its limit.
            sleep(TICK).await;
        }
    }
}
