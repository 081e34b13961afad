//! `loadtest probe`: every request has one outcome, and faults cost what they should.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Server, assert_refused, children_of, program, run, runs, send, wait_for};

const FATES: [&str; 7] = [
    "ok",
    "refused",
    "reset",
    "closed_early",
    "wrong_answer",
    "timed_out_connecting",
    "timed_out_answering",
];

fn probe(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("probe.json");
    let output =
        run("loadtest", &[&["probe", "--json", path.to_str().unwrap()], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let outcomes: u64 = FATES.iter().map(|outcome| count(&record, outcome)).sum();
    assert_eq!(
        record["outcomes"]["attempted"].as_u64().or(record["attempted"].as_u64()),
        Some(outcomes)
    );
    record
}

fn count(record: &Value, outcome: &str) -> u64 {
    record["outcomes"][outcome].as_u64().unwrap_or_else(|| panic!("no {outcome} in {record:#}"))
}

fn lost(record: &Value) -> u64 {
    FATES[1..].iter().map(|outcome| count(record, outcome)).sum()
}

#[test]
fn without_faults_nothing_is_lost_in_any_kind_of_load() {
    for server in ["shared", "reuseport"] {
        for load in [
            &["--requests", "2000"][..],
            &["--requests", "2000", "--keep-alive"],
            &["--rate", "500", "--duration", "1s"],
        ] {
            let record = probe(&[&[server, "--connections", "8"], load].concat());
            assert_eq!(lost(&record), 0, "{server} {load:?}");
            assert!(count(&record, "ok") >= 450, "{server} {load:?}");
        }
    }
}

#[test]
fn reloads_lose_nothing_and_a_killed_worker_is_in_the_timeline() {
    for server in ["shared", "reuseport"] {
        let record = probe(&[
            server,
            "--connections",
            "8",
            "--duration",
            "2s",
            "--fault",
            "reload@300ms*5/250ms",
        ]);
        assert_eq!(lost(&record), 0, "{server}");
        assert_eq!(record["faults"].as_array().unwrap().len(), 5);

        let record = probe(&[
            server,
            "--connections",
            "8",
            "--duration",
            "1500ms",
            "--fault",
            "kill-worker@500ms",
        ]);
        let fault = &record["faults"][0];
        assert_eq!(fault["what"], "kill-worker");
        assert!(fault["pid"].as_u64().is_some() && fault["at_ms"].as_u64() >= Some(500), "{fault}");
        let timeline = record["timeline"].as_array().unwrap();
        let in_timeline: u64 = timeline.iter().map(|t| t["ok"].as_u64().unwrap()).sum();
        assert_eq!(in_timeline, count(&record, "ok"));
        assert!(lost(&record) <= 8, "each client has one request under way: {record:#}");
    }
}

#[test]
fn a_server_that_ended_refuses_and_the_prober_goes_on_to_its_end() {
    let record =
        probe(&["shared", "--connections", "4", "--duration", "1s", "--fault", "quit@300ms"]);
    assert!(count(&record, "ok") > 0 && count(&record, "refused") > 0, "{record:#}");
}

#[test]
fn a_server_elsewhere_is_probed_and_cannot_be_harmed() {
    let server = Server::start("shared-fd-server", &[]);
    let url = format!("http://{}/", server.address());
    let record = probe(&["--url", &url, "--requests", "100"]);
    assert_eq!(count(&record, "ok"), 100);
    assert_eq!(server.scoreboard.total_requests(), 100);
    let output = run("loadtest", &["probe", "--url", &url, "--fault", "term@1s"]);
    assert_refused(&output, &["--fault"], "a fault on somebody else's server");
}

#[test]
fn ctrl_c_reports_what_there_is() {
    let mut command = Command::new(program("loadtest"));
    command.args(["probe", "reuseport", "--duration", "60s", "--connections", "4"]);
    let probe = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let server = wait_for("some requests", || {
        let server = *children_of(probe.id()).first()?;
        let board = common::scoreboard::Scoreboard::of_process(server).ok()?;
        (board.total_requests() > 100).then_some(server)
    });
    send(probe.id(), Signal::SIGINT);
    let output = probe.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8_lossy(&output.stdout).contains("attempted"));
    assert!(!runs(server));
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (arguments, words) in [
        (&["probe"][..], &["SERVER"][..]),
        (&["probe", "shared", "--fault", "scold-worker@1s"], &["scold-worker", "kill-worker"]),
        (&["probe", "shared", "--fault", "term@9s", "--duration", "2s"], &["9s"]),
        (&["probe", "shared", "--rate", "0"], &["--rate", "0"]),
    ] {
        assert_refused(&run("loadtest", arguments), words, arguments);
    }
}
