//! `tessera config`: what the settings are and where they come from, and whether they can be.

use anyhow::bail;
use clap::Subcommand;

use crate::config::{Config, Surroundings};

/// What can be asked of the settings.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print every setting with its value and its source, as a file that could be used; secrets as (set)
    Show,
    /// Say everything that is wrong with the settings, a line each; exit code 1 if anything is
    Check,
}

/// Shows or checks the settings.
///
/// # Errors
/// The settings cannot be.
pub fn run(command: &Command, surroundings: &Surroundings) -> anyhow::Result<()> {
    match command {
        Command::Show => say!("{}", Config::show(surroundings)?.trim_end()),
        Command::Check => match Config::load(surroundings) {
            Ok(_) => say!("The settings are good: {}.", Config::sources(surroundings)),
            Err(error) => {
                for fault in &error.faults {
                    say!("{fault}");
                }
                bail!("{} faults in the settings", error.faults.len());
            }
        },
    }
    Ok(())
}
