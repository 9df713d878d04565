//! The embedded default: a private PostgreSQL cluster of our own, made from the machine's programs, kept running while we run.
//!
//! The cluster listens on a Unix socket only, in a directory that only its user may enter, and writes with fsync on.
//! `programs` finds PostgreSQL, `cluster` knows the files on the disk, `supervisor` keeps the server alive; `tools` are the
//! programs that dump and restore, of this cluster or another database.

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

/// The one database of the cluster, and the name of its owner.
const DATABASE: &str = "tessera";
/// Part of the socket's file name; nothing listens on a TCP port.
const PORT: u16 = 5432;

/// What can go wrong with the embedded cluster; every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No PostgreSQL 15 or newer on this machine.
    #[error(
        "Tessera found no PostgreSQL programs (initdb and postgres, 15 or newer). Install them with \
         `{install}`, or set database.embedded.bin_dir to the directory that holds them, or set database.url \
         to a database that runs elsewhere."
    )]
    NoPrograms {
        /// The command that installs them here.
        install: &'static str,
    },
    /// `database.embedded.bin_dir` is set, and is of no use.
    #[error("database.embedded.bin_dir is {dir}, which {problem}.")]
    BinDir {
        /// The directory that was configured.
        dir: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The cluster was made by a major version that is not installed.
    #[error(
        "The cluster in {data} was made by PostgreSQL {cluster}, and only {found} is installed. Install \
         PostgreSQL {cluster} beside it, or carry the data over with pg_dump and a new data_dir; Tessera does \
         not upgrade a cluster by itself."
    )]
    OtherMajor {
        /// The cluster's data directory.
        data: PathBuf,
        /// The version that made it.
        cluster: String,
        /// The versions that are installed.
        found: String,
    },
    /// Started as root, and there is nobody to run the server as.
    #[error("PostgreSQL refuses to run as root, and this machine has neither a user postgres nor nobody.")]
    NoUser,
    /// The server's user cannot reach the cluster.
    #[error(
        "{parent} (mode {mode:o}) does not let the user {user} through, as whom PostgreSQL runs because \
         Tessera was started as root. Choose another data_dir, or run `chmod o+x {parent}`."
    )]
    Blocked {
        /// The first directory on the way that is closed.
        parent: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The user who cannot pass.
        user: String,
    },
    /// Another Tessera holds the cluster.
    #[error("Another Tessera runs on {dir}. Stop it first, or choose another data_dir.")]
    Locked {
        /// The directory of the cluster.
        dir: PathBuf,
    },
    /// Started as root on a cluster that is somebody else's.
    #[error(
        "{dir} belongs to the user {user}, and what root writes there that user cannot read. Run this as that user: \
         runuser -u {user} -- tessera ..."
    )]
    OtherOwner {
        /// The directory of the cluster.
        dir: PathBuf,
        /// Who owns it.
        user: String,
    },
    /// No `pg_dump` and `pg_restore` that suit the server.
    #[error(
        "Tessera found no pg_dump and pg_restore of PostgreSQL {major}, the server's own major version: no other can be \
         relied on to read and write its data. Install that version's (`{install}` brings the newest), or set database.embedded.bin_dir to the directory that holds them."
    )]
    NoTools {
        /// The server's major version.
        major: u32,
        /// The command that installs them here.
        install: &'static str,
    },
    /// Somebody else's directory stands where the socket belongs.
    #[error(
        "{dir} is not a directory of Tessera's own. Remove it, or choose a data_dir with a shorter path."
    )]
    SocketDir {
        /// The directory, under `/tmp`.
        dir: PathBuf,
    },
    /// A program that makes the cluster failed.
    #[error("{program} could not make the cluster in {data}: {output}")]
    Setup {
        /// `initdb` or `postgres`.
        program: &'static str,
        /// The directory it worked in.
        data: PathBuf,
        /// What it printed.
        output: String,
    },
    /// The server ended before it was ready.
    #[error("PostgreSQL ended while it was starting ({how}). The end of {log}:\n{tail}")]
    Died {
        /// How it ended.
        how: String,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The server is alive and never became ready.
    #[error("PostgreSQL was not ready after {seconds} s. The end of {log}:\n{tail}")]
    NotReady {
        /// How long we waited.
        seconds: u64,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The operating system refused something.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What we wanted.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Turns an I/O error into one that names what was tried, and on which file.
fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PostgresError {
    let path = path.to_owned();
    move |source| PostgresError::Io { doing, path, source }
}

/// A running embedded cluster. Where this process started it, dropping the value stops it.
///
/// All functions here block: call them outside of the async threads.
#[derive(Debug)]
pub struct Embedded {
    layout: Layout,
    supervisor: Option<Running>,
}

/// The thread that keeps the server alive, and the lock that it stands for. Fields drop in this order.
#[derive(Debug)]
struct Running {
    stop: Sender<()>,
    thread: JoinHandle<()>,
    _lock: Lock,
}

/// The file whose lock keeps two Tesseras apart.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // To close it would not do: a program that another thread starts at this moment is a copy of this process until
        // it has become that program, and holds the file too. When this fails, the end of the process does it.
        let _ = self.0.unlock();
    }
}

