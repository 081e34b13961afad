//! A client that is on time, although it shares its cores with the server.
//!
//! An open loop measures from when a request was due. A client that is woken late measures itself, and
//! two things delay it by milliseconds:
//!
//! - *The scheduler.* Woken while a handler uses the core, it waits for the rest of that handler's turn.
//!   Its thread therefore asks for SCHED_RR (sched(7)), which runs before every ordinary process. That
//!   takes CAP_SYS_NICE or a limit on real-time priorities (RLIMIT_RTPRIO); without, it stays as it was.
//!   A nice value of -20 would not do: it still waits, and where it does not, handlers starve.
//! - *CPUs that sleep.* A CPU with nothing to do halts. The host of a virtual machine then gives it to
//!   somebody else, and has to give it back at each wake-up, which may take a millisecond. A thread of
//!   SCHED_IDLE on each core, which any other process preempts at once, keeps the CPU from halting for long. It
//!   naps now and then: only a CPU that has nothing to run fetches what waits for another one (newidle balance in
//!   kernel/sched/fair.c). Without the naps, workers waited up to 8 ms for a busy core, beside an idle one.
//!
//! What it costs: power, and latencies are those of a machine whose CPUs do not sleep, for every server
//! alike. A client that itself spins until the next request is due would take the core away from the
//! server. Closed loops have no need of this: nothing is due in them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::libc;

use crate::kernel::affinity;

/// The least priority of SCHED_RR: above all ordinary processes, below all else.
const LEAST: libc::c_int = 1;

/// How long a CPU is kept awake, and then left alone. The kernel adds up to 50 us to a nap. The host still waits for
/// a CPU that has halted for so short a time, and gives it to nobody else (halt polling).
const SPIN: Duration = Duration::from_micros(50);
const NAP: Duration = Duration::from_micros(20);

/// While it lives, the thread that made it is scheduled first, and its cores do not sleep.
pub struct OnTime {
    over: Arc<AtomicBool>,
    awake: Vec<JoinHandle<()>>,
    is_first: bool,
}

impl OnTime {
    /// Begins, as far as the kernel allows it: what it refuses shows in how late requests are sent.
    pub fn begin() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let keep_awake = |core| {
            let over = over.clone();
            let thread = move || {
                let _ = affinity::on(Some(&[core]), || {
                    let is_idle = schedule(libc::SCHED_IDLE, 0);
                    while is_idle && !over.load(Relaxed) {
                        let since = Instant::now();
                        while since.elapsed() < SPIN {
                            std::hint::spin_loop();
                        }
                        thread::sleep(NAP);
                    }
                    Ok(())
                });
            };
            thread::Builder::new().spawn(thread).ok()
        };
        let awake =
            affinity::own().unwrap_or_default().into_iter().filter_map(keep_awake).collect();
        // Threads and processes that are started meanwhile do not inherit it.
        let is_first = is_ordinary() && schedule(libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, LEAST);
        Self { over, awake, is_first }
    }
}

impl Drop for OnTime {
    fn drop(&mut self) {
        if self.is_first {
            schedule(libc::SCHED_OTHER, 0);
        }
        self.over.store(true, Relaxed);
        for thread in self.awake.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Has the calling thread scheduled like this. Gives whether the kernel did.
#[allow(unsafe_code)]
fn schedule(policy: libc::c_int, sched_priority: libc::c_int) -> bool {
    let parameter = libc::sched_param { sched_priority };
    // SAFETY: the kernel reads the parameter, which lives until it has.
    unsafe { libc::sched_setscheduler(0, policy, &parameter) == 0 }
}

/// Whether the calling thread is scheduled as most are. One that was started with chrt(1) stays as it is.
#[allow(unsafe_code)]
fn is_ordinary() -> bool {
    // SAFETY: it takes a number and gives one.
    unsafe { libc::sched_getscheduler(0) == libc::SCHED_OTHER }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_is_first_where_that_is_allowed_and_what_it_starts_is_not_and_it_is_as_before_then()
     {
        assert!(is_ordinary());
        let on_time = OnTime::begin();
        assert_eq!(is_ordinary(), !on_time.is_first);
        assert_eq!(on_time.awake.len(), affinity::own().unwrap().len());
        assert!(thread::spawn(is_ordinary).join().unwrap());
        drop(on_time);
        assert!(is_ordinary());
    }
}
