//! Leasing and settling against a real database, with two workers at once where it matters.

use super::*;
use crate::db::deliveries::{
    BreakerChange, Filter, Order, Settlement, Stored, cancel, list, resend, settle, whole,
};
use crate::db::delivery_fixtures::{NOW, mail, queue, webhook};
use crate::error::Code;
use crate::models::Change;
use crate::models::Ids;
use crate::models::delivery::{Attempt, AttemptOutcome, DeliveryState, Health};
use crate::testing::TestDb;
use std::collections::BTreeSet;
use std::sync::Arc;

mod breakers;

const LEASE: Duration = Duration::from_secs(30);
const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

fn room(webhooks: i64, per_endpoint: i64) -> Room {
    Room {
        kinds: vec![(DeliveryKind::Email, 10), (DeliveryKind::Webhook, webhooks)],
        per_endpoint: vec![(DeliveryKind::Email, 10), (DeliveryKind::Webhook, per_endpoint)],
        running: Vec::new(),
    }
}

async fn take(pool: &PgPool) -> Vec<Leased> {
    lease(pool, Holder::Worker, &room(10, 10), LEASE).await.unwrap()
}

fn ended(leased: &Leased, outcome: AttemptOutcome, again: Option<Duration>, seed: u64) -> Settlement {
    let attempt = Attempt::new(outcome, format!("told by lease {}", leased.token)).with_status(200);
    Settlement { leased: Arc::new(leased.clone()), attempt, again, transaction: Ids::new(NOW, seed).draw() }
}

async fn settled(pool: &PgPool, leased: &Leased, outcome: AttemptOutcome, again: Option<Duration>) {
    // The lease's number makes ids that differ.
    let seed = leased.token.unsigned_abs();
    settle(pool, &[ended(leased, outcome, again, seed)]).await.unwrap();
}

/// The outcomes in the ticket's history, in the order in which they were recorded.
async fn outcomes(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT transaction_type FROM transactions WHERE seq IS NULL ORDER BY xmin::text::bigint, id",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

async fn states(pool: &PgPool) -> Vec<&'static str> {
    let page = list(pool, &Filter::default(), 100, None).await.unwrap();
    page.items.iter().map(|listed| listed.state.as_str()).collect()
}

/// Ends every lease and delay, as the passing of time would.
async fn time_passes(pool: &PgPool) {
    sqlx::query("UPDATE delivery_queue SET due_at = now()").execute(pool).await.unwrap();
}

#[tokio::test]
async fn a_lease_carries_the_delivery_and_keeps_it_from_others() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![webhook("https://a.example/x?key=1"), mail(&["a@example.org"])]).await;
    let leased = take(&pool).await;
    assert_eq!(leased.iter().map(|one| one.delivery.id).collect::<Vec<_>>(), ids);
    assert_eq!(leased[0].delivery.payload, webhook("https://a.example/x?key=1"), "body and all");
    assert_eq!((leased[0].attempt, leased[0].delivery.created_at), (1, NOW));
    assert!(leased[0].token < leased[1].token);
    assert!(take(&pool).await.is_empty(), "they are taken");
    assert_eq!(states(&pool).await, ["running", "running"]);
    time_passes(&pool).await;
    let again = take(&pool).await;
    assert_eq!(again.len(), 2, "the first worker is thought dead");
    assert!(again[0].token > leased[1].token && again[0].attempt == 2);
}

