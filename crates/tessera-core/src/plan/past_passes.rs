//! The passes of a request that was written. Plans are not stored, so they are worked out from the ticket's history.

use super::passes::Pass;
use crate::models::{Transaction, TransactionId};
use crate::scrip::evaluation::{Evaluation, Stage};
use std::collections::{HashMap, HashSet};

/// Returns the passes that `prepare` ran for a request: the same as in its plan.
///
/// `transactions` are the numbered transactions of the request in order, `evaluations` those that were kept. Without
/// the evaluations of the batch pass, its changes cannot be distinguished from those before it.
pub fn past_passes(transactions: &[Transaction], evaluations: &[Evaluation]) -> Vec<Pass> {
    let history = History::of(transactions, evaluations);
    let each = transactions.iter().enumerate().filter(|(_, one)| one.starts_pass());
    let create = |(at, one): (usize, &Transaction)| Pass {
        stage: Stage::TransactionCreate,
        transaction: Some(one.id),
        transactions_before: history.before_pass_of(at, one),
    };
    let batch = Pass {
        stage: Stage::TransactionBatch,
        transaction: None,
        transactions_before: transactions.iter().filter(|one| !history.is_late(one)).count(),
    };
    let (late, early): (Vec<_>, Vec<_>) = each.partition(|(_, one)| history.is_late(one));
    early.into_iter().map(create).chain([batch]).chain(late.into_iter().map(create)).collect()
}

struct History<'d> {
    transactions: &'d [Transaction],
    place: HashMap<TransactionId, usize>,
    /// Transactions that scrips of the batch pass added.
    of_batch: HashSet<TransactionId>,
    /// Those, and everything caused by them: all of it was added after the batch pass.
    late: HashSet<TransactionId>,
}

impl<'d> History<'d> {
    fn of(transactions: &'d [Transaction], evaluations: &[Evaluation]) -> Self {
        let place = transactions.iter().enumerate().map(|(at, one)| (one.id, at)).collect();
        let of_batch: HashSet<TransactionId> = evaluations
            .iter()
            .filter(|evaluation| evaluation.stage == Stage::TransactionBatch)
            .flat_map(|evaluation| evaluation.transactions.iter().copied())
            .collect();
        let mut late: HashSet<TransactionId> = HashSet::new();
        for one in transactions {
            if of_batch.contains(&one.id) || one.caused_by.is_some_and(|cause| late.contains(&cause)) {
                late.insert(one.id);
            }
        }
        Self { transactions, place, of_batch, late }
    }

    fn is_late(&self, one: &Transaction) -> bool {
        self.late.contains(&one.id)
    }

    /// The number of transactions that existed when the pass of the transaction at `at` began.
    fn before_pass_of(&self, at: usize, transaction: &Transaction) -> usize {
        let is_late = self.is_late(transaction);
        let existed = |one: &Transaction| match self.is_late(one) {
            true => is_late && (self.of_batch.contains(&one.id) || self.was_caused_before(one, at)),
            false => is_late || self.was_caused_before(one, at),
        };
        // Transactions are only ever appended.
        self.transactions.iter().rposition(existed).map_or(0, |last| last + 1)
    }

    /// Whether a transaction was added by a pass before that of the transaction at `at`, or by the request.
    fn was_caused_before(&self, one: &Transaction, at: usize) -> bool {
        // A derived transaction is added together with its cause.
        let place_of_cause =
            |one: &Transaction| one.caused_by.and_then(|cause| self.place.get(&cause).copied());
        let origin = place_of_cause(one).filter(|_| one.derived).and_then(|at| self.transactions.get(at));
        place_of_cause(origin.unwrap_or(one)).is_none_or(|cause| cause < at)
    }
}
