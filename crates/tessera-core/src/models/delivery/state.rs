//! The state machine of a delivery: its states, the events that change them, and the reasons for a hold.

use serde::{Deserialize, Serialize};

/// The state of a delivery.
///
/// ```text
///                    ┌─────────────── Retry, GiveBack ──────────────┐
///                    ▼                                              │
///  created ──► Available ─────────────────── Lease ────────────► Running
///                │   ▲                                              │
///           Hold │   │ Release                                      │
///                ▼   │                                              │
///  created ──►  Held                                                │
///
///  any state ── Deliver ──► Completed
///  Held, Available or Running ── GiveUp ──► Discarded
///  Held, Available or Running ── Cancel ──► Cancelled
///  Completed, Discarded or Cancelled ── Resend ──► Available
/// ```
///
/// No column stores the state. The view `delivery_standing` derives the states of unfinished deliveries from their row in
/// `delivery_queue`, and `db::deliveries` derives the others from the transactions that record how a delivery ended. A
/// delivery that would be `Available` is `Held` while a [`HoldReason`] applies to it: a hold that begins during an attempt
/// takes effect when the attempt ends. An open breaker lets one of the deliveries that it holds start an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Waits until an operator, its endpoint or a connector lets it go; see [`HoldReason`].
    Held,
    /// Due now or at a later time.
    Available,
    /// Leased by a worker or connector that makes an attempt.
    Running,
    /// Delivered.
    Completed,
    /// Given up: the receiver rejected it, or the retry schedule has ended.
    Discarded,
    /// Given up by an operator.
    Cancelled,
}

/// An event that can change the state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryEvent {
    /// A worker or connector leases it.
    Lease,
    /// The holder of any lease, expired or not, reports that the receiver accepted it.
    Deliver,
    /// The holder of the newest lease reports a failure, and the retry schedule has another attempt.
    Retry,
    /// The holder of the newest lease reports a failure that no retry can help, or the last one of the schedule.
    GiveUp,
    /// The lease is given back before the attempt has ended, or it expires.
    GiveBack,
    /// An operator holds it.
    Hold,
    /// An operator releases it.
    Release,
    /// An operator cancels it.
    Cancel,
    /// An operator sends it again.
    Resend,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Held, Self::Available, Self::Running, Self::Completed, Self::Discarded, Self::Cancelled];

    /// The word in JSON and in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Available => "available",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Returns the state after an event, which is the same state if the event does not apply to it.
    pub fn after(self, event: DeliveryEvent) -> Self {
        use DeliveryEvent as Event;
        match (event, self) {
            (Event::Deliver, _) => Self::Completed,
            (Event::Lease, Self::Available) => Self::Running,
            (Event::Retry | Event::GiveBack, Self::Running) => Self::Available,
            (Event::Hold, Self::Available) => Self::Held,
            (Event::Release, Self::Held) => Self::Available,
            (Event::GiveUp, unfinished) if !unfinished.is_finished() => Self::Discarded,
            (Event::Cancel, unfinished) if !unfinished.is_finished() => Self::Cancelled,
            (Event::Resend, finished) if finished.is_finished() => Self::Available,
            (_, unchanged) => unchanged,
        }
    }

    /// Returns true if only a resend or the late report of a success can still change the state.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Discarded | Self::Cancelled)
    }
}

/// The reason for which a delivery is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// An operator held the delivery.
    Operator,
    /// This version of Tessera cannot read its payload; a newer version may.
    Unreadable,
    /// Retention deleted its payload.
    PayloadGone,
    /// The result of its attempt could not be stored.
    Unrecorded,
    /// An operator held its endpoint.
    Endpoint,
    /// The breaker of its endpoint is open: one delivery at a time is tried.
    Breaker,
    /// No connector has served its kind yet.
    NoConnector,
}

impl HoldReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Operator,
        Self::Unreadable,
        Self::PayloadGone,
        Self::Unrecorded,
        Self::Endpoint,
        Self::Breaker,
        Self::NoConnector,
    ];

    /// The word in JSON and in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Unreadable => "unreadable",
            Self::PayloadGone => "payload_gone",
            Self::Unrecorded => "unrecorded",
            Self::Endpoint => "endpoint",
            Self::Breaker => "breaker",
            Self::NoConnector => "no_connector",
        }
    }

    /// The reason with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_back_to_what_they_name() {
        assert!(DeliveryState::ALL.iter().all(|state| DeliveryState::parse(state.as_str()) == Some(*state)));
        assert!(HoldReason::ALL.iter().all(|reason| HoldReason::parse(reason.as_str()) == Some(*reason)));
        let finished: Vec<_> = DeliveryState::ALL.iter().filter(|state| state.is_finished()).collect();
        assert_eq!(finished.len(), 3, "{finished:?}");
    }
}
