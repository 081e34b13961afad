//! A mix of paths (`--mix FILE`): a weight and a path in each line.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::load::Share;
use crate::types::url_path;

/// Reads a mix. Empty lines are ignored, and so is the text after a `#`.
///
/// # Errors
/// When the file cannot be read, a line is something else, or no path is left; the line is named.
pub fn read(path: &Path) -> Result<Vec<Share>> {
    let show = path.display();
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read --mix {show}; name a file with a line such as `199 /` for each path")
    })?;
    let mut shares = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> =
            line.split('#').next().unwrap_or_default().split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        let share = parse(&words)
            .with_context(|| format!("--mix {show}, line {}: {}", number + 1, line.trim()))?;
        shares.push(share);
    }
    ensure!(!shares.is_empty(), "--mix {show} names no path; write a line such as `199 /`");
    Ok(shares)
}

fn parse(words: &[&str]) -> Result<Share> {
    let [weight, path] = words else {
        bail!("expected a weight and a path, such as `199 /`");
    };
    let weight: f64 = match weight.parse() {
        Ok(weight) if weight > 0.0 && weight < 1e9 => weight,
        _ => bail!("{weight} is not a weight; expected a number above 0"),
    };
    let path = url_path(path).map_err(anyhow::Error::msg)?;
    // They would have to be escaped for Lua; in a URL they must be escaped anyway.
    ensure!(!path.contains(['"', '\\']), "write %22 for a quote and %5C for a backslash");
    Ok(Share { weight, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(text: &str) -> Result<Vec<Share>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mix");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn each_line_is_a_weight_and_a_path() {
        let shares = reading("# heavy ones\n199 /\n\n1 /block/20000 # 20 ms\n").unwrap();
        let share = |weight, path: &str| Share { weight, path: path.into() };
        assert_eq!(shares, [share(199.0, "/"), share(1.0, "/block/20000")]);
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        for (text, reason) in [
            ("199 /\n1", "line 2: 1: expected a weight and a path"),
            ("much /", "much is not a weight"),
            ("0 /", "0 is not a weight"),
            ("1 block", "begins with a slash"),
            ("1 /\"", "%22"),
            ("# nothing\n", "names no path"),
        ] {
            let refusal = reading(text).unwrap_err();
            assert!(refusal.contains(reason), "{refusal}");
        }
    }
}
