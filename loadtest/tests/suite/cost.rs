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
fn every_server_is_compared_with_nginx_and_every_run_is_kept() {
    for needed in ["nginx", "perf"] {
        if !is_installed(needed) {
            return skip(&format!("{needed} is not installed"));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cost.json");
    let asked = ["cost", "--rounds", "1", "--duration", "1s", "--json", path.to_str().unwrap()];
    let output = run("loadtest", &asked);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let shown = String::from_utf8(output.stdout).unwrap();
    for word in ["nginx", "shared", "reuseport", "kept alive", "1.15", "1.30"] {
        assert!(shown.contains(word), "{word} should be in: {shown}");
    }
    let record: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(record["schema"], "loadtest-cost/1");
    // What is counted is said: instructions where the machine has a counter, CPU time elsewhere.
    let counted = record.to_string();
    assert!(counted.contains("instructions") || counted.contains("cpu"), "{counted}");
}
