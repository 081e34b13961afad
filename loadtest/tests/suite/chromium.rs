//! A browser without a window, for what a page looks like and does, rather than what it says.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::skip;

/// What Chromium is called where it is installed.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Of the window, in pixels.
const HEIGHT: u32 = 1200;

/// Tells the frame around the page how wide the document is, and how wide the frame.
///
/// It is in a copy of the page alone: the page itself has no script, and forbids them.
const RULER: &str = "<script>parent.postMessage(document.documentElement.scrollWidth + ' ' + \
                     innerWidth, '*')</script>";

/// A page as Chromium has shown it.
#[derive(Debug)]
pub struct Opened {
    /// The document once everything was laid out, as HTML.
    pub dom: String,
    /// What Chromium wrote on the console: errors of the page, and what its policy forbade.
    pub console: Vec<String>,
    /// The URLs of everything that the page asked the network for. Files are not among it: they do
    /// not pass the network stack, and a page whose policy forbids them says so on the console.
    pub requests: Vec<String>,
    /// A picture of its top, PNG, for whoever wants to look when a test has failed.
    #[allow(dead_code)]
    pub screenshot: PathBuf,
    /// The colour in the picture's corner: red, green, blue.
    pub corner: [u8; 3],
    /// How wide the document is, in pixels; wider than the window, and it has to be scrolled.
    pub scroll_width: u32,
    /// How wide the window is.
    pub window_width: u32,
    /// Holds the picture until the test is done.
    _folder: TempDir,
}

impl Opened {
    /// What holds for every page: no complaint, nothing loaded, no scrolling sideways, and the ground
    /// that the reader wants.
    pub fn assert_well_behaved(&self, dark: bool) {
        assert_eq!(self.console, [""; 0]);
        assert_eq!(self.requests, [""; 0]);
        assert_eq!(self.scroll_width, self.window_width, "the page is as wide as its window");
        let is_dark = self.corner.iter().all(|&part| part < 0x40);
        let is_light = self.corner.iter().all(|&part| part > 0xc0);
        assert!(if dark { is_dark } else { is_light }, "{:?}", self.corner);
    }
}

/// Where Chromium is; says so if it is not installed.
pub fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut all = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = all.find(|program| program.is_file());
    if found.is_none() {
        skip("no chromium is installed");
    }
    found
}

/// Opens a file in a window so many pixels wide.
///
/// Chromium does one thing at a time without a window, so it is started three times.
pub fn open(chromium: &Path, page: &Path, width: u32, dark: bool) -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let within = |name: &str| folder.path().join(name);
    let run = |page: &Path, arguments: &[&str]| {
        run(chromium, &within("profile"), page, width, dark, arguments)
    };

    let screenshot = within("page.png");
    run(page, &[&format!("--screenshot={}", screenshot.display())]);

    let log = within("net.json");
    let net_log = format!("--log-net-log={}", log.display());
    let output = run(page, &["--dump-dom", "--enable-logging=stderr", "--v=0", &net_log]);
    let log: Value = serde_json::from_str(&fs::read_to_string(log).unwrap()).unwrap();

    let (scroll_width, window_width) = widths(&run, page, &within("copy.html"), width);

    Opened {
        dom: String::from_utf8(output.stdout).unwrap(),
        console: console(&String::from_utf8_lossy(&output.stderr)),
        requests: requests(&log, page),
        corner: corner(&screenshot),
        screenshot,
        scroll_width,
        window_width,
        _folder: folder,
    }
}

/// How wide the document is, and how wide its window, in pixels.
///
/// Windows are never narrower than 500 pixels (a screenshot's is), but a frame can be, and to the
/// page within it is the same.
fn widths(
    run: &impl Fn(&Path, &[&str]) -> Output,
    page: &Path,
    copy: &Path,
    width: u32,
) -> (u32, u32) {
    let text = fs::read_to_string(page).unwrap();
    fs::write(copy, text.replace("Content-Security-Policy", "x") + RULER).unwrap();
    let frame = copy.with_file_name("frame.html");
    let around = format!(
        "<!doctype html><script>onmessage = event => document.documentElement.dataset.widths = \
         event.data</script><iframe src='copy.html' style='width: {width}px; height: {HEIGHT}px; \
         border: 0'></iframe>"
    );
    fs::write(&frame, around).unwrap();
    // The document is written out when there was nothing to do for so many milliseconds.
    let output = run(&frame, &["--dump-dom", "--virtual-time-budget=1000"]);
    let document = String::from_utf8(output.stdout).unwrap();
    let widths = document.split_once("data-widths=\"").and_then(|(_, rest)| rest.split_once('"'));
    let (document, window) = widths.expect("no widths").0.split_once(' ').unwrap();
    (document.parse().unwrap(), window.parse().unwrap())
}

