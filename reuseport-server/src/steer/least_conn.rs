//! `least-conn`: the worker with the least to do, by an eBPF program and a load map.
//!
//! The program ([`program`]) runs in the kernel for every SYN (`bpf_run_sk_reuseport`, called by
//! `reuseport_select_sock`; Linux 4.19, commit 2dbb9b9e6df6). It reads how loaded each worker is from
//! memory that the workers map and write to ([`lane`]), chooses the least loaded, and counts
//! the connection there at once. The sockets are in a map of their own, by the
//! worker's lane and not by the kernel's numbers, so that none is renumbered when one closes: a socket
//! that closes leaves the map by itself.
//!
//! It also chooses for connections that lose their socket, because it is loaded for that
//! (BPF_SK_REUSEPORT_SELECT_OR_MIGRATE; `reuseport_migrate_sock`, Linux 5.14, commit d5e4ddaeb6ab):
//! connections in the queue of a worker that dies go to other workers, without the
//! sysctl net.ipv4.tcp_migrate_req.
//!
//! Workers also show in that memory when they woke, whether they sleep, whether they turn quickly, and how many of
//! their connections are idle. So the program knows which worker is free *now*, not only which has few connections;
//! and if connections are short and quick it wakes no more workers than there are cores.
//!
//! While cores are busy, workers are scheduled as SCHED_BATCH ([`common::platform::schedule`]): a worker that is
//! woken waits for its turn, and then finds more to do. `--schedule normal` switches that off.
//!
//! When it goes wrong:
//!
//! - If there is nothing to choose, or the choice fails (a worker that died and has not been reaped), the
//!   kernel's hash picks, as if there were no program.
//! - A worker that stands still gets connections until it is no longer the least loaded, and after two
//!   seconds of silence none, unless all are silent.
//! - Half-open connections count for at most two ticks of 250 ms. A flood of them makes all workers look
//!   equally busy for a while. With SYN cookies the program chooses anew for the ACK: the connection may
//!   come to another worker than the one that it was counted for. TCP Fast Open changes nothing.
//! - A connection gets its queue for good when its SYN arrives. If all workers are busy, it waits for one of them,
//!   even if another is free earlier: with handlers that take very different times, the one queue of a shared
//!   socket is better.
//! - Short connections queue up for workers that turned quickly so far, at most as many for each as it serves in
//!   4 ms, and at most 64. If such a worker then blocks, these connections wait: about as many as each other worker
//!   has.
//! - A connection waits until its worker gets a core, even if another worker runs: with many workers, and a client on
//!   the same cores, p99 at half load is several times that of a shared socket.
//! - If one request in a hundred blocks, no worker counts as quick, each connection wakes another worker, and
//!   throughput is 0.8 of that of the shared socket's `least-conn`.
//! - Each SYN reads a cache line per worker: with 1024 workers, 64 KiB.
//! - It chooses among this server's workers only: another server on the port gets nothing.

pub mod lane;
mod program;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Error, Result, bail, ensure};
use caps::Capability;
use common::platform::rights;
use common::steering::Steering;
use nix::errno::Errno;

use super::bpf::{self, Kind, Program};
use lane::{Lanes, Line};
use program::{Maps, SCRATCH_SIZE};

/// The maps and the program. The kernel keeps them until the last descriptor is closed.
pub struct LeastConn {
    lanes: Lanes,
    sockets: OwnedFd,
    program: OwnedFd,
    /// The capabilities that the kernel demands for changes of the map of sockets.
    keeps: Vec<Capability>,
}

impl LeastConn {
    /// Makes the maps and loads the program, before any worker starts.
    ///
    /// # Errors
    /// When a capability is missing, or the kernel is too old.
    pub fn new() -> Result<Self> {
        // Checked before loading: without CAP_PERFMON the verifier also follows speculation through the
        // loop until it gives up, and Linux 6.18 was seen to crash on a form of this program (a null
        // pointer in maybe_fork_scalars), which killed the process without an error.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let missing = missing_rights(&status).join(" and ");
        if !missing.is_empty() {
            bail!(
                "--steer least-conn needs CAP_BPF and CAP_PERFMON, and the process lacks \
                 {missing}: start it as root, or grant them (`setcap cap_bpf,cap_perfmon+ep` on \
                 the program); {NO_RIGHT}"
            );
        }
        let offset = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        ensure!(
            !has_other_clock(&offset),
            "--steer least-conn cannot run in a time namespace whose monotonic clock has an offset: the program in the \
             kernel reads the clock without it; start the server outside of it, or use another policy"
        );
        Self::make().map_err(explain)
    }

