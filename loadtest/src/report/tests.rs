//! The three renderers over one document with everything that may come.

use std::collections::BTreeSet;

use scraper::{ElementRef, Html, Selector};

use super::model::*;
use super::{format, html, markdown, terminal, wrap};

/// A name that would do harm if it were not escaped.
const BAD: &str = "<script>alert(1)</script>\" onload='x' &amp; | *a*";

fn plain(report: &str) -> String {
    anstream::adapter::strip_str(report).to_string()
}

fn all<'a>(html: &'a Html, selector: &str) -> Vec<ElementRef<'a>> {
    html.select(&Selector::parse(selector).unwrap()).collect()
}

fn text(element: &ElementRef) -> String {
    element.text().collect()
}

fn read(document: &Document) -> Html {
    let html = Html::parse_document(&html::render(document, Some("raw.json")));
    assert!(html.errors.is_empty(), "{:?}", html.errors);
    html
}

fn axis(unit: Unit, logarithmic: bool) -> Axis {
    Axis { name: "an axis".into(), unit, logarithmic }
}

/// A picture of each kind, and of some again without anything in it.
fn pictures() -> Vec<Picture> {
    let line = |place: u32| Series {
        name: format!("policy number {place} with a long name"),
        points: (0..9).map(|n| (f64::from(1 << n), 30.0 * f64::from(n * place + 1))).collect(),
    };
    let percentiles = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99].map(|at| (at, 10.0 + at * at));
    let bar = |n: i32| Bar {
        name: format!("own sockets, least-conn, {n} workers"),
        value: 3.0f64.powi(n),
        interval: (n % 2 == 0).then(|| [2.9f64.powi(n), 3.3f64.powi(n)]),
    };
    let points = |name: &str, number: u32| Points {
        name: name.into(),
        points: (1..=number).map(|round| (round, 20_000.0 + f64::from(round % 7))).collect(),
        median: (number > 0).then_some(20_003.0),
        interval: (number > 0).then_some([20_001.0, 20_005.0]),
    };
    let title = || "A picture".to_owned();
    let ranks = |name: &str, number: usize| Ranks {
        name: name.into(),
        note: "busiest / average 1.31".into(),
        requests: vec![1.0 / number as f64; number],
        connections: vec![1.0 / number as f64; number],
    };
    let lines = |x, y, series, spans| Picture::Lines { title: title(), x, y, series, spans };
    let spans = vec![(1.0, 6.0, "worker stopped".into()), (6.0, 6.0, "worker killed".into())];
    vec![
        lines(
            axis(Unit::Count, true),
            axis(Unit::Microseconds, true),
            (0..9).map(line).collect(),
            vec![],
        ),
        lines(axis(Unit::Mean, false), axis(Unit::PerSecond, false), vec![line(1)], spans),
        lines(
            axis(Unit::Percentile, true),
            axis(Unit::Microseconds, true),
            vec![Series { name: "shared".into(), points: percentiles.into() }],
            vec![],
        ),
        lines(axis(Unit::Count, true), axis(Unit::Part, false), vec![], vec![]),
        Picture::Bars {
            title: title(),
            unit: Unit::Microseconds,
            bars: (0..12).map(bar).collect(),
            reference: None,
        },
        Picture::Bars {
            title: title(),
            unit: Unit::Part,
            bars: vec![],
            reference: Some((0.0, "the post, whose name is rather long".into())),
        },
        Picture::Shares {
            title: title(),
            rows: vec![
                ("256".into(), vec![1.0 / 256.0; 256]),
                ("nobody".into(), vec![]),
                ("some of it".into(), vec![0.5, 0.2, 0.13, 0.09, 0.05, 0.03, 0.0, 0.0]),
            ],
        },
        Picture::Turns {
            title: title(),
            rows: vec![("blocking".into(), (0..80).map(|turn| turn % 12).collect())],
        },
        Picture::Points {
            title: title(),
            unit: Unit::PerSecond,
            columns: vec![points("shared", 40), points(BAD, 12), points("died", 0)],
            reference: Some((12_000.0, "the post's ratio".into())),
        },
        Picture::Points { title: title(), unit: Unit::PerSecond, columns: vec![], reference: None },
        Picture::Intervals {
            title: title(),
            rows: (0..3).map(bar).collect(),
            centre: 1.0,
            noise: 0.02,
        },
        Picture::Ranks { title: title(), panels: vec![ranks("shared", 4), ranks(BAD, 256)] },
    ]
}

