//! Scrips that were not candidates: the requirement that each failed, with the expected and the actual value.

use super::*;
use crate::plan::explain::{Bystander, Done, bystanders};
use std::sync::LazyLock;

fn done(plan: &Plan) -> Done<'_> {
    static ADMIN: LazyLock<(User, People)> = LazyLock::new(|| (admin(), People::default()));
    Done {
        actor: &ADMIN.0,
        channel: plan.channel,
        now: plan.now,
        people: &ADMIN.1,
        before: plan.before.as_ref(),
        transactions: &plan.transactions,
        evaluations: &plan.evaluations,
        passes: &plan.passes,
    }
}

fn of<'b, 'c>(all: &'b [Bystander<'c>], scrip: &str) -> &'b Bystander<'c> {
    all.iter().find(|one| one.scrip.name == scrip).unwrap_or_else(|| panic!("{scrip} in {all:?}"))
}

/// Returns the requirements that were not met: predicate, expected, actual.
fn shut(bystander: &Bystander<'_>) -> Vec<(String, Value, Value)> {
    let shut = bystander.why.children.iter().filter(|gate| !gate.result);
    shut.map(|gate| (gate.predicate.to_string(), gate.expected.clone(), gate.actual.clone())).collect()
}

fn gate(predicate: &str, expected: Value, actual: Value) -> Vec<(String, Value, Value)> {
    vec![(predicate.to_owned(), expected, actual)]
}

fn raise(to: &str) -> (&'static str, Value) {
    ("SetPriority", json!({ "value": to }))
}

/// Adds a scrip that is attached only to the queue Billing.
fn with_billing(desk: Desk) -> Desk {
    let mut desk = desk.scrip("Other queue", ("OnCreate", json!({})), raise("1"), json!({}));
    let scrip = Arc::get_mut(desk.parts.scrips.last_mut().unwrap()).unwrap();
    scrip.attachments[0].queue = Some(QueueId(id(110)));
    desk
}

#[test]
fn each_scrip_that_was_no_candidate_names_the_gate_that_kept_it_out() {
    let catalog = with_billing(
        Desk::new()
            .scrip("Fires", ("OnCreate", json!({})), raise("5"), json!({}))
            .scrip("Off", ("OnCreate", json!({})), raise("5"), json!({"state": "disabled"}))
            .scrip("Other type", ("OnComment", json!({})), raise("5"), json!({})),
    )
    .open();
    let plan = create(&catalog, new_ticket()).unwrap();
    let all = bystanders(&catalog, done(&plan));
    assert_eq!(
        all.iter().map(|one| one.scrip.name.as_str()).collect::<Vec<_>>(),
        ["Off", "Other type", "Other queue"]
    );
    assert!(all.iter().all(|one| one.transaction.is_none() && !one.why.result));
    assert_eq!(shut(of(&all, "Off")), gate("scrip.state", json!(["enabled", "shadow"]), json!("disabled")));
    assert_eq!(shut(of(&all, "Other queue")), gate("ticket.queue", json!(["Billing"]), json!(["Support"])));
    let types = gate("transaction.type", json!(["Comment"]), json!(["Create", "Set"]));
    assert_eq!(shut(of(&all, "Other type")), types);
    // The requirements that were met are listed as well.
    assert_eq!(of(&all, "Off").why.children.len(), 4);
}

#[test]
fn what_the_batch_made_is_not_seen_by_a_scrip_of_the_batch() {
    let catalog = Desk::new()
        .scrip("Batch", ("OnCreate", json!({})), raise("5"), json!({"stage": "TransactionBatch"}))
        .scrip(
            "Second batch",
            ("OnPriorityChange", json!({})),
            ("AddComment", json!({"content": "x"})),
            json!({"stage": "TransactionBatch"}),
        )
        .open();
    let plan = create(&catalog, new_ticket()).unwrap();
    let all = bystanders(&catalog, done(&plan));
    let stage = gate("scrip.stage", json!("TransactionBatch"), json!(["TransactionCreate"]));
    assert_eq!(shut(of(&all, "Second batch")), stage);
}

#[test]
fn gates_that_were_open_in_different_passes_are_told_as_such() {
    let mut desk = Desk::new().scrip(
        "Move",
        ("OnComment", json!({})),
        ("SetQueue", json!({"value": "Billing"})),
        json!({}),
    );
    desk = desk.scrip("Comments of Billing", ("OnComment", json!({})), raise("1"), json!({}));
    Arc::get_mut(desk.parts.scrips.last_mut().unwrap()).unwrap().attachments[0].queue =
        Some(QueueId(id(110)));
    let catalog = desk.open();
    let made = create(&catalog, new_ticket()).unwrap();
    let comment = UpdateTicket { comment: Some(text("hm")), ..UpdateTicket::default() };
    let plan = update(&catalog, &made.ticket, comment).unwrap();
    assert_eq!(plan.ticket.queue, QueueId(id(110)), "{:?}", history(&plan));
    let all = bystanders(&catalog, done(&plan));
    let told = shut(of(&all, "Comments of Billing"));
    assert_eq!(told.iter().map(|one| one.0.as_str()).collect::<Vec<_>>(), ["pass"]);
}

#[test]
fn without_evaluations_the_condition_is_tried_anew_and_a_match_is_left_out() {
    let catalog = Desk::new()
        .scrip("Fires", ("OnStatusChange", json!({"to": "open"})), raise("5"), json!({}))
        .scrip("Not this", ("OnStatusChange", json!({"to": "resolved"})), raise("6"), json!({}))
        .open();
    let made = create(&catalog, new_ticket()).unwrap();
    let plan = update(&catalog, &made.ticket, status("open")).unwrap();
    let whole = bystanders(&catalog, done(&plan));
    assert!(whole.is_empty(), "all were tried: {whole:?}");
    let forgotten = Done { evaluations: &[], ..done(&plan) };
    let all = bystanders(&catalog, forgotten);
    assert_eq!(all.iter().map(|one| one.scrip.name.as_str()).collect::<Vec<_>>(), ["Not this"]);
    assert_eq!(all[0].transaction, Some(plan.transactions[0].id));
    let planned = plan.evaluations.iter().find(|one| one.name == "Not this").unwrap();
    assert_eq!(all[0].why, planned.why, "the same as was found then");
}
