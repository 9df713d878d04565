//! `tessera token`: prints the administrator token.

use anyhow::Context as _;

use crate::admin_token;
use crate::config::Config;

/// Prints the token that the server accepts. Does not create one, as a running server would not know it.
///
/// # Errors
/// There is no token yet.
pub fn run(config: &Config) -> anyhow::Result<()> {
    let token = admin_token::find(config)?.with_context(|| {
        format!(
            "there is no administrator token in {} yet. Run `tessera serve` once, or set TESSERA_DATA_DIR to the server's directory",
            config.data_dir.display()
        )
    })?;
    println!("{}", token.expose());
    Ok(())
}
