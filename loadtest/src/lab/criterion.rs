//! What must be found for a claim to hold: one value gives the figure, the limit and the verdict.

use serde::{Deserialize, Serialize};

use crate::statistics::estimate::Estimate;

/// The reason that nothing follows from a figure with an interval across its limit.
const ACROSS: &str = "the interval lies on both sides of the limit; more rounds, or a quieter \
                      machine, would tell";

/// The reason that nothing follows from a figure that is not there.
const UNKNOWN: &str = "it was not measured";

/// Whether a claim holds here.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "reason")]
pub enum Verdict {
    /// It does.
    Reproduced,
    /// It does not.
    NotReproduced,
    /// It cannot be told, for this reason.
    NotDecidable(String),
}

/// Where a figure must lie; with all of its interval, if it has one.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it
pub enum Limit {
    Below(f64),
    AtLeast(f64),
    Above(f64),
    AtMost(f64),
    /// A part of all: the figure itself at a number or above it. It does not hold if the whole
    /// interval lies below; a part that is nearly all has an interval that reaches down far.
    Nearly(f64),
}

/// How a figure is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Digits(usize),
    Percent,
}

/// A figure that is held against a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is, with `{}` in place of the number.
    label: String,
    found: Estimate,
    form: Form,
}

/// What must be so.
#[derive(Clone, Debug, PartialEq)]
pub enum Criterion {
    /// One figure lies where it must.
    One(Figure, Limit),
    /// All of these.
    All(Vec<Criterion>),
    /// One of these at least.
    Any(Vec<Criterion>),
    /// What is no figure: what was found, what is wanted, and whether it is so.
    Fact(String, String, Option<bool>),
}

/// A figure that was estimated, shown with two digits of the fraction.
pub fn estimated(label: impl Into<String>, found: Estimate) -> Figure {
    Figure { label: label.into(), found, form: Form::Digits(2) }
}

/// A figure without an interval: a count, or what is judged without one.
pub fn exact(label: impl Into<String>, value: f64) -> Figure {
    estimated(label, Estimate::exact(value)).digits(0)
}

impl Figure {
    /// With so many digits of the fraction.
    pub fn digits(self, digits: usize) -> Self {
        Self { form: Form::Digits(digits), ..self }
    }

    /// A part of the whole, in percent.
    pub fn in_percent(self) -> Self {
        Self { form: Form::Percent, ..self }
    }

    /// The criterion that it lies where it must.
    pub fn must_be(self, limit: Limit) -> Criterion {
        Criterion::One(self, limit)
    }
}

impl Form {
    fn show(self, Estimate { value, interval }: Estimate) -> String {
        let (digits, scale, unit) = match self {
            Self::Digits(digits) => (digits, 1.0, ""),
            Self::Percent => (0, 100.0, " %"),
        };
        let show = |number: f64| format!("{:.digits$}", number * scale);
        match interval {
            _ if value.is_nan() => "-".into(),
            Some([low, high]) => {
                format!("{}{unit} ({} to {})", show(value), show(low), show(high))
            }
            None => show(value) + unit,
        }
    }
}

impl Limit {
    /// The limit in a word, and its number.
    fn parts(self) -> (&'static str, f64) {
        match self {
            Self::Below(at) => ("below", at),
            Self::AtLeast(at) | Self::Nearly(at) => ("at least", at),
            Self::Above(at) => ("above", at),
            Self::AtMost(at) => ("at most", at),
        }
    }

    fn met(self, found: Estimate) -> Option<bool> {
        match self {
            Self::Below(limit) => found.at_least(limit).map(|it| !it),
            Self::AtLeast(limit) => found.at_least(limit),
            Self::Above(limit) => found.at_most(limit).map(|it| !it),
            Self::AtMost(limit) => found.at_most(limit),
            Self::Nearly(limit) if found.value >= limit => Some(true),
            Self::Nearly(limit) => found.at_least(limit).filter(|it| !it),
        }
    }

    fn words(self, Figure { found, form, .. }: &Figure) -> String {
        let (words, number) = self.parts();
        let mut shown = match form {
            Form::Digits(_) => format!("{number:.3}"),
            Form::Percent => form.show(Estimate::exact(number)),
        };
        if shown.contains('.') {
            shown.truncate(shown.trim_end_matches('0').trim_end_matches('.').len());
        }
        let is_of_all = found.interval.is_some() && !matches!(self, Self::Nearly(_));
        format!("{}{words} {shown}", if is_of_all { "whole interval " } else { "" })
    }
}

impl Criterion {
    /// What was found, in words.
    pub fn figures(&self) -> String {
        match self {
            Self::One(figure, _) => figure.label.replace("{}", &figure.form.show(figure.found)),
            Self::All(all) | Self::Any(all) => joined(all, ", ", Self::figures),
            Self::Fact(found, ..) => found.clone(),
        }
    }

    /// What must be so, in words.
    pub fn limits(&self) -> String {
        let (all, between, of_them) = match self {
            Self::One(figure, limit) => return limit.words(figure),
            Self::Fact(_, wanted, _) => return wanted.clone(),
            Self::All(all) => (all, "; ", "each of them"),
            Self::Any(all) => (all, "; or ", "one of them"),
        };
        let first = all.first().map(Self::limits).unwrap_or_default();
        if all.iter().all(|one| one.limits() == first) {
            return format!("{of_them}: {first}");
        }
        joined(all, between, |one| match one {
            Self::One(figure, limit) => {
                format!("{}: {}", figure.label.replace("{}", "").trim(), limit.words(figure))
            }
            other => other.limits(),
        })
    }

