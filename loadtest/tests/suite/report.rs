//! The report of a real comparison, as Chromium shows it.

use serde_json::Value;

use crate::chromium::{chromium, open};
use crate::support::run;

/// Every figure that the page names a place in the record for: the place, and the value.
fn figures(dom: &str) -> Vec<(String, Value)> {
    let page = scraper::Html::parse_document(dom);
    let selector = scraper::Selector::parse("[data-at]").unwrap();
    let elements = page.select(&selector);
    elements
        .filter_map(|element| {
            let attribute = |name| element.value().attr(name);
            let value = attribute("value").or(attribute("data-value"))?;
            Some((attribute("data-at")?.to_owned(), serde_json::from_str(value).unwrap()))
        })
        .collect()
}

#[test]
fn the_report_renders_without_a_complaint_loads_nothing_and_shows_the_figures_of_the_record() {
    let Some(chromium) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (json, page) = (folder.path().join("compare.json"), folder.path().join("report.html"));
    let (json_path, page_path) = (json.to_str().unwrap(), page.to_str().unwrap());
    let load = ["--rounds", "6", "--threads", "2", "--connections", "8", "--fixed-rate", "200ms"];
    let mut arguments = vec!["compare", "--json", json_path, "--html", page_path];
    arguments.extend(load);
    let output = run("loadtest", &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();

    for (width, dark) in [(1200, false), (360, true)] {
        let opened = open(&chromium, &page, width, dark);
        opened.assert_well_behaved(dark);

        let shown = figures(&opened.dom);
        // Two subjects with 6 points each, and everything in the tables.
        assert!(shown.len() > 60, "{} figures", shown.len());
        for (at, value) in shown {
            assert_eq!(record.pointer(&at), Some(&value), "{at}");
        }
        let sentence = record["pairs"][0]["sentence"].as_str().unwrap();
        let start = sentence.split(':').next().unwrap();
        assert!(opened.dom.contains(start), "{start}");
        assert!(opened.dom.contains("compare.json"));
    }
}
