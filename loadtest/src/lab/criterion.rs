//! The criterion of a claim, as the claim's page states it: the measured figures, each followed by its
//! limit in brackets.
//!
//! `own sockets {own} [below 0.5], shared {shared} [at least 0.7]` holds if each number lies within its
//! limit with its whole interval, or alone if it has no interval. With `or at least 0.7` in the second
//! bracket one of the two is enough. A bracket is about the first number before it, or about the number
//! that it begins with: `[{p} at least 0.01]`. A limit is a number, a part (`90 %`) or a figure. There
//! are also
//!
//! - `nearly 90 %`, for a part of all: holds if the figure itself is at the limit or above. It does not
//!   hold if the whole interval lies below; the interval of a part near 100 % reaches far down.
//! - `is 1 socket`, for what is not a number: the words say what must be true.

use serde::{Deserialize, Serialize};

use crate::lab::figure::{Figures, emptied, filled, first_number};
use crate::statistics::estimate::Estimate;

/// The reason why a figure with an interval across its limit decides nothing.
const ACROSS: &str = "the interval lies on both sides of the limit; more rounds, or a quieter \
                      machine, would tell";

/// The reason why a missing figure decides nothing.
const UNKNOWN: &str = "it was not measured";

type Lies = fn(Estimate, f64) -> Option<bool>;

/// The first word of a limit, and whether a figure is within it.
const LIMITS: [(&str, Lies); 6] = [
    ("below ", |found, limit| found.at_least(limit).map(|it| !it)),
    ("at least ", |found, limit| found.at_least(limit)),
    ("above ", |found, limit| found.at_most(limit).map(|it| !it)),
    ("at most ", |found, limit| found.at_most(limit)),
    ("nearly ", |found, limit| {
        (found.value >= limit).then_some(true).or(found.at_least(limit).filter(|it| !it))
    }),
    ("is ", |fact, one| fact.at_least(one)),
];

/// Whether a claim holds here.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "reason")]
pub enum Verdict {
    /// It holds.
    Reproduced,
    /// It does not hold.
    NotReproduced,
    /// This is not decided, for this reason.
    NotDecidable(String),
}

impl Verdict {
    /// Whether the claim holds, if that is decided.
    pub fn met(&self) -> Option<bool> {
        match self {
            Self::NotDecidable(_) => None,
            verdict => Some(*verdict == Self::Reproduced),
        }
    }
}

/// One bracket: the words before it, its limit in words, and whether it is met.
struct Condition {
    label: String,
    words: String,
    met: Option<bool>,
    is_known: bool,
}

/// Judges figures by a criterion; `missing` is the reason why one is missing, or empty. Returns the
/// figures and their limits in words, and the verdict.
pub fn judge(criterion: &str, figures: &Figures, missing: &str) -> (String, String, Verdict) {
    let (mut found, mut all) = (String::new(), Vec::new());
    let one_is_enough = criterion.contains("[or ");
    for part in criterion.split_inclusive(']') {
        let (text, limit) = part.trim_end_matches(']').split_once('[').unwrap_or((part, ""));
        found += &filled(text.trim_end(), figures).0;
        all.push(Condition::of(text, limit.trim_start_matches("or "), figures));
    }
    let (among, between) = if one_is_enough { ("one", "; or ") } else { ("each", "; ") };
    let limits = match &all[..] {
        [one] => one.words.clone(),
        all if all.iter().all(|one| one.words == all[0].words) => {
            format!("{among} of them: {}", all[0].words)
        }
        all => {
            let each = all.iter().map(|Condition { label, words, .. }| format!("{label}: {words}"));
            each.collect::<Vec<_>>().join(between)
        }
    };
    let any = |met| all.iter().any(|one| one.met == met);
    let reason = match all.iter().all(|one| one.is_known) {
        true => ACROSS,
        false if missing.is_empty() => UNKNOWN,
        false => missing,
    };
    let verdict = match any(Some(one_is_enough)) {
        false if any(None) => Verdict::NotDecidable(reason.into()),
        decided if decided == one_is_enough => Verdict::Reproduced,
        _ => Verdict::NotReproduced,
    };
    (found, limits, verdict)
}

