//! A server whose workers are so busy that no look finds them waiting, and whose connections are too short for a look.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::foreign::has_python;
use crate::support::{children_of, free_port, skip, wait_for};

/// The user and the group of servers that are not root's.
pub const SOMEBODY: u32 = 54321;

/// The server and its clients, who ask all the time; all end with this.
pub struct Busy {
    server: Child,
    clients: Vec<JoinHandle<()>>,
    ends: Arc<AtomicBool>,
    pub port: String,
}

impl Busy {
    /// With so many workers besides the parent, for root or for somebody else. `None` without Python.
    pub fn start(workers: usize, is_roots: bool) -> Option<Self> {
        if !has_python() {
            skip("python3 is not installed");
            return None;
        }
        let port = free_port();
        let mut command = Command::new("python3");
        // Somebody else may not be able to read the file.
        command.args(["-c", include_str!("busy.py"), &port, &workers.to_string()]);
        if !is_roots && nix::unistd::geteuid().is_root() {
            command.uid(SOMEBODY).gid(SOMEBODY);
        }
        command.process_group(0).current_dir("/").stdout(Stdio::null());
        let server = command.spawn().unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
        let mut busy = Self { server, clients: Vec::new(), ends, port };
        wait_for("a server", || TcpStream::connect(address).ok());
        wait_for("its workers", || (busy.workers().len() == workers).then_some(()));
        let client = |_| {
            let ends = busy.ends.clone();
            thread::spawn(move || while !ends.load(Relaxed) && ask(address).is_ok() {})
        };
        busy.clients = (0..8).map(client).collect();
        Some(busy)
    }

    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    pub fn workers(&self) -> Vec<u32> {
        children_of(self.pid())
    }
}

fn ask(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        let _ = killpg(Pid::from_raw(self.pid() as i32), Signal::SIGKILL);
        let _ = self.server.wait();
        self.clients.drain(..).for_each(|client| drop(client.join()));
    }
}
