//! The options both servers share: typed, and checked before any work starts.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use nix::net::if_::if_nametoindex;

use crate::platform::affinity::Affinity;
use crate::platform::limits;
use crate::platform::rights::User;
use crate::platform::schedule::Schedule;

/// As many workers as `--workers` allows; SIGTTIN does not go beyond it either.
pub const MOST_WORKERS: usize = 1024;

/// Options of both servers. Each can also be set through the environment variable its help names;
/// the command line wins.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// IPv4 or IPv6 address to listen on.
    ///
    /// 127.0.0.1 is reachable from this machine only. The post listened on 0.0.0.0, that is, on
    /// every interface: any host that reaches this machine then reaches the server. `::` accepts
    /// IPv4 as well if net.ipv6.bindv6only is 0, the kernel's default.
    #[arg(long, value_name = "ADDR", env = "SERVER_HOST", default_value = "127.0.0.1",
          value_parser = parse_host)]
    pub host: Host,

    /// Port to listen on; 0 lets the kernel choose, and the line printed at start names it
    #[arg(long, value_name = "N", env = "SERVER_PORT", default_value_t = 8080)]
    pub port: u16,

    /// Worker processes, 1 to 1024; auto is one for each CPU that this server may use.
    ///
    /// These are the CPUs of its affinity mask, or fewer if the CPU quota of its control group,
    /// rounded up, is smaller.
    #[arg(long, value_name = "N", env = "SERVER_WORKERS", default_value_t = 4,
          value_parser = parse_workers)]
    pub workers: u16,

    /// Connections that may wait in the accept queue of one listening socket.
    ///
    /// The kernel caps it at net.core.somaxconn. N per-worker sockets have N accept queues, and so
    /// hold N times as many waiting connections as one shared socket.
    #[arg(long, value_name = "N", env = "SERVER_BACKLOG", default_value_t = 1024,
          value_parser = clap::value_parser!(i32).range(1..))]
    pub backlog: i32,

    /// Copy the scoreboard into this file, four times a second, so that another process can read it
    #[arg(long, value_name = "PATH", env = "SERVER_SCOREBOARD")]
    pub scoreboard: Option<PathBuf>,

    /// CPU time that the handler uses per request, such as 500ns, 70us (about what Sanic takes) or
    /// 1ms, up to 1s.
    ///
    /// Measured by the thread's CPU clock, not by the wall clock: with more workers than cores,
    /// time that a worker spends waiting for a core is not work.
    #[arg(long, value_name = "DURATION", env = "SERVER_HANDLER_COST", default_value = "0ns",
          value_parser = parse_handler_cost)]
    pub handler_cost: Duration,

    /// Add the lab's routes: /spin/{microseconds} uses CPU time, /block/{microseconds} blocks the
    /// worker's thread, both up to 1 s.
    ///
    /// Off by default: any client that reaches the port could keep the workers busy with them.
    #[arg(long, env = "SERVER_LAB", value_parser = BoolishValueParser::new())]
    pub lab: bool,

    /// Most open connections per worker; at the limit new ones wait in the accept queue, and
    /// connections that have been idle for over 1 s are closed to make room, the longest idle first
    #[arg(long, value_name = "N", env = "SERVER_MAX_CONNECTIONS", default_value_t = 8192,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// Time limit for a request's head: from accept or, for later requests, from its first byte
    #[arg(long, value_name = "DURATION", env = "SERVER_HEADER_TIMEOUT", default_value = "10s",
          value_parser = parse_limit)]
    pub header_timeout: Duration,

    /// Time limit for an idle connection, between an answer and the next request
    #[arg(long, value_name = "DURATION", env = "SERVER_IDLE_TIMEOUT", default_value = "60s",
          value_parser = parse_limit)]
    pub idle_timeout: Duration,

    /// Time limit for a request's body
    #[arg(long, value_name = "DURATION", env = "SERVER_BODY_TIMEOUT", default_value = "30s",
          value_parser = parse_limit)]
    pub body_timeout: Duration,

    /// Time limit for a client that reads no byte of an answer that is ready
    #[arg(long, value_name = "DURATION", env = "SERVER_WRITE_TIMEOUT", default_value = "30s",
          value_parser = parse_limit)]
    pub write_timeout: Duration,

    /// Close a connection of this age (within 10 %) with its next answer, which has Connection:
    /// close; 0s = never
    #[arg(long, value_name = "DURATION", env = "SERVER_MAX_CONNECTION_AGE", default_value = "0s",
          value_parser = humantime::parse_duration)]
    pub max_connection_age: Duration,

    /// Close connections of a worker that has over one more than the average, each with its next
    /// answer: at most a fifth of its connections per second; the clients then reconnect
    #[arg(long, env = "SERVER_REBALANCE", value_parser = BoolishValueParser::new())]
    pub rebalance: bool,

    /// Time limit for the drain, in which a worker that ends answers the requests it has
    #[arg(long, value_name = "DURATION", env = "SERVER_DRAIN_TIMEOUT", default_value = "10s",
          value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,

    /// Kill and replace a worker whose event loop has not run, and that has answered nothing, for this
    /// long, at least 1s; 0s = never
    #[arg(long, value_name = "DURATION", env = "SERVER_HANG_TIMEOUT", default_value = "30s",
          value_parser = parse_hang_timeout)]
    pub hang_timeout: Duration,

    /// How the kernel schedules workers: normal; batch, where a woken worker does not preempt the
    /// process that runs; or by-load, which is batch while the worker waits longer for a core than
    /// it runs. The default depends on the policy: by-load with least-conn, normal otherwise
    #[arg(long, value_name = "WAY", env = "SERVER_SCHEDULE")]
    pub schedule: Option<Schedule>,

    /// CPUs that workers run on: free, chosen by the scheduler, or pinned, one CPU per worker. The
    /// default is free.
    #[arg(long, value_name = "WAY", env = "SERVER_AFFINITY")]
    pub affinity: Option<Affinity>,

    /// Serve as this user, NAME or NAME:GROUP. The parent, which binds the port, stays root.
    ///
    /// Workers switch to that user before they accept connections. Without this option they keep
    /// the user of the parent. They keep no capabilities in either case.
    #[arg(long, value_name = "NAME", env = "SERVER_USER", value_parser = User::parse)]
    pub user: Option<User>,
}

