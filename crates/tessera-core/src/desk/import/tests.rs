//! Imports into a real database: the rows they write, repeated imports, and concurrent changes.

use super::*;
use crate::db::export::Wanted;
use crate::db::history;
use crate::db::tickets::TicketRef;
use crate::desk::{Conditions, clock};
use crate::models::user::ADMIN_USER;
use crate::plan::command::{CreateTicket, UpdateTicket};
use crate::plan::import::Line;
use crate::query::Zone;
use crate::query::sql::Asker;
use crate::testing::{Desk, TestDb, node};
use serde_json::{Value, json};
use std::collections::BTreeMap;

mod missing_objects;

const ALL_THERE: Options = Options { create_missing: false, atomic: false };
const MISSING: Options = Options { create_missing: true, atomic: false };
const ATOMIC: Options = Options { create_missing: true, atomic: true };

async fn desk() -> Desk {
    Desk::open(TestDb::new().await).await
}

/// A line that is valid in the seeded database, with more members.
fn line(more: Value) -> Value {
    let mut line = json!({"queue": "General", "subject": "Printer", "status": "open", "creator": "eve@example.net",
        "created_at": "2020-01-01T10:00:00Z"});
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    line
}

fn numbered(lines: &[Value]) -> Vec<Numbered> {
    let read = |(number, line): (u64, &Value)| Numbered {
        number,
        read: Read::of("old.jsonl", number, line.to_string().as_bytes(), clock::now()).map(Box::new),
    };
    (1..).zip(lines).map(read).collect()
}

/// Imports lines in batches of two, so that there are several. Returns the tally and the reported lines.
async fn import(desk: &Tessera, options: Options, lines: &[Value]) -> (Tally, Vec<String>) {
    let (mut import, mut told) = (Import::begin(desk, &desk.administrator().unwrap(), options), Vec::new());
    for batch in numbered(lines).chunks(2) {
        told.extend(import.take(batch).await.unwrap());
    }
    let words = |told: Told| match told {
        Told::Bad(line, faults) => {
            let faults: Vec<_> =
                faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
            format!("{line}: {}", faults.join("; "))
        }
        Told::Differs(line, number) => format!("{line}: differs from #{number}"),
    };
    (import.finish().await.unwrap(), told.into_iter().map(words).collect())
}

/// Imports lines that are all valid.
async fn imported(desk: &Tessera, options: Options, lines: &[Value]) -> Tally {
    let (tally, told) = import(desk, options, lines).await;
    assert_eq!(told, [""; 0]);
    tally
}

async fn count(desk: &Tessera, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&desk.pools.read).await.unwrap()
}

/// The numbers of rows in all tables that an import writes, and the version of the configuration.
async fn rows_there(desk: &Tessera) -> BTreeMap<&'static str, i64> {
    let mut rows = BTreeMap::from([("version", count(desk, "SELECT version FROM config_version").await)]);
    for table in [
        "tickets",
        "ticket_watchers",
        "custom_field_values",
        "requests",
        "transactions",
        "transaction_contents",
        "imports",
        "users",
        "queues",
        "custom_fields",
        "queue_custom_fields",
        "deliveries",
        "request_traces",
    ] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        rows.insert(table, sqlx::query_scalar(sql).fetch_one(&desk.pools.read).await.unwrap());
    }
    rows
}

async fn assert_clean(desk: &Tessera) {
    let report = crate::db::check::check(&desk.pools.write).await.unwrap();
    assert!(report.tickets > 0 && report.violations.is_empty(), "{report:#?}");
}

/// Creates a ticket as the API would, and returns its number.
async fn make(desk: &Tessera, command: CreateTicket) -> i64 {
    let caller = desk.administrator().unwrap();
    let made = desk.create(&caller, command, &Conditions::default()).await.unwrap();
    made.committed().summary.ticket.number.unwrap()
}

fn a_ticket() -> CreateTicket {
    CreateTicket { queue: "General".to_owned(), subject: "New".to_owned(), ..CreateTicket::default() }
}

