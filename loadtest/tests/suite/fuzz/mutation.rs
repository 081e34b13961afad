//! Requests as servers know them, and what is done to them.

use std::ops::Range;

use fastrand::Rng;

/// What is mutated.
const SEEDS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /?a=b HTTP/1.1\r\nHost: example.org:80\r\nAccept: */*\r\nUser-Agent: fuzz\r\n\r\n",
    "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
     a;b=c\r\n0123456789\r\n1\r\na\r\n0\r\nT: u\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET / HTTP/1.1\r\nHost: bcde\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 0\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n d\r\n\r\n",
];

/// What is inserted, beside single bytes.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "\r\n", "\r\n\r\n", "\n", "\r", "\0", " ", "\t", ":", ";", ",", "-", "+", "0x", "%", "\u{ff}",
    "0\r\n\r\n", "GET / HTTP/1.1\r\n", "HTTP/1.1", "Host: a\r\n", "Content-Length: 5\r\n",
    "Content-Length: 18446744073709551616\r\n", "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n", "Connection: close\r\n", "ffffffffffffffff\r\n",
];

/// One case: up to three requests, mutated up to five times.
pub(super) fn case(random: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.usize(1..=3) {
        bytes.extend(random.choice(SEEDS).unwrap().bytes());
    }
    for _ in 0..random.usize(0..=5) {
        mutate(&mut bytes, random);
    }
    bytes
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Rng) {
    if bytes.is_empty() {
        return;
    }
    let at = random.usize(..bytes.len());
    let part = at..(at + random.usize(1..=8)).min(bytes.len());
    match random.u8(..9) {
        0 => bytes[at] ^= 1 << random.u8(..8),
        1 => bytes[at] = random.u8(..),
        2 => drop(bytes.drain(part)),
        3 => {
            let copy = bytes[part].to_vec();
            insert(bytes, at, &copy);
        }
        4 => insert(bytes, at, random.choice(WORDS).unwrap().as_bytes()),
        5 => insert(bytes, at, b"\r\n"),
        6 => {
            let other = random.choice(SEEDS).unwrap().as_bytes();
            bytes.truncate(at);
            bytes.extend(&other[random.usize(..other.len())..]);
        }
        7 => lie_about_a_length(bytes, random),
        _ => bytes.truncate(at),
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, what: &[u8]) {
    bytes.splice(at..at, what.iter().copied());
}

/// Changes a number: mostly that is a length, of a body or a chunk.
fn lie_about_a_length(bytes: &mut Vec<u8>, random: &mut Rng) {
    let mut numbers: Vec<Range<usize>> = Vec::new();
    for at in (0..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()) {
        match numbers.last_mut() {
            Some(number) if number.end == at => number.end += 1,
            _ => numbers.push(at..at + 1),
        }
    }
    if let Some(number) = random.choice(numbers) {
        let text = String::from_utf8_lossy(&bytes[number.clone()]).into_owned();
        let old: i128 = text.parse().unwrap_or(0);
        let new = old + i128::from(random.i8(-3..=3));
        bytes.splice(number, new.to_string().into_bytes());
    }
}
