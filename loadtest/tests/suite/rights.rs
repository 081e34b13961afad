//! What the servers may do, and what they give up: capabilities, `--user`; and how much a worker that goes wrong can do.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use common::scoreboard::CAPACITY;
use nix::sys::signal::Signal;
use nix::sys::socket::MsgFlags;

use crate::faults::descriptor_of;
use crate::load::Load;
use crate::support::{
    SERVERS, Server, ask, assert_refused, children_of, copy_for_all, program, runs, send, skip,
    wait_for,
};

/// A user and a group that exist nowhere.
const SOMEBODY: &str = "54321:54322";

/// A field of /proc/PID/status.
fn status(pid: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
    value.unwrap_or_else(|| panic!("{status}")).trim_end().to_owned()
}

fn capabilities(pid: u32, set: &str) -> u64 {
    u64::from_str_radix(&status(pid, set), 16).unwrap()
}

/// A set with the capabilities of these numbers (linux/capability.h).
fn with(numbers: &[u32]) -> u64 {
    numbers.iter().map(|number| 1 << number).sum()
}

const KILL: u32 = 5;
const SETGID: u32 = 6;
const SETUID: u32 = 7;
const NET_BIND_SERVICE: u32 = 10;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        skip("root alone can give rights away");
    }
    is_root
}

/// Asserts that a worker can do nothing that a program of its user could not do.
fn assert_has_no_rights(worker: u32) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(capabilities(worker, set), 0, "{set}");
    }
    assert_eq!(status(worker, "NoNewPrivs"), "1");
}

/// A port below 1024 that nobody uses.
fn privileged_port() -> Option<String> {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let first: u16 = first.trim().parse().unwrap();
    // Tests that run at the same time begin with different ones: each gives its port back before it uses it.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 600 + (std::process::id() % 300) as u16;
    let mut ports = std::iter::repeat_with(|| start + NEXT.fetch_add(1, Relaxed));
    let free = |&port: &u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    ports.by_ref().take_while(|&port| port < first).find(free).map(|port| port.to_string())
}

#[test]
fn workers_have_no_capability_and_the_parent_has_none_that_it_does_not_need() {
    for (name, arguments) in [
        ("shared-fd-server", &[][..]),
        ("shared-fd-server", &["--accept", "blocking"]),
        ("shared-fd-server", &["--exec"]),
        ("reuseport-server", &[]),
        ("reuseport-server", &["--steer", "random"]),
    ] {
        let server = Server::start(name, arguments);
        for worker in server.workers() {
            assert_has_no_rights(worker);
        }
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(capabilities(server.pid(), set), 0, "{name} {arguments:?} {set}");
        }
        let before = server.workers();
        server.signal(Signal::SIGHUP);
        wait_for("a reload", || server.all_replaced(&before));
        server.workers().into_iter().for_each(assert_has_no_rights);
        assert!(ask(server.address(), "GET /").ends_with("hello"));
    }
}

#[test]
fn ambient_capabilities_are_given_up_too() {
    if !is_root() || Command::new("setpriv").arg("-V").output().is_err() {
        return skip("setpriv is needed to grant capabilities to another user");
    }
    let Some(port) = privileged_port() else { return skip("no port needs a right here") };
    let folder = tempfile::tempdir().unwrap();
    for name in SERVERS {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "54321", "--regid", "54322", "--clear-groups"]);
        let rights = "-all,+net_bind_service,+bpf,+perfmon";
        command.args(["--inh-caps", rights, "--ambient-caps", rights]);
        command.arg(copy_for_all(folder.path(), name)).args(["--port", &port]);
        let server = Server::from(command);
        // Further workers bind the port themselves where sockets are their own; nothing else is kept.
        let binds = name == "reuseport-server";
        let kept = if binds { with(&[NET_BIND_SERVICE]) } else { 0 };
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(capabilities(server.pid(), set), kept, "{name} {set}");
        }
        server.workers().into_iter().for_each(assert_has_no_rights);
        server.signal(Signal::SIGTTIN);
        wait_for("five workers", || {
            (server.workers().len() == 5 && server.scoreboard.is_serving()).then_some(())
        });
        assert!(ask(server.address(), "GET /").ends_with("hello"));
        server.stop();
    }
}