impl Condition {
    fn of(text: &str, limit: &str, figures: &Figures) -> Self {
        let (about, limit) = match limit.split_once("} ") {
            Some((figure, limit)) => (figure, limit),
            None => (text, limit),
        };
        let begins = LIMITS.into_iter().find(|(word, _)| limit.starts_with(word));
        debug_assert!(begins.is_some(), "'{text}' has no limit, but '{limit}'");
        let (word, lies) = begins.unwrap_or(("", |_, _| None));
        let limit = &limit[word.len()..];
        let found = first_number(about, figures).unwrap_or(Estimate::exact(f64::NAN));
        let (number, shown) = match limit.strip_suffix(" %") {
            _ if word == "is " => (1.0, limit.to_owned()),
            Some(part) => (part.parse().unwrap_or(f64::NAN) / 100.0, limit.to_owned()),
            None => match first_number(limit, figures) {
                Some(Estimate { value, .. }) => {
                    let digits = format!("{value:.3}");
                    (value, digits.trim_end_matches('0').trim_end_matches('.').to_owned())
                }
                None => (limit.parse().unwrap_or(f64::NAN), limit.to_owned()),
            },
        };
        let whole = if found.interval.is_some() { "whole interval " } else { "" };
        Self {
            label: emptied(text).trim_matches([',', ' ']).into(),
            words: match word {
                "is " => shown,
                "nearly " => format!("at least {shown}"),
                word => format!("{whole}{word}{shown}"),
            },
            met: lies(found, number),
            is_known: !found.value.is_nan() && !number.is_nan(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::figure::Figure;

    fn between([low, high]: [f64; 2]) -> Figure {
        Estimate { value: (low + high) / 2.0, interval: Some([low, high]) }.into()
    }

    #[test]
    fn an_interval_lies_on_one_side_of_a_limit_or_on_the_other_or_across() {
        for (limit, on_one, on_the_other, across) in [
            ("below 0.8", [0.5, 0.7], [0.8, 1.1], [0.7, 0.9]),
            ("at least 0.8", [0.8, 1.1], [0.5, 0.7], [0.7, 0.8]),
            ("above 1", [1.1, 1.2], [0.8, 1.0], [1.0, 1.1]),
            ("at most 1", [0.8, 1.0], [1.1, 1.2], [0.8, 1.1]),
            ("nearly 90 %", [0.85, 0.99], [0.2, 0.8], [0.7, 0.95]),
        ] {
            let met = |found| judge(&format!("{{it}} [{limit}]"), &[("it", found)], "").2.met();
            let all = [between(on_one), between(on_the_other), between(across), f64::NAN.into()];
            assert_eq!(all.map(met), [Some(true), Some(false), None, None], "{limit}");
        }
        let (.., verdict) = judge("{it} [at most 0]", &[("it", 0.0.into())], "");
        assert_eq!(verdict, Verdict::Reproduced);
    }

    #[test]
    fn all_must_be_so_and_of_any_one_is_enough() {
        for (values, all, any) in [
            ([1.0, 1.0], Some(true), Some(true)),
            ([f64::NAN, -1.0], Some(false), None),
            ([1.0, f64::NAN], None, Some(true)),
            ([-1.0, -1.0], Some(false), Some(false)),
        ] {
            let figures = [("a", values[0].into()), ("b", values[1].into())];
            let met = |criterion| judge(criterion, &figures, "").2.met();
            assert_eq!(met("{a} [above 0], {b} [above 0]"), all, "{values:?}");
            assert_eq!(met("{a} [above 0], {b} [or above 0]"), any, "{values:?}");
        }
    }

    #[test]
    fn figures_limits_and_verdict_come_from_one_text() {
        let figures = [
            ("own", between([0.94, 0.96])),
            ("lost", 3.0.into()),
            ("wide", between([1.0, 3.0])),
            ("half", 1.5.into()),
            ("nothing", f64::NAN.into()),
            ("sockets", "1 socket".to_owned().into()),
            ("one", Some(true).into()),
        ];
        let why = |why: &str| Verdict::NotDecidable(why.into());
        for (criterion, expected, verdict) in [
            (
                "own {own:%} [at least 50 %], {lost:0} lost [at most 0]",
                "own 95 % (94 to 96), 3 lost | own: whole interval at least 50 %; lost: at most 0",
                Verdict::NotReproduced,
            ),
            (
                "{own:1 alone} [below 0.97], {own} times [or below 0.97]",
                "0.9, 0.95 (0.94 to 0.96) times | one of them: whole interval below 0.97",
                Verdict::Reproduced,
            ),
            ("{wide:0} [above {half}]", "2 (1 to 3) | whole interval above 1.5", why(ACROSS)),
            ("{nothing} [above 2]", "- | above 2", why("needs root")),
            ("{sockets} [{one} is 1 socket]", "1 socket | 1 socket", Verdict::Reproduced),
        ] {
            let (found, limits, judged) = judge(criterion, &figures, "needs root");
            assert_eq!((&*format!("{found} | {limits}"), judged), (expected, verdict));
        }
    }
}
