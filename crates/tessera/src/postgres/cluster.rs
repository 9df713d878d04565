//! The cluster's files: its directories, its creation, `postmaster.pid`, and cleaning up after a crash.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Pid, Uid};
use tessera_core::failpoint::Failpoint;

use super::programs::{Programs, RunAs};
use super::{DATABASE, PORT, PostgresError, io};

/// The limit for a socket's path; operating systems allow 104 to 108 bytes including the terminator.
const SOCKET_PATH_BYTES: usize = 100;
/// Size above which the log is rotated when the server starts; one older log is kept.
const LOG_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of the log's end that an error shows.
const TAIL_BYTES: u64 = 2048;

/// The settings that override `postgresql.conf`.
const SETTINGS: [&str; 10] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "max_connections=100",
    "shared_buffers=128MB",
    "fsync=on",
    "synchronous_commit=on",
    // Tessera's queries gain nothing from it, and without it no memory needs to be both writable and executable.
    "jit=off",
    // The supervisor opens the log file and passes it as stderr.
    "log_destination=stderr",
    "logging_collector=off",
    "log_line_prefix=%m [%p] %a ",
];

/// The paths of the cluster.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The parent of the others; owned by Tessera, so that the server's user cannot replace a file with a link.
    pub(super) dir: PathBuf,
    pub(super) data: PathBuf,
    pub(super) socket_dir: PathBuf,
    pub(super) log: PathBuf,
}

impl Layout {
    /// Returns the layout under `dir`, and creates that directory if needed.
    pub(super) fn create(dir: &Path) -> Result<Self, PostgresError> {
        fs::create_dir_all(dir).map_err(io("create the directory", dir))?;
        let dir = dir.canonicalize().map_err(io("find", dir))?;
        let mut socket_dir = dir.join("run");
        if socket_in(&socket_dir).as_os_str().len() > SOCKET_PATH_BYTES {
            // Device and inode identify the directory on this machine for every Tessera that looks for the socket.
            let metadata = fs::metadata(&dir).map_err(io("read", &dir))?;
            socket_dir = PathBuf::from(format!("/tmp/tessera-{:x}-{:x}", metadata.dev(), metadata.ino()));
        }
        Ok(Self { data: dir.join("data"), log: dir.join("postgres.log"), socket_dir, dir })
    }

    /// Returns the postmaster that runs on this cluster, if any.
    pub(super) fn postmaster(&self) -> Option<Postmaster> {
        self.pid_file().filter(|postmaster| self.is_ours(postmaster.pid))
    }

    /// Reads `postmaster.pid`, which may be stale: the process is in line 1, its state in line 8.
    pub(super) fn pid_file(&self) -> Option<Postmaster> {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok().filter(|pid| *pid > 1)?;
        let state = match lines.nth(6).map(str::trim) {
            Some("ready") => State::Ready,
            Some("stopping") => State::Stopping,
            _ => State::Starting,
        };
        Some(Postmaster { pid: Pid::from_raw(pid), state })
    }

    /// Returns whether the process is a server of this cluster, and not another process that reuses the pid.
    pub(super) fn is_ours(&self, pid: Pid) -> bool {
        match fs::read_link(format!("/proc/{pid}/cwd")) {
            Ok(cwd) => {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                // The directory may be a link to another disk.
                self.data.canonicalize().is_ok_and(|data| data == cwd) && name.trim() == "postgres"
            }
            // A zombie no longer has a working directory.
            Err(error) if cfg!(target_os = "linux") && error.kind() == std::io::ErrorKind::NotFound => false,
            // Without /proc, or in a container that hides other users' processes even from root, try the socket,
            // which only a server of this cluster can have created.
            Err(_) => UnixStream::connect(socket_in(&self.socket_dir)).is_ok(),
        }
    }

    /// Returns the size of the log in bytes; while it grows, the server is working.
    pub(super) fn log_bytes(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |metadata| metadata.len())
    }

    /// Returns the end of the log written after offset `since`, for an error.
    pub(super) fn log_tail(&self, since: u64) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let bytes = file.metadata()?.len();
            // A log that became shorter was rotated in between.
            let since = if since > bytes { 0 } else { since };
            file.seek(SeekFrom::Start(since.max(bytes.saturating_sub(TAIL_BYTES))))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        read().unwrap_or_else(|error| format!("(the log cannot be read: {error})"))
    }
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}

/// A server process according to `postmaster.pid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: Pid,
    pub(super) state: State,
}

/// The server's state according to `postmaster.pid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Starting,
    Ready,
    Stopping,
}

/// An existing cluster with the programs and the user that run it.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) layout: Layout,
    programs: Programs,
    run_as: Option<RunAs>,
}

impl Cluster {
    /// Finds the programs, sets up the directories, and creates the cluster if needed.
    pub(super) fn prepare(layout: Layout, bin_dir: Option<&Path>) -> Result<Self, PostgresError> {
        let programs = Programs::find(bin_dir, &layout.data)?;
        let run_as = RunAs::find(&layout.data)?;
        // The server's user must be able to enter, but does not need to list the names in here.
        set_mode(&layout.dir, 0o711)?;
        if let Some(user) = &run_as {
            check_access(&layout.dir, user)?;
        }
        let cluster = Self { layout, programs, run_as };
        cluster.own_directory(&cluster.layout.socket_dir)?;
        if !cluster.layout.data.join("PG_VERSION").exists() {
            cluster.create()?;
        }
        Ok(cluster)
    }

