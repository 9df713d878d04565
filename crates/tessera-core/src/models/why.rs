//! Explanations of conditions, queries and actions: a tree of predicates with expected and actual values.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;

/// A predicate with its expected and actual values, or a group of predicates. Groups are complete: evaluation does not stop
/// at the first predicate that decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// The name of the predicate: `transaction.type`, `status.to`, `CF.{Severity}`; `all`, `any` or `not` for a group.
    pub predicate: Cow<'static, str>,
    /// The value for which it holds.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub expected: Value,
    /// The actual value.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub actual: Value,
    /// True if it holds.
    pub result: bool,
    /// A sentence for people, if the values do not explain the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The predicates of a group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Why>,
}

impl Why {
    /// Creates a single predicate.
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

    /// Creates a group that holds if all of its predicates hold.
    pub fn all(children: Vec<Self>) -> Self {
        let result = children.iter().all(|child| child.result);
        Self { children, ..Self::leaf("all", Value::Null, Value::Null, result) }
    }

    /// Creates a group that holds if any of its predicates holds.
    pub fn any(children: Vec<Self>) -> Self {
        let result = children.iter().any(|child| child.result);
        Self { children, ..Self::leaf("any", Value::Null, Value::Null, result) }
    }

    /// Creates the negation of a predicate.
    pub fn opposite(child: Self) -> Self {
        let result = !child.result;
        Self { children: vec![child], ..Self::leaf("not", Value::Null, Value::Null, result) }
    }

    /// Adds a sentence for people.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Adds a predicate of the action, which does not hold for this reason, to the tree of the condition.
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
