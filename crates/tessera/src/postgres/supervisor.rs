//! The thread that starts the server, starts it again when it dies by itself, and stops it at the end.
//!
//! The kernel sends the death signal when the *thread* that spawned a child ends, so this one lives as long as the
//! server is to live.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::{Cluster, Layout, State};
use super::{PostgresError, io};

/// How often a starting or stopping server is looked at.
const POLL: Duration = Duration::from_millis(10);
/// How often a running server is looked at.
const WATCH: Duration = Duration::from_millis(100);
/// How long a starting server may be silent; while it recovers it writes to its log at least every 10 s.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a start may take in all, recovery included.
const READY: Duration = Duration::from_secs(3600);
/// How often a long wait is reported.
const PROGRESS: Duration = Duration::from_secs(10);
/// How long an orderly stop may take, before the server is told to stop at once (and recover at the next start).
const STOP: Duration = Duration::from_secs(60);
/// The end of an immediate stop: PostgreSQL kills its own processes after 5 s.
const QUIT: Duration = Duration::from_secs(10);
/// How often the first start is tried: processes of a killed server may need a moment to go. 3 s in all.
const FIRST_ATTEMPTS: u32 = 6;
/// The waits between attempts double from the first to the last of these.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A server that ran this long and then died is started again at once.
const STEADY: Duration = Duration::from_secs(30);

/// Starts the server, says in `started` how that went, and keeps it alive until `stop` is dropped by its sender.
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
        tracing::error!("PostgreSQL ended by itself ({how}); starting it again");
        deaths = if since.elapsed() < STEADY { deaths + 1 } else { 0 };
        if deaths > 0 && is_stopped_within(stop, backoff(deaths - 1)) {
            return;
        }
        // While we run there is no last attempt: a full disk may be freed, and health says what is the matter.
        match start(cluster, stop, u32::MAX) {
            Ok(Some(next)) => server = next,
            Ok(None) => return,
            Err(error) => return tracing::error!("PostgreSQL stays down: {error}"),
        }
        tracing::info!("PostgreSQL runs again");
    }
}

/// Waits until the server that another Tessera is starting, or runs, takes connections.
pub(super) fn wait_for_foreign(layout: &Layout) -> Result<(), PostgresError> {
    let mut patience = Patience::new(layout);
    while layout.postmaster().is_none_or(|postmaster| postmaster.state != State::Ready) {
        patience.check(layout)?;
        std::thread::park_timeout(POLL);
    }
    Ok(())
}

/// The wait before attempt `failures + 2`.
pub(super) fn backoff(failures: u32) -> Duration {
    BACKOFF.0.saturating_mul(2_u32.saturating_pow(failures)).min(BACKOFF.1)
}

/// Starts the server, or takes over the one that runs; none when asked to stop meanwhile.
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
        tracing::warn!("attempt {failures} to start PostgreSQL failed, the next is in {wait:?}: {error}");
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
            tracing::info!("PostgreSQL still runs as process {}: taken over", postmaster.pid);
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

/// Waits for the server's end; none when we are asked to stop first.
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

/// A server: a child of ours, or one that outlived the Tessera that started it.
#[derive(Debug)]
enum Server {
    Child(Child),
    Adopted(Pid),
}

impl Server {
    fn spawn(cluster: &Cluster) -> Result<Self, PostgresError> {
        let mut command = cluster.server()?;
        // The terminal's Ctrl-C is for us: the server stops when we are done with it.
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

    /// How the server ended, once it has.
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
            Self::Adopted(pid) => (!layout.is_ours(*pid)).then(|| format!("process {pid} is gone")),
        }
    }

    /// Stops the server: in order first, then at once.
    fn stop(mut self, layout: &Layout) {
        for (signal, limit) in [(Signal::SIGINT, STOP), (Signal::SIGQUIT, QUIT)] {
            if self.ended(layout).is_some() {
                return;
            }
            // The child is not reaped yet, so the number is still its own.
            if let Err(error) = kill(self.pid(), signal) {
                tracing::error!("PostgreSQL (process {}) cannot be told to stop: {error}", self.pid());
            }
            let since = Instant::now();
            while since.elapsed() < limit {
                if self.ended(layout).is_some() {
                    return;
                }
                std::thread::park_timeout(POLL);
            }
            tracing::warn!("PostgreSQL has not stopped {} s after {signal}", limit.as_secs());
        }
    }
}

/// Has the kernel stop the child in order when we are killed, so that nothing is left behind.
#[cfg(target_os = "linux")]
fn die_with_us(command: &mut Command) {
    let parent = nix::unistd::getpid();
    let arm = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGINT)?;
        // Killed between fork and here: the signal will not come any more.
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

/// Elsewhere a killed Tessera leaves its server running, and the next one takes it over.
#[cfg(not(target_os = "linux"))]
fn die_with_us(_command: &mut Command) {}

/// How long to wait for a server: long while it shows signs of work, not for ever.
struct Patience {
    since: Instant,
    heard: Instant,
    told: Instant,
    log_start: u64,
    log_bytes: u64,
}

impl Patience {
    fn new(layout: &Layout) -> Self {
        let (now, log_bytes) = (Instant::now(), layout.log_bytes());
        Self { since: now, heard: now, told: now, log_start: log_bytes, log_bytes }
    }

    fn check(&mut self, layout: &Layout) -> Result<(), PostgresError> {
        let now = Instant::now();
        let log_bytes = layout.log_bytes();
        if log_bytes != self.log_bytes {
            (self.heard, self.log_bytes) = (now, log_bytes);
        }
        if now - self.heard > SILENCE || now - self.since > READY {
            return Err(PostgresError::NotReady {
                seconds: (now - self.since).as_secs(),
                log: layout.log.clone(),
                tail: layout.log_tail(self.log_start),
            });
        }
        if now - self.told > PROGRESS {
            self.told = now;
            let tail = layout.log_tail(self.log_start);
            let last = tail.lines().last().unwrap_or_default();
            tracing::info!("PostgreSQL is not ready after {} s: {last}", (now - self.since).as_secs());
        }
        Ok(())
    }
}
