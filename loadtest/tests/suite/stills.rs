//! Stills for the documents: what a program shows on a terminal, drawn from the terminal's own cells.
//!
//! `UPDATE_STILLS=1 cargo test -p loadtest --test suite -- stills::` records them anew.

use std::fmt::Write;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use nix::sys::signal::Signal;

use crate::documents::root;
use crate::support::{RawClient, Server, send, stop};
use crate::watch::terminal::{Terminal, size};

/// Width and height of a cell, and the margin around all of them, in pixels.
const CELL: [usize; 2] = [8, 18];
const MARGIN: usize = 14;

/// Letters and colours, for light and dark. Colours of terminals are numbered: red 1, yellow 3, cyan 6.
const STYLE: &str = "text { font: 13px ui-monospace, 'DejaVu Sans Mono', monospace; fill: #16181d; \
    white-space: pre } .bold { font-weight: 700 } .dim { fill: #565c68 } .ground { fill: #f5f6f8 } \
    .bar { fill: #16181d } .inverse { fill: #f5f6f8 } .c1 { fill: #c24a00 } .c3 { fill: #8a6a00 } \
    .c6 { fill: #0067a8 } @media (prefers-color-scheme: dark) { text { fill: #e9ebef } \
    .dim { fill: #a3a9b6 } .ground { fill: #14161a } .bar { fill: #e9ebef } \
    .inverse { fill: #14161a } .c1 { fill: #ff9257 } .c3 { fill: #e2c14b } .c6 { fill: #5cb3f0 } }";

/// How a cell looks, as classes of the picture.
fn look(cell: &vt100::Cell) -> String {
    let colour = match cell.fgcolor() {
        vt100::Color::Idx(number @ (1 | 3 | 6)) => format!("c{number}"),
        _ => String::new(),
    };
    let flags = [(cell.bold(), "bold"), (cell.dim(), "dim"), (cell.inverse(), "inverse")];
    let flags = flags.into_iter().filter_map(|(is_set, name)| is_set.then_some(name.to_owned()));
    let all: Vec<String> = flags.chain([colour]).filter(|name| !name.is_empty()).collect();
    all.join(" ")
}

/// The cells of a line that look alike and stand together: where they begin, their look, their text.
fn runs(screen: &vt100::Screen, row: u16, columns: u16) -> Vec<(usize, String, String)> {
    let mut runs: Vec<(usize, String, String)> = Vec::new();
    for column in 0..columns {
        let Some(cell) = screen.cell(row, column) else { continue };
        let text = if cell.has_contents() { cell.contents() } else { " " };
        let look = look(cell);
        match runs.last_mut().filter(|run| run.1 == look) {
            Some(run) => run.2.push_str(text),
            None => runs.push((column.into(), look, text.to_owned())),
        }
    }
    runs
}

/// The screen as a picture, without the empty lines at its end, and with one of several between texts.
fn drawn(title: &str, screen: &vt100::Screen) -> String {
    let (rows, columns) = screen.size();
    let [rows, columns] = [rows.get(), columns.get()];
    let is_empty = |row: u16| screen.contents_between(row, 0, row, columns).trim().is_empty();
    let mut shown: Vec<u16> = (0..rows).collect();
    shown.dedup_by(|next, row| is_empty(*next) && is_empty(*row));
    shown.pop_if(|last| is_empty(*last));
    let width = MARGIN * 2 + CELL[0] * usize::from(columns);
    let height = MARGIN * 2 + CELL[1] * shown.len();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{width}\" \
         height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n<rect class=\"ground\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n"
    );
    for (line, row) in shown.into_iter().enumerate() {
        let y = MARGIN + CELL[1] * line;
        for (column, look, text) in runs(screen, row, columns) {
            let (x, room) = (MARGIN + CELL[0] * column, CELL[0] * text.chars().count());
            if look.contains("inverse") {
                let height = CELL[1];
                let bar = format!("x=\"{x}\" y=\"{y}\" width=\"{room}\" height=\"{height}\"");
                writeln!(svg, "<rect class=\"bar\" {bar}/>").unwrap();
            }
            if text.trim().is_empty() {
                continue;
            }
            let text = text.replace('&', "&amp;").replace('<', "&lt;");
            let class = if look.is_empty() { look } else { format!(" class=\"{look}\"") };
            // Whatever font there is, each letter stays in its cell.
            let place = format!("x=\"{x}\" y=\"{}\" textLength=\"{room}\"", y + 13);
            writeln!(svg, "<text{class} {place}>{text}</text>").unwrap();
        }
    }
    svg + "</svg>\n"
}

