//! A file that has a temporary name until it is complete and on the disk, readable only by its owner.

use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::fcntl::OFlag;
use nix::unistd::Uid;

/// A file under its temporary name; removed on drop unless it is finished. It is locked, also by a `pg_dump` that outlives
/// this process, to tell the remains of a killed process from a file that another process is writing.
#[derive(Debug)]
pub struct PartialFile {
    file: File,
    path: PathBuf,
    is_finished: bool,
}

impl PartialFile {
    /// Creates the file, or takes over the remains of a killed process.
    ///
    /// # Errors
    /// It cannot be created, belongs to another user, or is being written by another process.
    pub fn create(file: &Path) -> anyhow::Result<Self> {
        let path = file.with_added_extension("partial");
        let refused = || format!("cannot write {}", path.display());
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .with_context(refused)?;
        // Reject a file that another user put there to read along, and a hard link to something else.
        let metadata = file.metadata().with_context(refused)?;
        if !metadata.is_file() || metadata.uid() != Uid::effective().as_raw() || metadata.nlink() > 1 {
            bail!("{} exists and was not created by Tessera under this user. Remove it.", path.display());
        }
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => bail!("another process is writing {}", path.display()),
            locked => locked.map_err(std::io::Error::from).with_context(refused)?,
        }
        // The previous holder of the lock may have renamed or removed the file in the meantime.
        if fs::metadata(&path).ok().map(|there| (there.dev(), there.ino()))
            != Some((metadata.dev(), metadata.ino()))
        {
            bail!("another process has just written {}. Try again.", path.display());
        }
        file.set_permissions(Permissions::from_mode(0o600))
            .and_then(|()| file.set_len(0))
            .with_context(refused)?;
        Ok(Self { file, path, is_finished: false })
    }

    /// Returns the open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the temporary path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renames the file to its final name, once all of it is on the disk.
    ///
    /// # Errors
    /// It cannot be written or renamed.
    pub fn finish(&mut self, file: &Path) -> anyhow::Result<()> {
        let dir = match file.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let failed = || format!("cannot write {}", file.display());
        self.file.sync_all().and_then(|()| fs::rename(&self.path, file)).with_context(failed)?;
        self.is_finished = true;
        File::open(dir).and_then(|dir| dir.sync_all()).with_context(failed)
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // After the rename, a file with the temporary name belongs to another process.
        if !self.is_finished {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remains_of_a_killed_process_are_taken_over_and_a_file_being_written_is_not() {
        let dir = tempfile::TempDir::new().unwrap();
        let (file, unfinished) = (dir.path().join("desk.backup"), dir.path().join("desk.backup.partial"));
        fs::write(&unfinished, "half of a bac").unwrap();
        let mut partial = PartialFile::create(&file).unwrap();
        let metadata = fs::metadata(&unfinished).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o777), (0, 0o600));
        let refused = PartialFile::create(&file).err().unwrap().to_string();
        assert!(refused.starts_with("another process is writing"), "{refused}");

        partial.finish(&file).unwrap();
        let next = PartialFile::create(&file).unwrap();
        drop(partial);
        assert!(unfinished.exists(), "the next one owns it");
        drop(next);
        assert!(!unfinished.exists() && file.exists());

        std::os::unix::fs::symlink(&file, &unfinished).unwrap();
        assert!(PartialFile::create(&file).is_err());
    }
}
