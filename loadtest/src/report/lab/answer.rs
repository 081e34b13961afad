//! What the README opens with: the post's question with its answer, every claim, the matrix.

use crate::environment::Environment;
use crate::lab::record::Lab;
use crate::matrix::demands::GOOD;
use crate::matrix::record::Matrix;
use crate::report::lab::markdown::{all_claims, the_answer};
use crate::report::lab::{ABOUT_INTERVALS, ABOUT_QUICK};
use crate::report::markdown::escape;
use crate::report::matrix::overview;
use crate::report::terminal::machine;

/// What is between its marks in the README.
pub fn answer(lab: &Lab) -> String {
    let none = || "**Why did the post see what it saw?** It was not measured yet.\n".into();
    let mut text = format!("\n## The answer\n\n{}\n", the_answer(lab).unwrap_or_else(none));
    text += &lab.matrix.as_ref().map(in_short).unwrap_or_default();
    text += &format!("What others say of the two, and what was found here:\n\n{}\n", claims(lab));
    text +=
        "Every [policy](#run-the-servers) of who gets the next connection, in every workload:\n\n";
    text += &match &lab.matrix {
        Some(matrix) => format!(
            "![Requests/s of every policy in every workload, over those of the best]\
             (loadtest/results.svg)\n\n{}\n{}",
            overview(matrix),
            legend(matrix)
        ),
        None => "it was not measured yet.\n".into(),
    };
    let date = |environment: &Environment| -> String {
        environment.started_at.chars().take_while(|&c| c != 'T').collect()
    };
    let matrix = lab.matrix.as_ref().map(|matrix| date(&matrix.environment));
    let matrix = matrix.map(|date| format!(", the matrix by `make matrix` on {date}"));
    text += &format!(
        "\nMeasured by `make lab` on {}{} ({}); everything else it found is in \
         [RESULTS.md](loadtest/RESULTS.md).{}{}\n\n",
        date(&lab.environment),
        matrix.unwrap_or_default(),
        escape(&machine(&lab.environment)),
        if lab.quick { format!(" {ABOUT_QUICK}") } else { String::new() },
        if lab.warnings.is_empty() { "" } else { " Its warnings stand there, too." }
    );
    text
}

/// Where each socket loses as it comes, and what looking at the load makes of it: the workloads in which
/// it is not good, the worst first.
fn in_short(matrix: &Matrix) -> String {
    let rows = [
        ("A shared socket loses", "shared/epoll", "--accept least-conn", "shared/least-conn"),
        ("Own sockets lose", "reuseport/hash", "--steer least-conn", "reuseport/least-conn"),
    ];
    let mut text = String::from("In short, as parts of what the best policy serves there:\n\n");
    for (socket, plain, option, aware) in rows {
        let judged = matrix.columns.iter().filter(|column| column.judged);
        let mut bad: Vec<(f64, &str)> = judged
            .filter_map(|column| Some((matrix.figure(&column.name, plain)?.of_best, &*column.name)))
            .filter(|(part, _)| *part < GOOD)
            .collect();
        bad.sort_by(|a, b| a.0.total_cmp(&b.0));
        let each = bad.iter().map(|(part, column)| {
            let mended = matrix.figure(column, aware);
            let mended = mended.map_or("–".into(), |figure| format!("{:.2}", figure.of_best));
            format!("{column} {part:.2} → {mended}")
        });
        let each: Vec<String> = each.collect();
        let each = if each.is_empty() { "nowhere".into() } else { each.join("; ") };
        text += &format!("- **{socket}** (`{plain}` → `{option}`): {each}.\n");
    }
    text + "- What to use, and why: [Which should I use?](#which-should-i-use)\n\n"
}

/// What the workloads are.
fn legend(matrix: &Matrix) -> String {
    let each = matrix
        .columns
        .iter()
        .map(|column| format!("- {}: {}\n", escape(&column.name), escape(&column.words)));
    each.collect()
}

fn claims(lab: &Lab) -> String {
    format!("{}\n{ABOUT_INTERVALS}\n", all_claims(lab, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::record::tests::lab;

    #[test]
    fn it_opens_with_the_posts_question_and_has_every_claim_and_the_matrix() {
        let text = answer(&lab());
        assert!(text.starts_with("\n## The answer\n\n**What is post?** It is not the hash"));
        assert_eq!(text.matches("**not reproduced**").count(), 4);
        assert!(text.contains("[stall](loadtest/RESULTS.md#stall)"), "{text}");
        assert!(text.contains("| reuseport/hash | 1.00 |"), "{text}");
        assert!(text.contains("Measured by `make lab` on 2026-") && text.contains("(--quick)"));
    }

    #[test]
    fn what_is_not_measured_is_said() {
        let mut lab = lab();
        lab.chapters.clear();
        lab.matrix = None;
        assert_eq!(answer(&lab).matches("not measured yet").count(), 2);
    }
}
