//! Who gets the next connection: a policy each, in a file of its own.
//!
//! All listening sockets of a port that were bound with SO_REUSEPORT form a group. For a SYN the
//! kernel finds any socket of the group and then calls `reuseport_select_sock` to pick the one whose
//! queue the connection will go to, once and for all. If a program is attached to the group, that
//! picks; if it picks nothing that exists, or there is no program, a hash of the connection's
//! addresses and ports does.
//!
//! | policy | who picks | needs |
//! |---|---|---|
//! | `hash` | the kernel | nothing |
//! | [`first`], [`random`], [`cpu`] | a program of classic BPF, attached by [`classic`] | nothing |
//! | [`least_conn`] | an eBPF program and a load map | CAP_BPF, CAP_PERFMON |

mod assembler;
mod bpf;
mod classic;
mod cpu;
mod first;
mod least_conn;
mod random;

use anyhow::Result;
use clap::ValueEnum;
use common::cli::options::Options;
use common::platform::affinity::Affinity;
use common::platform::schedule::Schedule;
use common::steering::Steering;

use classic::Classic;
use least_conn::LeastConn;

/// The policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Steer {
    /// The kernel's hash of addresses and ports: even on average, blind to load
    Hash,
    /// Everything to one worker, as macOS does
    First,
    /// A random worker: what the hash comes to
    Random,
    /// By the CPU that the connection arrives on
    Cpu,
    /// The worker with the least to do; needs Linux 5.14, CAP_BPF and CAP_PERFMON
    LeastConn,
}

impl Steer {
    /// What the parent does for the policy; nothing for the hash.
    ///
    /// # Errors
    /// When the kernel, or a missing right, does not allow the policy.
    pub fn steering(self) -> Result<Option<Box<dyn Steering>>> {
        Ok(match self {
            Self::Hash => None,
            Self::First => Some(Box::new(Classic(first::program))),
            Self::Random => Some(Box::new(Classic(random::program))),
            Self::Cpu => Some(Box::new(Classic(cpu::program))),
            Self::LeastConn => Some(Box::new(LeastConn::new()?)),
        })
    }

    /// Decides how workers that are steered to like this are run, where nobody has said.
    pub fn fill_in(self, options: &mut Options) {
        let schedule = match self {
            Self::LeastConn => Schedule::Batch,
            Self::Hash | Self::First | Self::Random | Self::Cpu => Schedule::Normal,
        };
        options.schedule.get_or_insert(schedule);
        options.affinity.get_or_insert(Affinity::Free);
    }
}
