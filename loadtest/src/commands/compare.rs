//! `loadtest compare`: is one faster here, by how much, and how sure are we?
//!
//! All servers are up at once, on ports of their own, and wrk visits them in turn in short slices: a
//! machine that changes its speed changes it for all of them. A server that nobody asks spends next to
//! nothing, unless it has hundreds of workers; then one at a time is up. Each slice opens new connections, so that who accepts which is drawn again: with
//! keep-alive that lottery decides a whole run, and here it becomes part of the measured spread.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::atomic_file::AtomicFile;
use crate::cli;
use crate::documents;
use crate::environment::Environment;
use crate::interrupt;
use crate::kernel::affinity::{self, Cores};
use crate::load::mix;
use crate::load::wrk::Wrk;
use crate::load::{self, Load, Share};
use crate::measure::comparison::{
    AtRate, CompareBody, Comparison, FixedRate, Plan, RateSlice, Slice, Subject,
};
use crate::measure::schedule::schedule;
use crate::measure::slice::Visited;
use crate::probe::arrivals::Arrivals;
use crate::probe::drive;
use crate::probe::target::Target;
use crate::report::output::publish_to;
use crate::report::progress;
use crate::server::{Server, Spec};
use crate::statistics::latency::Distribution;
use crate::statistics::verdict::Figure;
use crate::types::Errors;
use crate::warnings::Warning;

/// Parts of the slower server's requests/s at which latencies are measured.
const FIXED_RATE_SHARES: [f64; 2] = [0.5, 0.8];

/// Requests of an open loop that may be under way at most.
const MOST_UNDER_WAY: u64 = 10_000;

/// How long one of those may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What a slice takes longer than its time: wrk starts, and lists its latencies at the end.
const BETWEEN_SLICES: Duration = Duration::from_millis(150);

/// The part of the CPU that this program may use during the slices.
const MOST_FOR_ITSELF: f64 = 0.02;

/// Checks, runs, reports.
pub fn run(asked: &cli::Compare) -> Result<()> {
    if let Some(path) = &asked.output.html {
        AtomicFile::reserve("--html", path)?;
    }
    let Measured { comparison, json, ended } = measure(asked)?;
    if comparison.subjects.iter().all(|subject| subject.slices.is_empty()) {
        return ended;
    }
    // Reported whatever happened: a disk that is full must not cost what was measured.
    publish_to(&documents::compare::document(&comparison), asked.output.with(Some(&json)))?;
    ended
}

/// What came of a comparison.
pub struct Measured {
    /// All that was measured, and what follows from it.
    pub comparison: Comparison,
    /// Where it is saved.
    pub json: PathBuf,
    /// What went wrong, if anything did: a server that died, a disk that is full.
    pub ended: Result<()>,
}

/// Checks and runs.
///
/// # Errors
/// When nothing could be measured.
pub fn measure(asked: &cli::Compare) -> Result<Measured> {
    let servers: Vec<Spec> =
        asked.servers.iter().map(|text| Spec::parse(text)).collect::<Result<_>>()?;
    let load = Load {
        threads: asked.load.threads,
        connections: asked.load.connections,
        duration: asked.slice,
        keep_alive: !asked.load.close,
    };
    load.check()?;
    let names = name_all(&servers)?;
    let plan = plan(asked, &load, &names)?;
    let mut wrk = Wrk::find()?;
    if asked.mix.is_some() {
        wrk = wrk.with_mix(&plan.paths, asked.random.seed)?;
    }
    let json = asked.output.json.clone().map_or_else(|| default_place("compare.json"), Ok)?;
    let environment = Environment::now(Some(wrk.version()))?;
    let body = CompareBody {
        plan,
        complete: false,
        subjects: (names.iter().zip(&servers))
            .map(|(name, server)| Subject::new(name, &server.text, load.keep_alive))
            .collect(),
        pairs: Vec::new(),
        fixed_rates: Vec::new(),
        anomalies: Vec::new(),
    };
    let fresh = Comparison::new(cli::arguments(), environment, body);
    let comparison = if asked.resume { resume(&json, fresh)? } else { begin(&json, fresh)? };
    let files = load::raise_open_files();

    let mut comparing =
        Comparing { comparison, json, wrk, load, servers, visited: Vec::new(), warnings: vec![] };
    let mut ran = comparing.run(files);
    let Comparing { mut comparison, json, visited, warnings, .. } = comparing;
    let mut warnings = warnings;
    warnings.extend(visited.into_iter().flatten().flat_map(Visited::stop));
    comparison.summarize()?;
    warnings.extend(doubts(&comparison));
    comparison.warnings.extend(warnings.iter().map(Warning::to_string));
    if comparison.subjects.iter().any(|subject| !subject.slices.is_empty()) {
        let place = AtomicFile::reserve("--json", &json);
        ran = ran.and(place.and_then(|place| place.save_compact(&comparison)));
    }
    let ended = ran.and_then(|()| fail_if_one_failed(&comparison));
    Ok(Measured { comparison, json, ended })
}

