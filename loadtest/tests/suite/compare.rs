//! `loadtest compare` with real wrk on the real servers, whatever happens meanwhile.

mod refused;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{assert_refused, children_of, program, run, runs, send, skip, wait_for};

/// As short as a comparison can be, with little load.
const SHORT: [&str; 6] = ["--rounds", "6", "--threads", "2", "--connections", "8"];

/// With latencies at fixed rates, or without them.
const AT_RATES: [&str; 2] = ["--fixed-rate", "200ms"];
const AT_NO_RATE: [&str; 2] = ["--fixed-rate", "0s"];

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn compare(servers: &[&str], options: &[&str], json: &Path) -> Output {
    let mut arguments = vec!["compare"];
    arguments.extend(servers.iter().chain(&SHORT).chain(options));
    arguments.extend(["--json", json.to_str().unwrap()]);
    run("loadtest", &arguments)
}

/// A comparison that runs while the test does something to it.
fn started(servers: &[&str], json: &Path) -> Child {
    let mut command = Command::new(program("loadtest"));
    command.arg("compare").args(servers).args(SHORT).args(AT_NO_RATE).arg("--json").arg(json);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap()
}

fn slices(record: &Value, subject: usize) -> &Vec<Value> {
    record["subjects"][subject]["slices"].as_array().unwrap()
}

/// The process of this name that a process has started.
fn child_named(parent: u32, name: &str) -> Option<u32> {
    let is_it = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|comm| comm.trim() == &name[..name.len().min(15)]) // TASK_COMM_LEN
    };
    children_of(parent).into_iter().find(is_it)
}

/// A text without its line breaks.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The file of samples beside a record.
fn samples_of(json: &Path) -> PathBuf {
    json.with_extension("samples.jsonl")
}

/// How many slices of a subject are saved beside the record, while the run goes on.
fn saved(json: &Path, subject: &str) -> usize {
    let samples = fs::read_to_string(samples_of(json)).unwrap_or_default();
    let slice = format!("{{\"key\":\"slice/{subject}/");
    samples.lines().filter(|line| line.starts_with(&slice)).count()
}

/// The fields of an object, sorted.
fn fields(value: &Value) -> String {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort();
    names.join(" ")
}

#[test]
fn every_slice_is_in_the_record_and_every_report_is_made_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (json, html) = (folder.path().join("compare.json"), folder.path().join("report.html"));
    let servers = ["shared", "two=reuseport --workers 2"];
    let options = ["--html", html.to_str().unwrap(), "--seed", "7"];
    let output = compare(&servers, &[&options[..], &AT_RATES].concat(), &json);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record = read(&json);

    assert_eq!(record["schema"], "loadtest-compare/2");
    assert_eq!(record["complete"], true);
    assert_eq!(
        fields(&record),
        "anomalies arguments complete environment fixed_rates pairs plan schema subjects warnings"
    );
    assert_eq!(
        fields(&record["plan"]),
        "baseline connections_asked connections_opened cost_excuse cost_unit fixed_rate_rounds \
         fixed_rate_seconds fixed_rate_shares fixed_rates judged keep_alive one_at_a_time paths \
         pinned rounds seed slice_seconds threads threshold"
    );
    assert_eq!(
        fields(&record["subjects"][0]),
        "at_rates closed_loop cost_limit failed keep_alive name path server slices summary warm_up \
         workers yardstick"
    );
    assert_eq!(
        fields(&record["subjects"][0]["slices"][0]),
        "at_seconds cost errors latencies own_cpu_seconds requests requests_per_second round seconds \
         server_cpu_seconds server_switches server_threads server_wait_seconds workers wrk_cpu_seconds wrk_wait_seconds"
    );
    assert_eq!(
        fields(&record["subjects"][0]["summary"]),
        "cost cost_per_request cpu_us_per_request errors latency_us limit requests \
         requests_per_second slices spread switches_per_request"
    );
    assert_eq!(fields(&record["pairs"][0]), "baseline other ratios result sentence");

    for (place, workers) in [(0, 4), (1, 2)] {
        let slices = slices(&record, place);
        let rounds: Vec<u64> = slices.iter().map(|s| s["round"].as_u64().unwrap()).collect();
        assert_eq!(rounds, [0, 1, 2, 3, 4, 5]);
        for slice in slices {
            let rows = slice["workers"].as_array().unwrap();
            assert_eq!(rows.len(), workers);
            let sum =
                |field: &str| rows.iter().map(|row| row[field].as_u64().unwrap()).sum::<u64>();
            let requests = slice["requests"].as_u64().unwrap();
            assert!((requests..=requests + 8).contains(&sum("requests")), "{slice}");
            // Each slice opens its own, and wrk one more to see whether the server is there.
            assert_eq!(sum("connections"), 9);
            let samples = slice["latencies"].as_array().unwrap().iter();
            assert!(samples.map(|pair| pair[1].as_u64().unwrap()).sum::<u64>() >= requests);
            for field in ["server_cpu_seconds", "wrk_cpu_seconds"] {
                assert!(slice[field].as_f64().unwrap() > 0.0, "{field} of {slice}");
            }
        }
    }
    // Both orders occur, and equally often.
    let began = |place: usize, round: usize| slices(&record, place)[round]["at_seconds"].as_f64();
    let first = (0..6).filter(|&round| began(0, round) < began(1, round)).count();
    assert_eq!(first, 3);
    assert_eq!(record["pairs"][0]["ratios"].as_array().unwrap().len(), 6);
    let best = record["subjects"].as_array().unwrap().iter();
    let best = best.map(|subject| subject["closed_loop"].as_f64().unwrap()).fold(0.0, f64::max);
    for (at, share) in record["fixed_rates"].as_array().unwrap().iter().zip([0.5, 0.8]) {
        assert_eq!(at["rate"].as_u64().unwrap(), (best * share) as u64);
        assert_eq!(fields(at), "pairs rate results share");
        assert_eq!(at["pairs"].as_array().unwrap().len(), 3, "p50, p99, p99.9");
        for result in at["results"].as_array().unwrap() {
            let slices = result["slices"].as_array().unwrap();
            assert_eq!(slices.len(), 6);
            // Poisson arrivals, the same for both: in a round as many were due.
            for (own, other) in slices.iter().zip(at["results"][0]["slices"].as_array().unwrap()) {
                assert_eq!(own["due"], other["due"]);
            }
        }
    }
    assert_eq!(record["fixed_rates"].as_array().unwrap().len(), 2);

    let sentence = record["pairs"][0]["sentence"].as_str().unwrap();
    assert!(flat(&shown).contains(sentence), "{sentence} is not in {shown}");
    assert!(shown.contains(html.to_str().unwrap()), "{shown}");
    assert!(shown.contains("Bottleneck"), "{shown}");

    // What was saved shows the same again, and makes the same page.
    let again = folder.path().join("again.html");
    let file = json.to_str().unwrap();
    let shown_again = run("loadtest", &["show", file, "--html", again.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&shown_again.stdout).replace("again.html", "report.html");
    assert_eq!(text, shown);
    assert_eq!(fs::read_to_string(&again).unwrap(), fs::read_to_string(&html).unwrap());
    let markdown = run("loadtest", &["show", file, "--markdown"]);
    let markdown = String::from_utf8_lossy(&markdown.stdout).into_owned();
    assert!(markdown.contains("| shared | two |"), "{markdown}");
}

