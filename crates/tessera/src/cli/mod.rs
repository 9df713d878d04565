//! The commands, and what is common to them.

pub mod check;
pub mod demo;
pub mod migrate;
pub mod token;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::{Config, Surroundings};
use crate::{serve, telemetry};

/// A ticketing system in which every change is a plan you can see before it happens.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// The file with the settings; by default tessera.toml in the working directory, where there is one
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API and send deliveries, until Ctrl-C
    Serve,
    /// Bring the database to this version's schema
    Migrate,
    /// Print the administrator's token
    Token,
    /// Prove that the data keeps Tessera's invariants; run it while no server runs
    Check,
    /// Fill an empty database with a small desk to try things on, through the API of the running server
    Demo,
}

/// Runs one command to its end.
///
/// # Errors
/// What stopped it; the caller prints it with its causes.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let config = Config::load(&Surroundings::of_process(cli.config))?;
    let collector = config.otlp_endpoint.as_deref().filter(|_| matches!(cli.command, Command::Serve));
    let telemetry = telemetry::init(collector)?;
    let done = run_command(cli.command, &config).await;
    telemetry.close().await;
    done
}

async fn run_command(command: Command, config: &Config) -> anyhow::Result<()> {
    match command {
        Command::Serve => serve::run(config).await,
        Command::Migrate => migrate::run(config).await,
        Command::Token => token::run(config),
        Command::Check => check::run(config).await,
        Command::Demo => demo::run(config).await,
    }
}
