//! Figures that can be checked: each carries its full value, and where the saved record has it.
//!
//! What is shown is rounded, so it cannot be compared with the record. What it was rounded from
//! can: `data-at` is a JSON pointer (RFC 6901) into the record, which must lead to the same number.

use maud::{Markup, html};
use serde_json::Value;

use crate::report::format::{microseconds, rounded};

/// A number of the record, shown as `show` has it.
pub fn figure<T: Into<Value> + Copy>(value: T, at: &str, show: impl FnOnce(T) -> String) -> Markup {
    let full = value.into();
    // What cannot be divided, such as CPU time by no requests, is null in the record as well.
    let shown = if full.is_null() { "–".into() } else { show(value) };
    html! { data value=(full) data-at=(at) { (shown) } }
}

/// Both ends of an interval.
pub fn interval(ends: [f64; 2], at: &str, show: impl Fn(f64) -> String) -> Markup {
    html! {
        (figure(ends[0], &format!("{at}/0"), &show)) " to "
        (figure(ends[1], &format!("{at}/1"), &show))
    }
}

/// A text of the record.
pub fn words(text: &str, at: &str) -> Markup {
    html! { span data-at=(at) { (text) } }
}

/// A number of this kind as JSON has it, for points of pictures.
pub fn full(value: impl Into<Value>) -> Value {
    value.into()
}

/// Microseconds, with the letter that paper allows.
pub fn time(us: f64) -> String {
    microseconds(us).replace("us", "µs")
}

/// The same without zeros at its end, for axes.
pub fn round_time(us: f64) -> String {
    let text = time(us);
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

/// The same of a whole number.
pub fn whole_time(us: u64) -> String {
    time(us as f64)
}

/// Requests per second.
pub fn rate(value: f64) -> String {
    rounded(value)
}

/// A ratio, with as many digits as the verdict has.
pub fn ratio(value: f64) -> String {
    format!("{value:.3}")
}

/// A number near 1, or near a number of cores.
pub fn two_digits(value: f64) -> String {
    format!("{value:.2}")
}

/// A part of the whole.
pub fn percent(part: f64) -> String {
    let percent = part * 100.0;
    // 0.6 * 100 is not quite 60.
    let whole = (percent - percent.round()).abs() < 1e-9;
    let digits = match percent {
        _ if whole => 0,
        ..0.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{percent:.digits$} %")
}
