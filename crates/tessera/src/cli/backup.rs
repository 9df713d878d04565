//! `tessera backup`: dumps all data into one file with PostgreSQL's own `pg_dump`, from one snapshot.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sqlx::{Connection as _, PgConnection};
use tessera_core::db::ops::backup::Contents;
use tessera_core::db::ops::{backup, doctor};

use super::partial_file::PartialFile;
use crate::config::Config;
use crate::database::Database;
use crate::postgres::tools::{Tools, complete};

/// The arguments of `tessera backup`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// File to write; only its owner can read it
    file: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

/// Writes the backup. The file gets its final name once it is complete and on the disk.
///
/// # Errors
/// The file already exists or cannot be written, or the database cannot be opened or dumped.
pub async fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { file, force } = arguments;
    if file.exists() && !force {
        bail!("{} already exists. Choose another name, or replace it with --force.", file.display());
    }
    if !Database::exists(config) {
        bail!("there is no database in {} (data_dir): nothing to back up", config.data_dir.display());
    }
    let database = Database::share(config).await?;
    let written = write_partial(&database, file).await;
    database.close().await?;
    let contents = written?;
    let bytes = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    say!("Wrote {}: {}, {contents}.", file.display(), size(bytes));
    say!(
        "The file contains secrets and everything that people wrote: keep it where only you can read it. It does"
    );
    say!("not contain the settings and the administrator token: keep those separately.");
    Ok(())
}

async fn write_partial(database: &Database, file: &Path) -> anyhow::Result<Contents> {
    let mut partial = PartialFile::create(file)?;
    let mut db =
        PgConnection::connect_with(&database.options()).await.context("cannot connect to the database")?;
    if doctor::schema(&mut db).await?.is_none() {
        bail!("the database {} has no Tessera tables: nothing to back up", database.name());
    }
    let tools = database.tools(major(&mut db).await?)?;
    let snapshot = backup::begin_snapshot(&mut db).await?;
    let contents = backup::contents(&mut db).await?;
    say!("Writing {contents}, as of this moment.");
    dump(&tools, database.name(), &snapshot, &partial).await?;
    // The snapshot is no longer needed, so a failure to close the connection does not matter.
    let _ = db.close().await;
    read_back(&tools, &partial).await?;
    partial.finish(file)?;
    Ok(contents)
}

async fn dump(tools: &Tools, database: &str, snapshot: &str, partial: &PartialFile) -> anyhow::Result<()> {
    let mut command = tools.connecting("pg_dump", database)?;
    command.args(["--format=custom", "--no-owner", "--no-privileges"]).arg(format!("--snapshot={snapshot}"));
    command.stdout(partial.file().try_clone().context("cannot write the backup")?);
    let progress =
        || format!("{} so far", size(partial.file().metadata().map_or(0, |metadata| metadata.len())));
    complete(command, progress).await.context("cannot write the backup; nothing was changed")
}

/// Reads the whole file once with `pg_restore`, to find an unreadable backup now and not when it is needed.
async fn read_back(tools: &Tools, partial: &PartialFile) -> anyhow::Result<()> {
    let mut command = tools.command("pg_restore");
    command.arg("--file=/dev/null").arg(partial.path());
    complete(command, || "reading it back".into()).await.context("the backup cannot be read back")
}

/// Returns the major version of the server.
///
/// # Errors
/// Those of the database.
pub async fn major(db: &mut PgConnection) -> anyhow::Result<u32> {
    let server = doctor::server(db).await?;
    Ok(u32::try_from(server.version / 10_000)?)
}

/// Formats a number of bytes for people, in the largest unit that leaves at least 10 of it.
pub fn size(bytes: u64) -> String {
    let mut unit = "bytes";
    let mut shown = bytes;
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if shown < 10 * 1024 {
            break;
        }
        (unit, shown) = (larger, shown / 1024);
    }
    format!("{shown} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 10_239, 10_240, 5 * 1024 * 1024, 20 * 1024 * 1024].map(size);
        assert_eq!(sizes, ["0 bytes", "10239 bytes", "10 KiB", "5120 KiB", "20 MiB"]);
    }
}