async fn exported(desk: &Tessera) -> Vec<Line> {
    let mut lines = Vec::new();
    let write = |line: &Line| -> Result<()> {
        lines.push(line.clone());
        Ok(())
    };
    let asker = Asker { user: ADMIN_USER, now: clock::now(), zone: Zone::utc() };
    let wanted = Wanted { query: None, asker };
    crate::db::export::export(&desk.pools.read, desk.catalog().installation.clone(), wanted, write)
        .await
        .unwrap();
    lines
}

#[tokio::test]
async fn what_is_imported_holds_together_goes_on_and_fires_nothing() {
    let desk = desk().await;
    let past = json!([
        {"type": "Create", "created_at": "2020-01-01T10:00:00Z", "creator": "eve@example.net", "content": "It\tburns\\n\r\nbadly."},
        {"type": "Status", "created_at": "2020-01-02T10:00:00Z", "creator": "old hand", "old_value": "new", "new_value": "open"}
    ]);
    let lines = [
        line(
            json!({"number": 5, "transactions": past, "requestors": ["eve@example.net", "max@example.net"], "cc": ["carl"]}),
        ),
        line(
            json!({"owner": "admin", "status": "Deleted", "subject": "Ünïcödé \\ \u{1F525}", "told_at": "2020-01-05T00:00:00Z"}),
        ),
        line(json!({"subject": "third"})),
    ];
    let tally = imported(&desk, ALL_THERE, &lines).await;
    assert_eq!(tally, Tally { lines: 3, imported: 3, users: 3, ..Tally::default() });
    assert_clean(&desk).await;
    let rows = rows_there(&desk).await;
    assert_eq!((rows["transactions"], rows["requests"], rows["transaction_contents"]), (5, 3, 1));
    assert_eq!((rows["deliveries"], rows["request_traces"], rows["version"]), (0, 0, 1));
    let users: Vec<(String, Option<String>, bool)> = sqlx::query_as("SELECT username, email, privileged FROM users WHERE id > '01000000-0000-7000-8000-000000000000' ORDER BY username")
        .fetch_all(&desk.pools.read).await.unwrap();
    let address = Some("eve@example.net".to_owned());
    assert_eq!(
        users,
        [
            ("carl".to_owned(), None, false),
            ("eve@example.net".to_owned(), address, false),
            ("old hand".to_owned(), None, false)
        ]
    );
    assert_eq!(
        count(&desk, "SELECT count(*) FROM ticket_watchers WHERE address = 'max@example.net'").await,
        1
    );
    let body: String = sqlx::query_scalar("SELECT body FROM transaction_contents")
        .fetch_one(&desk.pools.read)
        .await
        .unwrap();
    assert_eq!(body, "It\tburns\\n\r\nbadly.");
    assert_eq!(
        count(&desk, "SELECT count(*) FROM transaction_contents WHERE words @@ 'burns'::tsquery").await,
        1
    );

    let ticket = TicketRef::Number(5);
    let page = history::list(&desk.pools.read, ticket, 10, None).await.unwrap();
    let kinds: Vec<&str> = page.items.iter().map(|one| one.transaction_type.as_str()).collect();
    assert_eq!(kinds, ["Create", "Status", "Import"]);
    let update = UpdateTicket { priority: Some(9), ..UpdateTicket::default() };
    desk.update(&desk.administrator().unwrap(), ticket, update, &Conditions::default()).await.unwrap();
    assert_clean(&desk).await;
    let then = history::at(&desk.pools.read, ticket, 3).await.unwrap().0;
    assert_eq!((then.priority, then.version), (0, 3));
    let before = history::at(&desk.pools.read, ticket, 2).await.unwrap_err();
    assert_eq!(before.code(), Code::NotFound);
    assert!(
        before.detail().contains("was imported, as transaction 3")
            && before.detail().contains("request 3 or later"),
        "{before}"
    );
}

