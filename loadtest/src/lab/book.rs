//! The experiments, in the order of the book.

use std::time::Duration;

use anyhow::Result;

use crate::lab::chapter::Findings;
use crate::lab::chapters::{crash, flag, hash, order, post, reload, spread, stall, tail, twice};
use crate::lab::page::Page;
use crate::lab::store::Notebook;

/// One experiment.
pub struct Experiment {
    /// What the command line calls it.
    pub name: &'static str,
    /// Its source file, whose heading is its page.
    pub source: &'static str,
    /// About how many seconds it takes, and how many in the short form.
    pub seconds: [u64; 2],
    /// Why it cannot be done here at all, if it cannot. A part that cannot is among its findings.
    pub prerequisite: fn() -> Option<String>,
    /// Does it.
    pub run: fn(&mut Notebook) -> Result<Findings>,
}

impl Experiment {
    /// Its page of the book.
    ///
    /// # Errors
    /// When its heading is not as [`Page`] wants it.
    pub fn page(&self) -> Result<Page> {
        Page::of(self.source)
    }

    /// About how long it takes.
    pub fn expected(&self, quick: bool) -> Duration {
        Duration::from_secs(self.seconds[usize::from(quick)])
    }
}

/// Nothing stands in the way.
fn none() -> Option<String> {
    None
}

/// All of them.
pub const BOOK: [Experiment; 10] = [
    Experiment {
        name: "post",
        source: include_str!("chapters/post.rs"),
        seconds: [125, 36],
        prerequisite: none,
        run: post::run,
    },
    Experiment {
        name: "hash",
        source: include_str!("chapters/hash.rs"),
        seconds: [165, 34],
        prerequisite: none,
        run: hash::run,
    },
    Experiment {
        name: "spread",
        source: include_str!("chapters/spread.rs"),
        seconds: [35, 6],
        prerequisite: none,
        run: spread::run,
    },
    Experiment {
        name: "order",
        source: include_str!("chapters/order.rs"),
        seconds: [12, 6],
        prerequisite: none,
        run: order::run,
    },
    Experiment {
        name: "tail",
        source: include_str!("chapters/tail.rs"),
        seconds: [145, 34],
        prerequisite: none,
        run: tail::run,
    },
    Experiment {
        name: "stall",
        source: include_str!("chapters/stall.rs"),
        seconds: [62, 18],
        prerequisite: none,
        run: stall::run,
    },
    Experiment {
        name: "crash",
        source: include_str!("chapters/crash.rs"),
        seconds: [90, 20],
        prerequisite: none,
        run: crash::run,
    },
    Experiment {
        name: "reload",
        source: include_str!("chapters/reload.rs"),
        seconds: [75, 20],
        prerequisite: none,
        run: reload::run,
    },
    Experiment {
        name: "twice",
        source: include_str!("chapters/twice.rs"),
        seconds: [2, 2],
        prerequisite: none,
        run: twice::run,
    },
    Experiment {
        name: "flag",
        source: include_str!("chapters/flag.rs"),
        seconds: [2, 2],
        prerequisite: none,
        run: flag::run,
    },
];

/// What the command line may name.
pub fn names() -> Vec<&'static str> {
    BOOK.iter().map(|experiment| experiment.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_experiment_has_its_page_and_the_file_of_its_name() {
        for experiment in &BOOK {
            let page = experiment.page().unwrap_or_else(|e| panic!("{}: {e}", experiment.name));
            assert!(page.question.ends_with('?'), "{}", page.question);
            assert!(page.section("The criterion").len() > 40, "{}", experiment.name);
        }
    }

    #[test]
    fn all_together_take_less_than_a_quarter_of_an_hour_and_the_short_forms_three_minutes() {
        for (quick, limit) in [(false, 15 * 60), (true, 3 * 60)] {
            let sum: Duration = BOOK.iter().map(|experiment| experiment.expected(quick)).sum();
            assert!(sum < Duration::from_secs(limit), "{sum:?}");
        }
    }
}
