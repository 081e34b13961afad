//! Replaces the server by a new one, perhaps of another version, without losing a connection (SIGUSR2).
//!
//! The old server starts the program that its command names *now*, with its own arguments, and gives it what
//! it has bound: the shared socket, or the reservation and, over a line from each worker, that worker's own
//! sockets. For a moment both serve, from the same accept queues. When all workers of the new server serve,
//! it says so, and the old one ends as after SIGTERM. If the new one ends before, or takes longer than a
//! minute, the old one goes on as before.
//!
//! ```text
//!   old parent                          new parent
//!   SIGUSR2 -> exec  ------------------>  reads its command line, its environment
//!     Succeed(workers), what is bound -->
//!     a line for each worker ---------->  starts as many workers, who take their sockets from the lines
//!   <------------------------------ Ready  all of them serve
//!   drains, ends                         goes on
//! ```
//!
//! nginx and unicorn do the same on the same signal, but the administrator ends the old server when the new
//! one has shown that it works. The pid changes: the line that the new server prints names it, and systemd
//! is told (MAINPID=). With a named scoreboard, both servers count in it for that moment.

use std::collections::VecDeque;
use std::io::stdin;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::unistd::{Pid, dup2_stdin};

use super::channel::{Channel, Message};

/// Tells a new server that its standard input is the line to the old one.
const MARK: &str = "SERVER_SUCCEEDS";

/// How many lines are sent in one message, which has room for as many descriptors.
const AT_ONCE: usize = 4;

/// What a new server gets from the old one.
#[derive(Debug)]
pub struct Inherited {
    /// The line to the old server.
    pub(super) channel: Channel,
    /// How many workers the old server has.
    pub workers: u16,
    /// Lines over which its workers give their sockets away.
    pub(super) lines: VecDeque<OwnedFd>,
}

/// What this server inherits, if it was started to replace another; and the shared socket, or the reservation.
///
/// # Errors
/// When the old server is gone, or sends something else.
pub fn inherit() -> Result<Option<(Inherited, TcpListener)>> {
    if std::env::var_os(MARK).is_none() {
        return Ok(None);
    }
    let channel = Channel::from(stdin().as_fd().try_clone_to_owned()?);
    dup2_stdin(std::fs::File::open("/dev/null")?)?; // or the workers would inherit the line
    let gone = "the server to take over from has ended";
    let (first, mut along) = channel.receive()?.context(gone)?;
    let (Message::Succeed(workers), Some(bound)) = (first, along.pop()) else {
        bail!("expected to take over from another server");
    };
    let mut lines = VecDeque::new();
    loop {
        match channel.receive()?.context(gone)? {
            (Message::Adopt, along) => lines.extend(along),
            (Message::Done, _) => break,
            (other, _) => bail!("expected to take over from another server, not {other:?}"),
        }
    }
    Ok(Some((Inherited { channel, workers, lines }, bound.into())))
}

/// The new server that will replace this one, while it starts.
pub(super) struct Successor {
    pub pid: Pid,
    pub channel: Channel,
    /// Whether its channel is polled.
    pub is_polled: bool,
    /// Why it could not go on, if it has said so.
    pub last_words: Option<String>,
}

impl Successor {
    /// Starts the program that this one's command names now, with the same arguments.
    ///
    /// Not `/proc/self/exe`, as for workers: that is the old version of the program.
    pub fn start(bound: &TcpListener, workers: u16, lines: Vec<OwnedFd>) -> Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        // Sent first, since the line keeps it until the new server reads.
        ours.try_send(&Message::Succeed(workers), &[bound.as_fd()])?;
        for some in lines.chunks(AT_ONCE) {
            let some: Vec<_> = some.iter().map(AsFd::as_fd).collect();
            ours.try_send(&Message::Adopt, &some).context("too many workers to hand over")?;
        }
        ours.try_send(&Message::Done, &[])?;
        let mut arguments = std::env::args_os();
        let program =
            arguments.next().context("the command that started this server is unknown")?;
        let child = Command::new(&program)
            .args(arguments)
            .env(MARK, "1")
            // These are for this process only. Without a pid the watchdog's setting is for the new server, too.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let pid = Pid::from_raw(child.id() as i32);
        Ok(Self { pid, channel: ours, is_polled: true, last_words: None })
    }
}
