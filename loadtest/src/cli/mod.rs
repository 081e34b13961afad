//! The command line: typed, and checked as far as a single value can be.

mod groups;
mod values;
mod with_wrk;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args, Parser, Subcommand};

pub use self::groups::{Arrivals, OutputArgs, SeedArg, TargetArgs};
use self::values::some_time;
pub use self::with_wrk::{Bench, Compare, Cost, Matrix, SelfCheck};
use crate::lab::book;
use crate::probe::fault::Fault;

/// The help of `--json`: the result is saved in any case.
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

    /// Moved to a program of its own, `publish`
    #[arg(long, value_name = "DIR", hide = true, value_parser = values::moved_to_publish)]
    pub publish: Option<PathBuf>,
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
    /// With --rate, at least 64 connections take turns.
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

    /// Also write a report to look at in a browser
    #[arg(long, value_name = "PATH")]
    pub html: Option<PathBuf>,

    /// Print the report as Markdown
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
mod tests;
