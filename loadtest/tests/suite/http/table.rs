//! The table: what a client sends, and what it may get.

use Then::*;

/// A request that is fine.
pub(super) const GOOD: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Where a row has this among its statuses, it may also be closed without an answer.
pub(super) const NOTHING: u16 = 0;

#[derive(Debug, PartialEq)]
pub(super) enum Then {
    /// The connection can be used for the next request.
    Open,
    /// It is closed, in good order, and nothing but the answers was sent.
    Closed,
    /// Open after a success, closed after a refusal.
    AsAnswered,
}

#[derive(Debug)]
pub(super) struct Row {
    pub by: &'static str,
    pub section: &'static str,
    pub what: &'static str,
    pub bytes: Vec<u8>,
    /// For each answer, in order, the statuses it may have.
    pub answers: &'static [&'static [u16]],
    pub then: Then,
}

fn row(
    by: &'static str,
    section: &'static str,
    what: &'static str,
    bytes: impl Into<Vec<u8>>,
    answers: &'static [&'static [u16]],
    then: Then,
) -> Row {
    Row { by, section, what, bytes: bytes.into(), answers, then }
}

/// The head of a request with these fields after its Host, and what follows it.
pub(super) fn post(fields: &str, rest: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{rest}")
}

/// A POST in chunks. There is no POST here, so 405 is the answer to a good one.
pub(super) fn chunked(chunks: &str) -> String {
    post("Transfer-Encoding: chunked", chunks)
}

pub(super) const BAD: &[&[u16]] = &[&[400]];

const HELLO: &[&[u16]] = &[&[200]];

pub(super) const NO_POST: &[&[u16]] = &[&[405]];

