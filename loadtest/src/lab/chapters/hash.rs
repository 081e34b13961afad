//! Does choosing among many sockets cost anything?
//!
//! # The claim
//! The post cannot explain its loss and suspects that "the addition algorithm on socket delivery uses too
//! much time": the hash over addresses and ports with which Linux picks one of several listening sockets.
//! There was a time when it had a point: until Linux 4.6 the kernel compared a new connection with every
//! socket on the port, one after another (commit c125e80b8868 ended that for TCP). Of a shared socket it is
//! said that every worker is woken for every connection, the thundering herd (tokio#6084).
//!
//! # What the kernel does
//! `inet_lookup_listener` finds one socket of the group, and `reuseport_select_sock` takes another from the
//! group's array: a hash that is computed once, and a multiplication instead of a division
//! (`reciprocal_scale`). That is the same work for 2 sockets and for 1000. A classic or extended BPF program
//! takes the place of the hash where one is attached. What does grow is what comes after the choice:
//! with one shared socket and epoll, all sleeping workers are on the socket's wait queue, and each is woken.
//!
//! # The set-up
//! Twice. First without workers: one process opens 1, 16, 256 and 1024 sockets on one port, connects to it
//! 2000 times, finds by epoll which socket got the connection, and accepts it: nobody has to be woken,
//! so what differs is the choice alone. Then with them: `wrk -t2 -c64`, a new connection for each request,
//! against every policy with 1 to 256 workers, three visits of a second each, in turn.
//!
//! # The criterion
//! *The choice costs too much* if a connection to one of 256 sockets takes at least 1.10 times as long as to
//! a single one, with the whole 95 % interval of the median of the rounds' ratios; if the whole interval lies below, it does not.
//! *The scan of all sockets is still there* if 1024 sockets make it 2 times as long, by the same rule.
//! *There is a herd* if in every visit to 256 workers on a shared socket with epoll they leave the CPU at least
//! 128 times for each connection, half of them each time; if they do in no visit, there is none.
//!
//! # Elsewhere
//! A kernel before 4.6 would show the scan. More cores would move the herd: the woken then run at the same time
//! and fight for the socket's lock instead of for the CPU. On macOS there is no choice to pay for.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, SockRef, Socket, Type};

use crate::interrupt;
use crate::lab::chapter::{Claim, Findings, Verdict};
use crate::lab::estimate::{self, Sure};
use crate::lab::interleaved::{Course, Entrant, Visit, below, each, middle, race, slices};
use crate::lab::store::Notebook;
use crate::report::model::{Axis, Cell, Picture, Series, Table, Unit};
use crate::statistics::median;

/// Sockets on one port, without workers.
const SOCKETS: [u32; 4] = [1, 16, 256, 1024];

/// Connections to them in a round.
const CONNECTIONS: u32 = 2000;

/// Rounds of that.
const ROUNDS: u32 = 40;

/// From here on, choosing costs too much; and from here on, it looks at every socket.
const TOO_MUCH: f64 = 1.10;
const A_SCAN: f64 = 2.0;

/// Context switches of 256 workers for one connection from which on it is a herd: half of them.
const A_HERD: f64 = 128.0;

