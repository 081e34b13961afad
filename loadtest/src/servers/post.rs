//! Comparisons slice by slice.
//!
//! The post's two programs, on Linux, with the wrk command of the post; the second program also steered
//! as on a Mac, where one socket of a group gets every connection. And nginx's latencies, about which
//! NGINX 1.9.1 makes a claim.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::load::{Load, Share};
use crate::measure::compare::Experiment;
use crate::measure::comparison::{Comparison, Plan, Slice, Subject};
use crate::report::post;
use crate::servers::catalogue::{SANIC_OWN, SANIC_SHARED, WORKERS};
use crate::servers::install::Place;
use crate::servers::record::{Form, Post, PostProgram};
use crate::statistics::latency::merged;
use crate::statistics::verdict::FEWEST_ROUNDS;
use crate::statistics::{by_rank, ratios};

/// The names of the programs: the post's words for the two, and the second one as it is steered.
const SHARED: &str = "sharing socket";
const OWN: &str = "different socket";
const STEERED: &str = "different socket, as on a Mac";

/// The load of the post's wrk: `-t12 -c100`, connections kept.
const THREADS: u64 = 12;
const CONNECTIONS: u64 = 100;

/// Compares the programs. The slices are saved beside `json`, and a resumed run reads them there.
///
/// # Errors
/// When nothing can be measured.
pub fn compare(place: &Place, form: Form, seed: u64, json: &Path, resume: bool) -> Result<Post> {
    let (own, shared) = (command(place, SANIC_OWN), command(place, SANIC_SHARED));
    let steered = command(
        place,
        &format!("{{python}} {{apps}}/as_on_a_mac.py {{port}} {WORKERS} {SANIC_OWN}"),
    );
    let two = [(SHARED, &*shared), (OWN, &*own)];
    let three = [two[0], two[1], (STEERED, &*steered)];
    let is_root = nix::unistd::getuid().is_root();
    let only_root = "only root may attach a steering program to another server";
    let run = |servers: &[(&str, &str)], missing: &str| {
        let experiment = experiment(servers, form, seed, json, resume);
        let (comparison, ended) = experiment.run(crate::cli::arguments())?;
        let reason = ended.err().map(|error| format!("{error:#}"));
        anyhow::Ok(of(&comparison, reason.as_deref().unwrap_or(missing)))
    };
    if !is_root {
        return run(&two, only_root);
    }
    // If the kernel refuses the steering program, the post's own two remain.
    run(&three, "").or_else(|error| {
        crate::interrupt::check()?;
        run(&two, &format!("{STEERED} was left out: {error:#}"))
    })
}

/// The standard deviation of nginx's latencies with own sockets over that with a shared one, round by
/// round, with the post's load.
///
/// # Errors
/// When there is no nginx, or nothing can be measured.
pub fn nginx_deviations(form: Form, seed: u64, json: &Path, resume: bool) -> Result<Vec<f64>> {
    let both = ["nginx --workers 4", "nginx --workers 4 --reuseport"].map(|it| (it, it));
    let mut experiment = experiment(&both, form, seed, json, resume);
    experiment.plan.rounds = form.choose(12, FEWEST_ROUNDS, FEWEST_ROUNDS);
    experiment.plan.baseline = both[0].0.into();
    let (comparison, _) = experiment.run(crate::cli::arguments())?;
    let deviations = |subject: &Subject| -> Vec<(u32, f64)> {
        let of = |slice: &Slice| Some((slice.round, merged([&slice.latencies])?.stdev));
        subject.slices.iter().filter_map(of).collect()
    };
    let [shared, own] = &comparison.subjects[..] else { return Ok(Vec::new()) };
    Ok(ratios(&deviations(own), &deviations(shared)))
}

fn command(place: &Place, command: &str) -> String {
    let quoted = |path: std::path::PathBuf| {
        let text = path.display().to_string();
        shlex::try_quote(&text).map_or_else(|_| text.clone(), |quoted| quoted.into_owned())
    };
    let command = command.replace("{python}", &quoted(place.python()));
    format!("cmd:{}", command.replace("{apps}", &quoted(place.apps())))
}

