//! Refuses what RFC 9112 forbids and hyper accepts.
//!
//! hyper itself refuses, with 400 and by closing: a malformed request line or header field, white
//! space before a colon, folded lines, differing Content-Lengths, a Transfer-Encoding that does not
//! end in chunked or comes with HTTP/1.0, malformed chunks; with 431 too large a head (be it the
//! target or the fields) or too many fields. It does not check Host, and it
//! takes the chunks for the body whatever other encodings there are. If Transfer-Encoding and Content-Length come
//! together, it drops the length before the service can see it. So [`Lengths`] looks for it in the bytes.

use std::net::Ipv6Addr;

use axum::http::{HeaderMap, StatusCode, Version, header};
use memchr::memchr;

/// Checks the head of a request. `has_length`: [`Lengths`] has found a Content-Length.
///
/// A proxy may have understood a request with two lengths differently. If what this server takes for the next request
/// is a part of this one for the proxy, that is request smuggling (RFC 9112, 6.3 and 11.2).
///
/// # Errors
/// The status with which to refuse the request.
pub fn check(version: Version, headers: &HeaderMap, has_length: bool) -> Result<(), StatusCode> {
    let is_coded = headers.contains_key(header::TRANSFER_ENCODING);
    if is_coded && has_length || has_bad_host(version, headers) {
        return Err(StatusCode::BAD_REQUEST);
    }
    if is_coded { refuses_coding(headers).map_or(Ok(()), Err) } else { Ok(()) }
}

/// Whether RFC 9112, section 3.2, demands a 400: HTTP/1.1 without Host, with several, or with one
/// that is not a host.
fn has_bad_host(version: Version, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => !is_host(host.as_bytes()),
        (None, _) => version >= Version::HTTP_11,
        (Some(_), Some(_)) => true,
    }
}

/// The status with which to refuse the request because of its transfer codings (RFC 9112, 6.1 and 7): only
/// chunked is known, and it may be applied once.
fn refuses_coding(headers: &HeaderMap) -> Option<StatusCode> {
    let fields = headers.get_all(header::TRANSFER_ENCODING).iter();
    let codings = fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b','));
    let (mut count, mut all_known) = (0, true);
    for coding in codings.map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty()) {
        count += 1;
        all_known &= coding.eq_ignore_ascii_case(b"chunked");
    }
    match (count, all_known) {
        (0 | 1, true) => None,
        (_, true) => Some(StatusCode::BAD_REQUEST),
        (_, false) => Some(StatusCode::NOT_IMPLEMENTED),
    }
}

/// Looks for a Content-Length in the bytes of a head, as they arrive.
///
/// It begins when the connection was idle, and stops at the end of that head: what follows is a body, which
/// may look like anything. So of pipelined requests it checks only the first; after any other with both fields hyper
/// ends the connection.
#[derive(Debug, Default)]
pub struct Lengths {
    /// The beginning of the present line.
    line: [u8; LENGTH.len()],
    /// How many bytes of that line are there so far, as far as they fit.
    begun: usize,
    /// Whether there was a line that is not empty.
    has_line: bool,
    is_over: bool,
    /// Whether there was a Content-Length.
    pub found: bool,
}

const LENGTH: &[u8] = b"content-length:";

impl Lengths {
    /// Checks the next bytes.
    ///
    /// A complete line, which is the rule, is checked in place. Copying the beginning of each line first
    /// costs about 300 instructions per request, one in twenty.
    pub fn look(&mut self, mut bytes: &[u8]) {
        while !self.is_over
            && let Some(end) = memchr(b'\n', bytes)
        {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.begun == 0 {
                self.end_of_line(line);
            } else {
                self.begin(line);
                let (line, begun) = (self.line, std::mem::take(&mut self.begun));
                self.end_of_line(&line[..begun]);
            }
            bytes = rest;
        }
        self.begin(bytes);
    }

    /// Keeps the beginning of an incomplete line, as far as it fits.
    fn begin(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(LENGTH.len() - self.begun);
        self.line[self.begun..self.begun + fits].copy_from_slice(&bytes[..fits]);
        self.begun += fits;
    }

