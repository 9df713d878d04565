//! Compares a preview with its commit, member by member; ids are replaced with numbers, and times of the request with `now`.

use std::collections::HashMap;

use serde_json::{Value, json};

/// Fields that contain the time of the request.
const TIMES: [&str; 3] = ["Started", "Resolved", "Told"];

/// Asserts that a change had the previewed effects.
pub fn same(preview: &Value, committed: &Value) {
    let (preview, committed) = (Masked::of(preview), Masked::of(committed));
    assert_eq!(preview, committed);
}

/// A response in which each id is replaced with the number of its first appearance, and times of the request with `now`.
#[derive(Debug, PartialEq)]
struct Masked {
    ticket: Value,
    transactions: Vec<Value>,
    scrips_fired: Vec<Value>,
    deliveries: Vec<Value>,
    plan_hash: Value,
}

impl Masked {
    fn of(answer: &Value) -> Self {
        let mut ids = Ids::default();
        let list = |name: &str| answer[name].as_array().unwrap().clone();
        let mut each = |name: &str, mask: fn(&mut Ids, &mut Value)| {
            let mut items = list(name);
            items.iter_mut().for_each(|item| mask(&mut ids, item));
            items
        };
        Self {
            transactions: each("transactions", transaction),
            deliveries: each("deliveries", delivery),
            scrips_fired: each("scrips_fired", fired),
            ticket: ticket(answer["ticket"].clone(), &list("transactions")),
            plan_hash: answer["plan_hash"].clone(),
        }
    }
}

/// The ids seen so far.
#[derive(Default)]
struct Ids(HashMap<String, usize>);

impl Ids {
    fn mask(&mut self, id: &mut Value) {
        if let Some(text) = id.as_str() {
            let next = self.0.len();
            *id = json!(*self.0.entry(text.to_owned()).or_insert(next));
        }
    }
}

/// Replaces the times in a ticket that come from the request: when it was changed, and the times that the request set.
fn ticket(mut ticket: Value, transactions: &[Value]) -> Value {
    ticket["updated_at"] = json!("now");
    for (field, member) in TIMES.into_iter().zip(["started_at", "resolved_at", "told_at"]) {
        if transactions.iter().any(|one| one["field"] == field) && !ticket[member].is_null() {
            ticket[member] = json!("now");
        }
    }
    ticket
}

fn transaction(ids: &mut Ids, transaction: &mut Value) {
    for member in ["id", "caused_by", "request"] {
        ids.mask(&mut transaction[member]);
    }
    transaction["created_at"] = json!("now");
    if TIMES.iter().any(|field| transaction["field"] == *field) && !transaction["new_value"].is_null() {
        transaction["new_value"] = json!("now");
        transaction["data"]["new"] = json!("now");
    }
}

/// Shortens a delivery to its id, kind and scrip, as a preview has the complete delivery and a change does not.
fn delivery(ids: &mut Ids, delivery: &mut Value) {
    ids.mask(&mut delivery["id"]);
    *delivery = json!({"id": delivery["id"], "kind": delivery["kind"], "scrip": delivery["scrip"]});
}

fn fired(ids: &mut Ids, fired: &mut Value) {
    for id in fired["delivery_ids"].as_array_mut().unwrap() {
        ids.mask(id);
    }
}
