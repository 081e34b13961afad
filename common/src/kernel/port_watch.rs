//! Finds foreign sockets on the server's port, and a steering program that was replaced, from a series of looks
//! at the port. Pure functions: the parent looks once a second and logs the findings, and `loadtest watch` shows
//! them.
//!
//! | seen | what it means |
//! |---|---|
//! | a foreign socket on the same address | it is in the group (SO_REUSEPORT), and the kernel may give it a share |
//! | one on a more specific address | it gets the connections to that address, and this server does not |
//! | one on a more general address | harmless: this server gets the connections to its address |
//! | connections arrive, and our program counts none of them | another program has replaced it |
//!
//! A worker shows its first socket; other workers showed before those that it adopts. If a socket was never shown,
//! because all of that went fast, the workers still show how many they have. And a socket counts as foreign when
//! two looks in a row find it: a worker listens a moment before it shows its socket. The program that is attached
//! to a group cannot be read (getsockopt: ENOPROTOOPT), so a replaced one is recognised by what it does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::kernel::sock_diag::Listener;

/// This many looks in a row must find that connections arrive and none is steered. A single look may find that by
/// chance: a connection is steered at its SYN, and arrives at the end of its handshake.
const LOOKS: u32 = 2;

/// What one look at the port finds.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// All sockets that listen on the port, on any address.
    pub listeners: Vec<Listener>,
    /// The sockets that our workers show, by inode.
    pub shown: BTreeSet<u64>,
    /// How many sockets our workers show in all. While a worker takes over a socket, both count it.
    pub held: u64,
    /// How many connections our workers have accepted so far.
    pub accepted: u64,
    /// How many connections our program has steered so far; `None` without a program that counts.
    pub steered: Option<u64>,
}

/// How a foreign socket and ours interfere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Both have the same address.
    Shares,
    /// It gets the connections to its address, which is a part of ours.
    Shadows,
    /// This server gets the connections to its address, which is a part of the other's.
    IsShadowed,
}

/// A new finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A socket that none of our workers has shown.
    Stranger(How, Listener),
    /// A foreign socket is gone.
    Gone(Listener),
    /// Connections arrive that our program has not steered.
    NotSteered,
}

/// The state between looks.
#[derive(Debug)]
pub struct PortWatch {
    address: SocketAddr,
    /// Whether other sockets on the same address are expected (`--join`).
    joins: bool,
    /// The sockets of our workers, past ones included. A socket that is handed over stays the same socket.
    ours: BTreeSet<u64>,
    /// Foreign sockets that were seen, and whether they were found twice, and so reported.
    strangers: BTreeMap<u64, (Listener, bool)>,
    /// Connections that had arrived, and those that had been steered, at the last look.
    before: Option<(u64, u64)>,
    /// How many looks in a row found that connections arrive and none is steered.
    not_steered: u32,
}

impl PortWatch {
    /// For a server on this address, with or without `--join`.
    pub fn new(address: SocketAddr, joins: bool) -> Self {
        let (ours, strangers) = (BTreeSet::new(), BTreeMap::new());
        // As the kernel reports it: an IPv4 address that was given as an IPv6 one is an IPv4 address.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { address, joins, ours, strangers, before: None, not_steered: 0 }
    }

    /// Takes the next look, and returns the new findings.
    pub fn take(&mut self, look: &Look) -> Vec<Finding> {
        let listening: BTreeSet<u64> = look.listeners.iter().map(|it| it.inode).collect();
        self.ours.extend(&look.shown);
        self.ours.retain(|inode| listening.contains(inode));
        let mut found = self.find_strangers(look, &listening);
        if self.is_not_steered(look) {
            found.push(Finding::NotSteered);
        }
        found
    }

    /// The foreign sockets that are there.
    pub fn strangers(&self) -> impl Iterator<Item = (How, &Listener)> {
        let told = self.strangers.values().filter(|(_, is_told)| *is_told);
        told.filter_map(|(it, _)| Some((how(self.address.ip(), it.address.ip())?, it)))
    }

