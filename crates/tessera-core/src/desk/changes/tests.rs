//! The concurrency cases of the write path, on a real database.

use super::*;
use crate::db::tickets::Load;
use crate::models::TicketId;
use crate::models::transaction::Content;
use crate::models::user::ADMIN_USER;
use crate::plan::command::{CreateTicket, UpdateTicket};
use crate::plan::{Plan, context::to_micros};
use crate::testing::{TestDb, node};
use serde_json::json;
use sqlx::PgPool;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

fn new_ticket() -> CreateTicket {
    let requestors = vec!["eve@example.net".to_owned()];
    CreateTicket {
        queue: "General".to_owned(),
        subject: "Printer".to_owned(),
        requestors,
        ..CreateTicket::default()
    }
}

fn priority(priority: i32) -> UpdateTicket {
    UpdateTicket { priority: Some(priority), ..UpdateTicket::default() }
}

fn to_status(status: &str) -> UpdateTicket {
    UpdateTicket { status: Some(status.to_owned()), ..UpdateTicket::default() }
}

fn with_comment(command: UpdateTicket, body: &str) -> UpdateTicket {
    let content = Content::plain(body.to_owned());
    UpdateTicket { comment: Some(content), ..command }
}

async fn create_ticket(desk: &Tessera) -> TicketRef {
    let created = desk.create(&desk.administrator().unwrap(), new_ticket(), &Conditions::default()).await;
    let ticket = created.unwrap().committed().summary.ticket;
    assert_eq!(ticket.version, 1);
    TicketRef::Number(ticket.number.unwrap())
}

fn with_key(key: &str, body: &[u8]) -> Conditions {
    Conditions {
        key: Some(IdempotencyKey { key: key.to_owned(), body_hash: body.to_vec() }),
        ..Conditions::default()
    }
}

/// Counts the rows of every table that a plan writes.
async fn rows(pool: &PgPool) -> BTreeMap<&'static str, i64> {
    let tables = [
        "tickets",
        "requests",
        "request_traces",
        "transactions",
        "transaction_contents",
        "custom_field_values",
        "ticket_watchers",
        "deliveries",
        "delivery_queue",
        "idempotency_keys",
    ];
    let mut rows = BTreeMap::new();
    for table in tables {
        let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        rows.insert(table, sqlx::query_scalar(count).fetch_one(pool).await.unwrap());
    }
    rows
}

/// Prepares the plan of an update without writing it.
async fn planned(desk: &Tessera, ticket: TicketRef, command: UpdateTicket) -> Plan {
    desk.preview_update(&desk.administrator().unwrap(), ticket, command).await.unwrap().plan
}

async fn write(desk: &Tessera, plan: &Plan, key: Option<Key<'_>>) -> Written {
    let mut db = desk.pools.write.acquire().await.unwrap();
    plans::update(&mut db, std::slice::from_ref(plan), key).await.unwrap()[0]
}

async fn bump(desk: &Tessera) {
    sqlx::query("UPDATE config_version SET version = version + 1").execute(&desk.pools.write).await.unwrap();
}

async fn assert_clean(desk: &Tessera) {
    let report = crate::db::check::check(&desk.pools.write).await.unwrap();
    assert!(report.tickets > 0 && report.violations.is_empty(), "{report:#?}");
}

const KEY: Key<'static> = Key { key: "k", body_hash: b"h", response: b"{}" };

#[tokio::test]
async fn a_plan_of_a_moved_ticket_or_configuration_writes_nothing_at_all() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let ticket = create_ticket(&desk).await;
    let comment = with_comment(to_status("open"), "hm");
    let stale = planned(&desk, ticket, comment.clone()).await;
    let winner = planned(&desk, ticket, priority(5)).await;
    assert_eq!(write(&desk, &winner, None).await, Written::Yes);
    let before = rows(&desk.pools.read).await;
    assert_eq!(write(&desk, &stale, Some(KEY)).await, Written::TicketMoved);
    assert_eq!(rows(&desk.pools.read).await, before, "moved version");

    let fresh = planned(&desk, ticket, comment.clone()).await;
    bump(&desk).await;
    assert_eq!(write(&desk, &fresh, Some(KEY)).await, Written::ConfigurationMoved);
    assert_eq!(write(&desk, &stale, Some(KEY)).await, Written::ConfigurationMoved);
    assert_eq!(rows(&desk.pools.read).await, before, "moved configuration, and both");

    let last = planned(&desk, ticket, comment).await;
    assert_eq!(write(&desk, &last, Some(KEY)).await, Written::Yes);
    let another = planned(&desk, ticket, priority(6)).await;
    let before = rows(&desk.pools.read).await;
    assert_eq!(write(&desk, &another, Some(KEY)).await, Written::KeyUsed);
    assert_eq!(rows(&desk.pools.read).await, before, "used key");
    assert_clean(&desk).await;
}

