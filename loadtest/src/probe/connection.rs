//! A single connection, opened by hand: for questions about which worker gets *which* connection.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::kernel::uninterrupted::uninterrupted;

use crate::probe::answer;

/// How long connecting, or an answer, may take: far longer than normal.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that is kept.
pub struct Connection(TcpStream);

impl Connection {
    /// Connects. The kernel completes the connection: the server need not have accepted it.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let connected = TcpStream::connect_timeout(&address, PATIENCE);
        let stream = connected.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Sends a request for a path, without waiting for the answer.
    pub fn ask(&mut self, path: &str) -> Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n");
        self.0.write_all(request.as_bytes()).context("cannot send a request")
    }

    /// Waits for a good answer, of any length, and returns its body. If the server announces that it closes the
    /// connection, this end is closed at once, as clients do: gunicorn's sync worker waits for that.
    pub fn body(&mut self) -> Result<String> {
        let mut answer = Vec::new();
        loop {
            if let Some((used, head)) = answer::head(&answer).context("a wrong answer")? {
                let length = head.length.context("the answer has no Content-Length")?;
                if let Some(body) = answer[used..].get(..length as usize) {
                    if head.close {
                        let _ = self.0.shutdown(Shutdown::Both); // it may be closed already
                    }
                    return Ok(String::from_utf8_lossy(body).into_owned());
                }
            }
            let mut part = [0; 512];
            let length = uninterrupted(|| self.0.read(&mut part)).context("no answer")?;
            ensure!(length > 0, "half an answer: {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&part[..length]);
        }
    }

    /// Connects and sends a request for a path; waits for the answer and returns its body as well.
    pub fn served(address: SocketAddr, path: &str) -> Result<(Self, String)> {
        let mut connection = Self::open(address)?;
        connection.ask(path)?;
        let body = connection.body()?;
        Ok((connection, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// The body that is read from an answer in two parts.
    fn body(answer: &'static str) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = [0; 512];
            let length = stream.read(&mut request).unwrap();
            let (first, rest) = answer.as_bytes().split_at(answer.len() / 2);
            stream.write_all(first).and_then(|()| stream.write_all(rest)).unwrap();
            request[..length].starts_with(b"GET /pid HTTP/1.1\r\n")
        });
        let served = Connection::served(address, "/pid").map(|(_, body)| body);
        assert!(server.join().unwrap());
        served
    }

    #[test]
    fn an_answer_is_read_to_the_length_that_it_has() {
        let head = "HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 4\r\n\r\n";
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n1234").unwrap(), "1234");
        for (answer, reason) in [
            (head.to_owned() + "123", "half an answer"),
            ("HTTP/1.1 200 OK\r\n\r\n1234".into(), "neither a Content-Length"),
            ("HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\n1234".into(), "status is 500"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into(), "no Content-Length"),
        ] {
            let refusal = format!("{:#}", body(answer.leak()).unwrap_err());
            assert!(refusal.contains(reason), "{refusal}");
        }
    }
}
