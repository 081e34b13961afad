//! `loadtest cost`: both servers beside nginx, whatever this machine can count.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{run, skip};

fn is_installed(command: &str) -> bool {
    let in_sbin = Path::new("/usr/sbin").join(command).exists(); // not on every user's PATH
    in_sbin || Command::new(command).arg("--version").output().is_ok()
}

#[test]
fn every_server_is_compared_with_nginx_by_cost_with_kept_and_with_new_connections() {
    for needed in ["nginx", "perf"] {
        if !is_installed(needed) {
            return skip(&format!("{needed} is not installed"));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cost.json");
    let asked = ["cost", "--rounds", "2", "--duration", "1s", "--json", path.to_str().unwrap()];
    let output = run("loadtest", &asked);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let shown = String::from_utf8(output.stdout).unwrap();
    for word in ["nginx", "shared", "reuseport", "kept", "new"] {
        assert!(shown.contains(word), "{word} should be in: {shown}");
    }
    assert!(shown.contains("kept alive within a slice (kept) or a new one"), "{shown}");
    assert!(!shown.contains("yardstick") && !shown.contains("95 % intervals"), "{shown}");
    let record: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(record["schema"], "loadtest-compare/2");
    // What is counted is said: instructions where the machine has a counter, CPU time elsewhere.
    assert!(
        ["instructions", "cpu_nanoseconds"]
            .contains(&record["plan"]["cost_unit"].as_str().unwrap())
    );
    let subjects = record["subjects"].as_array().unwrap();
    assert_eq!(subjects.len(), 8, "two servers and two of nginx, with kept and new connections");
    for subject in subjects {
        assert!(
            subject["summary"]["cost_per_request"]["value"].as_f64().unwrap() > 0.0,
            "{subject}"
        );
    }
    let ours = subjects.iter().map(|subject| subject["cost_limit"].as_f64());
    assert_eq!(ours.flatten().collect::<Vec<_>>(), [1.0, 1.0, 1.3, 1.15]);
    for pair in record["pairs"].as_array().unwrap() {
        let mode = |name: &str| pair[name].as_str().unwrap().rsplit(' ').next().unwrap().to_owned();
        assert_eq!(mode("baseline"), mode("other"), "{pair}");
        assert_eq!(pair["ratios"].as_array().unwrap().len(), 2, "too few for a verdict, and kept");
    }
}
