//! Completes the OpenAPI document that is generated from the routes with everything that they share. The result is
//! committed as `docs/openapi.json`, and a test compares them.

use serde_json::{Map, Value, json};
use tessera_core::models::page::{LIMIT_DEFAULT, LIMIT_MAX};
use tessera_core::models::text::NAME_MAX;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

/// The parts of the document other than the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tessera",
        description = "A ticketing system in which every change is prepared as a plan, can be previewed exactly, and only that plan is committed."
    ),
    security(("token" = [])),
    components(schemas(crate::error::ProblemDocument, crate::error::FieldError, crate::schema::FilterTree)),
    modifiers(&Token)
)]
pub struct Document;

/// The security scheme for the bearer token.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("token", scheme);
    }
}

/// Completes the document of the routes and returns it as JSON, with a line break at its end.
///
/// # Errors
/// The document cannot be serialized, which no route causes.
pub(crate) fn complete(routes: utoipa::openapi::OpenApi) -> Result<String, serde_json::Error> {
    let mut document = serde_json::to_value(routes)?;
    add_shared(&mut document);
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// The pattern of an id.
const UUID: &str = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";
/// The media type of a problem document.
const PROBLEM_JSON: &str = "application/problem+json";

/// Adds everything that routes share: parameter patterns, errors of the layers around handlers, response headers, and links
/// to further requests.
fn add_shared(document: &mut Value) {
    if let Some(components) = document.get_mut("components").and_then(Value::as_object_mut) {
        components.insert("responses".to_owned(), Value::Object(shared().into_iter().map(named).collect()));
        components.insert("headers".to_owned(), headers());
    }
    for operation in operations(document) {
        for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
            constrain(parameter);
        }
        if let Some(example) = operation.get("operationId").and_then(Value::as_str).and_then(example)
            && let Some(content) = operation.pointer_mut("/requestBody/content/application~1json")
            && let Some(content) = content.as_object_mut()
        {
            content.insert("example".to_owned(), example);
        }
        let errors = shared_errors(operation);
        let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { continue };
        for (name, status, _) in shared().into_iter().filter(|(name, ..)| errors.contains(name)) {
            let reference = json!({ "$ref": format!("#/components/responses/{name}") });
            responses.entry(status).or_insert(reference);
        }
        for response in responses.values_mut().filter_map(Value::as_object_mut) {
            add_common(response);
        }
    }
    link(document);
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut).into_iter().flatten();
    paths.filter_map(|(_, item)| item.as_object_mut()).flatten().map(|(_, operation)| operation)
}

