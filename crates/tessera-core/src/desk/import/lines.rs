//! Which lines are to be imported.

use super::report::Report;
use crate::db::import as db_import;
use crate::error::{Fault, Result};
use crate::plan::import::Read;
use sqlx::PgConnection;

/// Returns the lines that were not imported before and whose ticket number is free.
pub(super) async fn not_imported<'l>(
    db: &mut PgConnection,
    lines: Vec<(u64, &'l Read)>,
    report: &mut Report,
) -> Result<Vec<(u64, &'l Read)>> {
    let keys: Vec<Vec<u8>> = lines.iter().map(|(_, read)| read.key.key.clone()).collect();
    let numbers: Vec<i64> = lines.iter().filter_map(|(_, read)| read.line.number).collect();
    let known = db_import::known(db, &keys).await?;
    let taken = db_import::taken(db, &numbers).await?;
    let mut wanted = Vec::with_capacity(lines.len());
    for (number, read) in lines {
        if let Some(imported) = known.get(&read.key.key) {
            report.skip(number, read, imported);
        } else if let Some(given) = read.line.number.filter(|given| taken.contains(given)) {
            let message =
                format!("{given} is the number of another ticket; leave it out to assign a new number");
            report.bad(number, vec![Fault::new("number", message)]);
        } else {
            wanted.push((number, read));
        }
    }
    Ok(wanted)
}
