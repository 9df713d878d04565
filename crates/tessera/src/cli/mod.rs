//! The commands, and what is common to them.

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
    /// The file with the settings; by default tessera.toml in the working directory, else /etc/tessera/tessera.toml
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
    /// Show or check the settings
    #[command(subcommand)]
    Config(config::Command),
    /// Prove that the data keeps Tessera's invariants; run it while no server runs
    Check,
    /// Look at everything that Tessera needs, and say what to do where something is wrong; changes and sends nothing
    Doctor,
    /// Write all data into one file, while a server runs or none does; the file holds secrets
    Backup(backup::Arguments),
    /// Put the data of a backup in the place of what there is; only while no server runs
    Restore(restore::Arguments),
    /// Bring in tickets of another system, a ticket a line, while a server runs or none does
    Import(import::Arguments),
    /// Write all tickets, or those that a query finds, as `tessera import` reads them
    Export(export::Arguments),
    /// Add, list and revoke connectors: programs that deliver and bring things in by gRPC
    #[command(subcommand)]
    Connector(connector::Command),
    /// Fill an empty database with a small desk to try things on, through the API of the running server
    Demo,
}

/// Runs one command to its end.
///
/// # Errors
/// What stopped it; the caller prints it with its causes.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let surroundings = Surroundings::of_process(cli.config);
    // Only the server has traces to send. Settings that cannot be are told by the command that needs them.
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

/// What does a small thing changes no schema: a server of another version may run on it.
async fn must_be_current(pools: &Pools) -> anyhow::Result<()> {
    let mut db = pools.read.acquire().await.context("cannot connect to the database")?;
    let ours = look::newest_schema();
    match look::schema(&mut db).await? {
        Some(schema) if schema == ours => Ok(()),
        Some(schema) if schema > ours => {
            bail!("the database has migration {schema}, and this Tessera knows {ours}: use a newer one")
        }
        _ => bail!(
            "the database is older than this Tessera, which knows migration {ours}: run `tessera migrate`"
        ),
    }
}
