//! `matrix`: every policy in every workload.

use crate::documents::{context, list};
use crate::matrix::expectations::GOOD;
use crate::matrix::record::{AtLoad, Column, Expectation, Figure, Kind, Matrix, Verdict};
use crate::matrix::workloads::STOPPED;
use crate::report::format::number;
use crate::report::model::{self, Block, Cell, Document, Mark, Table, Unit, escaped};
use crate::statistics::estimate::Estimate;

/// What the cells of the map say.
const ABOUT: &str = "Requests/s over those of the best policy in that workload, round by round, and \
    p99 at the highest common rate over that of the policy with the lowest; where handlers block, \
    p99 as a multiple of what one queue before all workers would give. In brackets: 95 % intervals.";

/// Requests/s of the best that are as bad as it gets in a map, and as good.
pub const RATE_HEAT: [f64; 2] = [0.5, 1.0];

/// The same of p99.
pub const P99_HEAT: [f64; 2] = [2.0, 1.0];

/// The same of multiples of the ideal.
const IDEAL_HEAT: [f64; 2] = [10.0, 1.0];

/// The document.
pub fn document(matrix: &Matrix) -> Document {
    let mut blocks = vec![Block::Verdict(sentence(matrix))];
    blocks.extend(body(matrix));
    blocks.extend(context(&matrix.environment, &matrix.arguments, &matrix.warnings));
    Document { title: "Who is good in which workload?".into(), blocks }
}

/// The document without what stands around it, for the lab's book.
pub fn body(matrix: &Matrix) -> Vec<Block> {
    let workloads = matrix.columns.iter().map(|one| (one.name.clone(), one.words.clone()));
    let missing = matrix.missing.iter().map(|missing| {
        let (policy, reason) = (escaped(&missing.policy), escaped(&missing.reason));
        Block::Text(format!("{policy} takes no part: {reason}"))
    });
    let mut blocks = vec![
        Block::Heading("Every policy in every workload".into()),
        Block::Table(overview(matrix)),
        Block::Facts(workloads.collect()),
    ];
    blocks.extend(missing);
    blocks.push(Block::Heading("What must come out".into()));
    blocks.push(Block::Table(expectations(matrix)));
    blocks.push(Block::Heading("Figures of the matrix".into()));
    blocks.extend(figures(matrix).into_iter().flatten().map(Block::Table));
    blocks
}

/// Who is good everywhere, in a sentence.
fn sentence(matrix: &Matrix) -> String {
    let is_good = |policy: &&String| {
        let judged = matrix.columns.iter().filter(|column| column.judged);
        let mut figures = judged.map(|column| matrix.figure(&column.name, policy));
        figures.all(|figure| figure.is_some_and(is_good))
    };
    let good: Vec<String> = matrix.policies.iter().filter(is_good).cloned().collect();
    match &good[..] {
        [] => "No policy is good in every workload".into(),
        [one] => format!("Only {one} is good in every workload"),
        several => format!("Good in every workload: {}", list(several)),
    }
}

/// Whether a policy is good; of records without verdicts, by requests/s.
pub fn is_good(figure: &Figure) -> bool {
    figure.verdict.map_or(figure.part() >= GOOD, |verdict| verdict == Verdict::Good)
}

/// The verdict on a cell.
fn mark(figure: &Figure) -> Option<Mark> {
    figure.verdict.map(|verdict| match verdict {
        Verdict::Good => Mark::Good,
        Verdict::Bad => Mark::Bad,
        Verdict::Undecided => Mark::Undecided,
    })
}

/// One figure of a workload in the map.
pub struct Shown {
    /// What it is.
    pub name: String,
    /// The values that are as bad and as good as it gets.
    pub heat: [f64; 2],
    /// The figure, and the absolute one that it was made of.
    pub cell: fn(&Figure, usize) -> Option<(Estimate, String)>,
    /// Which of the loads it is of.
    load: usize,
}

impl Shown {
    /// A policy's cell.
    pub fn of(&self, figure: &Figure) -> Option<(Estimate, String)> {
        (self.cell)(figure, self.load)
    }
}

