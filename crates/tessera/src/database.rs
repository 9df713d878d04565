//! The database of this process: the configured one, or the embedded cluster.

use std::path::PathBuf;
use std::str::FromStr as _;

use anyhow::Context as _;
use sqlx::postgres::PgConnectOptions;

use tessera_core::models::secret::Secret;

use crate::config::Config;
use crate::postgres::tools::Tools;
use crate::postgres::{Embedded, PostgresError};

/// A database to connect to. An embedded cluster that this process started runs while this value lives.
#[derive(Debug)]
pub struct Database {
    options: PgConnectOptions,
    url: Secret,
    bin_dir: Option<PathBuf>,
    embedded: Option<Embedded>,
}

impl Database {
    /// Opens the database for `serve`: starts the embedded cluster if none is configured. Fails if another Tessera runs on it.
    ///
    /// # Errors
    /// The embedded cluster cannot be started; the message says what to do.
    pub async fn own(config: &Config) -> anyhow::Result<Self> {
        Self::open(config, Embedded::start).await
    }

    /// Opens the database for the other commands: uses a running embedded cluster, or starts it until the command ends.
    ///
    /// # Errors
    /// As for [`Database::own`].
    pub async fn share(config: &Config) -> anyhow::Result<Self> {
        Self::open(config, Embedded::adopt_or_start).await
    }

    /// Returns whether a database exists; the first command that needs an embedded one creates it.
    pub fn exists(config: &Config) -> bool {
        config.database_url.is_some() || config.data_dir.join("postgres/data/PG_VERSION").exists()
    }

    /// Returns the connection options.
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Returns the database's name.
    pub fn name(&self) -> &str {
        self.options.get_database().unwrap_or_else(|| self.options.get_username())
    }

    /// Returns PostgreSQL's programs that match the server's major version.
    ///
    /// # Errors
    /// No matching programs are installed.
    pub fn tools(&self, server_major: u32) -> Result<Tools, PostgresError> {
        Tools::find(self.bin_dir.as_deref(), server_major, self.url.clone(), self.is_embedded())
    }

    /// Returns whether this is the embedded cluster.
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Stops an embedded cluster that this process started, and waits until it has ended.
    ///
    /// # Errors
    /// The thread that stops it panicked.
    pub async fn close(self) -> anyhow::Result<()> {
        if let Some(embedded) = self.embedded {
            tokio::task::spawn_blocking(move || embedded.stop()).await.context("cannot stop PostgreSQL")?;
        }
        Ok(())
    }

    async fn open(config: &Config, start: Start) -> anyhow::Result<Self> {
        if let Some(url) = &config.database_url {
            let options = PgConnectOptions::from_str(url.expose()).context("database.url")?;
            let options = options.application_name("tessera");
            return Ok(Self { options, url: url.clone(), bin_dir: config.bin_dir.clone(), embedded: None });
        }
        let (dir, bin_dir) = (config.data_dir.join("postgres"), config.bin_dir.clone());
        let embedded = tokio::task::spawn_blocking(move || start(&dir, bin_dir.as_deref())).await??;
        Ok(Self {
            options: embedded.connect_options(),
            url: Secret::new(embedded.url()),
            bin_dir: config.bin_dir.clone(),
            embedded: Some(embedded),
        })
    }
}

type Start = fn(&std::path::Path, Option<&std::path::Path>) -> Result<Embedded, PostgresError>;
