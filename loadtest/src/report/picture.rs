//! Pictures, for renderers.

use serde::{Deserialize, Serialize};

use crate::report::unit::Unit;
use crate::statistics::estimate::Estimate;

/// A picture.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[allow(missing_docs)] // titles say what is to be seen
pub enum Picture {
    /// A row for each figure: a bar or, if there are any, the single measurements.
    Bars {
        title: String,
        /// The unit of all rows.
        unit: Unit,
        bars: Vec<Bar>,
        /// A reference line, such as the post's figure, and its name, which may be empty.
        reference: Option<(f64, String)>,
        /// For ratios: the noise threshold, on either side of the reference.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        noise: Option<f64>,
    },
    /// Lines over a common axis: time, or a number of workers.
    Lines {
        title: String,
        /// The horizontal axis.
        x: Axis,
        /// The vertical axis.
        y: Axis,
        series: Vec<Series>,
        /// Parts of the x axis with a name, for example the time during which a worker was stopped.
        spans: Vec<(f64, f64, String)>,
    },
    /// Shares: each row's parts, one for each worker, the greatest first.
    Shares {
        title: String,
        /// Names and parts; the parts of a row add up to 1.
        rows: Vec<(String, Vec<f64>)>,
    },
    /// Turns: each row has a worker's number for each turn.
    Turns {
        title: String,
        /// Names and turns.
        rows: Vec<(String, Vec<usize>)>,
    },
}

/// A figure of one subject.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Bar {
    /// Whose.
    pub name: String,
    /// The median or mean; NaN if there is none.
    pub value: f64,
    /// Its 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// Rounds, counted from 1, and their measurements; may be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<(u32, f64)>,
}

impl Bar {
    /// A figure without single measurements.
    pub fn of(name: impl Into<String>, Estimate { value, interval }: Estimate) -> Self {
        Self { name: name.into(), value, interval, points: Vec::new() }
    }
}

/// An axis.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Axis {
    /// What it measures.
    pub name: String,
    /// In what.
    pub unit: Unit,
    /// Whether equal distances are equal ratios.
    pub logarithmic: bool,
}

/// A line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Series {
    /// Whose.
    pub name: String,
    /// Its points, along the page.
    pub points: Vec<(f64, f64)>,
}
