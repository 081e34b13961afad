//! A comparison under way: the running servers, and the turns.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::environment;
use crate::interrupt;
use crate::kernel::affinity;
use crate::load::Load;
use crate::load::wrk::Wrk;
use crate::measure::comparison::{
    AtRate, BETWEEN_SLICES, CLOSED_LOOP, CompareBody, FixedRate, LEAD_IN, Plan, RateSlice, Slice,
    Subject, WARM_UP,
};
use crate::measure::runner::{Series, Turn, turns};
use crate::measure::slice::Running;
use crate::measure::store::Store;
use crate::probe::arrivals::Arrivals;
use crate::probe::counters::Counters;
use crate::probe::ideal::Service;
use crate::probe::load as probe;
use crate::report::progress;
use crate::server::{Kind, Server, Spec};
use crate::warnings::Warning;

/// A comparison under way.
pub(super) struct Comparing {
    pub body: CompareBody,
    /// How each subject is started.
    pub servers: Vec<Spec>,
    pub extra: Vec<String>,
    /// The running servers, in the order of the subjects.
    pub running: Vec<Option<Running>>,
    pub wrk: Wrk,
    pub expect: Option<String>,
    pub warnings: Vec<Warning>,
    pub begin: Instant,
}

impl Comparing {
    /// Starts all, even if they run one at a time: a server that cannot start must fail before the first slice. First
    /// checks those that must run already.
    pub fn start_all(&mut self) -> Result<()> {
        let mut places: Vec<usize> = (0..self.servers.len()).collect();
        places.sort_by_key(|&place| !matches!(self.servers[place].kind, Kind::Running { .. }));
        for place in places {
            interrupt::check()?;
            let name = self.body.subjects[place].name.clone();
            self.up(place).with_context(|| format!("cannot start '{name}'"))?;
            self.end_turn(place);
        }
        Ok(())
    }

    /// Starts it if it is not up.
    fn up(&mut self, place: usize) -> Result<&mut Running> {
        let Self { body: CompareBody { subjects, plan, .. }, running, .. } = self;
        let (running, subject) = (&mut running[place], &mut subjects[place]);
        if running.is_none() {
            let cores = plan.pinned.as_ref().map(|cores| &cores.server[..]);
            let server = affinity::on(cores, || Server::start(&self.servers[place], &self.extra))?;
            server.check_reachable()?;
            // With a mix the script has the paths.
            let url = server.url(if plan.paths.len() > 1 { "/" } else { &subject.path });
            subject.workers = running.insert(Running::new(vec![server], url)).workers();
        }
        running.as_mut().context("it is not running")
    }

    /// Starts it if it is not up. If servers run one at a time, it is then loaded for a while.
    fn warmed_up(&mut self, place: usize) -> Result<()> {
        if self.running[place].is_none() {
            self.up(place)?;
            if self.body.plan.one_at_a_time {
                self.load(place, WARM_UP, 0, &mut |_| ())?;
            }
        }
        Ok(())
    }

    /// If servers run one at a time, this one is stopped until its next turn.
    fn end_turn(&mut self, place: usize) {
        if self.body.plan.one_at_a_time {
            self.end(place);
        }
    }