/// The errors that every route may return from the layers around its handler: name, status, description.
fn shared() -> [(&'static str, &'static str, &'static str); 9] {
    [
        (
            "Malformed",
            "400",
            "`malformed_json`, `malformed_body`, `malformed_header`, `malformed_query`, `malformed_path`, `malformed_cursor`: the request cannot be read",
        ),
        ("Unauthenticated", "401", "`unauthenticated`: the token is missing or invalid"),
        ("Forbidden", "403", "`permission_denied`: a right is missing; `detail` names it"),
        ("NotFound", "404", "`not_found`: the object does not exist"),
        ("TooSlow", "408", "`body_too_slow`: the body did not arrive within 15 s"),
        ("TooLarge", "413", "`body_too_large`: the body is over 1 MiB"),
        (
            "UnsupportedMediaType",
            "415",
            "`unsupported_media_type`: the `Content-Type` of the body is not JSON",
        ),
        (
            "Invalid",
            "422",
            "`invalid`: the request is well-formed but invalid; `errors` lists the fields and the reasons",
        ),
        (
            "Busy",
            "503",
            "`busy`, `overloaded`, `locked`, `timeout`, `plan_too_slow`, `database_unavailable`: temporarily unavailable; `Retry-After` says when to retry",
        ),
    ]
}

fn named((name, _, when): (&'static str, &'static str, &'static str)) -> (String, Value) {
    let schema = json!({ "$ref": "#/components/schemas/ProblemDocument" });
    let mut response = json!({ "description": when, "content": { PROBLEM_JSON: { "schema": schema } } });
    if let Some(response) = response.as_object_mut() {
        add_common(response);
        let more = match name {
            "Unauthenticated" => Some(("WWW-Authenticate", "Bearer")),
            "Busy" => Some(("Retry-After", "RetryAfter")),
            _ => None,
        };
        if let Some((header, component)) = more {
            add_header(response, header, component);
        }
    }
    (name.to_owned(), response)
}

/// Returns which of the shared errors an operation may return.
fn shared_errors(operation: &Value) -> Vec<&'static str> {
    let has = |place: &str| {
        let parameters = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
        parameters.into_iter().any(|parameter| parameter.get("in").and_then(Value::as_str) == Some(place))
    };
    let is_open = operation.get("security").is_some_and(|security| *security == json!([{}]));
    if is_open {
        return Vec::new();
    }
    let has_body = operation.get("requestBody").is_some();
    let is_planned =
        operation.get("operationId").and_then(Value::as_str).is_some_and(|id| PLANNED.contains(&id));
    let mut errors = vec!["Unauthenticated", "Busy"];
    errors.extend((has_body || has("query") || has("path") || has("header")).then_some("Malformed"));
    errors.extend(has("path").then_some("NotFound"));
    errors.extend(is_planned.then_some("Forbidden"));
    errors.extend(has_body.then_some(["TooSlow", "TooLarge", "UnsupportedMediaType"]).into_iter().flatten());
    errors.extend((has_body || is_paged(operation)).then_some("Invalid"));
    errors
}

/// Operations whose plan may need a right.
const PLANNED: [&str; 6] = [
    "createTicket",
    "updateTicket",
    "previewCreateTicket",
    "previewUpdateTicket",
    "commentOnTicket",
    "correspondOnTicket",
];

fn is_paged(operation: &Value) -> bool {
    let parameters = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
    parameters.into_iter().any(|parameter| parameter.get("name").and_then(Value::as_str) == Some("limit"))
}

/// Adds the constraints of a parameter's value, which depend only on its name.
fn constrain(parameter: &mut Value) {
    let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let place = parameter.get("in").and_then(Value::as_str).unwrap_or_default().to_owned();
    let schema = match (place.as_str(), name.as_str()) {
        ("path", "ref") => json!({ "type": "string", "pattern": format!("^(#?[0-9]{{1,18}}|{UUID})$") }),
        ("path", "id" | "name") if !is_uuid(parameter) => {
            json!({ "type": "string", "minLength": 1, "maxLength": NAME_MAX })
        }
        ("header", "Idempotency-Key") => {
            json!({ "type": "string", "minLength": 1, "maxLength": tessera_core::desk::KEY_MAX, "pattern": "^[!-~]([ -~]*[!-~])?$" })
        }
        ("header", "If-Match") => {
            json!({ "type": "string", "pattern": "^(\\*|(W/)?\"[0-9]{1,18}\"|[0-9]{1,18})$" })
        }
        ("query", "limit") => {
            json!({ "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT })
        }
        ("header", "If-Plan") => json!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" }),
        _ => return,
    };
    if let Some(parameter) = parameter.as_object_mut() {
        parameter.insert("schema".to_owned(), schema);
    }
}

fn is_uuid(parameter: &Value) -> bool {
    parameter.pointer("/schema/format").is_some_and(|format| format == "uuid")
}

/// Returns an example body that a desk with the default configuration accepts.
fn example(operation: &str) -> Option<Value> {
    Some(match operation {
        "addQueue" => {
            json!({ "name": "Workshop", "description": "Repairs", "correspond_address": "workshop@desk.example", "admin_cc": ["admin"] })
        }
        "changeQueue" => json!({ "description": "Repairs of all kinds" }),
        "addLifecycle" => json!({ "name": "repair", "definition": {
            "initial": ["reported"], "active": ["in repair"], "inactive": ["fixed"],
            "transitions": { "": ["reported"], "reported": ["in repair"], "in repair": ["fixed"], "fixed": ["in repair"] } } }),
        "addCustomField" => {
            json!({ "name": "Warranty", "field_type": "SelectSingle", "values": ["yes", "no", "expired"] })
        }
        "setQueueCustomFields" => json!({ "custom_fields": [] }),
        "addTemplate" => json!({ "name": "New repair", "subject_template": "New: {{ ticket.subject }}",
            "body_template": "{{ actor.name }} reported it.\n{{ ticket.url }}\n" }),
        "addScrip" => {
            json!({ "name": "Tell the workshop", "queue": "General", "condition_type": "OnStatusChange",
            "condition_config": { "to": "resolved" }, "action_type": "SendEmail", "action_config": { "to": ["admin_cc", "owner"] },
            "template": "Transaction" })
        }
        "changeScrip" => json!({ "state": "shadow" }),
        "addUser" => {
            json!({ "username": "ada", "email": "ada@desk.example", "name": "Ada", "privileged": true })
        }
        "putSecret" => json!({ "value": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" }),
        _ => return None,
    })
}

/// Adds what every response has: the request's id, and for errors the media type of problem documents.
fn add_common(response: &mut Map<String, Value>) {
    if response.contains_key("$ref") {
        return;
    }
    add_header(response, "X-Request-Id", "RequestId");
    let Some(content) = response.get_mut("content").and_then(Value::as_object_mut) else { return };
    let schema = content.get("application/json").and_then(|json| json.pointer("/schema/$ref"));
    if schema.is_some_and(|schema| schema == "#/components/schemas/ProblemDocument")
        && let Some(problem) = content.remove("application/json")
    {
        content.insert(PROBLEM_JSON.to_owned(), problem);
    }
}

fn add_header(response: &mut Map<String, Value>, name: &str, component: &str) {
    let headers = response.entry("headers").or_insert_with(|| json!({}));
    if let Some(headers) = headers.as_object_mut() {
        headers.insert(name.to_owned(), json!({ "$ref": format!("#/components/headers/{component}") }));
    }
}

fn headers() -> Value {
    let text = |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    json!({
        "RequestId": text("The request's id: the client's own, or a generated one."),
        "Bearer": text("The authentication scheme."),
        "RetryAfter": { "description": "Seconds to wait before retrying the request.", "schema": { "type": "integer", "minimum": 0 } },
        "ETag": { "description": "The version of the ticket, to send as If-Match; it is weak (W/) in a compressed response.", "schema": { "type": "string", "pattern": "^(W/)?\"[0-9]+\"$" } },
        "Replayed": { "description": "The response repeats that of an earlier request with the same Idempotency-Key.", "schema": { "type": "string", "enum": ["true"] } }
    })
}

/// Adds the headers of responses about tickets, and links from responses to further requests.
fn link(document: &mut Value) {
    for operation in operations(document) {
        let Some(id) = operation.get("operationId").and_then(Value::as_str).map(str::to_owned) else {
            continue;
        };
        let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { continue };
        let success = responses.iter_mut().find(|(status, _)| status.starts_with('2'));
        let Some(response) = success.and_then(|(_, response)| response.as_object_mut()) else { continue };
        if matches!(id.as_str(), "createTicket" | "updateTicket" | "commentOnTicket" | "correspondOnTicket") {
            add_header(response, "ETag", "ETag");
            add_header(response, "Idempotency-Replayed", "Replayed");
        }
        if id == "getTicket" {
            add_header(response, "ETag", "ETag");
        }
        let links = links(&id);
        if !links.is_empty() {
            response.insert("links".to_owned(), Value::Object(links));
        }
    }
}

fn links(operation: &str) -> Map<String, Value> {
    let link = |target: &str, parameter: &str, expression: &str| {
        let link = json!({ "operationId": target, "parameters": { parameter: expression } });
        (target.to_owned(), link)
    };
    let kind = |kind: &str| {
        [format!("get{kind}"), format!("change{kind}")]
            .map(|target| link(&target, "id", "$response.body#/id"))
            .into_iter()
            .collect()
    };
    match operation {
        "createTicket" => [
            "getTicket",
            "updateTicket",
            "previewUpdateTicket",
            "commentOnTicket",
            "correspondOnTicket",
            "listTicketTransactions",
            "listTicketDeliveries",
        ]
        .map(|target| link(target, "ref", "$response.body#/ticket/number"))
        .into_iter()
        .chain([
            link("whyTransaction", "id", "$response.body#/transactions/0/id"),
            (
                "getTicketAt".to_owned(),
                json!({ "operationId": "getTicketAt", "parameters": {
                    "ref": "$response.body#/ticket/number", "seq": "$response.body#/ticket/version" } }),
            ),
        ])
        .collect(),
        // A connector can only be revoked.
        "addConnector" => [link("revokeConnector", "name", "$response.body#/name")].into_iter().collect(),
        added => match added.strip_prefix("add") {
            Some(added) => kind(added),
            None => Map::new(),
        },
    }
}
