//! The configuration over HTTP: the demo's own requests, each status, and the schemas.

use crate::App;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use std::sync::Arc;
use tessera_core::testing::{self, TestDb};
use tower::ServiceExt;

/// A desk with its API.
struct Desk {
    router: axum::Router,
    _desk: testing::Desk,
}

async fn desk() -> Desk {
    let desk = testing::Desk::open(TestDb::new().await).await;
    Desk { router: crate::router(App::new(Arc::clone(&desk.tessera), "token")), _desk: desk }
}

async fn send(desk: &Desk, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, "Bearer token");
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let response = desk.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
}

#[tokio::test]
async fn the_configuration_of_the_demo_is_taken_without_a_warning() {
    let desk = desk().await;
    let steps: Vec<(String, String, Value)> =
        serde_json::from_str(include_str!("../../../../tessera/src/cli/demo.json")).unwrap();
    let configuration = steps.into_iter().filter(|(_, path, _)| !path.starts_with("/api/tickets"));
    let mut made = 0;
    for (method, path, body) in configuration {
        let (status, answer) = send(&desk, &method, &path, Some(body.clone())).await;
        assert!(status.is_success(), "{method} {path} {body}: {status} {answer}");
        assert_eq!(answer.get("warnings"), None, "{path} {body}");
        made += 1;
    }
    assert!(made > 20);
    let (_, scrip) = send(&desk, "GET", "/api/scrips/Tell%20the%20CRM", None).await;
    assert_eq!(
        (&scrip["state"], &scrip["queue"], &scrip["version"]),
        (&json!("shadow"), &json!("Support"), &json!(1))
    );
    let (_, queue) = send(&desk, "GET", "/api/queues/incidents", None).await;
    assert_eq!(queue["custom_fields"], json!(["Severity", "Components", "Postmortem"]));
    assert_eq!(queue["lifecycle"], "incident");
}

#[tokio::test]
async fn each_kind_is_added_listed_shown_and_changed() {
    let desk = desk().await;
    let kinds = [
        ("queues", json!({ "name": "New" }), json!({ "description": "x" })),
        ("templates", json!({ "name": "New", "body_template": "x" }), json!({ "body_template": "y" })),
        ("custom-fields", json!({ "name": "New", "field_type": "Freeform" }), json!({ "pattern": "a+" })),
        ("users", json!({ "username": "New" }), json!({ "email": "a@b.example" })),
        (
            "scrips",
            json!({ "name": "New", "condition_type": "OnCreate", "action_type": "SetPriority", "action_config": { "value": "1" } }),
            json!({ "disabled": true }),
        ),
        (
            "lifecycles",
            json!({ "name": "New", "definition": { "initial": ["a"], "active": [], "inactive": ["b"], "transitions": { "": ["a"], "a": ["b"] } } }),
            json!({ "name": "Newer" }),
        ),
    ];
    for (kind, body, patch) in kinds {
        let (status, made) = send(&desk, "POST", &format!("/api/{kind}"), Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{kind}: {made}");
        let one = format!("/api/{kind}/{}", made["id"].as_str().unwrap());
        let (status, shown) = send(&desk, "GET", &format!("/api/{kind}/New"), None).await;
        assert_eq!((status, &shown["id"]), (StatusCode::OK, &made["id"]), "{kind}");
        let (status, changed) = send(&desk, "PATCH", &one, Some(patch.clone())).await;
        assert_eq!(status, StatusCode::OK, "{kind}: {changed}");
        for (member, value) in patch.as_object().unwrap() {
            assert_eq!(&changed[member], value, "{kind}");
        }
        let (_, page) = send(&desk, "GET", &format!("/api/{kind}?limit=200"), None).await;
        let last = page["items"].as_array().unwrap().last().unwrap();
        let mut without_warnings = changed.clone();
        without_warnings.as_object_mut().unwrap().remove("warnings");
        assert_eq!((last, &page["next_cursor"]), (&without_warnings, &Value::Null), "{kind}");
        let (status, _) = send(&desk, "GET", &format!("/api/{kind}/Nope"), None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{kind}");
    }
}

#[tokio::test]
async fn refusals_have_their_status_and_force_lets_a_renaming_through() {
    let desk = desk().await;
    let (status, problem) =
        send(&desk, "POST", "/api/queues", Some(json!({ "name": "A", "colour": 1 }))).await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("colour"))
    );
    let (status, _) = send(&desk, "POST", "/api/queues", Some(json!([]))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let broken = json!({ "name": "T", "body_template": "one\n{{ tickt.id }}" });
    let (status, problem) = send(&desk, "POST", "/api/templates", Some(broken)).await;
    assert_eq!((status, &problem["errors"][0]["line"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(2)));
    assert_eq!(problem["errors"][0]["column"], 4);
    let (status, problem) = send(&desk, "POST", "/api/queues", Some(json!({ "name": "general" }))).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("name_taken")));
    let rename = Some(json!({ "name": "Done" }));
    let (status, problem) = send(&desk, "PATCH", "/api/templates/Resolved", rename.clone()).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("in_use")));
    let (status, saved) = send(&desk, "PATCH", "/api/templates/Resolved?force=true", rename).await;
    assert_eq!((status, saved["warnings"].as_array().unwrap().len()), (StatusCode::OK, 1));
    let (status, _) = send(&desk, "GET", "/api/queues?cursor=nonsense", None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, problem) =
        send(&desk, "PUT", "/api/queues/General/custom-fields", Some(json!({ "custom_fields": ["Nope"] })))
            .await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("custom_fields[0]"))
    );
}

#[tokio::test]
async fn secrets_versions_and_types_have_routes_of_their_own() {
    let desk = desk().await;
    let (status, _) = send(&desk, "PUT", "/api/secrets/crm", Some(json!({ "value": "t0p" }))).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (_, page) = send(&desk, "GET", "/api/secrets", None).await;
    assert_eq!(page, json!({ "items": [{ "name": "crm" }], "next_cursor": null }));
    let (status, _) = send(&desk, "PUT", "/api/secrets/crm", Some(json!({ "value": "whsec_x" }))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let path = "/api/scrips/On%20Resolve%20Notify%20Requestors/versions";
    let (_, page) = send(&desk, "GET", path, None).await;
    assert_eq!((&page["items"][0]["version"], &page["items"][0]["creator"]), (&json!(1), &json!("tessera")));
    let (_, types) = send(&desk, "GET", "/api/scrip-types", None).await;
    assert!(types["actions"]["SendEmail"]["schema"]["properties"]["to"].is_object());
}

#[test]
fn openapi_has_every_route_and_the_members_of_every_document() {
    let document = serde_json::to_value(super::routes().split_for_parts().1).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 6 * 2 + 1 + 3 * 4 + 2 + 2 + 2);
    let schemas = &document["components"]["schemas"];
    for (schema, member) in [
        ("QueueInput", "correspond_address"),
        ("ScripInput", "condition_config"),
        ("TemplateInput", "body_template"),
        ("CustomFieldInput", "max_values"),
        ("LifecycleInput", "definition"),
        ("UserInput", "privileged"),
        ("Scrip", "created_at"),
    ] {
        assert!(schemas[schema]["properties"][member].is_object(), "{schema}.{member}");
    }
    assert_eq!(schemas["TemplateInput"]["required"], json!(["name", "body_template"]));
    assert_eq!(schemas["TemplatePatch"].get("required"), None);
    let stages = schemas["Scrip"]["properties"]["stage"].to_string();
    assert!(stages.contains("TransactionBatch"), "{stages}");
}
