//! The OpenAPI document: what is committed is what the routes say.

use std::path::Path;

#[test]
fn the_committed_openapi_document_is_that_of_the_routes() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let document = tessera_api::document().unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&committed, &document).unwrap();
    }
    let same = std::fs::read_to_string(&committed).is_ok_and(|there| there == document);
    assert!(
        same,
        "docs/openapi.json is old: UPDATE=1 cargo test -p tessera-api --test api contract:: writes it anew"
    );
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/api/health",
        "/api/tickets/{ref}",
        "/api/tickets/{ref}/preview",
        "/api/transactions/{id}/why",
        "/api/deliveries",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
}
