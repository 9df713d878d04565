//! Scrips: rules made of a condition, an action and the name of a template; versioned, attached to queues in an order.

pub mod action;
pub mod condition;
pub mod evaluation;
pub mod kind;
pub mod mention;
pub mod template;

use crate::models::{QueueId, ScripId, ScripVersionId, TransactionType};
use action::Action;
use condition::Condition;
use evaluation::Stage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Whether a scrip runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs.
    #[default]
    Enabled,
    /// It is as if it were not there.
    Disabled,
    /// It is tried and told of, and does nothing.
    Shadow,
}

impl State {
    /// The word in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Shadow => "shadow",
        }
    }

    /// The state of a word in the database.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Enabled, Self::Disabled, Self::Shadow].into_iter().find(|state| state.as_str() == word)
    }
}

/// Where a scrip is attached, and when it runs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment {
    /// `None` = every queue.
    pub queue: Option<QueueId>,
    /// When.
    pub stage: Stage,
    /// Its place among the scrips of the stage; ties are broken by the scrip's id.
    pub sort_order: i32,
}

/// A scrip, compiled.
#[derive(Debug)]
pub struct Scrip {
    /// Its id.
    pub id: ScripId,
    /// Its current version.
    pub version_id: ScripVersionId,
    /// The number of that version, from 1.
    pub version: i32,
    /// Unique, compared without case.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// When it fires.
    pub condition: Condition,
    /// The transaction types it is a candidate for.
    pub applicable: BTreeSet<TransactionType>,
    /// What it does.
    pub action: Action,
    /// The name of the template with its words.
    pub template: Option<String>,
    /// Whether it runs.
    pub state: State,
    /// Where.
    pub attachments: Vec<Attachment>,
}

impl Scrip {
    /// Where it is attached for tickets of a queue: an attachment to the queue itself decides, else the global one.
    pub fn attachment_in(&self, queue: QueueId) -> Option<&Attachment> {
        [Some(queue), None]
            .into_iter()
            .find_map(|at| self.attachments.iter().find(|attachment| attachment.queue == at))
    }
}
