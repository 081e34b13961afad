//! Who is asked, for what, and what the answer should be.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::server::Server;

/// What the front page of both servers says.
const FRONT_PAGE: &[u8] = b"hello";

/// One URL, ready to be asked for many times.
pub struct Target {
    /// Where to connect to.
    pub address: SocketAddr,
    /// The request, byte for byte.
    pub request: Vec<u8>,
    /// What the answer's body should be, exactly; any body will do if nothing is said.
    pub expect: Option<Vec<u8>>,
    /// How long a connection may take to open, and then an answer to come.
    pub timeout: Duration,
}

impl Target {
    /// Asks one of our servers at `address` for `path`; its front page says `hello`.
    pub fn new(address: SocketAddr, host: &str, path: &str, alive: bool, limit: Duration) -> Self {
        let close = if alive { "" } else { "Connection: close\r\n" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n").into_bytes();
        let expect = (path == "/").then(|| FRONT_PAGE.to_vec());
        Self { address, request, expect, timeout: limit }
    }

    /// Asks a server of any kind for `path`. Nothing is expected of the answers of foreign ones.
    ///
    /// # Errors
    /// When the server was named by a URL whose host has no address.
    pub fn of(server: &Server, path: &str, alive: bool, limit: Duration) -> Result<Self> {
        let url = server.url(path);
        if server.is_foreign() {
            return Self::at(&url, alive, limit);
        }
        let (address, host, path) = resolve(&url)?;
        Ok(Self::new(address, host, path, alive, limit))
    }

    /// Asks for a URL; nothing is expected of the answers.
    ///
    /// # Errors
    /// As for [`resolve`].
    pub fn at(url: &str, alive: bool, limit: Duration) -> Result<Self> {
        let (address, host, path) = resolve(url)?;
        Ok(Self { expect: None, ..Self::new(address, host, path, alive, limit) })
    }

    /// Whether it is reached without leaving this machine, by one of the IPv4 loopback addresses.
    pub fn is_on_loopback(&self) -> bool {
        matches!(self.address.ip(), IpAddr::V4(ip) if ip.is_loopback())
    }
}

/// Takes `http://host:port/path` apart and looks the host up: its address, `host:port`, its path.
///
/// # Errors
/// When the host has no address, or what should be its port is none.
pub fn resolve(url: &str) -> Result<(SocketAddr, &str, &str)> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // In `[::1]` colons are not what a port stands behind.
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let full = if has_port { host.to_owned() } else { format!("{host}:80") };
    let remedy = || format!("cannot find {host} of {url}; expected http://host:port/path");
    let mut found = full.to_socket_addrs().with_context(remedy)?;
    let address = found.next().with_context(remedy)?;
    Ok((address, host, if path.is_empty() { "/" } else { path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_with_the_port_and_the_path_that_are_implied() {
        for (url, address, host, path) in [
            ("http://127.0.0.1:8080/a/b?c", "127.0.0.1:8080", "127.0.0.1:8080", "/a/b?c"),
            ("http://127.0.0.1", "127.0.0.1:80", "127.0.0.1", "/"),
            ("http://[::1]:81/", "[::1]:81", "[::1]:81", "/"),
            ("http://[::1]", "[::1]:80", "[::1]", "/"),
        ] {
            assert_eq!(resolve(url).unwrap(), (address.parse().unwrap(), host, path));
        }
        assert!(resolve("http://127.0.0.1:port/").unwrap_err().to_string().contains("port"));
    }

    #[test]
    fn the_request_says_host_and_whether_the_connection_stays() {
        let target = |path, keep_alive| {
            let address = ([127, 0, 0, 1], 80).into();
            Target::new(address, "here:80", path, keep_alive, Duration::from_secs(1))
        };
        assert_eq!(target("/", true).request, b"GET / HTTP/1.1\r\nHost: here:80\r\n\r\n");
        let closing = b"GET /x HTTP/1.1\r\nHost: here:80\r\nConnection: close\r\n\r\n";
        assert_eq!(target("/x", false).request, closing);
        assert_eq!(target("/", true).expect.as_deref(), Some(FRONT_PAGE));
        assert_eq!(target("/x", true).expect, None);
    }
}
