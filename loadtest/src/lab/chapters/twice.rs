//! A server is started twice on one port: is it refused, or silently given a share?
//!
//! # The claim
//! Whoever sets SO_REUSEPORT no longer hears "address already in use". Two servers that were
//! started by mistake both run, and "approximately half of your requests are served by the server
//! you're expecting" (puma#2078). For that reason Heroku's getting-started app leaves the flag off
//! in development (python-getting-started#248). And socket(7) limits it: "all of the processes
//! binding to the same address must have the same effective UID".
//!
//! # What the kernel does
//! bind(2) looks for somebody who has the port. With SO_REUSEPORT on *every* socket there and on
//! the new one, and the same effective user behind all of them, it succeeds; otherwise it fails
//! with EADDRINUSE. The new socket joins the group, and a hash of each connection's addresses and
//! ports chooses among all of them. Nobody is told.
//!
//! # The set-up
//! A server of two workers (or a bare listening socket) is started, then a second one on its port.
//! Where the second one starts, 200 connections are opened one after the other, and each server's
//! are counted; where it does not, what it said is kept. Bare sockets show the kernel's own answer.
//! A reuseport-server first binds the port without the flag, and so is refused where somebody
//! listens; `--join` leaves that out. The other user is number 65534, who first starts a server on
//! a port of its own, so that a refusal can only come from the port.
//!
//! # The criterion
//! *Silently shared*: two bare sockets with the flag can both be bound and listen, and each of them
//! gets at least 50 of the 200 connections. *The same user*: a server that joins is refused as
//! another user, and not as the same one.
//!
//! # Elsewhere
//! FreeBSD and macOS have the flag as well, and there too the second bind succeeds; but one of the
//! two sockets then gets all connections. Windows has no SO_REUSEPORT, and its SO_REUSEADDR lets a
//! second program in.

use std::io::ErrorKind::AddrInUse;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::interrupt;
use crate::kernel::sock_diag::{Listener, listeners};
use crate::lab::chapter::{Claim, Findings, Verdict};
use crate::lab::client::{Client, ask_once};
use crate::lab::store::Notebook;
use crate::report::model::{Cell, Picture, Table, Unit};
use crate::server::{Server, Spec, Strategy};

/// What is tried.
const SHARED: &str = "shared-fd-server, again";
const OWN: &str = "reuseport-server, again";
const JOIN: &str = "reuseport-server --join";
const USER: &str = "--join, as another user";
const BARE: &str = "bare sockets, both with the flag";
const FIRST_WITHOUT: &str = "bare sockets, only the second with it";

/// Connections that are opened.
const CONNECTIONS: u64 = 200;

/// Of those, what each of two must get at least for them to count as shared.
const SHARE: u64 = 50;

/// Who has no files: "nobody" on most systems.
const NOBODY: u32 = 65534;

/// What came of a second start.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Tried {
    /// What the second one said, if it was refused.
    refusal: Option<String>,
    /// Connections that the first and the second got.
    got: [u64; 2],
    /// Who listened.
    listeners: Vec<Listener>,
}

impl Tried {
    fn is_shared(&self) -> bool {
        self.refusal.is_none() && self.got.iter().all(|&got| got >= SHARE)
    }
}

/// Does it.
pub fn run(notebook: &mut Notebook) -> Result<Findings> {
    let mut tried = Vec::new();
    let (own, shared) = (Strategy::Reuseport, Strategy::Shared);
    for (name, strategy, option) in
        [(SHARED, shared, None), (OWN, own, None), (JOIN, own, Some("--join"))]
    {
        let found = notebook.sample(name, |_| {
            twice(strategy, |port| {
                let mut options = two_workers();
                options.extend(["--port".into(), port.to_string()]);
                options.extend(option.map(str::to_owned));
                Server::start(&Spec::ours(strategy, &options), &[])
            })
        })?;
        tried.push((name, found));
    }
    for (name, first) in [(BARE, true), (FIRST_WITHOUT, false)] {
        tried.push((name, notebook.sample(name, |_| bare(first))?));
    }
    let mut missing = Vec::new();
    match other_user() {
        Ok(()) => tried.push((USER, notebook.sample(USER, |_| as_another_user())?)),
        Err(reason) => missing.push(reason),
    }
    Ok(findings(&tried, missing))
}

