//! The values of options, checked one by one.

use std::time::Duration;

use crate::server::Spec;
use crate::servers::catalogue::{CATALOGUE, names};
use crate::statistics::verdict::FEWEST_ROUNDS;

/// wrk takes whole seconds; silent rounding would give another load than the one asked for.
pub fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = parse_time(text)?;
    if duration.subsec_nanos() != 0 || duration.is_zero() {
        return Err("wrk takes whole seconds, at least one, such as 1s".into());
    }
    time(text, "1s", "24h")
}

/// Any time that is worth waiting for, or none.
pub fn no_time_or_some(text: &str) -> Result<Duration, String> {
    time(text, "0s", "24h")
}

/// Any time that is worth waiting for.
pub fn some_time(text: &str) -> Result<Duration, String> {
    time(text, "1ms", "24h")
}

/// CPU time is counted in ticks of 10 ms: over less than 100 ms it would say next to nothing.
pub fn interval(text: &str) -> Result<Duration, String> {
    time(text, "100ms", "1h")
}

fn time(text: &str, least: &str, most: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time < parse_time(least)? || time > parse_time(most)? {
        return Err(format!("choose a time from {least} to {most}"));
    }
    Ok(time)
}

/// What is wrong with a time is seldom where the parser stumbles.
fn parse_time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a time with its unit, such as 10s, 2m or 500ms".into())
}

/// A whole number within limits; the greatest of all is no limit.
pub fn number<T: TryFrom<u64>, const LEAST: u64, const MOST: u64>(text: &str) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| (LEAST..=MOST).contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| match MOST {
        u64::MAX => format!("expected a whole number of at least {LEAST}"),
        _ => format!("expected a whole number from {LEAST} to {MOST}"),
    })
}

/// Fewer rounds give no interval, and so no verdict.
pub fn rounds(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(rounds) if (FEWEST_ROUNDS..=100_000).contains(&rounds) => Ok(rounds),
        Ok(0..FEWEST_ROUNDS) => Err(format!(
            "a 95 % interval needs at least {FEWEST_ROUNDS} rounds: with fewer, all ratios lie on the \
             same side by chance more often than 1 time in 20"
        )),
        _ => Err(format!("expected a number from {FEWEST_ROUNDS} to 100000")),
    }
}

/// Percent as a part of 1.
pub fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim_end().parse::<f64>() {
        Ok(percent) if (0.0..50.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("expected percent from 0 to less than 50, such as 2".into()),
    }
}

/// A server of the catalogue, by its program's name or its own; or the command of another.
pub fn server_name(text: &str) -> Result<String, String> {
    let known = CATALOGUE.iter().any(|program| {
        program.name == text || program.settings.iter().any(|setting| setting.name == text)
    });
    if known {
        return Ok(text.into());
    }
    if text.contains("cmd:") {
        return Spec::parse(text).map(|_| text.into()).map_err(|error| error.to_string());
    }
    Err(format!(
        "there is no server of that name; there are {} (--list shows all settings); add your own \
         as NAME=cmd:COMMAND",
        names().join(", ")
    ))
}

/// `lab --publish` was an option once: names the program that replaced it.
pub fn moved_to_publish(root: &str) -> Result<std::path::PathBuf, String> {
    Err(format!(
        "this is now a separate program, to be run after the lab (`make lab` does it): cargo run \
         --release --package loadtest --bin publish -- --lab FILE {root}"
    ))
}
