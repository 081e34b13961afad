//! `loadtest watch`: what it shows of real servers, as text and in a terminal, and how it leaves
//! that terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;
use nix::sys::termios::{Termios, tcgetattr};

use crate::support::{
    Log, PATIENCE, RawClient, SERVERS, Server, assert_refused, program, run, runs, send, skip,
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
    send(server.workers()[0], Signal::SIGSTOP);
    let _clients = [0; 3].map(|_| TcpStream::connect(server.address()).unwrap());
    let text = wait_for("the worker to be stopped", || {
        Some(reading(&server)).filter(|text| text.contains("stopped"))
    });
    assert_eq!(column(&text, "queue"), ["3/16"], "{text}");
    assert!(text.contains("3 of 16 waiting in 1 accept queue\n"), "{text}");
    send(server.workers()[0], Signal::SIGCONT);
}

#[test]
fn the_queue_of_a_shared_socket_is_shown_once() {
    let server = Server::start("shared-fd-server", &["--backlog", "16"]);
    let workers = server.workers();
    workers.iter().for_each(|&worker| send(worker, Signal::SIGSTOP));
    let _clients = [0; 3].map(|_| TcpStream::connect(server.address()).unwrap());
    let text = reading(&server);
    assert!(text.contains("3 of 16 waiting in the shared socket's accept queue"), "{text}");
    assert!(!text.contains(" queue "), "{text}");
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
        (&["watch", "--pid", "4194305"], &["no process 4194305", "parent pid"]),
        (&["watch", "--pid", "0"], &["--pid", "0"]),
        (&["watch", "x", "--pid", "1"], &["--pid"]),
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
    assert_refused(&output, &[&pid, "is no server"], "a process that is none");
}

#[test]
fn a_scoreboard_that_nobody_serves_with_any_more_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let path = path.to_str().unwrap();
    drop(Server::start("shared-fd-server", &["--scoreboard", path])); // killed, so the file stays
    assert_refused(&run("loadtest", &["watch", path]), &[path, "any more"], path);
}

/// A terminal: the end where somebody sits, and the path of the end where a program runs.
///
/// openpty(3) would do the same, but programs that other tests start meanwhile would inherit both
/// ends, and a terminal that somebody has open is not closed.
fn pseudoterminal() -> (File, PathBuf) {
    let window = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
    grantpt(&window).unwrap();
    unlockpt(&window).unwrap();
    let line = PathBuf::from(ptsname_r(&window).unwrap());
    resize(&line, 24, 80);
    (File::from(OwnedFd::from(window)), line)
}

/// Makes the window larger or smaller, as a mouse does.
fn resize(line: &Path, rows: u16, columns: u16) {
    let mut stty = Command::new("stty");
    stty.arg("-F").arg(line);
    stty.args(["rows", &rows.to_string(), "columns", &columns.to_string()]);
    assert!(stty.status().unwrap().success());
}

/// The end where a program runs; this process does not make it its own terminal.
fn open(line: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(line).unwrap()
}

/// What most terminals call themselves.
const XTERM: &str = "xterm-256color";

fn size(number: u16) -> NonZero<u16> {
    NonZero::new(number).unwrap()
}

/// Starts `loadtest watch` in this terminal, as the leader of its session.
fn spawn_in(line: &Path, server: &Server, kind: &str) -> Child {
    let line = || Stdio::from(open(line));
    // Not the terminal that the tests run in: crossterm asks /dev/tty for the size.
    Command::new("setsid")
        .arg("--ctty")
        .arg(program("loadtest"))
        .args(["watch", "--interval", "100ms", "--pid", &server.pid().to_string()])
        .env("TERM", kind)
        .stdin(line())
        .stdout(line())
        .stderr(line())
        .spawn()
        .unwrap()
}

fn has_setsid() -> bool {
    let is_there = Command::new("setsid").arg("--version").output().is_ok();
    if !is_there {
        skip("setsid (util-linux) is needed to give a program a terminal");
    }
    is_there
}

/// `loadtest watch` in a terminal of its own.
struct Terminal {
    child: Child,
    /// The end at which somebody sits.
    keyboard: File,
    /// The end at which the program runs, for its modes.
    line: File,
    path: PathBuf,
    /// Its modes before.
    before: Termios,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Starts it in a terminal of 80 columns and 24 rows; `None` if this machine cannot.
    fn start(server: &Server) -> Option<Self> {
        Self::of_kind(XTERM, server)
    }

