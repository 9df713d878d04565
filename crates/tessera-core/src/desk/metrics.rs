//! What dispatch counts: changes by what became of them, scrips by verdict.

use super::Outcome;
use crate::error::{Kind, Result};
use crate::metrics::{CHANGES, SCRIPS};
use crate::scrip::evaluation::{Evaluation, Verdict};

/// Counts what became of a change, and gives it back. `word` says what became of one that was not refused.
pub(super) fn change<T>(kind: &'static str, result: Result<T>, word: fn(&T) -> &'static str) -> Result<T> {
    let outcome = match &result {
        Ok(done) => word(done),
        Err(error) => match error.kind() {
            Kind::Busy => "busy",
            Kind::Unavailable => "unavailable",
            Kind::Internal => "failed",
            _ => "refused",
        },
    };
    ::metrics::counter!(CHANGES, "kind" => kind, "outcome" => outcome).increment(1);
    result
}

/// The word of an outcome.
pub(super) fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Made(..) => "made",
        Outcome::Replayed(_) => "replayed",
        Outcome::PlanChanged(_) => "plan_changed",
    }
}

/// Counts the scrips of a change that was made. A counter is looked up once for each verdict that occurs, and not for each
/// scrip, of which there may be a thousand.
pub(super) fn scrips(evaluations: &[Evaluation]) {
    let counters: [(Verdict, fn() -> ::metrics::Counter); 7] = [
        (Verdict::NotApplicable, || ::metrics::counter!(SCRIPS, "verdict" => "not_applicable")),
        (Verdict::Fired, || ::metrics::counter!(SCRIPS, "verdict" => "fired")),
        (Verdict::Declined, || ::metrics::counter!(SCRIPS, "verdict" => "declined")),
        (Verdict::Shadow, || ::metrics::counter!(SCRIPS, "verdict" => "shadow")),
        (Verdict::Refused, || ::metrics::counter!(SCRIPS, "verdict" => "refused")),
        (Verdict::Failed, || ::metrics::counter!(SCRIPS, "verdict" => "failed")),
        (Verdict::Stopped, || ::metrics::counter!(SCRIPS, "verdict" => "stopped")),
    ];
    for (verdict, counter) in counters {
        let found = evaluations.iter().filter(|one| one.verdict == verdict).count();
        if found > 0 {
            counter().increment(found as u64);
        }
    }
}