fn parse_workers(text: &str) -> Result<u16, String> {
    let number = match text {
        "auto" => Ok(limits::usable_cpus().min(MOST_WORKERS)),
        number => number.parse(),
    };
    let number = number.ok().filter(|number| (1..=MOST_WORKERS).contains(number));
    let number = number.and_then(|number| u16::try_from(number).ok());
    number.ok_or_else(|| format!("expected a number from 1 to {MOST_WORKERS} or auto"))
}

/// A time limit of zero would end every connection that waits at all.
fn parse_limit(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text).map_err(|error| error.to_string())? {
        Duration::ZERO => Err("a time limit must be longer than 0s; for none, use 1000days".into()),
        limit => Ok(limit),
    }
}

/// A worker that computes for longer than this per request serves nobody.
const HIGHEST_COST: Duration = Duration::from_secs(1);

fn parse_handler_cost(text: &str) -> Result<Duration, String> {
    let cost = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if cost > HIGHEST_COST {
        return Err(format!("use at most {HIGHEST_COST:?}: a worker that computes answers nobody"));
    }
    Ok(cost)
}

/// Less than this would be no more than a few turns of an event loop that has nothing to do.
const SHORTEST_HANG_TIMEOUT: Duration = Duration::from_secs(1);

fn parse_hang_timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if timeout.is_zero() || timeout >= SHORTEST_HANG_TIMEOUT {
        return Ok(timeout);
    }
    Err(format!(
        "an idle worker's event loop runs four times per second, so healthy workers would be killed; \
         use {SHORTEST_HANG_TIMEOUT:?} or more, or 0s for never"
    ))
}

