//! The database of this process: the one that the settings name, or the embedded cluster.

use std::str::FromStr as _;

use anyhow::Context as _;
use sqlx::postgres::PgConnectOptions;

use crate::config::Config;
use crate::postgres::{Embedded, PostgresError};

/// A database to connect to. While the value lives, an embedded cluster that this process started runs.
#[derive(Debug)]
pub struct Database {
    options: PgConnectOptions,
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

    /// How to connect.
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
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
            return Ok(Self { options: options.application_name("tessera"), embedded: None });
        }
        let (dir, bin_dir) = (config.data_dir.join("postgres"), config.bin_dir.clone());
        let embedded = tokio::task::spawn_blocking(move || start(&dir, bin_dir.as_deref())).await??;
        Ok(Self { options: embedded.connect_options(), embedded: Some(embedded) })
    }
}

type Start = fn(&std::path::Path, Option<&std::path::Path>) -> Result<Embedded, PostgresError>;
