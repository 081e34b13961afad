//! Busy servers, whose workers no look finds waiting.

use serde_json::Value;

use super::{as_somebody, diagnose, diagnosis, ids};
use crate::busy::Busy;
use crate::support::wait_for;

fn roles(json: &Value) -> Vec<(u64, &str)> {
    let workers = json["workers"].as_array().unwrap().iter();
    workers.map(|it| (it["pid"].as_u64().unwrap(), it["role"].as_str().unwrap())).collect()
}

/// Each worker with its role, by process id.
fn expected(server: &Busy) -> Vec<(u64, &'static str)> {
    let workers = server.workers();
    let parent = if workers.is_empty() { "worker" } else { "holder" };
    let mut all: Vec<_> = workers.into_iter().map(|pid| (u64::from(pid), "worker")).collect();
    all.push((server.pid().into(), parent));
    all.sort_unstable();
    all
}

/// Looks until it says who works. On a busy machine a look may fall into a time in which one got no core.
fn find_workers(server: &Busy, mut look: impl FnMut() -> (Value, i32)) -> Value {
    wait_for("a look that finds every worker, and no fault", || {
        let (json, _) = look();
        let mut found = roles(&json);
        found.sort_unstable();
        let is_accused =
            ["stalled-worker", "one-takes-all"].iter().any(|id| ids(&json).contains(id));
        (found == expected(server) && !is_accused).then_some(json)
    })
}

#[test]
fn busy_workers_are_known_by_what_they_accept() {
    for count in [2, 0] {
        let Some(server) = Busy::start(count, true) else { return };
        let arguments = ["--port", &server.port, "--for", "1s"];
        let json = find_workers(&server, || diagnose(&arguments));
        let is_counted = json["counted"] == "by_kernel";
        for worker in json["workers"].as_array().unwrap() {
            let serves = worker["role"] == "worker";
            assert!(!is_counted || serves == (worker["accepted"] != 0), "{json:#}");
        }
        let model = json["model"].as_str().unwrap();
        let words = if count == 2 { "1 shared socket, 2 processes" } else { "1 socket, 1 process" };
        assert!(model.starts_with(words), "{json:#}");
    }
}

#[test]
fn busy_workers_are_known_by_their_cpu_time_where_the_kernel_counts_no_accepts() {
    let folder = tempfile::tempdir().unwrap();
    for count in [2, 0] {
        let Some(server) = Busy::start(count, false) else { return };
        let arguments = ["--json", "--port", &server.port, "--for", "1s"];
        let json = find_workers(&server, || {
            diagnosis(&as_somebody(folder.path()).args(arguments).output().unwrap())
        });
        assert_eq!(json["counted"], "by_sockets", "{json:#}");
    }
}
