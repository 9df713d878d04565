//! A file that has another name until it is whole and on the disk, readable by its owner alone.

use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::fcntl::OFlag;
use nix::unistd::Uid;

/// The file under the name that it has while it is not whole; gone with this value unless it is finished. It is locked,
/// by `pg_dump` too should that outlive us, so what a killed process left is known from what another one writes.
#[derive(Debug)]
pub struct PartialFile {
    file: File,
    path: PathBuf,
    is_finished: bool,
}

impl PartialFile {
    /// Makes it, or takes over what a process that was killed has left.
    ///
    /// # Errors
    /// It cannot be made, is somebody else's, or another process writes it.
    pub fn make(file: &Path) -> anyhow::Result<Self> {
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
        // A file that somebody laid there to read along, or that is another name of something else, is none of ours.
        let metadata = file.metadata().with_context(refused)?;
        if !metadata.is_file() || metadata.uid() != Uid::effective().as_raw() || metadata.nlink() > 1 {
            bail!("{} is there, and not left by Tessera run by this user. Remove it.", path.display());
        }
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => bail!("another process writes {}", path.display()),
            locked => locked.map_err(std::io::Error::from).with_context(refused)?,
        }
        // Whoever held the lock before may have given the file its name meanwhile, or removed it.
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

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its name for now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name once all of it is on the disk.
    ///
    /// # Errors
    /// It cannot be written or named.
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
        // After the file got its name, what has the other one is somebody else's.
        if !self.is_finished {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_taken_over_and_what_another_writes_is_not() {
        let dir = tempfile::TempDir::new().unwrap();
        let (file, unfinished) = (dir.path().join("desk.backup"), dir.path().join("desk.backup.partial"));
        fs::write(&unfinished, "half of a bac").unwrap();
        let mut partial = PartialFile::make(&file).unwrap();
        let metadata = fs::metadata(&unfinished).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o777), (0, 0o600));
        let refused = PartialFile::make(&file).err().unwrap().to_string();
        assert!(refused.starts_with("another process writes"), "{refused}");

        partial.finish(&file).unwrap();
        let next = PartialFile::make(&file).unwrap();
        drop(partial);
        assert!(unfinished.exists(), "it is the next one's");
        drop(next);
        assert!(!unfinished.exists() && file.exists());

        std::os::unix::fs::symlink(&file, &unfinished).unwrap();
        assert!(PartialFile::make(&file).is_err());
    }
}
