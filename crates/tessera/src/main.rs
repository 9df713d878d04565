//! The `tessera` program: settings, log, database and the commands.

mod admin_token;
mod cli;
mod config;
mod database;
mod postgres;
mod serve;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

/// A request makes and drops thousands of small values; the system's allocator would take a quarter of its time for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // Before anything speaks TLS. It fails only where a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tessera_core::failpoint::Failpoint::arm();
    let cli = cli::Cli::parse();
    match cli::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tessera: {error:#}");
            ExitCode::FAILURE
        }
    }
}