fn two_workers() -> Vec<String> {
    vec!["--workers".into(), "2".into()]
}

/// A server, and a second one on its port.
fn twice(strategy: Strategy, second: impl FnOnce(u16) -> Result<Server>) -> Result<Tried> {
    let first = Server::start(&Spec::ours(strategy, &two_workers()), &[])?;
    let address = first.address();
    let second = second(address.port());
    interrupt::check()?; // before it is taken for a refusal
    let listeners = listeners(address.port())?;
    for _ in 0..CONNECTIONS {
        ask_once(address)?;
    }
    let sum = |server: &Server| server.accepted().iter().sum();
    let got = [sum(&first), second.as_ref().map_or(0, sum)];
    let refusal = second.err().map(|error| in_a_line(&error));
    Ok(Tried { refusal, got, listeners })
}

/// What a server said, from after its own exit status on, and without pids: they say nothing to
/// the reader of a report.
fn in_a_line(error: &anyhow::Error) -> String {
    let said = format!("{error:#}");
    let said = said.split_once("): ").map_or(said.as_str(), |(_, reason)| reason);
    let mut kept = String::new();
    for (number, part) in said.split(" (pid ").enumerate() {
        let rest = part.split_once(')').map_or(part, |(_pid, rest)| rest);
        kept += if number == 0 { part } else { rest };
    }
    kept
}

/// Two sockets of this program's, without any guard.
fn bare(first_has_flag: bool) -> Result<Tried> {
    let first = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), first_has_flag)?;
    let address = first.local_addr()?;
    let second = listen(address, true);
    let listeners = listeners(address.port())?;
    if let Err(error) = &second {
        ensure!(error.kind() == AddrInUse, "cannot bind a second socket: {error}");
    }
    // Connected is not accepted: nobody needs to serve them to see where they wait.
    let clients: Vec<Client> =
        (0..CONNECTIONS).map(|_| Client::connect(address)).collect::<Result<_>>()?;
    let got = [accept_all(&first)?, second.as_ref().map_or(Ok(0), accept_all)?];
    drop(clients);
    Ok(Tried { refusal: second.err().map(|error| error.to_string()), got, listeners })
}

fn listen(address: SocketAddr, flag: bool) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(flag)?;
    socket.bind(&address.into())?;
    socket.listen(CONNECTIONS as i32)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn accept_all(listener: &TcpListener) -> Result<u64> {
    let mut count = 0;
    loop {
        match listener.accept() {
            Ok(_) => count += 1,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(count),
            Err(error) => return Err(error).context("cannot accept"),
        }
    }
}

/// Whether this program may become another user; the reason, if it may not.
fn other_user() -> Result<(), String> {
    let tried = Command::new("true").uid(NOBODY).gid(NOBODY).status();
    tried.map(drop).map_err(|error| {
        format!("{USER}, takes no part: to become another user needs root ({error})")
    })
}

fn as_another_user() -> Result<Tried> {
    let start = |options: &[String]| Server::start_as(NOBODY, Strategy::Reuseport, options);
    // The control: on a port that nobody has, that user can start it.
    start(&two_workers()).context("as another user, even on a port of its own")?.stop()?;
    twice(Strategy::Reuseport, |port| {
        let mut options = two_workers();
        options.extend(["--join".into(), "--port".into(), port.to_string()]);
        start(&options)
    })
}