fn fail_if_one_failed(comparison: &Comparison) -> Result<()> {
    let failed: Vec<String> = comparison
        .subjects
        .iter()
        .filter_map(|c| Some(format!("{} took no further part: {}", c.name, c.failed.as_ref()?)))
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

/// The warnings that follow from figures.
fn doubts(comparison: &Comparison) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut errors = Errors::default();
    for summary in comparison.subjects.iter().filter_map(|c| c.summary.as_ref()) {
        errors += summary.errors.clone();
    }
    if errors.timeout > 0 {
        let limit_seconds = comparison.plan.slice_seconds + 1;
        found.push(Warning::Timeouts { count: errors.timeout, limit_seconds });
    }
    if errors.total() > 0 {
        found.push(Warning::Errors(errors));
    }
    let slices = || comparison.subjects.iter().flat_map(|subject| &subject.slices);
    let own: f64 = slices().map(|slice| slice.own_cpu_seconds).sum();
    let all: f64 = slices().map(|slice| slice.seconds).sum();
    let share = own / all / comparison.environment.cores as f64;
    if share > MOST_FOR_ITSELF {
        found.push(Warning::BusyHarness { share });
    }
    for at in &comparison.fixed_rates {
        for result in at.results.iter().filter(|result| result.not_sent > 0) {
            let (rate, not_sent, server) = (at.rate, result.not_sent, result.subject.clone());
            found.push(Warning::RateNotKept { rate, not_sent, server });
        }
    }
    found
}

/// Where a result goes if nobody says: beside the folder that this program was built into.
pub fn default_place(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program lies")?;
    let folder = own.ancestors().nth(2).context("this program lies in no folder")?;
    let path = folder.join("loadtest").join(name);
    // Shown to people, who are most likely in the folder above.
    let here = std::env::current_dir().unwrap_or_default();
    Ok(path.strip_prefix(&here).map(Path::to_owned).unwrap_or(path))
}

/// What each is called: the name it was given, or the server with its options.
///
/// # Errors
/// When two would be called the same, or there are fewer than two.
fn name_all(servers: &[Spec]) -> Result<Vec<String>> {
    ensure!(
        servers.len() > 1,
        "one server alone cannot be compared; name two or more, such as \"shared\" \"reuseport\""
    );
    let name = |server: &Spec| server.name.clone().unwrap_or_else(|| server.text.clone());
    let names: Vec<String> = servers.iter().map(name).collect();
    if servers.iter().all(|server| server == &servers[0]) && servers[0].name.is_none() {
        // The check of the comparison itself: the same again and again.
        return Ok((1..).zip(&names).map(|(number, name)| format!("{name} #{number}")).collect());
    }
    for (place, name) in names.iter().enumerate() {
        ensure!(
            !names[..place].contains(name),
            "'{name}' is given twice; give each a name of its own, as in \"a={}\" \"b={}\"",
            servers[place].text,
            servers[place].text
        );
    }
    Ok(names)
}

