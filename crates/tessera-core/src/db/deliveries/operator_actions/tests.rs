//! Operator actions on deliveries, and their records.

use super::*;
use crate::db::deliveries::{
    DeliveryDetail, Filter, Holder, Room, Settlement, endpoints, lease, list, settle, whole,
};
use crate::db::delivery_fixtures::{NOW, mail, queue, webhook};
use crate::models::delivery::{
    Attempt, AttemptOutcome, DeliveryKind, DeliveryState, EndpointState, Health, HoldReason, Leased,
};
use crate::models::user::SYSTEM_USER;
use crate::testing::TestDb;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn order() -> Order {
    static SEED: AtomicU64 = AtomicU64::new(1);
    Order { actor: SYSTEM_USER, ids: Ids::new(NOW, SEED.fetch_add(1, Ordering::Relaxed) << 20) }
}

async fn take(pool: &PgPool) -> Vec<Leased> {
    let all = |n| vec![(DeliveryKind::Email, n), (DeliveryKind::Webhook, n)];
    let room = Room { kinds: all(20), per_endpoint: all(20), running: Vec::new() };
    lease(pool, Holder::Worker, &room, Duration::from_secs(30)).await.unwrap()
}

async fn end(pool: &PgPool, leased: &Leased, outcome: AttemptOutcome, health: Health) {
    let again = (outcome == AttemptOutcome::Retry).then_some(Duration::from_secs(600));
    let attempt = Attempt::new(outcome, "said").with_health(health);
    let transaction = order().ids.draw();
    let settlement = Settlement { leased: Arc::new(leased.clone()), attempt, again, transaction };
    settle(pool, &[settlement]).await.unwrap();
}

async fn see(pool: &PgPool, id: DeliveryId) -> DeliveryDetail {
    whole(pool, id).await.unwrap()
}

fn did(whole: &DeliveryDetail) -> Vec<&str> {
    whole.actions.iter().rev().map(|one| one.action.as_str()).collect()
}

async fn history(pool: &PgPool, id: DeliveryId) -> Vec<(String, Option<String>)> {
    sqlx::query_as("SELECT transaction_type, data ->> 'reason' FROM transactions WHERE delivery_id = $1 ORDER BY transaction_type")
        .bind(id.0)
        .fetch_all(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_is_held_is_not_sent_until_it_is_released() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![webhook("https://a.example/1"), webhook("https://a.example/2")]).await;
    hold(&pool, ids[0], order()).await.unwrap();
    hold(&pool, ids[0], order()).await.expect("it is already held, which is the desired state");
    assert_eq!(take(&pool).await.iter().map(|one| one.delivery.id).collect::<Vec<_>>(), [ids[1]]);
    let seen = see(&pool, ids[0]).await;
    assert_eq!((seen.listed.state, did(&seen)), (DeliveryState::Held, vec!["hold"]));
    let reason = seen.listed.hold.unwrap();
    assert_eq!(
        (reason.reason, reason.by.as_deref(), reason.until),
        (HoldReason::Operator, Some("system"), None)
    );
    assert!(reason.since.is_some());
    release(&pool, ids[0], order()).await.unwrap();
    assert_eq!(take(&pool).await.iter().map(|one| one.delivery.id).collect::<Vec<_>>(), [ids[0]]);
    assert_eq!(did(&see(&pool, ids[0]).await), ["hold", "release"]);
}

#[tokio::test]
async fn a_release_makes_due_now_what_waits_for_its_schedule() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![webhook("https://a.example/")]).await;
    end(&pool, &take(&pool).await[0], AttemptOutcome::Retry, Health::Works).await;
    assert!(take(&pool).await.is_empty());
    release(&pool, ids[0], order()).await.unwrap();
    assert_eq!(take(&pool).await[0].attempt, 2);
}

