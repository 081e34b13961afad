//! `loadtest bench` with real wrk on the real servers, and everything that can go wrong with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Server, assert_refused, children_of, program, run, runs, send, wait_for};

/// A short bench whose record is kept.
fn bench(arguments: &[&str]) -> (Output, Value) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/bench.json");
    let mut all = vec!["bench"];
    all.extend(arguments);
    let place = all.iter().position(|&word| word == "--").unwrap_or(all.len());
    all.splice(place..place, ["--json", path.to_str().unwrap()]);
    let output = run("loadtest", &all);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{all:?}: {stderr}");
    let record = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    (output, record)
}

fn number(record: &Value, pointer: &str) -> f64 {
    let value = record.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {record:#}"));
    value.as_f64().unwrap_or_else(|| panic!("{pointer} is {value}"))
}

#[test]
fn wrks_count_and_the_scoreboards_agree_and_the_record_is_whole() {
    for (server, close) in
        [("shared", false), ("reuseport", false), ("shared", true), ("reuseport", true)]
    {
        let mut arguments =
            vec![server, "--threads", "2", "--connections", "16", "--duration", "1s"];
        if close {
            arguments.push("--close");
        }
        let (output, record) = bench(&arguments);
        assert_eq!(record["server"], server);
        for field in ["schema", "environment", "arguments", "warnings"] {
            assert!(!record[field].is_null(), "{field}");
        }
        for field in
            ["kernel", "cpu", "cores", "memory_bytes", "wrk", "rustc", "commit", "started_at"]
        {
            assert!(record["environment"].get(field).is_some(), "{field}");
        }
        assert_eq!(record["load"]["keep_alive"], !close);
        assert_eq!(number(&record, "/load/threads"), 2.0);
        assert_eq!(number(&record, "/load/connections_opened"), 16.0);

        let requests = number(&record, "/result/requests");
        assert!(requests > 0.0);
        let workers = record["workers"].as_array().unwrap();
        assert_eq!(workers.len(), 4);
        let sum = |field: &str| workers.iter().map(|w| w[field].as_f64().unwrap()).sum::<f64>();
        let in_flight = sum("requests") - requests;
        assert!((0.0..=16.0).contains(&in_flight), "{in_flight} in flight of {requests}");
        // wrk looks once whether the server is there, with a connection that asks nothing.
        let least = if close { requests } else { 16.0 };
        assert!(sum("connections") > least, "{} connections", sum("connections"));

        let latency = &record["result"]["latency_us"];
        let steps =
            ["p50", "p75", "p90", "p99", "p99_9", "max"].map(|p| latency[p].as_f64().unwrap());
        assert!(steps.is_sorted() && steps[0] > 0.0, "{steps:?}");
        let rate = number(&record, "/result/requests_per_second/value");
        let seconds = number(&record, "/seconds");
        assert!((rate * seconds / requests - 1.0).abs() < 0.01);

        let shown = String::from_utf8(output.stdout).unwrap();
        for worker in workers {
            assert!(shown.contains(&worker["pid"].to_string()), "{shown}");
        }
    }
}

#[test]
fn what_wrk_did_not_do_as_asked_is_warned_of() {
    // Options after the dashes win over those in the server's own text.
    let (output, record) = bench(&[
        "reuseport --workers 2",
        "--threads",
        "3",
        "--connections",
        "10",
        "--duration",
        "1s",
        "--",
        "--workers",
        "12",
    ]);
    assert_eq!(number(&record, "/load/connections_opened"), 9.0);
    let warnings = record["warnings"].to_string();
    assert!(warnings.contains("9 connections, not 10"), "{warnings}");
    assert!(warnings.contains("answered no request"), "9 connections for 12 workers: {warnings}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("9 connections, not 10"));
}

#[test]
fn a_server_that_runs_elsewhere_is_measured_without_its_workers() {
    let server = Server::start("shared-fd-server", &[]);
    let url = format!("http://{}/", server.address());
    let load = ["--url", &url, "--threads", "1", "--connections", "2", "--duration", "1s"];
    let (_, record) = bench(&load);
    assert!(number(&record, "/result/requests") > 0.0);
    assert_eq!(record["workers"].as_array().map(Vec::len).unwrap_or(0), 0);
}

#[test]
fn two_records_are_shown_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for server in ["shared", "reuseport"] {
        let path = folder.path().join(server).to_str().unwrap().to_owned();
        let load = ["--threads", "1", "--connections", "4", "--duration", "1s", "--json", &path];
        assert!(run("loadtest", &[&["bench", server], &load[..]].concat()).status.success());
        paths.push(path);
    }
    let output = run("loadtest", &["show", &paths[0], &paths[1]]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("shared") && shown.contains("reuseport"), "{shown}");
}

/// A folder to use as PATH, with this script in it as wrk.
fn fake_wrk(folder: &Path, script: &str) {
    let path = folder.join("wrk");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_wrk_that_is_missing_or_broken_is_said_and_leaves_no_server_behind() {
    let folder = tempfile::tempdir().unwrap();
    for (script, words) in [
        (None, &["wrk", "install"][..]),
        (Some("exit 1"), &["wrk", "does not work"]),
        (Some("[ \"$1\" = -v ] && echo wrk 9; exit 0"), &["wrk"]),
    ] {
        if let Some(script) = script {
            fake_wrk(folder.path(), script);
        }
        let mut command = Command::new(program("loadtest"));
        command.args(["bench", "shared", "--duration", "1s"]);
        // The shell of the script is found by its absolute path.
        let output = command.env("PATH", folder.path()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{script:?}");
        for word in words {
            assert!(stderr.contains(word), "{script:?} should name {word}: {stderr}");
        }
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn a_server_that_does_not_start_is_reported_in_its_own_words() {
    let output = run("loadtest", &["bench", "shared", "--", "--host", "192.0.2.1"]);
    assert_refused(&output, &["shared-fd-server", "no address 192.0.2.1"], "a strange address");
}

/// Starts a long bench and waits until its server and wrk run; gives both pids.
fn long_bench(server: &str) -> (std::process::Child, u32, u32) {
    let mut command = Command::new(program("loadtest"));
    command.args(["bench", server, "--threads", "1", "--connections", "4", "--duration", "60s"]);
    let bench =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
    let child = |name: &str| {
        wait_for(name, || {
            children_of(bench.id()).into_iter().find(|&pid| {
                let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                comm.trim().starts_with(name)
            })
        })
    };
    let (server, wrk) = (child(&format!("{server}-")), child("wrk"));
    wait_for("some requests", || {
        let board = common::scoreboard::Scoreboard::of_process(server).ok()?;
        (board.total_requests() > 100).then_some(())
    });
    (bench, server, wrk)
}

#[test]
fn a_server_that_dies_during_a_run_is_an_error_and_nothing_is_left_behind() {
    for name in ["shared", "reuseport"] {
        let (bench, server, wrk) = long_bench(name);
        send(server, Signal::SIGKILL);
        let output = bench.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(stderr.contains("during the run"), "{stderr}");
        assert!(!runs(wrk) && !runs(server));
    }
}

#[test]
fn ctrl_c_reports_what_there_is_and_leaves_nothing_behind() {
    let (bench, server, wrk) = long_bench("reuseport");
    send(bench.id(), Signal::SIGINT);
    let output = bench.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let (shown, warned) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(shown.contains("Requests/s"), "{shown}");
    assert!(warned.contains("interrupted"), "{warned}");
    assert!(!runs(wrk) && !runs(server));
}

#[test]
fn bad_input_is_refused_before_any_server_starts() {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["bench"], &["SERVER"]),
        (&["bench", "both"], &["'both'", "shared", "reuseport"]),
        (&["bench", "shared", "--duration", "500ms"], &["500ms", "--duration"]),
        (&["bench", "shared", "--threads", "9", "--connections", "4"], &["4", "9"]),
        (&["bench", "shared", "--json", "/proc/no/such"], &["/proc/no"]),
        (&["show", "/no/such.json"], &["/no/such.json"]),
    ];
    for (arguments, words) in cases {
        assert_refused(&run("loadtest", arguments), words, arguments);
    }
}
