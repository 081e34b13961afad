//! Whether a policy is good in a workload. The limits are fixed here, before any run.

use crate::matrix::record::{Figure, Kind, Verdict};
use crate::statistics::estimate::Estimate;

/// A good policy reaches this part of the best policy's requests/s.
pub const GOOD: f64 = 0.95;

/// Its p99 is at most this many times that of the best policy at the same rate.
pub const MOST_P99: f64 = 1.25;

/// Judges a figure, without latencies for which the client was always late.
pub fn judge(kind: Kind, figure: &Figure) -> (Verdict, String) {
    let mut criteria: Vec<(Option<bool>, String)> = Vec::new();
    if let Some(part) = figure.of_best {
        let text = format!("{:.2} of the best requests/s", part.value);
        criteria.push((decided(part, |part| part.at_least(GOOD)), text));
    }
    for at in &figure.latencies {
        let load = format!("at {:.0} %", at.share * 100.0);
        if let Some(times) = at.p99_of_best {
            let text = format!("{:.2} times the best p99 {load}", times.value);
            criteria.push((decided(times, |times| times.at_most(MOST_P99)), text));
        }
        // Without a judged slice, missing answers decide nothing, either.
        if at.lost > 0 && at.latencies.p99.is_some() {
            criteria.push((Some(false), format!("{} requests lost or not sent {load}", at.lost)));
        }
    }
    if figure.errors > 0 && kind != Kind::Stopped {
        criteria.push((Some(false), format!("{} requests lost", figure.errors)));
    }
    let any = |wanted| criteria.iter().any(|(met, _)| *met == wanted);
    let verdict = match (any(Some(false)), any(None) || criteria.is_empty()) {
        (true, _) => Verdict::Bad,
        (false, true) => Verdict::Undecided,
        (false, false) => Verdict::Good,
    };
    let decisive = |met: &Option<bool>| match verdict {
        Verdict::Good => true,
        Verdict::Bad => *met == Some(false),
        Verdict::Undecided => met.is_none(),
    };
    let reasons = criteria.iter().filter(|(met, _)| decisive(met)).map(|(_, text)| text.as_str());
    (verdict, reasons.collect::<Vec<_>>().join(", "))
}

/// Whether a limit is kept, if that is known: too few slices have no interval, and decide nothing.
fn decided(figure: Estimate, is_kept: impl Fn(&Estimate) -> Option<bool>) -> Option<bool> {
    figure.interval.and_then(|_| is_kept(&figure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::record::AtLoad;
    use crate::measure::comparison::Latencies;

    fn around(value: f64) -> Option<Estimate> {
        Some(Estimate { value, interval: Some([value - 0.02, value + 0.02]) })
    }

    #[test]
    fn good_is_fast_and_prompt_and_loses_nothing_and_an_interval_across_a_limit_decides_nothing() {
        let at = |share, p99_of_best, lost| {
            let latencies = Latencies { p99: p99_of_best, ..Latencies::default() };
            AtLoad { share, latencies, p99_of_best, lost, ..AtLoad::default() }
        };
        use Verdict::{Bad, Good, Undecided};
        for (of_best, latencies, errors, verdict, reason) in [
            (around(1.0), vec![], 0, Good, "1.00 of the best requests/s"),
            (around(0.96), vec![], 0, Undecided, "0.96 of the best requests/s"),
            (around(0.9), vec![], 0, Bad, "0.90 of the best requests/s"),
            (around(1.0), vec![at(0.5, around(1.1), 0)], 0, Good, "1.10 times the best p99 at 50"),
            (around(1.0), vec![at(0.8, around(1.24), 0)], 0, Undecided, "1.24 times"),
            (around(0.96), vec![at(0.8, around(3.0), 0)], 0, Bad, "3.00 times the best p99 at 80"),
            (None, vec![at(0.8, Some(Estimate::exact(1.1)), 0)], 0, Undecided, "1.10 times"),
            (None, vec![at(0.75, around(1.0), 2)], 0, Bad, "2 requests lost or not sent at 75 %"),
            (around(1.0), vec![], 3, Bad, "3 requests lost"),
            (around(1.0), vec![at(0.8, None, 0)], 0, Good, "1.00 of the best"),
            (None, vec![at(0.8, None, 0)], 0, Undecided, ""),
            (around(1.0), vec![at(0.8, None, 9)], 0, Good, "1.00 of the best"),
        ] {
            let figure = Figure { of_best, latencies, errors, ..Figure::default() };
            let (found, why) = judge(Kind::Throughput, &figure);
            assert!(found == verdict && why.contains(reason), "{found:?} {why}: {figure:?}");
        }
        let killed = Figure { of_best: around(1.0), errors: 3, ..Figure::default() };
        assert_eq!(judge(Kind::Stopped, &killed).0, Good);
    }
}
