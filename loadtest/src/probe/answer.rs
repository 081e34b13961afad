//! Reads an HTTP/1.1 answer: its head, and a body with a Content-Length or in chunks.
//!
//! An answer with neither counts as wrong, since nobody could tell whether it came to its end.

use std::io::{self, ErrorKind};

use httparse::{EMPTY_HEADER, Response, Status, parse_chunk_size};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// The most that status line and headers may take, and the size or trailer of a chunk.
const LONGEST_HEAD: usize = 16 * 1024;

/// The most headers.
const MOST_HEADERS: usize = 64;

/// So much of something unexpected is quoted.
const QUOTED: usize = 60;

/// What the head says of the rest.
pub struct Head {
    /// The length of the body; `None`: it comes in chunks.
    pub length: Option<u64>,
    /// Whether the server will close the connection.
    pub close: bool,
}

/// Reads an answer whose body should be `expected`, or may be anything. Gives whether the server will
/// close the connection.
///
/// # Errors
/// Of the kind `InvalidData`, with the reason, when it is not what it should be; `UnexpectedEof` when
/// it ends early.
pub async fn read(
    stream: &mut BufReader<impl AsyncRead + Unpin>,
    expected: Option<&[u8]>,
) -> io::Result<bool> {
    let head = until(stream, head).await?;
    let mut done = 0;
    if let Some(length) = head.length {
        body(stream, length, expected, &mut done).await?;
    } else {
        loop {
            let size = until(stream, |bytes| match parse_chunk_size(bytes) {
                Ok(Status::Complete(found)) => Ok(Some(found)),
                Ok(Status::Partial) => Ok(None),
                Err(_) => wrong("a chunk of it does not begin with its size"),
            });
            let size = size.await?;
            if size == 0 {
                break;
            }
            body(stream, size, expected, &mut done).await?;
            let end = until(stream, |bytes| match bytes {
                [b'\r', b'\n', ..] => Ok(Some((2, ()))),
                [] | [_] => Ok(None),
                _ => wrong("a chunk of it is longer than its size says"),
            });
            end.await?;
        }
        while until(stream, line).await? > 0 {} // trailers, up to an empty line
    }
    if !stream.buffer().is_empty() {
        return wrong(format!("it goes on beyond its end: {}", quote(stream.buffer())));
    }
    match expected {
        Some(expected) if done < expected.len() => {
            wrong(format!("its body ends after {done} bytes of the expected {}", quote(expected)))
        }
        _ => Ok(head.close),
    }
}

/// Reads until `parse` finds a part of the answer in what has come, and how long that part is.
async fn until<T>(
    stream: &mut BufReader<impl AsyncRead + Unpin>,
    parse: impl Fn(&[u8]) -> io::Result<Option<(usize, T)>>,
) -> io::Result<T> {
    let mut bytes = Vec::new();
    loop {
        let (before, came) = (bytes.len(), come(stream).await?);
        bytes.extend_from_slice(came);
        let all = came.len();
        if let Some((used, found)) = parse(&bytes)? {
            stream.consume(used - before);
            return Ok(found);
        }
        stream.consume(all);
        if bytes.len() > LONGEST_HEAD {
            return wrong(format!("its headers do not end within {LONGEST_HEAD} bytes"));
        }
    }
}

