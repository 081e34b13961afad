//! Counts the instructions or the CPU time of a server's processes while wrk runs.
//!
//! Instructions are the better measure: they hardly depend on what else the machine does. Without a
//! counter for them, as in most virtual machines, it counts CPU time.

use std::io::ErrorKind;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::kernel::procfs::Usage;
use crate::load::Load;
use crate::load::wrk::{Measured, Moment, Wrk};

/// The two counters, user and kernel apart, as perf names them.
const EVENTS: &str = "instructions:u,instructions:k";

/// The unit of cost.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Instructions, through `perf stat`.
    Instructions,
    /// Nanoseconds of CPU time, from /proc.
    CpuNanoseconds,
}

/// The cost of processes or of a request, in one of these units.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Cost {
    /// In the program.
    pub user: f64,
    /// In the kernel, on its behalf.
    pub system: f64,
    /// In all. CPU time is exact to the nanosecond and its two parts to the clock tick of 10 ms, so it need not be
    /// their sum.
    pub total: f64,
}

impl Unit {
    /// The best unit that this machine has; and why that is not instructions, if so.
    pub fn choose() -> (Self, Option<String>) {
        match try_perf() {
            Ok(()) => (Self::Instructions, None),
            Err(excuse) => (Self::CpuNanoseconds, Some(excuse)),
        }
    }

    /// Runs wrk, and measures what each of its requests costs these processes.
    ///
    /// # Errors
    /// Those of wrk, and when nothing can be counted.
    pub fn measure(
        self,
        pids: &[u32],
        wrk: &Wrk,
        load: &Load,
        url: &str,
        look: impl FnMut(Moment) -> Result<()>,
    ) -> Result<(Measured, Cost)> {
        let (measured, Cost { user, system, total }) = match self {
            Self::Instructions => {
                let counts = NamedTempFile::new().context("cannot make a file for perf")?;
                let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
                // perf attaches to the servers first, then starts wrk, and counts until wrk ends.
                let mut perf = Command::new("perf");
                perf.args(["stat", "-x,", "-e", EVENTS, "-p", &pids.join(","), "-o"]);
                perf.arg(counts.path()).arg("--");
                let measured = wrk.run(load, url, Some(perf), look)?;
                let text = std::fs::read_to_string(counts.path()).context("perf left no counts")?;
                (measured, parse(&text)?)
            }
            Self::CpuNanoseconds => {
                let usages = || pids.iter().map(|&pid| Usage::of(pid)).collect::<Result<Vec<_>>>();
                let before = usages()?;
                let measured = wrk.run(load, url, None, look)?;
                let after = usages()?.into_iter().zip(&before).map(|(now, then)| now.since(then));
                (measured, sum(after))
            }
        };
        let each = |spent: f64| spent / measured.requests as f64;
        let cost = Cost { user: each(user), system: each(system), total: each(total) };
        Ok((measured, cost))
    }
}

/// Tries perf on a program that does nothing. Returns the reason if it cannot count instructions.
fn try_perf() -> Result<(), String> {
    let mut command = Command::new("perf");
    command.args(["stat", "-x,", "-e", EVENTS, "--", "true"]);
    let output = command.output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => "perf is not installed (Debian: the package linux-perf)".to_owned(),
        _ => format!("perf cannot be run: {error}"),
    })?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err("perf may not count in the kernel; run as root, or set the sysctl \
                    kernel.perf_event_paranoid to 1 or less"
            .into());
    }
    parse(&text).map(drop).map_err(|error| error.to_string())
}

/// Parses the output of `perf stat -x,`: a line per event, `count,unit,event,...`.
fn parse(text: &str) -> Result<Cost> {
    let count = |event: &str| -> Result<f64> {
        let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let fields = lines
            .find(|fields| fields.get(2) == Some(&event))
            .with_context(|| format!("perf printed no count of {event}"))?;
        ensure!(
            fields[0] != "<not supported>",
            "this machine has no counter of instructions that perf could read, as is usual in \
             virtual machines"
        );
        fields[0].parse().with_context(|| format!("perf counted {} of {event}", fields[0]))
    };
    let (user, system) = (count("instructions:u")?, count("instructions:k")?);
    Ok(Cost { user, system, total: user + system })
}

fn sum(usages: impl Iterator<Item = Usage>) -> Cost {
    usages.fold(Cost::default(), |sum, usage| Cost {
        user: sum.user + usage.cpu.user * 1e9,
        system: sum.system + usage.cpu.system * 1e9,
        total: sum.total + usage.cpu_seconds() * 1e9,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::procfs::CpuSeconds;

    #[test]
    fn perfs_counts_are_read_by_event() {
        let text = "# started on Mon\n\n6100,,instructions:u,1000,100.00,,\n\
                    13500,,instructions:k,1000,100.00,,\n";
        let spent = parse(text).unwrap();
        assert_eq!((spent.user, spent.system, spent.total), (6100.0, 13500.0, 19600.0));
    }

    #[test]
    fn a_machine_without_a_counter_is_said_to_be_one() {
        let text = "<not supported>,,instructions:u,0,100.00,,\n";
        assert!(parse(text).unwrap_err().to_string().contains("virtual machines"));
        assert!(parse("<not counted>,,instructions:u,0,0.00,,\n").is_err());
        assert!(parse("").is_err());
    }

    #[test]
    fn the_exact_total_is_preferred_and_the_coarse_one_will_do() {
        let cpu = CpuSeconds { user: 0.25, system: 0.5 };
        let exact = Usage { cpu, cpu_nanoseconds: 760_000_000, ..Usage::default() };
        assert_eq!(sum([exact, exact].into_iter()).total, 1.52e9);
        let coarse = Usage { cpu, ..Usage::default() };
        assert_eq!(sum([coarse].into_iter()).total, 0.75e9);
    }
}