#[test]
fn the_rights_to_load_a_program_are_given_up_once_it_is_loaded() {
    if !is_root() {
        return;
    }
    let start = || Server::start("reuseport-server", &["--steer", "least-conn"]);
    let server = start();
    // Linux before 5.19 wants to see CAP_BPF for each socket that comes.
    let kept = capabilities(server.pid(), "CapPrm");
    assert!(kept == 0 || kept == with(&[BPF]), "{kept:x}");
    assert_eq!(kept & with(&[PERFMON]), 0);
    let before = server.workers();
    server.signal(Signal::SIGHUP);
    wait_for("a reload", || server.all_replaced(&before));
    // A new socket enters the map, and the one of a dead worker is replaced there.
    server.signal(Signal::SIGTTIN);
    wait_for("five workers", || {
        (server.workers().len() == 5 && server.scoreboard.is_serving()).then_some(())
    });
    let before = server.workers();
    send(before[0], Signal::SIGKILL);
    wait_for("its replacement", || {
        let now = server.workers();
        (now.len() == 5 && !now.contains(&before[0]) && server.scoreboard.is_serving())
            .then_some(())
    });
    // The hash, which is what is left without a program, would reach the workers too, but steer nothing.
    let steered = || -> Vec<u64> {
        let workers = server.scoreboard.workers();
        workers.map(|(_, slot)| slot.steered.load(Relaxed)).collect()
    };
    let mut kept = Vec::new();
    wait_for("each worker to be steered to", || {
        if kept.len() < 100 {
            kept.push(TcpStream::connect(server.address()).unwrap());
        }
        (steered().len() == 5 && !steered().contains(&0)).then_some(())
    });
}

#[test]
fn with_user_root_binds_a_privileged_port_and_somebody_else_serves() {
    if !is_root() {
        return;
    }
    let Some(port) = privileged_port() else { return skip("no port needs a right here") };
    for (name, more) in [
        ("shared-fd-server", &[][..]),
        ("shared-fd-server", &["--exec"]),
        ("reuseport-server", &[]),
    ] {
        let arguments = [&["--user", SOMEBODY, "--port", &port], more].concat();
        let mut server = Server::start(name, &arguments);
        let assert_is_somebody = |worker: u32| {
            assert_eq!(status(worker, "Uid"), "54321\t54321\t54321\t54321");
            assert_eq!(status(worker, "Gid"), "54322\t54322\t54322\t54322");
            assert_eq!(status(worker, "Groups"), "54322");
            assert_has_no_rights(worker);
        };
        server.workers().into_iter().for_each(assert_is_somebody);
        let kept = [KILL, SETGID, SETUID].iter().chain(
            (name == "reuseport-server").then_some(&NET_BIND_SERVICE), // for further workers
        );
        let kept: Vec<u32> = kept.copied().collect();
        assert_eq!(capabilities(server.pid(), "CapPrm"), with(&kept), "{name}");

        // Workers that come later are no different, and nothing is lost meanwhile.
        let load = Load::on(server.address(), false);
        load.wait_for_more(20);
        let before = server.workers();
        server.signal(Signal::SIGHUP);
        wait_for("a reload", || server.all_replaced(&before));
        server.signal(Signal::SIGTTIN);
        wait_for("five workers", || {
            (server.workers().len() == 5 && server.scoreboard.is_serving()).then_some(())
        });
        load.wait_for_more(20);
        let lost = load.end();
        assert!(lost.is_empty(), "{name}: {lost:?}");
        server.workers().into_iter().for_each(assert_is_somebody);

        // The kernel asks whether the parent may kill them, even when it is killed itself.
        let workers = server.workers();
        server.signal(Signal::SIGKILL);
        server.ended();
        wait_for("the workers' end", || workers.iter().all(|&pid| !runs(pid)).then_some(()));
    }
}

#[test]
fn a_worker_of_another_user_is_killed_when_it_must_be() {
    if !is_root() {
        return;
    }
    for name in SERVERS {
        let mut server = Server::start(name, &["--user", SOMEBODY, "--hang-timeout", "1s"]);
        let hangs = server.workers()[0];
        send(hangs, Signal::SIGSTOP);
        wait_for("its replacement", || {
            let workers = server.workers();
            let is_replaced = workers.len() == 4 && !workers.contains(&hangs);
            (is_replaced && server.scoreboard.is_serving()).then_some(())
        });
        server.signal(Signal::SIGQUIT);
        assert_eq!(server.ended().code(), Some(0));
    }
}

