//! `loadtest lab` as a whole: real experiments begun and cut off, and what its reports look like.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use procfs::process::Process;
use serde_json::{Value, json};

use crate::chromium::{chromium, open};
use crate::support::{
    assert_refused, children_of, program, run, runs, send, skip, wait_for, wait_up_to,
};

/// An experiment that makes an sample about every second.
const BEGUN: &str = "post";

/// Before it observes anything it starts every policy once, and each of its servers is warmed up.
const LONG: Duration = Duration::from_secs(90);

/// All experiments that `--list` must name, in the order of the book.
const ALL: [&str; 10] =
    ["post", "hash", "spread", "order", "tail", "stall", "crash", "reload", "twice", "flag"];

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A lab that runs while the test does something to it.
fn started(json: &Path, options: &[&str]) -> Child {
    let mut command = Command::new(program("loadtest"));
    command.args(["lab", BEGUN, "--quick", "--json"]).arg(json).args(options);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap()
}

/// The lines of the samples so far, less the one that says what they are of.
fn samples(json: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(json.with_extension("samples.jsonl")).ok()?;
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    Some(whole.skip(1).map(str::to_owned).collect())
}

/// Every process below this one.
fn descendants_of(pid: u32) -> Vec<u32> {
    let children = children_of(pid);
    let below: Vec<u32> = children.iter().flat_map(|&child| descendants_of(child)).collect();
    children.into_iter().chain(below).collect()
}

/// When a process began, in ticks since the machine did; nothing once it is gone.
fn begun_at(pid: u32) -> Option<u64> {
    Some(Process::new(pid as i32).ok()?.stat().ok()?.starttime)
}

/// Waits for so many samples, interrupts, and checks that nothing is left behind.
fn interrupted_after(count: usize, child: Child, json: &Path) -> Output {
    wait_up_to(LONG, "samples", || (samples(json)?.len() >= count).then_some(()));
    let below: Vec<(u32, Option<u64>)> =
        descendants_of(child.id()).into_iter().map(|pid| (pid, begun_at(pid))).collect();
    assert!(below.len() > 4, "servers with their workers: {below:?}");
    send(child.id(), Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    for (pid, begun) in below {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let what = format!("the end of what it had started: {pid} {}", line.replace('\0', " "));
        // Numbers of processes come round again; the times at which they began do not.
        wait_for(&what, || (!runs(pid) || begun_at(pid) != begun).then_some(()));
    }
    output
}

#[test]
fn the_list_names_every_experiment_with_its_question_even_in_60_columns() {
    let output = Command::new(program("loadtest"))
        .args(["lab", "--list"])
        .env("COLUMNS", "60")
        .output()
        .unwrap();
    assert!(output.status.success());
    let shown = String::from_utf8(output.stdout).unwrap();
    let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let names: Vec<String> = shown.lines().map(first).filter(|name| !name.is_empty()).collect();
    assert_eq!(names, ALL);
    assert!(shown.lines().all(|line| line.chars().count() <= 60), "{shown}");
    assert!(shown.contains("Why did own sockets"), "{shown}");
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (old, other, json) = (path("old.json"), path("other.json"), path("lab.json"));
    fs::write(&old, r#"{"schema":"loadtest-lab/0"}"#).unwrap();
    fs::write(&other, "a letter").unwrap();
    let cases: [(&[&str], &[&str]); 8] = [
        (&["pots", "--json", &json], &["'pots'", "'post'"]),
        (&["--json", "/proc/no/such"], &["--json /proc/no/such", "cannot write"]),
        (&["--json", &other], &["other.json", "not a result of lab"]),
        (&["--json", &old], &["loadtest-lab/0", "not loadtest-lab/3"]),
        (&["--json", &path("none"), "--resume"], &["none", "cannot read"]),
        (&["--json", &json, "--html", "/dev/null"], &["--html /dev/null", "not a file"]),
        (&["--json", &json, "--matrix", &other], &["other.json", "not a result of matrix"]),
        (&["--json", &json, "--publish", "."], &["--publish", "--bin publish -- --lab FILE ."]),
    ];
    for (arguments, words) in cases {
        let all: Vec<&str> = ["lab"].iter().chain(arguments).copied().collect();
        assert_refused(&run("loadtest", &all), words, arguments);
    }
    assert_eq!(fs::read_to_string(&other).unwrap(), "a letter");
    assert!(!Path::new(&json).exists());
    // Without wrk nothing is begun either.
    let output = Command::new(program("loadtest"))
        .args(["lab", BEGUN, "--json", &json])
        .env("PATH", folder.path())
        .output()
        .unwrap();
    assert_refused(&output, &["wrk"], "no wrk");
}

#[test]
fn ctrl_c_reports_and_saves_and_resume_goes_on_without_repeating() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("lab.json");
    let output = interrupted_after(2, started(&json, &[]), &json);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        shown.contains("The lab") && shown.contains("No experiment has been run yet"),
        "{shown}"
    );
    assert!(shown.contains(&format!("The result:   {}", json.display())), "{shown}");
    let samples_lie = json.with_extension("samples.jsonl");
    assert!(shown.contains(&format!("Every sample: {}", samples_lie.display())), "{shown}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--resume continues it"));

    let before = samples(&json).unwrap();
    interrupted_after(before.len() + 1, started(&json, &["--resume"]), &json);
    let after = samples(&json).unwrap();
    assert!(after.len() > before.len());
    for sample in &before {
        assert!(after.contains(sample), "what was sampled is kept: {sample}");
    }

    // Other options are another run.
    let json = json.to_str().unwrap();
    let other = run("loadtest", &["lab", BEGUN, "--resume", "--json", json]);
    assert_refused(&other, &["other servers or options", "--resume"], "the long form");
}

