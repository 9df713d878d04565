//! Backup and restore: a backup restores all data or none, and every failure leaves the data as it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use tessera_core::testing::TestDb;

use crate::commands::desk;
use crate::support::{Api, SOON, Server, eventually};

/// Tickets that are changed while a backup is made.
const TICKETS: usize = 10;
/// Clients that change them.
const CLIENTS: usize = 4;
/// Changes that are acknowledged before the backup begins, and again after it has ended.
const CHANGES: usize = 50;
/// File size limit for the test of a full disk, in blocks of 1 KiB.
const FULL_KIB: u32 = 8;

/// Returns everything that the API shows: each list, and each ticket's history.
async fn everything(server: &Server) -> BTreeMap<String, Vec<Value>> {
    let mut all: BTreeMap<String, Vec<Value>> =
        desk(server).await.into_iter().map(|(list, items)| (list.to_owned(), items)).collect();
    for ticket in all["tickets"].clone() {
        let history = server.history(&ticket["number"]).await;
        all.insert(format!("history of {}", ticket["number"]), history);
    }
    all
}

#[tokio::test]
async fn a_restore_brings_back_the_backup_and_removes_later_changes() {
    let (mut server, place) = (Server::start(&[]).await, TempDir::new().unwrap());
    server.command(&["demo"]);
    server.delivered(SOON).await;
    let before = everything(&server).await;
    let file = path(&place, "desk.backup");
    let said = server.command(&["backup", &file]);
    assert!(said.contains("10 tickets") && said.contains("contains secrets"), "{said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "no other file is left");

    let again = server.run(&["backup", &file], &[]);
    assert!(!again.ok && again.stderr.contains("--force"), "{again:?}");
    server.command(&["backup", &file, "--force"]);

    for ticket in 1..=3 {
        server.done("PATCH", &format!("/api/tickets/{ticket}"), &json!({"subject": "Later"})).await;
    }
    server.done("POST", "/api/tickets", &json!({"queue": "General", "subject": "Later"})).await;
    server.done("POST", "/api/queues", &json!({"name": "Later", "lifecycle": "default"})).await;
    let later = everything(&server).await;
    assert_ne!(later, before);

    let refused = server.run(&["restore", &file, "--force"], &[]);
    assert!(!refused.ok && refused.stderr.contains("Another Tessera is running"), "{refused:?}");
    server.stop().await;
    let refused = server.run(&["restore", &file], &[]);
    assert!(!refused.ok && refused.stderr.contains("is not empty: it contains 11 tickets"), "{refused:?}");
    let said = server.command(&["restore", &file, "--force"]);
    assert!(said.contains("Restored 10 tickets") && said.contains("No deliveries are waiting."), "{said}");
    server.check();

    server.restart().await;
    assert_eq!(everything(&server).await, before);
    // The sequences are restored too: the next number follows those in the backup.
    let made = server.done("POST", "/api/tickets", &json!({"queue": "General", "subject": "Next"})).await;
    assert_eq!(made["ticket"]["number"], 11);
    server.delivered(SOON).await;
    server.stop().await;
    server.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_one_moment() {
    let (mut server, place) = (Server::start(&[]).await, TempDir::new().unwrap());
    let mut tickets = Vec::new();
    for number in 1..=TICKETS {
        let ticket = json!({"queue": "General", "subject": format!("Ticket {number}")});
        tickets.push(server.done("POST", "/api/tickets", &ticket).await["ticket"]["number"].clone());
    }
    server.delivered(SOON).await;
    let file = path(&place, "load.backup");
    let (changes, enough, api) = (AtomicUsize::new(0), AtomicBool::new(false), server.client());
    let load = join_all((0..CLIENTS).map(|_| change(&api, &tickets, &changes, &enough)));
    let backup = async {
        let reached = async |count: usize| {
            eventually("the load goes on", SOON, async || {
                (changes.load(Ordering::Relaxed) >= count).then_some(())
            })
            .await;
        };
        reached(CHANGES).await;
        tokio::task::block_in_place(|| server.command(&["backup", &file]));
        let during = changes.load(Ordering::Relaxed);
        reached(during + CHANGES).await;
        enough.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, backup);

    let after = join_all(tickets.iter().map(|ticket| server.history(ticket))).await;
    server.stop().await;
    server.command(&["restore", &file, "--force"]);
    server.check();
    server.restart().await;
    let restored = join_all(tickets.iter().map(|ticket| server.history(ticket))).await;
    // One moment: each history is a prefix of the later one, and matches its ticket.
    for (restored, after) in restored.iter().zip(&after) {
        assert_eq!(restored[..], after[..restored.len()]);
    }
    let [there, all] = [&restored, &after].map(|histories| histories.iter().map(Vec::len).sum::<usize>());
    assert!(there >= TICKETS + CHANGES && there + CHANGES <= all, "{there} of {all}");
    server.stop().await;
}

/// Changes subjects, one after another, until `enough` is set.
async fn change(api: &Api, tickets: &[Value], changes: &AtomicUsize, enough: &AtomicBool) {
    while !enough.load(Ordering::Relaxed) {
        let number = changes.fetch_add(1, Ordering::Relaxed);
        let path = format!("/api/tickets/{}", tickets[number % TICKETS]);
        api.done("PATCH", &path, &json!({"subject": format!("change {number}")})).await;
    }
}

#[tokio::test]
async fn a_damaged_or_cut_backup_leaves_the_data_as_it_was() {
    let (mut server, place) = (Server::start(&[]).await, TempDir::new().unwrap());
    server.command(&["demo"]);
    server.delivered(SOON).await;
    let file = path(&place, "whole.backup");
    server.command(&["backup", &file]);
    server.done("PATCH", "/api/tickets/1", &json!({"subject": "Later"})).await;
    server.delivered(SOON).await;
    let before = everything(&server).await;
    server.stop().await;

    let whole = fs::read(&file).unwrap();
    let mut turned = whole.clone();
    // Change bytes in the rows of a table, which are most of the file.
    for byte in &mut turned[whole.len() / 2..][..64] {
        *byte ^= 0x55;
    }
    let damaged = [
        ("cut", &whole[..whole.len() * 2 / 3]),
        ("nearly whole", &whole[..whole.len() - 1]),
        ("a head", &whole[..5]),
        ("empty", &[]),
        ("turned", &turned[..]),
        ("none at all", &b"Dear Sir or Madam"[..]),
    ];
    for (name, bytes) in damaged {
        let file = path(&place, name);
        fs::write(&file, bytes).unwrap();
        let refused = server.run(&["restore", &file, "--force"], &[]);
        assert!(!refused.ok && refused.stdout.contains("The data was not changed."), "{name}: {refused:?}");
    }
    let refused = server.run(&["restore", "/nowhere/desk.backup", "--force"], &[]);
    assert!(!refused.ok && refused.stderr.contains("cannot read /nowhere/desk.backup"), "{refused:?}");
    server.check();
    server.restart().await;
    assert_eq!(everything(&server).await, before);
    server.stop().await;
}

#[tokio::test]
async fn a_backup_that_does_not_fit_on_the_disk_leaves_nothing_and_keeps_the_old_one() {
    let (server, place) = (Server::start(&[]).await, TempDir::new().unwrap());
    server.command(&["demo"]);
    let file = path(&place, "desk.backup");
    fs::write(&file, "the backup of yesterday").unwrap();
    let full = server.run_limited(&["backup", &file, "--force"], FULL_KIB);
    assert!(!full.ok && full.stderr.contains("cannot write the backup; nothing was changed"), "{full:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "the backup of yesterday");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "no other file is left");

    let nowhere = server.run(&["backup", "/nowhere/desk.backup"], &[]);
    assert!(!nowhere.ok && nowhere.stderr.contains("cannot write /nowhere/desk.backup"), "{nowhere:?}");
}

#[tokio::test]
async fn a_restore_reports_the_deliveries_that_would_be_sent() {
    let (mut server, place) = (Server::start(&[]).await, TempDir::new().unwrap());
    // Nobody listens on port 1.
    let scrip = json!({"name": "Tell nobody", "condition_type": "OnCreate", "action_type": "Webhook",
        "action_config": {"url": "http://127.0.0.1:1/{{ ticket.number }}"}});
    server.done("POST", "/api/scrips", &scrip).await;
    for number in 1..=2 {
        let ticket = json!({"queue": "General", "subject": format!("Ticket {number}")});
        server.done("POST", "/api/tickets", &ticket).await;
    }
    let file = path(&place, "waiting.backup");
    let said = server.command(&["backup", &file]);
    assert!(said.contains("2 deliveries (2 waiting)"), "{said}");
    server.stop().await;
    let said = server.command(&["restore", &file, "--force"]);
    assert!(
        said.contains("2 deliveries are waiting, and a server sends them as soon as it starts."),
        "{said}"
    );
}

#[tokio::test]
async fn a_database_elsewhere_is_backed_up_and_restored_too() {
    let (db, place) = (TestDb::new().await, TempDir::new().unwrap());
    let url = url(&db);
    let mut server = Server::start(&[("TESSERA_DATABASE__URL", url)]).await;
    server.command(&["demo"]);
    server.delivered(SOON).await;
    let before = everything(&server).await;
    let file = path(&place, "desk.backup");
    // A URL without a host, and with spellings that only sqlx supports, works as well.
    let spelled = format!(
        "postgres:///{}?host={}&user={}&ssl-mode=disable&statement-cache-capacity=9&options[work_mem]=8MB",
        db.options.get_database().unwrap(),
        db.options.get_socket().unwrap().display(),
        db.options.get_username()
    );
    let made = server.run(&["backup", &file], &[("TESSERA_DATABASE__URL", &spelled)]);
    assert!(made.ok, "{made:?}");
    server.done("PATCH", "/api/tickets/1", &json!({"subject": "Later"})).await;
    let refused = server.run(&["restore", &file, "--force"], &[]);
    assert!(!refused.ok && refused.stderr.contains("is in use by tessera (user "), "{refused:?}");
    server.stop().await;

    // Another client is connected, which may not be disconnected.
    let psql = PgConnection::connect_with(&db.options).await.unwrap();
    let refused = server.run(&["restore", &file, "--force"], &[]);
    assert!(!refused.ok && refused.stderr.contains("is in use by a program without a name"), "{refused:?}");
    psql.close().await.unwrap();

    server.command(&["restore", &file, "--force"]);
    server.check();
    server.restart().await;
    assert_eq!(everything(&server).await, before);
    server.stop().await;
    let mut db = PgConnection::connect_with(&db.options).await.unwrap();
    let left: Vec<String> = sqlx::query_scalar(
        "SELECT datname FROM pg_database WHERE datname IN (current_database() || '_restoring', current_database() || '_replaced')",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_backup_that_is_newer_or_inconsistent_is_rejected() {
    let (db, place) = (TestDb::new().await, TempDir::new().unwrap());
    let mut server = Server::start(&[("TESSERA_DATABASE__URL", url(&db))]).await;
    server.command(&["demo"]);
    server.delivered(SOON).await;
    server.stop().await;
    let change = async |sql: &'static str| {
        let mut connection = PgConnection::connect_with(&db.options).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };

    change("UPDATE tickets SET priority = 4711 WHERE number = 3").await;
    let torn = path(&place, "torn.backup");
    server.command(&["backup", &torn]);
    change("UPDATE tickets SET priority = 0 WHERE number = 3").await;
    let refused = server.run(&["restore", &torn, "--force"], &[]);
    assert!(!refused.ok && refused.stderr.contains("1 violations"), "{refused:?}");
    assert!(refused.stdout.contains("I2: ticket #3"), "{refused:?}");
    let said = server.command(&["restore", &torn, "--force", "--ignore-check"]);
    assert!(said.contains("Restored 10 tickets"), "{said}");

    let newer = "INSERT INTO _sqlx_migrations SELECT 9999, description, installed_on, success, checksum, execution_time \
                 FROM _sqlx_migrations WHERE version = 1";
    change(newer).await;
    let newer = path(&place, "newer.backup");
    server.command(&["backup", &newer]);
    change("DELETE FROM _sqlx_migrations WHERE version = 9999").await;
    let refused = server.run(&["restore", &newer, "--force"], &[]);
    assert!(!refused.ok && refused.stderr.contains("migration 9999"), "{refused:?}");
    let schema = server.run(&["doctor"], &[]);
    assert!(schema.stdout.contains("the newest that this Tessera knows"), "{schema:?}");
}

#[test]
fn a_missing_database_is_not_backed_up() {
    let (place, nothing) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = path(&place, "nothing.backup");
    let ran = crate::support::run(
        crate::support::tessera(&["backup", &file]).env("TESSERA_DATA_DIR", nothing.path()),
    );
    assert!(!ran.ok && ran.stderr.contains("nothing to back up"), "{ran:?}");
    assert_eq!(fs::read_dir(nothing.path()).unwrap().count(), 0, "no database was created");
}

fn path(place: &TempDir, name: &str) -> String {
    place.path().join(name).to_str().unwrap().to_owned()
}

/// Returns the URL of a test's database.
fn url(db: &TestDb) -> String {
    let socket: PathBuf = db.options.get_socket().unwrap().to_owned();
    let name = db.options.get_database().unwrap();
    format!("postgres://{}@localhost/{name}?host={}", db.options.get_username(), Path::display(&socket))
}
