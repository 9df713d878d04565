//! Explain: why a scrip was not even tried on what a request did; computed when somebody asks for all of it.

use super::Catalog;
use crate::models::{Change, QueueId, Ticket, Transaction, TransactionId, TransactionType};
use crate::scrip::evaluation::{Evaluation, Stage, Why};
use crate::scrip::{Scrip, State};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap, HashSet};

/// What a request did, as its plan has it or as it is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Done<'d> {
    /// The ticket before; `None` for a create.
    pub before: Option<&'d Ticket>,
    /// The numbered transactions, in order.
    pub transactions: &'d [Transaction],
    /// What is known of the scrips that were tried.
    pub evaluations: &'d [Evaluation],
}

/// A scrip of which a request has no evaluation.
#[derive(Debug)]
pub struct Bystander<'c> {
    /// The scrip, as the catalog has it.
    pub scrip: &'c Scrip,
    /// The stage of its attachment.
    pub stage: Stage,
    /// The transaction that its condition was tried on now; `None` where it was no candidate for any.
    pub transaction: Option<TransactionId>,
    /// The gates that it must pass to be a candidate, or the condition that does not hold.
    pub why: Why,
}

/// Every scrip of the catalog of which there is no evaluation, by id, with the reason. A scrip whose condition holds and
/// of which nothing is known is left out: what became of it cannot be told afterwards.
pub fn bystanders<'c>(catalog: &'c Catalog, done: Done<'_>) -> Vec<Bystander<'c>> {
    let known: HashSet<_> = done.evaluations.iter().map(|evaluation| evaluation.scrip).collect();
    let passes = passes(done);
    let others = catalog.scrips.iter().filter(|scrip| !known.contains(&scrip.id));
    others.filter_map(|scrip| explain(catalog, scrip, &passes)).collect()
}

/// A stage's look at one transaction, in the queue where the ticket was then.
struct Pass<'d> {
    stage: Stage,
    queue: QueueId,
    transaction: &'d Transaction,
}

/// The passes that `prepare` made: one for each transaction, and the batch's over all that there were before it.
fn passes(done: Done<'_>) -> Vec<Pass<'_>> {
    let place: HashMap<TransactionId, usize> =
        done.transactions.iter().enumerate().map(|(at, transaction)| (transaction.id, at)).collect();
    let of_batch: HashSet<TransactionId> = done
        .evaluations
        .iter()
        .filter(|evaluation| evaluation.stage == Stage::TransactionBatch)
        .flat_map(|evaluation| evaluation.transactions.iter().copied())
        .collect();
    // What the batch made, and what followed from that, came after the batch.
    let mut late: HashSet<TransactionId> = HashSet::new();
    for transaction in done.transactions {
        if of_batch.contains(&transaction.id)
            || transaction.caused_by.is_some_and(|cause| late.contains(&cause))
        {
            late.insert(transaction.id);
        }
    }
    let queue_when = |is_there: &dyn Fn(&Transaction) -> bool| {
        let moves = done.transactions.iter().filter(|transaction| is_there(transaction));
        moves.filter_map(queue_after).next_back().or(done.before.map(|ticket| ticket.queue))
    };
    let followed = |made: &Transaction, at: usize| {
        made.caused_by.is_none_or(|cause| place.get(&cause).is_none_or(|cause| *cause < at))
    };
    let mut passes = Vec::new();
    let starting = done.transactions.iter().enumerate().filter(|(_, one)| one.starts_pass());
    for (at, transaction) in starting {
        let is_late = late.contains(&transaction.id);
        let queue = queue_when(&|made| match late.contains(&made.id) {
            true => is_late && (of_batch.contains(&made.id) || followed(made, at)),
            false => is_late || followed(made, at),
        });
        passes.extend(queue.map(|queue| Pass { stage: Stage::TransactionCreate, queue, transaction }));
        if !is_late {
            let queue = queue_when(&|made| !late.contains(&made.id));
            passes.extend(queue.map(|queue| Pass { stage: Stage::TransactionBatch, queue, transaction }));
        }
    }
    passes
}

fn queue_after(transaction: &Transaction) -> Option<QueueId> {
    match &transaction.change {
        Change::Create(ticket) => Some(ticket.queue),
        Change::Queue { new, .. } => Some(*new),
        _ => None,
    }
}

fn explain<'c>(catalog: &Catalog, scrip: &'c Scrip, passes: &[Pass<'_>]) -> Option<Bystander<'c>> {
    let home = passes.iter().find_map(|pass| scrip.attachment_in(pass.queue));
    let stage = home.or(scrip.attachments.first()).map(|attachment| attachment.stage).unwrap_or_default();
    let (is_open, gates) = gates(catalog, scrip, stage, passes);
    let tried: Vec<&Transaction> = passes
        .iter()
        .filter(|pass| is_open && fits(scrip, pass))
        .filter(|pass| scrip.attachment_in(pass.queue).is_some_and(|at| at.stage == pass.stage))
        .map(|pass| pass.transaction)
        .collect();
    let Some(first) = tried.first() else {
        let why = if is_open {
            // Each gate was open in some pass; what is missing is one where all were.
            let apart = Why::leaf("pass", "one in which all of this holds", Value::Null, false);
            Why::all([gates, vec![apart]].concat())
        } else {
            Why::all(gates)
        };
        return Some(Bystander { scrip, stage, transaction: None, why });
    };
    let is_met = tried.iter().any(|transaction| scrip.condition.evaluate(transaction).result);
    let why = scrip.condition.evaluate(first);
    (!is_met).then_some(Bystander { scrip, stage, transaction: Some(first.id), why })
}

fn fits(scrip: &Scrip, pass: &Pass<'_>) -> bool {
    scrip.applicable.contains(&pass.transaction.transaction_type)
}

/// What makes a scrip a candidate, each with what was expected and found; nothing is hidden by short-circuit.
fn gates(catalog: &Catalog, scrip: &Scrip, stage: Stage, passes: &[Pass<'_>]) -> (bool, Vec<Why>) {
    let name = |queue: QueueId| {
        catalog.queues.get(queue).map_or_else(|| queue.to_string(), |queue| queue.name.clone())
    };
    let places: Option<Vec<String>> = scrip.attachments.iter().map(|at| at.queue.map(name)).collect();
    let queues: BTreeSet<String> = passes.iter().map(|pass| name(pass.queue)).collect();
    let kinds: BTreeSet<TransactionType> =
        passes.iter().map(|pass| pass.transaction.transaction_type).collect();
    // The stage is asked of the passes whose type fits, where there are any.
    let fitting = passes.iter().any(|pass| fits(scrip, pass));
    let stages: BTreeSet<Stage> =
        passes.iter().filter(|pass| !fitting || fits(scrip, pass)).map(|pass| pass.stage).collect();
    let gates = vec![
        Why::leaf(
            "scrip.state",
            json!([State::Enabled, State::Shadow]),
            scrip.state.as_str(),
            scrip.state != State::Disabled,
        ),
        Why::leaf(
            "ticket.queue",
            places.map_or_else(|| json!("any"), |places| json!(places)),
            json!(queues),
            passes.iter().any(|pass| scrip.attachment_in(pass.queue).is_some()),
        ),
        Why::leaf("transaction.type", json!(scrip.applicable), json!(kinds), fitting),
        Why::leaf("scrip.stage", json!(stage), json!(stages), stages.contains(&stage)),
    ];
    (gates.iter().all(|gate| gate.result), gates)
}
