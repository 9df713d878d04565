//! The state of the endpoints that deliveries go to.

use serde::{Deserialize, Serialize};

/// The state of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// An operator holds it: nothing is sent.
    Held,
    /// Its breaker is open: one delivery at a time is tried.
    Open,
    /// Its last attempt failed.
    Failing,
    /// No failure since the last success.
    Fine,
}

impl EndpointState {
    /// Returns the state of an endpoint that an operator holds or not, whose breaker is open or not, with this many failures
    /// in a row.
    pub fn of(is_held: bool, is_open: bool, failures: i32) -> Self {
        match (is_held, is_open, failures) {
            (true, ..) => Self::Held,
            (_, true, _) => Self::Open,
            (_, _, 1..) => Self::Failing,
            _ => Self::Fine,
        }
    }

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Open => "open",
            Self::Failing => "failing",
            Self::Fine => "fine",
        }
    }
}

/// The health of an endpoint according to one attempt, whatever the outcome for the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// It accepted the message or rejected it: an endpoint that returns 404 for a URL or 550 for a mailbox works.
    Works,
    /// It failed: connection refused or broken, timeout, 408, 429, 5xx, or a mail server that rejects the whole session.
    Fails,
    /// It was not contacted: the address guard refused it, a secret is missing, or the message cannot be built.
    Unknown,
}

impl Health {
    /// The word in the SQL that settles attempts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Fails => "fails",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_as_bad_as_the_worst_that_is_known_of_it() {
        let table = [
            ((false, false, 0), EndpointState::Fine),
            ((false, false, 1), EndpointState::Failing),
            ((false, false, 9), EndpointState::Failing),
            ((false, true, 10), EndpointState::Open),
            ((true, false, 0), EndpointState::Held),
            ((true, true, 10), EndpointState::Held),
        ];
        for ((held, open, failures), state) in table {
            assert_eq!(EndpointState::of(held, open, failures), state, "{held} {open} {failures}");
        }
    }
}
