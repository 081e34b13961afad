//! One request: connect, send, read, outcome.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::probe::answer;
use crate::probe::load::Target;
use crate::probe::outcome::Outcome;

/// On the loopback, connections come from this many addresses, 127.0.0.1 and up: each has its own ephemeral
/// ports, some 28 000 by default, and every connection that this side closes first occupies a port for a
/// minute.
const SOURCES: usize = 16;

/// How long the server may take to close a connection on which it has answered with `close`.
const GOODBYE_WITHIN: Duration = Duration::from_millis(100);

/// A finished request.
pub struct Asked {
    /// Its outcome.
    pub outcome: Outcome,
    /// What was wrong with a wrong answer.
    pub reason: Option<String>,
    /// Its connection, if it can carry another request, or the server has said that it closes it.
    pub stream: Option<TcpStream>,
    /// Whether the server has said so.
    pub closing: bool,
}

/// Sends one request, over the kept connection of an earlier request if it is still open, else over a new one.
/// `number` spreads the clients over the source addresses, and the requests over the paths of a mix.
///
/// A request that failed on a kept connection is lost, and not sent again: the purpose is to find out whether
/// a server loses requests.
/// Fails for a reason of this program's own, see [`Outcome::of`].
pub async fn ask(target: &Target, kept: Option<TcpStream>, number: usize) -> Result<Asked> {
    let ended = |outcome, reason| Asked { outcome, reason, stream: None, closing: false };
    let connected = match kept.filter(stands) {
        Some(stream) => Ok(stream),
        None => within(target.timeout, connect(target, number)).await,
    };
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(error) => return Ok(ended(Outcome::of(error, Outcome::TimedOutConnecting)?, None)),
    };
    Ok(match within(target.timeout, exchange(target, &mut stream, number)).await {
        Ok(closing) => Asked { stream: Some(stream), closing, ..ended(Outcome::Ok, None) },
        Err(error) => {
            let reason = error.to_string();
            let outcome = Outcome::of(error, Outcome::TimedOutAnswering)?;
            ended(outcome, (outcome == Outcome::WrongAnswer).then_some(reason))
        }
    })
}

/// Adds a time limit, which ends with the same error as the kernel's.
async fn within<T>(limit: Duration, action: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, action).await.unwrap_or_else(|_| Err(Errno::ETIMEDOUT.into()))
}

/// Waits until the server has closed a connection, as it said. The side that closes first keeps the port for a
/// minute (TIME_WAIT), and this side needs many ports.
pub async fn say_goodbye(mut stream: TcpStream) {
    // The result does not matter: the request has its answer.
    let _ = timeout(GOODBYE_WITHIN, stream.read(&mut [0; 64])).await;
}

