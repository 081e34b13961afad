//! The verdict whether one server is faster than another, in fixed sentences.

use serde::{Deserialize, Serialize};

use crate::statistics::estimate::interval;
use crate::statistics::{geometric_mean, middle_mean, standard_deviation};

/// The least number of rounds for an interval. Without any difference, all of n rounds favour the same side in 2 of
/// 2^n cases; from 6 rounds on that is rarer than the 1 in 20 in which a 95 % interval may be wrong.
pub const FEWEST_ROUNDS: u32 = 6;

/// The compared figure: which direction is good, and how precisely it can be measured.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    #[default]
    RequestsPerSecond,
    CostPerRequest,
    P50,
    P99,
    P99_9,
}

impl Figure {
    /// The percentiles that are judged at a fixed rate.
    pub const LATENCIES: [Self; 3] = [Self::P50, Self::P99, Self::P99_9];

    /// Its name in sentences and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests/s",
            Self::CostPerRequest => "cost per request",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P99_9 => "p99.9",
        }
    }

    /// The average of its ratios.
    pub fn average(self) -> fn(&[f64]) -> Option<f64> {
        if self.is_latency() { middle_mean } else { geometric_mean }
    }

    fn is_latency(self) -> bool {
        Self::LATENCIES.contains(&self)
    }

    /// The half width up to which an interval may show that there is no difference. Percentiles of a slice scatter
    /// more than its requests/s.
    fn half_width(self) -> f64 {
        if self.is_latency() { 0.1 } else { 0.03 }
    }

    /// Differences up to this part are noise; `asked` is the user's setting.
    fn threshold(self, asked: f64) -> f64 {
        if self.is_latency() { asked.max(0.05) } else { asked }
    }
}

/// The verdict from the ratios of two subjects' slices.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Requests/s: the whole interval lies above 1 and the noise threshold.
    Faster,
    /// Requests/s: the whole interval lies below 1 and the noise threshold.
    Slower,
    /// Latency or cost: the whole interval lies above 1 and the noise threshold.
    Higher,
    /// Latency or cost: the whole interval lies below 1 and the noise threshold.
    Lower,
    /// The difference is within the noise threshold, and its interval is narrow.
    NoDifference,
    /// None of these: the interval is wide, or it reaches from beyond the threshold into the noise.
    TooNoisy,
}

impl Verdict {
    /// Whether the other is better than the baseline (`Some(true)`), worse, or neither.
    pub fn is_better(self) -> Option<bool> {
        match self {
            Self::Faster | Self::Lower => Some(true),
            Self::Slower | Self::Higher => Some(false),
            Self::NoDifference | Self::TooNoisy => None,
        }
    }
}

/// A ratio of two subjects' figures, with its interval.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Ratio {
    /// The figure.
    pub figure: Figure,
    /// The [average](Figure::average) of the rounds' ratios.
    pub ratio: f64,
    /// Its 95 % interval, lower and upper end.
    pub interval: [f64; 2],
    /// Standard deviation of one round's ratio.
    pub deviation: f64,
    /// Differences up to this part count as noise; unknown in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// The verdict.
    pub verdict: Verdict,
    /// If it is too noisy: about how many rounds would be enough.
    pub rounds_needed: Option<u32>,
}

impl Ratio {
    /// Weighs the ratios of the rounds; differences up to `threshold` (0.02: 2 %), for latencies up
    /// to 5 %, count as noise.
    ///
    /// `None` with fewer than [`FEWEST_ROUNDS`].
    pub fn weigh(figure: Figure, ratios: &[f64], threshold: f64, seed: u64) -> Option<Self> {
        if ratios.len() < FEWEST_ROUNDS as usize {
            return None;
        }
        let average = figure.average();
        let interval = interval(ratios, average, seed)?;
        let [low, high] = interval;
        let half_width = (high - low) / 2.0;
        let ratio = average(ratios)?;
        let threshold = figure.threshold(threshold);
        let beyond = (ratio - 1.0).abs() - threshold;
        let rate = figure == Figure::RequestsPerSecond;
        let verdict = if low > 1.0 + threshold {
            if rate { Verdict::Faster } else { Verdict::Higher }
        } else if high < 1.0 - threshold {
            if rate { Verdict::Slower } else { Verdict::Lower }
        } else if half_width <= figure.half_width() && beyond <= 0.0 {
            Verdict::NoDifference
        } else {
            Verdict::TooNoisy
        };
        // The width shrinks with the square root of the rounds. A narrow interval that contains the threshold must shrink
        // until it does not; to look for more than half of the width is to look for what nobody would notice.
        let most = figure.half_width();
        let wanted = if half_width > most { most } else { beyond.max(half_width / 2.0) };
        let needed = ratios.len() as f64 * (half_width / wanted).powi(2).max(1.0);
        Some(Self {
            figure,
            ratio,
            interval,
            deviation: standard_deviation(ratios)?,
            threshold: Some(threshold),
            verdict,
            rounds_needed: (verdict == Verdict::TooNoisy).then_some(needed.ceil() as u32),
        })
    }

