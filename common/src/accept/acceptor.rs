//! A worker's listening sockets, and what waits for them: tokio or, with some policies, an acceptor.

use std::io;
use std::net::TcpListener;
use std::pin::Pin;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};

use crate::accept::epoll_instance;
use crate::accept::recipient::Recipient;
use crate::scoreboard::OwnSlot;
use crate::steering::Lane;

/// A future of an acceptor. Boxed, since a worker does not know which acceptor it has.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Waits for connections in tokio's place, and gives them to a worker to serve.
pub trait Acceptor {
    /// Does so, in the worker's event loop. Returns only with an error that would occur again.
    fn run(&mut self) -> Doing<'_, io::Error>;

    /// Stops waiting, after the connections that were accepted until then were given to the worker. Returns the
    /// socket if there may be connections in its queue.
    fn drain(self: Box<Self>) -> Doing<'static, Option<TcpListener>>;
}

/// Starts an acceptor for this socket and this worker, in the worker's event loop. The second argument is the
/// event loop's epoll instance, if it could be found.
pub type Start =
    Box<dyn FnOnce(TcpListener, Option<i32>, &'static dyn Recipient) -> Result<Box<dyn Acceptor>>>;

/// A way to wait that is not tokio's.
pub struct Way {
    /// Called whenever the event loop has nothing to do.
    pub on_park: Option<fn()>,
    /// Starts the acceptor.
    pub start: Start,
}

/// A worker's listening sockets, and how it waits for them.
pub struct Sockets {
    /// The sockets.
    pub listeners: Vec<TcpListener>,
    /// The worker's lane, if a policy steers by load.
    pub(crate) lane: Option<&'static dyn Lane>,
    way: Option<Way>,
    /// The epoll instance of the event loop, once there is one.
    events: Option<i32>,
}

impl From<Vec<TcpListener>> for Sockets {
    /// Sockets for which tokio waits.
    fn from(listeners: Vec<TcpListener>) -> Self {
        Self { listeners, lane: None, way: None, events: None }
    }
}

impl Sockets {
    /// One socket, and another way to wait for it.
    pub fn waited_for(listener: TcpListener, way: Way) -> Self {
        Self { way: Some(way), ..Self::from(vec![listener]) }
    }

    /// Adds the worker's lane, if it has one.
    pub fn with_lane(self, lane: Option<&'static dyn Lane>) -> Self {
        Self { lane, ..self }
    }

    /// Builds an event loop that can wait like this, and that shows in its lane, if any, when it sleeps.
    ///
    /// # Errors
    /// When the kernel gives it no descriptor.
    pub fn build_event_loop(&mut self, slot: OwnSlot) -> Result<Runtime> {
        let mut runtime = Builder::new_current_thread();
        if let Some(on_park) = self.way.as_ref().and_then(|way| way.on_park) {
            runtime.on_thread_park(on_park);
        } else if let Some(lane) = self.lane {
            runtime.on_thread_park(move || lane.sleeps(slot)).on_thread_unpark(|| lane.wakes());
        }
        let built = epoll_instance::build(runtime.enable_io().enable_time());
        let (runtime, events) = built.context("cannot build a tokio runtime")?;
        self.events = events;
        Ok(runtime)
    }

    /// Starts the acceptor that waits in tokio's place, if there is one; it takes the socket. To be called in the
    /// worker's event loop.
    ///
    /// # Errors
    /// When the kernel refuses what the acceptor needs, such as a thread or a descriptor.
    pub fn start_acceptor(
        &mut self,
        worker: &'static dyn Recipient,
    ) -> Result<Option<Box<dyn Acceptor>>> {
        let Some(way) = self.way.take() else { return Ok(None) };
        let listener = self.listeners.pop().context("no socket to wait for")?;
        (way.start)(listener, self.events, worker).map(Some)
    }
}
