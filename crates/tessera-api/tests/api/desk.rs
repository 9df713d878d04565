//! A desk for tests with two queues, three fields, a lifecycle with a gate and three scrips, and a client that parses JSON.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use tessera_api::App;
use tessera_core::testing::{self, TestDb};
use tower::ServiceExt;

/// The administrator token.
pub const TOKEN: &str = "tst_0123456789abcdef";
/// Maximum size of a response, in bytes.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// The configuration in SQL, so that these tests do not depend on the routes that change it.
const CONFIGURATION: &str = r#"
UPDATE config_version SET version = 1;
INSERT INTO users (id, username, email, privileged) VALUES
  ('00000000-0000-7000-8000-000000000001', 'tessera', NULL, FALSE),
  ('00000000-0000-7000-8000-000000000002', 'admin', 'admin@desk.example', TRUE),
  ('00000000-0000-7000-8000-0000000000a1', 'ada', 'ada@desk.example', TRUE),
  ('00000000-0000-7000-8000-0000000000a2', 'bob', 'bob@desk.example', TRUE),
  ('00000000-0000-7000-8000-0000000000a3', 'eve', 'eve@example.net', FALSE);
INSERT INTO lifecycles (id, name, version, version_id, definition, changed_in) VALUES
  ('00000000-0000-7000-8000-0000000000b1', 'default', 1, '00000000-0000-7000-8000-0000000000b2',
   '{"initial": ["new"], "active": ["open"], "inactive": ["resolved", "deleted"], "defaults": {"on_create": "new"},
     "transitions": {"": ["new", "open"], "new": ["open", "deleted"], "open": ["resolved", "deleted"], "resolved": ["open"], "deleted": ["open"]}}', 1);
INSERT INTO queues (id, name, lifecycle_id, correspond_address, changed_in) VALUES
  ('00000000-0000-7000-8000-0000000000c1', 'Support', '00000000-0000-7000-8000-0000000000b1', 'support@desk.example', 1),
  ('00000000-0000-7000-8000-0000000000c2', 'Sales', '00000000-0000-7000-8000-0000000000b1', NULL, 1);
INSERT INTO custom_fields (id, name, field_type, values, max_values, pattern, changed_in) VALUES
  ('00000000-0000-7000-8000-0000000000d1', 'Severity', 'SelectSingle', '["low", "high"]', 1, NULL, 1),
  ('00000000-0000-7000-8000-0000000000d2', 'Components', 'SelectMulti', '["web", "db", "mail"]', 2, NULL, 1),
  ('00000000-0000-7000-8000-0000000000d3', 'Build', 'Freeform', NULL, 1, '^[0-9]+$', 1);
INSERT INTO queue_custom_fields (queue_id, custom_field_id, sort_order) VALUES
  ('00000000-0000-7000-8000-0000000000c1', '00000000-0000-7000-8000-0000000000d1', 1),
  ('00000000-0000-7000-8000-0000000000c1', '00000000-0000-7000-8000-0000000000d2', 2),
  ('00000000-0000-7000-8000-0000000000c1', '00000000-0000-7000-8000-0000000000d3', 3);
INSERT INTO templates (id, name, version, version_id, subject_template, body_template, content_type, changed_in) VALUES
  ('00000000-0000-7000-8000-0000000000e1', 'Autoreply', 1, '00000000-0000-7000-8000-0000000000e2',
   'We have it: {{ ticket.subject }}', 'Thank you.', 'text', 1);
INSERT INTO scrips (id, name, condition_type, condition_config, action_type, action_config, template, state, version, version_id, changed_in) VALUES
  ('00000000-0000-7000-8000-0000000000f1', 'Autoreply', 'OnCreate', '{}', 'SendEmail', '{"to": ["requestor"], "notify_actor": true}',
   'Autoreply', 'enabled', 1, '00000000-0000-7000-8000-0000000000f2', 1),
  ('00000000-0000-7000-8000-0000000000f3', 'Tell the pager', 'OnStatusChange', '{"to": "resolved"}', 'Webhook',
   '{"url": "https://pager.example/hook", "headers": {"X-Key": {"secret": "pager"}}, "body": "{\"n\": \"{{ ticket.number }}\"}"}',
   NULL, 'enabled', 4, '00000000-0000-7000-8000-0000000000f4', 1),
  ('00000000-0000-7000-8000-0000000000f5', 'Urgent when open', 'OnStatusChange', '{"to": "open"}', 'SetPriority', '{"value": "7"}',
   NULL, 'enabled', 1, '00000000-0000-7000-8000-0000000000f6', 1);
