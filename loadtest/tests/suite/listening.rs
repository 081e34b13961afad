//! Where the listening sockets are, and that all of them serve.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;

use common::scoreboard::Scoreboard;
use nix::sys::signal::Signal;
use procfs::process::{LimitValue, Process};

use crate::steer::crowd;
use crate::support::{
    SERVERS, Server, ask, assert_refused, free_port, listening_sockets, program, run, wait_for,
};

#[test]
fn all_workers_of_shared_fd_server_hold_the_one_socket() {
    for arguments in [&[][..], &["--exec"]] {
        let server = Server::start("shared-fd-server", arguments);
        let parents = listening_sockets(server.pid());
        assert_eq!(parents.len(), 1);
        for worker in server.workers() {
            assert_eq!(listening_sockets(worker), parents);
        }
        assert_eq!(server.workers().len(), 4);
    }
}

#[test]
fn every_worker_of_reuseport_server_holds_a_socket_of_its_own_and_the_parent_none() {
    let server = Server::start("reuseport-server", &["--workers", "5"]);
    assert_eq!(listening_sockets(server.pid()).len(), 0);
    let mut all = BTreeSet::new();
    for worker in server.workers() {
        let own = listening_sockets(worker);
        assert_eq!(own.len(), 1);
        all.extend(own);
    }
    assert_eq!(all.len(), 5);
}

#[test]
fn what_is_printed_and_what_the_scoreboard_says_is_what_proc_shows() {
    for name in SERVERS {
        let server = Server::start(name, &[]);
        let address = server.address();
        assert_eq!(
            server.lines[0],
            format!("serving http://{address}/ (parent pid {})", server.pid())
        );
        let sockets = if name == "reuseport-server" { 4 } else { 1 };
        assert_eq!(server.lines[1], format!("4 workers, listening sockets: {sockets}"));
        for ((index, slot), line) in server.scoreboard.workers().zip(&server.lines[2..]) {
            let (pid, inode) = (slot.pid().unwrap(), slot.socket_inode.load(Relaxed));
            assert_eq!(listening_sockets(pid), BTreeSet::from([inode]));
            assert_eq!(*line, format!("worker {index}: pid {pid}, accepts from socket:[{inode}]"));
        }
    }
}

#[test]
fn every_worker_of_reuseport_server_serves_under_parallel_load() {
    let server = Server::start("reuseport-server", &[]);
    // The hash leaves one of four workers out of 200 connections once in 10^24 times.
    let _connections: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let accepted = |slot: &common::scoreboard::Slot| slot.connections_accepted.load(Relaxed);
    wait_for("200 accepted connections", || {
        (server.scoreboard.total_connections() == 200).then_some(())
    });
    assert!(server.scoreboard.workers().all(|(_, slot)| accepted(slot) > 0));
}

#[test]
fn requests_and_connections_are_counted_exactly() {
    for name in SERVERS {
        let server = Server::start(name, &[]);
        for _ in 0..25 {
            assert!(ask(server.address(), "GET /").ends_with("hello"));
        }
        assert_eq!(server.scoreboard.total_requests(), 25);
        assert_eq!(server.scoreboard.total_connections(), 25);
        wait_for("all connections to be closed", || {
            let mut workers = server.scoreboard.workers();
            workers.all(|(_, slot)| slot.connections_open.load(Relaxed) == 0).then_some(())
        });
    }
}

