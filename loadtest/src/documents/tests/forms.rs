//! The three renderers with documents of all kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use scraper::{ElementRef, Html, Selector};

use super::*;
use crate::diagnose::findings::tests::{intruder, own, with};
use crate::diagnose::model::Counted;
use crate::diagnose::{Diagnosis, Report};
use crate::report::format::{figure, number};
use crate::report::model::{Axis, Cell, Mark, Picture, Series, Table, escaped};
use crate::report::wrap;
use crate::statistics::estimate::Estimate;

/// A name that would do harm if it were not escaped.
const BAD: &str = "<script>alert(1)</script>\" onload='x' &amp; | *a*";

/// A document of each command, with large figures and long names.
fn every_kind() -> Vec<(&'static str, Document)> {
    let mut large = bench_record(&[1_234_567, 12_345_678]);
    for worker in &mut large.workers {
        worker.pid = 4_194_303;
        worker.socket_inode = Some(99_999_999);
        worker.context_switches.voluntary = 9_999_999;
        worker.run_queue_wait_seconds = Some(12_345.678);
        (worker.steered, worker.migrated, worker.gated) = (Some(9_999_999), Some(9_999), Some(0));
    }
    let mut crowded = comparison(40, 1.1);
    for number in 0..5 {
        let mut more = crowded.subjects[0].clone();
        more.name = format!("shared --workers {number} --some-option and-more");
        crowded.subjects.push(more);
    }
    crowded.subjects[0].slices[3].requests_per_second = 1.0;
    crowded.summarize();
    let mut empty = comparison(40, 1.1);
    empty.subjects.iter_mut().for_each(|subject| subject.slices.clear());
    empty.fixed_rates.clear();
    empty.summarize();
    let kills = (0..100).map(|n| fault(2100 + n * 100, "remove-worker", "remove-worker@1s", 9999));
    vec![
        ("bench", bench::document(&large)),
        ("bench elsewhere", bench::document(&bench_record(&[]))),
        ("compare", compare::document(&comparison(40, 1.1))),
        ("compare crowded", compare::document(&crowded)),
        ("compare nothing", compare::document(&empty)),
        ("probe", probe::document(&probe_record(123, kills.collect()))),
        ("matrix", matrix::document(&example_matrix())),
        ("lab", lab::book(&lab())),
        ("odd", odd()),
        ("show", show::document(&[bench_record(&[100, 100]), bench_record(&[50])])),
        ("cost", compare::document(&cost::tests::record(6))),
        ("servers", servers::document(&servers::tests::record())),
        ("diagnose", diagnose::document(&diagnosed())),
        ("self-check", self_check::document(&self_check::tests::record())),
    ]
}

/// A server with a value in every column, and nearly every finding.
fn diagnosed() -> Report {
    let readings = with(own([12_345_678, 7, 0, 40]), |readings| {
        readings.counted = Counted::ByKernel;
        readings.overflows = 1_234_567;
        readings.unseen = vec![BAD.into()];
        for (place, worker) in readings.workers.iter_mut().enumerate() {
            worker.name = BAD.into();
            worker.held = 9_999 + place as u64;
            (worker.cpu, worker.waited) = (0.987, Some(0.0123 * (place + 1) as f64));
            worker.sits_in = Some("hrtimer_nanosleep".into());
        }
        readings.workers[2].state = 'T';
        for socket in &mut readings.sockets {
            (socket.queued, socket.queued_range, socket.dropped) = (128, [0, 129], 4_321);
        }
        intruder(readings, "127.0.0.1:80");
    });
    Report::new(vec!["diagnose".into()], environment(), Diagnosis::of(readings))
}

/// All commands that save a record have a document.
#[test]
fn every_command_that_reports_is_among_the_documents_that_all_forms_show() {
    let known: BTreeSet<_> = every_kind().iter().map(|(what, _)| *what).collect();
    let all = <crate::cli::Cli as clap::CommandFactory>::command();
    for command in all.get_subcommands().map(clap::Command::get_name) {
        let has_document = !["watch", "help"].contains(&command); // `watch` draws a screen of its own
        assert_eq!(known.contains(command), has_document, "{command}");
    }
}