#[tokio::test]
async fn a_file_that_is_imported_again_makes_nothing_twice() {
    let desk = desk().await;
    let lines: Vec<Value> = (1..=5)
        .map(|at| if at % 2 == 0 { line(json!({"number": at * 10})) } else { line(json!({"priority": at})) })
        .collect();
    // As if the import had been killed after its first batch.
    imported(&desk, ALL_THERE, &lines[..2]).await;
    let tally = imported(&desk, ALL_THERE, &lines).await;
    assert_eq!((tally.imported, tally.skipped, tally.lines), (3, 2, 5));
    let rows = rows_there(&desk).await;
    let tally = imported(&desk, ATOMIC, &lines).await;
    assert_eq!((tally.imported, tally.skipped, tally.differing), (0, 5, 0));
    assert_eq!(rows_there(&desk).await, rows);

    let mut changed = lines.clone();
    changed[1]["subject"] = json!("Another");
    changed[4]["subject"] = json!("Another");
    let (tally, told) = import(&desk, ALL_THERE, &changed).await;
    assert_eq!(told, ["2: differs from #20"]);
    assert_eq!(
        (tally.imported, tally.skipped, tally.differing),
        (1, 4, 1),
        "without a number, other words are another line"
    );
    assert_clean(&desk).await;
}

#[tokio::test]
async fn a_bad_line_is_told_and_the_others_are_imported() {
    let desk = desk().await;
    let taken = make(&desk, a_ticket()).await;
    let lines = [
        line(json!({"status": "lost"})),
        line(json!({"number": 7})),
        json!("nothing"),
        line(json!({"number": taken})),
        line(json!({"number": 7, "subject": "the same number"})),
        line(json!({"owner": "eve@example.net"})),
        line(json!({"subject": "good", "cc": ["tessera"]})),
        line(json!({"owner": "eve@example.net"})),
        json!({}),
    ];
    let (tally, told) = import(&desk, ALL_THERE, &lines).await;
    assert_eq!((tally.imported, tally.bad, tally.skipped, tally.lines), (1, 7, 1, 9));
    let begins = [
        "1: status: \"lost\" is not a status",
        "3: line: is not a JSON object",
        "4: number: 1 is the number of another ticket",
        "5: differs from #7",
        "6: owner: eve@example.net cannot own tickets",
        "7: cc: tessera is the system user",
        "8: owner: eve@example.net cannot own tickets",
        "9: queue: missing field",
    ];
    assert_eq!(told.len(), begins.len(), "{told:#?}");
    for (said, begin) in told.iter().zip(begins) {
        assert!(said.starts_with(begin), "{said}\n{begin}");
    }
    assert_clean(&desk).await;
}

#[tokio::test]
async fn of_the_good_lines_of_one_number_the_first_is_imported() {
    let desk = desk().await;
    let of = |number: i64, more: Value| {
        let mut line = line(more);
        line["number"] = json!(number);
        line
    };
    let lines = [
        of(5, json!({"status": "bogus"})),
        of(5, json!({"subject": "good"})),
        of(6, json!({"cc": ["tessera"]})),
        of(6, json!({"subject": "good"})),
        of(7, json!({"subject": "good"})),
        of(7, json!({"subject": "another"})),
        of(8, json!({})),
        of(8, json!({})),
    ];
    let (tally, told) = import(&desk, ALL_THERE, &lines).await;
    assert_eq!((tally.imported, tally.bad, tally.skipped, tally.differing), (4, 2, 2, 1), "{told:?}");
    assert!(told[0].starts_with("1: status: ") && told[1].starts_with("3: cc: "), "{told:?}");
    assert_eq!(told[2..], ["6: differs from #7"]);
    assert_eq!(count(&desk, "SELECT count(*) FROM tickets WHERE subject = 'good'").await, 3);
    assert_clean(&desk).await;
}

