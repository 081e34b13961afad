//! Numbers as texts, for all renderers.

use crate::report::model::{Cell, Mark, Unit};

/// The text for a missing figure.
pub const NONE: &str = "-";

/// A number in the form of its unit.
pub fn number(value: f64, unit: Unit) -> String {
    if !value.is_finite() {
        return NONE.into(); // a division by zero
    }
    match unit {
        Unit::Count | Unit::PerSecond => rounded(value),
        Unit::Mean => format!("{value:.1}"),
        Unit::Microseconds => microseconds(value),
        Unit::Ratio => format!("{value:.3}"),
        Unit::Times | Unit::Seconds => format!("{value:.2}"),
        Unit::Part => percent(value),
        Unit::Probability if value > 0.0 && value < 0.005 => format!("{value:.1e}"),
        Unit::Probability => format!("{value:.2}"),
        Unit::Percentile => format!("p{value}"),
        Unit::Id | Unit::Text => value.to_string(),
    }
}

/// A number with a noun, in the plural if needed.
pub fn plural(number: u64, what: &str) -> String {
    let end = match what.ends_with('s') {
        _ if number == 1 => "",
        true => "es",
        false => "s",
    };
    format!("{} {what}{end}", count(number))
}

/// The verb after such a number.
pub fn are(number: u64) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

/// The number of workers among these processes, of which some only accept for the others.
pub fn workers(all: usize, acceptors: usize) -> String {
    let workers = plural((all - acceptors) as u64, "worker");
    if acceptors == 0 { workers } else { workers + " and a process that accepts" }
}

/// Both ends of an interval.
pub fn interval([low, high]: [f64; 2], unit: Unit) -> String {
    format!("({} to {})", number(low, unit), number(high, unit))
}

/// A number on an axis, as short as possible.
pub fn tick(value: f64, unit: Unit) -> String {
    let short = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    match unit {
        Unit::Microseconds | Unit::Part => {
            let text = number(value, unit);
            let (digits, unit) = text.split_once(' ').unwrap_or((&text, ""));
            format!("{} {unit}", short(digits))
        }
        Unit::Percentile => number(value, unit),
        _ if value.abs() >= 1000.0 => rounded(value),
        _ => short(&format!("{value:.3}")),
    }
}

/// The figure of a cell without its interval and its words.
pub fn figure(cell: &Cell, unit: Unit) -> Option<String> {
    cell.value.map(|value| number(value, cell.unit.unwrap_or(unit)))
}

/// The parts of a cell: its figure, with a sign if it is not good, its interval, and its words.
pub fn parts(of: &Cell, unit: Unit) -> Vec<String> {
    let figure = figure(of, unit).map(|figure| figure + of.mark.map_or("", Mark::sign));
    let ends = of.interval.map(|ends| interval(ends, of.unit.unwrap_or(unit)));
    let parts = [figure, ends, of.text.clone()];
    if parts == [const { None }; 3] {
        vec![NONE.into()]
    } else {
        parts.into_iter().flatten().collect()
    }
}

/// A cell in a line.
pub fn cell(of: &Cell, unit: Unit) -> String {
    parts(of, unit).join(" ")
}

/// A part of the whole.
fn percent(part: f64) -> String {
    let percent = part * 100.0;
    let digits = match percent.abs() {
        0.0 => 1,
        ..0.0995 => 3,
        ..0.995 => 2,
        _ => 1,
    };
    format!("{percent:.digits$} %")
}

/// A whole number with separated thousands: `34 492`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let starts_group = |place: usize| place > 0 && (digits.len() - place).is_multiple_of(3);
    let letters = digits.chars().enumerate();
    letters
        .flat_map(|(place, digit)| starts_group(place).then_some(' ').into_iter().chain([digit]))
        .collect()
}

/// The same for a number with a fraction, which is rounded.
pub fn rounded(value: f64) -> String {
    count(value.round() as u64)
}

/// Microseconds in a suitable unit, with three significant digits; whole microseconds are shown exactly.
pub fn microseconds(value: f64) -> String {
    let (value, unit) = match value {
        ..999.5 => (value, "µs"),
        ..999_500.0 => (value / 1e3, "ms"),
        _ => (value / 1e6, "s"),
    };
    let digits = match value {
        _ if unit == "µs" && value.fract() == 0.0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A bar of up to `width` characters, in steps of an eighth; any value above 0 is visible.
pub fn bar(value: u64, most: u64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if most == 0 || value == 0 {
        return String::new();
    }
    let eighths = (value as f64 / most as f64 * (width * 8) as f64).round().max(1.0) as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// A probability; one that is too small for digits is shown as below a limit.
pub fn probability(p: f64) -> String {
    const LEAST: f64 = 1e-300;
    if p < LEAST { format!("p < {LEAST:e}") } else { format!("p = {p:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (34_492, "34 492")] {
            assert_eq!(count(value), text);
        }
        assert_eq!(rounded(1_234_567.8), "1 234 568");
    }

    #[test]
    fn a_time_is_shown_in_the_unit_that_fits() {
        for (value, text) in [
            (0.0, "0 µs"),
            (870.0, "870 µs"),
            (8.25, "8.25 µs"),
            (45.26, "45.3 µs"),
            (999.6, "1.00 ms"),
            (1020.5, "1.02 ms"),
            (12_345.0, "12.3 ms"),
            (123_456.0, "123 ms"),
            (1_230_000.0, "1.23 s"),
        ] {
            assert_eq!(microseconds(value), text);
        }
    }

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!(bar(10, 10, 4), "████");
        assert_eq!(bar(5, 10, 4), "██");
        assert_eq!(bar(1, 1000, 4), "▏");
        assert_eq!(bar(0, 10, 4), "");
        assert_eq!(bar(0, 0, 4), "");
    }
}