    fn make() -> Result<Self> {
        let loads = bpf::make_map(Kind::SharedArray, size_of::<Line>(), Lanes::LINES, c"loads")
            .context("cannot make the load map")?;
        let sockets = bpf::make_map(Kind::Sockets, size_of::<u32>(), Lanes::LINES, c"sockets")
            .context("cannot make the map of sockets")?;
        let scratch = bpf::make_map(Kind::PerCpuArray, SCRATCH_SIZE, 1, c"scratch")
            .context("cannot make the program's memory")?;
        let maps = Maps::of(&loads, &sockets, &scratch);
        let program = bpf::load(Program::Selects, &program::assemble(maps), c"least_conn")
            .context("cannot load the program")?;
        let lanes = Lanes::map(loads)?;
        lanes.close_all();
        // Since Linux 5.19 any process that has a map open may write to it. CAP_PERFMON is only for loading.
        let without = rights::can_do_without(|| {
            let nothing_there = bpf::remove(sockets.as_fd(), 0).err();
            nothing_there.is_none_or(|error| error.raw_os_error() == Some(Errno::ENOENT as i32))
        })?;
        let keeps = if without { Vec::new() } else { vec![Capability::CAP_BPF] };
        Ok(Self { lanes, sockets, program, keeps })
    }
}

impl Steering for LeastConn {
    fn enter(&self, lane: usize, socket: BorrowedFd, _sockets: usize) -> Result<()> {
        self.attach(socket)?;
        bpf::put_socket(self.sockets.as_fd(), lane as u32, socket)
            .context("cannot enter its socket into the map of sockets")
    }

    fn attach(&self, socket: BorrowedFd) -> Result<()> {
        bpf::attach(self.program.as_fd(), socket)
            .context("cannot attach the program that steers (SO_ATTACH_REUSEPORT_EBPF)")
    }

    fn leave(&self, lane: usize) {
        // It fails if the socket was closed meanwhile, and the entry is empty.
        let _ = bpf::remove(self.sockets.as_fd(), lane as u32);
    }

    fn keeps(&self) -> &[Capability] {
        &self.keeps
    }

    fn loads(&self) -> Option<BorrowedFd<'_>> {
        Some(self.lanes.as_fd())
    }

    fn steered(&self) -> Option<u64> {
        Some(self.lanes.given())
    }

    fn open_lane(&self, lane: usize, worker: u32) {
        self.lanes.give(lane, worker);
    }

    fn close_lane(&self, lane: usize) {
        self.lanes.close(lane);
        // Its socket may live on in the worker that has taken it, and the kernel lets no socket into the map twice.
        self.leave(lane);
    }
}

/// Whether the monotonic clock has an offset, according to `/proc/PID/timens_offsets`.
fn has_other_clock(offsets: &str) -> bool {
    let clock = offsets.lines().find_map(|line| line.trim().strip_prefix("monotonic"));
    clock.is_some_and(|offset| offset.split_whitespace().any(|part| part != "0"))
}

/// The capabilities that are needed, each with its bit in a set (linux/capability.h).
/// CAP_SYS_ADMIN, bit 21, includes both.
const NEEDED: [(&str, u32); 2] = [("CAP_BPF", 39), ("CAP_PERFMON", 38)];

const NO_RIGHT: &str = "the other policies need no capabilities";

/// Says why the kernel refused, and what to do.
fn explain(error: Error) -> Error {
    let is_old =
        error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(|cause| {
            [Errno::EINVAL, Errno::ENOSYS].map(|e| Some(e as i32)).contains(&cause.raw_os_error())
        });
    let what = if is_old {
        "needs Linux 5.14 or later"
    } else {
        "is not permitted here (in a container, capabilities are valid for the container only)"
    };
    error.context(format!("--steer least-conn {what}; {NO_RIGHT}"))
}

/// Which of the needed capabilities a process lacks, from its /proc/PID/status.
fn missing_rights(status: &str) -> Vec<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    let has = |bit: u32| effective.is_none_or(|set| set >> bit & 1 == 1);
    let lacks = |&&(_, bit): &&(&str, u32)| !has(21) && !has(bit);
    NEEDED.iter().filter(lacks).map(|&(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_right_is_named() {
        let missing = |set: u64| missing_rights(&format!("Name:\tx\nCapEff:\t{set:016x}\n"));
        assert_eq!(missing(0), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing(1 << 39), ["CAP_PERFMON"]);
        assert_eq!(missing(1 << 39 | 1 << 38), [""; 0]);
        assert_eq!(missing(1 << 21), [""; 0]);
    }

    #[test]
    fn a_clock_with_an_offset_is_another() {
        for (offsets, is_other) in [
            ("monotonic           0         0\nboottime            0         0\n", false),
            ("monotonic      100000         0\nboottime            0         0\n", true),
            ("", false),
        ] {
            assert_eq!(has_other_clock(offsets), is_other, "{offsets}");
        }
    }
}
