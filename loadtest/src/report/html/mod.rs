//! `compare` as a page to look at: one file that loads nothing, not even a script.
//!
//! - [`verdict`]: the answer, and what it lacks;
//! - [`slices`], [`ratios`]: requests/s, each subject for itself and pair by pair;
//! - [`latency`], [`fixed_rates`]: how long answers took, closed loop and open;
//! - [`spread`]: which workers did the work;
//! - [`figures`], [`context`]: everything in numbers, and how to get it again.
//!
//! - [`matrix`], [`lab`]: pages of their own, for every policy in every workload, and for the book;
//! - [`plot`], [`scale`], [`look`]: what pictures have in common;
//! - [`figure`]: numbers that can be checked against the record.

mod context;
mod figure;
mod figures;
mod fixed_rates;
pub mod lab;
mod latency;
mod look;
pub mod matrix;
mod plot;
mod ratios;
mod scale;
mod slices;
mod spread;
mod verdict;

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::measure::comparison::Comparison;

/// Colours, sizes, and what becomes of them on phones, in the dark and on paper.
const STYLE: &str = include_str!("page.css");

/// Forbids the browser to load anything, should a name ever get past the escaping.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page. `json` is the file with the record, relative to the page, to be linked.
///
/// # Errors
/// When the command that repeats the comparison cannot be written for a shell.
pub fn page(comparison: &Comparison, json: Option<&str>) -> Result<String> {
    let body = html! {
        (verdict::section(comparison))
        main {
            (slices::section(comparison))
            (ratios::section(comparison))
            (latency::section(comparison))
            (fixed_rates::section(comparison))
            (spread::section(comparison))
            (figures::section(comparison))
            (context::section(comparison, json)?)
        }
    };
    Ok(document(&verdict::title(comparison), "", &body))
}

/// A whole page with this body, in the style of all pages and a bit of its own.
fn document(title: &str, own_style: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(own_style)) }
            }
            body { (body) }
        }
    };
    page.into_string()
}

#[cfg(test)]
mod tests;
