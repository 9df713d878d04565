//! Reads the catalog, the whole configuration of one version, and compiles only what changed since the previous one.

use super::error;
use crate::error::{Code, Error, Fault, Result};
use crate::lifecycle::{Definition, Lifecycle};
use crate::models::custom_field;
use crate::models::delivery::KindName;
use crate::models::template::ContentType;
use crate::models::user::SYSTEM_USER;
use crate::models::{
    CustomField, CustomFieldId, FieldType, LifecycleId, LifecycleVersionId, Queue, QueueId, Role, ScripId,
    ScripVersionId, TemplateId, TemplateSource, TemplateVersionId, TransactionType, User, UserId, Watcher,
    WatcherId,
};
use crate::plan::catalog::Parts;
use crate::plan::{Catalog, Installation};
use crate::scrip::action::Action;
use crate::scrip::condition::Condition;
use crate::scrip::evaluation::Stage;
use crate::scrip::kind::{ConnectorKind, Schema};
use crate::scrip::template::Template;
use crate::scrip::{Attachment, Scrip, State};
use serde::Deserialize;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Returns the current version of the configuration.
///
/// # Errors
/// Those of the database.
pub async fn version(db: &mut PgConnection) -> Result<i64> {
    sqlx::query_scalar!("SELECT version FROM config_version").fetch_one(db).await.map_err(error)
}

/// Reads the current configuration, and takes unchanged objects from `previous`.
///
/// # Errors
/// `internal` if a stored lifecycle or custom field is invalid; those of the database. An invalid scrip or template is logged
/// and left out.
pub async fn read(pool: &PgPool, previous: Option<&Catalog>, installation: Installation) -> Result<Catalog> {
    let mut db = super::moment(pool).await?;
    let catalog = read_within(&mut db, previous, installation).await?;
    db.rollback().await.map_err(error)?;
    Ok(catalog)
}

/// As [`read`], within a database transaction and with its writes. It must hold the lock of the configuration (see
/// [`super::configuration::lock`]) or see one snapshot.
///
/// # Errors
/// Those of [`read`].
pub async fn read_within(
    db: &mut PgConnection,
    previous: Option<&Catalog>,
    installation: Installation,
) -> Result<Catalog> {
    let version = version(&mut *db).await?;
    let since = previous.map_or(-1, |catalog| catalog.version);
    let lifecycles = lifecycles(&mut *db, since).await?;
    let fields = fields(&mut *db, since).await?;
    let agents = agents(&mut *db, since).await?;
    let templates = templates(&mut *db, since).await?;
    let scrips = scrips(&mut *db, since).await?;
    let kinds = kinds(&mut *db, previous).await?;
    let queues = queues(db).await?;
    let parts = Parts {
        version,
        installation,
        queues,
        kinds,
        lifecycles: merge(previous.map(|catalog| catalog.lifecycles.iter()), lifecycles, Lifecycle::id),
        fields: merge(previous.map(|catalog| catalog.fields.iter()), fields, |field| field.id),
        agents: merge(previous.map(|catalog| catalog.agents.iter()), agents, |user| user.id)
            .into_iter()
            .filter(|user| user.privileged || user.id == SYSTEM_USER)
            .collect(),
        scrips: merge(previous.map(|catalog| catalog.scrips.iter()), scrips, |scrip| scrip.id),
        templates: merge(previous.map(|catalog| catalog.templates.values()), templates, |template| {
            template.source().id
        }),
    };
    Ok(Catalog::new(parts))
}

/// Replaces the changed objects of the previous configuration, by id.
fn merge<'a, T: 'a, I: Ord>(
    before: Option<impl Iterator<Item = &'a Arc<T>>>,
    changed: Vec<Arc<T>>,
    id: impl Fn(&T) -> I,
) -> Vec<Arc<T>> {
    let before = before.into_iter().flatten().map(Arc::clone);
    let all: BTreeMap<I, Arc<T>> = before.chain(changed).map(|thing| (id(&thing), thing)).collect();
    all.into_values().collect()
}

/// Returns the error for a stored object that is invalid for this program.
fn broken(what: &str, name: &str, faults: &[Fault]) -> Error {
    let faults: Vec<_> = faults.iter().map(Fault::to_string).collect();
    Error::new(Code::Internal, format!("The stored {what} {name} is invalid: {}", faults.join("; ")))
}

