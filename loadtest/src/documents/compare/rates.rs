//! Latencies at fixed rates.

use crate::documents::compare::{estimate, pairs_table};
use crate::measure::comparison::{AtRate, Comparison, FixedRate};
use crate::report::format::count;
use crate::report::model::{Block, Cell, Mark, Table, Unit};
use crate::statistics::verdict::Figure;

/// What a closed loop cannot see.
const ABOUT_FIXED_RATES: &str = "wrk waits for each answer before it asks again (a closed loop), so \
     a server that stalls is asked less just then, and its worst moments are hardly in wrk's \
     latencies. At a fixed rate (an open loop) a request is due whether or not the others are \
     answered, and its latency counts from when it was due. Slices in which the client itself was \
     late are not judged.";

/// Latencies at rates that do not depend on the answers.
pub fn fixed_rates(comparison: &Comparison) -> Vec<Block> {
    if comparison.fixed_rates.is_empty() {
        return Vec::new();
    }
    let mut columns = vec![
        ("p50", Unit::Microseconds),
        ("p99", Unit::Microseconds),
        ("p99.9", Unit::Microseconds),
        ("max", Unit::Microseconds),
        ("answered", Unit::Part),
        ("lost", Unit::Count),
        ("not sent", Unit::Count),
        ("slices not judged", Unit::Count),
    ];
    let results = || comparison.fixed_rates.iter().flat_map(|at| &at.results);
    let with_ideal = results().any(|result| result.latencies.p99_of_ideal.is_some());
    if with_ideal {
        columns
            .extend([("p50, times the ideal", Unit::Times), ("p99, times the ideal", Unit::Times)]);
    }
    let mut blocks = vec![Block::Heading("Latency at a fixed rate".into())];
    for at in &comparison.fixed_rates {
        let mut table = Table::new(&rate_of(at), &columns);
        for result in &at.results {
            let ideal =
                [result.latencies.p50_of_ideal, result.latencies.p99_of_ideal].map(estimate);
            let cells = at_rate(result).into_iter().chain(ideal.into_iter().filter(|_| with_ideal));
            table.row(&result.subject, cells);
        }
        blocks.push(Block::Table(table));
        if !at.pairs.is_empty() {
            blocks.push(Block::Table(rate_pairs(at)));
        }
    }
    blocks.push(Block::Text(ABOUT_FIXED_RATES.into()));
    blocks
}

/// Every verdict on the latencies of a pair at one rate.
fn rate_pairs(at: &FixedRate) -> Table {
    let mut table = pairs_table("", at.pairs.iter());
    // All pairs by one percentile, then all by the next.
    let of_each = at.pairs.len().div_ceil(Figure::LATENCIES.len());
    let figures = Figure::LATENCIES.iter().flat_map(|figure| vec![figure; of_each]);
    for (row, figure) in table.rows.iter_mut().zip(figures) {
        row.name = format!("{} {}", figure.name(), row.name);
    }
    table
}

/// A rate in words.
fn rate_of(at: &FixedRate) -> String {
    let share = at.share.map_or_else(String::new, |share| {
        format!(", {:.0} % of what the best serves to the same client", share * 100.0)
    });
    format!("{} requests/s{share}", count(at.rate))
}

fn at_rate(result: &AtRate) -> [Cell; 8] {
    let max = result.latency_us.as_ref().map(|latency| latency.max as f64);
    let late = result.late_slices as u64;
    [
        estimate(result.latencies.p50),
        estimate(result.latencies.p99),
        estimate(result.latencies.p99_9),
        Cell::maybe(max),
        Cell::number(result.answered()),
        Cell::count(result.lost),
        Cell::count(result.not_sent),
        Cell::count(late).mark((late > 0).then_some(Mark::Undecided)),
    ]
}
