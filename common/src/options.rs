//! The options both servers share: typed, and checked before any work starts.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::affinity::Affinity;
use crate::schedule::Schedule;

/// Options of both servers. Each can also be set through the environment variable its help names;
/// the command line wins.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// IPv4 or IPv6 address to listen on.
    ///
    /// 127.0.0.1 is reachable from this machine alone. The post listened on 0.0.0.0, which is every
    /// interface: whoever reaches this machine then reaches the server. `::` is dual-stack where
    /// the kernel's default is (net.ipv6.bindv6only = 0).
    #[arg(long, value_name = "ADDR", env = "SERVER_HOST", default_value = "127.0.0.1",
          value_parser = parse_host)]
    pub host: IpAddr,

    /// Port to listen on; 0 lets the kernel choose, and the line printed at start names it
    #[arg(long, value_name = "N", env = "SERVER_PORT", default_value_t = 8080)]
    pub port: u16,

    /// Worker processes, 1 to 1024
    #[arg(long, value_name = "N", env = "SERVER_WORKERS", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: u16,

    /// Connections that may wait in the accept queue of one listening socket.
    ///
    /// The kernel caps it at net.core.somaxconn. N sockets of their own queue N times as much as
    /// one that is shared.
    #[arg(long, value_name = "N", env = "SERVER_BACKLOG", default_value_t = 1024,
          value_parser = clap::value_parser!(i32).range(1..))]
    pub backlog: i32,

    /// Put the scoreboard in this file, so that another process can read it
    #[arg(long, value_name = "PATH", env = "SERVER_SCOREBOARD")]
    pub scoreboard: Option<PathBuf>,

    /// CPU time the handler burns per request, such as 500ns, 70us (about what Sanic takes), 1ms.
    ///
    /// By the thread's CPU clock and not by the wall clock: with more workers than cores, time
    /// that passes while another worker has the core is not work done.
    #[arg(long, value_name = "DURATION", env = "SERVER_HANDLER_COST", default_value = "0ns",
          value_parser = humantime::parse_duration)]
    pub handler_cost: Duration,

    /// Add the lab's routes: /spin/{microseconds} burns CPU time, /block/{microseconds} blocks the
    /// worker's thread, both up to 1 s.
    ///
    /// Off by default: anyone who reaches the port could keep the workers busy with them.
    #[arg(long, env = "SERVER_LAB", value_parser = BoolishValueParser::new())]
    pub lab: bool,

    /// Connections a worker has open at most; beyond that they wait in the accept queue
    #[arg(long, value_name = "N", env = "SERVER_MAX_CONNECTIONS", default_value_t = 8192,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// How long a request's head may take: from accept, later from its first byte
    #[arg(long, value_name = "DURATION", env = "SERVER_HEADER_TIMEOUT", default_value = "10s",
          value_parser = humantime::parse_duration)]
    pub header_timeout: Duration,

    /// How long a connection may be idle between an answer and the next request
    #[arg(long, value_name = "DURATION", env = "SERVER_IDLE_TIMEOUT", default_value = "60s",
          value_parser = humantime::parse_duration)]
    pub idle_timeout: Duration,

    /// How long a request's body may take
    #[arg(long, value_name = "DURATION", env = "SERVER_BODY_TIMEOUT", default_value = "30s",
          value_parser = humantime::parse_duration)]
    pub body_timeout: Duration,

    /// How long a client may take no byte of an answer that waits for it
    #[arg(long, value_name = "DURATION", env = "SERVER_WRITE_TIMEOUT", default_value = "30s",
          value_parser = humantime::parse_duration)]
    pub write_timeout: Duration,

    /// How long workers may take to answer what they have, when they are told to end
    #[arg(long, value_name = "DURATION", env = "SERVER_DRAIN_TIMEOUT", default_value = "10s",
          value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,

    /// A worker whose event loop has not turned for so long is killed and replaced; 0s = never
    #[arg(long, value_name = "DURATION", env = "SERVER_HANG_TIMEOUT", default_value = "30s",
          value_parser = humantime::parse_duration)]
    pub hang_timeout: Duration,

    /// How the kernel schedules workers: normal, or batch, where a worker that is woken waits for its
    /// turn instead of taking the core from whoever runs. By default as the policy wants it: batch
    /// with least-conn, normal otherwise
    #[arg(long, value_name = "WAY", env = "SERVER_SCHEDULE")]
    pub schedule: Option<Schedule>,

    /// On which CPUs workers run: free, wherever the scheduler wants, or pinned, each on one CPU only.
    /// By default as the policy wants it: pinned with reuseport-server's least-conn, if there are at
    /// least as many workers as CPUs; free otherwise
    #[arg(long, value_name = "WAY", env = "SERVER_AFFINITY")]
    pub affinity: Option<Affinity>,
}

fn parse_host(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "not an IP address, such as 127.0.0.1, ::1 or 0.0.0.0".into())
}

impl Options {
    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }
}

#[cfg(test)]
impl Options {
    /// The defaults, whatever the environment says.
    pub fn for_tests() -> Self {
        Self {
            host: [127, 0, 0, 1].into(),
            port: 0,
            workers: 4,
            backlog: 1024,
            scoreboard: None,
            handler_cost: Duration::ZERO,
            lab: false,
            max_connections: 8192,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            hang_timeout: Duration::from_secs(30),
            schedule: None,
            affinity: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        let words = ["server"].iter().chain(arguments);
        Cli::try_parse_from(words).map(|cli| cli.options).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.address().to_string(), "127.0.0.1:8080");
        assert_eq!((options.workers, options.backlog), (4, 1024));
        assert_eq!((options.handler_cost, options.lab), (Duration::ZERO, false));
    }

    #[test]
    fn a_duration_can_be_as_short_as_a_nanosecond() {
        assert_eq!(
            parse(&["--handler-cost", "1ns"]).unwrap().handler_cost,
            Duration::from_nanos(1)
        );
        assert_eq!(
            parse(&["--handler-cost", "70us"]).unwrap().handler_cost,
            Duration::from_micros(70)
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in [
            ["--workers", "0"],
            ["--workers", "1025"],
            ["--port", "65536"],
            ["--backlog", "0"],
            ["--host", "localhost"],
            ["--handler-cost", "70 parsecs"],
        ] {
            let refusal = parse(&bad).unwrap_err();
            assert!(refusal.contains(bad[0]) && refusal.contains(bad[1]), "{refusal}");
        }
    }
}