/// A table that is too broad for any terminal, and one of words.
fn tables() -> Vec<Table> {
    let units = [Unit::PerSecond, Unit::Ratio, Unit::Microseconds, Unit::Part, Unit::Text];
    let names: Vec<String> = (0..8).map(|n| format!("a column of number {n}")).collect();
    let columns: Vec<(&str, Unit)> =
        names.iter().map(String::as_str).zip(units.into_iter().cycle()).collect();
    let mut broad = Table::new("Far too broad", &columns);
    for row in ["shared, least-conn", "own sockets, one of which gets everything there is"] {
        let cells = columns.iter().enumerate().map(|(place, (_, unit))| match unit {
            Unit::Text => Cell::text("words that go on and on, until they end at last"),
            _ => Cell::sure(123_456.0 + place as f64 * 1e4, Some([120_000.0, 130_000.5])),
        });
        broad.row(row, cells);
    }
    broad.note = "a note ".repeat(20);
    let mut odd = Table::new("", &[("of shared", Unit::Ratio), ("p", Unit::Probability)]);
    odd.row(BAD, [Cell::number(f64::NAN), Cell::none()]);
    odd.row("own", [Cell::sure(0.9641, Some([0.943, 0.9824])), Cell::number(0.0004)]);
    odd.row(
        "judged",
        [Cell::number(0.5).mark(Mark::Bad), Cell::number(0.25).mark(Mark::Undecided)],
    );
    let mut words = Table::new("", &["claim", "source", "verdict"].map(|name| (name, Unit::Text)));
    for (verdict, mark) in [("reproduced", Mark::Good), ("not reproduced", Mark::Bad)] {
        let source = Cell::text("the post").link(Some("https://example.org/post"));
        let verdict = Cell::text(verdict).mark(mark);
        words.row(
            "post",
            [Cell::text("Own sockets reach 0.648 of one. ".repeat(5)), source, verdict],
        );
    }
    words.row("post", [Cell::text(BAD), Cell::text("x").link(Some("javascript:x")), Cell::none()]);
    let mut heat = Table { heat: true, ..Table::default() };
    for (group, name) in [("keep", "requests/s"), ("keep", "p99"), ("close", "requests/s")] {
        let (group, name) = (group.into(), name.into());
        heat.columns.push(Column { name, unit: Unit::Times, group, heat: Some([0.5, 1.0]) });
    }
    let part = Cell::sure(0.97, Some([0.94, 1.0])).note("34 492/s").mark(Mark::Undecided);
    heat.row("hash", [part, Cell::number(1.26).mark(Mark::Bad), Cell::none()]);
    vec![broad, odd, words, heat]
}

fn document() -> Document {
    let mut blocks = vec![
        Block::Verdict(format!("{BAD} is faster than shared: 1.100 times the requests/s")),
        Block::Facts(vec![("load".into(), BAD.into())]),
    ];
    for (number, table) in tables().into_iter().enumerate() {
        blocks.push(Block::Heading(format!("Table {number}")));
        blocks.push(Block::Table(table));
    }
    blocks.push(Block::Heading("Only to look at".into()));
    blocks.extend(pictures().into_iter().map(Block::Picture));
    for number in 0..6 {
        blocks.push(Block::Heading("The same".into()));
        blocks.push(Block::Verdict(format!("The answer is {number}.")));
        blocks.push(Block::Text(format!("`code`, **bold** and {}", escaped(BAD))));
    }
    let inner = vec![Block::Text("### In it\n\n- one\n- two".into())];
    blocks.push(Block::Details("More".into(), inner));
    blocks.push(Block::Warnings(vec![BAD.into()]));
    blocks.push(Block::Reproduce(vec!["make build".into(), BAD.into()]));
    Document { title: BAD.into(), blocks }
}

/// A page whose file's name is as bad as the rest.
fn page() -> String {
    html::render(&document(), Some("javascript:a b#c?d%e\".json"))
}

#[test]
fn all_three_forms_show_every_figure_of_the_document() {
    let document = document();
    let figures = format::figures(&document);
    assert!(figures.len() > 30, "{figures:?}");
    // As often as it is in the document, and in the same letters.
    let words =
        |text: &str| text.replace("\\", "").split_whitespace().collect::<Vec<_>>().join(" ");
    let html = read(&document);
    let page = words(&all(&html, "body").iter().map(text).collect::<String>());
    let forms = [
        terminal::render(&document, 100),
        terminal::render(&document, 60),
        markdown::render(&document),
    ];
    let forms = forms.map(|form| words(&plain(&form)));
    for figure in &figures {
        let wanted = figures.iter().filter(|other| *other == figure).count();
        for form in forms.iter().chain([&page]) {
            assert!(form.matches(figure.as_str()).count() >= wanted, "{figure} is not in {form}");
        }
    }
}

#[test]
fn a_figure_on_the_page_carries_its_full_value() {
    for element in all(&read(&document()), "data") {
        let value: f64 = element.attr("value").unwrap().parse().unwrap();
        let shown = text(&element);
        let units = [Unit::PerSecond, Unit::Ratio, Unit::Times, Unit::Microseconds, Unit::Part];
        let units = units.into_iter().chain([Unit::Probability, Unit::Id]);
        let is_rounded = units.map(|unit| format::number(value, unit)).any(|text| text == shown);
        // In a strip, parts have no digits of the fraction.
        assert!(is_rounded || shown.ends_with(" %"), "{shown} of {value}");
    }
}

#[test]
fn everything_fits_into_100_80_and_60_columns() {
    for width in [100, 80, 60] {
        for line in plain(&terminal::render(&document(), width)).lines() {
            assert!(wrap::room(line) <= width || line.contains("<script>"), "{width}: {line}");
        }
    }
}

