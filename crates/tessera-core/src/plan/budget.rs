//! Budgets: the limits of automation in one request. All of them are counted, never timed.

use super::{
    CASCADE_DEPTH_MAX, DELIVERIES_MAX, EXTERNAL_DEPTH_MAX, FIRED_MAX, RENDERED_MAX, SHADOWS_MAX, TRIALS_MAX,
    WORK_MAX,
};

/// A limit that stops a scrip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Budget {
    Depth,
    External,
    Fired,
    Deliveries,
    Rendered,
    Work,
    Shadows,
    Trials,
}

impl Budget {
    /// The message for the ticket's history.
    pub fn sentence(self) -> String {
        match self {
            Self::Depth => format!("automation stopped at depth {CASCADE_DEPTH_MAX}"),
            Self::External => format!(
                "nothing is sent at Tessera-Depth {EXTERNAL_DEPTH_MAX}: this change was caused by a chain of that many deliveries"
            ),
            Self::Fired => format!("automation stopped after {FIRED_MAX} scrips fired"),
            Self::Deliveries => format!("automation stopped after {DELIVERIES_MAX} deliveries"),
            Self::Rendered => format!("automation stopped after {RENDERED_MAX} bytes of rendered text"),
            Self::Work => {
                format!(
                    "automation stopped after {WORK_MAX} steps of work: conditions and templates read too much"
                )
            }
            Self::Trials => {
                format!("scrips on trial used {TRIALS_MAX} steps of work, the limit per request")
            }
            Self::Shadows => format!("{SHADOWS_MAX} scrips on trial were evaluated, the limit per request"),
        }
    }
}
