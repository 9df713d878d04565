//! Gives lines their ticket numbers, and turns them into rows.

use super::report::Report;
use super::{Import, Ready};
use crate::db::import::{self as db_import, Batch};
use crate::desk::clock;
use crate::error::{Error, Result};
use crate::models::{Ids, RequestId};
use std::collections::HashMap;

impl Import<'_> {
    /// Reserves the numbers that lines give, and draws one for each line without a number.
    pub(super) async fn draw_numbers(&self, lines: &[Ready<'_>], report: &Report) -> Result<Vec<i64>> {
        if self.is_lost(report) {
            return Ok(Vec::new());
        }
        let pool = &self.tessera.pools.write;
        let given = lines.iter().filter_map(|line| line.read.line.number);
        if let Some(highest) = given.clone().max() {
            db_import::reserve(pool, highest).await?;
        }
        match lines.len() - given.count() {
            0 => Ok(Vec::new()),
            count => db_import::draw(pool, count).await,
        }
    }

    /// Turns the lines into rows. Of several lines with the same number, the first valid one is written.
    pub(super) fn rows(
        &self,
        lines: Vec<Ready<'_>>,
        numbers: Vec<i64>,
        report: &mut Report,
    ) -> Result<Batch> {
        let is_lost = self.is_lost(report);
        let mut numbers = numbers.into_iter();
        let now = clock::now();
        let mut batch = Batch::new(self.catalog.version, now);
        let mut requests = Ids::new(now, clock::seed());
        let mut written: HashMap<i64, &[u8]> = HashMap::new();
        for Ready { number, read, checked } in lines {
            if let Some(imported) = read.line.number.and_then(|given| written.get(&given)) {
                report.skip(number, read, imported);
                continue;
            }
            // A line that is not written needs no number.
            let ticket = read.line.number.or_else(|| numbers.next()).or(is_lost.then_some(0));
            let Some(ticket) = ticket else {
                return Err(Error::internal("The database returned too few ticket numbers.", "nextval"));
            };
            let request: RequestId = requests.draw();
            match checked.rows(read, ticket, &self.people, request, clock::seed()) {
                Ok(imported) => {
                    batch.push(&imported, read, request);
                    report.tally.imported += 1;
                    written.extend(read.line.number.map(|given| (given, read.key.line.as_slice())));
                }
                Err(faults) => report.bad(number, faults),
            }
        }
        Ok(batch)
    }
}
