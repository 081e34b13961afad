//! The tables of `cost`: what a request costs each server.

use crate::documents::compare::shown;
use crate::load::perf::Unit as CostUnit;
use crate::measure::comparison::{Comparison, Subject, Summary};
use crate::report::model::{Block, Cell, Field, Mark, Table, Unit, escaped};
use crate::statistics::verdict::Ratio;

/// A note about the baseline.
const ABOUT_NGINX: &str = "nginx takes part twice, with one socket for all its workers and with \
     one for each. With each kind of connections, the others are compared with the cheaper of the \
     two.";

/// A note about costs in CPU time.
const ABOUT_CPU_TIME: &str = "The limits are for instructions. CPU time also counts waiting for \
     memory, and user and system are sampled by the clock tick, so these ratios are an indication, \
     not a verdict.";

/// A subject, its summary, its ratio to nginx, and whether that ratio is a verdict and not an indication.
type Costly<'a> = (&'a Subject, &'a Summary, Option<&'a Ratio>, bool);

fn of_cost<'a>() -> [Field<Costly<'a>>; 6] {
    [
        ("user", Unit::Count, |(_, s, ..)| Cell::from(s.cost.map(|cost| cost.user))),
        ("system", Unit::Count, |(_, s, ..)| Cell::from(s.cost.map(|cost| cost.system))),
        ("total", Unit::Count, |(_, s, ..)| s.cost_per_request.into()),
        ("of the cheaper nginx", Unit::Times, |(_, _, found, _)| (*found).into()),
        ("limit", Unit::Times, |(subject, ..)| subject.cost_limit.into()),
        ("", Unit::Text, |(subject, _, found, is_verdict)| {
            // Compared with two digits, as it is shown.
            let hundredths = |value: f64| (value * 100.0).round();
            match subject.cost_limit.zip(*found).filter(|_| *is_verdict) {
                None => Cell::from(""),
                Some((limit, found)) if hundredths(found.ratio) <= hundredths(limit) => {
                    Cell::from("within").mark(Mark::Good)
                }
                Some(_) => Cell::from("OVER").mark(Mark::Bad),
            }
        }),
    ]
}

/// What a request costs each server, a table for each kind of connections.
pub fn costs(comparison: &Comparison) -> Vec<Block> {
    let instructions = comparison.plan.cost_unit == Some(CostUnit::Instructions);
    let what = match instructions {
        true => "instructions per request, counted by perf",
        false => "ns of CPU time per request",
    };
    let excuse = comparison.plan.cost_excuse.as_ref();
    let excuse = excuse.map(|excuse| format!("CPU time, since {}.", escaped(excuse)));
    let mut blocks = vec![
        Block::Heading(format!("Cost of a request to the whole server: {what}")),
        Block::Text(excuse.unwrap_or_default()),
    ];
    for (keep_alive, mode) in [(true, "kept alive"), (false, "a new connection for each request")] {
        let of_mode = shown(comparison).into_iter().filter(|(one, _)| one.keep_alive == keep_alive);
        let subjects = of_mode.map(|(subject, summary)| -> Costly {
            let pair = comparison.pairs.iter().find(|pair| pair.other == subject.name);
            (subject, summary, pair.and_then(|pair| pair.result.as_ref()), instructions)
        });
        let subjects: Vec<Costly> = subjects.collect();
        let names = subjects.iter().map(|(subject, ..)| &subject.name);
        let table = Table::of(mode, names).with("", &of_cost(), &subjects);
        blocks.push(Block::Table(table.known_columns()));
    }
    blocks.push(Block::Text(ABOUT_NGINX.into()));
    blocks.push(Block::Text(if instructions { String::new() } else { ABOUT_CPU_TIME.into() }));
    blocks
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::documents::compare;
    use crate::load::perf::Cost;
    use crate::measure::fixture::comparison;
    use crate::report::terminal;
    use crate::statistics::verdict::Figure;

    /// Servers with kept and with new connections, after so many rounds.
    pub fn record(rounds: u32) -> Comparison {
        let mut comparison = comparison(rounds, 1.0);
        comparison.plan.judged = Figure::CostPerRequest;
        comparison.plan.cost_unit = Some(CostUnit::Instructions);
        comparison.fixed_rates.clear();
        for keep_alive in [true, false] {
            let nginx = comparison.subjects[0].clone();
            let name = format!("nginx, {keep_alive}");
            comparison.subjects.push(Subject { name, keep_alive, yardstick: true, ..nginx });
        }
        for slice in comparison.subjects.iter_mut().flat_map(|subject| &mut subject.slices) {
            let total = 10.0 + f64::from(slice.round);
            slice.cost = Some(Cost { user: 1.0, system: total - 1.0, total });
        }
        comparison.summarize();
        comparison
    }

    fn report(rounds: u32) -> String {
        terminal::render(&compare::document(&record(rounds)), 200)
    }

    #[test]
    fn few_rounds_give_no_interval_and_no_empty_columns() {
        let few = report(2);
        assert!(!few.contains("95 % intervals") && few.contains("Latencies are of"), "{few}");
        for absent in ["of the cheaper nginx", "yardstick", "limit", "deviation"] {
            assert!(!few.contains(absent), "{absent} in {few}");
        }
        let enough = report(6);
        assert!(enough.contains("In brackets: 95 % intervals"), "{enough}");
        assert!(enough.contains("of the cheaper nginx"), "{enough}");
    }

    #[test]
    fn both_kinds_of_connections_are_in_the_load() {
        let report = report(6);
        assert!(report.contains("kept alive within a slice (kept) or a new one"), "{report}");
    }
}