#[tokio::test]
async fn a_table_that_cannot_be_counted_anew_is_no_error_of_the_import() {
    let desk = desk().await;
    let mut other = desk.pools.write.begin().await.unwrap();
    sqlx::query("LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE").execute(&mut *other).await.unwrap();
    let mut import = Import::begin(&desk, &desk.administrator().unwrap(), ATOMIC);
    import.take(&numbered(&[line(json!({}))])).await.unwrap();
    import.tally.imported = ANALYZED_FROM;
    assert_eq!(import.finish().await.unwrap().imported, ANALYZED_FROM);
    other.rollback().await.unwrap();
    assert_eq!(count(&desk, "SELECT count(*) FROM tickets").await, 1);
}

#[tokio::test]
async fn the_first_number_of_all_can_be_given_beside_lines_without_one() {
    let desk = desk().await;
    imported(&desk, ATOMIC, &[line(json!({"number": 1})), line(json!({}))]).await;
    let numbers = "SELECT array_agg(number ORDER BY number) FROM tickets";
    let numbers: Vec<i64> = sqlx::query_scalar(numbers).fetch_one(&desk.pools.read).await.unwrap();
    assert_eq!(numbers, [1, 2]);
}

#[tokio::test]
async fn people_whose_names_are_folded_in_two_ways_are_found_by_the_names_they_have() {
    let desk = desk().await;
    let lines: Vec<Value> = ["İsmail", "ΝΙΚΟΣ", "ΝΙΚΟΣ", "İsmail"]
        .into_iter()
        .map(|name| {
            line(json!({"creator": name, "owner": name, "queue": "ΣΑΣ", "custom_fields": {"İ": "x"}}))
        })
        .collect();
    let tally = imported(&desk, MISSING, &lines).await;
    assert_eq!(tally.imported, 4);
    assert_eq!(count(&desk, "SELECT count(*) FROM users WHERE username IN ('İsmail', 'ΝΙΚΟΣ')").await, 2);
    // Another import has not looked up any of them yet.
    let more = line(json!({"creator": "İsmail", "subject": "Another", "cc": ["ΝΙΚΟΣ"]}));
    imported(&desk, ALL_THERE, &[more]).await;
    assert_clean(&desk).await;
}

#[tokio::test]
async fn numbers_are_drawn_for_lines_that_may_be_written_and_no_others() {
    let desk = desk().await;
    let lines =
        [line(json!({"status": "lost"})), line(json!({})), line(json!({})), line(json!({"number": 900}))];
    let (tally, _) = import(&desk, ATOMIC, &lines).await;
    assert_eq!((tally.bad, tally.lines), (1, 4));
    assert_eq!(make(&desk, a_ticket()).await, 1);
}

#[tokio::test]
async fn all_or_nothing_leaves_no_trace_of_a_file_with_one_bad_line() {
    let desk = desk().await;
    let mut lines = vec![
        line(
            json!({"number": 3, "queue": "Old", "owner": "Zoe <zoe@example.net>", "custom_fields": {"Colour": "red"}}),
        ),
        line(json!({"queue": "Older", "creator": "somebody"})),
        line(json!({"status": "lost"})),
        line(json!({"queue": "Oldest", "creator": "somebody else"})),
        line(json!({"created_at": 7})),
    ];
    let before = rows_there(&desk).await;
    let (tally, told) = import(&desk, ATOMIC, &lines).await;
    assert_eq!(told.len(), 2, "both are reported: {told:?}");
    assert_eq!(tally, Tally { lines: 5, bad: 2, ..Tally::default() });
    assert_eq!(rows_there(&desk).await, before);
    lines.remove(4);
    lines.remove(2);
    let tally = imported(&desk, ATOMIC, &lines).await;
    assert_eq!((tally.imported, tally.bad), (3, 0));
    assert_clean(&desk).await;
    let catalog = desk.fresh_catalog().await.unwrap();
    assert!(["Old", "Older", "Oldest"].iter().all(|queue| catalog.queues.find(queue).is_some()));

    let mut import = Import::begin(&desk, &desk.administrator().unwrap(), ATOMIC);
    import.tally.lines = ATOMIC_LINES_MAX;
    let refused = import.take(&numbered(&[line(json!({}))])).await.unwrap_err();
    assert_eq!(refused.code(), Code::LimitReached);
}

