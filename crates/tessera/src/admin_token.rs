//! The administrator token: the configured one, or a file in the data directory that the first start creates.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use tessera_core::desk::clock;
use tessera_core::models::secret::Secret;

use crate::config::Config;

/// The file's name in the data directory.
pub const FILE: &str = "admin-token";
/// The prefix of each token, which lets scanners for leaked secrets recognize it.
const PREFIX: &str = "tessera_";

/// Returns the token that the server accepts, if it exists yet.
///
/// # Errors
/// The file exists and cannot be read or is empty.
pub fn find(config: &Config) -> anyhow::Result<Option<Secret>> {
    if let Some(token) = &config.admin_token {
        return Ok(Some(token.clone()));
    }
    let path = config.data_dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    if text.trim().is_empty() {
        bail!("{} is empty. Remove it: the next start creates a new one.", path.display());
    }
    Ok(Some(Secret::new(text.trim())))
}

/// Returns the token that the server accepts; creates the file if needed, readable only by its owner.
///
/// # Errors
/// The file cannot be read or created.
pub fn find_or_create(config: &Config) -> anyhow::Result<Secret> {
    if let Some(token) = find(config)? {
        return Ok(token);
    }
    let dir = &config.data_dir;
    create(dir).with_context(|| format!("cannot create {}", dir.join(FILE).display()))?;
    find(config)?.with_context(|| format!("{} disappeared", dir.join(FILE).display()))
}

/// Writes a temporary file and links it to its final name: readers see all of it, and if two processes create it at the
/// same time, both use the same one.
fn create(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let partial = dir.join(format!("{FILE}.{}", std::process::id()));
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    writeln!(file, "{}", clock::token(PREFIX)?.expose())?;
    file.sync_all()?;
    let linked = fs::hard_link(&partial, dir.join(FILE));
    fs::remove_file(&partial)?;
    linked.or_else(|error| if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::Surroundings;

    fn config(dir: &Path, token: Option<&str>) -> Config {
        let mut vars = vec![("TESSERA_DATA_DIR".to_owned(), dir.display().to_string())];
        vars.extend(token.map(|token| ("TESSERA_AUTH__ADMIN_TOKEN".to_owned(), token.to_owned())));
        Config::load(&Surroundings { vars: vars.into_iter().collect(), ..Surroundings::default() }).unwrap()
    }

    #[test]
    fn the_first_start_creates_a_token_and_the_next_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir.path().join("new"), None);
        assert_eq!(find(&config).unwrap(), None);
        let token = find_or_create(&config).unwrap();
        assert_eq!(token.expose().len(), PREFIX.len() + 2 * clock::TOKEN_BYTES);
        assert!(token.expose().starts_with(PREFIX));
        assert_eq!(find_or_create(&config).unwrap(), token);
        assert_eq!(find(&config).unwrap(), Some(token));

        let files: Vec<_> = fs::read_dir(&config.data_dir).unwrap().map(Result::unwrap).collect();
        let [file] = files.as_slice() else { panic!("{files:?}") };
        assert_eq!(file.file_name(), FILE);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn two_processes_that_create_it_use_the_same_one() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), None);
        create(dir.path()).unwrap();
        let token = find(&config).unwrap();
        create(dir.path()).unwrap();
        assert_eq!(find(&config).unwrap(), token);
    }

    #[test]
    fn a_configured_token_creates_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), Some("1234567890123456"));
        assert_eq!(find_or_create(&config).unwrap().expose(), "1234567890123456");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_file_is_no_token() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "\n").unwrap();
        assert!(find(&config(dir.path(), None)).unwrap_err().to_string().contains("is empty"));
    }
}
