//! Connectors: created with a token that is shown once, listed with the kinds that they deliver, and revoked.

use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Authenticated, Body, Name};
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

/// A new connector.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ConnectorInput {
    /// The name; unique among connectors that are not revoked.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// The kinds that it can deliver: `email`, `webhook`, or kinds of your own, which scrips can use from now on. Empty if it
    /// only creates and changes tickets.
    #[serde(default)]
    #[schema(max_items = 16)]
    kinds: Vec<String>,
    /// The privileged user as whom it reads and changes tickets; without one, it can do neither.
    #[serde(default)]
    user: Option<String>,
}

/// A connector that was just created.
#[derive(Serialize, ToSchema)]
struct ConnectorAdded {
    /// Its id.
    #[schema(value_type = Uuid)]
    id: ConnectorId,
    /// The name.
    name: String,
    /// The kinds that it can deliver.
    kinds: Vec<String>,
    /// The token with which it connects. It is shown only this once.
    token: String,
}

/// A connector.
#[derive(Debug, Serialize, ToSchema)]
struct ConnectorView {
    /// Its id.
    #[schema(value_type = Uuid)]
    id: ConnectorId,
    /// The name.
    name: String,
    /// The kinds that it can deliver.
    kinds: Vec<String>,
    /// The username as whom it reads and changes tickets; null if it can do neither.
    #[schema(required)]
    user: Option<String>,
    /// The software that it last announced, such as `chat-connector 1.2`; null before its first announcement.
    #[schema(required)]
    software: Option<String>,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// The time of its last call, to within about ten seconds; null if it has never called.
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(required)]
    last_seen_at: Option<OffsetDateTime>,
}

/// A kind of delivery.
#[derive(Debug, Serialize, ToSchema)]
struct KindView {
    /// Its name.
    name: String,
    /// The JSON Schema of its payloads; null for any JSON, and for `email` and `webhook`, which have a fixed form.
    #[schema(required, value_type = Value)]
    schema: Option<Value>,
    /// When a connector first announced this kind. Null if none has: its deliveries are held, unless Tessera itself delivers
    /// them.
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(required)]
    announced_at: Option<OffsetDateTime>,
    /// The names of the scrips that queue deliveries of this kind, in order.
    scrips: Vec<String>,
    /// The number of unfinished deliveries of this kind.
    unfinished: i64,
}

/// All connectors and all kinds of deliveries.
#[derive(Debug, Serialize, ToSchema)]
struct Connectors {
    /// Every connector that is not revoked, sorted by name; at most 200.
    connectors: Vec<ConnectorView>,
    /// Every kind of delivery, sorted by name.
    kinds: Vec<KindView>,
}

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(revoke))
}

#[utoipa::path(get, path = "/api/connectors", operation_id = "listConnectors", tag = "configuration", responses(
    (status = 200, description = "All connectors and all kinds of deliveries", body = Connectors),
))]
async fn list(State(app): State<App>, Authenticated(caller): Authenticated) -> Result<Json<Connectors>> {
    let connectors = app.tessera.connectors(&caller).await?.into_iter().map(ConnectorView::from).collect();
    let kinds = app.tessera.kinds(&caller).await?.into_iter().map(KindView::from).collect();
    Ok(Json(Connectors { connectors, kinds }))
}

#[utoipa::path(post, path = "/api/connectors", operation_id = "addConnector", tag = "configuration",
    request_body(content = ConnectorInput, example = json!({ "name": "chat-1", "kinds": ["chat"] })), responses(
    (status = 201, description = "The connector was created; its token is shown only this once", body = ConnectorAdded),
    (status = 409, description = "`name_taken`, or `limit_reached` at 200 connectors", body = ProblemDocument),
    (status = 422, description = "All faults, with their fields", body = ProblemDocument),
))]
async fn add(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    body: Body<ConnectorInput>,
) -> Result<(StatusCode, Json<ConnectorAdded>)> {
    let ConnectorInput { name, kinds, user } = body.value;
    let (connector, token) = app.tessera.add_connector(&caller, NewConnector { name, kinds, user }).await?;
    let added = ConnectorAdded {
        id: connector.id,
        name: connector.name,
        kinds: connector.kinds.iter().map(ToString::to_string).collect(),
        token: token.expose().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(added)))
}

/// Revokes a connector's token, immediately and permanently. Its leased deliveries go to others when the leases expire.
#[utoipa::path(delete, path = "/api/connectors/{name}", operation_id = "revokeConnector", tag = "configuration", responses(
    (status = 204, description = "The token is no longer valid"),
    (status = 404, description = "No connector has this name", body = ProblemDocument),
), params(("name" = String, Path, description = "The exact name")))]
async fn revoke(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Name(name): Name,
) -> Result<StatusCode> {
    app.tessera.revoke_connector(&caller, &name).await?;
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