#[rustfmt::skip] // a row a line, as far as they go
pub(super) fn table() -> Vec<Row> {
    let fields = |count| (0..count).map(|i| format!("F{i}: v\r\n")).collect::<String>();
    let mut rows = vec![
        // 2.2: how a message is read.
        row("hyper", "2.2", "an empty line before the request line", format!("\r\n{GOOD}"), HELLO, Open),
        row("hyper", "2.2", "several empty lines before it", format!("\r\n\r\n\r\n{GOOD}"), &[&[200, 400]], AsAnswered),
        row("hyper", "2.2", "LF alone ends lines", "GET / HTTP/1.1\nHost: a\n\n", &[&[200, 400]], AsAnswered),
        row("hyper", "2.2", "CR alone ends a line", "GET / HTTP/1.1\rHost: a\r\n\r\n", BAD, Closed),
        row("hyper", "2.2", "CR alone within a value", "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", BAD, Closed),
        row("hyper", "2.2", "CR alone within the target", "GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n", BAD, Closed),
        row("hyper", "2.2", "white space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", BAD, Closed),
        row("hyper", "2.2", "NUL within a value", "GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n", BAD, Closed),
        row("hyper", "2.2", "NUL within a name", "GET / HTTP/1.1\r\nHost: a\r\nA\0B: c\r\n\r\n", BAD, Closed),
        row("hyper", "2.2", "NUL within the target", "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n", BAD, Closed),
        row("hyper", "2.2", "something that is no HTTP at all", "\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03\r\n\r\n", BAD, Closed),
        // 2.3: versions. RFC 9110, 2.5 would have 1.2 answered as 1.1; hyper refuses it.
        row("hyper", "2.3", "HTTP/1.0 needs no Host, and closes", "GET / HTTP/1.0\r\n\r\n", HELLO, Closed),
        row("hyper", "2.3", "a minor version that is newer", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", &[&[200, 400, 505]], AsAnswered),
        row("hyper", "2.3", "a major version that is newer", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", &[&[400, 505]], Closed),
        row("hyper", "2.3", "a version of two digits", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", BAD, Closed),
        row("hyper", "2.3", "a version in lower case", "GET / http/1.1\r\nHost: a\r\n\r\n", BAD, Closed),
        row("hyper", "2.3", "HTTP/0.9", "GET /\r\n\r\n", BAD, Closed),
        row("hyper", "2.3", "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[&[400, 505, NOTHING]], Closed),
        // 3: the request line.
        row("hyper", "3", "a request line of one word", "GET\r\nHost: a\r\n\r\n", BAD, Closed),
        row("hyper", "3", "one of four words", "GET / b HTTP/1.1\r\nHost: a\r\n\r\n", BAD, Closed),
        row("hyper", "3", "two spaces in it", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", &[&[200, 400]], AsAnswered),
        row("hyper", "3", "a space before it", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[&[200, 400]], AsAnswered),
        row("hyper", "3.1", "a method that is no token", "G@T / HTTP/1.1\r\nHost: a\r\n\r\n", BAD, Closed),
        row("axum", "3.1", "a method in lower case is another one", "get / HTTP/1.1\r\nHost: a\r\n\r\n", &[&[405, 501]], Open),
        row("axum", "3.1", "a method that nobody knows", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", &[&[405, 501]], Open),
        // 3.2: Host.
        row("guard", "3.2", "no Host", "GET / HTTP/1.1\r\n\r\n", BAD, Closed),
        row("guard", "3.2", "Host twice", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", BAD, Closed),
        row("guard", "3.2", "Host twice, the same", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", BAD, Closed),
        row("guard", "3.2", "Host twice in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", BAD, Closed),
        row("guard", "3.2", "two hosts in one Host", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", BAD, Closed),
        row("guard", "3.2", "a Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", BAD, Closed),
        row("guard", "3.2", "a Host with a user", "GET / HTTP/1.1\r\nHost: b@a\r\n\r\n", BAD, Closed),
        row("guard", "3.2", "a Host whose port is a word", "GET / HTTP/1.1\r\nHost: a:http\r\n\r\n", BAD, Closed),
        row("guard", "3.2", "a Host whose bracket stays open", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", BAD, Closed),
        row("guard", "3.2", "brackets around no address", "GET / HTTP/1.1\r\nHost: [1:2]\r\n\r\n", BAD, Closed),
        row("guard", "3.2", "a percent sign that encodes nothing", "GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n", BAD, Closed),
        row("guard", "3.2", "a malformed Host in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a b\r\n\r\n", BAD, Closed),
        // The grammar has an empty Host, an http URI has not (RFC 9110, 4.2.1).
        row("guard", "3.2", "an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", &[&[200, 400]], AsAnswered),
        row("guard", "3.2", "a Host with a port", "GET / HTTP/1.1\r\nHost: example.org:80\r\n\r\n", HELLO, Open),
        row("guard", "3.2", "a Host that is an IPv6 address", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", HELLO, Open),
        // 3.2.1 to 3.2.4: the four forms of the target.
        row("axum", "3.2.1", "a path with a query", "GET /?a=b HTTP/1.1\r\nHost: a\r\n\r\n", HELLO, Open),
        row("axum", "3.2.1", "a path that does not exist", "GET /b HTTP/1.1\r\nHost: a\r\n\r\n", &[&[404]], Open),
        row("hyper", "3.2.1", "a target without a slash", "GET b/c HTTP/1.1\r\nHost: a\r\n\r\n", BAD, Closed),
        row("hyper", "3.2.2", "an absolute target", "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", HELLO, Open),
        row("hyper", "3.2.2", "an absolute target, whose host counts", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", HELLO, Open),
        row("guard", "3.2.2", "an absolute target without Host", "GET http://a/ HTTP/1.1\r\n\r\n", BAD, Closed),
        row("axum", "3.2.3", "CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", &[&[400, 404, 405, 501]], Open),
        row("axum", "3.2.3", "a target for CONNECT alone", "GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", &[&[400, 404]], Open),
        row("axum", "3.2.4", "OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &[&[200, 204, 404, 405, 501]], Open),
        row("axum", "3.2.4", "a target for OPTIONS alone", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", &[&[400, 404]], Open),
        // 5: fields.
        row("hyper", "5", "a field without a colon", "GET / HTTP/1.1\r\nHost: a\r\nB\r\n\r\n", BAD, Closed),
        row("hyper", "5", "a field without a name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", BAD, Closed),
        row("hyper", "5.1", "white space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", BAD, Closed),
        row("hyper", "5.1", "a tab before the colon", "GET / HTTP/1.1\r\nHost: a\r\nB\t: c\r\n\r\n", BAD, Closed),
        row("hyper", "5.1", "white space around a value", "GET / HTTP/1.1\r\nHost: \t a \t \r\nB:\r\n\r\n", HELLO, Open),
        row("hyper", "5.2", "a folded line", "GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n d\r\n\r\n", BAD, Closed),
        row("hyper", "5", "as many fields as there may be", format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(99)), HELLO, Open),
        row("hyper", "5", "one too many", format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(100)), &[&[431, 400]], Closed),
        row("hyper", "5", "a field too large", format!("GET / HTTP/1.1\r\nHost: a\r\nB: {}\r\n\r\n", "c".repeat(20_000)), &[&[431, 400]], Closed),
        row("hyper", "3", "a request line too long", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "b".repeat(20_000)), &[&[414, 431, 400]], Closed),
        // 6.1: Transfer-Encoding.
        row("hyper", "6.1", "a body in chunks, then nothing more", chunked("5\r\nhello\r\n0\r\n\r\n"), NO_POST, Open),
        row("hyper", "6.1", "one that does not end in chunked", post("Transfer-Encoding: chunked, gzip", "0\r\n\r\n"), BAD, Closed),
        row("hyper", "6.1", "one in two fields, not ending in chunked", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"), BAD, Closed),
        row("hyper", "6.1", "one that nobody knows", post("Transfer-Encoding: xchunked", "0\r\n\r\n"), &[&[400, 501]], Closed),
        row("guard", "6.1", "one that we do not know before chunked", post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), &[&[501, 400]], Closed),
        row("guard", "6.1", "one that we do not know, in a field of its own", post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), &[&[501, 400]], Closed),
        row("guard", "7.1", "chunked twice", post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"), &[&[400, 501]], Closed),
        row("hyper", "6.1", "an empty one", post("Transfer-Encoding:", "0\r\n\r\n"), &[&[400, 501]], Closed),
        row("hyper", "6.1", "with HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD, Closed),
        row("hyper", "6.1", "in capitals", post("TRANSFER-ENCODING: Chunked", "5\r\nhello\r\n0\r\n\r\n"), NO_POST, Open),
        // 6.2: Content-Length.
        row("hyper", "6.2", "a body, then a request", post("Content-Length: 5", &format!("hello{GOOD}")), &[&[405], &[200]], Open),
        row("hyper", "6.2", "a length of nothing", post("Content-Length: 0", ""), NO_POST, Open),
        row("hyper", "6.2", "a length below nothing", post("Content-Length: -1", ""), BAD, Closed),
        row("hyper", "6.2", "a length with a plus", post("Content-Length: +5", "hello"), BAD, Closed),
        row("hyper", "6.2", "a length that is no number", post("Content-Length: five", "hello"), BAD, Closed),
        row("hyper", "6.2", "a length in hex", post("Content-Length: 0x5", "hello"), BAD, Closed),
        row("hyper", "6.2", "a length that is empty", post("Content-Length:", ""), BAD, Closed),
        row("hyper", "6.2", "a length with a space in it", post("Content-Length: 1 0", "helloworld"), BAD, Closed),
        row("hyper", "6.2", "a length that fits no number", post("Content-Length: 18446744073709551616", ""), BAD, Closed),
        // 413 would say more; hyper has kept such numbers for itself, and calls the head too large.
        row("hyper", "6.2", "a length at the edge of numbers", post("Content-Length: 18446744073709551615", ""), &[&[400, 413, 431]], Closed),
        row("hyper", "6.3", "two lengths that differ", post("Content-Length: 5\r\nContent-Length: 6", "hello!"), BAD, Closed),
        row("hyper", "6.3", "a list of lengths that differ", post("Content-Length: 5, 6", "hello!"), BAD, Closed),
        row("hyper", "6.3", "two lengths that agree", post("Content-Length: 5\r\nContent-Length: 5", "hello"), &[&[405, 400]], AsAnswered),
        row("connection", "6.2", "a body as large as it may be", post("Content-Length: 65536", &"b".repeat(65536)), NO_POST, Open),
        row("connection", "6.2", "a body too large", post("Content-Length: 65537", &"b".repeat(65537)), &[&[413]], Closed),
        row("connection", "6.2", "a body too large, in chunks", chunked(&format!("10001\r\n{}\r\n0\r\n\r\n", "b".repeat(65537))), &[&[413]], Closed),
        // 6.3: both. Either is refused, or chunks alone count and the connection ends.
        row("guard", "6.3", "a length, then chunks, then a smuggled request", post("Content-Length: 6\r\nTransfer-Encoding: chunked", &format!("0\r\n\r\n{GOOD}")), BAD, Closed),
        row("guard", "6.3", "chunks, then a length, then a smuggled request", post("Transfer-Encoding: chunked\r\nContent-Length: 6", &format!("0\r\n\r\n{GOOD}")), BAD, Closed),
        row("guard", "6.3", "a smuggled request within the length", post(&format!("Content-Length: {}\r\nTransfer-Encoding: chunked", 5 + GOOD.len()), &format!("0\r\n\r\n{GOOD}")), BAD, Closed),
        row("guard", "6.3", "both, for a path that does not exist", "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD, Closed),
        row("guard", "6.3", "a body with a length, then one in chunks", post("Content-Length: 5", &format!("hello{}", chunked("5\r\nhello\r\n0\r\n\r\n"))), &[&[405], &[405]], Open),
        row("guard", "6.3", "a length of nothing, then chunks", post("Content-Length: 0", &chunked("0\r\n\r\n")), &[&[405], &[405]], Open),
        row("guard", "6.3", "a request, then one with both", format!("{GOOD}{}", post("Content-Length: 6\r\nTransfer-Encoding: chunked", &format!("0\r\n\r\n{GOOD}"))), &[&[200], &[400, 405]], Closed),
        row("hyper", "6.3", "a request after chunks without a length", chunked(&format!("0\r\n\r\n{GOOD}")), &[&[405], &[200]], Open),
        row("hyper", "6.3", "a request without a length has no body", post("B: c", GOOD), &[&[405], &[200]], Open),
        // 7.1: chunks.
        row("hyper", "7.1", "chunks of several sizes", chunked("1\r\na\r\n00a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n"), NO_POST, Open),
        row("hyper", "7.1", "a size that is not hex", chunked("x\r\na\r\n0\r\n\r\n"), BAD, Closed),
        row("hyper", "7.1", "a size below nothing", chunked("-1\r\na\r\n0\r\n\r\n"), BAD, Closed),
        row("hyper", "7.1", "a size that is empty", chunked("\r\na\r\n0\r\n\r\n"), BAD, Closed),
        row("hyper", "7.1", "a size with 0x", chunked("0x1\r\na\r\n0\r\n\r\n"), BAD, Closed),
        row("hyper", "7.1", "a space before the size", chunked(" 1\r\na\r\n0\r\n\r\n"), BAD, Closed),
        row("hyper", "7.1", "a size that fits no number", chunked("10000000000000000\r\na\r\n0\r\n\r\n"), BAD, Closed),
        row("hyper", "7.1", "a size that ends in LF alone", chunked("1\na\r\n0\r\n\r\n"), BAD, Closed),
        row("hyper", "7.1", "a size that ends in CR alone", chunked("1\ra\r\n0\r\n\r\n"), BAD, Closed),
        row("hyper", "7.1", "a chunk longer than its size", chunked("1\r\nab\r\n0\r\n\r\n"), BAD, Closed),
        row("hyper", "7.1", "a chunk without CRLF", chunked("1\r\na0\r\n\r\n"), BAD, Closed),
        row("hyper", "7.1", "a chunk that ends in LF alone", chunked("1\r\na\n0\r\n\r\n"), BAD, Closed),
        row("hyper", "7.1.1", "an extension", chunked("1;b=c;d=\"e\"\r\na\r\n0;f\r\n\r\n"), NO_POST, Open),
        row("hyper", "7.1.1", "an extension with LF alone", chunked("1;b\nc\r\na\r\n0\r\n\r\n"), BAD, Closed),
        row("hyper", "7.1.1", "an extension too long", chunked(&format!("1;{}\r\na\r\n0\r\n\r\n", "b".repeat(20_000))), BAD, Closed),
        row("hyper", "7.1.2", "a trailer", chunked("0\r\nB: c\r\n\r\n"), NO_POST, Open),
        row("hyper", "7.1.2", "a trailer without a colon", chunked("0\r\nB\r\n\r\n"), BAD, Closed),
        row("hyper", "7.1.2", "a trailer too large", chunked(&format!("0\r\nB: {}\r\n\r\n", "c".repeat(20_000))), &[&[400, 431]], Closed),
        // 9: connections, as far as a message ends one.
        row("hyper", "9.3", "three requests at once", format!("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n{GOOD}get / HTTP/1.1\r\nHost: a\r\n\r\n"), &[&[404], &[200], &[405]], Open),
        row("hyper", "9.3", "HTTP/1.0 with keep-alive", "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", HELLO, Open),
        row("hyper", "9.6", "rubbish after Connection: close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nrubbish", HELLO, Closed),
        row("hyper", "9.6", "a request after Connection: close", format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{GOOD}"), HELLO, Closed),
        row("hyper", "9.6", "Connection: close among others", "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, CLOSE\r\n\r\n", HELLO, Closed),
        row("hyper", "9.6", "much rubbish after Connection: close", format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{}", "b".repeat(500_000)), HELLO, Closed),
        row("hyper", "9.3", "rubbish after a request", format!("{GOOD}rubbish\r\n\r\n"), &[&[200], &[400]], Closed),
        row("axum", "RFC 9110, 7.8", "an upgrade that nobody offers", "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", HELLO, Open),
        row("connection", "RFC 9110, 7.8", "a refused upgrade with a body too large", post("Upgrade: h2c\r\nContent-Length: 900000", &"b".repeat(900_000)), &[&[413]], Closed),
        row("connection", "RFC 9110, 7.8", "a refused upgrade of which the body has not come", post("Upgrade: h2c\r\nContent-Length: 900000", ""), &[&[413]], Closed),
    ];
    // Every byte that no value may have, and a few that it may.
    for byte in (0..=31).chain([127]).filter(|byte| !b"\t\n\r".contains(byte)) {
        let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\nA: b".to_vec();
        bytes.extend([byte, b'c', b'\r', b'\n', b'\r', b'\n']);
        rows.push(row("hyper", "5.5 of RFC 9110", "a control character in a value", bytes, BAD, Closed));
    }
    rows
}
