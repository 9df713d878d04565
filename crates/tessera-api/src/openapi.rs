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

#[cfg(test)]
mod tests {
    /// Set to anything to write the document instead of comparing it.
    const UPDATE: &str = "UPDATE_OPENAPI";

    #[test]
    fn the_committed_document_is_the_one_of_the_routes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let document = super::document().unwrap();
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(path, &document).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            document == committed,
            "docs/openapi.json is not current: run {UPDATE}=1 cargo test -p tessera-api --lib openapi"
        );
        assert!(document.contains("\"openapi\": \"3.1.0\""));
    }
}
