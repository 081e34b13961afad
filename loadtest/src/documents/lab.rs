//! `lab`: a chapter for each experiment, a table of all claims, and the book with everything.

use std::time::Duration;

use anyhow::Result;

use crate::documents::answers::answers;
use crate::documents::{command, document, duration, facts, machine, matrix, runs};
use crate::lab::book::{self, Experiment};
use crate::lab::chapter::{Chapter, Claim, Verdict};
use crate::lab::record::Lab;
use crate::report::format::plural;
use crate::report::model::{Block, Cell, Document, Field, Mark, Table, Unit, escaped};

/// A note about every figure of a short run.
pub const ABOUT_QUICK: &str = "This is the short form (--quick): fewer rounds, wider intervals, \
                               and more claims that cannot be decided.";

/// A note about every interval.
pub const ABOUT_INTERVALS: &str = "In brackets: 95 % intervals.";

const CLAIM: [Field<Claim>; 6] = [
    ("claim", Unit::Text, |claim| Cell::from(&claim.claim)),
    ("source", Unit::Text, |claim| Cell::from(&claim.source).link(claim.url.as_deref())),
    ("theirs", Unit::Text, |claim| match &*claim.elsewhere {
        "" => Cell::from(&claim.theirs),
        elsewhere => Cell::from(format!("{}; {elsewhere}", claim.theirs)),
    }),
    // A reason is in the column of the verdict.
    ("here", Unit::Text, |claim| match &claim.verdict {
        Verdict::NotDecidable(reason) => Cell::from(format!("{} ({reason})", claim.ours).trim()),
        _ => Cell::from(claim.ours.trim()),
    }),
    ("holds if", Unit::Text, |claim| Cell::from(&claim.limit)),
    ("verdict", Unit::Text, |claim| match claim.verdict {
        Verdict::Reproduced => Cell::from("reproduced").mark(Mark::Good),
        Verdict::NotReproduced if claim.elsewhere.is_empty() => {
            Cell::from("refuted").mark(Mark::Bad)
        }
        Verdict::NotReproduced => Cell::from("not on this machine").mark(Mark::Undecided),
        Verdict::NotDecidable(_) => Cell::from("not decidable").mark(Mark::Undecided),
    }),
];

/// The list of experiments.
///
/// # Errors
/// When an experiment has no page.
pub fn contents(book: &[Experiment]) -> Result<Document> {
    let columns = [("takes", Unit::Text), ("--quick", Unit::Text), ("question", Unit::Text)];
    let mut table = Table::new("", &columns);
    for experiment in book {
        let [long, quick] =
            [false, true].map(|quick| Cell::from(duration(experiment.expected(quick))));
        let question = Cell::from(experiment.page()?.question);
        table.row(experiment.name, [long, quick, question]);
    }
    Ok(Document { title: String::new(), blocks: vec![Block::Table(table)] })
}

/// The announcement of a run, with the machine.
pub fn header(lab: &Lab, experiments: usize, expected: Duration) -> Document {
    let all = plural(experiments as u64, "experiment");
    let to_do = (experiments > 0).then(|| format!("{all}, about {}", duration(expected)));
    let quick = if lab.body.quick { ABOUT_QUICK } else { "" };
    let facts = facts([("machine", Some(machine(&lab.environment))), ("to do", to_do)]);
    Document { title: "The lab".into(), blocks: vec![facts, Block::Text(quick.into())] }
}

/// One experiment, for a terminal, without its page.
pub fn chapter(chapter: &Chapter, quick: bool) -> Document {
    Document { title: String::new(), blocks: of_chapter(chapter, quick, Page::None) }
}

/// Every claim, and what is missing.
pub fn summary(lab: &Lab) -> Document {
    let nothing = if lab.body.chapters.is_empty() { "No experiment has been run yet." } else { "" };
    let lacks =
        lab.body.chapters.iter().filter_map(|one| {
            Some((one.name.clone(), format!("failed: {}", one.outcome.failure()?)))
        });
    let mut blocks = vec![Block::Text(nothing.into())];
    blocks.extend(all_claims(lab));
    blocks.push(Block::Facts(lacks.collect()));
    Document { title: String::new(), blocks }
}

/// The whole book, with the pages of the experiments.
pub fn book(lab: &Lab) -> Document {
    let mut blocks = opening(lab);
    blocks.extend(body(lab, Page::Whole));
    document("One socket or many? What others claim, measured again", lab, blocks)
}

/// How the page of an experiment is included.
#[derive(Clone, Copy, PartialEq)]
pub enum Page {
    /// Not.
    None,
    /// As a whole.
    Whole,
    /// As a link to its source file.
    Link,
}

/// The answers, and how to read the figures.
pub fn opening(lab: &Lab) -> Vec<Block> {
    let quick = if lab.body.quick { ABOUT_QUICK } else { "" };
    let answers = answers(lab).into_iter().map(|answer| Block::Text(answer.markdown()));
    answers.chain([ABOUT_INTERVALS, quick].map(|text| Block::Text(text.into()))).collect()
}