#[test]
fn user_without_the_right_to_become_it_is_refused_in_one_line() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in SERVERS {
        let copy = copy_for_all(folder.path(), name);
        let mut command = Command::new(copy);
        command.args(["--port", "0", "--user", SOMEBODY]).uid(54321).gid(54322);
        let words = ["--user needs", "CAP_SETUID", "start it as root"];
        assert_refused(&command.output().unwrap(), &words, name);
        let unknown = Command::new(program(name)).args(["--user", "no-such-user"]).output();
        assert_refused(&unknown.unwrap(), &["--user", "no user", "no-such-user"], name);
    }
}

#[test]
fn a_worker_that_goes_on_and_on_is_replaced() {
    let (server, log) = Server::start_with_log("reuseport-server", &["--workers", "2"]);
    let before = server.workers();
    // The standard input of a worker that was started by exec is its channel to the parent.
    let Some(channel) = descriptor_of(before[0], 0) else {
        return skip("a worker's descriptors may not be looked at");
    };
    // "Ready" makes sense, but once.
    let say = || nix::sys::socket::send(channel.as_raw_fd(), b"R", MsgFlags::MSG_NOSIGNAL);
    (0..1000).take_while(|_| say().is_ok()).for_each(drop);
    drop(channel);
    wait_for("another worker", || {
        let now = server.workers();
        let is_replaced = now.len() == 2 && !now.contains(&before[0]);
        (is_replaced && server.scoreboard.is_serving()).then_some(())
    });
    assert!(server.workers().contains(&before[1]));
    assert!(log.text().contains("has sent more messages than expected"), "{}", log.text());
    assert!(ask(server.address(), "GET /").ends_with("hello"));
}

#[test]
fn whatever_a_worker_writes_into_the_scoreboard_others_are_started() {
    for name in SERVERS {
        let server = Server::start(name, &[]);
        let (address, workers) = (server.address(), server.workers());
        let folder = format!("/proc/{}/fd", server.pid());
        let is_it = |path: &std::path::PathBuf| {
            std::fs::read_link(path).is_ok_and(|it| it.to_string_lossy().contains("scoreboard"))
        };
        let mut open = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let path = open.find(is_it).expect("the parent has it open");
        let memory = std::fs::File::options().write(true).open(path).unwrap();
        // Its whole header, and that every slot is somebody's; all of that is the parent's to write.
        memory.write_all_at(&[0xff; 128], 0).unwrap();
        for index in 0..CAPACITY as u64 {
            memory.write_all_at(&[0xff; 4], 128 * (1 + index)).unwrap();
        }
        send(workers[0], Signal::SIGKILL);
        wait_for("another worker", || {
            let now = children_of(server.pid());
            (now.len() == 4 && !now.contains(&workers[0])).then_some(())
        });
        server.signal(Signal::SIGHUP);
        wait_for("four others", || {
            let now = children_of(server.pid());
            (now.len() == 4 && workers.iter().all(|old| !now.contains(old))).then_some(())
        });
        assert!(ask(address, "GET /").ends_with("hello"));
        server.stop();
    }
}

#[test]
fn auto_is_a_worker_for_each_cpu_of_the_mask_and_no_more_than_the_quota() {
    let workers = |mut command: Command, name: &str| {
        command.arg(program(name)).args(["--port", "0", "--workers", "auto"]);
        Server::from(command).workers().len()
    };
    let cpus = common::platform::limits::usable_cpus();
    for name in SERVERS {
        assert_eq!(workers(Command::new("env"), name), cpus);
        let mut one = Command::new("taskset");
        one.args(["--cpu-list", &common::platform::affinity::cpus().unwrap()[0].to_string()]);
        assert_eq!(workers(one, name), 1);
    }
    // A control group with nine tenths of a CPU: one worker.
    let group = Path::new("/sys/fs/cgroup/cpu").join(format!("rights-{}", std::process::id()));
    if cpus < 2 || std::fs::create_dir(&group).is_err() {
        return skip("no control group of version 1 can be made here");
    }
    let set = |file: &str, text: &str| std::fs::write(group.join(file), text).unwrap();
    set("cpu.cfs_period_us", "100000");
    set("cpu.cfs_quota_us", "90000");
    for name in SERVERS {
        let mut inside = Command::new("sh");
        let script = "echo $$ > \"$0/cgroup.procs\"; exec \"$@\"";
        inside.args(["-c", script]).arg(&group);
        assert_eq!(workers(inside, name), 1);
    }
    wait_for("the group to be empty", || std::fs::remove_dir(&group).ok());
}
