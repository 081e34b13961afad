//! `RESULTS.md`: all measurements of this repository's documents.

use crate::documents::lab::{Page, body, opening};
use crate::documents::{cases, circumstances, runs, servers, trade};
use crate::lab::record::Lab;
use crate::report::model::{Block, Document};

/// The content of the file. The pages of the experiments are in their source files.
pub fn results(lab: &Lab) -> Document {
    let text = format!(
        "Measured by `loadtest {}`. Each run below names its machine, and yours will differ. What \
         the kernel does in each experiment, and what decides its verdict, is described in the \
         experiment's page, a Markdown file in \
         [src/lab/chapters](src/lab/chapters/mod.rs).\n\n{VERDICTS}",
        lab.arguments.join(" ")
    );
    let mut blocks = vec![Block::Text(text), circumstances(&lab.environment)];
    blocks.extend(runs::blocks(lab).into_iter().take(2));
    blocks.push(Block::Warnings(lab.warnings.clone()));
    blocks.push(Block::Heading("The answer".into()));
    blocks.extend(opening(lab));
    if let Some(matrix) = lab.body.whole_matrix() {
        blocks.extend([
            Block::Heading("What least-conn improves, and what it costs".into()),
            Block::Text(trade::in_short(&matrix)),
            Block::Heading("Which policy in which case".into()),
            Block::Text(cases::cases(&matrix)),
        ]);
    }
    blocks.extend(body(lab, Page::Link));
    blocks.extend(lab.body.servers.iter().flat_map(|it| servers::published(it, lab)));
    Document { title: "Results".into(), blocks }
}

/// What the verdicts on claims mean.
const VERDICTS: &str = "A claim is *reproduced* if the figures here meet its criterion. It is \
    *refuted* if they do not, although the conditions of the claim are met here. It is *not on \
    this machine* if they do not, and the claim was measured under conditions that this machine \
    does not have; these conditions are listed beside its figure. It is *not decidable* if a figure \
    that the criterion needs was not measured, or if its interval contains a limit. Where a claim \
    about another server is measured on that \
    server, *not reproduced* means that its current version does not behave so on this machine.";
