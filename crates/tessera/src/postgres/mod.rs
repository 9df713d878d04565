//! The default database: a private PostgreSQL cluster, created with the machine's programs, that runs while Tessera runs.
//!
//! The cluster listens only on a Unix socket, in a directory that only its user can enter, and writes with fsync on.
//! `programs` finds PostgreSQL, `cluster` manages the files on disk, `supervisor` keeps the server running, and `tools` are
//! the programs that dump and restore this cluster or another database.

mod cluster;
mod programs;
mod supervisor;
#[cfg(test)]
mod tests;
pub mod tools;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use cluster::{Cluster, Layout};
use programs::check_owner;

/// The only database of the cluster, and the name of its owner.
const DATABASE: &str = "tessera";
/// Part of the socket's file name; no TCP port is opened.
const PORT: u16 = 5432;

/// Errors of the embedded cluster; every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No PostgreSQL 15 or newer on this machine.
    #[error(
        "Tessera found no PostgreSQL programs (initdb and postgres, 15 or newer). Install them with \
         `{install}`, or set database.embedded.bin_dir to the directory that contains them, or set database.url \
         to a database on another server."
    )]
    NoPrograms {
        /// The command that installs them on this machine.
        install: &'static str,
    },
    /// `database.embedded.bin_dir` has no usable programs.
    #[error("database.embedded.bin_dir is {dir}, which {problem}.")]
    BinDir {
        /// The configured directory.
        dir: PathBuf,
        /// The reason.
        problem: String,
    },
    /// The cluster was created by a major version that is not installed.
    #[error(
        "The cluster in {data} was created by PostgreSQL {cluster}, but only {found} is installed. Install \
         PostgreSQL {cluster} as well, or move the data with pg_dump to a new data_dir; Tessera does not upgrade \
         clusters automatically."
    )]
    OtherMajor {
        /// The cluster's data directory.
        data: PathBuf,
        /// The version that created it.
        cluster: String,
        /// The installed versions.
        found: String,
    },
    /// Tessera runs as root and the machine has no user for the server.
    #[error("PostgreSQL refuses to run as root, and this machine has neither a user postgres nor nobody.")]
    NoUser,
    /// The server's user cannot reach the cluster.
    #[error(
        "{parent} (mode {mode:o}) does not let the user {user} through. PostgreSQL runs as that user because \
         Tessera was started as root. Choose another data_dir, or run `chmod o+x {parent}`."
    )]
    Blocked {
        /// The first directory on the path that is not searchable.
        parent: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The user that PostgreSQL runs as.
        user: String,
    },
    /// Another Tessera uses the cluster.
    #[error("Another Tessera is running on {dir}. Stop it first, or choose another data_dir.")]
    Locked {
        /// The directory of the cluster.
        dir: PathBuf,
    },
    /// Tessera runs as root on a cluster of another user.
    #[error(
        "{dir} belongs to the user {user}, who could not read what root writes there. Run this command as that user: \
         runuser -u {user} -- tessera ..."
    )]
    OtherOwner {
        /// The directory of the cluster.
        dir: PathBuf,
        /// The owner.
        user: String,
    },
    /// `pg_dump` and `pg_restore` of the server's version are not installed.
    #[error(
        "Tessera found no pg_dump and pg_restore of PostgreSQL {major}, the server's own major version; other versions cannot \
         reliably read and write its data. Install that version (`{install}` installs the newest), or set database.embedded.bin_dir to the directory that contains them."
    )]
    NoTools {
        /// The server's major version.
        major: u32,
        /// The command that installs the newest version on this machine.
        install: &'static str,
    },
    /// Another user's directory is at the path of the socket.
    #[error("{dir} was not created by Tessera. Remove it, or choose a data_dir with a shorter path.")]
    SocketDir {
        /// The directory, under `/tmp`.
        dir: PathBuf,
    },
    /// A program that creates the cluster failed.
    #[error("{program} could not create the cluster in {data}: {output}")]
    Setup {
        /// `initdb` or `postgres`.
        program: &'static str,
        /// The directory that it worked in.
        data: PathBuf,
        /// Its output.
        output: String,
    },
    /// The server exited before it was ready.
    #[error("PostgreSQL exited while starting ({how}). The end of {log}:\n{tail}")]
    Died {
        /// The exit code or signal.
        how: String,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The server is running but did not become ready.
    #[error("PostgreSQL was not ready after {seconds} s. The end of {log}:\n{tail}")]
    NotReady {
        /// The time waited, in seconds.
        seconds: u64,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// An operation of the operating system failed.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// The operation.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Returns a function that adds the operation and the file to an I/O error.
fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PostgresError {
    let path = path.to_owned();
    move |source| PostgresError::Io { doing, path, source }
}

/// A running embedded cluster. If this process started it, dropping the value stops it.
///
/// All functions here block: call them outside of async threads.
#[derive(Debug)]
pub struct Embedded {
    layout: Layout,
    supervisor: Option<Running>,
}

/// The supervisor thread, and the lock on the cluster. Fields are dropped in this order.
#[derive(Debug)]
struct Running {
    stop: Sender<()>,
    thread: JoinHandle<()>,
    _lock: Lock,
}

/// The locked file that keeps a second Tessera away.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it is not enough: a program that another thread is starting is a copy of this process until exec, and
        // holds the file too. If this fails, the end of the process releases the lock.
        let _ = self.0.unlock();
    }
}