fn plan(asked: &cli::Compare, load: &Load, names: &[String]) -> Result<Plan> {
    let baseline = match &asked.baseline {
        None => names[0].clone(),
        Some(name) if names.contains(name) => name.clone(),
        Some(name) => bail!(
            "--baseline '{name}' is none of those that are compared ('{}'); name one of them",
            names.join("', '")
        ),
    };
    let path = Share { weight: 1.0, path: asked.path.clone() };
    let paths = asked.mix.as_deref().map_or_else(|| Ok(vec![path]), mix::read)?;
    let pinned = asked.pin.then(Cores::halve).transpose()?;
    // The prober asks for one path only.
    let fixed = paths.len() == 1 && !asked.fixed_rate.is_zero();
    Ok(Plan {
        rounds: asked.rounds,
        slice_seconds: asked.slice.as_secs(),
        seed: asked.random.seed,
        keep_alive: load.keep_alive,
        threads: load.threads,
        connections_asked: load.connections,
        connections_opened: load.connections_opened(),
        paths,
        baseline,
        threshold: asked.threshold,
        pinned,
        one_at_a_time: asked.one_at_a_time,
        fixed_rate_shares: if fixed { FIXED_RATE_SHARES.to_vec() } else { Vec::new() },
        fixed_rates: Vec::new(),
        fixed_rate_seconds: asked.fixed_rate.as_secs_f64(),
        fixed_rate_rounds: 1,
        judged: Figure::RequestsPerSecond,
        cost_unit: None,
        cost_excuse: None,
    })
}

/// Begins anew, in the place of an older comparison if there is one, but of nothing else.
fn begin(json: &Path, fresh: Comparison) -> Result<Comparison> {
    if json.is_file() && std::fs::metadata(json).is_ok_and(|found| found.len() > 0) {
        Comparison::read(json)?;
    }
    AtomicFile::reserve("--json", json)?;
    Ok(fresh)
}

/// Takes up a run that was interrupted.
///
/// # Errors
/// When there is none, it is another one, or it was made on another machine.
fn resume(json: &Path, fresh: Comparison) -> Result<Comparison> {
    let mut saved = Comparison::read(json)?;
    let show = json.display();
    let servers = |comparison: &Comparison| -> Vec<(String, String)> {
        comparison.subjects.iter().map(|c| (c.name.clone(), c.server.clone())).collect()
    };
    ensure!(
        saved.plan == fresh.plan && servers(&saved) == servers(&fresh),
        "{show} is of a run with other servers or options (loadtest {}); repeat those, or leave \
         --resume out and begin anew",
        saved.arguments.join(" ")
    );
    let (then, now) = (&saved.environment, &fresh.environment);
    ensure!(
        then.is_the_same_as(now),
        "{show} was begun on another machine or with another program ({}); slices of two do not \
         make one comparison: leave --resume out and begin anew",
        documents::machine(then)
    );
    for subject in &mut saved.subjects {
        subject.failed = None; // it gets another chance
    }
    saved.warnings.clear();
    AtomicFile::reserve("--json", json)?;
    Ok(saved)
}

/// A comparison under way.
struct Comparing {
    comparison: Comparison,
    json: PathBuf,
    wrk: Wrk,
    load: Load,
    servers: Vec<Spec>,
    /// In the order of the subjects: those that are up.
    visited: Vec<Option<Visited>>,
    warnings: Vec<Warning>,
}

