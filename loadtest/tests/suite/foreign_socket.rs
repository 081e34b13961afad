//! Somebody else on the server's port: the parent says who, and once more when it is over.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use nix::libc::{sock_filter, sock_fprog};
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};
use socket2::{Domain, Socket, Type};

use crate::steer::quiet;
use crate::support::{Log, PATIENCE, SERVERS, Server, ask, may_load, send, skip, wait_for};

/// What a healthy server never says.
const WORDS: [&str; 4] = ["with its own socket", "go there", "is gone", "has replaced it"];

/// Whether a process can be made that a server sees; says so if not.
fn can_intrude() -> bool {
    let can =
        !nix::unistd::geteuid().is_root() || Command::new("setpriv").arg("-V").output().is_ok();
    if !can {
        skip("setpriv is needed to give up capabilities");
    }
    can
}

/// A socket that shares its port, as any program of the same user can make one. It does not listen yet.
fn intrude(ip: IpAddr, port: u16) -> Socket {
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

/// A process that keeps this socket, in the place of this one: without capabilities, because those of root's that
/// have some are not shown to a server that has none.
struct Intruder(Child);

impl Intruder {
    /// Has the process listen. It is told once, by the name that it has when it is found, so it must be itself
    /// by then: until exec it is this test, and as root's it is setpriv before it is sleep.
    fn new(socket: Socket) -> Self {
        let own = socket.try_clone().unwrap();
        let is_root = nix::unistd::geteuid().is_root();
        let mut command = Command::new(if is_root { "setpriv" } else { "sleep" });
        if is_root {
            command.args(["--bounding-set", "-all", "--inh-caps", "-all", "sleep"]);
        }
        let intruder = Self(command.arg("1000").stdin(OwnedFd::from(socket)).spawn().unwrap());
        let comm = format!("/proc/{}/comm", intruder.0.id());
        wait_for("sleep", || {
            (std::fs::read_to_string(&comm).unwrap().trim() == "sleep").then_some(())
        });
        own.listen(64).unwrap();
        intruder
    }

    /// As it is to be named.
    fn name(&self) -> String {
        format!("sleep (pid {})", self.0.id())
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn is_told(log: &Log, words: &[&str]) -> bool {
    log.text().lines().any(|line| words.iter().all(|word| line.contains(word)))
}

#[track_caller]
fn wait_until_told(log: &Log, words: &[&str]) {
    wait_for(&format!("{words:?}"), || is_told(log, words).then_some(()));
}

#[test]
fn a_socket_in_the_group_is_told_with_its_process_and_again_when_it_is_gone() {
    let _quiet = quiet();
    if !can_intrude() {
        return;
    }
    let (server, log) = Server::start_with_log("reuseport-server", &["--workers", "2"]);
    let address = server.address();
    let intruder = Intruder::new(intrude(address.ip(), address.port()));
    wait_until_told(&log, &["WARN", &intruder.name(), &format!("also listens on {address}")]);
    drop(intruder);
    wait_until_told(&log, &["other socket", &address.to_string(), "is gone"]);
    assert_eq!(log.text().matches("with its own socket").count(), 1, "{}", log.text());
}

#[test]
fn a_socket_on_a_more_specific_address_is_told_with_its_process() {
    let _quiet = quiet();
    if !can_intrude() {
        return;
    }
    let (server, log) =
        Server::start_with_log("reuseport-server", &["--workers", "2", "--host", "0.0.0.0"]);
    let socket = intrude([127, 0, 0, 1].into(), server.address().port());
    let address = socket.local_addr().unwrap().as_socket().unwrap().to_string();
    let intruder = Intruder::new(socket);
    wait_until_told(&log, &["WARN", &intruder.name(), &address, "not to this server"]);
    drop(intruder);
    wait_until_told(&log, &["other socket", &address, "is gone"]);
}

#[test]
fn a_socket_on_all_addresses_does_no_harm_to_a_server_on_one() {
    let _quiet = quiet();
    if !can_intrude() {
        return;
    }
    let (server, log) = Server::start_with_log("reuseport-server", &["--workers", "2"]);
    let intruder = Intruder::new(intrude([0, 0, 0, 0].into(), server.address().port()));
    wait_until_told(&log, &["INFO", &intruder.name(), "come to this server"]);
    assert!(!log.text().contains("WARN"), "{}", log.text());
}

/// Steers the group on this address by another program, for as long as nobody attaches the first one again.
pub fn replace_program(address: SocketAddr) -> Socket {
    let intruder = intrude(address.ip(), address.port());
    intruder.listen(64).unwrap();
    // It gives the first or the second socket of the group, by chance (SKF_AD_RANDOM): both are workers'.
    let step = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    let mut program = [step(0x20, 0xffff_f038), step(0x54, 1), step(0x16, 0)];
    let program = sock_fprog { len: 3, filter: program.as_mut_ptr() };
    setsockopt(&intruder, AttachReusePortCbpf, &program).unwrap();
    intruder
}

#[test]
fn a_program_that_was_replaced_is_attached_again() {
    let _quiet = quiet();
    if !may_load() {
        return;
    }
    let (server, log) = Server::start_with_log(
        "reuseport-server",
        &["--workers", "4", "--steer", "least-conn", "--affinity", "free"],
    );
    let address = server.address();
    let steered =
        || server.scoreboard.workers().map(|(_, slot)| slot.steered.load(Relaxed)).sum::<u64>();
    ask(address, "GET /");
    let _intruder = replace_program(address);
    let begin = Instant::now();
    let told = ["WARN", "another program has replaced it", "attaching it again"];
    while !is_told(&log, &told) {
        assert!(begin.elapsed() < PATIENCE, "{}", log.text());
        ask(address, "GET /");
        std::thread::sleep(Duration::from_millis(20));
    }
    wait_until_told(&log, &["INFO", "steering program is attached again"]);
    let before = steered();
    for _ in 0..10 {
        ask(address, "GET /");
    }
    wait_for("connections to be steered again", || (steered() >= before + 10).then_some(()));
}

#[test]
fn a_socket_that_is_needed_to_attach_the_program_again_is_no_end_for_a_worker_that_leaves() {
    let _quiet = quiet();
    if !may_load() {
        return;
    }
    let (server, log) = Server::start_with_log(
        "reuseport-server",
        &["--workers", "2", "--steer", "least-conn", "--affinity", "free"],
    );
    let address = server.address();
    ask(address, "GET /");
    let leaving = server.workers()[1];
    let intruder = replace_program(address);
    // It cannot give its socket to the other worker now, of which the parent asks another one meanwhile.
    send(leaving, Signal::SIGSTOP);
    server.signal(Signal::SIGTTOU);
    let mut waiting = Vec::new();
    wait_for("another socket to be asked for", || {
        waiting.push(TcpStream::connect(address));
        is_told(&log, &["attaching it again"]).then_some(())
    });
    send(leaving, Signal::SIGCONT);
    drop(intruder);
    wait_for("its end", || (server.workers().len() == 1).then_some(()));
    server.signal(Signal::SIGHUP);
    wait_until_told(&log, &["reloaded"]);
}

#[test]
fn of_a_healthy_server_nothing_is_told() {
    let _quiet = quiet();
    let mut servers = Vec::new();
    for name in SERVERS {
        servers.push(Server::start_with_log(name, &["--workers", "3"]));
        servers.push(Server::start_with_log(name, &["--workers", "3", "--host", "0.0.0.0"]));
    }
    if may_load() {
        servers.push(Server::start_with_log("reuseport-server", &["--steer", "least-conn"]));
    }
    let signals = [
        Signal::SIGHUP,
        Signal::SIGTTIN,
        Signal::SIGHUP,
        Signal::SIGTTOU,
        Signal::SIGTTOU,
        Signal::SIGHUP,
    ];
    for signal in signals {
        for (server, _) in &servers {
            server.signal(signal);
        }
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(700) {
            for (server, _) in &servers {
                ask(([127, 0, 0, 1], server.address().port()), "GET /");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    std::thread::sleep(Duration::from_millis(1500)); // two looks
    for (_, log) in &servers {
        let text = log.text();
        assert!(!WORDS.iter().any(|word| text.contains(word)), "{text}");
    }
}
