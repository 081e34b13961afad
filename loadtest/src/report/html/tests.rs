use std::collections::BTreeSet;
use std::sync::LazyLock;

use scraper::{Html, Selector};
use serde_json::Value;

use super::*;
use crate::kernel::affinity::Cores;
use crate::measure::summary::tests::{comparison, slice};
use crate::statistics::latency::Distribution;

/// A page, as a browser reads it.
fn read(comparison: &Comparison) -> Html {
    let page = page(comparison, Some("report.json")).unwrap();
    let html = Html::parse_document(&page);
    assert!(html.errors.is_empty(), "{:?}", html.errors);
    html
}

/// What a selector finds.
fn all<'a>(html: &'a Html, selector: &str) -> Vec<scraper::ElementRef<'a>> {
    html.select(&Selector::parse(selector).unwrap()).collect()
}

/// Comparisons of every kind that may come; made once, since thousands of bootstraps take a while.
static EVERY_KIND: LazyLock<Vec<(&'static str, Comparison)>> = LazyLock::new(every_kind);

fn every_kind() -> Vec<(&'static str, Comparison)> {
    let two = comparison(40, 0.9);
    let changed = |change: &dyn Fn(&mut Comparison)| {
        let mut changed = two.clone();
        change(&mut changed);
        changed.summarize().unwrap();
        changed
    };
    let more = |names: &[&str]| {
        changed(&|comparison| {
            for (index, name) in names.iter().enumerate() {
                let mut another = comparison.subjects[index % 2].clone();
                (another.name, another.server) =
                    ((*name).into(), format!("shared --workers {index}"));
                for slice in &mut another.slices {
                    slice.requests_per_second *= 0.93 + 0.03 * index as f64;
                }
                comparison.subjects.push(another);
            }
        })
    };
    // A tail for everyone, and not the same: lines that lie on each other show nothing.
    let tailed = |mut comparison: Comparison| {
        for (index, subject) in comparison.subjects.iter_mut().enumerate() {
            let bucket = |power: u32| {
                let us =
                    (400.0 + 90.0 * index as f64) * (1.4 + 0.06 * index as f64).powi(power as i32);
                (us as u64, 50_000 >> power)
            };
            let latencies = Distribution::of(&(0..16).map(bucket).collect::<Vec<_>>()).unwrap();
            subject.slices.iter_mut().for_each(|slice| slice.latencies = latencies.clone());
        }
        comparison.summarize().unwrap();
        comparison
    };
    vec![
        ("two", tailed(two.clone())),
        ("three", tailed(more(&["shared --workers 8"]))),
        (
            "nine",
            tailed(more(&["third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"])),
        ),
        (
            "many workers",
            changed(&|comparison| {
                for (index, subject) in comparison.subjects.iter_mut().enumerate() {
                    let parts: Vec<u64> =
                        (0..256).map(|part| 50 + part * (2 - index as u64)).collect();
                    subject.workers = Some(256);
                    subject.slices = (0..40)
                        .map(|round| {
                            let mut slice = slice(round, 80_000 + u64::from(round) * 90, &parts);
                            for worker in &mut slice.workers {
                                worker.connections = Some(worker.index as u64 / 50);
                            }
                            slice
                        })
                        .collect();
                }
            }),
        ),
        (
            "failed at once",
            changed(&|comparison| {
                comparison.subjects[1].slices.clear();
                comparison.subjects[1].failed = Some("worker 3 ended with signal 11".into());
                comparison.complete = false;
                comparison.fixed_rates.clear();
            }),
        ),
        (
            "failed in the middle",
            changed(&|comparison| {
                comparison.subjects[1].slices.truncate(4);
                comparison.subjects[1].failed = Some("worker 3 ended with signal 11".into());
                comparison.complete = false;
                comparison.fixed_rates[1].results[1].latency_us = None;
            }),
        ),
        ("long names", {
            let long =
                "shared --workers 8 --handler-cost 70us --backlog 4096 --and-so-on=".repeat(2);
            let mut comparison = more(&[&"x".repeat(200), &long]);
            comparison.arguments.push(long);
            comparison.arguments.push("it's <b>".into());
            comparison
        }),
        (
            "pinned",
            changed(&|comparison| {
                comparison.plan.pinned = Some(Cores { server: vec![0], wrk: vec![1] });
                comparison.plan.one_at_a_time = true;
                comparison.plan.keep_alive = false;
                comparison.subjects[0].slices[11].requests_per_second = 1000.0;
                comparison.subjects[0].slices[11].errors.timeout = 1234;
                comparison.subjects[0].slices[12].errors.read = 1;
            }),
        ),
        (
            "nothing",
            changed(&|comparison| {
                comparison.subjects.iter_mut().for_each(|subject| subject.slices.clear());
                comparison.fixed_rates.clear();
                comparison.complete = false;
            }),
        ),
    ]
}

#[test]
fn every_figure_and_every_text_of_the_page_is_the_records() {
    for (what, comparison) in &*EVERY_KIND {
        let record = serde_json::to_value(comparison).unwrap();
        let html = read(comparison);
        let found = all(&html, "[data-at]");
        assert!(found.len() > 20, "{what}");
        for element in found {
            let at = element.attr("data-at").unwrap();
            let expected = record.pointer(at).unwrap_or_else(|| panic!("{what}: no {at}"));
            let value = element.attr("value").or(element.attr("data-value"));
            match value {
                Some(value) => assert_eq!(value, expected.to_string(), "{what}: {at}"),
                None => assert_eq!(
                    Value::from(element.text().collect::<String>()),
                    *expected,
                    "{what}: {at}"
                ),
            }
        }
    }
}

#[test]
fn the_figures_that_matter_are_on_the_page() {
    let html = read(&comparison(40, 0.9));
    let found: BTreeSet<_> =
        all(&html, "[data-at]").iter().map(|e| e.attr("data-at").unwrap()).collect();
    for subject in 0..2 {
        for at in [
            "slices/39/requests_per_second",
            "summary/requests_per_second/value",
            "summary/requests_per_second/interval/1",
            "summary/cpu_us_per_request/value",
            "summary/latency_us/p99_99",
            "summary/latency_us/max",
            "summary/spread/max_over_mean",
            "summary/spread/connections_by_rank/3",
            "workers",
        ] {
            let at = format!("/subjects/{subject}/{at}");
            assert!(found.contains(at.as_str()), "{at}");
        }
    }
    for at in [
        "/pairs/0/sentence",
        "/pairs/0/result/ratio",
        "/fixed_rates/1/results/1/p99_9/value",
        "/warnings/0",
        "/environment/kernel",
        "/plan/seed",
    ] {
        assert!(found.contains(at), "{at}");
    }
}

#[test]
fn what_is_shown_is_what_it_was_rounded_from() {
    for (what, comparison) in &*EVERY_KIND {
        let html = read(comparison);
        for element in all(&html, "data") {
            let text: String = element.text().collect();
            let value: f64 = element.attr("value").unwrap().parse().unwrap_or(f64::NAN);
            let (shown, factor) = match text.rsplit_once(' ') {
                Some((shown, "%")) => (shown, 1e-2),
                Some((shown, "ms")) => (shown, 1e3),
                Some((shown, "s")) => (shown, 1e6),
                Some((shown, "GiB")) => (shown, f64::from(1 << 30)),
                Some((shown, "µs")) => (shown, 1.0),
                _ => (text.as_str(), 1.0),
            };
            let shown = shown.replace(' ', "");
            let digits = shown.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            let shown: f64 = shown.parse().unwrap_or_else(|_| panic!("{what}: {text}"));
            let last = factor * 0.1f64.powi(digits as i32);
            assert!((shown * factor - value).abs() <= last * 0.501, "{what}: {text} of {value}");
        }
    }
}

#[test]
fn nothing_is_loaded_and_nothing_runs() {
    for (what, comparison) in &*EVERY_KIND {
        let page = page(comparison, Some("report.json")).unwrap();
        for loading in ["src=", "@import", "url(", "<link", "<script", "http:", "https:", "onload"]
        {
            assert!(!page.contains(loading), "{what}: {loading}");
        }
        let html = read(comparison);
        let links: Vec<_> = all(&html, "[href]").iter().map(|e| e.attr("href").unwrap()).collect();
        assert_eq!(links, ["./report.json"], "{what}");
        assert!(all(&html, "script, link, img, iframe, object, use, image").is_empty(), "{what}");
    }
}

#[test]
fn a_name_is_text_wherever_it_comes_from() {
    let bad = "<script>alert(1)</script>\" onload='x' &amp;";
    let mut comparison = comparison(40, 0.9);
    comparison.subjects[0].name = bad.into();
    comparison.subjects[0].server = bad.into();
    comparison.subjects[1].failed = Some(bad.into());
    comparison.plan.baseline = bad.into();
    comparison.plan.paths[0].path = bad.into();
    comparison.arguments.push(bad.into());
    comparison.warnings.push(bad.into());
    comparison.environment.cpu = Some(bad.into());
    comparison.fixed_rates[0].results[0].subject = bad.into();
    comparison.summarize().unwrap();
    let page = page(&comparison, Some(bad)).unwrap();
    assert!(!page.contains("<script"));
    let html = Html::parse_document(&page);
    assert!(html.errors.is_empty(), "{:?}", html.errors);
    assert!(all(&html, "script, [onload]").is_empty());
    assert_eq!(all(&html, "td.left.who span")[0].text().collect::<String>(), bad);
}

#[test]
fn a_link_stays_beside_the_page_whatever_the_files_name() {
    let page = page(&comparison(6, 0.9), Some("javascript:a b#c?d%e\".json")).unwrap();
    let html = Html::parse_document(&page);
    let link = all(&html, "a")[0].attr("href").unwrap();
    assert_eq!(link, "./javascript%3Aa%20b%23c%3Fd%25e%22.json");
}

#[test]
fn every_picture_has_a_text_alternative_and_every_id_is_its_own() {
    for (what, comparison) in &*EVERY_KIND {
        let html = read(comparison);
        let ids: Vec<_> = all(&html, "[id]").iter().map(|e| e.attr("id").unwrap()).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{what}: {ids:?}");
        let text = |id: &str| {
            let found = all(&html, &format!("[id='{id}']"));
            found[0].text().collect::<String>()
        };
        for picture in all(&html, "svg") {
            let inside = picture.ancestors().filter_map(scraper::ElementRef::wrap);
            let inside = inside.into_iter().any(|outer| outer.value().name() == "svg");
            if inside || picture.attr("aria-hidden") == Some("true") {
                continue;
            }
            assert_eq!(picture.attr("role"), Some("img"), "{what}");
            for attribute in ["aria-labelledby", "aria-describedby"] {
                assert!(text(picture.attr(attribute).unwrap()).len() > 10, "{what}");
            }
        }
        let pictures = all(&html, "svg[role=img]").len();
        assert_eq!(pictures > 0, *what != "nothing", "{what}");
    }
}

#[test]
fn no_place_in_a_picture_is_not_a_number() {
    for (what, comparison) in &*EVERY_KIND {
        let page = page(comparison, None).unwrap();
        for wrong in ["NaN", "inf%", "\"inf\"", "height=\"-"] {
            assert!(!page.contains(wrong), "{what}: {wrong}");
        }
    }
}

#[test]
fn the_posts_ratio_is_drawn_beside_a_plain_shared_server_only() {
    let mut comparison = comparison(12, 0.9);
    assert!(page(&comparison, None).unwrap().contains("0.648"));
    comparison.subjects[0].server = "shared --workers 8".into();
    assert!(!page(&comparison, None).unwrap().contains("0.648"));
}

#[test]
fn what_is_missing_is_said_and_why() {
    for (what, comparison) in &*EVERY_KIND {
        let page = page(comparison, None).unwrap();
        assert_eq!(page.contains("not complete"), !comparison.complete, "{what}");
        assert_eq!(page.contains("signal 11"), what.starts_with("failed"), "{what}");
    }
}

/// Not a check: `PAGES=folder cargo test -p loadtest pages_to_look_at` writes them all.
#[test]
fn pages_to_look_at() {
    let Some(folder) = std::env::var_os("PAGES") else { return };
    for (what, comparison) in &*EVERY_KIND {
        let path = std::path::Path::new(&folder).join(format!("{}.html", what.replace(' ', "-")));
        std::fs::write(path, page(comparison, Some("report.json")).unwrap()).unwrap();
    }
}
