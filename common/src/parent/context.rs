//! What every worker has, however it was started.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::channel::{Channel, Message};
use super::signals;
use crate::cli::options::Options;
use crate::platform::schedule::{ByLoad, Schedule};
use crate::platform::{affinity, rights};
use crate::scoreboard::{OwnSlot, Slots};

/// What every worker has: a line to its parent and a slot of the scoreboard.
pub struct WorkerContext {
    /// The line to the parent.
    pub channel: Channel,
    /// The worker's slot of the scoreboard.
    pub slot: OwnSlot,
    /// The slots of all workers.
    pub slots: Slots,
    /// The CPU that it is pinned to, if it is.
    pub cpu: Option<usize>,
}

impl WorkerContext {
    /// Applies `--schedule`, `--affinity` and `--user` to this process, and gives up all capabilities for good. Gives what
    /// must look at the load from then on, if the worker is scheduled by load.
    ///
    /// # Errors
    /// When the kernel refuses, or the parent is gone.
    pub fn settle(&self, options: &Options) -> Result<Option<ByLoad>> {
        let by_load = options.schedule.map_or(Ok(None), Schedule::set)?;
        self.cpu.map_or(Ok(()), affinity::pin_to)?;
        rights::give_up(options.user.as_ref())?;
        go_with_parent(&self.channel)?; // becoming another user clears it
        Ok(by_load)
    }
}

/// What a worker that was started by exec gets in addition.
pub struct Passed {
    /// Its lane, if a policy steers by load, and [the memory](crate::steering::Steering::loads) that contains it.
    pub lane: Option<(usize, OwnedFd)>,
    /// The shared socket, or a line over which another worker gives it sockets.
    pub inheritance: Option<OwnedFd>,
}

/// In a worker started by exec: receives its context, and serves.
///
/// # Errors
/// When its standard input is no line to a parent, for example because somebody typed `--worker`.
pub fn as_worker(
    index: usize,
    serve: impl FnOnce(&WorkerContext, Passed) -> Result<()>,
) -> Result<Infallible> {
    name_process();
    signals::reset()?;
    let channel = Channel::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let received = channel
        .receive()
        .context("--worker is for the server's own use; start the server without it")?;
    let Some((message, descriptors)) = received else {
        std::process::exit(1); // the parent ended while it started this worker, and has logged why
    };
    let Message::Start { lane, cpu } = message else {
        bail!("expected to be started, not {message:?}");
    };
    let mut descriptors = descriptors.into_iter();
    let scoreboard = descriptors.next().context("the parent sent no scoreboard")?;
    let slots = Slots::map(scoreboard.into())?;
    let lane = match lane {
        Some(lane) => Some((lane, descriptors.next().context("the parent sent no load map")?)),
        None => None,
    };
    let passed = Passed { lane, inheritance: descriptors.next() };
    let context = WorkerContext { channel, slot: slots.own(index), slots, cpu };
    serve_and_exit(&context, |context| serve(context, passed))
}

/// Serves, then exits. It sends an error to the parent, which prints it: one line for the server.
pub(super) fn serve_and_exit(
    context: &WorkerContext,
    serve: impl FnOnce(&WorkerContext) -> Result<()>,
) -> ! {
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

/// Tells the kernel to kill this worker when its parent dies, however it dies.
///
/// The worker does this itself, because exec clears the setting for executables with file capabilities. If the
/// parent died before, its end of the channel is closed. An order that has arrived already stays in the channel.
fn go_with_parent(channel: &Channel) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    ensure!(!channel.is_broken(), "the parent is gone");
    Ok(())
}
