//! The command line: typed, and checked as far as a single value can be.

mod groups;
mod values;
mod with_wrk;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args, Parser, Subcommand};

use self::groups::{ExpectArg, ReportArgs, RunArgs, SeedArg};
pub use self::groups::{OutputArgs, TargetArgs};
use self::values::some_time;
pub use self::with_wrk::{Bench, Compare, Cost, Matrix, SelfCheck};
use crate::lab::book;
use crate::probe::arrivals::Arrivals;
use crate::probe::fault::Fault;

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
    /// Which server is faster here, by how much, and how certain is that? wrk loads them in turn.
    Compare(Compare),
    /// Which policy is good in which workload? Measures every combination in about 60 minutes.
    Matrix(Matrix),
    /// What others claim about shared sockets and SO_REUSEPORT: does it hold on this machine?
    Lab(Lab),
    /// How do widely used servers behave? Installs them, and measures spread, stalls and lost
    /// requests.
    Servers(Servers),
    /// Can `compare` be trusted here? Tests it on known differences, in about 50 minutes.
    #[command(visible_alias = "trust")]
    SelfCheck(SelfCheck),
    /// What does a request cost a server, in instructions or CPU time, compared with nginx?
    Cost(Cost),
    /// What is lost when a worker stalls, dies or is replaced? Reports the outcome of every
    /// request.
    ///
    /// This is not a benchmark: one thread sends the requests, so its rate says nothing about the
    /// server's limit.
    Probe(Probe),
    /// Show saved results again: several of `bench` side by side, or one of another command.
    Show(Show),
    /// Which worker serves how much right now? A live view of a running server, like `top`.
    ///
    /// In a terminal it runs until q is pressed or the server ends; ? lists the keys. Without a
    /// terminal it prints one reading and ends. It only reads, and sends the server nothing.
    Watch(Watch),
    /// How does a running server listen, which worker has which connections, and what is wrong?
    ///
    /// Works with any server. It observes for a few seconds, changes nothing and sends no requests.
    /// The exit status is 0 if nothing is wrong, 1 if there are warnings, 2 if the server cannot be
    /// observed.
    Diagnose(Diagnose),
}

/// `loadtest lab`.
#[derive(Args)]
pub struct Lab {
    /// The experiments to run; by default all
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(book::names()),
          hide_possible_values = true)]
    pub names: Vec<String>,

    /// Run the short form of each: under three minutes for all, with wide intervals
    #[arg(long)]
    pub quick: bool,

    /// List the experiments and how long they take, and run none
    #[arg(long)]
    pub list: bool,

    /// Include this result of `matrix`; by default matrix.json in the folder `loadtest`, next to
    /// the folder of this program, or with `--quick` matrix-part.json if there is one, if it was
    /// measured on this machine
    #[arg(long, value_name = "PATH")]
    pub matrix: Option<PathBuf>,

    #[command(flatten)]
    pub run: RunArgs,

    /// Moved to a program of its own, `publish`
    #[arg(long, value_name = "DIR", hide = true, value_parser = values::moved_to_publish)]
    pub publish: Option<PathBuf>,
}

/// `loadtest servers`.
#[derive(Args)]
pub struct Servers {
    /// The servers to measure, such as nginx or "gunicorn sync"; by default all (about 40 minutes).
    ///
    /// Add your own server as "NAME=cmd:COMMAND", with {port} and {host} in the command, which must
    /// start four workers.
    #[arg(value_name = "NAME", value_parser = values::server_name)]
    pub names: Vec<String>,

    /// Run the short form, by default with nginx, gunicorn and node only: under 8 minutes
    #[arg(long)]
    pub quick: bool,

    /// List the servers, and measure none
    #[arg(long)]
    pub list: bool,

    /// Install them in this folder, which may be removed afterwards; by default `servers`, next to
    /// the folder of this program
    #[arg(long, value_name = "DIR")]
    pub install: Option<PathBuf>,

    /// The signal that reloads your own server, such as reload=USR2
    #[arg(long = "signal", value_name = "FAULT=SIGNAL")]
    pub signals: Vec<String>,

    /// As little as there can be: to see that everything works
    #[arg(long, hide = true, conflicts_with = "quick")]
    pub brief: bool,

    #[command(flatten)]
    pub run: RunArgs,
}

/// `loadtest probe`.
#[derive(Args)]
pub struct Probe {
    #[command(flatten)]
    pub target: TargetArgs,

    /// Clients, each with one request at a time; with --rate, the most requests under way.
    ///
    /// By default 32, or 10000 with --rate, fewer if the limit of open files is lower. Requests
    /// that are due beyond this limit are counted, but not sent.
    #[arg(long, value_name = "N", value_parser = values::number::<u64, 1, 1_000_000>)]
    pub connections: Option<u64>,

