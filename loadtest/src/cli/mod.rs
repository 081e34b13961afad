//! The command line: typed, and checked as far as a single value can be.

mod groups;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args, Parser, Subcommand};

pub use self::groups::{Arrivals, LoadArgs, OutputArgs, SeedArg, TargetArgs};
use self::values::{percent, rounds, some_time, whole_seconds};
use crate::lab::book;
use crate::probe::fault::Fault;
use crate::types::url_path;

/// The help of `--json` where a result is saved in any case.
const JSON_OF_COMPARE: &str = "Save the result in this file after each slice, as JSON; if nothing is \
    said, as compare.json in the folder `loadtest` beside that of this program";
const JSON_OF_MATRIX: &str = "Save the result in this file, as JSON, and the slices of each workload \
    beside it; if nothing is said, as matrix.json in the folder `loadtest` beside that of this program";
const JSON_OF_LAB: &str = "Save the result in this file after each sample, as JSON; if nothing is \
    said, as lab.json in the folder `loadtest` beside that of this program";

/// Puts load on servers and shows who did the work.
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
    #[command(visible_alias = "trust")]
    SelfCheck(SelfCheck),
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
    /// The server.
    #[command(flatten)]
    pub target: TargetArgs,

    /// The load.
    #[command(flatten)]
    pub load: LoadArgs,

    /// How long the load lasts, in whole seconds, such as 10s or 2m
    #[arg(long, default_value = "10s", value_parser = whole_seconds)]
    pub duration: Duration,

    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `loadtest compare`.
#[derive(Args)]
#[command(mut_arg("json", |json| json.help(JSON_OF_COMPARE)))]
pub struct Compare {
    /// A server with its options in one quoted string, such as "shared --exec"; two or more.
    ///
    /// A name of your own goes before it: "four=reuseport --workers 4". Any other server is given by its
    /// command, with {port} and {host} in it, as in "gunicorn=cmd:gunicorn -b {host}:{port} -w 4 app:app",
    /// or, if it runs already, by its URL: "other=http://host:port/path". The same server given twice
    /// (or more often), and nothing else, checks the comparison itself: it must find no difference.
    #[arg(value_name = "SERVER", default_values = ["shared", "reuseport"])]
    pub servers: Vec<String>,

    /// Slices of each server; each opens new connections
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = rounds)]
    pub rounds: u32,

    /// How long a slice lasts, in whole seconds
    #[arg(long, default_value = "1s", value_parser = whole_seconds)]
    pub slice: Duration,

    /// The load.
    #[command(flatten)]
    pub load: LoadArgs,

    /// What to ask for; others than / need the server's --lab
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = url_path)]
    pub path: String,

    /// Ask for several paths: a file with a weight and a path in each line.
    ///
    /// Such as "199 /" and "1 /block/20000": one request in 200 blocks its worker for 20 ms.
    #[arg(long, value_name = "FILE", conflicts_with = "path")]
    pub mix: Option<PathBuf>,

    /// The seed.
    #[command(flatten)]
    pub random: SeedArg,

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

    /// Measure latencies at this rate too, in requests/s; can be repeated
    #[arg(long = "rate", value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rates: Vec<u64>,

    /// The text that must be the whole answer; others count as wrong.
    ///
    /// Nothing is expected if nothing is said, but of our servers `hello` at /.
    #[arg(long, value_name = "TEXT")]
    pub expect: Option<String>,

    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,

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
#[command(mut_arg("json", |json| json.help(JSON_OF_MATRIX)))]
pub struct Matrix {
    /// Slices of each policy in each workload
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = rounds)]
    pub rounds: u32,

    /// How often a worker of each policy is stopped and killed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub stops: u32,

    /// The short form: four workloads, both load-aware policies and one rival for each server; about
    /// 10 minutes instead of 60
    #[arg(long)]
    pub quick: bool,

    /// Run this workload only; can be repeated
    #[arg(long, value_name = "WORKLOAD")]
    pub only: Vec<String>,

    /// The seed.
    #[command(flatten)]
    pub random: SeedArg,

    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,

    /// Go on with the workloads that are saved, from the slice after their last
    #[arg(long)]
    pub resume: bool,
}

/// `loadtest lab`.
#[derive(Args)]
#[command(mut_arg("json", |json| json.help(JSON_OF_LAB)))]
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

    /// The seed.
    #[command(flatten)]
    pub random: SeedArg,

    /// Take over this result of `matrix`; if nothing is said, the one in the folder `loadtest` beside
    /// that of this program, if it is there and was made on this machine
    #[arg(long, value_name = "PATH")]
    pub matrix: Option<PathBuf>,

    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,

    /// Go on with the run that is saved, from the sample after its last; experiments that had
    /// failed are done again
    #[arg(long)]
    pub resume: bool,

    /// Also put the results into this checkout of the repository: its README's answer, RESULTS.md,
    /// RESULTS.json and results.svg. A whole run only, with the matrix
    #[arg(long, value_name = "DIR")]
    pub publish: Option<PathBuf>,
}

/// `loadtest self-check`.
#[derive(Args)]
pub struct SelfCheck {
    /// The server, with its options in one quoted string
    #[arg(value_name = "SERVER", default_value = "reuseport")]
    pub server: String,

    /// Verdicts on the same server twice, and as many on one that is 5 % slower
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub verdicts: u32,

    /// Slices of 1 s that each verdict rests on
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = rounds)]
    pub rounds: u32,

    /// The seed.
    #[command(flatten)]
    pub random: SeedArg,

    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,
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

    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `loadtest probe`.
