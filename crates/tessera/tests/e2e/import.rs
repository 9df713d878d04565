//! Import and export: with and without a running server, killed and run again, and from one database into another.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tempfile::TempDir;

use crate::support::{SOON, Server, eventually};

/// Lines of a file whose import is killed: several batches.
const LINES: usize = 6_000;
/// Lines that are sent before a kill: one batch, and the beginning of another.
const SENT: usize = 1_500;
/// Lines of one batch.
const BATCH: i64 = 1_000;

/// Returns a line that the default desk accepts; every third one has a number.
fn line(at: usize) -> String {
    let past = json!([{"type": "Create", "created_at": "2020-01-01T10:00:00Z", "creator": "eve@example.net", "content": "It burns."}]);
    let mut line = json!({"queue": "General", "subject": format!("Old {at}"), "status": "resolved", "creator": "eve@example.net",
        "requestors": ["max@example.net"], "created_at": "2020-01-01T10:00:00Z", "transactions": past});
    if at.is_multiple_of(3) {
        line["number"] = json!(100_000 - at);
    }
    line.to_string()
}

fn lines(count: usize) -> String {
    (0..count).map(|at| line(at) + "\n").collect()
}

fn written(place: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path = place.path().join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

async fn tickets(server: &Server) -> i64 {
    let mut db = server.connection().await;
    let count = sqlx::query_scalar("SELECT count(*) FROM tickets").fetch_one(&mut db).await.unwrap();
    db.close().await.unwrap();
    count
}

/// Waits until the given number of tickets exists.
async fn reached(server: &Server, count: i64) {
    eventually("tickets are imported", SOON, async || (tickets(server).await >= count).then_some(())).await;
}

#[tokio::test]
async fn an_import_that_is_killed_and_run_again_creates_every_ticket_once() {
    let (mut server, place) = (Server::start(&[]).await, TempDir::new().unwrap());
    let file = written(&place, "old.jsonl", lines(LINES).as_bytes());

    // Kill it in the middle of a batch: the next batch has been received in part.
    let mut child =
        server.tessera(&["import", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    to.write_all(lines(SENT).as_bytes()).unwrap();
    to.flush().unwrap();
    reached(&server, BATCH).await;
    child.kill().unwrap();
    child.wait().unwrap();
    drop(to);
    assert_eq!(tickets(&server).await, BATCH, "a batch is imported completely or not at all");
    let again = File::open(written(&place, "first.jsonl", lines(SENT).as_bytes())).unwrap();
    let again = crate::support::run(server.tessera(&["import", "-"]).stdin(again));
    assert!(again.ok && again.stdout.contains("Imported 500 tickets"), "{again:?}");
    assert!(again.stdout.contains("skipped 1000 lines"), "{again:?}");

    // Kill it at any time, while a ticket is created; the file's lines with numbers are imported by now.
    let mut child = server.tessera(&["import", &file]).stdout(Stdio::null()).spawn().unwrap();
    let sent = i64::try_from(SENT).unwrap();
    reached(&server, sent + 1).await;
    let made = server.done("POST", "/api/tickets", &json!({"queue": "General", "subject": "New"})).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let number = made["ticket"]["number"].as_i64().unwrap();
    assert!(number > 100_000, "{number} is above every number of the file");
    let said = server.command(&["import", &file]);
    assert!(said.starts_with("Imported ") && said.contains("skipped "), "{said}");
    let said = server.command(&["import", &file]);
    assert_eq!(said, format!("Imported 0 tickets; skipped {LINES} lines that had been imported before.\n"));
    // Those of the first lines that have no number exist twice: they were also read from stdin, which is another file.
    let without_number = sent - sent / 3;
    assert_eq!(tickets(&server).await, i64::try_from(LINES).unwrap() + without_number + 1);
    server.delivered(SOON).await;
    server.stop().await;
    server.check();
}

#[tokio::test]
async fn exported_tickets_are_imported_into_an_empty_database_unchanged() {
    let (mut here, place) = (Server::start(&[]).await, TempDir::new().unwrap());
    here.command(&["demo"]);
    let odd = json!({"queue": "General", "subject": "Ünïcödé \\ \"x\" \u{1F525}", "requestors": ["bare@example.net"], "priority": -7,
        "due_at": "2030-01-01T00:00:00.000001Z", "content": "Tab\there,\r\nand \u{2028} <b>so</b> on."});
    let odd = here.done("POST", "/api/tickets", &odd).await["ticket"]["number"].clone();
    here.done("PATCH", &format!("/api/tickets/{odd}"), &json!({"status": "deleted"})).await;
    here.delivered(SOON).await;
    let file = place.path().join("desk.jsonl.gz").to_str().unwrap().to_owned();
    let said = here.command(&["export", "--gzip", "--output", &file]);
    assert_eq!(said, format!("Wrote {file}: 11 tickets.\n"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "no other file is left");
    let refused = here.run(&["export", "--output", &file], &[]);
    assert!(!refused.ok && refused.stderr.contains("--force"), "{refused:?}");
    let text = here.command(&["export"]);
    assert_eq!(text.lines().count(), 11);
    let found =
        here.command(&["export", "--query", "Queue = 'Support' AND Priority > 50 OR Status = 'deleted'"]);
    let numbers = found.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["number"].clone());
    assert_eq!(numbers.collect::<Vec<_>>(), [json!(1), odd.clone()]);
    let wrong = here.run(&["export", "--query", "Prioritty > 50"], &[]);
    assert!(!wrong.ok && wrong.stderr.contains("--query, line 1 column 1: "), "{wrong:?}");

    // No server has run there yet, and lifecycles are not exported.
    let mut there = Server::new(&[]);
    let refused = there.run(&["import", "--create-missing", "--atomic", &file], &[]);
    assert!(!refused.ok && refused.stdout == "Imported nothing; 2 lines are invalid.\n", "{refused:?}");
    assert!(refused.stderr.contains("is not a status of the queue \"Incidents\""), "{refused:?}");
    there.restart().await;
    there.log_in();
    let lifecycles = here.list("/api/lifecycles").await;
    let incident = lifecycles.iter().find(|one| one["name"] != "default").unwrap();
    let document = json!({"name": incident["name"], "definition": incident["definition"]});
    there.done("POST", "/api/lifecycles", &document).await;
    there.done("POST", "/api/queues", &json!({"name": "Incidents", "lifecycle": incident["name"]})).await;
    there.stop().await;
    let said = there.command(&["import", "--create-missing", "--atomic", &file]);
    assert!(said.starts_with("Imported 11 tickets; created "), "{said}");
    there.check();
    there.restart().await;
    for number in all_numbers(&here).await {
        let (before, after) = (ticket(&here, &number).await, ticket(&there, &number).await);
        assert_eq!(before, after);
        assert_eq!(history(&here, &number).await, history(&there, &number).await, "#{number}");
    }
    assert_eq!(there.command(&["export"]), text);
    let next = there.done("POST", "/api/tickets", &json!({"queue": "General", "subject": "Next"})).await;
    assert_eq!(next["ticket"]["number"], 12);
    there.delivered(SOON).await;
    there.stop().await;
    there.check();
    here.stop().await;
}

async fn all_numbers(server: &Server) -> Vec<Value> {
    let tickets = server.list("/api/tickets").await;
    tickets.iter().map(|ticket| ticket["number"].clone()).collect()
}

/// Returns a ticket without the members that differ in another database: ids, and the length of its history.
async fn ticket(server: &Server, number: &Value) -> Value {
    let mut ticket = server.read(&format!("/api/tickets/{number}")).await;
    for member in ["id", "version"] {
        ticket.as_object_mut().unwrap().remove(member).unwrap();
    }
    ticket["queue"].as_object_mut().unwrap().remove("id").unwrap();
    ticket
}

/// Returns the lines of a history that are exported, without their ids.
async fn history(server: &Server, number: &Value) -> Vec<Value> {
    let mut lines = server.history(number).await;
    lines.retain(|line| !line["seq"].is_null() && line["transaction_type"] != "Import");
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        let told = [
            "seq",
            "transaction_type",
            "field",
            "old_value",
            "new_value",
            "content",
            "content_type",
            "creator",
            "created_at",
        ];
        line.retain(|member, _| told.contains(&member.as_str()));
    }
    lines
}

#[tokio::test]
async fn errors_are_printed_on_stderr_and_set_the_exit_code() {
    let (server, place) = (Server::start(&[]).await, TempDir::new().unwrap());
    let mixed = format!("{}\n{{\"queue\": \"General\"\n{}\n", line(1), line(2));
    let file = written(&place, "mixed.jsonl", mixed.as_bytes());
    let atomic = server.run(&["import", "--atomic", &file], &[]);
    assert!(!atomic.ok && atomic.stderr.contains("1 line is invalid; nothing was imported"), "{atomic:?}");
    assert_eq!(atomic.stdout, "Imported nothing; 1 line is invalid.\n");
    assert_eq!(tickets(&server).await, 0);
    let ran = server.run(&["import", &file], &[]);
    assert!(
        !ran.ok && ran.stdout.starts_with("Imported 2 tickets; created 1 user; 1 line is invalid."),
        "{ran:?}"
    );
    assert!(ran.stderr.contains(&format!("{file}:2: line: is not JSON: EOF")), "{ran:?}");
    assert_eq!(tickets(&server).await, 2);

    let other = written(&place, "other.jsonl", lines(4).replace("Old", "Other").as_bytes());
    let ran = server.run(&["import", &other], &[]);
    assert!(ran.ok, "{ran:?}");
    let again = written(&place, "again.jsonl", lines(4).as_bytes());
    let ran = server.run(&["import", &again], &[]);
    assert!(
        !ran.ok && ran.stdout.contains("skipped 2 lines that had been imported before (2 with"),
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains("tessera: 2 lines are not imported: other lines with the same numbers were"),
        "{ran:?}"
    );

    let there = tickets(&server).await;
    let cut = packed(lines(3_000).as_bytes());
    let cut = written(&place, "cut.jsonl.gz", &cut[..cut.len() / 50]);
    let ran = server.run(&["import", &cut], &[]);
    assert!(!ran.ok && ran.stderr.contains(&format!("cannot read {cut} after line ")), "{ran:?}");
    let whole = tickets(&server).await - there;
    assert!(0 < whole && whole < BATCH, "{whole} lines before the cut");
    // Bytes in the middle of the file that are not valid gzip.
    let mut broken = packed(lines(3_000).as_bytes());
    let middle = broken.len() / 2;
    broken.splice(middle..middle, [0xff; 64]);
    let broken = written(&place, "broken.jsonl.gz", &broken);
    let ran = server.run(&["import", &broken], &[]);
    assert!(!ran.ok && ran.stderr.contains(&format!("cannot read {broken} after line ")), "{ran:?}");
    let nowhere = server.run(&["import", "/nowhere/old.jsonl"], &[]);
    assert!(!nowhere.ok && nowhere.stderr.contains("cannot read /nowhere/old.jsonl"), "{nowhere:?}");
    let directory = server.run(&["import", place.path().to_str().unwrap()], &[]);
    assert!(!directory.ok && directory.stderr.contains("is a directory"), "{directory:?}");
    server.check();
}

#[tokio::test]
async fn an_export_reports_tickets_that_cannot_be_imported_and_does_not_migrate() {
    let (server, place) = (Server::start(&[]).await, TempDir::new().unwrap());
    let file = written(&place, "old.jsonl", lines(4).as_bytes());
    server.command(&["import", &file]);
    let mut db = server.connection().await;
    for change in [
        "UPDATE tickets SET number = 1000000000001 WHERE number = 100000",
        "UPDATE tickets SET created_at = '2062-01-01' WHERE number < 100000",
    ] {
        sqlx::query(change).execute(&mut db).await.unwrap();
    }
    let ran = server.run(&["export"], &[]);
    assert!(!ran.ok && ran.stdout.lines().count() == 4, "{ran:?}");
    assert!(ran.stderr.contains("2 of these tickets cannot be imported again"), "{ran:?}");
    assert!(ran.stderr.contains("created_at: is in the future"), "the first of them is reported: {ran:?}");

    sqlx::query("DELETE FROM _sqlx_migrations WHERE version > 1").execute(&mut db).await.unwrap();
    let ran = server.run(&["export"], &[]);
    assert!(!ran.ok && ran.stdout.is_empty() && ran.stderr.contains("run `tessera migrate`"), "{ran:?}");
    db.close().await.unwrap();
}

#[test]
fn a_missing_database_is_not_exported() {
    let (place, nothing) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = place.path().join("nothing.jsonl");
    let file = Path::to_str(&file).unwrap();
    let ran = crate::support::run(
        crate::support::tessera(&["export", "--output", file]).env("TESSERA_DATA_DIR", nothing.path()),
    );
    assert!(!ran.ok && ran.stderr.contains("nothing to export"), "{ran:?}");
    assert_eq!(fs::read_dir(nothing.path()).unwrap().count(), 0, "no database was created");
}