#[tokio::test]
async fn what_is_running_is_held_after_its_attempt_and_a_release_leaves_its_lease_alone() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![webhook("https://a.example/")]).await;
    let leased = take(&pool).await.remove(0);
    release(&pool, ids[0], order()).await.unwrap();
    assert!(take(&pool).await.is_empty() && see(&pool, ids[0]).await.actions.is_empty());
    hold(&pool, ids[0], order()).await.unwrap();
    assert_eq!(see(&pool, ids[0]).await.listed.state, DeliveryState::Running);
    end(&pool, &leased, AttemptOutcome::Retry, Health::Works).await;
    assert_eq!(see(&pool, ids[0]).await.listed.state, DeliveryState::Held);
}

#[tokio::test]
async fn a_release_goes_through_an_open_breaker_as_its_probe() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, (0..15).map(|n| webhook(&format!("https://a.example/{n}"))).collect()).await;
    let leased = take(&pool).await;
    for one in &leased {
        end(&pool, one, AttemptOutcome::Retry, Health::Fails).await;
    }
    release(&pool, ids[7], order()).await.unwrap();
    release(&pool, ids[3], order()).await.unwrap();
    assert_eq!(see(&pool, ids[7]).await.listed.state, DeliveryState::Available);
    let first = take(&pool).await;
    assert_eq!(first.len(), 1, "one at a time");
    end(&pool, &first[0], AttemptOutcome::Retry, Health::Fails).await;
    let second = take(&pool).await;
    assert_eq!(second.len(), 1, "each released delivery is tried");
    let mut tried = [first[0].delivery.id, second[0].delivery.id];
    tried.sort();
    assert_eq!(tried, [ids[3], ids[7]]);
    end(&pool, &second[0], AttemptOutcome::Retry, Health::Fails).await;
    assert!(take(&pool).await.is_empty(), "a release is for one try");
}

#[tokio::test]
async fn a_cancelled_delivery_is_recorded_once_and_may_still_arrive() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![mail(&["a@example.org"])]).await;
    let leased = take(&pool).await.remove(0);
    cancel(&pool, ids[0], order()).await.unwrap();
    assert_eq!(cancel(&pool, ids[0], order()).await.unwrap_err().code(), Code::DeliveryFinished);
    assert_eq!(history(&pool, ids[0]).await, [("DeliveryFailed".into(), Some("cancelled".into()))]);
    let seen = see(&pool, ids[0]).await;
    assert_eq!(
        (seen.listed.state, did(&seen), seen.listed.attempts),
        (DeliveryState::Cancelled, vec!["cancel"], 1)
    );
    end(&pool, &leased, AttemptOutcome::Delivered, Health::Works).await;
    assert_eq!(history(&pool, ids[0]).await.len(), 2);
    assert_eq!(see(&pool, ids[0]).await.listed.state, DeliveryState::Completed, "success is a fact");
}

#[tokio::test]
async fn a_failure_of_what_was_cancelled_changes_nothing() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![mail(&["a@example.org"])]).await;
    let leased = take(&pool).await.remove(0);
    cancel(&pool, ids[0], order()).await.unwrap();
    end(&pool, &leased, AttemptOutcome::Permanent, Health::Works).await;
    assert_eq!(history(&pool, ids[0]).await, [("DeliveryFailed".into(), Some("cancelled".into()))]);
    assert_eq!(see(&pool, ids[0]).await.listed.state, DeliveryState::Cancelled);
}

