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
    let is_shadow = one.scrip.state == State::Shadow;
    if !one.tried.is_settled() && !progress.steps_of(one.scrip).are_used_up() {
        return Considered { verdict: Verdict::NotApplicable, why, would: Vec::new(), act: None };
    }
    if let Some(budget) = progress.exhausted(one, is_shadow) {
        return progress.stop(one, why, budget);
    }
    if is_shadow {
        return on_trial(progress, one, why, failure);
    }
    let Progress { draft, mailed, rendered, steps, canonical, .. } = &mut *progress;
    let snapshot = Snapshot { draft, transaction: &one.transaction, mailed, known };
    let intent = match failure {
        Some(message) => Err(Unready::Unclear(message)),
        None => {
            let (scrip, left) = (one.scrip, &*steps);
            intend(Bench { snapshot: &snapshot, scrip, spent: rendered, left, canonical })
        }
    };
    let (verdict, why, act) = match intent {
        Ok(intent) => {
            progress.fired += 1;
            (Verdict::Fired, why, Some(Act::CarryOut(intent)))
        }
        Err(Unready::OverBudget(budget)) => return progress.stop(one, why, budget),
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
    let Progress { draft, mailed, trials, .. } = &mut *progress;
    let (mut spent, mut canonical) = (0, Canonical::new(draft.context.now));
    let snapshot = Snapshot { draft, transaction: &one.transaction, mailed, known: &Known::default() };
    let intent = match failure {
        Some(message) => Err(Unready::Unclear(message)),
        None => intend(Bench {
            snapshot: &snapshot,
            scrip: one.scrip,
            spent: &mut spent,
            left: &*trials,
            canonical: &mut canonical,
        }),
    };
    if progress.trials.are_used_up() {
        return progress.stop(one, why, Budget::Trials);
    }
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
            Self::OverBudget(_) => Verdict::Stopped,
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
            Self::OverBudget(budget) => why.with_action("budget", budget.sentence()),
        }
    }
}
