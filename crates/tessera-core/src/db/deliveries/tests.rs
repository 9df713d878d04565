//! The state machine in `models::delivery` against the SQL: words, and what every event does in every state.

use super::*;
use crate::db::delivery_fixtures::{NOW, queue, webhook};
use crate::models::delivery::{
    Attempt, AttemptOutcome, DeliveryEvent, DeliveryKind, DeliveryState, HoldReason, Leased,
};
use crate::models::user::SYSTEM_USER;
use crate::models::{DeliveryId, Ids};
use crate::testing::TestDb;
use regex::Regex;
use sqlx::PgPool;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn captures<'t>(pattern: &str, text: &'t str) -> BTreeSet<&'t str> {
    let pattern = Regex::new(pattern).unwrap();
    pattern.captures_iter(text).map(|found| found.get(1).unwrap().as_str()).collect()
}

#[tokio::test]
async fn the_words_of_the_schema_are_those_of_the_types() {
    let db = TestDb::new().await;
    let definition = |sql: &'static str| sqlx::query_scalar::<_, String>(sql).fetch_one(&db.pools.read);
    let view = definition("SELECT pg_get_viewdef('delivery_standing'::regclass)").await.unwrap();
    let words = captures("'([a-z_]+)'::text", &view);
    let (states, others): (BTreeSet<_>, BTreeSet<_>) =
        words.into_iter().partition(|word| DeliveryState::parse(word).is_some());
    let unfinished = DeliveryState::ALL.into_iter().filter(|state| !state.is_finished());
    assert_eq!(states, unfinished.map(DeliveryState::as_str).collect());

    // Every reason stands either in a column or in the view, which derives it.
    let check =
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'delivery_queue_held_check'";
    let check = definition(check).await.unwrap();
    let stored = captures("'([a-z_]+)'::text", &check);
    assert!(stored.is_disjoint(&others), "{stored:?} {others:?}");
    assert_eq!(&stored | &others, HoldReason::ALL.map(HoldReason::as_str).into());
}

#[test]
fn the_words_of_the_statements_are_those_of_the_types() {
    let statements = [
        include_str!("list.rs"),
        include_str!("one.rs"),
        include_str!("endpoints.rs"),
        include_str!("leases.rs"),
        include_str!("operator_actions.rs"),
        include_str!("../ops/doctor.rs"),
        include_str!("../ops/gauges.rs"),
    ]
    .join("\n");
    let mut states = &captures(r"\bstate (?:=|<>) '(\w+)'", &statements)
        | &captures(r"(?:THEN|ELSE) '(\w+ed)'", &statements);
    assert!(states.remove("enabled"), "the state of a scrip");
    assert_eq!(states, ["available", "cancelled", "completed", "discarded", "held", "running"].into());
    assert!(states.iter().all(|word| DeliveryState::parse(word).is_some()), "{states:?}");
    let reasons = captures(r"\b(?:hold|held) (?:=|<>) '(\w+)'", &statements);
    assert_eq!(reasons, ["breaker", "endpoint", "operator"].into());
    assert!(reasons.iter().all(|word| HoldReason::parse(word).is_some()), "{reasons:?}");
}

/// A delivery, with the lease that was newest when it was last leased.
struct Case {
    pool: PgPool,
    id: DeliveryId,
    leased: Option<Leased>,
}

impl Case {
    /// A delivery that was brought into a state by events.
    async fn new(pool: &PgPool, state: DeliveryState) -> Self {
        let id = queue(pool, vec![webhook("https://a.example/")]).await[0];
        let mut case = Self { pool: pool.clone(), id, leased: None };
        let events: &[DeliveryEvent] = match state {
            DeliveryState::Held => &[DeliveryEvent::Hold],
            DeliveryState::Available => &[],
            DeliveryState::Running => &[DeliveryEvent::Lease],
            DeliveryState::Completed => &[DeliveryEvent::Lease, DeliveryEvent::Deliver],
            DeliveryState::Discarded => &[DeliveryEvent::Lease, DeliveryEvent::GiveUp],
            DeliveryState::Cancelled => &[DeliveryEvent::Cancel],
        };
        for event in events {
            case.happen(*event).await;
        }
        assert_eq!(case.state().await, state);
        case
    }

    async fn state(&self) -> DeliveryState {
        whole(&self.pool, self.id).await.unwrap().listed.state
    }

