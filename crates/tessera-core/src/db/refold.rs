//! Folds again what an older version folded by its own rule: the subjects, values and words that searches compare.
//!
//! `refolds` has a row for each table that is not done. Each step looks at a few rows in the order of their ids, in one database
//! transaction, so that a server can be stopped at any time.

use super::error;
use crate::error::Result;
use crate::models::text::caseless;
use crate::query::words::vector;
use sqlx::{PgConnection, PgPool};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Rows of a step whose texts are short: subjects and values.
const SHORT_AT_ONCE: i64 = 100;
/// Messages of a step; each may have 1 MiB.
const MESSAGES_AT_ONCE: i64 = 20;
/// For this long after the migration, a server of the older version may still be writing, so that the end of a table is not its end.
const OLDER_UNTIL: Duration = Duration::days(1);

/// A table whose texts are folded.
#[derive(Debug, Clone, Copy)]
enum Table {
    Tickets,
    Values,
    Messages,
}

impl Table {
    const ALL: [Self; 3] = [Self::Tickets, Self::Values, Self::Messages];

    fn name(self) -> &'static str {
        match self {
            Self::Tickets => "tickets",
            Self::Values => "custom_field_values",
            Self::Messages => "transaction_contents",
        }
    }
}

/// Folds all tables again, as far as they are not done, and returns the number of rows that changed. A table that another process
/// works on is left to it.
///
/// # Errors
/// Those of the database.
pub async fn run(pool: &PgPool, now: OffsetDateTime) -> Result<u64> {
    let mut changed = 0;
    for table in Table::ALL {
        while let Some(count) = step(pool, table, now).await? {
            changed += count;
        }
    }
    Ok(changed)
}

/// Looks at the next rows of a table. Returns the number of rows that changed, or `None` at its end.
async fn step(pool: &PgPool, table: Table, now: OffsetDateTime) -> Result<Option<u64>> {
    let mut db = pool.begin().await.map_err(error)?;
    let row = sqlx::query!(
        "SELECT after, started_at FROM refolds WHERE table_name = $1 FOR UPDATE SKIP LOCKED",
        table.name()
    );
    let Some(row) = row.fetch_optional(&mut *db).await.map_err(error)? else { return Ok(None) };
    let looked = match table {
        Table::Tickets => tickets(&mut db, row.after).await?,
        Table::Values => values(&mut db, row.after).await?,
        Table::Messages => messages(&mut db, row.after).await?,
    };
    match looked {
        Some(Looked { last, .. }) => {
            let moved =
                sqlx::query!("UPDATE refolds SET after = $2 WHERE table_name = $1", table.name(), last);
            moved.execute(&mut *db).await.map_err(error)?;
        }
        None if now - row.started_at > OLDER_UNTIL => {
            let done = sqlx::query!("DELETE FROM refolds WHERE table_name = $1", table.name());
            done.execute(&mut *db).await.map_err(error)?;
        }
        None => {}
    }
    db.commit().await.map_err(error)?;
    Ok(looked.map(|looked| looked.changed))
}

/// The result of a step.
struct Looked {
    /// The last row that was looked at.
    last: Uuid,
    /// The number of rows that changed.
    changed: u64,
}

/// Subjects with their words. This does not change the ticket, so its version stays the same. A ticket that somebody else changes is
/// written by them, with its new subject.
async fn tickets(db: &mut PgConnection, after: Uuid) -> Result<Option<Looked>> {
    let rows = sqlx::query!(
        "SELECT id, subject, subject_folded FROM tickets WHERE id > $1 ORDER BY id LIMIT $2",
        after,
        SHORT_AT_ONCE
    );
    let rows = rows.fetch_all(&mut *db).await.map_err(error)?;
    let Some(last) = rows.last().map(|row| row.id) else { return Ok(None) };
    let stale = rows.into_iter().filter(|row| !row.subject.is_ascii());
    let (mut ids, mut subjects, mut folds, mut words) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in stale {
        let folded = caseless(&row.subject);
        if folded != row.subject_folded {
            ids.push(row.id);
            words.push(vector(&row.subject));
            subjects.push(row.subject);
            folds.push(folded);
        }
    }
    let changed = sqlx::query!(
        r#"
        WITH held AS MATERIALIZED (
          SELECT t.id, p.folded, p.words
          FROM tickets t
          JOIN unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS p (id, subject, folded, words)
            ON t.id = p.id AND t.subject = p.subject
          ORDER BY t.id
          FOR NO KEY UPDATE OF t
        )
        UPDATE tickets t SET subject_folded = held.folded, subject_words = held.words::tsvector
        FROM held WHERE t.id = held.id
        "#,
        &ids,
        &subjects,
        &folds,
        &words
    );
    let changed = changed.execute(db).await.map_err(error)?.rows_affected();
    Ok(Some(Looked { last, changed }))
}

/// Values of custom fields, which never change.
async fn values(db: &mut PgConnection, after: Uuid) -> Result<Option<Looked>> {
    let rows = sqlx::query!(
        "SELECT id, value, value_folded FROM custom_field_values WHERE id > $1 ORDER BY id LIMIT $2",
        after,
        SHORT_AT_ONCE
    );
    let rows = rows.fetch_all(&mut *db).await.map_err(error)?;
    let Some(last) = rows.last().map(|row| row.id) else { return Ok(None) };
    let (mut ids, mut folds) = (Vec::new(), Vec::new());
    for row in rows.into_iter().filter(|row| !row.value.is_ascii()) {
        let folded = caseless(&row.value);
        if folded != row.value_folded {
            ids.push(row.id);
            folds.push(folded);
        }
    }
    let changed = sqlx::query!(
        r#"
        UPDATE custom_field_values v SET value_folded = p.folded
        FROM unnest($1::uuid[], $2::text[]) AS p (id, folded) WHERE v.id = p.id
        "#,
        &ids,
        &folds
    );
    let changed = changed.execute(db).await.map_err(error)?.rows_affected();
    Ok(Some(Looked { last, changed }))
}