fn findings(tried: &[(&str, Tried)], missing: Vec<String>) -> Findings {
    let of = |name: &str| tried.iter().find(|(found, _)| *found == name).map(|(_, tried)| tried);
    let shared = of(BARE).map(Tried::is_shared);
    let parts = |tried: &Tried| format!("{} and {}", tried.got[0], tried.got[1]);
    let outcome = |tried: &Tried| match &tried.refusal {
        Some(refusal) => format!("refused: {refusal}"),
        None => format!("both run, and get {} of {CONNECTIONS} connections", parts(tried)),
    };
    let ours = |name| of(name).map_or("nothing".into(), outcome);
    let refused = |name| of(name).map(|tried| tried.refusal.is_some());
    // What it said in refusing stands below the table.
    let brief = |name| match refused(name) {
        Some(true) => "refused".into(),
        _ => ours(name),
    };
    let same_user = match (refused(USER), refused(JOIN)) {
        (Some(other), Some(same)) => Some(other && !same),
        _ => None,
    };
    let mut answer = match of(BARE) {
        Some(bare) if bare.is_shared() => format!(
            "With SO_REUSEPORT the kernel shares out silently: a second socket on the same port is \
             let in, and of {CONNECTIONS} connections the two got {}.",
            parts(bare)
        ),
        Some(bare) => format!("The kernel does not share out here: {}.", outcome(bare)),
        None => String::new(),
    };
    if refused(SHARED) == Some(true) {
        answer += " Without the flag a second start is refused.";
    }
    match same_user {
        Some(true) => {
            answer += " With it, another user's is refused, whose server would else join."
        }
        Some(false) => answer += " With it, users are not kept apart here.",
        None => {}
    }
    let guarded = of(OWN).and_then(|own| own.refusal.as_ref());
    let advice = guarded.map_or_else(String::new, |refusal| {
        format!(
            "Bind the port once without the flag before workers bind it with the flag, as \
             reuseport-server does unless told to --join: then a second start says \"{refusal}\"."
        )
    });
    let row = |(name, tried): &(&str, Tried)| {
        let total = tried.got.iter().sum::<u64>().max(1) as f64;
        let mut parts: Vec<f64> = tried.got.iter().map(|&got| got as f64 / total).collect();
        parts.sort_by(|a, b| b.total_cmp(a));
        (name.to_string(), parts)
    };
    Findings {
        answer,
        claims: vec![
            Claim::by(
                "puma#2078, heroku/python-getting-started#248, proftpd#624",
                Some("https://github.com/puma/puma/issues/2078"),
                "with SO_REUSEPORT a second server on the same port starts silently and gets a \
                 part of the connections",
                "approximately half of your requests are served by the server you're expecting",
            )
            .found(
                ours(BARE),
                format!("both run and get at least {SHARE}"),
                Verdict::of(shared, "it was not tried"),
            ),
            Claim::by(
                "socket(7)",
                Some("https://man7.org/linux/man-pages/man7/socket.7.html"),
                "only processes of the same effective user can share a port",
                "all of the processes binding to the same address must have the same effective UID",
            )
            .found(
                format!("the same user: {}; another user: {}", brief(JOIN), brief(USER)),
                "the same user starts, another is refused",
                Verdict::of(same_user, "to become another user needs root"),
            ),
        ],
        advice,
        picture: Some(Picture::Shares {
            title: format!("Who got {CONNECTIONS} connections: one server, or two"),
            rows: tried.iter().map(row).collect(),
        }),
        tables: vec![table(tried)],
        evidence: vec![evidence(tried)],
        missing,
    }
}

fn table(tried: &[(&str, Tried)]) -> Table {
    let mut table = Table::new(
        "The second start",
        &[("starts", Unit::Text), ("first got", Unit::Count), ("second got", Unit::Count)],
    );
    for (name, tried) in tried {
        let [first, second] = tried.got.map(Cell::count);
        let is_refused = tried.refusal.is_some();
        let starts = if is_refused { "refused" } else { "yes" };
        table.row(
            *name,
            [Cell::text(starts), first, if is_refused { Cell::none() } else { second }],
        );
    }
    let refusals = tried
        .iter()
        .filter_map(|(name, tried)| Some(format!("{name}: \"{}\"", tried.refusal.as_ref()?)));
    table.note = refusals.collect::<Vec<_>>().join("; ");
    table
}