/// What a workload has in the map: requests/s and p99 side by side or, where handlers block, p99 at
/// each rate.
pub fn shown(column: &Column) -> Vec<Shown> {
    let loads = || column.cells.iter().map(|cell| cell.latencies.as_slice());
    let most: &[AtLoad] = loads().max_by_key(|loads| loads.len()).unwrap_or_default();
    if column.kind == Kind::Blocking {
        let each = most.iter().enumerate().map(|(load, at)| Shown {
            name: format!("p99 at {:.0} %", at.share * 100.0),
            heat: IDEAL_HEAT,
            cell: |figure, load| {
                let at = figure.latencies.get(load)?;
                Some((at.latencies.p99_of_ideal?, time(at.latencies.p99)))
            },
            load,
        });
        return each.collect();
    }
    let rate = Shown {
        name: "requests/s".into(),
        heat: RATE_HEAT,
        cell: |figure, _| {
            let rate = figure.requests_per_second?;
            Some((figure.of_best?, format!("{}/s", number(rate.value, Unit::PerSecond))))
        },
        load: 0,
    };
    let p99 = most.iter().enumerate().next_back().map(|(load, at)| Shown {
        name: format!("p99 at {:.0} %", at.share * 100.0),
        heat: P99_HEAT,
        cell: |figure, load| {
            let at = figure.latencies.get(load)?;
            Some((at.p99_of_best?, time(at.latencies.p99)))
        },
        load,
    });
    std::iter::once(rate).chain(p99).collect()
}

fn time(us: Option<Estimate>) -> String {
    us.map_or_else(String::new, |us| number(us.value, Unit::Microseconds))
}

/// The matrix itself.
pub fn overview(matrix: &Matrix) -> Table {
    let mut table = Table { heat: true, ..Table::default() };
    let shown: Vec<(&Column, Shown)> = matrix
        .columns
        .iter()
        .flat_map(|one| shown(one).into_iter().map(move |s| (one, s)))
        .collect();
    table.columns = shown
        .iter()
        .map(|(column, shown)| model::Column {
            name: shown.name.clone(),
            unit: Unit::Times,
            group: column.name.clone(),
            heat: Some(shown.heat),
        })
        .collect();
    for policy in &matrix.policies {
        let cells = shown.iter().map(|(column, shown)| {
            let figure = column.cells.iter().find(|figure| &figure.policy == policy);
            let found = figure.and_then(|figure| Some((figure, shown.of(figure)?)));
            found.map_or_else(Cell::none, |(figure, (part, absolute))| {
                Cell::sure(part.value, part.interval).note(absolute).mark(mark(figure))
            })
        });
        table.row(policy, cells);
    }
    table.note = format!(
        "{ABOUT} `!` is not good, `?` undecided: an interval crosses a limit. Good is at least {GOOD} \
         of the best requests/s, at most 1.25 times the best p99, and nothing lost; the post's load is \
         not judged."
    );
    table
}

fn expectations(matrix: &Matrix) -> Table {
    let columns = ["what must come out", "found", "verdict"].map(|name| (name, Unit::Text));
    let mut table = Table::new("", &columns);
    for expectation in &matrix.expectations {
        let Expectation { text, met, figures } = expectation;
        let (word, mark) = match met {
            Some(true) => ("met", Mark::Good),
            Some(false) => ("NOT MET", Mark::Bad),
            None => ("not told", Mark::Undecided),
        };
        table.row("", [Cell::text(text), Cell::text(figures), Cell::text(word).mark(mark)]);
    }
    table
}

/// Everything in absolute numbers, tables that have figures.
fn figures(matrix: &Matrix) -> [Option<Table>; 6] {
    let estimate = |found: Option<Estimate>| {
        found.map_or_else(Cell::none, |found| Cell::sure(found.value, found.interval))
    };
    [
        by_workload(matrix, "Requests/s, median", Unit::PerSecond, &|figure| {
            estimate(figure.requests_per_second)
        }),
        by_workload(matrix, "Server CPU per request", Unit::Microseconds, &|figure| {
            estimate(figure.cpu_us_per_request)
        }),
        by_workload(
            matrix,
            "Context switches of the workers per request",
            Unit::Times,
            &|figure| Cell::maybe(figure.switches_per_request),
        ),
        latencies(matrix, "p50", |at| at.latencies.p50, |at| at.latencies.p50_of_ideal),
        latencies(matrix, "p99", |at| at.latencies.p99, |at| at.latencies.p99_of_ideal),
        stopped(matrix),
    ]
}

