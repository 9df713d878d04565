//! `tessera serve`: wires settings, database, core, API and deliveries together, and runs them until it is told to stop.

use anyhow::bail;

use crate::admin_token;
use crate::config::Config;
use crate::database::Database;

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// The database, the token's file or the address cannot be had. For now always: there is no API to serve.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let database = Database::own(config).await?;
    admin_token::find_or_make(config)?;
    tracing::info!(
        name = config.name,
        base_url = config.base_url,
        listen = %config.listen,
        embedded_database = database.is_embedded(),
        mail_server = config.smtp_url.is_some(),
        mail_from = config.mail_from,
        webhook_allow = ?config.webhook_allow,
        "settings"
    );
    database.close().await?;
    bail!("this build has no API to serve yet")
}
