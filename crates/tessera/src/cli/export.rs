//! `tessera export`: writes all tickets, or those that match a query, as JSON Lines that `tessera import` reads.

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

/// The arguments of `tessera export`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Export only the tickets that match this TicketSQL query; days begin at midnight UTC
    #[arg(long, value_name = "QUERY")]
    query: Option<String>,
    /// File to write, readable only by its owner; without it, tickets go to stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "output")]
    force: bool,
    /// Compress the output with gzip
    #[arg(long)]
    gzip: bool,
}

/// Writes the tickets as they are at one moment. A file gets its final name once it is complete.
///
/// # Errors
/// The file already exists or cannot be written, or the database cannot be opened.
pub async fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(file) = arguments.output.as_ref().filter(|file| file.exists() && !arguments.force) {
        bail!("{} already exists. Choose another name, or replace it with --force.", file.display());
    }
    if !Database::exists(config) {
        bail!("there is no database in {} (data_dir): nothing to export", config.data_dir.display());
    }
    let database = Database::share(config).await?;
    let exported = write(config, &database, arguments).await;
    database.close().await?;
    let written = exported?;
    if let Some(file) = &arguments.output {
        say!("Wrote {}: {} tickets.", file.display(), written.tickets);
    }
    if let Some((number, fault)) = written.first_bad {
        bail!(
            "{} of these tickets cannot be imported again; their lines were written. The first is #{number}: {fault}",
            written.bad
        );
    }
    Ok(())
}

/// The result of an export.
#[derive(Default)]
struct Written {
    tickets: u64,
    /// Tickets that an import would reject.
    bad: u64,
    /// The number of the first of them, and the reason.
    first_bad: Option<(i64, Fault)>,
}

impl Written {
    /// Checks a line as an import would.
    fn check(&mut self, line: &Line, bytes: usize, now: OffsetDateTime) {
        let too_long = (bytes > LINE_MAX)
            .then(|| Fault::new("line", format!("is longer than the limit of {LINE_MAX} bytes")));
        if let Some(fault) = too_long.or_else(|| look(line, now).into_iter().next()) {
            self.bad += 1;
            self.first_bad.get_or_insert((line.number.unwrap_or_default(), fault));
        }
    }
}

async fn write(config: &Config, database: &Database, arguments: &Arguments) -> anyhow::Result<Written> {
    let pools = Pools::new(&database.options(), config.pool_sizes);
    let written = write_with(config, &pools, arguments).await;
    pools.close().await;
    written
}

async fn write_with(config: &Config, pools: &Pools, arguments: &Arguments) -> anyhow::Result<Written> {
    must_be_current(pools).await?;
    let Some(file) = &arguments.output else {
        return write_to(config, pools, io::stdout(), arguments).await;
    };
    let mut partial = PartialFile::create(file)?;
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
    packed.finish().and_then(|mut to| to.flush()).context("cannot write the export")?;
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
            written.check(line, bytes.len(), now);
            bytes.push(b'\n');
            to.write_all(&bytes).context("cannot write the export")
        })
        .await
        .map_err(with_place)?;
    to.flush().context("cannot write the export")?;
    Ok(written)
}

/// Adds the position and the suggested fix to an error about the query.
fn with_place(error: anyhow::Error) -> anyhow::Error {
    let placed = error.downcast_ref::<tessera_core::Error>().and_then(|one| Some((one, one.place()?)));
    let Some((one, (place, hint))) = placed else { return error };
    let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
    anyhow!("--query, line {} column {}: {}{hint}", place.line, place.column, one.detail())
}
