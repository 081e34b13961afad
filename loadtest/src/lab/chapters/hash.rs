#![doc = include_str!("hash.md")]

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, SockRef, Socket, Type};

use crate::interrupt;
use crate::lab::chapter::{Findings, judged};
use crate::lab::context::Context;
use crate::lab::criterion::{Criterion, Limit, estimated, words};
use crate::lab::interleaved::{Interleaved, Subject, WrkSample};
use crate::lab::samples::{Samples, estimate};
use crate::matrix::workloads::POLICIES;
use crate::report::model::{Axis, Cell, Picture, Series, Table, Unit};
use crate::statistics::estimate::Estimate;
use crate::statistics::median;

/// The experiment's page.
const PAGE: &str = include_str!("hash.md");

/// Sockets on one port, without workers.
const SOCKETS: [u32; 4] = [1, 16, 256, 1024];

/// Connections to them in a round, and rounds.
const CONNECTIONS: u32 = 2000;
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

/// Slices of each.
const SLICES: u32 = 3;

/// The policy in which everybody is woken.
const HERD: &str = "shared/epoll";

/// What was served with so many workers.
type Field = (u32, Samples<WrkSample>);

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let names = SOCKETS.map(|sockets| plural(sockets, "socket"));
    let names = names.each_ref().map(String::as_str);
    let rounds = context.choose(ROUNDS, ROUNDS / 2);
    let connect = |place: usize| connect_to_one_of(SOCKETS[place]);
    let choices = context.in_turns("choice", &names, rounds, connect)?;
    let all = POLICIES.map(|(name, _)| name);
    let (policies, missing) = context.policies(context.choose(&all[..], &FEW_POLICIES[..]));
    let mut fields = Vec::new();
    for &workers in context.choose(&WORKERS[..], &FEW_WORKERS[..]) {
        let subject = |&(name, server): &(&str, &str)| {
            (name.to_owned(), vec![format!("{server} --workers {workers}")])
        };
        let subjects: Vec<Subject> = policies.iter().map(subject).collect();
        let part = &plural(workers, "worker");
        let (wrk, rounds) = ([2, 64], SLICES);
        let course =
            Interleaved { part, wrk, keep_alive: false, rounds, warm_up: false, cores: None };
        fields.push((workers, course.run(context, &subjects)?));
    }
    Ok(findings(&choices, &fields, missing))
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

/// How much longer it takes than with one socket: the median of the rounds' ratios. A round lasts some
/// 60 ms, so whoever takes the CPU for a moment spoils a whole one, and would rule a mean.
fn of_one(choices: &Samples<f64>, sockets: &str) -> Estimate {
    let (times, alone) = (choices.of(sockets), choices.of(&plural(1, "socket")));
    let ratios: Vec<f64> = times.iter().zip(alone).map(|(time, alone)| time / alone).collect();
    estimate(&ratios, median, choices.seed)
}

/// How often workers left the CPU for a connection: the median slice, between the least and the most.
fn woken(slices: &[f64]) -> Estimate {
    let least = slices.iter().copied().min_by(f64::total_cmp);
    let most = slices.iter().copied().max_by(f64::total_cmp);
    let interval = least.zip(most).map(|(least, most)| [least, most]);
    Estimate { value: median(slices).unwrap_or(f64::NAN), interval }
}

fn is_herd(slices: &[f64]) -> Criterion {
    let label = "256 workers leave the CPU {} times for each, least and most of the slices";
    estimated(label, woken(slices)).digits(0).must_be(Limit::AtLeast(A_HERD))
}

fn findings(choices: &Samples<f64>, fields: &[Field], missing: Vec<String>) -> Findings {
    let many = of_one(choices, "256 sockets");
    let longer = |label: &str, found, limit| {
        estimated(label, found).digits(3).must_be(Limit::AtLeast(limit))
    };
    let costs = longer("256 sockets: {} times the time of one", many, TOO_MUCH);
    let with = |workers: u32| fields.iter().find(|(found, _)| *found == workers);
    let switches = with(256).map_or(vec![], |(_, all)| all.each(HERD, WrkSample::switches_each));
    let scans =
        longer("1024 sockets: {} times the time of one", of_one(choices, "1024 sockets"), A_SCAN);
    let of_four = |policy: &str| {
        let rate = |workers| median(&with(workers)?.1.each(policy, |s| s.requests_per_second));
        Some(rate(256)? / rate(4)?)
    };
    let part = |policy| of_four(policy).map_or("-".into(), |part| format!("{part:.2}"));
    let answer = format!(
        "A connection to one of 256 sockets takes {} times as long as to a single one: choosing costs \
         {}. What does cost is to wake workers: with 256 of them instead of 4, a shared socket with epoll \
         serves {} of the connections, own sockets with the hash {}.",
        words(many, 3),
        match costs.met() {
            Some(true) => "something",
            Some(false) => "next to nothing",
            None => "no more than this machine's noise lets one see",
        },
        part(HERD),
        part("reuseport/hash")
    );
    let better = [
        ("shared/exclusive", "a shared socket with exclusive wake-ups serves"),
        ("shared/least-conn", "with least-conn"),
        ("reuseport/least-conn", "own sockets with least-conn"),
    ];
    let better: Vec<String> = better
        .into_iter()
        .filter_map(|(policy, text)| Some(format!("{text} {:.2}", of_four(policy)?)))
        .collect();
    let advice = format!(
        "Run as many workers as there are cores. Where there are many more: {} of what 4 workers do.",
        better.join(", ")
    );
    Findings {
        answer,
        claims: judged(PAGE, &[(&costs, ""), (&scans, ""), (&is_herd(&switches), "")]),
        advice: if better.is_empty() { String::new() } else { advice },
        picture: Some(picture(fields)),
        tables: vec![
            choice(choices),
            by_workers(fields, "Connections/s", Unit::PerSecond, |s| s.requests_per_second),
            by_workers(
                fields,
                "CPU per connection, all workers",
                Unit::Microseconds,
                WrkSample::cpu_us,
            ),
        ],
        evidence: vec![by_workers(
            fields,
            "Context switches per connection",
            Unit::Mean,
            WrkSample::switches_each,
        )],
        missing,
    }
}

