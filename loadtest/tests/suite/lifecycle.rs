//! What a server survives: dead, hung and replaced workers, and its own end.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use procfs::process::Process;

use crate::load::Load;
use crate::support::{
    Log, PATIENCE, RawClient, SERVERS, Server, ask, copy_for_all, listening_sockets, program, runs,
    send, skip, wait_for,
};

/// The sum of listening sockets that the workers say they accept from.
fn sockets(server: &Server) -> u64 {
    server.scoreboard.workers().map(|(_, slot)| slot.sockets.load(Relaxed)).sum()
}

#[test]
fn a_worker_that_dies_is_replaced_and_what_it_counted_stays_in_the_totals() {
    for name in SERVERS {
        let server = Server::start(name, &[]);
        for _ in 0..20 {
            ask(server.address(), "GET /");
        }
        let before = server.workers();
        for &worker in &before {
            send(worker, Signal::SIGKILL);
        }
        wait_for("four new workers", || server.all_replaced(&before));
        for _ in 0..20 {
            assert!(ask(server.address(), "GET /").ends_with("hello"));
        }
        assert_eq!(server.scoreboard.total_requests(), 40);
        assert_eq!(server.scoreboard.total_connections(), 40);
    }
}

#[test]
fn a_worker_that_a_real_time_signal_kills_is_replaced_and_the_server_ends() {
    for name in SERVERS {
        let mut server = Server::start(name, &["--workers", "2"]);
        let before = server.workers();
        let kill = format!("kill -34 {}", before[0]); // nix has no name for it
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        wait_for("another worker", || {
            let now = server.workers();
            (now.len() == 2 && !now.contains(&before[0])).then_some(())
        });
        server.signal(Signal::SIGTERM);
        assert_eq!(server.ended().code(), Some(0), "{name}");
    }
}

#[test]
fn a_signal_that_comes_while_the_server_starts_does_not_end_it_but_is_answered_then() {
    for name in SERVERS {
        let log = Log::new();
        let mut command = Command::new(program(name));
        command.args(["--port", "0", "--workers", "1"]).stderr(log.file());
        let server = Server::disturbed(command, |child| {
            let blocks = |signal| {
                let status = Process::new(child.id() as i32).and_then(|process| process.status());
                status.is_ok_and(|status| status.sigblk >> (signal as u64 - 1) & 1 == 1)
            };
            let start = Instant::now();
            while !blocks(Signal::SIGHUP) && start.elapsed() < PATIENCE {}
            send(child.id(), Signal::SIGHUP);
        });
        wait_for("the reload", || log.text().contains("reloaded").then_some(()));
        server.stop();
    }
}

#[test]
fn after_too_many_deaths_the_next_start_waits_and_a_line_says_so() {
    for name in SERVERS {
        // The port is never without a worker: then the pause would not grow.
        let (server, log) = Server::start_with_log(name, &["--workers", "2"]);
        let stays = server.workers()[1];
        // How many deaths it takes depends on the machine: a worker that came to serve for a second, because
        // this test was on no core meanwhile, has not died young.
        let mut kills = 0;
        while !log.text().contains("too many workers died, the next one starts in 200ms") {
            assert!(kills < 30, "{}", log.text());
            let worker = wait_for("a worker", || {
                let workers = server.workers();
                let is_whole = server.scoreboard.is_serving() && workers.len() == 2;
                workers.into_iter().find(|&worker| is_whole && worker != stays)
            });
            send(worker, Signal::SIGKILL);
            kills += 1;
            wait_for("the line about its end", || {
                let lines = log.text().matches("was killed by SIGKILL").count();
                (lines == kills && !server.workers().contains(&worker)).then_some(())
            });
        }
        wait_for("a worker after the pause", || server.scoreboard.is_serving().then_some(()));
        let said = log.text();
        assert!(kills > 6, "five young deaths are borne: {said}");
        assert!(said.contains("too many workers died, the next one starts in 100ms"), "{said}");
    }
}

