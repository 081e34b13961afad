//! One comparison as Markdown, for a pull request: the tables of the terminal.

use crate::measure::comparison::Comparison;
use crate::report::compare::{ABOUT_FIXED_RATES, fixed_rate_rows, load, rows, summaries, verdicts};
use crate::report::terminal::{ABOUT_LATENCIES, machine};

/// The whole text.
pub fn compare(comparison: &Comparison) -> String {
    let mut text = String::new();
    for sentence in verdicts(comparison) {
        text += &format!("**{}**\n\n", escape(sentence));
    }
    let names = summaries(comparison).map(|(subject, _)| subject.name.clone());
    let header: Vec<String> = std::iter::once(String::new()).chain(names).collect();
    let figures = rows(comparison).into_iter().map(|(name, cells)| {
        std::iter::once(name.trim_start().to_owned()).chain(cells).collect::<Vec<_>>()
    });
    text += &table(&header, figures);
    text += &format!("\n{ABOUT_LATENCIES}, all slices together.\n");
    if !comparison.fixed_rates.is_empty() {
        let header =
            ["requests/s", "", "p50", "p99", "p99.9", "max", "answered", "lost", "not sent"];
        let fixed = comparison.fixed_rates.iter().flat_map(fixed_rate_rows);
        text += "\n";
        text += &table(&header.map(String::from), fixed.map(Vec::from));
        text += &format!("\n{ABOUT_FIXED_RATES}\n");
    }
    text += "\n";
    for (subject, summary) in summaries(comparison) {
        let sentence = format!(
            "{}: {}",
            subject.name,
            summary.limit.map_or_else(|| "not known".into(), |limit| limit.sentence())
        );
        text += &format!("- {}\n", escape(&sentence));
    }
    for line in comparison.anomalies.iter().chain(&comparison.warnings) {
        text += &format!("- {}\n", escape(line));
    }
    let environment = &comparison.environment;
    let commit = environment.commit.as_ref().map(|commit| format!(", commit {commit}"));
    text += &format!(
        "\n{}; {}, {}{}.\n",
        escape(&load(&comparison.plan)),
        environment.wrk.as_deref().unwrap_or("an unknown wrk"),
        machine(environment),
        commit.unwrap_or_default()
    );
    text
}

/// A table: the first column to the left, figures to the right.
pub fn table(header: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let escaped = |cells: &[String]| cells.iter().map(|cell| escape(cell)).collect::<Vec<_>>();
    let rule = format!("---|{}", "---:|".repeat(header.len() - 1));
    table_of(&escaped(header), &rule, rows.map(|cells| escaped(&cells)))
}

/// The same of words, all to the left, that are Markdown already.
pub fn table_of_words(header: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    table_of(header, &"---|".repeat(header.len()), rows)
}

fn table_of(header: &[String], rule: &str, rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    format!("{}|{rule}\n", line(header)) + &rows.map(|cells| line(&cells)).collect::<String>()
}

/// Keeps what has a meaning in Markdown from having it.
pub fn escape(text: &str) -> String {
    let special = |c| matches!(c, '|' | '*' | '_' | '<' | '>' | '#' | '`' | '[' | ']' | '\\');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::summary::tests::comparison;

    #[test]
    fn every_row_of_the_terminal_is_a_row_of_as_many_cells() {
        let comparison = comparison(40, 1.1);
        let text = compare(&comparison);
        assert!(text.starts_with("**reuseport is faster than shared: "));
        let table: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert!(table.iter().take(3).all(|line| line.matches('|').count() == 4), "{text}");
        for (name, cells) in rows(&comparison) {
            let row = format!("| {} | {} | {} |", name.trim_start(), cells[0], cells[1]);
            assert!(text.contains(&row), "{row} is not in\n{text}");
        }
    }

    #[test]
    fn what_markdown_would_take_for_itself_is_escaped() {
        assert_eq!(escape("a|b *c* <script>"), "a\\|b \\*c\\* \\<script\\>");
    }
}
