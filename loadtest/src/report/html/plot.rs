//! The frame of every picture.
//!
//! Along the page places are percentages and down the page pixels, so that a picture is as wide as
//! the window lets it be while letters and marks keep their size: a picture that is scaled as a
//! whole cannot be read on a phone. Labels lie outside of the `svg`, in the padding of its box.
//!
//! No plotting crate: plotters, the usual one, places everything in pixels, writes colours into its
//! SVG that do not follow the reader's light or dark, and has no attributes of one's own, such as
//! the pointers that make figures testable.

use maud::{Markup, html};

/// A picture and what it says to those who do not see it.
#[derive(Debug)]
pub struct Plot<'a> {
    /// Its name within the page.
    pub id: &'a str,
    /// A few words.
    pub title: &'a str,
    /// What is to be seen.
    pub description: &'a str,
    /// In pixels, without labels.
    pub height: f64,
    /// Where its labels lie, by a class of the stylesheet.
    pub class: &'a str,
}

impl Plot<'_> {
    /// The picture with this in it.
    pub fn draw(&self, content: &Markup) -> Markup {
        let (title, description) = (format!("{}-title", self.id), format!("{}-desc", self.id));
        html! {
            div class={ "plot " (self.class) } {
                svg.picture role="img" aria-labelledby=(title) aria-describedby=(description)
                    width="100%" height=(self.height)
                {
                    title id=(title) { (self.title) }
                    desc id=(description) { (self.description) }
                    (content)
                }
            }
        }
    }

    /// A value's place down the page; 0 of the axis lies at the bottom.
    pub fn down(&self, place: f64) -> String {
        format!("{:.1}", self.height * (1.0 - place))
    }

    /// Lines across the picture with numbers to the left, and above them what they are.
    pub fn rows(&self, what: &str, ticks: &[(f64, String)]) -> Markup {
        html! {
            text.what x="-50" y="-14" { (what) }
            @for (place, label) in ticks {
                @let y = self.down(*place);
                line.grid x1="0%" x2="100%" y1=(y) y2=(y) {}
                text.tick.left x="-8" y=(y) dy="4" { (label) }
            }
        }
    }

    /// Lines down the picture with numbers below, and below them what they are.
    pub fn columns(&self, what: &str, ticks: &[(f64, String)]) -> Markup {
        html! {
            @for (place, label) in ticks {
                @let x = across(*place);
                line.grid x1=(x) x2=(x) y1="0" y2=(self.height) {}
                text.tick.below x=(x) y=(self.height + 18.0) { (label) }
            }
            text.what.below x="50%" y=(self.height + 38.0) { (what) }
        }
    }

    /// A line through these places, which is stretched with the picture while its width is not.
    pub fn curve(&self, class: &str, dashes: &str, points: &[(f64, f64)]) -> Markup {
        let points: Vec<String> =
            points.iter().map(|(x, y)| format!("{:.2},{}", x * 100.0, self.down(*y))).collect();
        html! {
            svg.stretched viewBox={ "0 0 100 " (self.height) } preserveAspectRatio="none"
                width="100%" height=(self.height)
            {
                polyline class=(class) points=(points.join(" ")) stroke-dasharray=(dashes)
                    vector-effect="non-scaling-stroke" {}
            }
        }
    }
}

/// A place across the page.
pub fn across(place: f64) -> String {
    format!("{:.2}%", place * 100.0)
}