#[tokio::test]
async fn what_failed_is_sent_again_by_a_fresh_schedule_and_its_success_is_added() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![webhook("https://a.example/x")]).await;
    assert_eq!(resend(&pool, ids[0], order()).await.unwrap_err().code(), Code::DeliveryUnfinished);
    let first = take(&pool).await.remove(0);
    end(&pool, &first, AttemptOutcome::Permanent, Health::Works).await;
    resend(&pool, ids[0], order()).await.unwrap();
    assert_eq!(resend(&pool, ids[0], order()).await.unwrap_err().code(), Code::DeliveryUnfinished);
    let second = take(&pool).await.remove(0);
    assert_eq!(second.delivery, first.delivery, "the same id, time and bytes");
    assert_eq!((second.attempt, second.in_schedule), (2, 1));
    end(&pool, &second, AttemptOutcome::Delivered, Health::Works).await;
    resend(&pool, ids[0], order()).await.unwrap();
    end(&pool, &take(&pool).await[0], AttemptOutcome::Delivered, Health::Works).await;
    let names: Vec<_> = history(&pool, ids[0]).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["DeliveryFailed", "WebhookDelivery"], "a second success adds no second record");
    let seen = see(&pool, ids[0]).await;
    assert_eq!((seen.listed.state, did(&seen)), (DeliveryState::Completed, vec!["resend", "resend"]));
    assert_eq!(seen.attempts.iter().map(|one| one.attempt).collect::<Vec<_>>(), [3, 2, 1]);
}

#[tokio::test]
async fn what_was_cancelled_and_sent_again_and_failed_was_given_up() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![webhook("https://a.example/x")]).await;
    let in_state = async |state| -> Vec<DeliveryId> {
        let filter = Filter { state: Some(state), ..Filter::default() };
        list(&pool, &filter, 10, None).await.unwrap().items.iter().map(|one| one.id).collect()
    };
    cancel(&pool, ids[0], order()).await.unwrap();
    assert_eq!(in_state(DeliveryState::Cancelled).await, ids);
    resend(&pool, ids[0], order()).await.unwrap();
    end(&pool, &take(&pool).await[0], AttemptOutcome::Permanent, Health::Works).await;
    assert_eq!(see(&pool, ids[0]).await.listed.state, DeliveryState::Discarded);
    assert_eq!(in_state(DeliveryState::Discarded).await, ids);
    assert_eq!(in_state(DeliveryState::Cancelled).await, []);
    resend(&pool, ids[0], order()).await.unwrap();
    cancel(&pool, ids[0], order()).await.unwrap();
    assert_eq!(see(&pool, ids[0]).await.listed.state, DeliveryState::Cancelled);
}

#[tokio::test]
async fn a_mail_sent_again_asks_all_of_its_recipients() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![mail(&["a@example.org"])]).await;
    let leased = take(&pool).await.remove(0);
    let attempt = Attempt::new(AttemptOutcome::Delivered, "250").with_recipients(vec![
        crate::models::delivery::RecipientAnswer {
            address: "a@example.org".into(),
            outcome: AttemptOutcome::Delivered,
            answer: "250".into(),
        },
    ]);
    let transaction = order().ids.draw();
    let settlement = Settlement { leased: Arc::new(leased), attempt, again: None, transaction };
    settle(&pool, &[settlement]).await.unwrap();
    resend(&pool, ids[0], order()).await.unwrap();
    assert_eq!(take(&pool).await[0].answered, [], "what they said the last time is no answer to this");
}

#[tokio::test]
async fn what_was_cancelled_while_it_was_sent_again_keeps_the_end_it_had() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![webhook("https://a.example/1"), webhook("https://a.example/2")]).await;
    let leased = take(&pool).await;
    end(&pool, &leased[0], AttemptOutcome::Delivered, Health::Works).await;
    end(&pool, &leased[1], AttemptOutcome::Permanent, Health::Works).await;
    for id in &ids {
        resend(&pool, *id, order()).await.unwrap();
        cancel(&pool, *id, order()).await.unwrap();
        assert_eq!(history(&pool, *id).await.len(), 1);
    }
    assert_eq!(see(&pool, ids[0]).await.listed.state, DeliveryState::Completed);
    assert_eq!(see(&pool, ids[1]).await.listed.state, DeliveryState::Discarded);
}

#[tokio::test]
async fn what_is_no_longer_kept_cannot_be_sent_again() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![webhook("https://a.example/")]).await;
    end(&pool, &take(&pool).await[0], AttemptOutcome::Delivered, Health::Works).await;
    sqlx::query("UPDATE deliveries SET payload = NULL, body = NULL").execute(&pool).await.unwrap();
    assert_eq!(resend(&pool, ids[0], order()).await.unwrap_err().code(), Code::PayloadGone);
    assert_eq!(see(&pool, ids[0]).await.message, crate::db::deliveries::Stored::Gone);
}

