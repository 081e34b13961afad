//! Who is asked, for what, and what the answer should be.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::server::Server;

/// What the front page of both our servers says.
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

    /// Asks a server of any kind for `path`. Of the answers of foreign ones nothing is expected.
    pub fn of(server: &Server, path: &str, alive: bool, limit: Duration) -> Self {
        let url = server.url(path);
        let rest = url.strip_prefix("http://").unwrap_or(&url);
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let target = Self::new(server.address(), host, path, alive, limit);
        let expect = target.expect.filter(|_| !server.is_foreign());
        Self { expect, ..target }
    }

    /// Whether it is reached without leaving this machine, by one of the IPv4 loopback addresses.
    pub fn is_on_loopback(&self) -> bool {
        matches!(self.address.ip(), IpAddr::V4(ip) if ip.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Spec;

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

    #[test]
    fn a_server_that_runs_already_is_asked_for_its_own_path_and_for_any_body() {
        let spec = Spec::parse("http://127.0.0.1:81/a?b").unwrap();
        let server = Server::start(&spec, &[]).unwrap();
        let target = Target::of(&server, "/", true, Duration::from_secs(1));
        assert_eq!(target.request, b"GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:81\r\n\r\n");
        assert_eq!((target.address, target.expect), (([127, 0, 0, 1], 81).into(), None));
    }
}
