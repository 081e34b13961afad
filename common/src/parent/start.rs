//! The two ways to start a worker.
//!
//! A forked worker is a copy of its parent, listening socket included. A worker started by exec is
//! the program anew, and inherits no descriptor but its standard streams. `shared-fd-server` forks
//! because a shared socket has been inherited that way since the first Unix servers;
//! `reuseport-server` execs because its workers are independent. That is a second difference between
//! the two programs; `shared-fd-server --exec` is the control that shows what it does to the figures.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::unistd::{ForkResult, Pid, fork};

use super::channel::Channel;

/// Forks a worker. Returns its pid, and `None` in the worker, which is a copy of this process: it must close what
/// belongs to the parent only, and serve.
pub fn by_fork() -> Result<Option<Pid>> {
    #[allow(unsafe_code)]
    // SAFETY: the parent has one thread and has never used tokio, so the child's copy is whole: no
    // lock is held by a thread that the child does not have, and no runtime state is shared.
    match unsafe { fork() }.context("cannot fork a worker")? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Starts a worker as a fresh copy of this program. Its end of the channel becomes its standard
/// input; everything else it needs comes over that, see [`as_worker`](super::context::as_worker).
///
/// `/proc/self/exe` is the file that this process was started from, even if another version has replaced it
/// since.
pub fn by_exec(theirs: Channel, index: usize, address: SocketAddr) -> Result<Pid> {
    let name = std::env::args_os().next().unwrap_or_default();
    let mut command = Command::new("/proc/self/exe");
    let child = command
        .arg0(name)
        .args(std::env::args_os().skip(1).take_while(|argument| argument != "--"))
        // The last one wins: with --port 0, workers get the port that the kernel chose. After `--` it would not count.
        .arg(format!("--port={}", address.port()))
        .arg(format!("--worker={index}"))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .context(
            "cannot start a worker (EACCES: its file must be executable without capabilities)",
        )?;
    Ok(Pid::from_raw(child.id() as i32))
}
