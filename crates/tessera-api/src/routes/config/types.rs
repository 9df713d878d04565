//! The types of conditions and actions, and the validation of a lifecycle before it is saved.

use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Authenticated, Body};
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
    (status = 200, description = "Each type with the JSON Schema of its configuration, and the kinds that connectors deliver", body = ScripTypes),
))]
async fn types(State(app): State<App>, Authenticated(caller): Authenticated) -> Result<Json<Value>> {
    Ok(Json(scrip_types(&*app.tessera.configuration(&caller).await?)))
}

/// A lifecycle to validate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LifecycleCheckInput {
    /// The definition. Any JSON is accepted; the response reports what is wrong with it.
    #[schema(value_type = Value)]
    definition: Value,
    /// Its name. Without `id`, it is validated as a replacement of the lifecycle with that name.
    #[serde(default)]
    name: Option<String>,
    /// Name or id of the lifecycle that it would replace.
    #[serde(default)]
    id: Option<String>,
}

/// Validates a lifecycle as a save would, without saving it.
#[utoipa::path(post, path = "/api/lifecycles/check", operation_id = "checkLifecycle", tag = "configuration",
    request_body(content = LifecycleCheckInput, example = json!({ "definition": {
        "initial": ["reported"], "active": ["in repair"], "inactive": ["fixed"],
        "transitions": { "": ["reported"], "reported": ["in repair"], "in repair": ["fixed"] } } })), responses(
    (status = 200, description = "Faults, findings, and the tickets that the edit would strand; also if there are faults", body = Checked),
    (status = 404, description = "The lifecycle `id` does not exist", body = ProblemDocument),
    (status = 422, description = "The body is not valid", body = ProblemDocument),
))]
async fn check(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    body: Body<LifecycleCheckInput>,
) -> Result<Json<LifecycleCheck>> {
    let LifecycleCheckInput { definition, name, id } = body.value;
    Ok(Json(app.tessera.check_lifecycle(&caller, id.as_deref(), name.as_deref(), definition).await?))
}
