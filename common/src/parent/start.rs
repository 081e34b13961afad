//! The two ways to start a worker.
//!
//! A forked worker is a copy of its parent, listening socket included. A worker started by exec is
//! the program anew, and inherits no descriptor but its standard streams. `shared-fd-server` forks
//! because a shared socket has been inherited that way since the first Unix servers;
//! `reuseport-server` execs because its workers are independent. That is a second difference between
//! the two programs; `shared-fd-server --exec` is the control that shows what it does to the figures.

use std::convert::Infallible;
use std::ffi::CString;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork};

use super::channel::{Channel, Message};
use super::signals;
use super::succession::Inherited;
use crate::platform::rights::{self, User};
use crate::scoreboard::{OwnSlot, ScoreboardOwner, Slots};
use crate::steering::Steering;
use crate::steering::lane::{Lane, Lanes};

/// How a program starts its workers.
pub struct Start<'a> {
    /// By fork or by exec.
    pub how: How<'a>,
    /// The listening socket that all workers share; `None` where each has its own.
    pub listener: Option<TcpListener>,
    /// What keeps the address for workers that have sockets of their own, see
    /// [`reserve`](crate::lesson::socket::reserve).
    pub reservation: Option<TcpListener>,
    /// What this server got from the one that it succeeds, if it does.
    pub inherited: Option<Inherited>,
    /// Who gets the next connection, where each has its own; `None` leaves it to the kernel's hash.
    pub steering: Option<Box<dyn Steering>>,
}

/// The two ways.
#[derive(Clone, Copy)]
pub enum How<'a> {
    /// By fork: the child runs this with its context and its copy of the shared socket.
    Fork(&'a Serve<'a>),
    /// By exec, as a fresh copy of this program, see [`as_worker`].
    Exec,
}

/// What a forked worker does.
pub type Serve<'a> = dyn Fn(&WorkerContext, TcpListener) -> Result<()> + 'a;

/// What makes a process a worker: a line to its parent and a slot to count in.
pub struct WorkerContext {
    /// The line to the parent.
    pub channel: Channel,
    /// The worker's slot of the scoreboard.
    pub slot: OwnSlot,
    /// That one and everybody else's.
    pub slots: Slots,
    /// The lane it keeps, where a policy steers by load.
    pub lane: Option<&'static Lane>,
    /// The CPU it is pinned to, if it is.
    pub cpu: Option<usize>,
}

impl WorkerContext {
    /// Becomes the user that was asked for, if any, and gives up every right for good.
    ///
    /// # Errors
    /// When the kernel refuses, or the parent is gone.
    pub fn give_up_rights(&self, user: Option<&User>) -> Result<()> {
        rights::give_up(user)?;
        go_with_parent(&self.channel) // to become another user clears it
    }
}

/// Forks a worker. In the child `take_over` closes what is the parent's alone, and gives the slots
/// and the socket.
pub fn by_fork(
    channel: Channel,
    index: usize,
    cpu: Option<usize>,
    take_over: impl FnOnce() -> (Slots, TcpListener),
    serve: &Serve,
) -> Result<Pid> {
    #[allow(unsafe_code)]
    // SAFETY: the parent has one thread and has never used tokio, so the child's copy is whole: no
    // lock is held by a thread that the child does not have, and no runtime state is shared.
    match unsafe { fork() }.context("cannot fork a worker")? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let (slots, listener) = take_over();
            let context = WorkerContext { channel, slot: slots.own(index), slots, lane: None, cpu };
            serve_and_exit(&context, |context| serve(context, listener))
        }
    }
}

/// Starts a worker as a fresh copy of this program. Its end of the channel becomes its standard
/// input; everything else it needs comes over that: the scoreboard, the lane it keeps, if any, and
/// what it inherits, if anything (the shared socket, or a line over which another worker gives it
/// sockets).
///
/// `/proc/self/exe` is the very file this process was started from, even if another one has been
/// put in its place since.
#[allow(clippy::too_many_arguments)]
pub fn by_exec(
    ours: &Channel,
    theirs: Channel,
    index: usize,
    address: SocketAddr,
    scoreboard: &ScoreboardOwner,
    lane: Option<(usize, BorrowedFd)>,
    cpu: Option<usize>,
    inheritance: Option<BorrowedFd>,
) -> Result<Pid> {
    let name = std::env::args_os().next().unwrap_or_default();
    let mut command = Command::new("/proc/self/exe");
    let child = command
        .arg0(name)
        .args(std::env::args_os().skip(1))
        // The last one wins: where --port 0 was asked for, workers get the port that it became.
        .arg(format!("--port={}", address.port()))
        .arg(format!("--worker={index}"))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .context("cannot start a worker")?;
    let (lane, lanes) = lane.unzip();
    let descriptors: Vec<BorrowedFd> =
        [Some(scoreboard.file().as_fd()), lanes, inheritance].into_iter().flatten().collect();
    ours.send(&Message::Start { lane, cpu }, &descriptors).context("cannot talk to a worker")?;
    Ok(Pid::from_raw(child.id() as i32))
}

/// In a worker started by exec: receives its context and serves, with what it inherits if there is
/// something.
///
/// # Errors
/// When this process is no worker: somebody typed `--worker` by hand.
pub fn as_worker(
    index: usize,
    serve: impl FnOnce(&WorkerContext, Option<OwnedFd>) -> Result<()>,
) -> Result<Infallible> {
    name_process();
    signals::reset()?;
    let channel = Channel::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let (message, descriptors) = channel
        .receive()
        .ok()
        .flatten()
        .context("--worker is for the server's own use; start the server without it")?;
    let Message::Start { lane, cpu } = message else {
        bail!("expected to be started, not {message:?}");
    };
    let mut descriptors = descriptors.into_iter();
    let scoreboard = descriptors.next().context("no scoreboard came along")?;
    let slots = Slots::map(scoreboard.into())?;
    let lane = match lane {
        Some(number) => {
            let lanes = Lanes::map(descriptors.next().context("no load map came along")?)?;
            let lane: &'static Lane = Box::leak(Box::new(lanes.into_lane(number)));
            Some(lane)
        }
        None => None,
    };
    let context = WorkerContext { channel, slot: slots.own(index), slots, lane, cpu };
    serve_and_exit(&context, |context| serve(context, descriptors.next()))
}

/// Serves, then exits. An error is the parent's to print: one server, one line.
fn serve_and_exit(context: &WorkerContext, serve: impl FnOnce(&WorkerContext) -> Result<()>) -> ! {
    let served = go_with_parent(&context.channel).and_then(|()| serve(context));
    if let Err(error) = &served {
        let _ = context.channel.send(&Message::Failed(format!("{error:#}")), &[]);
    }
    std::process::exit(served.is_err().into())
}

/// Gives this process the program's name in `top` and `ps`, where it would be "exe" after
/// `/proc/self/exe`. The kernel keeps 15 bytes of it.
fn name_process() {
    let program = std::env::args_os().next().map(PathBuf::from);
    let name = program.as_deref().and_then(Path::file_name).map(|name| name.as_encoded_bytes());
    if let Some(Ok(name)) = name.map(CString::new) {
        let _ = prctl::set_name(&name);
    }
}

/// Has the kernel kill this worker when its parent dies, however that dies.
///
/// Set by the worker itself, because exec clears it for executables with file capabilities. A
/// parent that died before it was set is noticed by its end of the channel being closed. An order
/// that is there already stays there.
fn go_with_parent(channel: &Channel) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    ensure!(!channel.is_broken(), "the parent is gone");
    Ok(())
}
