//! The record of one `probe`: what `--json` writes and what every report shows.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::probe::counters::Counters;
use crate::probe::drive::Load;
use crate::probe::ideal::Service;
use crate::probe::outcome::Outcomes;
use crate::probe::target::Target;
use crate::probe::timeline::Bucket;
use crate::record::{Body, Record};
use crate::statistics::latency::{Latency, percentile_of};

/// The record with its envelope.
pub type ProbeRecord = Record<ProbeBody>;

/// One run of the prober against one server. Times are from the start of the load.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ProbeBody {
    /// The server's name, or the URL of one that was not started here.
    pub server: String,
    /// What was asked.
    pub load: ProbeLoad,
    /// Requests sent; the sum of all outcomes.
    pub attempted: u64,
    /// What became of them.
    pub outcomes: Outcomes,
    /// Requests of an open loop that were due and not sent: too many were under way, or the client
    /// was too slow.
    pub not_sent: u64,
    /// Requests per second that were sent.
    pub sent_per_second: f64,
    /// Good answers per second, while requests were sent.
    pub ok_per_second: f64,
    /// Requests that the server has answered by its own count; `null` if it has none.
    pub answered_by_server: Option<u64>,
    /// Latencies of good answers, from when the request was due; `null` if there were none.
    pub latency_us: Option<Latency>,
    /// How late requests of an open loop were sent, from when they were due; `null` of a closed one.
    pub lateness_us: Option<Latency>,
    /// What one queue without overhead would have done; `null` if the service time is not known, or
    /// the loop is closed.
    pub ideal: Option<Ideal>,
    /// Latencies as multiples of the ideal's.
    pub of_ideal: Option<OfIdeal>,
    /// Served and lost per 100 ms, by the time when it was known.
    pub timeline: Vec<Bucket>,
    /// What was done to the server.
    pub faults: Vec<FaultRecord>,
}

impl Body for ProbeBody {
    const SCHEMA: &'static str = "loadtest-probe/2";
    const COMMAND: &'static str = "probe";
}

impl ProbeBody {
    /// What was counted of a server. What only who ran it knows is left out: its own count, and faults.
    pub fn of(
        server: String,
        load: ProbeLoad,
        counters: &Counters,
        service: Option<Service>,
    ) -> Result<Self> {
        let latency_us = Latency::of(&counters.latency);
        let service = service.filter(|_| !counters.arrivals.is_empty());
        let ideal = service.map(|service| Ideal::of(service, counters)).transpose()?;
        Ok(Self {
            server,
            load: ProbeLoad { seconds: counters.lasted.as_secs_f64(), ..load },
            attempted: counters.attempted,
            outcomes: counters.outcomes,
            not_sent: counters.not_sent,
            sent_per_second: counters.sent_per_second(),
            ok_per_second: counters.ok_per_second(),
            lateness_us: Latency::of(&counters.lateness),
            of_ideal: ideal.zip(latency_us.as_ref()).map(|(ideal, latency)| OfIdeal {
                p50: latency.p50 as f64 / ideal.p50 as f64,
                p99: latency.p99 as f64 / ideal.p99 as f64,
            }),
            latency_us,
            ideal,
            timeline: counters.timeline.buckets().to_vec(),
            ..Self::default()
        })
    }
}

impl ProbeLoad {
    /// What is asked, before it is known how long it lasts.
    pub fn of(url: String, load: &Load, target: &Target) -> Self {
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        Self {
            url,
            connections: load.connections,
            rate: load.rate,
            arrivals: load.rate.map(|_| load.arrivals.name().into()),
            keep_alive: load.keep_alive,
            seconds: 0.0,
            timeout_ms: target.timeout.as_millis() as u64,
            expect: target.expect.as_ref().map(text),
        }
    }
}

impl Ideal {
    fn of(service: Service, counters: &Counters) -> Result<Self> {
        let all = service.ideal(&counters.arrivals)?;
        Ok(Self {
            service_us: service.time.as_micros() as u64,
            servers: service.servers,
            p50: percentile_of(&all, 50.0),
            p99: percentile_of(&all, 99.0),
        })
    }
}

/// What was asked.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ProbeLoad {
    /// What was asked for.
    pub url: String,
    /// Clients, or with a rate the most requests under way.
    pub connections: u64,
    /// Requests due per second; `null`: each client asks when it has its answer.
    pub rate: Option<u64>,
    /// `poisson` or `even`; `null` without a rate.
    pub arrivals: Option<String>,
    /// Whether connections served many requests, or one each.
    pub keep_alive: bool,
    /// How long requests were sent.
    pub seconds: f64,
    /// How long a connection might take to open, and then the answer to come.
    pub timeout_ms: u64,
    /// What the body had to be; `null`: anything.
    pub expect: Option<String>,
}

/// One queue before all servers, for the very arrivals that were sent. Latencies in microseconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Ideal {
    /// How long each request takes.
    pub service_us: u64,
    /// How many are served at a time: workers, or CPUs if there are fewer and requests use them.
    pub servers: usize,
    /// Half of the requests take no longer.
    pub p50: u64,
    /// 99 % of them take no longer.
    pub p99: u64,
}

/// Percentiles divided by those of the ideal: 1 is the limit that no policy can beat.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct OfIdeal {
    pub p50: f64,
    pub p99: f64,
}

/// Something that was done to the server, and what came of it before the next was done.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct FaultRecord {
    /// When.
    pub at_ms: u64,
    /// What.
    pub what: String,
    /// The `--fault` that asked for it.
    pub asked: String,
    /// The process it was done to; `null` when there was none.
    pub pid: Option<u32>,
    /// Requests lost after it.
    pub lost: u64,
    /// How long after it the last of them was known to be lost.
    pub lost_within_ms: Option<u64>,
    /// Good answers per second since the fault before, or since the start.
    pub rate_before: Option<f64>,
    /// Good answers per second until the next fault, or the end.
    pub rate_after: Option<f64>,
    /// How long after it the first 100 ms began with 90 % of the rate before it, or, if a worker was
    /// stopped then, of the rate before that; `null` if that did not come before the next fault
    /// that another `--fault` asked for.
    pub full_strength_after_ms: Option<u64>,
}