impl Comparing {
    fn run(&mut self, files: u64) -> Result<()> {
        // One at a time as well: what cannot start says so before the first slice.
        for place in 0..self.servers.len() {
            let started = self.start(place)?;
            self.visited.push(Some(started));
            self.end_visit(place);
        }
        self.warn(files);
        let plan = self.comparison.plan.clone();
        let count = self.servers.len();
        let order = schedule(count, plan.rounds, plan.seed);
        let due: Vec<(u32, usize)> = (0..plan.rounds)
            .zip(&order)
            .flat_map(|(round, turns)| turns.iter().map(move |&place| (round, place)))
            .filter(|&(round, place)| {
                let slices = &self.comparison.subjects[place].slices;
                !slices.iter().any(|slice| slice.round == round)
            })
            .collect();
        let length = self.load.duration + BETWEEN_SLICES;
        // A server that is started for each slice is never warm, and each slice finds it so.
        let warm_up = !due.is_empty() && !plan.one_at_a_time;
        let slices = due.len() + if warm_up { count } else { 0 };
        let fixed = plan.fixed_rate_shares.len() * count;
        let fixed_time = Duration::from_secs_f64(plan.fixed_rate_seconds) * fixed as u32;
        let bar = progress::slices(length * slices as u32 + fixed_time);

        let begin = Instant::now();
        if warm_up {
            for place in 0..count {
                let name = self.comparison.subjects[place].name.clone();
                bar.name(format!("warm-up of {name}"));
                let slice = self.visit(place, 0, begin, &mut |at| bar.show(at))?;
                self.comparison.subjects[place].warm_up =
                    slice.map(|slice| slice.requests_per_second);
            }
        }
        for (round, place) in due {
            if self.has_failed(place) {
                continue;
            }
            let name = &self.comparison.subjects[place].name;
            bar.name(format!("round {} of {}: {name}", round + 1, plan.rounds));
            let Some(slice) = self.visit(place, round, begin, &mut |at| bar.show(at))? else {
                if interrupt::count() > 0 {
                    break;
                }
                self.save()?; // with the reason why it failed
                continue;
            };
            self.comparison.subjects[place].slices.push(slice);
            self.save()?;
        }
        let rounds = |c: &Subject| c.slices.len() == plan.rounds as usize;
        if interrupt::count() == 0 {
            self.ask_at_fixed_rates(&bar)?;
            self.comparison.complete = self.comparison.subjects.iter().all(rounds);
        }
        if interrupt::count() > 0 {
            let (done, all) = self.slices_done();
            self.warnings.push(Warning::Incomplete { done, all });
        }
        Ok(())
    }

    fn slices_done(&self) -> (usize, usize) {
        let comparison = &self.comparison;
        let done = comparison.subjects.iter().map(|subject| subject.slices.len()).sum();
        (done, comparison.subjects.len() * comparison.plan.rounds as usize)
    }

    fn start(&mut self, place: usize) -> Result<Visited> {
        let spec = &self.servers[place];
        let body = &mut self.comparison.body;
        let subject = &mut body.subjects[place];
        let cores = body.plan.pinned.as_ref().map(|cores| &cores.server[..]);
        let mut server = affinity::on(cores, || Server::start(spec, &[]))
            .with_context(|| format!("'{}' takes no part", subject.name))?;
        subject.workers = Some(server.worker_pids().len());
        let path = match &body.plan.paths[..] {
            [share] => &share.path,
            _ => "/",
        };
        let url = format!("http://{}{path}", server.address());
        Ok(Visited::new(vec![server], url))
    }

    /// The warnings that are known before the first slice.
    fn warn(&mut self, files: u64) {
        let load = &self.load;
        if cfg!(debug_assertions) {
            self.warnings.push(Warning::DebugBuild);
        }
        let (asked, opened) = (load.connections, load.connections_opened());
        if opened != asked {
            let threads = load.threads;
            self.warnings.push(Warning::ConnectionsNotOpened { asked, opened, threads });
        }
        let needs = [("wrk", load.files_of_wrk()), ("each worker", load.files_of_a_worker())];
        for (who, needs) in needs.into_iter().filter(|&(_, needs)| needs > files) {
            self.warnings.push(Warning::TooFewFiles { who, needs, limit: files });
        }
    }

    fn save(&self) -> Result<()> {
        AtomicFile::reserve("--json", &self.json)?.save_compact(&self.comparison).with_context(
            || {
                format!(
                    "the run ends here, with all slices before this one in {}",
                    self.json.display()
                )
            },
        )
    }

    /// One slice. `None` if it came to nothing: the server failed, which is noted, or Ctrl-C came.
    fn visit(
        &mut self,
        place: usize,
        round: u32,
        begin: Instant,
        show: &mut dyn FnMut(Duration),
    ) -> Result<Option<Slice>> {
        if self.has_failed(place) {
            return Ok(None);
        }
        match self.slice(place, round, begin, show) {
            Ok((slice, cut_short)) => {
                self.end_visit(place);
                Ok((!cut_short).then_some(slice)) // cut short, it is no whole slice
            }
            Err(_) if interrupt::count() > 0 => Ok(None),
            Err(error) => {
                self.comparison.subjects[place].failed = Some(format!("{error:#}"));
                self.visited[place] = None; // ended, without a word: what it had to say is said
                ensure!(
                    (0..self.servers.len()).any(|place| !self.has_failed(place)),
                    "none of the servers is left to be compared"
                );
                Ok(None)
            }
        }
    }

