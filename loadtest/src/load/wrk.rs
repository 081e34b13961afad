//! Runs wrk, the load generator.
//!
//! Its figures come from `wrk.lua`, which runs inside wrk and prints them as JSON on a marked line.
//! Two facts about its latencies: wrk *corrects* them for coordinated omission, which is undone here
//! ([`uncorrected`]), and it omits answers that exceed its timeout.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use serde::Deserialize;
use tempfile::NamedTempFile;

use crate::interrupt;
use crate::load::{Load, NO_PORT_LEFT, Share};
use crate::server::process::Child;
use crate::types::Errors;

/// The script that runs inside wrk.
const SCRIPT: &str = include_str!("wrk.lua");

/// The part of the script for a mix of paths.
const MIX: &str = include_str!("wrk_mix.lua");

/// The beginning of the line with the figures, as in `wrk.lua`.
const MARK: &str = "loadtest-json ";

/// How much longer than its duration wrk may run: it connects before, and sums up after the load.
const SLACK: Duration = Duration::from_secs(30);

/// How often wrk is asked again to stop. It ignores the signal until its threads run.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// wrk, found on the PATH, with its script.
pub struct Wrk {
    version: String,
    script: NamedTempFile,
}

/// What wrk measured in one run.
#[derive(Debug, Deserialize)]
pub struct Measured {
    /// How long the load lasted, in microseconds.
    pub duration_us: u64,
    /// Answers received, whatever their status.
    pub requests: u64,
    /// CPU time that all of wrk's threads used.
    pub cpu_seconds: f64,
    /// Errors by kind.
    pub errors: Errors,
    /// The latencies of the requests that were sent: microseconds and count, in rising order.
    pub distribution: Vec<(u64, u64)>,
    /// Whether the run was cut short.
    #[serde(skip)]
    pub interrupted: bool,
}

/// The state of a run of wrk.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time that has passed.
    pub elapsed: Duration,
    /// The process id of wrk, or of the program that started it.
    pub pid: u32,
}

impl Wrk {
    /// Finds wrk on the PATH.
    /// Fails when it is missing, or is another program.
    pub fn find() -> Result<Self> {
        // It prints its version and its usage, and exits with 1.
        let output = match Command::new("wrk").arg("-v").output() {
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "wrk is not installed: `make bench-shared` installs it, or install the package wrk"
            ),
            other => other.context("cannot run wrk")?,
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let first = text.lines().next().unwrap_or_default();
        let version = first.split(" Copyright").next().unwrap_or_default().trim();
        ensure!(
            version.starts_with("wrk "),
            "the program wrk on the PATH does not work (`wrk -v` printed {first:?}); reinstall the \
             package wrk"
        );
        Ok(Self { version: version.into(), script: write(SCRIPT)? })
    }

