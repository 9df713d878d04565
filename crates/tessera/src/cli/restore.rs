//! `tessera restore`: replaces all data with that of a backup, or changes nothing.
//!
//! The backup is restored into a new database, which takes the name of the old one after everything in it was checked.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};
use tessera_core::db::check;
use tessera_core::db::ops::backup::{self, Contents};

use crate::cli::backup::{major, size};
use crate::config::Config;
use crate::database::Database;
use crate::postgres::tools::{Tools, complete};

/// The database to connect to for creating and renaming others; every PostgreSQL server has it.
const MAINTENANCE: &str = "postgres";

/// The arguments of `tessera restore`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// File that `tessera backup` wrote
    file: PathBuf,
    /// Replace the existing data
    #[arg(long)]
    force: bool,
    /// Restore the data even if it violates Tessera's invariants, as `tessera check` would report
    #[arg(long)]
    ignore_check: bool,
}

/// Restores the backup.
///
/// # Errors
/// A server is running, the database is not empty, or the backup is unreadable, from a newer Tessera or inconsistent. In
/// each case the old data is unchanged.
pub async fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<()> {
    let file = &arguments.file;
    let bytes = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    let database = Database::own(config).await?;
    say!("Reading {} ({}).", file.display(), size(bytes));
    let restored = restore(&database, arguments).await;
    database.close().await?;
    match &restored {
        Ok(contents) => summarize(contents),
        Err(_) => say!("The data was not changed."),
    }
    restored.map(drop)
}

async fn restore(database: &Database, arguments: &Arguments) -> anyhow::Result<Contents> {
    let tools = prepare(database, arguments).await?;
    let name = database.name();
    let (fresh, aside) = (format!("{name}_restoring"), format!("{name}_replaced"));
    let mut admin = PgConnection::connect_with(&options(database, MAINTENANCE))
        .await
        .context("cannot connect to the database postgres, which is needed to create another one")?;
    backup::drop_database(&mut admin, &aside).await?;
    backup::make_database(&mut admin, &fresh, name)
        .await
        .context("cannot create a database next to the old one; the user in database.url needs CREATEDB")?;
    let filled = match fill(database, &tools, &fresh, arguments).await {
        Ok(contents) => backup::swap(&mut admin, name, &fresh, &aside)
            .await
            .context("cannot replace the old data with the new")
            .map(|()| contents),
        Err(error) => Err(error),
    };
    // Remove the old database, or after a failure the new one. Reconnect, as the connection may be in a failed transaction.
    let _ = admin.close().await;
    let loser = if filled.is_ok() { &aside } else { &fresh };
    if let Err(error) = drop_at(database, loser).await {
        tracing::warn!("cannot remove the database {loser}, which is no longer needed: {error:#}");
    }
    filled
}

/// Returns PostgreSQL's programs if the data may be replaced: nobody else is connected, as a connection would prevent the
/// rename at the end, and the database is empty or `--force` was given.
async fn prepare(database: &Database, arguments: &Arguments) -> anyhow::Result<Tools> {
    let mut db =
        PgConnection::connect_with(&database.options()).await.context("cannot connect to the database")?;
    let others = backup::others(&mut db).await?;
    if !others.is_empty() {
        let who = others.join(", ");
        bail!("the database {} is in use by {who}. Stop it first.", database.name());
    }
    if !arguments.force && !backup::is_empty(&mut db).await? {
        let there = match backup::contents(&mut db).await {
            Ok(contents) => contents.to_string(),
            Err(_) => "tables of another program".into(),
        };
        bail!(
            "the database {} is not empty: it contains {there}. Replace all of it with --force.",
            database.name()
        );
    }
    let tools = database.tools(major(&mut db).await?)?;
    db.close().await?;
    Ok(tools)
}

/// Restores the backup into the database `fresh`, migrates it to this version's schema and checks all of its data.
async fn fill(
    database: &Database,
    tools: &Tools,
    fresh: &str,
    arguments: &Arguments,
) -> anyhow::Result<Contents> {
    let mut command = tools.connecting("pg_restore", fresh)?;
    command.args(["--exit-on-error", "--no-owner", "--no-privileges"]).arg(&arguments.file);
    let unreadable = || format!("{} cannot be restored", arguments.file.display());
    complete(command, || "still reading".into()).await.with_context(unreadable)?;
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options(database, fresh)).await?;
    let contents = check(&pool, &arguments.file, arguments.ignore_check).await;
    pool.close().await;
    contents
}

async fn check(pool: &PgPool, file: &Path, ignore_check: bool) -> anyhow::Result<Contents> {
    tessera_core::db::migrate(pool).await?;
    let mut db = pool.acquire().await?;
    backup::analyze(&mut db).await?;
    let contents = backup::contents(&mut db).await?;
    drop(db);
    say!("Read {contents}. Checking all of it.");
    let report = check::check(pool).await?;
    for (invariant, sentence) in &report.violations {
        say!("{invariant}: {sentence}");
    }
    match report.violations.len() {
        0 => {}
        many if ignore_check => {
            say!("{many} violations; restoring anyway, because of --ignore-check.")
        }
        many => bail!(
            "{many} violations in {}. Try an older backup, or restore this one anyway with --ignore-check.",
            file.display()
        ),
    }
    Ok(contents)
}

/// Returns the options to connect to another database of the same server, without time limits. PostgreSQL's notices about
/// objects that do not exist or that we may not analyze are not logged.
fn options(database: &Database, name: &str) -> PgConnectOptions {
    let options = database.options().database(name).options([("client_min_messages", "error")]);
    options.disable_statement_logging()
}

async fn drop_at(database: &Database, name: &str) -> anyhow::Result<()> {
    let mut admin = PgConnection::connect_with(&options(database, MAINTENANCE)).await?;
    backup::drop_database(&mut admin, name).await?;
    Ok(admin.close().await?)
}

/// Prints the restored contents, and what happens when a server starts.
fn summarize(contents: &Contents) {
    say!("Restored {contents}.");
    match contents.waiting {
        0 => say!("No deliveries are waiting."),
        waiting => {
            say!(
                "{waiting} deliveries are waiting, and a server sends them as soon as it starts. Deliveries that were sent after"
            );
            say!(
                "the backup are sent again, with the same Message-ID or webhook-id. To review and cancel them first, start the"
            );
            say!("server with delivery.enabled = false (TESSERA_DELIVERY__ENABLED=false).");
        }
    }
}