fn experiment(
    servers: &[(&str, &str)],
    form: Form,
    seed: u64,
    json: &Path,
    resume: bool,
) -> Experiment {
    let slice = Duration::from_secs(1);
    let load = Load::new(THREADS, CONNECTIONS, slice, true);
    let rounds = form.choose(40, FEWEST_ROUNDS, FEWEST_ROUNDS);
    let subjects = servers.iter().map(|(name, server)| Subject::new(name, server, "/", true));
    Experiment {
        subjects: subjects.collect(),
        plan: Plan::new(load, rounds, seed, vec![Share::only("/")], SHARED),
        json: json.to_owned(),
        resume: resume && json.with_extension("samples.jsonl").is_file(),
        ..Experiment::default()
    }
}

fn of(comparison: &Comparison, missing: &str) -> Post {
    let program = |subject: &Subject| PostProgram {
        name: subject.name.clone(),
        requests_per_second: subject.summary.as_ref().map(|found| found.requests_per_second),
        p99_us: subject.summary.as_ref().map(|found| found.latency_us.p99),
        connections: connections_by_rank(&subject.slices),
    };
    Post {
        programs: comparison.subjects.iter().map(program).collect(),
        sentences: comparison.pairs.iter().map(|pair| pair.sentence.clone()).collect(),
        rounds: comparison.plan.rounds,
        missing: missing.into(),
    }
}

/// The mean part of a slice's connections by rank: the busiest worker first. A worker without connections may not have
/// been seen.
fn connections_by_rank(slices: &[Slice]) -> Vec<f64> {
    let counts = |slice: &Slice| slice.workers.iter().filter_map(|it| it.connections).collect();
    let mut parts = by_rank(slices.iter().map(counts)).unwrap_or_default();
    if !parts.is_empty() {
        parts.resize(WORKERS, 0.0);
    }
    parts
}

impl Post {
    /// Requests/s of the second program over those of the first, with the interval; and the same with all
    /// connections steered to one of its sockets, as on a Mac.
    pub fn of_shared(&self) -> [Option<String>; 2] {
        [false, true].map(|steered| {
            let is_it = |it: &&String| it.contains(STEERED) == steered && it.contains(SHARED);
            let (_, figures) = self.sentences.iter().find(is_it)?.rsplit_once(": ")?;
            let figures = figures.trim_end_matches('.');
            let parts = figures.split_once(" times the requests/s, 95 % interval ");
            Some(parts.map_or(figures.into(), |(ratio, interval)| format!("{ratio} ({interval})")))
        })
    }

    /// The post's own figure for a program, if it has one.
    pub fn quoted(name: &str) -> Option<f64> {
        match name {
            SHARED => post::figure_for("shared").map(|it| it.requests_per_second as f64),
            OWN => post::figure_for("reuseport").map(|it| it.requests_per_second as f64),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::comparison::Worker;

    #[test]
    fn what_it_is_by_itself_and_as_on_a_mac_is_told_with_its_interval() {
        let sentences = [
            "different socket is faster than sharing socket: 1.065 times the requests/s, 95 % interval 1.01 to 1.1.",
            "different socket, as on a Mac is slower than sharing socket: 0.657 times it.",
            "different socket, as on a Mac is slower than different socket: 0.5 times it.",
        ];
        let post = Post { sentences: sentences.map(str::to_owned).into(), ..Post::default() };
        let of_shared = ["1.065 (1.01 to 1.1)", "0.657 times it"].map(|text| Some(text.to_owned()));
        assert_eq!(post.of_shared(), of_shared);
        assert_eq!(Post::default().of_shared(), [None, None]);
    }

    #[test]
    fn the_parts_are_ranked_slice_by_slice() {
        let slice = |counts: [u64; 2]| {
            let worker = |(index, &count): (usize, &u64)| Worker {
                index,
                connections: Some(count),
                requests: None,
            };
            Slice { workers: counts.iter().enumerate().map(worker).collect(), ..Slice::default() }
        };
        assert_eq!(
            connections_by_rank(&[slice([25, 75]), slice([75, 25])]),
            [0.75, 0.25, 0.0, 0.0]
        );
        assert!(connections_by_rank(&[slice([0, 0])]).is_empty());
    }

    #[test]
    fn a_command_is_for_any_port_and_finds_its_files_in_a_folder_with_a_blank() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(&folder.path().join("a b")).unwrap();
        let spec = crate::server::Spec::parse(&command(&place, SANIC_OWN)).unwrap();
        let crate::server::Kind::Command { words } = spec.kind else { panic!() };
        assert_eq!(words.len(), 4);
        assert!(std::path::Path::new(&words[1]).is_file(), "{words:?}");
    }
}
