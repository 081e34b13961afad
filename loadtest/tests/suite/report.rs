//! The report of a real comparison, as Chromium shows it.

use serde_json::Value;

use crate::chromium::{chromium, open};
use crate::support::run;

/// The full value of every figure that these elements of the page carry.
fn values(dom: &str, selector: &str) -> Vec<f64> {
    let page = scraper::Html::parse_document(dom);
    let selector = scraper::Selector::parse(selector).unwrap();
    let attribute = |element: scraper::ElementRef| {
        let value = element.value();
        value.attr("value").or(value.attr("data-value")).map(|text| text.parse().unwrap())
    };
    page.select(&selector).filter_map(attribute).collect()
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

        // Two subjects with 6 points each, and everything in the tables.
        assert!(values(&opened.dom, "data").len() > 40);
        let slices = record["subjects"].as_array().unwrap().iter();
        let slices = slices.flat_map(|subject| subject["slices"].as_array().unwrap());
        let rates: Vec<f64> =
            slices.map(|slice| slice["requests_per_second"].as_f64().unwrap()).collect();
        assert_eq!(values(&opened.dom, "circle.point"), rates);
        let sentence = record["pairs"][0]["sentence"].as_str().unwrap();
        let start = sentence.split(':').next().unwrap();
        assert!(opened.dom.contains(start), "{start}");
        assert!(opened.dom.contains("compare.json"));
    }
}
