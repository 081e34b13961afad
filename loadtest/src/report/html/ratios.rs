//! Who is faster than whom: each pair's ratio with its interval, beside what counts as noise.

use maud::{Markup, html};

use crate::measure::comparison::{Comparison, Pair};
use crate::report::format::count;
use crate::report::html::figure::{figure, full, interval, percent, ratio, words};
use crate::report::html::look::shortened;
use crate::report::html::plot::{Plot, across};
use crate::report::html::scale::Scale;
use crate::report::html::verdict::sign;
use crate::statistics::verdict::Ratio;

/// Height of a row: a line of text, and below it the interval.
const ROW: f64 = 46.0;

/// Letters of a name for which a phone has room, twice.
const LONGEST_NAME: usize = 19;

/// Of more pairs than this, only those with the baseline are in the picture.
const MOST_ROWS: usize = 10;

/// The picture and, of more than one pair, a table.
pub fn section(comparison: &Comparison) -> Markup {
    let all: Vec<Row> = (comparison.pairs.iter().enumerate())
        .filter_map(|(index, pair)| Some((index, pair, pair.result.as_ref()?)))
        .collect();
    let crowded = all.len() > MOST_ROWS;
    let rows: Vec<Row> = all
        .into_iter()
        .filter(|(_, pair, _)| !crowded || pair.baseline == comparison.plan.baseline)
        .collect();
    html! {
        section {
            h2 { "Ratios of requests per second" }
            @if rows.is_empty() {
                p { "No pair has the rounds that an interval needs." }
            } @else {
                (picture(&rows, comparison.plan.threshold))
                p.caption {
                    "The mark is the mean ratio, the bar its 95 % interval. Inside the grey band, "
                    (figure(comparison.plan.threshold, "/plan/threshold", percent))
                    " to either side of 1, is what counts as noise: one is faster or slower only \
                     if the whole bar lies outside of it."
                    @if crowded { " Here are the pairs with the baseline; the table has all." }
                }
            }
            @if comparison.pairs.len() > 1 { (table(&comparison.pairs)) }
        }
    }
}

/// A pair's place in the record, itself, and its result.
type Row<'a> = (usize, &'a Pair, &'a Ratio);

fn picture(rows: &[Row], threshold: f64) -> Markup {
    let ends = rows.iter().flat_map(|(_, _, result)| result.interval);
    let scale = Scale::linear(ends.chain([1.0 - 1.5 * threshold, 1.0 + 1.5 * threshold]));
    let sentences: Vec<&str> = rows.iter().map(|(_, pair, _)| pair.sentence.as_str()).collect();
    let description = sentences.join(" ");
    let plot = Plot {
        id: "ratios",
        title: "Ratio of each pair with its interval",
        description: &description,
        height: ROW * rows.len() as f64,
        class: "forest",
    };
    let ticks = scale.ticks();
    let close = ticks.windows(2).any(|two| two[1] - two[0] < 0.01);
    let digits = if close { 4 } else { 2 };
    let ticks: Vec<_> =
        ticks.into_iter().map(|t| (scale.place(t), format!("{t:.digits$}"))).collect();
    let (low, high) = (scale.place(1.0 - threshold), scale.place(1.0 + threshold));
    let middle = across(scale.place(1.0));
    plot.draw(&html! {
        rect.noise x=(across(low)) width=(across(high - low)) y="0" height=(plot.height) {}
        (plot.columns("times the requests/s", &ticks))
        line.reference x1=(middle) x2=(middle) y1="0" y2=(plot.height) {}
        @for (row, (index, pair, result)) in rows.iter().enumerate() {
            @let top = ROW * row as f64;
            @let y = top + 32.0;
            @let [low, high] = result.interval.map(|end| across(scale.place(end)));
            text.label x="0" y=(top + 17.0) {
                (shortened(&pair.other, LONGEST_NAME)) " / "
                (shortened(&pair.baseline, LONGEST_NAME))
            }
            line.whisker x1=(low) x2=(high) y1=(y) y2=(y) {}
            circle.estimate r="5" cx=(across(scale.place(result.ratio))) cy=(y)
                data-at={ "/pairs/" (index) "/result/ratio" } data-value=(full(result.ratio))
            {
                title { (pair.sentence) }
            }
        }
    })
}

fn table(pairs: &[Pair]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="All pairs" {
            table.pairs {
                thead {
                    tr {
                        th scope="col" { "pair" }
                        th { "ratio" } th { "95 % interval" } th { "deviation of a round" }
                        th.left { "verdict" }
                    }
                }
                tbody {
                    @for (index, pair) in pairs.iter().enumerate() { (row(index, pair)) }
                }
            }
        }
    }
}

fn row(index: usize, pair: &Pair) -> Markup {
    let at = format!("/pairs/{index}");
    html! {
        tr {
            th scope="row" {
                (words(&pair.other, &format!("{at}/other"))) " / "
                (words(&pair.baseline, &format!("{at}/baseline")))
            }
            @if let Some(result) = &pair.result {
                td { (figure(result.ratio, &format!("{at}/result/ratio"), ratio)) }
                td { (interval(result.interval, &format!("{at}/result/interval"), ratio)) }
                td { (figure(result.deviation, &format!("{at}/result/deviation"), percent)) }
                td.left { (sign(pair)) " " (verdict(&at, result)) }
            } @else {
                td {} td {} td {} td.left { "? too few rounds" }
            }
        }
    }
}

fn verdict(at: &str, result: &Ratio) -> Markup {
    use crate::statistics::verdict::Verdict;
    html! {
        @match result.verdict {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::Higher => "higher",
            Verdict::Lower => "lower",
            Verdict::NoDifference => "no difference detected",
            Verdict::TooNoisy => "too noisy to tell",
        }
        @if let Some(rounds) = result.rounds_needed {
            "; about "
            (figure(rounds, &format!("{at}/result/rounds_needed"), |rounds| count(rounds.into())))
            " rounds would"
        }
    }
}