#[tokio::test]
async fn many_plans_are_written_in_one_statement_and_a_moved_one_drops_out_alone() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let mut plans = Vec::new();
    for _ in 0..5 {
        let ticket = create_ticket(&desk).await;
        plans.push(planned(&desk, ticket, to_status("open")).await);
    }
    let moved = TicketRef::Id(plans[2].ticket.id);
    assert_eq!(write(&desk, &planned(&desk, moved, priority(1)).await, None).await, Written::Yes);
    let mut conn = desk.pools.write.acquire().await.unwrap();
    // The plans have different requests but one time, because the statement takes the time from the first plan.
    let now = plans.iter().map(|plan| plan.now).max().unwrap();
    for plan in &mut plans {
        plan.now = now;
        plan.ticket.updated_at = now;
    }
    let written = plans::update(&mut conn, &plans, None).await.unwrap();
    assert_eq!(written, [Written::Yes, Written::Yes, Written::TicketMoved, Written::Yes, Written::Yes]);
}

#[tokio::test]
async fn the_same_key_twice_at_once_has_one_effect_and_one_answer() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let caller = desk.administrator().unwrap();
    let before = rows(&desk.pools.read).await["tickets"];
    let conditions = with_key("once", b"body");
    let creates = (0..8).map(|_| desk.create(&caller, new_ticket(), &conditions));
    let outcomes = futures::future::join_all(creates).await;
    let committed: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().committed()).collect();
    assert_eq!(committed.iter().filter(|one| !one.is_replayed).count(), 1);
    assert!(committed.windows(2).all(|pair| pair[0].summary == pair[1].summary));
    assert_eq!(rows(&desk.pools.read).await["tickets"], before + 1);

    let other = desk.create(&caller, new_ticket(), &with_key("once", b"another")).await.unwrap_err();
    assert_eq!(other.code(), Code::IdempotencyKeyReused);
}

/// Before summaries, a key kept the bytes of an HTTP answer.
#[tokio::test]
async fn a_key_that_an_older_program_used_is_refused_and_changes_nothing() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let caller = desk.administrator().unwrap();
    let conditions = with_key("old", b"body");
    desk.create(&caller, new_ticket(), &conditions).await.unwrap();
    let answer: &[u8] = br#"{"ticket": {"number": 1, "version": 1}, "transactions": [], "plan_hash": ""}"#;
    let keep = sqlx::query("UPDATE idempotency_keys SET response = $1").bind(answer);
    keep.execute(&desk.pools.write).await.unwrap();
    let before = rows(&desk.pools.read).await;
    let refused = desk.create(&caller, new_ticket(), &conditions).await.unwrap_err();
    assert_eq!(refused.code(), Code::IdempotencyKeyReused);
    assert!(refused.detail().contains("before Tessera was upgraded"), "{refused}");
    assert_eq!(rows(&desk.pools.read).await, before);
}

#[tokio::test]
async fn a_retry_is_replayed_before_anything_else_is_looked_at() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let caller = desk.administrator().unwrap();
    let ticket = create_ticket(&desk).await;
    let conditions = Conditions { version: Some(1), ..with_key("u", b"b") };
    let first = desk.update(&caller, ticket, priority(3), &conditions).await.unwrap();
    let first = first.committed();
    assert_eq!((first.summary.ticket.version, first.is_replayed), (2, false));
    let again = desk.update(&caller, ticket, priority(3), &conditions).await.unwrap();
    let again = again.committed();
    assert!(again.is_replayed && again.summary == first.summary, "not 412: {again:?}");
    let stale = Conditions { version: Some(1), ..Conditions::default() };
    let refused = desk.update(&caller, ticket, priority(4), &stale).await.unwrap_err();
    assert_eq!(refused.code(), Code::VersionMismatch);
}

