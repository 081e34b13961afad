//! No circles: of two files of this library, one at most needs the other, in however many steps.
//!
//! A file needs what it imports (`use crate::`, `use super::`) and what it names (`crate::`). What a `mod.rs`
//! declares or re-exports it does not import.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The files below a folder that are Rust.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// A file's place in the tree of modules: `parent/step.rs` is `parent::step`, and `http/mod.rs` is `http`.
fn module(root: &Path, file: &Path) -> Vec<String> {
    let path = file.strip_prefix(root).unwrap().with_extension("");
    let mut parts: Vec<String> =
        path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// All paths that a `use` names: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(tree: &str) -> Vec<String> {
    let Some((before, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inner = &rest[..rest.rfind('}').unwrap()];
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for character in inner.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(character);
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts
        .flat_map(|part| paths(part.trim()))
        .map(|part| format!("{}{part}", before.trim()))
        .collect()
}

/// Which modules each module imports.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let modules: BTreeSet<String> =
        files.iter().map(|file| module(&root, file).join("::")).collect();
    let mut all = BTreeMap::new();
    for file in &files {
        let own = module(&root, file);
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let mut needs = BTreeSet::new();
        let statements = code.split("\nuse ").skip(1).map(|it| it.split(';').next().unwrap());
        let lines = code.lines().filter(|line| !line.trim().starts_with("//"));
        let named = lines.flat_map(|line| line.split("crate::").skip(1)).map(|rest| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            format!("crate::{}", rest.chars().take_while(|&c| is_part(c)).collect::<String>())
        });
        for path in statements.flat_map(paths).chain(named) {
            let full = if let Some(path) = path.strip_prefix("crate::") {
                path.to_owned()
            } else if let Some(path) = path.strip_prefix("super::") {
                let parent = &own[..own.len().saturating_sub(1)];
                [parent, &[path.to_owned()]].concat().join("::")
            } else {
                continue;
            };
            // The longest beginning that is a module.
            let mut parts: Vec<&str> = full.split("::").collect();
            while !parts.is_empty() && !modules.contains(&parts.join("::")) {
                parts.pop();
            }
            let needed = parts.join("::");
            if !needed.is_empty() && needed != own.join("::") {
                needs.insert(needed);
            }
        }
        all.insert(own.join("::"), needs);
    }
    all
}

/// All that a module needs, in however many steps.
fn reached<'a>(
    imports: &'a BTreeMap<String, BTreeSet<String>>,
    from: &str,
) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = imports[from].iter().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(&imports[module]);
        }
    }
    reached
}

#[test]
fn no_file_needs_itself_by_way_of_others() {
    let imports = imports();
    assert!(imports["lesson::worker"].contains("lesson::counters"), "{imports:?}");
    assert!(imports["parent::step"].contains("parent::state"), "{imports:?}");
    let circles: Vec<&String> =
        imports.keys().filter(|it| reached(&imports, it).contains(it)).collect();
    assert!(circles.is_empty(), "in a circle: {circles:?}");
}

/// The rooms stand one above the other.
#[test]
fn no_two_rooms_need_each_other() {
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let room = |module: &str| module.split("::").next().unwrap().to_owned();
    for (module, needs) in imports() {
        let own = room(&module);
        let needs = needs.iter().map(|it| room(it)).filter(|it| *it != own);
        rooms.entry(own.clone()).or_default().extend(needs);
    }
    println!("{rooms:#?}");
    let needs_itself = |it: &&String| reached(&rooms, it).contains(it);
    let circles: Vec<&String> = rooms.keys().filter(needs_itself).collect();
    assert!(circles.is_empty(), "in a circle: {circles:?}");
}
