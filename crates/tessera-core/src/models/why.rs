//! The why: what was asked, expected and found, as a tree; of conditions, queries and actions.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;

/// One predicate with what was expected and what was found, or a group of them; nothing is hidden by short-circuit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// What was asked: `transaction.type`, `status.to`, `CF.{Severity}`; `all`, `any`, `not` for a group.
    pub predicate: Cow<'static, str>,
    /// What would make it hold.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub expected: Value,
    /// What was found.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub actual: Value,
    /// Whether it holds.
    pub result: bool,
    /// The sentence for a person, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The predicates of a group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Why>,
}

impl Why {
    /// One predicate.
    pub fn leaf(
        predicate: impl Into<Cow<'static, str>>,
        expected: impl Into<Value>,
        actual: impl Into<Value>,
        result: bool,
    ) -> Self {
        Self {
            predicate: predicate.into(),
            expected: expected.into(),
            actual: actual.into(),
            result,
            reason: None,
            children: Vec::new(),
        }
    }

    /// A group that holds when all of its predicates hold.
    pub fn all(children: Vec<Self>) -> Self {
        let result = children.iter().all(|child| child.result);
        Self { children, ..Self::leaf("all", Value::Null, Value::Null, result) }
    }

    /// A group that holds when any of its predicates holds.
    pub fn any(children: Vec<Self>) -> Self {
        let result = children.iter().any(|child| child.result);
        Self { children, ..Self::leaf("any", Value::Null, Value::Null, result) }
    }

    /// The opposite of a predicate.
    pub fn opposite(child: Self) -> Self {
        let result = !child.result;
        Self { children: vec![child], ..Self::leaf("not", Value::Null, Value::Null, result) }
    }

    /// The same with a sentence.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Adds what the action said to the condition's tree: `action` did not hold, because.
    pub fn with_action(mut self, predicate: &'static str, reason: impl Into<String>) -> Self {
        let leaf = Self::leaf(predicate, Value::Null, Value::Null, false).because(reason);
        if self.children.is_empty() {
            self = Self::all(vec![self]);
        }
        self.result = false;
        self.children.push(leaf);
        self
    }
}