#[tokio::test]
async fn what_cannot_be_read_holds_up_nothing_and_is_held_with_a_reason() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![webhook("https://a.example/"), webhook("https://b.example/")]).await;
    let spoil = "UPDATE deliveries SET payload = '{\"kind\": \"pigeon\"}' WHERE id = $1";
    sqlx::query(spoil).bind(ids[0].0).execute(&pool).await.unwrap();
    assert_eq!(take(&pool).await.iter().map(|one| one.delivery.id).collect::<Vec<_>>(), [ids[1]]);
    time_passes(&pool).await;
    assert_eq!(take(&pool).await.len(), 1, "the one that can be read comes back after its lease");
    let whole = whole(&pool, ids[0]).await.unwrap();
    assert_eq!(whole.message, Stored::Unreadable, "and lists show the rest of it");
    assert_eq!(whole.listed.state, DeliveryState::Held);
    let hold = whole.listed.hold.unwrap();
    assert_eq!((hold.reason, hold.by.as_deref()), (HoldReason::Unreadable, Some("system")));
    assert_eq!((whole.listed.attempts, whole.attempts.len()), (0, 0), "no attempt was made");
    assert_eq!(whole.actions[0].reason.as_deref(), Some("unreadable"));
}

#[tokio::test]
async fn workers_that_lease_at_once_get_different_deliveries() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, (0..60).map(|n| webhook(&format!("https://h{n}.example/"))).collect()).await;
    let room = room(7, 1);
    let leases = (0..12).map(|_| lease(&pool, Holder::Worker, &room, LEASE));
    let taken: Vec<Leased> =
        futures::future::join_all(leases).await.into_iter().flat_map(Result::unwrap).collect();
    assert!(taken.len() >= 7);
    let distinct: BTreeSet<DeliveryId> = taken.iter().map(|one| one.delivery.id).collect();
    let tokens: BTreeSet<i64> = taken.iter().map(|one| one.token).collect();
    assert_eq!((distinct.len(), tokens.len()), (taken.len(), taken.len()), "nothing was leased twice");
    assert!(distinct.is_subset(&ids.into_iter().collect()));
}

#[tokio::test]
async fn an_endpoint_gets_its_share_and_a_kind_its_places() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let slow = (0..20).map(|n| webhook(&format!("https://slow.example/{n}")));
    let others = (0..6).map(|n| webhook(&format!("https://h{n}.example/")));
    queue(&pool, slow.chain(others).chain([mail(&["a@example.org"])]).collect()).await;
    let endpoints = |leased: &[Leased]| -> Vec<String> {
        leased.iter().map(|one| one.delivery.payload.endpoint()).collect()
    };
    let first = endpoints(&lease(&pool, Holder::Worker, &room(5, 3), LEASE).await.unwrap());
    let slow = "https://slow.example";
    assert_eq!(first.iter().filter(|&one| one == slow).count(), 3, "{first:?}");
    assert_eq!(first.iter().filter(|&one| one != slow && one != "smtp").count(), 2, "{first:?}");
    assert!(first.contains(&"smtp".to_owned()), "a mail has places of its own");
    let busy = Room { running: vec![(slow.to_owned(), 3)], ..room(5, 3) };
    let second = endpoints(&lease(&pool, Holder::Worker, &busy, LEASE).await.unwrap());
    assert_eq!(
        second,
        ["https://h2.example", "https://h3.example", "https://h4.example", "https://h5.example"]
    );
}

#[tokio::test]
async fn a_success_is_recorded_once_in_the_tickets_history() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![mail(&["a@example.org"]), webhook("https://a.example/x?key=1")]).await;
    let leased = take(&pool).await;
    let batch = [
        ended(&leased[0], AttemptOutcome::Delivered, None, 1),
        ended(&leased[1], AttemptOutcome::Delivered, None, 2),
    ];
    settle(&pool, &batch).await.unwrap();
    settle(&pool, &batch).await.expect("the answer of the first call was lost");
    assert_eq!(states(&pool).await, ["completed", "completed"]);
    let rows: Vec<(Uuid, String, Option<i64>, Uuid, Uuid, serde_json::Value)> = sqlx::query_as(
        "SELECT delivery_id, transaction_type, seq, request_id, caused_by, data FROM transactions
         WHERE delivery_id IS NOT NULL ORDER BY delivery_id",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].0, rows[0].1.as_str(), rows[0].2), (ids[0].0, "EmailRecord", None));
    assert_eq!(rows[1].1, "WebhookDelivery");
    assert_eq!(rows[0].4, leased[0].delivery.transaction.0, "caused by what caused the delivery");
    let Change::Outcome(outcome) = serde_json::from_value(rows[1].5.clone()).unwrap() else {
        panic!("no outcome")
    };
    assert_eq!(
        (outcome.attempts, outcome.to),
        (1, vec!["https://a.example/x".to_owned()]),
        "the query stays out"
    );
    let version: i64 = sqlx::query_scalar("SELECT version FROM tickets").fetch_one(&pool).await.unwrap();
    assert_eq!(version, 1, "settling does not touch the ticket");
}

