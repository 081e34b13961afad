//! Servers that are not ours: nginx, node's cluster, the Python server of these tests, gunicorn.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::causes::{Killed, start};
use super::{diagnose, ids};
use crate::foreign::{has_nginx, has_python};
use crate::support::{PATIENCE, children_of, free_port, program, skip, wait_for};

/// Looks at a server by the process that started it, while it has so many connections, on which nothing is
/// sent. Gives the model and the ids of what was found.
fn look_at(started: &Killed, port: &str, connections: usize) -> (String, Vec<String>) {
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    wait_for("a server", || TcpStream::connect(address).ok());
    let _connections: Vec<_> =
        (0..connections).filter_map(|_| TcpStream::connect(address).ok()).collect();
    let pid = started.0.id().to_string();
    let (json, _) = diagnose(&["--pid", &pid, "--port", port, "--for", "1s"]);
    let ids = ids(&json).into_iter().map(str::to_owned).collect();
    (json["model"].as_str().unwrap().to_owned(), ids)
}

/// Looks again until the model is found to be this: workers come one after the other, and how one waits can be
/// seen only when it does.
#[track_caller]
fn look_until(started: &Killed, port: &str, connections: usize, is_right: impl Fn(&str) -> bool) {
    let begin = Instant::now();
    let (mut model, mut ids) = look_at(started, port, connections);
    while !is_right(&model) {
        assert!(begin.elapsed() < PATIENCE, "{model} {ids:?}");
        (model, ids) = look_at(started, port, connections);
    }
}

#[test]
fn nginx_with_one_socket_and_with_one_for_each_worker() {
    if !has_nginx() {
        return skip("nginx is not installed");
    }
    for (server, words) in [
        ("nginx --workers 3", "1 shared socket, 3 processes, epoll with EPOLLEXCLUSIVE"),
        ("nginx --workers 3 --reuseport", "3 own sockets (SO_REUSEPORT), epoll, level-triggered"),
    ] {
        // It starts nginx and asks it; --pid of who started a server will do.
        let mut command = Command::new(program("loadtest"));
        command.args(["probe", server, "--duration", "60s", "--connections", "4"]);
        let probe = start(&mut command);
        let master = wait_for("its master", || {
            let keeper = *children_of(probe.0.id()).first()?;
            (children_of(keeper).len() == 3).then_some(keeper)
        });
        let (json, _) = diagnose(&["--pid", &probe.0.id().to_string(), "--for", "500ms"]);
        assert_eq!(json["model"], words, "{json:#}");
        assert_eq!(json["server"], master);
    }
}

#[test]
fn nodes_cluster_under_both_policies() {
    if Command::new("node").arg("--version").output().is_err() {
        return skip("node is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("cluster.js");
    let text = "const c = require('cluster');
        c.schedulingPolicy = process.argv[3] === 'rr' ? c.SCHED_RR : c.SCHED_NONE;
        if (c.isPrimary) for (let i = 0; i < 3; i++) c.fork();
        else require('http').createServer((q, r) => r.end('hello')).listen(+process.argv[2], '127.0.0.1');";
    std::fs::write(&script, text).unwrap();
    for (policy, words) in [
        ("rr", "1 socket, one process accepts for 3 children"),
        ("none", "1 shared socket, 3 processes, epoll, level-triggered: thundering herd"),
    ] {
        let port = free_port();
        let node = start(Command::new("node").arg(&script).args([&port, policy]));
        wait_for("three workers", || (children_of(node.0.id()).len() == 3).then_some(()));
        look_until(&node, &port, 60, |model| model.starts_with(words));
    }
}

#[test]
fn a_parent_that_alone_accepts_and_workers_that_wait_in_different_ways() {
    if !has_python() {
        return skip("python3 is not installed");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/prefork.py");
    for (mode, words) in [
        (
            "shared",
            "1 shared socket, 3 processes, select(2) or poll(2) and epoll, level-triggered: \
             thundering herd",
        ),
        (
            "reuseport",
            "3 own sockets (SO_REUSEPORT), select(2) or poll(2) and epoll, level-triggered",
        ),
        ("parent", "1 socket, one process accepts for 3 children, select(2) or poll(2)"),
    ] {
        let port = free_port();
        let server = start(Command::new("python3").arg(&script).args([&port, "3", mode]));
        wait_for("three workers and a helper", || {
            (children_of(server.0.id()).len() == 4).then_some(())
        });
        look_until(&server, &port, 60, |model| model == words);
    }
}

#[test]
fn children_without_connections_are_counted_and_not_called_workers() {
    if !has_python() {
        return skip("python3 is not installed");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/prefork.py");
    let port = free_port();
    let server = start(Command::new("python3").arg(&script).args([&port, "3", "parent"]));
    wait_for("three workers and a helper", || {
        (children_of(server.0.id()).len() == 4).then_some(())
    });
    // The helper has the socket open, and is shown.
    look_until(&server, &port, 0, |model| {
        model.starts_with("1 socket, 1 process, with 3 child processes that have no connections")
    });
    let (json, _) = diagnose(&["--port", &port, "--for", "100ms"]);
    let unseen = json["unseen"].to_string();
    assert!(unseen.contains("3 of them have neither"), "{json:#}");
}

fn has_gunicorn() -> bool {
    let version = Command::new("gunicorn").arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

fn gunicorn(options: &[&str], port: &str) -> Command {
    let mut command = Command::new("gunicorn");
    command.args(["-w", "3", "-b", &format!("127.0.0.1:{port}")]);
    command.args(options).arg("wsgiref.simple_server:demo_app");
    command
}

#[test]
fn gunicorn_with_and_without_its_flag() {
    if !has_gunicorn() {
        return skip("gunicorn is not installed");
    }
    for (options, words) in
        [(&[][..], "1 shared socket, 3 processes"), (&["--reuse-port"], "SO_REUSEPORT")]
    {
        let port = free_port();
        let server = start(&mut gunicorn(options, &port));
        wait_for("three workers", || (children_of(server.0.id()).len() == 3).then_some(()));
        let (model, ids) = look_at(&server, &port, 0);
        // Of the flag, some versions make something and some do not.
        let is_found = model.contains(words) || ids.contains(&"flag-without-effect".to_owned());
        assert!(is_found, "{options:?}: {model} {ids:?}");
    }
}

/// A synchronous worker reads from a client until that has sent its request.
#[test]
fn gunicorn_whose_clients_send_nothing_is_found_to_be_stalled() {
    if !has_gunicorn() {
        return skip("gunicorn is not installed");
    }
    let port = free_port();
    let server = start(&mut gunicorn(&[], &port));
    wait_for("three workers", || (children_of(server.0.id()).len() == 3).then_some(()));
    let (_, ids) = look_at(&server, &port, 20);
    assert!(ids.contains(&"stalled-worker".to_owned()), "{ids:?}");
}
