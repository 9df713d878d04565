//! `tessera check`.

use crate::config::Config;

/// Not in this build yet.
///
/// # Errors
/// Always.
pub async fn run(_config: &Config) -> anyhow::Result<()> {
    anyhow::bail!("this build has no `tessera check` yet")
}