INSERT INTO scrip_versions (id, scrip_id, version, snapshot, creator_id)
  SELECT version_id, id, version, jsonb_build_object('name', name), '00000000-0000-7000-8000-000000000002' FROM scrips;
INSERT INTO scrip_queues (scrip_id, queue_id, stage, sort_order)
  SELECT id, '00000000-0000-7000-8000-0000000000c1', 'TransactionCreate', 0 FROM scrips;
"#;

/// A desk with the configuration above, its API and a client of it.
pub struct Desk {
    router: Router,
    desk: testing::Desk,
}

impl Deref for Desk {
    type Target = testing::Desk;

    fn deref(&self) -> &testing::Desk {
        &self.desk
    }
}

/// A response.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
    pub json: Value,
}

impl Desk {
    pub async fn open() -> Self {
        Self::open_with(|app| app).await
    }

    /// Opens a desk whose application was changed by `set_up`.
    pub async fn open_with(set_up: impl FnOnce(App) -> App) -> Self {
        Self::open_on(TestDb::new().await, set_up).await
    }

    /// Opens a desk on a prepared database.
    pub async fn open_on(db: TestDb, set_up: impl FnOnce(App) -> App) -> Self {
        sqlx::raw_sql(CONFIGURATION).execute(&db.pools.write).await.unwrap();
        let desk = testing::Desk::open(db).await;
        let router = tessera_api::router(set_up(App::new(Arc::clone(&desk.tessera), TOKEN)));
        Self { router, desk }
    }

    /// Returns the whole API, to serve it over sockets.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Returns the number of rows in every table that a change writes, and the last ticket number.
    pub async fn rows(&self) -> BTreeMap<&'static str, i64> {
        let tables = [
            "tickets",
            "requests",
            "request_traces",
            "transactions",
            "transaction_contents",
            "custom_field_values",
        ];
        let mut rows = BTreeMap::new();
        for table in tables.into_iter().chain([
            "ticket_watchers",
            "deliveries",
            "delivery_queue",
            "idempotency_keys",
            "users",
        ]) {
            let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
            rows.insert(table, sqlx::query_scalar(count).fetch_one(self.pool()).await.unwrap());
        }
        let drawn = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ticket_number";
        rows.insert("ticket_number", sqlx::query_scalar(drawn).fetch_one(self.pool()).await.unwrap());
        rows
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), ANSWER_MAX).await.unwrap().to_vec();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Reply { status, headers, bytes, json }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(request(Method::GET, path, None, &[])).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(request(Method::POST, path, Some(body), &[])).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        self.send(request(Method::PATCH, path, Some(body), &[])).await
    }

    pub async fn patch_with(&self, path: &str, headers: &[(&str, &str)], body: Value) -> Reply {
        self.send(request(Method::PATCH, path, Some(body), headers)).await
    }

    /// Creates a ticket in Support and returns the response.
    pub async fn create(&self, body: Value) -> Value {
        let mut whole = json!({ "queue": "Support", "subject": "Printer" });
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        self.post("/api/tickets", whole).await.expect(201)
    }
}

impl Reply {
    /// Returns the body of a response that must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.bytes));
        self.json
    }

    /// Returns a complete problem document that must have this status and code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        let (content_type, id) = (self.header("content-type"), self.header("x-request-id"));
        let problem = self.expect(status);
        assert_eq!(content_type, "application/problem+json");
        assert_eq!(
            (problem["status"].as_u64(), problem["code"].as_str()),
            (Some(u64::from(status)), Some(code)),
            "{problem}"
        );
        assert_eq!(problem["request_id"], id);
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        problem
    }

    /// Checks that a 422 has a fault in this field whose message contains `says`.
    #[track_caller]
    pub fn fault(self, field: &str, says: &str) {
        let problem = self.problem(422, "invalid");
        let faults = problem["errors"].as_array().unwrap();
        let told = faults
            .iter()
            .any(|fault| fault["field"] == field && fault["message"].as_str().unwrap().contains(says));
        assert!(told, "{field} {says:?}: {problem}");
    }

    /// Returns a header, or an empty text.
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }
}

/// Builds a request with the token.
pub fn request(method: Method, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request =
        Request::builder().method(method).uri(path).header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    match body {
        Some(body) => {
            request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string()))
        }
        None => request.body(Body::empty()),
    }
    .unwrap()
}

/// Returns a member of every item.
pub fn each<'v>(items: &'v Value, pointer: &str) -> Vec<&'v Value> {
    items.as_array().unwrap().iter().map(|item| item.pointer(pointer).unwrap_or(&Value::Null)).collect()
}
