//! The documents of records of all kinds.

use super::*;
use crate::kernel::procfs::ContextSwitches;
use crate::lab::record::tests::lab;
use crate::matrix::expectations::tests::matrix as example_matrix;
use crate::matrix::record::Missing;
use crate::measure::bench::tests::record as bench_record;
use crate::measure::fixture::environment;
use crate::measure::summary::tests::comparison;
use crate::probe::fault::FaultRecord;
use crate::probe::load::Load;
use crate::probe::outcome::Outcomes;
use crate::probe::record::{ProbeBody, ProbeRecord};
use crate::probe::timeline::Bucket;
use crate::report::model::Document;
use crate::report::{html, markdown, terminal};
use crate::server::telemetry::Role;
use crate::statistics::estimate::Estimate;

mod forms;

fn plain(document: &Document) -> String {
    let report = terminal::render(document, 100);
    anstream::adapter::strip_str(&report).to_string()
}

/// The row of a report with this beginning, without repeated blanks.
fn row(report: &str, begin: &str) -> String {
    let line = report.lines().find(|line| line.trim_start().starts_with(begin));
    squeezed(line.unwrap_or_else(|| panic!("no {begin} in {report}")))
}

/// A text without repeated blanks and line breaks.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Texts that are checked.
pub trait Text {
    /// Fails unless the text has all these words.
    fn must_have(&self, words: &[&str]);
}

impl Text for str {
    fn must_have(&self, words: &[&str]) {
        words.iter().for_each(|words| assert!(self.contains(words), "{words} is not in\n{self}"));
    }
}

fn fault(at_ms: u64, what: &str, asked: &str, lost: u64) -> FaultRecord {
    FaultRecord {
        at_ms,
        what: serde_json::from_value(what.into()).unwrap(),
        asked: asked.into(),
        pid: Some(4_194_303),
        only_process: false,
        lost,
        lost_within_ms: Some(12),
        rate_before: Some(123_456.7),
        rate_after: Some(400.0),
        full_strength_after_ms: None,
    }
}

fn probe_record(buckets: usize, faults: Vec<FaultRecord>) -> ProbeRecord {
    let bucket = |place| Bucket { at_ms: place as u64 * 100, ok: 12_345, lost: place as u64 };
    let body = ProbeBody {
        server: "reuseport".into(),
        load: Load {
            url: "http://127.0.0.1:12345/".into(),
            connections: 1_000_000,
            rate: Some(1_000_000),
            seconds: 10.0,
            timeout_ms: 2000,
            ..Load::default()
        },
        attempted: 12_345_678,
        outcomes: Outcomes { ok: 12_345_600, reset: 78, ..Outcomes::default() },
        not_sent: 5,
        ok_per_second: 1_234_560.0,
        answered_by_server: Some(12_345_610),
        latency_us: Some(bench_record(&[1]).result.latency_us.clone()),
        timeline: (0..buckets).map(bucket).collect(),
        faults,
        ..ProbeBody::default()
    };
    ProbeRecord::new(vec!["probe".into()], environment(), body)
}

#[test]
fn bench_has_a_row_for_each_worker_and_of_many_the_busiest_and_the_idlest() {
    let report = plain(&bench::document(&bench_record(&[100, 300])));
    assert!(report.contains("1000") && report.contains("1001"), "{report}");
    assert!(row(&report, "requests ").starts_with("requests 1.50"), "{report}");
    assert!(!report.contains("open on average"), "what cannot be known is left out: {report}");
    let many: Vec<u64> = (0..100).collect();
    let report = plain(&bench::document(&bench_record(&many)));
    assert!(report.contains("68 workers between the busiest and the idlest"), "{report}");
    let none = plain(&bench::document(&bench_record(&[])));
    assert!(none.contains("is not known"), "{none}");
}

#[test]
fn bench_says_how_long_each_worker_waited_for_a_core_where_the_kernel_tells() {
    let mut record = bench_record(&[100, 300]);
    record.workers[0].run_queue_wait_seconds = Some(4.56);
    record.workers[1].run_queue_wait_seconds = None;
    let document = bench::document(&record);
    let forms = [plain(&document), markdown::render(&document), html::render(&document, None)];
    for form in forms {
        assert!(form.contains("4.56"), "{form}");
    }
    let text = markdown::render(&document);
    assert!(text.contains("| waited s |") && text.contains("(run-queue wait)"), "{text}");
    record.workers[0].run_queue_wait_seconds = None;
    let unknown = plain(&bench::document(&record));
    assert!(!unknown.contains("run-queue"), "what cannot be known is left out: {unknown}");
}

