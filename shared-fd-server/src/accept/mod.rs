//! The ways to wait for connections on a socket that others wait for too.

mod blocking;
mod exclusive;
mod least_conn;
mod peers;

use std::net::TcpListener;

use anyhow::Result;
use clap::ValueEnum;
use common::accept::waiter::{Sockets, Way};
use common::cli::options::Options;
use common::parent::context::WorkerContext;
use common::platform::affinity::Affinity;
use common::platform::schedule::Schedule;

use blocking::Blocking;
use exclusive::Exclusive;
use least_conn::LeastConn;

/// Who gets the next connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accept {
    /// As tokio does it: every worker's epoll watches the socket, and all are woken
    Epoll,
    /// A thread per worker sits in accept(2): they take turns, whatever they have to do
    Blocking,
    /// The event loop waits with EPOLLEXCLUSIVE: the first worker that is idle, always in one order
    Exclusive,
    /// As exclusive, but a few wait for all, and who has fewer connections gets those that are kept
    LeastConn,
}

impl Accept {
    /// This way to wait for a socket, for the worker with this context.
    ///
    /// # Errors
    /// When the kernel refuses what the policy needs, such as a further descriptor.
    pub fn to(self, context: &WorkerContext, listener: TcpListener) -> Result<Sockets> {
        let way = match self {
            Self::Epoll => Way::Tokio,
            Self::Blocking => Way::Thread(Box::new(Blocking::on(&listener)?)),
            Self::Exclusive => Way::Loop(Exclusive::enter()),
            Self::LeastConn => Way::Loop(LeastConn::enter(context)),
        };
        Ok(Sockets { listeners: vec![listener], way, events: None })
    }

    /// Decides how workers that wait like this are run, where nobody has said.
    pub fn fill_in(self, options: &mut Options) {
        let schedule = match self {
            Self::LeastConn => Schedule::Batch,
            Self::Epoll | Self::Blocking | Self::Exclusive => Schedule::Normal,
        };
        options.schedule.get_or_insert(schedule);
        options.affinity.get_or_insert(Affinity::Free);
    }
}
