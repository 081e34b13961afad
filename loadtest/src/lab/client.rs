//! Single connections and sockets, opened by hand: for experiments about which worker gets *which*
//! connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::kernel::uninterrupted::uninterrupted;
use socket2::{Domain, Socket, Type};

/// How long connecting, or an answer, may take: far longer than normal.
const PATIENCE: Duration = Duration::from_secs(5);

/// The end of every good answer.
const ANSWER: &[u8] = b"\r\n\r\nhello";

/// A connection that is kept.
pub struct Client(TcpStream);

impl Client {
    /// Connects. The kernel completes the connection: the server need not have accepted it.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let connected = TcpStream::connect_timeout(&address, PATIENCE);
        let stream = connected.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Sends a request.
    pub fn send(&mut self) -> Result<()> {
        self.0.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n").context("cannot send a request")
    }

    /// Waits for the answer. A different answer, or none within 5 s, is an error.
    pub fn answered(&mut self) -> Result<()> {
        let mut answer = Vec::new();
        while !answer.ends_with(ANSWER) {
            let mut part = [0; 512];
            let length = uninterrupted(|| self.0.read(&mut part)).context("no answer")?;
            ensure!(length > 0, "half an answer: {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&part[..length]);
        }
        Ok(())
    }

    /// Connects, sends a request, and waits for its answer.
    pub fn served(address: SocketAddr) -> Result<Self> {
        let mut client = Self::connect(address)?;
        client.send()?;
        client.answered()?;
        Ok(client)
    }
}

/// Opens this many connections, each with one request, and closes each before the next.
pub fn ask(address: SocketAddr, connections: usize) -> Result<()> {
    (0..connections).try_for_each(|_| Client::served(address).map(drop))
}

/// A bound socket, with SO_REUSEPORT or without, that does not listen yet. Port 0 means any port.
pub fn bound(address: SocketAddr, flag: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(flag)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn an_answer_is_read_to_its_end_and_half_of_one_is_an_error() {
        // Sends this answer to one client.
        let asked = |answer: &'static str| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            thread::spawn(move || {
                let mut stream = listener.accept().unwrap().0;
                let mut request = [0; 64];
                let length = stream.read(&mut request).unwrap();
                assert!(request[..length].starts_with(b"GET / HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            });
            ask(address, 1)
        };
        asked("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
        let refusal = asked("HTTP/1.1 500 No\r\n\r\nhell").unwrap_err();
        assert!(refusal.to_string().contains("half an answer"), "{refusal:#}");
    }
}
