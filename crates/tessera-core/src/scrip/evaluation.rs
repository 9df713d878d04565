//! Evaluations: the verdict on a scrip in one request, and the reasons.

use crate::models::{DeliveryId, ScripId, ScripVersionId, TransactionId, Why};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// The stage at which a scrip runs: once for each transaction, or once for the whole request.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub enum Stage {
    /// After each transaction. RT: `TransactionCreate`.
    #[default]
    TransactionCreate,
    /// Once, after all transactions of a request. RT: `TransactionBatch`.
    TransactionBatch,
}

impl Stage {
    /// The name in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TransactionCreate => "TransactionCreate",
            Self::TransactionBatch => "TransactionBatch",
        }
    }

    /// The stage of a name in the database.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::TransactionCreate, Self::TransactionBatch].into_iter().find(|stage| stage.as_str() == name)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The outcome of a scrip that was considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Its effects are in the plan.
    Fired,
    /// Its condition does not hold.
    NotApplicable,
    /// Its condition holds, but there is nothing to do: no recipients, no change, or an empty template.
    Declined,
    /// A lifecycle or a field definition does not allow its effect.
    Refused,
    /// Its template, payload or condition failed.
    Failed,
    /// It is on trial: its effects are listed, but nothing is done.
    Shadow,
    /// A budget of the request is used up.
    Stopped,
}

impl Verdict {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::NotApplicable => "not_applicable",
            Self::Declined => "declined",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Shadow => "shadow",
            Self::Stopped => "stopped",
        }
    }

    /// Whether `scrips_fired` lists it, and its whole trace is stored.
    pub fn is_notable(self) -> bool {
        !matches!(self, Self::NotApplicable | Self::Declined)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A scrip that was considered, and the outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The scrip.
    pub scrip: ScripId,
    /// Its name at that version.
    pub name: String,
    /// The number of its version.
    pub version: i32,
    /// The version.
    pub version_id: ScripVersionId,
    /// The stage of its attachment.
    pub stage: Stage,
    /// The type of its action.
    pub action_type: String,
    /// The transaction that it was tried on.
    pub transaction: TransactionId,
    /// The outcome.
    pub verdict: Verdict,
    /// The reasons: the condition's predicates, then those of the action.
    pub why: Why,
    /// The deliveries that it created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<DeliveryId>,
    /// The transactions that it added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transactions: Vec<TransactionId>,
    /// The effects of a scrip on trial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would: Vec<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_and_a_verdict_are_shown_by_their_word_and_all_but_two_verdicts_are_kept() {
        assert_eq!(Stage::TransactionBatch.to_string(), "TransactionBatch");
        assert_eq!(Verdict::NotApplicable.to_string(), Verdict::NotApplicable.as_str());
        for verdict in [
            Verdict::Fired,
            Verdict::Shadow,
            Verdict::Refused,
            Verdict::Failed,
            Verdict::Stopped,
            Verdict::Declined,
            Verdict::NotApplicable,
        ] {
            let is_kept = !matches!(verdict, Verdict::Declined | Verdict::NotApplicable);
            assert_eq!(verdict.is_notable(), is_kept, "{verdict}");
        }
    }
}
