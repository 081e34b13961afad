//! Reads an HTTP/1.1 answer: its head, and a body with a Content-Length or in chunks.
//!
//! An answer with neither counts as wrong, since nobody could tell whether it came to its end.

use httparse::{EMPTY_HEADER, Response, Status, parse_chunk_size};

/// The most that status line and headers may take, and the size or trailer of a chunk.
const LONGEST_HEAD: usize = 16 * 1024;

/// The most headers.
const MOST_HEADERS: usize = 64;

/// So much of something unexpected is quoted.
const QUOTED: usize = 60;

/// An answer of which a part has come, or nothing yet.
pub struct Reader<'a> {
    /// What the body should be, if it matters.
    expected: Option<&'a [u8]>,
    /// What has come and was not read yet.
    bytes: Vec<u8>,
    part: Part,
    /// Bytes of the body that were read.
    length: usize,
    close: bool,
}

/// How far an answer has come.
#[derive(Debug, PartialEq)]
pub enum Progress {
    /// More must come.
    Partial,
    /// It is whole, and as it should be. `close`: the server will close the connection.
    Whole { close: bool },
    /// It is not what it should be, for this reason.
    Wrong(String),
}

/// What comes next.
#[derive(Clone, Copy)]
enum Part {
    Head,
    /// So many bytes of the body, or of one of its chunks.
    Body {
        left: u64,
        chunked: bool,
    },
    ChunkSize,
    /// The line break behind a chunk.
    ChunkEnd,
    /// Headers behind the last chunk, up to an empty line.
    Trailers,
    End,
}

impl<'a> Reader<'a> {
    /// Begins to read an answer whose body should be `expected`, or may be anything.
    pub fn new(expected: Option<&'a [u8]>) -> Self {
        Self { expected, bytes: Vec::new(), part: Part::Head, length: 0, close: false }
    }

    /// Takes what has come.
    pub fn feed(&mut self, bytes: &[u8]) -> Progress {
        self.bytes.extend_from_slice(bytes);
        match self.read() {
            Ok(true) => Progress::Whole { close: self.close },
            Ok(false) => Progress::Partial,
            Err(reason) => Progress::Wrong(reason),
        }
    }

    /// Reads as far as it can. Gives whether that was to the end.
    fn read(&mut self) -> Result<bool, String> {
        loop {
            let next = match self.part {
                Part::Head => self.head()?,
                Part::Body { left, chunked } => self.body(left, chunked)?,
                Part::ChunkSize => match parse_chunk_size(&self.bytes) {
                    Ok(Status::Complete((used, size))) => {
                        self.bytes.drain(..used);
                        let more = Part::Body { left: size, chunked: true };
                        Some(if size == 0 { Part::Trailers } else { more })
                    }
                    Ok(Status::Partial) => None,
                    Err(_) => return Err("a chunk of it does not begin with its size".into()),
                },
                Part::ChunkEnd => match self.line() {
                    Some(0) => Some(Part::ChunkSize),
                    None if self.bytes.len() < 2 => None,
                    _ => return Err("a chunk of it is longer than its size says".into()),
                },
                Part::Trailers => match self.line() {
                    Some(0) => Some(Part::End),
                    other => other.map(|_| Part::Trailers),
                },
                Part::End if !self.bytes.is_empty() => {
                    return Err(format!("it goes on beyond its end: {}", quote(&self.bytes)));
                }
                Part::End => match self.expected {
                    Some(expected) if self.length < expected.len() => {
                        return Err(format!(
                            "its body ends after {} bytes of the expected {}",
                            self.length,
                            quote(expected)
                        ));
                    }
                    _ => return Ok(true),
                },
            };
            match next {
                Some(part) => self.part = part,
                None if self.bytes.len() > LONGEST_HEAD => {
                    return Err(format!("its headers do not end within {LONGEST_HEAD} bytes"));
                }
                None => return Ok(false),
            }
        }
    }

