//! Periodic maintenance by a running server: creates partitions for the coming months, and deletes old keys, traces, attempts
//! and payloads.

use crate::db::error;
use crate::error::Result;
use crate::failpoint::Failpoint;
use crate::models::id::first_id_of;
use serde::Deserialize;
use sqlx::postgres::PgQueryResult;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use std::error::Error as StdError;
use time::{Date, Duration, Month, OffsetDateTime, Time};
use uuid::Uuid;

/// The lifetime of an idempotency key.
pub const KEY_LIFE: Duration = Duration::hours(24);
/// The number of months for which partitions are created, including the current one.
const MONTHS_AHEAD: usize = 3;
/// The tables that are partitioned by the month of their UUIDv7 keys.
const PARTITIONED: [&str; 2] = ["request_traces", "delivery_attempts"];

/// The time for which creating or dropping a partition waits for its lock; all reads and writes of the table queue behind it. A
/// partition that misses it is tried again at the next run.
const LOCK_TIMEOUT: &str = "100ms";
/// The maximum number of rows that one statement deletes.
const ROWS_AT_ONCE: i64 = 10_000;
/// The number of deliveries that one statement checks when payloads are deleted.
const MESSAGES_AT_ONCE: i64 = 1_000;

/// Retention periods in days; 0 keeps data forever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Evaluations of scrips.
    pub traces_days: u32,
    /// Attempts of finished deliveries.
    pub attempts_days: u32,
    /// Payloads of finished deliveries.
    pub payloads_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { traces_days: 90, attempts_days: 90, payloads_days: 90 }
    }
}

/// Returns the time before which data is old; `None` if it is kept forever.
fn horizon(days: u32, now: OffsetDateTime) -> Option<OffsetDateTime> {
    if days == 0 { None } else { now.checked_sub(Duration::days(i64::from(days))) }
}

/// Deletes old traces: whole months at once, and the rows of the default partition in batches. Returns the numbers of months
/// and rows that were deleted. A month that cannot be deleted is logged and left for the next run; it does not stop the others.
///
/// # Errors
/// Those of the database.
pub async fn drop_traces(pool: &PgPool, days: u32, now: OffsetDateTime) -> Result<(usize, u64)> {
    let Some(horizon) = horizon(days, now) else { return Ok((0, 0)) };
    let mut months = 0;
    for month in old_months(pool, "request_traces", horizon).await? {
        months += usize::from(drop_partition(pool, "request_traces", month).await);
    }
    let rows = in_batches(|| {
        let delete = sqlx::query!(
            r#"
            DELETE FROM request_traces_default
            WHERE ctid = ANY (ARRAY(SELECT ctid FROM request_traces_default WHERE request_id < $1 LIMIT $2))
            "#,
            first_id_of(horizon),
            ROWS_AT_ONCE
        );
        delete.execute(pool)
    });
    Ok((months, rows.await?))
}

/// Deletes old attempts, as [`drop_traces`] does. A month in which an unfinished delivery was created is kept until that is
/// finished.
///
/// # Errors
/// Those of the database.
pub async fn drop_attempts(pool: &PgPool, days: u32, now: OffsetDateTime) -> Result<(usize, u64)> {
    let Some(horizon) = horizon(days, now) else { return Ok((0, 0)) };
    let mut months = 0;
    for month in old_months(pool, "delivery_attempts", horizon).await? {
        let is_needed = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM delivery_queue WHERE delivery_id >= $1 AND delivery_id < $2) AS "needed!""#,
            first_id_of(start(month)),
            first_id_of(start(following(month)))
        )
        .fetch_one(pool)
        .await
        .map_err(error)?;
        if !is_needed {
            months += usize::from(drop_partition(pool, "delivery_attempts", month).await);
        }
    }
    let rows = in_batches(|| {
        let delete = sqlx::query!(
            r#"
            DELETE FROM delivery_attempts_default
            WHERE ctid = ANY (ARRAY(
                SELECT a.ctid FROM delivery_attempts_default a
                WHERE a.delivery_id < $1 AND NOT EXISTS (SELECT FROM delivery_queue q WHERE q.delivery_id = a.delivery_id)
                LIMIT $2))
            "#,
            first_id_of(horizon),
            ROWS_AT_ONCE
        );
        delete.execute(pool)
    });
    Ok((months, rows.await?))
}

