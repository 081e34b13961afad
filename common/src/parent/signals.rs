//! The signals that an administrator or a terminal sends to the parent. They mean the same as in nginx, gunicorn,
//! unicorn and puma.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use anyhow::{Context, Result};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

/// SIGINT, SIGTERM: answer open requests, then end; a second one ends at once. SIGQUIT: end at once. SIGHUP:
/// replace every worker; SIGTERM to a worker: replace that one. SIGTTIN, SIGTTOU: one worker more, one fewer.
/// SIGUSR2: replace the program. SIGCHLD: a worker died.
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

/// Signals as a descriptor, which poll(2) watches with all others.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Takes the signals that [`reset`] blocked when the program began. Workers inherit the mask through fork
    /// and exec, and so never get these signals: their parent sends them orders over the channel. A
    /// terminal's Ctrl-C goes to all processes, and a worker must not act on it by itself.
    pub fn take() -> Result<Self> {
        SignalFd::with_flags(
            &OURS.into_iter().collect(),
            SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
        )
        .context("cannot make a signalfd")
        .map(Self)
    }

    /// In a worker: takes SIGTERM only, which it reports to its parent. It stays blocked, as in the parent.
    ///
    /// # Errors
    /// When the kernel gives no descriptor.
    pub fn of_worker() -> Result<Self> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&Signal::SIGTERM.into(), flags);
        signals.context("cannot make a signalfd").map(Self)
    }

    /// Registers them with the event loop, in a process that runs tokio.
    ///
    /// # Errors
    /// When the kernel cannot watch another descriptor.
    #[allow(unsafe_code)]
    pub fn watch(self) -> std::io::Result<AsyncFd<Self>> {
        // SAFETY: the descriptor is its own, stays the same, and is closed with it.
        Ok(unsafe { AsyncFd::register(self) }?)
    }

    /// The next signal, if there is one, and the pid of its sender.
    pub fn next(&self) -> Result<Option<(Signal, Pid)>> {
        let info = self.0.read_signal()?;
        Ok(info.and_then(|info| {
            let signal = Signal::try_from(info.ssi_signo as i32).ok()?;
            Some((signal, Pid::from_raw(info.ssi_pid as i32)))
        }))
    }
}

/// Resets the signal dispositions, and blocks the signals that are [taken](Signals::take). A process inherits
/// dispositions and mask from the process that started it: with SIGCHLD ignored, as some init systems do, the
/// parent could not wait for workers that have ended; with SIGURG blocked, a thread that waits for connections
/// could not be interrupted.
///
/// # Errors
/// When the kernel refuses, which it does not.
pub fn reset() -> Result<()> {
    // Blocked first, so that none of them ends this process in between.
    let blocked: SigSet = OURS.into_iter().collect();
    blocked.thread_set_mask().context("cannot block signals")?;
    let by_default = OURS.into_iter().chain([Signal::SIGURG]);
    let dispositions = by_default.map(|ours| (ours, SigHandler::SigDfl));
    // SIGUSR1 reopens logs in other servers, and log rotation may send it to this one. By default it would end the
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