#[tokio::test]
async fn orders_about_what_is_not_there_or_finished_say_so() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let nobody = DeliveryId(Uuid::nil());
    let ids = queue(&pool, vec![webhook("https://a.example/")]).await;
    end(&pool, &take(&pool).await[0], AttemptOutcome::Delivered, Health::Works).await;
    for (id, code) in [(nobody, Code::NotFound), (ids[0], Code::DeliveryFinished)] {
        assert_eq!(hold(&pool, id, order()).await.unwrap_err().code(), code);
        assert_eq!(release(&pool, id, order()).await.unwrap_err().code(), code);
        assert_eq!(cancel(&pool, id, order()).await.unwrap_err().code(), code);
    }
    assert_eq!(resend(&pool, nobody, order()).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(hold_endpoint(&pool, "https://b.example", order()).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        release_endpoint(&pool, "https://b.example", order()).await.unwrap_err().code(),
        Code::NotFound
    );
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM delivery_actions").fetch_one(&pool).await.unwrap();
    assert_eq!(kept, 0, "an order that did nothing is not kept");
}

#[tokio::test]
async fn an_endpoint_is_held_and_released_as_a_whole() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let (held, other) = ("https://a.example", "https://b.example");
    let ids = queue(&pool, vec![webhook("https://a.example/1"), webhook("https://b.example/")]).await;
    hold_endpoint(&pool, held, order()).await.unwrap();
    hold_endpoint(&pool, held, order()).await.expect("it is held already");
    assert_eq!(take(&pool).await.iter().map(|one| one.delivery.id).collect::<Vec<_>>(), [ids[1]]);
    let seen = see(&pool, ids[0]).await.listed;
    let hold = seen.hold.unwrap();
    assert_eq!(
        (seen.state, hold.reason, hold.by.as_deref()),
        (DeliveryState::Held, HoldReason::Endpoint, Some("system"))
    );
    assert_eq!(release(&pool, ids[0], order()).await.unwrap_err().code(), Code::EndpointHeld);
    let listed = endpoints(&pool, 24, None).await.unwrap();
    let states: Vec<_> =
        listed.iter().map(|one| (one.endpoint.as_str(), one.state, one.held, one.running)).collect();
    assert_eq!(states, [(held, EndpointState::Held, 1, 0), (other, EndpointState::Fine, 0, 1)]);
    assert_eq!(listed[0].held_by.as_deref(), Some("system"));
    release_endpoint(&pool, held, order()).await.unwrap();
    release_endpoint(&pool, held, order()).await.expect("nobody holds it");
    assert_eq!(take(&pool).await.len(), 1);
}

#[tokio::test]
async fn a_release_of_an_endpoint_closes_its_breaker() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    queue(&pool, (0..12).map(|n| webhook(&format!("https://a.example/{n}"))).collect()).await;
    for one in &take(&pool).await[..11] {
        end(&pool, one, AttemptOutcome::Retry, Health::Fails).await;
    }
    sqlx::query("UPDATE delivery_queue SET due_at = now()").execute(&pool).await.unwrap();
    assert!(take(&pool).await.is_empty());
    let open = endpoints(&pool, 24, None).await.unwrap().remove(0);
    assert_eq!(
        (open.state, open.failures, open.last_failure.as_deref()),
        (EndpointState::Open, 11, Some("said"))
    );
    assert!(open.probe_at.unwrap() > open.failing_since.unwrap());
    release_endpoint(&pool, "https://a.example", order()).await.unwrap();
    assert_eq!(take(&pool).await.len(), 12);
    assert_eq!(endpoints(&pool, 24, None).await.unwrap()[0].state, EndpointState::Fine);
}