    /// wrk with a mix of paths, which are drawn from the seed.
    pub fn with_mix(&self, shares: &[Share], seed: u64) -> Result<Self> {
        let shares: Vec<String> = (shares.iter())
            .map(|share| format!("{{ {}, \"{}\" }}", share.weight, share.path))
            .collect();
        let table =
            format!("local MIX = {{ {} }}\nlocal SEED = {}\n", shares.join(", "), seed % 1024);
        let script = write(&[SCRIPT, &table, MIX].concat())?;
        Ok(Self { version: self.version.clone(), script })
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Puts a load on a URL and waits for its end, or for Ctrl-C, which ends the load early.
    ///
    /// `through` is a program that starts wrk, such as `perf stat ... --`. `look` is called about a hundred
    /// times a second; its error ends the run.
    pub fn run(
        &self,
        load: &Load,
        url: &str,
        through: Option<Command>,
        mut look: impl FnMut(Moment) -> Result<()>,
    ) -> Result<Measured> {
        let wraps = through.is_some();
        let mut command = through.unwrap_or_else(|| Command::new("wrk"));
        if wraps {
            command.arg("wrk");
        }
        command
            .arg("--latency")
            .arg(format!("-t{}", load.threads))
            .arg(format!("-c{}", load.connections))
            .arg(format!("-d{}s", load.duration.as_secs()))
            .arg("--timeout")
            .arg(format!("{}s", load.timeout_seconds()))
            .arg("-s")
            .arg(self.script.path());
        if !load.keep_alive {
            command.args(["-H", "Connection: close"]);
        }
        command.arg(url);

        let mut child = Child::start("wrk", &mut command, Stdio::null())?;
        let begin = Instant::now();
        let mut asked_to_stop: Option<Instant> = None;
        let status = child.wait_for(load.duration + SLACK, |child| {
            let status = child.ended()?;
            if status.is_none() {
                look(Moment { elapsed: begin.elapsed(), pid: child.pid() })?;
                ensure!(interrupt::count() < 2, "interrupted");
                if interrupt::count() == 1
                    && asked_to_stop.is_none_or(|at| at.elapsed() > ASK_EVERY)
                {
                    child.signal(Signal::SIGINT);
                    asked_to_stop = Some(Instant::now());
                }
            }
            Ok(status)
        })?;
        let Some(status) = status else {
            bail!("wrk did not end within {} s after its time", SLACK.as_secs())
        };
        if !status.success() {
            interrupt::check()?; // the signal may have come before wrk was ready for it
        }
        ensure!(status.success(), "wrk failed ({status}): {}", with_remedy(child.last_words()));
        let mut measured = parse(&child.output(), load.connections)?;
        measured.interrupted = asked_to_stop.is_some();
        Ok(measured)
    }
}

/// Adds the remedy to two errors that are not wrk's fault.
fn with_remedy(words: String) -> String {
    let is_connecting = words.starts_with("unable to connect");
    if is_connecting && words.contains(Errno::EADDRNOTAVAIL.desc()) {
        return format!("{words}; {NO_PORT_LEFT}");
    }
    let remedy = if is_connecting { "; start the server, or correct the URL" } else { "" };
    words + remedy
}

/// wrk reads its script from a file.
fn write(script: &str) -> Result<NamedTempFile> {
    let mut file = NamedTempFile::with_suffix(".lua").context("cannot write wrk's script")?;
    file.write_all(script.as_bytes()).context("cannot write wrk's script")?;
    Ok(file)
}

/// Parses the figures in wrk's output; it had this many connections.
fn parse(output: &str, connections: u64) -> Result<Measured> {
    let json = output
        .lines()
        .find_map(|line| line.strip_prefix(MARK))
        .context("wrk ended without figures; check that the wrk on the PATH is built with Lua")?;
    let mut measured: Measured =
        serde_json::from_str(json).context("wrk's figures are not what its script prints")?;
    ensure!(measured.duration_us > 0, "wrk reports a load of 0 s");
    let Measured { duration_us, requests, distribution, errors, .. } = &mut measured;
    let each = *requests / connections;
    if let Some(expected) = duration_us.checked_div(each) {
        *distribution = uncorrected(distribution, expected);
    }
    // Every answer is either a latency or a timeout.
    let samples: u64 = distribution.iter().map(|(_, count)| count).sum();
    ensure!(
        samples + errors.timeout == *requests,
        "wrk counted {requests} requests and {samples} latencies; its figures cannot be trusted"
    );
    Ok(measured)
}

/// The latencies without the samples that wrk adds for coordinated omission.
///
/// wrk 4 (`stats_correct` in src/stats.c, called in src/wrk.c) takes the time that a connection needs
/// for a request on average, `expected`, and adds, for each latency n of at least twice that, one of n -
/// `expected`, n - 2 * `expected` and so on while more than `expected`: a client that sends at a steady
/// rate would have waited so long. But these requests were never sent, and with them requests/s times mean
/// latency exceeds the number of open connections: if wrk shares two cores with the server, they are up to
/// a fifth of all samples. Our own client measures latencies at a steady rate.
///
/// The additions to a latency m are all latencies m + `expected`, m + 2 * `expected` and so on, as they
/// were; and those are the latencies m + `expected` with their own additions.
fn uncorrected(corrected: &[(u64, u64)], expected: u64) -> Vec<(u64, u64)> {
    let counts: BTreeMap<u64, u64> = corrected.iter().copied().collect();
    let added = |value: u64| match value > expected {
        true => counts.get(&(value + expected)).copied().unwrap_or(0),
        false => 0,
    };
    let made = counts.iter().map(|(&value, &count)| (value, count.saturating_sub(added(value))));
    made.filter(|&(_, count)| count > 0).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::load::tests::load;
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::thread;

    /// A run of 10 s with this many answers.
    pub fn measured(requests: u64) -> Measured {
        Measured {
            duration_us: 10_000_000,
            requests,
            cpu_seconds: 1.0,
            errors: Errors::default(),
            distribution: vec![(870, requests)],
            interrupted: false,
        }
    }

    const LINE: &str = r#"loadtest-json {"duration_us":1000000,"requests":3,"cpu_seconds":0.5,
        "errors":{"connect":0,"read":0,"write":0,"status":0,"timeout":1},
        "distribution":[[10,1],[20,1]]}"#;

    fn printed() -> String {
        format!("Running 1s test\n{}\n", LINE.replace('\n', ""))
    }

    #[test]
    fn the_figures_are_found_among_wrks_own_text() {
        let measured = parse(&printed(), 4).unwrap();
        assert_eq!((measured.requests, &measured.distribution[..]), (3, &[(10, 1), (20, 1)][..]));
    }

    #[test]
    fn why_wrk_cannot_connect_decides_the_remedy() {
        let remedy = |why: Errno| with_remedy(format!("unable to connect to a:1 {}", why.desc()));
        assert!(remedy(Errno::ECONNREFUSED).ends_with("start the server, or correct the URL"));
        assert!(remedy(Errno::EADDRNOTAVAIL).contains("ip_local_port_range"));
    }

    #[test]
    fn output_without_figures_is_an_error_and_not_a_result() {
        assert!(parse("Requests/sec: 12345\n", 4).is_err());
        assert!(parse("loadtest-json {}\n", 4).is_err());
    }

