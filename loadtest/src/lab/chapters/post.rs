//! Why did own sockets reach only 0.65 of a shared one?
//!
//! # The claim
//! The post runs one tiny web app in four processes and asks it with `wrk -t12 -c100`: 34 492 requests/s
//! when all processes accept from one shared socket, 22 366 when each has its own with SO_REUSEPORT,
//! which is 0.648 of it; and the same when single servers are started one by one from a shell. It
//! ran on a MacBook, and suspects the hash by which *Linux* chooses a socket.
//!
//! macOS does not choose: of several listening sockets on one address and port, one is given all
//! connections (measured by kaappi/kaappi-net for 2 to 12 sockets; gofiber/fiber#1208 quotes XNU's
//! in_pcblookup_hash). So the post may have compared four workers with one.
//!
//! # What the kernel does
//! Linux hashes addresses and ports of a new connection and takes the listening socket with that number
//! from an array (`reuseport_select_sock`, commits c617f398edd4 and c125e80b8868). Which worker is
//! behind it, and whether it is busy, is not looked at. A classic BPF program of one instruction,
//! `ret 0`, makes it choose socket 0 always: `--steer first` is a Mac, on Linux.
//!
//! # The set-up
//! The post's load, kept connections of `wrk -t12 -c100`, in slices of a second that visit all servers in
//! turn; each slice opens its connections anew. Four workers, and a handler that burns as much CPU time
//! as Sanic takes for a request, 70 us; once more with 20 us. Servers and wrk are confined to two cores,
//! as few as the post's machine had, and where there are more, run on all of them too.
//!
//! # The criterion
//! Requests/s over those of the shared socket, round by round. *As slow as in the post* is a ratio whose
//! whole 95 % interval lies below 0.824, half the way from the post's 0.648 to 1; *not slow* one whose whole
//! interval does not. If own sockets are not slow with Linux's hash, and slow when one of them gets all
//! connections, then the post's figure is the figure of one worker.
//!
//! # Elsewhere
//! On macOS the same two servers would show it without `--steer first`, but this project runs on Linux
//! alone. With N cores and a handler that takes long, one worker does 1/N of what N workers do; the less
//! a request costs the server, the more of the time is wrk's, and the nearer to 1 the ratio comes. FreeBSD
//! hashes with SO_REUSEPORT_LB and does as macOS with SO_REUSEPORT.

use anyhow::Result;

use crate::environment::cores;
use crate::kernel::affinity;
use crate::lab::chapter::{Claim, Findings, Verdict};
use crate::lab::estimate::{self, Sure};
use crate::lab::interleaved::{Course, Entrant, Visit, below, each, middle, race, ratio, slices};
use crate::lab::store::Notebook;
use crate::report::format::count;
use crate::report::model::{Bar, Cell, Picture, Table, Unit};
use crate::report::post;
use crate::statistics::median;

/// Everybody is compared with this one.
const BASELINE: &str = "shared";

/// The kernel's hash, and the Mac.
const HASH: &str = "own";
const FIRST: &str = "own, one gets all";
const JOINED: &str = "own, joined";

/// What Sanic takes for a request, and a handler that is cheaper.
const SANIC: &str = "70us";
const CHEAP: &str = "20us";

/// Cores that the post's machine had at least.
const FEW_CORES: usize = 2;

/// The races: a name, the handler's cost, and on how many cores.
struct Setting {
    name: &'static str,
    cost: &'static str,
    words: String,
    cores: Option<Vec<usize>>,
}

/// A race that was run: its setting, and each one's visits.
struct Race {
    cost: &'static str,
    words: String,
    entrants: Vec<(String, Vec<Visit>)>,
}

