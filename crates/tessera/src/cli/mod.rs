//! The commands and the code that they share.

pub mod backup;
pub mod check;
pub mod config;
pub mod connector;
pub mod demo;
pub mod doctor;
pub mod export;
pub mod import;
pub mod migrate;
pub mod partial_file;
pub mod restore;
pub mod token;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use tessera_core::db::Pools;
use tessera_core::db::ops::doctor as look;

use crate::config::{Config, Surroundings};
use crate::{serve, telemetry};

/// A ticketing system in which every change is a plan you can see before it happens.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// Settings file; default: tessera.toml in the working directory, else /etc/tessera/tessera.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API and send deliveries until Ctrl-C
    Serve,
    /// Migrate the database to this version's schema
    Migrate,
    /// Print the administrator token
    Token,
    /// Show or validate the settings
    #[command(subcommand)]
    Config(config::Command),
    /// Verify Tessera's invariants in the data; run it while no server is running
    Check,
    /// Check everything that Tessera depends on and suggest fixes; changes and sends nothing
    Doctor,
    /// Write all data to one file, with or without a running server; the file contains secrets
    Backup(backup::Arguments),
    /// Replace all data with that of a backup; only while no server is running
    Restore(restore::Arguments),
    /// Import tickets from another system as JSON Lines, with or without a running server
    Import(import::Arguments),
    /// Export all tickets, or those that match a query, in the format that `tessera import` reads
    Export(export::Arguments),
    /// Manage connectors: programs that deliver and create tickets over gRPC
    #[command(subcommand)]
    Connector(connector::Command),
    /// Fill an empty database with a small example desk, through the API of the running server
    Demo,
}

/// Runs one command until it ends.
///
/// # Errors
/// The error that stopped it; the caller prints it with its causes.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let surroundings = Surroundings::of_process(cli.config);
    // Only the server sends traces. The other commands report invalid settings themselves.
    let collector = match cli.command {
        Command::Serve => Config::load(&surroundings)?.otlp_endpoint,
        _ => None,
    };
    let telemetry = telemetry::init(collector.as_deref())?;
    let done = run_command(&cli.command, &surroundings).await;
    telemetry.close().await;
    done
}

async fn run_command(command: &Command, surroundings: &Surroundings) -> anyhow::Result<()> {
    let load = || Config::load(surroundings);
    match command {
        Command::Serve => serve::run(&load()?).await,
        Command::Migrate => migrate::run(&load()?).await,
        Command::Token => token::run(&load()?),
        Command::Config(command) => config::run(command, surroundings),
        Command::Check => check::run(&load()?).await,
        Command::Doctor => doctor::run(surroundings).await,
        Command::Backup(arguments) => backup::run(&load()?, arguments).await,
        Command::Restore(arguments) => restore::run(&load()?, arguments).await,
        Command::Import(arguments) => import::run(&load()?, arguments).await,
        Command::Export(arguments) => export::run(&load()?, arguments).await,
        Command::Connector(command) => connector::run(&load()?, command).await,
        Command::Demo => demo::run(&load()?).await,
    }
}

/// Rejects a database with another schema version, for commands that must not migrate because a server may be running.
async fn must_be_current(pools: &Pools) -> anyhow::Result<()> {
    let mut db = pools.read.acquire().await.context("cannot connect to the database")?;
    let ours = look::newest_schema();
    match look::schema(&mut db).await? {
        Some(schema) if schema == ours => Ok(()),
        Some(schema) if schema > ours => {
            bail!(
                "the database has migration {schema}, but this Tessera only knows {ours}: use a newer version"
            )
        }
        _ => bail!(
            "the database schema is older than this Tessera, which needs migration {ours}: run `tessera migrate`"
        ),
    }
}
