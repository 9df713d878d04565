//! The thread that starts the server, restarts it if it exits unexpectedly, and stops it at the end.
//!
//! The kernel sends the death signal when the *thread* that spawned a child ends, so this thread lives as long as the
//! server should.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::{Cluster, Layout, State};
use super::{PostgresError, io};

/// Interval for checking a starting or stopping server.
const POLL: Duration = Duration::from_millis(10);
/// Interval for checking a running server.
const WATCH: Duration = Duration::from_millis(100);
/// Time limit for a starting server without output; during recovery it writes to its log at least every 10 s.
const SILENCE: Duration = Duration::from_secs(60);
/// Time limit for a start, including recovery.
const READY: Duration = Duration::from_secs(3600);
/// Interval for reporting a long wait.
const PROGRESS: Duration = Duration::from_secs(10);
/// Time limit for a fast stop, before an immediate one (with recovery at the next start).
const STOP: Duration = Duration::from_secs(50);
/// Time limit for an immediate stop, before it is killed: PostgreSQL kills its own processes after 5 s.
const QUIT: Duration = Duration::from_secs(10);
/// Time limit for the end of a killed server.
const KILL: Duration = Duration::from_secs(5);
/// Attempts of the first start, over 3 s: processes of a killed server may need a moment to exit.
const FIRST_ATTEMPTS: u32 = 6;
/// The first and the longest wait between attempts; each wait is twice the one before.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A server that ran this long before it exited is restarted without a wait.
const STEADY: Duration = Duration::from_secs(30);

/// Starts the server, sends the result to `started`, and keeps the server running until `stop`'s sender is dropped.
pub(super) fn run(cluster: &Cluster, started: &Sender<Result<(), PostgresError>>, stop: &Receiver<()>) {
    let mut server = match start(cluster, stop, FIRST_ATTEMPTS) {
        Ok(Some(server)) => server,
        Ok(None) => return,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(()));
    let mut deaths = 0;
    loop {
        let since = Instant::now();
        let Some(how) = watch(&mut server, &cluster.layout, stop) else {
            return server.stop(&cluster.layout);
        };
        tracing::error!("PostgreSQL exited unexpectedly ({how}); restarting it");
        deaths = if since.elapsed() < STEADY { deaths + 1 } else { 0 };
        if deaths > 0 && is_stopped_within(stop, backoff(deaths - 1)) {
            return;
        }
        // Never give up: a full disk may be freed, and the health check reports the problem meanwhile.
        match start(cluster, stop, u32::MAX) {
            Ok(Some(next)) => server = next,
            Ok(None) => return,
            Err(error) => return tracing::error!("cannot restart PostgreSQL: {error}"),
        }
        tracing::info!("PostgreSQL is running again");
    }
}

/// Waits until a server that another Tessera starts or runs accepts connections.
pub(super) fn wait_for_foreign(layout: &Layout) -> Result<(), PostgresError> {
    let mut patience = Patience::new(layout);
    while layout.postmaster().is_none_or(|postmaster| postmaster.state != State::Ready) {
        patience.check(layout)?;
        std::thread::park_timeout(POLL);
    }
    Ok(())
}

/// Returns the wait before attempt `failures + 2`.
pub(super) fn backoff(failures: u32) -> Duration {
    BACKOFF.0.saturating_mul(2_u32.saturating_pow(failures)).min(BACKOFF.1)
}

/// Starts the server, or takes over a running one. Returns `None` if asked to stop meanwhile.
fn start(cluster: &Cluster, stop: &Receiver<()>, attempts: u32) -> Result<Option<Server>, PostgresError> {
    let mut failures = 0;
    loop {
        let error = match try_start(cluster, stop) {
            Ok(server) => return Ok(server),
            Err(error) => error,
        };
        failures += 1;
        if failures >= attempts {
            return Err(error);
        }
        let wait = backoff(failures - 1);
        tracing::warn!("attempt {failures} to start PostgreSQL failed, retrying in {wait:?}: {error}");
        if is_stopped_within(stop, wait) {
            return Ok(None);
        }
    }
}

fn try_start(cluster: &Cluster, stop: &Receiver<()>) -> Result<Option<Server>, PostgresError> {
    let layout = &cluster.layout;
    let mut patience = Patience::new(layout);
    while layout.postmaster().is_some_and(|postmaster| postmaster.state == State::Stopping) {
        patience.check(layout)?;
        if is_stopped_within(stop, POLL) {
            return Ok(None);
        }
    }
    let mut patience = Patience::new(layout);
    let mut server = match layout.postmaster() {
        Some(postmaster) => {
            tracing::info!("taking over the running PostgreSQL, process {}", postmaster.pid);
            Server::Adopted(postmaster.pid)
        }
        None => {
            cluster.clear_stale()?;
            Server::spawn(cluster)?
        }
    };
    while !server.is_ready(layout) {
        if let Some(how) = server.ended(layout) {
            let tail = layout.log_tail(patience.log_start);
            return Err(PostgresError::Died { how, log: layout.log.clone(), tail });
        }
        let waited = patience.check(layout);
        if waited.is_err() || is_stopped_within(stop, POLL) {
            server.stop(layout);
            return waited.map(|()| None);
        }
    }
    Ok(Some(server))
}