/// Deletes the payloads of old finished deliveries, whose outcomes are kept, and returns their number.
///
/// `from` is the id of the last delivery that was checked; start with nil. A delivery that was not finished when it was checked
/// is left for a later run that starts from nil.
///
/// # Errors
/// Those of the database.
pub async fn empty_messages(pool: &PgPool, days: u32, now: OffsetDateTime, from: &mut Uuid) -> Result<u64> {
    let Some(horizon) = horizon(days, now) else { return Ok(0) };
    let mut emptied = 0;
    loop {
        let batch = sqlx::query!(
            r#"
            WITH batch AS (
                SELECT id, payload IS NOT NULL AS is_kept FROM deliveries WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3
            ),
            emptied AS (
                UPDATE deliveries d
                SET payload = NULL, body = NULL
                FROM batch b
                WHERE d.id = b.id AND b.is_kept AND NOT EXISTS (SELECT FROM delivery_queue q WHERE q.delivery_id = d.id)
                RETURNING d.id
            )
            SELECT (SELECT id FROM batch ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*) FROM emptied) AS "emptied!"
            "#,
            *from,
            first_id_of(horizon),
            MESSAGES_AT_ONCE
        )
        .fetch_one(pool)
        .await
        .map_err(error)?;
        emptied += u64::try_from(batch.emptied).unwrap_or_default();
        match batch.last {
            Some(last) => *from = last,
            None => return Ok(emptied),
        }
    }
}

/// Returns the months of a table's partitions that ended before `horizon`.
async fn old_months(pool: &PgPool, table: &str, horizon: OffsetDateTime) -> Result<Vec<Date>> {
    let names = sqlx::query_scalar!(
        r#"
        SELECT c.relname::text AS "name!"
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = to_regclass($1)
        "#,
        table
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    let is_old = |month: &Date| start(following(*month)) <= horizon;
    Ok(names.iter().filter_map(|name| month_of(table, name)).filter(is_old).collect())
}

/// Drops the partition of a month, and returns whether that succeeded; a failure is logged.
async fn drop_partition(pool: &PgPool, table: &str, month: Date) -> bool {
    let partition = partition(table, month);
    let dropped = alter(pool, format!("DROP TABLE IF EXISTS {partition}")).await;
    let failed = dropped.as_ref().err();
    if let Some(error) = failed {
        tracing::warn!(
            partition,
            error = error as &dyn StdError,
            "cannot drop an old partition; retrying in an hour"
        );
    }
    failed.is_none()
}

/// Runs a statement that locks a whole table, and gives up after [`LOCK_TIMEOUT`] if the table is in use.
async fn alter(pool: &PgPool, statement: String) -> Result<()> {
    let mut db = pool.begin().await.map_err(error)?;
    let timeout = format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'");
    sqlx::raw_sql(AssertSqlSafe(timeout)).execute(&mut *db).await.map_err(error)?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *db).await.map_err(error)?;
    db.commit().await.map_err(error)
}

/// Returns the name of the partition for a month.
fn partition(table: &str, month: Date) -> String {
    format!("{table}_{:04}_{:02}", month.year(), u8::from(month.month()))
}

/// Returns the month in a partition's name; `None` for the default partition and for other tables.
fn month_of(table: &str, name: &str) -> Option<Date> {
    let (year, month) = name.strip_prefix(table)?.strip_prefix('_')?.split_once('_')?;
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    Date::from_calendar_date(year.parse().ok()?, month, 1).ok()
}

/// Returns the tables and months that need a partition: this month and the next ones.
fn needed(now: OffsetDateTime) -> impl Iterator<Item = (&'static str, Date)> {
    let this = now.date().replace_day(1).unwrap_or(now.date());
    let months = std::iter::successors(Some(this), |month| Some(following(*month))).take(MONTHS_AHEAD);
    months.flat_map(|month| PARTITIONED.map(|table| (table, month)))
}

/// Creates missing partitions for this month and the next ones. Rows of other months go to the default partition, so a server
/// that was off for a year loses nothing. A partition that cannot be created, for example because the default partition already
/// has rows of its month, is logged and tried again at the next run; it does not stop the others.
pub async fn make_partitions(pool: &PgPool, now: OffsetDateTime) {
    for (table, month) in needed(now) {
        let name = partition(table, month);
        let (from, to) = (first_id_of(start(month)), first_id_of(start(following(month))));
        let statement = format!(
            "CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} FOR VALUES FROM ('{from}') TO ('{to}')"
        );
        if let Err(error) = alter(pool, statement).await {
            tracing::warn!(
                partition = name,
                error = &error as &dyn StdError,
                "cannot create a partition; its rows go to the default partition; retrying in an hour"
            );
        }
        Failpoint::PartitionMade.pass();
    }
}

