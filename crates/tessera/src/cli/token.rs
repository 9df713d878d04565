//! `tessera token`: prints the administrator's token.

use anyhow::Context as _;

use crate::admin_token;
use crate::config::Config;

/// Prints the token that the server accepts. It makes none: one that no server knows would help nobody.
///
/// # Errors
/// There is no token yet.
pub fn run(config: &Config) -> anyhow::Result<()> {
    let token = admin_token::find(config)?.with_context(|| {
        format!(
            "there is no admin token in {} yet. Start `tessera serve` once, or set TESSERA_DATA_DIR as the server has it",
            config.data_dir.display()
        )
    })?;
    println!("{}", token.expose());
    Ok(())
}