    fn end(&mut self, place: usize) {
        for warning in self.running[place].take().map(Running::stop).unwrap_or_default() {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    pub fn stop(&mut self) -> Vec<Warning> {
        (0..self.servers.len()).for_each(|place| self.end(place));
        std::mem::take(&mut self.warnings)
    }

    /// Takes all turns whose samples are not in the store. A subject that fails takes no more, also when the run is
    /// resumed: its later rounds would be compared with rounds of others that were long before.
    pub fn measure(&mut self, store: &mut Store) -> Result<()> {
        for subject in &mut self.body.subjects {
            subject.failed = store.get(&failure_of(&subject.name))?;
        }
        let measured = self.take_turns(store);
        for subject in &self.body.subjects {
            if let Some(reason) = &subject.failed {
                store.save(&failure_of(&subject.name), reason)?;
            }
        }
        measured
    }

    fn take_turns(&mut self, store: &mut Store) -> Result<()> {
        let plan = self.body.plan.clone();
        let names = self.names(|_| true);
        let slices = Series { name: SLICE, subjects: &names, rounds: plan.rounds };
        let due = slices.missing(store);
        // A server that is started for each slice is warmed up for each.
        let warm_up = due > 0 && !plan.one_at_a_time;
        let due = due + if warm_up { names.len() } else { 0 };
        let rates = plan.fixed_rate_shares.len() + plan.fixed_rates.len();
        let closed = if plan.fixed_rate_shares.is_empty() { Duration::ZERO } else { CLOSED_LOOP };
        let at_rate =
            Duration::from_secs_f64(plan.fixed_rate_seconds) + LEAD_IN * plan.fixed_rate_rounds;
        let start = if plan.one_at_a_time { WARM_UP + BETWEEN_SLICES } else { Duration::ZERO };
        let starts = start * plan.fixed_rate_rounds * rates.min(1) as u32;
        let fixed = at_rate * rates as u32 + closed + starts;
        let each = plan.load.duration + BETWEEN_SLICES + start;
        let bar = progress::slices(each * due as u32 + fixed * names.len() as u32);
        self.begin = Instant::now();
        let begin = self.begin;

        for (place, name) in names.iter().enumerate().filter(|_| warm_up) {
            bar.name(format!("warm-up of {name}"));
            let key = warm_up_of(name);
            if store.has(&key) {
                // A resumed run has started its servers anew.
                self.turn(place, |c| c.slice(place, 0, &bar))?;
            }
            store.sample(&key, || {
                let slice = self.turn(place, |c| c.slice(place, 0, &bar))?;
                Ok(slice.map(|slice| slice.requests_per_second))
            })?;
        }
        slices.run(store, plan.seed, |Turn { round, subject }| {
            bar.name(format!("round {} of {}: {}", round + 1, plan.rounds, names[subject]));
            let slice = self.turn(subject, |c| c.slice(subject, round, &bar));
            self.end_turn(subject);
            slice
        })?;

        let place_of: Vec<usize> =
            (0..names.len()).filter(|&place| self.body.subjects[place].at_rates).collect();
        let asked = self.names(|subject| subject.at_rates);
        if !plan.fixed_rate_shares.is_empty() {
            closed_loops(&asked).run(store, plan.seed, |turn| {
                bar.name(format!("what {} serves to the prober", asked[turn.subject]));
                let place = place_of[turn.subject];
                let served = self.turn(place, |c| c.closed_loop(place));
                self.end_turn(place);
                served
            })?;
        }
        let rounds = plan.fixed_rate_rounds;
        let length = Duration::from_secs_f64(plan.fixed_rate_seconds) / rounds;
        let rates = rates_of(&plan, store, &asked)?;
        // A server that is started for its turn is started once for all rates. The others are asked at one rate after the
        // other: what a server has left to do after a high rate must not disturb the next one at a low rate.
        let in_a_turn = if plan.one_at_a_time { rates.len().max(1) } else { 1 };
        for rates in rates.chunks(in_a_turn) {
            for turn in turns(asked.len(), rounds, plan.seed) {
                let place = place_of[turn.subject];
                for &(_, rate) in rates {
                    let series = Series { name: &at(rate), subjects: &asked, rounds };
                    series.take(store, turn, |turn| {
                        bar.name(format!("{rate} requests/s to {}", asked[turn.subject]));
                        bar.show(begin.elapsed());
                        self.turn(place, |c| c.rate_slice(place, turn.round, rate, length))
                    })?;
                }
                self.end_turn(place);
            }
        }
        Ok(())
    }

    fn names(&self, of: fn(&Subject) -> bool) -> Vec<String> {
        let subjects = self.body.subjects.iter().filter(|subject| of(subject));
        subjects.map(|subject| subject.name.clone()).collect()
    }

    /// One sample. `None` if the server failed, now or earlier, which is noted.
    fn turn<T>(
        &mut self,
        place: usize,
        measure: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        if self.body.subjects[place].failed.is_some() {
            return Ok(None);
        }
        let error = match measure(self) {
            Ok(measured) => return Ok(Some(measured)),
            Err(error) => error,
        };
        interrupt::check()?;
        self.body.subjects[place].failed = Some(format!("{error:#}"));
        self.running[place] = None; // stopped; its failure is noted already
        ensure!(
            some_can_be_compared(&self.body.subjects),
            "{} was left out from then on, and no two servers are left to compare: {error:#}",
            self.body.subjects[place].name
        );
        Ok(None)
    }

    fn slice(&mut self, place: usize, round: u32, bar: &progress::Bar) -> Result<Slice> {
        self.warmed_up(place)?;
        self.load(place, self.body.plan.load.duration, round, &mut |now| bar.show(now))
    }

    /// Loads it with wrk, on the client's cores if these are separate.
    fn load(
        &mut self,
        place: usize,
        duration: Duration,
        round: u32,
        show: &mut dyn FnMut(Duration),
    ) -> Result<Slice> {
        let Self { running, wrk, begin, body: CompareBody { plan, subjects, .. }, .. } = self;
        let keep_alive = subjects[place].keep_alive;
        let load = Load { keep_alive, duration, ..plan.load.clone() };
        let running = running[place].as_mut().context("it is not running")?;
        affinity::on(plan.pinned.as_ref().map(|cores| &cores.wrk[..]), || {
            let slice = running.run_wrk(wrk, &load, plan.cost_unit, round, *begin, show)?.whole();
            // Only now are the children known for which a parent accepts.
            subjects[place].workers = running.workers();
            slice
        })
    }

    /// Loads it with the prober, on the client's cores if these are separate.
    fn probe(&mut self, place: usize, load: probe::Load) -> Result<Counters> {
        let Subject { path, keep_alive, .. } = self.body.subjects[place].clone();
        let Plan { pinned, paths, .. } = self.body.plan.clone();
        let (mix, expect) = (if paths.len() > 1 { paths } else { Vec::new() }, self.expect.clone());
        self.warmed_up(place)?;
        let running = self.running[place].as_mut().context("it is not running")?;
        affinity::on(pinned.as_ref().map(|cores| &cores.wrk[..]), || {
            running.probe(&path, expect.as_deref(), probe::Load { keep_alive, mix, ..load })
        })
    }

    /// The requests/s that it serves to clients of the prober that wait for their answers.
    fn closed_loop(&mut self, place: usize) -> Result<f64> {
        let load = probe::Load {
            connections: self.body.plan.load.connections_opened,
            seconds: CLOSED_LOOP.as_secs_f64(),
            ..probe::Load::default()
        };
        let counters = self.probe(place, load)?;
        ensure!(
            counters.outcomes.ok > 0,
            "it gave the prober no correct answer{}",
            counters.first_wrong.map_or_else(String::new, |reason| format!(": {reason}"))
        );
        Ok(counters.ok_per_second())
    }

    fn rate_slice(
        &mut self,
        place: usize,
        round: u32,
        rate: u64,
        time: Duration,
    ) -> Result<RateSlice> {
        let load = probe::Load {
            // The same arrivals for all subjects of a round.
            seed: self.body.plan.seed.wrapping_add(round.into()),
            seconds: (LEAD_IN + time).as_secs_f64(),
            lead_in: LEAD_IN,
            ..probe::Load::default().at_rate(rate, Arrivals::Poisson)
        };
        let counters = self.probe(place, load)?;
        let Self { body: CompareBody { plan, subjects, .. }, servers, extra, .. } = self;
        let cpus = plan.pinned.as_ref().map_or_else(environment::cores, |p| p.server.len());
        let Subject { path, workers, .. } = &subjects[place];
        let service = Service::of(&servers[place], extra, path, workers.unwrap_or(0), cpus);
        // The service times of a mix differ, so there is no ideal.
        Ok(RateSlice::of(&counters, service.filter(|_| plan.paths.len() == 1), round))
    }

    /// Fills the record from the store.
    pub fn collect(&mut self, store: &Store) -> Result<()> {
        let [names, asked] = [self.names(|_| true), self.names(|subject| subject.at_rates)];
        let CompareBody { plan, subjects, fixed_rates, .. } = &mut self.body;
        let series = Series { name: SLICE, subjects: &names, rounds: plan.rounds };
        let (mut all, mut left) = (series.turns(), series.missing(store));
        let closed = closed_loops(&names).samples::<f64>(store)?;
        for ((subject, slices), closed) in
            subjects.iter_mut().zip(series.samples(store)?).zip(closed)
        {
            subject.warm_up = store.get(&warm_up_of(&subject.name))?;
            subject.slices = slices;
            subject.closed_loop = closed.first().copied();
        }
        for (share, rate) in rates_of(plan, store, &asked)? {
            let series =
                Series { name: &at(rate), subjects: &asked, rounds: plan.fixed_rate_rounds };
            all += series.turns();
            left += series.missing(store);
            let slices = asked.iter().zip(series.samples(store)?);
            let results: Vec<AtRate> = slices
                .filter(|(_, slices)| !slices.is_empty())
                .map(|(name, slices)| AtRate::new(name, slices))
                .collect();
            if !results.is_empty() {
                fixed_rates.push(FixedRate { share, rate, results, pairs: Vec::new() });
            }
        }
        let rates_known = plan.fixed_rate_shares.is_empty()
            || subjects.iter().any(|subject| subject.closed_loop.is_some());
        self.body.complete = left == 0 && rates_known;
        if !self.body.complete && interrupt::count() > 0 {
            self.warnings.push(Warning::Incomplete { done: all - left, all });
        }
        Ok(())
    }
}

/// Whether two subjects are left with the same kind of connections.
fn some_can_be_compared(subjects: &[Subject]) -> bool {
    [true, false].iter().any(|&keep_alive| {
        let of_kind = |it: &&Subject| it.failed.is_none() && it.keep_alive == keep_alive;
        subjects.iter().filter(of_kind).count() > 1
    })
}

/// The name of the samples.
const SLICE: &str = "slice";

fn warm_up_of(subject: &str) -> String {
    format!("warm-up/{subject}")
}

fn failure_of(subject: &str) -> String {
    format!("failed/{subject}")
}

fn at(rate: u64) -> String {
    format!("at-{rate}")
}

/// The closed loops of these subjects.
fn closed_loops(subjects: &[String]) -> Series<'_, String> {
    Series { name: "closed-loop", subjects, rounds: 1 }
}

/// The rates, each with its part of what the best subject serves to the prober, the lowest first.
fn rates_of(plan: &Plan, store: &Store, names: &[String]) -> Result<Vec<(Option<f64>, u64)>> {
    let closed = closed_loops(names).samples::<f64>(store)?;
    let best = closed.into_iter().flatten().fold(0.0, f64::max);
    let shares = plan.fixed_rate_shares.iter().filter(|_| best > 0.0);
    let shares = shares.map(|&share| (Some(share), (best * share).max(1.0) as u64));
    let mut rates: Vec<_> = shares.chain(plan.fixed_rates.iter().map(|&r| (None, r))).collect();
    rates.sort_by_key(|&(_, rate)| rate);
    rates.dedup_by_key(|&mut (_, rate)| rate);
    Ok(rates)
}
