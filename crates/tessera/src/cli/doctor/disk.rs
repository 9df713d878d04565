//! The disk: room, whether it can be written, and who may read what is secret.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::admin_token;
use crate::cli::backup::size;
use crate::config::Config;

/// Less free space than this soon is none: PostgreSQL stops writing when there is none.
const FREE_MIN: u64 = 200 * 1024 * 1024;
/// Less than this, somebody should look.
const FREE_WARNING: u64 = 2 * 1024 * 1024 * 1024;
/// As is less than this share of the whole, in percent.
const FREE_WARNING_SHARE: u64 = 5;

/// Looks at the data directory, at the embedded cluster's, and at the token's file.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    let dir = &config.data_dir;
    if !dir.exists() {
        let seen = format!("{} is not there", dir.display());
        return vec![Finding::warning(
            "disk",
            seen,
            "the first start of `tessera serve` makes it; look at data_dir if there was one",
        )];
    }
    let mut findings = vec![free(dir), writable(dir)];
    // The cluster may be a link to another disk.
    let cluster = dir.join("postgres/data");
    if config.database_url.is_none() && cluster.exists() {
        findings.push(free(&cluster));
    }
    findings.extend(token(config));
    findings
}

fn free(dir: &Path) -> Finding {
    let stat = match statvfs(dir) {
        Ok(stat) => stat,
        Err(error) => {
            return Finding::failed(
                "disk",
                format!("{}: {error}", dir.display()),
                "look at the disk and its mount",
            );
        }
    };
    let (free, all) = (stat.blocks_available() * stat.fragment_size(), stat.blocks() * stat.fragment_size());
    judge_free(dir, free, all)
}

fn judge_free(dir: &Path, free: u64, all: u64) -> Finding {
    let seen = format!("{} of {} free for {}", size(free), size(all), dir.display());
    let advice =
        "make room: old backups, logs, mails that were written to files; or put data_dir on a larger disk";
    if free < FREE_MIN {
        Finding::failed("disk", seen, advice)
    } else if free < FREE_WARNING || free < all / 100 * FREE_WARNING_SHARE {
        Finding::warning("disk", seen, advice)
    } else {
        Finding::good("disk", seen)
    }
}

/// Writes a file and takes it away: permissions, quotas and read-only mounts all show in that alone.
fn writable(dir: &Path) -> Finding {
    let probe = dir.join(format!("doctor.{}", std::process::id()));
    let written =
        File::create_new(&probe).and_then(|file| file.sync_all()).and_then(|()| fs::remove_file(&probe));
    match written {
        Ok(()) => Finding::good("disk", format!("{} can be written", dir.display())),
        Err(error) => {
            let seen = format!("{} cannot be written: {error}", dir.display());
            Finding::failed(
                "disk",
                seen,
                "run this as the user who runs the server, and look at the owner and the mount",
            )
        }
    }
}

fn token(config: &Config) -> Option<Finding> {
    let path = config.data_dir.join(admin_token::FILE);
    if config.admin_token.is_some() {
        return None;
    }
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(_) => {
            let seen = format!("there is no {} yet", path.display());
            return Some(Finding::warning(
                "admin token",
                seen,
                "the first start of `tessera serve` makes it",
            ));
        }
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let seen = format!("{} can be read by others (mode {mode:o})", path.display());
        return Some(Finding::warning(
            "admin token",
            seen,
            format!(
                "chmod 600 {}; then make a new one if others were here: remove the file and start the server again",
                path.display()
            ),
        ));
    }
    Some(match admin_token::find(config) {
        Ok(_) => Finding::good("admin token", format!("{} is its owner's alone", path.display())),
        Err(error) => {
            Finding::failed("admin token", format!("{error:#}"), "run this as the user who runs the server")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn little_room_is_a_warning_and_next_to_none_a_failure() {
        let gib = 1024 * 1024 * 1024;
        let verdict = |free, all| judge_free(Path::new("/"), free, all).verdict;
        assert_eq!(verdict(100 * gib, 200 * gib), Verdict::Good);
        assert_eq!(verdict(gib, 10 * gib), Verdict::Warning);
        assert_eq!(verdict(10 * gib, 1000 * gib), Verdict::Warning);
        assert_eq!(verdict(100 * 1024 * 1024, 10 * gib), Verdict::Failed);
    }
}
