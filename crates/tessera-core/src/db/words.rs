//! Fills in missing full-text words of tickets and messages that an older version wrote; newer rows are written with them.

use super::error;
use crate::error::Result;
use crate::query::words::vector;
use sqlx::PgPool;
use uuid::Uuid;

/// The number of rows read and written by one statement; a message may have 1 MiB.
const ROWS_AT_ONCE: i64 = 20;

/// Fills in missing words and returns the number of rows. Rows that are locked by others are left for the next run.
///
/// # Errors
/// Those of the database.
pub async fn fill(pool: &PgPool) -> Result<u64> {
    Ok(fill_subjects(pool).await? + fill_contents(pool).await?)
}

async fn fill_subjects(pool: &PgPool) -> Result<u64> {
    let (mut after, mut filled) = (Uuid::nil(), 0);
    loop {
        let rows = sqlx::query!(
            "SELECT id, subject FROM tickets WHERE subject_words IS NULL AND id > $1 ORDER BY id LIMIT $2",
            after,
            ROWS_AT_ONCE
        )
        .fetch_all(pool)
        .await
        .map_err(error)?;
        let Some(last) = rows.last() else { return Ok(filled) };
        after = last.id;
        let words: Vec<String> = rows.iter().map(|row| vector(&row.subject)).collect();
        let (ids, subjects): (Vec<Uuid>, Vec<String>) =
            rows.into_iter().map(|row| (row.id, row.subject)).unzip();
        // This does not change the ticket, so its version stays the same. Rows whose subject has changed meanwhile are skipped.
        filled += sqlx::query!(
            r#"
            WITH held AS MATERIALIZED (
              SELECT t.id, p.words
              FROM tickets t JOIN unnest($1::uuid[], $2::text[], $3::text[]) AS p (id, subject, words)
                ON p.id = t.id AND p.subject = t.subject
              FOR NO KEY UPDATE OF t SKIP LOCKED
            )
            UPDATE tickets t SET subject_words = held.words::tsvector FROM held WHERE t.id = held.id
            "#,
            &ids,
            &subjects,
            &words
        )
        .execute(pool)
        .await
        .map_err(error)?
        .rows_affected();
    }
}

async fn fill_contents(pool: &PgPool) -> Result<u64> {
    let (mut after, mut filled) = (Uuid::nil(), 0);
    loop {
        let rows = sqlx::query!(
            r#"
            SELECT transaction_id AS id, body FROM transaction_contents
            WHERE words IS NULL AND transaction_id > $1
            ORDER BY transaction_id LIMIT $2
            "#,
            after,
            ROWS_AT_ONCE
        )
        .fetch_all(pool)
        .await
        .map_err(error)?;
        let Some(last) = rows.last() else { return Ok(filled) };
        after = last.id;
        let (ids, words): (Vec<Uuid>, Vec<String>) =
            rows.iter().map(|row| (row.id, vector(&row.body))).unzip();
        filled += sqlx::query!(
            r#"
            WITH held AS MATERIALIZED (
              SELECT c.transaction_id AS id, h.ticket_id, p.words
              FROM transaction_contents c
              JOIN unnest($1::uuid[], $2::text[]) AS p (id, words) ON p.id = c.transaction_id
              JOIN transactions h ON h.id = c.transaction_id
              FOR NO KEY UPDATE OF c SKIP LOCKED
            )
            UPDATE transaction_contents c SET ticket_id = held.ticket_id, words = held.words::tsvector
            FROM held WHERE c.transaction_id = held.id
            "#,
            &ids,
            &words
        )
        .execute(pool)
        .await
        .map_err(error)?
        .rows_affected();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::delivery_fixtures::queue;
    use crate::query::words::Matcher;
    use crate::testing::TestDb;
    use sqlx::{AssertSqlSafe, PgConnection};

    /// Counts the rows of a table for which a condition holds, and asserts that an index finds them.
    async fn found(db: &mut PgConnection, table: &str, test: &str, index: &str) -> i64 {
        sqlx::raw_sql("SET enable_seqscan = off").execute(&mut *db).await.unwrap();
        let explain = AssertSqlSafe(format!("EXPLAIN SELECT FROM {table} WHERE {test}"));
        let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(&mut *db).await.unwrap();
        assert!(plan.iter().any(|line| line.contains(index)), "{plan:#?}");
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {table} WHERE {test}"));
        sqlx::query_scalar(count).fetch_one(db).await.unwrap()
    }

    /// Writes rows as a version without full text does.
    async fn older_rows(pool: &PgPool) {
        queue(pool, Vec::new()).await;
        let message = "INSERT INTO transaction_contents (transaction_id, content_type, body)
                       SELECT id, 'text/plain', 'The printer''s on fire' FROM transactions";
        let more = "INSERT INTO tickets (version, subject, subject_folded, queue_id, status, status_class, creator_id)
                    SELECT 1, 'Printer ' || n, 'printer ' || n, queue_id, status, status_class, creator_id
                    FROM tickets, generate_series(1, 45) n";
        sqlx::raw_sql(AssertSqlSafe([message, more].join(";"))).execute(pool).await.unwrap();
    }

    #[tokio::test]
    async fn rows_of_an_older_program_are_found_by_their_words_once_they_are_filled_in() {
        let db = TestDb::new().await;
        let pool = &db.pools.write;
        older_rows(pool).await;
        let mut conn = pool.acquire().await.unwrap();
        let subject =
            format!("subject_words @@ $${}$$::tsquery", Matcher::parse("print*").unwrap().tsquery());
        let content = format!("words @@ $${}$$::tsquery", Matcher::parse("\"on fire\"").unwrap().tsquery());
        assert_eq!(found(&mut conn, "tickets", &subject, "tickets_subject_words_idx").await, 0);

        let mut other = pool.begin().await.unwrap();
        sqlx::query("SELECT FROM tickets WHERE subject = 'Printer 7' FOR UPDATE")
            .execute(&mut *other)
            .await
            .unwrap();
        assert_eq!(fill(pool).await.unwrap(), 46, "one message and all tickets but the one that is locked");
        other.rollback().await.unwrap();
        assert_eq!((fill(pool).await.unwrap(), fill(pool).await.unwrap()), (1, 0));

        assert_eq!(found(&mut conn, "tickets", &subject, "tickets_subject_words_idx").await, 45);
        assert_eq!(
            found(&mut conn, "transaction_contents", &content, "transaction_contents_words_idx").await,
            1
        );
        let of_its_ticket =
            "SELECT count(*) FROM transaction_contents JOIN tickets ON tickets.id = ticket_id";
        let joined: i64 = sqlx::query_scalar(of_its_ticket).fetch_one(&mut *conn).await.unwrap();
        assert_eq!(joined, 1);
    }

    #[tokio::test]
    async fn a_part_of_a_subject_is_found_by_an_index() {
        let db = TestDb::new().await;
        older_rows(&db.pools.write).await;
        let mut conn = db.pools.write.acquire().await.unwrap();
        let (test, index) = ("subject_folded LIKE '%rinter 4%'", "tickets_subject_trigrams_idx");
        assert_eq!(found(&mut conn, "tickets", test, index).await, 7);
    }
}
