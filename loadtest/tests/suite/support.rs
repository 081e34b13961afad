//! What every test needs: the programs, a server that ends with its test, and waiting for things.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::kernel::sock_diag;
use common::scoreboard::Scoreboard;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::{FDTarget, Process, all_processes};

/// Both servers, for what must hold for either.
pub const SERVERS: [&str; 2] = ["shared-fd-server", "reuseport-server"];

/// Far beyond what anything here takes: who waits this long waits in vain.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A program of this workspace; all lie in the folder of loadtest's.
pub fn program(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_loadtest")).with_file_name(name);
    assert!(
        path.exists(),
        "{} is missing: `cargo build --workspace --examples --bins` first",
        path.display()
    );
    path
}

/// A copy of a program, in a folder of its own, that any user can start.
pub fn copy_for_all(folder: &Path, name: &str) -> PathBuf {
    std::fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    let copy = folder.join(name);
    // Not written by this process: one that another test starts meanwhile would have it open for
    // writing, and nobody could execute it (ETXTBSY).
    let copied = Command::new("cp").arg(program(name)).arg(&copy).status().unwrap();
    assert!(copied.success());
    std::fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    copy
}

/// Says on the terminal why a test did nothing; where everything must be there, that is a failure.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("NO_SKIPS").is_none(), "skipped: {reason}");
    let _ = writeln!(std::io::stderr(), "skipped: {reason}"); // past the test harness's capture
}

/// Whether the program of least-conn may be loaded here; says so if not.
pub fn may_load() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let effective = u64::from_str_radix(effective.trim(), 16).unwrap();
    let may = effective >> 38 & 3 == 3;
    if !may {
        skip("--steer least-conn needs CAP_BPF and CAP_PERFMON: run the tests as root");
    }
    may
}

/// Whether the long forms of tests are wanted.
pub fn soaking() -> bool {
    std::env::var_os("SOAK").is_some()
}

/// Waits until `look` finds something.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_up_to(PATIENCE, what, look)
}

/// The same for what takes long even when all is well.
pub fn wait_up_to<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < patience, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A running server that serves; it ends when the test does.
#[derive(Debug)]
pub struct Server {
    pub child: Child,
    /// What it printed at its start.
    pub lines: Vec<String>,
    pub scoreboard: Scoreboard,
}

impl Server {
    /// Starts a server on a port of the kernel's choice, unless the arguments name one.
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program(name));
        command.args(["--port", "0"]).args(arguments);
        Self::from(command)
    }

    /// Starts a server whose stderr is kept.
    pub fn start_with_log(name: &str, arguments: &[&str]) -> (Self, Log) {
        let log = Log::new();
        let mut command = Command::new(program(name));
        command.args(["--port", "0"]).args(arguments).stderr(log.file());
        (Self::from(command), log)
    }

    /// Starts the server that this command describes, in a process group of its own.
    pub fn from(command: Command) -> Self {
        Self::disturbed(command, |_| ())
    }

    /// The same, and does something to it while it starts.
    pub fn disturbed(mut command: Command, disturb: impl FnOnce(&Child)) -> Self {
        let mut child = command.stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        disturb(&child);
        let mut lines = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
            lines.push(line);
            let workers = lines.get(1).map_or("", String::as_str).split(' ').next();
            if workers.unwrap().parse::<usize>().is_ok_and(|workers| lines.len() == 2 + workers) {
                let scoreboard = Scoreboard::of_process(child.id()).unwrap_or_else(|error| {
                    child.kill().and_then(|()| child.wait()).expect("its end");
                    panic!("{error:#}: is the server of another build?")
                });
                return Self { child, lines, scoreboard };
            }
        }
        panic!("the server ended before it served: {:?}", child.wait());
    }

    pub fn address(&self) -> SocketAddr {
        self.scoreboard.address()
    }

    pub fn port(&self) -> String {
        self.address().port().to_string()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn workers(&self) -> Vec<u32> {
        self.scoreboard.workers().filter_map(|(_, slot)| slot.pid()).collect()
    }

    /// Whether other workers serve now, as many as these were.
    pub fn all_replaced(&self, before: &[u32]) -> Option<()> {
        let now = self.workers();
        let replaced = now.len() == before.len() && now.iter().all(|pid| !before.contains(pid));
        (replaced && self.scoreboard.is_serving()).then_some(())
    }

    /// Ends the server in the orderly way.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.ended().code(), Some(0));
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for the end.
    pub fn ended(&mut self) -> ExitStatus {
        wait_for("the server's end", || self.child.try_wait().unwrap())
    }
}

/// What a server said on stderr.
pub struct Log(tempfile::NamedTempFile);

impl Log {
    pub fn new() -> Self {
        Self(tempfile::NamedTempFile::new().unwrap())
    }

