//! What deployments do to a server: launchers that ignore signals, full descriptor tables, files that
//! somebody else touches, clients that never say anything.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::kernel::uninterrupted::uninterrupted;
use common::scoreboard::Scoreboard;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socket};
use nix::unistd::Pid;

use crate::support::{
    Log, PATIENCE, RawClient, SERVERS, Server, ask, assert_refused, program, run, runs, send,
    wait_for,
};

/// A server whose starter ignores SIGCHLD, as some init systems do. A shell resets it, so it is ignored
/// here, while the server is started; nothing else of this test waits for a child meanwhile.
#[allow(unsafe_code)]
fn started_without_sigchld(name: &str) -> Server {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program(name));
    command.args(["--port", "0", "--workers", "2"]);
    // SAFETY: between fork and exec, signal(2) is safe to call, and it touches the child alone.
    unsafe {
        command.pre_exec(|| {
            signal(Signal::SIGCHLD, SigHandler::SigIgn)?;
            Ok(())
        });
    }
    Server::from(command)
}

#[test]
fn a_server_whose_starter_ignores_sigchld_replaces_workers_and_ends() {
    for name in SERVERS {
        let server = started_without_sigchld(name);
        let before = server.workers();
        before.iter().for_each(|&worker| send(worker, Signal::SIGKILL));
        wait_for("two new workers", || server.all_replaced(&before));
        server.stop();
    }
}

#[test]
fn a_scoreboard_left_by_a_killed_server_is_taken_over_though_its_pid_lives() {
    let folder = tempfile::tempdir().unwrap();
    for name in SERVERS {
        let path = folder.path().join(name);
        let arguments = ["--scoreboard", path.to_str().unwrap()];
        let server = Server::start(name, &arguments);
        let other = run(name, &["--port", "0", arguments[0], arguments[1]]);
        assert_refused(&other, &["in use by the server with pid"], name);
        drop(server); // killed, so the file stays
        // As in a container, where the next server has the pid of the last.
        let board = std::fs::read(&path).unwrap();
        let init = 1u32.to_ne_bytes();
        let changed: Vec<u8> = board
            .chunks(128)
            .enumerate()
            .flat_map(|(place, slot)| {
                let mut slot = slot.to_vec();
                if (1..=4).contains(&place) {
                    slot[..4].copy_from_slice(&init);
                }
                slot
            })
            .collect();
        std::fs::write(&path, changed).unwrap();
        let server = Server::start(name, &arguments);
        let copy = Scoreboard::from_file(File::open(&path).unwrap()).unwrap();
        assert_eq!(copy.workers().count(), 4);
        server.stop();
        assert!(!path.exists());
    }
}

#[test]
fn a_scoreboard_that_is_truncated_costs_its_copy_and_nobody_his_life() {
    let folder = tempfile::tempdir().unwrap();
    for name in SERVERS {
        let path = folder.path().join(name);
        let arguments = ["--scoreboard", path.to_str().unwrap()];
        let (server, log) = Server::start_with_log(name, &arguments);
        let workers = server.workers();
        File::create(&path).unwrap();
        wait_for("the line", || log.text().contains("is no longer written").then_some(()));
        assert!(ask(server.address(), "GET /").ends_with("hello"));
        assert_eq!(server.workers(), workers);
        assert!(workers.iter().all(|&worker| runs(worker)));
        server.stop();
        assert_eq!(log.text().matches("is no longer written").count(), 1);
    }
}

#[test]
fn a_full_file_system_is_said_at_the_start() {
    let output = run("shared-fd-server", &["--port", "0", "--scoreboard", "/dev/full"]);
    assert_refused(&output, &["/dev/full", "name another path"], "a device");
    let Some(_mounted) = Mounted::new() else {
        return crate::support::skip("mount(8) is needed for a small file system");
    };
    let path = _mounted.0.path().join("board");
    let output = run("shared-fd-server", &["--port", "0", "--scoreboard", path.to_str().unwrap()]);
    assert_refused(&output, &["cannot allocate", "--scoreboard"], "a full file system");
}

/// A file system of 64 KiB.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(folder.path())
            .output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[test]
