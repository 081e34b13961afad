//! Claims of others about some of the servers, judged on the server itself by the criterion that the lab has for its
//! own servers.

use crate::lab::book::BOOK;
use crate::lab::chapter::Verdict;
use crate::lab::criterion::judge;
use crate::lab::figure::Figure;
use crate::lab::page::items;
use crate::lab::record::Lab;
use crate::report::format::plural;
use crate::report::model::{Cell, Mark, Table, Unit};
use crate::servers::migrating;
use crate::servers::record::{Faults, Row, Second, Servers};
use crate::statistics::estimate::Estimate;
use crate::statistics::{geometric_mean, mean, median};

/// Names and figures, as on a page of the lab.
type Found = Vec<(&'static str, Figure)>;

/// A claim of a page of the lab, and its server.
struct About {
    chapter: &'static str,
    source: &'static str,
    server: &'static str,
    /// The figures, and the reason if one is missing.
    found: fn(&Servers, &Row) -> Found,
    missing: fn(&Servers) -> String,
}

/// The most connections that four workers can have accepted that take one at a time, as on the lab's page.
const ACCEPTED: f64 = 4.0;

const CLAIMS: [About; 6] = [
    About {
        chapter: "spread",
        source: "granian#544",
        server: "granian",
        found: |_, row| two_busiest(row),
        missing: |_| String::new(),
    },
    About {
        chapter: "crash",
        source: "granian#567",
        server: "granian",
        found: |_, row| {
            let own = row.sockets.is_some_and(|sockets| sockets > 1);
            let faults = row.faults.as_ref().filter(|faults| own && !faults.ended());
            let lost = faults.and_then(|faults| faults.lost_with_hung);
            vec![("without", figure(lost.map(|lost| lost as f64)))]
        },
        // What is lost then is not what waits in the queue of one worker.
        missing: |record| match record.rows.iter().find(|row| row.name == "granian") {
            Some(row) if row.faults.as_ref().is_some_and(Faults::ended) => {
                "the server ends if a worker is killed".into()
            }
            _ => "its workers share a socket".into(),
        },
    },
    About {
        chapter: "reload",
        source: "granian#897",
        server: "granian",
        found: |record, _| {
            let [_, with] = lost_for_each(record);
            // It can help only if something is lost without it.
            let helps = with.filter(|_| loses_without(record) == Some(true));
            let [with, helps] = [with, helps].map(figure);
            vec![("with", with), ("helps", helps)]
        },
        missing: |record| {
            let skipped = record.skipped.iter().find(|it| it.name == migrating::WHAT);
            match (skipped, lost_for_each(record), loses_without(record)) {
                (Some(skipped), ..) => skipped.reason.clone(),
                (_, [None, _] | [_, None], _) => {
                    "it was not measured with tcp_migrate_req off and on".into()
                }
                (.., Some(false)) => "little was lost without it".into(),
                _ => "what is lost without it is not decided".into(),
            }
        },
    },
    About {
        chapter: "flag",
        source: "gunicorn#2938",
        server: "gunicorn sync --reuse-port",
        found: |_, row| {
            let words = row.sockets.map(|sockets| plural(sockets as u64, "socket"));
            vec![
                ("sockets", Figure::from(words)),
                ("is_one", Figure::from(row.sockets.map(|sockets| sockets == 1))),
            ]
        },
        missing: |_| String::new(),
    },
    About {
        chapter: "twice",
        source: "puma#2078",
        server: "puma",
        found: |_, row| {
            let (bare, least) = match &row.second {
                Some(Second::Refused(_)) => ("the second is refused", Some(0.0)),
                Some(Second::Silent(got)) => {
                    ("silent", got.map(|[got, all]| got.min(all - got) as f64))
                }
                Some(Second::Tries) => ("the second retries forever", Some(0.0)),
                None => ("", None),
            };
            vec![("bare", Figure::from(bare)), ("least", figure(least))]
        },
        missing: |_| "the number of its connections is unknown".into(),
    },
    About {
        chapter: "tail",
        source: "NGINX 1.9.1",
        server: "nginx reuseport",
        found: |record, _| {
            let found = Estimate::of(&record.nginx_deviations, geometric_mean, 1);
            vec![("short", figure(found))]
        },
        missing: |_| "it was not compared".into(),
    },
];

/// Requests that granian lost for each reload, with tcp_migrate_req off and on.
fn lost_for_each(record: &Servers) -> [Option<Estimate>; 2] {
    record.granian_lost.each_ref().map(|lost| Estimate::of(lost, mean, 1))
}

/// Whether more was lost with the sysctl off than workers can have accepted, if that is decided.
fn loses_without(record: &Servers) -> Option<bool> {
    lost_for_each(record)[0]?.at_most(ACCEPTED).map(|few| !few)
}

/// A figure that may be missing.
fn figure<T: Into<Figure>>(found: Option<T>) -> Figure {
    found.map_or_else(|| f64::NAN.into(), T::into)
}

/// The part of the two busiest workers.
fn two_busiest(row: &Row) -> Found {
    let part = |counts: &Vec<u64>| {
        let mut counts = counts.clone();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let all: u64 = counts.iter().sum();
        (all > 0).then(|| counts.iter().take(2).sum::<u64>() as f64 / all as f64)
    };
    let of = |rounds: &Vec<Vec<u64>>| {
        let parts: Vec<f64> = rounds.iter().filter_map(part).collect();
        figure(Estimate::of(&parts, median, 1))
    };
    let [burst, trickle] = match &row.spread {
        Some(spread) => [of(&spread.burst), of(&spread.trickle)],
        None => [f64::NAN, f64::NAN].map(Figure::from),
    };
    vec![("two_burst", burst), ("two_trickle", trickle)]
}

/// A row for each claim about a server that was measured.
pub fn claims(record: &Servers, lab: Option<&Lab>) -> Table {
    let mut table = Table::new(
        "Claims about these servers, measured on them",
        &["server", "source", "found", "holds if", "verdict", "ours, in the lab"]
            .map(|name| (name, Unit::Text)),
    );
    for about in &CLAIMS {
        let row = record.rows.iter().find(|row| row.name == about.server);
        let page = BOOK.iter().find(|experiment| experiment.name == about.chapter);
        let (Some(row), Some(page)) = (row, page) else { continue };
        let all = items(page.text, "Claims").concat();
        let Some(item) = all.iter().find(|item| item.starts_with(about.source)) else { continue };
        let mut fields = item.split('|').map(str::trim);
        let (source, url, claim) = (fields.next(), fields.next(), fields.next());
        // Their figure is between claim and criterion; where they measured comes after it.
        let criterion = fields.nth(1).unwrap_or_default();
        let found = (about.found)(record, row);
        let (found, limit, verdict) =
            judge(&known(criterion, &found), &found, &(about.missing)(record));
        let verdict = match verdict {
            Verdict::Reproduced => Cell::from("reproduced").mark(Mark::Good),
            Verdict::NotReproduced => Cell::from("not reproduced").mark(Mark::Bad),
            Verdict::NotDecidable(why) => {
                Cell::from(format!("not decidable: {why}")).mark(Mark::Undecided)
            }
        };
        let chapters = lab.into_iter().flat_map(|lab| &lab.body.chapters);
        let ours = chapters.flat_map(|chapter| &chapter.findings.claims);
        let ours = ours.filter(|it| Some(&*it.claim) == claim).map(|it| it.ours.clone()).next();
        let link = url.filter(|url| !url.is_empty());
        let version = row.version.as_deref().unwrap_or_default();
        table.row(
            claim.unwrap_or_default(),
            [
                Cell::from(format!("{} {version}", row.name).trim()),
                source.map(Cell::from).unwrap_or_default().link(link),
                found.into(),
                limit.into(),
                verdict,
                ours.into(),
            ],
        );
    }
    if lab.is_none() {
        table.columns.pop();
        table.rows.iter_mut().for_each(|row| drop(row.cells.pop()));
    }
    table.note =
        "The claims and their limits are those of the lab, whose pages explain them. Here they are \
         judged by measurements of the current version of the server that they are about."
            .into();
    table
}

/// The parts of a criterion whose figures exist for this server: it has either own sockets or a shared one.
fn known(criterion: &str, found: &Found) -> String {
    let is_known = |part: &&str| {
        part.split('{').skip(1).all(|after| {
            let name = after.split(['}', ':']).next().unwrap_or_default();
            found.iter().any(|(known, _)| *known == name)
        })
    };
    let parts: Vec<&str> = criterion.split_inclusive(']').filter(is_known).collect();
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::servers::tests::whole;
    use crate::servers::record::Skipped;

    fn verdicts(record: &Servers) -> Vec<String> {
        let rows = claims(record, None).rows.into_iter();
        rows.map(|row| row.cells[4].text.clone().unwrap()).collect()
    }

    #[test]
    fn every_claim_is_on_its_page_and_its_figures_are_those_of_the_criterion() {
        let found = verdicts(&whole());
        assert_eq!(found.len(), CLAIMS.len());
        assert_eq!(found[0], "reproduced", "80 % of a burst");
        assert!(found[1].starts_with("not decidable: its workers share"), "{}", found[1]);
        assert!(found[2].ends_with("tcp_migrate_req off and on"), "{}", found[2]);
        assert_eq!(found[3], "reproduced", "one socket");
        assert_eq!(found[4], "reproduced", "90 of 200");
        assert!(found[5].starts_with("not decidable"), "{}", found[5]);
    }

    #[test]
    fn another_server_gives_another_verdict() {
        let mut record = whole();
        for row in &mut record.body.rows {
            row.sockets = Some(4);
            row.second = Some(Second::Refused("in use".into()));
        }
        record.body.nginx_deviations = vec![0.2, 0.3, 0.25];
        let found = verdicts(&record);
        assert_eq!(found[1], "reproduced");
        assert_eq!(found[3..], ["not reproduced", "not reproduced", "reproduced"]);
    }

    #[test]
    fn whether_the_sysctl_mends_granians_reloads_is_judged_by_what_granian_loses_with_it_off_and_on()
     {
        for (without, with, verdict) in [
            ([32.0, 30.0, 31.0], [2.0, 3.0, 2.0], "reproduced"),
            ([12.0, 10.0, 11.0], [9.0, 8.0, 9.0], "not reproduced"),
            ([1.0, 0.0, 1.0], [0.0, 1.0, 0.0], "not decidable: little was lost without it"),
            ([1.0, 0.0, 20.0], [0.0; 3], "not decidable: what is lost without it is not decided"),
        ] {
            let mut record = whole();
            record.body.granian_lost = [without.to_vec(), with.to_vec()];
            assert_eq!(verdicts(&record)[2], verdict);
            let row = &claims(&record, None).rows[2];
            assert_eq!(row.name, "tcp_migrate_req mends that");
            let found = row.cells[2].text.clone().unwrap();
            assert!(found.ends_with("lost for each reload"), "{found}");
        }
        let mut record = whole();
        let (name, reason) = (migrating::WHAT.into(), "no namespace".into());
        record.body.skipped.push(Skipped { name, reason });
        assert_eq!(verdicts(&record)[2], "not decidable: no namespace");
    }
}
