use std::collections::BTreeSet;

use scraper::{ElementRef, Html, Selector};
use serde_json::Value;

use super::*;
use crate::lab::chapter::Findings;
use crate::lab::record::tests::lab;
use crate::report::model::{Axis, Bar, Picture, Series};

fn all<'a>(html: &'a Html, selector: &str) -> Vec<ElementRef<'a>> {
    html.select(&Selector::parse(selector).unwrap()).collect()
}

fn read(lab: &Lab) -> Html {
    let html = Html::parse_document(&page(lab, Some("lab.json")).unwrap());
    assert!(html.errors.is_empty(), "{:?}", html.errors);
    html
}

/// Labs of every kind that may come.
fn every_kind() -> Vec<(&'static str, Lab)> {
    let changed = |change: &dyn Fn(&mut Lab)| {
        let mut changed = lab();
        change(&mut changed);
        changed
    };
    let pictures = |pictures: Vec<Picture>| {
        changed(&|lab| {
            let done = lab.chapters[0].clone();
            lab.chapters.clear();
            for (number, picture) in pictures.iter().enumerate() {
                let mut chapter = done.clone();
                chapter.name = format!("picture{number}");
                chapter.findings.picture = Some(picture.clone());
                lab.chapters.push(chapter);
            }
        })
    };
    let axis = |unit, logarithmic| Axis { name: "workers".into(), unit, logarithmic };
    let many: Vec<(f64, f64)> =
        (0..120).map(|n| (f64::from(n) / 10.0, 20_000.0 + f64::from(n % 7) * 900.0)).collect();
    let powers: Vec<(f64, f64)> =
        (0..9).map(|n| (f64::from(1 << n), 30.0 * 1.8f64.powi(n))).collect();
    vec![
        ("all", lab()),
        ("not quick, no matrix", changed(&|lab| (lab.quick, lab.matrix) = (false, None))),
        ("nothing", changed(&|lab| lab.chapters.clear())),
        (
            "nothing found",
            changed(&|lab| lab.chapters.iter_mut().for_each(|c| c.findings = Findings::default())),
        ),
        (
            "pictures",
            pictures(vec![
                Picture::Lines {
                    title: "Time of a connection".into(),
                    x: axis(Unit::Count, true),
                    y: axis(Unit::Microseconds, true),
                    series: (0..9)
                        .map(|place| Series {
                            name: format!("policy number {place} with a long name"),
                            points: powers
                                .iter()
                                .map(|(x, y)| (*x, y * f64::from(place + 1)))
                                .collect(),
                        })
                        .collect(),
                    spans: vec![],
                },
                Picture::Lines {
                    title: "A timeline".into(),
                    x: axis(Unit::Mean, false),
                    y: axis(Unit::PerSecond, false),
                    series: vec![Series { name: "shared".into(), points: many }],
                    spans: vec![
                        (1.0, 6.0, "worker stopped".into()),
                        (6.0, 6.0, "worker killed".into()),
                        (11.0, 12.0, "the end of it all".into()),
                    ],
                },
                Picture::Lines {
                    title: "Nothing".into(),
                    x: axis(Unit::Count, true),
                    y: axis(Unit::Part, false),
                    series: vec![],
                    spans: vec![],
                },
                Picture::Bars {
                    title: "Microseconds, with nothing to compare them with".into(),
                    unit: Unit::Microseconds,
                    bars: (0..12)
                        .map(|n| Bar {
                            name: format!("own sockets, least-conn, {n} workers"),
                            value: 3.0f64.powi(n),
                            interval: (n % 2 == 0).then(|| [2.9f64.powi(n), 3.3f64.powi(n)]),
                        })
                        .collect(),
                    reference: None,
                },
                Picture::Bars {
                    title: "None".into(),
                    unit: Unit::Part,
                    bars: vec![],
                    reference: Some((0.0, "the post, whose name is rather long".into())),
                },
                Picture::Shares {
                    title: "Many workers".into(),
                    rows: vec![
                        ("one".into(), vec![1.0]),
                        ("256".into(), vec![1.0 / 256.0; 256]),
                        ("nobody".into(), vec![]),
                        ("some of it".into(), vec![0.5, 0.2, 0.13, 0.09, 0.05, 0.03, 0.0, 0.0]),
                    ],
                },
                Picture::Turns {
                    title: "Many turns".into(),
                    rows: vec![
                        ("blocking".into(), (0..80).map(|turn| turn % 12).collect()),
                        ("none".into(), vec![]),
                    ],
                },
            ]),
        ),
    ]
}

#[test]
fn every_figure_and_every_text_of_the_book_is_the_records() {
    for (what, lab) in every_kind() {
        let record = serde_json::to_value(&lab).unwrap();
        let html = read(&lab);
        for element in all(&html, "[data-at]") {
            let at = element.attr("data-at").unwrap();
            let expected = record.pointer(at).unwrap_or_else(|| panic!("{what}: no {at}"));
            match element.attr("value").or(element.attr("data-value")) {
                Some(value) => assert_eq!(value, expected.to_string(), "{what}: {at}"),
                None => {
                    let text = Value::from(element.text().collect::<String>());
                    assert_eq!(text, *expected, "{what}: {at}");
                }
            }
        }
    }
}