/// Whether a kept connection is still open and silent. A server may close an idle connection, as any client must
/// expect; a request that was not sent yet is not lost by that.
fn stands(stream: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    let seen = SockRef::from(stream).peek(&mut byte);
    seen.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

async fn connect(target: &Target, number: usize) -> io::Result<TcpStream> {
    let socket = match target.address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if matches!(target.address.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
        // The kernel chooses the port at connect(2), when both addresses are known.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        let source = Ipv4Addr::new(127, 0, 0, 1 + (number % SOURCES) as u8);
        socket.bind((source, 0).into())?;
    }
    socket.connect(target.address).await
}

/// Sends the request and reads the answer. Returns whether the server will close the connection.
async fn exchange(target: &Target, stream: &mut TcpStream, number: usize) -> io::Result<bool> {
    stream.write_all(target.request(number)).await?;
    let mut stream = BufReader::with_capacity(4096, stream);
    answer::read(&mut stream, target.expect.as_deref()).await
}

/// A runtime of one thread: the prober waits only for sockets and clocks.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot watch sockets (epoll)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::load::Load;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

    fn target(listener: &TcpListener) -> Target {
        let load = Load {
            url: "http://here/".into(),
            expect: Some("hello".into()),
            keep_alive: true,
            timeout_ms: 200,
            ..Load::default()
        };
        Target::new(listener.local_addr().unwrap(), &load)
    }

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    fn read_request(stream: &mut std::net::TcpStream) {
        assert!(stream.read(&mut [0; 1000]).unwrap() > 0);
    }

    #[test]
    fn what_the_server_does_decides_the_outcome() {
        type Serve = fn(std::net::TcpStream);
        let cases: [(&str, Outcome, Serve); 7] = [
            ("a whole answer in two parts", Outcome::Ok, |mut stream| {
                read_request(&mut stream);
                stream.write_all(&ANSWER[..20]).unwrap();
                std::thread::sleep(Duration::from_millis(20));
                stream.write_all(&ANSWER[20..]).unwrap();
            }),
            ("no answer", Outcome::ClosedEarly, |mut stream| read_request(&mut stream)),
            ("a part of one", Outcome::ClosedEarly, |mut stream| {
                read_request(&mut stream);
                stream.write_all(&ANSWER[..20]).unwrap();
            }),
            ("all but a byte", Outcome::ClosedEarly, |mut stream| {
                read_request(&mut stream);
                stream.write_all(&ANSWER[..ANSWER.len() - 1]).unwrap();
            }),
            ("closing without having read", Outcome::Reset, |stream| {
                stream.peek(&mut [0]).unwrap(); // the request has come
            }),
            ("silence until the client gives up", Outcome::TimedOutAnswering, |mut stream| {
                read_request(&mut stream);
                while stream.read(&mut [0]).is_ok_and(|count| count > 0) {}
            }),
            ("an error status", Outcome::WrongAnswer, |mut stream| {
                read_request(&mut stream);
                stream.write_all(b"HTTP/1.1 503 No\r\n\r\n").unwrap();
            }),
        ];
        for (what, expected, serve) in cases {
            let listener = listener();
            let target = target(&listener);
            let server = std::thread::spawn(move || serve(listener.accept().unwrap().0));
            let asked = runtime().unwrap().block_on(ask(&target, None, 0)).unwrap();
            server.join().unwrap();
            assert_eq!(asked.outcome, expected, "{what}");
        }
    }

    #[test]
    fn a_port_without_a_listener_refuses_and_a_full_queue_times_out() {
        let listener = listener();
        let closed = target(&listener);
        drop(listener);
        // A child of another test may have it open until it has become its program.
        while std::net::TcpStream::connect(closed.address).is_ok() {}
        let asked = runtime().unwrap().block_on(ask(&closed, None, 5)).unwrap();
        assert_eq!(asked.outcome, Outcome::Refused);

        // A queue of one takes two; the third's handshake gets no answer.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(1).unwrap();
        let full_listener = TcpListener::from(socket);
        let full = target(&full_listener);
        let _queued: Vec<_> =
            (0..2).map(|_| std::net::TcpStream::connect(full.address).unwrap()).collect();
        let asked = runtime().unwrap().block_on(ask(&full, None, 0)).unwrap();
        assert_eq!(asked.outcome, Outcome::TimedOutConnecting);
    }

    #[test]
    fn a_kept_connection_that_was_closed_while_idle_is_opened_anew_and_one_that_ends_later_is_lost()
    {
        for (idle, expected) in [(true, Outcome::Ok), (false, Outcome::ClosedEarly)] {
            let listener = listener();
            let target = target(&listener);
            let server = std::thread::spawn(move || {
                let answered = || {
                    let mut stream = listener.accept().unwrap().0;
                    read_request(&mut stream);
                    stream.write_all(ANSWER).unwrap();
                    stream
                };
                let mut first = answered();
                if idle {
                    drop(first);
                    answered();
                } else {
                    read_request(&mut first);
                }
            });
            runtime().unwrap().block_on(async {
                let first = ask(&target, None, 0).await.unwrap();
                let stream = first.stream.filter(|_| !first.closing).expect("it should stay");
                while idle && stands(&stream) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                assert_eq!(ask(&target, Some(stream), 0).await.unwrap().outcome, expected);
            });
            server.join().unwrap();
        }
    }
}
