//! Explain: why a scrip was not a candidate in any pass of a request. Computed on demand.

use super::passes::Pass;
use super::trial::Trial;
use super::{Catalog, People, WORK_MAX};
use crate::models::{Change, QueueId, Steps, Ticket, Transaction, TransactionId, TransactionType, User, Why};
use crate::scrip::condition::Tried;
use crate::scrip::evaluation::{Evaluation, Stage};
use crate::scrip::{Scrip, State};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use time::OffsetDateTime;

/// The effects of a request, from its plan or from the database.
#[derive(Debug, Clone, Copy)]
pub struct Done<'d> {
    /// The user who made the request.
    pub actor: &'d User,
    /// The channel of the request, for example `rest`.
    pub channel: &'d str,
    /// The time of the request.
    pub now: OffsetDateTime,
    /// The users among the ticket's people.
    pub people: &'d People,
    /// The ticket before; `None` for a create.
    pub before: Option<&'d Ticket>,
    /// The numbered transactions, in order.
    pub transactions: &'d [Transaction],
    /// The evaluations, as far as they are known.
    pub evaluations: &'d [Evaluation],
    /// The passes in order: those of the plan, or those that the history of a written request gives.
    pub passes: &'d [Pass],
}

/// A scrip without an evaluation in a request.
#[derive(Debug)]
pub struct Bystander<'c> {
    /// The scrip, as it is in the catalog.
    pub scrip: &'c Scrip,
    /// The stage of its attachment.
    pub stage: Stage,
    /// The transaction that its condition was tried on now; `None` if it was not a candidate for any.
    pub transaction: Option<TransactionId>,
    /// The requirements for a candidate, or the condition that does not hold.
    pub why: Why,
}

/// Returns every scrip of the catalog without an evaluation, by id, with the reason. A scrip whose condition holds now is
/// left out: its evaluation existed, but was not kept. Conditions are tried until [`WORK_MAX`] steps are used up.
pub fn bystanders<'c>(catalog: &'c Catalog, done: Done<'_>) -> Vec<Bystander<'c>> {
    let known: HashSet<_> = done.evaluations.iter().map(|evaluation| evaluation.scrip).collect();
    let looks = looks(done);
    let left = Steps::new(WORK_MAX);
    let others = catalog.scrips.iter().filter(|scrip| !known.contains(&scrip.id));
    others.filter_map(|scrip| explain(catalog, scrip, &looks, &left)).collect()
}

/// One transaction in one pass.
struct Look<'d> {
    done: Done<'d>,
    stage: Stage,
    /// The snapshot of the pass.
    ticket: Rc<Ticket>,
    transaction: &'d Transaction,
    /// The transactions that CHANGED refers to.
    changes: &'d [Transaction],
}

impl Look<'_> {
    fn queue(&self) -> QueueId {
        self.ticket.queue
    }

    fn tried(&self, catalog: &Catalog, scrip: &Scrip, left: &Steps) -> Tried {
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
        trial.of(scrip, self.transaction, self.changes, left)
    }
}

/// Returns the transactions of each pass in order: one, or all of the batch.
fn looks(done: Done<'_>) -> Vec<Look<'_>> {
    let mut tickets = Tickets { done, known: BTreeMap::new() };
    let mut looks = Vec::new();
    for pass in done.passes {
        let Some(ticket) = tickets.after(pass.transactions_before) else { continue };
        let look = |transaction, changes| Look {
            done,
            stage: pass.stage,
            ticket: Rc::clone(&ticket),
            transaction,
            changes,
        };
        match pass.transaction {
            Some(id) => {
                let found = done.transactions.iter().find(|one| one.id == id);
                looks.extend(found.map(|one| look(one, std::slice::from_ref(one))));
            }
            None => {
                let batch = done.transactions.get(..pass.transactions_before).unwrap_or_default();
                looks.extend(batch.iter().filter(|one| one.starts_pass()).map(|one| look(one, batch)));
            }
        }
    }
    looks
}

/// The ticket at points within a request.
struct Tickets<'d> {
    done: Done<'d>,
    known: BTreeMap<usize, Rc<Ticket>>,
}

impl Tickets<'_> {
    /// Returns the ticket after the first `count` transactions; `None` before it was created.
    fn after(&mut self, count: usize) -> Option<Rc<Ticket>> {
        if let Some(known) = self.known.get(&count) {
            return Some(Rc::clone(known));
        }
        let mut ticket = self.done.before.cloned();
        for one in self.done.transactions.iter().take(count) {
            match (&mut ticket, &one.change) {
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

fn explain<'c>(
    catalog: &Catalog,
    scrip: &'c Scrip,
    looks: &[Look<'_>],
    left: &Steps,
) -> Option<Bystander<'c>> {
    let home = looks.iter().find_map(|look| scrip.attachment_in(look.queue()));
    let stage = home.or(scrip.attachments.first()).map(|attachment| attachment.stage).unwrap_or_default();
    let (is_open, gates) = gates(catalog, scrip, stage, looks);
    let tried: Vec<&Look<'_>> = looks
        .iter()
        .filter(|look| is_open && fits(scrip, look))
        .filter(|look| scrip.attachment_in(look.queue()).is_some_and(|at| at.stage == look.stage))
        .collect();
    let Some(first) = tried.first() else {
        let why = if is_open {
            // Each gate was open in some pass, but no pass had all of them open.
            let apart = Why::leaf("pass", "a pass in which all of these hold", Value::Null, false);
            Why::all([gates, vec![apart]].concat())
        } else {
            Why::all(gates)
        };
        return Some(Bystander { scrip, stage, transaction: None, why });
    };
    let why = first.tried(catalog, scrip, left).why;
    let is_met = why.result || tried.iter().skip(1).any(|look| look.tried(catalog, scrip, left).why.result);
    if left.are_used_up() {
        let why = Why::leaf("budget", WORK_MAX, "used up", false);
        return Some(Bystander { scrip, stage, transaction: Some(first.transaction.id), why });
    }
    (!is_met).then_some(Bystander { scrip, stage, transaction: Some(first.transaction.id), why })
}

fn fits(scrip: &Scrip, look: &Look<'_>) -> bool {
    scrip.applicable.contains(&look.transaction.transaction_type)
}

/// Returns the requirements for a candidate, each with the expected and the actual value. All are checked, even after one
/// that does not hold.
fn gates(catalog: &Catalog, scrip: &Scrip, stage: Stage, looks: &[Look<'_>]) -> (bool, Vec<Why>) {
    let name = |queue: QueueId| {
        catalog.queues.get(queue).map_or_else(|| queue.to_string(), |queue| queue.name.clone())
    };
    let places: Option<Vec<String>> = scrip.attachments.iter().map(|at| at.queue.map(name)).collect();
    let queues: BTreeSet<String> = looks.iter().map(|look| name(look.queue())).collect();
    let kinds: BTreeSet<TransactionType> =
        looks.iter().map(|look| look.transaction.transaction_type).collect();
    // The stages are those of the passes whose type matches, if there are any.
    let fitting = looks.iter().any(|look| fits(scrip, look));
    let stages: BTreeSet<Stage> =
        looks.iter().filter(|look| !fitting || fits(scrip, look)).map(|look| look.stage).collect();
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
            looks.iter().any(|look| scrip.attachment_in(look.queue()).is_some()),
        ),
        Why::leaf("transaction.type", json!(scrip.applicable), json!(kinds), fitting),
        Why::leaf("scrip.stage", json!(stage), json!(stages), stages.contains(&stage)),
    ];
    (gates.iter().all(|gate| gate.result), gates)
}
