//! The ways to wait for connections on a socket that others wait for too.

use std::net::TcpListener;

use anyhow::Result;
use clap::ValueEnum;
use common::accept::waiter::{Sockets, Way};
use common::cli::options::Options;
use common::parent::context::WorkerContext;
use common::platform::affinity::Affinity;
use common::platform::schedule::Schedule;

use crate::blocking::Blocking;
use crate::exclusive::Exclusive;
use crate::least_conn::LeastConn;

/// Who gets the next connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accept {
    /// As tokio does it: every worker's epoll watches the socket, and all are woken
    Epoll,
    /// A thread per worker sits in accept(2): they take turns, whatever they have to do
    Blocking,
    /// A thread per worker waits with EPOLLEXCLUSIVE: the first that is idle, always in one order
    Exclusive,
    /// Exclusively too, but in the event loop, and only while no other worker has fewer connections
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
            Self::Exclusive => Way::Thread(Box::new(Exclusive::on(&listener)?)),
            Self::LeastConn => Way::Loop(LeastConn::from(context)),
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
