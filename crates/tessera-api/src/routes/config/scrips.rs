//! What scrips have besides: their versions, and what they can be made of.

use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Name, Paging, Params, limit};
use axum::Json;
use axum::extract::State;
use serde_json::Value;
use tessera_core::db::configuration::scrips::ScripVersion;
use tessera_core::dispatch::configure::scrip_types;
use tessera_core::models::page::Page;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(versions)).routes(routes!(types))
}

#[utoipa::path(get, path = "/api/scrips/{id}/versions", operation_id = "listScripVersions", tag = "configuration", responses(
    (status = 200, description = "A page, the newest first: {items: [{id, version, creator, created_at, scrip}], next_cursor}"),
    (status = 404, description = "There is no such scrip", body = ProblemDocument),
), params(("id" = String, Path, description = "Name or id"), Paging))]
async fn versions(
    State(app): State<App>,
    Name(word): Name,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<ScripVersion>>> {
    let page = app.tessera.scrip_versions(&word, paging.cursor.as_deref(), limit(paging.limit)?).await?;
    Ok(Json(page))
}

#[utoipa::path(get, path = "/api/scrip-types", operation_id = "listScripTypes", tag = "configuration", responses(
    (status = 200, description = "{conditions, actions, stages, states, transaction_types}; each type with the JSON Schema of its configuration"),
))]
async fn types() -> Json<Value> {
    Json(scrip_types())
}