/// What has come and was not used yet; waits for something.
async fn come(stream: &mut BufReader<impl AsyncRead + Unpin>) -> io::Result<&[u8]> {
    let bytes = stream.fill_buf().await?;
    if bytes.is_empty() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

/// The head of an answer, and where the rest begins; `None` if more must come.
///
/// # Errors
/// As for [`read`].
pub fn head(bytes: &[u8]) -> io::Result<Option<(usize, Head)>> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut head = Response::new(&mut headers);
    let used = match head.parse(bytes) {
        Ok(Status::Complete(used)) => used,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return wrong(format!("{error} in {}", quote(bytes))),
    };
    if head.code != Some(200) {
        return wrong(format!("its status is {}", head.code.unwrap_or(0)));
    }
    // HTTP/1.0 closes unless it says otherwise, HTTP/1.1 the other way round.
    let mut close = head.version == Some(0);
    let (mut length, mut chunked) = (None, false);
    for header in head.headers {
        let value = String::from_utf8_lossy(header.value);
        match &*header.name.to_ascii_lowercase() {
            "content-length" => {
                let digits = value.bytes().all(|byte| byte.is_ascii_digit());
                match value.parse() {
                    Ok(number) if digits && length.is_none_or(|before| before == number) => {
                        length = Some(number);
                    }
                    _ => return wrong(format!("it has the Content-Length {value:?}")),
                }
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => chunked = true,
            "transfer-encoding" => {
                return wrong(format!("it has the Transfer-Encoding {value:?}"));
            }
            "connection" => {
                for word in value.split(',').map(str::trim) {
                    let closes = word.eq_ignore_ascii_case("close");
                    close = closes || close && !word.eq_ignore_ascii_case("keep-alive");
                }
            }
            _ => {}
        }
    }
    if length.is_none() && !chunked {
        return wrong(
            "it has neither a Content-Length nor chunks, so its end cannot be told from a lost one",
        );
    }
    Ok(Some((used, Head { length: length.filter(|_| !chunked), close })))
}

/// A whole line; gives its length without its end.
fn line(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    Ok(bytes.windows(2).position(|window| window == b"\r\n").map(|end| (end + 2, end)))
}

/// Reads the body, or a chunk of it, behind what is `done` of it; compares, and keeps nothing.
async fn body(
    stream: &mut BufReader<impl AsyncRead + Unpin>,
    mut left: u64,
    expected: Option<&[u8]>,
    done: &mut usize,
) -> io::Result<()> {
    while left > 0 {
        let came = come(stream).await?;
        let count = came.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let came = &came[..count];
        if let Some(expected) = expected.filter(|all| all.get(*done..*done + count) != Some(came)) {
            let (came, expected) = (quote(came), quote(expected));
            return wrong(format!(
                "its body has {came} at byte {done}, and {expected} is expected"
            ));
        }
        stream.consume(count);
        *done += count;
        left -= count as u64;
    }
    Ok(())
}

fn wrong<T>(reason: impl Into<String>) -> io::Result<T> {
    Err(io::Error::new(ErrorKind::InvalidData, reason.into()))
}

/// The first characters, as in a program's text.
fn quote(bytes: &[u8]) -> String {
    let more = if bytes.len() > QUOTED { "..." } else { "" };
    format!("{:?}{more}", String::from_utf8_lossy(&bytes[..bytes.len().min(QUOTED)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::client::runtime;

    const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// Reads what comes so many bytes at a time.
    fn read_by(step: usize, text: &str, expected: Option<&[u8]>) -> io::Result<bool> {
        let mut stream = BufReader::with_capacity(step, text.as_bytes());
        runtime().unwrap().block_on(read(&mut stream, expected))
    }

    fn read_hello(text: &str) -> io::Result<bool> {
        read_by(8192, text, Some(b"hello"))
    }

    #[test]
    fn a_whole_answer_is_whole_only_with_its_last_byte_however_it_comes() {
        for text in [
            HELLO.to_owned(),
            format!("{CHUNKED}5\r\nhello\r\n0\r\n\r\n"),
            format!("{CHUNKED}2;name=value\r\nhe\r\n003\r\nllo\r\n0\r\nx: y\r\n\r\n"),
        ] {
            assert!(!read_hello(&text).unwrap(), "{text}");
            assert!(!read_by(1, &text, Some(b"hello")).unwrap(), "{text}");
            for end in 0..text.len() {
                let early = read_by(1, &text[..end], Some(b"hello")).unwrap_err();
                assert_eq!(early.kind(), ErrorKind::UnexpectedEof, "{:?}", &text[..end]);
            }
        }
        assert!(!read_by(8192, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None).unwrap());
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
        let long = head.to_owned() + &"x".repeat(100_000);
        assert!(!read_by(1000, &long, None).unwrap(), "a body that does not matter");
    }

    #[test]
    fn whether_the_connection_ends_is_read_from_version_and_header() {
        for (version, header, closes) in [
            ("1.1", "x: y", false),
            ("1.1", "Connection: close", true),
            ("1.1", "connection: x, CLOSE", true),
            ("1.0", "x: y", true),
            ("1.0", "Connection: Keep-Alive", false),
        ] {
            let text =
                format!("HTTP/{version} 200 OK\r\n{header}\r\nContent-Length: 5\r\n\r\nhello");
            assert_eq!(read_hello(&text).unwrap(), closes, "{version} {header}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let length = "HTTP/1.1 200 OK\r\nContent-Length:";
        for (text, reason) in [
            ("SSH-2.0-OpenSSH", "in \"SSH-2.0-OpenSSH\""),
            ("HTTP/2 200\r\n\r\n", "in \"HTTP/2 200"),
            ("HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nhello", "status is 503"),
            ("HTTP/1.1 200 OK\r\n\r\nhello", "neither a Content-Length nor chunks"),
            ("HTTP/1.1 200 OK\r\nodd\r\n\r\nhello", "header name"),
            (&format!("{length} +5\r\n\r\nhello"), "Content-Length \"+5\""),
            (&format!("{length} 5\r\nContent-Length: 6\r\n\r\nhello"), "Content-Length \"6\""),
            (
                &format!("{length} 5\r\n\r\nhullo"),
                "has \"hullo\" at byte 0, and \"hello\" is expected",
            ),
            (&format!("{length} 4\r\n\r\nhell"), "ends after 4 bytes"),
            (&format!("{length} 6\r\n\r\nhello!"), "has \"hello!\" at byte 0"),
            (&format!("{length} 5\r\n\r\nhello!"), "beyond its end: \"!\""),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "Transfer-Encoding \"gzip\""),
            (&format!("{CHUNKED}x\r\n"), "does not begin with its size"),
            (&format!("{CHUNKED}5\r\nhello!\r\n"), "longer than its size"),
            (&format!("{CHUNKED}4\r\nhell\r\n0\r\n\r\n"), "ends after 4 bytes"),
            (&format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(LONGEST_HEAD)), "do not end within"),
        ] {
            let error = read_hello(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{text:?}: {error}");
            assert!(error.to_string().contains(reason), "{text:?}: {error}");
        }
    }
}
