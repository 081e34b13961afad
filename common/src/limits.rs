//! Limits of the machine that a server runs into first: open files, and the backlog's cap.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one. Every connection is a file, and the usual
/// soft limit of 1024 is there for programs that use select(2), which these do not.
pub fn raise_open_files() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!("cannot raise the limit of open files from {soft} to {hard}: {error}");
    }
}

/// Descriptors that a worker has beside its connections, with some to spare.
const BESIDE: u64 = 32;

/// Warns when a worker will run out of descriptors before it has as many connections as it may: then it
/// cannot accept, and finds that out again and again.
pub fn warn_of_too_many_connections(max_connections: u32) {
    let wanted = u64::from(max_connections) + BESIDE;
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < wanted
    {
        tracing::warn!(
            "--max-connections {max_connections} is more than {soft} open files allow; `ulimit -n \
             {wanted}` before the start raises that, or lower --max-connections"
        );
    }
}

/// Warns when the kernel will cap the backlog, as listen(2) does without a word.
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