/// Makes a call that only workers make fail, in every process below.
fn failing_workers(name: &str) -> Option<Command> {
    if Command::new("strace").arg("-V").output().is_err() {
        skip("strace is needed to make a call fail");
        return None;
    }
    // listen(2) is the own socket's; a worker of the shared one has its own epoll at least.
    let call = if name == "reuseport-server" { "listen" } else { "epoll_create1" };
    let mut command = Command::new("strace");
    command.args(["--quiet=all", "-f", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:error=EADDRINUSE")]);
    Some(command)
}

#[test]
fn a_worker_that_cannot_serve_stops_the_first_start_with_its_reason() {
    for name in SERVERS {
        let Some(mut command) = failing_workers(name) else { return };
        let output = command.arg(program(name)).args(["--port", "0"]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("cannot serve: "), "{stderr}");
        assert!(stderr.contains("Address already in use"), "{stderr}");
        // strace may have a word to say of a worker that is killed while it looks at it.
        let of_server = stderr.lines().filter(|line| !line.starts_with("strace: ")).count();
        assert_eq!(of_server, 1, "{stderr}");
    }
}

#[test]
fn a_reload_whose_worker_cannot_serve_is_given_up_in_favour_of_the_old_ones() {
    for name in SERVERS {
        let Some(mut command) = failing_workers(name) else { return };
        let (server, log) = Server::start_with_log(name, &[]);
        let before = server.workers();
        let mut strace = command.args(["-p", &server.pid().to_string()]).spawn().unwrap();
        wait_for("strace", || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
            let tracer = format!("TracerPid:\t{}\n", strace.id());
            status.contains(&tracer).then_some(())
        });
        server.signal(Signal::SIGHUP);
        if name == "reuseport-server" {
            // A successor is given its socket, and so cannot fail to bind one. It serves.
            wait_for("a reload all the same", || server.all_replaced(&before));
        } else {
            wait_for("the line", || log.text().contains("reload aborted").then_some(()));
            wait_for("four workers", || (server.workers() == before).then_some(()));
        }
        assert!(ask(server.address(), "GET /").ends_with("hello"));
        send(strace.id(), Signal::SIGINT);
        strace.wait().unwrap();
    }
}

#[test]
fn workers_that_cannot_be_started_any_more_cost_the_parent_next_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let copy = copy_for_all(folder.path(), "reuseport-server");
    let allow = |mode| std::fs::set_permissions(&copy, Permissions::from_mode(mode)).unwrap();
    let log = Log::new();
    let mut command = Command::new(&copy);
    command.args(["--port", "0", "--workers", "1"]).stderr(log.file());
    let server = Server::from(command);

    allow(0o000); // now it cannot be started again, not even by root
    send(server.workers()[0], Signal::SIGKILL);
    wait_for("the pauses", || log.text().contains("the next one starts in 400ms").then_some(()));
    assert!(log.text().contains("Permission denied"), "{}", log.text());
    let ticks = || {
        let stat = Process::new(server.pid() as i32).unwrap().stat().unwrap();
        stat.utime + stat.stime
    };
    let (before, start) = (ticks(), Instant::now());
    wait_for("some more tries", || {
        log.text().contains("the next one starts in 1.6s").then_some(())
    });
    let used = Duration::from_millis(10) * (ticks() - before) as u32; // USER_HZ is 100
    assert!(used < start.elapsed() / 20, "{used:?} of CPU time in {:?}", start.elapsed());

    allow(0o755);
    wait_for("a worker", || server.scoreboard.is_serving().then_some(()));
    assert!(ask(server.address(), "GET /").ends_with("hello"));
}

