//! What a reader must know before believing a result: each warning with its cause and its remedy.

use std::fmt;

use crate::types::Errors;

/// A reason to doubt a result, or to read it with care.
#[derive(Clone, Debug, PartialEq)]
pub enum Warning {
    /// The division of connections among wrk's threads left a remainder.
    ConnectionsNotOpened { asked: u64, opened: u64, threads: u64 },
    /// The load ended before its time.
    Interrupted { seconds: f64 },
    /// A comparison ended before its time.
    Incomplete { done: usize, all: usize },
    /// This program itself took CPU time from what it measures.
    BusyHarness { share: f64 },
    /// The prober could not ask as fast as it should.
    RateNotKept { rate: u64, not_sent: u64, server: String },
    /// wrk used all the CPU it could get, so it may be what limits the figures.
    ClientIsBottleneck { used_cores: f64, had_cores: f64 },
    /// Both run on this machine, and there is not a core for each of their threads.
    SharedCores { cores: usize, threads: u64, workers: usize },
    /// Workers that answered nothing.
    IdleWorkers { idle: usize, workers: usize, keep_alive: bool },
    /// Requests that went wrong.
    Errors(Errors),
    /// Answers that are missing in the latencies.
    Timeouts { count: u64, limit_seconds: u64 },
    /// There are fewer open files allowed than connections.
    TooFewFiles { who: &'static str, needs: u64, limit: u64 },
    /// This program, and so most likely the servers built with it, was built without optimization.
    DebugBuild,
    /// The server was not started here.
    NoWorkers,
    /// The server's own words.
    Server { program: String, text: String },
    /// Requests that Ctrl-C cut off.
    CutOff { count: u64 },
    /// Requests of an open loop that were due while too many were under way.
    NotSent { count: u64, limit: u64 },
    /// Answers that were not the expected ones.
    WrongAnswers { count: u64, first: String },
    /// The run ended before its faults were done.
    FaultsNotReached { count: usize },
    /// Faults for which nobody was there any more.
    FaultsWithoutTarget { names: String },
    /// A worker that outlived its parent.
    Orphan { pid: u32 },
    /// The prober's count and the server's contradict each other.
    CountsDisagree { ok: u64, lost: u64, served: u64 },
    /// The server said more than is repeated here.
    ServerSaidMore { program: String, lines: usize },
    /// Ctrl-C ended the lab.
    LabInterrupted { saved: usize },
    /// There is no result of `matrix`.
    NoMatrix,
    /// There is one, and it is of another machine.
    ForeignMatrix { path: String },
    /// A foreign server is seen through the kernel's eyes only.
    KernelView { who: String },
    /// The parent accepts and hands on to its children.
    OnlyParentAccepts { who: String, children: usize },
    /// The server did not end with status 0 within its time.
    DidNotStop { program: String, how: String },
    /// The prober sent many requests later than they were due.
    ClientLate { p99_ms: f64, slices: Option<[usize; 2]> },
    /// Requests/s, latency and connections that cannot be true of the same run.
    LittlesLaw { who: String, in_flight: f64, connections: u64 },
    /// An open loop asked for more than could be sent.
    RateNotReached { asked: u64, sent: f64 },
    /// The prober could not go on, for want of ports or files.
    ProberFailed { seconds: f64, reason: String },
    /// Processes of the server that may not be looked at.
    CannotSeeWorkers { who: String, reason: String },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionsNotOpened { asked, opened, threads } => write!(
                f,
                "wrk opened {opened} connections, not {asked}: each of its {threads} threads opens \
                 the same whole number; ask for a multiple of {threads} connections"
            ),
            Self::Interrupted { seconds } => write!(
                f,
                "the run was interrupted after {seconds:.1} s, so these figures are of that time \
                 only; repeat it for the whole"
            ),
            Self::Incomplete { done, all } => write!(
                f,
                "the run was interrupted after {done} of {all} slices; the one under way is left \
                 out; --resume goes on"
            ),
            Self::BusyHarness { share } => write!(
                f,
                "loadtest itself used {:.1} % of the CPU during the slices, which the server and wrk \
                 did not get; use fewer workers or longer slices (--slice)",
                share * 100.0
            ),
            Self::RateNotKept { rate, not_sent, server } => write!(
                f,
                "at {rate} requests/s, {not_sent} requests to {server} were due and not sent: too \
                 many were under way; its latencies at that rate are too good"
            ),
            Self::ClientIsBottleneck { used_cores, had_cores } => write!(
                f,
                "wrk was a bottleneck: it used {used_cores:.2} of the {had_cores:.2} cores it \
                 could get, so a faster server would hardly show; give wrk cores of its own (a \
                 machine of its own, with --url) or the handler more work (-- --handler-cost 70us)"
            ),
            Self::SharedCores { cores, threads, workers } => write!(
                f,
                "client and server share {cores} {}: wrk's threads ({threads}) and the workers \
                 ({workers}) take turns; compare figures of this machine only with each other, or run \
                 wrk elsewhere (--url)",
                if *cores == 1 { "core" } else { "cores" }
            ),
            Self::IdleWorkers { idle, workers, keep_alive } => {
                write!(f, "{idle} of {workers} workers answered no request")?;
                match keep_alive {
                    true => write!(
                        f,
                        ": who accepts what was drawn once, when the connections were opened, and \
                         stayed so; try more --connections, or --close, which draws for each request"
                    ),
                    false => write!(
                        f,
                        ": too few connections came to reach them all; try more --connections or \
                         fewer workers (-- --workers N)"
                    ),
                }
            }
            Self::Errors(errors) => {
                let kinds = errors.kinds().into_iter().filter(|(_, count)| *count > 0);
                let kinds: Vec<String> =
                    kinds.map(|(kind, count)| format!("{kind} {count}")).collect();
                write!(f, "wrk saw errors ({}); ", kinds.join(", "))?;
                let only_status = errors.total() == errors.status;
                f.write_str(match only_status {
                    true => {
                        "answers with an error status count as requests: check --url-path, and \
                         whether the server needs --lab"
                    }
                    false => {
                        "the figures are of what went well only: try fewer --connections, or see \
                         what the server logs"
                    }
                })
            }
            Self::Timeouts { count, limit_seconds } => write!(
                f,
                "{count} answers took longer than {limit_seconds} s and are missing in all \
                 latencies, so the percentiles and the maximum look better than they were; look \
                 for what stalls the server"
            ),
            Self::TooFewFiles { who, needs, limit } => write!(
                f,
                "{who} may need {needs} open files for this many connections and is allowed \
                 {limit}; raise the hard limit (`ulimit -Hn`) or use fewer --connections"
            ),
            Self::DebugBuild => write!(
                f,
                "this is a debug build, in which the servers are several times slower; build with \
                 --release (`make build` does)"
            ),
            Self::NoWorkers => write!(
                f,
                "the server was not started here, so nobody can say which worker did the work, and \
                 the count of requests is wrk's alone; name `shared` or `reuseport` for that"
            ),
            Self::Server { program, text } => write!(f, "{program} says: {text}"),
            Self::CutOff { count } => write!(
                f,
                "{count} requests were under way when the run was interrupted; their outcome is not \
                 known, and they are not counted as attempted"
            ),
            Self::NotSent { count, limit } => write!(
                f,
                "{count} requests were due and not sent, because {limit} were under way already; \
                 choose a lower --rate, more --connections or a shorter --timeout"
            ),
            Self::WrongAnswers { count, first } => write!(
                f,
                "{count} answers were wrong, the first because {first}; expected are status 200, a body \
                 whose end is known and, at / of our servers, `hello`: check --url-path, --expect and \
                 whether the server needs --lab"
            ),
            Self::FaultsNotReached { count } => write!(
                f,
                "the run ended before its last faults were due ({count} of them); give it more time \
                 or requests"
            ),
            Self::FaultsWithoutTarget { names } => write!(
                f,
                "there was nobody to do this to: {names}; the server, or the worker in question, \
                 had ended or was never there"
            ),
            Self::Orphan { pid } => write!(
                f,
                "worker {pid} still ran a second after its parent was killed, and was killed here; \
                 that is a fault of the server"
            ),
            Self::CountsDisagree { ok, lost, served } => write!(
                f,
                "the server counts {served} requests where the prober got {ok} good answers and \
                 lost {lost}; did somebody else use the server? Repeat it"
            ),
            Self::ServerSaidMore { program, lines } => {
                write!(f, "{program} says {lines} lines more")
            }
            Self::LabInterrupted { saved } => write!(
                f,
                "interrupted: the experiment under way has no chapter yet, but its samples are \
                 saved ({saved} in all); --resume goes on from there"
            ),
            Self::NoMatrix => f.write_str(
                "there is no result of `matrix` here to be taken over, so every policy in every \
                 workload is missing; `make matrix` makes one in 20 minutes",
            ),
            Self::ForeignMatrix { path } => write!(
                f,
                "the matrix in {path} was made on another machine and is left out; `make matrix` \
                 makes one here"
            ),
            Self::KernelView { who } => write!(
                f,
                "{who} does not count for itself: requests of each worker are not known, and its \
                 connections are averages of what was seen open a few times a second"
            ),
            Self::OnlyParentAccepts { who, children } => write!(
                f,
                "of {who} only the parent accepts; it hands connections to its {children} children, \
                 so none of them takes new ones from the queue by itself"
            ),
            Self::DidNotStop { program, how } => write!(
                f,
                "{program} did not end in good order ({how}); the figures were taken before that, \
                 look at what it was doing"
            ),
            Self::ClientLate { p99_ms, slices } => {
                if let Some([late, all]) = slices {
                    write!(f, "in {late} of {all} slices at a fixed rate, which are not judged, ")?;
                }
                write!(
                    f,
                    "the client itself was late: p99 of the time between due and sent was \
                     {p99_ms:.1} ms, and latencies include it; choose a lower --rate, or give the \
                     client cores of its own"
                )
            }
            Self::LittlesLaw { who, in_flight, connections } => write!(
                f,
                "{who}: requests/s times mean latency gives {in_flight:.1} requests under way, and \
                 {connections} connections were open (Little's law), so one of the figures is wrong; \
                 look for errors and timeouts, and repeat it with a longer --duration or --slice"
            ),
            Self::RateNotReached { asked, sent } => write!(
                f,
                "{asked} requests/s were asked for and {sent:.0} requests/s were sent: the figures are \
                 of the lower rate; choose a --rate that this machine can send"
            ),
            Self::ProberFailed { seconds, reason } => {
                write!(
                    f,
                    "the run ended after {seconds:.1} s, and its figures are of that time: {reason}"
                )
            }
            Self::CannotSeeWorkers { who, reason } => write!(
                f,
                "cannot see the workers of {who} ({reason}), so nothing is said about them; run \
                 loadtest as the same user or as root"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_named_by_kind_and_kinds_without_any_are_not() {
        let errors = Errors { read: 3, connect: 1, ..Errors::default() };
        let text = Warning::Errors(errors).to_string();
        assert!(text.contains("(connect 1, read 3)"), "{text}");
    }

    #[test]
    fn a_wrong_path_is_suspected_when_only_statuses_are_wrong() {
        let text = Warning::Errors(Errors { status: 3, ..Errors::default() }).to_string();
        assert!(text.contains("--url-path"), "{text}");
    }

    #[test]
    fn the_remedy_for_a_remainder_is_a_multiple_of_the_threads() {
        let warning = Warning::ConnectionsNotOpened { asked: 100, opened: 96, threads: 12 };
        assert!(warning.to_string().contains("opened 96 connections, not 100"));
        assert!(warning.to_string().contains("multiple of 12"));
    }
}
