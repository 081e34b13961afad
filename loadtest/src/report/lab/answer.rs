//! What the README opens with: the post's question with its answer, every claim, the matrix.

use crate::environment::Environment;
use crate::lab::record::Lab;
use crate::matrix::expectations::GOOD;
use crate::matrix::record::Matrix;
use crate::report::lab::cases::list;
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

/// From here on a figure of one policy differs from that of another by enough to speak of.
const DIFFERS: f64 = 0.05;

/// What the names mean; where each socket loses as it comes, what looking at the load mends of that and
/// what it costs, and where it is not good even then.
fn in_short(matrix: &Matrix) -> String {
    let rows = [
        ("A shared socket", "shared/epoll", "--accept", "shared/least-conn", ""),
        (
            "Own sockets",
            "reuseport/hash",
            "--steer",
            "reuseport/least-conn",
            ", which needs CAP_BPF and CAP_PERFMON,",
        ),
    ];
    let mut text = String::from(
        "In short. `epoll` wakes all workers, and the fastest gets the connection; `hash` is the \
         kernel's choice, blind to load; `least-conn` looks at how many connections each worker has. \
         *keep*: connections are kept; *close*: each request has a new one; *mixed*: some requests block \
         their worker. Figures are parts of what the best policy of all serves there:\n\n",
    );
    for (socket, plain, option, aware, needs) in rows {
        let judged = matrix.columns.iter().filter(|column| column.judged);
        let pairs = judged.filter_map(|column| {
            let [plain, aware] = [plain, aware].map(|policy| matrix.figure(&column.name, policy));
            Some((&*column.name, plain?.part(), aware?.part()))
        });
        let (mut mended, mut costs, mut short) = (Vec::new(), Vec::new(), Vec::new());
        for pair @ (name, plain, aware) in pairs {
            match aware - plain {
                change if change <= -DIFFERS => costs.push(pair),
                change if change >= DIFFERS && plain < GOOD => mended.push(pair),
                _ => {}
            }
            if aware < GOOD {
                short.push(format!("*{name}* ({aware:.2})"));
            }
        }
        mended.sort_by(|a, b| a.1.total_cmp(&b.1));
        let each = |pairs: &[(&str, f64, f64)]| {
            let pair = |(name, plain, aware): &(&str, f64, f64)| {
                format!("*{name}* {plain:.2} → {aware:.2}")
            };
            let pairs: Vec<_> = pairs.iter().map(pair).collect();
            if pairs.is_empty() { "nothing".into() } else { pairs.join(", ") }
        };
        text += &format!(
            "- **{socket}** (`{plain}`): `{option} least-conn`{needs} mends {}, and costs {}. It is below \
             {GOOD} {}.\n",
            each(&mended),
            each(&costs),
            if short.is_empty() { "nowhere".into() } else { format!("in {}", list(&short)) }
        );
    }
    text + "- What to use, and why: [Which should I use?](#which-should-i-use)\n\n"
}

/// What the workloads are.
fn legend(matrix: &Matrix) -> String {
    let each = matrix
        .columns
        .iter()
        .map(|column| format!("- {}: {}\n", escape(&column.name), escape(&column.words)));
    let cheap = "The handler costs nothing in all of them, unlike that of the answer above.\n";
    each.chain([format!("\n{cheap}")]).collect()
}

fn claims(lab: &Lab) -> String {
    format!("{}\n{ABOUT_INTERVALS}\n", all_claims(lab, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::record::tests::lab;
    use crate::statistics::estimate::Estimate;

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
    fn what_a_policy_mends_leaves_and_costs_is_told_apart() {
        let mut matrix = lab().matrix.unwrap();
        let column = matrix.columns[0].clone();
        let figures =
            [("worst", 0.1, 0.6), ("bad", 0.5, 1.0), ("same", 0.8, 0.82), ("dear", 1.0, 0.9)];
        let columns = figures.map(|(name, plain, aware)| {
            let mut column = column.clone();
            (column.name, column.judged) = (name.into(), true);
            let figure = |policy: &str, of_best| {
                let mut figure = column.cells[0].clone();
                (figure.policy, figure.of_best) = (policy.into(), Some(Estimate::exact(of_best)));
                figure
            };
            column.cells = vec![figure("shared/epoll", plain), figure("shared/least-conn", aware)];
            column
        });
        matrix.columns = columns.into();
        let text = in_short(&matrix);
        let words = "mends *worst* 0.10 → 0.60, *bad* 0.50 → 1.00, and costs *dear* 1.00 → 0.90. It is below \
                     0.95 in *worst* (0.60), *same* (0.82) and *dear* (0.90).";
        assert!(text.contains(words), "{text}");
        assert!(
            text.contains("mends nothing, and costs nothing. It is below 0.95 nowhere."),
            "{text}"
        );
    }

    #[test]
    fn what_is_not_measured_is_said() {
        let mut lab = lab();
        lab.chapters.clear();
        lab.matrix = None;
        assert_eq!(answer(&lab).matches("not measured yet").count(), 2);
    }
}
