//! Automation that would never end.

use serde_json::json;

use crate::support::Server;

#[tokio::test]
async fn two_scrips_that_set_each_other_off_stop_visibly() {
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

    // What stopped was the automation; the ticket goes on.
    server.done("PATCH", &format!("/api/tickets/{number}"), &json!({"subject": "Square"})).await;
    server.stop().await;
    server.check();
}