fn run(
    chromium: &Path,
    profile: &Path,
    page: &Path,
    width: u32,
    dark: bool,
    arguments: &[&str],
) -> Output {
    let mut command = Command::new(chromium);
    // As root it refuses to start in its sandbox; what is opened here is our own.
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]);
    // A small /dev/shm, as containers have, would be too little for it.
    command.arg("--disable-dev-shm-usage");
    // What it would ask of the network by itself; what is left of that finds no host.
    command.arg("--host-resolver-rules=MAP * ~NOTFOUND");
    command.args(["--disable-quic", "--no-first-run", "--disable-background-networking"]);
    command.args(["--disable-component-update", "--disable-sync", "--disable-default-apps"]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    command.arg(format!("--window-size={width},{HEIGHT}"));
    // 0 is dark and 1 is light; without it, the desktop's preference would count.
    command.arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)));
    command.args(arguments).arg(url(page)).stdin(Stdio::null());
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
    output
}

/// Of a file whose path needs no escaping, as those of temporary folders.
fn url(page: &Path) -> String {
    format!("file://{}", page.display())
}

/// The lines of the console among everything that Chromium says.
fn console(stderr: &str) -> Vec<String> {
    stderr.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect()
}

/// Every URL that was asked for, from the log of the network stack, which numbers its events.
fn requests(log: &Value, page: &Path) -> Vec<String> {
    let started = log.pointer("/constants/logEventTypes/URL_REQUEST_START_JOB");
    assert!(started.is_some(), "this Chromium logs its requests by another name");
    let events = log["events"].as_array().unwrap().iter();
    let asked = events.filter(|event| Some(&event["type"]) == started);
    // What the browser asks by itself (for the time, for updates) has no page that asked for it.
    let by_a_page = asked.filter(|event| {
        let initiator = event.pointer("/params/initiator").and_then(Value::as_str);
        initiator.is_some_and(|initiator| initiator != "not an origin")
    });
    let urls = by_a_page.filter_map(|event| event.pointer("/params/url")?.as_str());
    urls.filter(|asked| *asked != url(page)).map(str::to_owned).collect()
}

/// The first pixel of a picture.
fn corner(picture: &Path) -> [u8; 3] {
    let file = BufReader::new(fs::File::open(picture).expect("Chromium made no picture"));
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    [pixels[0], pixels[1], pixels[2]]
}

#[test]
fn a_page_that_misbehaves_is_seen_to_do_so() {
    let Some(chromium) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("bad.html");
    // Port 9 is nobody's here; that it was asked for is what counts.
    let bad = "<!doctype html><meta name=viewport content='width=device-width'>\
               <style>body { background: #fff } @media (prefers-color-scheme: dark) \
               { body { background: #102030 } }</style>\
               <img src='http://127.0.0.1:9/picture.png'><div style='width: 700px'>wide</div>\
               <script>document.body.append('made'); throw new Error('thrown')</script>";
    fs::write(&page, bad).unwrap();
    let opened = open(&chromium, &page, 360, true);
    assert!(opened.dom.contains("made"), "{}", opened.dom);
    assert!(opened.console.iter().any(|line| line.contains("thrown")), "{:?}", opened.console);
    assert_eq!(opened.requests, ["http://127.0.0.1:9/picture.png"]);
    assert_eq!(opened.corner, [0x10, 0x20, 0x30]);
    assert!(opened.scroll_width >= 700 && opened.window_width == 360, "{opened:?}");
    assert_eq!(open(&chromium, &page, 1200, false).corner, [0xff; 3]);
}
