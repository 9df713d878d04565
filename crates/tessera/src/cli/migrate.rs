//! `tessera migrate`: brings the database to this version's schema.

use std::time::Duration;

use anyhow::Context as _;
use sqlx::postgres::PgPoolOptions;

use crate::config::Config;
use crate::database::Database;

/// How long to try to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// Applies what is missing; a second run changes nothing.
///
/// # Errors
/// The database cannot be reached, is newer than this program, or refuses a migration.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let database = Database::share(config).await?;
    let migrated = run_on(&database).await;
    database.close().await?;
    migrated
}

/// The same on a database that is there. Its connection has no time limits: a migration takes as long as it takes, and
/// another node's may have to end first.
///
/// # Errors
/// As for [`run`].
pub async fn run_on(database: &Database) -> anyhow::Result<()> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT);
    // That the migrator's own table is there already is no news.
    let options = database.options().options([("client_min_messages", "warning")]);
    let pool = pool.connect_with(options).await.context("cannot connect to the database")?;
    tessera_core::db::migrate(&pool).await?;
    pool.close().await;
    tracing::info!("the database is up to date");
    Ok(())
}
