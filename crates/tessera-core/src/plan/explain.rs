//! Explain: why a scrip was not even tried on what a request did; computed when somebody asks for all of it.

use super::trial::Trial;
use super::{Catalog, People};
use crate::models::{Change, QueueId, Ticket, Transaction, TransactionId, TransactionType, User, Why};
use crate::scrip::condition::Tried;
use crate::scrip::evaluation::{Evaluation, Stage};
use crate::scrip::{Scrip, State};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use time::OffsetDateTime;

/// What a request did, as its plan has it or as it is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Done<'d> {
    /// Who asked.
    pub actor: &'d User,
    /// Through what.
    pub channel: &'d str,
    /// When.
    pub now: OffsetDateTime,
    /// The users among the ticket's people.
    pub people: &'d People,
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

/// A stage's look at one transaction.
struct Pass<'d> {
    done: Done<'d>,
    stage: Stage,
    /// The ticket as it was then.
    ticket: Rc<Ticket>,
    transaction: &'d Transaction,
    /// The transactions of which CHANGED speaks.
    changes: &'d [Transaction],
}

impl Pass<'_> {
    fn queue(&self) -> QueueId {
        self.ticket.queue
    }

    /// Tries a scrip's condition as `prepare` does.
    fn tried(&self, catalog: &Catalog, scrip: &Scrip) -> Tried {
        let Self { done, ticket, .. } = self;
        let trial = Trial {
            catalog,
            ticket,
            is_new: done.before.is_none(),
            people: done.people,
            actor: done.actor,
            channel: done.channel,
            now: done.now,
        };
        trial.of(scrip, self.transaction, self.changes)
    }
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
    let followed = |made: &Transaction, at: usize| {
        // What follows by a rule of tickets is there with what it follows.
        let cause = made.caused_by.and_then(|cause| place.get(&cause));
        let made = cause.filter(|_| made.derived).and_then(|at| done.transactions.get(*at)).unwrap_or(made);
        made.caused_by.is_none_or(|cause| place.get(&cause).is_none_or(|cause| *cause < at))
    };
    let mut tickets = Tickets { done, known: BTreeMap::new() };
    let before_batch = done.transactions.iter().filter(|made| !late.contains(&made.id)).count();
    let mut passes = Vec::new();
    let starting = done.transactions.iter().enumerate().filter(|(_, one)| one.starts_pass());
    for (at, transaction) in starting {
        let is_late = late.contains(&transaction.id);
        let is_there = |made: &Transaction| match late.contains(&made.id) {
            true => is_late && (of_batch.contains(&made.id) || followed(made, at)),
            false => is_late || followed(made, at),
        };
        // Transactions only ever come at the end.
        let there = done.transactions.iter().rposition(is_there).map_or(0, |last| last + 1);
        let mut pass = |stage, there, changes| {
            let ticket = tickets.after(there)?;
            Some(Pass { done, stage, ticket, transaction, changes })
        };
        passes.extend(pass(Stage::TransactionCreate, there, std::slice::from_ref(transaction)));
        if !is_late {
            let batch = done.transactions.get(..before_batch).unwrap_or_default();
            passes.extend(pass(Stage::TransactionBatch, before_batch, batch));
        }
    }
    passes
}

/// The ticket as it was within a request.
struct Tickets<'d> {
    done: Done<'d>,
    known: BTreeMap<usize, Rc<Ticket>>,
}

impl Tickets<'_> {
    /// After so many transactions; `None` before it is made.
    fn after(&mut self, count: usize) -> Option<Rc<Ticket>> {
        if let Some(known) = self.known.get(&count) {
            return Some(Rc::clone(known));
        }
        let mut ticket = self.done.before.cloned();
        for made in self.done.transactions.iter().take(count) {
            match (&mut ticket, &made.change) {
                (Some(ticket), change) => ticket.apply(change),
                (None, Change::Create(initial)) => ticket = Some((**initial).clone()),
                (None, _) => {}
            }
        }
        let ticket = Rc::new(ticket?);
        self.known.insert(count, Rc::clone(&ticket));
        Some(ticket)
    }
}

fn explain<'c>(catalog: &Catalog, scrip: &'c Scrip, passes: &[Pass<'_>]) -> Option<Bystander<'c>> {
    let home = passes.iter().find_map(|pass| scrip.attachment_in(pass.queue()));
    let stage = home.or(scrip.attachments.first()).map(|attachment| attachment.stage).unwrap_or_default();
    let (is_open, gates) = gates(catalog, scrip, stage, passes);
    let tried: Vec<&Pass<'_>> = passes
        .iter()
        .filter(|pass| is_open && fits(scrip, pass))
        .filter(|pass| scrip.attachment_in(pass.queue()).is_some_and(|at| at.stage == pass.stage))
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
    let why = first.tried(catalog, scrip).why;
    let is_met = why.result || tried.iter().skip(1).any(|pass| pass.tried(catalog, scrip).why.result);
    (!is_met).then_some(Bystander { scrip, stage, transaction: Some(first.transaction.id), why })
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
    let queues: BTreeSet<String> = passes.iter().map(|pass| name(pass.queue())).collect();
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
            passes.iter().any(|pass| scrip.attachment_in(pass.queue()).is_some()),
        ),
        Why::leaf("transaction.type", json!(scrip.applicable), json!(kinds), fitting),
        Why::leaf("scrip.stage", json!(stage), json!(stages), stages.contains(&stage)),
    ];
    (gates.iter().all(|gate| gate.result), gates)
}
