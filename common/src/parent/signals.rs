//! What an administrator or a terminal tells the parent. The names are those of nginx, gunicorn,
//! unicorn and puma.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// SIGINT, SIGTERM: answer what there is, then end; a second one ends at once. SIGQUIT: end at once.
/// SIGHUP: replace every worker. SIGTTIN, SIGTTOU: one worker more, one fewer. SIGCHLD: one died.
const OURS: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGCHLD,
];

/// Signals as something to read from, beside everything else the parent waits for.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Takes the signals. Workers inherit the mask, through fork and exec alike, and so never see
    /// them: they obey their parent, who tells them over the channel. A terminal's Ctrl-C reaches
    /// all of them, and none may act on it by itself.
    pub fn take() -> Result<Self> {
        let set: SigSet = OURS.into_iter().collect();
        set.thread_block().context("cannot block signals")?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("cannot make a signalfd")
            .map(Self)
    }

    /// The next signal, if there is one.
    pub fn next(&self) -> Result<Option<Signal>> {
        let info = self.0.read_signal()?;
        Ok(info.and_then(|info| Signal::try_from(info.ssi_signo as i32).ok()))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