#[derive(Args)]
pub struct Probe {
    /// The server.
    #[command(flatten)]
    pub target: TargetArgs,

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

    /// When requests are due, with --rate
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub arrivals: Arrivals,

    /// The seed.
    #[command(flatten)]
    pub random: SeedArg,

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

    /// The text that must be the whole answer; others count as wrong.
    ///
    /// If nothing is said, our servers are to answer `hello` at /, and anything elsewhere; other
    /// servers may answer anything.
    #[arg(long, value_name = "TEXT")]
    pub expect: Option<String>,

    /// Do this to the server, so long after the start; can be repeated.
    ///
    /// stop-worker@2s, continue-worker@3s (SIGSTOP, SIGCONT), kill-worker@3s (SIGKILL; a stopped
    /// one if there is any), reload@4s (SIGHUP), add-worker@4s, remove-worker@5s (SIGTTIN, SIGTTOU),
    /// term@5s, quit@5s, kill-parent@5s. Of the workers, it is the one that has answered most.
    /// reload@1s*20/250ms does it 20 times, every 250 ms.
    #[arg(long = "fault", value_name = "FAULT@TIME", conflicts_with = "url")]
    pub faults: Vec<Fault>,

    /// The signal that a fault sends to a server of another kind; can be repeated.
    ///
    /// Such as reload=USR2. Known programs (nginx, gunicorn, puma and others) have defaults.
    #[arg(long = "signal", value_name = "FAULT=SIGNAL")]
    pub signals: Vec<String>,

    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,
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
    #[arg(long, default_value = "1s", value_parser = values::interval)]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a command line; a refusal as its text.
    fn parse(line: &str) -> Result<Command, String> {
        let words = ["loadtest"].into_iter().chain(line.split_whitespace());
        Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_the_posts_command_line() {
        let Ok(Command::Bench(bench)) = parse("bench shared") else { panic!() };
        assert_eq!((bench.load.threads, bench.load.connections), (12, 100));
        assert_eq!(bench.duration, Duration::from_secs(10));
        assert!(!bench.load.close);
    }

    #[test]
    fn what_follows_the_dashes_is_the_servers() {
        let line = "bench reuseport --close -- --workers 8 --threads 3";
        let Ok(Command::Bench(bench)) = parse(line) else { panic!() };
        assert_eq!(bench.target.server_options, ["--workers", "8", "--threads", "3"]);
        assert_eq!(bench.load.threads, 12);
    }

    #[test]
    fn the_prober_takes_several_faults_and_a_duration_or_a_number() {
        let line = "probe shared --fault stop-worker@2s --fault reload@3s*2/1s --rate 9";
        let Ok(Command::Probe(asked)) = parse(line) else { panic!() };
        assert_eq!((asked.faults.len(), asked.rate), (2, Some(9)));
        assert_eq!((asked.timeout, asked.arrivals), (Duration::from_secs(2), Arrivals::Poisson));
        assert!(parse("probe shared --requests 9").is_ok());
    }

    #[test]
    fn every_command_takes_the_options_that_are_its_own_and_the_common_ones() {
        let everywhere = "--json a --html b --markdown";
        for line in [
            "bench --url http://127.0.0.1:8080/",
            "bench x=cmd:x",
            "compare --rate 1000 --rate 2000 --expect hello --seed 3",
            "cost --server x=cmd:x",
            "matrix --quick --seed 2",
            "lab --seed 2",
            "probe shared --arrivals even --seed 2 --expect hello --signal reload=USR2",
            "self-check --seed 2",
            "trust",
        ] {
            let parsed = parse(&format!("{line} {everywhere}"));
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap_or_default());
        }
        let defaults = Compare::defaults();
        assert_eq!((defaults.rounds, defaults.random.seed), (40, 1));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (line, reason) in [
            ("bench", "required"),
            ("bench shared --url http://127.0.0.1:8080/", "--url"),
            ("bench --url http://127.0.0.1:8080/ -- --workers 2", "--url"),
            ("bench --url ftp://host/", "http://host:port"),
            ("bench shared --duration 1500ms", "whole seconds"),
            ("bench shared --duration 0s", "whole seconds"),
            ("bench shared --duration soon", "--duration"),
            ("bench shared --duration 25h", "24h"),
            ("bench shared --threads 0", "--threads"),
            ("bench shared --connections 0", "--connections"),
            ("bench shared --url-path spin", "/spin"),
            ("compare --rounds 3", "at least"),
            ("compare --rate 0", "--rate"),
            ("compare --threshold 60", "--threshold"),
            ("probe --connections 3", "required"),
            ("probe shared --rate 0", "--rate"),
            ("probe shared --arrivals late", "poisson"),
            ("probe shared --connections 0", "--connections"),
            ("probe shared --requests 0", "--requests"),
            ("probe shared --duration 0s", "--duration"),
            ("probe shared --duration 2s --requests 5", "--requests"),
            ("probe shared --timeout 0s", "--timeout"),
            ("probe shared --fault explode@1s", "there are stop-worker"),
            ("probe --url http://127.0.0.1/ --fault reload@1s", "--fault"),
            ("probe --url http://127.0.0.1/ --url-path /x", "--url-path"),
        ] {
            let refusal = parse(line).err().unwrap_or_else(|| panic!("{line} was accepted"));
            assert!(refusal.contains(reason), "{line}: {refusal}");
        }
    }

    #[test]
    fn the_definition_of_the_command_line_holds_together() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
