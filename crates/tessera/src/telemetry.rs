//! The log: text for a person at a terminal, one JSON object a line for everything else, always on stderr.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// Sets up the log of this process. `RUST_LOG` says what is logged, by default `info` and above.
///
/// # Errors
/// `RUST_LOG` cannot be read, or there is a log already.
pub fn init() -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).context("RUST_LOG cannot be read")?,
        _ => EnvFilter::new("info"),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = if std::io::stderr().is_terminal() { log.try_init() } else { log.json().try_init() };
    set.map_err(|error| anyhow::anyhow!("the log cannot be set up: {error}"))
}
