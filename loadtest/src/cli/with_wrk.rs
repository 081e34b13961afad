//! The options of the commands that measure with wrk.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::groups::{
    CloseArg, ExpectArg, OutputArgs, RunArgs, SAVED_ANYWAY, SeedArg, TargetArgs, WrkArgs,
};
use crate::cli::values::{no_time_or_some, number, percent, rounds, whole_seconds};
use crate::types::url_path;

/// `loadtest bench`.
#[derive(Args)]
pub struct Bench {
    #[command(flatten)]
    pub target: TargetArgs,

    #[command(flatten)]
    pub wrk: WrkArgs,

    #[command(flatten)]
    pub mode: CloseArg,

    /// How long the load lasts, in whole seconds: 10s or 2m, for example
    #[arg(long, default_value = "10s", value_parser = whole_seconds)]
    pub duration: Duration,

    #[command(flatten)]
    pub output: OutputArgs,
}

/// `loadtest compare`.
#[derive(Args)]
pub struct Compare {
    /// A server with its options in one quoted string, such as "shared --exec"; two or more.
    ///
    /// A name can precede it: "four=reuseport --workers 4". For any other server, give its command
    /// with {port} and {host} in it, as in "gunicorn=cmd:gunicorn -b {host}:{port} -w 4 app:app",
    /// or, if it is already running, by its URL: "other=http://host:port/path". If all servers are
    /// the same, this tests the comparison itself, which must find no difference.
    #[arg(value_name = "SERVER", default_values = ["shared", "reuseport"])]
    pub servers: Vec<String>,

    /// Slices of each server; each opens new connections
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = rounds)]
    pub rounds: u32,

    /// How long a slice lasts, in whole seconds
    #[arg(long, default_value = "1s", value_parser = whole_seconds)]
    pub slice: Duration,

    #[command(flatten)]
    pub wrk: WrkArgs,

    #[command(flatten)]
    pub mode: CloseArg,

    /// The path to request; our servers need their option --lab for others than /
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = url_path)]
    pub path: String,

    /// Request several paths: a file with a weight and a path in each line.
    ///
    /// Such as "199 /" and "1 /block/20000": one request in 200 blocks its worker for 20 ms.
    #[arg(long, value_name = "FILE", conflicts_with = "path")]
    pub mix: Option<PathBuf>,

    /// The name of the server that others are compared with; by default the first
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,

    /// Differences up to this many percent count as noise
    #[arg(long, value_name = "PERCENT", default_value = "2", value_parser = percent)]
    pub threshold: f64,

    /// Give the server one half of the cores and wrk the other
    #[arg(long)]
    pub pin: bool,

    /// Start each server for its slice and stop it afterwards, instead of keeping all of them up.
    ///
    /// Each is loaded for a second before its slice. Use it for many workers: an idle worker wakes
    /// up four times per second, and 2 000 of them use a few percent of two cores.
    #[arg(long)]
    pub one_at_a_time: bool,

    /// How long to load each server at each fixed rate, for latencies; 0s = never
    ///
    /// The rates are 50 and 80 % of what the best of them serves to the same client, and each --rate.
    #[arg(long, default_value = "3s", value_parser = no_time_or_some)]
    pub fixed_rate: Duration,

    /// Measure latencies at this rate too, in requests/s; can be repeated
    #[arg(long = "rate", value_name = "N", value_parser = number::<u64, 1, 1_000_000>)]
    pub rates: Vec<u64>,

    #[command(flatten)]
    pub expect: ExpectArg,

    #[command(flatten)]
    pub run: RunArgs,
}

/// `loadtest matrix`.
#[derive(Args)]
pub struct Matrix {
    /// Slices of each policy in each workload
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = rounds)]
    pub rounds: u32,

    /// How often a worker of each policy is stopped and killed
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = number::<u32, 1, 1000>)]
    pub stops: u32,

    /// Run the short form: four workloads, both load-aware policies and one other policy for each
    /// server; about 10 minutes instead of 60
    #[arg(long)]
    pub quick: bool,

    /// Run this workload only; can be repeated
    #[arg(long, value_name = "WORKLOAD")]
    pub only: Vec<String>,

    #[command(flatten)]
    pub run: RunArgs,
}

/// `loadtest self-check`.
#[derive(Args)]
#[command(mut_arg("json", |json| json.help(SAVED_ANYWAY)))]
pub struct SelfCheck {
    /// The server whose requests/s are compared, with its options in one quoted string
    #[arg(value_name = "SERVER", default_value = "reuseport")]
    pub server: String,

    /// Verdicts on two equal servers, and as many on one that is about 5 % slower
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = number::<u32, 2, 1000>)]
    pub verdicts: u32,

    /// Rounds, with a slice of 1 s of each server, for each verdict on requests/s; 10 for each on p99
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = rounds)]
    pub rounds: u32,

    #[command(flatten)]
    pub random: SeedArg,

    #[command(flatten)]
    pub output: OutputArgs,
}

/// `loadtest cost`.
#[derive(Args)]
#[command(mut_arg("threads", |threads| threads.default_value("2")))]
#[command(mut_arg("connections", |connections| connections.default_value("64")))]
pub struct Cost {
    /// A server to measure, with its options in one quoted string; can be repeated.
    ///
    /// Such as --server "shared --exec", or "NAME=cmd:COMMAND", any server's command with {port} and {host} in it.
    #[arg(long = "server", value_name = "SERVER", default_values = ["shared", "reuseport"])]
    pub servers: Vec<String>,

    /// Workers of every server, nginx included
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = number::<u16, 1, 1024>)]
    pub workers: u16,

    #[command(flatten)]
    pub wrk: WrkArgs,

    /// How long each run lasts, in whole seconds
    #[arg(long, default_value = "2s", value_parser = whole_seconds)]
    pub duration: Duration,

    /// Interleaved runs of each server in each mode; fewer than 6 give no interval
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = number::<u16, 1, 1000>)]
    pub rounds: u16,

    #[command(flatten)]
    pub run: RunArgs,
}