#[test]
fn a_reload_keeps_each_listening_socket_as_it_is() {
    let server = Server::start("reuseport-server", &[]);
    let inodes = |server: &Server| {
        let mut all: Vec<u64> = Vec::new();
        server.workers().iter().for_each(|&pid| all.extend(listening_sockets(pid)));
        all.sort_unstable();
        all
    };
    let (before, workers) = (inodes(&server), server.workers());
    server.signal(Signal::SIGHUP);
    wait_for("four new workers", || server.all_replaced(&workers));
    assert_eq!(inodes(&server), before);
    assert_eq!(listening_sockets(server.pid()).len(), 0, "the parent never holds one");
}

#[test]
fn workers_come_and_go_by_signal_and_lose_no_request() {
    for name in SERVERS {
        let server = Server::start(name, &["--workers", "2"]);
        let count = |wanted: usize| {
            wait_for("that many workers", || {
                (server.workers().len() == wanted && server.scoreboard.is_serving()).then_some(())
            });
        };
        let load = Load::on(server.address(), false);
        for _ in 0..2 {
            for (signal, wanted) in [
                (Signal::SIGTTIN, 3),
                (Signal::SIGTTIN, 4),
                (Signal::SIGTTOU, 3),
                (Signal::SIGTTOU, 2),
                (Signal::SIGTTOU, 1),
                (Signal::SIGTTOU, 1), // never below one
                (Signal::SIGTTIN, 2),
            ] {
                load.wait_for_more(50);
                server.signal(signal);
                count(wanted);
            }
        }
        let lost = load.end();
        assert!(lost.is_empty(), "{name}: {lost:?}");
        // A socket whose worker has gone was adopted, and goes to the next worker that comes; unless that came
        // before it was adopted. If none ever did, there would be eight.
        let sockets = sockets(&server);
        let (least, most) = if name == "reuseport-server" { (4, 6) } else { (2, 2) };
        assert!((least..=most).contains(&sockets), "{name}: {sockets}");
    }
}

#[test]
fn a_worker_that_hangs_is_killed_and_replaced() {
    for name in SERVERS {
        let (server, log) = Server::start_with_log(name, &["--hang-timeout", "1s"]);
        let before = server.workers();
        before.iter().for_each(|&worker| send(worker, Signal::SIGSTOP));
        wait_for("four new workers", || server.all_replaced(&before));
        assert!(log.text().contains("has not run for 1s"), "{}", log.text());
        assert!(ask(server.address(), "GET /").ends_with("hello"));
    }
}

