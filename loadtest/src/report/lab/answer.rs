//! What the README opens with: the post's question with its answer, every claim, the matrix.

use crate::environment::Environment;
use crate::lab::record::Lab;
use crate::report::lab::markdown::{all_claims, the_answer};
use crate::report::lab::{ABOUT_INTERVALS, ABOUT_QUICK};
use crate::report::markdown::escape;
use crate::report::matrix::overview;
use crate::report::terminal::machine;

/// What is between its marks in the README.
pub fn answer(lab: &Lab) -> String {
    let none = || "**Why did the post see what it saw?** It was not measured yet.\n".into();
    let mut text = format!("\n## The answer\n\n{}\n", the_answer(lab).unwrap_or_else(none));
    text += &format!("What others say of the two, and what was found here:\n\n{}\n", claims(lab));
    text += "Who gets the next connection, every policy in every workload:\n\n";
    text += &match &lab.matrix {
        Some(matrix) => format!(
            "![Requests/s of every policy in every workload, over those of the best]\
             (loadtest/results.svg)\n\n{}",
            overview(matrix)
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
