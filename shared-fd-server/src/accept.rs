//! The ways to wait for connections on a socket that others wait for too.

use std::net::TcpListener;

use anyhow::Result;
use clap::ValueEnum;
use common::start::Seat;
use common::waiter::{Policy, Sockets};

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
    /// As exclusive, but a worker steps back while another has fewer connections open
    LeastConn,
}

impl Accept {
    /// This way to wait for a socket, for the worker in this seat.
    ///
    /// # Errors
    /// When the kernel refuses what the policy needs, such as a further descriptor.
    pub fn to(self, seat: &Seat, listener: TcpListener) -> Result<Sockets> {
        let policy: Option<Box<dyn Policy>> = match self {
            Self::Epoll => None,
            Self::Blocking => Some(Box::new(Blocking::on(&listener)?)),
            Self::Exclusive => Some(Box::new(Exclusive::on(&listener)?)),
            Self::LeastConn => Some(Box::new(LeastConn::on(seat, &listener)?)),
        };
        Ok(Sockets { listeners: vec![listener], policy })
    }
}
