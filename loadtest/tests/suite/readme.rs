//! The README says what is true: its options, its targets, its links, its commands.
//!
//! `UPDATE_README=1 cargo test readme` writes what is generated anew.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{SERVERS, run};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// An option as a row of the table: name, default, meaning.
fn row(line: &str) -> Option<[String; 3]> {
    let option = line.trim_start().strip_prefix("--")?;
    let (name, rest) = option.split_once("  ")?;
    let (meaning, rest) = rest.split_once(" [env: ")?;
    let default =
        rest.split_once("[default: ").map_or("", |(_, rest)| rest.split(']').next().unwrap());
    Some([format!("`--{name}`"), default.to_owned(), meaning.trim().to_owned()])
}

fn options_of(server: &str) -> Vec<[String; 3]> {
    let help = String::from_utf8(run(server, &["-h"]).stdout).unwrap();
    help.lines().filter_map(row).collect()
}

/// The options of both servers, and below them those of one alone.
fn options_table() -> String {
    let [shared, reuseport] = SERVERS.map(options_of);
    let mut table = String::from("| option | default | meaning |\n|---|---|---|\n");
    for [name, default, meaning] in &shared {
        let whose = if reuseport.iter().any(|other| other[0] == *name) {
            ""
        } else {
            "shared-fd-server only: "
        };
        table += &format!("| {name} | {default} | {whose}{meaning} |\n");
    }
    for [name, default, meaning] in reuseport.iter().filter(|other| !shared.contains(other)) {
        table += &format!("| {name} | {default} | reuseport-server only: {meaning} |\n");
    }
    table
}

#[test]
fn the_table_of_options_is_the_servers_own_help() {
    let text = readme();
    let (start, end) = ("<!-- options, generated -->\n", "<!-- end of options -->");
    let (before, rest) = text.split_once(start).expect("the table has its marks");
    let (table, after) = rest.split_once(end).expect("the table has its marks");
    let wanted = options_table();
    assert_eq!(wanted.lines().count(), 2 + 23, "{wanted}");
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(root().join("README.md"), format!("{before}{start}{wanted}{end}{after}"))
            .unwrap();
    } else {
        assert_eq!(table, wanted, "run: UPDATE_README=1 cargo test readme");
    }
}

#[test]
fn every_make_target_it_names_exists_and_every_target_it_should_name_is_there() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let text = readme();
    let mut named = 0;
    for after in text.split("make ").skip(1) {
        let target: String =
            after.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        let in_code = makefile.contains(&format!("\n.PHONY: {target}\n{target}:"));
        // Prose may say "make" as well; a command stands in code.
        let is_command = text.contains(&format!("    make {target}"))
            || text.contains(&format!("`make {target}"));
        if is_command && !target.is_empty() {
            assert!(in_code, "the README says `make {target}`");
            named += 1;
        }
    }
    assert!(named >= 4);
    for target in ["bench-shared", "bench-reuseport", "cost", "test", "soak"] {
        assert!(text.contains(&format!("make {target}")), "{target} is not named");
    }
}

#[test]
fn every_file_it_links_to_exists() {
    let text = readme();
    let mut links = 0;
    for after in text.split("](").skip(1) {
        let target = after.split(')').next().unwrap();
        if !target.starts_with("http") && !target.starts_with('#') {
            let path = target.split('#').next().unwrap();
            assert!(root().join(path).exists(), "{target}");
            links += 1;
        }
    }
    assert!(links >= 8);
}

/// The line of a file, counted from 1, that has this code in it.
fn line_with(path: &str, code: &str) -> usize {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let line = text.lines().position(|line| line.contains(code) && !line.trim().starts_with("//"));
    1 + line.unwrap_or_else(|| panic!("{path} has no {code}"))
}

#[test]
fn every_link_to_a_line_leads_to_the_code_that_it_names() {
    let text = readme();
    // [`code`](path#Lnumber)
    let mut wanted = String::new();
    let mut links = 0;
    for (place, part) in text.split("](").enumerate() {
        if place == 0 {
            wanted += part;
            continue;
        }
        wanted += "](";
        let code = wanted.strip_suffix("`](").and_then(|before| before.rsplit('`').next());
        let (target, rest) = part.split_once(')').unwrap();
        match (code.map(str::to_owned), target.split_once("#L")) {
            (Some(code), Some((path, _))) => {
                wanted += &format!("{path}#L{})", line_with(path, &code));
                links += 1;
            }
            _ => wanted += &format!("{target})"),
        }
        wanted += rest;
    }
    assert!(links >= 6);
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(root().join("README.md"), wanted).unwrap();
    } else {
        assert!(text == wanted, "lines have moved: UPDATE_README=1 cargo test readme");
    }
}

/// The lesson: the rooms that are named so, both programs, and the two ways to start a worker. Comments
/// count, tests and blank lines do not.
#[test]
fn the_lesson_is_short() {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("common/src/lesson"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(files.len() >= 5, "{files:?}");
    let beside = [
        "common/src/parent/start.rs",
        "shared-fd-server/src/main.rs",
        "reuseport-server/src/main.rs",
    ];
    files.extend(beside.map(|file| root().join(file)));
    let lines = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        code.lines().filter(|line| !line.trim().is_empty()).count()
    };
    let lines: usize = files.iter().map(lines).sum();
    assert!(lines < 600, "{lines} lines to read");
}