    /// Whether a finding must be confirmed soon.
    pub fn suspects(&self) -> bool {
        self.strangers.values().any(|(_, is_told)| !is_told)
    }

    fn find_strangers(&mut self, look: &Look, listening: &BTreeSet<u64>) -> Vec<Finding> {
        let mut found = Vec::new();
        let on_ours =
            look.listeners.iter().filter(|it| it.address.ip() == self.address.ip()).count();
        let ours = &self.ours;
        self.strangers.retain(|inode, (socket, is_told)| {
            let stays = listening.contains(inode) && !ours.contains(inode);
            if !stays && *is_told {
                found.push(Finding::Gone(socket.clone()));
            }
            stays
        });
        for socket in look.listeners.iter().filter(|it| !self.ours.contains(&it.inode)) {
            let Some(how) = how(self.address.ip(), socket.address.ip()) else { continue };
            if how == How::Shares && (self.joins || on_ours as u64 <= look.held) {
                continue;
            }
            match self.strangers.get_mut(&socket.inode) {
                None => _ = self.strangers.insert(socket.inode, (socket.clone(), false)),
                Some((_, is_told)) if !*is_told => {
                    *is_told = true;
                    found.push(Finding::Stranger(how, socket.clone()));
                }
                Some(_) => {}
            }
        }
        found
    }

    fn is_not_steered(&mut self, look: &Look) -> bool {
        let Some(steered) = look.steered else { return false };
        let own = look.listeners.iter().filter(|it| self.ours.contains(&it.inode));
        // Connections in the accept queue have arrived, too.
        let waiting: u64 = own.map(|it| u64::from(it.queued)).sum();
        let arrived = look.accepted.wrapping_add(waiting);
        let Some((arrived_before, steered_before)) = self.before.replace((arrived, steered)) else {
            return false;
        };
        if steered != steered_before {
            self.not_steered = 0;
        } else if arrived.wrapping_sub(arrived_before).cast_signed() > 0 {
            self.not_steered += 1;
        }
        let is_due = self.not_steered >= LOOKS;
        if is_due {
            self.not_steered = 0; // until it is found as often again
        }
        is_due
    }
}

