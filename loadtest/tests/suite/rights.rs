//! What the servers may do, and what they give up: capabilities, `--user`, and what they tell systemd.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

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

fn all_replaced(server: &Server, before: &[u32]) -> Option<()> {
    let now = server.workers();
    let replaced = now.len() == before.len() && now.iter().all(|pid| !before.contains(pid));
    (replaced && server.scoreboard.is_serving()).then_some(())
}

/// A port below 1024 that nobody uses.
fn privileged_port() -> Option<String> {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let first: u16 = first.trim().parse().unwrap();
    let start = 600 + (std::process::id() % 300) as u16;
    let mut ports = (start..first.max(start)).filter(|&port| port < first);
    ports.find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()).map(|port| port.to_string())
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
        wait_for("a reload", || all_replaced(&server, &before));
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
    wait_for("a reload", || all_replaced(&server, &before));
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
    let accepted = || -> Vec<u64> {
        use std::sync::atomic::Ordering::Relaxed;
        let workers = server.scoreboard.workers();
        workers.map(|(_, slot)| slot.connections_open.load(Relaxed)).collect()
    };
    let _kept: Vec<_> =
        (0..10).map(|_| std::net::TcpStream::connect(server.address()).unwrap()).collect();
    wait_for("two connections for each worker", || (accepted() == [2; 5]).then_some(()));
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
        wait_for("a reload", || all_replaced(&server, &before));
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
    assert!(log.text().contains("has sent more than it was asked for"), "{}", log.text());
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

/// What a service manager hears.
struct Manager {
    socket: UnixDatagram,
    _folder: tempfile::TempDir,
}

impl Manager {
    /// A server that tells it all, and it.
    fn of(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> (Server, Self) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut command = Command::new(program(name));
        command.args(["--port", "0"]).args(arguments);
        command.env("NOTIFY_SOCKET", &path).envs(environment.iter().copied());
        (Server::from(command), Self { socket, _folder: folder })
    }

    fn next(&self) -> String {
        let mut text = [0; 1000];
        let length = self.socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    }

    /// The next message with this word, and all before it.
    fn until(&self, word: &str) -> Vec<String> {
        let mut told = Vec::new();
        while !told.last().is_some_and(|text: &String| text.contains(word)) {
            told.push(self.next());
        }
        told
    }
}

fn monotonic_microseconds() -> u64 {
    1000 * common::platform::clock::monotonic_milliseconds()
}

#[test]
fn systemd_is_told_when_a_reload_begins_and_ends() {
    for name in SERVERS {
        let (mut server, manager) = Manager::of(name, &["--workers", "2"], &[]);
        let address = server.address();
        let ready = manager.next();
        assert_eq!(ready, format!("READY=1\nSTATUS=http://{address}/: 2 workers serve\n"));
        for _ in 0..2 {
            let (before, workers) = (monotonic_microseconds(), server.workers());
            server.signal(Signal::SIGHUP);
            let reloading = manager.next();
            let mut lines = reloading.lines();
            assert_eq!(lines.next(), Some("RELOADING=1"));
            let time = lines.next().and_then(|line| line.strip_prefix("MONOTONIC_USEC="));
            let time: u64 = time.unwrap().parse().unwrap();
            assert!((before..=monotonic_microseconds() + 1000).contains(&time), "{reloading}");
            let status = lines.next().unwrap();
            assert!(status.contains("reloading: 2 of 2 workers to be replaced"), "{status}");
            let told = manager.until("READY=1");
            assert!(told.last().unwrap().ends_with("2 workers serve\n"), "{told:?}");
            // Those that were replaced may still be about to end.
            wait_for("two new workers", || all_replaced(&server, &workers));
        }
        server.signal(Signal::SIGTTIN);
        let told = manager.until("3 workers serve");
        assert!(told.iter().all(|text| text.starts_with("STATUS=")), "{told:?}");
        let before = server.workers();
        send(before[0], Signal::SIGKILL);
        manager.until("2 of 3 workers serve");
        manager.until("3 workers serve");
        server.signal(Signal::SIGTERM);
        assert_eq!(
            manager.next(),
            format!(
                "STOPPING=1\nSTATUS=http://{address}/: ending: what is under way is answered\n"
            )
        );
        assert_eq!(server.ended().code(), Some(0));
    }
}

#[test]
fn the_watchdog_hears_of_the_parent_twice_as_often_as_it_must() {
    for name in SERVERS {
        let (server, manager) = Manager::of(name, &[], &[("WATCHDOG_USEC", "400000")]);
        manager.until("READY=1");
        manager.until("WATCHDOG=1");
        let start = Instant::now();
        for _ in 0..5 {
            manager.until("WATCHDOG=1");
        }
        assert!(start.elapsed() > Duration::from_millis(900), "{:?}", start.elapsed());
        // A parent that stands still is not alive.
        server.signal(Signal::SIGSTOP);
        manager.socket.set_read_timeout(Some(Duration::from_millis(800))).unwrap();
        let mut text = [0; 100];
        let mut late = 0;
        while manager.socket.recv(&mut text).is_ok() {
            late += 1;
        }
        assert!(late < 2, "one may have been on its way: {late}");
        server.signal(Signal::SIGCONT);
        manager.socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        manager.until("WATCHDOG=1");

        let other = [("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")];
        let (_server, manager) = Manager::of(name, &[], &other);
        manager.until("READY=1");
        manager.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(manager.socket.recv(&mut text).is_err(), "that is for another process");
    }
}