fn plural(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn picture(fields: &[Field]) -> Picture {
    let series = |name: &str| {
        let point = |(workers, all): &Field| {
            Some((f64::from(*workers), median(&all.each(name, |s| s.requests_per_second))?))
        };
        Series { name: name.into(), points: fields.iter().filter_map(point).collect() }
    };
    let axis = |name: &str, unit| Axis { name: name.into(), unit, logarithmic: true };
    Picture::Lines {
        title: "Connections/s with more and more workers".into(),
        x: axis("workers", Unit::Count),
        y: axis("connections/s", Unit::PerSecond),
        series: fields.first().map_or(vec![], |(_, all)| all.names().map(series).collect()),
        spans: vec![],
    }
}

/// A figure of each policy, a column for each number of workers.
fn by_workers(
    fields: &[Field],
    title: &str,
    unit: Unit,
    figure: impl Fn(&WrkSample) -> f64,
) -> Table {
    let Some((_, first)) = fields.first() else { return Table::new(title, &[]) };
    let mut grid = first.table(title);
    for (workers, all) in fields {
        let cell = |name: &str, _: &[WrkSample]| Cell::maybe(median(&all.each(name, &figure)));
        grid = grid.cells(&plural(*workers, "worker"), unit, cell);
    }
    grid.note(format!("medians of {SLICES} slices"))
}

fn choice(choices: &Samples<f64>) -> Table {
    choices
        .table("A connection without workers")
        .medians("time", Unit::Microseconds, |&time| time)
        .estimates("of one socket", Unit::Ratio, |sockets| of_one(choices, sockets))
        .note(format!(
            "connect, find by epoll, accept, close; medians of rounds of {CONNECTIONS} connections"
        ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::chapter::Verdict;
    use crate::lab::interleaved::tests::slice;

    fn found(grows: f64, herd: u64) -> Findings {
        let times = |sockets: u32| {
            let time = 20.0 * (1.0 + grows * f64::from(sockets - 1) / 1023.0);
            (0..12).map(|round| time * (1.0 + f64::from(round % 3) * 0.01)).collect()
        };
        let groups = SOCKETS.map(|sockets| (plural(sockets, "socket"), times(sockets))).into();
        let field = |workers: u32, switches: u64| {
            let slices = |rate| vec![WrkSample { switches, ..slice(rate, &[10; 4]) }; 3];
            let groups = [(HERD, 20_000.0), ("reuseport/hash", 19_000.0)];
            let groups = groups.map(|(name, rate)| (name.into(), slices(rate))).into();
            (workers, Samples { groups, seed: 1 })
        };
        let fields = [field(4, 80), field(256, 40 * herd)];
        findings(&Samples { groups, seed: 1 }, &fields, vec![])
    }

    fn verdicts(findings: &Findings) -> Vec<bool> {
        findings.claims.iter().map(|claim| claim.verdict == Verdict::Reproduced).collect()
    }

    #[test]
    fn a_choice_that_costs_nothing_and_a_herd_are_told() {
        let found = found(0.01, 200);
        assert_eq!(verdicts(&found), [false, false, true]);
        assert!(found.answer.contains("next to nothing"), "{}", found.answer);
        assert_eq!(found.tables[1].rows[0].cells[1].value, Some(20_000.0));
    }

    #[test]
    fn a_kernel_that_looks_at_every_socket_would_be_found() {
        assert_eq!(verdicts(&found(5.0, 3)), [true, true, false]);
    }

    #[test]
    fn a_herd_is_one_only_if_every_slice_says_so() {
        for (slices, expected) in [
            (&[200.0, 140.0][..], Some(true)),
            (&[200.0, 100.0], None),
            (&[4.0, 100.0], Some(false)),
            (&[], None),
        ] {
            assert_eq!(is_herd(slices).met(), expected, "{slices:?}");
        }
    }

    #[test]
    fn connections_reach_one_of_many_sockets_and_are_accepted() {
        assert!(connect_to_one_of(16).unwrap() > 0.0);
    }
}
