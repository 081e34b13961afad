//! What a worker has open, and what it does without descriptors.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::Signal;
use procfs::process::{FDTarget, Process};

use super::{GOOD, SECOND, both};
use crate::support::{Log, RawClient, SERVERS, Server, ask, listening_sockets, program, wait_for};

/// CPU time that a process has used, in clock ticks.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = Process::new(pid as i32).unwrap().stat().unwrap();
    stat.utime + stat.stime
}

#[test]
fn out_of_descriptors_workers_neither_die_nor_spin_and_serve_again_afterwards() {
    both(|name| {
        let mut command = Command::new("sh");
        // Soft and hard, or the server would raise the one to the other.
        let script = "ulimit -n 64; exec \"$0\" --port 0 --workers 2 2>/dev/null";
        command.args(["-c", script, program(name).to_str().unwrap()]);
        let server = Server::from(command);
        let workers = server.workers();
        let clients: Vec<_> = (0..200).map(|_| RawClient::connect(server.address())).collect();
        // An inherited descriptor may have a number beyond the limit.
        let files = |pid: u32| Process::new(pid as i32).unwrap().fd().unwrap().flatten();
        let is_full = |pid: &u32| files(*pid).filter(|file| file.fd < 64).count() == 64;
        wait_for("full workers", || workers.iter().all(is_full).then_some(()));

        let everybody =
            || workers.iter().chain([&server.child.id()]).map(|&pid| cpu_ticks(pid)).sum();
        let before: u64 = everybody();
        let start = Instant::now();
        std::thread::sleep(SECOND * 3 / 2);
        let used = (everybody() - before) as f64 / procfs::ticks_per_second() as f64;
        let share = used / start.elapsed().as_secs_f64();
        assert!(share < 0.05, "{name}: {:.0} % of a core", share * 100.0);

        drop(clients);
        let start = Instant::now();
        for _ in 0..10 {
            assert!(ask(server.address(), "GET /").ends_with("hello"));
        }
        assert!(start.elapsed() < 10 * SECOND, "{name}: {:?}", start.elapsed());
        assert_eq!(server.workers(), workers, "{name}: a worker died");
    });
}

#[test]
fn a_worker_that_drains_without_descriptors_answers_all_that_is_queued() {
    both(|name| {
        let log = Log::new();
        let mut command = Command::new("sh");
        let script = "ulimit -n 48; exec \"$0\" --port 0 --workers 1";
        command.args(["-c", script, program(name).to_str().unwrap()]).stderr(log.file());
        let mut server = Server::from(command);
        let mut clients: Vec<RawClient> = (0..60)
            .map(|_| {
                let client = RawClient::connect(server.address());
                client.send(GOOD).unwrap();
                client
            })
            .collect();
        wait_for("the limit", || log.text().contains("cannot accept").then_some(()));
        // Those that were answered are idle, and are closed in the course of the drain.
        server.signal(Signal::SIGTERM);
        for client in &mut clients {
            assert_eq!(client.answer().unwrap().unwrap().status, 200, "{name}");
        }
        assert!(server.ended().success(), "{name}");
    });
}

/// A process's descriptors beyond its standard streams: what they are, as /proc names it.
fn descriptors(pid: u32) -> Vec<(i32, FDTarget)> {
    let all = Process::new(pid as i32).unwrap().fd().unwrap().map(Result::unwrap);
    all.filter(|fd| fd.fd > 2).map(|fd| (fd.fd, fd.target)).collect()
}

#[test]
fn a_worker_holds_its_socket_its_line_to_the_parent_and_what_its_event_loop_needs() {
    // What this test's own environment gives to every child is none of the server's doing.
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let inherited: BTreeSet<String> = wait_for("the child's own program", || {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap();
        (name.trim() == "sleep").then(|| {
            let all = descriptors(child.id()).into_iter();
            all.map(|descriptor| format!("{descriptor:?}")).collect()
        })
    });
    child.kill().unwrap();
    child.wait().unwrap();

    for (name, arguments) in [(SERVERS[0], &[][..]), (SERVERS[0], &["--exec"]), (SERVERS[1], &[])] {
        let server = Server::start(name, arguments);
        for worker in server.workers() {
            let listening = listening_sockets(worker);
            let (mut listeners, mut lines, mut other) = (0, 0, Vec::new());
            for descriptor in descriptors(worker) {
                match &descriptor.1 {
                    FDTarget::Socket(inode) if listening.contains(inode) => listeners += 1,
                    FDTarget::Socket(_) => lines += 1,
                    FDTarget::AnonInode(kind)
                        if ["eventpoll", "eventfd", "signalfd"]
                            .iter()
                            .any(|it| kind.contains(it)) => {}
                    _ if inherited.contains(&format!("{descriptor:?}")) => {}
                    _ => other.push(descriptor),
                }
            }
            // The line twice: the second descriptor keeps room for one that an order may bring.
            assert_eq!((listeners, lines, other), (1, 2, vec![]), "{name} {arguments:?}");
        }
    }
}
