//! The read of a scrape of the metrics, in one cheap statement.

use crate::db::error;
use crate::error::Result;
use crate::models::delivery::{DeliveryKind, DeliveryState};
use sqlx::PgPool;

/// The maximum number of queue rows that are counted; with more rows, the counts are too low.
const COUNTED_MAX: i64 = 100_000;
/// The states of the deliveries in the queue.
pub const UNFINISHED: [DeliveryState; 3] =
    [DeliveryState::Held, DeliveryState::Available, DeliveryState::Running];

/// The delivery queue at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// The number of deliveries by unfinished state and kind.
    pub deliveries: Vec<(DeliveryState, DeliveryKind, f64)>,
    /// The time for which the oldest due delivery has been due, in seconds, not counting held ones; 0 if none is due.
    pub oldest_due: f64,
}

impl Queue {
    /// Returns the values for a queue that cannot be read: NaN.
    pub fn unknown(kinds: &[DeliveryKind]) -> Self {
        Self { deliveries: every(kinds, |_, _| f64::NAN), oldest_due: f64::NAN }
    }
}

fn every(
    kinds: &[DeliveryKind],
    count: impl Fn(DeliveryState, &DeliveryKind) -> f64,
) -> Vec<(DeliveryState, DeliveryKind, f64)> {
    let pairs = UNFINISHED.into_iter().flat_map(|state| kinds.iter().map(move |kind| (state, kind)));
    pairs.map(|(state, kind)| (state, kind.clone(), count(state, kind))).collect()
}

/// Counts the deliveries of these kinds in the queue.
///
/// # Errors
/// Those of the database.
pub async fn queue(pool: &PgPool, kinds: &[DeliveryKind]) -> Result<Queue> {
    let rows = sqlx::query!(
        r#"
        WITH queue AS MATERIALIZED (SELECT kind, state, due_at FROM delivery_standing LIMIT $1),
        oldest AS (
            SELECT extract(epoch FROM now() - min(due_at))::float8 AS due
            FROM queue WHERE due_at <= now() AND state <> 'held'
        )
        SELECT oldest.due, counted.kind AS "kind?", counted.state AS "state?", counted.deliveries AS "deliveries?"
        FROM oldest LEFT JOIN (SELECT kind, state, count(*) AS deliveries FROM queue GROUP BY kind, state) AS counted ON TRUE
        "#,
        COUNTED_MAX
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    let counted = |state: DeliveryState, kind: &DeliveryKind| {
        let row = rows.iter().find(|row| {
            row.state.as_deref() == Some(state.as_str()) && row.kind.as_deref() == Some(kind.as_str())
        });
        row.and_then(|row| row.deliveries).unwrap_or(0) as f64
    };
    Ok(Queue {
        deliveries: every(kinds, counted),
        oldest_due: rows.first().and_then(|row| row.due).unwrap_or(0.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDb;

    #[tokio::test]
    async fn the_queue_is_counted_by_state_and_kind_and_an_empty_one_is_all_zero() {
        let db = TestDb::new().await;
        let empty = queue(&db.pools.read, &DeliveryKind::BUILTIN).await.unwrap();
        assert_eq!(empty.deliveries.len(), UNFINISHED.len() * DeliveryKind::BUILTIN.len());
        assert!(empty.deliveries.iter().all(|(_, _, count)| *count == 0.0) && empty.oldest_due == 0.0);
        sqlx::raw_sql(
            "INSERT INTO delivery_queue (delivery_id, kind, endpoint, due_at, lease_token) VALUES
               (gen_random_uuid(), 'email', 'smtp', now() - interval '90 s', NULL),
               (gen_random_uuid(), 'email', 'smtp', now() + interval '1 h', NULL),
               (gen_random_uuid(), 'webhook', 'https://a', now() + interval '20 s', 7),
               (gen_random_uuid(), 'webhook', 'https://a', now() - interval '1 s', 8),
               (gen_random_uuid(), 'webhook', 'https://held', now() - interval '1 day', NULL);
             INSERT INTO delivery_endpoints (endpoint, held_at) VALUES ('https://held', now())",
        )
        .execute(&db.pools.write)
        .await
        .unwrap();
        let seen = queue(&db.pools.read, &DeliveryKind::BUILTIN).await.unwrap();
        use DeliveryKind::{Email, Webhook};
        use DeliveryState::{Available, Held, Running};
        let expected = [
            (Held, Email, 0.0),
            (Held, Webhook, 1.0),
            (Available, Email, 2.0),
            (Available, Webhook, 1.0),
            (Running, Email, 0.0),
            (Running, Webhook, 1.0),
        ];
        assert_eq!(seen.deliveries, expected);
        assert!((90.0..3_600.0).contains(&seen.oldest_due), "{}", seen.oldest_due);
    }
}
