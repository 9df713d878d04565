//! Custom fields in the database, and the use of their values.

use super::{Which, name_error};
use crate::db::error;
use crate::error::{Error, Result};
use crate::models::{CustomField, FieldType};
use crate::plan::documents::{CustomFieldDocument, Stored};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Returns the id of the field with this name or id.
///
/// # Errors
/// Those of the database.
pub async fn id_of(db: &mut PgConnection, word: &str) -> Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "SELECT id FROM custom_fields WHERE lower(name) = lower($1) OR id = $2 ORDER BY id = $2 LIMIT 1",
        word,
        Uuid::parse_str(word).ok()
    )
    .fetch_optional(db)
    .await
    .map_err(error)
}

/// Reads fields in order of id.
///
/// # Errors
/// Those of the database.
pub async fn read(db: &mut PgConnection, which: Which<'_>) -> Result<Vec<Stored<CustomFieldDocument>>> {
    let rows = sqlx::query!(
        r#"
        SELECT id, created_at, name, field_type, values AS "choices: Json<Vec<String>>", max_values, pattern, disabled
        FROM custom_fields
        WHERE id >= $1
          AND ($3::boolean IS NULL OR disabled = $3)
          AND ($4::text IS NULL OR position(lower($4) IN lower(name)) > 0)
        ORDER BY id
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
    let mut stored = Vec::with_capacity(rows.len());
    for row in rows {
        let field_type: FieldType = serde_json::from_value(Value::String(row.field_type))
            .map_err(|source| Error::internal("A stored custom field has an unknown type.", source))?;
        stored.push(Stored {
            id: row.id,
            version: None,
            created_at: row.created_at,
            document: CustomFieldDocument {
                name: row.name,
                field_type,
                values: row.choices.map(|Json(values)| values).unwrap_or_default(),
                max_values: u32::try_from(row.max_values).ok(),
                pattern: row.pattern,
                disabled: row.disabled,
            },
        });
    }
    Ok(stored)
}

/// Inserts or updates a custom field.
///
/// # Errors
/// `name_taken`; those of the database.
pub async fn write(db: &mut PgConnection, field: &CustomField, changed_in: i64) -> Result<()> {
    let field_type = match field.field_type {
        FieldType::Freeform => "Freeform",
        FieldType::SelectSingle => "SelectSingle",
        FieldType::SelectMulti => "SelectMulti",
    };
    let choices = (!field.values.is_empty()).then_some(Json(&field.values));
    sqlx::query!(
        r#"
        INSERT INTO custom_fields (id, name, field_type, values, max_values, pattern, disabled, changed_in)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT ON CONSTRAINT custom_fields_pk DO UPDATE
        SET name = $2, field_type = $3, values = $4, max_values = $5, pattern = $6, disabled = $7, changed_in = $8
        "#,
        field.id.0,
        field.name,
        field_type,
        choices as _,
        i32::try_from(field.max_values).unwrap_or(i32::MAX),
        field.pattern.as_ref().map(|pattern| pattern.as_str()),
        field.disabled,
        changed_in
    )
    .execute(db)
    .await
    .map_err(|source| name_error(source, "custom field", &field.name))?;
    Ok(())
}

/// Counts the tickets with each value of a custom field.
///
/// # Errors
/// Those of the database.
pub async fn values_in_use(db: &mut PgConnection, field: Uuid) -> Result<BTreeMap<String, i64>> {
    let rows = sqlx::query!(
        r#"SELECT value, count(*) AS "tickets!" FROM custom_field_values WHERE custom_field_id = $1 GROUP BY value"#,
        field
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    Ok(rows.into_iter().map(|row| (row.value, row.tickets)).collect())
}

/// Counts the tickets that have more than `most` values of a custom field.
///
/// # Errors
/// Those of the database.
pub async fn tickets_above(db: &mut PgConnection, field: Uuid, most: u32) -> Result<i64> {
    sqlx::query_scalar!(
        r#"
        SELECT count(*) AS "tickets!"
        FROM (SELECT FROM custom_field_values WHERE custom_field_id = $1 GROUP BY ticket_id HAVING count(*) > $2) AS above
        "#,
        field,
        i64::from(most)
    )
    .fetch_one(db)
    .await
    .map_err(error)
}
