//! The machine and the versions with which a result was made. Absolute figures mean nothing without them.

use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use anyhow::Result;
use procfs::Current;
use serde::{Deserialize, Serialize};

/// The folder that this program was compiled in; it may not exist any more.
const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// What a result depends on besides the programs' arguments.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Environment {
    /// System and release of the kernel.
    pub kernel: String,
    /// The CPU's model; `None` if the kernel does not name it.
    pub cpu: Option<String>,
    /// Cores that this program may use.
    pub cores: usize,
    /// Memory of the machine.
    pub memory_bytes: Option<u64>,
    /// Version of wrk, if it was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrk: Option<String>,
    /// The compiler that built this program.
    pub rustc: String,
    /// The commit of the sources when the run began, with `-dirty` if they differ from it; `None` without git.
    pub commit: Option<String>,
    /// Size and time of change of this program and of the servers beside it: sources may change after the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<String>,
    /// When the run began, RFC 3339, UTC.
    pub started_at: String,
}

impl Environment {
    /// Reads the present environment.
    pub fn now(wrk: Option<&str>) -> Result<Self> {
        let kernel = nix::sys::utsname::uname()?;
        let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
        let cpus = procfs::CpuInfo::current().ok();
        Ok(Self {
            kernel: format!("{} {}", text(kernel.sysname()), text(kernel.release())),
            cpu: cpus.and_then(|cpus| cpus.model_name(0).map(str::to_owned)),
            cores: cores(),
            memory_bytes: procfs::Meminfo::current().ok().map(|memory| memory.mem_total),
            wrk: wrk.map(str::to_owned),
            rustc: env!("BUILT_WITH").into(),
            commit: commit(),
            programs: programs(),
            started_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        })
    }

    /// What identifies a machine for comparisons of figures: kernel, CPU, cores.
    pub fn machine(&self) -> (&str, Option<&str>, usize) {
        (&self.kernel, self.cpu.as_deref(), self.cores)
    }

    /// The day and the commit, by which documents name a run.
    pub fn when(&self) -> String {
        let day = self.started_at.split('T').next().unwrap_or_default();
        let commit = self.commit.as_deref().unwrap_or("that is unknown");
        format!("{day} at commit {commit}")
    }

    /// Whether figures of both may be compared: the same machine and the same program.
    pub fn is_the_same_as(&self, other: &Self) -> bool {
        let all = |it: &Self| (it.commit.clone(), it.programs.clone());
        self.machine() == other.machine() && all(self) == all(other)
    }
}

/// The number of cores that this program and its children may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn programs() -> Option<String> {
    let own = std::env::current_exe().ok()?;
    let of = |path: PathBuf| {
        let found = path.metadata().ok()?;
        let changed = found.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(format!("{} bytes of {}", found.len(), changed.as_nanos()))
    };
    let servers = ["shared-fd-server", "reuseport-server"].map(|name| own.with_file_name(name));
    let all = [vec![own], servers.to_vec()].concat();
    Some(all.into_iter().filter_map(of).collect::<Vec<_>>().join(", "))
}

fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["-C", SOURCE, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|commit| output.status.success() && !commit.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_kernel_compiler_and_time() {
        let environment = Environment::now(Some("wrk 4")).unwrap();
        assert!(environment.kernel.starts_with("Linux "));
        assert!(environment.rustc.starts_with("rustc "));
        assert!(humantime::parse_rfc3339(&environment.started_at).is_ok());
        assert!(environment.cores >= 1);
    }

    #[test]
    fn a_run_is_named_by_its_day_and_its_commit() {
        let mut environment = Environment::now(None).unwrap();
        environment.started_at = "2026-11-28T00:40:12Z".into();
        environment.commit = Some("ba3aceb75b87-dirty".into());
        assert_eq!(environment.when(), "2026-11-28 at commit ba3aceb75b87-dirty");
        environment.commit = None;
        assert_eq!(environment.when(), "2026-11-28 at commit that is unknown");
    }
}
