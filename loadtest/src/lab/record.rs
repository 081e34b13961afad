//! The record of one `lab`: what is saved after each sample, and what every report shows.
//!
//! A change of a field's name or meaning changes [`SCHEMA`].

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::environment::Environment;
use crate::lab::chapter::Chapter;
use crate::matrix::record::Matrix;

/// Which fields there are and what they mean.
pub const SCHEMA: &str = "loadtest-lab/2";

/// What is saved and shown.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Lab {
    /// [`SCHEMA`].
    pub schema: String,
    /// The arguments of loadtest with which it can be repeated.
    pub arguments: Vec<String>,
    /// Where and with what it ran.
    pub environment: Environment,
    /// Whether it was the short form, whose intervals are wide.
    pub quick: bool,
    /// What every order of turns and every bootstrap begins with.
    pub seed: u64,
    /// What came of the experiments, in the order of the book.
    pub chapters: Vec<Chapter>,
    /// What `matrix` found on this machine, if it was run; taken over, not measured again.
    pub matrix: Option<Matrix>,
    /// What to know before believing it, as text.
    pub warnings: Vec<String>,
    /// Every single sample, by experiment and then by what was observed. What chapters say
    /// follows from these alone, so a run that was interrupted goes on from the last of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub samples: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Lab {
    /// Reads a saved record.
    ///
    /// # Errors
    /// When the file cannot be read, is something else, or has another schema.
    pub fn read(path: &Path) -> Result<Self> {
        let show = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {show}"))?;
        let hint = "`loadtest lab` makes one anew; move the old file away, or name another --json";
        let value: Value = serde_json::from_str(&text)
            .with_context(|| format!("{show} is not a result of lab ({hint})"))?;
        let schema = value.get("schema").and_then(|schema| schema.as_str()).unwrap_or("none");
        ensure!(schema == SCHEMA, "{show} has schema {schema}, not {SCHEMA}; {hint}");
        serde_json::from_value(value).with_context(|| format!("{show} is damaged; {hint}"))
    }

    /// The chapter of an experiment, if there is one.
    pub fn chapter(&self, name: &str) -> Option<&Chapter> {
        self.chapters.iter().find(|chapter| chapter.name == name)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::lab::chapter::{Claim, Findings, Status, Verdict};
    use crate::lab::page::{Page, SECTIONS};
    use crate::report::model::{Axis, Bar, Cell, Picture, Series, Table, Unit};

    /// A lab with a chapter of each kind of picture, one that failed and one that was skipped.
    pub fn lab() -> Lab {
        let page = |question: &str| Page {
            question: question.into(),
            sections: SECTIONS.map(|name| (name.into(), format!("Of {name}."))).into(),
        };
        let mut table = Table::new(
            "Requests/s",
            &[
                ("requests/s", Unit::PerSecond),
                ("of shared", Unit::Ratio),
                ("p99", Unit::Microseconds),
            ],
        );
        table.row("shared", [Cell::number(20_000.0), Cell::number(1.0), Cell::number(812.0)]);
        table.row(
            "hash",
            [Cell::number(19_000.0), Cell::sure(0.95, Some([0.93, 0.97])), Cell::none()],
        );
        let mut evidence = Table::new("Sockets", &[("sockets", Unit::Count), ("who", Unit::Text)]);
        evidence.row("hash", [Cell::count(4), Cell::text("each its own")]);
        let claim = |verdict| Claim {
            claim: "Own sockets reach 0.648 of a shared one.".into(),
            source: "the post".into(),
            url: Some("https://example.org/post".into()),
            theirs: "0.648".into(),
            ours: "0.95 (0.93 to 0.97)".into(),
            limit: "below 0.824".into(),
            verdict,
        };
        let findings = |picture| Findings {
            answer: "It is not the hash: 0.95 of a shared socket.".into(),
            claims: vec![
                claim(Verdict::NotReproduced),
                claim(Verdict::Reproduced),
                claim(Verdict::NotDecidable("one core".into())),
            ],
            advice: "Use least-conn.".into(),
            picture: Some(picture),
            tables: vec![table.clone()],
            evidence: vec![evidence.clone()],
            missing: vec!["reuseport/least-conn took no part: CAP_BPF".into()],
        };
        let bars = Picture::Bars {
            title: "Of a shared socket".into(),
            unit: Unit::Ratio,
            bars: [("hash", 0.95), ("first", 0.6)]
                .map(|(name, value)| Bar {
                    name: name.into(),
                    value,
                    interval: Some([value - 0.02, value + 0.02]),
                })
                .into(),
            reference: Some((0.648, "the post".into())),
        };
        let axis = |name: &str, unit, logarithmic| Axis { name: name.into(), unit, logarithmic };
        let series = |name: &str, up: f64| Series {
            name: name.into(),
            points: (0..5).map(|x| (f64::from(x) + 1.0, up * f64::from(x))).collect(),
        };
        let lines = Picture::Lines {
            title: "While a worker is stopped".into(),
            x: axis("seconds", Unit::Mean, false),
            y: axis("answers/s", Unit::PerSecond, false),
            series: vec![series("shared", 3000.0), series("hash", 900.0)],
            spans: vec![(2.0, 4.0, "stopped".into())],
        };
        let shares = Picture::Shares {
            title: "Who got the connections".into(),
            rows: vec![
                ("shared".into(), vec![0.7, 0.3, 0.0, 0.0]),
                ("hash".into(), vec![0.27, 0.25, 0.25, 0.23]),
            ],
        };
        let turns = Picture::Turns {
            title: "Who came when".into(),
            rows: vec![
                ("blocking".into(), vec![2, 1, 0, 2, 1, 0]),
                ("exclusive".into(), vec![0; 6]),
            ],
        };
        let chapter = |name: &str, outcome, findings| Chapter {
            name: name.into(),
            page: page(&format!("What is {name}?")),
            outcome,
            seconds: 3.5,
            findings,
        };
        let environment = crate::measure::bench::tests::record(&[1]).environment;
        Lab {
            schema: SCHEMA.into(),
            arguments: vec!["lab".into(), "--quick".into()],
            environment,
            quick: true,
            seed: 1,
            chapters: vec![
                chapter("post", Status::Done, findings(bars)),
                chapter("stall", Status::Done, findings(lines)),
                chapter("spread", Status::Done, findings(shares)),
                chapter("order", Status::Done, findings(turns)),
                chapter("crash", Status::Failed("no such worker".into()), Findings::default()),
                chapter("twice", Status::Skipped("needs root".into()), Findings::default()),
            ],
            matrix: Some(crate::matrix::expectations::tests::matrix()),
            warnings: vec!["a debug build".into()],
            samples: [("post".into(), [("rate".into(), 7.into())].into())].into(),
        }
    }

    #[test]
    fn what_is_saved_reads_back() {
        let lab = lab();
        let json = serde_json::to_string(&lab).unwrap();
        assert_eq!(serde_json::from_str::<Lab>(&json).unwrap(), lab);
    }

    #[test]
    fn another_file_is_named_with_the_remedy() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"schema": "loadtest-matrix/1"}"#).unwrap();
        let refusal = Lab::read(file.path()).unwrap_err().to_string();
        assert!(refusal.contains("loadtest-matrix/1") && refusal.contains("--json"), "{refusal}");
    }
}