#[test]
fn what_bench_says_of_each_worker_stands_side_by_side_in_100_columns() {
    let mut record = bench_record(&[123_456; 4]);
    for worker in &mut record.workers {
        (worker.pid, worker.socket_inode) = (98_765, Some(12_345_678));
        worker.context_switches = ContextSwitches { voluntary: 43_143, involuntary: 75_443 };
    }
    let report = plain(&bench::document(&record));
    let rows = report.lines().filter(|line| line.starts_with("0 ")).count();
    assert_eq!(rows, 1, "no column is left for a second table: {report}");
}

#[test]
fn bench_tells_a_process_that_accepts_from_the_workers() {
    let mut record = bench_record(&[10; 5]);
    record.workers[0].role = Role::Acceptor;
    (record.load.threads, record.load.connections_opened) = (1, 1);
    let report = plain(&bench::document(&record));
    assert!(report.contains("1 thread, 1 connection (100 asked for), "), "{report}");
    assert!(report.contains("4 workers and a process that accepts, http://"), "{report}");
}

#[test]
fn bench_quotes_the_posts_figure_for_its_two_strategies_only_and_a_policys_own_count() {
    let mut record = bench_record(&[100, 200]);
    let report = plain(&bench::document(&record));
    assert!(report.contains("34 492") && report.contains("MacBook Pro 2016"), "{report}");
    assert!(!report.contains("steered"), "{report}");
    record.server = "http://127.0.0.1/".into();
    record.workers[0].steered = Some(48);
    record.workers[1].steered = Some(49);
    let report = plain(&bench::document(&record));
    assert!(!report.contains("34 492"), "{report}");
    assert!(report.contains("steered") && report.contains("  48"), "{report}");
}

#[test]
fn results_side_by_side_have_their_ratio_and_what_is_not_known_stays_empty() {
    let (first, mut second) = (bench_record(&[100, 100]), bench_record(&[]));
    second.server = "http://10.0.0.1/".into();
    second.result.requests_per_second = Estimate::exact(10.0);
    let report = plain(&show::document(&[first, second]));
    assert_eq!(row(&report, "requests/s"), "requests/s 20 10");
    assert_eq!(row(&report, "of the first"), "of the first 1.000 0.500");
    assert_eq!(row(&report, "the post's"), "the post's 34 492 -");
    assert_eq!(row(&report, "server CPU per request"), "server CPU per request 15.0 ms -");
}

#[test]
fn where_the_client_was_late_a_sentence_or_each_latency_without_a_verdict_says_so() {
    let late_report = |is_late: fn(&str) -> bool| {
        let mut late = comparison(6, 1.0);
        let mut third = late.subjects[1].clone();
        third.name = "third".into();
        late.subjects.push(third);
        for at in &mut late.fixed_rates {
            let mut third = at.results[1].clone();
            third.subject = "third".into();
            at.results.push(third);
            for result in at.results.iter_mut().filter(|result| is_late(&result.subject)) {
                result.slices.iter_mut().for_each(|slice| slice.client_late = true);
            }
        }
        late.summarize();
        plain(&compare::document(&late))
    };
    let all = late_report(|_| true);
    assert!(all.contains("No verdict on latencies at this rate: the client was late"), "{all}");
    assert_eq!([1, 2, 90, 44_145].map(crate::documents::compare::half), [1, 1, 45, 22_000]);
    assert!(!all.contains("p50 third / shared") && !all.contains("too few rounds"), "{all}");
    let some = late_report(|name| name == "third");
    for figure in ["p50", "p99"] {
        let verdict = row(&some, &format!("{figure} third / shared"));
        assert!(verdict.contains("the client was late"), "{verdict} in {some}");
        let verdict = row(&some, &format!("{figure} reuseport / shared"));
        assert!(verdict.contains("no difference"), "{verdict} in {some}");
    }
}

