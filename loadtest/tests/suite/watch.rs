//! `loadtest watch`: what it shows of real servers, as text and in a terminal, and how it leaves
//! that terminal.

mod foreign;
mod prometheus;
pub mod terminal;

use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering::Relaxed;

use nix::sys::signal::Signal;

use crate::foreign_socket::replace_program;
use crate::steer::quiet;
use crate::support::{
    Log, RawClient, SERVERS, Server, ask, assert_refused, may_load, program, run, runs, send, stop,
    wait_for,
};

/// One reading of a server, as text.
fn reading(server: &Server) -> String {
    let pid = server.pid().to_string();
    let output = run("loadtest", &["watch", "--pid", &pid, "--interval", "100ms"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What stands in each worker's row under this heading; columns end where their headings end.
fn column(text: &str, heading: &str) -> Vec<String> {
    let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
    let head = lines.iter().position(|line| line.starts_with(&['w', 'o', 'r', 'k', 'e', 'r']));
    let (head, rows) = lines[head.unwrap()..].split_first().unwrap();
    let head: String = head.iter().collect();
    let end = head.find(heading).unwrap() + heading.len();
    let cell = |row: &Vec<char>| {
        let before: String = row.iter().take(end).collect();
        before.rsplit(' ').next().unwrap().to_owned()
    };
    rows.iter().take_while(|row| !row.is_empty()).map(cell).collect()
}

#[test]
fn the_text_counts_open_connections_exactly() {
    for name in SERVERS {
        let server = Server::start(name, &[]);
        let mut clients: Vec<RawClient> =
            (0..3).map(|_| RawClient::connect(server.address())).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            assert_eq!(client.answer().unwrap().unwrap().status, 200);
        }
        let text = reading(&server);
        for words in ["4 workers   3 connections open   3 accepted   0 requests/s", name] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        let slots = server.scoreboard.workers().map(|(_, slot)| slot);
        let open: Vec<String> =
            slots.map(|slot| slot.connections_open.load(Relaxed).to_string()).collect();
        assert_eq!(column(&text, " open"), open, "{text}");
        let pids: Vec<String> = server.workers().iter().map(u32::to_string).collect();
        assert_eq!(column(&text, "pid"), pids, "{text}");
        server.stop();
    }
}

#[test]
fn what_waits_for_a_stopped_worker_is_in_its_accept_queue() {
    let server = Server::start("reuseport-server", &["--workers", "1", "--backlog", "16"]);
    stop(server.workers()[0]);
    let _clients = [0; 3].map(|_| TcpStream::connect(server.address()).unwrap());
    let text = wait_for("the worker to be stopped", || {
        Some(reading(&server)).filter(|text| text.contains("stopped"))
    });
    assert_eq!(column(&text, "queue"), ["3/16"], "{text}");
    assert!(text.contains("3 of 16 waiting in 1 accept queue"), "{text}");
    send(server.workers()[0], Signal::SIGCONT);
}

#[test]
fn the_queue_of_a_shared_socket_is_shown_once() {
    let server = Server::start("shared-fd-server", &["--backlog", "16"]);
    let workers = server.workers();
    workers.iter().for_each(|&worker| stop(worker));
    let _clients = [0; 3].map(|_| TcpStream::connect(server.address()).unwrap());
    let text = reading(&server);
    assert!(text.contains("3 of 16 waiting in the shared socket's accept queue"), "{text}");
    let head = text.lines().find(|line| line.starts_with("worker")).unwrap();
    assert!(!head.contains("queue"), "{text}");
    workers.iter().for_each(|&worker| send(worker, Signal::SIGCONT));
}

/// A watcher of a server that goes on; it ends with the test.
struct Watcher {
    child: Child,
    log: Log,
}

impl Watcher {
    fn start(arguments: &[&str]) -> Self {
        let log = Log::new();
        let mut command = Command::new(program("loadtest"));
        command.args(["watch", "--interval", "100ms", "--count", "100000"]).args(arguments);
        let child = command.stdin(Stdio::null()).stdout(log.file()).spawn().unwrap();
        Self { child, log }
    }

    fn wait_for(&self, words: &str) {
        wait_for(words, || self.log.text().contains(words).then_some(()));
    }

    fn ended(&mut self) -> ExitStatus {
        wait_for("the watcher's end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_worker_that_is_killed_is_seen_as_replaced_and_the_servers_end_as_the_end() {
    for name in SERVERS {
        let server = Server::start(name, &[]);
        let pid = server.pid().to_string();
        let mut watcher = Watcher::start(&["--pid", &pid]);
        watcher.wait_for("4 workers");
        assert!(!watcher.log.text().contains("1 replaced"));
        send(server.workers()[2], Signal::SIGKILL);
        watcher.wait_for("1 replaced");
        server.stop();
        assert_eq!(watcher.ended().code(), Some(0));
        let text = watcher.log.text();
        let last = text.lines().last().unwrap();
        assert!(last.starts_with(&format!("the server has ended: {name} ")), "{last}");
        assert!(last.ends_with(&format!("(pid {pid})")), "{last}");
    }
}

#[test]
fn a_steering_program_that_another_has_replaced_is_said_to_be() {
    let _quiet = quiet();
    if !may_load() {
        return;
    }
    let arguments = ["--workers", "4", "--steer", "least-conn", "--affinity", "free"];
    let server = Server::start("reuseport-server", &arguments);
    ask(server.address(), "GET /");
    let watcher = Watcher::start(&["--pid", &server.pid().to_string()]);
    watcher.wait_for("4 workers");
    const WORDS: &str = "another program has replaced the steering program, 1 time so far";
    assert!(!watcher.log.text().contains("steering program"), "{}", watcher.log.text());
    let _intruder = replace_program(server.address());
    wait_for(WORDS, || {
        ask(server.address(), "GET /");
        watcher.log.text().contains(WORDS).then_some(())
    });
}

#[test]
fn a_server_that_was_killed_has_ended_as_well() {
    let server = Server::start("reuseport-server", &[]);
    let mut watcher = Watcher::start(&["--pid", &server.pid().to_string()]);
    watcher.wait_for("4 workers");
    drop(server); // SIGKILL: nobody empties the slots
    assert_eq!(watcher.ended().code(), Some(0));
    assert!(watcher.log.text().contains("the server has ended"), "{}", watcher.log.text());
}

#[test]
fn somebody_elses_scoreboard_is_mapped_for_reading_alone_and_not_locked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let path = path.to_str().unwrap();
    let server = Server::start("reuseport-server", &["--scoreboard", path]);
    let watcher = Watcher::start(&[path]);
    watcher.wait_for("4 workers");
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", watcher.child.id())).unwrap();
    let map = maps.lines().find(|line| line.ends_with(path)).unwrap();
    assert!(map.contains(" r--s "), "{map}");
    let before = server.workers();
    send(before[0], Signal::SIGKILL); // whose slot is claimed anew, under the file's lock
    watcher.wait_for("1 replaced");
    server.stop();
}

#[test]
fn the_server_that_a_process_started_and_the_one_that_a_worker_belongs_to_are_found() {
    let mut probe = Command::new(program("loadtest"))
        .args(["probe", "reuseport", "--duration", "60s", "--rate", "100", "--", "--workers", "2"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let by_pid = |pid: u32| {
        let pid = pid.to_string();
        run("loadtest", &["watch", "--pid", &pid, "--interval", "300ms"])
    };
    let text = wait_for("its server to serve", || {
        let text = String::from_utf8(by_pid(probe.id()).stdout).unwrap();
        (column_or_none(&text, "state") == ["serving", "serving"]).then_some(text)
    });
    let worker = column(&text, "pid")[0].parse().unwrap();
    let output = by_pid(worker);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(" accepted "), "{output:?}");
    send(probe.id(), Signal::SIGINT);
    assert_eq!(wait_for("the prober's end", || probe.try_wait().unwrap()).code(), Some(130));
    assert!(!runs(worker));
}

/// The words of a column that begins at the left, none if there is no table.
fn column_or_none(text: &str, heading: &str) -> Vec<String> {
    let Some(head) = text.lines().position(|line| line.starts_with("worker")) else {
        return Vec::new();
    };
    let lines: Vec<&str> = text.lines().collect();
    let start = lines[head].find(heading).unwrap();
    let word = |line: &&str| line[start..].split(' ').next().unwrap().to_owned();
    lines[head + 1..].iter().map(word).collect()
}

#[test]
fn bad_input_is_refused_in_one_line_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let letter = folder.path().join("letter");
    std::fs::write(&letter, "dear").unwrap();
    let letter = letter.to_str().unwrap();
    for (arguments, words) in [
        (&["watch"][..], &["--pid"][..]),
        (&["watch", "/no/such/file"], &["/no/such/file", "--scoreboard"]),
        (&["watch", "/dev/null"], &["/dev/null", "not a file"]),
        (&["watch", letter], &[letter, "scoreboard"]),
        (&["watch", "--pid", "4194305"], &["no process 4194305", "--port"]),
        (&["watch", "--pid", "0"], &["--pid", "0"]),
        (&["watch", "x", "--pid", "1"], &["--pid"]),
        (&["watch", "x", "--port", "1"], &["--port"]),
        (&["watch", "--port", "0"], &["--port", "0"]),
        (&["watch", "x", "--interval", "1ms"], &["--interval", "100ms"]),
        (&["watch", "x", "--count", "0"], &["--count"]),
    ] {
        assert_refused(&run("loadtest", arguments), words, arguments);
    }
    let mut sleep = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = sleep.id().to_string();
    let output = run("loadtest", &["watch", "--pid", &pid]);
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    assert_refused(&output, &[&pid, "is not a server"], "a process that is none");
}

#[test]
fn a_scoreboard_that_nobody_serves_with_any_more_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let path = path.to_str().unwrap();
    drop(Server::start("shared-fd-server", &["--scoreboard", path])); // killed, so the file stays
    assert_refused(&run("loadtest", &["watch", path]), &[path, "any more"], path);
}