/// An IP address. A link-local one of IPv6 (fe80::1%eth0) means something on one interface only, and so
/// comes with that interface's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    ip: IpAddr,
    scope: u32,
}

fn parse_host(text: &str) -> Result<Host, String> {
    let (address, interface) = text.split_once('%').unzip();
    let ip: IpAddr = address
        .unwrap_or(text)
        .parse()
        .map_err(|_| "not an IP address, such as 127.0.0.1, ::1 or 0.0.0.0")?;
    let scope = match interface {
        Some(_) if ip.is_ipv4() => return Err("only an IPv6 address takes an interface".into()),
        Some(interface) => interface_number(interface)
            .ok_or(format!("there is no interface {interface:?}; `ip link` lists them"))?,
        None => 0,
    };
    Ok(Host { ip, scope })
}

/// An interface's number, from its name or as it is.
fn interface_number(interface: &str) -> Option<u32> {
    let named = if_nametoindex(interface).ok();
    named.or_else(|| interface.parse().ok())
}

impl Options {
    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        match self.host.ip {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), self.port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, self.port, 0, self.host.scope).into(),
        }
    }
}

#[cfg(test)]
impl Options {
    /// The defaults, whatever the environment says.
    pub fn for_tests() -> Self {
        Self {
            host: Host { ip: [127, 0, 0, 1].into(), scope: 0 },
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
            max_connection_age: Duration::ZERO,
            rebalance: false,
            drain_timeout: Duration::from_secs(10),
            hang_timeout: Duration::from_secs(30),
            schedule: None,
            affinity: None,
            user: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    #[command(allow_negative_numbers = true)]
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
    fn a_hang_timeout_is_a_second_or_more_or_never() {
        for (text, timeout) in [("0s", Duration::ZERO), ("1s", SHORTEST_HANG_TIMEOUT)] {
            assert_eq!(parse(&["--hang-timeout", text]).unwrap().hang_timeout, timeout);
        }
    }

    #[test]
    fn auto_is_as_many_workers_as_cpus() {
        let workers = parse(&["--workers", "auto"]).unwrap().workers;
        assert_eq!(usize::from(workers), limits::usable_cpus());
        assert_eq!(parse(&["--workers", "1024"]).unwrap().workers, 1024);
    }

    #[test]
    fn a_link_local_address_names_its_interface() {
        let scope = |host: &str| match parse(&["--host", host]).unwrap().address() {
            SocketAddr::V6(address) => (address.ip().to_string(), address.scope_id()),
            SocketAddr::V4(_) => unreachable!(),
        };
        assert_eq!(scope("fe80::1%lo"), ("fe80::1".into(), 1), "the loopback is the first");
        assert_eq!(scope("fe80::1%7"), ("fe80::1".into(), 7));
        assert_eq!(scope("::1"), ("::1".into(), 0));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in [
            ["--workers", "0"],
            ["--workers", "1025"],
            ["--workers", "all"],
            ["--user", "no-such-user"],
            ["--port", "65536"],
            ["--backlog", "0"],
            ["--host", "localhost"],
            ["--host", "fe80::1%"],
            ["--host", "fe80::1%no-such-interface"],
            ["--host", "127.0.0.1%lo"],
            ["--handler-cost", "70 parsecs"],
            ["--hang-timeout", "999ms"],
            ["--handler-cost", "1001ms"],
            ["--header-timeout", "0s"],
            ["--idle-timeout", "0s"],
            ["--body-timeout", "0s"],
            ["--write-timeout", "0s"],
            ["--workers", "-1"],
            ["--port", "-1"],
        ] {
            let refusal = parse(&bad).unwrap_err();
            assert!(refusal.contains(bad[0]) && refusal.contains(bad[1]), "{refusal}");
        }
    }
}
