//! The experiments, in the order of the book.

use std::time::Duration;

use anyhow::Result;

use crate::lab::chapter::Findings;
use crate::lab::chapters::{crash, flag, hash, order, post, reload, spread, stall, tail, twice};
use crate::lab::context::Context;
use crate::lab::page::{Page, said};

/// One experiment.
pub struct Experiment {
    /// Its name on the command line.
    pub name: &'static str,
    /// The text of its page of the book.
    pub text: &'static str,
    /// Its approximate duration in seconds, and that of the short form.
    pub seconds: [u64; 2],
    /// Runs it. A part that is impossible here is named among its findings.
    pub run: fn(&mut Context) -> Result<Findings>,
}

impl Experiment {
    /// Its page of the book; an error if the text has not the form of a [`Page`].
    pub fn page(&self) -> Result<Page> {
        Page::of(self.text)
    }

    /// What to see in its picture, in a sentence.
    pub fn picture(&self) -> String {
        said(self.text, "Picture", &[], &[])
    }

    /// Its approximate duration.
    pub fn expected(&self, quick: bool) -> Duration {
        Duration::from_secs(self.seconds[usize::from(quick)])
    }
}

/// Experiments, each with its name, which is also that of its module, and its expected seconds.
macro_rules! book {
    ($($name:ident $seconds:expr),*) => {
        [$(Experiment {
            name: stringify!($name),
            text: include_str!(concat!("chapters/", stringify!($name), ".md")),
            seconds: $seconds,
            run: $name::run,
        }),*]
    };
}

/// All experiments.
pub static BOOK: [Experiment; 10] = book![
    post [125, 36],
    hash [165, 34],
    spread [35, 6],
    order [12, 6],
    tail [145, 34],
    stall [62, 18],
    crash [90, 20],
    reload [75, 20],
    twice [2, 2],
    flag [2, 2]
];

/// The experiment of that name.
pub fn experiment(name: &str) -> Option<&'static Experiment> {
    BOOK.iter().find(|experiment| experiment.name == name)
}

/// The names that the command line accepts.
pub fn names() -> Vec<&'static str> {
    BOOK.iter().map(|experiment| experiment.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::page::items;

    #[test]
    fn every_experiment_has_its_page_and_the_file_of_its_name() {
        for experiment in &BOOK {
            let page = experiment.page().unwrap_or_else(|e| panic!("{}: {e}", experiment.name));
            assert!(page.question.ends_with('?'), "{}", page.question);
            let seen = experiment.picture();
            let is_a_sentence = seen.ends_with('.') && !seen.trim_end_matches('.').contains(". ");
            assert!(is_a_sentence, "{}: '{seen}'", experiment.name);
            for (list, bars) in [
                ("Claims", 4..=5),
                ("Answer", 1..=1),
                ("Advice", 1..=1),
                ("Notes", 1..=1),
                ("Picture", 1..=1),
            ] {
                for item in items(experiment.text, list).concat() {
                    assert!(bars.contains(&item.matches('|').count()), "{item}");
                }
            }
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
