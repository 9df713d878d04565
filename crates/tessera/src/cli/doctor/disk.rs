//! Checks of the disk: free space, write access, and permissions of secret files.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::admin_token;
use crate::cli::backup::size;
use crate::config::Config;

/// Free space below which the check fails, in bytes: PostgreSQL stops writing when the disk is full.
const FREE_MIN: u64 = 200 * 1024 * 1024;
/// Free space below which there is a warning, in bytes.
const FREE_WARNING: u64 = 2 * 1024 * 1024 * 1024;
/// Share of free space below which there is a warning, in percent of the disk.
const FREE_WARNING_SHARE: u64 = 5;

/// Returns the checks of the data directory, the embedded cluster's, and the token's file. Each may block on its own file system.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let dir = config.data_dir.clone();
    // The cluster's directory may be a link to another disk.
    let cluster = config.database_url.is_none().then(|| dir.join("postgres/data"));
    let token = config.clone();
    vec![
        Box::new(move || data_dir(&dir)),
        Box::new(move || {
            cluster.filter(|cluster| cluster.exists()).map(|cluster| free(&cluster)).into_iter().collect()
        }),
        Box::new(move || token_file(&token).into_iter().collect()),
    ]
}

/// A check on a thread that may block.
type Check = Box<dyn FnOnce() -> Vec<Finding> + Send>;

fn data_dir(dir: &Path) -> Vec<Finding> {
    if dir.exists() {
        return vec![free(dir), writable(dir)];
    }
    let seen = format!("{} does not exist", dir.display());
    let advice = "the first `tessera serve` creates it; check data_dir if it existed before";
    vec![Finding::warning("disk", seen, advice)]
}

fn free(dir: &Path) -> Finding {
    let stat = match statvfs(dir) {
        Ok(stat) => stat,
        Err(error) => {
            return Finding::failed(
                "disk",
                format!("{}: {error}", dir.display()),
                "check the disk and its mount",
            );
        }
    };
    let (free, all) = (stat.blocks_available() * stat.fragment_size(), stat.blocks() * stat.fragment_size());
    judge_free(dir, free, all)
}

fn judge_free(dir: &Path, free: u64, all: u64) -> Finding {
    let seen = format!("{} of {} free for {}", size(free), size(all), dir.display());
    let advice =
        "free some space (old backups, logs, mail written to files), or move data_dir to a larger disk";
    if free < FREE_MIN {
        Finding::failed("disk", seen, advice)
    } else if free < FREE_WARNING || free < all / 100 * FREE_WARNING_SHARE {
        Finding::warning("disk", seen, advice)
    } else {
        Finding::good("disk", seen)
    }
}

/// Creates and removes a file, the only test that covers permissions, quotas and read-only mounts.
fn writable(dir: &Path) -> Finding {
    let probe = dir.join(format!("doctor.{}", std::process::id()));
    let written =
        File::create_new(&probe).and_then(|file| file.sync_all()).and_then(|()| fs::remove_file(&probe));
    match written {
        Ok(()) => Finding::good("disk", format!("{} is writable", dir.display())),
        Err(error) => {
            let seen = format!("{} is not writable: {error}", dir.display());
            Finding::failed(
                "disk",
                seen,
                "run this command as the server's user, and check the owner and the mount",
            )
        }
    }
}

fn token_file(config: &Config) -> Option<Finding> {
    let path = config.data_dir.join(admin_token::FILE);
    if config.admin_token.is_some() || !config.data_dir.exists() {
        return None;
    }
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(_) => {
            let seen = format!("{} does not exist yet", path.display());
            return Some(Finding::warning("admin token", seen, "the first `tessera serve` creates it"));
        }
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let seen = format!("{} is readable by other users (mode {mode:o})", path.display());
        return Some(Finding::warning(
            "admin token",
            seen,
            format!(
                "chmod 600 {}; if others may have read it, remove it and restart the server, which creates a new one",
                path.display()
            ),
        ));
    }
    Some(match admin_token::find(config) {
        Ok(_) => Finding::good("admin token", format!("only its owner can read {}", path.display())),
        Err(error) => {
            Finding::failed("admin token", format!("{error:#}"), "run this command as the server's user")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn little_free_space_is_a_warning_and_almost_none_a_failure() {
        let gib = 1024 * 1024 * 1024;
        let verdict = |free, all| judge_free(Path::new("/"), free, all).verdict;
        assert_eq!(verdict(100 * gib, 200 * gib), Verdict::Good);
        assert_eq!(verdict(gib, 10 * gib), Verdict::Warning);
        assert_eq!(verdict(10 * gib, 1000 * gib), Verdict::Warning);
        assert_eq!(verdict(100 * 1024 * 1024, 10 * gib), Verdict::Failed);
    }
}
