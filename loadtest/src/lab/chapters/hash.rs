#![doc = include_str!("hash.md")]

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::SockRef;

use super::*;
use crate::interrupt;
use crate::statistics::median;

/// Sockets on one port, without workers; connections in a round, and rounds.
const SOCKETS: [u32; 4] = [1, 16, 256, 1024];
const CONNECTIONS: u32 = 2000;
const ROUNDS: u32 = 40;

/// Workers and policies, also those of the short form, and slices of each.
const WORKERS: [u32; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const FEW_WORKERS: [u32; 2] = [4, 256];
const FEW_POLICIES: [&str; 3] = [EPOLL, HASH, OWN_LEAST];
const SLICES: u32 = 3;

/// Servers with up to this many workers are all up at once.
const FEW_AT_ONCE: u32 = 32;

/// The slices with this number of workers.
type Field = (u32, Samples<Slice>);

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let subjects = SOCKETS.map(|sockets| (plural(sockets, "socket"), sockets));
    let rounds = context.choose(ROUNDS, ROUNDS / 2);
    let choices =
        context.in_turns("choice", rounds, &subjects, |&count| connect_to_one_of(count))?;
    let all = POLICIES.map(|(name, _)| name);
    let policies = context.policies(context.choose(&all[..], &FEW_POLICIES[..]));
    let mut fields = Vec::new();
    for &workers in context.choose(&WORKERS[..], &FEW_WORKERS[..]) {
        let subject =
            |&(name, server): &Policy| (name, vec![format!("{server} --workers {workers}")]);
        let subjects: Vec<Subject> = policies.iter().map(subject).collect();
        let (part, wrk) = (&plural(workers, "worker"), [2, 64]);
        let one_at_a_time = workers > FEW_AT_ONCE;
        let course =
            Interleaved { part, wrk, keep_alive: false, rounds: SLICES, one_at_a_time, ..WRK };
        fields.push((workers, course.run(context, &subjects)?));
    }
    Ok(findings(&choices, &fields))
}

/// Opens this many sockets on one port and connects to it many times. Returns the time of one connection,
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
        // Closing the connection with a reset avoids TIME_WAIT, which would hold the port for a minute.
        SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
        epoll.wait(&mut events, EpollTimeout::from(1000_u16)).context("no connection came")?;
        listeners[events[0].data() as usize].accept().context("nothing to accept")?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(CONNECTIONS))
}

/// How much longer it takes than with one socket: the median of the rounds' ratios. A round lasts about
/// 60 ms, so a process that takes the CPU for a moment spoils a whole round, and would dominate a mean.
fn of_one(choices: &Samples<f64>, sockets: &str) -> Estimate {
    choices.ratio_by(median, sockets, "1 socket", |&time| time)
}

/// The median, with the least and the most as its interval.
fn between_ends(slices: &[f64]) -> Estimate {
    let ends = slices.iter().copied().map(|slice| [slice, slice]);
    let interval = ends.reduce(|all, one| [all[0].min(one[0]), all[1].max(one[1])]);
    Estimate { value: median(slices).unwrap_or(f64::NAN), interval }
}

fn findings(choices: &Samples<f64>, fields: &[Field]) -> Findings {
    let with = |workers: u32| fields.iter().find(|(found, _)| *found == workers);
    let of_four = |policy: &str| {
        let rate = |workers| middle(&with(workers)?.1, policy);
        Some(format!("{:.2}", rate(256)? / rate(4)?))
    };
    let better = [EXCLUSIVE, SHARED_LEAST, OWN_LEAST].iter();
    let better = better.filter_map(|name| Some(format!("{name} {}", of_four(name)?)));
    let switches = with(256).map_or(vec![], |(_, all)| all.each(EPOLL, switches_each));
    let figures = [
        ("many", of_one(choices, "256 sockets").into()),
        ("most", of_one(choices, "1024 sockets").into()),
        ("woken", between_ends(&switches).into()),
        ("herd", of_four(EPOLL).into()),
        ("hash", of_four(HASH).into()),
        ("better", better.collect::<Vec<_>>().join(", ").into()),
    ];
    let choice = choices
        .table("A connection without workers")
        .medians("time", Unit::Microseconds, |&time| time)
        .estimates("of one socket", Unit::Ratio, |sockets| of_one(choices, sockets))
        .table;
    let by_workers = |title, unit, figure| by_workers(fields, title, unit, figure);
    let rates = by_workers("Connections/s", Unit::PerSecond, |s| Some(s.requests_per_second));
    let cpu = by_workers("CPU per connection, all workers", Unit::Microseconds, Slice::cpu_us);
    let switches = by_workers("Context switches per connection", Unit::Mean, switches_each);
    let page = include_str!("hash.md");
    Findings::of(page, &figures, &[], picture(fields), [choice, rates, cpu], [switches])
}

