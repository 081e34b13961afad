//! Two counts of the same requests must agree: wrk's and the server's.

use anyhow::{Result, ensure};

use crate::interrupt;
use crate::load::Load;
use crate::load::wrk::Measured;

/// Fails when nothing was answered: there is no result then.
pub fn check_answered(measured: &Measured) -> Result<()> {
    if measured.requests == 0 {
        interrupt::check()?;
    }
    ensure!(
        measured.requests > 0,
        "no request was answered (errors: {:?}); is it an HTTP server that listens there?",
        measured.errors
    );
    Ok(())
}

/// Compares wrk's count of requests with the server's own, `served`.
///
/// They come from different programs, so that nothing that is measured is measured by the thing
/// measured alone. The server may have answered more: on each of wrk's connections, alive or one
/// per request, at most one answer is under way when wrk stops reading, and one more for each
/// connection that broke.
pub fn check_count(load: &Load, measured: &Measured, served: u64) -> Result<()> {
    check_answered(measured)?;
    let counted = measured.requests;
    let under_way = load.connections_opened() + measured.errors.read;
    ensure!(
        (counted..=counted + under_way).contains(&served),
        "wrk counted {counted} answers and the server {served}, which {under_way} answers under \
         way at the end cannot explain: did somebody else use the server? This is no result; repeat it"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::wrk::tests::measured;
    use std::time::Duration;

    fn load(threads: u64, connections: u64) -> Load {
        let duration = Duration::from_secs(10);
        Load { threads, connections, duration, keep_alive: true }
    }

    #[test]
    fn the_server_may_have_counted_one_request_more_per_connection_and_not_one_less() {
        let load = load(12, 100);
        for (served, agrees) in [(999, false), (1000, true), (1096, true), (1097, false)] {
            assert_eq!(check_count(&load, &measured(1000), served).is_ok(), agrees, "{served}");
        }
    }

    #[test]
    fn a_run_without_answers_is_no_result() {
        assert!(check_count(&load(1, 1), &measured(0), 0).is_err());
    }
}