async fn lifecycles(db: &mut PgConnection, since: i64) -> Result<Vec<Arc<Lifecycle>>> {
    let rows = sqlx::query!(
        r#"
        SELECT id, version_id, name, definition AS "definition: Json<Definition>"
        FROM lifecycles
        WHERE changed_in > $1
        "#,
        since
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    let compile = |id, version, name: String, definition| {
        Lifecycle::compile(LifecycleId(id), LifecycleVersionId(version), name.clone(), definition)
            .map(Arc::new)
            .map_err(|faults| broken("lifecycle", &name, &faults))
    };
    rows.into_iter().map(|row| compile(row.id, row.version_id, row.name, row.definition.0)).collect()
}

async fn fields(db: &mut PgConnection, since: i64) -> Result<Vec<Arc<CustomField>>> {
    let rows = sqlx::query!(
        r#"
        SELECT id, name, field_type, values AS "choices: Json<Vec<String>>", max_values, pattern, disabled
        FROM custom_fields
        WHERE changed_in > $1
        "#,
        since
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    let mut fields = Vec::with_capacity(rows.len());
    for row in rows {
        let field_type: FieldType = serde_json::from_value(Value::String(row.field_type))
            .map_err(|source| Error::internal("A stored custom field has an unknown type.", source))?;
        let definition = custom_field::Definition {
            name: row.name.clone(),
            field_type,
            values: row.choices.map(|Json(values)| values).unwrap_or_default(),
            max_values: u32::try_from(row.max_values).ok(),
            pattern: row.pattern,
        };
        let field = CustomField::define(CustomFieldId(row.id), definition);
        let mut field = field.map_err(|faults| broken("custom field", &row.name, &faults))?;
        field.disabled = row.disabled;
        fields.push(Arc::new(field));
    }
    Ok(fields)
}

async fn agents(db: &mut PgConnection, since: i64) -> Result<Vec<Arc<User>>> {
    let rows = sqlx::query_as!(
        User,
        r#"
        SELECT id AS "id: UserId", username, email, name, privileged, disabled
        FROM users
        WHERE changed_in > $1 AND ($1 >= 0 OR privileged OR id = $2)
        "#,
        since,
        SYSTEM_USER.0
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    Ok(rows.into_iter().map(Arc::new).collect())
}

async fn templates(db: &mut PgConnection, since: i64) -> Result<Vec<Arc<Template>>> {
    let rows = sqlx::query!(
        r#"
        SELECT id, version_id, version, name, queue_id, subject_template, body_template, content_type,
               headers AS "headers: Json<BTreeMap<String, String>>", disabled
        FROM templates
        WHERE changed_in > $1
        "#,
        since
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    let mut templates = Vec::with_capacity(rows.len());
    for row in rows {
        let source = TemplateSource {
            id: TemplateId(row.id),
            version_id: TemplateVersionId(row.version_id),
            version: row.version,
            name: row.name,
            queue: row.queue_id.map(QueueId),
            subject: row.subject_template,
            body: row.body_template,
            content_type: if row.content_type == "html" { ContentType::Html } else { ContentType::Text },
            headers: row.headers.0,
            disabled: row.disabled,
        };
        match Template::compile(&source) {
            Ok(template) => templates.push(Arc::new(template)),
            Err(faults) => tracing::error!(
                template = source.name,
                ?faults,
                "a stored template is invalid and is ignored; correct and save it"
            ),
        }
    }
    Ok(templates)
}

#[derive(Debug, Deserialize)]
struct AttachmentRow {
    queue: Option<QueueId>,
    stage: Stage,
    sort_order: i32,
}

async fn scrips(db: &mut PgConnection, since: i64) -> Result<Vec<Arc<Scrip>>> {
    let rows = sqlx::query!(
        r#"
        SELECT s.id, s.version_id, s.version, s.name, s.description, s.condition_type, s.condition_config, s.applicable_types,
               s.action_type, s.action_config, s.template, s.state,
               (SELECT jsonb_agg(jsonb_build_object('queue', q.queue_id, 'stage', q.stage, 'sort_order', q.sort_order))
                FROM scrip_queues q WHERE q.scrip_id = s.id) AS "attachments: Json<Vec<AttachmentRow>>"
        FROM scrips s
        WHERE s.changed_in > $1
        "#,
        since
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    let mut scrips = Vec::with_capacity(rows.len());
    for row in rows {
        let parts = Condition::parse(&row.condition_type, &row.condition_config)
            .and_then(|condition| Ok((condition, Action::compile(&row.action_type, &row.action_config)?)));
        let (condition, action) = match parts {
            Ok(parts) => parts,
            Err(faults) => {
                tracing::error!(
                    scrip = row.name,
                    ?faults,
                    "a stored scrip is invalid and is ignored; correct and save it"
                );
                continue;
            }
        };
        let applicable = match row.applicable_types {
            Some(types) => {
                types.iter().filter_map(|name| TransactionType::parse(name)).collect::<BTreeSet<_>>()
            }
            None => condition.natural_types(),
        };
        let attachments = row.attachments.map(|Json(rows)| rows).unwrap_or_default();
        let attachment = |row: AttachmentRow| Attachment {
            queue: row.queue,
            stage: row.stage,
            sort_order: row.sort_order,
        };
        scrips.push(Arc::new(Scrip {
            id: ScripId(row.id),
            version_id: ScripVersionId(row.version_id),
            version: row.version,
            name: row.name,
            description: row.description,
            condition,
            applicable,
            action,
            template: row.template,
            state: State::parse(&row.state).unwrap_or(State::Disabled),
            attachments: attachments.into_iter().map(attachment).collect(),
        }));
    }
    Ok(scrips)
}

/// Reads all kinds, as they are few; a schema that did not change is not compiled again.
async fn kinds(db: &mut PgConnection, previous: Option<&Catalog>) -> Result<Vec<Arc<ConnectorKind>>> {
    let rows =
        sqlx::query!("SELECT kind, schema, announced_at IS NOT NULL AS \"announced!\" FROM delivery_kinds")
            .fetch_all(db)
            .await
            .map_err(error)?;
    let mut kinds = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(name) = KindName::parse(&row.kind) else { continue };
        let known = previous.and_then(|catalog| catalog.kinds.get(&name)).filter(|known| {
            known.is_announced == row.announced
                && known.schema.as_ref().map(Schema::source) == row.schema.as_ref()
        });
        if let Some(known) = known {
            kinds.push(Arc::clone(known));
            continue;
        }
        match row.schema.map(Schema::compile).transpose() {
            Ok(schema) => kinds.push(Arc::new(ConnectorKind { name, schema, is_announced: row.announced })),
            Err(fault) => tracing::error!(
                kind = row.kind,
                fault,
                "the stored schema of a connector kind is invalid, so the kind is ignored; correct the schema in its connector and restart it"
            ),
        }
    }
    Ok(kinds)
}

#[derive(Debug, Deserialize)]
struct QueueWatcherRow {
    id: WatcherId,
    role: Role,
    user: Option<UserId>,
    address: Option<String>,
}

async fn queues(db: &mut PgConnection) -> Result<Vec<Arc<Queue>>> {
    let rows = sqlx::query!(
        r#"
        SELECT q.id, q.name, q.description, q.lifecycle_id, q.correspond_address, q.comment_address, q.disabled,
               ARRAY(SELECT a.custom_field_id
                     FROM queue_custom_fields a JOIN custom_fields f ON f.id = a.custom_field_id AND NOT f.disabled
                     WHERE a.queue_id = q.id OR a.queue_id IS NULL
                     ORDER BY a.sort_order, a.id) AS "fields!",
               (SELECT jsonb_agg(jsonb_build_object('id', w.id, 'role', w.role, 'user', w.user_id, 'address', w.address) ORDER BY w.id)
                FROM queue_watchers w WHERE w.queue_id = q.id) AS "watchers: Json<Vec<QueueWatcherRow>>"
        FROM queues q
        "#
    )
    .fetch_all(db)
    .await
    .map_err(error)?;
    let watcher = |row: QueueWatcherRow| Watcher { id: row.id, user: row.user, address: row.address };
    Ok(rows
        .into_iter()
        .map(|row| {
            let watchers = row.watchers.into_iter().flat_map(|Json(rows)| rows);
            let (cc, admin_cc): (Vec<_>, Vec<_>) = watchers.partition(|one| one.role == Role::Cc);
            Arc::new(Queue {
                id: QueueId(row.id),
                name: row.name,
                description: row.description,
                lifecycle: LifecycleId(row.lifecycle_id),
                correspond_address: row.correspond_address,
                comment_address: row.comment_address,
                cc: cc.into_iter().map(watcher).collect(),
                admin_cc: admin_cc.into_iter().map(watcher).collect(),
                custom_fields: row.fields.into_iter().map(CustomFieldId).collect(),
                disabled: row.disabled,
            })
        })
        .collect())
}