fn a_worker_at_its_descriptor_limit_is_reloaded_and_its_clients_are_answered() {
    for name in SERVERS {
        let log = Log::new();
        let mut command = Command::new("sh");
        let script = "ulimit -n 48; exec \"$0\" --port 0 --workers 1";
        command.args(["-c", script, program(name).to_str().unwrap()]).stderr(log.file());
        let server = Server::from(command);
        let before = server.workers();
        let mut clients: Vec<RawClient> = (0..60)
            .map(|_| {
                let client = RawClient::connect(server.address());
                client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n").unwrap();
                client
            })
            .collect();
        wait_for("the limit", || log.text().contains("cannot accept").then_some(()));
        server.signal(Signal::SIGHUP);
        wait_for("the successor", || log.text().contains("reloaded").then_some(()));
        for client in &mut clients {
            client.send("x").unwrap();
            assert_eq!(client.answer().unwrap().unwrap().status, 405, "{name}");
        }
        drop(clients);
        wait_for("the end of the old worker", || server.all_replaced(&before));
        assert!(!log.text().contains("ERROR"), "{}", log.text());
    }
}

#[test]
fn clients_that_never_said_anything_do_not_hold_a_drain() {
    for name in SERVERS {
        let server = Server::start(name, &["--drain-timeout", "60s"]);
        let mut silent = TcpStream::connect(server.address()).unwrap();
        silent.set_read_timeout(Some(PATIENCE)).unwrap();
        wait_for("it to be accepted", || {
            (server.scoreboard.total_connections() == 1).then_some(())
        });
        let start = Instant::now();
        server.stop();
        assert!(start.elapsed() < Duration::from_secs(10), "{name}: {:?}", start.elapsed());
        assert_eq!(uninterrupted(|| silent.read(&mut [0])).unwrap(), 0, "closed, not reset");
    }
}

#[test]
fn the_limit_of_connections_holds_while_a_queue_is_drained() {
    for name in SERVERS {
        let arguments = ["--workers", "1", "--max-connections", "2", "--drain-timeout", "30s"];
        let mut server = Server::start(name, &arguments);
        let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n";
        let mut clients: Vec<RawClient> = (0..10)
            .map(|_| {
                let client = RawClient::connect(server.address());
                client.send(head).unwrap();
                client
            })
            .collect();
        wait_for("the limit", || (server.scoreboard.total_connections() == 2).then_some(()));
        server.signal(Signal::SIGTERM);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(server.scoreboard.total_connections(), 2, "{name}");
        clients.iter().for_each(|client| client.send("x").unwrap());
        for client in &mut clients {
            assert_eq!(client.answer().unwrap().unwrap().status, 405, "{name}");
        }
        drop(clients);
        assert_eq!(server.ended().code(), Some(0));
    }
}

#[test]
fn an_absurd_drain_timeout_is_no_panic() {
    for name in SERVERS {
        let server = Server::start(name, &["--drain-timeout", "500000000000years"]);
        assert!(ask(server.address(), "GET /").ends_with("hello"));
        server.stop();
    }
}

/// Starts a server with a socket as systemd passes it (sd_listen_fds(3)).
fn run_with(name: &str, passed: OwnedFd) -> std::process::Output {
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" --port 0";
    let mut command = Command::new("sh");
    command.args(["-c", script, program(name).to_str().unwrap()]);
    command.stdin(Stdio::from(passed)).output().unwrap()
}

#[test]
fn a_passed_socket_that_cannot_be_served_is_refused_in_one_line() {
    let (family, kind) = (AddressFamily::Inet, SockType::Stream);
    let silent = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let output = run_with("shared-fd-server", silent);
    assert_refused(&output, &["does not listen", "LISTEN_FDS"], "not listening");
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = run_with("reuseport-server", listening.into());
    assert_refused(&output, &["LISTEN_FDS", "shared-fd-server"], "not wanted");
}

#[test]
fn a_limit_of_connections_that_open_files_do_not_allow_is_warned_of() {
    for name in SERVERS {
        let log = Log::new();
        let mut command = Command::new("sh");
        let script = "ulimit -n 100; exec \"$0\" --port 0 --max-connections 90";
        command.args(["-c", script, program(name).to_str().unwrap()]).stderr(log.file());
        let server = Server::from(command);
        assert!(
            log.text().contains("--max-connections 90 needs 122 open files, and the limit is 100")
        );
        server.stop();
    }
}

