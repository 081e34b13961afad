//! The command line: one clear line for every error, and an exit status.

pub mod announce;
pub mod log;
pub mod options;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Command, Parser};

/// Parses the command line; on bad input prints one line and exits with status 2 before any work.
///
/// clap explains an error in a paragraph with usage and tips. A line is easier to find between
/// the lines of a log, so only what names the value, the reason and the remedy is kept.
pub fn parse<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.exit(),
        // Without the required subcommand the help is more useful than one line.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => {
            let command = T::command();
            let name = command.get_name();
            let help = help_of(&command, std::env::args_os().nth(1));
            eprintln!("{name}: {} (see {help})", one_line(&error.to_string()));
            std::process::exit(2)
        }
    })
}

/// How to see the help with the options: the subcommand's, if `word` is one.
fn help_of(command: &Command, word: Option<OsString>) -> String {
    let subcommand = word.and_then(|word| command.find_subcommand(word));
    let words = [Some(command), subcommand].into_iter().flatten().map(Command::get_name);
    words.chain(["--help"]).collect::<Vec<_>>().join(" ")
}

/// Keeps the reason and the tips of clap's paragraph; drops the usage and the hint at the help.
fn one_line(paragraph: &str) -> String {
    let kept: Vec<&str> = paragraph
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    kept.join("; ").trim_start_matches("error: ").replace(":; ", ": ")
}

/// Runs a program's `main`: an error becomes one line on stderr and a failing exit status.
pub fn main(name: &str, run: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claps_paragraph_becomes_one_line_that_names_value_reason_and_remedy() {
        let paragraph = "error: unexpected argument '--prot' found\n\n  tip: a similar argument \
                         exists: '--port'\n\nUsage: x --port <N>\n\nFor more information, try '--help'.";
        assert_eq!(
            one_line(paragraph),
            "unexpected argument '--prot' found; tip: a similar argument exists: '--port'"
        );
    }
}
