//! A server that somebody else started: only where it is is known.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result};

/// Where it is.
pub struct Running {
    pub address: SocketAddr,
    /// `host:port`, or the host alone, as it was written.
    host: String,
    path: String,
}

impl Running {
    /// Takes `http://host:port/path` apart and looks the host up.
    ///
    /// # Errors
    /// When the host has no address, or what should be its port is none.
    pub fn find(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // In `[::1]` colons are not what a port stands behind.
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let full = if has_port { host.to_owned() } else { format!("{host}:80") };
        let remedy = || format!("cannot find {host} of {url}; expected http://host:port/path");
        let address = full.to_socket_addrs().with_context(remedy)?.next().with_context(remedy)?;
        Ok(Self { address, host: host.into(), path: path.into() })
    }

    /// The URL of a path; the one that it was named with where `path` is `/`.
    pub fn url(&self, path: &str) -> String {
        let own = if self.path.is_empty() { "/" } else { &self.path };
        format!("http://{}{}", self.host, if path == "/" { own } else { path })
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
            let running = Running::find(url).unwrap();
            assert_eq!((running.address, &*running.url("/")), (address.parse().unwrap(), at_root));
            assert!(running.url("/x").ends_with("/x"));
        }
        assert!(Running::find("http://127.0.0.1:port/").is_err());
    }
}
