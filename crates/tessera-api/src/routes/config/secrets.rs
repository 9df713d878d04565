//! Secrets: stored and named; no route answers a value.

use super::kinds::Force;
use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Authenticated, Body, Name, Paging, Params, limit};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tessera_core::models::page::Page;
use tessera_core::models::secret::Secret;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The value of a secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SecretInput {
    /// For one that signs webhooks: `whsec_` and the base64 of 24 to 64 random bytes.
    #[schema(min_length = 1, max_length = 4096)]
    value: String,
}

/// A secret, named.
#[derive(Debug, Serialize, ToSchema)]
struct SecretName {
    /// Its name.
    name: String,
}

/// A page of secrets.
#[derive(Debug, Serialize, ToSchema)]
struct SecretPage {
    /// Their names, in their order.
    items: Vec<SecretName>,
    /// `cursor` of the next page; null on the last.
    #[schema(required)]
    next_cursor: Option<String>,
}

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(names)).routes(routes!(put, delete))
}

#[utoipa::path(get, path = "/api/secrets", operation_id = "listSecrets", tag = "configuration", params(Paging), responses(
    (status = 200, description = "A page of names, in their order", body = SecretPage),
))]
async fn names(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Params(paging): Params<Paging>,
) -> Result<Json<SecretPage>> {
    let page = app.tessera.secret_names(&caller, paging.cursor.as_deref(), limit(paging.limit)?).await?;
    let Page { items, next_cursor } = page.map(|name| SecretName { name });
    Ok(Json(SecretPage { items, next_cursor }))
}

#[utoipa::path(put, path = "/api/secrets/{name}", operation_id = "putSecret", tag = "configuration", request_body = SecretInput, responses(
    (status = 204, description = "The secret is stored; it replaces one with that name"),
    (status = 422, description = "The name or the value is not valid", body = ProblemDocument),
), params(("name" = String, Path, description = "The name that scrips use")))]
async fn put(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Name(name): Name,
    body: Body<SecretInput>,
) -> Result<StatusCode> {
    app.tessera.put_secret(&caller, &name, &Secret::new(body.value.value)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a secret permanently.
#[utoipa::path(delete, path = "/api/secrets/{name}", operation_id = "deleteSecret", tag = "configuration", responses(
    (status = 204, description = "The secret is deleted"),
    (status = 404, description = "No secret has this name", body = ProblemDocument),
    (status = 409, description = "`in_use`: enabled scrips use it", body = ProblemDocument),
), params(("name" = String, Path, description = "The name that scrips use"), Force))]
async fn delete(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Name(name): Name,
    Params(Force { force }): Params<Force>,
) -> Result<StatusCode> {
    app.tessera.delete_secret(&caller, &name, force).await?;
    Ok(StatusCode::NO_CONTENT)
}
