//! Scrips in the database, with the queues they are attached to and their versions.

use super::{Version, Which, name_error};
use crate::db::error;
use crate::error::Result;
use crate::models::{ScripId, ScripVersionId, UserId};
use crate::plan::documents::{Place, PlaceAt, ScripDocument, Stored};
use crate::scrip::{Attachment, State};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// A validated scrip, ready to be written.
#[derive(Debug)]
pub struct NewVersion<'s> {
    /// The id of the scrip.
    pub id: ScripId,
    /// The id of this version.
    pub version_id: ScripVersionId,
    /// The number of this version, from 1.
    pub version: i32,
    /// The document, with its defaults filled in.
    pub document: &'s ScripDocument,
    /// The attachments to queues, each with the id of its row.
    pub attachments: &'s [(Uuid, Attachment)],
    /// The user who created this version.
    pub creator: UserId,
}

/// Returns the id of the scrip with this name or id.
///
/// # Errors
/// Those of the database.
pub async fn id_of(db: &mut PgConnection, word: &str) -> Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "SELECT id FROM scrips WHERE lower(name) = lower($1) OR id = $2 ORDER BY id = $2 LIMIT 1",
        word,
        Uuid::parse_str(word).ok()
    )
    .fetch_optional(db)
    .await
    .map_err(error)
}

/// Reads scrips in order of id, with their defaults filled in.
///
/// # Errors
/// Those of the database.
pub async fn read(db: &mut PgConnection, which: Which<'_>) -> Result<Vec<Stored<ScripDocument>>> {
    let rows = sqlx::query!(
        r#"
        SELECT s.id, s.version, s.created_at, s.name, s.description, s.condition_type, s.condition_config, s.applicable_types,
               s.action_type, s.action_config, s.template, s.state,
               (SELECT jsonb_agg(jsonb_build_object('queue', q.name, 'stage', a.stage, 'sort_order', a.sort_order) ORDER BY a.id)
                FROM scrip_queues a LEFT JOIN queues q ON q.id = a.queue_id
                WHERE a.scrip_id = s.id) AS "places: Json<Vec<PlaceAt>>"
        FROM scrips s
        WHERE s.id >= $1
          AND ($3::boolean IS NULL OR (s.state = 'disabled') = $3)
          AND ($4::text IS NULL OR position(lower($4) IN lower(s.name)) > 0)
        ORDER BY s.id
        LIMIT $2
        "#,
        which.from,
        which.limit,
        which.disabled,
        which.name
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    let stored = rows.into_iter().map(|row| {
        let places = row.places.map(|Json(places)| places).unwrap_or_default();
        let (stage, sort_order) =
            places.first().map_or((None, None), |first| (first.stage, first.sort_order));
        let queue = match places.as_slice() {
            [only] => only.queue.clone(),
            _ => None,
        };
        let is_everywhere = matches!(places.as_slice(), [PlaceAt { queue: None, .. }]);
        let state = State::parse(&row.state).unwrap_or(State::Disabled);
        Stored {
            id: row.id,
            version: Some(row.version),
            created_at: row.created_at,
            document: ScripDocument {
                name: row.name,
                description: row.description,
                queue,
                queues: (!is_everywhere).then(|| places.into_iter().map(Place::At).collect()),
                condition_type: row.condition_type,
                condition_config: row.condition_config,
                applicable_types: row.applicable_types,
                action_type: row.action_type,
                action_config: row.action_config,
                template: row.template,
                stage,
                sort_order,
                state: Some(state),
                disabled: Some(state == State::Disabled),
            },
        }
    });
    Ok(stored.collect())
}

/// Inserts or updates a scrip with its attachments, and appends the version.
///
/// # Errors
/// `name_taken`; those of the database.
pub async fn write(db: &mut PgConnection, scrip: &NewVersion<'_>, changed_in: i64) -> Result<()> {
    let document = scrip.document;
    sqlx::query!(
        r#"
        INSERT INTO scrips (id, name, description, condition_type, condition_config, applicable_types, action_type, action_config,
                            template, state, version, version_id, changed_in)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        ON CONFLICT ON CONSTRAINT scrips_pk DO UPDATE
        SET name = $2, description = $3, condition_type = $4, condition_config = $5, applicable_types = $6, action_type = $7,
            action_config = $8, template = $9, state = $10, version = $11, version_id = $12, changed_in = $13
        "#,
        scrip.id.0,
        document.name,
        document.description,
        document.condition_type,
        document.condition_config,
        document.applicable_types.as_deref(),
        document.action_type,
        document.action_config,
        document.template,
        document.state.unwrap_or_default().as_str(),
        scrip.version,
        scrip.version_id.0,
        changed_in
    )
    .execute(&mut *db)
    .await
    .map_err(|source| name_error(source, "scrip", &document.name))?;
    attach(db, scrip.id, scrip.attachments).await?;
    sqlx::query!(
        "INSERT INTO scrip_versions (id, scrip_id, version, snapshot, creator_id) VALUES ($1, $2, $3, $4, $5)",
        scrip.version_id.0,
        scrip.id.0,
        scrip.version,
        Json(document) as _,
        scrip.creator.0
    )
    .execute(db)
    .await
    .map_err(error)?;
    Ok(())
}

async fn attach(db: &mut PgConnection, scrip: ScripId, attachments: &[(Uuid, Attachment)]) -> Result<()> {
    let ids: Vec<_> = attachments.iter().map(|(id, _)| *id).collect();
    let queues: Vec<_> = attachments.iter().map(|(_, at)| at.queue.map(|queue| queue.0)).collect();
    let stages: Vec<_> = attachments.iter().map(|(_, at)| at.stage.as_str().to_owned()).collect();
    let orders: Vec<_> = attachments.iter().map(|(_, at)| at.sort_order).collect();
    sqlx::query!("DELETE FROM scrip_queues WHERE scrip_id = $1", scrip.0)
        .execute(&mut *db)
        .await
        .map_err(error)?;
    sqlx::query!(
        r#"
        INSERT INTO scrip_queues (id, scrip_id, queue_id, stage, sort_order)
        SELECT a.id, $1, a.queue, a.stage, a.sort_order
        FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::int[]) AS a (id, queue, stage, sort_order)
        "#,
        scrip.0,
        &ids,
        &queues as _,
        &stages,
        &orders
    )
    .execute(db)
    .await
    .map_err(error)?;
    Ok(())
}

/// Reads the versions of a scrip below `below`, newest first.
///
/// # Errors
/// Those of the database.
pub async fn versions(
    db: &mut PgConnection,
    scrip: Uuid,
    below: Option<i32>,
    limit: i64,
) -> Result<Vec<Version>> {
    sqlx::query_as!(
        Version,
        r#"
        SELECT v.id, v.version, u.username AS creator, v.created_at, v.snapshot AS document
        FROM scrip_versions v JOIN users u ON u.id = v.creator_id
        WHERE v.scrip_id = $1 AND ($2::int IS NULL OR v.version < $2)
        ORDER BY v.version DESC
        LIMIT $3
        "#,
        scrip,
        below,
        limit
    )
    .fetch_all(db)
    .await
    .map_err(error)
}
