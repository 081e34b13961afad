//! What systemd passes to the servers, and what it is told.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::kernel::uninterrupted::uninterrupted;
use nix::sys::signal::Signal;

use crate::steer::quiet;
use crate::support::{SERVERS, Server, ask, free_port, program, send, skip, stop, wait_for};
use crate::upgrade::Replaceable;

#[test]
fn a_socket_that_systemd_passes_is_served_and_readiness_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let notified = UnixDatagram::bind(&path).unwrap();
    notified.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let told = || {
        let mut text = [0; 200];
        let length = uninterrupted(|| notified.recv(&mut text)).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The way sd_listen_fds(3) describes: descriptor 3, and the pid it is meant for.
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, program("shared-fd-server").to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", &path).stdin(Stdio::from(OwnedFd::from(listener)));
    let mut server = Server::from(command);
    assert_eq!(server.address(), address);
    assert!(told().contains("READY=1"));
    assert!(ask(address, "GET /").ends_with("hello"));
    server.signal(Signal::SIGTERM);
    assert!(told().contains("STOPPING=1"));
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn systemd_socket_activate_starts_the_server_with_its_first_client() {
    if Command::new("systemd-socket-activate").arg("--version").output().is_err() {
        return skip("systemd-socket-activate is missing");
    }
    let port = free_port();
    let mut activate = Command::new("systemd-socket-activate")
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .arg(program("shared-fd-server"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    wait_for("the socket", || TcpStream::connect(address).ok());
    assert!(ask(address, "GET /").ends_with("hello"));
    send(activate.id(), Signal::SIGTERM); // it became the server by exec
    assert_eq!(activate.wait().unwrap().code(), Some(0));
}

/// What a service manager hears.
struct Manager {
    socket: UnixDatagram,
    _folder: tempfile::TempDir,
}

impl Manager {
    /// A server that tells it all, and it.
    fn of(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> (Server, Self) {
        let mut command = Command::new(program(name));
        command.args(["--port", "0"]).args(arguments).envs(environment.iter().copied());
        Self::of_command(command)
    }

    fn of_command(mut command: Command) -> (Server, Self) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        command.env("NOTIFY_SOCKET", &path);
        (Server::from(command), Self { socket, _folder: folder })
    }

    fn next(&self) -> String {
        let mut text = [0; 1000];
        let length = uninterrupted(|| self.socket.recv(&mut text)).unwrap();
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

    /// Has the server reload, as systemd does, and hears that this begins; gives the status with that.
    fn is_told_of_a_reload(&self, server: &Server) -> String {
        let before = monotonic_microseconds();
        server.signal(Signal::SIGHUP);
        let reloading = self.next();
        let mut lines = reloading.lines();
        assert_eq!(lines.next(), Some("RELOADING=1"));
        let time = lines.next().and_then(|line| line.strip_prefix("MONOTONIC_USEC="));
        let time: u64 = time.unwrap().parse().unwrap();
        assert!((before..=monotonic_microseconds() + 1000).contains(&time), "{reloading}");
        lines.next().unwrap().to_owned()
    }
}

fn monotonic_microseconds() -> u64 {
    1000 * common::platform::clock::monotonic_milliseconds()
}

#[test]
fn systemd_is_told_when_a_reload_begins_and_ends() {
    let _quiet = quiet();
    for name in SERVERS {
        let (mut server, manager) = Manager::of(name, &["--workers", "2"], &[]);
        let address = server.address();
        let ready = manager.next();
        assert_eq!(ready, format!("READY=1\nSTATUS=http://{address}/: 2 workers serve\n"));
        for _ in 0..2 {
            let workers = server.workers();
            let status = manager.is_told_of_a_reload(&server);
            assert!(status.contains("reloading: 2 of 2 workers to be replaced"), "{status}");
            let told = manager.until("READY=1");
            assert!(told.last().unwrap().ends_with("2 workers serve\n"), "{told:?}");
            // Those that were replaced may still be about to end.
            wait_for("two new workers", || server.all_replaced(&workers));
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
            format!("STOPPING=1\nSTATUS=http://{address}/: ending: open requests are answered\n")
        );
        assert_eq!(server.ended().code(), Some(0));
    }
}

#[test]
fn a_reload_in_an_upgrade_is_refused_and_systemd_does_not_wait_for_its_end() {
    let installed = Replaceable::new("reuseport-server");
    let log = &installed.log;
    let (mut server, manager) = Manager::of_command(installed.command(&["--workers", "1"]));
    manager.until("READY=1");
    let worker = server.workers()[0];
    stop(worker); // it gives its socket to nobody: the upgrade takes as long as the new server waits
    server.signal(Signal::SIGUSR2);
    let begins = "starting a new server to take over";
    wait_for("the upgrade", || log.text().contains(begins).then_some(()));
    manager.is_told_of_a_reload(&server);
    let ready = manager.next();
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    assert!(ready.contains("no reload: an upgrade is in progress"), "{ready}");
    wait_for("the line", || log.text().contains("signal ignored: an upgrade").then_some(()));
    server.signal(Signal::SIGTERM); // before the worker goes on, or the new server would serve
    manager.until("STOPPING=1");
    send(worker, Signal::SIGCONT);
    assert_eq!(server.ended().code(), Some(0), "both have ended");
    assert!(!log.text().contains("reloading"), "{}", log.text());
}

#[test]
fn the_watchdog_hears_of_the_parent_twice_as_often_as_it_must() {
    let _quiet = quiet();
    for name in SERVERS {
        let (server, manager) = Manager::of(name, &[], &[("WATCHDOG_USEC", "400000")]);
        manager.until("READY=1");
        manager.until("WATCHDOG=1");
        let start = Instant::now();
        for _ in 0..10 {
            manager.until("WATCHDOG=1");
        }
        // Two seconds, less what those may have come late that were told before.
        assert!(start.elapsed() > Duration::from_millis(1200), "{:?}", start.elapsed());
        // A parent that stands still is not alive. What it had told until then is not counted.
        stop(server.pid());
        let mut text = [0; 100];
        manager.socket.set_nonblocking(true).unwrap();
        while manager.socket.recv(&mut text).is_ok() {}
        manager.socket.set_nonblocking(false).unwrap();
        manager.socket.set_read_timeout(Some(Duration::from_millis(800))).unwrap();
        assert!(uninterrupted(|| manager.socket.recv(&mut text)).is_err(), "it stands still");
        server.signal(Signal::SIGCONT);
        manager.socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        manager.until("WATCHDOG=1");

        let other = [("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")];
        let (_server, manager) = Manager::of(name, &[], &other);
        manager.until("READY=1");
        manager.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(
            uninterrupted(|| manager.socket.recv(&mut text)).is_err(),
            "that is for another process"
        );
    }
}
