//! Clients in the test itself, for what must not be lost.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use common::kernel::uninterrupted::uninterrupted;

use crate::support::wait_for;

/// Clients that ask without a pause until told to stop; they count every request that is not
/// answered as it should be.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    /// Microseconds that a client waits after each answer.
    pause: Arc<AtomicU64>,
    clients: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Load {
    pub const CLIENTS: usize = 8;

    /// Each client has one connection at a time.
    pub fn on(address: SocketAddr, keep_alive: bool) -> Self {
        Self::over(address, Self::CLIENTS, keep_alive)
    }

    /// Over so many connections, which each client uses in turn.
    pub fn over(address: SocketAddr, connections: usize, keep_alive: bool) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let pause = Arc::new(AtomicU64::new(0));
        let client = |_| {
            let (stop, answered, pause) = (stop.clone(), answered.clone(), pause.clone());
            thread::spawn(move || {
                let mut lost = Vec::new();
                let mut kept: Vec<Option<TcpStream>> = Vec::new();
                kept.resize_with(connections / Self::CLIENTS, || None);
                for turn in (0..kept.len()).cycle() {
                    if stop.load(Relaxed) {
                        break;
                    }
                    match request(address, &mut kept[turn], keep_alive) {
                        Ok(()) => _ = answered.fetch_add(1, Relaxed),
                        Err(error) => {
                            kept[turn] = None;
                            lost.push(error.to_string());
                        }
                    }
                    match pause.load(Relaxed) {
                        0 => {}
                        pause => thread::sleep(Duration::from_micros(pause)),
                    }
                }
                lost
            })
        };
        let clients = (0..Self::CLIENTS).map(client).collect();
        Self { stop, answered, pause, clients }
    }

    /// From now on about so many requests a second, all clients together.
    pub fn slow_down_to(&self, per_second: u64) {
        self.pause.store(Self::CLIENTS as u64 * 1_000_000 / per_second, Relaxed);
    }

    /// From now on without a pause again.
    pub fn speed_up(&self) {
        self.pause.store(0, Relaxed);
    }

    /// Waits for so many more answers, as long as any come.
    pub fn wait_for_more(&self, requests: u64) {
        let end = self.answered.load(Relaxed) + requests;
        while self.answered.load(Relaxed) < end {
            let seen = self.answered.load(Relaxed);
            wait_for("more answers", || (self.answered.load(Relaxed) > seen).then_some(()));
        }
    }

    /// Ends the load; gives what was lost.
    pub fn end(self) -> Vec<String> {
        self.stop.store(true, Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

/// One request, on a connection of its own or on the one that is kept.
pub fn request(
    address: SocketAddr,
    connection: &mut Option<TcpStream>,
    keep_alive: bool,
) -> std::io::Result<()> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => TcpStream::connect(address)?,
    };
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let close = if keep_alive { "" } else { "Connection: close\r\n" };
    // In one piece: of several small ones the last would wait for an ACK.
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: x\r\n{close}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 512];
    while !answer.ends_with(b"\r\n\r\nhello") {
        match uninterrupted(|| stream.read(&mut part))? {
            0 => return Err(std::io::Error::from(ErrorKind::UnexpectedEof)),
            n => answer.extend(&part[..n]),
        }
    }
    let says_close = String::from_utf8_lossy(&answer).contains("connection: close");
    if keep_alive && !says_close {
        *connection = Some(stream);
    }
    Ok(())
}
