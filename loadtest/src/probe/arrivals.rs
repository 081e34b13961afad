//! When the requests of an open loop are due.

use std::time::Duration;

use fastrand::Rng;

/// How due times follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Gaps are exponential, as of many independent clients: requests come in bursts, and a queue
    /// forms now and then at any load. The same seed gives the same gaps.
    Poisson {
        /// What the gaps are drawn from.
        seed: u64,
    },
    /// All gaps are equal: the least that a server can be asked at this rate.
    Even,
}

impl Arrivals {
    /// As the command line and results name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Poisson { .. } => "poisson",
            Self::Even => "even",
        }
    }

    /// The due times at a mean rate per second, from the start of the load; they never end.
    pub fn at(self, rate: u64) -> impl Iterator<Item = Duration> {
        let mut random = match self {
            Self::Poisson { seed } => Some(Rng::with_seed(seed)),
            Self::Even => None,
        };
        let mut sum = 0.0; // gaps so far, in units of the mean gap
        (0_u64..).map(move |number| match &mut random {
            // Computed from the number, not summed up: an error of rounding does not grow.
            None => {
                Duration::from_nanos((u128::from(number) * 1_000_000_000 / u128::from(rate)) as u64)
            }
            Some(random) => {
                sum += exponential(random);
                Duration::from_secs_f64(sum / rate as f64)
            }
        })
    }
}

/// Draws from the exponential distribution with mean 1.
fn exponential(random: &mut Rng) -> f64 {
    // 1 - [0, 1) is never 0, whose logarithm would be infinite.
    -(1.0 - random.f64()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_arrivals_begin_at_once_and_do_not_drift() {
        let mut due = Arrivals::Even.at(3);
        assert_eq!(due.next(), Some(Duration::ZERO));
        assert_eq!(due.next(), Some(Duration::from_nanos(333_333_333)));
        assert_eq!(due.nth(3_000_000 - 2), Some(Duration::from_secs(1_000_000)));
    }

    #[test]
    fn a_seed_gives_the_same_arrivals_again_and_another_one_others() {
        let first = |seed| Arrivals::Poisson { seed }.at(100).take(50).collect::<Vec<_>>();
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
        assert!(first(1).is_sorted());
    }

    /// Kolmogorov and Smirnov: the greatest distance between the gaps' distribution and the
    /// exponential one, against its limit at a significance of 0.1 %.
    #[test]
    fn poisson_gaps_are_exponential_with_the_mean_of_the_rate() {
        const COUNT: usize = 20_000;
        let rate = 1000;
        for seed in 1..=5 {
            let due: Vec<_> = Arrivals::Poisson { seed }.at(rate).take(COUNT).collect();
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
