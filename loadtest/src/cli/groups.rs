//! Options that several commands have in common.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::report::output::Output;
use crate::types::{http_url, url_path};

/// What wrk does.
#[derive(Args)]
pub struct LoadArgs {
    /// Threads of wrk
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: u64,

    /// Connections of wrk, divided evenly among its threads.
    ///
    /// A remainder is not opened: with 12 threads, 100 becomes 96.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub connections: u64,

    /// Open a new connection for every request, instead of keeping connections alive.
    ///
    /// Use it to compare how connections are accepted; with keep-alive they are accepted once, at
    /// the start.
    #[arg(long)]
    pub close: bool,
}

/// One server: started here, or running already.
#[derive(Args)]
pub struct TargetArgs {
    /// The server to start; it is stopped at the end.
    ///
    /// `shared` or `reuseport`; "NAME=cmd:COMMAND", any server's command with {port} and {host} in it,
    /// such as "cmd:gunicorn -b {host}:{port} -w 4 app:app"; or http://host:port/path, which runs
    /// already and is neither started nor stopped.
    #[arg(required_unless_present = "url")]
    pub server: Option<String>,

    /// Load a server that is already running, possibly on another machine: http://host:port/path.
    ///
    /// Which worker did the work is then unknown, and the only count of requests is the client's.
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

/// Where results go besides the terminal.
#[derive(Args)]
pub struct OutputArgs {
    /// Also save the result in this file, as JSON
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,

    /// Also write the report to this file, as HTML
    #[arg(long, value_name = "PATH")]
    pub html: Option<PathBuf>,

    /// Print the report as Markdown, for example for a pull request
    #[arg(long)]
    pub markdown: bool,
}

impl OutputArgs {
    /// The same for what shows a document, with the file that the record was saved in.
    pub fn with<'a>(&'a self, json: Option<&'a Path>) -> Output<'a> {
        Output { json, html: self.html.as_deref(), markdown: self.markdown }
    }

    /// The same with the file that `--json` names.
    pub fn asked(&self) -> Output<'_> {
        self.with(self.json.as_deref())
    }
}

/// What makes random choices repeatable.
#[derive(Args)]
pub struct SeedArg {
    /// The seed of all random choices: order of turns, arrivals, resampling for intervals
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}
