//! One worker's life: a runtime of its own, and the accept loop this project is about.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context, Result};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::accept::accept_error;
use crate::accept::drain_accept_queue::drain_accept_queue;
use crate::accept::in_turn::poll_accept;
use crate::accept::waiter::{self, Sockets, Waiter};
use crate::cli::options::Options;
use crate::handover::orders::{Order, Orders, watch};
use crate::http::deadlines::{Deadlines, TICK};
use crate::kernel::sockets::inode;
use crate::lesson::app::App;
use crate::lesson::counters::{ConnectionGuard, Worker};
use crate::parent::channel::Message;
use crate::parent::context::WorkerContext;
use crate::scoreboard::{OwnSlot, State};

/// Serves these listening sockets until the parent says stop. There is one, and more only where a
/// worker took over the socket of another.
///
/// The worker makes its runtime here, after it was forked: a runtime holds an epoll instance and
/// other descriptors, and two processes that share those steal each other's events. One thread is
/// enough, since the processes are what spreads the work over the cores.
pub fn run(context: &WorkerContext, sockets: impl Into<Sockets>, options: &Options) -> Result<()> {
    context.slot.occupy();
    options.schedule.map_or(Ok(()), |way| way.set())?;
    context.cpu.map_or(Ok(()), crate::platform::affinity::pin_to)?;
    context.give_up_rights(options.user.as_ref())?; // it has its sockets
    // Leaked, so that no request and no connection has to count a reference to it.
    let worker: &'static Worker = Box::leak(Box::new(Worker {
        app: App::new(options),
        slot: context.slot,
        lane: context.lane,
        deadlines: Deadlines::new(options, context.slot, context.slots),
        max_connections: options.max_connections.into(),
        ended: Notify::new(),
    }));
    let mut sockets: Sockets = sockets.into();
    sockets.event_loop(context.slot, context.lane)?.block_on(worker.live(context, sockets))
}

impl Worker {
    async fn live(&'static self, context: &WorkerContext, sockets: Sockets) -> Result<()> {
        let first = sockets.listeners.first().context("a worker without a listening socket")?;
        self.slot.set(|slot| &slot.socket_inode, inode(first));
        self.slot.set(|slot| &slot.sockets, sockets.listeners.len() as u64);
        let (listeners, mut waiter) = sockets.divide(self)?;
        let mut listeners = watch(listeners)?; // none, where a thread waits for them
        self.slot.beat();
        tokio::spawn(self.tick());
        let mut orders = Orders::of(&context.channel)?;
        self.slot.set_state(State::Serving);
        context.channel.send(&Message::Ready, &[])?;
        loop {
            let order = tokio::select! {
                biased;
                order = orders.next() => order?,
                error = waiter::serve(&mut waiter) => return Err(error.into()),
                error = self.accept_connections(&listeners), if waiter.is_none() =>
                    return Err(error.into()),
            };
            match order {
                Order::Drain => break,
                order => order.carry_out(&mut listeners, &context.channel)?,
            }
            self.slot.set(|slot| &slot.sockets, listeners.len() as u64);
        }
        self.drain(listeners, waiter).await;
        Ok(())
    }

    /// The accept loop: take a connection off an accept queue, count it, serve it in a task of its
    /// own. Comes back only with an error that would come again at once.
    async fn accept_connections(&'static self, listeners: &[AsyncFd<TcpListener>]) -> io::Error {
        let mut turn = 0;
        loop {
            self.room(listeners).await;
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

    /// Ends in good order: accepts what is queued already, then nothing more, answers what it has.
    ///
    /// Whoever waits in the accept queue believes to be connected. To close the socket on them
    /// would be to reset them.
    async fn drain(&'static self, listeners: Vec<AsyncFd<TcpListener>>, waiter: Option<Waiter>) {
        self.slot.set_state(State::Draining);
        self.deadlines.drain();
        let own = listeners.into_iter().map(AsyncFd::into_inner);
        for listener in own.chain(waiter::drain(waiter).await) {
            drain_accept_queue(listener, self).await;
        }
        // However long it takes: the parent has the deadline, and kills.
        while self.slot.connections_open.load(Relaxed) > 0 {
            self.ended.notified().await;
        }
    }

    /// Four times a second: a heartbeat, and a look at stalled clients.
    async fn tick(&'static self) -> Infallible {
        loop {
            self.slot.beat();
            self.lane.inspect(|lane| lane.tick(self.slot));
            self.deadlines.tick();
            self.look_who_waits();
            // Not an interval: that makes up for a late tick with an early one, and whatever began
            // just before the late one would have that much less than its limit.
            sleep(TICK).await;
        }
    }
}

/// Waits for the next connection, and counts the times it was woken for nothing.
///
/// Every worker that waits for a shared socket is woken for each new connection, because tokio
/// registers it with epoll without EPOLLEXCLUSIVE. One of them gets it: the thundering herd. Most of
/// the others find out inside epoll_wait(2) that nothing is left, and sleep again without coming back
/// from it: they show as voluntary context switches. Those that come back and find the queue empty
/// are counted here. A socket of one's own has no herd.
async fn accept(
    listeners: &[AsyncFd<TcpListener>],
    turn: &mut usize,
    slot: OwnSlot,
) -> io::Result<TcpStream> {
    let mut woken = false;
    poll_fn(|context| {
        let polled = poll_accept(listeners, turn, context);
        if polled.is_pending() {
            // The first poll only looks whether the queue holds more; each later one is a wake-up.
            if woken {
                slot.add(|slot| &slot.wakeups_without_connection, 1);
            }
            woken = true;
        }
        polled
    })
    .await
}