#[test]
fn both_servers_answer_as_http_asks() {
    for name in SERVERS {
        let server = Server::start(name, &["--lab"]);
        let address = server.address();
        let hello = ask(address, "GET /");
        assert!(hello.starts_with("HTTP/1.1 200 OK\r\n") && hello.ends_with("\r\n\r\nhello"));
        assert!(hello.contains("\r\ncontent-type: text/plain; charset=utf-8\r\n"), "{hello}");
        let head = ask(address, "HEAD /");
        assert!(head.contains("content-length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(ask(address, "GET /nothing").starts_with("HTTP/1.1 404 "));
        assert!(ask(address, "POST /").starts_with("HTTP/1.1 405 "));
        assert!(ask(address, "GET /spin/10").ends_with("spun"));
        assert!(ask(address, "GET /block/10").ends_with("blocked"));
    }
}

#[test]
fn instances_that_join_share_the_port_and_the_scoreboard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scoreboard");
    let path = path.to_str().unwrap();
    let first = Server::start("reuseport-server", &["--workers", "1", "--scoreboard", path]);
    let port = first.port();
    let join = ["--port", &port, "--workers", "1", "--join", "--scoreboard", path];
    let _second = Server::start("reuseport-server", &join);
    // Each has its own in memory; what they share is the file.
    let shared = Scoreboard::from_file(File::open(path).unwrap()).unwrap();
    let inodes: BTreeSet<u64> =
        shared.workers().map(|(_, slot)| slot.socket_inode.load(Relaxed)).collect();
    assert_eq!(inodes.len(), 2, "two slots in one scoreboard, each with a socket");
    for _ in 0..100 {
        assert!(ask(first.address(), "GET /").ends_with("hello"));
    }
    wait_for("the copy", || (shared.total_requests() == 100).then_some(()));
    assert!(shared.workers().all(|(_, slot)| slot.requests.load(Relaxed) > 0));
}

#[test]
fn a_port_that_somebody_serves_is_refused_and_the_line_says_who() {
    for serving in SERVERS {
        let server = Server::start(serving, &[]);
        for second in SERVERS {
            let output = run(second, &["--port", &server.port()]);
            assert_refused(&output, &["listens there", serving, "--port"], (serving, second));
        }
        assert!(ask(server.address(), "GET /").ends_with("hello"), "the first goes on");
    }
}

#[test]
fn a_port_that_was_just_served_can_be_served_again() {
    for name in SERVERS {
        let port = free_port();
        let server = Server::start(name, &["--port", &port]);
        // Closed by the server first, so that the server's side is the one left in TIME_WAIT.
        assert!(ask(server.address(), "GET /").ends_with("hello"));
        server.stop();
        for next in SERVERS {
            let server = Server::start(next, &["--port", &port]);
            assert!(ask(server.address(), "GET /").ends_with("hello"));
            server.stop();
        }
    }
}

#[test]
fn ipv6_is_served_and_the_unspecified_address_is_dual_stack() {
    for name in SERVERS {
        let server = Server::start(name, &["--host", "::1"]);
        assert!(ask(server.address(), "GET /").ends_with("hello"));

        let server = Server::start(name, &["--host", "::"]);
        let port = server.address().port();
        assert!(ask(([0, 0, 0, 0, 0, 0, 0, 1], port), "GET /").ends_with("hello"));
        let single_stack = std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").unwrap();
        if single_stack.trim() == "0" {
            assert!(ask((Ipv4Addr::LOCALHOST, port), "GET /").ends_with("hello"));
        }
    }
}

#[test]
fn options_can_come_from_the_environment_and_the_command_line_wins() {
    for name in SERVERS {
        let mut command = Command::new(program(name));
        command.args(["--port", "0", "--workers", "2"]);
        command.envs([("SERVER_WORKERS", "3"), ("SERVER_LAB", "1")]);
        let server = Server::from(command);
        assert_eq!(server.workers().len(), 2);
        assert!(ask(server.address(), "GET /spin/1").ends_with("spun"));
    }
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_goes() {
    for name in SERVERS {
        let mut command = Command::new("sh");
        let script = "ulimit -Sn 100; exec \"$0\" --port 0";
        command.args(["-c", script, program(name).to_str().unwrap()]);
        let server = Server::from(command);
        for worker in server.workers() {
            let limit = Process::new(worker as i32).unwrap().limits().unwrap().max_open_files;
            let (LimitValue::Value(soft), LimitValue::Value(hard)) =
                (limit.soft_limit, limit.hard_limit)
            else {
                return; // no limit at all
            };
            assert_eq!(soft, hard);
        }
    }
}

/// Elsewhere it reopens logs, and somebody may send it to whatever serves.
#[test]
fn sigusr1_is_ignored_by_parent_and_workers() {
    for name in SERVERS {
        let server = Server::start(name, &[]);
        for pid in server.workers().into_iter().chain([server.pid()]) {
            let ignored = Process::new(pid as i32).unwrap().status().unwrap().sigign;
            assert_eq!(ignored >> (Signal::SIGUSR1 as u32 - 1) & 1, 1, "{name}, {pid}");
        }
    }
}

#[test]
fn two_hundred_and_fifty_six_workers_serve() {
    let _crowd = crowd();
    for name in SERVERS {
        let server = Server::start(name, &["--workers", "256"]);
        assert_eq!(server.workers().len(), 256);
        assert!(ask(server.address(), "GET /").ends_with("hello"));
    }
}

#[test]
fn a_fresh_workers_own_memory_stays_under_two_mebibytes() {
    for name in SERVERS {
        let server = Server::start(name, &[]);
        for worker in server.workers() {
            let rollup = Process::new(worker as i32).unwrap().smaps_rollup().unwrap();
            let map = &rollup.memory_map_rollup.0[0].extension.map;
            let own = map["Private_Clean"] + map["Private_Dirty"];
            assert!(own < 2 << 20, "{name}: {own} bytes");
        }
    }
}
