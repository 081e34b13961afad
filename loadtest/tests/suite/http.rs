//! What RFC 9112 asks of a server, sections 2 to 7, in a table over raw sockets.
//!
//! A row expects what the RFC permits; where that is more than one thing, the row lists them all.
//! `by` names who decides: hyper, the app's router (axum), or this project ([`common::http::guard`] and
//! [`common::lesson::connection`]).

mod table;

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::{RawClient, SERVERS, Server};
use table::Then::{AsAnswered, Closed, Open};
use table::{BAD, GOOD, NOTHING, Row, chunked, post, table};

/// What is wrong with how a server treats this row, if anything.
fn judge(row: &Row, client: &mut RawClient) -> Result<(), String> {
    let nothing_is_fine = row.answers[0].contains(&NOTHING);
    match client.send(&row.bytes) {
        // It answered and closed before it had everything, as it may.
        Err(error) if row.then == Closed => drop(error),
        sent => sent.map_err(|error| format!("sending: {error}"))?,
    }
    let mut refused = false;
    for allowed in row.answers {
        match client.answer().map_err(|error| format!("reading: {error}"))? {
            Some(answer) if allowed.contains(&answer.status) => {
                refused = matches!(answer.status, 400 | 413 | 414 | 431 | 501 | 505);
            }
            Some(answer) => return Err(format!("{} instead of {allowed:?}", answer.status)),
            None if nothing_is_fine => {}
            None => return Err("closed without an answer".into()),
        }
    }
    if row.then == Open || (row.then == AsAnswered && !refused) {
        client.send(GOOD).map_err(|error| format!("the next request: {error}"))?;
        match client.answer() {
            Ok(Some(answer)) if answer.status == 200 && answer.body == b"hello" => Ok(()),
            other => Err(format!("the next request: {other:?}")),
        }
    } else {
        match client.answer() {
            Ok(None) => Ok(()),
            other => Err(format!("not closed: {other:?}")),
        }
    }
}

#[test]
fn messages_are_read_as_rfc_9112_asks() {
    let rows = table();
    for name in SERVERS {
        let server = Server::start(name, &[]);
        let mut wrong = String::new();
        for row in &rows {
            if let Err(how) = judge(row, &mut RawClient::connect(server.address())) {
                let bytes = row.bytes.escape_ascii().to_string();
                let (by, section, what) = (row.by, row.section, row.what);
                let bytes = &bytes[..bytes.len().min(200)];
                wrong += &format!("{section} ({by}) {what}: {how}\n    {bytes}\n");
            }
        }
        assert!(wrong.is_empty(), "{name}:\n{wrong}");
    }
}

#[test]
fn an_answer_to_head_has_no_body_and_the_next_one_follows() {
    for name in SERVERS {
        let server = Server::start(name, &[]);
        let mut client = RawClient::connect(server.address());
        client.send(format!("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n{GOOD}")).unwrap();
        let head = client.answer_without_body().unwrap().unwrap();
        assert_eq!(head.status, 200);
        assert!(head.head.contains("content-length: 5\r\n"), "{}", head.head);
        let get = client.answer().unwrap().unwrap();
        assert_eq!((get.status, &*get.body), (200, &b"hello"[..]));
    }
}

#[test]
fn many_requests_at_once_are_answered_in_order() {
    for name in SERVERS {
        let server = Server::start(name, &[]);
        let mut client = RawClient::connect(server.address());
        let request =
            |i: usize| format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", ["GET", "POST"][i % 2]);
        client.send((0..1000).map(request).collect::<String>()).unwrap();
        for i in 0..1000 {
            assert_eq!(client.answer().unwrap().unwrap().status, [200, 405][i % 2], "answer {i}");
        }
    }
}

/// Someone who says that nothing more will come still waits for what is due: `printf | nc -N`.
#[test]
fn a_client_that_has_closed_its_own_direction_is_answered() {
    for name in SERVERS {
        let server = Server::start(name, &[]);
        for (request, statuses) in [
            (GOOD.to_owned(), &[200][..]),
            (format!("{GOOD}{GOOD}{GOOD}"), &[200, 200, 200]),
            (post("Content-Length: 5", "hello"), &[405]),
            (chunked("5\r\nhello\r\n0\r\n\r\n"), &[405]),
            ("GET\r\n\r\n".to_owned(), &[400]),
        ] {
            let mut client = RawClient::connect(server.address());
            client.send(&request).unwrap();
            client.stream().shutdown(Shutdown::Write).unwrap();
            for &status in statuses {
                let answer = client.answer().unwrap().map(|answer| answer.status);
                assert_eq!(answer, Some(status), "{name}: {request}");
            }
            assert!(client.answer().unwrap().is_none(), "{name}: {request}");
        }
    }
}

