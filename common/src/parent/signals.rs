//! What an administrator or a terminal tells the parent. The names are those of nginx, gunicorn,
//! unicorn and puma.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use anyhow::{Context, Result};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

/// SIGINT, SIGTERM: answer what there is, then end; a second one ends at once. SIGQUIT: end at once. SIGHUP:
/// replace every worker; SIGTERM to a worker: replace that one. SIGTTIN, SIGTTOU: one worker more, one fewer.
/// SIGUSR2: replace the program. SIGCHLD: one died.
const OURS: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGUSR2,
    Signal::SIGCHLD,
];

/// Signals as something to read from, beside everything else the parent waits for.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Takes the signals, which [`reset`] has blocked when the program began. Workers inherit the mask,
    /// through fork and exec alike, and so never see them: their parent tells them over the channel what
    /// to do. A terminal's Ctrl-C reaches all of them, and none may act on it by itself.
    pub fn take() -> Result<Self> {
        SignalFd::with_flags(
            &OURS.into_iter().collect(),
            SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
        )
        .context("cannot make a signalfd")
        .map(Self)
    }

    /// In a worker: SIGTERM alone, of which it tells its parent. It stays blocked, as the parent's are.
    ///
    /// # Errors
    /// When the kernel gives no descriptor.
    pub fn of_worker() -> Result<Self> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&Signal::SIGTERM.into(), flags);
        signals.context("cannot make a signalfd").map(Self)
    }

    /// Lets the calling task wait for them, in a process that runs tokio.
    ///
    /// # Errors
    /// When the kernel cannot watch another descriptor.
    #[allow(unsafe_code)]
    pub fn watch(self) -> std::io::Result<AsyncFd<Self>> {
        // SAFETY: the descriptor is its own, stays the same, and is closed with it.
        Ok(unsafe { AsyncFd::register(self) }?)
    }

    /// The next signal, if there is one, and who has sent it.
    pub fn next(&self) -> Result<Option<(Signal, Pid)>> {
        let info = self.0.read_signal()?;
        Ok(info.and_then(|info| {
            let signal = Signal::try_from(info.ssi_signo as i32).ok()?;
            Some((signal, Pid::from_raw(info.ssi_pid as i32)))
        }))
    }
}

/// Undoes what whoever started this process may have done to its signals, and blocks those that are
/// [taken](Signals::take) or left to the parent. Both are inherited: with SIGCHLD ignored, as some init
/// systems have it, workers that have ended could not be waited for; with SIGURG blocked, a thread that
/// waits for connections could not be interrupted.
///
/// # Errors
/// When the kernel refuses, which it does not.
pub fn reset() -> Result<()> {
    // Blocked first, so that none of them ends this process in between.
    let blocked: SigSet = OURS.into_iter().collect();
    blocked.thread_set_mask().context("cannot block signals")?;
    let by_default = OURS.into_iter().chain([Signal::SIGURG]);
    let dispositions = by_default.map(|ours| (ours, SigHandler::SigDfl));
    // Elsewhere it has logs opened anew, and somebody may send it to whatever serves. By default it would end the
    // process.
    for (one, what) in dispositions.chain([(Signal::SIGUSR1, SigHandler::SigIgn)]) {
        #[allow(unsafe_code)]
        // SAFETY: neither replaces one of our handlers, nor runs code of this process.
        unsafe { signal(one, what) }.context("cannot reset a signal")?;
    }
    Ok(())
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
