//! `loadtest probe`: every request has one outcome, and faults cost what they should.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Server, assert_refused, children_of, program, run, runs, send, wait_for};

const OUTCOMES: [&str; 7] = [
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
    let shown = run("loadtest", &["show", path.to_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&output.stdout));
    let record: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let outcomes: u64 = OUTCOMES.iter().map(|outcome| count(&record, outcome)).sum();
    assert_eq!(record["schema"], "loadtest-probe/2");
    assert_eq!(record["attempted"].as_u64(), Some(outcomes));
    record
}

fn count(record: &Value, outcome: &str) -> u64 {
    record["outcomes"][outcome].as_u64().unwrap_or_else(|| panic!("no {outcome} in {record:#}"))
}

fn lost(record: &Value) -> u64 {
    OUTCOMES[1..].iter().map(|outcome| count(record, outcome)).sum()
}

#[test]
fn kept_connections_are_shown_by_worker_second_by_second() {
    let load = ["--rate", "500", "--keep-alive", "--duration", "3s", "--timeout", "20s"];
    let server = "shared --workers 3 --accept least-conn --rebalance";
    let record = probe(&[&[server, "--fault", "reload@500ms"], &load[..]].concat());
    assert_eq!(lost(&record), 0);
    let held = record["held"].as_array().unwrap();
    assert!((2..=4).contains(&held.len()), "{held:?}");
    let last: Vec<u64> = serde_json::from_value(held[1]["connections"].clone()).unwrap();
    assert!(last.len() == 3 && last.iter().sum::<u64>() > 0, "{held:?}");
}

#[test]
fn without_faults_nothing_is_lost_in_any_kind_of_load() {
    for server in ["shared", "reuseport"] {
        for load in [
            &["--requests", "2000", "--connections", "8"][..],
            &["--requests", "2000", "--connections", "8", "--keep-alive"],
            &["--rate", "500", "--duration", "1s"],
            &["--rate", "500", "--duration", "1s", "--arrivals", "even", "--keep-alive"],
        ] {
            let record = probe(&[&[server, "--timeout", "20s"], load].concat());
            assert_eq!(lost(&record), 0, "{server} {load:?}");
            // A machine that is busy may stop the prober for longer than it goes on sending: what it
            // did not send it says.
            let due = count(&record, "ok") + record["not_sent"].as_u64().unwrap();
            assert!(due >= if load[0] == "--rate" { 400 } else { 2000 }, "{record:#}");
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
        probe(&["shared", "--connections", "4", "--duration", "3s", "--fault", "quit@300ms"]);
    assert!(count(&record, "ok") > 0 && count(&record, "refused") > 0, "{record:#}");
}

#[test]
fn a_server_elsewhere_is_probed_and_cannot_be_harmed() {
    let server = Server::start("shared-fd-server", &[]);
    let url = format!("http://{}/", server.address());
    let record = probe(&["--url", &url, "--requests", "100"]);
    assert_eq!(count(&record, "ok"), 100);
    assert_eq!(server.scoreboard.total_requests(), 100);
    let named = probe(&[&format!("there={url}"), "--requests", "100"]);
    assert_eq!((count(&named, "ok"), &named["server"]), (100, &Value::from("there")));
    for whom in [&["--url", &url][..], &[&url]] {
        let output = run("loadtest", &[&["probe"], whom, &["--fault", "term@1s"]].concat());
        assert_refused(&output, &["--fault"], "a fault on somebody else's server");
    }
}

#[test]
fn latencies_at_a_rate_are_multiples_of_the_ideal_where_the_service_time_is_known() {
    let load = ["--rate", "200", "--duration", "1s", "--seed", "7"];
    let blocking = ["shared --workers 4 --lab", "--url-path", "/block/5000"];
    let record = probe(&[&blocking[..], &load].concat());
    let ideal = &record["ideal"];
    assert_eq!((ideal["servers"].as_u64(), ideal["service_us"].as_u64()), (Some(4), Some(5000)));
    assert!(ideal["p50"].as_u64() >= Some(5000) && ideal["p99"].as_u64() >= ideal["p50"].as_u64());
    // No server is faster than the ideal, less what the histogram rounds off.
    assert!(record["of_ideal"]["p50"].as_f64() > Some(0.99), "{record:#}");
    assert_eq!(record["load"]["arrivals"], "poisson");
    // The same seed sends the same arrivals, for which the ideal is the same.
    let again = probe(
        &[&["shared --workers=4", "--url-path", "/block/5000"], &load[..], &["--", "--lab"]]
            .concat(),
    );
    assert_eq!(again["ideal"], record["ideal"]);
    let closed = probe(&["shared", "--url-path", "/block/5000", "--requests", "20", "--", "--lab"]);
    assert!(closed["ideal"].is_null() && closed["lateness_us"].is_null());
}

#[test]
fn bodies_are_checked_as_asked() {
    let good = probe(&["shared", "--expect", "hello", "--requests", "50"]);
    assert_eq!(count(&good, "ok"), 50);
    let bad = probe(&["shared", "--expect", "hullo", "--requests", "50"]);
    assert_eq!(count(&bad, "wrong_answer"), 50);
    let warning = bad["warnings"].to_string();
    assert!(warning.contains("hello") && warning.contains("hullo"), "{warning}");
}

#[test]
fn a_rate_beyond_what_can_be_sent_says_what_was_sent() {
    let record = probe(&["shared", "--rate", "1000000", "--duration", "300ms"]);
    assert!(record["not_sent"].as_u64() > Some(0), "{record:#}");
    assert!(record["sent_per_second"].as_f64() < Some(1e6));
    let warnings = record["warnings"].to_string();
    assert!(warnings.contains("1000000 requests/s were asked for"), "{warnings}");
}

#[test]
fn a_foreign_server_is_probed_and_harmed_like_ours() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/prefork.py");
    let server = format!("prefork=cmd:python3 {script} {{port}} 3 shared --chunked");
    let record = probe(&[
        &server,
        "--connections",
        "4",
        "--duration",
        "2s",
        "--expect",
        "hello",
        "--fault",
        "stop-worker@400ms",
        "--fault",
        "kill-worker@800ms",
        "--fault",
        "reload@1200ms",
        "--signal",
        "reload=HUP",
    ]);
    assert_eq!((count(&record, "wrong_answer"), &record["server"]), (0, &Value::from("prefork")));
    assert!(count(&record, "ok") > 0 && record["answered_by_server"].is_null(), "{record:#}");
    let faults = record["faults"].as_array().unwrap();
    assert!(faults.len() == 3 && faults.iter().all(|fault| fault["pid"].is_u64()), "{faults:?}");
    let output = run("loadtest", &["probe", &server, "--fault", "reload@1s"]);
    assert_refused(&output, &["reload", "--signal"], "a fault whose signal is not known");
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
        (&["probe", "cmd:serve {port}", "--", "--workers", "2"], &["after --", "its command"]),
    ] {
        assert_refused(&run("loadtest", arguments), words, arguments);
    }
}
