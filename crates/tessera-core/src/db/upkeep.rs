//! What a running server does to its tables now and then: partitions for the months to come, old keys away.

use super::error;
use crate::error::Result;
use crate::failpoint::Failpoint;
use crate::models::id::first_id_of;
use sqlx::{AssertSqlSafe, PgPool};
use time::{Date, Duration, OffsetDateTime, Time};

/// How long an idempotency key is kept.
pub const KEY_LIFE: Duration = Duration::hours(24);
/// Keys deleted by one statement.
const KEYS_AT_ONCE: i64 = 10_000;
/// Months for which partitions are made ahead, this one included.
const MONTHS_AHEAD: usize = 3;
/// The tables that are partitioned by the month of a UUIDv7.
const PARTITIONED: [&str; 2] = ["request_traces", "delivery_attempts"];

/// Makes the partitions of this month and the next ones, where they are missing. What falls into no month is kept in the
/// default partition, so a server that was off for a year loses nothing.
///
/// # Errors
/// Those of the database; one is that the default partition already holds rows of such a month.
pub async fn make_partitions(pool: &PgPool, now: OffsetDateTime) -> Result<()> {
    let mut month = now.date().replace_day(1).unwrap_or(now.date());
    for _ in 0..MONTHS_AHEAD {
        let next = following(month);
        for table in PARTITIONED {
            let name = format!("{table}_{:04}_{:02}", month.year(), u8::from(month.month()));
            let (from, to) = (first_id_of(start(month)), first_id_of(start(next)));
            let statement = format!(
                "CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} FOR VALUES FROM ('{from}') TO ('{to}')"
            );
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(pool).await.map_err(error)?;
            Failpoint::PartitionMade.pass();
        }
        month = next;
    }
    Ok(())
}

fn following(month: Date) -> Date {
    let later = month + Duration::days(31);
    later.replace_day(1).unwrap_or(later)
}

fn start(day: Date) -> OffsetDateTime {
    day.with_time(Time::MIDNIGHT).assume_utc()
}

/// Deletes the idempotency keys that are older than [`KEY_LIFE`], a bounded number at a time.
///
/// # Errors
/// Those of the database.
pub async fn forget_keys(pool: &PgPool, now: OffsetDateTime) -> Result<u64> {
    let mut forgotten = 0;
    loop {
        let deleted = sqlx::query!(
            "DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(SELECT ctid FROM idempotency_keys WHERE created_at < $1 LIMIT $2))",
            now - KEY_LIFE,
            KEYS_AT_ONCE
        )
        .execute(pool)
        .await
        .map_err(error)?
        .rows_affected();
        forgotten += deleted;
        Failpoint::KeysForgotten.pass();
        if deleted < u64::try_from(KEYS_AT_ONCE).unwrap_or(u64::MAX) {
            return Ok(forgotten);
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
        make_partitions(&db.pools.write, now).await.unwrap();
        make_partitions(&db.pools.write, now).await.unwrap();
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
