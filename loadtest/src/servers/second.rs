//! Whether another server may listen: starts a second one of the same kind on the port of the first.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::servers::record::Second;
use crate::servers::spread::{CONNECTIONS, open};
use crate::servers::subject::Subject;

/// How long the second server may try: gunicorn tries for five seconds.
const PATIENCE: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The length of the part of a refusal that is kept.
const LETTERS: usize = 160;

/// Starts the second server.
/// Fails when the first does not start, or connections to the two fail.
pub fn measure(subject: &Subject) -> Result<Second> {
    let mut first = subject.start()?;
    let second = subject.start_on(Some(first.address()));
    let found = match second {
        Err(reason) => Second::Refused(shortened(&format!("{reason:#}"))),
        Ok(mut second) => {
            let begin = Instant::now();
            loop {
                if second.has_ended() {
                    // `start_on` did not see the refusal, since the first server answered on this port.
                    break Second::Refused(shortened(&second.said()));
                }
                if !second.worker_pids().is_empty() {
                    let (clients, _) = open(&first, "/", false)?;
                    let counts = [second.held(), first.held()].map(|it| it.iter().sum::<u64>());
                    drop(clients);
                    let seen = counts[0] + counts[1] > CONNECTIONS as u64 / 2;
                    break Second::Silent(seen.then(|| [counts[0], counts[0] + counts[1]]));
                }
                if begin.elapsed() >= PATIENCE {
                    break Second::Tries;
                }
                sleep(LOOK_EVERY);
            }
        }
    };
    first.stop()?;
    Ok(found)
}

/// The end of a text, which has the reason. Paths are those of this machine: only the file name is kept.
pub fn shortened(text: &str) -> String {
    let words = text.split_whitespace().map(|word| match word.rsplit_once('/') {
        Some((_, file)) if word.starts_with('/') => file,
        _ => word,
    });
    let text = words.collect::<Vec<_>>().join(" ");
    let from = text.char_indices().rev().nth(LETTERS).map_or(0, |(place, _)| place);
    if from == 0 { text } else { format!("... {}", text[from..].trim_start()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_refusal_the_end_is_kept() {
        assert_eq!(shortened("a\nb"), "a b");
        assert_eq!(shortened("/opt/x/puma:25:in `load' | a/b"), "puma:25:in `load' | a/b");
        let long = shortened(&format!("{}: Address already in use", "x".repeat(500)));
        assert!(long.starts_with("... xx") && long.ends_with(": Address already in use"));
        assert!(long.len() < 180, "{long}");
    }
}
