//! A signal that ends a wait and does nothing else.

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Interrupts whoever waits. Without a handler it is ignored, so it does no harm to whoever gets it by
/// mistake; nobody uses it for anything else here.
pub const INTERRUPT: Signal = Signal::SIGURG;

/// Gives [`INTERRUPT`] a handler, without SA_RESTART, so that it ends a call with EINTR.
///
/// # Errors
/// Those of sigaction(2).
#[allow(unsafe_code)]
pub fn make_interruptible() -> Result<()> {
    extern "C" fn nothing(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, which may be done at any time.
    unsafe { sigaction(INTERRUPT, &action) }.context("cannot handle a signal")?;
    Ok(())
}

/// Blocks [`INTERRUPT`] in this thread, except in waits that are given the mask that this returns (ppoll(2),
/// epoll_pwait(2)).
///
/// Whoever is about to sleep says so in memory, and then makes the system call. A signal that arrives in
/// between would run its handler, and the sleep would begin all the same. Blocked, it stays pending, and ends
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
