//! The kernel's counters of connections that it dropped or migrated.

use std::collections::HashMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The kernel's `TcpExt` counters of a thread's network namespace, since its creation.
///
/// They count for all sockets of the namespace: other servers on the machine change them, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpCounters {
    /// How often the accept queue was full at the end, or at the beginning, of a handshake.
    pub listen_overflows: u64,
    /// Connections that a listening socket dropped for any reason, including overflows.
    pub listen_drops: u64,
    /// Connections whose listening socket was closed, and that went to another one of its group; `None`: this
    /// kernel does not count them (before Linux 5.14).
    pub migrate_success: Option<u64>,
    /// Connections that should have gone to another one and could not; `None` as above. If neither the sysctl
    /// tcp_migrate_req nor a program asks for migration, the kernel resets them without counting.
    pub migrate_failure: Option<u64>,
}

impl TcpCounters {
    /// Reads the counters of the calling thread's network namespace.
    /// Fails when the file cannot be read, or lacks them.
    pub fn now() -> Result<Self> {
        // Not /proc/net, which shows the namespace of the process's first thread.
        let path = "/proc/thread-self/net/netstat";
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        Self::parse(&text).with_context(|| format!("{path} is not as expected"))
    }

    /// The difference to an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        let both = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Self {
            listen_overflows: self.listen_overflows.saturating_sub(earlier.listen_overflows),
            listen_drops: self.listen_drops.saturating_sub(earlier.listen_drops),
            migrate_success: both(self.migrate_success, earlier.migrate_success),
            migrate_failure: both(self.migrate_failure, earlier.migrate_failure),
        }
    }

    /// The file has two lines for each group: `TcpExt: name name ...` and `TcpExt: value value ...`.
    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
        let names = lines.next().context("it has no names of TcpExt")?.split_whitespace();
        let values = lines.next().context("it has no values of TcpExt")?.split_whitespace();
        let found: HashMap<&str, &str> = names.zip(values).collect();
        let counter = |name: &str| {
            let value = found.get(name).map(|value| value.parse::<u64>());
            value.transpose().with_context(|| format!("{name} is not a number"))
        };
        let must = |name: &str| counter(name)?.with_context(|| format!("it has no {name}"));
        Ok(Self {
            listen_overflows: must("ListenOverflows")?,
            listen_drops: must("ListenDrops")?,
            migrate_success: counter("TCPMigrateReqSuccess")?,
            migrate_failure: counter("TCPMigrateReqFailure")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::TimedOut;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use common::lesson::socket::{self, Sharing};

    use super::*;
    use crate::kernel::netns;

    fn listen(port: u16, backlog: i32) -> TcpListener {
        socket::listen(([127, 0, 0, 1], port).into(), backlog, Sharing::ReusePort).unwrap()
    }

    #[test]
    fn counters_are_found_by_name_and_what_only_one_reading_has_is_not_counted() {
        let text = "TcpExt: SyncookiesSent ListenDrops TCPMigrateReqSuccess ListenOverflows\n\
                    TcpExt: 1 22 333 4444\nIpExt: InNoRoutes ListenDrops\nIpExt: 5 6\n";
        let found = TcpCounters::parse(text).unwrap();
        let counters = |listen_overflows, listen_drops, migrate_success, migrate_failure| {
            TcpCounters { listen_overflows, listen_drops, migrate_success, migrate_failure }
        };
        assert_eq!(found, counters(4444, 22, Some(333), None));
        let earlier = counters(4440, 22, Some(300), Some(1));
        assert_eq!(found.since(&earlier), counters(4, 0, Some(33), None));
        assert_eq!(earlier.since(&found).migrate_failure, None);
    }

    #[test]
    fn what_is_not_such_a_file_is_refused() {
        for (text, reason) in [
            ("", "no names"),
            ("TcpExt: ListenDrops ListenOverflows\n", "no values"),
            ("TcpExt: A\nTcpExt: 1\n", "no ListenOverflows"),
            ("TcpExt: ListenDrops ListenOverflows\nTcpExt: 1 many\n", "ListenOverflows is not"),
        ] {
            let refusal = TcpCounters::parse(text).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{text:?}: {refusal}");
        }
    }

    #[test]
    fn full_queues_and_migrations_are_counted_where_they_happened_alone() {
        if let Err(reason) = netns::available() {
            return crate::skip_test(&reason);
        }
        let counted = netns::within(&[("net/ipv4/tcp_syncookies", "0")], || {
            let before = TcpCounters::now()?;
            let listener = listen(0, 1);
            let address = listener.local_addr()?;
            // A queue of 1 takes 2; the third connection is not answered.
            let _queued = [TcpStream::connect(address)?, TcpStream::connect(address)?];
            let third = TcpStream::connect_timeout(&address, Duration::from_millis(100));
            assert_eq!(third.unwrap_err().kind(), TimedOut);
            Ok(TcpCounters::now()?.since(&before))
        });
        let counted = counted.unwrap();
        assert!(counted.listen_overflows >= 1, "{counted:?}");
        assert!(counted.listen_drops >= counted.listen_overflows, "{counted:?}");

        // With the sysctl, connections in the queue of a closed socket are migrated.
        for (sysctl, expected) in [("0", (Some(0), Some(0))), ("1", (Some(3), Some(0)))] {
            let counted = netns::within(&[("net/ipv4/tcp_migrate_req", sysctl)], || {
                let closing = listen(0, 8);
                let address = closing.local_addr()?;
                let _clients = [0; 3].map(|_| TcpStream::connect(address).unwrap());
                // Made after the clients connected, so that all of them wait for the other socket.
                let _staying = listen(address.port(), 8);
                let before = TcpCounters::now()?;
                drop(closing);
                Ok(TcpCounters::now()?.since(&before))
            });
            let counted = counted.unwrap();
            assert_eq!((counted.migrate_success, counted.migrate_failure), expected);
        }
    }
}