    /// Whether it is so; `None` if it cannot be told.
    pub fn met(&self) -> Option<bool> {
        let among = |all: &[Self], decides: bool| {
            let met: Vec<_> = all.iter().map(Self::met).collect();
            match () {
                () if met.contains(&Some(decides)) => Some(decides),
                () if met.contains(&None) => None,
                () => Some(!decides),
            }
        };
        match self {
            Self::One(figure, limit) => limit.met(figure.found),
            Self::Fact(_, _, met) => *met,
            Self::All(all) => among(all, false),
            Self::Any(all) => among(all, true),
        }
    }

    /// The verdict; `missing` says why a figure is not there, or is empty.
    pub fn verdict(&self, missing: &str) -> Verdict {
        let reason = match self.is_known() {
            true => ACROSS,
            false if missing.is_empty() => UNKNOWN,
            false => missing,
        };
        match self.met() {
            Some(true) => Verdict::Reproduced,
            Some(false) => Verdict::NotReproduced,
            None => Verdict::NotDecidable(reason.into()),
        }
    }

    fn is_known(&self) -> bool {
        match self {
            Self::One(figure, limit) => !figure.found.value.is_nan() && !limit.parts().1.is_nan(),
            Self::All(all) | Self::Any(all) => all.iter().all(Self::is_known),
            Self::Fact(_, _, met) => met.is_some(),
        }
    }
}

fn joined(all: &[Criterion], between: &str, words: impl Fn(&Criterion) -> String) -> String {
    all.iter().map(words).collect::<Vec<_>>().join(between)
}

/// In words, with so many digits of the fraction: `0.95 (0.93 to 0.97)`; a dash if it is not known.
pub fn words(found: Estimate, digits: usize) -> String {
    Form::Digits(digits).show(found)
}

/// The figure without its interval.
pub fn alone(found: Estimate, digits: usize) -> String {
    words(Estimate::exact(found.value), digits)
}

/// A part in percent: `95 % (93 to 97)`; a dash if it is not known.
pub fn percent(found: Estimate) -> String {
    Form::Percent.show(found)
}

#[cfg(test)]
mod tests {
    use super::Limit::{Above, AtLeast, AtMost, Below, Nearly};
    use super::*;

    const NOTHING: Estimate = Estimate { value: f64::NAN, interval: None };

    fn between(low: f64, high: f64) -> Estimate {
        Estimate { value: (low + high) / 2.0, interval: Some([low, high]) }
    }

    #[test]
    fn an_interval_lies_on_one_side_of_a_limit_or_on_the_other_or_across() {
        for (limit, on_one, on_the_other, across) in [
            (Below(0.8), [0.5, 0.7], [0.8, 1.1], [0.7, 0.9]),
            (AtLeast(0.8), [0.8, 1.1], [0.5, 0.7], [0.7, 0.8]),
            (Above(1.0), [1.1, 1.2], [0.8, 1.0], [1.0, 1.1]),
            (AtMost(1.0), [0.8, 1.0], [1.1, 1.2], [0.8, 1.1]),
            (Nearly(0.9), [0.85, 0.99], [0.2, 0.8], [0.7, 0.95]),
        ] {
            let met = |[low, high]: [f64; 2]| limit.met(between(low, high));
            assert_eq!(met(on_one), Some(true), "{limit:?}");
            assert_eq!(met(on_the_other), Some(false), "{limit:?}");
            assert_eq!(met(across), None, "{limit:?}");
            assert_eq!(limit.met(NOTHING), None, "{limit:?}");
        }
        assert_eq!(AtMost(0.0).met(Estimate::exact(0.0)), Some(true));
    }

    #[test]
    fn all_must_be_so_and_of_any_one_is_enough() {
        let one = |value| exact("", value).must_be(Above(0.0));
        for (values, all, any) in [
            ([1.0, 1.0], Some(true), Some(true)),
            ([f64::NAN, -1.0], Some(false), None),
            ([1.0, f64::NAN], None, Some(true)),
            ([-1.0, -1.0], Some(false), Some(false)),
        ] {
            assert_eq!(Criterion::All(values.map(one).into()).met(), all, "{values:?}");
            assert_eq!(Criterion::Any(values.map(one).into()).met(), any, "{values:?}");
        }
    }

    #[test]
    fn figure_limit_and_verdict_come_from_one_value() {
        let narrow = estimated("stdev {} times", between(0.4, 0.6)).must_be(Below(0.824));
        assert_eq!(narrow.figures(), "stdev 0.50 (0.40 to 0.60) times");
        assert_eq!(narrow.limits(), "whole interval below 0.824");
        let own = estimated("own {}", between(0.94, 0.96)).in_percent().must_be(AtLeast(0.5));
        let both = Criterion::All(vec![own, exact("{} lost", 3.0).must_be(AtMost(0.0))]);
        assert_eq!(both.figures(), "own 95 % (94 to 96), 3 lost");
        assert_eq!(both.limits(), "own: whole interval at least 50 %; lost: at most 0");
        assert_eq!(both.verdict(""), Verdict::NotReproduced);
        let same = Criterion::Any(vec![narrow.clone(), narrow]);
        assert_eq!(same.limits(), "one of them: whole interval below 0.824");
        let across = estimated("{}", between(1.0, 3.0)).must_be(Above(2.0));
        assert_eq!(across.verdict("no"), Verdict::NotDecidable(ACROSS.into()));
        let missing = estimated("{}", NOTHING).must_be(Above(2.0));
        assert_eq!(missing.figures(), "-");
        assert_eq!(missing.verdict("needs root"), Verdict::NotDecidable("needs root".into()));
    }
}
