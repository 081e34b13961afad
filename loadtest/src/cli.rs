//! The command line: typed, and checked as far as a single value can be.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::server::Strategy;

/// Puts load on the two servers and shows who did the work.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    /// The experiment.
    #[command(subcommand)]
    pub command: Command,
}

/// One subcommand per question.
#[derive(Subcommand)]
pub enum Command {
    /// How fast is it, and which worker did the work? One wrk run against one server.
    Bench(Bench),
    /// What does a request cost the server, beside nginx?
    Cost(Cost),
    /// Show saved results of `bench` side by side.
    Show(Show),
}

/// `loadtest bench`.
#[derive(Args)]
pub struct Bench {
    /// The server to start; it is stopped at the end
    #[arg(required_unless_present = "url")]
    pub server: Option<Strategy>,

    /// Measure a server that runs already, elsewhere perhaps: http://host:port/path.
    ///
    /// Whose workers did the work cannot be seen then, so there is no table of workers, and the
    /// count of requests is wrk's alone.
    #[arg(long, conflicts_with_all = ["server", "server_options", "url_path"], value_parser = http_url)]
    pub url: Option<String>,

    /// Threads of wrk
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: u64,

    /// Connections that wrk keeps open, shared out evenly among its threads.
    ///
    /// What does not divide evenly is not opened: 12 threads make 96 connections of 100.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub connections: u64,

    /// How long the load lasts, in whole seconds, such as 10s or 2m
    #[arg(long, default_value = "10s", value_parser = whole_seconds)]
    pub duration: Duration,

    /// Open a new connection for every request, instead of keeping connections alive.
    ///
    /// Choose it to compare how connections are accepted; with keep-alive they are accepted once,
    /// at the start.
    #[arg(long)]
    pub close: bool,

    /// What to ask for; others than / need the server's --lab
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = url_path)]
    pub url_path: String,

    /// Also save the result in this file, as JSON
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,

    /// Options for the server, after `--`, such as `-- --workers 8 --handler-cost 70us`.
    ///
    /// Its port is one that is free, unless --port says otherwise.
    #[arg(last = true, value_name = "SERVER OPTIONS")]
    pub server_options: Vec<String>,
}

/// `loadtest cost`.
#[derive(Args)]
pub struct Cost {
    /// A server to measure, with its options in one quoted string; can be repeated.
    ///
    /// Such as --server "shared --exec".
    #[arg(long = "server", value_name = "SERVER", default_values = ["shared", "reuseport"])]
    pub servers: Vec<String>,

    /// Workers of every server, nginx included
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: u16,

    /// Threads of wrk
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: u64,

    /// Connections of wrk
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub connections: u64,

    /// How long each run lasts, in whole seconds
    #[arg(long, default_value = "2s", value_parser = whole_seconds)]
    pub duration: Duration,

    /// Runs of each server in each mode; they are interleaved, and medians are shown
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,

    /// Also save the result, with every run, in this file, as JSON
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,
}

/// `loadtest show`.
#[derive(Args)]
pub struct Show {
    /// Files that `loadtest bench --json` wrote
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// The arguments of this program, for a result to name. They need not be UTF-8; a result is.
pub fn arguments() -> Vec<String> {
    let arguments = std::env::args_os().skip(1);
    arguments.map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// wrk takes whole seconds; rounding in silence would be another load than the one asked for.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.subsec_nanos() != 0 || duration.is_zero() {
        return Err("wrk takes whole seconds, at least one, such as 10s".into());
    }
    if duration > Duration::from_secs(24 * 60 * 60) {
        return Err("that is longer than a day; choose up to 24h".into());
    }
    Ok(duration)
}

fn url_path(text: &str) -> Result<String, String> {
    match text {
        _ if !text.starts_with('/') => Err(format!("a path begins with a slash, as in /{text}")),
        _ if !is_plain(text) => Err("a path has no spaces; write %20".into()),
        _ => Ok(text.into()),
    }
}

fn http_url(text: &str) -> Result<String, String> {
    match text.strip_prefix("http://") {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && is_plain(rest) => {
            Ok(text.into())
        }
        _ => Err("expected http://host:port/path".into()),
    }
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(line: &str) -> Result<Bench, String> {
        let words = ["loadtest", "bench"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Bench(bench) => Ok(bench),
            _ => Err("another subcommand".into()),
        }
    }

    #[test]
    fn the_defaults_are_the_posts_command_line() {
        let bench = bench("shared").unwrap();
        assert_eq!((bench.threads, bench.connections), (12, 100));
        assert_eq!(bench.duration, Duration::from_secs(10));
        assert!(!bench.close);
    }

    #[test]
    fn what_follows_the_dashes_is_the_servers() {
        let bench = bench("reuseport --close -- --workers 8 --threads 3").unwrap();
        assert_eq!(bench.server_options, ["--workers", "8", "--threads", "3"]);
        assert_eq!(bench.threads, 12);
    }

    #[test]
    fn a_url_takes_the_place_of_a_server() {
        assert!(bench("--url http://127.0.0.1:8080/").unwrap().server.is_none());
        assert!(bench("shared --url http://127.0.0.1:8080/").is_err());
        assert!(bench("--url http://127.0.0.1:8080/ -- --workers 2").is_err());
        assert!(bench("").is_err());
    }

    #[test]
    fn what_wrk_could_not_do_is_refused_by_name() {
        for (line, reason) in [
            ("shared --duration 1500ms", "whole seconds"),
            ("shared --duration 0s", "whole seconds"),
            ("shared --duration soon", "--duration"),
            ("shared --duration 25h", "24h"),
            ("shared --threads 0", "--threads"),
            ("shared --connections 0", "--connections"),
            ("shared --url-path spin", "/spin"),
            ("--url ftp://host/", "http://host:port"),
            ("unshared", "unshared"),
        ] {
            let refusal = bench(line).err().unwrap_or_else(|| panic!("{line} was accepted"));
            assert!(refusal.contains(reason), "{line}: {refusal}");
        }
    }

    #[test]
    fn the_definition_of_the_command_line_holds_together() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