/// Workers of each policy, and in the short form.
const WORKERS: [u32; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const FEW_WORKERS: [u32; 2] = [4, 256];

/// Policies of the short form.
const FEW_POLICIES: [&str; 3] = ["shared/epoll", "reuseport/hash", "reuseport/least-conn"];

/// Visits of each.
const VISITS: u32 = 3;

/// The policy in which everybody is woken.
const HERD: &str = "shared/epoll";

/// How long a connection took with so many sockets, in microseconds, round by round.
type Choice = (u32, Vec<f64>);

/// What was served with so many workers: the policies and their visits.
type Field = (u32, Vec<(String, Vec<Visit>)>);

/// Does it.
pub fn run(notebook: &mut Notebook) -> Result<Findings> {
    let mut choices: Vec<Choice> = SOCKETS.map(|sockets| (sockets, Vec::new())).into();
    for round in 0..notebook.choose(ROUNDS, ROUNDS / 2) {
        for (sockets, times) in &mut choices {
            let key = format!("choice/{sockets}/{round}");
            times.push(notebook.sample(&key, |_| connect_to_one_of(*sockets))?);
        }
    }
    let all: Vec<&str> = crate::matrix::workloads::POLICIES.iter().map(|(name, _)| *name).collect();
    let (policies, missing) = notebook.policies(if notebook.quick { &FEW_POLICIES } else { &all });
    let mut fields = Vec::new();
    for &workers in notebook.choose(&WORKERS[..], &FEW_WORKERS[..]) {
        let entrant = |&(name, server): &(&str, &str)| {
            Entrant::one(name, format!("{server} --workers {workers}"))
        };
        let entrants: Vec<Entrant> = policies.iter().map(entrant).collect();
        let course = Course {
            name: &format!("{workers} workers"),
            load: slices(2, 64, false),
            path: "/",
            rounds: VISITS,
            warm_up: false,
            cores: None,
        };
        let visits = race(notebook, &course, &entrants)?;
        let names = entrants.into_iter().map(|entrant| entrant.name);
        fields.push((workers, names.zip(visits).collect()));
    }
    Ok(findings(&choices, &fields, missing, notebook.seed))
}

/// Opens so many sockets on one port and connects to it many times. Gives what one connection took,
/// from the call of connect(2) to the end of accept(2), in microseconds.
fn connect_to_one_of(sockets: u32) -> Result<f64> {
    let mut address: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot make an epoll")?;
    let mut listeners = Vec::new();
    for number in 0..sockets {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)
            .with_context(|| format!("cannot open {sockets} sockets; raise `ulimit -Hn`"))?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(128)?;
        if number == 0 {
            address = socket.local_addr()?.as_socket().context("a TCP socket without address")?;
        }
        epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, number.into()))?;
        listeners.push(socket);
    }
    let mut events = [EpollEvent::empty()];
    let begin = Instant::now();
    for _ in 0..CONNECTIONS {
        interrupt::check()?;
        let client = TcpStream::connect(address).context("cannot connect")?;
        // Closing it with a reset leaves no port behind for a minute (TIME_WAIT).
        SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
        epoll.wait(&mut events, EpollTimeout::from(1000_u16)).context("no connection came")?;
        listeners[events[0].data() as usize].accept().context("nothing to accept")?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(CONNECTIONS))
}