#[test]
fn every_number_of_every_chapter_is_on_the_page() {
    let lab = lab();
    let html = read(&lab);
    let shown: BTreeSet<_> =
        all(&html, "[data-at]").iter().map(|e| e.attr("data-at").unwrap().to_owned()).collect();
    // Every number in the findings, wherever it is.
    fn numbers(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Number(_) => found.push(at.into()),
            Value::Array(values) => {
                values
                    .iter()
                    .enumerate()
                    .for_each(|(n, v)| numbers(v, &format!("{at}/{n}"), found));
            }
            Value::Object(fields) => {
                fields.iter().for_each(|(n, v)| numbers(v, &format!("{at}/{n}"), found));
            }
            _ => {}
        }
    }
    for (place, chapter) in lab.chapters.iter().enumerate() {
        let mut found = Vec::new();
        let findings = serde_json::to_value(&chapter.findings).unwrap();
        numbers(&findings, &format!("/chapters/{place}/findings"), &mut found);
        for at in found {
            // Along the axis a point is where its tick says, a share of nothing is not drawn, and
            // where a shaded part begins is read from the axis.
            let is_zero = serde_json::to_value(&lab).unwrap().pointer(&at) == Some(&0.0.into());
            let is_along = at.contains("/points/") && at.ends_with("/0");
            if !is_zero && !is_along && !at.contains("/spans/") {
                assert!(shown.contains(&at), "{at}");
            }
        }
    }
}

#[test]
fn every_kind_of_picture_is_drawn_and_none_has_a_place_that_is_no_number() {
    for (what, lab) in every_kind() {
        let text = page(&lab, None).unwrap();
        for wrong in ["NaN", "inf%", "\"inf\"", "height=\"-", "width=\"-"] {
            assert!(!text.contains(wrong), "{what}: {wrong}");
        }
    }
    let html = read(&lab());
    assert_eq!(all(&html, ".bars rect.body").len(), 2);
    assert_eq!(all(&html, ".bars .reference").len(), 3, "one for each bar and one on the axis");
    assert_eq!(all(&html, ".plot polyline").len(), 2);
    assert_eq!(all(&html, ".plot .noise").len(), 1);
    assert_eq!(all(&html, ".strip .part").len(), 2 + 4);
    assert_eq!(all(&html, ".chip").len(), 12);
}

#[test]
fn the_book_opens_with_the_posts_question_and_answer_and_names_all_chapters() {
    let html = read(&lab());
    let text = |selector: &str| all(&html, selector)[0].text().collect::<String>();
    assert_eq!(text("header .verdict strong"), "What is post?");
    assert!(text("header .evidence").starts_with("It is not the hash"));
    let links: Vec<_> = all(&html, ".contents a").iter().map(|a| a.attr("href").unwrap()).collect();
    assert_eq!(links, ["#post", "#stall", "#spread", "#order", "#crash", "#twice"]);
    let ids: Vec<_> = all(&html, "[id]").iter().map(|e| e.attr("id").unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    for link in links {
        assert!(ids.contains(&&link[1..]), "{link}");
    }
    assert!(text("#post pre").contains("loadtest lab post --quick"));
}

#[test]
fn what_is_missing_is_said_in_its_place() {
    let html = read(&lab());
    let notices = |html: &Html, selector: &str| -> Vec<String> {
        all(html, selector).iter().map(|e| e.text().collect()).collect()
    };
    assert_eq!(notices(&html, "#crash .notice"), ["Failed: no such worker"]);
    assert_eq!(notices(&html, "#twice .notice"), ["Skipped: needs root"]);
    assert_eq!(
        notices(&html, "#stall .notice"),
        ["Missing: reuseport/least-conn took no part: CAP_BPF"]
    );
    let mut lab = lab();
    lab.matrix = None;
    lab.chapters.clear();
    let html = read(&lab);
    assert!(notices(&html, "#matrix .notice")[0].contains("make matrix"));
    assert!(notices(&html, "header .notice")[0].contains("post"));
}

#[test]
fn nothing_is_loaded_nothing_runs_and_names_are_text() {
    let bad = "<script>alert(1)</script>\" onload='x' &amp;";
    let mut spoilt = lab();
    for chapter in &mut spoilt.chapters {
        chapter.page.question = bad.into();
        chapter.page.sections[0].1 = bad.into();
        chapter.findings.answer = bad.into();
        chapter.findings.claims.iter_mut().for_each(|claim| claim.claim = bad.into());
        chapter.findings.claims.iter_mut().for_each(|c| c.url = Some("javascript:alert(1)".into()));
        chapter.findings.tables.iter_mut().for_each(|table| table.title = bad.into());
    }
    spoilt.arguments.push(bad.into());
    let kinds = every_kind().into_iter().chain([("spoilt", spoilt)]);
    for (what, lab) in kinds {
        let text = page(&lab, Some("lab.json")).unwrap();
        for loading in ["src=", "@import", "url(", "<link", "<script", " onload="] {
            let found = text.contains(loading) && (what != "spoilt" || loading != " onload=");
            assert!(!found, "{what}: {loading}");
        }
        let html = read(&lab);
        assert!(all(&html, "script, link, img, iframe, object, use, image, [onload]").is_empty());
        for link in all(&html, "[href]") {
            let href = link.attr("href").unwrap();
            let known =
                ["#", "./", "https://example.org/"].iter().any(|begin| href.starts_with(begin));
            assert!(known, "{what}: {href}");
        }
    }
}

/// Not a check: `PAGES=folder cargo test -p loadtest books_to_look_at` writes them all.
#[test]
fn books_to_look_at() {
    let Some(folder) = std::env::var_os("PAGES") else { return };
    for (what, lab) in every_kind() {
        let path =
            std::path::Path::new(&folder).join(format!("lab-{}.html", what.replace(' ', "-")));
        std::fs::write(path, page(&lab, Some("lab.json")).unwrap()).unwrap();
    }
}