/// How a socket on that address and ours on the same port interfere.
pub fn how(ours: IpAddr, other: IpAddr) -> Option<How> {
    match (ours.is_unspecified(), other.is_unspecified()) {
        _ if ours == other => Some(How::Shares),
        // `::` takes IPv4 connections, too, and any IPv4 socket has priority.
        (true, _) if ours.is_ipv6() => Some(How::Shadows),
        (true, false) if other.is_ipv4() => Some(How::Shadows),
        // Whether another server's `::` takes IPv4 connections, too, is not known here.
        (false, true) if ours.is_ipv4() == other.is_ipv4() => Some(How::IsShadowed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "127.0.0.1:80";

    fn listener(address: &str, inode: u64, queued: u32) -> Listener {
        Listener { address: address.parse().unwrap(), inode, uid: 0, queued, backlog: 8 }
    }

    /// A look at these sockets on our address; our workers show those up to 9.
    fn look(inodes: &[u64]) -> Look {
        let listeners = inodes.iter().map(|&inode| listener(OURS, inode, 0)).collect();
        let shown: BTreeSet<u64> = inodes.iter().copied().filter(|&inode| inode < 10).collect();
        Look { listeners, held: shown.len() as u64, shown, ..Look::default() }
    }

    fn watch(joins: bool) -> PortWatch {
        PortWatch::new(OURS.parse().unwrap(), joins)
    }

    #[test]
    fn a_stranger_is_told_once_when_it_is_seen_twice_and_once_more_when_it_is_gone() {
        let mut watch = watch(false);
        let stranger = listener(OURS, 77, 0);
        let told = [Finding::Stranger(How::Shares, stranger.clone())];
        assert_eq!(watch.take(&look(&[1, 2])), []);
        assert_eq!(watch.take(&look(&[1, 2, 77])), []);
        assert!(watch.suspects());
        assert_eq!(watch.take(&look(&[1, 2, 77])), told);
        assert!(!watch.suspects());
        assert_eq!(watch.take(&look(&[1, 2, 77])), []);
        assert_eq!(watch.take(&look(&[1, 2])), [Finding::Gone(stranger)]);
        assert_eq!(watch.take(&look(&[1, 2])), []);
        // A socket that comes and goes is not reported.
        assert_eq!(watch.take(&look(&[1, 2, 78])), []);
        assert_eq!(watch.take(&look(&[1, 2])), []);
    }

    #[test]
    fn a_workers_socket_is_ours_before_it_is_shown_and_after() {
        let mut watch = watch(false);
        let late = |shown: &[u64]| Look { shown: shown.iter().copied().collect(), ..look(&[1, 2]) };
        assert_eq!(watch.take(&late(&[1])), []);
        assert_eq!(watch.take(&late(&[1, 2])), []);
        for _ in 0..3 {
            assert_eq!(watch.take(&late(&[1])), [], "2 was adopted by the one that shows 1");
        }
        for _ in 0..3 {
            let held = Look { held: 3, ..look(&[1, 2, 90]) };
            assert_eq!(watch.take(&held), [], "90 was never shown, but they have as many");
        }
    }

    #[test]
    fn those_who_join_are_no_strangers() {
        let mut watch = watch(true);
        for _ in 0..3 {
            assert_eq!(watch.take(&look(&[1, 77])), []);
        }
    }

    #[test]
    fn the_more_specific_address_gets_what_comes_to_it() {
        for (ours, other, expected) in [
            ("127.0.0.1", "127.0.0.1", Some(How::Shares)),
            ("0.0.0.0", "0.0.0.0", Some(How::Shares)),
            ("0.0.0.0", "127.0.0.1", Some(How::Shadows)),
            ("::", "::1", Some(How::Shadows)),
            ("::", "10.0.0.1", Some(How::Shadows)),
            ("::", "0.0.0.0", Some(How::Shadows)),
            ("127.0.0.1", "0.0.0.0", Some(How::IsShadowed)),
            ("::1", "::", Some(How::IsShadowed)),
            ("127.0.0.1", "::", None),
            ("127.0.0.1", "127.0.0.2", None),
            ("0.0.0.0", "::1", None),
            ("0.0.0.0", "::", None),
        ] {
            assert_eq!(
                how(ours.parse().unwrap(), other.parse().unwrap()),
                expected,
                "{ours} {other}"
            );
        }
    }

    #[test]
    fn connections_that_arrive_while_none_is_steered_are_told_at_the_second_look() {
        let mut watch = watch(false);
        let mut take = |accepted, waiting, steered| {
            let listeners = vec![listener(OURS, 1, waiting), listener(OURS, 2, 0)];
            let it = Look { listeners, accepted, steered: Some(steered), ..look(&[1, 2]) };
            watch.take(&it) == [Finding::NotSteered]
        };
        assert!(!take(5, 0, 5));
        assert!(!take(6, 0, 5), "one by chance");
        assert!(!take(9, 0, 9), "and the program works");
        assert!(!take(9, 10, 19));
        for accepted in 10..20 {
            assert!(!take(accepted, 19 - accepted as u32, 19), "they have waited");
        }
        assert!(!take(20, 0, 19));
        assert!(!take(20, 0, 19), "nothing is known when nothing arrives");
        assert!(take(20, 1, 19));
        assert!(!take(22, 0, 19));
        assert!(take(23, 0, 19), "it is still so");
    }

    #[test]
    fn without_a_program_that_counts_nothing_is_missed() {
        let mut watch = watch(false);
        for accepted in 0..5 {
            assert_eq!(watch.take(&Look { accepted, ..look(&[1]) }), []);
        }
    }
}