/// Waits until the server exits and returns how. Returns `None` if asked to stop first.
fn watch(server: &mut Server, layout: &Layout, stop: &Receiver<()>) -> Option<String> {
    while !is_stopped_within(stop, WATCH) {
        if let Some(how) = server.ended(layout) {
            return Some(how);
        }
    }
    None
}

fn is_stopped_within(stop: &Receiver<()>, wait: Duration) -> bool {
    stop.recv_timeout(wait) != Err(RecvTimeoutError::Timeout)
}

/// A server: our child, or one that outlived the Tessera that started it.
#[derive(Debug)]
enum Server {
    Child(Child),
    Adopted(Pid),
}

impl Server {
    fn spawn(cluster: &Cluster) -> Result<Self, PostgresError> {
        let mut command = cluster.server()?;
        // Ctrl-C in the terminal must not reach the server: it stops after us.
        command.process_group(0);
        die_with_us(&mut command);
        let child = command.spawn().map_err(io("run PostgreSQL on", &cluster.layout.data))?;
        Ok(Self::Child(child))
    }

    fn pid(&self) -> Pid {
        match self {
            Self::Child(child) => Pid::from_raw(child.id().cast_signed()),
            Self::Adopted(pid) => *pid,
        }
    }

    fn is_ready(&self, layout: &Layout) -> bool {
        layout.pid_file().is_some_and(|file| file.pid == self.pid() && file.state == State::Ready)
    }

    /// Returns the exit code or signal of a server that has exited.
    fn ended(&mut self, layout: &Layout) -> Option<String> {
        match self {
            Self::Child(child) => match child.try_wait() {
                Ok(None) => None,
                Ok(Some(status)) => Some(match status.signal() {
                    Some(signal) => format!("killed by signal {signal}"),
                    None => format!("exit code {}", status.code().unwrap_or_default()),
                }),
                Err(error) => Some(error.to_string()),
            },
            Self::Adopted(pid) => (!layout.is_ours(*pid)).then(|| format!("process {pid} has exited")),
        }
    }

    /// Stops the server: fast first, then immediately, and then by force, as a server that hangs hears no signal.
    fn stop(mut self, layout: &Layout) {
        for (signal, limit) in [(Signal::SIGINT, STOP), (Signal::SIGQUIT, QUIT), (Signal::SIGKILL, KILL)] {
            if self.ended(layout).is_some() {
                return;
            }
            // The child was not reaped yet, so the pid is still its own.
            if let Err(error) = kill(self.pid(), signal) {
                tracing::error!("cannot signal PostgreSQL (process {}) to stop: {error}", self.pid());
            }
            let since = Instant::now();
            while since.elapsed() < limit {
                if self.ended(layout).is_some() {
                    return;
                }
                std::thread::park_timeout(POLL);
            }
            tracing::warn!("PostgreSQL did not stop within {} s after {signal}", limit.as_secs());
        }
    }
}

/// Makes the kernel stop the child when we are killed, so that nothing is left behind.
#[cfg(target_os = "linux")]
fn die_with_us(command: &mut Command) {
    let parent = nix::unistd::getpid();
    let arm = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGINT)?;
        // If we were killed between fork and here, the signal will not come.
        if nix::unistd::getppid() == parent { Ok(()) } else { Err(nix::errno::Errno::ESRCH.into()) }
    };
    #[expect(
        unsafe_code,
        reason = "between fork and exec the closure makes two system calls and allocates nothing"
    )]
    // SAFETY: prctl and getppid are async-signal-safe.
    unsafe {
        command.pre_exec(arm)
    };
}

/// On other systems a killed Tessera leaves its server running, and the next one takes it over.
#[cfg(not(target_os = "linux"))]
fn die_with_us(_command: &mut Command) {}

/// A time limit for a server: generous while its log grows, but finite.
struct Patience {
    since: Instant,
    last_output: Instant,
    last_report: Instant,
    log_start: u64,
    log_bytes: u64,
}

impl Patience {
    fn new(layout: &Layout) -> Self {
        let (now, log_bytes) = (Instant::now(), layout.log_bytes());
        Self { since: now, last_output: now, last_report: now, log_start: log_bytes, log_bytes }
    }

    fn check(&mut self, layout: &Layout) -> Result<(), PostgresError> {
        let now = Instant::now();
        let log_bytes = layout.log_bytes();
        if log_bytes != self.log_bytes {
            (self.last_output, self.log_bytes) = (now, log_bytes);
        }
        if now - self.last_output > SILENCE || now - self.since > READY {
            return Err(PostgresError::NotReady {
                seconds: (now - self.since).as_secs(),
                log: layout.log.clone(),
                tail: layout.log_tail(self.log_start),
            });
        }
        if now - self.last_report > PROGRESS {
            self.last_report = now;
            let tail = layout.log_tail(self.log_start);
            let last = tail.lines().last().unwrap_or_default();
            tracing::info!("PostgreSQL is not ready after {} s: {last}", (now - self.since).as_secs());
        }
        Ok(())
    }
}
