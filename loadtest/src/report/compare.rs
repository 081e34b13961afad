//! One comparison on a terminal, within 100 columns.

use std::fmt::Write as _;

use crate::measure::comparison::{AtRate, Comparison, FixedRate, Plan, Subject, Summary};
use crate::report::format::{count, microseconds, rounded};
use crate::report::table::{Left, Right, table, text};
use crate::report::terminal::{ABOUT_LATENCIES, BOLD, errors, machine};
use crate::report::wrap::{WIDTH, room};
use crate::statistics::estimate::Estimate;
use crate::statistics::latency::Latency;

/// Pairs without the baseline are shown for up to so many subjects; all are in the JSON.
const ALL_PAIRS_UPTO: usize = 3;

/// Picks one of the latencies.
type Percentile = fn(&Latency) -> u64;

/// What a closed loop cannot see.
pub const ABOUT_FIXED_RATES: &str = "wrk waits for each answer before it asks again, so a server that stalls is asked less just then, \
     and its worst moments are hardly in wrk's latencies. At a fixed rate a request is due whether or \
     not the others are answered, and its latency counts from when it was due.";

/// What to know of a comparison whose servers never wait for each other.
pub const ONE_AT_A_TIME: &str = "Each server was started for its slice and ended after it.";

/// The whole report.
pub fn compare(comparison: &Comparison) -> String {
    let mut report = String::new();
    // Writing to a String cannot fail.
    let _ = header(&mut report, comparison);
    report += "\n";
    for sentence in verdicts(comparison) {
        report += &wrapped(&format!("{BOLD}{sentence}{BOLD:#}"), "");
    }
    report += "\n";
    report += &figures(comparison);
    report += &wrapped(&format!("{ABOUT_LATENCIES}, all slices together"), "");
    if !comparison.fixed_rates.is_empty() {
        report += &fixed_rates(comparison);
    }
    let _ = writeln!(report, "\n{BOLD}What was the limit{BOLD:#}");
    for (subject, summary) in summaries(comparison) {
        report += &wrapped(
            &format!(
                "{}: {}",
                subject.name,
                summary.limit.map_or_else(|| "not known".into(), |limit| limit.sentence())
            ),
            "  ",
        );
    }
    if let Some(cores) = &comparison.plan.pinned {
        report += &wrapped(&cores.sentence(), "  ");
    }
    if comparison.plan.one_at_a_time {
        report += &wrapped(ONE_AT_A_TIME, "  ");
    }
    if !comparison.anomalies.is_empty() {
        let _ = writeln!(report, "\n{BOLD}Odd{BOLD:#}");
        comparison.anomalies.iter().for_each(|odd| report += &wrapped(odd, "  "));
    }
    report
}

fn header(report: &mut String, comparison: &Comparison) -> std::fmt::Result {
    let (plan, environment) = (&comparison.plan, &comparison.environment);
    let names: Vec<&str> = comparison.subjects.iter().map(|c| c.name.as_str()).collect();
    writeln!(report, "{BOLD}{}{BOLD:#}", names.join(" | "))?;
    *report += &wrapped(&load(plan), "");
    let wrk = environment.wrk.as_deref().unwrap_or("an unknown wrk");
    writeln!(report, "{wrk}, {}", machine(environment))
}

/// What was asked of all of them, in words.
pub fn load(plan: &Plan) -> String {
    let mode = match plan.keep_alive {
        true => "kept alive within a slice",
        false => "a new one for each request",
    };
    let asked = match plan.connections_opened == plan.connections_asked {
        true => String::new(),
        false => format!(" ({} asked for)", plan.connections_asked),
    };
    let paths = match &plan.paths[..] {
        [share] => format!("GET {}", share.path),
        shares => {
            let sum: f64 = shares.iter().map(|share| share.weight).sum();
            let each = shares.iter().map(|s| format!("{:.1} % {}", s.weight * 100.0 / sum, s.path));
            each.collect::<Vec<_>>().join(", ")
        }
    };
    format!(
        "{} rounds of {} s each, {} threads, {} connections{asked}, {mode}, {paths}, seed {}",
        plan.rounds, plan.slice_seconds, plan.threads, plan.connections_opened, plan.seed
    )
}

