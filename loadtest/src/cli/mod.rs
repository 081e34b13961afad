//! The command line: typed, and checked as far as a single value can be.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::lab::book;
use crate::probe::fault::Fault;
use crate::server::Strategy;
use crate::statistics::verdict::FEWEST_ROUNDS;

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
    /// Is one faster here, by how much, and how sure are we? wrk visits several servers in turn.
    Compare(Compare),
    /// Every policy in every workload: who is good in which, and is anybody good in all?
    Matrix(Matrix),
    /// What others claim about shared sockets and SO_REUSEPORT: is it so on this machine?
    Lab(Lab),
    /// Can `compare` be trusted here? Verdicts on what is known beforehand. Takes about half an hour.
    Trust(Trust),
    /// What does a request cost the server, beside nginx?
    Cost(Cost),
    /// What is lost when a worker stalls, dies or is replaced? The outcome of every single request.
    ///
    /// It is no benchmark: one thread asks, and its rate says nothing about the server's limit.
    Probe(Probe),
    /// Show saved results again: some of `bench` side by side, or one of `compare`, `matrix` or `lab`.
    Show(Show),
    /// Who serves what, just now? A live view of a running server, in the manner of `top`.
    ///
    /// In a terminal it stays until q is pressed or the server ends; ? says which keys there are.
    /// Without a terminal it prints one reading and ends. It only reads, and asks the server nothing.
    Watch(Watch),
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

/// `loadtest compare`.
#[derive(Args)]
pub struct Compare {
    /// A server with its options in one quoted string, such as "shared --exec"; two or more.
    ///
    /// A name of your own goes before it: "four=reuseport --workers 4". The same server given twice
    /// (or more often), and nothing else, checks the comparison itself: it must find no difference.
    #[arg(value_name = "SERVER", default_values = ["shared", "reuseport"])]
    pub servers: Vec<String>,

    /// Slices of each server; each opens new connections
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = rounds)]
    pub rounds: u32,

    /// How long a slice lasts, in whole seconds
    #[arg(long, default_value = "1s", value_parser = whole_seconds)]
    pub slice: Duration,

    /// Threads of wrk
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: u64,

    /// Connections that wrk keeps open, shared out evenly among its threads.
    ///
    /// What does not divide evenly is not opened: 12 threads make 96 connections of 100.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub connections: u64,

    /// Open a new connection for every request, instead of keeping connections alive
    #[arg(long)]
    pub close: bool,

    /// What to ask for; others than / need the server's --lab
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = url_path)]
    pub path: String,

    /// Ask for several paths: a file with a weight and a path in each line.
    ///
    /// Such as "199 /" and "1 /block/20000": one request in 200 blocks its worker for 20 ms.
    #[arg(long, value_name = "FILE", conflicts_with = "path")]
    pub mix: Option<PathBuf>,

    /// What the order of turns, and all that is drawn at random afterwards, begins with
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// The server that others are compared with, by its name; the first if nothing is said
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,

    /// Differences up to so many percent count as noise
    #[arg(long, value_name = "PERCENT", default_value = "2", value_parser = percent)]
    pub threshold: f64,

    /// Give the server one half of the cores and wrk the other
    #[arg(long)]
    pub pin: bool,

    /// Start each server for its slice and end it afterwards, instead of having all of them up.
    ///
    /// For many workers: a server that nobody asks costs next to nothing with 4 of them, but each
    /// looks after itself four times a second, and 2 000 that wait take a few percent of two cores.
    #[arg(long)]
    pub one_at_a_time: bool,

    /// How long each server is asked at each fixed rate, for latencies; 0s: not at all
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    pub fixed_rate: Duration,

    /// Save the result in this file after each slice, as JSON; if nothing is said, as compare.json in
    /// the folder `loadtest` beside that of this program
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,

    /// Also write a report to look at in a browser
    #[arg(long, value_name = "PATH")]
    pub html: Option<PathBuf>,

    /// Print the tables as Markdown, for a pull request say
    #[arg(long)]
    pub markdown: bool,

    /// Go on with the run that is saved, from the slice after its last
    #[arg(long)]
    pub resume: bool,
}

impl Compare {
    /// What the command line means if it says nothing.
    pub fn defaults() -> Self {
        #[derive(Parser)]
        struct Alone {
            #[command(flatten)]
            compare: Compare,
        }
        Alone::parse_from(["compare"]).compare
    }
}