fn plural(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The median of connections/s.
fn middle(slices: &Samples<Slice>, policy: &str) -> Option<f64> {
    median(&slices.each(policy, |slice| slice.requests_per_second))
}

fn picture(fields: &[Field]) -> Picture {
    let series = |name: &str| {
        let point = |(workers, all): &Field| Some((f64::from(*workers), middle(all, name)?));
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

/// A figure of each policy, with a column for each number of workers.
fn by_workers(
    fields: &[Field],
    title: &str,
    unit: Unit,
    figure: fn(&Slice) -> Option<f64>,
) -> Table {
    let Some((_, first)) = fields.first() else { return Table::new(title, &[]) };
    let mut grid = first.table(title);
    for (workers, all) in fields {
        let cell = |name: &str, _: &[Slice]| Cell::from(median(&all.each(name, figure)));
        grid = grid.cells(&plural(*workers, "worker"), unit, cell);
    }
    grid.table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::fixture::slice;

    #[test]
    fn what_choosing_costs_a_scan_and_a_herd_are_told() {
        let told = [("--", "costs next to nothing. What does cost"), ("++", "")];
        // The relative cost of choosing among 1024 sockets, and in each slice, how often 256 workers leave
        // the CPU for a request.
        for (grows, (choice, words), (herd, is_herd)) in [
            (0.01, told[0], (&[200, 200, 200][..], "+")),
            (5.0, told[1], (&[3, 3, 3], "-")),
            // It is a herd only if every slice shows one.
            (0.01, told[0], (&[200, 140], "+")),
            (0.01, told[0], (&[200, 100], "?")),
            (0.01, told[0], (&[4, 100], "-")),
        ] {
            let times = |sockets: u32| {
                let time = 20.0 * (1.0 + grows * f64::from(sockets - 1) / 1023.0);
                (0..12).map(|round| time * (1.0 + f64::from(round % 3) * 0.01)).collect()
            };
            let groups = SOCKETS.map(|sockets| (plural(sockets, "socket"), times(sockets)));
            let choices = Samples { groups: groups.into(), seed: 1 };
            let field = |workers: u32, switches: &[u64]| {
                let slices = |rate| {
                    let one = |&switches: &u64| {
                        let server_switches = Some(switches * rate);
                        Slice { server_switches, ..slice(0, rate, &[10; 4]) }
                    };
                    switches.iter().map(one).collect::<Vec<_>>()
                };
                (workers, samples_of([(EPOLL, slices(20_000)), (HASH, slices(19_000))]))
            };
            let found = findings(&choices, &[field(4, &[2; 3]), field(256, herd)]);
            let words = [words, "serves 1.00 of the connections"];
            found.expect(&format!("{choice}{is_herd}"), &words);
            assert_eq!(found.tables[1].rows[0].cells[1].value, Some(20_000.0));
        }
        let nothing = Samples { groups: vec![], seed: 1 };
        findings(&nothing, &[]).expect("???", &[]);
    }

    #[test]
    fn connections_reach_one_of_many_sockets_and_are_accepted() {
        assert!(connect_to_one_of(16).unwrap() > 0.0);
    }
}
