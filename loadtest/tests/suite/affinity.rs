//! On which CPUs workers run.

use std::collections::BTreeMap;

use common::platform::affinity::{cpus, pin_to};
use nix::sys::signal::Signal;
use procfs::process::Process;

use crate::steer::{quiet, wait_for_workers};
use crate::support::{Server, assert_refused, may_load, run, send};

const BOTH: [&str; 2] = ["shared-fd-server", "reuseport-server"];

/// The CPUs that a thread of this process may run on, for each of its threads.
fn cpus_of(pid: u32) -> Vec<Vec<usize>> {
    let tasks = Process::new(pid as i32).unwrap().tasks().unwrap();
    let of_task = |task: procfs::process::Task| {
        let ranges = task.status().unwrap().cpus_allowed_list.unwrap();
        ranges.into_iter().flat_map(|(first, last)| first as usize..=last as usize).collect()
    };
    tasks.map(|task| of_task(task.unwrap())).collect()
}

/// The one CPU that all threads of this process run on.
fn cpu_of(pid: u32) -> usize {
    let cpus = cpus_of(pid);
    assert!(cpus.iter().all(|each| *each == cpus[0] && each.len() == 1), "{cpus:?}");
    cpus[0][0]
}

/// How many workers each CPU has.
fn workers_by_cpu(server: &Server) -> Vec<usize> {
    let mut workers: BTreeMap<usize, usize> = cpus().unwrap().iter().map(|&cpu| (cpu, 0)).collect();
    server.workers().into_iter().for_each(|pid| *workers.entry(cpu_of(pid)).or_default() += 1);
    workers.into_values().collect()
}

#[test]
fn workers_are_pinned_if_the_option_says_so_and_the_parent_is_free() {
    let _quiet = quiet();
    let all = cpus().unwrap();
    let enough = (all.len() * 2).to_string();
    let [shared, own] = BOTH;
    for (program, arguments, pinned) in [
        (shared, &["--accept", "epoll"][..], false),
        (shared, &["--accept", "least-conn"], false),
        (shared, &["--affinity", "pinned"], true),
        (shared, &["--affinity", "pinned", "--exec"], true),
        (shared, &["--affinity", "pinned", "--accept", "blocking"], true), // of several threads
        (own, &["--steer", "hash"], false),
        (own, &["--affinity", "pinned"], true),
        (own, &["--steer", "least-conn"], false),
        (own, &["--steer", "least-conn", "--affinity", "pinned"], true),
    ] {
        if arguments.contains(&"least-conn") && program == own && !may_load() {
            continue;
        }
        let workers: &[&str] =
            if arguments.contains(&"--workers") { &[] } else { &["--workers", &enough] };
        let server = Server::start(program, &[arguments, workers].concat());
        for worker in server.workers() {
            for cpus in cpus_of(worker) {
                let wanted = if pinned { 1 } else { all.len() };
                assert_eq!(cpus.len(), wanted, "{program} {arguments:?}");
            }
        }
        if pinned {
            assert_eq!(workers_by_cpu(&server), vec![2; all.len()], "{arguments:?}");
        }
        assert_eq!(cpus_of(server.pid()), std::slice::from_ref(&all));
        server.stop();
    }
}

#[test]
fn pinned_workers_stay_spread_over_the_cpus_through_crashes_reloads_and_changes_of_number() {
    let _quiet = quiet();
    let cpus = cpus().unwrap().len();
    let workers = 2 * cpus;
    for program in BOTH {
        let number = workers.to_string();
        let server = Server::start(program, &["--affinity", "pinned", "--workers", &number]);
        let crowd = workers_by_cpu(&server);
        assert_eq!(crowd, vec![2; cpus], "{program}");

        let last = *server.workers().last().unwrap();
        send(last, Signal::SIGKILL);
        wait_for_workers(&server, workers, &[last]);
        assert_eq!(workers_by_cpu(&server), crowd, "{program}: where one was missing");

        for _ in 0..2 {
            let before = server.workers();
            server.signal(Signal::SIGHUP);
            wait_for_workers(&server, workers, &before);
            assert_eq!(workers_by_cpu(&server), crowd, "{program}: each where its predecessor was");
        }

        for (signal, number) in [(Signal::SIGTTIN, workers + 1), (Signal::SIGTTOU, workers)] {
            server.signal(signal);
            wait_for_workers(&server, number, &[]);
        }
        assert_eq!(workers_by_cpu(&server), crowd, "{program}");

        // Those of the first CPU are the last to have come, and still not the first to go.
        let first = cpu_of(server.workers()[0]);
        let mut dead = server.workers();
        dead.retain(|&worker| cpu_of(worker) == first);
        dead.iter().for_each(|&worker| send(worker, Signal::SIGKILL));
        wait_for_workers(&server, workers, &dead);
        for number in (cpus..workers).rev() {
            server.signal(Signal::SIGTTOU);
            wait_for_workers(&server, number, &[]);
        }
        assert_eq!(workers_by_cpu(&server), vec![1; cpus], "{program}: one left for each CPU");
        server.stop();
    }
}

#[test]
fn a_server_that_may_use_one_cpu_pins_its_workers_to_that() {
    let last = *cpus().unwrap().last().unwrap();
    // On a thread of its own, which the server inherits that from.
    let server = std::thread::spawn(move || {
        pin_to(last).unwrap();
        Server::start("reuseport-server", &["--affinity", "pinned"])
    });
    let server = server.join().unwrap();
    assert!(server.workers().into_iter().all(|worker| cpu_of(worker) == last));
    server.stop();
}

#[test]
fn an_affinity_that_makes_no_sense_is_refused() {
    for program in BOTH {
        let output = run(program, &["--affinity", "tight"]);
        assert_refused(&output, &["'tight'", "--affinity", "free", "pinned"], program);
    }
}
