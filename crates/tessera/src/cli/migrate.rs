//! `tessera migrate`: migrates the database to this version's schema.

use std::time::Duration;

use anyhow::Context as _;
use sqlx::postgres::PgPoolOptions;

use crate::config::Config;
use crate::database::Database;

/// Time limit for connecting.
const CONNECT: Duration = Duration::from_secs(5);

/// Applies the missing migrations; a second run changes nothing.
///
/// # Errors
/// The database cannot be reached, has a newer schema than this program, or rejects a migration.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let database = Database::share(config).await?;
    let migrated = run_on(&database).await;
    database.close().await?;
    migrated
}

/// Applies the missing migrations to an open database. The connection has no time limits: a migration takes as long as it
/// needs, and may have to wait for another node's.
///
/// # Errors
/// As for [`run`].
pub async fn run_on(database: &Database) -> anyhow::Result<()> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT);
    // PostgreSQL reports that the migrator's own table already exists, which is not worth logging.
    let options = database.options().options([("client_min_messages", "warning")]);
    let pool = pool.connect_with(options).await.context("cannot connect to the database")?;
    tessera_core::db::migrate(&pool).await?;
    pool.close().await;
    tracing::info!("the database schema is up to date");
    Ok(())
}
