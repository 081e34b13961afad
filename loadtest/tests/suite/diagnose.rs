//! `loadtest diagnose`: what it finds of servers that were made wrong on purpose, and of healthy ones; that
//! it changes nothing; whom it cannot look at.

mod busy;
mod causes;
mod others;
mod validation;

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::kernel::sock_diag::details;
use nix::sys::signal::Signal;
use serde_json::Value;

use self::causes::{CAUSES, Case, HEALTHY, Killed, contained};
use crate::busy::SOMEBODY;
use crate::support::{
    Server, assert_refused, children_of, copy_for_all, listening_sockets, program, run, send, skip,
    wait_for,
};

/// What `--json` says, and the exit status.
fn diagnosis(output: &Output) -> (Value, i32) {
    let text = String::from_utf8_lossy(&output.stdout);
    let json = serde_json::from_str(&text).unwrap_or_else(|_| {
        panic!("{text}{}", String::from_utf8_lossy(&output.stderr));
    });
    (json, output.status.code().unwrap())
}

fn diagnose(arguments: &[&str]) -> (Value, i32) {
    diagnosis(&run("loadtest", &[&["diagnose", "--json"], arguments].concat()))
}

fn look_at(case: &Case, time: &str) -> (Value, i32) {
    let (port, pid) = (case.port.to_string(), case.pid.map(|pid| pid.to_string()));
    let mut arguments = vec!["--port", &port, "--for", time];
    if let Some(pid) = &pid {
        arguments.extend(["--pid", pid]);
    }
    diagnose(&arguments)
}

fn findings(json: &Value) -> Vec<&Value> {
    json["findings"].as_array().unwrap().iter().collect()
}

fn ids(json: &Value) -> Vec<&str> {
    findings(json).iter().map(|found| found["id"].as_str().unwrap()).collect()
}

/// Whatever is said of a healthy server, but for a herd of few.
fn accusations(json: &Value) -> Vec<&Value> {
    let is_small_herd = |found: &&Value| found["id"] == "herd" && found["severity"] == "info";
    findings(json).into_iter().filter(|found| !is_small_herd(found)).collect()
}

#[test]
fn every_cause_that_is_made_on_purpose_is_named() {
    for (id, make) in CAUSES {
        let Some(case) = make() else {
            skip(&format!("{id} cannot be made here"));
            continue;
        };
        // In one look of three: on a busy machine one may see too little, as `validation` allows too.
        let (mut json, mut status) = (Value::Null, 0);
        let is_found = (0..3).any(|_| {
            (json, status) = look_at(&case, "1500ms");
            ids(&json).contains(&id)
        });
        assert!(is_found, "{id}: {json:#}");
        let found = findings(&json).into_iter().find(|found| found["id"] == id).unwrap();
        if let Some(worker) = case.worker {
            assert_eq!(found["worker"], worker, "{json:#}");
        }
        let has_warning = findings(&json).iter().any(|found| found["severity"] == "warning");
        assert_eq!(status, i32::from(has_warning), "{id}: {json:#}");
    }
}

#[test]
fn healthy_servers_are_not_accused() {
    for (name, make) in HEALTHY {
        let Some(case) = make() else {
            skip(&format!("{name} cannot be had here"));
            continue;
        };
        // In one look of three: a worker that is on no core for most of a second is hard to tell from one that
        // is stalled.
        let mut json = Value::Null;
        let is_cleared = (0..3).any(|_| {
            let status;
            (json, status) = look_at(&case, "1s");
            accusations(&json).is_empty() && status == 0
        });
        assert!(is_cleared, "{name}: {json:#}");
    }
}

/// A program that listens and does not accept. Not this one: what other tests start here has the socket too,
/// from fork to exec.
#[test]
fn a_server_that_does_not_accept_is_found_by_its_queue() {
    let folder = tempfile::tempdir().unwrap();
    // Also where the kernel counts no accepts: the same connections wait at both ends of the look.
    for is_roots in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _waiting = [0; 3].map(|_| TcpStream::connect(address).unwrap());
        let mut command = Command::new("sleep");
        command.arg("60").stdin(OwnedFd::from(listener));
        if !is_roots && nix::unistd::geteuid().is_root() {
            command.uid(SOMEBODY).gid(SOMEBODY);
        }
        let blocked = Killed(command.spawn().unwrap());
        drop(command); // and with it this process's descriptor
        let port = address.port().to_string();
        let arguments = ["--json", "--port", &port, "--for", "1s"];
        let (json, status) = match is_roots {
            true => diagnose(&arguments[1..]),
            false => diagnosis(&as_somebody(folder.path()).args(arguments).output().unwrap()),
        };
        assert_eq!((status, ids(&json)), (1, vec!["stalled-worker"]), "{json:#}");
        let found = &findings(&json)[0];
        assert_eq!(found["worker"], blocked.0.id());
        let evidence = found["evidence"].as_str().unwrap();
        assert!(evidence.starts_with("3 connections waited"), "{evidence}");
    }
}

