//! What all documents of this repository say is true: their links, their references to lines of code,
//! and that every option, command and make target is documented in one of them.
//!
//! `UPDATE_README=1 cargo test -p loadtest --test suite -- documents::` writes what is generated anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::support::{SERVERS, run};

/// The folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The Markdown files of the repository but for the experiments' pages, which are of the code.
fn documents() -> Vec<PathBuf> {
    let is_hidden = |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with('.');
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir()
                && !is_hidden(&path)
                && !path.ends_with("target")
                && !path.ends_with("src")
            {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() >= 6, "{found:?}");
    found
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All documents in one text.
fn everything() -> String {
    documents().iter().map(|path| text_of(path)).collect()
}

fn events(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

/// Where a document's links and pictures lead to.
fn targets(text: &str) -> Vec<String> {
    let target = |event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url),
        _ => None,
    };
    events(text).filter_map(target).map(|url| url.to_string()).collect()
}

/// The names by which headings can be linked to, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let (mut all, mut heading): (Vec<String>, Option<String>) = (Vec::new(), None);
    for event in events(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                heading.iter_mut().for_each(|heading| heading.push_str(&text));
            }
            Event::End(TagEnd::Heading(_)) => {
                let heading = heading.take().unwrap_or_default().to_lowercase();
                let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                let anchor = kept.collect::<String>().replace(' ', "-");
                let same = all.iter().filter(|other| **other == anchor).count();
                all.push(if same == 0 { anchor } else { format!("{anchor}-{same}") });
            }
            _ => {}
        }
    }
    all
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_that_exist() {
    let mut links = 0;
    for document in documents() {
        let text = text_of(&document);
        for target in targets(&text).iter().filter(|target| !target.contains("://")) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match path.is_empty() {
                true => document.clone(),
                false => document.parent().unwrap().join(path),
            };
            let place = format!("{} links to {target}", document.display());
            assert!(file.exists(), "{place}, which is not there");
            let is_line =
                anchor.strip_prefix('L').is_some_and(|number| number.parse::<u32>().is_ok());
            if !anchor.is_empty() && !is_line {
                let anchors = anchors(&text_of(&file));
                assert!(
                    anchors.iter().any(|one| one == anchor),
                    "{place}, and there are {anchors:?}"
                );
            }
            links += 1;
        }
        let undefined = text.lines().filter(|line| !line.starts_with('[') && line.contains("]["));
        for line in undefined {
            for name in line.split("][").skip(1).filter_map(|rest| rest.split(']').next()) {
                assert!(
                    text.contains(&format!("\n[{name}]: ")),
                    "{}: [{name}]",
                    document.display()
                );
            }
        }
    }
    assert!(links >= 60, "{links}");
}

/// The line of a file, counted from 1, that has this code in it.
fn line_with(path: &Path, code: &str) -> usize {
    let text = text_of(path);
    let line = text.lines().position(|line| line.contains(code) && !line.trim().starts_with("//"));
    1 + line.unwrap_or_else(|| panic!("{} has no {code}", path.display()))
}

/// The text with every reference [`code`](path#Lnumber) to the line that has the code, and how many
/// there are.
fn with_lines(folder: &Path, text: &str) -> (String, usize) {
    let (mut wanted, mut references) = (String::new(), 0);
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
                wanted += &format!("{path}#L{})", line_with(&folder.join(path), &code));
                references += 1;
            }
            (None, Some((path, line))) if line.parse::<u32>().is_ok() => {
                panic!("the link to line {line} of {path} does not name the code that is there")
            }
            _ => wanted += &format!("{target})"),
        }
        wanted += rest;
    }
    (wanted, references)
}

/// Compares a document with what it must be or, where that is asked for, writes it.
fn assert_or_update(document: &Path, wanted: &str) {
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(document, wanted).unwrap();
    } else {
        assert!(
            text_of(document) == wanted,
            "{} is out of date: UPDATE_README=1 cargo test -p loadtest --test suite -- documents::",
            document.display()
        );
    }
}

#[test]
fn every_link_to_a_line_leads_to_the_code_that_it_names() {
    let mut all = 0;
    for document in documents() {
        let (wanted, references) = with_lines(document.parent().unwrap(), &text_of(&document));
        assert_or_update(&document, &wanted);
        all += references;
    }
    assert!(all >= 15, "{all}");
}

/// An option as a program's help has it.
#[derive(Clone, PartialEq)]
struct HelpLine {
    name: String,
    default: String,
    meaning: String,
}

impl HelpLine {
    fn of(line: &str) -> Option<Self> {
        let line = line.trim_start();
        let line = line.split_once(", --").map_or(line, |(_, rest)| rest);
        let option = line.strip_prefix("--").unwrap_or(line);
        let (name, rest) =
            option.split_once("  ").filter(|_| option != line || line.contains('<'))?;
        let (meaning, _) = rest.split_once(" [env: ").unwrap_or((rest, ""));
        let meaning =
            meaning.split(" [default: ").next().unwrap().split(" [possible").next().unwrap();
        let default =
            rest.split_once("[default: ").map_or("", |(_, rest)| rest.split(']').next().unwrap());
        let (default, meaning) = (default.to_owned(), meaning.trim().to_owned());
        Some(Self { name: format!("`--{name}`"), default, meaning }).filter(|line| {
            !line.name.starts_with("`--help") && !line.name.starts_with("`--version")
        })
    }
}

