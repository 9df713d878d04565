//! The OpenAPI document: the committed file matches the routes.

use serde_json::Value;
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
        "docs/openapi.json is old: UPDATE=1 cargo test -p tessera-api --test api contract:: rewrites it"
    );
    let document: Value = serde_json::from_str(&document).unwrap();
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

/// Every operation of the document: path, method, what it says.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, said)| (path.as_str(), method.as_str(), said))
        })
        .collect()
}

#[test]
fn every_answer_has_a_schema_and_every_refusal_is_a_problem_document() {
    let document: Value = serde_json::from_str(&tessera_api::document().unwrap()).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let place = format!("{method} {path}");
        assert!(names.insert(operation["operationId"].as_str().unwrap()), "{place}: an operationId twice");
        let responses = operation["responses"].as_object().unwrap();
        for (status, response) in responses {
            let response = match response["$ref"].as_str() {
                Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
                None => response,
            };
            assert!(response["headers"]["X-Request-Id"].is_object(), "{place} {status}");
            let content = response["content"].as_object();
            let media: &[&str] = match status.as_str() {
                "204" => &[],
                "200" if path == "/metrics" => &["text/plain"],
                "200" if path == "/api/tickets/export" => &["application/x-ndjson", "text/csv"],
                "200" | "201" => &["application/json"],
                "503" if path == "/api/health" => &["application/json"],
                _ => &["application/problem+json"],
            };
            let found: Vec<&str> = content.into_iter().flatten().map(|(found, _)| found.as_str()).collect();
            assert_eq!(found, media, "{place} {status}");
            for (_, body) in content.into_iter().flatten() {
                assert!(body["schema"].is_object(), "{place} {status}");
            }
        }
        if path != "/api/health" {
            assert!(responses.contains_key("401") && responses.contains_key("503"), "{place}");
        }
        if operation.get("requestBody").is_some() {
            for status in ["400", "408", "413", "415", "422"] {
                assert!(responses.contains_key(status), "{place} {status}");
            }
        }
    }
}

#[test]
fn no_schema_of_the_document_is_empty_and_every_reference_leads_somewhere() {
    let document: Value = serde_json::from_str(&tessera_api::document().unwrap()).unwrap();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let says = ["properties", "oneOf", "anyOf", "allOf", "enum"]
            .iter()
            .any(|keyword| schema.get(*keyword).is_some());
        assert!(says, "{name}: {schema}");
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}
