//! A server that takes its turn in an experiment with several: one of ours, or nginx.

use anyhow::Result;

use crate::load::Load;
use crate::load::perf::Meter;
use crate::load::wrk::{Measured, Moment, Wrk};
use crate::measure::cost::CostRun;
use crate::measure::cross_check::{check_answered, check_count};
use crate::server::{Readings, Server, Spec, Strategy};

/// A server that takes its turn.
pub struct Subject {
    /// What it is called, with its options.
    pub name: String,
    /// Whose server it is; nginx is nobody's.
    pub strategy: Option<Strategy>,
    server: Server,
    readings: Readings,
}

impl Subject {
    /// Starts a server. Its options come after those that all have in common, and so win.
    pub fn start(name: &str, spec: &Spec, workers: u16) -> Result<Self> {
        let options = ["--workers".to_owned(), workers.to_string()];
        let mut server = Server::start(spec, &options)?;
        let readings = server.read()?;
        Ok(Self { name: name.into(), strategy: spec.strategy(), server, readings })
    }

    /// One run of wrk, and what it cost.
    ///
    /// # Errors
    /// When it dies, nothing is answered, or wrk and the server count differently.
    pub fn measure(
        &mut self,
        meter: &Meter,
        wrk: &Wrk,
        load: &Load,
        mut look: impl FnMut(Moment) -> Result<()>,
    ) -> Result<(CostRun, Measured)> {
        let Self { server, readings, .. } = self;
        let before = server.requests();
        let (url, pids) = (server.url("/"), server.worker_pids());
        let (measured, spent) = meter.measure(&pids, wrk, load, &url, |now| {
            look(now)?;
            server.check_alive(readings)
        })?;
        check_answered(&measured)?;
        if let (Some(before), Some(after)) = (before, server.requests()) {
            check_count(load, &measured, after.saturating_sub(before))?;
        }
        let requests = measured.requests;
        let each = |spent: f64| spent / requests as f64;
        let run = CostRun {
            requests,
            user: each(spent.user),
            system: each(spent.system),
            total: each(spent.total),
        };
        Ok((run, measured))
    }
}
