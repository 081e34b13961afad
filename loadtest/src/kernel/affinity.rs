//! Separate cores for server and wrk (`--pin`), by sched_setaffinity(2).

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// The cores of each, by their numbers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Cores {
    pub server: Vec<usize>,
    pub wrk: Vec<usize>,
}

impl Cores {
    /// Divides the cores that this program may use; of an odd number the server gets one more.
    /// Fails on a single core.
    pub fn halve() -> Result<Self> {
        Self::halve_these(&own()?)
    }

    fn halve_these(cores: &[usize]) -> Result<Self> {
        ensure!(
            cores.len() > 1,
            "--pin needs a core for the server and another for wrk, and this program may use one \
             only; leave --pin out"
        );
        let (server, wrk) = cores.split_at(cores.len().div_ceil(2));
        Ok(Self { server: server.into(), wrk: wrk.into() })
    }

    /// What the pinning changes, in a sentence.
    pub fn sentence(&self) -> String {
        format!(
            "pinned: the server to {}, wrk to {}: neither can take the other's CPU time, so a server \
             that needs less of it is faster only where the server is the limit; without --pin the \
             scheduler shares all cores out, as on a machine where clients are local",
            name(&self.server),
            name(&self.wrk)
        )
    }
}

fn name(cores: &[usize]) -> String {
    let numbers: Vec<String> = cores.iter().map(usize::to_string).collect();
    let word = if cores.len() == 1 { "core" } else { "cores" };
    format!("{word} {}", numbers.join(", "))
}

/// Runs `action`, such as the start of a program, on these cores. Programs that it starts inherit them; this thread
/// gets its own cores back.
pub fn on<T>(cores: Option<&[usize]>, action: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(cores) = cores else { return action() };
    let before = own()?;
    move_to(cores)?;
    let done = action();
    move_to(&before)?;
    done
}

/// The cores that the calling thread may use.
/// Fails when the kernel does not say.
pub fn own() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("cannot tell which cores there are")?;
    Ok((0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect())
}

fn move_to(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core).with_context(|| format!("there is no core {core}"))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("cannot run on {}; leave --pin out", name(cores)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cores_are_halved_and_one_cannot_be() {
        let cores = Cores::halve_these(&[0, 1, 4]).unwrap();
        assert_eq!((cores.server, cores.wrk), (vec![0, 1], vec![4]));
        let refusal = Cores::halve_these(&[3]).unwrap_err().to_string();
        assert!(refusal.contains("--pin"), "{refusal}");
    }

    #[test]
    fn what_is_started_inherits_the_core_and_this_thread_gets_back_its_own() {
        let before = own().unwrap();
        let last = *before.last().unwrap();
        let inherited = on(Some(&[last]), || {
            let status = std::process::Command::new("cat").arg("/proc/self/status").output()?;
            Ok(String::from_utf8(status.stdout)?)
        })
        .unwrap();
        let allowed = inherited.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        assert_eq!(allowed.unwrap().trim(), last.to_string());
        assert_eq!(own().unwrap(), before);
    }
}
