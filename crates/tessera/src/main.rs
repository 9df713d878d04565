//! The `tessera` program: settings, log, database and the commands.

/// Prints a line. That nobody reads it any more (`| head`) is no fault of what is being done.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

mod admin_token;
mod cli;
mod config;
mod database;
mod notify;
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
            eprintln!("tessera: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, each once: some say themselves what their cause says.
fn told(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |told, cause| {
        if told.ends_with(&cause) { told } else { format!("{}: {cause}", told.trim_end_matches('.')) }
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    #[test]
    fn an_error_is_told_with_each_cause_once() {
        let error = anyhow!("disk full").context("refused: disk full").context("It failed.");
        assert_eq!(super::told(&error), "It failed: refused: disk full");
    }
}