    fn slice(
        &mut self,
        place: usize,
        round: u32,
        begin: Instant,
        show: &mut dyn FnMut(Duration),
    ) -> Result<(Slice, bool)> {
        self.up(place)?;
        let visited = self.visited[place].as_mut().context("it is not up")?;
        let cores = self.comparison.plan.pinned.as_ref().map(|cores| &cores.wrk[..]);
        affinity::on(cores, || visited.slice(&self.wrk, &self.load, round, begin, show))
    }

    fn has_failed(&self, place: usize) -> bool {
        self.comparison.subjects[place].failed.is_some()
    }

    /// Starts it if it is not up, and says where it is.
    fn up(&mut self, place: usize) -> Result<SocketAddr> {
        if self.visited[place].is_none() {
            self.visited[place] = Some(self.start(place)?);
        }
        Ok(self.visited[place].as_ref().context("it is not up")?.address())
    }

    /// One at a time, this is a server's end until it has its turn again.
    fn end_visit(&mut self, place: usize) {
        if !self.comparison.plan.one_at_a_time {
            return;
        }
        let said = self.visited[place].take().map(Visited::stop).unwrap_or_default();
        for warning in said {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    /// Latencies that do not depend on how fast answers come, at rates that all can bear.
    fn ask_at_fixed_rates(&mut self, bar: &progress::Bar) -> Result<()> {
        self.comparison.summarize()?;
        let plan = self.comparison.plan.clone();
        let medians = (self.comparison.subjects.iter())
            .filter(|subject| subject.failed.is_none())
            .filter_map(|c| Some(c.summary.as_ref()?.requests_per_second.value));
        let slowest = medians.fold(f64::INFINITY, f64::min);
        if !slowest.is_finite() || !self.comparison.fixed_rates.is_empty() {
            return Ok(()); // nobody is left, or a run that was complete is resumed
        }
        for share in plan.fixed_rate_shares {
            let rate = (slowest * share).max(1.0) as u64;
            let mut at_rate =
                FixedRate { share: Some(share), rate, results: Vec::new(), pairs: Vec::new() };
            for place in 0..self.servers.len() {
                if self.has_failed(place) {
                    continue;
                }
                let name = self.comparison.subjects[place].name.clone();
                bar.name(format!("{rate} requests/s to {name}"));
                let length = Duration::from_secs_f64(plan.fixed_rate_seconds);
                let load = drive::Load {
                    connections: MOST_UNDER_WAY,
                    rate: Some(rate),
                    arrivals: Arrivals::Poisson { seed: plan.seed },
                    keep_alive: plan.keep_alive,
                    until: drive::Until::Time(length),
                };
                let address = self.up(place)?;
                let (host, path) = (address.to_string(), &plan.paths[0].path);
                let target = Target::new(address, &host, path, plan.keep_alive, ANSWER_WITHIN);
                let cores = plan.pinned.as_ref().map(|cores| &cores.wrk[..]);
                let counters =
                    affinity::on(cores, || drive::run(target, &load, Instant::now(), |_, _| {}))?;
                if interrupt::count() > 0 {
                    return Ok(());
                }
                self.end_visit(place);
                let slice = RateSlice {
                    round: 0,
                    lateness_p99_us: 0,
                    client_late: false,
                    ideal_us: None,
                    due: counters.attempted + counters.not_sent,
                    ok: counters.outcomes.ok,
                    not_sent: counters.not_sent,
                    lost: counters.attempted - counters.outcomes.ok,
                    latencies: Distribution::from_histogram(&counters.latency),
                };
                at_rate.results.push(AtRate::new(&name, vec![slice]));
            }
            self.comparison.fixed_rates.push(at_rate);
            self.save()?;
        }
        Ok(())
    }
}