/// Returns the names of the partitions of this month and the next ones that do not exist.
///
/// # Errors
/// Those of the database.
pub async fn missing_partitions(db: &mut PgConnection, now: OffsetDateTime) -> Result<Vec<String>> {
    let names: Vec<String> = needed(now).map(|(table, month)| partition(table, month)).collect();
    sqlx::query_scalar!(
        r#"SELECT n.name AS "name!" FROM unnest($1::text[]) AS n (name) WHERE to_regclass(n.name) IS NULL ORDER BY 1"#,
        &names
    )
    .fetch_all(db)
    .await
    .map_err(error)
}

fn following(month: Date) -> Date {
    let later = month + Duration::days(31);
    later.replace_day(1).unwrap_or(later)
}

fn start(day: Date) -> OffsetDateTime {
    day.with_time(Time::MIDNIGHT).assume_utc()
}

/// Deletes the idempotency keys that are older than [`KEY_LIFE`], in batches, and returns their number.
///
/// # Errors
/// Those of the database.
pub async fn forget_keys(pool: &PgPool, now: OffsetDateTime) -> Result<u64> {
    in_batches(|| {
        let delete = sqlx::query!(
            "DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(SELECT ctid FROM idempotency_keys WHERE created_at < $1 LIMIT $2))",
            now - KEY_LIFE,
            ROWS_AT_ONCE
        );
        async move {
            let deleted = delete.execute(pool).await;
            Failpoint::KeysForgotten.pass();
            deleted
        }
    })
    .await
}

