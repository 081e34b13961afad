//! Servers that are not ours: started by any command, seen through the kernel, and gone at the end.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Server, assert_refused, children_of, copy_for_all, listening_sockets, program, run, runs, send,
    skip, wait_for,
};

/// A server specification for the pre-fork server beside this file.
fn prefork(name: &str, arguments: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/prefork.py");
    format!("{name}=cmd:python3 {} {{port}} {arguments}", script.display())
}

pub fn has_python() -> bool {
    Command::new("python3").arg("--version").output().is_ok()
}

pub fn has_nginx() -> bool {
    let in_sbin = Path::new("/usr/sbin/nginx").exists(); // not on every user's PATH
    in_sbin || Command::new("nginx").arg("-v").output().is_ok()
}

/// Runs loadtest, and gives its record and what it said on stderr.
fn record(arguments: &[&str]) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.json");
    let output = run("loadtest", &[arguments, &["--json", path.to_str().unwrap()]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    (serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap(), stderr)
}

fn bench(server: &str) -> (Value, String) {
    record(&["bench", server, "--duration", "1s", "--connections", "12", "--threads", "2"])
}

/// The workers' figures of this name, which all must have.
fn each(record: &Value, field: &str) -> Vec<Value> {
    let workers = record["workers"].as_array().unwrap();
    workers.iter().map(|worker| worker[field].clone()).collect()
}

fn different(values: &[Value]) -> usize {
    values.iter().map(Value::to_string).collect::<BTreeSet<_>>().len()
}

#[test]
fn workers_of_a_foreign_server_are_told_and_what_cannot_be_known_is_null() {
    if !has_python() {
        return skip("python3 is not installed");
    }
    for (arguments, sockets) in [("3", 1), ("3 reuseport", 3), ("3 slow-import --chunked", 1)] {
        let (record, stderr) = bench(&prefork("foreign", arguments));
        assert_eq!(record["server"], "foreign");
        assert!(record["result"]["requests"].as_u64() > Some(50), "{record:#}");
        assert_eq!(record["workers"].as_array().unwrap().len(), 3, "{arguments}: {record:#}");
        assert_eq!(different(&each(&record, "socket_inode")), sockets, "{arguments}");
        assert!(each(&record, "requests").iter().all(Value::is_null), "{record:#}");
        assert!(each(&record, "role").iter().all(|role| role == "worker"));
        let held: f64 = each(&record, "held").iter().filter_map(Value::as_f64).sum();
        assert!((3.0..=12.5).contains(&held), "{arguments}: {held} of 12 connections");
        let cpu =
            |worker: &Value| worker["system"].as_f64().unwrap() + worker["user"].as_f64().unwrap();
        assert!(each(&record, "cpu_seconds").iter().map(cpu).sum::<f64>() > 0.0);
        assert!(stderr.contains("requests of each worker are unknown"), "{stderr}");
    }
}

#[test]
fn a_parent_that_alone_accepts_is_said_to_and_its_children_are_no_workers() {
    if !has_python() {
        return skip("python3 is not installed");
    }
    let (found, stderr) = bench(&prefork("cluster", "3 parent"));
    let roles = each(&found, "role");
    let count = |role: &str| roles.iter().filter(|found| *found == role).count();
    assert_eq!((count("acceptor"), count("child"), count("worker")), (1, 3, 0), "{found:#}");
    assert!(
        stderr.contains("only the parent accepts") && stderr.contains("3 children"),
        "{stderr}"
    );
    let options = ["--rounds", "6", "--fixed-rate", "0s", "--threads", "1", "--connections", "8"];
    let subjects = [prefork("cluster", "3 parent"), "shared --workers 2".into()];
    let (record, _) = record(&[&["compare", &subjects[0], &subjects[1]], &options[..]].concat());
    assert_eq!(record["subjects"][0]["workers"], 3, "{record:#}");
}

#[test]
fn nginx_is_an_ordinary_subject_and_with_reuseport_its_workers_are_told_apart() {
    if !has_nginx() {
        return skip("nginx is not installed");
    }
    for (server, sockets) in [("nginx --workers 3", 1), ("n=nginx --workers 3 --reuseport", 3)] {
        let (record, _) = bench(server);
        assert_eq!(record["workers"].as_array().unwrap().len(), 3, "{record:#}");
        // With reuseport every worker has all sockets open, and waits for one.
        assert_eq!(different(&each(&record, "socket_inode")), sockets, "{record:#}");
    }
}

#[test]
fn servers_of_all_kinds_are_compared_and_one_that_dies_is_named() {
    if !has_python() {
        return skip("python3 is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("compare.json");
    let running = Server::start("reuseport-server", &["--workers", "2"]);
    let url = format!("elsewhere=http://{}/", running.address());
    let (foreign, mortal) = (prefork("python", "2"), prefork("mortal", "1 --lives 9"));
    let servers = ["compare", "shared --workers 2", &foreign, &url, &mortal];
    let options = ["--rounds", "6", "--fixed-rate", "0s", "--threads", "2", "--connections", "8"];
    let save = ["--json", path.to_str().unwrap()];
    let output = run("loadtest", &[&servers[..], &options, &save].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{stderr}");
    assert!(stderr.contains("mortal was left out from then on"), "{stderr}");
    let record: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let subjects = record["subjects"].as_array().unwrap();
    for (subject, workers) in subjects.iter().zip([Some(2), Some(2), None]) {
        assert_eq!(subject["slices"].as_array().map(Vec::len), Some(6), "{record:#}");
        assert_eq!(subject["workers"].as_u64(), workers);
    }
    assert!(subjects[3]["failed"].as_str().unwrap().contains("the end of my life"), "{record:#}");
}

#[test]
fn workers_of_a_foreign_server_are_stopped_continued_and_killed() {
    if !has_python() {
        return skip("python3 is not installed");
    }
    for arguments in ["3", "3 reuseport"] {
        let server = prefork("foreign", arguments);
        let load = ["--duration", "2s", "--connections", "8", "--timeout", "500ms"];
        let faults = ["stop-worker@300ms", "continue-worker@900ms", "kill-worker@1200ms"];
        let faults = faults.map(|fault| ["--fault", fault]).concat();
        let (record, _) = record(&[&["probe", &server], &load[..], &faults].concat());
        let done = record["faults"].as_array().unwrap();
        assert_eq!(done.len(), 3, "{record:#}");
        assert!(done.iter().all(|fault| fault["pid"].is_u64()), "{record:#}");
        assert_eq!(done[0]["pid"], done[1]["pid"]);
        assert!(record["outcomes"]["ok"].as_u64() > Some(100), "{record:#}");
        assert!(record["answered_by_server"].is_null(), "{record:#}");
    }
}

#[test]
fn a_killed_worker_of_a_parent_that_accepts_is_a_child_and_the_only_process_is_said_to_be() {
    if !has_python() {
        return skip("python3 is not installed");
    }
    let server = prefork("cluster", "3 parent");
    let load = ["--duration", "1s", "--connections", "1", "--fault", "kill-worker@50ms*3/200ms"];
    let (cluster, _) = record(&[&["probe", &server], &load[..]].concat());
    assert_eq!(cluster["outcomes"]["refused"], 0, "the parent lives: {cluster:#}");
    let killed = cluster["faults"].as_array().unwrap();
    assert!(killed.iter().all(|fault| fault["pid"].is_u64()), "{cluster:#}");
    assert!(killed.iter().all(|fault| fault["only_process"].is_null()), "{cluster:#}");

    let single = "single=cmd:python3 -m http.server {port} --bind {host}";
    let load = ["--duration", "500ms", "--connections", "1", "--fault", "kill-worker@100ms"];
    let (record, _) = record(&[&["probe", single], &load[..]].concat());
    assert_eq!(record["faults"][0]["only_process"], true, "{record:#}");
}

#[test]
fn a_server_that_ends_while_it_is_probed_is_said_to() {
    if !has_python() {
        return skip("python3 is not installed");
    }
    let server = prefork("mortal", "1 --lives 3");
    let (record, stderr) = record(&["probe", &server, "--duration", "4s", "--connections", "1"]);
    assert!(record["outcomes"]["refused"].as_u64() > Some(0), "{record:#}");
    assert!(stderr.contains("mortal ended during the run (signal: 9"), "{stderr}");
    assert!(stderr.contains("the end of my life"), "{stderr}");
}

#[test]
fn a_url_where_nobody_listens_is_refused_with_the_reason_and_the_remedy() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    for command in ["probe", "bench"] {
        let output = run("loadtest", &[command, &url, "--duration", "1s"]);
        assert_refused(&output, &[&url, "refused", "start that server"], command);
    }
}

#[test]
fn a_reload_by_a_signal_that_was_told_loses_nothing_and_one_that_is_not_known_is_refused() {
    if !has_python() {
        return skip("python3 is not installed");
    }
    let server = prefork("foreign", "2");
    let probe = ["probe", &server, "--duration", "2s", "--connections", "8", "--fault"];
    let refused = run("loadtest", &[&probe[..], &["reload@1s"]].concat());
    assert_refused(&refused, &["python3", "reload", "--signal reload="], "an unknown signal");
    let faults = ["reload@300ms*3/400ms", "--fault", "add-worker@1600ms"];
    let signals = ["--signal", "reload=HUP", "--signal", "add-worker=TTIN"];
    let (record, _) = record(&[&probe[..], &faults, &signals].concat());
    assert_eq!(record["outcomes"]["ok"], record["attempted"], "{record:#}");
    assert_eq!(record["faults"].as_array().map(Vec::len), Some(4));
}

#[test]
fn nginx_reloads_and_drains_by_the_signals_that_are_known_of_it() {
    if !has_nginx() {
        return skip("nginx is not installed");
    }
    let faults = ["--fault", "reload@400ms*2/400ms", "--fault", "drain@1600ms"];
    let probe = ["probe", "nginx --workers 2", "--duration", "4s", "--connections", "8"];
    let (record, _) = record(&[&probe[..], &faults].concat());
    let lost = |fault: &Value| fault["lost"].as_u64().unwrap();
    let done = record["faults"].as_array().unwrap();
    assert_eq!((done.len(), done[0]["what"].as_str()), (3, Some("reload")), "{record:#}");
    assert_eq!(done[..2].iter().map(lost).sum::<u64>(), 0, "{record:#}");
    assert!(record["outcomes"]["refused"].as_u64() > Some(0), "it has ended: {record:#}");
}

#[test]
fn workers_that_may_not_be_looked_at_are_said_to_be_hidden() {
    if !has_python() {
        return skip("python3 is not installed");
    }
    // Root may look at everything, so everything is done as somebody else.
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(copy_for_all(folder.path(), "loadtest"));
    let script = folder.path().join("prefork.py");
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/prefork.py");
    std::fs::copy(original, &script).unwrap();
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, readable).unwrap();
    let server = format!("shy=cmd:python3 {} {{port}} 2 hidden", script.display());
    command.args(["bench", &server, "--duration", "1s", "--threads", "1", "--connections", "4"]);
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let output = command.current_dir("/").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("cannot see the workers of shy"), "{stderr}");
}

#[test]
fn loadtest_that_is_killed_leaves_no_server_behind() {
    if !has_python() {
        return skip("python3 is not installed");
    }
    for server in [prefork("foreign", "3"), "shared --workers 3".into()] {
        let mut command = Command::new(program("loadtest"));
        command.args(["probe", &server, "--duration", "60s", "--connections", "4"]);
        let mut loadtest = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let family = wait_for("a server that serves", || {
            let parent = *children_of(loadtest.id()).first()?;
            let mut family = children_of(parent);
            family.push(parent);
            (family.len() >= 4 && !listening_sockets(family[0]).is_empty()).then_some(family)
        });
        loadtest.kill().unwrap();
        loadtest.wait().unwrap();
        wait_for("the end of all", || (!family.iter().any(|&pid| runs(pid))).then_some(()));
    }
}

#[test]
fn ctrl_c_ends_a_foreign_server_and_its_keeper() {
    if !has_python() {
        return skip("python3 is not installed");
    }
    let mut command = Command::new(program("loadtest"));
    command.args(["bench", &prefork("foreign", "2"), "--duration", "60s"]);
    let mut loadtest = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let family = wait_for("wrk", || {
        let children = children_of(loadtest.id());
        (children.len() == 3).then(|| [children_of(children[0]), children].concat())
    });
    send(loadtest.id(), Signal::SIGINT);
    assert_eq!(wait_for("its end", || loadtest.try_wait().unwrap()).code(), Some(130));
    assert!(!family.iter().any(|&pid| runs(pid)), "{family:?}");
}

#[test]
fn what_cannot_serve_is_refused_in_a_line_with_its_output() {
    // It binds the port, so that no server of another test can get it.
    let does_not_listen = "x=cmd:python3 -c 'import socket, time; \
        s = socket.socket(); s.bind((\"{host}\", {port})); print(\"I bind\"); time.sleep(99)'";
    let dies = "x=cmd:python3 -c 'import sys; sys.exit(\"no module {port}\")'";
    let mut cases = vec![
        ("cmd:sleep 60", vec!["{port}", "sleep 60"]),
        ("cmd:/no/such/program {port}", vec!["/no/such/program", "install it"]),
        ("apache", vec!["'apache'", "cmd:"]),
        ("https://localhost/", vec!["http://"]),
    ];
    if has_python() {
        cases.push((does_not_listen, vec!["did not listen", "10 s", "I bind"]));
        cases.push((dies, vec!["did not start", "no module", "run its command by itself"]));
    }
    for (server, words) in cases {
        assert_refused(&run("loadtest", &["bench", server]), &words, server);
    }
}