#[tokio::test]
async fn a_failure_is_put_off_and_then_given_up_with_a_record() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    queue(&pool, vec![webhook("https://a.example/")]).await;
    let first = take(&pool).await;
    settled(&pool, &first[0], AttemptOutcome::Retry, MINUTE).await;
    assert_eq!((states(&pool).await, outcomes(&pool).await), (vec!["available"], vec![]));
    assert!(take(&pool).await.is_empty(), "not before its minute");
    let waiting: bool = sqlx::query_scalar(
        "SELECT due_at > now() + interval '50 s' AND due_at <= now() + interval '60 s' FROM delivery_queue",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert!(waiting);
    time_passes(&pool).await;
    let second = take(&pool).await;
    assert_eq!(second[0].attempt, 2);
    settled(&pool, &second[0], AttemptOutcome::Retry, None).await;
    assert_eq!(
        (states(&pool).await, outcomes(&pool).await),
        (vec!["discarded"], vec!["DeliveryFailed".to_owned()])
    );
    let listed = list(&pool, &Filter::default(), 10, None).await.unwrap().items;
    assert_eq!((listed[0].attempts, listed[0].due_at), (2, None));
    let last = listed[0].last.clone().unwrap();
    assert_eq!((last.outcome.as_str(), last.status_code), ("retry", Some(200)));
}

#[tokio::test]
async fn a_stale_failure_changes_nothing_and_a_stale_success_counts() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    queue(&pool, vec![webhook("https://a.example/")]).await;
    let stale = take(&pool).await.remove(0);
    time_passes(&pool).await;
    let current = take(&pool).await.remove(0);
    settled(&pool, &stale, AttemptOutcome::Permanent, None).await;
    assert_eq!((states(&pool).await, outcomes(&pool).await.len()), (vec!["running"], 0));

    time_passes(&pool).await;
    let newest = take(&pool).await.remove(0);
    settled(&pool, &current, AttemptOutcome::Delivered, None).await;
    assert_eq!(
        (states(&pool).await, outcomes(&pool).await),
        (vec!["completed"], vec!["WebhookDelivery".to_owned()])
    );
    settled(&pool, &newest, AttemptOutcome::Permanent, None).await;
    assert_eq!(outcomes(&pool).await, ["WebhookDelivery"], "a failure never follows a success");
    time_passes(&pool).await;
    assert!(take(&pool).await.is_empty(), "once succeeded, never tried again");
}

#[tokio::test]
async fn a_late_success_may_follow_a_failure() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    queue(&pool, vec![webhook("https://a.example/")]).await;
    let late = take(&pool).await.remove(0);
    time_passes(&pool).await;
    let current = take(&pool).await.remove(0);
    settled(&pool, &current, AttemptOutcome::Permanent, None).await;
    assert_eq!(states(&pool).await, ["discarded"]);
    settled(&pool, &late, AttemptOutcome::Delivered, None).await;
    assert_eq!(outcomes(&pool).await, ["DeliveryFailed", "WebhookDelivery"]);
    assert_eq!(states(&pool).await, ["completed"]);
}

