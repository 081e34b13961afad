//! The lab's reports.
//!
//! - here: on a terminal, in as many columns as there are, 100 at most;
//! - [`grid`]: its tables there, and how a figure is written;
//! - [`markdown`]: the same as Markdown, and as `RESULTS.md`;
//! - [`answer`]: the part of the README that is made of it;
//! - [`cases`]: what the README says of each case, made of the matrix;
//! - [`heat`]: the README's picture.

pub mod answer;
pub mod cases;
pub mod grid;
pub mod heat;
pub mod markdown;

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use anyhow::Result;

use crate::lab::book::Experiment;
use crate::lab::chapter::{Chapter, Claim, Status, Verdict};
use crate::lab::record::Lab;
use crate::report::table::{Left, table, text};
use crate::report::terminal::{BOLD, machine};
use crate::report::wrap::{cell, hanging, lines};

/// What is true of every figure of a short run.
pub const ABOUT_QUICK: &str = "This is the short form (--quick): fewer rounds, wider intervals, \
                               and more that cannot be decided.";

/// What stands above the kernel's view.
pub const THE_KERNEL: &str = "What the kernel saw";

/// What is true of every interval.
pub const ABOUT_INTERVALS: &str = "In brackets: 95 % intervals.";

/// What there is to run.
///
/// # Errors
/// When an experiment has no page.
pub fn list(book: &[Experiment], width: usize) -> Result<String> {
    let takes = |experiment: &Experiment, quick| duration(experiment.expected(quick));
    let mut rows = Vec::new();
    for experiment in book {
        let question = lines(&experiment.page()?.question, width.saturating_sub(34)).join("\n");
        let [long, quick] = [false, true].map(|quick| takes(experiment, quick));
        rows.push([experiment.name.to_owned(), long, quick, question]);
    }
    let columns = [("name", Left), ("takes", Left), ("--quick", Left), ("the question", Left)];
    let mut table = table(2, &columns);
    table.add_rows(rows);
    Ok(text(&table))
}

/// A time in words, to the second.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0 => "less than 1s".into(),
        _ => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    }
}

/// What is about to be done, and where.
pub fn header(lab: &Lab, experiments: usize, expected: Duration, width: usize) -> String {
    let line = format!("{BOLD}The lab{BOLD:#}, {}", machine(&lab.environment));
    let mut report = hanging("", &line, width);
    if experiments > 0 {
        let noun = if experiments == 1 { "experiment" } else { "experiments" };
        report += &format!("{experiments} {noun}, about {}\n", duration(expected));
    }
    if lab.quick {
        report += &hanging("", ABOUT_QUICK, width);
    }
    report
}

/// One experiment.
pub fn chapter(chapter: &Chapter, quick: bool, width: usize) -> String {
    let title = format!("{BOLD}{}: {}{BOLD:#}", chapter.name, chapter.page.question);
    let mut report = format!("\n{}", hanging("", &title, width));
    if let Some(sentence) = shortcoming(&chapter.outcome) {
        report += &hanging("  ", &sentence, width);
    }
    let findings = &chapter.findings;
    if !findings.answer.is_empty() {
        report += &hanging("  ", &findings.answer, width);
    }
    for claim in &findings.claims {
        report += &format!("\n{}", one(claim, width));
    }
    for table in &findings.tables {
        report += &format!("\n{}", grid::grid(table, width));
    }
    for (number, table) in findings.evidence.iter().enumerate() {
        report += "\n";
        if number == 0 && table.title != THE_KERNEL {
            report += &format!("{BOLD}{THE_KERNEL}{BOLD:#}\n");
        }
        report += &grid::grid(table, width);
    }
    if !findings.advice.is_empty() {
        report += &format!("\n{}", hanging("What to do  ", &findings.advice, width));
    }
    for missing in &findings.missing {
        report += &hanging("Missing     ", missing, width);
    }
    report + &hanging("Again       ", &again(chapter, quick), width)
}

/// How to repeat it, and how long that took.
fn again(chapter: &Chapter, quick: bool) -> String {
    let took = duration(Duration::from_secs_f64(chapter.seconds.max(0.0)));
    match chapter.outcome {
        Status::Done => format!("{} (took {took})", command(&chapter.name, quick)),
        _ => command(&chapter.name, quick),
    }
}

