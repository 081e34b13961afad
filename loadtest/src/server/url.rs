//! A server that runs already, given by its URL.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};

use anyhow::{Context, Result};

use super::{CONNECT_WITHIN, Server};

impl Server {
    /// Parses `http://host:port/path` and resolves the host.
    pub(super) fn running(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // The colons in `[::1]` do not precede a port.
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let full = if has_port { host.to_owned() } else { format!("{host}:80") };
        let remedy = || format!("cannot find {host} of {url}; expected http://host:port/path");
        let all: Vec<_> = full.to_socket_addrs().with_context(remedy)?.collect();
        // Of several addresses, as localhost often has, the first one that serves.
        let serves = |it: &&SocketAddr| TcpStream::connect_timeout(it, CONNECT_WITHIN).is_ok();
        let first = if all.len() > 1 { all.iter().find(serves) } else { None };
        let address = *first.or(all.first()).with_context(remedy)?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { written: Some((host.into(), path.into())), ..Self::at(address) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_with_the_port_and_the_path_that_are_implied() {
        for (url, address, at_root) in [
            ("http://127.0.0.1:8080/a/b?c", "127.0.0.1:8080", "http://127.0.0.1:8080/a/b?c"),
            ("http://127.0.0.1", "127.0.0.1:80", "http://127.0.0.1/"),
            ("http://[::1]:81/", "[::1]:81", "http://[::1]:81/"),
            ("http://[::1]", "[::1]:80", "http://[::1]/"),
        ] {
            let running = Server::running(url).unwrap();
            assert_eq!((running.address, &*running.url("/")), (address.parse().unwrap(), at_root));
            assert!(running.url("/x").ends_with("/x"));
        }
        assert!(Server::running("http://127.0.0.1:port/").is_err());
    }
}
