//! Templates in the database, with their versions.

use super::{Version, Which, name_error};
use crate::db::error;
use crate::error::Result;
use crate::models::template::ContentType;
use crate::models::{TemplateSource, UserId};
use crate::plan::documents::{Stored, TemplateDocument};
use sqlx::PgConnection;
use sqlx::types::Json;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Returns the id of the template with this id or name. If several have the name, the global one is preferred.
///
/// # Errors
/// Those of the database.
pub async fn id_of(db: &mut PgConnection, word: &str) -> Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "SELECT id FROM templates WHERE name = $1 OR id = $2 ORDER BY id = $2, queue_id NULLS FIRST LIMIT 1",
        word,
        Uuid::parse_str(word).ok()
    )
    .fetch_optional(db)
    .await
    .map_err(error)
}

/// Reads templates in order of id.
///
/// # Errors
/// Those of the database.
pub async fn read(db: &mut PgConnection, which: Which<'_>) -> Result<Vec<Stored<TemplateDocument>>> {
    let rows = sqlx::query!(
        r#"
        SELECT t.id, t.version, t.created_at, t.name, q.name AS "queue?", t.subject_template, t.body_template, t.content_type,
               t.headers AS "headers: Json<BTreeMap<String, String>>", t.disabled
        FROM templates t LEFT JOIN queues q ON q.id = t.queue_id
        WHERE t.id >= $1
          AND ($3::boolean IS NULL OR t.disabled = $3)
          AND ($4::text IS NULL OR position(lower($4) IN lower(t.name)) > 0)
        ORDER BY t.id
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
    let stored = rows.into_iter().map(|row| Stored {
        id: row.id,
        version: Some(row.version),
        created_at: row.created_at,
        document: TemplateDocument {
            name: row.name,
            queue: row.queue,
            subject_template: row.subject_template,
            body_template: row.body_template,
            content_type: if row.content_type == "html" { ContentType::Html } else { ContentType::Text },
            headers: row.headers.0,
            disabled: row.disabled,
        },
    });
    Ok(stored.collect())
}

/// Inserts or updates a template, and appends the version.
///
/// # Errors
/// `name_taken`; those of the database.
pub async fn write(
    db: &mut PgConnection,
    template: &TemplateSource,
    creator: UserId,
    changed_in: i64,
) -> Result<()> {
    let content_type = match template.content_type {
        ContentType::Text => "text",
        ContentType::Html => "html",
    };
    sqlx::query!(
        r#"
        INSERT INTO templates (id, name, queue_id, version, version_id, subject_template, body_template, content_type, headers,
                               disabled, changed_in)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT ON CONSTRAINT templates_pk DO UPDATE
        SET name = $2, queue_id = $3, version = $4, version_id = $5, subject_template = $6, body_template = $7, content_type = $8,
            headers = $9, disabled = $10, changed_in = $11
        "#,
        template.id.0,
        template.name,
        template.queue.map(|queue| queue.0),
        template.version,
        template.version_id.0,
        template.subject,
        template.body,
        content_type,
        Json(&template.headers) as _,
        template.disabled,
        changed_in
    )
    .execute(&mut *db)
    .await
    .map_err(|source| name_error(source, "template", &template.name))?;
    sqlx::query!(
        r#"
        INSERT INTO template_versions (id, template_id, version, name, subject_template, body_template, content_type, headers, creator_id,
                                       queue_id, disabled)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        "#,
        template.version_id.0,
        template.id.0,
        template.version,
        template.name,
        template.subject,
        template.body,
        content_type,
        Json(&template.headers) as _,
        creator.0,
        template.queue.map(|queue| queue.0),
        template.disabled
    )
    .execute(db)
    .await
    .map_err(error)?;
    Ok(())
}

/// Reads the versions of a template below `below`, newest first.
///
/// # Errors
/// Those of the database.
pub async fn versions(
    db: &mut PgConnection,
    template: Uuid,
    below: Option<i32>,
    limit: i64,
) -> Result<Vec<Version>> {
    sqlx::query_as!(
        Version,
        r#"
        SELECT v.id, v.version, u.username AS creator, v.created_at,
               jsonb_build_object('name', v.name, 'queue', q.name, 'subject_template', v.subject_template,
                                  'body_template', v.body_template, 'content_type', v.content_type, 'headers', v.headers,
                                  'disabled', v.disabled) AS "document!"
        FROM template_versions v JOIN users u ON u.id = v.creator_id LEFT JOIN queues q ON q.id = v.queue_id
        WHERE v.template_id = $1 AND ($2::int IS NULL OR v.version < $2)
        ORDER BY v.version DESC
        LIMIT $3
        "#,
        template,
        below,
        limit
    )
    .fetch_all(db)
    .await
    .map_err(error)
}