/// `loadtest matrix`.
#[derive(Args)]
pub struct Matrix {
    /// Slices of each policy in each workload
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = rounds)]
    pub rounds: u32,

    /// How often a worker of each policy is stopped and killed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub stops: u32,

    /// Run this workload only; can be repeated
    #[arg(long, value_name = "WORKLOAD")]
    pub only: Vec<String>,

    /// What the order of turns, and all that is drawn at random afterwards, begins with
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Save the result in this file, as JSON, and the slices of each workload beside it; if nothing is
    /// said, as matrix.json in the folder `loadtest` beside that of this program
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,

    /// Also write a report to look at in a browser
    #[arg(long, value_name = "PATH")]
    pub html: Option<PathBuf>,

    /// Print the tables as Markdown
    #[arg(long)]
    pub markdown: bool,

    /// Go on with the workloads that are saved, from the slice after their last
    #[arg(long)]
    pub resume: bool,
}

/// `loadtest lab`.
#[derive(Args)]
pub struct Lab {
    /// The experiments to run; all, if none is named
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(book::names()),
          hide_possible_values = true)]
    pub names: Vec<String>,

    /// The short form of each: under three minutes for all, with wide intervals
    #[arg(long)]
    pub quick: bool,

    /// Say which experiments there are and how long they take, and run none
    #[arg(long)]
    pub list: bool,

    /// What orders of turns, and all that is drawn at random, begin with
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Take over this result of `matrix`; if nothing is said, the one in the folder `loadtest` beside
    /// that of this program, if it is there and was made on this machine
    #[arg(long, value_name = "PATH")]
    pub matrix: Option<PathBuf>,

    /// Save the result in this file after each sample, as JSON; if nothing is said, as lab.json
    /// in the folder `loadtest` beside that of this program
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,

    /// Also write the book, a chapter for each experiment, to be read in a browser
    #[arg(long, value_name = "PATH")]
    pub html: Option<PathBuf>,

    /// Print it as Markdown
    #[arg(long)]
    pub markdown: bool,

    /// Go on with the run that is saved, from the sample after its last; experiments that had
    /// failed are done again
    #[arg(long)]
    pub resume: bool,

    /// Also put the results into this checkout of the repository: its README's answer, RESULTS.md,
    /// RESULTS.json and results.svg. A whole run only, with the matrix
    #[arg(long, value_name = "DIR")]
    pub publish: Option<PathBuf>,
}

/// `loadtest trust`.
#[derive(Args)]
pub struct Trust {
    /// The server, with its options in one quoted string
    #[arg(value_name = "SERVER", default_value = "reuseport")]
    pub server: String,

    /// Verdicts on the same server twice, and as many on one that is 5 % slower
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub verdicts: u32,

    /// Slices of 1 s that each verdict rests on
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = rounds)]
    pub rounds: u32,

    /// What the order of turns begins with
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Also save the verdicts in this file, as JSON
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,
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

/// `loadtest probe`.
#[derive(Args)]
pub struct Probe {
    /// The server to start; it is stopped at the end
    #[arg(required_unless_present = "url")]
    pub server: Option<Strategy>,

    /// Ask a server that runs already, elsewhere perhaps: http://host:port/path.
    ///
    /// Nothing can be done to it (--fault), and it cannot be asked for its own count.
    #[arg(long, conflicts_with_all = ["server", "server_options", "url_path", "faults"], value_parser = http_url)]
    pub url: Option<String>,

    /// Clients, each with one request at a time; with --rate, the most requests under way.
    ///
    /// 32 clients if nothing is said; with --rate 10000, or fewer where too few files may be open.
    /// What is due beyond that is not sent, and counted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub connections: Option<u64>,

    /// Ask so many times a second, whether or not earlier requests are answered (an open loop).
    ///
    /// Without it each client waits for its answer before it asks again (a closed loop), and a
    /// stalled server is asked less. Choose it for latencies.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: Option<u64>,

    /// Send many requests over each connection, instead of opening one for each.
    ///
    /// With --rate, at least 32 connections take turns.
    #[arg(long)]
    pub keep_alive: bool,

    /// How long requests are sent, such as 5s or 1500ms; 5s if nothing is said
    #[arg(long, conflicts_with = "requests", value_parser = some_time)]
    pub duration: Option<Duration>,

    /// How many requests are sent, instead of for how long
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,

    /// How long a connection may take to open, and then the answer to come
    #[arg(long, default_value = "2s", value_parser = some_time)]
    pub timeout: Duration,

