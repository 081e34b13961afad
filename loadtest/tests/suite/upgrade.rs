//! Another program in a server's place (SIGUSR2), without losing a connection.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::kernel::uninterrupted::uninterrupted;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use procfs::process::all_processes;

use crate::load::Load;
use crate::support::{
    Log, RawClient, SERVERS, Server, ask, children_of, connections, listening_sockets, program,
    runs, send, stop, wait_for,
};

/// A server's program under a name that can be made to mean another. A link, since a program that is
/// written here may be refused as busy, while another test starts a process that has it open.
pub struct Replaceable {
    _folder: tempfile::TempDir,
    path: PathBuf,
    /// What the servers say on stderr.
    pub log: Log,
}

impl Replaceable {
    pub fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        symlink(program(name), &path).unwrap();
        Self { _folder: folder, path, log: Log::new() }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(["--port", "0"]).args(arguments).stderr(self.log.file());
        command
    }

    /// Has the name mean another program, as an installation may.
    fn replace(&self, program: impl AsRef<Path>) {
        let new = self.path.with_extension("new");
        symlink(program, &new).unwrap();
        std::fs::rename(&new, &self.path).unwrap();
    }
}

/// Ends the servers that were started by this name, also those that no test has got to know.
impl Drop for Replaceable {
    fn drop(&mut self) {
        let name = self.path.to_str().unwrap();
        for process in all_processes().unwrap().flatten() {
            if process.cmdline().is_ok_and(|words| words.first().is_some_and(|it| it == name)) {
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
        }
    }
}

/// Waits for the server that succeeds this one.
fn successor(server: &Server, log: &Log) -> u32 {
    wait_for("another server", || {
        let said = log.text();
        let pid = said.split("the server with pid ").nth(1)?.split(' ').next()?.parse().ok()?;
        (pid != server.pid()).then_some(pid)
    })
}

#[test]
fn sigusr2_replaces_the_program_without_losing_a_connection() {
    for name in SERVERS {
        for keep_alive in [false, true] {
            let installed = Replaceable::new(name);
            let mut server = Server::from(installed.command(&["--workers", "3"]));
            let (address, old) = (server.address(), server.workers());
            let sockets: Vec<_> = old.iter().map(|&worker| listening_sockets(worker)).collect();
            let load = Load::on(address, keep_alive);
            load.wait_for_more(200);
            installed.replace(program(name));
            server.signal(Signal::SIGUSR2);
            let new = successor(&server, &installed.log);
            assert_eq!(server.ended().code(), Some(0), "{name}");
            assert!(old.iter().all(|&worker| !runs(worker)));
            load.wait_for_more(500);
            assert_eq!(load.end(), Vec::<String>::new(), "{name}, kept: {keep_alive}");
            let workers = children_of(new);
            assert_eq!(workers.len(), 3, "{name}");
            let mut taken: Vec<_> = workers.iter().map(|&it| listening_sockets(it)).collect();
            taken.sort();
            let mut given = sockets;
            given.sort();
            assert_eq!(taken, given, "{name}: the very sockets");
            send(new, Signal::SIGTERM);
            wait_for("its end", || (!runs(new)).then_some(()));
        }
    }
}

#[test]
fn a_worker_that_has_two_sockets_gives_both_and_the_new_server_gives_one_to_the_next_worker() {
    let installed = Replaceable::new("reuseport-server");
    let mut server = Server::from(installed.command(&["--workers", "3"]));
    let of = |pids: Vec<u32>| -> Vec<_> {
        let mut all: Vec<_> = pids.into_iter().map(listening_sockets).collect();
        all.sort();
        all
    };
    let load = Load::on(server.address(), false);
    load.wait_for_more(200);
    server.signal(Signal::SIGTTOU);
    wait_for("two workers", || (server.workers().len() == 2).then_some(()));
    let given = of(server.workers());
    let port: BTreeSet<u64> = given.iter().flatten().copied().collect();
    assert_eq!(port.len(), 3, "{given:?}");
    server.signal(Signal::SIGUSR2);
    let new = successor(&server, &installed.log);
    assert_eq!(server.ended().code(), Some(0));
    assert_eq!(of(children_of(new)), given, "the very sockets");
    load.wait_for_more(500);
    send(new, Signal::SIGTTIN);
    let taken = wait_for("three workers that have one each", || {
        let taken = of(children_of(new));
        let is_over = taken.len() == 3 && taken.iter().all(|it| it.len() == 1);
        assert!(taken.iter().flatten().all(|it| port.contains(it)), "a new one: {taken:?}");
        is_over.then_some(taken)
    });
    assert_eq!(taken.into_iter().flatten().collect::<BTreeSet<_>>(), port);
    load.wait_for_more(200);
    assert_eq!(load.end(), Vec::<String>::new());
    send(new, Signal::SIGTERM);
    wait_for("its end", || (!runs(new)).then_some(()));
}

#[test]
fn a_server_that_ends_before_it_serves_does_not_wait_for_sockets_of_a_worker_that_stands_still() {
    let installed = Replaceable::new("reuseport-server");
    let server = Server::from(installed.command(&["--workers", "2"]));
    let old = server.workers();
    stop(old[1]);
    server.signal(Signal::SIGUSR2);
    let new = wait_for("the other server", || {
        children_of(server.pid()).into_iter().find(|pid| !old.contains(pid))
    });
    wait_for("its workers", || (children_of(new).len() == 2).then_some(()));
    let start = Instant::now();
    send(new, Signal::SIGTERM);
    wait_for("its end", || (!runs(new)).then_some(()));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    send(old[1], Signal::SIGCONT);
    let goes_on = "the upgrade failed and this server keeps serving";
    wait_for("the line", || installed.log.text().contains(goes_on).then_some(()));
    assert_eq!(server.workers(), old);
    server.stop();
}

#[test]
fn a_server_goes_on_when_the_other_does_not_come_up() {
    for name in SERVERS {
        let installed = Replaceable::new(name);
        let server = Server::from(installed.command(&["--workers", "2"]));
        let workers = server.workers();
        let load = Load::on(server.address(), false);
        let told = |what: &str| {
            wait_for("the line", || installed.log.text().contains(what).then_some(()));
            load.wait_for_more(100);
            assert_eq!(server.workers(), workers, "{name}");
        };
        installed.replace("/bin/false");
        server.signal(Signal::SIGUSR2);
        told("the upgrade failed and this server keeps serving: it exited with status 1");
        installed.replace("/dev/null/no-program");
        server.signal(Signal::SIGUSR2);
        told("cannot start ");
        assert_eq!(load.end(), Vec::<String>::new(), "{name}");
        server.signal(Signal::SIGHUP);
        wait_for("a reload", || installed.log.text().contains("reloaded").then_some(()));
        assert!(ask(server.address(), "GET /").ends_with("hello"));
        server.stop();
    }
}

#[test]
fn the_number_of_workers_and_the_scoreboard_go_with_it_and_systemd_is_told() {
    for name in SERVERS {
        let installed = Replaceable::new(name);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let notified = UnixDatagram::bind(&path).unwrap();
        notified.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let board = folder.path().join("board");
        let mut command =
            installed.command(&["--workers", "1", "--scoreboard", board.to_str().unwrap()]);
        command.env("NOTIFY_SOCKET", &path);
        let mut server = Server::from(command);
        server.signal(Signal::SIGTTIN);
        wait_for("two workers", || {
            (server.workers().len() == 2 && server.scoreboard.is_serving()).then_some(())
        });
        server.signal(Signal::SIGUSR2);
        let new = successor(&server, &installed.log);
        assert_eq!(server.ended().code(), Some(0), "{name}");
        assert_eq!(children_of(new).len(), 2, "{name}");
        let mut told = String::new();
        let main = format!("MAINPID={new}");
        while !told.contains(&main) {
            let mut text = [0; 200];
            let length = uninterrupted(|| notified.recv(&mut text)).unwrap();
            told += &String::from_utf8_lossy(&text[..length]);
        }
        assert!(!told.contains("STOPPING"), "{told}");
        assert!(board.exists(), "{name}");
        assert!(ask(server.address(), "GET /").ends_with("hello"));
        send(new, Signal::SIGTERM);
        wait_for("its end", || (!runs(new)).then_some(()));
    }
}

#[test]
fn a_server_that_ends_in_an_upgrade_waits_until_the_other_has_answered_what_it_accepted() {
    ended_in_an_upgrade(|server| server.signal(Signal::SIGTERM));
}

#[test]
fn a_terminal_that_ends_both_in_an_upgrade_does_not_tell_the_other_twice() {
    ended_in_an_upgrade(|server| {
        killpg(Pid::from_raw(server.pid() as i32), Signal::SIGINT).unwrap();
    });
}

#[test]
fn whoever_ends_both_in_an_upgrade_one_after_the_other_does_not_tell_the_other_twice() {
    ended_in_an_upgrade(|server| {
        let children = children_of(server.pid());
        let new = children.into_iter().find(|&pid| !children_of(pid).is_empty()).unwrap();
        let workers = children_of(new);
        server.signal(Signal::SIGTERM);
        let listen = || workers.iter().any(|&pid| !listening_sockets(pid).is_empty());
        wait_for("the old server to tell the other", || (!listen()).then_some(()));
        // As systemd does with each process of a unit; late, as where cores are busy.
        std::thread::sleep(Duration::from_millis(1100));
        send(new, Signal::SIGTERM);
    });
}

/// Whether an epoll instance of a process watches this socket.
fn watches(pid: u32, socket: u64) -> bool {
    let watched = format!("ino:{socket:x} ");
    let infos = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let mut texts = infos.filter_map(|info| std::fs::read_to_string(info.path()).ok());
    texts.any(|text| text.contains(&watched))
}

fn ended_in_an_upgrade(end: impl Fn(&Server)) {
    let installed = Replaceable::new("reuseport-server");
    let mut server = Server::from(installed.command(&["--workers", "2"]));
    let old = server.workers();
    let socket = listening_sockets(old[0]).into_iter().next().unwrap();
    // It gives its socket to nobody: so one worker of the other server serves, and the server does not yet.
    send(old[1], Signal::SIGSTOP);
    server.signal(Signal::SIGUSR2);
    let new = wait_for("the other server", || {
        children_of(server.pid()).into_iter().find(|pid| !old.contains(pid))
    });
    // To have the socket is not enough: it serves only when the old worker has told it that there is no other.
    let worker = wait_for("its first worker", || {
        children_of(new).into_iter().find(|&pid| watches(pid, socket))
    });
    send(old[0], Signal::SIGSTOP); // the connections to its socket are the other worker's now
    let mut client = wait_for("a request there", || {
        let client = RawClient::connect(server.address());
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n").unwrap();
        std::thread::sleep(Duration::from_millis(50)); // it may be in the queue of the other socket
        (connections(worker) == 1).then_some(client)
    });
    end(&server);
    old.iter().for_each(|&pid| send(pid, Signal::SIGCONT));
    wait_for("the old workers' end", || (!old.iter().any(|&pid| runs(pid))).then_some(()));
    std::thread::sleep(Duration::from_millis(100)); // in which it would be killed
    client.send("1").unwrap();
    let answer = client.answer().unwrap().expect("an answer");
    assert_eq!(answer.status, 405, "{}", answer.head);
    assert_eq!(server.ended().code(), Some(0));
    assert!(!runs(new), "nobody is left");
}
