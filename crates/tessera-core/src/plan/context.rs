//! The context of a plan: who asks, through what, when, with which rights, and the ids to use. All of it is data.

use crate::models::{Ids, QueueId, RequestId, User};
use std::collections::BTreeSet;
use time::{OffsetDateTime, UtcOffset};

/// Who asks, when, and what ids the plan draws.
#[derive(Debug, Clone)]
pub struct Context {
    /// The person or program.
    pub actor: User,
    /// Through what: `rest`, `cli`.
    pub channel: &'static str,
    /// When, in microseconds; one per request.
    pub now: OffsetDateTime,
    /// The request.
    pub request: RequestId,
    /// Where ids come from.
    pub ids: Ids,
    /// What the actor may do.
    pub access: Access,
    /// How many deliveries, each made because of the one before, led to this request: what its `Tessera-Depth` says.
    pub depth: u32,
}

/// Rights, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everything. Until there are people and rights, the one administrator.
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

/// A time as the database keeps it, whatever the sender's clock shows: in UTC, cut to microseconds.
pub fn to_micros(time: OffsetDateTime) -> OffsetDateTime {
    let time = time.checked_to_offset(UtcOffset::UTC).unwrap_or(time);
    time.replace_nanosecond(time.microsecond() * 1_000).unwrap_or(time)
}