    async fn happen(&mut self, event: DeliveryEvent) {
        static SEED: AtomicU64 = AtomicU64::new(1);
        let mut ids = Ids::new(NOW, SEED.fetch_add(1, Ordering::Relaxed) << 20);
        let order = Order { actor: SYSTEM_USER, ids: ids.clone() };
        let (pool, id) = (&self.pool, self.id);
        // An operator's action that the state does not allow is an error, which changes nothing either.
        let _ = match event {
            DeliveryEvent::Hold => hold(pool, id, order).await,
            DeliveryEvent::Release => release(pool, id, order).await,
            DeliveryEvent::Cancel => cancel(pool, id, order).await,
            DeliveryEvent::Resend => resend(pool, id, order).await,
            DeliveryEvent::Lease => {
                let all = vec![(DeliveryKind::Webhook, 99)];
                let room = Room { kinds: all.clone(), per_endpoint: all, running: Vec::new() };
                let leased = lease(pool, Holder::Worker, &room, Duration::from_secs(60)).await.unwrap();
                self.leased = leased.into_iter().find(|one| one.delivery.id == id).or(self.leased.take());
                Ok(())
            }
            DeliveryEvent::GiveBack => {
                let leased = self.leased.iter().map(|one| (one.delivery.id, one.token));
                give_back(pool, &leased.collect::<Vec<_>>(), Due::Now).await
            }
            DeliveryEvent::Deliver | DeliveryEvent::Retry | DeliveryEvent::GiveUp => {
                let Some(leased) = self.leased.clone() else { return };
                let outcome = match event {
                    DeliveryEvent::Deliver => AttemptOutcome::Delivered,
                    DeliveryEvent::Retry => AttemptOutcome::Retry,
                    _ => AttemptOutcome::Permanent,
                };
                let settlement = Settlement {
                    leased: Arc::new(leased),
                    attempt: Attempt::new(outcome, "said"),
                    again: (event == DeliveryEvent::Retry).then_some(Duration::from_secs(60)),
                    transaction: ids.draw(),
                };
                settle(pool, &[settlement]).await.map(drop)
            }
        };
    }
}

#[tokio::test]
async fn every_event_does_in_every_state_what_the_state_machine_says() {
    use DeliveryEvent::{Cancel, Deliver, GiveBack, GiveUp, Hold, Lease, Release, Resend, Retry};
    let db = TestDb::new().await;
    let pool = &db.pools.write;
    for state in DeliveryState::ALL {
        for event in [Lease, GiveBack, Hold, Release, Cancel, Resend] {
            let mut case = Case::new(pool, state).await;
            case.happen(event).await;
            assert_eq!(case.state().await, state.after(event), "{event:?} in {state:?}");
        }
    }
    // Reports need a lease: of the newest one, which may have expired, and at the end after another end.
    for event in [Deliver, Retry, GiveUp] {
        let mut running = Case::new(pool, DeliveryState::Running).await;
        running.happen(event).await;
        assert_eq!(running.state().await, DeliveryState::Running.after(event), "{event:?} while it runs");

        let mut expired = Case::new(pool, DeliveryState::Running).await;
        sqlx::query("UPDATE delivery_queue SET due_at = now() WHERE delivery_id = $1")
            .bind(expired.id.0)
            .execute(pool)
            .await
            .unwrap();
        assert_eq!(expired.state().await, DeliveryState::Running.after(GiveBack), "an expired lease");
        expired.happen(event).await;
        assert_eq!(expired.state().await, DeliveryState::Available.after(event), "{event:?} when it expired");
        sqlx::query("DELETE FROM delivery_queue WHERE delivery_id = $1")
            .bind(expired.id.0)
            .execute(pool)
            .await
            .unwrap();

        for end in [Cancel, GiveUp, Deliver] {
            let mut ended = Case::new(pool, DeliveryState::Running).await;
            let leased = ended.leased.clone();
            if end == Cancel {
                ended.happen(end).await;
            } else {
                // Another holder, whose lease is newer, ends it.
                sqlx::query("UPDATE delivery_queue SET due_at = now() WHERE delivery_id = $1")
                    .bind(ended.id.0)
                    .execute(pool)
                    .await
                    .unwrap();
                ended.happen(Lease).await;
                ended.happen(end).await;
            }
            ended.leased = leased;
            let before = ended.state().await;
            assert_eq!(before, DeliveryState::Running.after(end));
            ended.happen(event).await;
            assert_eq!(ended.state().await, before.after(event), "a late {event:?} after {end:?}");
        }
    }
}