fn options_of(program: &str, command: &[&str]) -> Vec<HelpLine> {
    let help = String::from_utf8(run(program, &[command, &["-h"]].concat()).stdout).unwrap();
    let options = help.split("\nOptions:\n").nth(1).unwrap_or_default();
    options
        .lines()
        .filter(|line| line.trim_start().starts_with('-'))
        .filter_map(HelpLine::of)
        .collect()
}

/// The options of both servers, and below them those of one alone.
fn options_table() -> String {
    let [shared, reuseport] = SERVERS.map(|server| options_of(server, &[]));
    let mut table = String::from("| option | default | meaning |\n|---|---|---|\n");
    let mut row = |whose: &str, option: &HelpLine| {
        let HelpLine { name, default, meaning } = option;
        table += &format!("| {name} | {default} | {whose}{meaning} |\n");
    };
    for option in &shared {
        let both = reuseport.iter().any(|other| other.name == option.name);
        row(if both { "" } else { "shared-fd-server only: " }, option);
    }
    for option in reuseport.iter().filter(|other| !shared.contains(other)) {
        row("reuseport-server only: ", option);
    }
    table
}

/// The commands of loadtest.
fn commands() -> Vec<String> {
    let help = String::from_utf8(run("loadtest", &["--help"]).stdout).unwrap();
    let commands = help.split("\nCommands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Every option of loadtest: the same one of several commands once, with all of them.
fn commands_table() -> String {
    let mut rows: Vec<(HelpLine, Vec<String>)> = Vec::new();
    for command in commands() {
        for option in options_of("loadtest", &[&command]) {
            match rows.iter_mut().find(|(known, _)| *known == option) {
                Some((_, commands)) => commands.push(command.clone()),
                None => rows.push((option, vec![command.clone()])),
            }
        }
    }
    let row = |(HelpLine { name, default, meaning }, commands): (HelpLine, Vec<String>)| {
        format!("| {name} | {} | {default} | {meaning} |\n", commands.join(", "))
    };
    let head = String::from("| option | of | default | meaning |\n|---|---|---|---|\n");
    head + &rows.into_iter().map(row).collect::<String>()
}

/// Compares the generated part of a document with what it must be, or writes it.
fn assert_part(document: &str, part: &str, wanted: &str) {
    let document = root().join(document);
    let text = text_of(&document);
    let (start, end) = (format!("<!-- {part}, generated -->\n"), format!("<!-- end of {part} -->"));
    let (before, rest) = text.split_once(&start).expect("the part has its marks");
    let (_, after) = rest.split_once(&end).expect("the part has its marks");
    // Blank lines: a table is not Markdown otherwise.
    assert_or_update(&document, &format!("{before}{start}\n{wanted}\n{end}{after}"));
}

#[test]
fn every_option_of_the_servers_is_documented_as_their_help_has_it() {
    let table = options_table();
    assert!(table.lines().count() >= 2 + 23, "{table}");
    assert_part("common/docs/running.md", "options", &table);
}

#[test]
fn every_command_of_loadtest_and_every_option_is_documented_as_its_help_has_it() {
    let table = commands_table();
    assert!(table.lines().count() >= 2 + 40, "{table}");
    assert_part("loadtest/docs/measuring.md", "commands", &table);
    let all = everything();
    for command in commands() {
        assert!(
            all.contains(&format!("`loadtest {command}")),
            "loadtest {command} has no document"
        );
    }
}

/// The targets that `make` itself lists.
fn make_targets() -> BTreeMap<String, bool> {
    let makefile = text_of(&root().join("Makefile"));
    let target = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let is_name = !name.is_empty()
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit());
        is_name.then(|| (name.to_owned(), rest.contains("## ")))
    };
    makefile.lines().filter_map(target).collect()
}

#[test]
fn every_make_target_is_documented_and_every_one_that_is_named_exists() {
    let (targets, all) = (make_targets(), everything());
    let mut named = Vec::new();
    // Prose may say "make" as well; a command stands in code.
    for begin in ["\n    make ", "`make ", "\n$ make "] {
        for after in all.split(begin).skip(1) {
            let target: String = after
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '-' || c.is_ascii_digit())
                .collect();
            if !target.is_empty() {
                assert!(targets.contains_key(&target), "a document says `make {target}`");
                named.push(target);
            }
        }
    }
    let is_public = |(_, is_listed): &(&String, &bool)| **is_listed;
    for (target, _) in targets.iter().filter(is_public) {
        let well_known = ["help", "clean"].contains(&&**target);
        assert!(well_known || named.contains(target), "make {target} is in no document");
    }
}

#[test]
fn headings_are_linked_to_as_github_names_them() {
    let text = "# A `b` c, d: e?\n\n## Same\n\n## Same\n";
    assert_eq!(anchors(text), ["a-b-c-d-e", "same", "same-1"]);
}

#[test]
fn a_reference_to_a_line_follows_the_code() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.rs"), "// go()\nfn main() {\n    go();\n}\n").unwrap();
    let text = "[`go()`](a.rs#L9) and [b](b.rs)";
    assert_eq!(with_lines(folder.path(), text), ("[`go()`](a.rs#L3) and [b](b.rs)".into(), 1));
}
