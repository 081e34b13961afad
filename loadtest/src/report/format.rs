//! Numbers as people read them.

/// A whole number with its thousands apart: `34 492`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(" ")
}

/// The same, of a number that may have a fraction, which is rounded off.
pub fn rounded(value: f64) -> String {
    count(value.round() as u64)
}

/// Microseconds in the unit that fits, with three digits that mean something.
pub fn microseconds(value: f64) -> String {
    let (value, unit) = match value {
        ..999.5 => (value, "us"),
        ..999_500.0 => (value / 1e3, "ms"),
        _ => (value / 1e6, "s"),
    };
    let digits = match value {
        ..9.995 if unit != "us" => 2,
        ..99.95 if unit != "us" => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A bar of up to `width` characters, in steps of an eighth; something, however little, is seen.
pub fn bar(value: u64, most: u64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if most == 0 || value == 0 {
        return String::new();
    }
    let eighths = (value as f64 / most as f64 * (width * 8) as f64).round().max(1.0) as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
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
            (0.0, "0 us"),
            (870.0, "870 us"),
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
