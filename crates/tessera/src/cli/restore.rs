//! `tessera restore`: the data of a backup in the place of what there is, all of it or nothing.
//!
//! It goes into a database of its own, which takes the name of the old one when everything in it has been looked at.

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

/// The database from which others are made and renamed; every PostgreSQL has it.
const MAINTENANCE: &str = "postgres";

/// What a restore is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A file that `tessera backup` wrote
    file: PathBuf,
    /// Replace the data that is there
    #[arg(long)]
    force: bool,
    /// Put the data in place although it does not keep Tessera's invariants, as `tessera check` would say
    #[arg(long)]
    ignore_check: bool,
}

/// Restores the backup.
///
/// # Errors
/// A server runs, there is data already, or the backup cannot be read, is of a newer Tessera or does not hold together; in
/// each case the old data is as it was.
pub async fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<()> {
    let file = &arguments.file;
    let bytes = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    let database = Database::own(config).await?;
    say!("Reading {} ({}).", file.display(), size(bytes));
    let restored = restore(&database, arguments).await;
    database.close().await?;
    match &restored {
        Ok(contents) => tell(contents),
        Err(_) => say!("The data is as it was."),
    }
    restored.map(drop)
}

async fn restore(database: &Database, arguments: &Arguments) -> anyhow::Result<Contents> {
    let tools = may_begin(database, arguments).await?;
    let name = database.name();
    let (fresh, aside) = (format!("{name}_restoring"), format!("{name}_replaced"));
    let mut admin = PgConnection::connect_with(&options(database, MAINTENANCE))
        .await
        .context("cannot connect to the database postgres, from which another one is made")?;
    backup::drop_database(&mut admin, &aside).await?;
    backup::make_database(&mut admin, &fresh, name).await.context(
        "cannot make a database beside the old one; the user of database.url needs CREATEDB for this",
    )?;
    let filled = match fill(database, &tools, &fresh, arguments).await {
        Ok(contents) => backup::swap(&mut admin, name, &fresh, &aside)
            .await
            .context("cannot put the new data in the place of the old")
            .map(|()| contents),
        Err(error) => Err(error),
    };
    // The loser goes: after a failure that is the new one. The connection may stand in a failed transaction, so another one.
    let _ = admin.close().await;
    let loser = if filled.is_ok() { &aside } else { &fresh };
    if let Err(error) = drop_at(database, loser).await {
        tracing::warn!("the database {loser} is of no use any more and could not be removed: {error:#}");
    }
    filled
}

/// Whether the data may be replaced: nobody is connected, who would keep the databases from changing their names after
/// all the work, and nothing is there or we are told to.
async fn may_begin(database: &Database, arguments: &Arguments) -> anyhow::Result<Tools> {
    let mut db =
        PgConnection::connect_with(&database.options()).await.context("cannot connect to the database")?;
    let others = backup::others(&mut db).await?;
    if !others.is_empty() {
        let who = others.join(", ");
        bail!("the database {} is in use by {who}. Stop that first.", database.name());
    }
    if !arguments.force && !backup::is_empty(&mut db).await? {
        let there = match backup::contents(&mut db).await {
            Ok(contents) => contents.to_string(),
            Err(_) => "tables that are not Tessera's".into(),
        };
        bail!("the database {} is not empty, it has {there}. --force replaces all of it.", database.name());
    }
    let tools = database.tools(major(&mut db).await?)?;
    db.close().await?;
    Ok(tools)
}

/// Puts the backup into the database `fresh`, brings it to this version's schema and looks at everything in it.
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
    let contents = look(&pool, &arguments.file, arguments.ignore_check).await;
    pool.close().await;
    contents
}

async fn look(pool: &PgPool, file: &Path, ignore_check: bool) -> anyhow::Result<Contents> {
    tessera_core::db::migrate(pool).await?;
    let mut db = pool.acquire().await?;
    backup::analyze(&mut db).await?;
    let contents = backup::contents(&mut db).await?;
    drop(db);
    say!("Read {contents}. Looking at all of it.");
    let report = check::check(pool).await?;
    for (invariant, sentence) in &report.violations {
        say!("{invariant}: {sentence}");
    }
    match report.violations.len() {
        0 => {}
        many if ignore_check => {
            say!("{many} violations; put in place all the same, as --ignore-check says.")
        }
        many => bail!(
            "{many} violations in {}. Try an older backup; --ignore-check puts this one in place all the same.",
            file.display()
        ),
    }
    Ok(contents)
}

/// How to connect to another database of the same server. What is done there takes as long as it takes; that something
/// was not there to be removed, or is not ours to be analyzed, is no news.
fn options(database: &Database, name: &str) -> PgConnectOptions {
    let options = database.options().database(name).options([("client_min_messages", "error")]);
    options.disable_statement_logging()
}

async fn drop_at(database: &Database, name: &str) -> anyhow::Result<()> {
    let mut admin = PgConnection::connect_with(&options(database, MAINTENANCE)).await?;
    backup::drop_database(&mut admin, name).await?;
    Ok(admin.close().await?)
}

/// Says what is there now, and what will happen when a server starts.
fn tell(contents: &Contents) {
    say!("Restored {contents}.");
    match contents.waiting {
        0 => say!("No delivery waits."),
        waiting => {
            say!(
                "{waiting} deliveries wait, and a server sends them as soon as it starts. Those that were sent after the"
            );
            say!(
                "backup was made are sent again, with the same Message-ID or webhook-id as before. To look at them first, and"
            );
            say!(
                "cancel what must not leave: start with delivery.enabled = false (TESSERA_DELIVERY__ENABLED=false)."
            );
        }
    }
}
