//! One worker's life: a runtime of its own, and the accept loop this project is about.

use std::future::poll_fn;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};

use crate::channel::{Channel, Message};
use crate::connection;
use crate::handler::App;
use crate::options::Options;
use crate::scoreboard::{Slot, State};
use crate::socket;
use crate::start::Seat;

/// Serves `listener` until the parent says stop.
///
/// The worker makes its runtime here, after it was forked: a runtime holds an epoll instance and
/// other descriptors, and two processes that share those steal each other's events. One thread is
/// enough, since the processes are what spreads the work over the cores.
pub fn run(seat: &Seat, listener: StdTcpListener, options: &Options) -> Result<()> {
    seat.slot.occupy();
    // One app for the whole life of the process: leaked, so that no request has to count a
    // reference to it.
    let app: &'static App = Box::leak(Box::new(App::new(options)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot build a tokio runtime")?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).context("cannot watch the socket")?;
        seat.slot.socket_inode.store(socket::inode(&listener), Relaxed);
        seat.slot.set_state(State::Serving);
        seat.channel.send(&Message::Ready, &[])?;
        tokio::select! {
            error = accept_connections(&listener, app, seat.slot) => Err(error.into()),
            ended = told_to_stop(&seat.channel) => ended,
        }
    })
}

/// The accept loop: take a connection off the accept queue, count it, serve it in a task of its
/// own. Comes back only with an error that would come again at once.
async fn accept_connections(
    listener: &TcpListener,
    app: &'static App,
    slot: &'static Slot,
) -> io::Error {
    loop {
        match accept(listener, slot).await {
            Ok(stream) => {
                Slot::add(&slot.connections_accepted, 1);
                tokio::spawn(connection::serve(stream, app, slot));
            }
            // The client was gone before we came: accept(2) lists what a network may do to it.
            Err(error) if belongs_to_the_connection(&error) => {}
            Err(error) => return error,
        }
    }
}

/// Waits for the next connection, and counts the times it was woken for nothing.
///
/// Every worker that watches a shared socket is woken for each new connection, because tokio
/// registers it with epoll without EPOLLEXCLUSIVE. One of them gets it, the others find the queue
/// empty: the thundering herd. A socket of one's own has no herd.
async fn accept(listener: &TcpListener, slot: &Slot) -> io::Result<TcpStream> {
    let mut woken = false;
    poll_fn(|context| match listener.poll_accept(context) {
        Poll::Ready(accepted) => Poll::Ready(accepted.map(|(stream, _peer)| stream)),
        Poll::Pending => {
            // The first poll only looks whether the queue holds more; each later one is a wake-up.
            if woken {
                Slot::add(&slot.wakeups_without_connection, 1);
            }
            woken = true;
            Poll::Pending
        }
    })
    .await
}

fn belongs_to_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Waits for the parent's word to stop. A parent that is gone needs no word.
async fn told_to_stop(channel: &Channel) -> Result<()> {
    let watch = channel.watch()?;
    loop {
        let mut ready = watch.readable().await?;
        match channel.try_receive()? {
            None => ready.clear_ready(),
            Some(_) => return Ok(()),
        }
    }
}
