//! A server that takes its turn in an experiment with several: one of ours, or nginx.

use anyhow::Result;

use crate::load::Load;
use crate::load::perf::Meter;
use crate::load::wrk::{Measured, Moment, Wrk};
use crate::measure::cost::CostRun;
use crate::measure::cross_check::{check_answered, check_count};
use crate::server::nginx::Nginx;
use crate::server::{Readings, Server, Spec, Strategy};

/// A server that takes its turn.
pub struct Subject {
    /// What it is called, with its options.
    pub name: String,
    /// Whose server it is; nginx is nobody's.
    pub strategy: Option<Strategy>,
    url: String,
    pids: Vec<u32>,
    running: Running,
}

enum Running {
    Server(Server, Readings),
    Nginx(Nginx),
}

impl Subject {
    /// Starts one of our servers. Its options come after those that all have in common, and so win.
    pub fn server(name: &str, asked: &Spec, workers: u16) -> Result<Self> {
        let options = ["--workers".to_owned(), workers.to_string()];
        let mut server = Server::start(asked, &options)?;
        let readings = server.read()?;
        Ok(Self {
            name: name.into(),
            strategy: asked.strategy(),
            url: server.url("/"),
            pids: server.worker_pids(),
            running: Running::Server(server, readings),
        })
    }

    /// Takes in the yardstick.
    pub fn nginx(name: &str, nginx: Nginx) -> Self {
        Self {
            name: name.into(),
            strategy: None,
            url: format!("http://{}/", nginx.address),
            pids: nginx.pids.clone(),
            running: Running::Nginx(nginx),
        }
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
        let before = self.requests();
        let running = &mut self.running;
        let (measured, spent) = meter.measure(&self.pids, wrk, load, &self.url, |now| {
            look(now)?;
            match running {
                Running::Server(server, readings) => server.check_alive(readings),
                Running::Nginx(nginx) => nginx.check_alive(),
            }
        })?;
        check_answered(&measured)?;
        if let (Some(before), Some(after)) = (before, self.requests()) {
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

    /// Requests answered by its own count, if it has one.
    fn requests(&self) -> Option<u64> {
        match &self.running {
            Running::Server(server, _) => server.requests(),
            Running::Nginx(_) => None,
        }
    }
}
