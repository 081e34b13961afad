//! What a reader must know before believing a result: each warning with its cause and its remedy.

use thiserror::Error;

use crate::types::Errors;

/// A reason to doubt a result, or to read it with care, with its text.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Warning {
    // The load.
    #[error(
        "wrk opened {opened} connections, not {asked}: each of its {threads} threads opens the same \
         whole number; ask for a multiple of {threads} connections"
    )]
    ConnectionsNotOpened { asked: u64, opened: u64, threads: u64 },
    #[error(
        "{who} may need {needs} open files for this many connections and is allowed {limit}; raise \
         the hard limit (`ulimit -Hn`) or use fewer --connections"
    )]
    TooFewFiles { who: &'static str, needs: u64, limit: u64 },
    #[error(
        "wrk was a bottleneck: it used {used_cores:.2} of the {had_cores:.2} cores available to \
         it, so it would hide a faster server; run wrk on a separate machine (--url), or give the \
         handler more work (-- --handler-cost 70us)"
    )]
    ClientIsBottleneck { used_cores: f64, had_cores: f64 },
    #[error(
        "client and server share {cores} {}: wrk's threads ({threads}) and the workers ({workers}{}) \
         compete for them; compare figures of this machine only with each other, or run wrk \
         elsewhere (--url)",
        if *.cores == 1 { "core" } else { "cores" },
        if *.accepts { ", and a process that accepts" } else { "" }
    )]
    SharedCores { cores: usize, threads: u64, workers: usize, accepts: bool },
    #[error(
        "loadtest itself used {:.1} % of the CPU during the slices, which was not available to \
         server and wrk; use fewer workers or longer slices (--slice)",
        .share * 100.0
    )]
    BusyHarness { share: f64 },
    #[error(
        "{}the client sent requests late: p99 of the delay was {p99_ms:.1} ms, and latencies \
         include it; choose a lower --rate, or run the client on separate cores",
        late_slices(*.slices)
    )]
    ClientLate { p99_ms: f64, slices: Option<[usize; 2]> },
    #[error(
        "at {rate} requests/s, {not_sent} requests to {server} were due and not sent, because too \
         many were under way or the client was late; its latencies at that rate are underestimated; choose a lower --rate"
    )]
    RateNotKept { rate: u64, not_sent: u64, server: String },
    #[error(
        "{asked} requests/s were asked for and {sent:.0} requests/s were sent: the figures are for \
         the lower rate; choose a --rate that this machine can send"
    )]
    RateNotReached { asked: u64, sent: f64 },
    #[error(
        "{count} requests were due and not sent, because {limit} were under way already; choose a \
         lower --rate, more --connections or a shorter --timeout"
    )]
    NotSent { count: u64, limit: u64 },

    // A run that ended early.
    #[error("the run was interrupted after {seconds:.1} s, and its figures cover that time only")]
    Interrupted { seconds: f64 },
    #[error("the run was interrupted after {done} of {all} whole slices; --resume continues it")]
    Incomplete { done: usize, all: usize },
    #[error(
        "interrupted: {saved} samples of the current experiment are saved; --resume continues it"
    )]
    LabInterrupted { saved: usize },
    #[error("the run ended after {seconds:.1} s, and its figures cover that time only: {reason}")]
    ProberFailed { seconds: f64, reason: String },
    #[error("{count} requests were under way when the run was interrupted and are not counted")]
    CutOff { count: u64 },

    // Answers.
    #[error("wrk saw errors ({}); {}", .0.occurred(), remedy(.0))]
    Errors(Errors),
    #[error(
        "{count} answers took longer than {limit_seconds} s and are missing from all latencies, so \
         the percentiles and the maximum look better than they were; find out what stalls the server"
    )]
    Timeouts { count: u64, limit_seconds: u64 },
    #[error(
        "{count} answers were wrong, the first because {first}; an answer needs status 200, a body \
         with Content-Length or chunks and, at / of our servers, `hello`; check --url-path, \
         --expect and whether the server needs --lab"
    )]
    WrongAnswers { count: u64, first: String },
    #[error(
        "the server counts {served} requests where the prober got {ok} good answers and lost \
         {lost}; another client may have used the server; make sure that none does, and repeat the \
         run"
    )]
    CountsDisagree { ok: u64, lost: u64, served: u64 },
    #[error(
        "{who}: requests/s times mean latency gives {in_flight:.1} requests under way, and \
         {connections} connections were open (Little's law): some waited to be accepted, which wrk's \
         latency leaves out, or a figure is wrong; look at the backlog, for errors and timeouts, and \
         repeat a longer run"
    )]
    LittlesLaw { who: String, in_flight: f64, connections: u64 },

    // Workers.
    #[error(
        "{idle} of {workers} workers answered no request: {}",
        if *.keep_alive {
            "a connection stays with the worker that accepted it; try more --connections, or \
             --close, which opens one for each request"
        } else {
            "there were too few connections to reach all workers; try more --connections or fewer \
             workers (-- --workers N)"
        }
    )]
    IdleWorkers { idle: usize, workers: usize, keep_alive: bool },
    #[error(
        "loadtest did not start the server, so the work of each worker is unknown, and only wrk \
         counted requests; let loadtest start the server to see more"
    )]
    NoWorkers,
    #[error(
        "{who} is seen through the kernel alone: the requests of each worker are unknown, and its \
         connections are averages over a few observations per second"
    )]
    KernelView { who: String },
    #[error(
        "{who} replaced, added or removed workers during the load, so what its workers did, and their CPU time, is \
         unknown there; let it keep its workers (for example without a limit of requests for each) to see that"
    )]
    WorkersChanged { who: String },
    #[error(
        "with {who} only the parent accepts; it hands connections to its {children} children, so none \
         of them takes new ones from the accept queue"
    )]
    OnlyParentAccepts { who: String, children: usize },
    #[error(
        "cannot see the workers of {who} ({reason}), so they are missing from the report; run \
         loadtest as the same user or as root"
    )]
    CannotSeeWorkers { who: String, reason: String },

    // Faults.
    #[error(
        "the run ended before {count} of its faults were due; choose a longer --duration or more \
         --requests"
    )]
    FaultsNotReached { count: usize },
    #[error("no process to act on for {names}: the worker, or the server, had ended")]
    FaultsWithoutTarget { names: String },
    #[error(
        "worker {pid} still ran a second after its parent was killed: until it ends, it keeps the port and serves"
    )]
    Orphan { pid: u32 },

    // The server's program.
    #[error(
        "this is a debug build, several times slower; build with --release (`make build` does)"
    )]
    DebugBuild,
    #[error("{how}; requests after that found no server")]
    ServerEnded { how: String },
    #[error("{program} logged: {text}")]
    Server { program: String, text: String },
    #[error("{program} printed {lines} more lines, which are not repeated here")]
    ServerSaidMore { program: String, lines: usize },
    #[error(
        "{program} did not end normally ({how}), after the figures were taken; see what it logs"
    )]
    DidNotStop { program: String, how: String },

    // The matrix in the lab.
    #[error(
        "there is no result of `matrix` here, so the table of every policy in every workload is \
         missing; `make matrix` makes one in about 60 minutes, `make matrix QUICK=1` a short one in \
         about 10"
    )]
    NoMatrix,
    #[error(
        "the matrix in {path} was measured on another machine and is left out; `make matrix` makes \
         one here"
    )]
    ForeignMatrix { path: String },
}

