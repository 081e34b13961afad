//! The steering policies: which socket gets the next connection. Each policy has a file of its own.
//!
//! All listening sockets of a port that were bound with SO_REUSEPORT form a group. For a SYN the
//! kernel finds any socket of the group and then calls `reuseport_select_sock` to pick the one whose
//! queue gets the connection, for good. If a program is attached to the group, the program picks; if it
//! picks no existing socket, or there is no program, a hash of the connection's addresses and ports does.
//!
//! | policy | who picks | needs |
//! |---|---|---|
//! | `hash` | the kernel | nothing |
//! | [`first`], [`random`], [`cpu`] | a program of classic BPF, attached by [`classic`] | nothing |
//! | [`least_conn`] | an eBPF program and a load map | CAP_BPF, CAP_PERFMON |

mod classic;
mod cpu;
mod first;
mod least_conn;
mod random;

use std::net::TcpListener;
use std::os::fd::OwnedFd;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use common::accept::acceptor::Sockets;
use common::bpf::{assembler, calls as bpf};
use common::cli::options::Options;
use common::handover;
use common::parent::context::WorkerContext;
use common::platform::affinity::Affinity;
use common::platform::schedule::Schedule;
use common::steering::Steering;

use classic::Classic;
use least_conn::LeastConn;
use least_conn::lane;

/// The policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Steer {
    /// The kernel's hash of addresses and ports: even on average, blind to load
    Hash,
    /// All connections to one worker, as on macOS
    First,
    /// A random worker; the distribution is that of the hash
    Random,
    /// By the CPU that the connection arrives on
    Cpu,
    /// The worker with the least to do; needs Linux 5.14, CAP_BPF and CAP_PERFMON
    LeastConn,
}

impl Steer {
    /// The parent's part of the policy; `None` for the hash.
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

    /// The listening sockets for the worker with this context; with its lane in this memory, if the policy steers by
    /// load.
    ///
    /// # Errors
    /// When the parent is gone, or the memory is not what it should be.
    pub fn to(
        self,
        context: &WorkerContext,
        listeners: Vec<TcpListener>,
        lane: Option<(usize, OwnedFd)>,
        options: &Options,
    ) -> Result<Sockets> {
        if self != Self::Hash {
            handover::report(&context.channel, &listeners[0])?;
        }
        let at_most = options.max_connections;
        let lane = lane.map(|(lane, loads)| lane::keep(lane, loads, at_most)).transpose()?;
        Ok(Sockets::from(listeners).with_lane(lane))
    }

    /// Whether a server with this policy may share this port with others.
    ///
    /// # Errors
    /// When it may not.
    pub fn ensure_may_join(self, port: u16) -> Result<()> {
        ensure!(
            port != 0,
            "--join cannot use --port 0: there is no server to join; name the port of the other \
             server"
        );
        ensure!(
            self == Self::Hash,
            "--join works only with --steer hash: a steering program knows the workers of one \
             server only"
        );
        Ok(())
    }

    /// Sets the policy's defaults for `--schedule` and `--affinity`.
    pub fn fill_in(self, options: &mut Options) {
        let schedule = match self {
            Self::LeastConn => Schedule::ByLoad,
            Self::Hash | Self::First | Self::Random | Self::Cpu => Schedule::Normal,
        };
        options.schedule.get_or_insert(schedule);
        options.affinity.get_or_insert(Affinity::Free);
    }
}
