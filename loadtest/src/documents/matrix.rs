//! `matrix`: every policy in every workload.

use crate::documents::{self, list};
use crate::matrix::expectations::GOOD;
use crate::matrix::record::{AtLoad, Column, Expectation, Figure, Kind, Matrix, Verdict};
use crate::matrix::workloads::STOPPED;
use crate::report::format::{number, plural};
use crate::report::model::{self, Block, Cell, Document, Field, Mark, Table, Unit, escaped};
use crate::statistics::estimate::Estimate;

/// How to read the heat map.
const ABOUT: &str = "Requests/s over those of the best policy in that workload, round by round, \
    and p99 over the lowest p99, at the rate at which most policies could be measured; where handlers \
    block, p99 as a multiple of that of one ideal queue for all workers. In brackets: 95 % \
    intervals.";

/// The worst and the best colour of the heat map: requests/s over those of the best policy.
const RATE_HEAT: [f64; 2] = [0.5, 1.0];

/// The same for p99.
const P99_HEAT: [f64; 2] = [2.0, 1.0];

/// The same for multiples of the ideal.
const IDEAL_HEAT: [f64; 2] = [10.0, 1.0];

const EXPECTATION: [Field<Expectation>; 3] = [
    ("expectation", Unit::Text, |expected| Cell::from(&expected.text)),
    ("found", Unit::Text, |expected| Cell::from(&expected.figures)),
    ("verdict", Unit::Text, |expected| match expected.met {
        Some(true) => Cell::from("met").mark(Mark::Good),
        Some(false) => Cell::from("NOT MET").mark(Mark::Bad),
        None => Cell::from("undecided").mark(Mark::Undecided),
    }),
];

/// A column of a workload, and its cell for each policy. Without a name it has the workload's name.
struct Of {
    name: String,
    unit: Unit,
    heat: Option<[f64; 2]>,
    cell: Box<dyn Fn(&Figure) -> Cell>,
}

impl Of {
    fn new(name: &str, unit: Unit, cell: impl Fn(&Figure) -> Cell + 'static) -> Self {
        Self { name: name.into(), unit, heat: None, cell: Box::new(cell) }
    }
}

/// The document.
pub fn document(matrix: &Matrix) -> Document {
    let mut blocks = vec![Block::Verdict(sentence(matrix))];
    blocks.extend(body(matrix));
    documents::document("Which policy is good in which workload?", matrix, blocks)
}

/// The content of the document, for the lab's book.
pub fn body(matrix: &Matrix) -> Vec<Block> {
    let missing = matrix.missing.iter().map(|missing| {
        let (policy, reason) = (escaped(&missing.policy), escaped(&missing.reason));
        Block::Text(format!("{policy} is left out: {reason}"))
    });
    let expected = Table::of("", matrix.expectations.iter().map(|_| ""));
    let mut blocks = vec![
        Block::Heading("Every policy in every workload".into()),
        Block::Table(overview(matrix)),
        Block::Facts(workloads(matrix)),
    ];
    blocks.extend(missing);
    blocks.extend([
        Block::Heading("Expectations".into()),
        Block::Table(expected.with("", &EXPECTATION, &matrix.expectations)),
        Block::Heading("Figures of the matrix".into()),
    ]);
    blocks.extend(figures(matrix).map(Block::Table));
    blocks
}

/// The workloads with their descriptions.
pub fn workloads(matrix: &Matrix) -> Vec<(String, String)> {
    matrix.columns.iter().map(|one| (one.name.clone(), one.words.clone())).collect()
}

/// A sentence about the policies that are good everywhere.
fn sentence(matrix: &Matrix) -> String {
    let is_good = |policy: &&String| {
        let mut figures = matrix.columns.iter().map(|column| matrix.figure(&column.name, policy));
        figures.all(|figure| figure.is_some_and(|it| verdict(it) == Verdict::Good))
    };
    let good: Vec<String> = matrix.policies.iter().filter(is_good).cloned().collect();
    match &good[..] {
        [] => "No policy is good in every workload".into(),
        [one] => format!("Only {one} is good in every workload"),
        several => format!("Good in every workload: {}", list(several)),
    }
}

/// Whether a policy is good; in records without verdicts, by requests/s.
pub fn verdict(figure: &Figure) -> Verdict {
    let by_rate = if figure.part() >= GOOD { Verdict::Good } else { Verdict::Bad };
    figure.verdict.unwrap_or(by_rate)
}

/// The verdict on a cell.
fn mark(figure: &Figure) -> Option<Mark> {
    figure.verdict.map(|verdict| match verdict {
        Verdict::Good => Mark::Good,
        Verdict::Bad => Mark::Bad,
        Verdict::Undecided => Mark::Undecided,
    })
}

/// A row for each policy, with these columns of each workload, as far as they are known.
fn table(matrix: &Matrix, title: &str, of: impl Fn(&Column) -> Vec<Of>) -> Table {
    let mut table = Table::of(title, &matrix.policies);
    for column in &matrix.columns {
        for Of { name, unit, heat, cell } in of(column) {
            let cells = matrix.policies.iter().map(|policy| {
                matrix.figure(&column.name, policy).map_or_else(Cell::default, &cell)
            });
            let (name, group) = match name.is_empty() {
                true => (column.name.clone(), String::new()),
                false => (name, column.name.clone()),
            };
            table.column(model::Column { name, unit, group, heat }, cells);
        }
    }
    table.known_columns()
}

