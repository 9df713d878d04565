//! The context of a plan: the actor and their rights, the channel, the time, and the ids to use. All of it is data.

use crate::models::{Ids, QueueId, RequestId, User};
use std::collections::BTreeSet;
use time::{OffsetDateTime, UtcOffset};

/// The circumstances of a request.
#[derive(Debug, Clone)]
pub struct Context {
    /// The user who made the request.
    pub actor: User,
    /// The channel of the request: `rest`, `cli`.
    pub channel: &'static str,
    /// The time, cut to microseconds; one for the whole request.
    pub now: OffsetDateTime,
    /// The id of the request.
    pub request: RequestId,
    /// The source of ids.
    pub ids: Ids,
    /// The rights of the actor.
    pub access: Access,
    /// The length of the chain of deliveries, each caused by the one before, that led to this request: its `Tessera-Depth`.
    pub depth: u32,
}

/// Rights, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// All rights, in every queue.
    All,
    /// These rights, in every queue.
    Only(BTreeSet<String>),
}

impl Access {
    /// Whether the actor has `right` in `queue`.
    pub fn has(&self, right: &str, _queue: QueueId) -> bool {
        match self {
            Self::All => true,
            Self::Only(rights) => rights.contains(right),
        }
    }
}

/// Returns a time as the database stores it: in UTC, cut to microseconds.
pub fn to_micros(time: OffsetDateTime) -> OffsetDateTime {
    let time = time.checked_to_offset(UtcOffset::UTC).unwrap_or(time);
    time.replace_nanosecond(time.microsecond() * 1_000).unwrap_or(time)
}
