//! The long tests. `make test` runs their short forms, `make soak` (SOAK=1) the long ones.

mod random_faults;

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use procfs::process::Process;

use crate::load::Load;
use crate::support::{
    SERVERS, Server, children_of, free_port, listening_sockets, program, runs, send, soaking,
    wait_for,
};

/// Memory of this kind that a process has in use, in bytes. `Anonymous` is what it has written. The pages of its
/// program's file are not counted: how many are mapped depends on what ran, and differs by 300 KB between two starts.
fn memory(pid: u32, kind: &str) -> u64 {
    let rollup = Process::new(pid as i32).unwrap().smaps_rollup().unwrap();
    rollup.memory_map_rollup.0[0].extension.map[kind]
}

/// Without its listening sockets: where each worker has its own, whoever leaves gives them to others, so that what
/// waits there is answered, and there are as many as there ever were workers at once.
fn descriptors(pid: u32) -> usize {
    Process::new(pid as i32).unwrap().fd_count().unwrap() - listening_sockets(pid).len()
}

/// What a server holds when it rests: of the parent, and of its workers together.
#[derive(Debug)]
struct Holdings {
    descriptors: Vec<usize>,
    parent_memory: u64,
    worker_memory: u64,
    /// Their shared memory: the scoreboard and the lanes.
    shared_memory: u64,
    children: usize,
}

impl Holdings {
    fn assert_as_before(&self, before: &Self, name: &str) {
        assert_eq!(self.descriptors, before.descriptors, "{name}");
        assert_eq!((self.children, before.children), (4, 4), "{name}: zombies or orphans");
        for memory in [
            |it: &Self| it.parent_memory,
            |it: &Self| it.worker_memory,
            |it: &Self| it.shared_memory,
        ] {
            let (now, then) = (memory(self), memory(before));
            assert!(now as f64 <= then as f64 * 1.05 + 64e3, "{name}: {before:?} {self:?}");
        }
    }
}

/// Starts a server without the cache of glibc's allocator (tcache), which holds up to 7 freed pieces of each of 64
/// sizes, 230 KB in all. It fills for hours, and would hide a leak of that size or look like one.
fn start(name: &str, arguments: &[&str]) -> Server {
    let mut command = Command::new(program(name));
    command.args(["--port", "0"]).args(arguments);
    command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
    Server::from(command)
}

fn holdings(server: &Server) -> Holdings {
    wait_for("connections to end", || {
        let mut workers = server.scoreboard.workers();
        workers
            .all(|(_, slot)| slot.connections_open.load(std::sync::atomic::Ordering::Relaxed) == 0)
            .then_some(())
    });
    let workers = server.workers();
    let mut all: Vec<usize> = workers.iter().map(|&pid| descriptors(pid)).collect();
    all.sort_unstable();
    all.push(descriptors(server.pid()));
    let all_pids = workers.iter().copied().chain([server.pid()]);
    Holdings {
        descriptors: all,
        parent_memory: memory(server.pid(), "Anonymous"),
        worker_memory: workers.iter().map(|&pid| memory(pid, "Anonymous")).max().unwrap(),
        shared_memory: all_pids.map(|pid| memory(pid, "Pss_Shmem")).sum(),
        children: children_of(server.pid()).len(),
    }
}

fn reload(server: &Server) {
    let before = server.workers();
    server.signal(Signal::SIGHUP);
    wait_for("new workers", || server.all_replaced(&before));
    wait_for("old workers to end", || before.iter().all(|&pid| !runs(pid)).then_some(()));
}

/// What a server holds after its workers have been replaced and have answered so many requests.
fn measured(server: &Server, requests: u64) -> Holdings {
    reload(server);
    let load = Load::on(server.address(), true);
    load.wait_for_more(requests);
    assert_eq!(load.end(), Vec::<String>::new());
    holdings(server)
}

#[test]
fn after_many_requests_reloads_and_kills_a_server_holds_what_it_held_before() {
    let (requests, rounds) = if soaking() { (1_000_000, 20) } else { (20_000, 2) };
    for name in SERVERS {
        let server = start(name, &[]);
        let warm_up = requests / 20;
        // Once before everything, once after it.
        let measure = || measured(&server, warm_up);
        measure(); // the parent's own first time
        let before = measure();
        for round in 0..rounds {
            let load = Load::on(server.address(), round % 2 == 0);
            load.wait_for_more(requests / rounds / 2);
            reload(&server);
            send(server.workers()[0], Signal::SIGKILL);
            load.wait_for_more(requests / rounds / 2);
            load.end(); // what the killed worker had accepted is lost
            wait_for("full strength", || {
                (server.workers().len() == 4 && server.scoreboard.is_serving()).then_some(())
            });
            // Not too many deaths at a time, or the next start waits.
            if rounds > 5 {
                std::thread::sleep(Duration::from_secs(2));
            }
        }
        measure().assert_as_before(&before, name);
    }
}

#[test]
fn reloads_under_load_lose_no_request() {
    let (reloads, requests) = if soaking() { (20, 30_000) } else { (5, 2_000) };
    for name in SERVERS {
        for keep_alive in [false, true] {
            let server = Server::start(name, &[]);
            let load = Load::on(server.address(), keep_alive);
            for _ in 0..reloads {
                load.wait_for_more(requests / reloads);
                reload(&server);
            }
            let lost = load.end();
            assert!(lost.is_empty(), "{name}, keep-alive {keep_alive}: {lost:?}");
        }
    }
}

#[test]
fn a_parent_that_is_killed_leaves_no_orphan_and_no_port_taken() {
    for name in SERVERS {
        let port = free_port();
        for _ in 0..if soaking() { 50 } else { 5 } {
            let mut server = Server::start(name, &["--port", &port]);
            let workers = children_of(server.pid());
            assert_eq!(workers.len(), 4);
            server.signal(Signal::SIGKILL);
            server.ended();
            for worker in workers {
                wait_for("a worker's end", || (!runs(worker)).then_some(()));
            }
        }
    }
}

#[test]
fn a_killed_worker_costs_a_shared_socket_only_what_that_worker_had_accepted() {
    // Beyond 5 deaths in 10 s the next start waits, up to 5 s.
    let kills = if soaking() { 30 } else { 5 };
    let (server, log) = Server::start_with_log("shared-fd-server", &[]);
    let load = Load::on(server.address(), false);
    for _ in 0..kills {
        load.wait_for_more(100);
        let victim = server.workers()[0];
        send(victim, Signal::SIGKILL);
        wait_for("full strength", || {
            let now = server.workers();
            let full = now.len() == 4 && !now.contains(&victim);
            (full && server.scoreboard.is_serving()).then_some(())
        });
    }
    if kills <= 5 {
        assert!(!log.text().contains("too many workers died"), "restarted at once: {}", log.text());
    }
    load.wait_for_more(100);
    let lost = load.end();
    // Each client has one connection at a time, and a kill can take no more than those.
    assert!(lost.len() <= kills * Load::CLIENTS, "{} lost by {kills} kills", lost.len());
    assert!(lost.iter().all(|how| !how.contains("refused")), "the others accept: {lost:?}");
}
