//! Ctrl-C: what runs is stopped, what there is gets reported, nothing is left behind.
//!
//! The default action of these signals would end this program alone, and leave a server serving.
//! So a thread receives and counts them, and whoever waits for something looks here now and then.

use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How many signals came. Writer: the thread that receives them.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The number of the last one; 0 = none. Writer: as above.
static LAST: AtomicI32 = AtomicI32::new(0);

/// Starts to receive signals. To be called once, before anything is started that must be stopped.
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

/// Whether whoever started this program wants the signal ignored: nohup(1) does so with SIGHUP.
fn is_ignored(signal: i32) -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign & (1 << (signal - 1)) != 0)
}

/// How often it was asked to stop. The first time means: end in good order; the second: at once.
pub fn count() -> u32 {
    COUNT.load(Relaxed)
}

/// Fails if it was asked to stop.
pub fn check() -> Result<()> {
    if count() > 0 {
        bail!("interrupted");
    }
    Ok(())
}

/// The exit status of a program that was asked to stop, as shells have it: 130 after Ctrl-C.
pub fn exit_code() -> Option<ExitCode> {
    match LAST.load(Relaxed) {
        0 => None,
        signal => Some(ExitCode::from(128 + signal as u8)),
    }
}