/// The worker takes all connections before it turns again, and then 40 requests take four seconds.
#[test]
fn a_worker_that_answers_one_request_after_another_does_not_hang() {
    for name in SERVERS {
        let options = ["--workers", "1", "--lab", "--hang-timeout", "1s"];
        let (server, log) = Server::start_with_log(name, &options);
        let before = server.workers();
        let mut clients: Vec<_> = (0..40).map(|_| RawClient::connect(server.address())).collect();
        for client in &mut clients {
            client.send("GET /block/100000 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        }
        for client in &mut clients {
            client.answer().unwrap().unwrap();
        }
        assert_eq!(server.workers(), before, "{}", log.text());
    }
}

#[test]
fn a_server_that_stood_still_as_a_whole_kills_no_worker_when_it_goes_on() {
    for name in SERVERS {
        // Long enough that the test itself, on a busy machine, is not taken for a worker that hangs.
        let (server, log) = Server::start_with_log(name, &["--hang-timeout", "3s"]);
        let before = server.workers();
        let all = || before.iter().chain([&server.child.id()]).copied().collect::<Vec<_>>();
        all().into_iter().for_each(|pid| send(pid, Signal::SIGSTOP));
        wait_for("everybody to be silent for too long", || {
            let silence = |slot: &common::scoreboard::Slot| slot.silence().unwrap_or_default();
            let long = Duration::from_millis(3500);
            server.scoreboard.workers().all(|(_, slot)| silence(slot) > long).then_some(())
        });
        send(server.pid(), Signal::SIGCONT);
        server.signal(Signal::SIGTTIN); // something that makes the parent look more than once
        wait_for("the parent to look", || log.text().contains("from 4 to 5").then_some(()));
        before.iter().for_each(|&worker| send(worker, Signal::SIGCONT));
        wait_for("five workers that have turned since", || {
            let silence = |slot: &common::scoreboard::Slot| slot.silence().unwrap_or(Duration::MAX);
            let turned = |slot| silence(slot) < Duration::from_millis(900);
            let mut workers = server.scoreboard.workers();
            (server.workers().len() == 5 && workers.all(|(_, slot)| turned(slot))).then_some(())
        });
        assert!(before.iter().all(|worker| server.workers().contains(worker)), "{}", log.text());
        assert!(!log.text().contains("has not run"), "{}", log.text());
    }
}

#[test]
fn a_worker_that_alone_is_sent_sigterm_is_replaced_and_nothing_is_lost() {
    for name in SERVERS {
        for keep_alive in [false, true] {
            let (server, log) = Server::start_with_log(name, &["--workers", "3"]);
            let load = Load::on(server.address(), keep_alive);
            for round in 1..=3 {
                load.wait_for_more(200);
                let before = server.workers();
                let leaving = before[round % before.len()];
                send(leaving, Signal::SIGTERM);
                wait_for("another in its place", || {
                    let now = server.workers();
                    let is_whole = now.len() == 3 && server.scoreboard.is_serving();
                    (is_whole && !now.contains(&leaving)).then_some(())
                });
                let stayed = before.iter().filter(|pid| server.workers().contains(pid)).count();
                assert_eq!(stayed, 2, "{name}: {}", log.text());
            }
            load.wait_for_more(200);
            assert_eq!(load.end(), Vec::<String>::new(), "{name}, kept: {keep_alive}");
            let said = log.text();
            assert_eq!(said.matches("received SIGTERM and is replaced").count(), 3, "{said}");
            assert_eq!(said.lines().count(), 3, "{said}");
        }
    }
}

#[test]
fn sigterm_answers_what_is_under_way_and_what_waits_in_the_accept_queue() {
    for name in SERVERS {
        let mut server = Server::start(name, &[]);
        let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n";
        let mut clients: Vec<TcpStream> = (0..100)
            .map(|_| {
                let mut stream = TcpStream::connect(server.address()).unwrap();
                stream.write_all(head.as_bytes()).unwrap();
                stream
            })
            .collect();
        server.signal(Signal::SIGTERM);
        wait_for("the drain", || {
            server
                .scoreboard
                .workers()
                .all(|(_, slot)| slot.state() == common::scoreboard::State::Draining)
                .then_some(())
        });
        let refuses = || TcpStream::connect(server.address()).is_err().then_some(());
        wait_for("no new ones", refuses); // a worker says that it drains before it closes its socket
        for stream in &mut clients {
            stream.write_all(b"x").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 405 "), "{answer:?}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
        }
        assert_eq!(server.ended().code(), Some(0));
    }
}

#[test]
fn a_second_signal_and_sigquit_end_at_once_with_status_0_and_nobody_left() {
    for name in SERVERS {
        for signals in [&[Signal::SIGTERM, Signal::SIGTERM][..], &[Signal::SIGQUIT]] {
            let mut server = Server::start(name, &["--drain-timeout", "60s"]);
            let workers = server.workers();
            let mut stuck = TcpStream::connect(server.address()).unwrap();
            stuck.write_all(b"GET / HTTP/1.1\r\n").unwrap();
            wait_for("it to be accepted", || {
                (server.scoreboard.total_connections() == 1).then_some(())
            });
            for &signal in signals {
                server.signal(signal);
                // Signals of one kind do not queue: the second must not come before the first is read.
                wait_for("the signal to be taken", || {
                    let path = format!("/proc/{}/status", server.pid());
                    let status = std::fs::read_to_string(path).unwrap_or_default();
                    (!status.contains("ShdPnd:\t0000000000004000")).then_some(())
                });
            }
            assert_eq!(server.ended().code(), Some(0), "{signals:?}");
            assert!(workers.iter().all(|&worker| !runs(worker)));
        }
    }
}