#[tokio::test]
async fn given_numbers_are_kept_and_the_next_ones_follow_the_highest() {
    let desk = desk().await;
    imported(
        &desk,
        ALL_THERE,
        &[line(json!({"number": 1_000})), line(json!({})), line(json!({"number": 3}))],
    )
    .await;
    assert_eq!(make(&desk, a_ticket()).await, 1_002);
    imported(&desk, ALL_THERE, &[line(json!({"number": 500}))]).await;
    assert_eq!(make(&desk, a_ticket()).await, 1_003, "the sequence never goes back");
    let numbers: Vec<i64> = sqlx::query_scalar("SELECT number FROM tickets ORDER BY number")
        .fetch_all(&desk.pools.read)
        .await
        .unwrap();
    assert_eq!(numbers, [3, 500, 1_000, 1_001, 1_002, 1_003]);
    // The numbers are reserved before the first line is written, so that no other ticket gets one meanwhile.
    Import::begin(&desk, &desk.administrator().unwrap(), ALL_THERE).reserve(2_000).await.unwrap();
    assert_eq!(make(&desk, a_ticket()).await, 2_001);
    Import::begin(&desk, &desk.administrator().unwrap(), ALL_THERE).reserve(5).await.unwrap();
    assert_eq!(make(&desk, a_ticket()).await, 2_002);
}

