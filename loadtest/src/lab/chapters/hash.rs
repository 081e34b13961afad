#![doc = include_str!("hash.md")]

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::SockRef;

use crate::interrupt;
use crate::lab::chapter::Findings;
use crate::lab::client::bound;
use crate::lab::context::Context;
use crate::lab::criterion::{Criterion, Limit, estimated, words};
use crate::lab::interleaved::{Interleaved, Subject, cpu_us, switches_each};
use crate::lab::samples::{Samples, estimate};
use crate::matrix::workloads::POLICIES;
use crate::measure::comparison::Slice;
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
type Field = (u32, Samples<Slice>);

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let subjects = SOCKETS.map(|sockets| (plural(sockets, "socket"), sockets));
    let rounds = context.choose(ROUNDS, ROUNDS / 2);
    let choices =
        context.in_turns("choice", rounds, &subjects, |&count| connect_to_one_of(count))?;
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
        let socket = bound(address, true)
            .with_context(|| format!("cannot open {sockets} sockets; raise `ulimit -Hn`"))?;
        socket.set_nonblocking(true)?;
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
    let longer = |sockets: u32, limit| {
        let label = format!("{sockets} sockets: {{}} times the time of one");
        let found = of_one(choices, &plural(sockets, "socket"));
        estimated(label, found).digits(3).must_be(Limit::AtLeast(limit))
    };
    let (costs, scans) = (longer(256, TOO_MUCH), longer(1024, A_SCAN));
    let with = |workers: u32| fields.iter().find(|(found, _)| *found == workers);
    let switches = with(256).map_or(vec![], |(_, all)| all.each(HERD, switches_each));
    let of_four = |policy: &str| {
        let rate = |workers| median(&with(workers)?.1.each(policy, |s| s.requests_per_second));
        Some(format!("{:.2}", rate(256)? / rate(4)?))
    };
    let better = ["shared/exclusive", "shared/least-conn", "reuseport/least-conn"];
    let better = better.iter().filter_map(|name| Some(format!("{name} {}", of_four(name)?)));
    let figures = [
        ("many", words(of_one(choices, "256 sockets"), 3)),
        ("herd", of_four(HERD).unwrap_or_default()),
        ("hash", of_four("reuseport/hash").unwrap_or_default()),
        ("better", better.collect::<Vec<_>>().join(", ")),
    ];
    let by_workers = |title, unit, figure| by_workers(fields, title, unit, figure);
    Findings {
        picture: Some(picture(fields)),
        tables: vec![
            choice(choices),
            by_workers("Connections/s", Unit::PerSecond, |s| Some(s.requests_per_second)),
            by_workers("CPU per connection, all workers", Unit::Microseconds, cpu_us),
        ],
        evidence: vec![by_workers("Context switches per connection", Unit::Mean, switches_each)],
        missing,
        ..Findings::of(PAGE, &[(&costs, ""), (&scans, ""), (&is_herd(&switches), "")], &figures)
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
    figure: fn(&Slice) -> Option<f64>,
) -> Table {
    let Some((_, first)) = fields.first() else { return Table::new(title, &[]) };
    let mut grid = first.table(title);
    for (workers, all) in fields {
        let cell = |name: &str, _: &[Slice]| Cell::maybe(median(&all.each(name, figure)));
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
    use crate::lab::samples::tests::samples_of;
    use crate::measure::fixture::slice;

    #[test]
    fn what_choosing_costs_a_scan_and_a_herd_are_told() {
        for (grows, herd, verdicts, words) in
            [(0.01, 200, "--+", "costs next to nothing. What does cost"), (5.0, 3, "++-", "")]
        {
            let times = |sockets: u32| {
                let time = 20.0 * (1.0 + grows * f64::from(sockets - 1) / 1023.0);
                (0..12).map(|round| time * (1.0 + f64::from(round % 3) * 0.01)).collect()
            };
            let groups = SOCKETS.map(|sockets| (plural(sockets, "socket"), times(sockets)));
            let choices = Samples { groups: groups.into(), seed: 1 };
            let field = |workers: u32, switches: u64| {
                let slices = |rate| {
                    let server_switches = Some(switches * rate);
                    vec![Slice { server_switches, ..slice(0, rate, &[10; 4]) }; 3]
                };
                let groups = [(HERD, slices(20_000)), ("reuseport/hash", slices(19_000))];
                (workers, samples_of(groups))
            };
            let found = findings(&choices, &[field(4, 2), field(256, herd)], vec![]);
            found.expect(verdicts, &[words, "serves 1.00 of the connections"]);
            assert_eq!(found.tables[1].rows[0].cells[1].value, Some(20_000.0));
        }
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
