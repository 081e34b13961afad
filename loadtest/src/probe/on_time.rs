//! Keeps the client on time, although it shares its cores with the server.
//!
//! An open loop measures from the time when a request was due. If the client is woken late, it measures itself.
//! Two causes delay it by milliseconds:
//!
//! - *The scheduler.* If the client is woken while a handler uses the core, it waits for the rest of that
//!   handler's slice. So its thread uses SCHED_RR (sched(7)), which preempts all ordinary processes. That needs
//!   CAP_SYS_NICE or a limit on real-time priorities (RLIMIT_RTPRIO); without, nothing changes. A nice value of
//!   -20 is not enough: the client still waits, and if it does not, handlers starve.
//! - *CPUs that halt.* A CPU with nothing to do halts. The host of a virtual machine then runs something else on
//!   it, and must give it back at each wake-up, which may take a millisecond. A thread of SCHED_IDLE on each
//!   core, which any other process preempts at once, keeps the CPU from halting for long. It sleeps briefly now
//!   and then: only a CPU with nothing to run takes over processes that wait for another CPU (newidle balance in
//!   kernel/sched/fair.c). Without these naps, workers waited up to 8 ms for a busy core, beside an idle one.
//!
//! What it costs: power. And all latencies are those of a machine whose CPUs do not halt, for every server; with cores
//! of its own the client keeps only these awake, and latencies contain the time in which the server's wake up. A
//! client that spins until the next request is due would take the core away from the server. Closed loops do
//! not need this: in them no request has a due time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::libc;

use crate::kernel::affinity;

/// The lowest priority of SCHED_RR: above all ordinary processes, below all others.
const LEAST: libc::c_int = 1;

/// How long a thread spins, and how long it naps. The kernel adds up to 50 us to a nap. The host does not reassign a
/// CPU that halts for so short a time (halt polling).
const SPIN: Duration = Duration::from_micros(50);
const NAP: Duration = Duration::from_micros(20);

/// While it lives, the thread that made it has real-time priority, and its cores do not halt.
pub struct OnTime {
    over: Arc<AtomicBool>,
    awake: Vec<JoinHandle<()>>,
    is_first: bool,
}

impl OnTime {
    /// Begins, as far as the kernel allows it. What the kernel refuses shows in the lateness of requests.
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
        // New threads and processes do not inherit it.
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

/// Sets the calling thread's scheduling. Returns whether the kernel accepted it.
#[allow(unsafe_code)]
fn schedule(policy: libc::c_int, sched_priority: libc::c_int) -> bool {
    let parameter = libc::sched_param { sched_priority };
    // SAFETY: the kernel reads the parameter, which outlives the call.
    unsafe { libc::sched_setscheduler(0, policy, &parameter) == 0 }
}

/// Whether the calling thread has the default scheduling. A program started with chrt(1) keeps its own.
#[allow(unsafe_code)]
fn is_ordinary() -> bool {
    // SAFETY: it takes and returns only numbers.
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