/// The verdicts that belong on top: those with the baseline, and all of a few.
pub fn verdicts(comparison: &Comparison) -> impl Iterator<Item = &str> {
    let all = comparison.subjects.len() <= ALL_PAIRS_UPTO;
    let baseline = &comparison.plan.baseline;
    let shown = comparison.pairs.iter().filter(move |pair| all || &pair.baseline == baseline);
    shown.map(|pair| pair.sentence.as_str())
}

/// The subjects that have slices.
pub fn summaries(comparison: &Comparison) -> impl Iterator<Item = (&Subject, &Summary)> {
    comparison.subjects.iter().filter_map(|c| Some((c, c.summary.as_ref()?)))
}

/// Every row's name with a cell for each subject that has slices.
pub fn rows(comparison: &Comparison) -> Vec<(&'static str, Vec<String>)> {
    let mut rows = Vec::new();
    let mut row = |name, cell: &dyn Fn(&Summary) -> String| {
        rows.push((name, summaries(comparison).map(|(_, summary)| cell(summary)).collect()));
    };
    row("requests/s, median", &|s| rounded(s.requests_per_second.value));
    row("  its 95 % interval", &|s| interval(&s.requests_per_second, rounded));
    let known = |value: Option<f64>, unit: &str| match value {
        Some(value) => format!("{value:.2}{unit}"),
        None => "-".into(),
    };
    row("server CPU per request", &|s| known(s.cpu_us_per_request.map(|e| e.value), " us"));
    row("  its 95 % interval", &|s| {
        let two_digits = |value| format!("{value:.2}");
        s.cpu_us_per_request.map_or_else(String::new, |cpu| interval(&cpu, two_digits))
    });
    row("context switches per request", &|s| known(s.switches_per_request, ""));
    let latencies: [(&str, Percentile); 5] = [
        ("latency p50", |l| l.p50),
        ("latency p99", |l| l.p99),
        ("latency p99.9", |l| l.p99_9),
        ("latency p99.99", |l| l.p99_99),
        ("latency max", |l| l.max),
    ];
    for (name, of) in latencies {
        row(name, &|s| microseconds(of(&s.latency_us) as f64));
    }
    row("busiest / average worker", &|s| known(s.spread.as_ref().map(|s| s.max_over_mean), ""));
    row("  in the worst slice", &|s| known(s.spread.as_ref().map(|s| s.worst_max_over_mean), ""));
    row("  best attainable", &|s| known(s.spread.as_ref().map(|s| s.best_attainable), ""));
    row("idle workers, average", &|s| known(s.spread.as_ref().map(|s| s.idle_workers), ""));
    row("errors", &|s| errors(&s.errors));
    row("slices", &|s| s.slices.to_string());
    rows
}

fn interval(estimate: &Estimate, show: impl Fn(f64) -> String) -> String {
    let [low, high] = estimate.ends();
    format!("{} to {}", show(low), show(high))
}

fn figures(comparison: &Comparison) -> String {
    let names: Vec<&str> = summaries(comparison).map(|(c, _)| c.name.as_str()).collect();
    let rows = rows(comparison);
    // A column each while they fit, then tables below each other.
    let mut report = String::new();
    let widths: Vec<usize> = (0..names.len())
        .map(|place| {
            let cells = rows.iter().map(|(_, cells)| cells[place].chars().count());
            cells.chain([names[place].chars().count()]).max().unwrap_or(0) + 3
        })
        .collect();
    let mut from = 0;
    while from < names.len() {
        let mut width = 28;
        let mut fit = |w: usize| {
            width += w;
            width <= WIDTH
        };
        let upto = from + widths[from..].iter().take_while(|&&w| fit(w)).count().max(1);
        let mut columns = vec![("", Left)];
        columns.extend(names[from..upto].iter().map(|name| (*name, Right)));
        let mut table = table(3, &columns);
        for (name, cells) in &rows {
            table.add_row(std::iter::once(*name).chain(cells[from..upto].iter().map(|c| &**c)));
        }
        report += &text(&table);
        from = upto;
        if from < names.len() {
            report += "\n";
        }
    }
    report
}

