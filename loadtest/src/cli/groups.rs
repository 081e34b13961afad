//! Options that several commands have in common.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::cli::values::number;
use crate::load::Load;
use crate::report::output::Output;
use crate::types::{http_url, url_path};

/// How wrk asks.
#[derive(Args)]
pub struct WrkArgs {
    /// Threads of wrk
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = number::<u64, 1, 1024>)]
    pub threads: u64,

    /// Connections of wrk, divided evenly among its threads.
    ///
    /// A remainder is not opened: with 12 threads, 100 becomes 96.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = number::<u64, 1, 1_000_000>)]
    pub connections: u64,
}

impl WrkArgs {
    /// The load of a run or a slice of this length.
    pub fn load(&self, duration: Duration, keep_alive: bool) -> Result<Load> {
        let load = Load::new(self.threads, self.connections, duration, keep_alive);
        load.check()?;
        Ok(load)
    }
}

/// On which connections wrk asks.
#[derive(Args)]
pub struct CloseArg {
    /// Open a new connection for every request, instead of keeping connections alive.
    ///
    /// Use it to compare how connections are accepted; with keep-alive they are accepted once, at
    /// the start.
    #[arg(long)]
    pub close: bool,
}

/// What a good answer is.
#[derive(Args)]
pub struct ExpectArg {
    /// The body that every answer must have; others count as wrong.
    ///
    /// By default `hello` at / of our servers, and any body otherwise.
    #[arg(long, value_name = "TEXT")]
    pub expect: Option<String>,
}

/// One server: started here, or running already.
#[derive(Args)]
pub struct TargetArgs {
    /// The server to start; it is stopped at the end.
    ///
    /// `shared`, `reuseport` or `nginx`; "NAME=cmd:COMMAND", any server's command with {port} and {host} in it,
    /// such as "cmd:gunicorn -b {host}:{port} -w 4 app:app"; or http://host:port/path, which runs
    /// already and is neither started nor stopped.
    #[arg(required_unless_present = "url")]
    pub server: Option<String>,

    /// Load a server that is already running, possibly on another machine: http://host:port/path.
    ///
    /// The work of each worker is then unknown, and only the client counts requests.
    #[arg(long, conflicts_with_all = ["server", "server_options", "url_path"], value_parser = http_url)]
    pub url: Option<String>,

    /// The path to request; our servers need their option --lab for others than /
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = url_path)]
    pub url_path: String,

    /// Options for the server, after `--`, such as `-- --workers 8 --handler-cost 70us`.
    ///
    /// It gets a free port, unless --port is given.
    #[arg(last = true, value_name = "SERVER OPTIONS")]
    pub server_options: Vec<String>,
}

/// Forms of a report besides that on the terminal.
#[derive(Args, Default)]
pub struct ReportArgs {
    /// Also write the report to this file, as HTML
    #[arg(long, value_name = "PATH")]
    pub html: Option<PathBuf>,

    /// Print the report as Markdown, for example for a pull request
    #[arg(long)]
    pub markdown: bool,
}

impl ReportArgs {
    /// The same for what shows a document, with the file that the record was saved in.
    pub fn with<'a>(&'a self, json: Option<&'a Path>) -> Output<'a> {
        Output { json, html: self.html.as_deref(), markdown: self.markdown }
    }
}

/// Where results go besides the terminal.
#[derive(Args, Default)]
pub struct OutputArgs {
    /// Also save the result in this file, as JSON
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,

    #[command(flatten)]
    pub report: ReportArgs,
}

/// What makes random choices repeatable.
#[derive(Args)]
pub struct SeedArg {
    /// The seed of all random choices: order of turns, arrivals, resampling for intervals
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number::<u64, 0, { u64::MAX }>)]
    pub seed: u64,
}

/// A run that is saved in any case and can be continued.
#[derive(Args)]
#[command(mut_arg("json", |json| json.help(SAVED_ANYWAY)))]
pub struct RunArgs {
    #[command(flatten)]
    pub random: SeedArg,

    #[command(flatten)]
    pub output: OutputArgs,

    /// Continue the saved run after its last sample
    #[arg(long)]
    pub resume: bool,
}

/// The help of `--json` where a result is saved in any case.
pub const SAVED_ANYWAY: &str = "Save the result in this file, as JSON, and its samples beside it; \
    by default COMMAND.json, or COMMAND-part.json for a run of a part, in the folder `loadtest`, next \
    to the folder of this program";
