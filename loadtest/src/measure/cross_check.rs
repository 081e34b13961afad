//! Figures that must agree: wrk's count and the server's, and rate, latency and connections.

use anyhow::{Result, ensure};

use crate::interrupt;
use crate::load::Load;
use crate::load::wrk::Measured;
use crate::warnings::Warning;

/// How far the requests under way, by Little's law, may exceed the open connections.
const TOLERANCE: f64 = 0.25;

/// The least part of kept connections with a request under way. wrk sends the next request one turn of its event
/// loop after it has read an answer. If wrk has no CPU time left, the server's answer is there by the next turn: then
/// a connection waits one turn for its answer and one for its next request.
const LEAST: f64 = 0.5;

/// Compares wrk's count of requests with the server's own, `served`, if it has one. Fails without any request.
///
/// The counts come from different programs, so that the measured program is not the only witness. The
/// server may have answered more: on each of wrk's connections, kept or new, at most one answer is under
/// way when wrk stops reading, and one more for each connection that broke.
pub fn check_count(load: &Load, measured: &Measured, served: Option<u64>) -> Result<()> {
    if measured.requests == 0 {
        interrupt::check()?;
    }
    ensure!(
        measured.requests > 0,
        "no request was answered (errors: {:?}); check that an HTTP server listens there",
        measured.errors
    );
    let Some(served) = served else { return Ok(()) };
    let counted = measured.requests;
    let under_way = load.connections_opened + measured.errors.read;
    ensure!(
        (counted..=counted + under_way).contains(&served),
        "wrk counted {counted} answers and the server {served}, which {under_way} answers under \
         way at the end cannot explain; another client may have used the server, so there is no \
         result: repeat the run"
    );
    Ok(())
}

/// Little's law: requests/s times mean latency is the number of requests under way, `in_flight`. In a closed loop that is
/// one for each connection, less the time until wrk sends its next request; with a new connection for each
/// request it is even less, since the latency does not include the time to connect.
pub fn littles_law(
    who: &str,
    in_flight: f64,
    connections: u64,
    keep_alive: bool,
) -> Option<Warning> {
    let of_connections = in_flight / connections as f64;
    let least = if keep_alive { LEAST } else { 0.0 };
    let holds = (least..=1.0 + TOLERANCE).contains(&of_connections);
    (!holds).then(|| Warning::LittlesLaw { who: who.into(), in_flight, connections })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tests::load;
    use crate::load::wrk::tests::measured;

    #[test]
    fn the_server_may_have_counted_one_request_more_per_connection_and_not_one_less() {
        let load = load(12, 100, 10);
        for (served, agrees) in [(999, false), (1000, true), (1096, true), (1097, false)] {
            assert_eq!(check_count(&load, &measured(1000), Some(served)).is_ok(), agrees);
        }
        assert!(check_count(&load, &measured(1000), None).is_ok());
    }

    #[test]
    fn a_run_without_answers_is_no_result() {
        assert!(check_count(&load(1, 1, 10), &measured(0), Some(0)).is_err());
        assert!(check_count(&load(1, 1, 10), &measured(0), None).is_err());
    }

    #[test]
    fn more_or_fewer_requests_under_way_than_connections_cannot_be() {
        // 50 000/s times 1.92 ms are 96.
        for (mean_us, keep_alive, holds) in [
            (1920.0, true, true),
            (2300.0, true, true),
            (2500.0, true, false),
            (1000.0, true, true),
            (900.0, true, false),
            (900.0, false, true),
            (2500.0, false, false),
        ] {
            let found = littles_law("shared", 0.05 * mean_us, 96, keep_alive);
            assert_eq!(found.is_none(), holds, "{mean_us} {keep_alive}");
        }
        let text = littles_law("shared", 1.0, 96, true).unwrap().to_string();
        assert!(text.contains("shared") && text.contains("Little's law"), "{text}");
    }
}
