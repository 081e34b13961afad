//! SO_REUSEPORT is set, the socket bound once, workers forked: how many sockets are there?
//!
//! # The claim
//! A server that offers an option "reuse port" may set the flag on the one socket that its parent
//! binds, and then fork its workers as before. gunicorn did so until #2938 ("Fix reuse-port to
//! balance requests across Gunicorn workers"), granian from commit d9de10b until #546. Their users
//! had switched on SO_REUSEPORT, and had one socket as before.
//!
//! # What the kernel does
//! SO_REUSEPORT is a permission, asked for at bind(2): whoever has set it lets others who have set
//! it bind the same address and port (socket(7)). It makes no sockets. Each socket that is bound
//! and listens has an accept queue of its own, and fork(2) copies descriptors, not sockets: all
//! copies name one socket with one queue. A group of sockets among which the kernel chooses exists
//! only once a second one was bound.
//!
//! # The set-up
//! Three servers with four workers each. *Shared*: this program opens a listening socket without
//! the flag, and shared-fd-server takes it over as systemd would pass it, and forks. *Flag, then
//! fork*: the same, and the flag is set before bind(2): nothing else differs. *Own sockets*:
//! reuseport-server, whose workers each bind. Then sock_diag is asked who listens on the port, this
//! program tries to bind the port with the flag itself (and does not listen), and 40 connections
//! are opened one after the other.
//!
//! # The criterion
//! The flag is without effect if exactly 1 socket listens where the flag was set and the workers
//! were forked. These are counts and not measurements: there is no interval.
//!
//! # Elsewhere
//! The same on every system that has fork(2). To tell for a server of one's own: `ss -ltn` shows a
//! line for each listening socket, and as many as there are workers if they have their own.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::kernel::sock_diag::{Listener, listeners};
use crate::lab::chapter::{Claim, Findings, Verdict};
use crate::lab::client::ask_once;
use crate::lab::store::Notebook;
use crate::report::model::{Bar, Cell, Picture, Table, Unit};
use crate::server::{Server, Spec, Strategy};

/// The three servers.
const SHARED: &str = "shared";
const FLAG: &str = "flag, then fork";
const OWN: &str = "own sockets";

/// Connections that are opened.
const CONNECTIONS: usize = 40;

/// Connections that may wait.
const BACKLOG: i32 = 1024;

/// What was seen of a server.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Seen {
    /// Whether the flag is set, asked of the socket itself; only where this program made it.
    flag: Option<bool>,
    /// Whether somebody else could bind the port now, with the flag.
    lets_others_in: bool,
    /// Who listens on the port.
    listeners: Vec<Listener>,
    /// Connections that each worker accepted.
    accepted: Vec<u64>,
}

impl Seen {
    fn sockets(&self) -> usize {
        self.listeners.len()
    }
}

/// Does it.
pub fn run(notebook: &mut Notebook) -> Result<Findings> {
    let shared = notebook.sample(SHARED, |_| on_one_socket(false))?;
    let flag = notebook.sample(FLAG, |_| on_one_socket(true))?;
    let own = notebook.sample(OWN, |_| {
        let server = Server::start(&Spec::ours::<&str>(Strategy::Reuseport, &[]), &[])?;
        look(server, None)
    })?;
    Ok(findings(&shared, &flag, &own))
}

/// One socket, bound here and inherited by workers that are forked.
fn on_one_socket(flag: bool) -> Result<Seen> {
    let socket = socket(flag)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    let flag = socket.reuse_port()?;
    look(Server::start_on(OwnedFd::from(socket), &[])?, Some(flag))
}

fn socket(flag: bool) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("cannot make a socket")?;
    socket.set_reuse_port(flag)?;
    Ok(socket)
}

fn look(server: Server, flag: Option<bool>) -> Result<Seen> {
    let address = server.address();
    // Bound, and closed at once: since it never listens it gets no connection.
    let lets_others_in = socket(true)?.bind(&address.into()).is_ok();
    let listeners = listeners(address.port())?;
    for _ in 0..CONNECTIONS {
        ask_once(address)?;
    }
    let accepted = server.accepted();
    server.stop()?;
    Ok(Seen { flag, lets_others_in, listeners, accepted })
}