/// Does it.
pub fn run(notebook: &mut Notebook) -> Result<Findings> {
    let rounds = notebook.choose(12, 6);
    let (_, missing) = notebook.policies(&["shared/least-conn", "reuseport/least-conn"]);
    let mut races = Vec::new();
    for setting in settings(notebook.quick)? {
        let all = entrants(setting.cost, missing.is_empty() && !notebook.quick);
        let few = |entrant: &Entrant| [BASELINE, HASH, FIRST].contains(&entrant.name.as_str());
        let is_main = setting.name == "confined";
        let entrants: Vec<Entrant> = all.into_iter().filter(|e| is_main || few(e)).collect();
        let course = Course {
            name: setting.name,
            load: slices(12, 100, true),
            path: "/",
            rounds: if is_main { rounds } else { rounds.min(8) },
            warm_up: true,
            cores: setting.cores,
        };
        let visits = race(notebook, &course, &entrants)?;
        let names = entrants.into_iter().map(|entrant| entrant.name);
        races.push(Race {
            cost: setting.cost,
            words: setting.words,
            entrants: names.zip(visits).collect(),
        });
    }
    let mut missing = missing;
    if cores() <= FEW_CORES {
        missing.push(format!(
            "with as many cores as this machine has, {}, confined and unconfined are the same",
            cores()
        ));
    }
    Ok(findings(&races, missing, notebook.seed))
}

fn settings(quick: bool) -> Result<Vec<Setting>> {
    let own = affinity::own()?;
    let few: Vec<usize> = own.iter().copied().take(FEW_CORES).collect();
    let words = |cost: &str, cores: usize| format!("handler {cost}, {cores} cores");
    let mut settings = vec![Setting {
        name: "confined",
        cost: SANIC,
        words: words(SANIC, few.len()),
        cores: Some(few.clone()),
    }];
    if own.len() > FEW_CORES {
        let words = words(SANIC, own.len());
        settings.push(Setting { name: "unconfined", cost: SANIC, words, cores: None });
    }
    if !quick {
        let words = words(CHEAP, few.len());
        settings.push(Setting { name: "cheap", cost: CHEAP, words, cores: Some(few) });
    }
    Ok(settings)
}

fn entrants(cost: &str, least: bool) -> Vec<Entrant> {
    let with = |server: &str| format!("{server} --handler-cost {cost}");
    let mut all = vec![
        Entrant::one(BASELINE, with("shared")),
        Entrant::one(HASH, with("reuseport")),
        Entrant::one(FIRST, with("reuseport --steer first")),
        Entrant { name: JOINED.into(), servers: vec![with("reuseport --workers 1"); 4] },
    ];
    if least {
        all.push(Entrant::one("shared, least-conn", with("shared --accept least-conn")));
        all.push(Entrant::one("own, least-conn", with("reuseport --steer least-conn")));
    }
    all
}

/// Requests/s over those of the shared socket, with the interval.
fn of_shared(race: &Race, name: &str, seed: u64) -> Option<Sure> {
    let rates = |name: &str| {
        let visits = &race.entrants.iter().find(|(found, _)| found == name)?.1;
        Some(each(visits, |visit| visit.requests_per_second))
    };
    Some(ratio(&rates(name)?, &rates(BASELINE)?, seed))
}

/// What the post measured, requests/s: own sockets, and a shared one.
fn posts() -> [u64; 2] {
    [post::REUSEPORT, post::SHARED].map(|quotation| quotation.requests_per_second)
}

fn posts_ratio() -> f64 {
    let [own, shared] = posts();
    own as f64 / shared as f64
}

/// Half the way from the post's ratio to none.
fn limit() -> f64 {
    (posts_ratio() + 1.0) / 2.0
}

