//! Places of values on an axis.

/// A horizontal place. Horizontal places are percentages and vertical ones pixels, so that a picture is as wide as
/// the window while letters and marks keep their size: a picture that is scaled as a whole cannot be read on a
/// phone.
pub fn across(place: f64) -> String {
    format!("{:.2}%", place * 100.0)
}

/// Keeps a label within the picture: a label within this part of an end is moved.
pub fn anchor(place: f64, margin: f64) -> &'static str {
    match place {
        _ if place < margin => "start",
        _ if place >= 1.0 - margin => "end",
        _ => "middle",
    }
}

/// Axes that begin and end at round numbers.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    from: f64,
    to: f64,
    /// The meaning of equal distances.
    kind: Kind,
}

/// The meaning of equal distances along an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Equal differences.
    Linear,
    /// Equal ratios.
    Log,
    /// For percentiles, a tenth of the values above: from 99 to 99.9 is as far as from 90 to 99.
    Tail,
}

impl Scale {
    /// A linear axis with room for all these values.
    pub fn linear(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = ends(values);
        // A single value has no extent.
        let extent = if high > low { high - low } else { high.abs().max(1.0) * 0.1 };
        let step = step(extent, 5.0);
        let from = ((low - extent * 0.04) / step).floor() * step;
        let to = ((high + extent * 0.04) / step).ceil() * step;
        // Measured values are not negative.
        Self { from: if low >= 0.0 { from.max(0.0) } else { from }, to, kind: Kind::Linear }
    }

    /// A logarithmic axis, for values above 0; others have no place on it.
    pub fn logarithmic(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = ends(values.into_iter().filter(|value| *value > 0.0));
        let (low, high) = (low.max(f64::MIN_POSITIVE), high.max(f64::MIN_POSITIVE));
        let from = round_numbers(low / 10.0, low, &[1.0, 2.0, 5.0]).last().copied();
        let to = round_numbers(high, high * 10.0, &[1.0, 2.0, 5.0]).first().copied();
        Self { from: from.unwrap_or(low), to: to.unwrap_or(high * 10.0), kind: Kind::Log }
    }

    /// An axis that begins and ends exactly with these values.
    pub fn exactly(values: impl IntoIterator<Item = f64>, log: bool) -> Self {
        let (from, to) = ends(values.into_iter().filter(|value| !log || *value > 0.0));
        let kind = if log { Kind::Log } else { Kind::Linear };
        match from < to && (!log || from > 0.0) {
            true => Self { from, to, kind },
            // A single value has no extent, and no value no place.
            false if log => Self::logarithmic([from]),
            false => Self::linear([from]),
        }
    }

    /// An axis for percentiles up to 99.99: each step of the same length leaves a tenth of the values.
    pub fn percentiles() -> Self {
        Self { from: 0.0, to: 99.99, kind: Kind::Tail }
    }

    /// The place of a value: 0 at the beginning of the axis, 1 at its end.
    pub fn place(&self, value: f64) -> f64 {
        let on = |value: f64| match self.kind {
            Kind::Linear => value,
            Kind::Log => value.max(self.from).ln(),
            Kind::Tail => -(1.0 - value.min(self.to) / 100.0).log10(),
        };
        let place = (on(value) - on(self.from)) / (on(self.to) - on(self.from));
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Round numbers along the axis.
    pub fn ticks(&self) -> Vec<f64> {
        if self.kind == Kind::Log {
            let few = round_numbers(self.from, self.to, &[1.0]);
            let digits: &[f64] = if few.len() >= 4 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            return round_numbers(self.from, self.to, digits);
        }
        let step = step(self.to - self.from, 5.0);
        let first = (self.from / step).ceil() as i64;
        let last = (self.to / step + 1e-9).floor() as i64;
        (first..=last).map(|number| number as f64 * step).collect()
    }

    /// Whether the axis begins at 0.
    pub fn begins_at_zero(&self) -> bool {
        self.from == 0.0
    }
}

/// The least and the greatest value, without NaN; 0 and 1 without values.
fn ends(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let finite: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    let low = finite.iter().copied().fold(f64::INFINITY, f64::min);
    let high = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if finite.is_empty() { (0.0, 1.0) } else { (low, high) }
}

/// 1, 2 or 5 times a power of ten, so that about `parts` steps make the extent.
fn step(extent: f64, parts: f64) -> f64 {
    let raw = extent / parts;
    let power = 10f64.powf(raw.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * power >= raw);
    digit.unwrap_or(10.0) * power
}

/// These digits times the powers of ten between the two ends, inclusive.
fn round_numbers(from: f64, to: f64, digits: &[f64]) -> Vec<f64> {
    let powers = from.log10().floor() as i32..=to.log10().ceil() as i32;
    let all = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
    all.filter(|value| (from * (1.0 - 1e-9)..=to * (1.0 + 1e-9)).contains(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_room_for_its_values_and_round_numbers_on_it() {
        let scale = Scale::linear([52_100.0, 88_000.0]);
        assert_eq!(scale.ticks(), [50_000.0, 60_000.0, 70_000.0, 80_000.0, 90_000.0]);
        assert_eq!((scale.place(50_000.0), scale.place(90_000.0)), (0.0, 1.0));
        assert!(Scale::linear([0.0, 0.9]).begins_at_zero());
    }

    #[test]
    fn on_a_logarithmic_axis_a_tenth_is_as_far_as_tenfold() {
        let scale = Scale::logarithmic([100.0, 10_000.0, 1_000_000.0]);
        assert_eq!(scale.ticks(), [100.0, 1000.0, 10_000.0, 100_000.0, 1_000_000.0]);
        assert!((scale.place(10_000.0) - 0.5).abs() < 1e-12);
        assert_eq!(
            Scale::logarithmic([900.0, 9000.0]).ticks(),
            [500.0, 1000.0, 2000.0, 5000.0, 10_000.0]
        );
    }

    #[test]
    fn each_step_along_percentiles_leaves_a_tenth_of_the_values() {
        for (percentile, place) in [(0.0, 0.0), (90.0, 0.25), (99.0, 0.5), (99.99, 1.0)] {
            assert!((Scale::percentiles().place(percentile) - place).abs() < 1e-9, "{percentile}");
        }
    }

    #[test]
    fn nothing_and_one_value_have_an_axis_too() {
        for values in [vec![], vec![0.0], vec![7.0], vec![f64::NAN, 1.0], vec![1e-9], vec![1e15]] {
            let exact = [false, true].map(|log| Scale::exactly(values.clone(), log));
            let round = [Scale::linear(values.clone()), Scale::logarithmic(values.clone())];
            for scale in round.into_iter().chain(exact) {
                assert!(!scale.ticks().is_empty(), "{values:?}: {scale:?}");
                assert!((0.0..=1.0).contains(&scale.place(7.0)), "{values:?}: {scale:?}");
            }
        }
    }
}