/// What no record above has: names that must be escaped, and unusual figures.
fn odd() -> Document {
    let mut table = Table::new("", &[("of shared", Unit::Ratio), ("p", Unit::Probability)]);
    table.row(BAD, [Cell::from(f64::NAN), Cell::default()]);
    let own = Estimate { value: 0.9641, interval: Some([0.943, 0.9824]) };
    table.row("own", [own.into(), 0.0004.into()]);
    let marks = [Mark::Bad, Mark::Undecided].map(|mark| Cell::from(0.5).mark(mark));
    table.row("judged", marks);
    let mut words = Table::new("", &["claim", "source", "verdict"].map(|name| (name, Unit::Text)));
    let link = |url| Cell::from("the post").link(Some(url));
    let verdict = Cell::from("not reproduced").mark(Mark::Bad);
    let long = Cell::from("Own sockets reach 0.648 of one. ".repeat(5));
    words.row("post", [long, link("https://example.org/post"), verdict]);
    words.row("post", [Cell::from(BAD), link("javascript:x"), Cell::default()]);
    words.note = "`!` is not good".into();
    let axis = |unit| Axis { name: "an axis".into(), unit, logarithmic: true };
    let series = |place: i32| Series {
        name: format!("policy number {place} with a long name"),
        points: (0..30).map(|n| (f64::from(n - 1), f64::from(n * place))).collect(),
    };
    let lines = |series| Picture::Lines {
        title: "A picture".into(),
        x: axis(Unit::Count),
        y: axis(Unit::Microseconds),
        series,
        spans: vec![(1.0, 6.0, BAD.into()), (6.0, 6.0, "worker killed".into())],
    };
    let parts = vec![("256".into(), vec![1.0 / 256.0; 256]), ("nobody".into(), vec![])];
    let inner = vec![Block::Text("### In it\n\n- one\n- two".into())];
    let mut blocks = vec![
        Block::Verdict(format!("{BAD} is faster than shared: 1.100 times the requests/s")),
        Block::Facts(vec![("load".into(), BAD.into())]),
        Block::Table(Table { heat: true, ..table.clone() }),
        Block::Table(table),
        Block::Table(words),
        Block::Details("More".into(), inner),
        Block::Warnings(vec![BAD.into()]),
        Block::Reproduce(vec!["make build".into(), BAD.into()]),
        Block::Heading("Nothing".into()),
        Block::Picture(lines(vec![])),
        Block::Heading("Only to look at".into()),
        Block::Picture(lines((0..9).map(series).collect())),
        Block::Picture(lines(vec![Series { name: "none".into(), points: vec![] }])),
        Block::Picture(Picture::Shares { title: "A picture".into(), rows: parts }),
    ];
    for number in 0..9 {
        blocks.push(Block::Heading("The same".into()));
        blocks.push(Block::Text(format!("{number}. `code`, **bold** and {}", escaped(BAD))));
    }
    Document { title: BAD.into(), blocks }
}

fn parsed(document: &Document) -> Html {
    let page = Html::parse_document(&html::render(document, Some("javascript:a b#c?d%e\".json")));
    assert!(page.errors.is_empty(), "{}: {:?}", document.title, page.errors);
    page
}

fn all<'a>(page: &'a Html, selector: &str) -> Vec<ElementRef<'a>> {
    page.select(&Selector::parse(selector).unwrap()).collect()
}

fn text(element: &ElementRef) -> String {
    element.text().collect()
}

