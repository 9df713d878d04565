//! The prepare phase of one scrip: from the outcome of its condition to a verdict, and to the step that the commit phase takes.

use super::budget::Budget;
use super::effects::intend;
use super::progress::{Act, Considered, Progress, Try};
use super::words::{Bench, Canonical, Known, Snapshot, Unready};
use crate::models::Why;
use crate::scrip::State;
use crate::scrip::condition::Tried;
use crate::scrip::evaluation::Verdict;

/// Prepares the action of a scrip whose condition holds, within the budgets of the request.
pub(super) fn consider<'a>(progress: &mut Progress<'a>, one: &Try<'a>, known: &Known) -> Considered<'a> {
    let Tried { why, failure } = one.tried.clone();
    if !one.tried.is_settled() {
        return Considered { verdict: Verdict::NotApplicable, why, would: Vec::new(), act: None };
    }
    let is_shadow = one.scrip.state == State::Shadow;
    if let Some(budget) = progress.exhausted(one, is_shadow) {
        return progress.stop(one, why, budget);
    }
    if is_shadow {
        return on_trial(progress, one, why, failure);
    }
    let Progress { draft, mailed, rendered, canonical, .. } = &mut *progress;
    let snapshot = Snapshot { draft, transaction: &one.transaction, mailed, known };
    let intent = match failure {
        Some(message) => Err(Unready::Unclear(message)),
        None => intend(Bench { snapshot: &snapshot, scrip: one.scrip, spent: rendered, canonical }),
    };
    let (verdict, why, act) = match intent {
        Ok(intent) => {
            progress.fired += 1;
            (Verdict::Fired, why, Some(Act::CarryOut(intent)))
        }
        Err(Unready::OverBudget) => return progress.stop(one, why, Budget::Rendered),
        Err(unready) => {
            let report = match &unready {
                Unready::Failed(message) | Unready::Unclear(message) => {
                    let sentence =
                        format!("scrip {} v{} failed: {message}", one.scrip.name, one.scrip.version);
                    Some(Act::Report("failed", sentence))
                }
                _ => None,
            };
            (unready.verdict(), unready.explain(why), report)
        }
    };
    Considered { verdict, why, would: Vec::new(), act }
}

/// Prepares the action of a scrip on trial. It counts against no budget but its own, and neither other scrips nor the hash
/// see what it renders.
fn on_trial<'a>(
    progress: &mut Progress<'a>,
    one: &Try<'a>,
    why: Why,
    failure: Option<String>,
) -> Considered<'a> {
    progress.shadows += 1;
    let Progress { draft, mailed, .. } = progress;
    let (mut spent, mut canonical) = (0, Canonical::new(draft.context.now));
    let snapshot = Snapshot { draft, transaction: &one.transaction, mailed, known: &Known::default() };
    let intent = match failure {
        Some(message) => Err(Unready::Unclear(message)),
        None => intend(Bench {
            snapshot: &snapshot,
            scrip: one.scrip,
            spent: &mut spent,
            canonical: &mut canonical,
        }),
    };
    let (why, would) = match intent {
        Ok(intent) => (why, vec![intent.would()]),
        Err(unready) => (unready.explain(why), Vec::new()),
    };
    Considered { verdict: Verdict::Shadow, why, would, act: None }
}

impl Unready {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Declined(..) => Verdict::Declined,
            Self::Refused(..) => Verdict::Refused,
            Self::Failed(_) | Self::Unclear(_) => Verdict::Failed,
            Self::OverBudget => Verdict::Stopped,
        }
    }

    fn explain(self, why: Why) -> Why {
        match self {
            Self::Declined(predicate, reason) | Self::Refused(predicate, reason) => {
                why.with_action(predicate, reason)
            }
            Self::Failed(message) => why.with_action("template", message),
            // The condition's own tree has the message.
            Self::Unclear(_) => why,
            Self::OverBudget => why.with_action("budget", Budget::Rendered.sentence()),
        }
    }
}