fn findings(races: &[Race], missing: Vec<String>, seed: u64) -> Findings {
    let main = &races[0];
    let found = |name: &str| of_shared(main, name, seed).unwrap_or((f64::NAN, None));
    let (hash, first, joined) = (found(HASH), found(FIRST), found(JOINED));
    let slow = |found: Sure| below(found.1, limit());
    let noisy =
        "the interval lies on both sides of the limit; a quieter machine or more rounds would tell";
    let [own, shared] = posts().map(count);
    let post = format!("{:.3} ({own} of {shared} requests/s)", posts_ratio());
    let within = format!("whole interval below {:.3}", limit());
    let judge = |claim: Claim, ratio: Sure| {
        claim.found(estimate::words(ratio, 3), within.as_str(), Verdict::of(slow(ratio), noisy))
    };
    let claims = vec![
        judge(
            Claim::by(
                "the post",
                None,
                "own sockets serve only two thirds of what a shared one does",
                &post,
            ),
            hash,
        ),
        judge(
            Claim::by(
                "the post",
                None,
                "the same with single servers, each started for itself on the same port",
                "the same result",
            ),
            joined,
        ),
        judge(
            Claim::by(
                "kaappi-net, gofiber/fiber#1208",
                Some("https://github.com/gofiber/fiber/issues/1208"),
                "where one socket gets all connections, as on macOS, the post's loss appears",
                &post,
            ),
            first,
        ),
    ];
    let found_out = slow(hash) == Some(false) && slow(first) == Some(true);
    let bars = main.entrants.iter().filter(|(name, _)| name != BASELINE).map(|(name, _)| {
        let (value, interval) = found(name);
        Bar { name: name.clone(), value, interval }
    });
    let picture = Picture::Bars {
        title: "Requests/s, of those over a shared socket".into(),
        unit: Unit::Ratio,
        bars: bars.collect(),
        reference: Some((posts_ratio(), "the post".into())),
    };
    Findings {
        answer: answer(races, found_out, seed),
        claims,
        advice: match found_out {
            true => {
                "On Linux choose by what follows, not by the post; on macOS, share the socket. (One worker \
                 of four does not mean a quarter, since workers and wrk share two cores here: four workers \
                 never had four.)"
            }
            false => "",
        }
        .into(),
        picture: Some(picture),
        tables: races.iter().map(|race| table(race, seed)).collect(),
        evidence: vec![evidence(main)],
        missing,
    }
}

/// The question's answer. With the cheaper handler the ratio is nearer to the post's: a worker that is
/// alone leaves the other core to wrk, and the more wrk has to do for a request, the less that costs.
fn answer(races: &[Race], found_out: bool, seed: u64) -> String {
    let main = &races[0];
    let ratio = |race: &Race, name: &str| of_shared(race, name, seed);
    let words = |found: Option<Sure>| found.map_or("-".into(), |found| estimate::words(found, 3));
    let [hash, first] = [HASH, FIRST].map(|name| words(ratio(main, name)));
    let cheap = races.iter().find(|race| race.cost == CHEAP);
    let cheap = cheap.and_then(|race| Some((race.cost, ratio(race, FIRST)?)));
    let cheap = cheap.map_or(String::new(), |(cost, found)| {
        format!(", and {} with a handler of {cost}", estimate::words(found, 3))
    });
    let load = format!("under the post's load, with a handler of {}", main.cost);
    if found_out {
        format!(
            "Most likely because macOS gives every connection to one of the sockets (others measured that, \
             nothing here ran on macOS), so that four workers were compared with one: with Linux made to do \
             the same (--steer first), own sockets serve {first} of what a shared one does {load}{cheap}, and \
             the post had {:.3}. The hash that it suspects is not to blame: with that, own sockets serve \
             {hash}.",
            posts_ratio()
        )
    } else {
        format!(
            "Own sockets serve {hash} of what a shared one does here {load}, and {first} when one of \
             them gets all connections{cheap}; the post had {:.3}.",
            posts_ratio()
        )
    }
}

fn table(race: &Race, seed: u64) -> Table {
    let mut table = Table::new(
        &format!("Requests/s, {}", race.words),
        &[
            ("requests/s", Unit::PerSecond),
            ("of shared", Unit::Ratio),
            ("CPU per request", Unit::Microseconds),
        ],
    );
    for (name, visits) in &race.entrants {
        let (rate, interval) = middle(&each(visits, |visit| visit.requests_per_second), seed);
        let ratio = of_shared(race, name, seed);
        table.row(
            name,
            [
                Cell::sure(rate, interval),
                ratio.map_or_else(Cell::none, |(value, interval)| Cell::sure(value, interval)),
                Cell::maybe(median(&each(visits, Visit::cpu_us))),
            ],
        );
    }
    table
}

