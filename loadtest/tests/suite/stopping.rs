//! How servers end: all of them, with status 0, and nobody left behind; and what is no reason to.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use procfs::process::Process;

use crate::steer::quiet;
use crate::support::{SERVERS, Server, ask, children_of, free_port, program, runs, send, wait_for};

fn nobody_is_left(workers: &[u32]) {
    for &worker in workers {
        wait_for("a worker's end", || (!runs(worker)).then_some(()));
    }
}

#[test]
fn both_signals_end_a_server_with_status_0_and_no_child_left() {
    let _quiet = quiet();
    let folder = tempfile::tempdir().unwrap();
    for name in SERVERS {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let path = folder.path().join("scoreboard");
            let mut server = Server::start(name, &["--scoreboard", path.to_str().unwrap()]);
            let workers = server.workers();
            assert_eq!(children_of(server.pid()).len(), 4);
            server.signal(signal);
            assert_eq!(server.ended().code(), Some(0), "{name} {signal}");
            assert!(workers.iter().all(|&worker| !runs(worker)));
            assert!(!Path::exists(&path), "the scoreboard goes with its last server");
        }
    }
}

#[test]
fn a_terminals_ctrl_c_reaches_everybody_and_ends_the_server_with_status_0() {
    for name in SERVERS {
        let mut server = Server::start(name, &[]);
        let workers = server.workers();
        killpg(Pid::from_raw(server.pid() as i32), Signal::SIGINT).unwrap();
        assert_eq!(server.ended().code(), Some(0), "{name}");
        nobody_is_left(&workers);
    }
}

#[test]
fn a_server_that_is_told_to_end_while_it_starts_ends_in_good_order() {
    let _quiet = quiet();
    for name in SERVERS {
        for started in [1, 8, 16, 24, 31, 32] {
            let mut server = Command::new(program(name))
                .args(["--port", "0", "--workers", "32", "--drain-timeout", "60s"])
                .stdout(Stdio::null())
                .process_group(0)
                .spawn()
                .unwrap();
            wait_for("some workers", || (children_of(server.id()).len() >= started).then_some(()));
            send(server.id(), Signal::SIGTERM);
            let status = wait_for("its end", || server.try_wait().unwrap());
            assert_eq!(status.code(), Some(0), "{name}, {started} workers started");
        }
    }
}

#[test]
fn a_sigterm_to_the_whole_process_group_replaces_nobody() {
    for name in SERVERS {
        let (mut server, log) = Server::start_with_log(name, &[]);
        let workers = server.workers();
        killpg(Pid::from_raw(server.pid() as i32), Signal::SIGTERM).unwrap();
        assert_eq!(server.ended().code(), Some(0), "{name}");
        nobody_is_left(&workers);
        assert_eq!(log.text(), "", "{name}");
    }
}

#[test]
fn workers_obey_only_their_parent() {
    let _quiet = quiet();
    for name in SERVERS {
        let server = Server::start(name, &[]);
        let workers = server.workers();
        for &worker in &workers {
            for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTTOU] {
                send(worker, signal);
            }
        }
        // Every worker answers still: one that had stopped would be off the scoreboard.
        for _ in 0..50 {
            assert!(ask(server.address(), "GET /").ends_with("hello"));
        }
        assert_eq!(server.workers(), workers);
        assert!(workers.iter().all(|&worker| runs(worker)));
    }
}

#[test]
fn workers_go_when_the_parent_is_killed_and_the_port_is_free_again() {
    for name in SERVERS {
        let port = free_port();
        let mut server = Server::start(name, &["--port", &port]);
        let workers = server.workers();
        server.signal(Signal::SIGKILL);
        server.ended();
        nobody_is_left(&workers);
        Server::start(name, &["--port", &port]);
    }
}

#[test]
fn workers_bear_the_servers_name_in_the_process_list() {
    for name in SERVERS {
        let server = Server::start(name, &[]);
        for worker in server.workers() {
            let comm = std::fs::read_to_string(format!("/proc/{worker}/comm")).unwrap();
            assert_eq!(comm.trim(), &name[..15]);
        }
    }
}

#[test]
fn a_parent_without_a_free_descriptor_serves_on_and_has_a_worker_end_when_it_has_one() {
    let (server, log) = Server::start_with_log("reuseport-server", &["--workers", "2"]);
    let limit = |soft: usize| {
        let pid = server.pid().to_string();
        let limit = format!("--nofile={soft}:");
        let status = Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
        assert!(status.success());
    };
    let workers = server.workers();
    let fds = Process::new(server.pid() as i32).unwrap().fd().unwrap().flatten();
    let open: Vec<i32> = fds.map(|it| it.fd).collect();
    limit((0..).find(|fd| !open.contains(fd)).unwrap() as usize);
    server.signal(Signal::SIGTTOU);
    wait_for("the line that says so", || {
        log.text().contains("cannot make a channel").then_some(())
    });
    assert!(ask(server.address(), "GET /").ends_with("hello"));
    assert_eq!(server.workers(), workers);
    limit(1024);
    wait_for("one worker", || (server.workers().len() == 1).then_some(()));
    assert_eq!(log.text().matches("cannot make a channel").count(), 1, "{}", log.text());
    assert!(ask(server.address(), "GET /").ends_with("hello"));
    server.stop();
}
