//! The prober's load: the server, its paths, the rate, and the expected answer.

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::load::Share;
use crate::probe::arrivals::Arrivals;
use crate::server::Server;

/// The body of both our servers at `/`.
pub const FRONT_PAGE: &str = "hello";

/// How long an answer may take, unless the user or an experiment says otherwise.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Requests of an open loop that may be under way at most, unless the user says otherwise.
pub const UNDER_WAY: u64 = 10_000;

/// The load on a server, as results contain it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Load {
    /// The URL.
    pub url: String,
    /// Paths with weights, instead of the URL's path; empty: only the URL's path.
    #[serde(skip)]
    pub mix: Vec<Share>,
    /// Clients, or with a rate the most requests under way.
    pub connections: u64,
    /// Requests due per second (an open loop); `None`: each client sends a request when it has its answer (a closed
    /// loop).
    pub rate: Option<u64>,
    /// The distribution of their gaps; `None` without a rate.
    pub arrivals: Option<Arrivals>,
    /// The seed of random arrivals, and of the paths of a mix.
    #[serde(skip)]
    pub seed: u64,
    /// Whether a connection serves many requests, or one.
    pub keep_alive: bool,
    /// How long requests are sent; in a result, were sent or, if their number ended it, answered.
    pub seconds: f64,
    /// Requests of an open loop that are due this early are not in its latencies.
    #[serde(skip)]
    pub lead_in: Duration,
    /// The number of requests, if that ends the run.
    #[serde(skip)]
    pub requests: Option<u64>,
    /// How long a connection may take to open, and then an answer to come.
    pub timeout_ms: u64,
    /// The exact body of a good answer; `None`: any.
    pub expect: Option<String>,
}

impl Load {
    /// A load on `path` of a server, still without rate and duration. Our servers answer `hello` at `/`; any body of
    /// others is good.
    pub fn of(server: &Server, path: &str) -> Self {
        let expect = (path == "/" && !server.is_foreign()).then(|| FRONT_PAGE.to_owned());
        Self {
            url: server.url(path),
            expect,
            timeout_ms: ANSWER_WITHIN.as_millis() as u64,
            ..Self::default()
        }
    }

    /// The same as an open loop: requests are due at this rate.
    pub fn at_rate(self, rate: u64, arrivals: Arrivals) -> Self {
        Self { connections: UNDER_WAY, rate: Some(rate), arrivals: Some(arrivals), ..self }
    }

    /// When no more requests are sent, unless their number ends the run.
    pub fn end(&self) -> Option<Duration> {
        self.requests.is_none().then(|| Duration::from_secs_f64(self.seconds))
    }
}

/// Requests, ready to be sent many times.
pub struct Target {
    /// The server's address.
    pub address: SocketAddr,
    /// The request for each path, byte for byte, and the sum of the weights up to it.
    requests: Vec<(f64, Vec<u8>)>,
    seed: u64,
    /// The body of a good answer.
    pub expect: Option<Vec<u8>>,
    /// How long a connection may take to open, and then an answer to come.
    pub timeout: Duration,
}

impl Target {
    /// The requests of a load, to a server at `address`.
    pub fn new(address: SocketAddr, load: &Load) -> Self {
        let rest = load.url.strip_prefix("http://").unwrap_or(&load.url);
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let close = if load.keep_alive { "" } else { "Connection: close\r\n" };
        let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n");
        let mut sum = 0.0;
        let mixed = load.mix.iter().map(|share| {
            sum += share.weight;
            (sum, request(&share.path).into())
        });
        let mut requests: Vec<(f64, Vec<u8>)> = mixed.collect();
        if requests.is_empty() {
            requests.push((1.0, request(path).into()));
        }
        Self {
            address,
            requests,
            seed: load.seed,
            expect: load.expect.clone().map(String::into_bytes),
            timeout: Duration::from_millis(load.timeout_ms),
        }
    }

    /// The request with this number, byte for byte: the same in each run with the same seed.
    pub fn request(&self, number: usize) -> &[u8] {
        let (last, others) = self.requests.split_last().expect("there is one at least");
        if others.is_empty() {
            return &last.1;
        }
        let drawn = Rng::with_seed(self.seed.rotate_left(32) ^ number as u64).f64() * last.0;
        others.iter().find(|(sum, _)| drawn < *sum).map_or(&last.1, |(_, request)| request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Spec;

    #[test]
    fn the_request_says_host_and_path_as_given_and_whether_the_connection_stays() {
        let request = |url: &str, keep_alive| {
            let load = Load { url: url.into(), keep_alive, ..Load::default() };
            Target::new(([127, 0, 0, 1], 80).into(), &load).request(7).to_vec()
        };
        assert_eq!(request("http://here:80/", true), b"GET / HTTP/1.1\r\nHost: here:80\r\n\r\n");
        let closing = b"GET /x HTTP/1.1\r\nHost: here:80\r\nConnection: close\r\n\r\n";
        assert_eq!(request("http://here:80/x", false), closing);

        // For a server that runs already: its own path, and any body.
        let spec = Spec::parse("http://127.0.0.1:81/a?b").unwrap();
        let load = Load::of(&Server::start(&spec, &[]).unwrap(), "/");
        assert_eq!((&*load.url, load.expect), ("http://127.0.0.1:81/a?b", None));
        let own = b"GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:81\r\n\r\n";
        assert_eq!(request(&load.url, true), own);
    }

    #[test]
    fn a_mix_is_asked_for_by_its_weights_and_a_seed_asks_for_the_same_again() {
        let share = |weight, path: &str| Share { weight, path: path.into() };
        let target = |seed| {
            let mix = vec![share(199.0, "/"), share(1.0, "/block/20000")];
            let load = Load { url: "http://here/".into(), mix, seed, ..Load::default() };
            Target::new(([127, 0, 0, 1], 80).into(), &load)
        };
        let blocking = |seed| -> Vec<usize> {
            let target = target(seed);
            let blocks = |number: &usize| target.request(*number).starts_with(b"GET /block/20000 ");
            (0..100_000).filter(blocks).collect()
        };
        let (one, other) = (blocking(1), blocking(2));
        assert!((400..600).contains(&one.len()) && (400..600).contains(&other.len()));
        assert!(one == blocking(1) && one != other);
    }
}
