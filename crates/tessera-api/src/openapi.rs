//! The OpenAPI document, generated from the routes; committed as `docs/openapi.json`, and a test compares.

use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

/// What stands in the document besides the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tessera",
        description = "A ticketing system in which every change is prepared as a plan, can be previewed exactly, and only that plan is committed."
    ),
    security(("token" = [])),
    components(schemas(crate::error::ProblemDocument, crate::error::FieldError)),
    modifiers(&Token)
)]
pub struct Document;

/// The bearer token.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("token", scheme);
    }
}

/// The document, as JSON with a line break at its end.
///
/// # Errors
/// None that the routes can cause.
pub fn document() -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(&crate::routes::table().into_openapi())? + "\n")
}
