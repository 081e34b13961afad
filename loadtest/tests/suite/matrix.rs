//! `loadtest matrix` on the real servers: one workload, that in which a worker is stopped.

use serde_json::Value;

use crate::chromium::{chromium, open};
use crate::support::{assert_refused, run};

#[test]
fn every_policy_has_a_figure_and_only_the_blind_one_with_own_sockets_stands_still_with_its_worker()
{
    let folder = tempfile::tempdir().unwrap();
    let (json, page) = (folder.path().join("matrix.json"), folder.path().join("matrix.html"));
    let (json_path, page_path) = (json.to_str().unwrap(), page.to_str().unwrap());
    let only = ["--only", "one of 4 stopped", "--stops", "1"];
    let mut arguments = vec!["matrix", "--json", json_path, "--html", page_path];
    arguments.extend(only);
    let output = run("loadtest", &arguments);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(record["schema"], "loadtest-matrix/3");

    let policies = record["policies"].as_array().unwrap();
    assert_eq!(policies.len() + record["missing"].as_array().unwrap().len(), 9);
    let cells = record["columns"][0]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), policies.len());
    let served = |policy: &str| {
        let cell = cells.iter().find(|cell| cell["policy"] == policy)?;
        Some(cell["while_stopped"].as_f64().unwrap())
    };
    // The kernel goes on giving connections to the worker that stands still, until all wait for it. The
    // others go on; how fast is no matter here, where all tests share the machine.
    const NEXT_TO_NOTHING: f64 = 0.1;
    assert!(served("reuseport/hash").unwrap() < NEXT_TO_NOTHING, "{shown}");
    for policy in ["shared/epoll", "shared/least-conn", "reuseport/least-conn"] {
        assert!(served(policy).is_none_or(|part| part > NEXT_TO_NOTHING), "{policy}: {shown}");
    }
    for policy in policies {
        assert!(shown.contains(policy.as_str().unwrap()), "{policy} is not in {shown}");
    }
    assert!(shown.contains("Expectations"), "{shown}");
    let again = run("loadtest", &["show", json_path]);
    assert_eq!(
        shown.split("The result:").next(),
        String::from_utf8_lossy(&again.stdout).split("The result:").next(),
        "what was saved shows the same again"
    );
    assert!(std::fs::read_to_string(&page).unwrap().contains("reuseport/hash"));
    let Some(chromium) = chromium() else { return };
    let opened = open(&chromium, &page, 360, true);
    assert_eq!((opened.console, opened.requests), (vec![], vec![]));
    assert_eq!(opened.scroll_width, opened.window_width, "the page is as wide as its window");
}

#[test]
fn a_file_that_is_no_matrix_is_neither_replaced_nor_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("o1.json");
    std::fs::write(&json, r#"{"schema":"bench/1"}"#).unwrap();
    for resume in [&[][..], &["--resume"]] {
        let asked = ["matrix", "--only", "keep", "--json", json.to_str().unwrap()];
        let output = run("loadtest", &[&asked, resume].concat());
        assert_refused(&output, &["o1.json", "bench/1", "not loadtest-matrix/3"], resume);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_workload_that_does_not_exist_is_refused_with_those_that_do() {
    let output = run("loadtest", &["matrix", "--only", "nothing", "--json", "/dev/null/x"]);
    assert_refused(&output, &["'nothing'", "'mixed close'", "'one of 4 stopped'"], "no workload");
}
