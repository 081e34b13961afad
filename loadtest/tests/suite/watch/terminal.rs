//! `loadtest watch` in a terminal, and how it leaves that.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;
use nix::sys::termios::{Termios, tcgetattr};

use crate::support::{PATIENCE, RawClient, Server, program, send, skip, wait_for};

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
pub(super) fn open(line: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(line).unwrap()
}

/// What most terminals call themselves.
const XTERM: &str = "xterm-256color";

pub fn size(number: u16) -> NonZero<u16> {
    NonZero::new(number).unwrap()
}

/// What watches this server.
fn watch(server: &Server) -> Vec<String> {
    let pid = server.pid().to_string();
    ["watch", "--interval", "100ms", "--pid", &pid].map(str::to_owned).into()
}

/// Starts `loadtest` with these arguments in this terminal, as the leader of its session.
fn spawn_in(line: &Path, arguments: &[String], kind: &str) -> Child {
    let line = || Stdio::from(open(line));
    // Not the terminal that the tests run in: crossterm asks /dev/tty for the size.
    Command::new("setsid")
        .arg("--ctty")
        .arg(program("loadtest"))
        .args(arguments)
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

/// `loadtest` in a terminal of its own.
pub struct Terminal {
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
    /// Starts `watch` in a terminal of 80 columns and 24 rows; `None` if this machine cannot.
    pub fn start(server: &Server) -> Option<Self> {
        Self::of_kind(XTERM, [24, 80], &watch(server))
    }

    /// Starts it with these arguments, in a terminal of so many rows and columns.
    pub fn running(arguments: &[&str], size: [u16; 2]) -> Option<Self> {
        Self::of_kind(XTERM, size, &arguments.iter().map(|it| it.to_string()).collect::<Vec<_>>())
    }

    /// The same, of a terminal that calls itself so.
    fn of_kind(kind: &str, [rows, columns]: [u16; 2], arguments: &[String]) -> Option<Self> {
        if !has_setsid() {
            return None;
        }
        let (keyboard, path) = pseudoterminal();
        resize(&path, rows, columns);
        let line = open(&path);
        let before = tcgetattr(&line).unwrap();
        let child = spawn_in(&path, arguments, kind);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size(rows), size(columns), 0)));
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

    /// What is made of the screen as it is.
    pub fn drawn(&self, draw: impl Fn(&vt100::Screen) -> String) -> String {
        draw(self.screen.lock().unwrap().screen())
    }

    /// Waits until the screen shows this.
    pub fn wait_for(&self, what: impl Fn(&str) -> bool) -> String {
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
    let Some(terminal) = Terminal::of_kind("dumb", [24, 80], &watch(&server)) else { return };
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
    let mut child = spawn_in(&line, &watch(&server), XTERM);
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
