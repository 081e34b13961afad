//! Ctrl-C: stops what runs, reports what was measured, leaves no process behind.
//!
//! The default action of these signals would end only this program, and leave a server running. So a
//! thread receives and counts them, and every loop that waits for something checks the count.

use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The number of signals so far. Writer: the thread that receives them.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The number of the last one; 0 = none. Writer: as above.
static LAST: AtomicI32 = AtomicI32::new(0);

/// Starts to receive signals. To be called once, before the first child process is started.
pub fn watch() -> Result<()> {
    let mut wanted = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    let mut signals = Signals::new(wanted).context("cannot receive signals")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            LAST.store(signal, Relaxed);
            COUNT.fetch_add(1, Relaxed);
        }
    });
    Ok(())
}

/// Whether this program was started with the signal ignored, as nohup(1) does with SIGHUP.
fn is_ignored(signal: i32) -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign & (1 << (signal - 1)) != 0)
}

/// How often the program was asked to stop. The first time it ends in good order, the second time at once.
pub fn count() -> u32 {
    COUNT.load(Relaxed)
}

/// Fails if the program was asked to stop.
pub fn check() -> Result<()> {
    if count() > 0 {
        bail!("interrupted");
    }
    Ok(())
}

/// The exit status after a request to stop, as in shells: 130 after Ctrl-C.
pub fn exit_code() -> Option<ExitCode> {
    match LAST.load(Relaxed) {
        0 => None,
        signal => Some(ExitCode::from(128 + signal as u8)),
    }
}
