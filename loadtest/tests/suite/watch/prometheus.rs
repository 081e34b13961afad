//! `--prometheus`: its text as a client library of Prometheus reads it.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::foreign::Prefork;
use super::{Watcher, column};
use crate::support::{RawClient, Server, assert_refused, free_port, run, send, skip, wait_for};

/// Reads the text from its input, and prints type, name, labels and value of each sample.
const PARSER: &str = "import sys
from prometheus_client.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation, family
    for name, labels, value, *_ in family.samples:
        print(family.type, name + ''.join(sorted(map(str, labels.items()))).replace(' ', ''), value)
";

/// A Python that has the client library: the system's, or one for these tests alone, in which it is installed;
/// `None` if it cannot be.
fn python() -> Option<PathBuf> {
    let system = PathBuf::from("/usr/bin/python3");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prometheus");
    let python = folder.join("bin/python3");
    let has_it = |python: &Path| {
        let asked = Command::new(python).args(["-c", "import prometheus_client"]).output();
        asked.is_ok_and(|output| output.status.success())
    };
    if has_it(&system) {
        return Some(system);
    }
    let does = |command: &mut Command| command.output().is_ok_and(|it| it.status.success());
    if !has_it(&python) {
        let _ = does(Command::new("python3").args(["-m", "venv"]).arg(&folder))
            && does(Command::new(&python).args(["-m", "pip", "install", "prometheus_client"]));
    }
    has_it(&python).then_some(python)
}

fn scrape(address: SocketAddr) -> String {
    let mut client = RawClient::connect(address);
    client.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let answer = client.answer().unwrap().unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("text/plain; version=0.0.4"), "{}", answer.head);
    String::from_utf8(answer.body).unwrap()
}

/// Samples with their types, by name and labels.
fn parse(python: &Path, text: &str) -> BTreeMap<String, (String, f64)> {
    let mut parser = Command::new(python)
        .args(["-c", PARSER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = parser.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}\n{text}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let sample = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[1].to_owned(), (words[0].to_owned(), words[2].parse().unwrap()))
    };
    lines.lines().map(sample).collect()
}

fn sum(samples: &BTreeMap<String, (String, f64)>, name: &str) -> f64 {
    samples.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, (_, value))| value).sum()
}

#[test]
fn a_client_library_reads_it_and_no_counter_runs_backwards_when_a_worker_is_killed() {
    let Some(server) = Prefork::start("reuseport") else { return };
    let Some(python) = python() else {
        return skip("prometheus_client cannot be installed in a virtual environment");
    };
    let address: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let watcher = Watcher::start(&["--port", &server.port, "--prometheus", &address.to_string()]);
    watcher.wait_for(&format!("metrics on http://{address}/metrics"));
    let accepted = "loadtest_connections_accepted_total";
    let read = |least: f64| {
        wait_for("as many accepted connections", || {
            let samples = parse(&python, &scrape(address));
            (sum(&samples, accepted) >= least).then_some(samples)
        })
    };
    let _clients: Vec<RawClient> = (0..12).map(|_| server.client()).collect();
    let before = wait_for("all of them to be open", || {
        Some(read(12.0)).filter(|samples| sum(samples, "loadtest_connections_open") == 12.0)
    });
    assert_eq!(sum(&before, "loadtest_accept_queue_max_connections"), 3.0 * 128.0, "{before:?}");
    assert!(!before.keys().any(|name| name.contains("requests")), "{before:?}");

    // Every one, so that some had connections.
    for place in 0..3 {
        let text = watcher.log.text();
        let pid = column(text.rsplit("\n\n127.0.0.1").next().unwrap(), "pid")[place].parse();
        send(pid.unwrap(), Signal::SIGKILL);
        watcher.wait_for(&format!("\n{} replaced", place + 1));
    }
    let _more: Vec<RawClient> = (0..5).map(|_| server.client()).collect();
    let after = read(17.0);
    assert_eq!(after["loadtest_workers_replaced_total"], ("counter".into(), 3.0));
    for (name, (kind, value)) in before.iter().filter(|(_, (kind, _))| kind == "counter") {
        assert!(after[name].1 >= *value, "{kind} {name}: {value}, then {:?}", after[name]);
    }
}

#[test]
fn without_a_terminal_it_serves_until_the_server_ends_and_one_of_ours_tells_its_requests() {
    let server = Server::start("shared-fd-server", &[]);
    let address: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let pid = server.pid().to_string();
    let mut watch = Command::new(crate::support::program("loadtest"))
        .args(["watch", "--pid", &pid, "--interval", "100ms"])
        .args(["--prometheus", &address.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the address to be served", || std::net::TcpStream::connect(address).ok());
    let mut client = RawClient::connect(server.address());
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    client.answer().unwrap().unwrap();
    let is_one = |line: &str| line.starts_with("loadtest_requests_total{") && line.ends_with(" 1");
    wait_for("its request", || scrape(address).lines().any(is_one).then_some(()));
    drop(client);
    server.stop();
    wait_for("its end", || watch.try_wait().unwrap());
    let output = watch.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().next(), Some(&*format!("metrics on http://{address}/metrics")));
    assert!(text.lines().nth(1).unwrap().starts_with("the server has ended: "), "{text}");
}

#[test]
fn an_address_that_is_in_use_or_none_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (asked, words) in [(&*address, "in use"), ("here", "--prometheus")] {
        let output = run("loadtest", &["watch", "--pid", "1", "--prometheus", asked]);
        assert_refused(&output, &[asked, words, "--prometheus"], asked);
        assert_eq!(output.status.code(), Some(2));
    }
}