#[tokio::test]
async fn a_lease_that_was_never_issued_has_no_say() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    queue(&pool, vec![webhook("https://a.example/")]).await;
    let mut forged = take(&pool).await.remove(0);
    forged.token += 1_000;
    settled(&pool, &forged, AttemptOutcome::Delivered, None).await;
    assert_eq!((states(&pool).await, outcomes(&pool).await.len()), (vec!["running"], 0));
}

#[tokio::test]
async fn of_a_success_and_a_failure_at_once_exactly_one_end_stands() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let many = 40;
    queue(&pool, (0..many).map(|n| webhook(&format!("https://h{n}.example/"))).collect()).await;
    let big = room(many, 1);
    let old = lease(&pool, Holder::Worker, &big, LEASE).await.unwrap();
    time_passes(&pool).await;
    let new = lease(&pool, Holder::Worker, &big, LEASE).await.unwrap();
    assert_eq!((old.len(), new.len()), (40, 40));
    let won: Vec<_> =
        old.iter().map(|one| ended(one, AttemptOutcome::Delivered, None, one.token as u64)).collect();
    // The other way round, so that the two would wait for each other if rows were not locked in one order.
    let lost: Vec<_> =
        new.iter().rev().map(|one| ended(one, AttemptOutcome::Permanent, None, one.token as u64)).collect();
    let (a, b) = tokio::join!(settle(&pool, &won), settle(&pool, &lost));
    a.unwrap();
    b.unwrap();
    assert!(states(&pool).await.iter().all(|state| *state == "completed"));
    let successes = outcomes(&pool).await.iter().filter(|kind| *kind == "WebhookDelivery").count();
    assert_eq!(successes, 40);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM delivery_queue").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn leases_are_kept_alive_while_they_are_settled_in_whatever_order_they_are_told() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    queue(&pool, (0..200).map(|n| webhook(&format!("https://h{n}.example/"))).collect()).await;
    let leased = lease(&pool, Holder::Worker, &room(200, 1), LEASE).await.unwrap();
    let delivered: Vec<_> =
        leased.iter().map(|one| ended(one, AttemptOutcome::Delivered, None, one.token as u64)).collect();
    let mut held: Vec<_> = leased.iter().map(|one| (one.delivery.id, one.token)).collect();
    held.reverse();
    let (a, b, c) = tokio::join!(
        settle(&pool, &delivered),
        extend(&pool, Holder::Worker, &held, LEASE),
        give_back(&pool, &held, Due::Now)
    );
    a.unwrap();
    b.unwrap();
    c.unwrap();
    assert!(states(&pool).await.iter().all(|state| *state == "completed"));
}

#[tokio::test]
async fn what_recipients_answered_is_remembered_and_decides_the_end() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    queue(&pool, vec![mail(&["a@example.org", "b@example.org"])]).await;
    let answer =
        |address: &str, outcome| RecipientAnswer { address: address.into(), outcome, answer: "said".into() };
    let answers = vec![
        answer("a@example.org", AttemptOutcome::Delivered),
        answer("b@example.org", AttemptOutcome::Retry),
    ];
    let first = take(&pool).await.remove(0);
    let mut settlement = ended(&first, AttemptOutcome::Retry, MINUTE, 1);
    settlement.attempt.recipients = answers.clone();
    settle(&pool, &[settlement]).await.unwrap();
    time_passes(&pool).await;
    let second = take(&pool).await.remove(0);
    assert_eq!(second.answered, answers);
    let mut settlement = ended(&second, AttemptOutcome::Retry, None, 2);
    settlement.attempt.recipients = answers;
    settle(&pool, &[settlement]).await.unwrap();
    assert_eq!(outcomes(&pool).await, ["EmailRecord"], "one took it, and for the other no attempt is left");
}