fn evidence(tried: &[(&str, Tried)]) -> Table {
    let mut table = Table::new(
        "Who listens, by sock_diag",
        &[("inode", Unit::Text), ("made by user", Unit::Text)],
    );
    for (name, tried) in tried {
        for Listener { inode, uid, .. } in &tried.listeners {
            table.row(*name, [Cell::text(inode.to_string()), Cell::text(uid.to_string())]);
        }
    }
    table.note = "reuseport-server has a socket for each of its two workers".into();
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(refused: bool, got: [u64; 2]) -> Tried {
        let refusal = refused.then(|| "x listens there".to_owned());
        Tried { refusal, got, listeners: vec![] }
    }

    fn all(bare: Tried, user: Option<Tried>) -> Findings {
        let mut all = vec![
            (SHARED, tried(true, [200, 0])),
            (OWN, tried(true, [200, 0])),
            (JOIN, tried(false, [104, 96])),
            (BARE, bare),
        ];
        all.extend(user.map(|user| (USER, user)));
        findings(&all, vec![])
    }

    #[test]
    fn two_that_both_get_connections_are_silently_shared() {
        let found = all(tried(false, [90, 110]), Some(tried(true, [200, 0])));
        let verdicts: Vec<_> = found.claims.iter().map(|claim| claim.verdict.clone()).collect();
        assert_eq!(verdicts, [Verdict::Reproduced, Verdict::Reproduced]);
        assert_eq!(
            found.answer,
            "With SO_REUSEPORT the kernel shares out silently: a second socket on the same port is \
             let in, and of 200 connections the two got 90 and 110. Without the flag a second \
             start is refused. With it, another user's is refused, whose server would else join."
        );
        assert!(found.advice.ends_with("says \"x listens there\"."), "{}", found.advice);
    }

    #[test]
    fn one_that_gets_them_all_or_is_refused_shares_nothing() {
        for bare in [tried(false, [0, 200]), tried(true, [200, 0])] {
            let found = all(bare, None);
            assert_eq!(found.claims[0].verdict, Verdict::NotReproduced);
            assert!(found.answer.starts_with("The kernel does not share out"), "{}", found.answer);
        }
    }

    #[test]
    fn another_user_who_is_let_in_refutes_the_manual_and_without_root_nobody_knows() {
        let bare = || tried(false, [100, 100]);
        let found = all(bare(), Some(tried(false, [100, 100])));
        assert_eq!(found.claims[1].verdict, Verdict::NotReproduced);
        let found = all(bare(), None);
        assert!(matches!(found.claims[1].verdict, Verdict::NotDecidable(_)));
    }

    #[test]
    fn a_refusal_is_quoted_without_exit_status_and_pid() {
        let error = anyhow::anyhow!(
            "x did not start (exit status: 1): cannot listen: x (pid 12) listens there (--join \
             helps): in use (os error 98)"
        );
        assert_eq!(
            in_a_line(&error),
            "cannot listen: x listens there (--join helps): in use (os error 98)"
        );
    }

    #[test]
    fn the_kernel_lets_a_second_socket_in_only_if_both_have_the_flag() {
        let both = bare(true).unwrap();
        assert_eq!(both.refusal, None);
        assert_eq!(both.got.iter().sum::<u64>(), CONNECTIONS);
        assert_eq!(both.listeners.len(), 2);
        let one = bare(false).unwrap();
        assert!(one.refusal.is_some());
        assert_eq!((one.got, one.listeners.len()), ([CONNECTIONS, 0], 1));
    }
}
