//! The example programs, as somebody would start them.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use procfs::process::all_processes;
use socket2::SockRef;

use crate::example::Example;
use crate::load::Load;
use crate::support::{
    RawClient, ask, assert_refused, listening_sockets, program, run, runs, send, wait_for,
};

const EXAMPLES: [&str; 3] = ["least_conn", "one_screen_shared", "one_screen_own"];

#[test]
fn the_listener_to_take_along_answers_every_request_of_a_load() {
    let example = Example::start("least_conn", 4);
    for keep_alive in [false, true] {
        let load = Load::on(example.address, keep_alive);
        load.wait_for_more(2_000);
        let lost = load.end();
        assert!(lost.is_empty(), "keep-alive {keep_alive}: {lost:?}");
    }
    example.wait_until_idle();
}

#[test]
fn watch_shows_the_workers_of_the_listener_to_take_along_and_takes_its_socket_for_theirs() {
    let example = Example::start("least_conn", 3);
    ask(example.address, "GET /");
    let port = example.address.port().to_string();
    let words = ["watch", "--interval", "200ms", "--count", "3", "--port", &port];
    let output = run("loadtest", &words);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for pid in example.workers() {
        assert!(text.contains(&pid.to_string()), "{pid}: {text}");
    }
    assert!(!text.contains("also listens"), "{text}");
}

/// More clients than seconds that the others may wait.
const RESETS: usize = 5;

#[test]
fn with_the_listener_to_take_along_clients_that_reset_hold_nobody_up() {
    let example = Example::start("least_conn", 1);
    let address = example.address;
    let blocked = thread::spawn(move || ask(address, "GET /block/300000"));
    wait_for("it to be accepted", || (example.connections() == [1]).then_some(()));
    for _ in 0..RESETS {
        let client = TcpStream::connect(address).unwrap();
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap(); // close(2) sends a reset
    }
    let start = Instant::now();
    assert!(ask(address, "GET /").ends_with("hello"));
    // A listener that takes this for an error of its own rests for a second after each.
    let took = start.elapsed();
    assert!(took < Duration::from_secs(RESETS as u64 - 1), "{took:?}");
    assert!(blocked.join().unwrap().ends_with("blocked"));
}

#[test]
fn an_example_s_workers_end_with_it_however_it_ends() {
    for name in EXAMPLES {
        let example = Example::start(name, 3);
        let workers = example.workers();
        drop(example);
        wait_for("its workers to end", || (!workers.iter().any(|&pid| runs(pid))).then_some(()));
    }
}

#[test]
fn an_example_ends_when_a_worker_does() {
    for name in EXAMPLES {
        let mut example = Example::start(name, 3);
        let workers = example.workers();
        send(workers[1], Signal::SIGKILL);
        let ended = wait_for("its end", || example.child.try_wait().unwrap());
        assert!(!ended.success(), "{name}");
        wait_for("the others to end", || (!workers.iter().any(|&pid| runs(pid))).then_some(()));
    }
}

#[test]
fn an_example_refuses_what_it_cannot_do_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    for name in EXAMPLES {
        for (arguments, word) in [
            (&["x", "1"][..], "'x'"),
            (&[&taken, "1"], &taken),
            (&["0", "x"], "'x'"),
            (&["0", "0"], "'0'"),
            (&["0"], "port and workers"),
        ] {
            let output = run(&format!("examples/{name}"), arguments);
            assert_refused(&output, &[word], (name, arguments));
        }
    }
}

/// The lesson in one screen, and how many listening sockets its workers have in all.
const ONE_SCREEN: [(&str, usize); 2] = [("one_screen_shared", 1), ("one_screen_own", 4)];

#[test]
fn the_lesson_in_one_screen_has_one_socket_for_all_workers_or_one_for_each() {
    for (name, sockets) in ONE_SCREEN {
        let example = Example::start(name, 4);
        let workers = example.workers();
        let of = |pid: &u32| listening_sockets(*pid);
        let all: BTreeSet<u64> = workers.iter().flat_map(of).collect();
        assert_eq!(all.len(), sockets, "{name}: {all:?}");
    }
}

#[test]
fn in_the_lesson_in_one_screen_all_workers_answer() {
    for (name, _) in ONE_SCREEN {
        let example = Example::start(name, 4);
        let mut clients = Vec::new();
        wait_for("each worker to have a connection", || {
            // Together: one after the other may all be for the worker that wakes first.
            let mut burst: Vec<RawClient> =
                (0..16).map(|_| RawClient::connect(example.address)).collect();
            for client in &mut burst {
                client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            }
            for client in &mut burst {
                assert_eq!(client.answer().unwrap().expect("an answer").body, b"hello", "{name}");
            }
            clients.extend(burst);
            example.connections().iter().all(|&count| count > 0).then_some(())
        });
    }
}

#[test]
fn loadtest_compares_the_lessons_in_one_screen_and_no_process_is_left() {
    let folder = tempfile::tempdir().unwrap();
    // Copies, so that nobody else has processes of them.
    let [shared, own] = ONE_SCREEN.map(|(name, _)| {
        let copy = folder.path().join(name);
        let from = program(&format!("examples/{name}"));
        assert!(Command::new("cp").arg(from).arg(&copy).status().unwrap().success());
        format!("{name}=cmd:{} {{port}} 2", copy.display())
    });
    let options =
        ["--rounds", "6", "--threads", "1", "--connections", "8", "--fixed-rate", "200ms"];
    let output = run("loadtest", &[&["compare", &shared, &own], &options[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(ONE_SCREEN.iter().all(|(name, _)| report.contains(name)), "{report}");
    wait_for("no process to be left", || {
        let all = all_processes().unwrap().flatten().filter_map(|process| process.exe().ok());
        (!all.into_iter().any(|exe| exe.starts_with(folder.path()))).then_some(())
    });
}
