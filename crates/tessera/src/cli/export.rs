//! `tessera export`: every ticket, or what a query finds, a ticket a line of JSON, as `tessera import` reads them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use tessera_core::Fault;
use tessera_core::db::Pools;
use tessera_core::db::export::{self, Wanted};
use tessera_core::desk::clock;
use tessera_core::models::user::ADMIN_USER;
use tessera_core::plan::import::{LINE_MAX, Line, look};
use tessera_core::query::Zone;
use tessera_core::query::sql::Asker;
use time::OffsetDateTime;

use super::must_be_current;
use super::partial_file::PartialFile;
use crate::config::Config;
use crate::database::Database;

/// Bytes written at a time.
const BUFFER: usize = 256 * 1024;

/// What an export is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only the tickets that this query in TicketSQL finds; days begin in UTC
    #[arg(long, value_name = "QUERY")]
    query: Option<String>,
    /// The file to write, readable by its owner alone; without it, the standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "output")]
    force: bool,
    /// Pack it by gzip
    #[arg(long)]
    gzip: bool,
}

/// Writes the tickets as they are at one moment. Until it is whole, a file has another name.
///
/// # Errors
/// The file is there already or cannot be written, or the database cannot be had.
pub async fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(file) = arguments.output.as_ref().filter(|file| file.exists() && !arguments.force) {
        bail!("{} is there already. Choose another name, or give --force to replace it.", file.display());
    }
    if !Database::is_made(config) {
        bail!("there is no database in {} (data_dir): there is nothing to export", config.data_dir.display());
    }
    let database = Database::share(config).await?;
    let exported = write(config, &database, arguments).await;
    database.close().await?;
    let told = exported?;
    if let Some(file) = &arguments.output {
        say!("Wrote {}: {} tickets.", file.display(), told.tickets);
    }
    if let Some((number, fault)) = told.first_bad {
        bail!(
            "no import takes {} of these tickets; their lines are written. The first is #{number}: {fault}",
            told.bad
        );
    }
    Ok(())
}

/// What was written.
#[derive(Default)]
struct Written {
    tickets: u64,
    /// Tickets that no import takes.
    bad: u64,
    /// The number of the first of them, and why.
    first_bad: Option<(i64, Fault)>,
}

impl Written {
    /// Holds a line against what an import says of it.
    fn look(&mut self, line: &Line, bytes: usize, now: OffsetDateTime) {
        let too_long = (bytes > LINE_MAX)
            .then(|| Fault::new("line", format!("is longer than {LINE_MAX} bytes, which no line may be")));
        if let Some(fault) = too_long.or_else(|| look(line, now).into_iter().next()) {
            self.bad += 1;
            self.first_bad.get_or_insert((line.number.unwrap_or_default(), fault));
        }
    }
}

async fn write(config: &Config, database: &Database, arguments: &Arguments) -> anyhow::Result<Written> {
    let pools = Pools::new(database.options());
    let written = write_with(config, &pools, arguments).await;
    pools.close().await;
    written
}

async fn write_with(config: &Config, pools: &Pools, arguments: &Arguments) -> anyhow::Result<Written> {
    must_be_current(pools).await?;
    let Some(file) = &arguments.output else {
        return write_to(config, pools, io::stdout(), arguments).await;
    };
    let mut partial = PartialFile::make(file)?;
    let to: File = partial.file().try_clone().context("cannot write the export")?;
    let written = write_to(config, pools, to, arguments).await?;
    partial.finish(file)?;
    Ok(written)
}

async fn write_to(
    config: &Config,
    pools: &Pools,
    to: impl Write,
    arguments: &Arguments,
) -> anyhow::Result<Written> {
    let mut to = BufWriter::with_capacity(BUFFER, to);
    let query = arguments.query.as_deref();
    if !arguments.gzip {
        return write_lines(config, pools, query, &mut to).await;
    }
    let mut packed = GzEncoder::new(to, Compression::default());
    let written = write_lines(config, pools, query, &mut packed).await?;
    packed.finish().and_then(|mut to| to.flush()).context("the export could not be written")?;
    Ok(written)
}

async fn write_lines(
    config: &Config,
    pools: &Pools,
    query: Option<&str>,
    to: &mut impl Write,
) -> anyhow::Result<Written> {
    let (mut written, mut bytes) = (Written::default(), Vec::new());
    let now = clock::now();
    let asker = Asker { user: ADMIN_USER, now, zone: Zone::utc() };
    written.tickets =
        export::export(&pools.read, config.installation(), Wanted { query, asker }, |line: &Line| {
            bytes.clear();
            serde_json::to_writer(&mut bytes, line)?;
            written.look(line, bytes.len(), now);
            bytes.push(b'\n');
            to.write_all(&bytes).context("the export could not be written")
        })
        .await
        .map_err(with_place)?;
    to.flush().context("the export could not be written")?;
    Ok(written)
}

/// An error about the query, with where it is and what to write instead.
fn with_place(error: anyhow::Error) -> anyhow::Error {
    let placed = error.downcast_ref::<tessera_core::Error>().and_then(|one| Some((one, one.place()?)));
    let Some((one, (place, hint))) = placed else { return error };
    let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
    anyhow!("--query, line {} column {}: {}{hint}", place.line, place.column, one.detail())
}
