//! The other commands, while a server is running.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{SOON, Server};

/// The lists that the demo fills.
const LISTS: [&str; 8] =
    ["lifecycles", "queues", "users", "custom-fields", "templates", "scrips", "tickets", "deliveries"];

#[tokio::test]
async fn commands_work_while_a_server_is_running() {
    let mut server = Server::start(&[]).await;
    assert_eq!(server.command(&["token"]).trim(), server.token);
    server.command(&["migrate"]);
    let empty = desk(&server).await;

    let said = server.command(&["demo"]);
    assert!(said.starts_with("Created a demo desk with 10 tickets"), "{said}");
    server.delivered(SOON).await;
    let made = desk(&server).await;
    for (list, items) in &made {
        assert!(items.len() > empty[list].len(), "the demo created no {list}");
    }

    let said = server.command(&["demo"]);
    assert!(said.contains("Nothing was changed"), "{said}");
    assert_eq!(desk(&server).await, made);

    // No change is in progress, so the check passes even while the server is running.
    server.check();
    let health = server.done("GET", "/api/health", &Value::Null).await;
    assert_eq!(health["status"], "ok", "{health:#}");
    server.stop().await;
    server.check();
}

/// Returns every list of the API.
pub async fn desk(server: &Server) -> BTreeMap<&'static str, Vec<Value>> {
    let mut desk = BTreeMap::new();
    for list in LISTS {
        desk.insert(list, server.list(&format!("/api/{list}")).await);
    }
    desk
}