fn findings(choices: &[Choice], fields: &[Field], missing: Vec<String>, seed: u64) -> Findings {
    let times = |sockets: u32| -> &[f64] {
        choices.iter().find(|(found, _)| *found == sockets).map_or(&[], |(_, times)| times)
    };
    let longer = |sockets: u32| of_one(times(sockets), times(1), seed);
    let shown = |found: Sure| estimate::words(found, 3);
    let noisy = "the interval lies on both sides of the limit; a quieter machine would tell";
    let at_least = |found: Sure, limit| below(found.1, limit).map(|it| !it);
    let (many, most) = (longer(256), longer(1024));
    let rates = |workers: u32, policy: &str| -> Vec<f64> {
        let field = fields.iter().find(|(found, _)| *found == workers);
        let visits = field.and_then(|(_, all)| all.iter().find(|(name, _)| name == policy));
        visits.map_or(vec![], |(_, visits)| each(visits, |visit| visit.requests_per_second))
    };
    let woken: Vec<f64> = fields
        .iter()
        .filter(|(workers, _)| *workers == 256)
        .flat_map(|(_, all)| all.iter().filter(|(name, _)| name == HERD))
        .flat_map(|(_, visits)| each(visits, Visit::switches_each))
        .collect();
    let herd = herd(&woken);
    let of_four = |policy: &str| {
        let [few, many] = [4, 256].map(|workers| median(&rates(workers, policy)));
        many.zip(few).map(|(many, few)| many / few)
    };
    let part = |policy: &str| of_four(policy).map_or("–".into(), |part| format!("{part:.2}"));
    let claims = vec![
        Claim::by(
            "the post, of commit c617f398edd4",
            Some("https://git.kernel.org/linus/c617f398edd4db2b8567a28e899a88f8f574798d"),
            "choosing among sockets by a hash takes too much time",
            "suspected, no figure",
        )
        .found(
            format!("256 sockets: {} times the time of one", shown(many)),
            format!("whole interval from {TOO_MUCH:.2} on"),
            Verdict::of(at_least(many, TOO_MUCH), noisy),
        ),
        Claim::by(
            "Linux before 4.6, ended by commit c125e80b8868",
            Some("https://git.kernel.org/linus/c125e80b88687b25b321795457309eaaee4bf270"),
            "the kernel looks at every socket on the port",
            "longer with every socket",
        )
        .found(
            format!("1024 sockets: {} times the time of one", shown(most)),
            format!("whole interval from {A_SCAN:.0} on"),
            Verdict::of(at_least(most, A_SCAN), noisy),
        ),
        Claim::by(
            "tokio#6084",
            Some("https://github.com/tokio-rs/tokio/issues/6084"),
            "every worker on a shared socket is woken for every connection",
            "no figure",
        )
        .found(
            match (woken.first(), median(&woken)) {
                (Some(_), Some(each)) => {
                    format!("256 workers leave the CPU {each:.0} times for each")
                }
                _ => "not seen".into(),
            },
            format!("every visit from {A_HERD:.0} on"),
            Verdict::of(herd, "visits differ"),
        ),
    ];
    let answer = format!(
        "A connection to one of 256 sockets takes {} times as long as to a single one: choosing costs \
         {}. What does cost is to wake workers: with 256 of them instead of 4, a shared socket with epoll \
         serves {} of the connections, own sockets with the hash {}.",
        shown(many),
        match at_least(many, TOO_MUCH) {
            Some(true) => "something",
            Some(false) => "next to nothing",
            None => "no more than this machine's noise lets one see",
        },
        part(HERD),
        part("reuseport/hash")
    );
    let aware = |policy: &str, text: &str| of_four(policy).map(|part| format!("{text} {part:.2}"));
    let mended: Vec<String> = [
        aware("shared/exclusive", "a shared socket with exclusive wake-ups serves"),
        aware("shared/least-conn", "with least-conn"),
        aware("reuseport/least-conn", "own sockets with least-conn"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let advice = match &mended[..] {
        [] => String::new(),
        parts => format!(
            "Run as many workers as there are cores. Where there are many more: {} of what 4 workers do.",
            parts.join(", ")
        ),
    };
    let policies = fields.first().map_or(vec![], |(_, all)| names(all));
    let series = policies.iter().map(|name| {
        let point =
            |(workers, _): &Field| Some((f64::from(*workers), median(&rates(*workers, name))?));
        Series { name: name.clone(), points: fields.iter().filter_map(point).collect() }
    });
    let picture = Picture::Lines {
        title: "Connections/s with more and more workers".into(),
        x: Axis { name: "workers".into(), unit: Unit::Count, logarithmic: true },
        y: Axis { name: "connections/s".into(), unit: Unit::PerSecond, logarithmic: true },
        series: series.collect(),
        spans: vec![],
    };
    let by_workers = |title: &str, unit, figure: &dyn Fn(&Visit) -> f64| {
        let names: Vec<String> =
            fields.iter().map(|(workers, _)| plural(*workers, "worker")).collect();
        let columns: Vec<(&str, Unit)> = names.iter().map(|name| (name.as_str(), unit)).collect();
        let mut table = Table::new(title, &columns);
        for policy in &policies {
            let cell = |(_, all): &Field| {
                let visits = all.iter().find(|(name, _)| name == policy);
                Cell::maybe(visits.and_then(|(_, visits)| median(&each(visits, figure))))
            };
            table.row(policy, fields.iter().map(cell));
        }
        table.note = format!("medians of {VISITS} visits");
        table
    };
    Findings {
        answer,
        claims,
        advice,
        picture: Some(picture),
        tables: vec![
            choice(choices, seed),
            by_workers("Connections/s", Unit::PerSecond, &|visit| visit.requests_per_second),
            by_workers("CPU per connection, all workers", Unit::Microseconds, &Visit::cpu_us),
        ],
        evidence: vec![by_workers(
            "Context switches per connection",
            Unit::Mean,
            &Visit::switches_each,
        )],
        missing,
    }
}

fn names(all: &[(String, Vec<Visit>)]) -> Vec<String> {
    all.iter().map(|(name, _)| name.clone()).collect()
}

/// How much longer it takes than with one socket: the median of the rounds' ratios. A round lasts some
/// 60 ms, so whoever takes the CPU for a moment spoils a whole one, and would rule a mean.
fn of_one(times: &[f64], alone: &[f64], seed: u64) -> Sure {
    let ratios: Vec<f64> = times.iter().zip(alone).map(|(time, alone)| time / alone).collect();
    middle(&ratios, seed)
}

/// Whether workers left the CPU so often for a connection in every visit, or in none.
fn herd(woken: &[f64]) -> Option<bool> {
    let is_herd = |switches: &f64| *switches >= A_HERD;
    match woken.iter().filter(|switches| is_herd(switches)).count() {
        _ if woken.is_empty() => None,
        0 => Some(false),
        all if all == woken.len() => Some(true),
        _ => None,
    }
}

fn plural(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn choice(choices: &[Choice], seed: u64) -> Table {
    let mut table = Table::new(
        "A connection without workers",
        &[("time", Unit::Microseconds), ("of one socket", Unit::Ratio)],
    );
    let alone = choices.first().map_or(&[][..], |(_, times)| times);
    for (sockets, times) in choices {
        let (time, interval) = middle(times, seed);
        let (part, part_interval) = of_one(times, alone, seed);
        table.row(
            plural(*sockets, "socket"),
            [Cell::sure(time, interval), Cell::sure(part, part_interval)],
        );
    }
    table.note = format!(
        "connect, find by epoll, accept, close; medians of rounds of {CONNECTIONS} connections"
    );
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::interleaved::tests::visit;

    fn found(grows: f64, herd: u64) -> Findings {
        let times = |sockets: u32| {
            let time = 20.0 * (1.0 + grows * f64::from(sockets - 1) / 1023.0);
            (0..12).map(|round| time * (1.0 + f64::from(round % 3) * 0.01)).collect()
        };
        let choices: Vec<Choice> = SOCKETS.map(|sockets| (sockets, times(sockets))).into();
        let field = |workers: u32, switches: u64| {
            let visits = |rate| vec![Visit { switches, ..visit(rate, &[10; 4]) }; 3];
            let all = [(HERD, 20_000.0), ("reuseport/hash", 19_000.0)];
            (workers, all.map(|(name, rate)| (name.into(), visits(rate))).into())
        };
        findings(&choices, &[field(4, 80), field(256, 40 * herd)], vec![], 1)
    }

    fn verdicts(findings: &Findings) -> Vec<bool> {
        findings.claims.iter().map(|claim| claim.verdict == Verdict::Reproduced).collect()
    }

    #[test]
    fn a_choice_that_costs_nothing_and_a_herd_are_told() {
        let found = found(0.01, 200);
        assert_eq!(verdicts(&found), [false, false, true]);
        assert!(found.answer.contains("next to nothing"), "{}", found.answer);
    }

    #[test]
    fn a_kernel_that_looks_at_every_socket_would_be_found_out() {
        assert_eq!(verdicts(&found(5.0, 3)), [true, true, false]);
    }

    #[test]
    fn a_herd_is_one_only_if_every_visit_says_so() {
        assert_eq!(herd(&[200.0, 140.0]), Some(true));
        assert_eq!(herd(&[200.0, 100.0]), None);
        assert_eq!(herd(&[4.0, 100.0]), Some(false));
        assert_eq!(herd(&[]), None);
    }

    #[test]
    fn connections_reach_one_of_many_sockets_and_are_accepted() {
        assert!(connect_to_one_of(16).unwrap() > 0.0);
    }
}
