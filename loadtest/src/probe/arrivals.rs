//! When the requests of an open loop are due.

use std::time::Duration;

use clap::ValueEnum;
use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// The distribution of the gaps between due times.
///
/// With exponential gaps requests come in bursts, and a queue forms now and then at any load; equal gaps are
/// the easiest load of a given rate.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Exponential gaps, as of independent clients
    #[default]
    Poisson,
    /// Equal gaps
    Even,
}

impl Arrivals {
    /// The due times at a mean rate per second, from the start of the load, without end. The same seed gives the same
    /// times.
    pub fn at(self, rate: u64, seed: u64) -> impl Iterator<Item = Duration> {
        let mut random = Rng::with_seed(seed);
        let mut sum = 0.0; // gaps so far, in units of the mean gap
        (0_u64..).map(move |number| match self {
            // Computed from the number, not summed up, so that rounding errors do not add up.
            Self::Even => {
                Duration::from_nanos((u128::from(number) * 1_000_000_000 / u128::from(rate)) as u64)
            }
            Self::Poisson => {
                // From the exponential distribution with mean 1. 1 - [0, 1) is never 0, whose
                // logarithm would be infinite.
                sum += -(1.0 - random.f64()).ln();
                Duration::from_secs_f64(sum / rate as f64)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_arrivals_begin_at_once_and_do_not_drift() {
        let mut due = Arrivals::Even.at(3, 1);
        assert_eq!(due.next(), Some(Duration::ZERO));
        assert_eq!(due.next(), Some(Duration::from_nanos(333_333_333)));
        assert_eq!(due.nth(3_000_000 - 2), Some(Duration::from_secs(1_000_000)));
    }

    #[test]
    fn a_seed_gives_the_same_arrivals_again_and_another_one_others() {
        let first = |seed| Arrivals::Poisson.at(100, seed).take(50).collect::<Vec<_>>();
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
        assert!(first(1).is_sorted());
    }

    /// The Kolmogorov-Smirnov test: the greatest distance between the gaps' distribution and the exponential one,
    /// against its limit at a significance of 0.1 %.
    #[test]
    fn poisson_gaps_are_exponential_with_the_mean_of_the_rate() {
        const COUNT: usize = 20_000;
        let rate = 1000;
        for seed in 1..=5 {
            let due: Vec<_> = Arrivals::Poisson.at(rate, seed).take(COUNT).collect();
            let mean = due[COUNT - 1].as_secs_f64() / COUNT as f64;
            // The standard error of the mean of exponential gaps is 1 / sqrt(n) of it: 0.7 %.
            assert!((mean * rate as f64 - 1.0).abs() < 0.025, "{mean}");
            let mut gaps: Vec<f64> =
                due.windows(2).map(|two| (two[1] - two[0]).as_secs_f64()).collect();
            gaps.sort_by(f64::total_cmp);
            let count = gaps.len() as f64;
            let distance = gaps.iter().enumerate().map(|(place, gap)| {
                let expected = 1.0 - (-gap * rate as f64).exp();
                (expected - place as f64 / count).max((place + 1) as f64 / count - expected)
            });
            let distance = distance.fold(0.0, f64::max);
            assert!(distance < 1.95 / count.sqrt(), "seed {seed}: {distance}");
        }
    }
}
