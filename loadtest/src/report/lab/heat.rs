//! The matrix as a picture that stands alone: an SVG for the README, legible in light and in dark.
//!
//! Unlike the pictures of the pages it is scaled as a whole, as an `img` is, and brings its colours
//! with it. It has a ground of its own, since the page may be dark when the system is not.

use maud::{Markup, html};

use crate::matrix::expectations::GOOD;
use crate::matrix::record::{Column, Figure, Matrix};
use crate::report::wrap::lines;

/// Sizes in pixels, of a picture that READMEs show at about its own size.
const EDGE: f64 = 16.0;
const NAMES: f64 = 158.0;
const CELL: [f64; 2] = [82.0, 34.0];
const HEAD: f64 = 104.0;
const FOOT: f64 = 58.0;

const STYLE: &str = "text { font: 13px system-ui, sans-serif; fill: #16181d } \
    .quiet { fill: #565c68 } .title { font-size: 16px; font-weight: 600 } \
    .head { font-size: 12px } .small { font-size: 11px } \
    .ground { fill: #fff } .good { fill: #00785a } .bad { fill: #c24a00 } \
    .frame { fill: none; stroke: #c24a00; stroke-width: 2px } \
    @media (prefers-color-scheme: dark) { text { fill: #e9ebef } .quiet { fill: #a3a9b6 } \
    .ground { fill: #14161a } .good { fill: #3fcf9f } .bad { fill: #ff9257 } \
    .frame { stroke: #ff9257 } }";

/// The picture.
pub fn svg(matrix: &Matrix) -> String {
    let width = EDGE * 2.0 + NAMES + CELL[0] * matrix.columns.len() as f64;
    let height = HEAD + CELL[1] * matrix.policies.len() as f64 + FOOT;
    let foot = height - FOOT + 24.0;
    let picture = html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" width=(width) height=(height)
            viewBox={ "0 0 " (width) " " (height) }
        {
            title { "Requests/s of every policy in every workload, over those of the best policy" }
            style { (maud::PreEscaped(STYLE)) }
            rect.ground width=(width) height=(height) rx="8" {}
            text.title x=(EDGE) y="32" {
                "Requests/s, over those of the best policy of each workload"
            }
            @for (place, column) in matrix.columns.iter().enumerate() { (head(place, column)) }
            @for (row, policy) in matrix.policies.iter().enumerate() {
                @let y = HEAD + CELL[1] * row as f64;
                text x=(EDGE) y=(y + 21.0) { (policy) }
                @for (place, column) in matrix.columns.iter().enumerate() {
                    @let found = column.cells.iter().find(|figure| &figure.policy == policy);
                    (cell(left(place), y, column, found))
                }
            }
            text.quiet.small x=(EDGE) y=(foot) {
                "Framed: below " (GOOD) " of the best; below half is as strong as it gets. The \
                 post's load is not judged: it shows who gets connections."
            }
            text.quiet.small x=(EDGE) y=(foot + 18.0) {
                "One of 4 stopped: requests/s while a worker is stopped."
            }
        }
    };
    picture.into_string()
}

fn left(place: usize) -> f64 {
    EDGE + NAMES + CELL[0] * place as f64
}

fn head(place: usize, column: &Column) -> Markup {
    let lines = lines(&column.name, 11);
    let top = HEAD - 12.0 - 15.0 * (lines.len() - 1) as f64;
    html! {
        @for (number, line) in lines.iter().enumerate() {
            text.quiet.head text-anchor="middle" x=(left(place) + CELL[0] / 2.0)
                y=(top + 15.0 * number as f64) { (line) }
        }
    }
}

fn cell(x: f64, y: f64, column: &Column, found: Option<&Figure>) -> Markup {
    let [width, height] = CELL.map(|size| size - 4.0);
    let (x, y) = (x + 2.0, y + 2.0);
    let middle = x + width / 2.0;
    let Some(found) = found else {
        return html! { text.quiet text-anchor="middle" x=(middle) y=(y + 19.0) { "–" } };
    };
    // From half of the best, or less, over no colour at three quarters to the best itself.
    let good = ((found.part() - 0.75) * 4.0).clamp(-1.0, 1.0);
    let is_bad = column.judged && found.part() < GOOD;
    html! {
        rect class=(if good < 0.0 { "bad" } else { "good" }) x=(x) y=(y) width=(width)
            height=(height) rx="4" fill-opacity=(format!("{:.2}", good.abs() * 0.5)) {}
        @if is_bad { rect.frame x=(x) y=(y) width=(width) height=(height) rx="4" {} }
        text text-anchor="middle" x=(middle) y=(y + 19.0) { (format!("{:.2}", found.part())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::expectations::tests::matrix;

    #[test]
    fn it_has_every_policy_and_every_figure_and_loads_nothing() {
        let mut matrix = matrix();
        matrix.columns[2].cells.remove(0);
        let svg = svg(&matrix);
        let cells = matrix.policies.len() * matrix.columns.len();
        let middles = svg.matches("text-anchor=\"middle\"").count();
        assert_eq!(svg.matches('–').count(), 1);
        assert!(middles > cells, "{middles}");
        for policy in &matrix.policies {
            assert!(svg.contains(policy), "{policy}");
        }
        // Its own name space is a name and no address.
        let rest = svg.replace("http://www.w3.org/2000/svg", "");
        for loading in ["http", "url(", "@import", "href", "<script", "<image"] {
            assert!(!rest.contains(loading), "{loading}");
        }
    }

    #[test]
    fn what_is_not_good_is_framed_unless_it_is_not_judged() {
        let matrix = matrix();
        let not_good = matrix.columns.iter().filter(|column| column.judged).flat_map(|c| &c.cells);
        let not_good = not_good.filter(|figure| figure.part() < GOOD).count();
        assert_eq!(svg(&matrix).matches("class=\"frame\"").count(), not_good);
    }
}
