//! Progress: everything that automation has done so far in one request, and how much of its budgets it has used.

use super::CASCADE_DEPTH_MAX;
use super::budget::Budget;
use super::draft::{Cause, Draft};
use super::intent::Intent;
use super::words::Canonical;
use super::{DELIVERIES_MAX, EXTERNAL_DEPTH_MAX, FIRED_MAX, SHADOWS_MAX, TRIALS_MAX, WORK_MAX};
use crate::models::{Delivery, ScripId, Steps, Transaction, Why};
use crate::scrip::condition::Tried;
use crate::scrip::evaluation::{Evaluation, Verdict};
use crate::scrip::{Scrip, State};
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

/// The state of a request between passes.
pub(super) struct Progress<'a> {
    pub draft: Draft<'a>,
    pub evaluations: Vec<Evaluation>,
    pub deliveries: Vec<Delivery>,
    pub canonical: Canonical,
    /// Folded addresses that each scrip has sent a mail to.
    pub mailed: HashSet<(ScripId, String)>,
    pub fired: usize,
    pub shadows: usize,
    /// Bytes of rendered text.
    pub rendered: usize,
    /// Steps of work that are left.
    pub steps: Steps,
    /// Steps of work that are left for scrips on trial.
    pub trials: Steps,
    /// Budgets that have already been reported in the ticket's history.
    tripped: BTreeSet<Budget>,
}

/// A scrip whose condition was tried on a transaction.
pub(super) struct Try<'a> {
    pub scrip: &'a Scrip,
    pub transaction: Rc<Transaction>,
    /// The depth of the transaction in the cascade.
    pub depth: u32,
    pub tried: Tried,
}

impl Try<'_> {
    /// The cause of everything that the scrip changes.
    pub fn cause(&self) -> Cause {
        Cause {
            transaction: Some(self.transaction.id),
            scrip: Some(self.scrip.version_id),
            depth: self.depth + 1,
        }
    }
}

/// The outcome of the prepare phase of one scrip.
pub(super) struct Considered<'a> {
    pub verdict: Verdict,
    pub why: Why,
    /// The effects of a scrip on trial.
    pub would: Vec<Value>,
    pub act: Option<Act<'a>>,
}

/// A step of the commit phase.
pub(super) enum Act<'a> {
    /// Carries out the action.
    CarryOut(Intent<'a>),
    /// Writes a SystemError into the ticket's history: a reason code and a message.
    Report(&'static str, String),
}

impl<'a> Progress<'a> {
    pub fn new(draft: Draft<'a>) -> Self {
        let canonical = Canonical::new(draft.context.now);
        Self {
            draft,
            evaluations: Vec::new(),
            deliveries: Vec::new(),
            canonical,
            mailed: HashSet::new(),
            fired: 0,
            shadows: 0,
            rendered: 0,
            steps: Steps::new(WORK_MAX),
            trials: Steps::new(TRIALS_MAX),
            tripped: BTreeSet::new(),
        }
    }

    /// The steps that a scrip takes from.
    pub fn steps_of(&self, scrip: &Scrip) -> &Steps {
        if scrip.state == State::Shadow { &self.trials } else { &self.steps }
    }

    /// Returns the steps of work that the request has taken so far.
    pub fn work(&self) -> u64 {
        (WORK_MAX - self.steps.left()) + (TRIALS_MAX - self.trials.left())
    }

    /// Returns the budget that stops a scrip before its action is prepared, if one is used up.
    pub fn exhausted(&self, one: &Try<'_>, is_shadow: bool) -> Option<Budget> {
        let is_too_deep = self.draft.context.depth >= EXTERNAL_DEPTH_MAX;
        let budgets = [
            (self.steps_of(one.scrip).are_used_up(), if is_shadow { Budget::Trials } else { Budget::Work }),
            (is_shadow && self.shadows >= SHADOWS_MAX, Budget::Shadows),
            (one.depth >= CASCADE_DEPTH_MAX, Budget::Depth),
            (is_too_deep && one.scrip.action.is_external(), Budget::External),
            (self.fired >= FIRED_MAX, Budget::Fired),
        ];
        budgets.into_iter().find_map(|(is_used_up, budget)| is_used_up.then_some(budget))
    }

    /// Whether the request has created as many deliveries as it may.
    pub fn has_all_deliveries(&self) -> bool {
        self.deliveries.len() >= DELIVERIES_MAX
    }

    /// Stops a scrip. The first stop by each budget is reported in the ticket's history.
    pub fn stop(&mut self, one: &Try<'a>, why: Why, budget: Budget) -> Considered<'a> {
        let sentence = match budget {
            Budget::Depth => format!("{}: {}", budget.sentence(), self.chain(one)),
            _ => format!("{}; the next scrip was {}", budget.sentence(), one.scrip.name),
        };
        let act = self.tripped.insert(budget).then(|| Act::Report("stopped", sentence.clone()));
        let why = why.with_action("budget", sentence);
        Considered { verdict: Verdict::Stopped, why, would: Vec::new(), act }
    }

    /// The names of the scrips in the cascade that ends here: "A -> B -> A".
    fn chain(&self, one: &Try<'_>) -> String {
        let mut names = vec![one.scrip.name.as_str()];
        let mut at = Some(one.transaction.as_ref());
        while let Some(transaction) = at
            && let Some(scrip) =
                transaction.scrip_version.and_then(|version| self.draft.catalog.scrip_of_version(version))
            && names.len() <= CASCADE_DEPTH_MAX as usize
        {
            names.push(&scrip.name);
            at = self.draft.transactions.iter().find(|cause| Some(cause.id) == transaction.caused_by);
        }
        names.reverse();
        names.join(" -> ")
    }

    /// Changes an evaluation whose action is being committed.
    pub fn amend(&mut self, index: usize, change: impl FnOnce(&mut Evaluation)) {
        if let Some(evaluation) = self.evaluations.get_mut(index) {
            change(evaluation);
        }
    }
}