    /// The file to write to.
    pub fn file(&self) -> std::fs::File {
        self.0.reopen().unwrap()
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(self.0.path()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // the workers go with their parent
        let _ = self.child.wait();
    }
}

/// A free port that the kernel gives to nobody by itself (below its ephemeral range), for tests
/// that let go of a port and want it back.
pub fn free_port() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + (std::process::id() % 10_000) as u16;
    wait_for("a free port", || {
        let port = start + NEXT.fetch_add(1, Relaxed);
        TcpListener::bind(("127.0.0.1", port)).is_ok().then(|| port.to_string())
    })
}

/// Sends a signal to one process.
pub fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).unwrap();
}

/// Stops a process, and waits until each of its threads has stopped: one goes on for a moment.
pub fn stop(pid: u32) {
    send(pid, Signal::SIGSTOP);
    wait_for("its threads to stop", || {
        let tasks = Process::new(pid as i32).unwrap().tasks().unwrap().flatten();
        let states: Vec<char> = tasks.map(|task| task.stat().unwrap().state).collect();
        states.iter().all(|&state| state == 'T').then_some(())
    });
}

/// Whether a process runs: it exists and is not a zombie.
pub fn runs(pid: u32) -> bool {
    let stat = Process::new(pid as i32).and_then(|process| process.stat());
    stat.is_ok_and(|stat| stat.state != 'Z')
}

/// The pids of a process's children, in the order in which they were started; pids come round again.
pub fn children_of(pid: u32) -> Vec<u32> {
    let stats = all_processes().unwrap().flatten().filter_map(|process| process.stat().ok());
    let children = stats.filter(|stat| stat.ppid == pid as i32);
    let mut children: Vec<_> = children.map(|stat| (stat.starttime, stat.pid as u32)).collect();
    children.sort_unstable();
    children.into_iter().map(|(_, pid)| pid).collect()
}

/// The inodes of the listening sockets that a process has open, from /proc.
pub fn listening_sockets(pid: u32) -> BTreeSet<u64> {
    // Not from /proc/net/tcp, for which the kernel goes through all connections.
    let listening: BTreeSet<u64> =
        sock_diag::listeners(0).unwrap().into_iter().map(|it| it.inode).collect();
    open_sockets(pid).filter(|inode| listening.contains(inode)).collect()
}

/// How many connections a process has open that has one listening socket. What is left of closed ones in the
/// kernel's tables is not looked at, since that takes long after a load.
pub fn connections(pid: u32) -> usize {
    let unix: BTreeSet<u64> = procfs::net::unix().unwrap().into_iter().map(|s| s.inode).collect();
    open_sockets(pid).filter(|inode| !unix.contains(inode)).count().saturating_sub(1)
}

/// None, if the process has ended.
fn open_sockets(pid: u32) -> impl Iterator<Item = u64> {
    let open = Process::new(pid as i32).and_then(|process| process.fd());
    open.into_iter().flatten().flatten().filter_map(|fd| match fd.target {
        FDTarget::Socket(inode) => Some(inode),
        _ => None,
    })
}

/// Sends one request on a connection of its own and reads to the end.
pub fn ask(address: impl Into<SocketAddr>, request_line: &str) -> String {
    let address = address.into();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request =
        format!("{request_line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Runs a program to its end.
pub fn run(name: &str, arguments: &[&str]) -> Output {
    Command::new(program(name)).args(arguments).output().unwrap()
}

/// Asserts that a program refused: one line on stderr with these words, nothing else done.
pub fn assert_refused(output: &Output, words: &[&str], what: impl Debug) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{what:?} was accepted");
    assert_eq!(stderr.lines().count(), 1, "{what:?} should give one line: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{what:?} should name {word:?}: {stderr}");
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{what:?}");
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and fields.
    pub head: String,
    pub body: Vec<u8>,
}

/// A client's connection, for what no HTTP library would send.
#[derive(Debug)]
pub struct RawClient(BufReader<TcpStream>);

impl RawClient {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn stream(&self) -> &TcpStream {
        self.0.get_ref()
    }

    pub fn send(&self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream().write_all(bytes.as_ref())
    }

    /// The next answer; `None` if the connection has ended in good order instead.
    pub fn answer(&mut self) -> io::Result<Option<Answer>> {
        self.read_answer(true)
    }

    /// The next answer, to a request that forbids its body.
    pub fn answer_without_body(&mut self) -> io::Result<Option<Answer>> {
        self.read_answer(false)
    }

    fn read_answer(&mut self, with_body: bool) -> io::Result<Option<Answer>> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return if head.is_empty() { Ok(None) } else { Err(wrong("half an answer")) };
            }
        }
        let status = head.strip_prefix("HTTP/1.1 ").or(head.strip_prefix("HTTP/1.0 "));
        let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| wrong(&head))?;
        let field = |line: &str| line.strip_prefix("content-length: ").map(str::parse::<usize>);
        let length = head.lines().find_map(field).unwrap_or(Ok(0)).map_err(|_| wrong(&head))?;
        let mut body = vec![0; if with_body { length } else { 0 }];
        self.0.read_exact(&mut body)?;
        Ok(Some(Answer { status, head, body }))
    }
}