#[test]
fn a_disk_that_is_full_ends_the_run_in_a_line_and_keeps_what_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved.json");
    let results = folder.path().join("results");
    fs::create_dir(&results).unwrap();
    // A small file system of its own for the results, which goes with its name space; before that,
    // what is there at the end is copied.
    let script = "mount -t tmpfs -o size=1m results \"$1\" || exit 99; results=$1 saved=$2; \
                  shift 2; \"$@\" --json \"$results/lab.json\"; code=$?; \
                  cp \"$results/lab.samples.jsonl\" \"$saved\"; exit $code";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&results)
        .arg(saved.with_extension("samples.jsonl"));
    command.arg(program("loadtest")).args(["lab", BEGUN, "--quick"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn();
    let Ok(mut child) = child else { return skip("unshare is needed to make a small file system") };
    // The name space seen from outside.
    let within = PathBuf::from(format!("/proc/{}/root", child.id()));
    let within = within.join(results.strip_prefix("/").unwrap());
    let begun = wait_up_to(LONG, "two samples", || {
        if child.try_wait().unwrap().is_some() {
            return Some(false);
        }
        (samples(&within.join("lab.json"))?.len() >= 2).then_some(true)
    });
    if begun {
        assert!(fs::write(within.join("rubbish"), vec![0; 2 << 20]).is_err(), "it is full now");
    }
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !begun && (output.status.code() == Some(99) || stderr.contains("not permitted")) {
        return skip("root is needed to make a small file system");
    }
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap();
    assert!(last.contains("lab.json") && last.contains("No space left"), "{stderr}");
    assert!(samples(&saved).unwrap().len() >= 2, "{stderr}");
}

/// The published record with a chapter for each kind of picture, as experiments would save it.
fn record_with_every_picture(folder: &Path) -> PathBuf {
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.json");
    let mut record = read(&published);
    record["matrix"] = Value::Null; // it has tests of its own
    let long = "a name that is long enough to need more than a line on a phone";
    let points: Vec<Value> = (0..100).map(|n| json!([f64::from(n) / 10.0, 900 + n * 7])).collect();
    let axis = |name: &str, unit: &str| json!({"name": name, "unit": unit, "logarithmic": false});
    let pictures = [
        json!({"kind": "lines", "title": "A line", "x": axis("seconds", "mean"),
            "y": axis("answers/s", "per_second"),
            "series": [{"name": long, "points": points}],
            "spans": [[2.0, 4.0, "stopped"], [4.0, 9.0, "killed and replaced"]]}),
        json!({"kind": "bars", "title": "Bars", "unit": "microseconds",
            "reference": [7.5, "the post"],
            "bars": [{"name": long, "value": 9.25, "interval": [8.5, 11.0]},
                {"name": "b", "value": 3.0, "interval": null}]}),
        json!({"kind": "shares", "title": "Shares", "rows": [[long, [0.75, 0.25, 0.0, 0.0]],
            ["even", vec![1.0 / 64.0; 64]]]}),
        json!({"kind": "turns", "title": "Turns", "rows": [[long, vec![2, 1, 0, 2, 1, 0, 11, 12]],
            ["one", vec![0; 40]]]}),
    ];
    let page = record["chapters"][0]["page"].clone();
    for (number, picture) in pictures.into_iter().enumerate() {
        let chapter = json!({"name": format!("picture{number}"), "page": page,
            "status": {"state": "done"}, "seconds": 3.5, "findings": {"answer": "So it is.",
                "claims": [], "advice": "", "picture": picture, "tables": [], "evidence": [],
                "missing": []}});
        record["chapters"].as_array_mut().unwrap().push(chapter);
    }
    let path = folder.join("lab.json");
    fs::write(&path, record.to_string()).unwrap();
    path
}

#[test]
fn the_book_renders_without_a_complaint_loads_nothing_and_shows_the_figures_of_the_record() {
    let Some(chromium) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let json = record_with_every_picture(folder.path());
    let book = folder.path().join("lab.html");
    let output =
        run("loadtest", &["show", json.to_str().unwrap(), "--html", book.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record = read(&json);
    for (width, dark) in [(1200, false), (360, true)] {
        let opened = open(&chromium, &book, width, dark);
        opened.assert_well_behaved(dark);

        let page = scraper::Html::parse_document(&opened.dom);
        let selector = scraper::Selector::parse("[value], [data-value]").unwrap();
        let mut figures = 0;
        for element in page.select(&selector) {
            let value = element.attr("value").or(element.attr("data-value")).unwrap();
            let value: f64 = value.parse().unwrap();
            assert!(has_number(&record, value), "{value} is not in the record");
            figures += 1;
        }
        assert!(figures > 300, "{figures} figures");
    }
}

/// Whether a record has this number anywhere.
fn has_number(record: &Value, wanted: f64) -> bool {
    match record {
        Value::Number(number) => number.as_f64() == Some(wanted),
        Value::Array(values) => values.iter().any(|value| has_number(value, wanted)),
        Value::Object(fields) => fields.values().any(|value| has_number(value, wanted)),
        _ => false,
    }
}

#[test]
fn a_saved_lab_shows_the_same_again_in_60_columns_as_markdown_and_to_a_reader_who_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let json = record_with_every_picture(folder.path());
    let show = |options: &[&str], columns: &str| {
        let mut command = Command::new(program("loadtest"));
        command.arg("show").arg(&json).args(options).env("COLUMNS", columns);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for (columns, most) in [("60", 60), ("200", 100)] {
        let shown = show(&[], columns);
        let fits = |line: &&str| line.chars().count() <= most || line.contains("://");
        let too_long: Vec<&str> = shown.lines().filter(|line| !fits(line)).collect();
        let is_path = |line: &&str| line.starts_with("The result:");
        assert!(too_long.iter().all(is_path), "{too_long:?}");
        assert!(shown.contains("All claims"), "{shown}");
    }
    let markdown = show(&["--markdown"], "60");
    assert!(markdown.contains("## picture3\n") && markdown.contains("### The criterion"));

    let mut child = Command::new(program("loadtest"))
        .arg("show")
        .arg(&json)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take()); // as `| head -1` does, a little earlier
    assert!(child.wait().unwrap().success());
}
