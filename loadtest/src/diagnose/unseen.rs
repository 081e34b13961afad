//! What could not be seen of a server, and why.

use std::time::Duration;

use crate::diagnose::model::Readings;

/// In sentences: about these readings, about processes that may not be read, and about accepts if the kernel does
/// not count them.
pub fn unseen<'a>(
    readings: &Readings,
    hidden: impl Iterator<Item = (u32, &'a str)>,
    uncounted: Option<&str>,
    every: Duration,
) -> Vec<String> {
    let nobody = readings.sockets.iter().filter(|socket| socket.server.is_none());
    let mut unseen: Vec<String> = nobody
        .map(|socket| {
            format!(
                "who has socket {} on {} open (it was made by user {}); as root it could be seen{}",
                socket.inode,
                socket.address,
                socket.uid,
                hidepid()
            )
        })
        .collect();
    unseen.extend(
        hidden.map(|(pid, what)| format!("what process {pid} waits for, or some of it: {what}")),
    );
    if readings.own_sockets().any(|socket| socket.reuse_port.is_none()) {
        unseen.push(
            "whether SO_REUSEPORT is set: pidfd_getfd(2) was refused, so the model comes from /proc alone \
             (root may; the sysctl kernel.yama.ptrace_scope may forbid it to others)"
                .into(),
        );
    }
    if readings.has_own_sockets() {
        unseen.push("which program steers the group, if any: no system call reports it".into());
    }
    if readings.children > 0 {
        unseen.push(format!(
            "whether child processes of those that accept serve, too: {} of them have neither a \
             listening socket nor a connection now, and are not shown",
            readings.children
        ));
    }
    if let Some(reason) = uncounted {
        unseen.push(format!(
            "connections that were opened and closed between two observations, {} ms or more \
             apart: the kernel does not count accepts here ({reason}), so only connections that \
             were seen to appear count",
            every.as_millis()
        ));
    }
    unseen
}

/// A hint if /proc hides other users' processes.
pub fn hidepid() -> &'static str {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let hides = mounts.lines().filter(|line| line.contains(" /proc proc ")).any(|line| {
        line.contains("hidepid=") && !line.contains("hidepid=0") && !line.contains("hidepid=off")
    });
    if hides { " (/proc is mounted with hidepid, which hides other users' processes)" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::findings::tests::{own, with};

    #[test]
    fn what_was_refused_is_said_with_what_the_model_comes_from_then() {
        let readings = with(own([0; 4]), |it| {
            it.children = 4;
            it.sockets.iter_mut().for_each(|socket| socket.reuse_port = None);
            it.sockets[3].server = None;
        });
        let hidden = [(7, "its system calls may not be read")].into_iter();
        let said = unseen(&readings, hidden, Some("it takes root"), Duration::from_millis(200));
        let words =
            ["socket 4", "process 7", "ptrace_scope", "steers", "4 of them", "it takes root"];
        assert_eq!(said.len(), words.len(), "{said:?}");
        for (said, words) in said.iter().zip(words) {
            assert!(said.contains(words), "{said}");
        }
    }
}
