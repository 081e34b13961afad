//! The record of `servers`. Its samples are in a file beside it.

use serde::{Deserialize, Serialize};

use crate::probe::outcome::Outcomes;
use crate::record::{Body, Record};
use crate::servers::catalogue::CATALOGUE;
use crate::statistics::estimate::Estimate;
use crate::warnings::Warning;

/// The record that is saved and shown.
pub type Servers = Record<ServersBody>;

/// The results of `servers`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ServersBody {
    /// The form of the run.
    pub form: Form,
    /// The measured servers, in the order of the catalogue.
    pub rows: Vec<Row>,
    /// What was not measured, and why.
    pub skipped: Vec<Skipped>,
    /// The standard deviation of nginx's latencies with own sockets over that with a shared one, round by
    /// round, under wrk's load of very short requests. Empty if it was not requested.
    #[serde(default)]
    pub nginx_deviations: Vec<f64>,
    /// Requests that granian lost for each reload, with tcp_migrate_req off and on, for each start of it.
    /// Empty if it was not requested, or could not be measured.
    #[serde(default)]
    pub granian_lost: [Vec<f64>; 2],
    /// The post's two programs; `None` if they were not requested.
    pub post: Option<Post>,
}

impl Body for ServersBody {
    const SCHEMA: &'static str = "loadtest-servers/1";
    const COMMAND: &'static str = "servers";
}

impl Servers {
    /// The reasons against publishing it; empty for a whole run of all servers that could be installed.
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

/// How much is measured.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Enough for a published table.
    #[default]
    Whole,
    /// Less of everything.
    Quick,
    /// The minimum: it shows only that everything works.
    Brief,
}

impl Form {
    /// The value for this form.
    pub fn choose<T>(self, whole: T, quick: T, brief: T) -> T {
        match self {
            Self::Whole => whole,
            Self::Quick => quick,
            Self::Brief => brief,
        }
    }
}

/// A server or a comparison that could not be measured.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Skipped {
    pub name: String,
    pub reason: String,
}

/// The results of one server. A column that could not be measured is `null`, and listed in `failed`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Row {
    /// Its name in tables.
    pub name: String,
    /// Its version, if it is known.
    pub version: Option<String>,
    /// How it listens, according to `diagnose`.
    pub model: Option<String>,
    /// The number of its listening sockets.
    pub sockets: Option<usize>,
    /// How kept connections were spread over its workers.
    pub spread: Option<Spread>,
    /// Blocking handlers; `None` if the server runs none of our code.
    pub blocking: Option<Blocking>,
    /// One worker stopped, then some killed.
    pub faults: Option<Faults>,
    /// Reloads under load.
    pub reload: Option<Reload>,
    /// TERM under load.
    pub term: Option<Replaced>,
    /// A second server on the same port.
    pub second: Option<Second>,
    /// The failed columns, each with the reason.
    pub failed: Vec<(String, String)>,
}

/// How many of some connections each worker got, round by round.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Spread {
    /// Whether the connections were kept, and counted where they are held. Otherwise the server closed
    /// each, and the workers were counted by the pids in its answers.
    pub kept: bool,
    /// Connections that came one after the other.
    pub trickle: Vec<Vec<u64>>,
    /// Connections that came all at once.
    pub burst: Vec<Vec<u64>>,
}

/// Blocking handlers, with a load of 75 % of what they could serve.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Blocking {
    /// Requests per second.
    pub rate: u64,
    /// How many requests the server can handle at a time.
    pub at_once: usize,
    /// 99 % of the answers took no longer; in microseconds.
    pub p99_us: u64,
    /// The p99 as a multiple of the p99 that one queue for all workers would give.
    pub of_ideal: f64,
    /// Requests without a good answer.
    pub lost: u64,
}

/// The cost of a stopped worker and of killed ones.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Faults {
    /// The rate of good answers while one worker was stopped, as a part of the rate before.
    pub served_while_stopped: Option<f64>,
    /// Workers killed, one after the other.
    pub kills: u64,
    /// Requests lost after these kills.
    pub lost: u64,
    /// The longest time after a kill until the rate was back at 90 %; `null` if it did not come back.
    pub back_after_ms: Option<u64>,
    /// Requests of 32 clients that were lost with a worker that hung for a second and was then killed;
    /// `null` if no worker was found.
    pub lost_with_hung: Option<u64>,
    /// The number of its workers before, and up to some seconds after the last kill.
    pub workers: [usize; 2],
}

impl Faults {
    /// Whether the server ended because workers were killed.
    pub fn ended(&self) -> bool {
        self.kills > 0 && self.workers[1] == 0
    }
}

/// The cost of reloads.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reload {
    /// The server has no reload.
    None,
    /// The server was reloaded by its signal.
    Done(Replaced),
}

/// The outcomes of requests while servers or their workers were replaced.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Replaced {
    /// How often they were replaced.
    pub times: u64,
    /// Time from one reload to the next, in milliseconds; results of older versions do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// Requests on new connections.
    pub new: Outcomes,
    /// Requests on kept ones.
    pub kept: Outcomes,
    /// Which workers served in the end.
    pub after: After,
}

/// Which workers serve after reloads, or after TERM.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// New workers only.
    #[default]
    Others,
    /// Also some of the workers from before.
    SomeOfBefore,
    /// None: the server has ended.
    Nobody,
}

/// The start of a second server on the same port.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Second {
    /// It did not start, with this message.
    Refused(String),
    /// It started: its connections, and those of both servers; `None` if they are not visible.
    Silent(Option<[u64; 2]>),
    /// It neither serves nor ends.
    Tries,
}

/// The post's programs, compared slice by slice.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Post {
    /// The programs that took part.
    pub programs: Vec<PostProgram>,
    /// A sentence on the comparison of each two programs.
    pub sentences: Vec<String>,
    /// Slices of each program.
    pub rounds: u32,
    /// The reason why a program took no part, or why the comparison ended early; empty otherwise.
    pub missing: String,
}

/// One of the post's programs.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PostProgram {
    /// Its name.
    pub name: String,
    /// The median of its slices.
    pub requests_per_second: Option<Estimate>,
    /// 99 % of the answers took no longer; in microseconds.
    pub p99_us: Option<u64>,
    /// The part of wrk's connections that each worker had: the busiest first.
    pub connections: Vec<f64>,
}
