//! A kept connection with one request for any path of any server.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::kernel::uninterrupted::uninterrupted;

/// How long connecting, or an answer, may take: far longer than normal.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection with a request on its way, and the answer so far.
pub struct Asked {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Asked {
    /// Connects and sends a request for a path, without waiting for the answer.
    pub fn new(address: SocketAddr, path: &str) -> Result<Self> {
        let connected = TcpStream::connect_timeout(&address, PATIENCE);
        let mut stream = connected.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n");
        stream.write_all(request.as_bytes()).context("cannot send a request")?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Waits for the answer, of any length, and returns its body. If the server announces that it closes the
    /// connection, this end is closed at once, as clients do: gunicorn's sync worker waits for that.
    pub fn body(&mut self) -> Result<String> {
        loop {
            let text = String::from_utf8_lossy(&self.answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let lines = head.lines().filter_map(|line| line.split_once(':'));
                let mut length =
                    lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
                let length = length.next_back().and_then(|(_, text)| text.trim().parse().ok());
                let length: usize = length.context("the answer has no Content-Length")?;
                if body.len() >= length {
                    let body = body[..length].to_owned();
                    if head.to_ascii_lowercase().contains("\r\nconnection: close") {
                        let _ = self.stream.shutdown(Shutdown::Both); // it may be closed already
                    }
                    return Ok(body);
                }
            }
            let mut part = [0; 512];
            let length = uninterrupted(|| self.stream.read(&mut part)).context("no answer")?;
            ensure!(length > 0, "half an answer: {:?}", String::from_utf8_lossy(&self.answer));
            self.answer.extend_from_slice(&part[..length]);
        }
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
            let length = stream.read(&mut [0; 512]).unwrap();
            let (first, rest) = answer.as_bytes().split_at(answer.len() / 2);
            stream.write_all(first).and_then(|()| stream.write_all(rest)).unwrap();
            length
        });
        let body = Asked::new(address, "/pid").and_then(|mut asked| asked.body());
        assert!(server.join().unwrap() > "GET /pid HTTP/1.1".len());
        body
    }

    #[test]
    fn an_answer_is_read_to_the_length_that_it_has() {
        let head = "HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 4\r\n\r\n";
        assert_eq!(
            body(concat!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "1234")).unwrap(),
            "1234"
        );
        for (answer, reason) in [
            (head.to_owned() + "123", "half an answer"),
            ("HTTP/1.1 200 OK\r\n\r\n1234".into(), "no Content-Length"),
        ] {
            let refusal = body(answer.leak()).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{refusal}");
        }
    }
}
