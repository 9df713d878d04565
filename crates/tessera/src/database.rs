//! The database of this process: the one that the settings name, or the embedded cluster.

use std::path::PathBuf;
use std::str::FromStr as _;

use anyhow::Context as _;
use sqlx::postgres::PgConnectOptions;

use tessera_core::models::secret::Secret;

use crate::config::Config;
use crate::postgres::tools::Tools;
use crate::postgres::{Embedded, PostgresError};

/// A database to connect to. While the value lives, an embedded cluster that this process started runs.
#[derive(Debug)]
pub struct Database {
    options: PgConnectOptions,
    url: Secret,
    bin_dir: Option<PathBuf>,
    embedded: Option<Embedded>,
}

impl Database {
    /// For `serve`: starts the embedded cluster where none is configured, and refuses when another Tessera runs on it.
    ///
    /// # Errors
    /// The embedded cluster cannot be started; the message says what to do.
    pub async fn own(config: &Config) -> anyhow::Result<Self> {
        Self::open(config, Embedded::start).await
    }

    /// For the other commands: uses an embedded cluster that runs, else starts it until the command is done.
    ///
    /// # Errors
    /// As for [`Database::own`].
    pub async fn share(config: &Config) -> anyhow::Result<Self> {
        Self::open(config, Embedded::adopt_or_start).await
    }

    /// Whether there is a database to look at: an embedded one is made by the first command that needs it.
    pub fn is_made(config: &Config) -> bool {
        config.database_url.is_some() || config.data_dir.join("postgres/data/PG_VERSION").exists()
    }

    /// How to connect.
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        self.options.get_database().unwrap_or_else(|| self.options.get_username())
    }

    /// PostgreSQL's programs for this database, whose server is of a major version.
    ///
    /// # Errors
    /// There are none that suit it.
    pub fn tools(&self, server_major: u32) -> Result<Tools, PostgresError> {
        Tools::find(self.bin_dir.as_deref(), server_major, self.url.clone(), self.is_embedded())
    }

    /// Whether this is the embedded cluster.
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Stops an embedded cluster that this process started, and waits for its end.
    ///
    /// # Errors
    /// None but a panic of the thread that stops it.
    pub async fn close(self) -> anyhow::Result<()> {
        if let Some(embedded) = self.embedded {
            tokio::task::spawn_blocking(move || embedded.stop())
                .await
                .context("PostgreSQL was not stopped")?;
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
