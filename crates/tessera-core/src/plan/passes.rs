//! Passes: the scrips of a request, run in order. One pass for each transaction, one for the batch, then one for each
//! transaction of the batch pass.

use super::Catalog;
use super::commit::commit;
use super::consider::consider;
use super::draft::Draft;
use super::progress::{Considered, Progress, Try};
use super::trial::Trial;
use super::words::Known;
use crate::models::{QueueId, Transaction, TransactionId, TransactionType};
use crate::scrip::Scrip;
use crate::scrip::condition::Tried;
use crate::scrip::evaluation::{Evaluation, Stage};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// A pass: the scrips of a stage, tried on one snapshot of the ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// The stage of the scrips that were candidates.
    pub stage: Stage,
    /// The transaction that they were tried on; `None` for the batch, which is every transaction of the snapshot.
    pub transaction: Option<TransactionId>,
    /// The snapshot, as the number of the plan's transactions that it contains. The ticket is the one before the request with
    /// these applied.
    pub transactions_before: usize,
}

/// Runs all passes of a request. Returns what they did, and a record of each.
pub(super) fn run(draft: Draft<'_>) -> (Progress<'_>, Vec<Pass>) {
    let mut passes =
        Passes { progress: Progress::new(draft), work: VecDeque::new(), seen: 0, record: Vec::new() };
    passes.run_each();
    passes.run_batch();
    passes.run_each();
    (passes.progress, passes.record)
}

struct Passes<'a> {
    progress: Progress<'a>,
    /// The positions of the transactions that are waiting for their pass, first in, first out.
    work: VecDeque<usize>,
    /// The number of transactions that were put into `work` or start no pass.
    seen: usize,
    record: Vec<Pass>,
}

impl<'a> Passes<'a> {
    /// Runs one pass for each transaction, including those that scrips add. The depth of the cascade bounds the loop.
    fn run_each(&mut self) {
        self.enqueue();
        while let Some(index) = self.work.pop_front() {
            let draft = &self.progress.draft;
            let Some(transaction) = draft.transactions.get(index).cloned().map(Rc::new) else {
                continue;
            };
            let depth = draft.depths.get(index).copied().unwrap_or_default();
            let (catalog, queue) = (draft.catalog, draft.ticket.queue);
            let candidates =
                catalog.candidates(queue, Stage::TransactionCreate, transaction.transaction_type);
            let scrips = candidates.iter().map(|candidate| candidate.scrip.as_ref());
            self.pass(Stage::TransactionCreate, Some(transaction.id), scrips, |this, scrip| {
                let tried = this.tried(scrip, &transaction, std::slice::from_ref(&transaction));
                Some(Try { scrip, transaction: Rc::clone(&transaction), depth, tried })
            });
            self.enqueue();
        }
    }

    fn enqueue(&mut self) {
        let transactions = &self.progress.draft.transactions;
        let new = transactions.iter().enumerate().skip(self.seen);
        self.work.extend(new.filter(|(_, transaction)| transaction.starts_pass()).map(|(index, _)| index));
        self.seen = transactions.len();
    }

    /// Runs one pass over the whole batch. Each scrip is tried on the transactions in order, and runs for the first match.
    fn run_batch(&mut self) {
        let draft = &self.progress.draft;
        let batch: Vec<(Rc<Transaction>, u32)> = draft
            .transactions
            .iter()
            .zip(draft.depths.iter().copied())
            .filter(|(transaction, _)| transaction.starts_pass())
            .map(|(transaction, depth)| (Rc::new(transaction.clone()), depth))
            .collect();
        let scrips = batch_candidates(draft.catalog, draft.ticket.queue, &batch);
        self.pass(Stage::TransactionBatch, None, scrips, |this, scrip| {
            let mut tried = batch
                .iter()
                .filter(|(transaction, _)| scrip.applicable.contains(&transaction.transaction_type));
            let first = tried.next()?;
            let try_on = |one: &Rc<Transaction>| this.tried(scrip, one, &this.progress.draft.transactions);
            let mut choice = (first, try_on(&first.0));
            while !choice.1.is_settled()
                && let Some(next) = tried.next()
            {
                let tried = try_on(&next.0);
                if tried.is_settled() {
                    choice = (next, tried);
                }
            }
            let ((transaction, depth), tried) = choice;
            Some(Try { scrip, transaction: Rc::clone(transaction), depth: *depth, tried })
        });
    }

    /// Tries a scrip's condition on a transaction and the current ticket. CHANGED refers to `changes`.
    fn tried(&self, scrip: &Scrip, transaction: &Transaction, changes: &[Transaction]) -> Tried {
        let Draft { catalog, situation, context, ticket, .. } = &self.progress.draft;
        let trial = Trial {
            catalog,
            ticket,
            is_new: situation.is_new(),
            people: &situation.people,
            actor: &context.actor,
            channel: context.channel,
            now: context.now,
        };
        trial.of(scrip, transaction, changes, self.progress.steps_of(scrip))
    }

    /// Prepares all scrips of a pass against one snapshot, then commits them in the same order. A scrip that uses up the steps of
    /// the request is the last one that is considered; those on trial have steps of their own.
    fn pass(
        &mut self,
        stage: Stage,
        transaction: Option<TransactionId>,
        scrips: impl IntoIterator<Item = &'a Scrip>,
        try_on: impl Fn(&Self, &'a Scrip) -> Option<Try<'a>>,
    ) {
        let transactions_before = self.progress.draft.transactions.len();
        self.record.push(Pass { stage, transaction, transactions_before });
        let mut acts = Vec::new();
        let (mut known, mut of) = (Known::default(), None);
        for scrip in scrips {
            if self.progress.steps_of(scrip).are_used_up() {
                continue;
            }
            let Some(one) = try_on(self, scrip) else { continue };
            if of.replace(one.transaction.id) != Some(one.transaction.id) {
                known = Known::default();
            }
            let index = self.progress.evaluations.len();
            let Considered { verdict, why, would, act } = consider(&mut self.progress, &one, &known);
            self.progress.evaluations.push(Evaluation {
                scrip: one.scrip.id,
                name: one.scrip.name.clone(),
                version: one.scrip.version,
                version_id: one.scrip.version_id,
                stage,
                action_type: one.scrip.action.action_type.name.to_owned(),
                transaction: one.transaction.id,
                verdict,
                why,
                deliveries: Vec::new(),
                transactions: Vec::new(),
                would,
            });
            acts.extend(act.map(|act| (index, one, act)));
        }
        for (index, one, act) in acts {
            commit(&mut self.progress, index, &one, act);
        }
    }
}

/// Returns the scrips of the batch stage that are candidates for any of the transactions, in their order.
fn batch_candidates<'a>(
    catalog: &'a Catalog,
    queue: QueueId,
    batch: &[(Rc<Transaction>, u32)],
) -> Vec<&'a Scrip> {
    let kinds: BTreeSet<TransactionType> =
        batch.iter().map(|(transaction, _)| transaction.transaction_type).collect();
    let candidates =
        kinds.into_iter().flat_map(|kind| catalog.candidates(queue, Stage::TransactionBatch, kind));
    let ordered: BTreeMap<_, _> = candidates
        .map(|candidate| ((candidate.sort_order, candidate.scrip.id), candidate.scrip.as_ref()))
        .collect();
    ordered.into_values().collect()
}