/// The command that repeats an experiment.
pub fn command(name: &str, quick: bool) -> String {
    format!("loadtest lab {name}{}", if quick { " --quick" } else { "" })
}

/// Why there is no answer, if there is none.
pub fn shortcoming(outcome: &Status) -> Option<String> {
    match outcome {
        Status::Done => None,
        Status::Skipped(reason) => Some(format!("skipped: {reason}")),
        Status::Failed(reason) => Some(format!("failed: {reason}")),
    }
}

fn one(claim: &Claim, width: usize) -> String {
    let style = style(&claim.verdict);
    let source = match &claim.url {
        Some(url) => format!("{}, {url}", claim.source),
        None => claim.source.clone(),
    };
    let verdict = format!("{style}{}{style:#}", claim.verdict.words());
    [
        ("  Claim     ", &claim.claim),
        ("  by        ", &source),
        ("  theirs    ", &claim.theirs),
        ("  here      ", &claim.ours),
        ("  holds if  ", &claim.limit),
        ("  verdict   ", &verdict),
    ]
    .map(|(name, text)| hanging(name, text, width))
    .concat()
}

fn style(verdict: &Verdict) -> Style {
    let colour = match verdict {
        Verdict::Reproduced => AnsiColor::Green,
        Verdict::NotReproduced => AnsiColor::Red,
        Verdict::NotDecidable(_) => AnsiColor::Yellow,
    };
    colour.on_default().bold()
}

/// Every claim with its chapter.
pub fn claims(lab: &Lab) -> impl Iterator<Item = (&Chapter, &Claim)> {
    lab.chapters
        .iter()
        .flat_map(|chapter| chapter.findings.claims.iter().map(move |claim| (chapter, claim)))
}

/// Every claim in one table, or below each other where that would be too broad, and what is
/// missing.
pub fn summary(lab: &Lab, width: usize) -> String {
    if lab.chapters.is_empty() {
        return "\nThere is no chapter yet.\n".into();
    }
    let mut report = String::new();
    if claims(lab).next().is_some() {
        report += &format!("\n{BOLD}All claims{BOLD:#}\n");
        report += &all_claims(lab, width);
        report += &hanging("", ABOUT_INTERVALS, width);
    }
    for chapter in &lab.chapters {
        if let Some(sentence) = shortcoming(&chapter.outcome) {
            report += &hanging("", &format!("{}: {sentence}", chapter.name), width);
        }
    }
    report
}

fn all_claims(lab: &Lab, width: usize) -> String {
    // What is left for words when names, blanks between columns and the verdict have their room.
    let rest = width.saturating_sub(8 + 15 + 10);
    if rest < 56 {
        let each = claims(lab).map(|(chapter, claim)| {
            let style = style(&claim.verdict);
            let line = format!("{style}{}{style:#}: {}", claim.verdict.words(), claim.claim);
            hanging(&format!("{:<8}", chapter.name), &line, width)
        });
        return each.collect();
    }
    let room = [rest * 31 / 100, rest * 20 / 100, rest * 23 / 100, rest * 26 / 100];
    let names = ["", "claim", "source", "theirs", "here", "verdict"].map(|name| (name, Left));
    let mut table = table(2, &names);
    let mut last = "";
    for (chapter, claim) in claims(lab) {
        let texts = [&claim.claim, &claim.source, &claim.theirs, &claim.ours];
        let cells = texts.iter().zip(room).map(|(text, room)| cell(text, room));
        let name = if chapter.name == last { "" } else { chapter.name.as_str() };
        last = &chapter.name;
        // Its reason, if it has one, stands in the chapter.
        let word = word(&claim.verdict).to_owned();
        table.add_row(std::iter::once(name.to_owned()).chain(cells).chain([word]));
    }
    let (red, green, yellow) =
        (style(&Verdict::NotReproduced), style(&Verdict::Reproduced), style(&undecided()));
    // Coloured afterwards: a table counts escape sequences as room.
    text(&table)
        .lines()
        .map(|line| match line {
            _ if line.ends_with("  not reproduced") => ends_with(line, "not reproduced", red),
            _ if line.ends_with("  reproduced") => ends_with(line, "reproduced", green),
            _ if line.ends_with("  not decidable") => ends_with(line, "not decidable", yellow),
            _ => format!("{line}\n"),
        })
        .collect()
}

