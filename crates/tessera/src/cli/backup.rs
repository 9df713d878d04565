//! `tessera backup`: all data in one file, by PostgreSQL's own `pg_dump`, from one snapshot.

use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::fcntl::OFlag;
use nix::unistd::Uid;
use sqlx::{Connection as _, PgConnection};
use tessera_core::db::backup::Contents;
use tessera_core::db::{backup, doctor};

use crate::config::Config;
use crate::database::Database;
use crate::postgres::tools::{Tools, complete};

/// What a backup is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The file to write, readable by its owner alone
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

/// Writes the backup. Until it is whole and on the disk, the file has another name.
///
/// # Errors
/// The file is there already or cannot be written, or the database cannot be had or dumped.
pub async fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { file, force } = arguments;
    if file.exists() && !force {
        bail!("{} is there already. Choose another name, or give --force to replace it.", file.display());
    }
    if !Database::is_made(config) {
        bail!(
            "there is no database in {} (data_dir): there is nothing to back up",
            config.data_dir.display()
        );
    }
    let database = Database::share(config).await?;
    let written = write_aside(&database, file).await;
    database.close().await?;
    let contents = written?;
    let bytes = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    say!("Wrote {}: {}, {contents}.", file.display(), size(bytes));
    say!(
        "It holds secrets and everything that people wrote; keep it where only you can read it. The settings and the"
    );
    say!("admin token are not in it: keep those apart.");
    Ok(())
}

async fn write_aside(database: &Database, file: &Path) -> anyhow::Result<Contents> {
    let mut aside = Aside::make(file)?;
    let mut db =
        PgConnection::connect_with(&database.options()).await.context("cannot connect to the database")?;
    if doctor::schema(&mut db).await?.is_none() {
        bail!("the database {} has no tables of Tessera: there is nothing to back up", database.name());
    }
    let tools = database.tools(major(&mut db).await?)?;
    let snapshot = backup::begin_snapshot(&mut db).await?;
    let contents = backup::contents(&mut db).await?;
    say!("Writing {contents}, as they are at this moment.");
    dump(&tools, database.name(), &snapshot, &aside).await?;
    // The snapshot has served; that nobody says so properly costs nothing.
    let _ = db.close().await;
    read_back(&tools, &aside).await?;
    aside.finish(file)?;
    Ok(contents)
}

async fn dump(tools: &Tools, database: &str, snapshot: &str, aside: &Aside) -> anyhow::Result<()> {
    let mut command = tools.connecting("pg_dump", database)?;
    command.args(["--format=custom", "--no-owner", "--no-privileges"]).arg(format!("--snapshot={snapshot}"));
    command.stdout(aside.file.try_clone().context("cannot write the backup")?);
    let told = || format!("{} so far", size(aside.file.metadata().map_or(0, |metadata| metadata.len())));
    complete(command, told).await.context("the backup could not be written; nothing was changed")
}

/// Has `pg_restore` read all of the file once: a backup that cannot be read is found now, and not when it is needed.
async fn read_back(tools: &Tools, aside: &Aside) -> anyhow::Result<()> {
    let mut command = tools.command("pg_restore");
    command.arg("--file=/dev/null").arg(&aside.path);
    complete(command, || "reading it back".into()).await.context("the backup cannot be read back")
}

/// The major version of the server.
///
/// # Errors
/// Those of the database.
pub async fn major(db: &mut PgConnection) -> anyhow::Result<u32> {
    let server = doctor::server(db).await?;
    Ok(u32::try_from(server.version / 10_000)?)
}

/// The file under the name that it has while it is not whole; gone with this value unless it is finished. It is locked,
/// by `pg_dump` too should that outlive us, so what a killed backup left is known from what another one writes.
struct Aside {
    file: File,
    path: PathBuf,
    is_finished: bool,
}

impl Aside {
    fn make(file: &Path) -> anyhow::Result<Self> {
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
            bail!("{} is there, and not left by a backup of this user. Remove it.", path.display());
        }
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => bail!("another backup writes {}", path.display()),
            locked => locked.map_err(std::io::Error::from).with_context(refused)?,
        }
        // Whoever held the lock before may have given the file its name meanwhile, or removed it.
        if fs::metadata(&path).ok().map(|there| (there.dev(), there.ino()))
            != Some((metadata.dev(), metadata.ino()))
        {
            bail!("another backup has just written {}. Try again.", path.display());
        }
        file.set_permissions(Permissions::from_mode(0o600))
            .and_then(|()| file.set_len(0))
            .with_context(refused)?;
        Ok(Self { file, path, is_finished: false })
    }

    /// Gives the file its name once all of it is on the disk.
    fn finish(&mut self, file: &Path) -> anyhow::Result<()> {
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

impl Drop for Aside {
    fn drop(&mut self) {
        // After the file got its name, what has the other one is somebody else's.
        if !self.is_finished {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A number of bytes for a person.
pub fn size(bytes: u64) -> String {
    let mut unit = "bytes";
    let mut shown = bytes;
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if shown < 10 * 1024 {
            break;
        }
        (unit, shown) = (larger, shown / 1024);
    }
    format!("{shown} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_backup_left_is_taken_over_and_what_another_writes_is_not() {
        let dir = tempfile::TempDir::new().unwrap();
        let (file, partial) = (dir.path().join("desk.backup"), dir.path().join("desk.backup.partial"));
        fs::write(&partial, "half of a bac").unwrap();
        let mut aside = Aside::make(&file).unwrap();
        let metadata = fs::metadata(&partial).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o777), (0, 0o600));
        let refused = Aside::make(&file).err().unwrap().to_string();
        assert!(refused.starts_with("another backup writes"), "{refused}");

        aside.finish(&file).unwrap();
        let next = Aside::make(&file).unwrap();
        drop(aside);
        assert!(partial.exists(), "it is the next one's");
        drop(next);
        assert!(!partial.exists() && file.exists());

        std::os::unix::fs::symlink(&file, &partial).unwrap();
        assert!(Aside::make(&file).is_err());
    }

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 10_239, 10_240, 5 * 1024 * 1024, 20 * 1024 * 1024].map(size);
        assert_eq!(sizes, ["0 bytes", "10239 bytes", "10 KiB", "5120 KiB", "20 MiB"]);
    }
}
