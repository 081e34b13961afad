//! The limits that a server meets first: open files, the cap of the backlog, and CPUs.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::platform::affinity;

/// Raises the soft limit of open files to the hard one. Every connection is a file, and the usual
/// soft limit of 1024 is for programs that use select(2), which these do not.
pub fn raise_open_files() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!("cannot raise the limit of open files from {soft} to {hard}: {error}");
    }
}

/// How many descriptors a worker has besides its connections, with some to spare.
const BESIDE: u64 = 32;

/// Warns when a worker will run out of descriptors below its limit of connections: then accept(2) fails again and
/// again.
pub fn warn_of_too_many_connections(max_connections: u32) {
    let wanted = u64::from(max_connections) + BESIDE;
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < wanted
    {
        tracing::warn!(
            "--max-connections {max_connections} needs {wanted} open files, and the limit is \
             {soft}; raise it before the start (`ulimit -n {wanted}`), or lower --max-connections"
        );
    }
}

/// Adds the remedy to an error that says, in any words, that the limit of open files is too low to start this many
/// workers: the parent has some descriptors for each.
pub fn explain_open_files(error: anyhow::Error) -> anyhow::Error {
    let number = |cause: &(dyn std::error::Error + 'static)| {
        let errno = cause.downcast_ref::<Errno>().copied();
        errno.or_else(|| cause.downcast_ref::<io::Error>()?.raw_os_error().map(Errno::from_raw))
    };
    let is_limit = |errno| matches!(errno, Errno::EMFILE | Errno::ETOOMANYREFS);
    match (error.chain().filter_map(number).any(is_limit), getrlimit(Resource::RLIMIT_NOFILE)) {
        (true, Ok((soft, _))) => error.context(format!(
            "the limit of open files, {soft}, is too low for so many workers; raise it before the start \
             (`ulimit -n`), or ask for fewer --workers"
        )),
        _ => error,
    }
}

/// Warns when the kernel will cap the backlog, which listen(2) does without an error.
pub fn warn_of_capped_backlog(backlog: i32) {
    let path = "/proc/sys/net/core/somaxconn";
    let cap = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(cap) = cap.filter(|&cap| cap < backlog) {
        tracing::warn!(
            "--backlog {backlog} is capped at {cap} by net.core.somaxconn; \
             `sysctl net.core.somaxconn={backlog}` raises it"
        );
    }
}

/// How many CPUs this process may use at the same time: those of its affinity mask, or fewer if the quota of its
/// control group, or of one above, is lower. A quota of one and a half counts as two: with one worker a third of it
/// would be unused.
pub fn usable_cpus() -> usize {
    let cpus = affinity::cpus().map(|cpus| cpus.len()).ok();
    let cpus = cpus.or_else(|| std::thread::available_parallelism().map(usize::from).ok());
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let quota = quota(&groups, Path::new("/sys/fs/cgroup"));
    cpus.into_iter().chain(quota).min().unwrap_or(1).max(1)
}

/// The smallest quota of these control groups (as in /proc/PID/cgroup) and those above, in whole CPUs,
/// rounded up. If the names are the host's, as in some containers, only the mounted root is found, which is
/// the container's.
fn quota(groups: &str, root: &Path) -> Option<usize> {
    let whole = |quota: &str, period: &str| {
        let (quota, period): (u64, u64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
        (period > 0).then(|| quota.div_ceil(period) as usize)
    };
    let of_version_2 = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("cpu.max")).ok()?;
        text.split_once(' ').and_then(|(quota, period)| whole(quota, period)) // or "max"
    };
    let of_version_1 = |folder: &Path| {
        let read = |name| std::fs::read_to_string(folder.join(name)).ok();
        whole(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?) // or -1
    };
    let quotas = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let path = Path::new(path.trim_start_matches('/'));
        let all = |mounted: &str, of: &dyn Fn(&Path) -> Option<usize>| {
            let mounted = root.join(mounted);
            path.ancestors().filter_map(|group| of(&mounted.join(group))).min()
        };
        if controllers.is_empty() {
            all("", &of_version_2).into_iter().chain(all("unified", &of_version_2)).min()
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            all("cpu", &of_version_1).into_iter().chain(all(controllers, &of_version_1)).min()
        } else {
            None
        }
    });
    quotas.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_quota_on_the_way_up_counts_and_is_rounded_up() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let quota = |groups: &str| quota(groups, root.path());
        assert_eq!(quota("0::/system.slice/hello.service\n"), None);
        write("system.slice/hello.service/cpu.max", "max 100000\n");
        assert_eq!(quota("0::/system.slice/hello.service\n"), None);
        write("system.slice/cpu.max", "250000 100000\n");
        assert_eq!(quota("0::/system.slice/hello.service\n"), Some(3), "of the one above");
        write("system.slice/hello.service/cpu.max", "150000 100000\n");
        assert_eq!(quota("0::/system.slice/hello.service\n"), Some(2));
        write("unified/box/cpu.max", "1000 100000\n");
        assert_eq!(quota("0::/box\n"), Some(1), "beside controllers of version 1");

        let groups = "4:memory:/x\n1:cpu,cpuacct:/docker/123\n0::/\n";
        write("cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
        write("cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        assert_eq!(quota(groups), None);
        write("cpu,cpuacct/cpu.cfs_quota_us", "400000\n");
        assert_eq!(quota(groups), Some(4), "the root is the container's");
        write("cpu/docker/123/cpu.cfs_quota_us", "300001\n");
        write("cpu/docker/123/cpu.cfs_period_us", "100000\n");
        assert_eq!(quota("1:cpu,cpuacct:/docker/123\n"), Some(4));
        assert_eq!(quota("1:cpu:/docker/123\n"), Some(4));
        assert_eq!(quota("nonsense\n1:cpu\n"), None);
    }
}