/// The words of messages, which never change. Those that have none yet get them from `db::words`.
async fn messages(db: &mut PgConnection, after: Uuid) -> Result<Option<Looked>> {
    // Only texts with other characters than ASCII can have other words, and only these leave the database.
    let rows = sqlx::query!(
        r#"
        SELECT m.id AS "id!", m.body
        FROM (SELECT c.transaction_id AS id,
                     CASE WHEN octet_length(c.body) > char_length(c.body) AND c.words IS NOT NULL THEN c.body END AS body
              FROM transaction_contents c WHERE c.transaction_id > $1 ORDER BY c.transaction_id LIMIT $2) m
        ORDER BY m.id
        "#,
        after,
        MESSAGES_AT_ONCE
    );
    let rows = rows.fetch_all(&mut *db).await.map_err(error)?;
    let Some(last) = rows.last().map(|row| row.id) else { return Ok(None) };
    let changed = rows.into_iter().filter_map(|row| Some((row.id, vector(&row.body?))));
    let (ids, words): (Vec<Uuid>, Vec<String>) = changed.unzip();
    let changed = sqlx::query!(
        r#"
        UPDATE transaction_contents c SET words = p.words::tsvector
        FROM unnest($1::uuid[], $2::text[]) AS p (id, words)
        WHERE c.transaction_id = p.id AND c.words <> p.words::tsvector
        "#,
        &ids,
        &words
    );
    let changed = changed.execute(db).await.map_err(error)?.rows_affected();
    Ok(Some(Looked { last, changed }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::delivery_fixtures::queue;
    use crate::testing::TestDb;
    use sqlx::AssertSqlSafe;
    use time::macros::datetime;

    /// Writes rows as an older version folds them, which only lowers the case: 1,200 tickets, of which two have letters that fold
    /// otherwise, with a value and a message each.
    async fn older_rows(pool: &PgPool) {
        queue(pool, Vec::new()).await;
        let statements = [
            "INSERT INTO tickets (version, subject, subject_folded, subject_words, queue_id, status, status_class, creator_id)
             SELECT 1, s, lower(s), to_tsvector('simple', s), queue_id, status, status_class, creator_id
             FROM tickets, LATERAL (SELECT CASE n WHEN 3 THEN 'Hauptstraße' WHEN 900 THEN 'Bu\u{308}ro' ELSE 'Grün ' || n END
                                    FROM generate_series(1, 1200) n) AS p (s)",
            "INSERT INTO custom_fields (name, field_type, changed_in) VALUES ('Street', 'Freeform', 0)",
            "INSERT INTO custom_field_values (custom_field_id, ticket_id, value, value_folded)
             SELECT f.id, t.id, t.subject, lower(t.subject) FROM custom_fields f, tickets t",
            "INSERT INTO transaction_contents (transaction_id, ticket_id, content_type, body, words)
             SELECT gen_random_uuid(), id, 'text/plain', subject, to_tsvector('simple', lower(subject)) FROM tickets",
        ];
        sqlx::raw_sql(AssertSqlSafe(statements.join(";"))).execute(pool).await.unwrap();
    }

    async fn count(pool: &PgPool, test: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) {test}"))).fetch_one(pool).await.unwrap()
    }

    #[tokio::test]
    async fn what_an_older_version_folded_is_folded_again_in_steps_and_the_job_ends_a_day_later() {
        let db = TestDb::new().await;
        let pool = &db.pools.write;
        let now: OffsetDateTime = sqlx::query_scalar("SELECT now()").fetch_one(pool).await.unwrap();
        assert_eq!(run(pool, now).await.unwrap(), 0);
        older_rows(pool).await;
        // The walk goes on from where it was, and these rows have random ids.
        sqlx::raw_sql("UPDATE refolds SET after = '00000000-0000-0000-0000-000000000000'")
            .execute(pool)
            .await
            .unwrap();

        let mut other = pool.begin().await.unwrap();
        sqlx::raw_sql("SELECT FROM refolds FOR UPDATE").execute(&mut *other).await.unwrap();
        assert_eq!(run(pool, now).await.unwrap(), 0, "another process is at work");
        other.rollback().await.unwrap();

        assert_eq!(run(pool, now).await.unwrap(), 6, "two subjects, values and messages");
        assert_eq!(run(pool, now).await.unwrap(), 0);
        for folded in ["hauptstrasse", "b\u{fc}ro"] {
            let words = format!("@@ '{folded}'::tsquery");
            assert_eq!(
                count(
                    pool,
                    &format!("FROM tickets WHERE subject_folded = '{folded}' AND subject_words {words}")
                )
                .await,
                1
            );
            assert_eq!(
                count(pool, &format!("FROM custom_field_values WHERE value_folded = '{folded}'")).await,
                1
            );
            assert_eq!(count(pool, &format!("FROM transaction_contents WHERE words {words}")).await, 1);
        }
        assert_eq!(count(pool, "FROM refolds").await, 3);
        run(pool, datetime!(2100-01-01 0:00 UTC)).await.unwrap();
        assert_eq!(count(pool, "FROM refolds").await, 0);
    }
}
