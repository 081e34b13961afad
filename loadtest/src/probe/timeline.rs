//! Served and lost per 100 ms, and what follows: the rate before and after a fault, and how long
//! it took to be back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a bucket lasts.
pub const BUCKET: Duration = Duration::from_millis(100);

/// A fault is never done to the microsecond; so much of a bucket may have passed before it.
const LATE: Duration = Duration::from_millis(10);

/// Which part of the rate before counts as full strength.
const FULL: f64 = 0.9;

/// For so many buckets it must last.
const STEADY: usize = 5;

/// Requests by the time at which their outcome was known.
#[derive(Clone, Debug, Default)]
pub struct Timeline(Vec<Bucket>);

/// What ended within 100 ms.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Where it begins, from the start of the load.
    pub at_ms: u64,
    /// Requests answered.
    pub ok: u64,
    /// Requests that ended in another way.
    pub lost: u64,
}

impl Timeline {
    /// Counts a request that ended `at` this time from the start.
    pub fn add(&mut self, at: Duration, ok: bool) {
        let bucket = self.bucket_at(at);
        bucket.ok += u64::from(ok);
        bucket.lost += u64::from(!ok);
    }

    /// Makes sure that it reaches up to this time: nothing happening is a result, too.
    pub fn reach(&mut self, end: Duration) {
        if !end.is_zero() {
            self.bucket_at(end - Duration::from_nanos(1));
        }
    }

    /// All buckets, from the start on.
    pub fn buckets(&self) -> &[Bucket] {
        &self.0
    }

    /// Requests answered per second in the whole buckets from one time to another; `None` if there
    /// is none.
    pub fn rate(&self, from: Duration, to: Duration) -> Option<f64> {
        let buckets = self.whole(from, to).filter(|buckets| !buckets.is_empty())?;
        let ok: u64 = buckets.iter().map(|bucket| bucket.ok).sum();
        Some(ok as f64 / (buckets.len() as f64 * BUCKET.as_secs_f64()))
    }

    /// How long after `from` the first bucket begins in which the server answers 90 % of `rate`, and also
    /// in the half second that begins with it, as far as that lies before `to`. One bucket alone may be chance.
    pub fn back_to(&self, rate: f64, from: Duration, to: Duration) -> Option<Duration> {
        let full = rate * FULL * BUCKET.as_secs_f64();
        let whole = self.whole(from, to)?;
        let is_full = |buckets: &[Bucket]| {
            let ok: u64 = buckets.iter().map(|bucket| bucket.ok).sum();
            ok as f64 >= full * buckets.len() as f64
        };
        let lasts = |place: usize| &whole[place..whole.len().min(place + STEADY)];
        let first = (0..whole.len()).find(|&it| is_full(&whole[it..=it]) && is_full(lasts(it)))?;
        let first = whole[first];
        Some(Duration::from_millis(first.at_ms).saturating_sub(from))
    }

    /// The buckets that begin at a time or later, or so little earlier that it does not matter, and
    /// end by another.
    fn whole(&self, from: Duration, to: Duration) -> Option<&[Bucket]> {
        let first = from.saturating_sub(LATE).as_nanos().div_ceil(BUCKET.as_nanos()) as usize;
        self.0.get(first..index(to).min(self.0.len()))
    }

    fn bucket_at(&mut self, at: Duration) -> &mut Bucket {
        let index = index(at);
        while self.0.len() <= index {
            let at_ms = self.0.len() as u64 * BUCKET.as_millis() as u64;
            self.0.push(Bucket { at_ms, ..Bucket::default() });
        }
        &mut self.0[index]
    }
}

/// The bucket that a time lies in.
fn index(at: Duration) -> usize {
    (at.as_nanos() / BUCKET.as_nanos()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// So many answers in each bucket.
    fn timeline(counts: &[u64]) -> Timeline {
        let mut timeline = Timeline::default();
        for (place, count) in counts.iter().enumerate() {
            (0..*count).for_each(|_| timeline.add(ms(place as u64 * 100 + 50), true));
        }
        timeline.reach(ms(counts.len() as u64 * 100));
        timeline
    }

    #[test]
    fn what_ends_at_the_edge_belongs_to_the_bucket_that_begins() {
        let mut timeline = Timeline::default();
        timeline.add(Duration::from_nanos(99_999_999), true);
        timeline.add(ms(100), true);
        timeline.add(ms(350), false);
        let shown: Vec<_> = timeline.buckets().iter().map(|b| (b.at_ms, b.ok, b.lost)).collect();
        assert_eq!(shown, [(0, 1, 0), (100, 1, 0), (200, 0, 0), (300, 0, 1)]);
        // Silence up to the end is shown.
        for (end, buckets) in [(350, 4), (400, 4), (401, 5)] {
            timeline.reach(ms(end));
            assert_eq!(timeline.buckets().len(), buckets, "{end}");
        }
    }

    #[test]
    fn a_rate_is_of_whole_buckets() {
        let timeline = timeline(&[10, 20, 90, 30, 50]);
        assert_eq!(timeline.rate(ms(0), ms(200)), Some(150.0));
        assert_eq!(timeline.rate(ms(0), ms(299)), Some(150.0));
        assert_eq!(timeline.rate(ms(250), ms(9000)), Some(400.0));
        assert_eq!(timeline.rate(ms(20), ms(150)), None);
        assert_eq!(timeline.rate(ms(900), ms(150)), None);
    }

    #[test]
    fn back_at_full_strength_is_the_first_bucket_with_nine_tenths_of_the_rate() {
        let timeline = timeline(&[10, 10, 0, 4, 9, 0, 9, 10, 8, 9, 10, 3]);
        let back_to = |from, to| timeline.back_to(100.0, ms(from), ms(to));
        // One good bucket among bad ones is chance, and so is a bad one among good ones.
        assert_eq!(back_to(200, 1100), Some(ms(400)));
        // A little late is still in time, and a dip that no bucket shows is none.
        assert_eq!(back_to(105, 200), Some(ms(0)));
        assert_eq!(back_to(111, 1100), Some(ms(489)));
        assert_eq!([back_to(200, 400), back_to(2000, 500)], [None; 2]);
    }
}