    fn end_of_line(&mut self, line: &[u8]) {
        let begun = &line[..line.len().min(LENGTH.len())];
        self.found |= begun.eq_ignore_ascii_case(LENGTH);
        let is_empty = matches!(line, [] | [b'\r']);
        self.is_over = is_empty && self.has_line; // there may be empty lines before the first
        self.has_line |= !is_empty;
    }
}

/// Whether this is `uri-host [":" port]` (RFC 3986, 3.2.2 and 3.2.3): a name or an address in the
/// characters that are allowed, IPv6 in brackets. No user name.
fn is_host(value: &[u8]) -> bool {
    let host = match value {
        [b'[', ..] => bracketed_address(value),
        _ => name(value),
    };
    host.is_some_and(|length| match &value[length..] {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    })
}

/// How long the IPv6 address in brackets is with which this begins.
fn bracketed_address(value: &[u8]) -> Option<usize> {
    let end = value.iter().position(|&byte| byte == b']')?;
    str::from_utf8(&value[1..end]).ok()?.parse::<Ipv6Addr>().ok()?;
    Some(end + 1)
}

/// How long the name is with which this begins: unreserved, sub-delims and percent-encodings.
fn name(value: &[u8]) -> Option<usize> {
    let mut length = 0;
    while let Some(&byte) = value.get(length) {
        if IS_NAME_BYTE[usize::from(byte)] {
            length += 1;
        } else if let [b'%', high, low, ..] = &value[length..]
            && high.is_ascii_hexdigit()
            && low.is_ascii_hexdigit()
        {
            length += 3;
        } else {
            break;
        }
    }
    (length > 0).then_some(length)
}

/// unreserved and sub-delims. A table: to compare each byte with each range takes three times as long, and every
/// request pays for it.
const IS_NAME_BYTE: [bool; 256] = {
    let others = b"-._~!$&'()*+,;=";
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_or_without_a_port() {
        for good in ["a", "example.org", "127.0.0.1:8080", "[::1]", "[::1]:80", "a:", "x_y", "%41"]
        {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a b",
            "user@a",
            "a/b",
            "a:b",
            "a:123456",
            "[::1",
            "[]",
            "[x]",
            "[::1]a",
            "[1:2]",
            "[127.0.0.1]",
            "a?b",
            "ä",
            "%",
            "%4",
            "%4g",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn http_1_1_needs_exactly_one_host_and_http_1_0_none() {
        let mut headers = HeaderMap::new();
        assert!(has_bad_host(Version::HTTP_11, &headers));
        assert!(!has_bad_host(Version::HTTP_10, &headers));
        headers.append(header::HOST, "a".parse().unwrap());
        assert!(!has_bad_host(Version::HTTP_11, &headers));
        headers.append(header::HOST, "a".parse().unwrap());
        assert!(has_bad_host(Version::HTTP_11, &headers));
    }

    #[test]
    fn a_length_is_found_in_the_head_alone_however_it_comes() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-LENGTH: 5\r\n\r\n";
        for size in 1..head.len() {
            let mut lengths = Lengths::default();
            head.as_bytes().chunks(size).for_each(|bytes| lengths.look(bytes));
            assert!(lengths.found, "{size} bytes at a time");
        }
        for without in [
            "\r\nPOST / HTTP/1.1\r\nHost: a\r\n\r\nContent-Length: 5\r\n",
            "POST / HTTP/1.1\nX-Content-Length: 5\nContent-Length-X: 5\n\n",
        ] {
            let mut lengths = Lengths::default();
            lengths.look(without.as_bytes());
            assert!(!lengths.found, "{without:?}");
        }
    }

    #[test]
    fn chunked_is_the_one_transfer_coding_and_comes_once() {
        let refusal = |codings: &[&str]| {
            let mut headers = HeaderMap::new();
            for coding in codings {
                headers.append(header::TRANSFER_ENCODING, coding.parse().unwrap());
            }
            refuses_coding(&headers).map(|status| status.as_u16())
        };
        assert_eq!(refusal(&[]), None);
        assert_eq!(refusal(&["Chunked"]), None);
        assert_eq!(refusal(&["chunked, chunked"]), Some(400));
        assert_eq!(refusal(&["chunked", "chunked"]), Some(400));
        assert_eq!(refusal(&["gzip, chunked"]), Some(501));
        assert_eq!(refusal(&["identity", "chunked"]), Some(501));
    }
}
