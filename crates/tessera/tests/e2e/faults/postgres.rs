//! Database failures while the server is running: every request gets a response, with a reason if it failed.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use serde_json::json;
use sqlx::{Connection as _, PgConnection, Row as _};
use tempfile::TempDir;
use tokio::time::interval;

use super::kill::end_postgres;
use super::{Random, rounds};
use crate::load::{Load, STEADY, Size};
use crate::mail::MailServer;
use crate::receiver::Receiver;
use crate::support::{SOON, Server, eventually, place};

/// Many more clients than connections in the server's pool.
const CROWD: Size = Size { clients: 64, pace: Duration::from_millis(250), apart: false };
/// Ends every connection of the server.
const TERMINATE: &str =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tessera'";
/// The size of the disk that becomes full.
const DISK: &str = "size=256m";

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_that_is_killed_loses_nothing_and_every_request_gets_a_response() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut server = Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await;
    let load = Load::begin(&[&server], &receiver, STEADY).await;
    let mut ends = 0;
    for round in rounds((2, 20)) {
        load.goes_on(20).await;
        end_postgres(&server, if round % 2 == 0 { Signal::SIGQUIT } else { Signal::SIGKILL }).await;
        ends += 1;
    }
    load.goes_on(20).await;
    let ledger = load.finish().await;
    ledger.was_always_answered();
    server.time_passes().await;
    let fault = format!("PostgreSQL stopped at once or killed ({ends} times)");
    ledger.holds(&fault, &mut server, &receiver, &mail).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terminated_connections_lose_nothing_and_every_request_gets_a_response() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut server = Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await;
    let load = Load::begin(&[&server], &receiver, STEADY).await;
    let mut db = server.connection().await;
    let (mut gusts, mut ended) = (interval(Duration::from_millis(200)), 0);
    for _ in rounds((25, 50)) {
        gusts.tick().await;
        ended += sqlx::query(TERMINATE).fetch_all(&mut db).await.unwrap().len();
    }
    load.goes_on(20).await;
    let ledger = load.finish().await;
    ledger.was_always_answered();
    server.time_passes().await;
    ledger
        .holds(&format!("{ended} connections terminated, 5 storms a second"), &mut server, &receiver, &mail)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_idle_transactions_and_exhausted_connections_are_reported_and_recover() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut server = Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await;
    let load = Load::begin(&[&server], &receiver, CROWD).await;
    // It has a snapshot but no lock, stays open for the whole test, and must not disturb anything.
    let mut idle = server.connection().await;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current_snapshot()")
        .execute(&mut idle)
        .await
        .unwrap();
    let mut turns = 0;
    for _ in rounds((1, 3)) {
        load.goes_on(50).await;
        lock_everything(&server, &load).await;
        load.goes_on(50).await;
        freeze(&server, &load).await;
        load.goes_on(50).await;
        use_up_connections(&server, &load).await;
        turns += 1;
    }
    load.goes_on(50).await;
    sqlx::raw_sql("COMMIT").execute(&mut idle).await.unwrap();
    let ledger = load.finish().await;
    ledger.was_always_answered();
    server.time_passes().await;
    let fault = format!(
        "all tickets locked, database frozen until the pool was exhausted, connections used up ({turns} times) beside an idle transaction"
    );
    ledger.holds(&fault, &mut server, &receiver, &mail).await;
}

/// Locks all tickets in an idle transaction, until a response reports it.
async fn lock_everything(server: &Server, load: &Load) {
    let locked = load.answers("503 locked");
    let mut db = server.connection().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE tickets IN ACCESS EXCLUSIVE MODE").execute(&mut db).await.unwrap();
    eventually("a lock is reported", SOON, async || (load.answers("503 locked") > locked).then_some(()))
        .await;
    sqlx::raw_sql("ROLLBACK").execute(&mut db).await.unwrap();
}

/// Suspends the database until every connection of the pool waits for it and a response reports it.
async fn freeze(server: &Server, load: &Load) {
    let busy = load.answers("503 busy");
    let frozen = Frozen::new(server).await;
    eventually("an exhausted pool is reported", SOON, async || {
        (load.answers("503 busy") > busy).then_some(())
    })
    .await;
    drop(frozen);
}