fn findings(shared: &Seen, flag: &Seen, own: &Seen) -> Findings {
    let servers = [(SHARED, shared), (FLAG, flag), (OWN, own)];
    let sockets = flag.sockets();
    let workers = flag.accepted.len();
    let others = match (shared.lets_others_in, flag.lets_others_in) {
        (false, true) => {
            " What the flag did is to open the port: another socket could be bound to it, which \
             without the flag could not."
        }
        _ => "",
    };
    let answer = format!(
        "{}, for {workers} workers: with the flag set before the fork there {} as without it ({}), \
         while workers that bind for themselves have {}.{others}",
        sockets_in_words(sockets),
        if sockets == shared.sockets() { "are as many" } else { "are not as many" },
        shared.sockets(),
        own.sockets(),
    );
    Findings {
        answer,
        claims: vec![
            Claim::by(
                "gunicorn#2938, granian d9de10b",
                Some("https://github.com/benoitc/gunicorn/pull/2938"),
                "SO_REUSEPORT, set on a socket that is bound once before workers are forked, is \
                 without effect: there is still one socket",
                "1 socket",
            )
            .found(
                sockets_in_words(sockets),
                "1 socket",
                Verdict::of(Some(sockets == 1), ""),
            ),
        ],
        advice: format!(
            "Have each worker bind a socket of its own, after it was started: then there are {} \
             for {} workers.",
            own.sockets(),
            own.accepted.len()
        ),
        picture: Some(Picture::Bars {
            title: format!("Listening sockets of {workers} workers"),
            unit: Unit::Count,
            bars: servers
                .map(|(name, seen)| Bar {
                    name: name.into(),
                    value: seen.sockets() as f64,
                    interval: None,
                })
                .into(),
            reference: None,
        }),
        tables: vec![table(&servers)],
        evidence: vec![evidence(&servers)],
        missing: vec![],
    }
}

fn sockets_in_words(count: usize) -> String {
    if count == 1 { "1 socket".into() } else { format!("{count} sockets") }
}

fn table(servers: &[(&str, &Seen)]) -> Table {
    let mut table = Table::new(
        "What there is",
        &[
            ("flag set", Unit::Text),
            ("sockets", Unit::Count),
            ("queues", Unit::Count),
            ("workers", Unit::Count),
            ("another may bind", Unit::Text),
            ("accepted by each", Unit::Text),
        ],
    );
    let yes_or_no = |is: bool| if is { "yes" } else { "no" };
    for (name, seen) in servers {
        let accepted: Vec<String> = seen.accepted.iter().map(u64::to_string).collect();
        table.row(
            *name,
            [
                // Where it is not ours to ask: who lets others in must have set it.
                Cell::text(yes_or_no(seen.flag.unwrap_or(seen.lets_others_in))),
                Cell::count(seen.sockets() as u64),
                Cell::count(seen.sockets() as u64),
                Cell::count(seen.accepted.len() as u64),
                Cell::text(yes_or_no(seen.lets_others_in)),
                Cell::text(accepted.join(" ")),
            ],
        );
    }
    table.note = format!(
        "sockets are counted by their inodes; a listening socket has one accept queue; of \
         {CONNECTIONS} connections, one after the other"
    );
    table
}

fn evidence(servers: &[(&str, &Seen)]) -> Table {
    let mut table = Table::new(
        "Who listens, by sock_diag",
        &[("inode", Unit::Text), ("queued", Unit::Count), ("at most", Unit::Count)],
    );
    for (name, seen) in servers {
        for listener in &seen.listeners {
            table.row(
                *name,
                [
                    Cell::text(listener.inode.to_string()),
                    Cell::count(listener.queued.into()),
                    Cell::count(listener.backlog.into()),
                ],
            );
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(flag: Option<bool>, lets_others_in: bool, sockets: u64) -> Seen {
        let listener = |inode| Listener {
            address: ([127, 0, 0, 1], 1).into(),
            inode,
            uid: 0,
            queued: 0,
            backlog: 8,
        };
        let listeners = (0..sockets).map(listener).collect();
        Seen { flag, lets_others_in, listeners, accepted: vec![10; 4] }
    }

    fn with_flag(sockets: u64) -> Findings {
        let shared = seen(Some(false), false, 1);
        findings(&shared, &seen(Some(true), true, sockets), &seen(None, true, 4))
    }

    #[test]
    fn one_socket_in_spite_of_the_flag_reproduces_the_claim() {
        let found = with_flag(1);
        assert_eq!(found.claims[0].verdict, Verdict::Reproduced);
        assert_eq!(found.claims[0].ours, "1 socket");
        let start = "1 socket, for 4 workers: with the flag set before the fork there are as many \
                     as without it (1), while workers that bind for themselves have 4. What the \
                     flag did";
        assert!(found.answer.starts_with(start), "{}", found.answer);
        assert_eq!(found.evidence[0].rows.len(), 1 + 1 + 4);
    }

    #[test]
    fn a_kernel_that_made_more_of_it_would_refute_the_claim() {
        let found = with_flag(4);
        assert_eq!(found.claims[0].verdict, Verdict::NotReproduced);
        assert!(found.answer.starts_with("4 sockets, for 4 workers"), "{}", found.answer);
    }

    #[test]
    fn the_flag_of_a_socket_that_is_not_ours_shows_in_who_may_bind() {
        let table = with_flag(1).tables.remove(0);
        let flags: Vec<_> = table.rows.iter().map(|row| row.cells[0].text.as_deref()).collect();
        assert_eq!(flags, [Some("no"), Some("yes"), Some("yes")]);
    }
}
