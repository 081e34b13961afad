//! The samples of several subjects, and the figures, tables and bars made from them.

use crate::report::model::{Bar, Cell, Column, Picture, Table, Unit};
use crate::statistics::estimate::Estimate;
use crate::statistics::{geometric_mean, mean, median};

/// The samples of each subject, in the order of rounds.
#[derive(Clone, Debug)]
pub struct Samples<S> {
    /// Subjects with their samples.
    pub groups: Vec<(String, Vec<S>)>,
    /// The seed of every bootstrap.
    pub seed: u64,
}

impl<S> Samples<S> {
    /// The samples of one subject; empty if it took no part.
    pub fn of(&self, name: &str) -> &[S] {
        self.groups.iter().find(|(found, _)| found == name).map_or(&[], |(_, samples)| samples)
    }

    /// The names of all subjects.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|(name, _)| name.as_str())
    }

    /// One figure of each sample of a subject; samples without it are left out.
    pub fn each<R: Into<Option<f64>>>(&self, name: &str, figure: impl Fn(&S) -> R) -> Vec<f64> {
        self.of(name).iter().filter_map(|sample| figure(sample).into()).collect()
    }

    /// The median of a figure.
    pub fn median<R: Into<Option<f64>>>(&self, name: &str, figure: impl Fn(&S) -> R) -> Estimate {
        estimate(&self.each(name, figure), median, self.seed)
    }

    /// The mean of a figure, for counts that may be 0, such as requests lost.
    pub fn mean<R: Into<Option<f64>>>(&self, name: &str, figure: impl Fn(&S) -> R) -> Estimate {
        estimate(&self.each(name, figure), mean, self.seed)
    }

    /// The ratio of a figure to another subject's: the geometric mean of the rounds' ratios.
    pub fn ratio(&self, name: &str, to: &str, figure: impl Fn(&S) -> f64) -> Estimate {
        self.ratio_by(geometric_mean, name, to, figure)
    }

    /// The same with another average.
    pub fn ratio_by(
        &self,
        average: fn(&[f64]) -> Option<f64>,
        name: &str,
        to: &str,
        figure: impl Fn(&S) -> f64,
    ) -> Estimate {
        let (of, to) = (self.each(name, &figure), self.each(to, &figure));
        let ratios: Vec<f64> = of.iter().zip(&to).map(|(of, to)| of / to).collect();
        estimate(&ratios, average, self.seed)
    }

    /// The same subjects with converted samples.
    pub fn map<T>(&self, make: impl Fn(&S) -> T) -> Samples<T> {
        let all = self.groups.iter();
        let groups = all.map(|(name, all)| (name.clone(), all.iter().map(&make).collect()));
        Samples { groups: groups.collect(), seed: self.seed }
    }

    /// A bar for each subject, and optionally a line to compare them with.
    pub fn bars(
        &self,
        title: impl Into<String>,
        unit: Unit,
        reference: Option<(f64, &str)>,
        of: impl Fn(&str) -> Estimate,
    ) -> Picture {
        let bars = self.names().map(|name| Bar::of(name, of(name))).collect();
        let reference = reference.map(|(value, name)| (value, name.to_owned()));
        Picture::Bars { title: title.into(), unit, bars, reference, noise: None }
    }

    /// A table with a row for each subject, and no columns yet.
    pub fn table(&self, title: &str) -> Grid<'_, S> {
        Grid { samples: self, table: Table::of(title, self.names()) }
    }
}

/// An average of some values with its bootstrap interval; NaN without values.
fn estimate(values: &[f64], average: fn(&[f64]) -> Option<f64>, seed: u64) -> Estimate {
    Estimate::of(values, average, seed).unwrap_or(Estimate::exact(f64::NAN))
}

/// A table that is filled column by column.
pub struct Grid<'a, S> {
    samples: &'a Samples<S>,
    /// The table with the columns so far. Its notes come from the page.
    pub table: Table,
}

impl<S> Grid<'_, S> {
    /// A column of any cells, each made from the subject's name and samples.
    pub fn cells(mut self, name: &str, unit: Unit, cell: impl Fn(&str, &[S]) -> Cell) -> Self {
        let column = Column { name: name.into(), unit, ..Column::default() };
        let groups = self.samples.groups.iter();
        self.table.column(column, groups.map(|(name, samples)| cell(name, samples)));
        self
    }

    /// Estimates.
    pub fn estimates(self, name: &str, unit: Unit, of: impl Fn(&str) -> Estimate) -> Self {
        self.cells(name, unit, |name, _| match of(name) {
            Estimate { value, .. } if value.is_nan() => Cell::default(),
            Estimate { value, interval } => Cell::from(Estimate { value, interval }),
        })
    }

    /// Medians with their intervals.
    pub fn medians(self, name: &str, unit: Unit, figure: impl Fn(&S) -> f64) -> Self {
        let samples = self.samples;
        self.estimates(name, unit, |name| samples.median(name, &figure))
    }

    /// Medians without intervals.
    pub fn middles<R: Into<Option<f64>>>(
        self,
        name: &str,
        unit: Unit,
        figure: impl Fn(&S) -> R,
    ) -> Self {
        let samples = self.samples;
        self.cells(name, unit, |name, _| Cell::from(median(&samples.each(name, &figure))))
    }

    /// Means without intervals, with one decimal.
    pub fn means<R: Into<Option<f64>>>(self, name: &str, figure: impl Fn(&S) -> R) -> Self {
        let samples = self.samples;
        self.cells(name, Unit::Mean, |name, _| Cell::from(mean(&samples.each(name, &figure))))
    }

    /// Sums of counts.
    pub fn sums(self, name: &str, figure: impl Fn(&S) -> u64) -> Self {
        self.cells(name, Unit::Count, |_, all| Cell::from(all.iter().map(&figure).sum::<u64>()))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Samples of these subjects, for tests of findings.
    pub fn samples_of<S>(groups: impl IntoIterator<Item = (&'static str, Vec<S>)>) -> Samples<S> {
        let groups = groups.into_iter().map(|(name, all)| (name.to_owned(), all)).collect();
        Samples { groups, seed: 1 }
    }

    fn samples() -> Samples<f64> {
        samples_of([("one", vec![50.0, 100.0]), ("two", vec![100.0, 200.0])])
    }

    #[test]
    fn a_ratio_is_taken_round_by_round_and_nothing_has_no_figure() {
        let samples = samples();
        let half = Estimate { value: 0.5, interval: Some([0.5, 0.5]) };
        assert_eq!(samples.ratio("one", "two", |&value| value), half);
        let nobody = samples.median("nobody", |&value| value);
        assert!(nobody.value.is_nan() && nobody.interval.is_none());
        let table = samples.table("").estimates("", Unit::Mean, |_| nobody).table;
        assert_eq!(table.rows[0].cells, [Cell::default()]);
    }

    #[test]
    fn columns_become_a_table_with_a_row_for_each_subject() {
        let table = samples()
            .table("Rates")
            .medians("rate", Unit::PerSecond, |&value| value)
            .means("mean of some", |&value| (value > 50.0).then_some(value))
            .sums("all", |&value| value as u64)
            .table;
        let values = |row: usize| table.rows[row].cells.iter().map(|cell| cell.value.unwrap());
        assert_eq!(values(0).collect::<Vec<_>>(), [75.0, 100.0, 150.0]);
        assert_eq!(values(1).collect::<Vec<_>>(), [150.0, 150.0, 300.0]);
        assert_eq!(table.rows[0].cells[0].interval, Some([50.0, 100.0]));
        assert_eq!((table.rows[1].name.as_str(), table.columns.len()), ("two", 3));
    }
}
