//! Servers with something wrong, each made so on purpose, and healthy ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::kernel::sock_diag::details;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use crate::foreign::{has_nginx, has_python};
use crate::support::{
    Server, ask, children_of, free_port, listening_sockets, may_load, program, send, wait_for,
};

/// A server, and what is done to it as long as this lives.
pub struct Case {
    pub port: u16,
    /// Where a process has to be named.
    pub pid: Option<u32>,
    /// The worker that is to be named.
    pub worker: Option<u32>,
    /// What is there until the end; the clients first.
    _clients: Vec<Clients>,
    _connections: Vec<Socket>,
    _intruder: Option<Killed>,
    pub server: Option<Server>,
    _other: Option<Killed>,
}

/// How a cause is made; `None` where this machine cannot.
pub type Make = fn() -> Option<Case>;

/// Every cause by its id.
pub const CAUSES: [(&str, Make); 12] = [
    ("one-takes-all", one_takes_all),
    ("uneven", uneven),
    ("herd", herd),
    ("stalled-worker", stalled_worker),
    ("queue-full", queue_full),
    ("queue-overflow", queue_overflow),
    ("backlog-capped", backlog_capped),
    ("foreign-socket", foreign_socket),
    ("shadowed", shadowed),
    ("other-family", other_family),
    ("flag-without-effect", flag_without_effect),
    ("old-workers-keep", old_workers_keep),
];

/// Healthy servers. Some have clients whose connections stay, some those that come and go, some none.
pub const HEALTHY: [(&str, Make); 10] = [
    ("own sockets, by the hash", || Some(Case::of(reuseport(&[])).with_clients(&[None]))),
    ("own sockets, coming and going", || Some(Case::of(reuseport(&[])).with_askers())),
    ("own sockets, least-conn", || {
        may_load().then(|| Case::of(reuseport(&["--steer", "least-conn"])).with_clients(&[None]))
    }),
    ("shared, accept(2)", || Some(Case::of(shared(&["--accept", "blocking"])).with_askers())),
    ("shared, least-conn", || {
        Some(Case::of(shared(&["--accept", "least-conn"])).with_clients(&[None]))
    }),
    ("shared, epoll, idle", || Some(Case::of(shared(&[])))),
    ("own sockets, idle", || Some(Case::of(reuseport(&["--workers", "16"])))),
    // Of more connections the worker that sleeps last gets nearly all, which is told as an `info`.
    ("nginx, hardly asked", || nginx("nginx --workers 3", 10)),
    ("nginx reuseport", || nginx("nginx --workers 3 --reuseport", 200)),
    ("Python, own sockets, coming and going", || Some(python("reuseport")?.with_askers())),
];

/// nginx with so many requests a second, each on a connection of its own. The prober starts it.
fn nginx(server: &str, rate: u64) -> Option<Case> {
    if !has_nginx() {
        return None;
    }
    let mut command = Command::new(program("loadtest"));
    command.args(["probe", server, "--duration", "10m", "--rate", &rate.to_string()]);
    let probe = start(&mut command);
    let master = wait_for("nginx and its workers", || {
        let keeper = *children_of(probe.0.id()).first()?;
        (children_of(keeper).len() == 3).then_some(keeper)
    });
    let port = wait_for("its port", || port_of(master));
    Some(Case { pid: Some(master), _other: Some(probe), ..Case::at(port) })
}