#[tokio::test]
async fn a_create_that_drew_a_number_which_an_import_gave_away_draws_another() {
    let desk = desk().await;
    imported(&desk, ALL_THERE, &[line(json!({"number": 1})), line(json!({"number": 2}))]).await;
    // As if these numbers had been drawn before the import moved the sequence.
    sqlx::query("SELECT setval('ticket_number', 1, false)").execute(&desk.pools.write).await.unwrap();
    assert_eq!(make(&desk, a_ticket()).await, 3);
    assert_clean(&desk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_a_create_takes_while_it_is_written_is_a_bad_line() {
    let desk = desk().await;
    imported(&desk, ALL_THERE, &[line(json!({"number": 10}))]).await;
    let mut other = desk.pools.write.begin().await.unwrap();
    sqlx::query("INSERT INTO tickets SELECT (t).* FROM (SELECT jsonb_populate_record(t, jsonb_build_object('id', gen_random_uuid(), 'number', 4)) AS t FROM tickets t) s")
        .execute(&mut *other).await.unwrap();
    let tessera = Arc::clone(&desk);
    let importing = tokio::spawn(async move {
        import(&tessera, ALL_THERE, &[line(json!({"number": 4})), line(json!({"number": 6}))]).await
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'COPY tickets%'";
    while count(&desk, waits).await == 0 {
        tokio::task::yield_now().await;
    }
    other.commit().await.unwrap();
    let (tally, told) = importing.await.unwrap();
    assert_eq!((tally.imported, tally.bad, tally.users), (1, 1, 0));
    assert!(told[0].starts_with("1: number: 4 is the number of another ticket"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_and_two_imports_at_once_give_every_ticket_a_number_of_its_own() {
    let desk = desk().await;
    let import_of = |highest: i64| {
        let tessera = Arc::clone(&desk);
        let given = |at| line(json!({"number": highest - at}));
        let drawn = |at| line(json!({"priority": highest - at}));
        let lines: Vec<Value> = (0..20).map(|at| if at % 2 == 0 { given(at) } else { drawn(at) }).collect();
        // Without a number, the file, the line number and the line are the key; the priority makes them differ.
        tokio::spawn(async move { imported(&tessera, MISSING, &lines).await.imported })
    };
    let (one, other) = (import_of(1_000), import_of(10_000));
    let mut made = Vec::new();
    for _ in 0..40 {
        made.push(make(&desk, a_ticket()).await);
    }
    assert_eq!((one.await.unwrap(), other.await.unwrap()), (20, 20));
    assert_eq!(count(&desk, "SELECT count(DISTINCT number) FROM tickets").await, 80);
    made.dedup();
    assert_eq!(made.len(), 40);
    assert_clean(&desk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_that_changes_meanwhile_is_the_one_that_counts() {
    use crate::plan::documents::LifecycleDocument;
    let desk = desk().await;
    // The import reads the configuration before the change, and imports its first batch after it.
    let mut under_way = Import::begin(&desk, &desk.administrator().unwrap(), ALL_THERE);
    let other = node(&desk.db).await;
    let mut definition = serde_json::to_value(crate::lifecycle::Definition::stock()).unwrap();
    definition["active"].as_array_mut().unwrap().push(json!("looking"));
    definition["transitions"]["looking"] = json!(["open"]);
    let patch = json!({ "definition": definition });
    let Value::Object(patch) = patch else { panic!("an object") };
    other
        .change::<LifecycleDocument>(&other.administrator().unwrap(), "default", patch, false)
        .await
        .unwrap();
    let told = under_way.take(&numbered(&[line(json!({"status": "looking"}))])).await.unwrap();
    assert_eq!(told, []);
    assert_clean(&desk).await;
}

#[tokio::test]
async fn people_of_one_name_with_different_addresses_are_different_people() {
    let desk = desk().await;
    let asked_by =
        |number: i64, who: &str| line(json!({"number": number, "creator": who, "requestors": [who]}));
    let lines = [
        asked_by(11, "Jane Doe <jane@first.example>"),
        asked_by(12, "JANE DOE <jane@second.example>"),
        asked_by(13, "Jane Doe <Jane@First.example>"),
        asked_by(14, "\"Jane Doe\"<jane@third.example>"),
        asked_by(15, "Jane Doe"),
        asked_by(16, "<jane@fourth.example>"),
    ];
    let tally = imported(&desk, ALL_THERE, &lines).await;
    assert_eq!((tally.imported, tally.users), (6, 4));
    let requestors = "SELECT t.number, u.username, u.email, u.name FROM tickets t JOIN ticket_watchers w ON w.ticket_id = t.id \
                      JOIN users u ON u.id = w.user_id ORDER BY t.number";
    let found: Vec<(i64, String, Option<String>, Option<String>)> =
        sqlx::query_as(requestors).fetch_all(&desk.pools.read).await.unwrap();
    let of: Vec<(i64, &str, Option<&str>, Option<&str>)> = found
        .iter()
        .map(|(number, username, email, name)| {
            (*number, username.as_str(), email.as_deref(), name.as_deref())
        })
        .collect();
    assert_eq!(
        of,
        [
            (11, "Jane Doe", Some("jane@first.example"), None),
            (12, "jane@second.example", Some("jane@second.example"), Some("JANE DOE")),
            (13, "Jane Doe", Some("jane@first.example"), None),
            (14, "jane@third.example", Some("jane@third.example"), Some("Jane Doe")),
            (15, "Jane Doe", Some("jane@first.example"), None),
            (16, "jane@fourth.example", Some("jane@fourth.example"), None),
        ]
    );
    // An owner of that name with another address is somebody else, too.
    let owned = line(json!({"number": 17, "owner": "Jane Doe <jane@fifth.example>"}));
    imported(&desk, MISSING, &[owned]).await;
    let owner = "SELECT count(*) FROM tickets t JOIN users u ON u.id = t.owner_id \
                 WHERE u.email = 'jane@fifth.example' AND u.username = u.email AND u.name = 'Jane Doe' AND u.privileged";
    assert_eq!(count(&desk, owner).await, 1);
    assert_clean(&desk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_configuration_during_a_batch_waits_and_tickets_do_not() {
    use crate::plan::documents::LifecycleDocument;
    let desk = desk().await;
    let number = make(&desk, a_ticket()).await;
    let mut definition = serde_json::to_value(crate::lifecycle::Definition::stock()).unwrap();
    definition["active"].as_array_mut().unwrap().retain(|status| status != "stalled");
    definition["inactive"].as_array_mut().unwrap().push(json!("stalled"));
    let Value::Object(patch) = json!({ "definition": definition }) else { panic!("an object") };
    let mut batch = desk.pools.write.begin().await.unwrap();
    db_import::begin(&mut batch).await.unwrap();
    let tessera = Arc::clone(&desk);
    let edit = tokio::spawn(async move {
        let caller = tessera.administrator().unwrap();
        tessera.change::<LifecycleDocument>(&caller, "default", patch, true).await.map(drop)
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while count(&desk, waits).await == 0 {
        tokio::task::yield_now().await;
    }
    let update = UpdateTicket { priority: Some(7), ..UpdateTicket::default() };
    let caller = desk.administrator().unwrap();
    desk.update(&caller, TicketRef::Number(number), update, &Conditions::default()).await.unwrap();
    assert!(!edit.is_finished(), "the ticket did not wait for the edit");
    batch.commit().await.unwrap();
    edit.await.unwrap().unwrap();
    assert_clean(&desk).await;
}

#[tokio::test]
async fn what_is_exported_and_imported_elsewhere_is_exported_the_same() {
    use crate::models::transaction::Content;
    let (here, there) = (desk().await, desk().await);
    imported(&here, MISSING, &[
        line(json!({"number": 70, "queue": "Ümläut", "owner": "Zoe <zoe@example.net>", "custom_fields": {"Größe": ["\t%_\\", "ß"], "Leer": null},
            "transactions": [{"type": "Comment", "created_at": "2019-01-01T00:00:00Z", "creator": "x", "content": "<p>\u{2028}", "content_type": "text/html"}]})),
        line(json!({"status": "deleted", "requestors": ["bare@example.net", "named <named@example.net>"], "priority": -1})),
    ]).await;
    let content = Some(Content::plain("Hello".to_owned()));
    let number =
        make(&here, CreateTicket { content, requestors: vec!["eve@example.net".to_owned()], ..a_ticket() })
            .await;
    let update = UpdateTicket { status: Some("resolved".to_owned()), ..UpdateTicket::default() };
    here.update(&here.administrator().unwrap(), TicketRef::Number(number), update, &Conditions::default())
        .await
        .unwrap();

    let lines = exported(&here).await;
    assert_eq!(lines.len(), 3);
    let values: Vec<Value> = lines.iter().map(|line| serde_json::to_value(line).unwrap()).collect();
    let kinds: Vec<&str> = lines[2].transactions.iter().map(|past| past.r#type.as_str()).collect();
    assert_eq!(
        kinds,
        ["Create", "Status", "Set", "Set"],
        "changes in this database are exported, its deliveries are not"
    );
    imported(&there, MISSING, &values).await;
    assert_clean(&there).await;
    assert_eq!(exported(&there).await, lines);
}

#[tokio::test]
async fn html_is_imported_as_its_text_and_exported_as_it_was_sent() {
    let desk = desk().await;
    let html = "<p>Herr M&uuml;ller hat re<b>fund</b></p>";
    let past = json!([{"type": "Comment", "created_at": "2020-01-01T10:00:00Z", "creator": "x", "content": html, "content_type": "text/html"}]);
    imported(&desk, ALL_THERE, &[line(json!({"number": 5, "transactions": past}))]).await;
    assert_clean(&desk).await;
    let row: (String, String, String, bool) = sqlx::query_as(
        "SELECT content_type, body, html, words @@ 'refund' AND NOT words @@ 'p' FROM transaction_contents",
    )
    .fetch_one(&desk.pools.read)
    .await
    .unwrap();
    let kept = ("text/html".to_owned(), "Herr Müller hat refund".to_owned(), html.to_owned(), true);
    assert_eq!(row, kept);

    // A row of a version before the column `html`.
    sqlx::query("UPDATE transaction_contents SET body = html, html = NULL")
        .execute(&desk.pools.write)
        .await
        .unwrap();
    let page = history::list(&desk.pools.read, TicketRef::Number(5), 10, None).await.unwrap();
    let content = page.items[0].content.clone().unwrap();
    assert_eq!(
        (content.content_type.as_str(), content.body.as_str()),
        ("text/html", "Herr Müller hat refund")
    );
}
