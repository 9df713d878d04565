//! The causes of a transaction, back to the request that started it.

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
    /// The transaction, followed by its cause, the cause of that, and so on; never empty.
    pub chain: Vec<Recorded>,
    /// The request of the transaction, with the stored evaluations.
    pub request: Request,
    /// With `explain`: the effects of the request, to explain the scrips without an evaluation.
    pub explained: Option<Explained>,
}

/// A past request with the current configuration.
#[derive(Debug)]
pub struct Explained {
    catalog: Arc<Catalog>,
    past: Past,
    actor: User,
}

impl Tessera {
    /// Reads the causes of a transaction. With `explain`, also the reasons why scrips without an evaluation did not run.
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
    /// Returns the version of the configuration with which the scrips are explained.
    pub fn config_version(&self) -> i64 {
        self.catalog.version
    }

    /// Returns the scrips without an evaluation in `request`, each with the reason why it did not run.
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
