//! What is certainly broken: a small parser that shares nothing with the server's. It is strict where RFC 9112
//! leaves no choice, and makes no claim where it leaves one.

/// What can be said of a request without any doubt.
#[derive(Debug)]
pub(super) enum Claim {
    /// It may be answered in any way.
    Any,
    /// It may be answered in any way, but nothing after it may be.
    Last,
    /// It must not be answered with success, and nothing after it at all.
    Broken(&'static str),
}

/// The claims for the requests in these bytes, up to where doubt begins, and whether it does. The
/// bytes are all that is ever sent: what is incomplete stays so.
pub(super) fn claims(mut bytes: &[u8]) -> (Vec<Claim>, bool) {
    let mut claims = Vec::new();
    loop {
        while let Some(rest) = bytes.strip_prefix(b"\r\n").or(bytes.strip_prefix(b"\n")) {
            bytes = rest;
        }
        if bytes.is_empty() {
            return (claims, false);
        }
        match request(bytes) {
            Ok((length, false)) => {
                claims.push(Claim::Any);
                bytes = &bytes[length..];
            }
            Ok((_, true)) => {
                claims.push(Claim::Last);
                return (claims, false);
            }
            Err(Some(how)) => {
                claims.push(Claim::Broken(how));
                return (claims, false);
            }
            Err(None) => return (claims, true),
        }
    }
}

/// The request at the beginning of these bytes: its length and whether it is the last of its
/// connection; or how it is broken; or, as `Err(None)`, doubt.
fn request(bytes: &[u8]) -> Result<(usize, bool), Option<&'static str>> {
    let (lines, length) = head(bytes).ok_or(Some("its head has no end"))?;
    let body = &bytes[length..];
    let is_1_1 = request_line(lines[0])?;
    let fields: Vec<(String, &[u8])> =
        lines[1..].iter().map(|line| field(line)).collect::<Result<_, _>>().map_err(Some)?;
    let named = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(other, _)| other == name).map(|(_, value)| *value).collect()
    };

    let hosts = named("host");
    match hosts[..] {
        [] if is_1_1 => return Err(Some("no Host")),
        [_, _, ..] => return Err(Some("more than one Host")),
        [host] if host.iter().any(|byte| b" \t/?#@<>\\\"".contains(byte)) => {
            return Err(Some("a Host that is none"));
        }
        _ => {}
    }

    let says = |word: &str| {
        let values = named("connection");
        // In doubt about one of them, hyper does not look into it.
        let readable = values.iter().filter(|value| value.is_ascii());
        let mut words = readable.flat_map(|value| value.split(|&byte| byte == b','));
        words.any(|other| other.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    let last = says("close") || (!is_1_1 && !says("keep-alive"));

    let codings = named("transfer-encoding");
    if !codings.is_empty() {
        if !is_1_1 {
            return Err(Some("Transfer-Encoding with HTTP/1.0"));
        }
        let final_coding = codings.last().unwrap().rsplit(|&byte| byte == b',').next().unwrap();
        if !final_coding.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Err(Some("Transfer-Encoding that does not end in chunked"));
        }
        if codings.len() > 1 || codings[0].contains(&b',') {
            return Err(None);
        }
        // With a length as well the server may answer, and has to end the connection.
        return Ok((length + chunks(body)?, last || !named("content-length").is_empty()));
    }

    let mut body_length = None;
    for value in named("content-length") {
        if value.contains(&b',') {
            return Err(None);
        }
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Some("a Content-Length that is no number"));
        }
        let number = str::from_utf8(value).unwrap().parse::<u64>();
        let number = number.map_err(|_| Some("a Content-Length that is too large"))?;
        if body_length.replace(number).is_some_and(|other| other != number) {
            return Err(Some("Content-Lengths that differ"));
        }
    }
    let body_length = body_length.unwrap_or(0);
    if body_length > body.len() as u64 {
        return Err(Some("less body than Content-Length says"));
    }
    Ok((length + body_length as usize, last))
}

/// The lines of a head, and its length with the empty line.
fn head(bytes: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let mut lines = Vec::new();
    let mut length = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        length += line.len();
        let line = line.strip_suffix(b"\n")?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Some((lines, length));
        }
        lines.push(line);
    }
    None
}

