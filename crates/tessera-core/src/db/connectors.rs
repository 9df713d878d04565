//! Connectors in the database: their tokens, and the kinds that they deliver.

use super::error;
use crate::error::Result;
use crate::models::connector::{Connector, KindRecord, Registered};
use crate::models::{ConnectorId, DeliveryKind, UserId};
use crate::plan::Catalog;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// The precision of the time of a connector's last call, in seconds.
const SEEN_SECONDS: f64 = 10.0;

struct ConnectorRow {
    id: Uuid,
    name: String,
    kinds: Vec<String>,
    user_id: Option<Uuid>,
}

impl From<ConnectorRow> for Connector {
    fn from(row: ConnectorRow) -> Self {
        Self {
            id: row.id.into(),
            name: row.name,
            kinds: row.kinds.iter().filter_map(|word| DeliveryKind::parse(word)).collect(),
            user: row.user_id.map(UserId),
        }
    }
}

/// Returns the connector whose token has this SHA-256, unless it is revoked, and records the time of the call.
///
/// # Errors
/// Those of the database.
pub async fn by_token(pool: &PgPool, hash: &[u8]) -> Result<Option<Connector>> {
    let row = sqlx::query_as!(
        ConnectorRow,
        r#"
        WITH found AS (
            SELECT id, name, kinds, user_id, last_seen_at FROM connectors WHERE token_hash = $1 AND revoked_at IS NULL
        ),
        -- Only after some time, so that frequent calls of a connector do not write its row each time.
        seen AS (
            UPDATE connectors c SET last_seen_at = now()
            FROM found f
            WHERE c.id = f.id AND coalesce(f.last_seen_at < now() - make_interval(secs => $2), TRUE)
        )
        SELECT id, name, kinds, user_id FROM found
        "#,
        hash,
        SEEN_SECONDS
    )
    .fetch_optional(pool)
    .await
    .map_err(error)?;
    Ok(row.map(Connector::from))
}

/// Adds a connector. Its name must be unique among those that are not revoked.
///
/// # Errors
/// Those of the database.
pub async fn insert(db: &mut PgConnection, connector: &Connector, token_hash: &[u8]) -> Result<()> {
    let kinds: Vec<String> = connector.kinds.iter().map(ToString::to_string).collect();
    sqlx::query!(
        "INSERT INTO connectors (id, name, kinds, token_hash, user_id) VALUES ($1, $2, $3, $4, $5)",
        connector.id.0,
        connector.name,
        &kinds,
        token_hash,
        connector.user.map(|user| user.0)
    )
    .execute(db)
    .await
    .map_err(error)?;
    Ok(())
}

/// Returns true if a connector with this name exists that is not revoked.
///
/// # Errors
/// Those of the database.
pub async fn has(db: &mut PgConnection, name: &str) -> Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM connectors WHERE name = $1 AND revoked_at IS NULL) AS "has!""#,
        name
    )
    .fetch_one(db)
    .await
    .map_err(error)
}

/// Replaces the token of a connector. Returns false if it does not exist or is revoked.
///
/// # Errors
/// Those of the database.
pub async fn set_token(pool: &PgPool, name: &str, token_hash: &[u8]) -> Result<bool> {
    let done = sqlx::query!(
        "UPDATE connectors SET token_hash = $2 WHERE name = $1 AND revoked_at IS NULL",
        name,
        token_hash
    )
    .execute(pool)
    .await
    .map_err(error)?;
    Ok(done.rows_affected() > 0)
}

/// Revokes a connector permanently. Returns false if it does not exist or is already revoked.
///
/// # Errors
/// Those of the database.
pub async fn revoke(pool: &PgPool, name: &str) -> Result<bool> {
    let done =
        sqlx::query!("UPDATE connectors SET revoked_at = now() WHERE name = $1 AND revoked_at IS NULL", name)
            .execute(pool)
            .await
            .map_err(error)?;
    Ok(done.rows_affected() > 0)
}

