//! Reads an HTTP/1.1 answer: the status line, the headers that say how long it is and whether the
//! connection ends, the body.
//!
//! It knows what the two servers say and no more. An answer without a Content-Length counts as
//! wrong, since nobody could tell whether it came to its end.

/// The most that status line and headers may take.
const LONGEST_HEAD: usize = 16 * 1024;

/// Headers that are looked at; more are skipped over.
const CONTENT_LENGTH: &str = "content-length";
const CONNECTION: &str = "connection";

/// An answer of which a part has come, or nothing yet.
pub struct Reader {
    /// What the body should be, if it matters.
    expected: Option<&'static [u8]>,
    /// What has come of the head, or of the body once the head is whole.
    bytes: Vec<u8>,
    head: Option<Head>,
    /// Bytes of the body that came and were not kept.
    skipped: u64,
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

/// What matters of status line and headers.
#[derive(Clone, Copy)]
struct Head {
    length: u64,
    close: bool,
}

impl Reader {
    /// Begins to read an answer whose body should be `expected`, or may be anything.
    pub fn new(expected: Option<&'static [u8]>) -> Self {
        Self { expected, bytes: Vec::new(), head: None, skipped: 0 }
    }

    /// Takes what has come.
    pub fn feed(&mut self, bytes: &[u8]) -> Progress {
        self.bytes.extend_from_slice(bytes);
        let head = match self.head {
            Some(head) => head,
            None => match self.read_head() {
                Ok(Some(head)) => *self.head.insert(head),
                Ok(None) => return Progress::Partial,
                Err(reason) => return Progress::Wrong(reason),
            },
        };
        self.read_body(head)
    }

    /// Reads the head if it is whole, and takes it off.
    fn read_head(&mut self) -> Result<Option<Head>, String> {
        // Whatever does not even begin as an answer does is none; waiting for its end is no use.
        let begin = &self.bytes[..self.bytes.len().min(5)];
        if !b"HTTP/".starts_with(begin) {
            return Err("it is not HTTP".into());
        }
        let Some(end) = self.bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return match self.bytes.len() > LONGEST_HEAD {
                true => Err(format!("its headers do not end within {LONGEST_HEAD} bytes")),
                false => Ok(None),
            };
        };
        let text = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
        self.bytes.drain(..end + 4);
        parse_head(&text).map(Some)
    }

    fn read_body(&mut self, head: Head) -> Progress {
        let Head { length, close } = head;
        let came = self.skipped + self.bytes.len() as u64;
        if came > length {
            return Progress::Wrong(format!("it goes on beyond its Content-Length of {length}"));
        }
        match self.expected {
            Some(body) if length != body.len() as u64 || !body.starts_with(&self.bytes) => {
                return Progress::Wrong("its body is not the one expected".into());
            }
            Some(_) => {}
            None => {
                self.skipped = came;
                self.bytes.clear();
            }
        }
        if came == length { Progress::Whole { close } } else { Progress::Partial }
    }
}

fn parse_head(text: &str) -> Result<Head, String> {
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let mut words = status_line.split(' ');
    let (version, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !["HTTP/1.1", "HTTP/1.0"].contains(&version) || status.len() != 3 {
        return Err(format!("it begins with {status_line:?}"));
    }
    if status != "200" {
        return Err(format!("its status is {status}"));
    }
    let mut length = None;
    // HTTP/1.0 closes unless it says otherwise, HTTP/1.1 the other way round.
    let mut close = version == "HTTP/1.0";
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Err(format!("{line:?} is no header"));
        };
        if name.eq_ignore_ascii_case(CONTENT_LENGTH) {
            let value = value.trim();
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            match value.parse() {
                Ok(number) if digits && length.is_none_or(|before| before == number) => {
                    length = Some(number);
                }
                _ => return Err(format!("it has the Content-Length {value:?}")),
            }
        } else if name.eq_ignore_ascii_case(CONNECTION) {
            for word in value.split(',').map(str::trim) {
                if word.eq_ignore_ascii_case("close") {
                    close = true;
                } else if word.eq_ignore_ascii_case("keep-alive") {
                    close = false;
                }
            }
        }
    }
    match length {
        Some(length) => Ok(Head { length, close }),
        None => Err("it has no Content-Length, so its end cannot be told from a lost one".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

    /// Feeds it all at once.
    fn read(text: &str) -> Progress {
        Reader::new(Some(b"hello")).feed(text.as_bytes())
    }

    #[test]
    fn a_whole_answer_is_whole_only_with_its_last_byte_however_it_comes() {
        assert_eq!(read(HELLO), Progress::Whole { close: false });
        let mut reader = Reader::new(Some(b"hello"));
        for byte in &HELLO.as_bytes()[..HELLO.len() - 1] {
            assert_eq!(reader.feed(&[*byte]), Progress::Partial);
        }
        assert_eq!(reader.feed(b"o"), Progress::Whole { close: false });
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
        assert_eq!(reader.feed(&[b'x'; 1000]), Progress::Whole { close: false });
    }

    #[test]
    fn an_empty_body_needs_no_byte() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(Reader::new(None).feed(text), Progress::Whole { close: false });
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
            ("SSH-2.0-OpenSSH", "not HTTP"),
            ("HTTP/2 200\r\n\r\n", "begins with \"HTTP/2 200\""),
            ("HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nhello", "status is 503"),
            ("HTTP/1.1 200 OK\r\n\r\nhello", "no Content-Length"),
            ("HTTP/1.1 200 OK\r\nodd\r\n\r\nhello", "\"odd\" is no header"),
            (&format!("{length} +5\r\n\r\nhello"), "Content-Length \"+5\""),
            (&format!("{length} 5\r\nContent-Length: 6\r\n\r\nhello"), "Content-Length \"6\""),
            (&format!("{length} 5\r\n\r\nhullo"), "not the one expected"),
            (&format!("{length} 4\r\n\r\nhell"), "not the one expected"),
            (&format!("{length} 5\r\n\r\nhello!"), "beyond its Content-Length"),
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
