//! The accept policies: how a worker waits for connections on a socket that it shares with others.

mod blocking;
mod event_loop;
mod exclusive;
mod least_conn;
mod thread;

use std::net::TcpListener;

use anyhow::Result;
use clap::ValueEnum;
use common::accept::acceptor::Sockets;
use common::cli::options::Options;
use common::parent::context::WorkerContext;
use common::platform::affinity::Affinity;
use common::platform::schedule::Schedule;

use exclusive::Exclusive;

/// The accept policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accept {
    /// tokio's way: each worker watches the socket with epoll, and all are woken (thundering herd)
    Epoll,
    /// A thread of each worker blocks in accept(2); they take turns, regardless of their load
    Blocking,
    /// The event loop waits with EPOLLEXCLUSIVE; the first idle worker is woken, in a fixed order
    Exclusive,
    /// As exclusive, but few workers wait, and kept connections go to workers that have fewer
    LeastConn,
}

impl Accept {
    /// The socket, and this way to wait for it, for the worker with this context.
    ///
    /// # Errors
    /// When the kernel refuses what the policy needs, such as a further descriptor.
    pub fn to(self, context: &WorkerContext, listener: TcpListener) -> Result<Sockets> {
        Ok(match self {
            Self::Epoll => Sockets::from(vec![listener]),
            Self::Blocking => blocking::wait_on(listener)?,
            Self::Exclusive => Sockets::waited_for(listener, Exclusive::wait(context.slot)),
            Self::LeastConn => Sockets::waited_for(listener, least_conn::wait(context)),
        })
    }

    /// Sets the policy's defaults for `--schedule` and `--affinity`.
    pub fn fill_in(self, options: &mut Options) {
        let schedule = match self {
            Self::LeastConn => Schedule::ByLoad,
            Self::Epoll | Self::Blocking | Self::Exclusive => Schedule::Normal,
        };
        options.schedule.get_or_insert(schedule);
        options.affinity.get_or_insert(Affinity::Free);
    }
}
