//! `loadtest servers`: every column of a server, and what becomes of one that cannot be had or dies.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{assert_refused, program, run, skip};

/// The command of the pre-fork server beside this file, run by the Python that the PATH leads to now.
fn prefork(name: &str, arguments: &str) -> Option<String> {
    let python = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let python = String::from_utf8(python.ok()?.stdout).ok()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/prefork.py");
    Some(format!("{name}=cmd:{} {} {{port}} {arguments}", python.trim(), script.display()))
}

/// A folder for a record, and for what is installed.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Measures as little as there can be. Of the PATH the folder itself is first.
    fn servers(&self, arguments: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(program("loadtest"));
        command.args(["servers", "--brief", "--install"]).arg(self.0.path().join("installed"));
        command.arg("--json").arg(self.0.path().join("record.json")).args(arguments);
        command.env("PATH", format!("{}:{path}", self.0.path().display())).output().unwrap()
    }

    fn record(&self) -> Value {
        let text = std::fs::read_to_string(self.0.path().join("record.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Puts a program first on the PATH that says no.
    fn refuse(&self, name: &str, reason: &str) {
        let path = self.0.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho '{reason}' >&2\nexit 100\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn said(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn every_column_of_a_server_is_measured_and_saved_and_not_measured_again() {
    let Some(mine) = prefork("mine", "4") else { return skip("python3 is not installed") };
    let folder = Folder::new();
    let words = ["shared/epoll", &mine, "--signal", "reload=HUP"];
    let output = folder.servers(&words);
    assert!(output.status.success(), "{}", said(&output));
    let record = folder.record();
    let rows = record["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{record:#}");
    let (ours, mine) = (&rows[0], &rows[1]);
    assert_eq!((&ours["name"], &mine["name"]), (&"shared/epoll".into(), &"mine".into()));
    for row in rows {
        assert_eq!(row["failed"].as_array().map(Vec::len), Some(0), "{row:#}");
        assert_eq!(row["spread"]["kept"], true, "{row:#}");
        let all: u64 =
            row["spread"]["burst"][0].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
        assert!((190..=200).contains(&all), "{row:#}");
        assert_eq!(row["faults"]["kills"], 3, "{row:#}");
        assert!(row["reload"]["done"]["new"]["ok"].as_u64() > Some(50), "{row:#}");
        assert_eq!(row["reload"]["done"]["after"], "others", "{row:#}");
        assert!(row["term"]["kept"]["ok"].as_u64() > Some(10), "{row:#}");
        assert!(row["second"]["refused"].as_str().unwrap().contains("in use"), "{row:#}");
    }
    assert!(ours["blocking"]["of_ideal"].as_f64() > Some(0.5), "{ours:#}");
    assert!(mine["blocking"].is_null(), "it runs no code of ours: {mine:#}");
    // What is saved is not measured again, and shown as it was.
    let again = folder.servers(&[&words[..], &["--resume"]].concat());
    assert!(again.status.success(), "{}", said(&again));
    assert_eq!(folder.record()["rows"], record["rows"]);
    let saved = folder.0.path().join("record.json");
    // Samples of another form are none of this one.
    let whole = ["servers", words[1], "--resume", "--json", saved.to_str().unwrap()];
    assert_refused(&run("loadtest", &whole), &["other servers or options"], whole);
    assert_eq!(folder.record()["rows"], record["rows"]);
    let shown = run("loadtest", &["show", saved.to_str().unwrap(), "--markdown"]);
    assert!(said(&shown).contains("| mine | - |"), "{}", said(&shown));
}

#[test]
fn one_that_cannot_be_installed_is_skipped_and_one_that_dies_ends_nothing() {
    let Some(mortal) = prefork("mortal", "4 --mortal") else {
        return skip("python3 is not installed");
    };
    let folder = Folder::new();
    folder.refuse("python3", "no matching distribution");
    let reason = "cannot install granian: python3: no matching distribution";
    let output = folder.servers(&["granian", &mortal]);
    assert!(output.status.success(), "{}", said(&output));
    let record = folder.record();
    assert_eq!(record["skipped"][0]["reason"], reason, "{record:#}");
    let row = &record["rows"][0];
    assert_eq!(row["name"], "mortal");
    assert!(row["model"].is_string(), "it lives until a worker is killed: {row:#}");
    assert_eq!(row["faults"]["workers"], serde_json::json!([4, 0]), "and no longer: {row:#}");
    assert!(row["second"]["refused"].is_string(), "what comes after is measured: {row:#}");
    assert!(said(&output).contains(&format!("granian: {reason}")), "{}", said(&output));

    let alone = folder.servers(&["granian"]);
    assert!(!alone.status.success());
    let text = String::from_utf8_lossy(&alone.stderr);
    assert!(text.lines().last().unwrap().contains(&format!("granian: {reason}")), "{text}");
}

#[test]
fn what_there_is_to_measure_is_listed_and_other_names_are_refused() {
    let listed = run("loadtest", &["servers", "--list"]);
    assert!(listed.status.success() && said(&listed).contains("granian"), "{}", said(&listed));
    let refused = run("loadtest", &["servers", "iis"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("no server of that name"), "{}", said(&refused));
    let signal = ["servers", "--signal", "foo=bar", "nginx", "--json", "/dev/null/x"];
    assert_refused(&run("loadtest", &signal), &["no action 'foo'", "there are reload"], signal);
}
