//! `cost`: what a request costs the whole server, a table for each kind of connections.

use crate::documents::context;
use crate::load::perf::Unit as CostUnit;
use crate::measure::cost::CostRecord;
use crate::report::model::{Block, Cell, Document, Mark, Table, Unit};

/// The document.
pub fn document(record: &CostRecord) -> Document {
    let instructions = record.unit == CostUnit::Instructions;
    let unit = if instructions { "instructions" } else { "ns of CPU time" };
    let mut blocks = Vec::new();
    for (keep_alive, mode) in [(true, "kept alive"), (false, "a new connection for each request")] {
        let columns = [
            ("user", Unit::Count),
            ("system", Unit::Count),
            ("total", Unit::Count),
            ("spread", Unit::Part),
            ("of nginx", Unit::Times),
            ("limit", Unit::Times),
        ];
        let mut table = Table::new(&format!("{mode}, {unit} per request"), &columns);
        for result in record.results.iter().filter(|result| result.keep_alive == keep_alive) {
            // Compared as it is shown, to two digits; CPU time is a hint and no verdict.
            let over = result
                .limit
                .filter(|_| instructions)
                .map(|limit| (result.of_nginx * 100.0).round() > (limit * 100.0).round());
            let mark = over.map(|over| if over { Mark::Bad } else { Mark::Good });
            let figures = [result.user, result.system, result.total, result.spread];
            let cells = figures.map(Cell::number).into_iter();
            let ratio = Cell::number(result.of_nginx).mark(mark);
            table.row(&result.server, cells.chain([ratio, Cell::maybe(result.limit)]));
        }
        blocks.push(Block::Table(table));
    }
    blocks.extend(context(&record.environment, &record.arguments, &record.warnings));
    Document { title: "Cost of a request to the whole server".into(), blocks }
}
