//! The configuration on a real database: the message of every rejected change, and the effects of changes on tickets.

mod objects;
mod queries;
mod scrips;
mod searches;
mod tickets;
mod versions;

use super::*;
use crate::desk::Tessera;
use crate::error::Code;
use crate::plan::documents::{
    CustomFieldDocument, LifecycleDocument, QueueDocument, TemplateDocument, UserDocument,
};
use crate::testing::{Desk, TestDb, node};
use serde_json::json;

/// Opens a desk with the default configuration.
async fn desk() -> Desk {
    Desk::open(TestDb::new().await).await
}

fn members(value: Value) -> Map<String, Value> {
    let Value::Object(members) = value else { panic!("an object: {value}") };
    members
}

async fn add<D: Document>(desk: &Tessera, value: Value) -> Result<Saved<D>> {
    desk.add(&desk.administrator()?, documents::read::<D>(members(value))?).await
}

async fn change<D: Document>(desk: &Tessera, word: &str, patch: Value) -> Result<Saved<D>> {
    desk.change(&desk.administrator()?, word, members(patch), false).await
}

async fn force<D: Document>(desk: &Tessera, word: &str, patch: Value) -> Result<Saved<D>> {
    desk.change(&desk.administrator()?, word, members(patch), true).await
}

/// Returns the only fault of a 422 error.
#[track_caller]
fn fault<T: std::fmt::Debug>(result: Result<T>) -> (String, String) {
    let error = result.unwrap_err();
    assert_eq!(error.code(), Code::Invalid, "{error}");
    match error.faults() {
        [one] => (one.field.clone(), one.message.clone()),
        many => panic!("one fault: {many:?}"),
    }
}

/// Returns the detail of an error with this code.
#[track_caller]
fn conflict<T: std::fmt::Debug>(result: Result<T>, code: Code) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    error.detail().to_owned()
}

async fn version(desk: &Tessera) -> i64 {
    sqlx::query_scalar("SELECT version FROM config_version").fetch_one(&desk.pools.read).await.unwrap()
}

async fn count(desk: &Tessera, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&desk.pools.read).await.unwrap()
}

fn a_scrip(more: Value) -> Value {
    let mut scrip = members(json!({
        "name": "Tell", "condition_type": "OnCreate",
        "action_type": "SendEmail", "action_config": { "to": ["owner"] }, "template": "Transaction"
    }));
    scrip.extend(members(more));
    Value::Object(scrip)
}

fn a_lifecycle() -> Value {
    json!({
        "name": "incident",
        "definition": {
            "initial": ["reported"], "active": ["working", "watching"], "inactive": ["closed"],
            "transitions": {
                "": ["reported"], "reported": ["working", "closed"], "working": ["watching", "closed"],
                "watching": ["working", "closed"], "closed": ["working"]
            }
        }
    })
}
