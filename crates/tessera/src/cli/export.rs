//! `tessera export`: every ticket, a ticket a line of JSON, as `tessera import` reads them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use tessera_core::db::{Pools, export};
use tessera_core::plan::import::{LINE_MAX, Line};

use super::aside::Aside;
use super::migrate;
use crate::config::Config;
use crate::database::Database;

/// Bytes written at a time.
const BUFFER: usize = 256 * 1024;

/// What an export is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
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

/// Writes all tickets as they are at one moment. Until it is whole, a file has another name.
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
    if told.too_long > 0 {
        bail!(
            "{} tickets are longer than {LINE_MAX} bytes, which no import takes; their lines are in the file",
            told.too_long
        );
    }
    Ok(())
}

/// What was written.
struct Written {
    tickets: u64,
    too_long: u64,
}

async fn write(config: &Config, database: &Database, arguments: &Arguments) -> anyhow::Result<Written> {
    migrate::run_on(database).await?;
    let pools = Pools::new(database.options());
    let written = match &arguments.output {
        None => write_to(config, &pools, io::stdout(), arguments.gzip).await,
        Some(file) => {
            let mut aside = Aside::make(file)?;
            let to: File = aside.file().try_clone().context("cannot write the export")?;
            let written = write_to(config, &pools, to, arguments.gzip).await?;
            aside.finish(file)?;
            Ok(written)
        }
    };
    pools.close().await;
    written
}

async fn write_to(
    config: &Config,
    pools: &Pools,
    to: impl Write + Send + 'static,
    gzip: bool,
) -> anyhow::Result<Written> {
    let mut to = BufWriter::with_capacity(BUFFER, to);
    if !gzip {
        return write_lines(config, pools, &mut to).await;
    }
    let mut packed = GzEncoder::new(to, Compression::default());
    let written = write_lines(config, pools, &mut packed).await?;
    packed.finish().and_then(|mut to| to.flush()).context("the export could not be written")?;
    Ok(written)
}

async fn write_lines(config: &Config, pools: &Pools, to: &mut impl Write) -> anyhow::Result<Written> {
    let (mut too_long, mut bytes) = (0, Vec::new());
    let tickets = export::export(&pools.read, config.installation(), |line: &Line| {
        bytes.clear();
        serde_json::to_writer(&mut bytes, line)?;
        too_long += u64::from(bytes.len() > LINE_MAX);
        bytes.push(b'\n');
        to.write_all(&bytes).context("the export could not be written")
    })
    .await?;
    to.flush().context("the export could not be written")?;
    Ok(Written { tickets, too_long })
}