/// The pre-fork server in Python that lies beside these tests. Its helper, which only has a socket open, comes
/// last.
fn python(mode: &str) -> Option<Case> {
    if !has_python() {
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/prefork.py");
    let port = free_port();
    let server = start(Command::new("python3").arg(script).args([&port, "3", mode]));
    let pid = server.0.id();
    wait_for("three workers and a helper", || (children_of(pid).len() == 4).then_some(()));
    let port = port.parse().unwrap();
    wait_for("an answer", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
    Some(Case { pid: Some(pid), _other: Some(server), ..Case::at(port) })
}

/// A server in a group of its own, so that its workers and helpers end with it.
pub fn start(command: &mut Command) -> Killed {
    command.process_group(0);
    Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// The port on which a process listens.
fn port_of(pid: u32) -> Option<u16> {
    let inode = *listening_sockets(pid).first()?;
    let all = details(0).ok()?;
    Some(all.iter().find(|it| it.listener.inode == inode)?.listener.address.port())
}

fn reuseport(arguments: &[&str]) -> Server {
    Server::start("reuseport-server", arguments)
}

fn shared(arguments: &[&str]) -> Server {
    Server::start("shared-fd-server", arguments)
}

impl Case {
    pub fn of(server: Server) -> Self {
        Self { server: Some(server), ..Self::at(0) }.with_port()
    }

    fn at(port: u16) -> Self {
        Self {
            port,
            pid: None,
            worker: None,
            _clients: Vec::new(),
            _connections: Vec::new(),
            _intruder: None,
            server: None,
            _other: None,
        }
    }

    fn with_port(mut self) -> Self {
        self.port = self.server().address().port();
        self
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Clients that open connections all the time and keep them, each on such a core.
    fn with_clients(mut self, cores: &[Option<usize>]) -> Self {
        let address = (Ipv4Addr::LOCALHOST, self.port).into();
        self._clients.extend(cores.iter().map(|&core| Clients::start(address, core, true)));
        self
    }

    /// Clients that ask all the time, with a connection for each request.
    fn with_askers(mut self) -> Self {
        self._clients.push(Clients::start((Ipv4Addr::LOCALHOST, self.port).into(), None, false));
        self
    }

    /// Connections that are opened now, as far as the server lets them in.
    fn with_connections(mut self, count: usize) -> Self {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, self.port).into();
        for _ in 0..count {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            self._connections.push(socket);
        }
        self
    }

    fn with_intruder(mut self, ip: impl Into<IpAddr>) -> Self {
        let socket = intrude(ip.into(), self.port);
        let mut command = Command::new("sleep");
        command.arg("1000").stdin(OwnedFd::from(socket));
        self._intruder = Some(Killed(command.spawn().unwrap()));
        self
    }

    /// Stops one of its workers.
    fn with_a_stopped_worker(mut self) -> Self {
        let worker = self.server().workers()[0];
        send(worker, Signal::SIGSTOP);
        wait_for("it to stop", || (state(worker) == 'T').then_some(()));
        self.worker = Some(worker);
        self
    }
}

fn state(pid: u32) -> char {
    procfs::process::Process::new(pid as i32).unwrap().stat().unwrap().state
}

/// A listening socket that shares its port, and is for its family alone.
fn intrude(ip: IpAddr, port: u16) -> TcpListener {
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    if ip.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(64).unwrap();
    socket.into()
}

/// A process that is killed at the end, with all of its group if it leads one.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Not waited for yet, so the number is still its own. It fails for one that leads no group.
        let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A thread that opens connections until this is dropped.
struct Clients(Arc<AtomicBool>, Option<JoinHandle<()>>);

/// Connections are opened so often, and so many of them are kept.
const EVERY: Duration = Duration::from_millis(4);
const MOST_KEPT: usize = 1500;

impl Clients {
    fn start(address: SocketAddr, core: Option<usize>, keeps: bool) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let seen = ends.clone();
        let thread = thread::spawn(move || {
            if let Some(core) = core {
                let mut cores = CpuSet::new();
                cores.set(core).unwrap();
                sched_setaffinity(Pid::from_raw(0), &cores).unwrap();
            }
            let mut kept = Vec::new();
            while !seen.load(Relaxed) && kept.len() < MOST_KEPT {
                match keeps {
                    true => kept.push(TcpStream::connect(address).unwrap()),
                    false => drop(ask(address, "GET /")),
                }
                thread::sleep(EVERY);
            }
            while !seen.load(Relaxed) {
                thread::sleep(EVERY);
            }
        });
        Self(ends, Some(thread))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        if let Some(thread) = self.1.take() {
            let _ = thread.join();
        }
    }
}

fn one_takes_all() -> Option<Case> {
    Some(Case::of(reuseport(&["--steer", "first"])).with_clients(&[None]))
}

/// The program gives a connection to the worker of the core that handles it, which is the client's: with
/// four workers on two cores two get all, and which part each gets depends on where clients are.
fn uneven() -> Option<Case> {
    let cores = thread::available_parallelism().unwrap().get();
    let case = || Case::of(reuseport(&["--steer", "cpu", "--workers", "4"]));
    (cores > 1).then(|| case().with_clients(&[Some(0), Some(1)]))
}

fn herd() -> Option<Case> {
    let cores = thread::available_parallelism().unwrap().get();
    let case = Case::of(shared(&["--workers", &(2 * cores + 8).to_string()]));
    Some(case.with_askers())
}

fn stalled_worker() -> Option<Case> {
    Some(Case::of(reuseport(&[])).with_a_stopped_worker().with_clients(&[None]))
}

fn queue_full() -> Option<Case> {
    let case = Case::of(reuseport(&["--workers", "1", "--backlog", "4"]));
    Some(case.with_a_stopped_worker().with_connections(5))
}

/// Those that find the queue full try again for minutes.
fn queue_overflow() -> Option<Case> {
    let case = Case::of(reuseport(&["--workers", "1", "--backlog", "4"]));
    Some(case.with_a_stopped_worker().with_connections(20))
}

/// In a network namespace of its own, and a process namespace, as in a container.
fn backlog_capped() -> Option<Case> {
    let script = "echo 16 > /proc/sys/net/core/somaxconn && exec \"$0\" --port 8080 --host 0.0.0.0";
    contained(script)
}

/// A server that a shell starts in namespaces of its own.
pub fn contained(script: &str) -> Option<Case> {
    let mut command = Command::new("unshare");
    command.args(["--net", "--pid", "--fork", "--kill-child", "sh", "-c", script]);
    command.arg(program("reuseport-server")).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Killed(command.spawn().ok()?);
    let output = child.0.stdout.take()?;
    let lines = std::io::BufRead::lines(std::io::BufReader::new(output));
    // A line for itself, one for its workers, and one for each.
    (lines.map_while(Result::ok).take(6).count() == 6).then(|| {
        let pid = Some(child.0.id());
        Case { pid, _other: Some(child), ..Case::at(8080) }
    })
}

fn foreign_socket() -> Option<Case> {
    Some(Case::of(reuseport(&[])).with_intruder(Ipv4Addr::LOCALHOST))
}

fn shadowed() -> Option<Case> {
    Some(Case::of(reuseport(&["--host", "0.0.0.0"])).with_intruder(Ipv4Addr::LOCALHOST))
}

fn other_family() -> Option<Case> {
    Some(Case::of(reuseport(&["--host", "0.0.0.0"])).with_intruder(Ipv6Addr::UNSPECIFIED))
}

/// As a server has it that sets the flag, binds once, and forks then.
fn flag_without_effect() -> Option<Case> {
    let socket = intrude(Ipv4Addr::LOCALHOST.into(), 0);
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(program("shared-fd-server")).stdin(OwnedFd::from(socket));
    Some(Case::of(Server::from(command)))
}

/// Connections that are kept, and two workers more, later.
fn old_workers_keep() -> Option<Case> {
    let case = Case::of(reuseport(&["--workers", "2"])).with_connections(60);
    thread::sleep(Duration::from_millis(2200)); // a generation, as the findings have it
    let server = case.server();
    for workers in [3, 4] {
        server.signal(Signal::SIGTTIN);
        wait_for("one more", || {
            (server.workers().len() == workers && server.scoreboard.is_serving()).then_some(())
        });
    }
    Some(case)
}