#[test]
fn a_comparison_says_its_verdict_first_and_what_is_missing_and_why() {
    let report = plain(&compare::document(&comparison(40, 1.1)));
    let verdict = report.find("reuseport is faster than shared").unwrap();
    assert!(verdict < report.find("requests/s, median").unwrap());
    assert!(!report.contains("not complete"), "{report}");

    let mut lacking = comparison(40, 1.1);
    lacking.complete = false;
    lacking.subjects[1].slices.clear();
    lacking.subjects[1].failed = Some("ended by signal 11".into());
    lacking.summarize();
    let report = plain(&compare::document(&lacking));
    report.must_have(&[
        "This run is not complete. Slices done, of 40 for each server: shared 40, reuseport none.",
        "reuseport failed: ended by signal 11. Slices kept: none.",
    ]);
    assert_eq!(row(&report, "slices"), "slices 40", "one without slices has no column");
}

#[test]
fn the_posts_ratio_stands_beside_a_plain_shared_server_only() {
    let mut comparison = comparison(12, 0.9);
    assert!(html::render(&compare::document(&comparison), None).contains("0.648"));
    comparison.subjects[0].server = "shared --workers 8".into();
    assert!(!html::render(&compare::document(&comparison), None).contains("0.648"));
}

#[test]
fn a_late_client_is_marked_and_multiples_of_the_ideal_stand_beside_latencies() {
    let mut comparison = comparison(6, 1.0);
    comparison.fixed_rates[1].results[0].slices[0].client_late = true;
    for slice in &mut comparison.fixed_rates[1].results[0].slices {
        slice.ideal_us = Some([400, 1000]);
    }
    comparison.summarize();
    let report = markdown::render(&compare::document(&comparison));
    assert!(report.contains("p99, times the ideal"), "{report}");
    assert!(report.contains("| 1? | "), "{report}");
}

#[test]
fn a_probe_shows_every_outcome_and_faults_at_their_second_and_in_a_row_each() {
    let faults = vec![
        fault(2000, "stop-worker", "stop-worker@2s", 0),
        fault(2900, "kill-worker", "kill-worker@2900ms", 32),
    ];
    let report = plain(&probe::document(&probe_record(50, faults)));
    let of_all = ["12 345 600", "timed out in connect", "due and not sent", "p99.9", "12 345 610"];
    report.must_have(&of_all);
    assert!(report.contains("2.0 stop-worker, 2.9 kill-worker"), "{report}");
    let row = row(&report, "2.9 s kill-worker");
    row.must_have(&["4194303", "32", "12.0 ms", "123 457", "400", "not reached"]);
    let mut at_once = fault(1000, "drain", "term@1s", 0);
    at_once.full_strength_after_ms = Some(0);
    let mut record = probe_record(50, vec![at_once]);
    record.server = record.load.url.clone();
    let report = plain(&probe::document(&record));
    assert!(report.contains("drain") && report.contains("within 100 ms"), "{report}");
    assert!(report.contains(&format!("{}, a new connection", record.load.url)), "{report}");
}

#[test]
fn a_repeated_fault_takes_one_row_and_a_long_run_gets_longer_cells() {
    let faults = (1..=3).map(|n| fault(n * 100, "reload", "reload@100ms*3/100ms", n)).collect();
    let report = squeezed(&plain(&probe::document(&probe_record(6000, faults))));
    report.must_have(&[
        "s reload x3 ",
        "reload x3: lost 2.00 each on average (1 to 3)",
        "10.0 s in each line; a cell is 1000 ms",
    ]);
}

#[test]
fn the_matrix_names_workloads_marks_what_is_not_good_and_who_took_no_part() {
    let mut matrix = example_matrix();
    let (policy, reason) = ("reuseport/least-conn".into(), "CAP_BPF".into());
    matrix.missing.push(Missing { policy, reason });
    let text = markdown::render(&matrix::document(&matrix));
    assert!(text.contains("|  | post requests/s | keep requests/s |"), "{text}");
    assert!(text.contains("reuseport/least-conn is left out: CAP\\_BPF"), "{text}");
    assert!(text.contains("| **met** |"), "{text}");
}

#[test]
fn a_chapter_says_what_is_claimed_what_was_found_and_how_to_repeat_it() {
    let report = squeezed(&plain(&lab::chapter(&lab().body.chapters[0], true)));
    report.must_have(&[
        "post What is post? It is not the hash: 0.95 of a shared socket.",
        "not decidable",
        "0.950 (0.930 to 0.970)",
        "What the kernel saw",
        "What to do: Use least-conn.",
        "Missing: reuseport/least-conn took no part: CAP_BPF",
        "target/release/loadtest lab post --quick # took 4s",
    ]);
    assert!(!report.contains("The criterion"), "its page is in the book");
}

