//! What a request costs.

use crate::documents::compare::{estimate, summaries};
use crate::load::perf::Unit as CostUnit;
use crate::measure::comparison::Comparison;
use crate::report::model::{Block, Cell, Mark, Table, Unit, escaped};

/// What a request costs each server, a table for each kind of connections.
pub fn costs(comparison: &Comparison) -> Vec<Block> {
    let instructions = comparison.plan.cost_unit == Some(CostUnit::Instructions);
    let what = match instructions {
        true => "instructions per request, counted by perf",
        false => "ns of CPU time per request",
    };
    let mut blocks = vec![Block::Heading(format!("Cost of a request to the whole server: {what}"))];
    if let Some(excuse) = &comparison.plan.cost_excuse {
        blocks.push(Block::Text(format!("CPU time, since {}.", escaped(excuse))));
    }
    for (keep_alive, mode) in [(true, "kept alive"), (false, "a new connection for each request")] {
        let mut table = Table::new(
            mode,
            &[
                ("user", Unit::Count),
                ("system", Unit::Count),
                ("total", Unit::Count),
                ("of the yardstick", Unit::Times),
                ("limit", Unit::Times),
                ("", Unit::Text),
            ],
        );
        for (subject, summary) in summaries(comparison).filter(|(s, _)| s.keep_alive == keep_alive)
        {
            let pair = comparison.pairs.iter().find(|pair| pair.other == subject.name);
            let ratio = pair.and_then(|pair| pair.result.as_ref());
            // Compared as it is shown, to two digits; CPU time is a hint and no verdict.
            let within = subject
                .cost_limit
                .filter(|_| instructions)
                .zip(ratio)
                .map(|(limit, r)| (r.ratio * 100.0).round() <= (limit * 100.0).round());
            let verdict = match within {
                Some(true) => Cell::text("within").mark(Mark::Good),
                Some(false) => Cell::text("OVER").mark(Mark::Bad),
                None => Cell::text(""),
            };
            table.row(
                &subject.name,
                [
                    Cell::maybe(summary.cost.map(|cost| cost.user)),
                    Cell::maybe(summary.cost.map(|cost| cost.system)),
                    estimate(summary.cost_per_request),
                    ratio.map_or_else(Cell::none, |r| Cell::sure(r.ratio, Some(r.interval))),
                    Cell::maybe(subject.cost_limit),
                    verdict,
                ],
            );
        }
        if !table.rows.is_empty() {
            blocks.push(Block::Table(table));
        }
    }
    if !instructions {
        blocks.push(Block::Text(
            "The limits are for instructions. CPU time also counts waiting for memory, and user and \
             system are sampled by the clock tick, so these ratios are a hint and no verdict."
                .into(),
        ));
    }
    blocks
}
