//! `pg_dump` and `pg_restore`: found like the server's programs, told how to connect, run to their end.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tessera_core::models::secret::Secret;
use url::Url;

use super::PostgresError;
use super::programs::{candidates, install_command, major_of};

/// How often a long run is told of.
const PROGRESS: Duration = Duration::from_secs(5);
/// How much of what a program printed an error shows, in bytes.
const PRINTED_MAX: usize = 2048;
/// What may be kept of our environment: where programs and certificates are, and what speaks of PostgreSQL.
const KEPT: [&str; 4] = ["PATH", "HOME", "TZ", "LD_LIBRARY_PATH"];
/// Parameters of a database's URL that are not PostgreSQL's own; its programs refuse them.
const OURS: [&str; 2] = ["statement-cache-capacity", "application_name"];

/// The programs of one major version, for one database.
#[derive(Debug, Clone)]
pub struct Tools {
    bin: PathBuf,
    url: Secret,
    is_embedded: bool,
}

impl Tools {
    /// The programs that suit a server of a major version: the same, else the next newer one, for older ones cannot read
    /// it. `configured` is `database.embedded.bin_dir`.
    ///
    /// # Errors
    /// [`PostgresError::NoTools`] when there are none that suit it.
    pub fn find(
        configured: Option<&Path>,
        server_major: u32,
        url: Secret,
        is_embedded: bool,
    ) -> Result<Self, PostgresError> {
        let dirs = configured.map_or_else(candidates, |dir| vec![dir.to_owned()]);
        let found = dirs.into_iter().filter(|dir| dir.join("pg_restore").is_file()).filter_map(|dir| {
            let major = major_of(&dir.join("pg_dump")).filter(|major| *major >= server_major)?;
            Some((major, dir))
        });
        // Of one major version, the first that was found.
        match found.min_by_key(|(major, _)| *major) {
            Some((_, bin)) => Ok(Self { bin, url, is_embedded }),
            None => Err(PostgresError::NoTools { major: server_major, install: install_command() }),
        }
    }

    /// Where the programs are.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// A program, with none of our secrets in its environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env_clear().env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).stdout(Stdio::null());
        for (name, value) in std::env::vars_os() {
            let is_postgres = !self.is_embedded && name.to_str().is_some_and(|name| name.starts_with("PG"));
            if is_postgres || KEPT.iter().any(|kept| name == *kept) {
                command.env(name, value);
            }
        }
        command
    }

    /// The same, which connects to `database`. The password goes by the environment: everybody sees the arguments.
    ///
    /// # Errors
    /// The database's URL cannot be read.
    pub fn connecting(&self, program: &str, database: &str) -> anyhow::Result<Command> {
        let mut url = Url::parse(self.url.expose()).ok().context("database.url is no URL")?;
        let mut command = self.command(program);
        let mut pairs = Vec::new();
        for (key, value) in url.query_pairs().into_owned() {
            match key.as_str() {
                "password" => drop(command.env("PGPASSWORD", value)),
                "dbname" => {}
                key if OURS.contains(&key) => {}
                _ => pairs.push((key, value)),
            }
        }
        if let Some(password) = url.password() {
            let password =
                percent_encoding::percent_decode_str(password).decode_utf8().context("database.url")?;
            command.env("PGPASSWORD", &*password);
        }
        pairs.push(("dbname".to_owned(), database.to_owned()));
        let refused = || anyhow::anyhow!("database.url names no host");
        url.set_password(None).map_err(|()| refused())?;
        url.query_pairs_mut().clear().extend_pairs(pairs);
        // PostgreSQL reads a + as itself.
        command.arg(format!("--dbname={}", url.as_str().replace('+', "%20")));
        Ok(command)
    }
}

/// Runs a program to its end, and every [`PROGRESS`] prints how far it is, as `told` says.
///
/// # Errors
/// It cannot be run, or fails; with the end of what it printed.
pub async fn complete(command: Command, told: impl Fn() -> String) -> anyhow::Result<()> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().display().to_string();
    let mut command = tokio::process::Command::from(command);
    let child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let ended = child.with_context(|| format!("cannot run {program}"))?.wait_with_output();
    let mut ended = std::pin::pin!(ended);
    let mut progress = tokio::time::interval(PROGRESS);
    progress.tick().await;
    let output = loop {
        tokio::select! {
            output = &mut ended => break output.with_context(|| format!("{program} ended in no order"))?,
            _ = progress.tick() => say!("{}", told()),
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let end = output.stderr.len().saturating_sub(PRINTED_MAX);
    let printed = String::from_utf8_lossy(output.stderr.get(end..).unwrap_or_default());
    bail!("{program} failed ({}): {}", output.status, printed.trim());
}
