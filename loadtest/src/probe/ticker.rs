//! Wakes the open loop exactly when a request is due. tokio's own timers count whole milliseconds: at 10 000
//! requests per second they would send ten at once, nine of them late.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Instant;

use anyhow::{Context, Result};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

/// A kernel timer, exact to some microseconds.
pub struct Ticker(AsyncFd<Timer>);

/// Gives `AsyncFd` the raw descriptor, which nix's type does not.
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Ticker {
    /// Makes a timer; to be called within a runtime.
    #[allow(unsafe_code)]
    pub fn new() -> Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags);
        let timer = timer.context("cannot make a timer (timerfd_create)")?;
        // SAFETY: the timer owns its descriptor, and does not close or change it while it is registered.
        let watched = unsafe { AsyncFd::register(Timer(timer)) };
        Ok(Self(watched.context("cannot watch a timer (epoll)")?))
    }

    /// Waits until this time; returns at once if it has passed.
    pub async fn wait_until(&self, then: Instant) -> Result<()> {
        let left = then.saturating_duration_since(Instant::now());
        // Zero would disarm it.
        if left.is_zero() {
            return Ok(());
        }
        let once = Expiration::OneShot(left.into());
        self.0.get_ref().0.set(once, TimerSetTimeFlags::empty()).context("cannot set a timer")?;
        let mut ready = self.0.readable().await.context("cannot wait for a timer")?;
        // Clears the timer's expiration.
        let _ = ready.get_inner().0.wait();
        ready.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::client::runtime;
    use std::time::Duration;

    #[test]
    fn it_wakes_when_it_is_time_and_never_before() {
        runtime().unwrap().block_on(async {
            let ticker = Ticker::new().unwrap();
            for _ in 0..5 {
                let then = Instant::now() + Duration::from_micros(700);
                ticker.wait_until(then).await.unwrap();
                assert!(Instant::now() >= then);
            }
            ticker.wait_until(Instant::now()).await.unwrap(); // past, by then
        });
    }
}