/// Lists the connectors that are not revoked, in order of name.
///
/// # Errors
/// Those of the database.
pub async fn list(pool: &PgPool) -> Result<Vec<Registered>> {
    let rows = sqlx::query!(
        r#"
        SELECT c.id, c.name, c.kinds, c.user_id, u.username AS "username?", c.software, c.created_at, c.last_seen_at
        FROM connectors c LEFT JOIN users u ON u.id = c.user_id
        WHERE c.revoked_at IS NULL
        ORDER BY c.name
        "#
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    let registered = rows.into_iter().map(|row| Registered {
        connector: ConnectorRow { id: row.id, name: row.name, kinds: row.kinds, user_id: row.user_id }.into(),
        username: row.username,
        software: row.software,
        created_at: row.created_at,
        last_seen_at: row.last_seen_at,
    });
    Ok(registered.collect())
}

/// Counts the connectors that are not revoked.
///
/// # Errors
/// Those of the database.
pub async fn count(db: &mut PgConnection) -> Result<i64> {
    sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM connectors WHERE revoked_at IS NULL"#)
        .fetch_one(db)
        .await
        .map_err(error)
}

/// Adds kinds, so that scrips can use them; existing kinds do not change. Returns true if a kind is new.
///
/// # Errors
/// Those of the database.
pub async fn add_kinds(db: &mut PgConnection, kinds: &[String]) -> Result<bool> {
    let done = sqlx::query!(
        "INSERT INTO delivery_kinds (kind) SELECT unnest($1::text[]) ON CONFLICT ON CONSTRAINT delivery_kinds_pk DO NOTHING",
        kinds
    )
    .execute(db)
    .await
    .map_err(error)?;
    Ok(done.rows_affected() > 0)
}

/// Records a connector's announcement of a kind, with a schema and the name of the software. Returns true if the kind changed.
///
/// # Errors
/// Those of the database.
pub async fn announce(
    db: &mut PgConnection,
    connector: ConnectorId,
    kind: &str,
    schema: Option<&Value>,
    software: &str,
) -> Result<bool> {
    let changed = sqlx::query!(
        r#"
        WITH software AS (UPDATE connectors SET software = $4 WHERE id = $1)
        INSERT INTO delivery_kinds AS k (kind, schema, announced_at) VALUES ($2, $3, now())
        ON CONFLICT ON CONSTRAINT delivery_kinds_pk DO UPDATE
        SET schema = excluded.schema, announced_at = coalesce(k.announced_at, excluded.announced_at)
        WHERE k.schema IS DISTINCT FROM excluded.schema OR k.announced_at IS NULL
        "#,
        connector.0,
        kind,
        schema,
        software
    )
    .execute(db)
    .await
    .map_err(error)?;
    Ok(changed.rows_affected() > 0)
}

/// Lists all kinds in order of name, with the scrips that create deliveries of each and the number of unfinished deliveries.
///
/// # Errors
/// Those of the database.
pub async fn kinds(pool: &PgPool, catalog: &Catalog) -> Result<Vec<KindRecord>> {
    let rows = sqlx::query!(
        r#"
        WITH known AS (
            SELECT kind, schema, announced_at FROM delivery_kinds
            UNION ALL
            SELECT kind, NULL, NULL FROM unnest($1::text[]) AS builtin (kind) WHERE kind NOT IN (SELECT kind FROM delivery_kinds)
        )
        SELECT k.kind AS "kind!", k.schema, k.announced_at,
               (SELECT count(*) FROM delivery_queue q WHERE q.kind = k.kind) AS "unfinished!"
        FROM known k
        ORDER BY k.kind
        "#,
        &DeliveryKind::BUILTIN.map(|kind| kind.to_string())
    )
    .fetch_all(pool)
    .await
    .map_err(error)?;
    let kinds = rows.into_iter().map(|row| KindRecord {
        scrips: catalog.makers_of(&row.kind),
        name: row.kind,
        schema: row.schema,
        announced_at: row.announced_at,
        unfinished: row.unfinished,
    });
    Ok(kinds.collect())
}

/// Returns the numbers of these tickets with their ids.
///
/// # Errors
/// Those of the database.
pub async fn ticket_numbers(pool: &PgPool, ids: &[Uuid]) -> Result<Vec<(Uuid, i64)>> {
    let rows = sqlx::query!("SELECT id, number FROM tickets WHERE id = ANY($1)", ids)
        .fetch_all(pool)
        .await
        .map_err(error)?;
    Ok(rows.into_iter().map(|row| (row.id, row.number)).collect())
}