    /// The same, of a terminal that calls itself so.
    fn of_kind(kind: &str, server: &Server) -> Option<Self> {
        if !has_setsid() {
            return None;
        }
        let (keyboard, path) = pseudoterminal();
        let line = open(&path);
        let before = tcgetattr(&line).unwrap();
        let child = spawn_in(&path, server, kind);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size(24), size(80), 0)));
        let mut output = keyboard.try_clone().unwrap();
        let writer = screen.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error is the terminal's end.
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                writer.lock().unwrap().process(&bytes[..length]);
            }
        });
        Some(Self { child, keyboard, line, path, before, screen })
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Presses keys, and again if they have no effect: crossterm does not read a key that comes
    /// together with a change of the window's size, until another one comes.
    fn press_until(&mut self, keys: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let mut pressed: Option<Instant> = None;
        wait_for("an effect of keys", || {
            if pressed.is_none_or(|at| at.elapsed() > Duration::from_millis(500)) {
                self.press(keys);
                pressed = Some(Instant::now());
            }
            done(self).then_some(())
        });
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until the screen shows this.
    fn wait_for(&self, what: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let text = self.text();
            if what(&text) {
                return text;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain; the screen shows\n{text}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end, and sees to it that the terminal is as it was.
    fn ended(mut self) -> (ExitStatus, String) {
        let status = wait_for("the watcher's end", || self.child.try_wait().unwrap());
        assert!(tcgetattr(&self.line).unwrap() == self.before, "the modes are restored");
        // What it wrote last may still be on its way to the screen.
        wait_for("the first screen, and the cursor", || {
            let parser = self.screen.lock().unwrap();
            let screen = parser.screen();
            (!screen.alternate_screen() && !screen.hide_cursor()).then_some(())
        });
        let text = self.text();
        (status, text)
    }

    fn resize(&self, rows: u16, columns: u16) {
        self.screen.lock().unwrap().screen_mut().set_size(size(rows), size(columns));
        resize(&self.path, rows, columns);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_terminal_shows_the_workers_obeys_keys_and_is_given_back_as_it_was() {
    let server = Server::start("reuseport-server", &[]);
    let mut client = RawClient::connect(server.address());
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    client.answer().unwrap().unwrap();
    for quit in ["q", "\x1b", "\x03"] {
        let Some(mut terminal) = Terminal::start(&server) else { return };
        let text =
            terminal.wait_for(|text| text.contains(" 0 requests/s") && text.contains("help"));
        for words in ["reuseport-server", "4 workers   1 connection open", "workers 1-4 of 4"] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        assert!(tcgetattr(&terminal.line).unwrap() != terminal.before, "it is read key by key");
        terminal.press("?");
        terminal.wait_for(|text| text.contains("space pause"));
        terminal.press(" ");
        terminal.wait_for(|text| text.contains("PAUSED"));
        terminal.press("? c"); // on again, and the busiest on top
        let text = terminal.wait_for(|text| {
            let first = text.lines().skip_while(|line| !line.starts_with("worker")).nth(1);
            !text.contains("PAUSED") && first.is_some_and(|row| row.contains(" 1 █"))
        });
        assert!(!text.contains("space pause"), "{text}");
        terminal.press(quit);
        let (status, text) = terminal.ended();
        assert_eq!(status.code(), Some(0), "{quit:?}");
        assert_eq!(text.trim(), "", "{quit:?}");
    }
}

#[test]
fn a_smaller_window_shows_less_and_still_what_matters() {
    let server = Server::start("reuseport-server", &["--workers", "32"]);
    let Some(mut terminal) = Terminal::start(&server) else { return };
    terminal.wait_for(|text| text.contains("pid  state"));
    terminal.resize(20, 60);
    let text = terminal.wait_for(|text| {
        text.contains("state") && !text.contains("pid  state") && text.contains("q quit")
    });
    assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    let end = "\x1b[F";
    terminal.press_until(end, |terminal| terminal.text().contains("-32 of 32"));
    terminal.resize(50, 120);
    terminal.wait_for(|text| text.contains("replaced") && text.contains("workers 1-32 of 32"));
    terminal.press_until("q", |terminal| terminal.child.try_wait().unwrap().is_some());
    assert_eq!(terminal.ended().0.code(), Some(0));
}

#[test]
fn a_signal_ends_it_with_the_terminal_as_it_was() {
    let server = Server::start("shared-fd-server", &[]);
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGINT, 130)] {
        if signal == Signal::SIGHUP
            && procfs::process::Process::myself().unwrap().status().unwrap().sigign & 1 != 0
        {
            skip("these tests were started by nohup, which a watcher heeds as well");
            continue;
        }
        let Some(terminal) = Terminal::start(&server) else { return };
        terminal.wait_for(|text| text.contains("4 workers"));
        send(terminal.child.id(), signal);
        assert_eq!(terminal.ended().0.code(), Some(code), "{signal}");
    }
}

#[test]
fn the_servers_end_is_said_on_the_terminal_as_it_was() {
    let server = Server::start("shared-fd-server", &[]);
    let Some(terminal) = Terminal::start(&server) else { return };
    terminal.wait_for(|text| text.contains("4 workers"));
    server.stop();
    let text = terminal.wait_for(|text| text.contains("has ended"));
    assert!(text.trim().starts_with("the server has ended: shared-fd-server "), "{text}");
    assert_eq!(terminal.ended().0.code(), Some(0));
}

#[test]
fn a_terminal_that_cannot_be_drawn_on_gets_text() {
    let server = Server::start("shared-fd-server", &[]);
    let Some(terminal) = Terminal::of_kind("dumb", &server) else { return };
    terminal.wait_for(|text| text.contains("4 workers") && text.contains("requests/s"));
    let (status, text) = terminal.ended();
    assert_eq!(status.code(), Some(0));
    assert!(text.contains("4 workers") && !text.contains("q quit"), "{text}");
}

#[test]
fn a_terminal_that_is_closed_ends_it() {
    if !has_setsid() {
        return;
    }
    let server = Server::start("shared-fd-server", &[]);
    let (mut window, line) = pseudoterminal();
    let mut child = spawn_in(&line, &server, XTERM);
    let mut seen = Vec::new();
    let mut bytes = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains("requests/s") {
        let length = window.read(&mut bytes).unwrap();
        seen.extend_from_slice(&bytes[..length]);
    }
    drop(window);
    let status = wait_for("the watcher's end", || child.try_wait().unwrap());
    // Which it notices first: the signal, or that there is nothing to draw on.
    assert!(matches!(status.code(), Some(129 | 0)), "{status}");
}