fn fixed_rates(comparison: &Comparison) -> String {
    let mut report = format!("\n{BOLD}At a fixed rate{BOLD:#}\n");
    let header = ["requests/s", "", "p50", "p99", "p99.9", "max", "answered", "lost", "not sent"];
    let columns: Vec<_> = header
        .iter()
        .enumerate()
        .map(|(place, name)| (*name, if place == 1 { Left } else { Right }))
        .collect();
    let mut table = table(3, &columns);
    for row in comparison.fixed_rates.iter().flat_map(fixed_rate_rows) {
        table.add_row(row);
    }
    report += &text(&table);
    report += &wrapped(ABOUT_FIXED_RATES, "");
    report
}

/// A row for each subject at this rate.
pub fn fixed_rate_rows(at: &FixedRate) -> impl Iterator<Item = [String; 9]> {
    at.results.iter().enumerate().map(|(place, result)| {
        let rate = match at.share {
            Some(share) => format!("{} ({:.0} %)", count(at.rate), share * 100.0),
            None => count(at.rate),
        };
        let latency = |of: fn(&AtRate) -> Option<Estimate>| {
            of(result).map_or_else(String::new, |estimate| microseconds(estimate.value))
        };
        let max = result.latency_us.as_ref().map(|latency| microseconds(latency.max as f64));
        [
            if place == 0 { rate } else { String::new() },
            result.subject.clone(),
            latency(|r| r.p50),
            latency(|r| r.p99),
            latency(|r| r.p99_9),
            max.unwrap_or_default(),
            format!("{:.1} %", result.ok as f64 * 100.0 / result.due.max(1) as f64),
            count(result.lost),
            count(result.not_sent),
        ]
    })
}

/// A text in lines that fit, each after these blanks.
pub fn wrapped(text: &str, indent: &str) -> String {
    let mut report = String::new();
    let mut line = String::from(indent);
    for word in text.split(' ') {
        if line.trim().is_empty() {
            line += word;
        } else if room(&line) + 1 + room(word) <= WIDTH {
            line = format!("{line} {word}");
        } else {
            report += &format!("{line}\n");
            line = format!("{indent}  {word}");
        }
    }
    report + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::summary::tests::comparison;

    fn plain(report: &str) -> String {
        anstream::adapter::strip_str(report).to_string()
    }

    #[test]
    fn the_verdict_stands_on_top_and_everything_fits_into_100_columns() {
        let mut comparison = comparison(40, 1.1);
        for number in 0..5 {
            let mut more = comparison.subjects[0].clone();
            more.name = format!("shared --workers {number} --some-option and-more");
            comparison.subjects.push(more);
        }
        comparison.subjects[0].slices[3].requests_per_second = 1.0;
        comparison.summarize().unwrap();
        let report = plain(&compare(&comparison));
        for line in report.lines() {
            let width = line.chars().count();
            assert!(width <= WIDTH || line.contains(" | "), "{width}: {line}");
        }
        let verdict = report.find("reuseport is faster than shared").unwrap();
        assert!(verdict < report.find("requests/s, median").unwrap());
        assert!(report.contains("round 4 of shared is an outlier"));
    }

    #[test]
    fn one_that_has_no_slices_has_no_column() {
        let mut comparison = comparison(40, 1.1);
        comparison.subjects[1].slices.clear();
        comparison.summarize().unwrap();
        assert!(rows(&comparison).iter().all(|(_, cells)| cells.len() == 1));
        assert!(plain(&compare(&comparison)).contains("needs 6 rounds"));
    }

    #[test]
    fn long_sentences_are_wrapped_between_words() {
        let text = wrapped(&"word ".repeat(50), "  ");
        assert!(text.lines().count() > 1);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH && line.starts_with("  ")));
    }
}
