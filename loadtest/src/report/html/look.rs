//! How subjects are distinguished: by colours and, for readers who cannot distinguish these, by dashes and marks.

use maud::{Markup, html};

/// The number of colours in the stylesheet, for light and for dark mode.
const COLOURS: usize = 8;

/// Dashes of lines, in pixels: drawn, not drawn.
const DASHES: [&str; 5] = ["none", "7 4", "2 3", "10 3 2 3", "14 5"];

/// Marks around the point (0, 0), as paths: circle, square, triangle, diamond, cross, inverted
/// triangle.
const MARKS: [&str; 6] = [
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
    "M-4-4h8v8h-8z",
    "M0-5.2L5 4H-5z",
    "M0-5.6L5.6 0 0 5.6-5.6 0z",
    "M-5-1.6h3.4V-5h3.2v3.4H5v3.2H1.6V5h-3.2V1.6H-5z",
    "M0 5.2L5-4H-5z",
];

/// The class of a subject's colour.
pub fn colour(index: usize) -> String {
    format!("c{}", index % COLOURS)
}

/// The dashes of a subject's line.
pub fn dashes(index: usize) -> &'static str {
    DASHES[index % DASHES.len()]
}

/// A subject's mark at a place of a picture.
///
/// It is an `svg` of its own, since only that can be placed at a percentage and keep its size.
pub fn mark(index: usize, x: &str, y: &str) -> Markup {
    html! { svg.at x=(x) y=(y) { path.mark d=(MARKS[index % MARKS.len()]) {} } }
}

/// The legend, with lines as they are drawn.
pub fn legend<'a>(names: impl Iterator<Item = &'a str>) -> Markup {
    html! {
        ul.legend {
            @for (index, name) in names.enumerate() {
                li class=(colour(index)) {
                    svg.key aria-hidden="true" viewBox="-20 -7 40 14" width="40" height="14" {
                        line.curve x1="-20" x2="20" stroke-dasharray=(dashes(index)) {}
                        path.mark d=(MARKS[index % MARKS.len()]) {}
                    }
                    (name)
                }
            }
        }
    }
}