/// Whether stills are recorded.
fn is_wanted() -> bool {
    std::env::var_os("UPDATE_STILLS").is_some()
}

/// Writes a still if that is asked for, and sees to it that the published one shows these words, which the
/// program shows today.
fn keep(name: &str, still: &str, words: &[&str]) {
    let path = root().join("loadtest/docs").join(name);
    if is_wanted() {
        fs::write(&path, still).unwrap();
    }
    let published = fs::read_to_string(&path).unwrap();
    for word in words {
        assert!(still.contains(word), "{word} is not in\n{still}");
        assert!(published.contains(word), "{name} is out of date: record it with UPDATE_STILLS=1");
    }
}

/// One thread that asks over all of these connections in turn, without a pause, until it is dropped.
struct Asking {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Asking {
    fn start(mut clients: Vec<RawClient>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !stopped.load(Relaxed) {
                clients.iter_mut().for_each(ask);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

fn ask(client: &mut RawClient) {
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    client.answer().unwrap().unwrap();
}

/// Where a still is recorded, requests are under way; to see what it must show, connections are enough.
#[test]
fn the_still_of_watch_shows_the_columns_that_watch_has() {
    let server = Server::start("reuseport-server", &[]);
    let mut clients: Vec<RawClient> =
        (0..9).map(|_| RawClient::connect(server.address())).collect();
    clients.iter_mut().for_each(ask);
    let Some(terminal) = Terminal::start(&server) else { return };
    terminal.wait_for(|text| text.contains("9 connections") && text.contains("help"));
    let (asking, _kept) = match is_wanted() {
        true => (Some(Asking::start(clients)), Vec::new()),
        false => (None, clients),
    };
    if asking.is_some() {
        terminal.wait_for(|text| {
            ["\u{2013} requests/s", " 0 requests/s"].iter().all(|idle| !text.contains(idle))
        });
    }
    let headings = ["worker", "open", "req/s", "CPU %", "queue", "9 connections open"];
    keep("watch.svg", &terminal.drawn(|screen| drawn("loadtest watch", screen)), &headings);
}

/// One worker of four is stopped, and what the hash gives it waits.
#[test]
fn the_still_of_diagnose_shows_a_worker_that_is_stopped_and_what_waits_for_it() {
    let server = Server::start("reuseport-server", &["--hang-timeout", "0s"]);
    let stopped = server.workers()[1];
    stop(stopped);
    let _clients: Vec<RawClient> = (0..40).map(|_| RawClient::connect(server.address())).collect();
    let port = server.address().port().to_string();
    let arguments = ["diagnose", "--port", &port, "--for", "1500ms"];
    let Some(terminal) = Terminal::running(&arguments, [60, 96]) else { return };
    terminal.wait_for(|text| text.contains("a crash"));
    let words = ["stalled-worker", &stopped.to_string()];
    let still = terminal.drawn(|screen| drawn("loadtest diagnose", screen));
    assert!(still.contains(words[1]), "{still}");
    keep("diagnose.svg", &still, &words[..1]);
    send(stopped, Signal::SIGCONT);
}

#[test]
fn a_still_has_the_colours_of_the_terminal_and_nothing_that_is_not_text() {
    let mut terminal = vt100::Parser::new(size(3), size(20), 0);
    terminal.process(b"\x1b[1mbold\x1b[0m a<b\r\n\x1b[31mred\x1b[0m \x1b[7mturned\x1b[0m");
    let still = drawn("x", terminal.screen());
    for part in [
        "class=\"bold\" x=\"14\"",
        "a&lt;b",
        "class=\"c1\"",
        "class=\"inverse\"",
        "<rect class=\"bar\"",
    ] {
        assert!(still.contains(part), "{part} is not in\n{still}");
    }
    assert!(still.contains("height=\"64\""), "two lines and the margins: {still}");
}