    #[test]
    fn other_numbers_of_latencies_and_requests_are_an_error() {
        for timeouts in [r#""timeout":0"#, r#""timeout":2"#] {
            let other = printed().replace(r#""timeout":1"#, timeouts);
            assert!(
                parse(&other, 4).unwrap_err().to_string().contains("3 requests and 2 latencies")
            );
        }
    }

    #[test]
    fn samples_that_wrk_added_are_taken_out_again() {
        for (expected, corrected, made) in [
            // Twice the expected time adds nothing, and neither does less.
            (10, vec![(5, 3), (10, 1), (19, 1), (20, 2)], vec![(5, 3), (10, 1), (19, 1), (20, 2)]),
            // 21 adds 11; the 11 that was measured is kept.
            (10, vec![(11, 1), (21, 1)], vec![(21, 1)]),
            (10, vec![(11, 3), (21, 1)], vec![(11, 2), (21, 1)]),
            // 45 adds 35, 25 and 15, twice; and 25 adds 15.
            (10, vec![(15, 3), (25, 3), (35, 2), (45, 2)], vec![(25, 1), (45, 2)]),
            (10, vec![], vec![]),
        ] {
            assert_eq!(uncorrected(&corrected, expected), made);
        }
        let line = LINE.replace('\n', "").replace("[[10,1],[20,1]]", "[[600000,1],[1100000,1]]");
        let line = line.replace(r#""requests":3"#, r#""requests":2"#);
        // One connection needs 500 000 us for a request: 1 100 000 us add 600 000.
        assert_eq!(parse(&line, 1).unwrap().distribution, [(1_100_000, 1)]);
    }

    /// wrk's correction, step by step.
    fn correct(made: &[(u64, u64)], expected: u64) -> Vec<(u64, u64)> {
        let mut counts: BTreeMap<u64, u64> = made.iter().copied().collect();
        for &(value, count) in made.iter().filter(|&&(value, _)| value >= 2 * expected) {
            let mut earlier = value - expected;
            while earlier > expected {
                *counts.entry(earlier).or_default() += count;
                earlier -= expected;
            }
        }
        counts.into_iter().collect()
    }

    #[test]
    fn whatever_wrk_corrects_is_had_again() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..500 {
            let (expected, most) = (random.u64(1..50), random.u64(1..2000));
            let made: BTreeMap<u64, u64> = (0..random.usize(0..100))
                .map(|_| (random.u64(0..most), random.u64(1..9)))
                .collect();
            let made: Vec<(u64, u64)> = made.into_iter().collect();
            assert_eq!(uncorrected(&correct(&made, expected), expected), made);
        }
    }

    /// Answers every connection's requests until the client goes; one thread per connection. Counts
    /// the requests for `/rare`, all of them, and the connections.
    pub fn serve_hello() -> (String, Arc<[AtomicU64; 3]>) {
        use std::io::Read;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let counts = Arc::new([const { AtomicU64::new(0) }; 3]);
        let given = counts.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let counts = counts.clone();
                counts[2].fetch_add(1, Relaxed);
                thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut buffer) {
                        let rare = buffer[..read].starts_with(b"GET /rare ");
                        counts[0].fetch_add(rare.into(), Relaxed);
                        counts[1].fetch_add(1, Relaxed);
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
                        if stream.write_all(answer).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        (url, given)
    }

    #[test]
    fn a_mix_asks_for_each_path_as_often_as_its_weight_says() {
        let Ok(wrk) = Wrk::find() else {
            return crate::skip_test("wrk is not installed");
        };
        let share = |weight, path: &str| Share { weight, path: path.into() };
        let wrk = wrk.with_mix(&[share(1.0, "/rare"), share(9.0, "/")], 1).unwrap();
        let (url, counts) = serve_hello();
        wrk.run(&load(2, 4, 1), &url, None, |_| Ok(())).unwrap();
        let [rare, all] = [0, 1].map(|i| counts[i].load(Relaxed) as f64);
        assert!(all > 500.0, "{all}");
        assert!((0.05..0.15).contains(&(rare / all)), "{rare} of {all}");
    }

    #[test]
    fn a_real_run_of_wrk_gives_a_latency_for_every_answer_in_rising_order() {
        let Ok(wrk) = Wrk::find() else {
            return crate::skip_test("wrk is not installed");
        };
        let (url, counts) = serve_hello();
        let measured = wrk.run(&load(2, 4, 1), &url, None, |_| Ok(())).unwrap();
        assert!(measured.duration_us >= 1_000_000);
        assert!(measured.cpu_seconds > 0.0);
        assert_eq!(measured.errors.total(), 0);
        let (requests, answered) = (measured.requests, counts[1].load(Relaxed));
        assert!(requests > 0 && (requests..=requests + 4).contains(&answered), "{answered}");
        let distribution = measured.distribution;
        assert_eq!(distribution.iter().map(|(_, count)| count).sum::<u64>(), requests);
        assert!(distribution.is_sorted_by_key(|&(value, _)| value));
    }
}
