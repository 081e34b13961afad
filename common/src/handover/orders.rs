//! The parent's orders, as the worker's event loop gets them.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, anyhow};
use nix::sys::signalfd::SignalFd;
use tokio::io::{Interest, unix::AsyncFd};
use tokio::time::sleep;

use crate::handover;
use crate::kernel::sockets::is_readable;
use crate::parent::channel::{Channel, Message};
use crate::parent::signals;

/// An order.
pub enum Order {
    /// Answer open requests, then end.
    Drain,
    /// Send listening sockets to another worker, and go on using them: if it dies before it serves them, nothing is
    /// lost.
    Give {
        /// All, as this worker will drain when the other serves; or the last, which it had adopted and will release.
        all: bool,
        /// The line to the other worker.
        line: OwnedFd,
    },
    /// Close the last listening socket: the worker that got it serves it now.
    Release,
    /// Accept from these sockets too.
    Adopt(Vec<TcpListener>),
}

impl Order {
    /// Carries out an order about the listening sockets of a worker.
    ///
    /// # Errors
    /// When the parent is gone.
    pub fn carry_out(
        self,
        listeners: &mut Vec<AsyncFd<TcpListener>>,
        parent: &Channel,
    ) -> Result<()> {
        match self {
            Self::Drain => {} // the worker carries it out
            Self::Give { all, line } => {
                let first = if all { 0 } else { listeners.len().saturating_sub(1) };
                if let Err(error) = handover::give(line, &listeners[first..]) {
                    tracing::warn!("could not hand over a socket: {error:#}");
                }
            }
            Self::Release if listeners.len() > 1 => drop(listeners.pop()),
            Self::Release => {}
            Self::Adopt(sockets) => {
                let reply = match watch(sockets) {
                    Ok(adopted) => {
                        listeners.extend(adopted);
                        Message::Adopted
                    }
                    // They are closed here again; the giver has kept them.
                    Err(error) => Message::NotAdopted(format!("{error:#}")),
                };
                parent.send(&reply, &[])?;
            }
        }
        Ok(())
    }
}

/// Registers these sockets with the event loop.
///
/// # Errors
/// When the kernel refuses.
#[allow(unsafe_code)]
pub fn watch(listeners: Vec<TcpListener>) -> Result<Vec<AsyncFd<TcpListener>>> {
    // SAFETY: a TcpListener owns its descriptor, which stays open, and the same file, as long as it lives.
    let watch = |it| unsafe { AsyncFd::register_with_interest(it, Interest::READABLE) };
    let watched = listeners.into_iter().map(|it| Ok(watch(it)?)).collect::<io::Result<_>>();
    watched.context("cannot watch a listening socket")
}

/// The stream of orders.
pub struct Orders<'a> {
    channel: &'a Channel,
    ready: AsyncFd<BorrowedFd<'a>>,
    /// SIGTERM to this worker. The parent decides: it may be for the whole server.
    signals: AsyncFd<SignalFd>,
    /// Reserves a descriptor for the one that an order may bring, when connections use up all others.
    reserve: Option<OwnedFd>,
}

impl<'a> Orders<'a> {
    /// The orders that come over this channel.
    pub fn of(channel: &'a Channel) -> Result<Self> {
        let ready = channel.watch().context("cannot watch the channel to the parent")?;
        let signals = signals::watch_in_worker()?;
        let mut orders = Self { channel, ready, signals, reserve: None };
        orders.make_room();
        Ok(orders)
    }

    /// Opens the reserve again, if there is a descriptor for it.
    fn make_room(&mut self) {
        self.reserve = self.channel.as_fd().try_clone_to_owned().ok();
    }

    /// Waits for the next order.
    pub async fn next(&mut self) -> Result<Order> {
        let mut wants_room = false;
        loop {
            if self.reserve.is_none() && !wants_room {
                self.make_room();
            }
            let mut ready = tokio::select! {
                ready = self.ready.readable() => ready?,
                signalled = self.signals.readable() => {
                    signalled?.clear_ready();
                    while signals::next(self.signals.get_ref())?.is_some() {
                        self.channel.send(&Message::Terminated, &[])?;
                    }
                    continue;
                }
            };
            let received = match self.channel.try_receive() {
                Ok(Some(received)) => received,
                Ok(None) => {
                    ready.clear_ready();
                    continue;
                }
                Err(error) if Channel::is_for_want_of_room(&error) => {
                    wants_room = true;
                    if self.reserve.take().is_none() {
                        sleep(handover::ROOM_WITHIN).await; // the accept thread took it
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            wants_room = false;
            let Some((message, descriptors)) = received else {
                return Ok(Order::Drain); // the parent is gone
            };
            match (message, descriptors.into_iter().next()) {
                (Message::Drain, _) => return Ok(Order::Drain),
                (Message::Release, _) => return Ok(Order::Release),
                (Message::Give { all }, Some(line)) => return Ok(Order::Give { all, line }),
                (Message::Adopt, Some(line)) => {
                    let taken = tokio::select! {
                        biased;
                        taken = handover::take_while_serving(line) => taken,
                        // That is the next order, and a stopped giver would delay it.
                        said = self.is_told_more() => {
                            said?;
                            Err(anyhow!("another order came first"))
                        }
                    };
                    match taken {
                        Ok(sockets) => return Ok(Order::Adopt(sockets)),
                        Err(error) => {
                            self.channel.send(&Message::NotAdopted(format!("{error:#}")), &[])?;
                        }
                    }
                }
                (message, _) => tracing::warn!("unexpected message from the parent: {message:?}"),
            }
        }
    }

    /// Waits until the parent sends another order. While sockets are on their way here, that is the end of the server,
    /// or the parent needs a socket to attach the steering program again: nothing else is asked of a busy worker.
    async fn is_told_more(&self) -> Result<()> {
        loop {
            let mut ready = self.ready.readable().await?;
            if is_readable(self.channel) {
                return Ok(());
            }
            ready.clear_ready(); // it was the order to adopt
        }
    }
}