    /// What to ask for; others than / need the server's --lab, and may be answered by anything
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = url_path)]
    pub url_path: String,

    /// Do this to the server, so long after the start; can be repeated.
    ///
    /// stop-worker@2s, continue-worker@3s (SIGSTOP, SIGCONT), kill-worker@3s (SIGKILL; a stopped
    /// one if there is any), reload@4s (SIGHUP), add-worker@4s, remove-worker@5s (SIGTTIN, SIGTTOU),
    /// term@5s, quit@5s, kill-parent@5s. Of the workers, it is the one that has answered most.
    /// reload@1s*20/250ms does it 20 times, every 250 ms.
    #[arg(long = "fault", value_name = "FAULT@TIME")]
    pub faults: Vec<Fault>,

    /// Also save the result in this file, as JSON
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,

    /// Options for the server, after `--`, such as `-- --workers 8`.
    ///
    /// Its port is one that is free, unless --port says otherwise.
    #[arg(last = true, value_name = "SERVER OPTIONS")]
    pub server_options: Vec<String>,
}

/// `loadtest show`.
#[derive(Args)]
pub struct Show {
    /// Files that `loadtest bench --json` wrote, or one that `compare`, `matrix` or `lab` did
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Also write a report to look at in a browser; not of `bench`
    #[arg(long, value_name = "PATH")]
    pub html: Option<PathBuf>,

    /// Print the tables as Markdown; not of `bench`
    #[arg(long)]
    pub markdown: bool,
}

/// `loadtest watch`.
#[derive(Args)]
#[command(group = ArgGroup::new("running").required(true).args(["path", "pid"]))]
pub struct Watch {
    /// The file that the server was given as --scoreboard
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,

    /// A running server's process, the parent; or the one that started it, such as a loadtest that
    /// runs
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=i32::MAX as i64))]
    pub pid: Option<u32>,

    /// The time between two readings, such as 1s or 250ms; rates are averages over it
    #[arg(long, default_value = "1s", value_parser = interval)]
    pub interval: Duration,

    /// Print so many readings as text and end, in a terminal too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
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

/// Fewer rounds give no interval, and so no verdict.
fn rounds(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(rounds) if (FEWEST_ROUNDS..=100_000).contains(&rounds) => Ok(rounds),
        Ok(0..FEWEST_ROUNDS) => Err(format!(
            "a 95 % interval needs at least {FEWEST_ROUNDS} rounds: fewer all lean to the same side \
             by chance more often than 1 time in 20"
        )),
        _ => Err(format!("expected a number from {FEWEST_ROUNDS} to 100000")),
    }
}

/// Percent as a part of 1.
fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim_end().parse::<f64>() {
        Ok(percent) if (0.0..50.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("expected percent from 0 to less than 50, such as 2".into()),
    }
}

/// Any time that is worth waiting for.
fn some_time(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_millis(1) || duration > Duration::from_secs(24 * 60 * 60) {
        return Err("choose something from 1ms to 24h".into());
    }
    Ok(duration)
}

/// CPU time is counted in ticks of 10 ms: over less than 100 ms it would say next to nothing.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_millis(100) || interval > Duration::from_secs(60 * 60) {
        return Err("choose something from 100ms to 1h".into());
    }
    Ok(interval)
}

/// A path that can be asked for.
pub fn url_path(text: &str) -> Result<String, String> {
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

    fn probe(line: &str) -> Result<Probe, String> {
        let words = ["loadtest", "probe"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Probe(probe) => Ok(probe),
            _ => Err("another subcommand".into()),
        }
    }

    #[test]
    fn the_prober_takes_several_faults_and_a_duration_or_a_number() {
        let asked = probe("shared --fault stop-worker@2s --fault reload@3s*2/1s --rate 9").unwrap();
        assert_eq!((asked.faults.len(), asked.rate), (2, Some(9)));
        assert_eq!(asked.timeout, Duration::from_secs(2));
        assert!(probe("shared --requests 9").is_ok());
    }

    #[test]
    fn what_the_prober_could_not_do_is_refused_by_name() {
        for (line, reason) in [
            ("shared --rate 0", "--rate"),
            ("shared --connections 0", "--connections"),
            ("shared --requests 0", "--requests"),
            ("shared --duration 0s", "--duration"),
            ("shared --duration 2s --requests 5", "--requests"),
            ("shared --timeout 0s", "--timeout"),
            ("shared --fault explode@1s", "there are stop-worker"),
            ("--url http://127.0.0.1/ --fault reload@1s", "--fault"),
            ("--url http://127.0.0.1/ --url-path /x", "--url-path"),
            ("--connections 3", "required"),
        ] {
            let refusal = probe(line).err().unwrap_or_else(|| panic!("{line} was accepted"));
            assert!(refusal.contains(reason), "{line}: {refusal}");
        }
    }

    #[test]
    fn the_definition_of_the_command_line_holds_together() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
