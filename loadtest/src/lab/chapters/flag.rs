#![doc = include_str!("flag.md")]

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use super::*;

const SHARED: &str = "shared";
const FLAG: &str = "flag, then fork";
const OWN: &str = "own sockets";

/// The number of connections, and the backlog.
const CONNECTIONS: usize = 40;
const BACKLOG: i32 = 1024;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Seen {
    /// Whether the flag is set, read from the socket; `None` if this program did not make the socket.
    flag: Option<bool>,
    /// Whether another socket with the flag could be bound to the port now.
    lets_others_in: bool,
    listeners: Vec<Listener>,
    /// Connections that each worker accepted.
    accepted: Vec<u64>,
}

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let servers = [(SHARED, Some(false)), (FLAG, Some(true)), (OWN, None)];
    let seen = context.in_turns("seen", 1, &servers, |flag| match *flag {
        Some(flag) => {
            let socket = bound((Ipv4Addr::LOCALHOST, 0).into(), flag)?;
            socket.listen(BACKLOG)?;
            let flag = socket.reuse_port()?;
            look(ours::start_on(OwnedFd::from(socket), &[])?, Some(flag))
        }
        None => look(start("reuseport")?, None),
    })?;
    Ok(findings(&seen))
}

fn look(mut server: Server, flag: Option<bool>) -> Result<Seen> {
    let address = server.address();
    // This socket is bound and closed at once. It never listens, so it gets no connection.
    let lets_others_in = bound(address, true).is_ok();
    let listeners = listeners(address.port())?;
    ask(address, CONNECTIONS)?;
    let accepted = server.accepted();
    server.stop()?;
    Ok(Seen { flag, lets_others_in, listeners, accepted })
}

fn findings(seen: &Samples<Seen>) -> Findings {
    let of = |name: &str| &seen.of(name)[0];
    let count = |name: &str| of(name).listeners.len();
    let [one, sockets, own] = [SHARED, FLAG, OWN].map(count);
    let opened = of(FLAG).lets_others_in && !of(SHARED).lets_others_in;
    let workers = of(FLAG).accepted.len();
    let figures = [
        ("sockets", format!("{sockets} socket{}", if sockets == 1 { "" } else { "s" }).into()),
        ("is_one", Some(sockets == 1).into()),
        ("workers", workers.into()),
        ("as_many", if sockets == one { "are as many" } else { "are not as many" }.into()),
        ("one", one.into()),
        ("own", own.into()),
        ("own_workers", of(OWN).accepted.len().into()),
        ("opened", if opened { "another socket could be bound to it" } else { "" }.into()),
    ];
    let title = format!("Listening sockets of {workers} workers");
    let picture = seen.bars(title, Unit::Count, None, |name| Estimate::exact(count(name) as f64));
    let who = who_listens(seen, |seen| &seen.listeners);
    let page = include_str!("flag.md");
    Findings::of(page, &figures, &[], picture, [table(seen)], [who])
}

fn table(all: &Samples<Seen>) -> Table {
    let yes_or_no = |is_so: fn(&Seen) -> bool| {
        move |_: &str, seen: &[Seen]| Cell::from(if seen.iter().any(is_so) { "yes" } else { "no" })
    };
    let accepted = |_: &str, seen: &[Seen]| {
        let counts = seen.iter().flat_map(|seen| &seen.accepted).map(u64::to_string);
        Cell::from(counts.collect::<Vec<_>>().join(" "))
    };
    all.table("What there is")
        // If the flag was not read: a socket that lets others bind must have it set.
        .cells("flag set", Unit::Text, yes_or_no(|seen| seen.flag.unwrap_or(seen.lets_others_in)))
        .sums("sockets", |seen| seen.listeners.len() as u64)
        .sums("queues", |seen| seen.listeners.len() as u64)
        .sums("workers", |seen| seen.accepted.len() as u64)
        .cells("another may bind", Unit::Text, yes_or_no(|seen| seen.lets_others_in))
        .cells("accepted by each", Unit::Text, accepted)
        .table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::queues::tests::listener;

    #[test]
    fn one_socket_in_spite_of_the_flag_reproduces_the_claim_and_more_refute_it() {
        let seen = |flag, lets_others_in, sockets: u64| {
            let listeners = (0..sockets).map(|inode| listener(inode, 0)).collect();
            vec![Seen { flag, lets_others_in, listeners, accepted: vec![10; 4] }]
        };
        let as_many = "1 socket, for 4 workers: with the flag set before the fork there are as many as \
                       without it (1), while workers that bind for themselves have 4. What the flag \
                       did is to open the port: another socket";
        for (sockets, verdict, words) in [(1, "+", as_many), (4, "-", "4 sockets, for 4 workers")] {
            let found = findings(&samples_of([
                (SHARED, seen(Some(false), false, 1)),
                (FLAG, seen(Some(true), true, sockets)),
                (OWN, seen(None, true, 4)),
            ]));
            found.expect(verdict, &[words]);
            assert_eq!(found.evidence[0].rows.len() as u64, 1 + sockets + 4);
            // For a socket of another program, the flag follows from whether others may bind.
            let flags = found.tables[0].rows.iter().map(|row| row.cells[0].text.as_deref());
            assert_eq!(flags.collect::<Vec<_>>(), [Some("no"), Some("yes"), Some("yes")]);
        }
    }
}
