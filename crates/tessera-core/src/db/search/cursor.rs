//! Cursors: the position of a page's last ticket, with a signature of the search that it belongs to.

use super::compile::Search;
use crate::db::malformed_cursor;
use crate::error::Result;
use crate::query::sql::{Asker, KeyKind, KeyValue, Keys};
use crate::query::{Query, Test};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

/// The position of a ticket in an order.
pub(super) struct Position {
    pub id: Uuid,
    /// The values of its keys.
    pub values: Vec<KeyValue>,
}

/// A digest of what a cursor belongs to: the query, the order, the dialect, the user and their time zone.
pub(super) fn signature(query: &Query<Test>, search: &Search<'_>) -> String {
    let Search { order, dialect, asker: Asker { user, zone, .. }, .. } = search;
    let order: Vec<String> =
        order.iter().map(|term| format!("{}{}", term.field.to_lowercase(), term.is_descending)).collect();
    let (zone, order) = (zone.name(), order.join("\n"));
    let digest = Sha256::digest(format!("{user}\n{zone}\n{query}\n{order}\n{dialect:?}"));
    hex::encode(digest.get(..8).unwrap_or_default())
}

/// The cursor that begins after a row of a page.
pub(super) fn encode(row: &PgRow, signature: &str, keys: &Keys) -> String {
    let id: Uuid = row.try_get(0).unwrap_or_default();
    let value = |(at, kind): (usize, KeyKind)| -> Option<String> {
        match kind {
            KeyKind::Text => row.try_get(at + 1).ok()?,
            KeyKind::Number => row.try_get::<Option<i64>, _>(at + 1).ok()?.map(|number| number.to_string()),
            KeyKind::Time => {
                let at: Option<OffsetDateTime> = row.try_get(at + 1).ok()?;
                at.map(|at| (at.unix_timestamp_nanos() / 1_000).to_string())
            }
        }
    };
    let values: Vec<KeyValue> = keys.kinds().enumerate().map(value).collect();
    URL_SAFE_NO_PAD.encode(serde_json::json!([signature, id, values]).to_string())
}

/// Reads a cursor of the search with this signature.
pub(super) fn decode(cursor: &str, signature: &str) -> Result<Position> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| malformed_cursor())?;
    let (of, id, values): (String, Uuid, Vec<KeyValue>) =
        serde_json::from_slice(&bytes).map_err(|_| malformed_cursor())?;
    let is_storable = values.iter().flatten().all(|value| !value.contains('\0'));
    if of == signature && is_storable { Ok(Position { id, values }) } else { Err(malformed_cursor()) }
}