/// Runs a statement that deletes at most [`ROWS_AT_ONCE`] rows until it deletes fewer; returns how many it deleted in all.
async fn in_batches<F>(delete: impl Fn() -> F) -> Result<u64>
where
    F: Future<Output = sqlx::Result<PgQueryResult>>,
{
    let mut rows = 0;
    loop {
        let deleted = delete().await.map_err(error)?.rows_affected();
        rows += deleted;
        if deleted < ROWS_AT_ONCE.unsigned_abs() {
            return Ok(rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDb;
    use time::macros::{date, datetime};

    #[test]
    fn months_follow_each_other_over_short_months_and_new_year() {
        let months: Vec<Date> =
            std::iter::successors(Some(date!(2026 - 12 - 01)), |month| Some(following(*month)))
                .take(4)
                .collect();
        assert_eq!(
            months,
            [date!(2026 - 12 - 01), date!(2027 - 01 - 01), date!(2027 - 02 - 01), date!(2027 - 03 - 01)]
        );
    }

    #[tokio::test]
    async fn partitions_are_made_once_and_take_the_rows_of_their_month() {
        let db = TestDb::new().await;
        let now = datetime!(2026-11-23 10:00 UTC);
        make_partitions(&db.pools.write, now).await;
        make_partitions(&db.pools.write, now).await;
        for moment in [now, datetime!(2027-01-31 23:59 UTC)] {
            let id: uuid::Uuid = crate::models::Ids::new(moment, 1).draw();
            sqlx::query("INSERT INTO request_traces VALUES ($1, '[]')")
                .bind(id)
                .execute(&db.pools.write)
                .await
                .unwrap();
        }
        let in_default: i64 = sqlx::query_scalar("SELECT count(*) FROM request_traces_default")
            .fetch_one(&db.pools.read)
            .await
            .unwrap();
        let january: i64 = sqlx::query_scalar("SELECT count(*) FROM request_traces_2027_01")
            .fetch_one(&db.pools.read)
            .await
            .unwrap();
        assert_eq!((in_default, january), (0, 1));
    }

    #[test]
    fn the_name_of_a_partition_leads_back_to_its_month() {
        for month in [date!(2026 - 01 - 01), date!(2026 - 12 - 01), date!(2031 - 07 - 01)] {
            assert_eq!(month_of("request_traces", &partition("request_traces", month)), Some(month));
        }
        for name in ["request_traces_default", "request_traces_2026_13", "request_traces", "other_2026_01"] {
            assert_eq!(month_of("request_traces", name), None, "{name}");
        }
    }

    #[test]
    fn nothing_is_old_when_things_are_kept_for_ever() {
        let now = datetime!(2026-11-23 10:00 UTC);
        assert_eq!(horizon(0, now), None);
        assert_eq!(horizon(90, now), Some(datetime!(2026-08-25 10:00 UTC)));
        assert_eq!(horizon(u32::MAX, now), None);
    }

    async fn partitions(pool: &PgPool, table: &str) -> Vec<Date> {
        let mut months = old_months(pool, table, datetime!(2100-01-01 0:00 UTC)).await.unwrap();
        months.sort();
        months
    }

    #[tokio::test]
    async fn a_partition_that_is_read_is_dropped_the_next_time() {
        let db = TestDb::new().await;
        let pool = db.pools.write.clone();
        make_partitions(&pool, datetime!(2026-05-10 10:00 UTC)).await;
        let now = datetime!(2026-12-01 0:00 UTC);
        let mut reader = pool.begin().await.unwrap();
        sqlx::query("SELECT FROM request_traces").execute(&mut *reader).await.unwrap();
        assert_eq!(drop_traces(&pool, 90, now).await.unwrap(), (0, 0));
        assert_eq!(partitions(&pool, "request_traces").await.len(), 3);
        reader.rollback().await.unwrap();
        assert_eq!(drop_traces(&pool, 90, now).await.unwrap(), (3, 0));
    }

    #[tokio::test]
    async fn a_month_that_cannot_be_made_or_dropped_stops_no_other() {
        let db = TestDb::new().await;
        let (pool, now) = (db.pools.write.clone(), datetime!(2026-05-10 10:00 UTC));
        // The default partition has rows of June, so that June cannot be made.
        let id: Uuid = crate::models::Ids::new(datetime!(2026-06-02 0:00 UTC), 1).draw();
        sqlx::query("INSERT INTO request_traces VALUES ($1, '[]')").bind(id).execute(&pool).await.unwrap();
        make_partitions(&pool, now).await;
        let may_and_july = [date!(2026 - 05 - 01), date!(2026 - 07 - 01)];
        assert_eq!(partitions(&pool, "request_traces").await, may_and_july);
        assert_eq!(partitions(&pool, "delivery_attempts").await.len(), 3);
        let mut connection = pool.acquire().await.unwrap();
        let missing = missing_partitions(&mut connection, now).await.unwrap();
        assert_eq!(missing, ["request_traces_2026_06"]);
        sqlx::query("DELETE FROM request_traces").execute(&pool).await.unwrap();
        make_partitions(&pool, now).await;
        assert!(missing_partitions(&mut connection, now).await.unwrap().is_empty(), "the next run makes it");

        // A reader of one month keeps only this one.
        let mut reader = pool.begin().await.unwrap();
        sqlx::query("SELECT FROM request_traces_2026_05").execute(&mut *reader).await.unwrap();
        let (months, _) = drop_traces(&pool, 90, datetime!(2026-12-01 0:00 UTC)).await.unwrap();
        assert_eq!(months, 2);
        assert_eq!(partitions(&pool, "request_traces").await, [date!(2026 - 05 - 01)]);
    }

    #[tokio::test]
    async fn traces_go_by_the_month_and_from_the_default_partition_by_the_row() {
        let db = TestDb::new().await;
        let pool = db.pools.write.clone();
        make_partitions(&pool, datetime!(2026-08-10 10:00 UTC)).await;
        let moments = [
            datetime!(2026-05-01 0:00 UTC),
            datetime!(2026-08-31 0:00 UTC),
            datetime!(2026-09-01 0:00 UTC),
            datetime!(2026-11-30 0:00 UTC),
        ];
        for moment in moments {
            let id: Uuid = crate::models::Ids::new(moment, 1).draw();
            sqlx::query("INSERT INTO request_traces VALUES ($1, '[]')")
                .bind(id)
                .execute(&pool)
                .await
                .unwrap();
        }
        let now = datetime!(2026-12-01 0:00 UTC);
        assert_eq!(drop_traces(&pool, 0, now).await.unwrap(), (0, 0), "kept for ever");
        assert_eq!(drop_traces(&pool, 91, now).await.unwrap(), (1, 1), "August, and May of the default");
        assert_eq!(partitions(&pool, "request_traces").await, [date!(2026 - 09 - 01), date!(2026 - 10 - 01)]);
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM request_traces").fetch_one(&pool).await.unwrap();
        assert_eq!(left, 2);
        assert_eq!(drop_traces(&pool, 91, now).await.unwrap(), (0, 0));
    }

    #[tokio::test]
    async fn attempts_of_what_is_not_finished_stay() {
        let db = TestDb::new().await;
        let pool = db.pools.write.clone();
        make_partitions(&pool, datetime!(2026-05-10 10:00 UTC)).await;
        let attempt = async |moment, seed| -> Uuid {
            let id: Uuid = crate::models::Ids::new(moment, seed).draw();
            sqlx::query("INSERT INTO delivery_attempts (delivery_id, lease_token, attempt, started_at) VALUES ($1, 1, 1, now())")
                .bind(id)
                .execute(&pool)
                .await
                .unwrap();
            id
        };
        let waits = async |id: Uuid| {
            sqlx::query("INSERT INTO delivery_queue (delivery_id, kind, endpoint, due_at) VALUES ($1, 'email', 'smtp', now())")
                .bind(id)
                .execute(&pool)
                .await
                .unwrap();
        };
        attempt(datetime!(2026-05-20 0:00 UTC), 1).await;
        let waiting = attempt(datetime!(2026-06-20 0:00 UTC), 2).await;
        attempt(datetime!(2026-06-21 0:00 UTC), 3).await;
        let old_waiting = attempt(datetime!(2026-01-01 0:00 UTC), 4).await;
        attempt(datetime!(2026-01-02 0:00 UTC), 5).await;
        attempt(datetime!(2026-11-20 0:00 UTC), 6).await;
        waits(waiting).await;
        waits(old_waiting).await;
        let now = datetime!(2026-12-01 0:00 UTC);
        assert_eq!(
            drop_attempts(&pool, 90, now).await.unwrap(),
            (2, 1),
            "May and July; January's finished one"
        );
        assert_eq!(partitions(&pool, "delivery_attempts").await, [date!(2026 - 06 - 01)]);
        sqlx::query("DELETE FROM delivery_queue").execute(&pool).await.unwrap();
        assert_eq!(drop_attempts(&pool, 90, now).await.unwrap(), (1, 1));
    }

    #[tokio::test]
    async fn messages_of_finished_deliveries_are_emptied_and_lists_still_show_them() {
        use crate::db::deliveries::{Stored, whole};
        use crate::db::delivery_fixtures::{NOW, queue, webhook};
        let db = TestDb::new().await;
        let pool = db.pools.write.clone();
        let ids = queue(&pool, (0..3).map(|n| webhook(&format!("https://a.example/{n}"))).collect()).await;
        sqlx::query("DELETE FROM delivery_queue WHERE delivery_id <> $1")
            .bind(ids[1].0)
            .execute(&pool)
            .await
            .unwrap();
        let (later, mut from) = (NOW + Duration::days(91), Uuid::nil());
        assert_eq!(empty_messages(&pool, 90, NOW, &mut from).await.unwrap(), 0, "not old yet");
        assert_eq!(empty_messages(&pool, 0, later, &mut from).await.unwrap(), 0, "kept for ever");
        assert_eq!(empty_messages(&pool, 90, later, &mut from).await.unwrap(), 2);
        assert_eq!(from, ids[2].0);
        assert_eq!(empty_messages(&pool, 90, later, &mut from).await.unwrap(), 0);
        let mut gone = Vec::new();
        for id in &ids {
            gone.push(whole(&pool, *id).await.unwrap().message == Stored::Gone);
        }
        assert_eq!(gone, [true, false, true], "what waits is kept");
        let body: Option<Vec<u8>> = sqlx::query_scalar("SELECT body FROM deliveries WHERE id = $1")
            .bind(ids[0].0)
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(body, None);
    }

    #[tokio::test]
    async fn keys_are_forgotten_after_a_day() {
        let db = TestDb::new().await;
        let now = datetime!(2026-11-23 10:00 UTC);
        for hours in [1, 23, 25, 240] {
            let sql = "INSERT INTO idempotency_keys VALUES (gen_random_uuid(), 'k', '', gen_random_uuid(), 200, '', $1)";
            sqlx::query(sql).bind(now - Duration::hours(hours)).execute(&db.pools.write).await.unwrap();
        }
        assert_eq!(forget_keys(&db.pools.write, now).await.unwrap(), 2);
    }
}