#[tokio::test]
async fn leases_are_kept_alive_and_given_back() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    queue(&pool, vec![webhook("https://a.example/"), webhook("https://b.example/")]).await;
    let leased = lease(&pool, Holder::Worker, &room(10, 10), Duration::ZERO).await.unwrap();
    let held: Vec<_> = leased.iter().map(|one| (one.delivery.id, one.token)).collect();
    extend(&pool, Holder::Worker, &held[..1], LEASE).await.unwrap();
    let retaken = take(&pool).await;
    assert_eq!(
        retaken.iter().map(|one| one.delivery.id).collect::<Vec<_>>(),
        [held[1].0],
        "only the other ran out"
    );
    give_back(&pool, &held, Due::Now).await.unwrap();
    let again = take(&pool).await;
    assert_eq!(
        again.iter().map(|one| one.delivery.id).collect::<Vec<_>>(),
        [held[0].0],
        "whoever lost a lease cannot give it back"
    );
    assert_eq!(again[0].attempt, 1, "an attempt that did not end does not count");
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let first = queue(&pool, vec![webhook("https://a.example/"), mail(&["a@example.org"])]).await;
    let ticket = take(&pool).await[0].delivery.ticket;
    queue(&pool, vec![mail(&["b@example.org"])]).await;
    let of = async |filter: Filter| -> Vec<DeliveryId> {
        list(&pool, &filter, 100, None).await.unwrap().items.iter().map(|one| one.id).collect()
    };
    assert_eq!(of(Filter { ticket: Some(ticket), ..Filter::default() }).await.len(), 2);
    assert_eq!(of(Filter { kind: Some(DeliveryKind::Webhook), ..Filter::default() }).await, [first[0]]);
    assert_eq!(of(Filter { state: Some(DeliveryState::Available), ..Filter::default() }).await.len(), 1);
    assert_eq!(of(Filter { state: Some(DeliveryState::Running), ..Filter::default() }).await.len(), 2);
    let page = list(&pool, &Filter::default(), 2, None).await.unwrap();
    let rest = list(&pool, &Filter::default(), 2, page.next_cursor.as_deref()).await.unwrap();
    assert_eq!((page.items.len(), rest.items.len(), rest.next_cursor), (2, 1, None));
    assert_eq!(
        list(&pool, &Filter::default(), 2, Some("x")).await.unwrap_err().code(),
        Code::MalformedCursor
    );
}

#[tokio::test]
async fn what_waits_for_a_full_endpoint_costs_a_lease_nothing() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    queue(&pool, vec![webhook("https://full.example/"), webhook("https://well.example/")]).await;
    let blocks = async || -> i64 {
        let busy = Room { running: vec![("https://full.example".to_owned(), 8)], ..room(64, 8) };
        let mut tx = pool.begin().await.unwrap();
        let sql = "SELECT (idx_tup_fetch + seq_tup_read)::bigint FROM pg_stat_xact_user_tables WHERE relname = 'delivery_queue'";
        let read = async |tx: &mut sqlx::PgConnection| -> i64 {
            sqlx::query_scalar(sql).fetch_one(tx).await.unwrap()
        };
        let before = read(&mut tx).await;
        let leased = lease_in(&mut tx, Holder::Worker, &busy, LEASE).await.unwrap();
        assert_eq!(leased.len(), 1);
        let after = read(&mut tx).await;
        tx.rollback().await.unwrap();
        after - before
    };
    let few = blocks().await;
    let fill = "WITH d AS (SELECT * FROM deliveries ORDER BY id LIMIT 1)
                INSERT INTO delivery_queue (delivery_id, kind, endpoint, due_at)
                SELECT gen_random_uuid(), kind, endpoint, now() - interval '1 h' FROM d, generate_series(1, 10000)";
    sqlx::query(fill).execute(&pool).await.unwrap();
    // As autovacuum does within a minute of such a rush; until then a plan that was made for two rows is kept, and scans.
    sqlx::query("ANALYZE delivery_queue").execute(&pool).await.unwrap();
    let many = blocks().await;
    assert!(many <= few + 4, "{few} rows read of a queue of 2, {many} of one of 10,002");
}