    /// The sentence of [`Verdict::NoDifference`]: the interval may exclude 1 and still reach into the noise.
    pub fn no_difference(&self) -> String {
        match self.threshold {
            Some(part) => {
                format!("No difference beyond {} % detected", (part * 1000.0).round() / 10.0)
            }
            None => "No difference detected".into(),
        }
    }

    /// The verdict on `other`, compared with `baseline`, in a sentence.
    pub fn sentence(&self, other: &str, baseline: &str) -> String {
        let [low, high] = self.interval;
        let name = self.figure.name();
        let figures =
            format!("{:.3} times the {name}, 95 % interval {low:.3} to {high:.3}", self.ratio);
        let relation = match self.verdict {
            Verdict::Faster => "is faster than".into(),
            Verdict::Slower => "is slower than".into(),
            Verdict::Higher => format!("has a higher {name} than"),
            Verdict::Lower => format!("has a lower {name} than"),
            Verdict::NoDifference => {
                return format!(
                    "{} between {other} and {baseline}: {figures}.",
                    self.no_difference()
                );
            }
            Verdict::TooNoisy => {
                let rounds = self.rounds_needed.unwrap_or_default();
                return format!(
                    "Too noisy to tell {other} from {baseline}: {figures}; about {rounds} rounds \
                     are needed."
                );
            }
        };
        format!("{other} {relation} {baseline}: {figures}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ratios around a middle, half of them above it and half below.
    fn around(middle: f64, off: f64, rounds: usize) -> Vec<f64> {
        (0..rounds).map(|i| if i % 2 == 0 { middle + off } else { middle - off }).collect()
    }

    fn weigh(figure: Figure, ratios: &[f64]) -> Ratio {
        Ratio::weigh(figure, ratios, 0.02, 1).unwrap()
    }

    use Figure::{P99, RequestsPerSecond as Rate};

    #[test]
    fn a_whole_interval_beyond_the_threshold_is_a_difference_and_less_is_none() {
        use Verdict::{Faster, Higher, Lower, NoDifference, Slower, TooNoisy};
        for (figure, ratios, verdict) in [
            (Rate, around(1.10, 0.05, 40), Faster),
            (Rate, around(0.90, 0.05, 40), Slower),
            (Rate, around(1.00, 0.05, 40), NoDifference),
            // Certainly 1 % faster, which is within the noise threshold.
            (Rate, around(1.01, 0.001, 40), NoDifference),
            // Faster on average, but the interval reaches below the threshold.
            (Rate, around(1.03, 0.05, 20), TooNoisy),
            (P99, around(1.14, 0.3, 40), TooNoisy),
            (Rate, around(1.0, 0.2, 40), TooNoisy),
            (Rate, around(1.02, 0.2, 220), NoDifference),
            // A latency is higher or lower, and needs a greater difference.
            (P99, around(1.3, 0.05, 40), Higher),
            (P99, around(0.7, 0.05, 40), Lower),
            (P99, around(1.05, 0.05, 40), NoDifference),
        ] {
            let found = weigh(figure, &ratios);
            assert_eq!(found.verdict, verdict, "{found:?}");
        }
        assert_eq!(
            [Lower, Higher, TooNoisy].map(Verdict::is_better),
            [Some(true), Some(false), None]
        );
    }

    #[test]
    fn a_wide_interval_says_how_many_rounds_would_tell() {
        let noisy = weigh(Rate, &around(1.0, 0.2, 40));
        // 0.2 / sqrt(n) * 1.96 = 0.03 makes about 170.
        let needed = noisy.rounds_needed.unwrap();
        assert!((140..=210).contains(&needed), "{needed}");
        assert!(noisy.sentence("b", "a").contains(&format!("about {needed} rounds")));
    }

    #[test]
    fn too_few_rounds_give_no_verdict() {
        let all = [1.0; FEWEST_ROUNDS as usize];
        assert!(Ratio::weigh(Rate, &all[1..], 0.02, 1).is_none());
        assert_eq!(weigh(Rate, &all).verdict, Verdict::NoDifference);
    }

    #[test]
    fn the_sentences_are_fixed() {
        for (figure, ratios, sentence) in [
            (
                Rate,
                vec![1.5; 6],
                "b is faster than a: 1.500 times the requests/s, 95 % interval 1.500 to 1.500.",
            ),
            (Rate, vec![0.5; 6], "b is slower than a: 0.500 times"),
            (Rate, vec![1.0; 6], "No difference beyond 2 % detected between b and a: 1.000"),
            (P99, vec![1.0; 6], "No difference beyond 5 % detected between b and a: 1.000"),
            (P99, around(1.3, 0.05, 40), "b has a higher p99 than a: 1.299 times"),
        ] {
            let found = weigh(figure, &ratios).sentence("b", "a");
            assert!(found.starts_with(sentence), "{found}");
        }
    }
}