/// The rates of a workload, with their places among the latencies of a policy.
fn loads(column: &Column) -> impl DoubleEndedIterator<Item = (usize, &AtLoad)> {
    let loads = column.cells.iter().map(|figure| &figure.latencies);
    loads.max_by_key(|loads| loads.len()).map_or(&[][..], |all| all).iter().enumerate()
}

/// The matrix: requests/s and p99 side by side or, with blocking handlers, p99 at each rate.
pub fn overview(matrix: &Matrix) -> Table {
    let part = |figure: &Figure, part: Option<Estimate>, whole: Option<Estimate>, unit| {
        let whole = whole.filter(|_| part.is_some()).map(|whole| number(whole.value, unit));
        Cell::from(part).mark(part.and(mark(figure))).note(whole)
    };
    let p99 = move |(load, at): (usize, &AtLoad), heat, of: fn(&AtLoad) -> Option<Estimate>| {
        let name = format!("p99 at {:.0} %", at.share * 100.0);
        let column = Of::new(&name, Unit::Times, move |figure| {
            let at = figure.latencies.get(load);
            part(figure, at.and_then(of), at.and_then(|at| at.latencies.p99), Unit::Microseconds)
        });
        Of { heat: Some(heat), ..column }
    };
    let mut table = table(matrix, "", |column| {
        if column.kind == Kind::Blocking {
            return loads(column)
                .map(|load| p99(load, IDEAL_HEAT, |at| at.latencies.p99_of_ideal))
                .collect();
        }
        let rate = Of::new("requests/s", Unit::Times, move |figure| {
            let cell = part(figure, figure.of_best, figure.requests_per_second, Unit::PerSecond);
            Cell { text: cell.text.map(|rate| format!("{rate}/s")), ..cell }
        });
        let rate = Of { heat: Some(RATE_HEAT), ..rate };
        let compared = column.compared().and_then(|rate| loads(column).nth(rate));
        let p99 = compared.map(|load| p99(load, P99_HEAT, |at| at.p99_of_best));
        std::iter::once(rate).chain(p99).collect()
    });
    table.heat = true;
    table.note = format!(
        "{ABOUT} A mark is of the workload as a whole: `!` not good, `?` undecided, as an interval crosses a \
         limit. Good is at least {GOOD} of the best requests/s, at most 1.25 times the lowest p99, and nothing lost."
    );
    table
}

/// All figures in absolute numbers.
fn figures(matrix: &Matrix) -> [Table; 6] {
    let each = |title, unit, cell: fn(&Figure) -> Cell| {
        table(matrix, title, |_| vec![Of::new("", unit, cell)])
    };
    [
        each("Requests/s, median", Unit::PerSecond, |at| at.requests_per_second.into()),
        each("Server CPU per request", Unit::Microseconds, |at| at.cpu_us_per_request.into()),
        each("Context switches of the workers per request", Unit::Times, |at| {
            at.switches_per_request.into()
        }),
        latencies(matrix, "p50", |at| at.latencies.p50, |at| at.latencies.p50_of_ideal),
        latencies(matrix, "p99", |at| at.latencies.p99, |at| at.latencies.p99_of_ideal),
        table(matrix, "Connections per worker, and loss of a worker", |column| {
            match &*column.name {
                "post" => vec![
                    Of::new("busiest / average", Unit::Times, |at| {
                        at.connections_max_over_mean.into()
                    }),
                    Of::new("busiest - idlest", Unit::Count, |at| {
                        at.connections_max_less_min.into()
                    }),
                ],
                STOPPED => vec![
                    Of::new("rate while stopped / before", Unit::Times, |at| {
                        at.while_stopped.into()
                    }),
                    Of::new("lost when it is killed", Unit::Mean, |at| at.lost_when_killed.into()),
                ],
                _ => Vec::new(),
            }
        }),
    ]
}

/// Latencies at every rate of every workload, with the multiple of the ideal and lost requests.
fn latencies(
    matrix: &Matrix,
    name: &str,
    of: fn(&AtLoad) -> Option<Estimate>,
    of_ideal: fn(&AtLoad) -> Option<Estimate>,
) -> Table {
    table(matrix, &format!("Latency at fixed rates: {name}"), |column| {
        let of_load = |(load, at): (usize, &AtLoad)| {
            let name = format!("{:.0} %, {}/s", at.share * 100.0, at.rate);
            Of::new(&name, Unit::Microseconds, move |figure| {
                let Some(at) = figure.latencies.get(load) else { return Cell::default() };
                let late = at.late_slices;
                let notes = [
                    of_ideal(at).map(|times| format!("{:.2} x ideal", times.value)),
                    // Slices that are not judged are not mentioned.
                    (at.lost > 0 && of(at).is_some())
                        .then(|| format!("{} lost or not sent", at.lost)),
                    (late > 0).then(|| plural(late as u64, "slice") + " not judged"),
                ];
                let notes: Vec<String> = notes.into_iter().flatten().collect();
                Cell::from(of(at)).note((!notes.is_empty()).then(|| notes.join(", ")))
            })
        };
        loads(column).map(of_load).collect()
    })
}