#[tokio::test]
async fn only_the_plan_that_was_shown_is_committed() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let caller = desk.administrator().unwrap();
    let ticket = create_ticket(&desk).await;
    let shown = planned(&desk, ticket, to_status("resolved")).await.hash;
    let named = Conditions { plan: Some(shown), ..Conditions::default() };
    desk.update(&caller, ticket, priority(8), &Conditions::default()).await.unwrap();
    let before = rows(&desk.pools.read).await;
    let changed = desk.update(&caller, ticket, to_status("resolved"), &named).await.unwrap();
    let Outcome::PlanChanged(new) = changed else {
        panic!("the ticket has another priority now: {changed:?}")
    };
    assert_eq!(rows(&desk.pools.read).await, before);
    let named = Conditions { plan: Some(new.plan.hash), ..Conditions::default() };
    let committed = desk.update(&caller, ticket, to_status("resolved"), &named).await.unwrap();
    assert!(matches!(committed, Outcome::Committed(_)));

    let shown = desk.preview_create(&caller, new_ticket()).await.unwrap().plan;
    assert_eq!(shown.ticket.number, None);
    let named = Conditions { plan: Some(shown.hash), ..Conditions::default() };
    assert!(matches!(desk.create(&caller, new_ticket(), &named).await.unwrap(), Outcome::Committed(_)));
}

#[tokio::test]
async fn sixty_four_writers_of_one_ticket_all_succeed() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let caller = desk.administrator().unwrap();
    let ticket = create_ticket(&desk).await;
    let none = Conditions::default();
    let writers = (1..=64).map(|n| desk.update(&caller, ticket, priority(n), &none));
    for outcome in futures::future::join_all(writers).await {
        assert!(matches!(outcome.unwrap(), Outcome::Committed(_)));
    }
    assert_clean(&desk).await;
}

#[tokio::test]
async fn writers_of_two_processes_succeed_by_locking_first() {
    let db = TestDb::new().await;
    let nodes = [node(&db).await, node(&db).await];
    let caller = nodes[0].administrator().unwrap();
    let ticket = create_ticket(&nodes[0]).await;
    let none = Conditions::default();
    // Half of the writers of each node refer to the ticket by id and half by number.
    let id = planned(&nodes[0], ticket, priority(1)).await.ticket.id;
    let writers = (1..=64).map(|n| {
        let by = if n % 4 < 2 { ticket } else { TicketRef::Id(id) };
        nodes[n as usize % 2].update(&caller, by, priority(n), &none)
    });
    for outcome in futures::future::join_all(writers).await {
        assert!(matches!(outcome.unwrap(), Outcome::Committed(_)));
    }
    assert_clean(&nodes[0]).await;
}

