//! The causes of a line of history, back to the person who asked.

use super::Recorded;
use crate::db::history::{self, Past, Request};
use crate::desk::{Caller, Tessera};
use crate::error::{Error, Result};
use crate::models::{TransactionId, User};
use crate::plan::explain::{Bystander, Done, bystanders};
use crate::plan::{Catalog, past_passes};
use std::sync::Arc;

/// A transaction with everything that led to it.
#[derive(Debug)]
pub struct Causes {
    /// The transaction and, one after the other, what caused it; never empty.
    pub chain: Vec<Recorded>,
    /// The request of the transaction, with the evaluations that are kept.
    pub request: Request,
    /// With `explain`, what the request did, to explain the scrips without an evaluation.
    pub explained: Option<Explained>,
}

/// A past request with the configuration of today.
#[derive(Debug)]
pub struct Explained {
    catalog: Arc<Catalog>,
    past: Past,
    actor: User,
}

impl Tessera {
    /// Reads why a transaction exists. With `explain`, also what kept out the scrips that left no evaluation.
    ///
    /// # Errors
    /// `not_found`; those of the database.
    pub async fn why(&self, _caller: &Caller, transaction: TransactionId, explain: bool) -> Result<Causes> {
        let pool = &self.pools.read;
        let chain = history::causes(pool, transaction).await?;
        let first = chain.first().ok_or_else(|| Error::not_found("transaction", transaction))?;
        let request = history::request(pool, first.request).await?;
        let explained = if explain {
            let catalog = self.fresh_catalog().await?;
            let past = history::past(pool, first.ticket, &request).await?;
            let actor = past.people.get(request.actor_id).cloned();
            let actor = actor.ok_or_else(|| Error::not_found("user", &request.actor))?;
            Some(Explained { catalog, past, actor })
        } else {
            None
        };
        Ok(Causes { chain, request, explained })
    }
}

impl Explained {
    /// The version of the configuration with which the scrips are explained.
    pub fn config_version(&self) -> i64 {
        self.catalog.version
    }

    /// The scrips that left no evaluation in `request`, each with what kept it out.
    pub fn bystanders(&self, request: &Request) -> Vec<Bystander<'_>> {
        let evaluations = request.evaluations.as_deref().unwrap_or_default();
        let done = Done {
            actor: &self.actor,
            channel: &request.channel,
            now: request.created_at,
            people: &self.past.people,
            before: self.past.before.as_ref(),
            transactions: &self.past.transactions,
            evaluations,
            passes: &past_passes(&self.past.transactions, evaluations),
        };
        bystanders(&self.catalog, done)
    }
}
