//! What a program gives its parent process to run a server with.

use std::net::TcpListener;

use anyhow::Result;

use super::context::WorkerContext;
use super::succession::Inherited;
use crate::steering::Steering;

/// How a program starts its workers.
pub struct Start<'a> {
    /// By fork or by exec.
    pub how: How<'a>,
    /// The listening socket that all workers share; `None` if each has its own.
    pub listener: Option<TcpListener>,
    /// The socket that reserves the address for workers with their own sockets, see
    /// [`reserve`](super::reservation::reserve).
    pub reservation: Option<TcpListener>,
    /// What this server got from the old one, in an upgrade.
    pub inherited: Option<Inherited>,
    /// The steering policy for per-worker sockets; `None` leaves the choice to the kernel's hash.
    pub steering: Option<Box<dyn Steering>>,
}

/// The two ways.
#[derive(Clone, Copy)]
pub enum How<'a> {
    /// By fork: the child runs this with its context and its copy of the shared socket.
    Fork(&'a Serve<'a>),
    /// By exec, as a fresh copy of this program, see [`as_worker`](super::context::as_worker).
    Exec,
}

/// What a forked worker does.
pub type Serve<'a> = dyn Fn(&WorkerContext, TcpListener) -> Result<()> + 'a;