#[test]
fn what_was_not_done_says_why_in_its_chapter_and_at_the_end() {
    for text in [plain(&lab::summary(&lab())), markdown::render(&results::results(&lab()))] {
        text.must_have(&["failed: no such worker", "failed: needs root"]);
    }
    let mut nothing = lab();
    nothing.chapters.clear();
    assert!(plain(&lab::summary(&nothing)).contains("No experiment has been run yet"));
}

#[test]
fn the_book_has_the_pages_and_the_results_link_to_them() {
    let [book, results] =
        [lab::book(&lab()), results::results(&lab())].map(|d| markdown::render(&d));
    assert!(book.contains("### The criterion\n\nOf The criterion.\n"), "{book}");
    assert!(!results.contains("### The criterion"));
    assert!(results.contains("[stall.md](src/lab/chapters/stall.md)"), "{results}");
    for text in [book, results] {
        let words = ["a debug build", "## post\n\n**What is post?**", "(--quick)", "took 4s"];
        text.must_have(&words);
    }
}

#[test]
fn the_readmes_answer_fits_and_says_what_was_not_measured() {
    let text = readme::answer(&lab());
    assert!(text.starts_with("- **What is post?** It is not the hash"), "{text}");
    text.must_have(&["**When a shared socket loses.**", "Cost: ", "CAP_BPF", "short form"]);
    let too_long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 100).collect();
    assert!(too_long.is_empty(), "{too_long:?}");
    let mut nothing = lab();
    nothing.chapters.clear();
    nothing.matrix = None;
    assert_eq!(readme::answer(&nothing).matches("not measured yet").count(), 2);
    assert!(readme::advice(&nothing).contains("not measured yet"));
}

#[test]
fn the_answer_explains_the_post_only_if_its_experiment_came_out_that_way() {
    use crate::lab::criterion::Verdict;
    let mut explained = lab();
    for (claim, verdict) in explained.chapters[0].findings.claims.iter_mut().zip([
        Verdict::NotReproduced,
        Verdict::NotReproduced,
        Verdict::Reproduced,
    ]) {
        claim.verdict = verdict;
    }
    let text = readme::answer(&explained);
    assert!(text.starts_with("- **Why the post saw 0.648.** The post ran on macOS"), "{text}");
    explained.chapters[0].findings.claims[0].verdict = Verdict::Reproduced;
    assert!(readme::answer(&explained).starts_with("- **What is post?**"));
}

#[test]
fn the_advice_has_a_row_for_each_of_eight_situations_with_its_figures() {
    let text = readme::advice(&lab());
    let rows: Vec<&str> = text.lines().skip(2).take_while(|line| !line.is_empty()).collect();
    assert_eq!(rows.len(), 8, "{text}");
    let gunicorn =
        "| gunicorn `sync`, `gthread`: p99/ideal | the default: ?, ? | `--reuse-port`: ?, ? |";
    assert!(text.contains(gunicorn), "{text}");
    assert!(rows.iter().all(|row| row.matches(" | ").count() == 4), "{text}");
    let figures = "| `least-conn` | 0.99 | ? | `hash` 0.40, p99 ? |";
    assert!(rows[2].ends_with(figures), "{}", rows[2]);
}

#[test]
fn the_results_have_the_cases_with_the_figures_of_the_matrix() {
    let text = cases::cases(&example_matrix());
    text.must_have(&[
        "whose worst result is 0.40 (*mixed close*)",
        "a shared socket: 0.02 to 1.02 of the rate before, one of four stopped; own `least-conn` 1.02",
        "loses 3.0 to 32.0 requests",
    ]);
    let table = text.lines().filter(|line| line.starts_with('|'));
    assert!(table.map(|row| row.matches(" | ").count()).skip(2).all(|cells| cells == 3));
    let svg = readme::picture(&example_matrix());
    for policy in &example_matrix().policies {
        assert!(svg.contains(policy.split_once('/').unwrap().1), "{policy}");
    }
    let results = markdown::render(&results::results(&lab()));
    results.must_have(&[
        "run 1 of the matrix: ",
        "## Which policy in which case\n\n`shared/least-conn` is good in ",
        "**refuted**",
    ]);
}
