//! `pg_dump` and `pg_restore`: finds them like the server's programs, connects them to the database, and runs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tessera_core::models::secret::Secret;
use url::Url;

use super::PostgresError;
use super::programs::{candidates, install_command, major_of};

/// Interval for reporting the progress of a long run.
const PROGRESS: Duration = Duration::from_secs(5);
/// Bytes of a program's output that an error shows.
const PRINTED_MAX: usize = 2048;
/// The variables of our environment that programs get, besides those of PostgreSQL.
const KEPT: [&str; 4] = ["PATH", "HOME", "TZ", "LD_LIBRARY_PATH"];
/// The parameters that a database URL may have: those that sqlx supports.
const PARAMETERS: [(&str, Parameter<'static>); 18] = [
    ("sslmode", Parameter::Word("sslmode")),
    ("ssl-mode", Parameter::Word("sslmode")),
    ("sslrootcert", Parameter::Word("sslrootcert")),
    ("ssl-root-cert", Parameter::Word("sslrootcert")),
    ("ssl-ca", Parameter::Word("sslrootcert")),
    ("sslcert", Parameter::Word("sslcert")),
    ("ssl-cert", Parameter::Word("sslcert")),
    ("sslkey", Parameter::Word("sslkey")),
    ("ssl-key", Parameter::Word("sslkey")),
    ("host", Parameter::Word("host")),
    ("hostaddr", Parameter::Word("hostaddr")),
    ("port", Parameter::Word("port")),
    ("user", Parameter::Word("user")),
    ("options", Parameter::Word("options")),
    ("password", Parameter::Password),
    // Each connection sets its own database and application name.
    ("dbname", Parameter::Ours),
    ("application_name", Parameter::Ours),
    ("statement-cache-capacity", Parameter::Ours),
];

/// The meaning of a URL parameter for PostgreSQL's programs.
#[derive(Debug, Clone, Copy)]
enum Parameter<'p> {
    /// A connection keyword of libpq.
    Word(&'static str),
    /// A setting of the session.
    Setting(&'p str),
    /// The password.
    Password,
    /// A parameter that only sqlx uses.
    Ours,
}

/// The programs of one major version, for one database.
#[derive(Debug, Clone)]
pub struct Tools {
    bin: PathBuf,
    url: Secret,
    is_embedded: bool,
}

impl Tools {
    /// Finds the programs of the server's major version. Older ones cannot read it, and it cannot read the output of newer
    /// ones (17's set `transaction_timeout`, which 16 rejects). `configured` is `database.embedded.bin_dir`.
    ///
    /// # Errors
    /// [`PostgresError::NoTools`] if no matching programs are installed.
    pub fn find(
        configured: Option<&Path>,
        server_major: u32,
        url: Secret,
        is_embedded: bool,
    ) -> Result<Self, PostgresError> {
        let dirs = configured.map_or_else(candidates, |dir| vec![dir.to_owned()]);
        let matches = |dir: &PathBuf| {
            ["pg_dump", "pg_restore"].iter().all(|program| major_of(&dir.join(program)) == Some(server_major))
        };
        match dirs.into_iter().find(matches) {
            Some(bin) => Ok(Self { bin, url, is_embedded }),
            None => Err(PostgresError::NoTools { major: server_major, install: install_command() }),
        }
    }

    /// Returns the directory of the programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Returns a command for a program, without our secrets in its environment.
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

    /// Returns a command that connects to `database`. Passes the password in the environment, as arguments are public.
    ///
    /// # Errors
    /// The database's URL is invalid.
    pub fn connecting(&self, program: &str, database: &str) -> anyhow::Result<Command> {
        let (mut keywords, password) = keywords(self.url.expose()).context("database.url is invalid")?;
        let mut command = self.command(program);
        if let Some(password) = password {
            command.env("PGPASSWORD", password);
        }
        keywords.insert("dbname", database.to_owned());
        let quoted = |text: &str| text.replace('\\', r"\\").replace('\'', r"\'");
        let keywords: Vec<_> =
            keywords.iter().map(|(keyword, value)| format!("{keyword}='{}'", quoted(value))).collect();
        command.arg(format!("--dbname={}", keywords.join(" ")));
        Ok(command)
    }
}

/// Returns the first unknown parameter of a database URL. Unknown ones would be ignored by sqlx, which logs their value, and
/// rejected by PostgreSQL's programs. One without a value may be part of a secret, so its name is not returned.
pub fn unknown_parameter(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let is_known = |name: &str| parameter(name).is_some();
    let unknown = url.query_pairs().find(|(name, _)| !is_known(name))?;
    Some(if unknown.1.is_empty() { "?".to_owned() } else { unknown.0.into_owned() })
}

/// Looks up a parameter's meaning for PostgreSQL's programs.
fn parameter(name: &str) -> Option<Parameter<'_>> {
    if let Some(setting) = name.strip_prefix("options[").and_then(|rest| rest.strip_suffix(']')) {
        return Some(Parameter::Setting(setting));
    }
    PARAMETERS.iter().find(|(known, _)| *known == name).map(|(_, parameter)| *parameter)
}

/// Converts a URL as [`sqlx`] parses it to connection keywords of libpq, and returns the password separately.
fn keywords(url: &str) -> anyhow::Result<(BTreeMap<&'static str, String>, Option<String>)> {
    let url = Url::parse(url).ok().context("not a URL")?;
    let decoded = |text: &str| -> anyhow::Result<String> {
        Ok(percent_encoding::percent_decode_str(text).decode_utf8()?.into_owned())
    };
    let mut keywords = BTreeMap::new();
    if let Some(host) = url.host_str() {
        keywords.insert("host", decoded(host.trim_matches(['[', ']']))?);
    }
    if let Some(port) = url.port() {
        keywords.insert("port", port.to_string());
    }
    if !url.username().is_empty() {
        keywords.insert("user", decoded(url.username())?);
    }
    let mut password = url.password().map(decoded).transpose()?;
    for (name, value) in url.query_pairs() {
        let mut option = |text: &str| {
            let options: &mut String = keywords.entry("options").or_default();
            options.push_str(if options.is_empty() { "" } else { " " });
            options.push_str(text);
        };
        match parameter(&name) {
            Some(Parameter::Word("options")) => option(&value),
            Some(Parameter::Word(word)) => drop(keywords.insert(word, value.into_owned())),
            Some(Parameter::Setting(setting)) => option(&format!("-c {setting}={value}")),
            Some(Parameter::Password) => password = Some(value.into_owned()),
            Some(Parameter::Ours) | None => {}
        }
    }
    Ok((keywords, password))
}

/// Runs a program until it ends, and prints `progress` every [`PROGRESS`].
///
/// # Errors
/// It cannot be run, or fails; the error contains the end of its output.
pub async fn complete(command: Command, progress: impl Fn() -> String) -> anyhow::Result<()> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().display().to_string();
    let mut command = tokio::process::Command::from(command);
    let child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let ended = child.with_context(|| format!("cannot run {program}"))?.wait_with_output();
    let mut ended = std::pin::pin!(ended);
    let mut interval = tokio::time::interval(PROGRESS);
    interval.tick().await;
    let output = loop {
        tokio::select! {
            output = &mut ended => break output.with_context(|| format!("cannot wait for {program}"))?,
            _ = interval.tick() => say!("{}", progress()),
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let end = output.stderr.len().saturating_sub(PRINTED_MAX);
    let printed = String::from_utf8_lossy(output.stderr.get(end..).unwrap_or_default());
    bail!("{program} failed ({}): {}", output.status, printed.trim());
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Returns the connection argument and the password.
    fn connecting(url: &str) -> (String, Option<String>) {
        let tools = Tools { bin: "/bin".into(), url: Secret::new(url), is_embedded: true };
        let command = tools.connecting("pg_dump", "it's").unwrap();
        let argument = command.get_args().next().unwrap().to_str().unwrap().to_owned();
        let password = command.get_envs().find(|(name, _)| *name == OsStr::new("PGPASSWORD"));
        (argument, password.and_then(|(_, value)| Some(value?.to_str()?.to_owned())))
    }

    #[test]
    fn every_valid_url_can_be_used_to_dump() {
        for (url, expected) in [
            ("postgres:///desk?host=/var/run/postgresql", r"dbname='it\'s' host='/var/run/postgresql'"),
            ("postgres://a+b@h/desk", r"dbname='it\'s' host='h' user='a+b'"),
            ("postgres://u%20v@[::1]:5433/desk", r"dbname='it\'s' host='::1' port='5433' user='u v'"),
            ("postgres://%2Frun%2Fpg/desk?user=c%27%5Cd", r"dbname='it\'s' host='/run/pg' user='c\'\\d'"),
            (
                "postgres://h/desk?ssl-mode=verify-full&ssl-root-cert=/ca.pem&statement-cache-capacity=9",
                r"dbname='it\'s' host='h' sslmode='verify-full' sslrootcert='/ca.pem'",
            ),
            (
                "postgres://h/desk?options=-c%20a%3D1&options[search_path]=x&application_name=me&dbname=other",
                r"dbname='it\'s' host='h' options='-c a=1 -c search_path=x'",
            ),
        ] {
            assert_eq!(connecting(url), (format!("--dbname={expected}"), None), "{url}");
        }
    }

    #[test]
    fn a_password_is_not_an_argument() {
        for url in ["postgres://u:hunt%2Ber+2@h/desk", "postgres://u@h/desk?password=hunt%2Ber%2B2"] {
            let expected =
                (r"--dbname=dbname='it\'s' host='h' user='u'".to_owned(), Some("hunt+er+2".to_owned()));
            assert_eq!(connecting(url), expected);
        }
    }

    #[test]
    fn programs_of_another_major_version_do_not_match() {
        let dir = tempfile::TempDir::new().unwrap();
        for program in ["pg_dump", "pg_restore"] {
            let path = dir.path().join(program);
            fs::write(&path, format!("#!/bin/sh\necho '{program} (PostgreSQL) 17.2'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let find = |major| Tools::find(Some(dir.path()), major, Secret::new("postgres://h/desk"), false);
        assert_eq!(find(17).unwrap().bin(), dir.path());
        for other in [16, 18] {
            let refused = find(other).unwrap_err().to_string();
            assert!(
                refused.contains(&format!("pg_restore of PostgreSQL {other}, the server's own")),
                "{refused}"
            );
        }
    }
}
