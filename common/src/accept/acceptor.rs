//! A worker's listening sockets, and who waits for them: tokio, or somebody else, where a policy wants that.

use std::io;
use std::net::TcpListener;
use std::pin::Pin;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};

use crate::accept::epoll_instance;
use crate::accept::recipient::Recipient;
use crate::scoreboard::OwnSlot;
use crate::steering::Lane;

/// What an acceptor does goes on for a while. Boxed, since a worker does not know which one it has.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Waits for connections in tokio's place, and has a worker serve them.
pub trait Acceptor {
    /// Does so, in the worker's event loop. Comes back only with an error that would come again.
    fn run(&mut self) -> Doing<'_, io::Error>;

    /// Ends the waiting, and has served what was accepted until then. The socket is left, if somebody may be
    /// in its queue.
    fn drain(self: Box<Self>) -> Doing<'static, Option<TcpListener>>;
}

/// Starts an acceptor for this socket and this worker, in the worker's event loop, whose epoll instance is the
/// one in the middle, if it could be found.
pub type Start =
    Box<dyn FnOnce(TcpListener, Option<i32>, &'static dyn Recipient) -> Result<Box<dyn Acceptor>>>;

/// A way to wait that is not tokio's.
pub struct Way {
    /// Called whenever the event loop has nothing to do.
    pub on_park: Option<fn()>,
    /// Starts it.
    pub start: Start,
}

/// A worker's listening sockets, and how it waits for them.
pub struct Sockets {
    /// The sockets.
    pub listeners: Vec<TcpListener>,
    /// The worker's lane, where a policy steers by load.
    pub(crate) lane: Option<&'static dyn Lane>,
    way: Option<Way>,
    /// The epoll instance of the event loop, once there is one.
    events: Option<i32>,
}

impl From<Vec<TcpListener>> for Sockets {
    /// As tokio does.
    fn from(listeners: Vec<TcpListener>) -> Self {
        Self { listeners, lane: None, way: None, events: None }
    }
}

impl Sockets {
    /// One socket, and another way to wait for it.
    pub fn waited_for(listener: TcpListener, way: Way) -> Self {
        Self { way: Some(way), ..Self::from(vec![listener]) }
    }

    /// The same, and the worker keeps this lane, if any.
    pub fn with_lane(self, lane: Option<&'static dyn Lane>) -> Self {
        Self { lane, ..self }
    }

    /// An event loop that can wait like this, and shows in its lane, if any, when it sleeps.
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

    /// Starts who waits in tokio's place, if somebody does, and who takes the socket then. To be called in the
    /// worker's event loop.
    ///
    /// # Errors
    /// When there can be no further thread, or no other way to wait.
    pub fn start_acceptor(
        &mut self,
        worker: &'static dyn Recipient,
    ) -> Result<Option<Box<dyn Acceptor>>> {
        let Some(way) = self.way.take() else { return Ok(None) };
        let listener = self.listeners.pop().context("no socket to wait for")?;
        (way.start)(listener, self.events, worker).map(Some)
    }
}