/// The post's question and its answer, if there is one.
pub fn answer(lab: &Lab) -> Option<(&str, &str)> {
    let post = lab.body.chapter("post").filter(|post| !post.findings.answer.is_empty())?;
    Some((&post.page.question, &post.findings.answer))
}

/// Every claim, the matrix, and each experiment.
pub fn body(lab: &Lab, page: Page) -> Vec<Block> {
    let mut blocks = all_claims(lab).to_vec();
    match &lab.body.whole_matrix() {
        Some(found) => {
            blocks.extend(matrix::body(found));
            blocks.extend(runs::blocks(lab));
        }
        None => blocks.extend([
            Block::Heading("Every policy in every workload".into()),
            Block::Text("Not measured yet: `make matrix` does it.".into()),
        ]),
    }
    blocks.extend(lab.body.chapters.iter().flat_map(|one| of_chapter(one, lab.body.quick, page)));
    blocks
}

/// One experiment. Its heading is only its name, for links.
fn of_chapter(chapter: &Chapter, quick: bool, page: Page) -> Vec<Block> {
    let (name, findings) = (&chapter.name, &chapter.findings);
    let tables = |all: &[Table]| all.iter().cloned().map(Block::Table).collect::<Vec<_>>();
    let failure = chapter.outcome.failure();
    let lacks = failure.map(|reason| format!("failed: {}.", escaped(reason)));
    let advice = match findings.advice.is_empty() {
        true => String::new(),
        false => format!("**What to do:** {}", escaped(&findings.advice)),
    };
    let missing = findings.missing.iter().map(|one| format!("- Missing: {}\n", escaped(one)));
    let mut blocks = vec![
        Block::Heading(name.clone()),
        Block::Text(format!("**{}**", escaped(&chapter.page.question))),
        Block::Text(lacks.unwrap_or_default()),
    ];
    if let Some(picture) = &findings.picture {
        let seen = book::experiment(name).map(Experiment::picture).unwrap_or_default();
        blocks.extend([Block::Picture(picture.clone()), Block::Caption(seen)]);
    }
    blocks.extend([
        Block::Verdict(findings.answer.clone()),
        Block::Table(claims_of([chapter], |_| "")),
    ]);
    blocks.extend(tables(&findings.tables));
    blocks.extend([
        Block::Details("What the kernel saw".into(), tables(&findings.evidence)),
        Block::Text(advice),
        Block::Text(missing.collect()),
    ]);
    match page {
        Page::None => {}
        Page::Whole => {
            let sections = chapter.page.sections.iter();
            let sections = sections.map(|(name, words)| format!("### {name}\n\n{words}\n\n"));
            let sections = Block::Text(sections.collect());
            blocks.push(Block::Details("How it was measured".into(), vec![sections]));
        }
        Page::Link => {
            blocks.push(Block::Text(format!("Its page: [{name}.md](src/lab/chapters/{name}.md).")));
        }
    }
    let mut again = vec!["lab".to_owned(), name.clone()];
    again.extend(quick.then(|| "--quick".to_owned()));
    let took = duration(Duration::from_secs_f64(chapter.seconds.max(0.0)));
    let took = if failure.is_none() { format!("  # took {took}") } else { String::new() };
    blocks.push(Block::Reproduce(vec![command(&again) + &took]));
    blocks
}

fn all_claims(lab: &Lab) -> [Block; 2] {
    [Block::Heading("All claims".into()), Block::Table(claims(lab))]
}

/// Every claim with its chapter.
pub fn claims(lab: &Lab) -> Table {
    claims_of(&lab.body.chapters, |chapter| &chapter.name)
}

fn claims_of<'a>(
    chapters: impl IntoIterator<Item = &'a Chapter>,
    name: fn(&Chapter) -> &str,
) -> Table {
    let claims = chapters.into_iter();
    let claims = claims.flat_map(|one| one.findings.claims.iter().map(move |it| (name(one), it)));
    let (names, claims): (Vec<&str>, Vec<&Claim>) = claims.unzip();
    Table::of("", names).with("", &CLAIM, claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::record::tests::lab;

    #[test]
    fn a_claim_that_is_not_found_is_refuted_unless_it_was_made_of_something_else() {
        let mut lab = lab();
        let verdict = |lab: &Lab| {
            let table = claims(lab);
            let of = |name| table.columns.iter().position(|column| column.name == name).unwrap();
            let cells = &table.rows[0].cells;
            [&cells[of("verdict")], &cells[of("theirs")]].map(|cell| cell.text.clone().unwrap())
        };
        assert_eq!(verdict(&lab), ["refuted", "0.648"]);
        lab.body.chapters[0].findings.claims[0].elsewhere = "macOS".into();
        assert_eq!(verdict(&lab), ["not on this machine", "0.648; macOS"]);
    }
}