#[tokio::test]
async fn a_ticket_has_one_turn_whether_it_is_named_by_number_or_by_id() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let caller = desk.administrator().unwrap();
    let ticket = create_ticket(&desk).await;
    let TicketRef::Number(number) = ticket else { panic!("{ticket:?}") };
    let id = planned(&desk, ticket, priority(1)).await.ticket.id;
    let none = Conditions::default();
    let turn = desk.locks.acquire(number).await.unwrap();
    let mut by_id = Box::pin(desk.update(&caller, TicketRef::Id(id), priority(2), &none));
    // It waits for the turn, which it can only get from here: a change on this idle desk has nothing else to wait for.
    while desk.locks.number_of(id).is_none() {
        assert!(futures::poll!(&mut by_id).is_pending());
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        assert!(futures::poll!(&mut by_id).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(desk.locks.writers_of(number), 2);
    drop(turn);
    assert!(matches!(by_id.await.unwrap(), Outcome::Committed(_)));
    assert_eq!(desk.locks.writers_of(number), 0);
    let missing = desk.update(&caller, TicketRef::Id(TicketId(uuid::Uuid::nil())), priority(2), &none).await;
    assert_eq!(missing.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn sixty_four_writers_of_status_are_written_or_refused_by_the_lifecycle() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let caller = desk.administrator().unwrap();
    let ticket = create_ticket(&desk).await;
    let none = Conditions::default();
    let statuses = ["open", "stalled", "resolved", "rejected", "new", "deleted"];
    let (written, denied) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let writers = (0..64).map(|n| {
        let (desk, caller, none, written, denied) = (&desk, &caller, &none, &written, &denied);
        async move {
            match desk.update(caller, ticket, to_status(statuses[n % statuses.len()]), none).await {
                Ok(_) => written.fetch_add(1, Ordering::Relaxed),
                Err(error) if error.code() == Code::TransitionDenied => {
                    denied.fetch_add(1, Ordering::Relaxed)
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    futures::future::join_all(writers).await;
    assert_eq!(written.into_inner() + denied.into_inner(), 64);
    assert_clean(&desk).await;
}

#[tokio::test]
async fn updates_go_on_while_the_configuration_is_edited() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let caller = desk.administrator().unwrap();
    let ticket = create_ticket(&desk).await;
    let none = Conditions::default();
    let edits = async {
        for _ in 0..20 {
            bump(&desk).await;
            tokio::task::yield_now().await;
        }
    };
    let writers =
        futures::future::join_all((1..=32).map(|n| desk.update(&caller, ticket, priority(n), &none)));
    let (outcomes, ()) = tokio::join!(writers, edits);
    for outcome in outcomes {
        assert!(matches!(outcome.unwrap(), Outcome::Committed(_)));
    }
    assert_clean(&desk).await;
}

#[tokio::test]
async fn a_preview_takes_no_transaction_id_and_changes_no_row_and_no_sequence() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let caller = desk.administrator().unwrap();
    let ticket = create_ticket(&desk).await;
    let state = || async {
        let next: String = sqlx::query_scalar("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
            .fetch_one(&desk.pools.read)
            .await
            .unwrap();
        let number: i64 = sqlx::query_scalar("SELECT last_value FROM ticket_number")
            .fetch_one(&desk.pools.read)
            .await
            .unwrap();
        (next, number, rows(&desk.pools.read).await)
    };
    let before = state().await;
    let update = desk.preview_update(&caller, ticket, to_status("resolved")).await.unwrap();
    let create = desk.preview_create(&caller, new_ticket()).await.unwrap();
    assert!(!update.plan.transactions.is_empty() && !create.plan.deliveries.is_empty());
    // Other tests share the server and may take transaction ids, so these are not compared. The session is read-only, so it cannot
    // take one.
    let after = state().await;
    assert_eq!((before.1, before.2), (after.1, after.2));
    let is_read_only: String =
        sqlx::query_scalar("SHOW transaction_read_only").fetch_one(&desk.pools.read).await.unwrap();
    assert_eq!(is_read_only, "on");
}

#[tokio::test]
async fn what_is_loaded_again_is_what_was_written() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let caller = desk.administrator().unwrap();
    let ticket = create_ticket(&desk).await;
    let plan = planned(&desk, ticket, to_status("resolved")).await;
    assert_eq!(write(&desk, &plan, None).await, Written::Yes);
    let mut conn = desk.pools.read.acquire().await.unwrap();
    let load = Load { actor: caller.user.id, key: None, people: &[], messages: &[] };
    let loaded = tickets::load(&mut conn, TicketRef::Id(TicketId(plan.ticket.id.0)), load).await.unwrap();
    let Target::Existing(found) = loaded.situation.ticket else { panic!("the ticket is there") };
    assert_eq!(*found, plan.ticket);
    assert_eq!(plan.now, to_micros(plan.now));
}

/// A process whose cache lacks a new template with `messages` must not render the template without them.
#[tokio::test]
async fn a_template_that_another_process_made_is_not_rendered_without_its_messages() {
    let db = TestDb::new().await;
    let nodes = [node(&db).await, node(&db).await];
    let caller = nodes[0].administrator().unwrap();
    let content = Content::plain("FIRST".to_owned());
    let command = CreateTicket { content: Some(content), ..new_ticket() };
    nodes[0].create(&caller, command, &Conditions::default()).await.unwrap();
    let words = "{% for one in messages %}{{ one.content }}{% endfor %}";
    let template = json!({"name": "Past", "subject_template": "s", "body_template": words});
    let scrip = json!({"name": "Past", "condition_type": "OnPriorityChange", "action_type": "SendEmail",
        "action_config": {"to": ["x@example.net"]}, "template": "Past"});
    nodes[0].add(&caller, document::<crate::plan::documents::TemplateDocument>(template)).await.unwrap();
    nodes[0].add(&caller, document::<crate::plan::documents::ScripDocument>(scrip)).await.unwrap();
    let plan = planned(&nodes[1], TicketRef::Number(1), priority(9)).await;
    let crate::models::delivery::Payload::Email(mail) = &plan.deliveries[0].payload else { panic!("a mail") };
    assert_eq!(mail.text, "FIRST");
}

fn document<D: serde::de::DeserializeOwned>(value: serde_json::Value) -> D {
    serde_json::from_value(value).unwrap()
}

/// P3: a create and an update take two statements each, and a preview takes one.
#[tokio::test]
async fn a_create_and_an_update_take_two_statements_and_a_preview_one() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let caller = desk.administrator().unwrap();
    let none = Conditions::default();
    let ticket = create_ticket(&desk).await;
    // Warm up: every pool has a connection, and the catalog is loaded.
    desk.update(&caller, ticket, priority(1), &none).await.unwrap();
    desk.preview_update(&caller, ticket, priority(2)).await.unwrap();
    // A connection of its own, because a new connection of a pool is checked with a statement.
    let mut watcher = desk.pools.read.acquire().await.unwrap();
    let mut statements = async || {
        let sql = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
                   WHERE d.datname = current_database() AND query NOT LIKE '%pg_stat_statements%'";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *watcher).await.unwrap()
    };
    let start = statements().await;
    create_ticket(&desk).await;
    let created = statements().await;
    desk.update(&caller, ticket, priority(7), &none).await.unwrap();
    let updated = statements().await;
    desk.preview_update(&caller, ticket, priority(8)).await.unwrap();
    let previewed = statements().await;
    assert_eq!([created - start, updated - created, previewed - updated], [2, 2, 1]);
}

/// A change of status within its class changes no indexed column, so that the update is HOT (heap-only).
#[tokio::test]
async fn a_change_of_status_is_hot_and_one_of_the_subject_changes_its_words() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let ticket = create_ticket(&desk).await;
    let opened = planned(&desk, ticket, to_status("open")).await;
    assert_eq!(write(&desk, &opened, None).await, Written::Yes);
    let subject = UpdateTicket { subject: Some("Paper jam".to_owned()), ..UpdateTicket::default() };
    let table = [
        (to_status("stalled"), 1, "'printer':1"),
        (priority(7), 1, "'printer':1"),
        (subject, 0, "'jam':2 'paper':1"),
    ];
    // Counts that this session has not reported yet, so that the difference is that of this update.
    let updates = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'tickets'";
    for (command, hot, words) in table {
        let plan = planned(&desk, ticket, command).await;
        let mut tx = desk.pools.write.begin().await.unwrap();
        let before: (i64, i64) = sqlx::query_as(updates).fetch_one(&mut *tx).await.unwrap();
        assert_eq!(plans::update(&mut tx, std::slice::from_ref(&plan), None).await.unwrap(), [Written::Yes]);
        let after: (i64, i64) = sqlx::query_as(updates).fetch_one(&mut *tx).await.unwrap();
        let written: String = sqlx::query_scalar("SELECT subject_words::text FROM tickets WHERE id = $1")
            .bind(plan.ticket.id.0)
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        assert_eq!((after.0 - before.0, after.1 - before.1, written.as_str()), (1, hot, words));
        tx.rollback().await.unwrap();
    }
}

/// Breaks each invariant on purpose; the check must report it.
#[tokio::test]
async fn the_check_names_every_invariant_that_is_broken() {
    let table = [
        ("I2", "UPDATE tickets SET priority = 99"),
        ("I2", "UPDATE tickets SET status_class = 'a'"),
        ("I2", "UPDATE tickets SET subject_folded = 'other'"),
        ("I2", "UPDATE tickets SET subject_words = 'other:1'"),
        ("I2", "DELETE FROM ticket_watchers"),
        ("I2", "DELETE FROM transactions WHERE seq = 1"),
        ("I3", "UPDATE tickets SET version = version + 1"),
        ("I3", "UPDATE transactions SET seq = 7 WHERE seq = 2"),
        ("I4", "UPDATE transactions SET data = jsonb_set(data, '{new}', '\"nowhere\"') WHERE transaction_type = 'Status'"),
        ("I4", "UPDATE transactions SET data = jsonb_set(data, '{lifecycle_version}', to_jsonb(gen_random_uuid())) WHERE transaction_type = 'Status'"),
        ("I5", "DELETE FROM deliveries"),
        ("I5", "UPDATE deliveries SET transaction_id = gen_random_uuid()"),
        ("I6", "DELETE FROM delivery_queue"),
        ("I8", "INSERT INTO transactions (ticket_id, request_id, batch_seq, transaction_type, data, creator_id, delivery_id)
                SELECT ticket_id, request_id, 0, 'EmailRecord', '{}', creator_id, (SELECT id FROM deliveries LIMIT 1) FROM transactions LIMIT 1"),
        ("I6", "INSERT INTO transactions (ticket_id, request_id, batch_seq, transaction_type, data, creator_id, delivery_id)
                SELECT ticket_id, request_id, 0, 'DeliveryFailed', '{}', creator_id, (SELECT id FROM deliveries LIMIT 1) FROM transactions LIMIT 1"),
        ("I6", "INSERT INTO transactions (ticket_id, request_id, batch_seq, transaction_type, data, creator_id, delivery_id)
                SELECT ticket_id, request_id, 0, 'DeliveryFailed', '{\"reason\": \"cancelled\"}', creator_id,
                       (SELECT id FROM deliveries LIMIT 1) FROM transactions LIMIT 1"),
        ("I7", "UPDATE delivery_queue SET held = 'operator'"),
        ("I7", "INSERT INTO delivery_endpoints (endpoint, held_at) VALUES ('smtp', now())"),
        ("I8", "UPDATE delivery_queue SET resend_id = gen_random_uuid();
                INSERT INTO transactions (ticket_id, request_id, batch_seq, transaction_type, data, creator_id, delivery_id)
                SELECT ticket_id, request_id, 0, 'EmailRecord', '{}', creator_id, (SELECT id FROM deliveries LIMIT 1) FROM transactions LIMIT 1"),
        ("ids", "UPDATE tickets SET created_at = created_at - interval '2 hours'"),
        ("references", "DELETE FROM requests"),
        ("references", "UPDATE transactions SET caused_by = gen_random_uuid() WHERE seq = 3"),
        ("references", "UPDATE transactions SET scrip_version_id = gen_random_uuid() WHERE seq = 1"),
        ("references", "INSERT INTO transaction_contents VALUES (gen_random_uuid(), 'text/plain', 'lost')"),
        ("references", "UPDATE transaction_contents SET ticket_id = gen_random_uuid()"),
    ];
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let caller = desk.administrator().unwrap();
    let ticket = create_ticket(&desk).await;
    let command = with_comment(to_status("resolved"), "Done");
    desk.update(&caller, ticket, command, &Conditions::default()).await.unwrap();
    assert_clean(&desk).await;
    for (invariant, damage) in table {
        let mut tx = desk.pools.write.begin().await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(damage)).execute(&mut *tx).await.unwrap();
        let report = crate::db::check::look(&mut tx).await.unwrap();
        let named = report.violations.iter().any(|(name, _)| *name == invariant);
        assert!(named, "{invariant} by {damage}: {:#?}", report.violations);
        tx.rollback().await.unwrap();
    }
}

/// Actions of operators are not violations: the check accounts for resends, holds and cancellations.
#[tokio::test]
async fn the_check_knows_what_people_did_to_deliveries() {
    use crate::db::deliveries::{self, Order};
    let db = TestDb::new().await;
    let desk = node(&db).await;
    create_ticket(&desk).await;
    create_ticket(&desk).await;
    let pool = &desk.pools.write;
    let mut seed = 0;
    let mut order = || {
        seed += 1;
        Order { actor: ADMIN_USER, ids: Ids::new(clock::now(), seed << 20) }
    };
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar("SELECT delivery_id FROM delivery_queue ORDER BY 1")
        .fetch_all(pool)
        .await
        .unwrap();
    let [first, second] = [ids[0].into(), ids[ids.len() - 1].into()];
    deliveries::hold(pool, first, order()).await.unwrap();
    assert_clean(&desk).await;
    deliveries::release(pool, first, order()).await.unwrap();
    deliveries::cancel(pool, second, order()).await.unwrap();
    assert_clean(&desk).await;
    deliveries::resend(pool, second, order()).await.unwrap();
    let endpoint: String =
        sqlx::query_scalar("SELECT endpoint FROM delivery_queue LIMIT 1").fetch_one(pool).await.unwrap();
    deliveries::hold_endpoint(pool, &endpoint, order()).await.unwrap();
    assert_clean(&desk).await;
    deliveries::release_endpoint(pool, &endpoint, order()).await.unwrap();
    assert_clean(&desk).await;
}
