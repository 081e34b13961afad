//! A signal that ends a wait and does nothing else.

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Interrupts whoever waits. Without a handler it is ignored, so it does no harm to whoever gets it by
/// mistake; nobody uses it for anything else here.
pub const INTERRUPT: Signal = Signal::SIGURG;

/// Gives [`INTERRUPT`] a handler, without SA_RESTART, so that it ends a call with EINTR.
#[allow(unsafe_code)]
pub fn make_interruptible() -> Result<()> {
    extern "C" fn nothing(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, which may be done at any time.
    unsafe { sigaction(INTERRUPT, &action) }.context("cannot handle a signal")?;
    Ok(())
}
