//! Servers that are not ours: `loadtest watch` from the kernel's view.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{Watcher, column};
use crate::busy::Busy;
use crate::foreign::has_python;
use crate::support::{
    RawClient, Server, assert_refused, children_of, free_port, program, run, send, skip, stop,
    wait_for,
};

/// The pre-fork server in Python, with its workers and its helper; all are killed at the end.
pub struct Prefork {
    child: Child,
    pub port: String,
}

impl Prefork {
    pub fn start(mode: &str) -> Option<Self> {
        if !has_python() {
            skip("python3 is not installed");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/prefork.py");
        let port = free_port();
        let mut command = Command::new("python3");
        command.arg(script).args([&port, "3", mode]).process_group(0);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, port };
        wait_for("three workers that serve", || {
            let is_complete = children_of(server.pid()).len() == 4;
            (is_complete && TcpStream::connect(server.address()).is_ok()).then_some(())
        });
        Some(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn address(&self) -> std::net::SocketAddr {
        format!("127.0.0.1:{}", self.port).parse().unwrap()
    }

    /// A connection that has been answered, and is kept.
    pub fn client(&self) -> RawClient {
        let mut client = RawClient::connect(self.address());
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(client.answer().unwrap().unwrap().status, 200);
        client
    }
}

impl Drop for Prefork {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// One reading; what was broken at the ends of lines is put together again in the second.
fn reading(arguments: &[&str]) -> (String, String) {
    let output = run("loadtest", &[&["watch", "--interval", "300ms"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (text, words)
}

#[test]
fn workers_are_shown_and_no_column_that_cannot_be_known() {
    for (mode, model, count) in [
        ("shared", "model: 1 shared socket, 3 processes", 3),
        ("reuseport", "model: 3 own sockets (SO_REUSEPORT)", 3),
        ("parent", "model: 1 socket, one process accepts for 3 children", 3),
    ] {
        let Some(server) = Prefork::start(mode) else { return };
        let mut clients: Vec<RawClient> = (0..3).map(|_| server.client()).collect();
        if mode == "parent" {
            clients.extend((0..3).map(|_| server.client())); // so that every child has some
        }
        for by in [["--port", &server.port], ["--pid", &server.pid().to_string()]] {
            let (text, words) = reading(&by);
            assert!(words.contains(model), "{mode}: {text}");
            assert!(words.contains(&format!("{count} workers")), "{mode}: {text}");
            assert!(words.contains(" 0 overflows/s"), "{mode}: {text}");
            for unknown in ["req/s", "requests/s", "empty", "gated", "steered", "migrated"] {
                assert!(!text.contains(unknown), "{mode}: {unknown}: {text}");
            }
            let family = [vec![server.pid()], children_of(server.pid())].concat();
            let pids = column(&text, "pid");
            assert_eq!(pids.len(), count + usize::from(mode == "parent"), "{text}");
            assert!(pids.iter().all(|pid| family.contains(&pid.parse().unwrap())), "{text}");
            let open: usize =
                column(&text, " open").iter().map(|open| open.parse::<usize>().unwrap()).sum();
            assert_eq!(open, clients.len(), "{mode}: {text}");
            assert_eq!(text.contains("acceptor"), mode == "parent", "{text}");
            let head = text.lines().find(|line| line.starts_with("worker")).unwrap();
            assert_eq!(head.contains("queue"), mode != "shared", "{text}");
        }
    }
}

#[test]
fn workers_that_are_too_busy_to_be_seen_waiting_have_rows() {
    for count in [2, 0] {
        let Some(server) = Busy::start(count, true) else { return };
        let watcher = Watcher::start(&["--port", &server.port]);
        watcher.wait_for(if count == 2 { "\n2 workers " } else { "\n1 worker " });
        wait_for("their rows", || {
            let mut found = last_pids(&watcher.log.text());
            let serving = if count == 2 { server.workers() } else { vec![server.pid()] };
            let mut expected: Vec<String> = serving.iter().map(u32::to_string).collect();
            found.sort();
            expected.sort();
            (found == expected).then_some(())
        });
        let text = watcher.log.text();
        assert!(!text.contains("CPU -0 %") && !text.contains("stalled-worker"), "{text}");
    }
}

/// The process ids in the last table of a text.
fn last_pids(text: &str) -> Vec<String> {
    let last = text.rfind("\nworker ").map(|begin| &text[begin + 1..]);
    last.map_or_else(Vec::new, |table| column(table, "pid"))
}

#[test]
fn a_child_that_has_no_connection_for_a_while_keeps_its_row() {
    let Some(server) = Prefork::start("parent") else { return };
    let clients: Vec<RawClient> = (0..6).map(|_| server.client()).collect();
    let mut command = Command::new(program("loadtest"));
    command.args(["watch", "--interval", "400ms", "--count", "4", "--port", &server.port]);
    let mut watch = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut text = String::new();
    let mut read_on = |enough: &dyn Fn(&str) -> bool| {
        while !enough(&text) {
            let Some(line) = lines.next() else { break };
            text += &format!("{}\n", line.unwrap());
        }
        last_pids(&text)
    };
    let is_whole = |text: &str| last_pids(text).len() == 4; // three, and their parent
    let before = read_on(&is_whole);
    drop(clients);
    let after = read_on(&|_| false);
    assert!(watch.wait().unwrap().success());
    assert_eq!((before.len(), &after), (4, &before), "{text}");
}

#[test]
fn a_worker_that_is_stopped_is_among_the_findings_and_one_that_is_killed_is_replaced() {
    let Some(server) = Prefork::start("reuseport") else { return };
    let (text, _) = reading(&["--port", &server.port]);
    let workers: Vec<u32> = column(&text, "pid").iter().map(|pid| pid.parse().unwrap()).collect();
    stop(workers[0]);
    // In one reading, a worker that is on no core may be a finding as well.
    let (text, words) = wait_for("the one that is stopped, and no other", || {
        let (text, words) = reading(&["--port", &server.port]);
        let is_alone = text.matches(" stopped").count() == 2; // in its row, and in the finding
        let is_found = words.contains("warning: stalled-worker: python3");
        (is_alone && is_found).then_some((text, words))
    });
    assert!(words.contains(&format!("(pid {}) is stopped (state T)", workers[0])), "{text}");
    assert!(text.contains(&format!("loadtest diagnose --port {}", server.port)), "{text}");
    send(workers[0], Signal::SIGCONT);

    let mut watcher = Watcher::start(&["--port", &server.port]);
    watcher.wait_for("3 workers");
    send(workers[1], Signal::SIGKILL);
    watcher.wait_for("1 replaced");
    send(server.pid(), Signal::SIGTERM);
    assert_eq!(watcher.ended().code(), Some(0));
    let text = watcher.log.text();
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("the server has ended: python3 "), "{text}");
}

#[test]
fn a_server_of_ours_is_found_by_its_port_and_diagnosed_as_well() {
    let server = Server::start("reuseport-server", &[]);
    let watcher = Watcher::start(&["--port", &server.address().port().to_string()]);
    watcher.wait_for(" 0 overflows/s\nfindings: none");
    let text = watcher.log.text();
    assert!(text.contains("0 requests/s") && text.contains("req/s"), "{text}");
    server.stop();
}

#[test]
fn where_nobody_listens_a_port_is_suggested() {
    let server = Server::start("shared-fd-server", &[]);
    let port = free_port();
    let output = run("loadtest", &["watch", "--port", &port]);
    assert_refused(&output, &[&port, "nothing listens", "the nearest"], &port);
    assert_eq!(output.status.code(), Some(2));
    server.stop();
}