#[tokio::test]
async fn a_failure_after_a_success_is_not_recorded() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![webhook("https://a.example/")]).await;
    settled(&pool, &take(&pool).await[0], AttemptOutcome::Delivered, None).await;
    let order = crate::db::deliveries::Order { actor: SYSTEM_USER, ids: Ids::new(NOW, 77) };
    crate::db::deliveries::resend(&pool, ids[0], order).await.unwrap();
    let again = take(&pool).await.remove(0);
    assert_eq!((again.attempt, again.in_schedule), (2, 1), "the numbers continue, the schedule restarts");
    settled(&pool, &again, AttemptOutcome::Permanent, None).await;
    assert_eq!(outcomes(&pool).await, ["WebhookDelivery"]);
    assert_eq!(states(&pool).await, ["completed"]);
}

#[tokio::test]
async fn a_mail_that_some_took_says_who_did_not_get_it() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![mail(&["a@example.org", "b@example.org", "c@example.org"])]).await;
    let leased = take(&pool).await.remove(0);
    let mut settlement = ended(&leased, AttemptOutcome::Retry, None, 1);
    settlement.attempt.recipients = [
        ("a@example.org", AttemptOutcome::Delivered),
        ("b@example.org", AttemptOutcome::Retry),
        ("c@example.org", AttemptOutcome::Permanent),
    ]
    .map(|(address, outcome)| RecipientAnswer { address: address.into(), outcome, answer: "said".into() })
    .to_vec();
    let told = settlement.attempt.recipients.clone();
    settle(&pool, &[settlement]).await.unwrap();
    let data: Json<Change> =
        sqlx::query_scalar("SELECT data FROM transactions WHERE delivery_id IS NOT NULL")
            .fetch_one(&pool)
            .await
            .unwrap();
    let Change::Outcome(outcome) = data.0 else { panic!("no outcome") };
    assert_eq!(outcome.to, ["a@example.org"]);
    assert_eq!(outcome.missed, ["b@example.org", "c@example.org"]);
    assert_eq!(whole(&pool, ids[0]).await.unwrap().attempts[0].recipients, told);
}

/// The numbers and outcomes of a delivery's attempts, oldest first.
async fn attempts(pool: &PgPool, id: DeliveryId) -> Vec<(i32, String)> {
    let attempts = whole(pool, id).await.unwrap().attempts;
    attempts.into_iter().rev().map(|one| (one.attempt, one.outcome)).collect()
}

/// The time until a delivery is due, in seconds.
async fn due_in(pool: &PgPool) -> f64 {
    sqlx::query_scalar("SELECT extract(epoch FROM due_at - now())::float8 FROM delivery_queue")
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_lease_that_was_given_back_was_no_attempt_and_is_not_shown() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let id = queue(&pool, vec![webhook("https://a.example/")]).await[0];
    for due in [Due::Now, Due::Later, Due::Now] {
        let leased = take(&pool).await.remove(0);
        assert_eq!((leased.attempt, leased.in_schedule), (1, 1));
        give_back(&pool, &[(id, leased.token)], due).await.unwrap();
        // Nobody has it any more, so a second report changes nothing.
        give_back(&pool, &[(id, leased.token)], due).await.unwrap();
        assert_eq!(attempts(&pool, id).await, []);
        assert_eq!(whole(&pool, id).await.unwrap().listed.attempts, 0);
        time_passes(&pool).await;
    }
    let leased = take(&pool).await.remove(0);
    settled(&pool, &leased, AttemptOutcome::Permanent, None).await;
    assert_eq!(attempts(&pool, id).await, [(1, "permanent".to_owned())]);
    resend(&pool, id, Order { actor: SYSTEM_USER, ids: Ids::new(NOW, 99) }).await.unwrap();
    let again = take(&pool).await.remove(0);
    give_back(&pool, &[(id, again.token)], Due::Now).await.unwrap();
    cancel(&pool, id, Order { actor: SYSTEM_USER, ids: Ids::new(NOW, 100) }).await.unwrap();
    assert_eq!(whole(&pool, id).await.unwrap().listed.attempts, 1, "the resend was never attempted");
}