#[test]
fn one_at_a_time_no_two_servers_are_ever_up() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("compare.json");
    let mut command = Command::new(program("loadtest"));
    command.args(["compare", "shared", "reuseport", "--one-at-a-time"]).args(SHORT);
    command.args(AT_NO_RATE); // each slice is preceded by a second of load
    command.arg("--json").arg(&json).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let names = ["shared-fd-server", "reuseport-server"];
    let mut seen = [false; 2];
    while child.try_wait().unwrap().is_none() {
        // They are looked for one after the other: both are up only if the first still is afterwards.
        let [first, second] = names.map(|name| child_named(child.id(), name));
        let both = first.filter(|_| second.is_some()).is_some_and(runs);
        assert!(!both, "{first:?} and {second:?} are up");
        seen = [seen[0] || first.is_some(), seen[1] || second.is_some()];
        std::thread::yield_now();
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(seen, [true; 2]);
    let shown = flat(&String::from_utf8_lossy(&output.stdout));
    assert!(shown.contains("started for its slice"), "{shown}");
    let record = read(&json);
    assert_eq!(record["plan"]["one_at_a_time"], true);
    for place in [0, 1] {
        assert_eq!(slices(&record, place).len(), 6);
        assert_eq!(record["subjects"][place]["warm_up"], Value::Null, "each slice has its own");
    }
}

#[test]
fn ctrl_c_reports_what_there_is_and_resume_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("compare.json");
    let servers = ["reuseport", "reuseport"];
    let child = started(&servers, &json);
    wait_for("two slices each", || {
        let both = ["reuseport #1", "reuseport #2"].map(|subject| saved(&json, subject));
        both.iter().all(|&count| count >= 2).then_some(())
    });
    let descendants = children_of(child.id());
    let workers: Vec<u32> = descendants.iter().flat_map(|&pid| children_of(pid)).collect();
    assert!(workers.len() >= 8);
    send(child.id(), Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    for pid in descendants.iter().chain(&workers) {
        wait_for("the end of what it had started", || (!runs(*pid)).then_some(()));
    }
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("reuseport #1") && shown.contains("requests/s, median"), "{shown}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--resume continues it"));
    let before = read(&json);
    assert_eq!(before["complete"], false);

    let output = compare(&servers, &["--resume", AT_NO_RATE[0], AT_NO_RATE[1]], &json);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let after = read(&json);
    assert_eq!(after["complete"], true);
    for place in 0..2 {
        let (before, after) = (slices(&before, place), slices(&after, place));
        assert_eq!(after.len(), 6);
        assert_eq!(after[..before.len()], before[..], "what was measured is kept");
    }

    // Other options are another run.
    let other =
        compare(&servers, &["--resume", AT_NO_RATE[0], AT_NO_RATE[1], "--seed", "2"], &json);
    assert_refused(&other, &["other servers or options", "--resume"], "another seed");
}