#[test]
fn an_interval_stands_beside_its_figure_where_there_is_room_and_a_judgement_after_it() {
    let report = plain(&terminal::render(&document(), 100));
    assert!(
        report.contains("own") && report.contains("0.964 (0.943 to 0.982)  4.0e-4"),
        "{report}"
    );
    assert!(report.contains("0.500!") && report.contains("0.25?"), "{report}");
    assert!(report.contains("0.97? (0.94 to 1.00) 34 492/s"), "{report}");
    assert!(report.contains("keep p99") && !report.contains("Only to look at"), "{report}");
    assert!(!report.contains("warning"), "warnings go to stderr");
}

#[test]
fn words_stand_in_a_table_and_below_each_other_where_it_is_narrow() {
    let [wide, narrow] = [100, 60].map(|width| plain(&terminal::render(&document(), width)));
    assert!(wide.lines().any(|line| line.contains("claim") && line.contains("verdict")), "{wide}");
    assert!(narrow.contains("\n  verdict  not reproduced\n"), "{narrow}");
    assert!(terminal::render(&document(), 100).contains("\u{1b}[1m\u{1b}[31mnot reproduced"));
}

#[test]
fn in_markdown_each_row_has_as_many_cells_and_nothing_is_taken_for_markup() {
    let markdown = markdown::render(&document());
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    let mut wanted = None;
    for line in markdown.lines() {
        wanted = line.starts_with('|').then(|| wanted.unwrap_or_else(|| bars(line)));
        assert_eq!(wanted.unwrap_or_else(|| bars(line)), bars(line), "{line}");
    }
    assert!(
        !markdown.replace(BAD, "").replace("\\<", "").contains("<script"),
        "but for the commands to repeat it"
    );
    assert!(markdown.contains("\\<script\\>alert(1)"), "{markdown}");
    assert!(
        markdown.contains("[the post](https://example.org/post) | **reproduced** |"),
        "{markdown}"
    );
}

#[test]
fn a_page_loads_nothing_runs_nothing_and_names_are_text() {
    let page = page();
    for loading in ["src=", "@import", "url(", "<link", "<script", "default-src 'self'"] {
        assert!(!page.contains(loading), "{loading}");
    }
    let html = Html::parse_document(&page);
    assert!(html.errors.is_empty(), "{:?}", html.errors);
    assert!(all(&html, "script, link, img, iframe, object, use, image, [onload]").is_empty());
    let links: BTreeSet<_> = all(&html, "[href]").iter().map(|e| e.attr("href").unwrap()).collect();
    let links: Vec<_> = links.into_iter().filter(|link| !link.starts_with('#')).collect();
    assert_eq!(links, ["./javascript%3Aa%20b%23c%3Fd%25e%22.json", "https://example.org/post"]);
    assert_eq!(text(&all(&html, "h1")[0]), BAD);
}

#[test]
fn every_id_is_its_own_every_picture_has_a_text_and_every_link_within_leads_somewhere() {
    let html = read(&document());
    let ids: Vec<_> = all(&html, "[id]").iter().map(|e| e.attr("id").unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    let pictures = all(&html, "svg[role=img]");
    assert!(pictures.len() >= 8, "{}", pictures.len());
    for picture in pictures {
        for attribute in ["aria-labelledby", "aria-describedby"] {
            let id = picture.attr(attribute).unwrap();
            assert!(text(&all(&html, &format!("[id='{id}']"))[0]).len() > 8, "{id}");
        }
    }
    let contents = all(&html, ".contents a");
    assert!(contents.len() > 9, "a long page begins with its contents");
    for link in contents {
        assert!(ids.contains(&&link.attr("href").unwrap()[1..]), "{link:?}");
    }
    let badges: Vec<_> = all(&html, ".contents .badge").iter().map(text).collect();
    assert_eq!(badges, ["reproduced", "not reproduced"]);
}

#[test]
fn every_kind_of_picture_is_drawn_and_none_has_a_place_that_is_no_number() {
    let page = page();
    for wrong in ["NaN", "inf%", "\"inf\"", "height=\"-", "width=\"-"] {
        assert!(!page.contains(wrong), "{wrong}");
    }
    let html = read(&document());
    let count = |selector: &str| all(&html, selector).len();
    assert_eq!(count(".bars rect.body"), 12);
    assert_eq!(count("circle.point"), 52);
    assert_eq!(count(".forest circle.estimate"), 3);
    assert_eq!(count(".panels h3"), 2);
    assert_eq!(count("rect.hollow"), 4, "of 256 workers there are no bars but a line");
    assert_eq!(count(".chip"), 80);
    assert_eq!(count("td.undecided"), 1);
    assert!(count(".plot polyline") > 11 && count(".strip .part") > 256);
}

/// Not a check: `PAGES=folder cargo test -p loadtest page_to_look_at` writes it.
#[test]
fn page_to_look_at() {
    let Some(folder) = std::env::var_os("PAGES") else { return };
    std::fs::write(std::path::Path::new(&folder).join("everything.html"), page()).unwrap();
}