/// Who accepted and who left the CPU, from the scoreboard and from /proc.
fn evidence(race: &Race) -> Table {
    let mut table = Table::new(
        "What the kernel saw",
        &[
            ("workers that got connections", Unit::Mean),
            ("busiest / average worker", Unit::Ratio),
            ("switches per request", Unit::Ratio),
        ],
    );
    for (name, visits) in &race.entrants {
        // wrk opens one connection before its load; whoever answers requests has more than that.
        let busy = |visit: &Visit| visit.served.iter().filter(|&&requests| requests > 1).count();
        let busy = each(visits, |visit| busy(visit) as f64);
        let mean = busy.iter().sum::<f64>() / busy.len().max(1) as f64;
        table.row(
            name,
            [
                Cell::number(mean),
                Cell::maybe(median(&each(visits, Visit::unevenness))),
                Cell::maybe(median(&each(visits, Visit::switches_each))),
            ],
        );
    }
    table.note =
        "medians over the slices; of the workers the mean; of each server all processes".into();
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::interleaved::tests::visit;

    fn race(hash: f64, first: f64, spread: f64) -> Race {
        let visits = |rate: f64, served: &[u64]| -> Vec<Visit> {
            let jitter =
                |round: u32| if round.is_multiple_of(2) { 1.0 + spread } else { 1.0 - spread };
            (0..12).map(|round| visit(rate * jitter(round), served)).collect()
        };
        let even = [500; 4];
        Race {
            cost: SANIC,
            words: "handler 70us, 2 cores".into(),
            entrants: vec![
                (BASELINE.into(), (0..12).map(|_| visit(20_000.0, &even)).collect()),
                (HASH.into(), visits(20_000.0 * hash, &even)),
                (FIRST.into(), visits(20_000.0 * first, &[2000, 0, 0, 0])),
                (JOINED.into(), visits(20_000.0 * hash, &even)),
            ],
        }
    }

    fn verdicts(race: Race) -> Vec<Verdict> {
        findings(&[race], vec![], 1).claims.into_iter().map(|claim| claim.verdict).collect()
    }

    #[test]
    fn the_hash_is_innocent_where_only_one_worker_of_four_is_slow() {
        let found = verdicts(race(0.97, 0.6, 0.02));
        assert_eq!(found[0], Verdict::NotReproduced);
        assert_eq!(found[1], Verdict::NotReproduced);
        assert_eq!(found[2], Verdict::Reproduced);
        let answer = findings(&[race(0.97, 0.6, 0.0)], vec![], 1).answer;
        assert!(answer.contains("four workers were compared with one:"), "{answer}");
        assert!(answer.contains("own sockets serve 0.600 (0.600 to 0.600) of"), "{answer}");
    }

    #[test]
    fn a_hash_that_is_slow_would_be_found_guilty() {
        assert_eq!(verdicts(race(0.65, 0.6, 0.02))[0], Verdict::Reproduced);
        let answer = findings(&[race(0.65, 0.6, 0.02)], vec![], 1).answer;
        assert!(answer.starts_with("Own sockets serve 0.65"), "{answer}");
    }

    #[test]
    fn a_machine_that_is_too_noisy_decides_nothing() {
        let found = verdicts(race(0.84, 0.80, 0.5));
        assert!(matches!(found[0], Verdict::NotDecidable(_)), "{found:?}");
    }

    #[test]
    fn evidence_names_how_many_workers_had_anything_to_do() {
        let table = evidence(&race(1.0, 0.6, 0.0));
        let workers = |row: usize| table.rows[row].cells[0].value;
        assert_eq!((workers(1), workers(2)), (Some(4.0), Some(1.0)));
    }
}
