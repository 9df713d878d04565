//! `tessera migrate`: brings the database to this version's schema.

use anyhow::Context as _;
use sqlx::postgres::PgPool;

use crate::config::Config;
use crate::database::Database;

/// Applies what is missing, and says so when nothing is.
///
/// # Errors
/// The database cannot be reached, is newer than this program, or refuses a migration.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let database = Database::share(config).await?;
    let migrated = migrate(&database).await;
    database.close().await?;
    migrated
}

async fn migrate(database: &Database) -> anyhow::Result<()> {
    let pool = PgPool::connect_with(database.options()).await.context("cannot connect to the database")?;
    apply(&pool).await?;
    pool.close().await;
    tracing::info!("the database is up to date");
    Ok(())
}

async fn apply(_pool: &PgPool) -> anyhow::Result<()> {
    anyhow::bail!("this build has no migrations yet")
}