/// PostgreSQL's processes for the server, and the postmaster, suspended until the value is dropped.
pub struct Frozen(Vec<Pid>);

impl Frozen {
    pub async fn new(server: &Server) -> Self {
        let rows = sqlx::query("SELECT pid FROM pg_stat_activity WHERE application_name = 'tessera'");
        let rows = rows.fetch_all(&mut server.connection().await).await.unwrap();
        let backends = rows.iter().map(|row| Pid::from_raw(row.get(0)));
        let frozen = Self(server.postmaster().into_iter().chain(backends).collect());
        frozen.signal(Signal::SIGSTOP);
        frozen
    }

    fn signal(&self, signal: Signal) {
        for pid in &self.0 {
            // A process that has exited needs no signal.
            let _ = kill(*pid, signal);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
    }
}

/// Takes every connection that PostgreSQL allows, so that the server has none.
async fn use_up_connections(server: &Server, load: &Load) {
    let told = load.answers("503 database_unavailable");
    let mut all = vec![server.connection().await];
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tessera'";
    eventually("the server has no connection", SOON, async || {
        sqlx::query(TERMINATE).fetch_all(&mut all[0]).await.unwrap();
        while let Ok(another) = PgConnection::connect_with(&server.database).await {
            all.push(another);
        }
        let row = sqlx::query(left).fetch_one(&mut all[0]).await.unwrap();
        (row.get::<i64, _>(0) == 0).then_some(())
    })
    .await;
    eventually("a missing connection is reported", SOON, async || {
        (load.answers("503 database_unavailable") > told + 5).then_some(())
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_reported_and_recovers_when_it_is_freed() {
    if !Uid::effective().is_root() {
        println!("fault disk full: SKIPPED, because only root can mount a small disk");
        return;
    }
    let disk = Disk::mount();
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut server = Server::new_in(disk.directory(), &[("TESSERA_MAIL__SMTP_URL", mail.url())]);
    server.restart().await;
    server.log_in();
    let load = Load::begin(&[&server], &receiver, STEADY).await;
    let (mut fills, mut random) = (0, Random::new());
    for _ in rounds((1, 3)) {
        load.goes_on(20).await;
        let filler = disk.fill();
        // Small changes fit into pages that PostgreSQL has, and a checkpoint removes files; a large one needs more, sooner or later.
        eventually("a full disk is reported", SOON, async || {
            disk.fill();
            let content: String = (0..50_000).map(|_| format!("{:08x}", random.below(1 << 31))).collect();
            let ticket = json!({"queue": "General", "subject": "Too large for the disk", "content": content});
            let answer = server.api("POST", "/api/tickets", &ticket).await;
            (answer.body["code"] == "database_unavailable").then_some(())
        })
        .await;
        std::fs::remove_file(filler).unwrap();
        fills += 1;
    }
    load.goes_on(20).await;
    let ledger = load.finish().await;
    ledger.was_always_answered();
    server.time_passes().await;
    ledger.holds(&format!("disk full, then freed ({fills} times)"), &mut server, &receiver, &mail).await;
}

/// A small disk in memory, unmounted on drop.
struct Disk(TempDir);

impl Disk {
    fn mount() -> Self {
        let disk = Self(place());
        run(Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(disk.0.path()));
        disk
    }

    /// Creates a directory on it that PostgreSQL's own user can enter.
    fn directory(&self) -> TempDir {
        use std::os::unix::fs::PermissionsExt as _;
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.0.path(), open.clone()).unwrap();
        tempfile::Builder::new().permissions(open).tempdir_in(self.0.path()).unwrap()
    }

    /// Fills the rest of the disk, and returns the file that does so.
    fn fill(&self) -> std::path::PathBuf {
        let path = self.0.path().join("filler");
        let mut file = std::fs::File::options().create(true).append(true).open(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The server's directory on it disappears with it.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path() as &Path).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