    /// Send this many requests a second, whether or not earlier ones are answered (an open loop).
    ///
    /// Without it each client waits for an answer before its next request (a closed loop), so a
    /// stalled server gets fewer requests. Use it to measure latencies.
    #[arg(long, value_name = "N", value_parser = values::number::<u64, 1, 1_000_000>)]
    pub rate: Option<u64>,

    /// The gaps between requests, with --rate
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub arrivals: Arrivals,

    #[command(flatten)]
    pub random: SeedArg,

    /// Send many requests over each connection, instead of opening one for each.
    ///
    /// With --rate, at least 64 connections are used in turn.
    #[arg(long)]
    pub keep_alive: bool,

    /// How long to send requests, such as 5s or 1500ms; by default 5s
    #[arg(long, conflicts_with = "requests", value_parser = some_time)]
    pub duration: Option<Duration>,

    /// How many requests to send, instead of --duration
    #[arg(long, value_name = "N", value_parser = values::number::<u64, 1, { u64::MAX }>)]
    pub requests: Option<u64>,

    /// Time limit for opening a connection, and again for the answer
    #[arg(long, default_value = "2s", value_parser = some_time)]
    pub timeout: Duration,

    #[command(flatten)]
    pub expect: ExpectArg,

    /// Inject this fault, this long after the start; can be repeated.
    ///
    /// stop-worker@2s, continue-worker@3s (SIGSTOP, SIGCONT), kill-worker@3s (SIGKILL; a stopped
    /// one if there is any), reload@4s (SIGHUP), add-worker@4s, remove-worker@5s (SIGTTIN, SIGTTOU),
    /// drain@5s, quit@5s, kill-parent@5s. The worker is the one that has answered most requests;
    /// where nobody counts them, the one with most connections open, and never a parent that accepts
    /// for its children.
    /// reload@1s*20/250ms repeats it 20 times, every 250 ms.
    #[arg(long = "fault", value_name = "FAULT@TIME", conflicts_with = "url")]
    pub faults: Vec<Fault>,

    /// The signal that causes a fault in a server other than ours, such as reload=USR2; can be
    /// repeated.
    ///
    /// Known programs (nginx, gunicorn, puma and others) have defaults.
    #[arg(long = "signal", value_name = "FAULT=SIGNAL")]
    pub signals: Vec<String>,

    #[command(flatten)]
    pub output: OutputArgs,
}

/// `loadtest show`.
#[derive(Args)]
pub struct Show {
    /// Results saved by `bench`, or one that another command has saved
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub report: ReportArgs,
}

/// `loadtest watch`.
#[derive(Args)]
#[command(group = ArgGroup::new("running").required(true).multiple(true).args(["path", "port", "pid"]))]
pub struct Watch {
    /// The file that the server's option --scoreboard names
    #[arg(value_name = "PATH", conflicts_with_all = ["port", "pid"])]
    pub path: Option<PathBuf>,

    /// The port of a server of any kind; with --pid, in the network namespace of that process
    #[arg(long, value_name = "N", value_parser = values::number::<u16, 1, { u16::MAX as u64 }>)]
    pub port: Option<u16>,

    /// A process of a running server of any kind, or the process that started it, such as a loadtest
    #[arg(long, value_name = "PID", value_parser = values::number::<u32, 1, { i32::MAX as u64 }>)]
    pub pid: Option<u32>,

    /// The time between readings, such as 1s or 250ms; rates are averages over it
    #[arg(long, default_value = "1s", value_parser = values::interval)]
    pub interval: Duration,

    /// Print this many readings as text and end, also in a terminal
    #[arg(long, value_name = "N", value_parser = values::number::<u64, 1, { u64::MAX }>)]
    pub count: Option<u64>,

    /// Serve the readings as text for Prometheus on this address, such as 127.0.0.1:9100
    #[arg(long, value_name = "ADDR")]
    pub prometheus: Option<SocketAddr>,
}

/// `loadtest diagnose`.
#[derive(Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true).args(["port", "pid"]))]
pub struct Diagnose {
    /// The port that the server listens on; with --pid, in the network namespace of that process
    #[arg(long, value_name = "N", value_parser = values::number::<u16, 1, { u16::MAX as u64 }>)]
    pub port: Option<u16>,

    /// A process of the server, which may be in a container
    #[arg(long, value_name = "PID", value_parser = values::number::<u32, 1, { i32::MAX as u64 }>)]
    pub pid: Option<u32>,

    /// How long to observe, such as 5s or 500ms
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = values::interval)]
    pub time: Duration,

    /// Print JSON instead of text
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,

    /// Print Markdown instead of text
    #[arg(long)]
    pub markdown: bool,
}

/// The arguments of this program, for a result to name. They need not be UTF-8; a result is.
pub fn arguments() -> Vec<String> {
    let arguments = std::env::args_os().skip(1);
    arguments.map(|argument| argument.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests;