/// Every figure of the tables, as every form must show it.
fn figures(blocks: &[Block]) -> Vec<String> {
    let of_table = |table: &Table| -> Vec<String> {
        let cells = table.rows.iter().flat_map(|row| row.cells.iter().zip(&table.columns));
        let shown = cells.flat_map(|(cell, column)| {
            let unit = cell.unit.unwrap_or(column.unit);
            let ends = cell.interval.into_iter().flatten().map(move |end| number(end, unit));
            figure(cell, unit).into_iter().chain(ends)
        });
        shown.collect()
    };
    let of_block = |block: &Block| match block {
        Block::Table(table) => of_table(table),
        Block::Details(_, inner) => figures(inner),
        _ => Vec::new(),
    };
    blocks.iter().flat_map(of_block).collect()
}

#[test]
fn all_three_forms_show_every_figure_as_often_as_the_document_has_it() {
    for (what, document) in every_kind() {
        let page = parsed(&document);
        let forms = [
            plain(&document),
            anstream::adapter::strip_str(&terminal::render(&document, 60)).to_string(),
            markdown::render(&document),
            text(&all(&page, "body")[0]),
        ];
        let forms = forms.map(|form| squeezed(&form.replace('\\', "")));
        let figures = figures(&document.blocks);
        for figure in &figures {
            let wanted = figures.iter().filter(|other| *other == figure).count();
            let seen = forms.each_ref().map(|form| form.matches(figure.as_str()).count());
            assert!(
                seen.iter().all(|seen| *seen >= wanted),
                "{what}: {figure}: {seen:?}, {wanted}"
            );
        }
        for element in all(&page, "data") {
            let value: f64 = element.attr("value").unwrap().parse().unwrap();
            let units = [Unit::Count, Unit::Mean, Unit::Ratio, Unit::Times, Unit::Microseconds];
            let more = [Unit::Part, Unit::Probability, Unit::Id, Unit::Percentile];
            let shown = text(&element);
            let mut texts = units.into_iter().chain(more).map(|unit| number(value, unit));
            // In a strip, parts have no digits of the fraction.
            assert!(texts.any(|text| text == shown) || shown.ends_with(" %"), "{shown} of {value}");
        }
    }
}

#[test]
fn everything_fits_into_100_80_and_60_columns() {
    for (what, document) in every_kind() {
        for width in [100, 80, 60] {
            let report = terminal::render(&document, width);
            for line in anstream::adapter::strip_str(&report).to_string().lines() {
                // Commands are for pasting, and a word stays whole.
                let is_long = line.contains("loadtest") || line.contains("<script>");
                assert!(wrap::room(line) <= width || is_long, "{what}, {width}: {line}");
            }
        }
    }
}

#[test]
fn on_a_terminal_intervals_stand_beside_figures_judgements_after_them_and_words_in_a_list() {
    let report = plain(&odd());
    assert!(report.contains("0.964 (0.943 to 0.982)  4.0e-4"), "{report}");
    assert!(report.contains("0.500!") && report.contains("0.50?"), "{report}");
    assert!(!report.contains("Only to look at") && !report.contains("warning"), "{report}");
    assert!(report.lines().any(|line| line.contains("claim") && line.contains("verdict")));
    let narrow = terminal::render(&odd(), 60);
    assert!(narrow.contains("\u{1b}[1m\u{1b}[31mnot reproduced"), "{narrow}");
    assert!(terminal::render(&odd(), 100).contains("not reproduced\u{1b}["));
    let narrow = anstream::adapter::strip_str(&narrow).to_string();
    assert!(narrow.contains("\n  verdict  not reproduced\n"), "{narrow}");
}

#[test]
fn a_function_of_the_kernel_is_not_broken_in_a_table() {
    let names = ["", "connections", "accept queue", "run-queue wait", "state"];
    let mut columns = names.map(|name| (name, Unit::Count)).to_vec();
    columns.push(("in", Unit::Text));
    let mut table = Table::new("", &columns);
    let cells = std::iter::repeat_n(Cell::from(1_u64), names.len());
    table.row("4194303", cells.chain([Cell::from("hrtimer_nanosleep")]));
    let document = Document { title: String::new(), blocks: vec![Block::Table(table)] };
    for width in 60..100 {
        assert!(terminal::render(&document, width).contains("hrtimer_nanosleep"), "{width}");
    }
}