impl Embedded {
    /// Starts the cluster under `dir`, making it where there is none; a server left behind by a Tessera that was
    /// killed is taken over. `bin_dir` says where PostgreSQL's programs are, otherwise they are looked for.
    /// Returns when the server takes connections: 0.1 s, 1 s the first time, longer when it has to recover.
    ///
    /// # Errors
    /// [`PostgresError::Locked`] when another Tessera runs on `dir`.
    pub fn start(dir: &Path, bin_dir: Option<&Path>) -> Result<Self, PostgresError> {
        check_owner(dir)?;
        let layout = Layout::make(dir)?;
        match layout.lock()? {
            Some(lock) => Self::supervised(layout, bin_dir, lock),
            None => Err(PostgresError::Locked { dir: layout.dir }),
        }
    }

    /// Uses the cluster that another Tessera keeps running under `dir`, else starts it for as long as this value
    /// lives: what every command but `serve` does.
    ///
    /// # Errors
    /// As [`Embedded::start`], but for `Locked`.
    pub fn adopt_or_start(dir: &Path, bin_dir: Option<&Path>) -> Result<Self, PostgresError> {
        check_owner(dir)?;
        let layout = Layout::make(dir)?;
        match layout.lock()? {
            Some(lock) => Self::supervised(layout, bin_dir, lock),
            None => {
                supervisor::wait_for_foreign(&layout)?;
                Ok(Self { layout, supervisor: None })
            }
        }
    }

    /// How to connect to the database `tessera` of the cluster.
    pub fn connect_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.layout.socket_dir)
            .port(PORT)
            .ssl_mode(PgSslMode::Disable)
            .username(DATABASE)
            .database(DATABASE)
            .application_name("tessera")
    }

    /// The same as a URL, for PostgreSQL's own programs.
    pub fn url(&self) -> String {
        let dir = self.layout.socket_dir.display().to_string();
        let dir = percent_encoding::utf8_percent_encode(&dir, percent_encoding::NON_ALPHANUMERIC);
        format!("postgres://{DATABASE}@localhost/{DATABASE}?host={dir}&port={PORT}")
    }

    /// Stops the server and waits for its end (20 to 70 ms when idle), if this process started it.
    pub fn stop(self) {
        drop(self);
    }

    fn supervised(layout: Layout, bin_dir: Option<&Path>, lock: Lock) -> Result<Self, PostgresError> {
        let cluster = Cluster::prepare(layout.clone(), bin_dir)?;
        let (stop, stopped) = channel();
        let (tell, told) = channel();
        let thread = std::thread::Builder::new()
            .name("postgres".into())
            .spawn(move || supervisor::run(&cluster, &tell, &stopped))
            .map_err(io("start a thread for", &layout.dir))?;
        let supervisor = Some(Running { stop, thread, _lock: lock });
        let embedded = Self { layout, supervisor };
        match told.recv() {
            Ok(Ok(())) => Ok(embedded),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(PostgresError::Died {
                how: "its supervisor ended".into(),
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
                tracing::error!("the supervisor of PostgreSQL panicked; the server may still run");
            }
        }
    }
}

impl Layout {
    /// The lock that keeps two Tesseras apart, or none when another holds it. The kernel lets go of it when its
    /// holder dies, however that happens.
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
