//! What a request costs, as a table for each mode.

use std::fmt::Write as _;

use crate::load::perf::Unit;
use crate::measure::cost::{CostRecord, CostResult};
use crate::report::format::rounded;
use crate::report::table::{Left, Right, table, text};
use crate::report::terminal::BOLD;

/// The whole report.
pub fn cost(record: &CostRecord) -> String {
    let mut report = String::new();
    let (what, unit) = match record.unit {
        Unit::Instructions => ("instructions, counted by perf", "instructions"),
        Unit::CpuNanoseconds => ("CPU TIME in nanoseconds, not instructions", "ns of CPU time"),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(report, "{BOLD}Cost of a request to the whole server{BOLD:#}: {what}");
    if let Some(excuse) = &record.excuse {
        let _ = writeln!(report, "because {excuse}");
    }
    let runs = record.results.first().map_or(0, |result| result.runs.len());
    let environment = &record.environment;
    let _ = writeln!(
        report,
        "{} workers, {} connections, medians of {runs} interleaved runs of {} s; {}, {}, {} cores",
        record.workers,
        record.connections,
        record.seconds,
        record.nginx,
        environment.kernel,
        environment.cores
    );
    for (keep_alive, mode) in [(true, "kept alive"), (false, "a new connection for each request")] {
        let _ = writeln!(report, "\n{BOLD}{mode}{BOLD:#}, {unit} per request");
        let results = record.results.iter().filter(|result| result.keep_alive == keep_alive);
        report += &rows(results, record.unit);
    }
    if record.unit == Unit::CpuNanoseconds {
        report += "\nThe limits are for instructions. CPU time also counts waiting for memory, and \
                   user and system\nare sampled by the clock tick, so these ratios are a hint and \
                   no verdict.\n";
    }
    report
}

fn rows<'a>(results: impl Iterator<Item = &'a CostResult>, unit: Unit) -> String {
    let mut table = table(
        3,
        &[
            ("", Left),
            ("user", Right),
            ("system", Right),
            ("total", Right),
            ("spread", Right),
            ("of nginx", Right),
            ("limit", Right),
            ("", Left),
        ],
    );
    for result in results {
        table.add_row([
            result.server.clone(),
            rounded(result.user),
            rounded(result.system),
            rounded(result.total),
            format!("±{:.1} %", result.spread * 100.0),
            format!("{:.2}", result.of_nginx),
            result.limit.map_or_else(String::new, |limit| format!("{limit:.2}")),
            verdict(result, unit).into(),
        ]);
    }
    text(&table)
}

/// Compared as it is shown, to two digits.
fn verdict(result: &CostResult, unit: Unit) -> &'static str {
    match result.limit {
        Some(limit) if unit == Unit::Instructions => {
            match (result.of_nginx * 100.0).round() <= (limit * 100.0).round() {
                true => "within",
                false => "OVER",
            }
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(of_nginx: f64, limit: Option<f64>) -> CostResult {
        CostResult {
            server: "shared".into(),
            keep_alive: true,
            runs: vec![],
            user: 6100.0,
            system: 13_500.0,
            total: 19_600.0,
            spread: 0.02,
            of_nginx,
            limit,
        }
    }

    #[test]
    fn a_verdict_is_given_for_instructions_alone() {
        assert_eq!(verdict(&result(1.0, Some(1.0)), Unit::Instructions), "within");
        assert_eq!(verdict(&result(1.01, Some(1.0)), Unit::Instructions), "OVER");
        assert_eq!(verdict(&result(1.01, Some(1.0)), Unit::CpuNanoseconds), "");
        assert_eq!(verdict(&result(1.01, None), Unit::Instructions), "");
    }

    #[test]
    fn a_row_has_user_system_total_spread_ratio_and_limit() {
        let text = rows([result(0.93, Some(1.0))].iter(), Unit::Instructions);
        let row = text.lines().last().unwrap();
        for figure in ["6 100", "13 500", "19 600", "±2.0 %", "0.93", "1.00", "within"] {
            assert!(row.contains(figure), "{row}");
        }
    }
}
