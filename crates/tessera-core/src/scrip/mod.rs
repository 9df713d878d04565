//! Scrips: rules with a condition, an action and the name of a template, versioned, and attached to queues in an order.

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

/// The state of a scrip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs.
    #[default]
    Enabled,
    /// It is never considered.
    Disabled,
    /// It is on trial: evaluated and reported, without effects.
    Shadow,
}

impl State {
    /// The name in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Shadow => "shadow",
        }
    }

    /// Returns the state of a name in the database.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Enabled, Self::Disabled, Self::Shadow].into_iter().find(|state| state.as_str() == word)
    }
}

/// The attachment of a scrip to a queue or to all queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment {
    /// `None` = every queue.
    pub queue: Option<QueueId>,
    /// The stage at which it runs there.
    pub stage: Stage,
    /// Its position among the scrips of the stage; ties are broken by the scrip's id.
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
    /// The name: unique, ignoring case.
    pub name: String,
    /// A description for people.
    pub description: Option<String>,
    /// The condition under which it fires.
    pub condition: Condition,
    /// The transaction types that it is a candidate for.
    pub applicable: BTreeSet<TransactionType>,
    /// The action that it carries out.
    pub action: Action,
    /// The name of its template, which is looked up in the ticket's queue, then globally.
    pub template: Option<String>,
    /// Its state.
    pub state: State,
    /// The queues that it is attached to.
    pub attachments: Vec<Attachment>,
}

impl Scrip {
    /// Returns the attachment that applies to tickets of a queue: that to the queue itself, else the global one.
    pub fn attachment_in(&self, queue: QueueId) -> Option<&Attachment> {
        [Some(queue), None]
            .into_iter()
            .find_map(|at| self.attachments.iter().find(|attachment| attachment.queue == at))
    }
}