fn by_workload(
    matrix: &Matrix,
    title: &str,
    unit: Unit,
    cell: &dyn Fn(&Figure) -> Cell,
) -> Option<Table> {
    let columns = matrix.columns.iter();
    let has = |column: &&Column| column.cells.iter().any(|figure| cell(figure).value.is_some());
    let columns: Vec<&Column> = columns.filter(has).collect();
    let names: Vec<(&str, Unit)> = columns.iter().map(|one| (one.name.as_str(), unit)).collect();
    let mut table = Table::new(title, &names);
    for policy in &matrix.policies {
        let figures = columns.iter().map(|column| matrix.figure(&column.name, policy));
        table.row(policy, figures.map(|figure| figure.map_or_else(Cell::none, cell)));
    }
    (!columns.is_empty()).then_some(table)
}

/// Latencies at every rate of every workload, with the multiple of the ideal and what was lost.
fn latencies(
    matrix: &Matrix,
    name: &str,
    of: fn(&AtLoad) -> Option<Estimate>,
    of_ideal: fn(&AtLoad) -> Option<Estimate>,
) -> Option<Table> {
    let mut table = Table::new(&format!("Latency at fixed rates: {name}"), &[]);
    let mut places: Vec<(&Column, usize)> = Vec::new();
    for column in &matrix.columns {
        let loads = column.cells.iter().map(|figure| &figure.latencies);
        for (load, at) in loads.max_by_key(|loads| loads.len()).into_iter().flatten().enumerate() {
            places.push((column, load));
            table.columns.push(model::Column {
                name: format!("{:.0} %, {}/s", at.share * 100.0, at.rate),
                unit: Unit::Microseconds,
                group: column.name.clone(),
                heat: None,
            });
        }
    }
    for policy in &matrix.policies {
        let cells = places.iter().map(|(column, load)| {
            let at = matrix.figure(&column.name, policy).and_then(|one| one.latencies.get(*load));
            let Some((at, us)) = at.and_then(|at| Some((at, of(at)?))) else { return Cell::none() };
            let ideal = of_ideal(at).map(|times| format!("{:.2} x ideal", times.value));
            let lost = (at.lost > 0).then(|| format!("{} lost", at.lost));
            let late =
                (at.late_slices > 0).then(|| format!("{} slices not judged", at.late_slices));
            let notes: Vec<String> = [ideal, lost, late].into_iter().flatten().collect();
            let cell = Cell::sure(us.value, us.interval);
            if notes.is_empty() { cell } else { cell.note(notes.join(", ")) }
        });
        table.row(policy, cells);
    }
    (!places.is_empty()).then_some(table)
}

/// Who got the connections, and what is served and lost without a worker.
fn stopped(matrix: &Matrix) -> Option<Table> {
    let mut table = Table::new(
        "Connections, and a worker lost",
        &[
            ("post: busiest / average", Unit::Times),
            ("post: busiest - idlest", Unit::Count),
            ("served while one is stopped, of before", Unit::Times),
            ("lost when it is killed", Unit::Mean),
        ],
    );
    for policy in &matrix.policies {
        let post = matrix.figure("post", policy);
        let stopped = matrix.figure(STOPPED, policy);
        table.row(
            policy,
            [
                Cell::maybe(post.and_then(|figure| figure.connections_max_over_mean)),
                Cell::maybe(post.and_then(|f| f.connections_max_less_min).map(|all| all as f64)),
                Cell::maybe(stopped.and_then(|figure| figure.while_stopped)),
                Cell::maybe(stopped.and_then(|figure| figure.lost_when_killed)),
            ],
        );
    }
    let is_known = table.rows.iter().any(|row| row.cells.iter().any(|cell| cell.value.is_some()));
    is_known.then_some(table)
}
