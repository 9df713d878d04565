//! The reads of `tessera doctor`, which can run while a server uses the database.

use crate::db::error;
use crate::error::Result;
use crate::models::id::first_id_of;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

/// The maximum age of a delivery that was given up today: an email is retried for five days, and may be held before.
const OLDEST_TO_DIE: Duration = Duration::days(14);

/// Facts about the database server and this database.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerInfo {
    /// The version as a number, as in 150004.
    pub version: i32,
    /// The version as text, as in 15.4.
    pub version_name: String,
    /// True if a commit waits until its data is on disk.
    pub fsync: bool,
    /// True if data pages have checksums, which detect damage.
    pub checksums: bool,
    /// The number of client connections to all databases.
    pub connections: i64,
    /// The maximum number of client connections.
    pub connections_max: i64,
    /// The time for which the oldest idle database transaction in this database has been idle, in seconds.
    pub idle_seconds: Option<f64>,
    /// The size of this database, in bytes.
    pub bytes: i64,
    /// True if the extension pg_trgm is available, which a migration creates.
    pub trigrams: bool,
    /// The server's clock.
    pub now: OffsetDateTime,
}

/// Reads the facts about the server.
///
/// # Errors
/// Those of the database.
pub async fn server(db: &mut PgConnection) -> Result<ServerInfo> {
    sqlx::query_as!(
        ServerInfo,
        r#"
        SELECT current_setting('server_version_num')::int AS "version!",
               split_part(current_setting('server_version'), ' ', 1) AS "version_name!",
               current_setting('fsync')::bool AS "fsync!",
               current_setting('data_checksums')::bool AS "checksums!",
               (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS "connections!",
               current_setting('max_connections')::bigint
                   - current_setting('superuser_reserved_connections')::bigint AS "connections_max!",
               (SELECT extract(epoch FROM max(clock_timestamp() - state_change))::float8 FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%') AS idle_seconds,
               pg_database_size(current_database()) AS "bytes!",
               EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') AS "trigrams!",
               clock_timestamp() AS "now!"
        "#
    )
    .fetch_one(db)
    .await
    .map_err(error)
}

/// Returns the newest migration that was applied to the database, if any.
///
/// # Errors
/// Those of the database.
pub async fn schema(db: &mut PgConnection) -> Result<Option<i64>> {
    // The migrator creates this table with the first migration.
    let there: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *db)
        .await
        .map_err(error)?;
    if !there {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
        .fetch_one(db)
        .await
        .map_err(error)
}

/// Returns the newest migration of this program.
pub fn newest_schema() -> i64 {
    sqlx::migrate!("../../migrations").iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// The state of the deliveries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deliveries {
    /// The number of unfinished deliveries.
    pub waiting: i64,
    /// The time for which the oldest available delivery has been due, in seconds; deliveries that are held do not count.
    pub overdue_seconds: Option<f64>,
    /// The number of deliveries that were given up within the last day and not cancelled by an operator.
    pub dead: i64,
}

/// Reads the state of the deliveries.
///
/// # Errors
/// Those of the database.
pub async fn deliveries(db: &mut PgConnection, now: OffsetDateTime) -> Result<Deliveries> {
    sqlx::query_as!(
        Deliveries,
        r#"
        SELECT (SELECT count(*) FROM delivery_queue) AS "waiting!",
               (SELECT extract(epoch FROM now() - min(due_at))::float8 FROM delivery_standing
                WHERE state = 'available' AND due_at < now()) AS overdue_seconds,
               (SELECT count(*) FROM transactions
                WHERE delivery_id > $1 AND transaction_type = 'DeliveryFailed' AND created_at > now() - interval '1 day'
                  AND (data ->> 'reason') IS DISTINCT FROM 'cancelled') AS "dead!"
        "#,
        first_id_of(now - OLDEST_TO_DIE)
    )
    .fetch_one(db)
    .await
    .map_err(error)
}

/// Returns the URLs of the enabled scrips that send webhooks, with templates unrendered; at most `limit`.
///
/// # Errors
/// Those of the database.
pub async fn webhook_urls(db: &mut PgConnection, limit: i64) -> Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"
        SELECT DISTINCT action_config ->> 'url' AS "url!" FROM scrips
        WHERE action_type = 'Webhook' AND state = 'enabled' AND action_config ->> 'url' IS NOT NULL
        ORDER BY 1
        LIMIT $1
        "#,
        limit
    )
    .fetch_all(db)
    .await
    .map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::delivery_fixtures::{NOW, queue, webhook};
    use crate::testing::TestDb;
    use sqlx::Connection as _;
    use time::macros::datetime;

    #[tokio::test]
    async fn a_server_is_seen_as_it_is() {
        let db = TestDb::new().await;
        let mut connection = PgConnection::connect_with(&db.options).await.unwrap();
        let seen = server(&mut connection).await.unwrap();
        // The server of the tests runs without fsync.
        assert!(
            !seen.fsync
                && seen.trigrams
                && seen.version >= 150_000
                && seen.bytes > 0
                && seen.idle_seconds.is_none(),
            "{seen:?}"
        );
        assert!(seen.connections >= 1 && seen.connections < seen.connections_max, "{seen:?}");
        assert_eq!(schema(&mut connection).await.unwrap(), Some(newest_schema()));
        assert_eq!(webhook_urls(&mut connection, 10).await.unwrap(), Vec::<String>::new());

        let mut idle = PgConnection::connect_with(&db.options).await.unwrap();
        sqlx::raw_sql("BEGIN; SELECT 1").execute(&mut idle).await.unwrap();
        let seen = server(&mut connection).await.unwrap();
        assert!(seen.idle_seconds.is_some_and(|seconds| seconds >= 0.0), "{seen:?}");
    }

    #[tokio::test]
    async fn what_was_cancelled_did_not_die() {
        let db = TestDb::new().await;
        let pool = db.pools.write.clone();
        let ids = queue(&pool, (0..2).map(|n| webhook(&format!("https://a.example/{n}"))).collect()).await;
        for (id, reason) in ids.iter().zip(["cancelled", "exhausted"]) {
            sqlx::query(
                "INSERT INTO transactions (ticket_id, request_id, batch_seq, transaction_type, data, creator_id, delivery_id)
                 SELECT ticket_id, request_id, 0, 'DeliveryFailed', jsonb_build_object('reason', $2::text), creator_id, $1
                 FROM transactions WHERE seq = 1",
            )
            .bind(id.0)
            .bind(reason)
            .execute(&pool)
            .await
            .unwrap();
        }
        let mut connection = PgConnection::connect_with(&db.options).await.unwrap();
        assert_eq!(deliveries(&mut connection, NOW).await.unwrap().dead, 1);
    }

    #[tokio::test]
    async fn deliveries_that_nobody_makes_and_that_died_are_counted() {
        let db = TestDb::new().await;
        let mut connection = PgConnection::connect_with(&db.options).await.unwrap();
        let now = datetime!(2026-11-23 10:00 UTC);
        let seen = deliveries(&mut connection, now).await.unwrap();
        assert_eq!(seen, Deliveries { waiting: 0, overdue_seconds: None, dead: 0 });
        let queue = "INSERT INTO delivery_queue VALUES (gen_random_uuid(), 'email', 'smtp', now() - interval '1 hour'), \
                     (gen_random_uuid(), 'email', 'smtp', now() + interval '1 hour')";
        sqlx::raw_sql(queue).execute(&mut connection).await.unwrap();
        let seen = deliveries(&mut connection, now).await.unwrap();
        assert_eq!(seen.waiting, 2);
        assert!(seen.overdue_seconds.is_some_and(|seconds| seconds >= 3600.0), "{seen:?}");
        sqlx::raw_sql("UPDATE delivery_queue SET held = 'operator'").execute(&mut connection).await.unwrap();
        let seen = deliveries(&mut connection, now).await.unwrap();
        assert_eq!((seen.waiting, seen.overdue_seconds), (2, None), "what is held is late for nobody");
    }
}
