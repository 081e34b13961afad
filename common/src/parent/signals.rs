//! The signals that an administrator or a terminal sends to the parent. They mean the same as in nginx, gunicorn,
//! unicorn and puma.

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

/// Takes the signals that [`reset`] blocked when the program began, as a descriptor, which poll(2) watches with all
/// others. Workers inherit the mask through fork and exec, and so never get these signals: their parent sends them
/// orders over the channel. A terminal's Ctrl-C goes to all processes, and a worker must not act on it by itself.
///
/// # Errors
/// When the kernel gives no descriptor.
pub fn take() -> Result<SignalFd> {
    as_descriptor(&OURS.into_iter().collect())
}

/// In a worker: takes SIGTERM only, which it reports to its parent, and registers it with the event loop. It stays
/// blocked, as in the parent.
///
/// # Errors
/// When the kernel gives no descriptor, or cannot watch another.
#[allow(unsafe_code)]
pub fn watch_in_worker() -> Result<AsyncFd<SignalFd>> {
    let signals = as_descriptor(&Signal::SIGTERM.into())?;
    // SAFETY: the descriptor is its own, stays the same, and is closed with it.
    unsafe { AsyncFd::register(signals) }.context("cannot watch signals")
}

fn as_descriptor(signals: &SigSet) -> Result<SignalFd> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(signals, flags).context("cannot make a signalfd")
}

/// The next signal, if there is one, and the pid of its sender.
///
/// # Errors
/// Those of read(2).
pub fn next(signals: &SignalFd) -> Result<Option<(Signal, Pid)>> {
    let info = signals.read_signal()?;
    Ok(info.and_then(|info| {
        let signal = Signal::try_from(info.ssi_signo as i32).ok()?;
        Some((signal, Pid::from_raw(info.ssi_pid as i32)))
    }))
}

/// Resets the signal dispositions, and blocks the signals that are [taken](take). A process inherits
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