fn undecided() -> Verdict {
    Verdict::NotDecidable(String::new())
}

fn ends_with(line: &str, word: &str, style: Style) -> String {
    format!("{}{style}{word}{style:#}\n", line.strip_suffix(word).unwrap_or(line))
}

/// A verdict without its reason.
pub fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Reproduced => "reproduced",
        Verdict::NotReproduced => "not reproduced",
        Verdict::NotDecidable(_) => "not decidable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::book::BOOK;
    use crate::lab::record::tests::lab;
    use crate::report::wrap::room;

    fn plain(report: &str) -> String {
        anstream::adapter::strip_str(report).to_string()
    }

    fn whole(lab: &Lab, width: usize) -> String {
        let chapters = lab.chapters.iter().map(|one| chapter(one, lab.quick, width));
        let begin = header(lab, 1, Duration::from_secs(40), width);
        plain(&(begin + &chapters.collect::<String>() + &summary(lab, width)))
    }

    #[test]
    fn everything_fits_into_100_80_and_60_columns() {
        let mut lab = lab();
        for chapter in &mut lab.chapters {
            chapter.findings.answer = "a long sentence with 0.964 in it ".repeat(9);
            for claim in &mut chapter.findings.claims {
                claim.theirs = "12.35 ms, stdev 3.15 ms, where shared had 15.65 and 26.59".into();
                claim.url = None;
            }
        }
        for width in [100, 80, 60] {
            for line in whole(&lab, width).lines() {
                assert!(room(line) <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn a_chapter_says_what_is_claimed_what_was_found_and_how_to_repeat_it() {
        let report = plain(&chapter(&lab().chapters[0], true, 100));
        for words in [
            "post: What is post?",
            "  It is not the hash: 0.95 of a shared socket.",
            "  Claim     Own sockets reach 0.648 of a shared one.",
            "  by        the post, https://example.org/post",
            "  here      0.95 (0.93 to 0.97)",
            "  verdict   not decidable here: one core",
            "0.950 (0.930 to 0.970)",
            "What the kernel saw",
            "What to do  Use least-conn.",
            "Missing     reuseport/least-conn took no part: CAP_BPF",
            "Again       loadtest lab post --quick (took 4s)",
        ] {
            assert!(report.contains(words), "{words} is not in\n{report}");
        }
    }

    #[test]
    fn what_was_not_done_says_why_in_its_chapter_and_at_the_end() {
        let report = whole(&lab(), 100);
        for words in ["failed: no such worker", "skipped: needs root"] {
            assert_eq!(report.matches(words).count(), 2, "{words}");
        }
        assert!(report.contains("crash: failed: no such worker"));
    }

    #[test]
    fn all_claims_stand_in_one_table_and_below_each_other_where_it_is_narrow() {
        let report = plain(&summary(&lab(), 100));
        assert_eq!(report.matches("  not reproduced\n").count(), 4, "{report}");
        assert_eq!(report.matches("  not decidable\n").count(), 4, "{report}");
        let narrow = plain(&summary(&lab(), 60));
        assert_eq!(narrow.matches("not decidable here: one core").count(), 4, "{narrow}");
    }

    #[test]
    fn one_experiment_is_singular_and_a_short_run_says_that_it_is() {
        let mut lab = lab();
        let one = plain(&header(&lab, 1, Duration::from_secs(40), 100));
        assert!(one.contains("1 experiment, about 40s\n") && one.contains("--quick"), "{one}");
        lab.quick = false;
        let two = plain(&header(&lab, 2, Duration::from_secs(40), 100));
        assert!(two.contains("2 experiments") && !two.contains("--quick"), "{two}");
    }

    #[test]
    fn the_list_has_every_experiment_with_its_question() {
        let list = list(&BOOK, 60).unwrap();
        for experiment in &BOOK {
            assert!(list.contains(experiment.name), "{list}");
        }
        assert!(list.lines().all(|line| room(line) <= 60), "{list}");
    }
}
