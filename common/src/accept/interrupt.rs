//! A signal that ends a wait and does nothing else.

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The signal that interrupts a wait. A process without a handler ignores it, so it does no harm to a process that
/// gets it by mistake. These programs use it for nothing else.
pub const INTERRUPT: Signal = Signal::SIGURG;

/// Gives [`INTERRUPT`] a handler, without SA_RESTART, so that it ends a call with EINTR.
///
/// # Errors
/// Those of sigaction(2).
#[allow(unsafe_code)]
pub fn make_interruptible() -> Result<()> {
    extern "C" fn nothing(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, which is async-signal-safe.
    unsafe { sigaction(INTERRUPT, &action) }.context("cannot handle a signal")?;
    Ok(())
}

/// Blocks [`INTERRUPT`] in this thread, except in waits that are given the mask that this returns (ppoll(2),
/// epoll_pwait(2)).
///
/// A worker writes into shared memory that it sleeps, and then makes the system call. The handler of a signal that
/// arrives in between would run, and the sleep would begin all the same. A blocked signal stays pending, and ends
/// the wait at once.
///
/// # Errors
/// Those of sigaction(2) and pthread_sigmask(3).
pub fn interrupt_only_waits() -> Result<SigSet> {
    make_interruptible()?;
    let mut in_waits = SigSet::thread_get_mask().context("cannot read the signal mask")?;
    in_waits.remove(INTERRUPT);
    SigSet::from(INTERRUPT).thread_block().context("cannot block a signal")?;
    Ok(in_waits)
}
