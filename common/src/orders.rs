//! What a worker is told by its parent, as the worker's event loop sees it.

use std::net::TcpListener as StdTcpListener;
use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use tokio::io::unix::AsyncFd;
use tokio::net::TcpListener;

use crate::channel::{Channel, Message};
use crate::handover;

/// An order.
pub enum Order {
    /// Answer what there is, then end.
    Drain,
    /// Send listening sockets over this line to another worker.
    Give(HowMany, OwnedFd),
    /// Accept from these sockets too.
    Adopt(Vec<StdTcpListener>),
}

/// How many of its listening sockets a worker gives away.
#[derive(Clone, Copy)]
pub enum HowMany {
    /// All, to a successor; they stay in use here until this worker drains.
    All,
    /// The last, which it had adopted; it is not used here any more.
    One,
}

impl HowMany {
    /// Gives. If the other side is gone nothing is lost: the sockets are still here.
    pub fn give(self, line: OwnedFd, listeners: &mut Vec<TcpListener>) {
        let last = listeners.len() - 1;
        let given = match self {
            Self::All => handover::give(line, listeners),
            Self::One => handover::give(line, &listeners[last..]),
        };
        match (given, self) {
            (Ok(()), Self::One) if last > 0 => drop(listeners.pop()),
            (Ok(()), _) => {}
            (Err(error), _) => tracing::warn!("could not hand over a socket: {error:#}"),
        }
    }
}

/// The orders as they come.
pub struct Orders<'a> {
    channel: &'a Channel,
    ready: AsyncFd<BorrowedFd<'a>>,
}

impl<'a> Orders<'a> {
    /// The orders that come over this channel.
    pub fn of(channel: &'a Channel) -> Result<Self> {
        let ready = channel.watch().context("cannot watch the channel to the parent")?;
        Ok(Self { channel, ready })
    }

    /// Waits for the next order.
    pub async fn next(&mut self) -> Result<Order> {
        loop {
            let mut ready = self.ready.readable().await?;
            let Some(received) = self.channel.try_receive()? else {
                ready.clear_ready();
                continue;
            };
            let Some((message, descriptors)) = received else {
                return Ok(Order::Drain); // a parent that is gone needs no word
            };
            match (message, descriptors.into_iter().next()) {
                (Message::Drain, _) => return Ok(Order::Drain),
                (Message::GiveAll, Some(line)) => return Ok(Order::Give(HowMany::All, line)),
                (Message::GiveOne, Some(line)) => return Ok(Order::Give(HowMany::One, line)),
                (Message::Adopt, Some(line)) => match handover::take_while_serving(line).await {
                    Ok(sockets) => return Ok(Order::Adopt(sockets)),
                    Err(error) => tracing::warn!("could not take over a socket: {error:#}"),
                },
                (message, _) => tracing::warn!("an order that makes no sense: {message:?}"),
            }
        }
    }
}