#[tokio::test]
async fn a_success_of_a_lease_that_was_given_back_counts_and_a_failure_does_not() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let id = queue(&pool, vec![webhook("https://a.example/")]).await[0];
    let first = take(&pool).await.remove(0);
    give_back(&pool, &[(id, first.token)], Due::Later).await.unwrap();
    settled(&pool, &first, AttemptOutcome::Retry, MINUTE).await;
    settled(&pool, &first, AttemptOutcome::Permanent, None).await;
    assert_eq!(attempts(&pool, id).await, []);
    let second = take(&pool).await.remove(0);
    settled(&pool, &first, AttemptOutcome::Delivered, None).await;
    let shown = attempts(&pool, id).await;
    assert_eq!(shown, [(1, "delivered".to_owned()), (1, "lost".to_owned())], "two did run at once");
    settled(&pool, &second, AttemptOutcome::Delivered, None).await;
    assert_eq!(outcomes(&pool).await, ["WebhookDelivery"]);
}

#[tokio::test]
async fn what_is_returned_again_and_again_is_due_later_each_time_until_an_attempt_ends() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let id = queue(&pool, vec![webhook("https://a.example/")]).await[0];
    let bounce = async || {
        time_passes(&pool).await;
        let leased = take(&pool).await.remove(0);
        give_back(&pool, &[(id, leased.token)], Due::Later).await.unwrap();
        due_in(&pool).await
    };
    for delay in [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0] {
        let due = bounce().await;
        assert!((delay - 0.9..=delay).contains(&due), "{due} instead of {delay}");
    }
    sqlx::query("UPDATE delivery_queue SET returns = 2000000000").execute(&pool).await.unwrap();
    assert!(bounce().await <= RETURN_MAX.as_secs_f64());
    time_passes(&pool).await;
    let leased = take(&pool).await.remove(0);
    assert_eq!(leased.attempt, 1);
    settled(&pool, &leased, AttemptOutcome::Retry, MINUTE).await;
    assert!(bounce().await <= 0.0, "an attempt ended, so the next return is the first again");
}

#[tokio::test]
async fn settlements_and_returns_of_the_same_leases_in_any_order_never_deadlock() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    for round in 0..5 {
        queue(&pool, (0..100).map(|n| webhook(&format!("https://h{n}.example/"))).collect()).await;
        let leased = lease(&pool, Holder::Worker, &room(100, 1), LEASE).await.unwrap();
        let told = |outcome, again, seed: u64| -> Vec<Settlement> {
            leased.iter().map(|one| ended(one, outcome, again, one.token as u64 * 1_000 + seed)).collect()
        };
        let there = told(AttemptOutcome::Delivered, None, round);
        let mut back = told(AttemptOutcome::Retry, MINUTE, round + 10);
        back.reverse();
        let mut twice = told(AttemptOutcome::Delivered, None, round + 20);
        twice.rotate_left(37);
        let mut held: Vec<_> = leased.iter().map(|one| (one.delivery.id, one.token)).collect();
        held.rotate_right(11);
        let set: Vec<_> =
            held.iter().rev().map(|(id, token)| (*id, *token, HoldReason::Unrecorded)).collect();
        let (a, b, c, d, e, f) = tokio::join!(
            settle(&pool, &there),
            settle(&pool, &back),
            settle(&pool, &twice),
            give_back(&pool, &held, Due::Later),
            extend(&pool, Holder::Worker, &held, LEASE),
            set_aside(&pool, &set)
        );
        for done in [a.map(drop), b.map(drop), c.map(drop), d, e.map(drop), f] {
            done.unwrap();
        }
    }
}