impl Embedded {
    /// Starts the cluster under `dir`, and creates it if needed; takes over a server that a killed Tessera left
    /// behind. `bin_dir` is the directory of PostgreSQL's programs; without it, the usual places are searched.
    /// Returns when the server accepts connections: after 0.1 s, 1 s the first time, longer if it has to recover.
    ///
    /// # Errors
    /// [`PostgresError::Locked`] if another Tessera is running on `dir`.
    pub fn start(dir: &Path, bin_dir: Option<&Path>) -> Result<Self, PostgresError> {
        check_owner(dir)?;
        let layout = Layout::create(dir)?;
        match layout.lock()? {
            Some(lock) => Self::supervised(layout, bin_dir, lock),
            None => Err(PostgresError::Locked { dir: layout.dir }),
        }
    }

    /// Uses the cluster that another Tessera is running under `dir`, or starts it for as long as this value lives. For
    /// every command except `serve`.
    ///
    /// # Errors
    /// As for [`Embedded::start`], except `Locked`.
    pub fn adopt_or_start(dir: &Path, bin_dir: Option<&Path>) -> Result<Self, PostgresError> {
        check_owner(dir)?;
        let layout = Layout::create(dir)?;
        match layout.lock()? {
            Some(lock) => Self::supervised(layout, bin_dir, lock),
            None => {
                supervisor::wait_for_foreign(&layout)?;
                Ok(Self { layout, supervisor: None })
            }
        }
    }

    /// Returns the options to connect to the cluster's database `tessera`.
    pub fn connect_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.layout.socket_dir)
            .port(PORT)
            .ssl_mode(PgSslMode::Disable)
            .username(DATABASE)
            .database(DATABASE)
            .application_name("tessera")
    }

    /// Returns the same as a URL, for PostgreSQL's own programs.
    pub fn url(&self) -> String {
        let dir = self.layout.socket_dir.display().to_string();
        let dir = percent_encoding::utf8_percent_encode(&dir, percent_encoding::NON_ALPHANUMERIC);
        format!("postgres://{DATABASE}@localhost/{DATABASE}?host={dir}&port={PORT}")
    }

    /// Stops the server if this process started it, and waits until it has ended (20 to 70 ms when idle).
    pub fn stop(self) {
        drop(self);
    }

    fn supervised(layout: Layout, bin_dir: Option<&Path>, lock: Lock) -> Result<Self, PostgresError> {
        let cluster = Cluster::prepare(layout.clone(), bin_dir)?;
        let (stop, stopped) = channel();
        let (started, ready) = channel();
        let thread = std::thread::Builder::new()
            .name("postgres".into())
            .spawn(move || supervisor::run(&cluster, &started, &stopped))
            .map_err(io("start a thread for", &layout.dir))?;
        let supervisor = Some(Running { stop, thread, _lock: lock });
        let embedded = Self { layout, supervisor };
        match ready.recv() {
            Ok(Ok(())) => Ok(embedded),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(PostgresError::Died {
                how: "its supervisor panicked".into(),
                log: embedded.layout.log.clone(),
                tail: String::new(),
            }),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(Running { stop, thread, _lock }) = self.supervisor.take() {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the supervisor of PostgreSQL panicked; the server may still be running");
            }
        }
    }
}

impl Layout {
    /// Takes the lock that keeps a second Tessera away, or returns `None` if another one holds it. The kernel releases it when
    /// its holder dies, in whatever way.
    fn lock(&self) -> Result<Option<Lock>, PostgresError> {
        let path = self.dir.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io("open the lock file", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(io("lock", &path)(source)),
        }
    }
}
