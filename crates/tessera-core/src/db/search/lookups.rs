//! Fetches what compiling a search needs from the database: users, and how frequent words are.

use crate::db::error;
use crate::error::Result;
use crate::models::text::fold;
use crate::models::{User, UserId};
use crate::query::sql::Frequencies;
use sqlx::PgConnection;
use uuid::Uuid;

/// The frequencies of words in messages. PostgreSQL's statistics list only the most frequent words, so the others are absent.
pub(super) async fn frequencies(db: &mut PgConnection, words: &[String]) -> Result<Frequencies> {
    if words.is_empty() {
        return Ok(Frequencies::default());
    }
    let rows = sqlx::query!(
        r#"
        SELECT e.word AS "word!", e.frequency AS "frequency!", c.reltuples AS "messages!"
        FROM pg_class c, pg_stats s, unnest(s.most_common_elems::text::text[], s.most_common_elem_freqs) AS e (word, frequency)
        WHERE c.oid = 'transaction_contents'::regclass
          AND s.schemaname = current_schema() AND s.tablename = 'transaction_contents' AND s.attname = 'words'
          AND e.word = ANY ($1)
        "#,
        words,
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    Ok(Frequencies {
        messages: rows.first().map_or(0.0, |row| row.messages),
        words: rows.into_iter().map(|row| (row.word, row.frequency)).collect(),
    })
}

/// The users of these usernames, addresses and ids, in no order.
pub(super) async fn users(db: &mut PgConnection, words: &[String]) -> Result<Vec<User>> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = words.iter().filter_map(|word| Uuid::parse_str(word).ok()).collect();
    let words: Vec<String> = words.iter().map(|word| fold(word)).collect();
    sqlx::query_as!(
        User,
        r#"
        SELECT id AS "id: UserId", username, email, name, privileged, disabled
        FROM users
        WHERE lower(username) = ANY ($1) OR lower(email) = ANY ($1) OR id = ANY ($2)
        "#,
        &words,
        &ids,
    )
    .fetch_all(db)
    .await
    .map_err(error)
}