    /// Returns the command that runs the server.
    pub(super) fn server(&self) -> Result<Command, PostgresError> {
        let log = self.open_log()?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.layout.data).arg("-k").arg(&self.layout.socket_dir);
        command.args(["-p", &PORT.to_string()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let errors = log.try_clone().map_err(io("open", &self.layout.log))?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        Ok(command)
    }

    /// Removes files of a dead server that prevent the next one from starting.
    pub(super) fn clear_stale(&self) -> Result<(), PostgresError> {
        // PostgreSQL detects that a pid is dead, but not that a live one belongs to another program.
        if let Some(stale) = self.layout.pid_file()
            && nix::sys::signal::kill(stale.pid, None) != Err(nix::errno::Errno::ESRCH)
        {
            tracing::info!(
                "postmaster.pid names process {}, which is not a server of this cluster; removed it",
                stale.pid
            );
            remove(&self.layout.data.join("postmaster.pid"))?;
        }
        let socket = socket_in(&self.layout.socket_dir);
        remove(&socket.with_added_extension("lock"))?;
        remove(&socket)
    }

    /// Creates the cluster under a temporary name and renames it, so that a killed attempt leaves no incomplete cluster.
    fn create(&self) -> Result<(), PostgresError> {
        let Layout { dir, data, .. } = &self.layout;
        let fresh = dir.join("data.init");
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(io("remove", &fresh))?;
        }
        self.own_directory(&fresh)?;
        tracing::info!("creating a PostgreSQL {} cluster in {}", self.programs.major, data.display());

        let mut initdb = self.command("initdb");
        initdb.args([
            "-U",
            DATABASE,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--data-checksums",
            "-D",
        ]);
        complete("initdb", initdb.arg(&fresh), "", &fresh)?;
        let mut single = self.command("postgres");
        single.args(["--single", "-c", "exit_on_error=on", "-D"]).arg(&fresh).arg("postgres");
        complete("postgres", &mut single, &format!("CREATE DATABASE {DATABASE}\n"), &fresh)?;

        Failpoint::ClusterMade.pass();
        fs::rename(&fresh, data).map_err(io("rename", &fresh))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("write", dir))
    }

    /// Returns a command for one of PostgreSQL's programs, with the right user and an empty environment: ours may contain
    /// secrets, and variables such as `PGPORT` would change what the program does.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.bin.join(program));
        command.env_clear().env("LC_ALL", "C.UTF-8").current_dir("/");
        for name in ["PATH", "TZ", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(user) = &self.run_as {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    /// Creates a directory that only the server's user can access. An existing one must be a directory and owned by us.
    fn own_directory(&self, path: &Path) -> Result<(), PostgresError> {
        let own = self.run_as.as_ref().map_or(Uid::effective().as_raw(), |user| user.uid);
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let metadata = fs::symlink_metadata(path).map_err(io("read", path))?;
                if !metadata.is_dir()
                    || (metadata.uid() != own && metadata.uid() != Uid::effective().as_raw())
                {
                    return Err(PostgresError::SocketDir { dir: path.to_owned() });
                }
            }
            Err(error) => return Err(io("create the directory", path)(error)),
        }
        if let Some(user) = &self.run_as {
            chown(path, Some(user.uid), Some(user.gid)).map_err(io("change the owner of", path))?;
        }
        set_mode(path, 0o700)
    }

    fn open_log(&self) -> Result<File, PostgresError> {
        let log = &self.layout.log;
        if self.layout.log_bytes() > LOG_BYTES {
            fs::rename(log, log.with_added_extension("1")).map_err(io("rotate", log))?;
        }
        File::options().create(true).append(true).mode(0o600).open(log).map_err(io("open", log))
    }
}

/// Checks that `user` can reach `dir`: every directory on the path must be searchable.
pub(super) fn check_access(dir: &Path, user: &RunAs) -> Result<(), PostgresError> {
    for parent in dir.ancestors() {
        let metadata = fs::metadata(parent).map_err(io("read", parent))?;
        let bit = match &metadata {
            it if it.uid() == user.uid => 0o100,
            it if it.gid() == user.gid => 0o010,
            _ => 0o001,
        };
        if metadata.mode() & bit == 0 {
            let (parent, mode) = (parent.to_owned(), metadata.mode() & 0o7777);
            return Err(PostgresError::Blocked { parent, mode, user: user.name.clone() });
        }
    }
    Ok(())
}

/// Runs a program with `input` until it ends; an error contains its output.
fn complete(
    program: &'static str,
    command: &mut Command,
    input: &str,
    data: &Path,
) -> Result<(), PostgresError> {
    let mut run = || -> std::io::Result<std::process::Output> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ended early explains why on stderr; the broken pipe adds nothing.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    };
    let output = run().map_err(io("run one of PostgreSQL's programs for", data))?;
    if output.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(PostgresError::Setup { program, data: data.to_owned(), output })
}

fn set_mode(path: &Path, mode: u32) -> Result<(), PostgresError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(io("set the mode of", path))
}

fn remove(path: &Path) -> Result<(), PostgresError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", path)(error)),
        _ => Ok(()),
    }
}