    /// Reads the head if it is whole, and takes it off.
    fn head(&mut self) -> Result<Option<Part>, String> {
        let mut headers = [EMPTY_HEADER; MOST_HEADERS];
        let mut head = Response::new(&mut headers);
        let used = match head.parse(&self.bytes) {
            Ok(Status::Complete(used)) => used,
            Ok(Status::Partial) => return Ok(None),
            Err(error) => return Err(format!("{error} in {}", quote(&self.bytes))),
        };
        if head.code != Some(200) {
            return Err(format!("its status is {}", head.code.unwrap_or(0)));
        }
        // HTTP/1.0 closes unless it says otherwise, HTTP/1.1 the other way round.
        self.close = head.version == Some(0);
        let (mut length, mut chunked) = (None, false);
        for header in head.headers {
            let value = String::from_utf8_lossy(header.value);
            let is = |name| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                match value.parse() {
                    Ok(number) if digits && length.is_none_or(|before| before == number) => {
                        length = Some(number);
                    }
                    _ => return Err(format!("it has the Content-Length {value:?}")),
                }
            } else if is("transfer-encoding") {
                chunked = value.eq_ignore_ascii_case("chunked");
                if !chunked {
                    return Err(format!("it has the Transfer-Encoding {value:?}"));
                }
            } else if is("connection") {
                for word in value.split(',').map(str::trim) {
                    let closes = word.eq_ignore_ascii_case("close");
                    self.close = closes || self.close && !word.eq_ignore_ascii_case("keep-alive");
                }
            }
        }
        self.bytes.drain(..used);
        match (chunked, length) {
            (true, _) => Ok(Some(Part::ChunkSize)),
            (false, Some(left)) => Ok(Some(Part::Body { left, chunked: false })),
            (false, None) => Err("it has neither a Content-Length nor chunks, so its end cannot \
                                  be told from a lost one"
                .into()),
        }
    }

    /// Takes off what has come of the body; compares it with what is expected, and keeps nothing.
    fn body(&mut self, left: u64, chunked: bool) -> Result<Option<Part>, String> {
        let count = self.bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if let Some(expected) = self.expected {
            let part = expected.get(self.length..self.length + count);
            if part != Some(&self.bytes[..count]) {
                let came = quote(&self.bytes[..count]);
                let place = self.length;
                return Err(format!(
                    "its body has {came} at byte {place}, and {} is expected",
                    quote(expected)
                ));
            }
        }
        self.bytes.drain(..count);
        self.length += count;
        let left = left - count as u64;
        self.part = Part::Body { left, chunked };
        let next = if chunked { Part::ChunkEnd } else { Part::End };
        Ok((left == 0).then_some(next))
    }

    /// Takes a whole line off. Gives its length without its end.
    fn line(&mut self) -> Option<usize> {
        let end = self.bytes.windows(2).position(|window| window == b"\r\n")?;
        self.bytes.drain(..end + 2);
        Some(end)
    }
}

/// The first characters, as in a program's text.
fn quote(bytes: &[u8]) -> String {
    let more = if bytes.len() > QUOTED { "..." } else { "" };
    format!("{:?}{more}", String::from_utf8_lossy(&bytes[..bytes.len().min(QUOTED)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const WHOLE: Progress = Progress::Whole { close: false };

    /// Feeds it all at once.
    fn read(text: &str) -> Progress {
        Reader::new(Some(b"hello")).feed(text.as_bytes())
    }

    #[test]
    fn a_whole_answer_is_whole_only_with_its_last_byte_however_it_comes() {
        for text in [
            HELLO.to_owned(),
            format!("{CHUNKED}5\r\nhello\r\n0\r\n\r\n"),
            format!("{CHUNKED}2;name=value\r\nhe\r\n003\r\nllo\r\n0\r\nx: y\r\n\r\n"),
        ] {
            assert_eq!(read(&text), WHOLE, "{text}");
            let mut reader = Reader::new(Some(b"hello"));
            for byte in &text.as_bytes()[..text.len() - 1] {
                assert_eq!(reader.feed(&[*byte]), Progress::Partial, "{text}");
            }
            assert_eq!(reader.feed(&text.as_bytes()[text.len() - 1..]), WHOLE, "{text}");
        }
        let empty = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(Reader::new(None).feed(empty), WHOLE);
    }

    #[test]
    fn a_body_that_does_not_matter_is_counted_and_not_kept() {
        let mut reader = Reader::new(None);
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
        assert_eq!(reader.feed(head), Progress::Partial);
        for _ in 0..99 {
            assert_eq!(reader.feed(&[b'x'; 1000]), Progress::Partial);
            assert!(reader.bytes.is_empty());
        }
        assert_eq!(reader.feed(&[b'x'; 1000]), WHOLE);
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
            assert_eq!(read(&text), Progress::Whole { close: closes }, "{version} {header}");
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
        ] {
            match read(text) {
                Progress::Wrong(why) => assert!(why.contains(reason), "{text:?}: {why}"),
                other => panic!("{text:?}: {other:?}"),
            }
        }
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(LONGEST_HEAD));
        assert!(matches!(read(&endless), Progress::Wrong(_)));
    }
}