#[test]
fn an_epoll_instance_that_the_starter_left_open_is_not_taken_for_ones_own() {
    use nix::sys::epoll::{Epoll, EpollCreateFlags};
    let leaked = Epoll::new(EpollCreateFlags::empty()).unwrap();
    let server = Server::start("shared-fd-server", &["--accept", "least-conn", "--workers", "1"]);
    drop(leaked);
    let start = Instant::now();
    let mut client = RawClient::connect(server.address());
    for _ in 0..40 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(client.answer().unwrap().unwrap().status, 200);
    }
    // Each request would wait for the worker's tick, of 250 ms: 10 s in all.
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

#[test]
fn both_sockets_of_a_worker_are_served_while_one_is_busy() {
    let server = Server::start("reuseport-server", &["--workers", "2"]);
    server.signal(Signal::SIGTTOU);
    wait_for("one worker with both", || {
        let mut workers = server.scoreboard.workers();
        let both = workers
            .next()
            .is_some_and(|(_, slot)| slot.sockets.load(std::sync::atomic::Ordering::Relaxed) == 2);
        (both && workers.next().is_none()).then_some(())
    });
    // The hash spreads these over both queues, and each is answered.
    let mut clients: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    for client in &mut clients {
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    }
    for mut client in clients {
        let mut answer = String::new();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("hello"));
    }
}

/// A descriptor of another process, as one of ours (pidfd_getfd(2)); `None` where that is not allowed.
#[allow(unsafe_code)]
pub fn descriptor_of(pid: u32, number: i32) -> Option<OwnedFd> {
    use nix::libc::{SYS_pidfd_getfd, SYS_pidfd_open, syscall};
    let owned = |descriptor: i64| {
        // SAFETY: the kernel has just made this descriptor for this process, and nobody else knows it.
        (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
    };
    // SAFETY: both calls take numbers alone, and touch no memory.
    let process = owned(unsafe { syscall(SYS_pidfd_open, pid, 0) })?;
    // SAFETY: as above.
    owned(unsafe { syscall(SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

#[test]
fn a_worker_that_says_what_makes_no_sense_is_replaced_and_no_other() {
    for said in [&b"?"[..], b"D", b"S1 2", b"a", b"\xff\xff"] {
        let (server, log) = Server::start_with_log("reuseport-server", &["--workers", "2"]);
        let before = server.workers();
        // The standard input of a worker that was started by exec is its channel to the parent.
        let Some(channel) = descriptor_of(before[0], 0) else {
            return crate::support::skip("a worker's descriptors may not be looked at");
        };
        nix::sys::socket::send(channel.as_raw_fd(), said, MsgFlags::empty()).unwrap();
        drop(channel);
        if said == b"a" {
            // That sockets were adopted which nobody had offered is believed by nobody.
            assert!(ask(server.address(), "GET /").ends_with("hello"));
            assert_eq!(server.workers(), before);
            continue;
        }
        wait_for("another worker", || {
            let now = server.workers();
            let replaced = !now.contains(&before[0]) && now.len() == 2;
            (replaced && server.scoreboard.is_serving()).then_some(())
        });
        assert!(server.workers().contains(&before[1]), "{said:?}");
        assert_eq!(log.text().matches("starting another").count(), 1, "{}", log.text());
        assert!(ask(server.address(), "GET /").ends_with("hello"));
        server.stop();
    }
}

#[test]
fn workers_that_are_killed_again_and_again_leave_the_port_for_moments_only() {
    let server = Server::start("reuseport-server", &["--workers", "1"]);
    let (start, mut last_kill, mut last_answer) = (Instant::now(), Instant::now(), Instant::now());
    let (mut longest, mut last_turn) = (Duration::ZERO, start);
    while start.elapsed() < Duration::from_secs(6) {
        // While this test is on no core, nobody is refused.
        let stall = last_turn.elapsed().saturating_sub(Duration::from_millis(50));
        last_answer += stall;
        last_turn = Instant::now();
        if TcpStream::connect(server.address()).is_ok() {
            longest = longest.max(last_answer.elapsed());
            last_answer = Instant::now();
        }
        if last_kill.elapsed() > Duration::from_millis(300)
            && let Some(&worker) = server.workers().first()
        {
            let _ = kill(Pid::from_raw(worker as i32), Signal::SIGKILL);
            last_kill = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // Pauses would have grown to 5 s.
    assert!(longest.max(last_answer.elapsed()) < Duration::from_secs(3), "{longest:?}");
}