#[test]
fn json_has_what_its_schema_says() {
    let server = Server::start("reuseport-server", &["--workers", "3"]);
    let (json, _) = diagnose(&["--pid", &server.pid().to_string(), "--for", "300ms"]);
    assert_eq!(json["schema"], "diagnose/1");
    assert_eq!(json["port"], server.address().port());
    assert_eq!(json["model"], "3 own sockets (SO_REUSEPORT), epoll, edge-triggered");
    for (list, length) in [("sockets", 3), ("workers", 3), ("findings", 0), ("lose_now", 3)] {
        assert_eq!(json[list].as_array().map(Vec::len), Some(length), "{list}: {json:#}");
    }
    assert!(!json["unseen"].as_array().unwrap().is_empty());
    let socket = &json["sockets"][0];
    assert_eq!(socket["address"], server.address().to_string());
    assert_eq!((&socket["reuse_port"], &socket["backlog"]), (&true.into(), &1024.into()));
    let how = &socket["waiters"][0]["how"]["epoll"];
    assert_eq!((&how["exclusive"], &how["edge"]), (&false.into(), &true.into()), "{json:#}");
    let workers: Vec<u64> =
        json["workers"].as_array().unwrap().iter().filter_map(|it| it["pid"].as_u64()).collect();
    let pids: Vec<u64> = server.workers().into_iter().map(u64::from).collect();
    assert!(pids.iter().all(|pid| workers.contains(pid)), "{workers:?} {pids:?}");
}

#[test]
fn each_way_to_wait_is_told() {
    for (policy, words) in [
        ("epoll", "1 shared socket, 4 processes, epoll, edge-triggered: thundering herd"),
        ("exclusive", "1 shared socket, 4 processes, epoll with EPOLLEXCLUSIVE"),
        ("blocking", "1 shared socket, 4 processes, accept(2)"),
    ] {
        let server = Server::start("shared-fd-server", &["--accept", policy]);
        let (json, _) = diagnose(&["--port", &server.port(), "--for", "300ms"]);
        assert!(json["model"].as_str().unwrap().starts_with(words), "{policy}: {json:#}");
    }
}

/// All that a process has open, as far as it concerns sockets, and what its sockets are.
fn what_it_has(server: &Server) -> impl PartialEq + std::fmt::Debug + use<> {
    let sockets: Vec<_> = server.workers().into_iter().map(listening_sockets).collect();
    let open = |pid| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let open: Vec<usize> = server.workers().into_iter().map(open).collect();
    let counted = (server.scoreboard.total_connections(), server.scoreboard.total_requests());
    (sockets, open, counted, details(server.address().port()).unwrap())
}

#[test]
fn looking_changes_nothing() {
    for name in crate::support::SERVERS {
        let server = Server::start(name, &[]);
        let before = what_it_has(&server);
        let (json, _) = diagnose(&["--port", &server.port(), "--for", "500ms"]);
        assert!(json["sockets"][0]["reuse_port"].is_boolean(), "it was asked: {json:#}");
        assert_eq!(what_it_has(&server), before, "{name}");
        server.stop();
    }
}

