//! A committed change as responses show it, whether it was just committed or is replayed for its idempotency key.

use super::Prepared;
use crate::error::{Code, Error, Result};
use crate::models::{Delivery, DeliveryId, ScripId, Ticket, Transaction, User};
use crate::plan::{Catalog, Names, People, Plan, PlanHash};
use crate::scrip::evaluation::{Evaluation, Stage, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// A committed change, with the names of everything that it refers to. The edges build their responses from it.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The change itself; a replay has the same one.
    pub summary: ChangeSummary,
    /// True if an earlier request with the same idempotency key committed the change.
    pub is_replayed: bool,
    /// The configuration, for names.
    pub(super) catalog: Arc<Catalog>,
    /// The users that the change refers to.
    pub(super) people: People,
    /// The caller.
    pub(super) actor: User,
}

impl Committed {
    /// Returns the current names behind the ids of the summary.
    pub fn names(&self) -> Names<'_> {
        Names { catalog: &self.catalog, people: &self.people, actor: Some(&self.actor) }
    }
}

/// The part of a plan that responses show. It is stored with the idempotency key, with ids instead of names, so that a replay shows
/// its caller the current names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeSummary {
    /// The ticket after the change.
    pub ticket: Ticket,
    /// The history that the change added.
    pub transactions: Vec<AddedTransaction>,
    /// The scrips that fired, were refused, failed, were stopped, or are on trial (shadow).
    pub scrips: Vec<FiredScrip>,
    /// The deliveries that the change queued.
    pub deliveries: Vec<QueuedDelivery>,
    /// The hash of the plan.
    pub plan_hash: PlanHash,
}

/// A scrip with its name and version at the time.
pub type ScripAtVersion = (ScripId, String, i32);

/// A line of history that a change added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddedTransaction {
    /// The line.
    pub transaction: Transaction,
    /// The scrip that caused it, if any.
    pub scrip: Option<ScripAtVersion>,
}

/// A scrip that had effects, or would have had them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FiredScrip {
    /// The scrip.
    pub scrip: ScripAtVersion,
    /// The stage in which it was evaluated.
    pub stage: Stage,
    /// The type of its action.
    pub action_type: String,
    /// The outcome.
    pub verdict: Verdict,
    /// The deliveries that it queued.
    pub deliveries: Vec<DeliveryId>,
    /// The effects that a scrip on trial (shadow) would have had.
    pub would: Vec<Value>,
}

/// A delivery that a change queued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueuedDelivery {
    /// The id of the delivery.
    pub id: DeliveryId,
    /// `email`, `webhook`, or the kind of a connector.
    pub kind: String,
    /// The scrip that caused it.
    pub scrip: Option<ScripAtVersion>,
    /// True if it is held because no connector has served its kind yet.
    pub is_held: bool,
}

impl ChangeSummary {
    pub(super) fn of(prepared: &Prepared) -> Self {
        let Prepared { plan, catalog, .. } = prepared;
        Self {
            ticket: plan.ticket.clone(),
            transactions: plan.transactions.iter().map(|one| AddedTransaction::of(one, catalog)).collect(),
            scrips: FiredScrip::all(&plan.evaluations),
            deliveries: plan.deliveries.iter().map(|one| QueuedDelivery::of(one, plan, catalog)).collect(),
            plan_hash: plan.hash,
        }
    }

    /// Serializes the summary, to store it with an idempotency key.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|source| Error::internal("The change could not be serialized.", source))
    }

    /// Deserializes the summary that is stored with an idempotency key.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|source| {
            let detail = "The Idempotency-Key was used before Tessera was upgraded, and the response of that request is no longer readable. \
                          Its change was committed; read the ticket, and use a new key for a new request.";
            Error::new(Code::IdempotencyKeyReused, detail).with_source(source)
        })
    }
}

impl AddedTransaction {
    /// Adds to a transaction the scrip that caused it, from the catalog of its plan.
    pub fn of(transaction: &Transaction, catalog: &Catalog) -> Self {
        let scrip = transaction.scrip_version.and_then(|version| catalog.scrip_of_version(version));
        let scrip = scrip.map(|scrip| (scrip.id, scrip.name.clone(), scrip.version));
        Self { transaction: transaction.clone(), scrip }
    }
}

impl FiredScrip {
    /// Returns the notable evaluations of a plan, in order.
    pub fn all(evaluations: &[Evaluation]) -> Vec<Self> {
        let notable = evaluations.iter().filter(|evaluation| evaluation.verdict.is_notable());
        notable
            .map(|evaluation| Self {
                scrip: scrip_of(evaluation),
                stage: evaluation.stage,
                action_type: evaluation.action_type.clone(),
                verdict: evaluation.verdict,
                deliveries: evaluation.deliveries.clone(),
                would: evaluation.would.clone(),
            })
            .collect()
    }
}

impl QueuedDelivery {
    fn of(delivery: &Delivery, plan: &Plan, catalog: &Catalog) -> Self {
        let kind = delivery.payload.kind();
        Self {
            id: delivery.id,
            scrip: plan.maker(delivery.id).map(scrip_of),
            is_held: catalog.lacks_connector(&kind),
            kind: kind.to_string(),
        }
    }
}

fn scrip_of(evaluation: &Evaluation) -> ScripAtVersion {
    (evaluation.scrip, evaluation.name.clone(), evaluation.version)
}
