//! The `tessera` program: settings, log, database and the commands.

/// Prints a line to stdout. Ignores a closed pipe (`| head`), which must not stop the command.
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
use std::time::Duration;

use clap::Parser as _;

/// Each request allocates and frees thousands of small values, and the system allocator would take a quarter of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time limit at the end of the process for work on threads that may block: reading a file of a network file system, resolving a
/// name, rendering a template. The process then ends without it.
const BLOCKING_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tessera: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run());
    runtime.shutdown_timeout(BLOCKING_MAX);
    code
}

async fn run() -> ExitCode {
    // Must come before any use of TLS. It fails only if a provider is already installed, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tessera_core::failpoint::Failpoint::arm();
    let cli = cli::Cli::parse();
    match cli::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tessera: {}", describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// Joins an error and its causes. Skips a cause that the error above it already ends with.
fn describe(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.ends_with(&cause) { text } else { format!("{}: {cause}", text.trim_end_matches('.')) }
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    #[test]
    fn each_cause_of_an_error_is_printed_once() {
        let error = anyhow!("disk full").context("refused: disk full").context("It failed.");
        assert_eq!(super::describe(&error), "It failed: refused: disk full");
    }
}
