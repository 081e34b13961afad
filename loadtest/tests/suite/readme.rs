//! The README is read in one go: it is short, its lines fit, and so does the lesson that it leads to.

use std::fs;
use std::path::PathBuf;

use crate::documents::root;

#[test]
fn the_readme_is_short_and_its_lines_fit() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let lines = text.lines().count();
    assert!(lines <= 180, "{lines} lines");
    let too_long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 100).collect();
    assert!(too_long.is_empty(), "{too_long:#?}");
}

/// The lesson: the room that is named so, both programs, and the two ways to start a worker. All lines of
/// these files count.
#[test]
fn the_lesson_is_short() {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("common/src/lesson"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    assert!(files.len() >= 5, "{files:?}");
    let beside = [
        "common/src/parent/start.rs",
        "shared-fd-server/src/main.rs",
        "reuseport-server/src/main.rs",
    ];
    files.extend(beside.map(|file| root().join(file)));
    let lines = |file: &PathBuf| fs::read_to_string(file).unwrap().lines().count();
    let lines: usize = files.iter().map(lines).sum();
    assert!(lines < 600, "{lines} lines to read");
}
