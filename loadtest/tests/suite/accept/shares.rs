//! Who gets the next connection, and how many each worker comes to have.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use common::scoreboard::Slot;
use nix::libc::{SYS_accept4, SYS_epoll_pwait, c_long};
use nix::sys::signal::Signal;

use super::{accepted, per_worker, slow_answers, start};
use crate::load::Load;
use crate::steer::quiet;
use crate::support::{ask, send, skip, stop, wait_for};

/// Waits until the waiting threads of these workers all sleep in this system call. False if that
/// cannot be seen here.
fn all_wait_in(workers: &[u32], call: c_long) -> bool {
    let current = |pid: &u32| -> Option<String> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        let tasks: Vec<PathBuf> = tasks.map(|task| task.path()).collect();
        // The thread that waits, where there is one; elsewhere there is only one.
        let name = |task: &PathBuf| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        let thread = tasks.iter().find(|task| name(task).trim() == "accept").or(tasks.first())?;
        std::fs::read_to_string(thread.join("syscall")).ok()
    };
    if std::fs::read_to_string("/proc/self/syscall").is_err() {
        return false;
    }
    wait_for("the threads to wait", || {
        let waits = |pid| current(pid).is_some_and(|now| now.starts_with(&format!("{call} ")));
        workers.iter().all(waits).then_some(())
    });
    true
}

#[test]
fn idle_workers_that_sit_in_accept_take_turns() {
    let _quiet = quiet();
    let server = start("blocking", &[]);
    let workers = server.workers();
    let mut turns = Vec::new();
    for _ in 0..12 {
        if !all_wait_in(&workers, SYS_accept4) {
            return skip("/proc does not say what a thread waits for");
        }
        let before = per_worker(&server, accepted);
        ask(server.address(), "GET /");
        let after = per_worker(&server, accepted);
        turns.push((0..4).find(|&place| after[place] > before[place]).unwrap());
    }
    let mut all = turns[..4].to_vec();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3], "{turns:?}");
    assert!(turns.chunks(4).all(|round| *round == turns[..4]), "{turns:?}");
    let woken_in_vain = |slot: &Slot| slot.wakeups_without_connection.load(Relaxed);
    assert_eq!(per_worker(&server, woken_in_vain), [0; 4]);
}

#[test]
fn an_idle_worker_that_waits_exclusively_in_front_of_the_others_gets_everything() {
    let _quiet = quiet();
    let server = start("exclusive", &[]);
    let workers = server.workers();
    for _ in 0..20 {
        if !all_wait_in(&workers, SYS_epoll_pwait) {
            return skip("/proc does not say what a thread waits for");
        }
        ask(server.address(), "GET /");
    }
    let shares = per_worker(&server, accepted);
    // But for connections that came in a moment in which another looked at the queue by itself, as each does at
    // its tick. If they took turns, each would have 5.
    assert!(shares.iter().any(|&share| share > 10), "{shares:?}");
    let woken_in_vain = |slot: &Slot| slot.wakeups_without_connection.load(Relaxed);
    let in_vain = per_worker(&server, woken_in_vain).iter().sum::<u64>();
    assert!(in_vain <= 20, "a herd would be woken in vain 60 times: {in_vain}");
}

#[test]
fn with_least_conn_and_many_workers_few_accept_short_connections_until_these_cannot() {
    let _quiet = quiet();
    let cpus = std::thread::available_parallelism().unwrap().get();
    let server = start("least-conn", &["--workers", &(8 * cpus).to_string()]);
    let load = Load::on(server.address(), false);
    let few = cpus + 1;
    let mut busiest = Vec::new();
    wait_for("a few workers to get four fifths of 400 connections", || {
        let before = per_worker(&server, accepted);
        load.wait_for_more(400);
        let after = per_worker(&server, accepted);
        let mut got: Vec<(u64, usize)> = after
            .iter()
            .zip(before)
            .zip(0..)
            .map(|((after, before), i)| (after - before, i))
            .collect();
        got.sort_unstable_by(|a, b| b.cmp(a));
        let sum = |got: &[(u64, usize)]| got.iter().map(|&(got, _)| got).sum::<u64>();
        busiest = got[..few].iter().map(|&(_, place)| place).collect();
        (sum(&got[..few]) * 5 >= sum(&got) * 4).then_some(())
    });
    let workers = server.workers();
    let stopped: Vec<u32> = busiest.iter().map(|&place| workers[place]).collect();
    stopped.iter().for_each(|&worker| stop(worker));
    // The clients whose connections these have wait; anybody else is served at once.
    let slow = slow_answers(server.address(), 50);
    assert!(slow <= 2, "{slow} of 50 answers came late");
    stopped.iter().for_each(|&worker| send(worker, Signal::SIGCONT));
    assert_eq!(load.end(), [""; 0]);
    server.stop();
}