#[test]
fn in_markdown_each_row_has_as_many_cells_and_nothing_is_taken_for_markup() {
    for (what, document) in every_kind() {
        let bars = |line: &str| line.replace("\\|", "").matches('|').count();
        let mut wanted = None;
        for line in markdown::render(&document).lines() {
            wanted = line.starts_with('|').then(|| wanted.unwrap_or_else(|| bars(line)));
            assert_eq!(wanted.unwrap_or_else(|| bars(line)), bars(line), "{what}: {line}");
        }
    }
    let text = markdown::render(&odd());
    let but_for_commands = text.replace(BAD, "").replace("\\<", "");
    assert!(
        !but_for_commands.contains("<script") && text.contains("\\<script\\>alert(1)"),
        "{text}"
    );
    let row = "[the post](https://example.org/post) | **not reproduced** |";
    assert!(text.contains(row) && text.contains("\n`!` is not good\n"), "{text}");
}

#[test]
fn a_page_loads_nothing_runs_nothing_and_names_are_text() {
    for (what, document) in every_kind() {
        let source = html::render(&document, None);
        let harmful = ["src=", "@import", "url(", "<link", "<script", "default-src 'self'"];
        for wrong in harmful.iter().chain(&["NaN", "inf%", "\"inf\"", "height=\"-", "width=\"-"]) {
            assert!(!source.contains(wrong), "{what}: {wrong}");
        }
        let page = parsed(&document);
        let loading = "script, link, img, iframe, object, use, image, [onload], [onclick]";
        assert!(all(&page, loading).is_empty(), "{what}");
        let ids: Vec<_> = all(&page, "[id]").iter().map(|e| e.attr("id").unwrap()).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{what}: {ids:?}");
        for link in all(&page, "[href]").iter().map(|e| e.attr("href").unwrap()) {
            let leads = link.strip_prefix('#').is_some_and(|id| ids.contains(&id));
            let raw = "./javascript%3Aa%20b%23c%3Fd%25e%22.json";
            assert!(leads || link == raw || link.starts_with("https://"), "{what}: {link}");
        }
        for picture in all(&page, "svg[role=img]") {
            assert!(picture.attr("aria-label").unwrap().len() > 8, "{what}");
        }
        assert_eq!(text(&all(&page, "h1")[0]), document.title);
        if let Some(folder) = std::env::var_os("PAGES") {
            let file = Path::new(&folder).join(what).with_extension("html");
            std::fs::write(file, source).unwrap(); // to look at
        }
    }
}

#[test]
fn every_kind_of_picture_is_drawn_and_a_long_page_begins_with_its_judgements() {
    let documents: BTreeMap<_, _> = every_kind().into_iter().collect();
    let count = |what: &str, selector| all(&parsed(&documents[what]), selector).len();
    assert_eq!(count("compare", "circle.point"), 80);
    assert_eq!(count("compare", "circle.estimate"), 1);
    assert_eq!(count("compare nothing", "circle.point"), 0);
    assert_eq!(count("odd", "polyline"), 10);
    assert_eq!(count("odd", ".strip .part"), 256);
    assert_eq!(count("odd", "h2"), 11, "of nothing there is no section");
    assert_eq!(count("odd", ".contents a"), 10);
    assert!(count("lab", "rect.body") > 1 && count("lab", ".chip") > 1);
    assert_eq!((count("odd", ".heat td.no"), count("odd", ".heat td.open")), (1, 1));
    assert!(count("matrix", ".heat td") > 1);
    let page = parsed(&documents["lab"]);
    let contents = text(&all(&page, ".contents")[0]);
    assert!(contents.contains("post: What is post?"), "{contents}");
    let badges: BTreeSet<_> = all(&page, ".contents .badge").iter().map(text).collect();
    assert!(badges.iter().any(|badge| badge.starts_with("refuted")), "{badges:?}");
}