/// Whether it says HTTP/1.1, and not 1.0.
fn request_line(line: &[u8]) -> Result<bool, Option<&'static str>> {
    if line.iter().any(|byte| b"\t\x0b\x0c\r".contains(byte)) {
        return Err(None); // may be taken for spaces
    }
    if line.iter().any(u8::is_ascii_control) {
        return Err(Some("a control character in the request line"));
    }
    let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let (Some(method), Some(_), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Some("a request line that has not three words"));
    };
    if line.iter().filter(|&&byte| byte == b' ').count() != 2 {
        return Err(None); // more than one space may be taken for one
    }
    if !method.iter().all(|&byte| is_token(byte)) {
        return Err(Some("a method that is no token"));
    }
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => Err(None),
        _ => Err(Some("a version that is none of HTTP/1")),
    }
}

/// A field's name, in lower case, and value.
fn field(line: &[u8]) -> Result<(String, &[u8]), &'static str> {
    let colon = line.iter().position(|&byte| byte == b':').ok_or("a field without a colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return Err("a field's name that is no token");
    }
    if value.iter().any(|byte| b"\0\r".contains(byte)) {
        return Err("NUL or CR in a value");
    }
    let is_space = |byte: &u8| b" \t".contains(byte);
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), &value[start..end]))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The length of a body in chunks.
fn chunks(bytes: &[u8]) -> Result<usize, Option<&'static str>> {
    let mut rest = bytes;
    loop {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = str::from_utf8(&rest[..digits]).unwrap();
        if size.is_empty() {
            return Err(Some("a chunk without a size"));
        }
        let size = u64::from_str_radix(size, 16).map_err(|_| Some("a chunk that is too large"))?;
        rest = &rest[digits..];
        let end = rest.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or(Some("a chunk's size without an end"))?;
        let extension = rest[..end].strip_suffix(b"\r");
        let extension = extension.ok_or(Some("a chunk's size that ends in LF alone"))?;
        match extension.trim_ascii_start() {
            [] => {}
            [b';', ..] if extension.contains(&b'\r') => return Err(None),
            [b';', ..] => {}
            _ => return Err(Some("a chunk's size that is not hex")),
        }
        rest = &rest[end + 1..];
        if size == 0 {
            return match rest.strip_prefix(b"\r\n") {
                Some(rest) => Ok(bytes.len() - rest.len()),
                None if rest.windows(4).any(|four| four == b"\r\n\r\n") => Err(None), // trailers
                None => Err(Some("chunks without an end")),
            };
        }
        if size.saturating_add(2) > rest.len() as u64 {
            return Err(Some("a chunk shorter than its size"));
        }
        let (_, after) = rest.split_at(size as usize);
        rest = after.strip_prefix(b"\r\n").ok_or(Some("a chunk longer than its size"))?;
    }
}

#[test]
fn the_fuzzers_own_parser_knows_broken_from_fine() {
    let shown = |bytes: &str| format!("{:?}", claims(bytes.as_bytes()));
    let get = "GET / HTTP/1.1\r\nHost: a\r\n";
    assert_eq!(shown(&format!("{get}\r\n{get}Connection: close\r\n\r\nb")), "([Any, Last], false)");
    assert_eq!(shown(&format!("{get}Content-Length: 2\r\n\r\nbc")), "([Any], false)");
    let chunked = format!("{get}Transfer-Encoding: chunked\r\n\r\n");
    assert_eq!(shown(&format!("{chunked}1;b\r\nc\r\n0\r\n\r\n{get}\r\n")), "([Any, Any], false)");
    let both = format!("{get}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(shown(&format!("{both}{get}\r\n")), "([Last], false)");
    for broken in [
        get.to_owned(),
        format!("{get}Host: a\r\n\r\n"),
        format!("{get} b\r\n\r\n"),
        format!("{get}B : c\r\n\r\n"),
        format!("{get}Content-Length: 3\r\n\r\nbc"),
        format!("{get}Content-Length: 3\r\nContent-Length: 2\r\n\r\nbcd"),
        format!("{get}Content-Length: -1\r\n\r\n"),
        format!("{get}Transfer-Encoding: gzip\r\n\r\n"),
        format!("{chunked}1\r\nbc\r\n0\r\n\r\n"),
        format!("{chunked}1\nb\r\n0\r\n\r\n"),
        format!("{chunked}1\r\nb\r\n0\r\n"),
        format!("{chunked}x\r\n"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET /\r\n\r\n".to_owned(),
    ] {
        assert!(shown(&broken).starts_with("([Broken("), "{broken}: {}", shown(&broken));
    }
    for doubtful in
        ["GET  / HTTP/1.1\r\n\r\n".to_owned(), format!("{get}Content-Length: 1, 1\r\n\r\n")]
    {
        assert_eq!(shown(&doubtful), "([], true)");
    }
}
