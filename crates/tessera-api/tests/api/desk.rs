//! A desk to test on: two queues, three fields, a lifecycle with a gate, three scrips; and a client that reads JSON.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::collections::BTreeMap;
use std::sync::Arc;
use tessera_api::App;
use tessera_core::delivery::guard::Guard;
use tessera_core::desk::Tessera;
use tessera_core::plan::Installation;
use tessera_core::testing::TestDb;
use tower::ServiceExt;

/// The administrator's token.
pub const TOKEN: &str = "tst_0123456789abcdef";
/// The largest answer of a test, in bytes.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// The configuration, in the database's words, so that these tests do not rest on the routes that change it.
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

/// A desk with a client.
pub struct Desk {
    router: Router,
    tessera: Arc<Tessera>,
    db: TestDb,
}

/// What was answered.
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

    /// A desk whose application was set up further.
    pub async fn open_with(set_up: impl FnOnce(App) -> App) -> Self {
        Self::open_on(TestDb::new().await, set_up).await
    }

    /// The same on a database whose connections were set up, too.
    pub async fn open_on(db: TestDb, set_up: impl FnOnce(App) -> App) -> Self {
        sqlx::raw_sql(CONFIGURATION).execute(&db.pools.write).await.unwrap();
        let installation = Installation {
            name: "desk".to_owned(),
            base_url: "http://desk.example".to_owned(),
            mail_from: "desk@desk.example".to_owned(),
        };
        let guard = Arc::new(Guard::new(Vec::new()));
        let tessera = Arc::new(Tessera::open(db.pools.clone(), installation, guard).await.unwrap());
        let router = tessera_api::router(set_up(App::new(Arc::clone(&tessera), TOKEN)));
        Self { router, tessera, db }
    }

    /// The whole API, to serve it over sockets.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// What stands behind the API.
    pub fn tessera(&self) -> &Tessera {
        &self.tessera
    }

    /// The database, to look at and to break.
    pub fn pool(&self) -> &PgPool {
        &self.db.pools.write
    }

    /// The connections that searches use.
    pub fn read_pool(&self) -> &PgPool {
        &self.db.pools.read
    }

    /// Takes the database away.
    pub async fn lose_database(&self) {
        self.db.pools.close().await;
    }

    /// Rows of every table that a change writes, and where the sequence of numbers stands.
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

    /// Makes a ticket in Support and answers what the API did.
    pub async fn create(&self, body: Value) -> Value {
        let mut whole = json!({ "queue": "Support", "subject": "Printer" });
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        self.post("/api/tickets", whole).await.expect(201)
    }
}

impl Reply {
    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.bytes));
        self.json
    }

    /// The document of a problem that must have this status and code, and be a problem document whole.
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

    /// The one fault of a 422: where, and that it says this.
    #[track_caller]
    pub fn fault(self, field: &str, says: &str) {
        let problem = self.problem(422, "invalid");
        let faults = problem["errors"].as_array().unwrap();
        let told = faults
            .iter()
            .any(|fault| fault["field"] == field && fault["message"].as_str().unwrap().contains(says));
        assert!(told, "{field} {says:?}: {problem}");
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }
}

/// A request with the token.
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

/// The member of every item.
pub fn each<'v>(items: &'v Value, pointer: &str) -> Vec<&'v Value> {
    items.as_array().unwrap().iter().map(|item| item.pointer(pointer).unwrap_or(&Value::Null)).collect()
}
