//! Looks at the server's port once a second, and logs other servers' sockets there, see
//! [`port_watch`](crate::kernel::port_watch).
//!
//! A look is one question to the kernel for each address family, about the sockets that listen on this
//! port. Only for a foreign socket it searches /proc for the process that has it open.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use tracing::{info, warn};

use super::channel::{Channel, Message};
use super::driver::Driver;
use crate::kernel::port_owner::holder;
use crate::kernel::port_watch::{Finding, How, Look};
use crate::kernel::sock_diag::{Listener, listeners};
use crate::kernel::sockets::inode;
use crate::scoreboard::State;
use crate::steering::{Steering, ensure_listens_on};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// The same if the kernel does not answer.
const LATER: Duration = Duration::from_secs(60);

/// The same while a finding must be confirmed.
const SOON: Duration = Duration::from_millis(200);

impl Driver<'_> {
    /// Looks, and logs what is new. Returns when to look again.
    pub(super) fn look_at_port(&mut self) -> Duration {
        self.take_socket();
        let look = match self.look() {
            Ok(look) => look,
            // It may be for want of a descriptor, for a moment.
            Err(error) => {
                static TOLD: AtomicBool = AtomicBool::new(false);
                if !TOLD.swap(true, Relaxed) {
                    info!(
                        "cannot look for other servers on the port: {error:#}; tried again every minute, this is \
                         logged only once"
                    );
                }
                return LATER;
            }
        };
        for finding in self.port_watch.take(&look) {
            match finding {
                Finding::Stranger(how, socket) => self.on_stranger(how, &socket),
                Finding::Gone(socket) => {
                    let Listener { address, inode, .. } = socket;
                    info!("the other socket on {address} is gone (inode {inode})");
                }
                Finding::NotSteered => self.on_not_steered(),
            }
        }
        let is_soon = self.port_watch.suspects() || self.asked.is_some();
        if is_soon { SOON } else { EVERY }
    }

    fn look(&self) -> Result<Look> {
        let board = self.scoreboard().board();
        let shared = self.start.listener.as_ref().map(inode);
        let (mut shown, mut held) = board.sockets();
        if let Some(shared) = shared {
            (shown, held) = ([shared].into(), 1);
        }
        let steered = self.steering().and_then(Steering::steered);
        let accepted = board.total_connections();
        Ok(Look { listeners: listeners(self.address.port())?, shown, held, accepted, steered })
    }

    /// Logs which process has a foreign socket on the port.
    fn on_stranger(&self, how: How, socket: &Listener) {
        // The parent has given up its capabilities. Without them not even root sees other users' processes.
        let who = holder(socket.inode).unwrap_or_else(|| {
            format!("an unknown process of user {} (as root, `ss -ltnp` names it)", socket.uid)
        });
        let (its, ours, inode) = (socket.address, self.address, socket.inode);
        match how {
            How::Shares => warn!(
                "{who} also listens on {its}, with its own socket (inode {inode}): the kernel may \
                 give it connections of this server, and it may replace the steering program; stop \
                 it, or run this server as a separate user"
            ),
            How::Shadows => warn!(
                "{who} listens on {its} (inode {inode}): connections to that address go there, not \
                 to this server on {ours}; stop it, or set --host to that address"
            ),
            How::IsShadowed => info!(
                "{who} listens on {its} (inode {inode}): connections to {ours} come to this server, all others \
                 go there"
            ),
        }
    }

    /// Asks a worker for its socket, to attach the steering program through it: the parent keeps none, and its
    /// reservation does not listen and so is in no group.
    fn on_not_steered(&mut self) {
        let sent = self.ask_for_socket();
        let what = "connections arrive that the steering program has not steered: another program \
                    has replaced it";
        match sent {
            Ok(line) => {
                warn!("{what}; attaching it again");
                self.asked = Some(line);
            }
            Err(error) => warn!("{what}; it cannot be attached again: {error:#}"),
        }
    }

    fn ask_for_socket(&self) -> Result<Channel> {
        let (ours, theirs) = Channel::pair()?;
        let serves = |index| self.scoreboard().board().slot(index).state() == State::Serving;
        // The worker whose event loop turned last answers soonest.
        let silence = |index| self.scoreboard().board().slot(index).silence();
        let serving = self.processes.values().filter(|it| it.is_polled && serves(it.index));
        let worker = serving.min_by_key(|it| silence(it.index)).context("no worker serves")?;
        worker.channel.try_send(&Message::Give { all: true }, &[theirs.as_fd()])?;
        Ok(ours)
    }

    /// Receives the socket that a worker was asked for, attaches the program, and closes the socket: if the parent
    /// kept it, its queue would survive a crash of the worker, and no process would answer it.
    fn take_socket(&mut self) {
        let Some(line) = self.asked.take() else { return };
        let (Some(steering), received) = (self.steering(), line.try_receive()) else { return };
        let attached = received.and_then(|received| {
            let (_, sockets) = received.flatten().context("a worker has not sent its socket")?;
            let socket = sockets.first().context("a worker has sent no socket")?;
            ensure_listens_on(socket, self.address)?;
            steering.attach(socket.as_fd())
        });
        match attached {
            Ok(()) => info!("the steering program is attached again"),
            Err(error) => warn!("the steering program cannot be attached again: {error:#}"),
        }
    }
}
