//! Automation loops end.

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use crate::support::{Api, SOON, Server, eventually};

#[tokio::test]
async fn two_scrips_that_trigger_each_other_stop_with_an_error_in_the_history() {
    let mut server = Server::start(&[]).await;
    for (name, from, to) in [("Stall", "open", "stalled"), ("Unstall", "stalled", "open")] {
        let scrip = json!({"name": name, "condition_type": "OnStatusChange", "condition_config": {"to": from},
            "action_type": "SetStatus", "action_config": {"status": to}});
        server.done("POST", "/api/scrips", &scrip).await;
    }
    let made = server.done("POST", "/api/tickets", &json!({"queue": "General", "subject": "Round"})).await;
    let number = &made["ticket"]["number"];

    let changed = server.done("PATCH", &format!("/api/tickets/{number}"), &json!({"status": "open"})).await;
    let fired = changed["scrips_fired"].as_array().unwrap();
    assert_eq!(fired.iter().filter(|one| one["verdict"] == "stopped").count(), 1, "{fired:#?}");

    let history = server.history(number).await;
    let errors: Vec<_> = history.iter().filter(|one| one["transaction_type"] == "SystemError").collect();
    let [error] = errors.as_slice() else { panic!("{errors:#?}") };
    let sentence = error["new_value"].as_str().unwrap();
    assert!(sentence.starts_with("automation stopped at depth 10: Stall -> Unstall -> Stall"), "{sentence}");
    assert_eq!(changed["ticket"]["version"], history.len(), "every line of it is numbered");

    // Only the automation stopped; the ticket can still be changed.
    server.done("PATCH", &format!("/api/tickets/{number}"), &json!({"subject": "Square"})).await;
    server.stop().await;
    server.check();
}

/// The API that [`bounce`] calls, once the server runs.
static DESK: OnceCell<Api> = OnceCell::const_new();

/// Handles each webhook by creating a ticket, and passes on its depth.
async fn bounce(State(()): State<()>, headers: HeaderMap) {
    let (api, depth) = (DESK.get().unwrap(), headers["tessera-depth"].to_str().unwrap());
    let body = json!({"queue": "General", "subject": format!("Pong {depth}")});
    let made = api.try_api("POST", "/api/tickets", &body, &[("Tessera-Depth", depth)]).await.unwrap();
    assert!(made.status.is_success(), "{:#}", made.body);
}

#[tokio::test]
async fn a_loop_between_a_desk_and_a_receiver_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let router = Router::new().fallback(bounce).with_state(());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut server = Server::start(&[]).await;
    assert!(DESK.set(server.client()).is_ok());
    let scrip = json!({"name": "Ping", "condition_type": "OnCreate", "action_type": "Webhook", "action_config": {"url": url}});
    server.done("POST", "/api/scrips", &scrip).await;
    server.done("POST", "/api/tickets", &json!({"queue": "General", "subject": "Ping"})).await;

    // One ticket is from the request, and one from each of five webhooks; the last one sends nothing and records why.
    let history = eventually("the last ticket says that it ended", SOON, async || {
        let answer = server.api("GET", "/api/tickets/6/transactions", &json!(null)).await;
        answer.status.is_success().then(|| answer.body["items"].as_array().unwrap().clone())
    });
    let errors: Vec<_> =
        history.await.into_iter().filter(|one| one["transaction_type"] == "SystemError").collect();
    let [error] = errors.as_slice() else { panic!("{errors:#?}") };
    let sentence = error["new_value"].as_str().unwrap();
    assert!(sentence.starts_with("nothing is sent at Tessera-Depth 5"), "{sentence}");
    server.delivered(SOON).await;
    assert_eq!(server.list("/api/tickets").await.len(), 6);
    server.stop().await;
    server.check();
}
