//! `tessera config`: shows the settings with their sources, or validates them.

use anyhow::bail;
use clap::Subcommand;

use crate::config::{Config, Surroundings};

/// The subcommands of `tessera config`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print every setting with its value and its source, as a valid settings file; secrets are shown as (set)
    Show,
    /// Print every problem in the settings, one per line; exit with code 1 if there are any
    Check,
}

/// Shows or checks the settings.
///
/// # Errors
/// The settings are invalid.
pub fn run(command: &Command, surroundings: &Surroundings) -> anyhow::Result<()> {
    match command {
        Command::Show => say!("{}", Config::show(surroundings)?.trim_end()),
        Command::Check => match Config::load(surroundings) {
            Ok(_) => say!("The settings are valid: {}.", Config::sources(surroundings)),
            Err(error) => {
                for fault in &error.faults {
                    say!("{fault}");
                }
                bail!("{} problems in the settings", error.faults.len());
            }
        },
    }
    Ok(())
}