fn late_slices(slices: Option<[usize; 2]>) -> String {
    slices.map_or_else(String::new, |[late, all]| {
        format!("in {late} of {all} slices at a fixed rate, which are not judged, ")
    })
}

fn remedy(errors: &Errors) -> &'static str {
    if errors.total() == errors.status {
        "answers with an error status count as requests: check --url-path, and whether the server \
         needs --lab"
    } else if errors.connect > 0 {
        "connections that fail are refused, or there is no port left for them, if each serves one \
         request (TIME_WAIT; see the sysctl net.ipv4.ip_local_port_range); the figures include \
         successful requests only; try fewer --connections, or see what the server logs"
    } else {
        "the figures include successful requests only; try fewer --connections, or see what the \
         server logs"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_what_happened_and_the_remedy() {
        let read = Errors { read: 3, connect: 1, ..Errors::default() };
        let status = Errors { status: 3, ..Errors::default() };
        let remainder = Warning::ConnectionsNotOpened { asked: 100, opened: 96, threads: 12 };
        let idle = |keep_alive| Warning::IdleWorkers { idle: 1, workers: 2, keep_alive };
        let slices = Some([2, 9]);
        let shared = |accepts| Warning::SharedCores { cores: 1, threads: 2, workers: 3, accepts };
        for (warning, words) in [
            // Names only kinds that occurred.
            (Warning::Errors(read), ["(connect 1, read 3)", "fewer --connections"]),
            (Warning::Errors(status), ["(status 3)", "--url-path"]),
            (remainder, ["opened 96 connections, not 100", "multiple of 12"]),
            (idle(true), ["1 of 2 workers", "or --close"]),
            (idle(false), ["1 of 2 workers", "fewer workers"]),
            (Warning::BusyHarness { share: 0.05 }, ["5.0 % of the CPU", "longer slices"]),
            (Warning::ClientLate { p99_ms: 4.0, slices }, ["in 2 of 9 slices", "4.0 ms"]),
            (shared(false), ["1 core:", "workers (3)"]),
            (shared(true), ["1 core:", "workers (3, and a process that accepts)"]),
        ] {
            let text = warning.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
            assert!(!text.contains("  ") && !text.contains('\n'), "{text}");
        }
    }
}
