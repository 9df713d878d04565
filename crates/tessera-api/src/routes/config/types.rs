//! What scrips can be made of, and what would be said of a lifecycle that is not saved yet.

use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::Body;
use crate::schema;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use tessera_core::desk::configure::{LifecycleCheck, scrip_types};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

schema::body!(ScripTypes, "ScripTypes", schema::scrip_types());
schema::body!(Checked, "LifecycleCheck", schema::lifecycle_check());

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(types)).routes(routes!(check))
}

#[utoipa::path(get, path = "/api/scrip-types", operation_id = "listScripTypes", tag = "configuration", responses(
    (status = 200, description = "Each type with the JSON Schema of its configuration, and what connectors deliver", body = ScripTypes),
))]
async fn types(State(app): State<App>) -> Result<Json<Value>> {
    Ok(Json(scrip_types(&*app.tessera.fresh_catalog().await?)))
}

/// A lifecycle to check.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LifecycleCheckInput {
    /// What would be saved. Anything is taken: what is wrong with it is what is asked.
    #[schema(value_type = Value)]
    definition: Value,
    /// Its name, as in saving; without `id`, a lifecycle of that name is the one that it replaces.
    #[serde(default)]
    name: Option<String>,
    /// Name or id of the lifecycle that it would replace.
    #[serde(default)]
    id: Option<String>,
}

/// Says what saving a lifecycle would say, and writes nothing.
#[utoipa::path(post, path = "/api/lifecycles/check", operation_id = "checkLifecycle", tag = "configuration",
    request_body(content = LifecycleCheckInput, example = json!({ "definition": {
        "initial": ["reported"], "active": ["in repair"], "inactive": ["fixed"],
        "transitions": { "": ["reported"], "reported": ["in repair"], "in repair": ["fixed"] } } })), responses(
    (status = 200, description = "Faults, findings, and whom an edit would strand; also when there are faults", body = Checked),
    (status = 404, description = "There is no lifecycle `id`", body = ProblemDocument),
    (status = 422, description = "The members of the body themselves cannot be right", body = ProblemDocument),
))]
async fn check(State(app): State<App>, body: Body<LifecycleCheckInput>) -> Result<Json<LifecycleCheck>> {
    let LifecycleCheckInput { definition, name, id } = body.value;
    Ok(Json(app.tessera.check_lifecycle(id.as_deref(), name.as_deref(), definition).await?))
}
