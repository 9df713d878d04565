//! `tessera check`: proves the invariants that a database with no server running can show.

use crate::config::Config;
use crate::database::Database;
use anyhow::bail;
use tessera_core::db::{self, Pools};

/// Looks at every ticket and delivery and says what is wrong, if anything is.
///
/// # Errors
/// The database cannot be had, or an invariant does not hold.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let database = Database::share(config).await?;
    let pools = Pools::new(database.options());
    let report = db::check::check(&pools.write).await;
    pools.write.close().await;
    database.close().await?;
    let report = report?;
    for (invariant, sentence) in &report.violations {
        println!("{invariant}: {sentence}");
    }
    let looked = format!(
        "{} tickets, {} transactions, {} deliveries",
        report.tickets, report.transactions, report.deliveries
    );
    if !report.violations.is_empty() {
        bail!("{} violations in {looked}; run this while no server runs", report.violations.len());
    }
    println!("Everything holds: {looked}.");
    Ok(())
}
