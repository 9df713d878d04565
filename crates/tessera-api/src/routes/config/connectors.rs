//! Connectors: added with a token that is shown once, listed with the kinds that they deliver, and revoked.

use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Body, Name};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tessera_core::desk::configure::NewConnector;
use tessera_core::models::ConnectorId;
use tessera_core::models::connector::{KindRecord, Registered};
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A connector to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ConnectorInput {
    /// What people call it; no other one that is not revoked has it.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// What it may deliver: `email`, `webhook`, or kinds of your own, which scrips can name from now on. None where it only
    /// brings things in.
    #[serde(default)]
    #[schema(max_items = 16)]
    kinds: Vec<String>,
    /// The privileged user as whom it reads and changes tickets; without one, it may not.
    #[serde(default)]
    user: Option<String>,
}

/// A connector that was just added.
#[derive(Serialize, ToSchema)]
struct ConnectorAdded {
    /// Its id.
    #[schema(value_type = Uuid)]
    id: ConnectorId,
    /// What people call it.
    name: String,
    /// What it may deliver.
    kinds: Vec<String>,
    /// What it shows when it connects. Nobody can read it again: give it to the connector now.
    token: String,
}

/// A connector.
#[derive(Debug, Serialize, ToSchema)]
struct ConnectorView {
    /// Its id.
    #[schema(value_type = Uuid)]
    id: ConnectorId,
    /// What people call it.
    name: String,
    /// What it may deliver.
    kinds: Vec<String>,
    /// The username of whom it reads and changes tickets as; null = it may not.
    #[schema(required)]
    user: Option<String>,
    /// What it last called itself, as `chat-connector 1.2`; null before it announced a kind.
    #[schema(required)]
    software: Option<String>,
    /// When it was added.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it last called, to about ten seconds; null when it never did.
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(required)]
    last_seen_at: Option<OffsetDateTime>,
}

/// A kind of delivery.
#[derive(Debug, Serialize, ToSchema)]
struct KindView {
    /// Its name.
    name: String,
    /// The JSON Schema of its payloads; null = any JSON, and for `email` and `webhook`, which have a form of their own.
    #[schema(required, value_type = Value)]
    schema: Option<Value>,
    /// When a connector first said that it delivers it. Null = none ever did: deliveries of it are held, unless Tessera itself
    /// delivers them.
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(required)]
    announced_at: Option<OffsetDateTime>,
    /// The names of the scrips that make deliveries of it, in their order.
    scrips: Vec<String>,
    /// Deliveries of it that are not finished.
    unfinished: i64,
}

/// Who delivers, and what.
#[derive(Debug, Serialize, ToSchema)]
struct Connectors {
    /// Every connector that is not revoked, in order of name; at most 200.
    connectors: Vec<ConnectorView>,
    /// Every kind of delivery that there is, in order of name.
    kinds: Vec<KindView>,
}

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(revoke))
}

#[utoipa::path(get, path = "/api/connectors", operation_id = "listConnectors", tag = "configuration", responses(
    (status = 200, description = "All of them, and the kinds of deliveries", body = Connectors),
))]
async fn list(State(app): State<App>) -> Result<Json<Connectors>> {
    let connectors = app.tessera.connectors().await?.into_iter().map(ConnectorView::from).collect();
    let kinds = app.tessera.kinds().await?.into_iter().map(KindView::from).collect();
    Ok(Json(Connectors { connectors, kinds }))
}

#[utoipa::path(post, path = "/api/connectors", operation_id = "addConnector", tag = "configuration",
    request_body(content = ConnectorInput, example = json!({ "name": "chat-1", "kinds": ["chat"] })), responses(
    (status = 201, description = "It may connect with this token, which is shown this once", body = ConnectorAdded),
    (status = 409, description = "The name is taken, or there are 200", body = ProblemDocument),
    (status = 422, description = "Every fault, with its field", body = ProblemDocument),
))]
async fn add(
    State(app): State<App>,
    body: Body<ConnectorInput>,
) -> Result<(StatusCode, Json<ConnectorAdded>)> {
    let ConnectorInput { name, kinds, user } = body.value;
    let caller = app.tessera.administrator()?;
    let (connector, token) = app.tessera.add_connector(&caller, NewConnector { name, kinds, user }).await?;
    let added = ConnectorAdded {
        id: connector.id,
        name: connector.name,
        kinds: connector.kinds.iter().map(ToString::to_string).collect(),
        token: token.expose().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(added)))
}

/// Revokes a connector's token, at once and for good. What it had leased goes to others when the leases run out.
#[utoipa::path(delete, path = "/api/connectors/{name}", operation_id = "revokeConnector", tag = "configuration", responses(
    (status = 204, description = "Its token opens nothing any more"),
    (status = 404, description = "There is none of this name", body = ProblemDocument),
), params(("name" = String, Path, description = "What it is called, to the letter")))]
async fn revoke(State(app): State<App>, Name(name): Name) -> Result<StatusCode> {
    app.tessera.revoke_connector(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<Registered> for ConnectorView {
    fn from(one: Registered) -> Self {
        Self {
            id: one.connector.id,
            name: one.connector.name,
            kinds: one.connector.kinds.iter().map(ToString::to_string).collect(),
            user: one.username,
            software: one.software,
            created_at: one.created_at,
            last_seen_at: one.last_seen_at,
        }
    }
}

impl From<KindRecord> for KindView {
    fn from(record: KindRecord) -> Self {
        let KindRecord { name, schema, announced_at, scrips, unfinished } = record;
        Self { name, schema, announced_at, scrips, unfinished }
    }
}
