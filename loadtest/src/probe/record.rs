//! The record of one `probe`: the content of `--json` and of every report.

use serde::{Deserialize, Serialize};

use crate::probe::counters::Counters;
use crate::probe::fault::FaultRecord;
use crate::probe::ideal::Service;
use crate::probe::load::Load;
use crate::probe::outcome::Outcomes;
use crate::probe::spread::Held;
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
    /// The load.
    pub load: Load,
    /// Requests sent; the sum of all outcomes.
    pub attempted: u64,
    /// Their outcomes.
    pub outcomes: Outcomes,
    /// Requests of an open loop that were due and not sent: too many were under way, or the client
    /// was too slow.
    pub not_sent: u64,
    /// Requests sent per second.
    pub sent_per_second: f64,
    /// Good answers per second of the load.
    pub ok_per_second: f64,
    /// Requests that the server has answered by its own count; `null` if it has none.
    pub answered_by_server: Option<u64>,
    /// Latencies of good answers, from when the request was due; `null` if there were none.
    pub latency_us: Option<Latency>,
    /// How late requests of an open loop were sent, from when they were due; `null` for a closed loop.
    pub lateness_us: Option<Latency>,
    /// The ideal: one queue without overhead; `null` if the service time is not known, or the loop is closed.
    pub ideal: Option<Ideal>,
    /// Latencies as multiples of the ideal's.
    pub of_ideal: Option<OfIdeal>,
    /// Served and lost requests per 100 ms, by the time when the outcome was known.
    pub timeline: Vec<Bucket>,
    /// Connections of each worker, once a second; empty if they are not kept, or cannot be seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Held>,
    /// The injected faults.
    pub faults: Vec<FaultRecord>,
}

impl Body for ProbeBody {
    const SCHEMA: &'static str = "loadtest-probe/2";
    const COMMAND: &'static str = "probe";
}

impl ProbeBody {
    /// The record of these counters, without the server's own count and without faults.
    pub fn of(server: String, load: Load, counters: &Counters, service: Option<Service>) -> Self {
        let latency_us = Latency::of(&counters.latency);
        let ideal = Ideal::of(service, counters);
        Self {
            server,
            load: Load { seconds: counters.took().as_secs_f64(), ..load },
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
        }
    }
}

impl Ideal {
    /// The ideal for the requests whose latencies were counted; `None` if there are none, or the service is not known.
    pub fn of(service: Option<Service>, counters: &Counters) -> Option<Self> {
        let service = service?;
        let all = service.ideal(&counters.arrivals, counters.lead_in);
        if all.is_empty() {
            return None;
        }
        Some(Self {
            service_us: service.time.as_micros() as u64,
            servers: service.servers,
            p50: percentile_of(&all, 50.0),
            p99: percentile_of(&all, 99.0),
        })
    }
}

/// One queue for all servers, with the arrivals that were sent. Latencies in microseconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Ideal {
    /// The service time.
    pub service_us: u64,
    /// How many requests are served at a time: workers, or CPUs if these are fewer and requests use CPU time.
    pub servers: usize,
    /// The median latency.
    pub p50: u64,
    /// 99 % of the requests take no longer.
    pub p99: u64,
}

/// Percentiles divided by those of the ideal: 1 is the limit that no policy can beat.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct OfIdeal {
    pub p50: f64,
    pub p99: f64,
}
