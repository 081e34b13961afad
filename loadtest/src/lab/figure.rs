//! The figures of an experiment, by their names in its page, and how the page shows them.
//!
//! `{own}` stands for the figure `own`: words are shown as they are, a number with two decimals and its
//! interval, `0.95 (0.93 to 0.97)`. A form may follow: `{own:3}` shows three decimals, `{own:%}` percent,
//! `{own:3 alone}` leaves the interval out. An unknown figure is a dash.

use crate::statistics::estimate::Estimate;

/// Figures with their names.
pub type Figures<'a> = [(&'a str, Figure)];

/// A number, perhaps with its interval, or words.
#[derive(Clone, Debug)]
pub enum Figure {
    Number(Estimate),
    Words(String),
}

/// Figures are made from numbers, counts and words, and from truth values: 1 if true, 0 if false, NaN if
/// unknown.
macro_rules! figures_from {
    ($($from:ty: $found:ident => $figure:expr),* $(,)?) => {
        $(impl From<$from> for Figure {
            fn from($found: $from) -> Self {
                $figure
            }
        })*
    };
}

figures_from! {
    Estimate: found => Self::Number(found),
    f64: value => Self::Number(Estimate::exact(value)),
    usize: count => (count as f64).into(),
    Option<bool>: is_so => is_so.map_or(f64::NAN, |is_so| f64::from(u8::from(is_so))).into(),
    String: words => Self::Words(words),
    &str: words => Self::Words(words.to_owned()),
    Option<String>: words => Self::Words(words.unwrap_or_default()),
}

impl Figure {
    fn shown(&self, form: &str) -> String {
        let Estimate { value, interval } = match self {
            Self::Words(words) if words.is_empty() => return "-".into(),
            Self::Words(words) => return words.clone(),
            Self::Number(found) => *found,
        };
        let (digits, scale, unit) = match form.trim_end_matches(" alone").parse() {
            Ok(digits) => (digits, 1.0, ""),
            Err(_) => (0, 100.0, " %"),
        };
        let show = |number: f64| format!("{:.digits$}", number * scale);
        match interval.filter(|_| !form.ends_with("alone")) {
            _ if value.is_nan() => "-".into(),
            Some([low, high]) => format!("{}{unit} ({} to {})", show(value), show(low), show(high)),
            None => show(value) + unit,
        }
    }
}

/// The figures in a text: name, form, and the text that follows.
fn references(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    text.split('{').skip(1).map(|part| {
        let (reference, rest) = part.split_once('}').unwrap_or((part, ""));
        let (name, form) = reference.split_once(':').unwrap_or((reference, "2"));
        (name, form, rest)
    })
}

fn find<'a>(figures: &'a Figures, wanted: &str) -> Option<&'a Figure> {
    let found = figures.iter().find(|(name, _)| *name == wanted);
    debug_assert!(found.is_some(), "there is no figure '{wanted}'");
    found.map(|(_, figure)| figure)
}

/// A text with its figures filled in, and whether all of them are known.
pub fn filled(text: &str, figures: &Figures) -> (String, bool) {
    let (mut filled, mut known) = (text.split('{').next().unwrap_or_default().to_owned(), true);
    for (name, form, rest) in references(text) {
        let shown = find(figures, name).map_or("-".into(), |figure| figure.shown(form));
        known &= shown != "-";
        filled = filled + &shown + rest;
    }
    (filled, known)
}

/// A text without its figures.
pub fn emptied(text: &str) -> String {
    let rest: String = references(text).map(|(.., rest)| rest).collect();
    text.split('{').next().unwrap_or_default().to_owned() + &rest
}

/// The first number that a text names.
pub fn first_number(text: &str, figures: &Figures) -> Option<Estimate> {
    references(text).find_map(|(name, ..)| match find(figures, name) {
        Some(Figure::Number(found)) => Some(*found),
        _ => None,
    })
}