#[test]
fn text_and_markdown_say_the_same() {
    let server = Server::start("shared-fd-server", &["--workers", "2"]);
    let port = server.port();
    for form in [&["--markdown"][..], &[]] {
        let output =
            run("loadtest", &[&["diagnose", "--port", &port, "--for", "300ms"], form].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "a herd of two is no warning: {text}");
        for words in ["1 shared socket, 2 processes", "Workers", "herd", "would lose now"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}

#[test]
fn ctrl_c_reports_what_was_seen_until_then() {
    let server = Server::start("shared-fd-server", &["--workers", "2"]);
    for (form, words) in [(&[][..], "Workers"), (&["--markdown"], "Workers"), (&["--json"], "{")] {
        let mut command = Command::new(program("loadtest"));
        command.args(["diagnose", "--port", &server.port(), "--for", "10m"]).args(form);
        let look = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("it to receive signals", || {
            let status = procfs::process::Process::new(look.id() as i32).ok()?.status().ok()?;
            (status.sigcgt & (1 << (Signal::SIGINT as i32 - 1)) != 0).then_some(())
        });
        send(look.id(), Signal::SIGINT);
        let output = look.wait_with_output().unwrap();
        let [shown, warned] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        assert_eq!(output.status.code(), Some(130), "{shown}{warned}");
        assert!(shown.contains("1 shared socket") && shown.contains(words), "{shown}");
        assert!(warned.contains("warning: the run was interrupted after"), "{warned}");
        assert_eq!(shown.contains("interrupted after"), !form.is_empty(), "{shown}");
    }
}

#[test]
fn a_server_in_other_namespaces_is_found_by_its_process() {
    let Some(case) = contained("exec \"$0\" --port 8080 --host 0.0.0.0") else {
        return skip("namespaces need root");
    };
    let pid = case.pid.unwrap().to_string();
    let (json, status) = diagnose(&["--pid", &pid, "--for", "300ms"]);
    assert_eq!((status, &json["port"]), (0, &8080.into()), "{json:#}");
    assert_eq!(json["workers"].as_array().map(Vec::len), Some(4));
    assert!(json["model"].as_str().unwrap().starts_with("4 own sockets"), "{json:#}");
    let outside =
        run("loadtest", &["diagnose", "--port", "8080", "--pid", &std::process::id().to_string()]);
    assert_eq!(outside.status.code(), Some(2), "not in this one");
}

/// A loadtest that any user can start.
fn as_somebody(folder: &Path) -> Command {
    let mut command = Command::new(copy_for_all(folder, "loadtest"));
    if nix::unistd::geteuid().is_root() {
        command.uid(SOMEBODY).gid(SOMEBODY);
    }
    command.arg("diagnose").current_dir("/");
    command
}

#[test]
fn an_ordinary_user_sees_a_server_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(copy_for_all(folder.path(), "reuseport-server"));
    command.args(["--port", "0", "--workers", "2"]);
    if nix::unistd::geteuid().is_root() {
        command.uid(SOMEBODY).gid(SOMEBODY);
    }
    // Its memory is its user's, and the test's scoreboard is not needed.
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let child = Killed(child);
    let port = wait_for("its sockets", || {
        let pid = *children_of(child.0.id()).first()?;
        let inode = *listening_sockets(pid).first()?;
        let all = details(0).unwrap();
        let found = all.iter().find(|found| found.listener.inode == inode)?;
        (details(found.listener.address.port()).unwrap().len() == 2)
            .then(|| found.listener.address.port().to_string())
    });
    let mut own = as_somebody(folder.path());
    let (json, status) =
        diagnosis(&own.args(["--json", "--for", "300ms", "--port", &port]).output().unwrap());
    assert_eq!(status, 0, "{json:#}");
    assert!(json["model"].as_str().unwrap().starts_with("2 own sockets"), "{json:#}");
}

#[test]
fn a_server_of_another_user_is_refused_with_what_to_grant() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can start a server of another user");
    }
    let server = Server::start("reuseport-server", &["--workers", "2"]);
    let folder = tempfile::tempdir().unwrap();
    for arguments in [["--port", &server.port()], ["--pid", &server.pid().to_string()]] {
        let output =
            as_somebody(folder.path()).args(arguments).args(["--for", "300ms"]).output().unwrap();
        assert_refused(&output, &["CAP_SYS_PTRACE"], arguments);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("ended"), "{output:?}");
        assert_eq!(output.status.code(), Some(2));
    }
    // Where /proc hides others altogether, that is said.
    let copy = copy_for_all(folder.path(), "loadtest");
    let script = "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid 54321 --clear-groups \
                  --bounding-set=-all --inh-caps=-all \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(copy);
    let output = command.args(["diagnose", "--port", &server.port()]).output().unwrap();
    assert_refused(&output, &["hidepid"], "hidepid");
}

#[test]
fn what_cannot_be_looked_at_is_refused_in_a_line_with_status_2() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (free, own) = ((port - 1).to_string(), std::process::id().to_string());
    let several =
        Command::new("sleep").arg("60").stdin(std::process::Stdio::null()).spawn().unwrap();
    let several = Killed(several);
    let sleeper = several.0.id().to_string();
    let cases: [(&[&str], &[&str]); 7] = [
        (&["--pid", "2147483647"], &["there is no process 2147483647", "--port"]),
        (&["--pid", &sleeper], &["sleep", "is not a server"]),
        (&[], &["--port", "--pid"]),
        (&["--port", "0"], &["'0'", "--port"]),
        (&["--port", "80", "--for", "5 parsecs"], &["5 parsecs", "--for"]),
        (&["--port", "80", "--json", "--markdown"], &["--json", "--markdown"]),
        (&["--pid", &own, "--port", "9"], &["nothing listens on port 9"]),
    ];
    for (arguments, words) in cases {
        let output = run("loadtest", &[&["diagnose"], arguments].concat());
        assert_refused(&output, words, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    if details(port - 1).unwrap().is_empty() {
        let output = run("loadtest", &["diagnose", "--port", &free]);
        assert_refused(&output, &["nothing listens", "nearest"], &free);
    }
}

#[test]
fn a_server_that_ends_while_it_is_looked_at_is_said_to() {
    let mut server = Server::start("shared-fd-server", &[]);
    let mut command = Command::new(program("loadtest"));
    command.args(["diagnose", "--port", &server.port(), "--for", "5s"]);
    let look = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It cannot be seen from outside when the look has begun; on a busy machine too it has by then.
    std::thread::sleep(std::time::Duration::from_secs(2));
    send(server.pid(), Signal::SIGKILL);
    server.ended();
    let output = look.wait_with_output().unwrap();
    assert_refused(&output, &["ended while it was observed"], "it died");
    assert_eq!(output.status.code(), Some(2));
}