#[test]
fn with_two_of_three_servers_the_comparison_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("compare.json");
    let output = one_dies(&["shared", "reuseport", "other=shared --workers 2"], &json);
    assert_eq!(output.status.code(), Some(1));
    let record = read(&json);
    assert_eq!([0, 2].map(|subject| slices(&record, subject).len()), [6; 2]);
    assert!((1..6).contains(&slices(&record, 1).len()));
}

/// A comparison in which reuseport is killed once it and shared have a slice.
fn one_dies(servers: &[&str], json: &Path) -> Output {
    let child = started(servers, json);
    wait_for("a slice of each", || {
        let both = ["shared", "reuseport"].map(|subject| saved(json, subject));
        both.iter().all(|&count| count >= 1).then_some(())
    });
    let victim = child_named(child.id(), "reuseport-server").unwrap();
    send(victim, Signal::SIGKILL);
    child.wait_with_output().unwrap()
}

#[test]
fn with_one_of_two_servers_the_comparison_ends_and_what_was_measured_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("compare.json");
    let output = one_dies(&["shared", "reuseport"], &json);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.lines().last().unwrap().contains("reuseport was left out from then on"),
        "{stderr}"
    );
    let record = read(&json);
    assert_eq!(record["complete"], false);
    let [shared, died] = [0, 1].map(|subject| slices(&record, subject).len());
    assert!((1..5).contains(&died) && (died..=died + 2).contains(&shared), "{shared}, {died}");
    assert!(record["subjects"][1]["failed"].as_str().unwrap().contains("reuseport-server"));
    assert!(record["pairs"][0]["result"].is_null());
    assert!(String::from_utf8_lossy(&output.stdout).contains("requests/s, median"));
}

#[test]
fn a_mix_asks_for_all_its_paths_and_pinning_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (json, mix) = (folder.path().join("compare.json"), folder.path().join("mix"));
    fs::write(&mix, "3 /\n1 /nowhere\n").unwrap();
    let mut options = vec!["--mix", mix.to_str().unwrap(), "--close", AT_RATES[0], AT_RATES[1]];
    let cores = std::thread::available_parallelism().unwrap().get();
    if cores > 1 {
        options.push("--pin");
    } else {
        skip("there is one core only, so nothing can be pinned");
    }
    let output = compare(&["shared", "reuseport"], &options, &json);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record = read(&json);
    for place in 0..2 {
        let summary = &record["subjects"][place]["summary"];
        let part =
            summary["errors"]["status"].as_f64().unwrap() / summary["requests"].as_f64().unwrap();
        assert!((0.2..0.3).contains(&part), "{part} of the answers were 404");
    }
    for at in record["fixed_rates"].as_array().unwrap() {
        let results = at["results"].as_array().unwrap();
        let sum = |of: &str| results.iter().map(|it| it[of].as_f64().unwrap()).sum::<f64>();
        let part = sum("lost") / (sum("due") - sum("not_sent"));
        assert!((0.15..0.35).contains(&part), "{part} of the answers were 404");
    }
    assert_eq!(record["fixed_rates"].as_array().unwrap().len(), 2);
    let shown = flat(&String::from_utf8_lossy(&output.stdout));
    assert!(shown.contains("75.0 % /, 25.0 % /nowhere"), "{shown}");
    if cores > 1 {
        let pinned = &record["plan"]["pinned"];
        let sets = ["server", "wrk"].map(|who| pinned[who].as_array().unwrap().clone());
        assert!(sets[0].iter().all(|core| !sets[1].contains(core)), "{pinned}");
        assert!(shown.contains("pinned: the server to core"), "{shown}");
    }
}

#[test]
fn on_a_single_core_nothing_is_pinned() {
    if Command::new("taskset").arg("--version").output().is_err() {
        return skip("taskset is needed to take a core away");
    }
    let output = Command::new("taskset")
        .args(["--cpu-list", "0"])
        .arg(program("loadtest"))
        .args(["compare", "--pin"])
        .output()
        .unwrap();
    assert_refused(&output, &["--pin", "may use one only"], "a single core");
}

#[test]
fn a_disk_that_is_full_ends_the_run_and_loses_nothing_measured() {
    let folder = tempfile::tempdir().unwrap();
    // A file system of its own for the results, so small that only the first slices fit.
    let script = "mount -t tmpfs -o size=40k results \"$1\" && shift && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .arg(program("loadtest"))
        .args(["compare", "--rounds", "12", "--threads", "2", "--connections", "8"])
        .arg("--json")
        .arg(folder.path().join("compare.json"))
        .env("TMPDIR", std::env::temp_dir())
        .output();
    let output = match output {
        Ok(output)
            if !String::from_utf8_lossy(&output.stderr).contains("Operation not permitted") =>
        {
            output
        }
        _ => return skip("unshare and root are needed to make a small file system"),
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{stderr}");
    let last = stderr.lines().last().unwrap();
    assert!(last.contains("compare.samples.jsonl") && last.contains("No space left"), "{stderr}");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("requests/s, median"), "what was measured is shown: {shown}");
}
