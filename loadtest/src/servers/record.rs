//! The record of `servers`. Its samples lie in a file beside it.

use serde::{Deserialize, Serialize};

use crate::probe::outcome::Outcomes;
use crate::record::{Body, Record};
use crate::servers::catalogue::CATALOGUE;
use crate::statistics::estimate::Estimate;
use crate::warnings::Warning;

/// What is saved and shown.
pub type Servers = Record<ServersBody>;

/// What servers do.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ServersBody {
    /// How much was done.
    pub form: Form,
    /// Who was measured, in the order of the catalogue.
    pub rows: Vec<Row>,
    /// Who was not, and why.
    pub skipped: Vec<Skipped>,
    /// Standard deviations of nginx's latencies with own sockets over those with a shared one, round by
    /// round: wrk's load, the shortest of requests. Empty where it was not asked for.
    #[serde(default)]
    pub nginx_deviations: Vec<f64>,
    /// Requests that granian lost for each reload, with tcp_migrate_req off and on, by each that was started.
    /// Empty where it was not asked for, or could not be measured.
    #[serde(default)]
    pub granian_lost: [Vec<f64>; 2],
    /// The post's two programs; none where they were not asked for.
    pub post: Option<Post>,
}

impl Body for ServersBody {
    const SCHEMA: &'static str = "loadtest-servers/1";
    const COMMAND: &'static str = "servers";
}

impl Servers {
    /// Why it is not fit to be published; nothing of a whole run of all that could be had.
    pub fn lacks(&self) -> Vec<String> {
        let is_known = |name: &str| self.rows.iter().any(|row| row.name == name);
        let is_skipped = |name: &str| self.skipped.iter().any(|it| it.name == name);
        let wanted = CATALOGUE.iter().filter(|program| !is_skipped(program.name));
        let names = wanted.flat_map(|program| program.settings).map(|setting| setting.name);
        let missing: Vec<&str> = names.filter(|name| !is_known(name)).collect();
        let mut lacks = Vec::new();
        if self.form != Form::Whole {
            lacks.push("it is a short form (`make servers` without QUICK)".to_owned());
        }
        if !missing.is_empty() {
            lacks.push(format!("not measured: {} (RESUME=1 does it)", missing.join(", ")));
        }
        if self.warnings.contains(&Warning::DebugBuild.to_string()) {
            lacks
                .push("it was made by a debug build (`make servers` builds with --release)".into());
        }
        lacks
    }
}

/// How much is done.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Enough for a table to be published.
    #[default]
    Whole,
    /// Less of everything.
    Quick,
    /// As little as there can be: it shows that everything works, and nothing else.
    Brief,
}

impl Form {
    /// What is done in each of the three.
    pub fn choose<T>(self, whole: T, quick: T, brief: T) -> T {
        match self {
            Self::Whole => whole,
            Self::Quick => quick,
            Self::Brief => brief,
        }
    }
}

/// One that could not be measured.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Skipped {
    pub name: String,
    pub reason: String,
}

/// What one server does. What could not be measured is `null`, and in `failed`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Row {
    /// What tables call it.
    pub name: String,
    /// Its version, where it says it.
    pub version: Option<String>,
    /// How it listens, as `diagnose` sees it.
    pub model: Option<String>,
    /// How many sockets listen.
    pub sockets: Option<usize>,
    /// Who got kept connections.
    pub spread: Option<Spread>,
    /// Handlers that block; none of a server that runs no code.
    pub blocking: Option<Blocking>,
    /// A worker was stopped, and then others killed.
    pub faults: Option<Faults>,
    /// Reloads under load.
    pub reload: Option<Reload>,
    /// TERM under load.
    pub term: Option<Replaced>,
    /// A second one on the same port.
    pub second: Option<Second>,
    /// What failed: the column, and the reason.
    pub failed: Vec<(String, String)>,
}

/// How many of some connections each worker got, round by round.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Spread {
    /// Whether the connections were kept, and counted by who holds them. Otherwise the server closed
    /// each, and its answers said who gave them.
    pub kept: bool,
    /// Connections one after the other.
    pub trickle: Vec<Vec<u64>>,
    /// Connections all at once.
    pub burst: Vec<Vec<u64>>,
}

/// Handlers that block, asked at 75 % of what they could serve.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Blocking {
    /// Requests per second.
    pub rate: u64,
    /// How many it can serve at a time.
    pub at_once: usize,
    /// 99 % of the answers took no longer; in microseconds.
    pub p99_us: u64,
    /// As a multiple of what one queue before all workers would have given.
    pub of_ideal: f64,
    /// Requests without a good answer.
    pub lost: u64,
}

/// What a stopped worker and killed ones cost.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Faults {
    /// The part of the requests that was served while one worker was stopped, of before.
    pub served_while_stopped: Option<f64>,
    /// Workers killed, one after the other.
    pub kills: u64,
    /// Requests lost by that.
    pub lost: u64,
    /// The longest time until the server answered at 90 % of the rate before; `null` if it never did.
    pub back_after_ms: Option<u64>,
    /// Requests of 32 clients that were lost with a worker that hung for a second and was then killed;
    /// `null` if there was nobody to do this to.
    pub lost_with_hung: Option<u64>,
    /// Its workers before, and some seconds after the last was killed.
    pub workers: [usize; 2],
}

/// What reloads cost.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reload {
    /// It has none.
    None,
    /// It has a signal for it.
    Done(Replaced),
}

/// What became of requests while servers or their workers were replaced.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Replaced {
    /// How often.
    pub times: u64,
    /// Requests on new connections.
    pub new: Outcomes,
    /// Requests on kept ones.
    pub kept: Outcomes,
    /// Who served in the end.
    pub after: After,
}

/// Who serves after reloads, or after TERM.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// Others than before.
    #[default]
    Others,
    /// Some of those who did before, too.
    SomeOfBefore,
    /// Nobody: the server has ended.
    Nobody,
}

/// A second server that is started on the same port.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Second {
    /// It did not start, and said this.
    Refused(String),
    /// It started, and got so many of so many connections, where that can be seen.
    Silent(Option<[u64; 2]>),
    /// It neither serves nor ends.
    Tries,
}

/// The post's programs, compared slice by slice.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Post {
    /// Who took part.
    pub programs: Vec<PostProgram>,
    /// What each two of them make, in a sentence.
    pub sentences: Vec<String>,
    /// Slices of each.
    pub rounds: u32,
    /// Why one took no part; empty where all did.
    pub missing: String,
}

/// One of them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PostProgram {
    /// What it is.
    pub name: String,
    /// Median of its slices.
    pub requests_per_second: Option<Estimate>,
    /// 99 % of the answers took no longer; in microseconds.
    pub p99_us: Option<u64>,
    /// The part of wrk's connections that each worker had, the busiest first.
    pub connections: Vec<f64>,
}