#[test]
fn who_expects_100_continue_gets_it_or_the_refusal_at_once() {
    for name in SERVERS {
        let server = Server::start(name, &[]);
        let expect = |host: &str, length: u32| {
            let mut client = RawClient::connect(server.address());
            let fields = format!("{host}Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n");
            client.send(format!("POST / HTTP/1.1\r\n{fields}")).unwrap();
            let status = client.answer().unwrap().unwrap().status;
            (client, status)
        };
        let (mut client, status) = expect("Host: a\r\n", 5);
        assert_eq!(status, 100);
        client.send("hello").unwrap();
        assert_eq!(client.answer().unwrap().unwrap().status, 405);
        client.send(GOOD).unwrap();
        assert_eq!(client.answer().unwrap().unwrap().status, 200);
        // RFC 9110, 10.1.1: what is known from the head needs no body.
        for (host, length, refusal) in [("Host: a\r\n", 1_000_000, 413), ("", 5, 400)] {
            let (mut client, status) = expect(host, length);
            assert_eq!(status, refusal);
            assert!(client.answer().unwrap().is_none());
        }
        // HTTP/1.0 knows no 100.
        let mut client = RawClient::connect(server.address());
        let fields = "Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello";
        client.send(format!("POST / HTTP/1.0\r\n{fields}")).unwrap();
        assert_eq!(client.answer().unwrap().unwrap().status, 405);
    }
}

/// Nobody offers it.
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";

/// Closing a socket with unread data resets the connection, and after a reset a client's kernel may
/// forget the answer that it has already. So what follows the answer has to be an orderly end.
#[test]
fn a_refusal_reaches_a_client_that_goes_on_sending() {
    let rubbish = vec![b'b'; 64 * 1024];
    for name in SERVERS {
        let server = Server::start(name, &[]);
        for (what, start, answers) in [
            ("a request line", "GET /".to_owned(), &[&[414, 431, 400][..]][..]),
            ("a field", "GET / HTTP/1.1\r\nHost: a\r\nB: ".to_owned(), &[&[431, 400]]),
            ("a body", post("Content-Length: 10000000000", ""), &[&[413]]),
            ("chunks", chunked("FFFFFFFF\r\n"), &[&[413]]),
            ("no HTTP", "b\r\n\r\n".to_owned(), BAD),
            ("rubbish after a request", format!("{GOOD}b\r\n\r\n"), &[&[200], &[400]]),
            ("rubbish after a refused upgrade", format!("{UPGRADE}b\r\n\r\n"), &[&[200], &[400]]),
            ("rubbish without Host", "GET / HTTP/1.1\r\n\r\n".to_owned(), BAD),
            ("rubbish after chunks", chunked("0\r\n\r\n"), &[&[405], &[431, 400]]),
            ("a body for h2c", post("Upgrade: h2c\r\nContent-Length: 10000000000", ""), &[&[413]]),
        ] {
            let mut client = RawClient::connect(server.address());
            let mut sender = client.stream().try_clone().unwrap();
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    // For as long as the answer is on its way and for a while after.
                    let _ = std::io::Write::write_all(&mut sender, start.as_bytes());
                    while !done.load(Relaxed) {
                        if std::io::Write::write_all(&mut sender, &rubbish).is_err() {
                            return;
                        }
                    }
                });
                std::thread::sleep(Duration::from_millis(100)); // a reset has time to come first
                let seen: Vec<_> = answers.iter().map(|_| client.answer()).collect();
                let end = client.answer();
                done.store(true, Relaxed);
                let as_expected = seen.iter().zip(answers).all(|(seen, allowed)| {
                    matches!(seen, Ok(Some(answer)) if allowed.contains(&answer.status))
                });
                assert!(as_expected, "{name}, {what}: {seen:?}");
                assert!(matches!(end, Ok(None)), "{name}, {what}, after the answer: {end:?}");
            });
        }
    }
}

#[test]
fn a_refused_client_that_never_stops_is_let_go() {
    let rubbish = vec![b'b'; 64 * 1024];
    let server = Server::start("shared-fd-server", &[]);
    let client = RawClient::connect(server.address());
    client.send("no HTTP\r\n\r\n").unwrap();
    let start = Instant::now();
    while client.send(&rubbish).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(8), "still read");
    }
}
