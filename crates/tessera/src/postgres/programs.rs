//! Finds PostgreSQL's programs on this machine, and the user that they run as.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Uid, User};

use super::PostgresError;

/// The oldest major version that Tessera's SQL supports.
const OLDEST_MAJOR: u32 = 15;

/// Directories with a folder per installed version: the root, the folder's prefix, and its subfolder.
const VERSIONED: [(&str, &str, &str); 4] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/usr", "pgsql-", "bin"),
];

/// One installation: `initdb` and `postgres`, of one major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) bin: PathBuf,
    pub(super) major: u32,
}

impl Programs {
    /// Returns the configured installation, or else the newest one. An existing cluster determines the major version, so that
    /// installing a second PostgreSQL never makes the data unreadable.
    pub(super) fn find(configured: Option<&Path>, data: &Path) -> Result<Self, PostgresError> {
        let found = match configured {
            Some(dir) => vec![Self::configured(dir)?],
            None => Self::usable(candidates()),
        };
        Self::choose(found, data)
    }

    /// Returns the newest installation, or the one that matches the cluster in `data` if that exists.
    pub(super) fn choose(mut found: Vec<Self>, data: &Path) -> Result<Self, PostgresError> {
        // The sort is stable: within a major version, the first that was found wins.
        found.sort_by_key(|programs| std::cmp::Reverse(programs.major));
        let Ok(version) = fs::read_to_string(data.join("PG_VERSION")) else {
            return found.into_iter().next().ok_or(PostgresError::NoPrograms { install: install_command() });
        };
        let cluster = version.trim().to_owned();
        if let Some(programs) = found.iter().find(|programs| programs.major.to_string() == cluster) {
            return Ok(programs.clone());
        }
        if found.is_empty() {
            return Err(PostgresError::NoPrograms { install: install_command() });
        }
        let majors: Vec<_> = found.iter().map(|programs| programs.major.to_string()).collect();
        Err(PostgresError::OtherMajor { data: data.to_owned(), cluster, found: majors.join(", ") })
    }

    fn configured(dir: &Path) -> Result<Self, PostgresError> {
        let problem = match Self::at(dir) {
            Some(programs) if programs.major >= OLDEST_MAJOR => return Ok(programs),
            Some(programs) => {
                format!("contains PostgreSQL {}, but Tessera needs {OLDEST_MAJOR} or newer", programs.major)
            }
            None => "does not contain the programs initdb and postgres".to_owned(),
        };
        Err(PostgresError::BinDir { dir: dir.to_owned(), problem })
    }

    fn usable(dirs: impl IntoIterator<Item = PathBuf>) -> Vec<Self> {
        dirs.into_iter()
            .filter_map(|dir| Self::at(&dir))
            .filter(|programs| programs.major >= OLDEST_MAJOR)
            .collect()
    }

    /// Returns the installation in `dir`, if it has both programs: client packages install a `pg_config` whose directory has
    /// no server.
    fn at(dir: &Path) -> Option<Self> {
        if !dir.join("initdb").is_file() {
            return None;
        }
        Some(Self { bin: dir.to_owned(), major: major_of(&dir.join("postgres"))? })
    }
}

/// Runs a program with `--version` and returns its major version.
pub(super) fn major_of(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (_, version) = text.split_once("(PostgreSQL) ")?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Returns the directories that may contain the programs, the likeliest first.
pub(super) fn candidates() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        dirs.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    for (root, prefix, bin) in VERSIONED {
        let Ok(entries) = fs::read_dir(root) else { continue };
        let versions = entries.flatten().filter(|entry| starts_with(&entry.file_name(), prefix));
        dirs.extend(versions.map(|entry| entry.path().join(bin)));
    }
    if let Some(path) = std::env::var_os("PATH") {
        dirs.extend(std::env::split_paths(&path));
    }
    dirs
}

fn starts_with(name: &OsStr, prefix: &str) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(prefix))
}

pub(super) fn install_command() -> &'static str {
    if cfg!(target_os = "macos") {
        "brew install postgresql@17"
    } else if Path::new("/usr/bin/dnf").exists() {
        "dnf install postgresql-server postgresql-contrib"
    } else {
        "apt-get install -y postgresql"
    }
}

/// The user that the programs run as if Tessera runs as root, as PostgreSQL refuses to run as root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunAs {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) name: String,
}

impl RunAs {
    /// Returns `None` for an ordinary user. For root: the owner of the cluster in `data`, else `postgres`, else
    /// `nobody`; so a cluster keeps its owner when the package `postgresql` later adds its user.
    pub(super) fn find(data: &Path) -> Result<Option<Self>, PostgresError> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let owner = fs::metadata(data).ok().map(|metadata| Uid::from_raw(metadata.uid()));
        let owner = owner.filter(|uid| !uid.is_root()).and_then(|uid| User::from_uid(uid).ok().flatten());
        let named = |name| User::from_name(name).ok().flatten();
        let user = owner.or_else(|| named("postgres")).or_else(|| named("nobody"));
        let user = user.ok_or(PostgresError::NoUser)?;
        Ok(Some(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), name: user.name }))
    }
}

/// Rejects a directory of another user if Tessera runs as root: that user could not read the log and the lock file.
pub(super) fn check_owner(dir: &Path) -> Result<(), PostgresError> {
    let Ok(metadata) = fs::metadata(dir) else { return Ok(()) };
    let owner = Uid::from_raw(metadata.uid());
    if !Uid::effective().is_root() || owner.is_root() {
        return Ok(());
    }
    let user = User::from_uid(owner).ok().flatten().map_or_else(|| owner.to_string(), |user| user.name);
    Err(PostgresError::OtherOwner { dir: dir.to_owned(), user })
}
