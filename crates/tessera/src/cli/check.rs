//! `tessera check`: verifies the invariants that can be checked in a database while no server is running.

use crate::config::Config;
use crate::database::Database;
use anyhow::bail;
use tessera_core::db::{self, Pools};

/// Checks every ticket and delivery, and prints each violation.
///
/// # Errors
/// The database cannot be opened, or an invariant is violated.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let database = Database::share(config).await?;
    let pools = Pools::new(&database.options(), config.pool_sizes);
    let report = db::check::check(&pools.write).await;
    pools.write.close().await;
    database.close().await?;
    let report = report?;
    for (invariant, sentence) in &report.violations {
        println!("{invariant}: {sentence}");
    }
    let checked = format!(
        "{} tickets, {} transactions, {} deliveries",
        report.tickets, report.transactions, report.deliveries
    );
    if !report.violations.is_empty() {
        bail!(
            "{} violations in {checked}. Run this command only while no server is running.",
            report.violations.len()
        );
    }
    println!("All invariants hold: {checked}.");
    Ok(())
}
