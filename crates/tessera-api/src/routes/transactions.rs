//! Why a line of history is there: its causes, back to the person who asked.

use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::Name;
use crate::views::{ScripConsidered, ScripRef, Transaction};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tessera_core::db::history::{self, Recorded};
use tessera_core::error::Error;
use tessera_core::models::{RequestId, TransactionId};
use tessera_core::scrip::evaluation::Evaluation;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// Why a transaction is there.
#[derive(Debug, Serialize, ToSchema)]
pub struct Why {
    /// The transaction.
    transaction: Transaction,
    /// The scrip that made it, at the version that did.
    scrip: Option<ScripRef>,
    /// What that scrip found, as it was kept; null when no scrip made it or nothing was kept.
    evaluation: Option<ScripConsidered>,
    /// The transaction that caused it, with its own causes.
    #[schema(no_recursion)]
    caused_by: Option<Box<Why>>,
    /// Every scrip that the request considered and of which something was kept; only at the outermost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    evaluations: Vec<ScripConsidered>,
    /// The request and who asked; only at the outermost.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestView>,
}

/// A request.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequestView {
    /// Its id.
    #[schema(value_type = Uuid)]
    id: RequestId,
    /// A username.
    actor: String,
    /// Through what.
    channel: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// The hash of its plan.
    plan_hash: String,
    /// The configuration it was planned with.
    config_version: i64,
}

/// Says why a transaction is there: transaction, scrip version, transaction, request, person.
#[utoipa::path(get, path = "/api/transactions/{id}/why", tag = "tickets", params(("id" = Uuid, Path, description = "The transaction.")), responses(
    (status = 200, body = Why, description = "Its causes."),
    (status = 404, body = ProblemDocument, description = "There is none.")
))]
pub async fn why(State(app): State<App>, Name(word): Name) -> Result<Json<Why>> {
    let id = Uuid::parse_str(&word).map_err(|_| Error::not_found("transaction", &word))?;
    let pool = &app.tessera.pools().read;
    let chain = history::causes(pool, TransactionId(id)).await?;
    let first =
        chain.first().map(|first| first.request).ok_or_else(|| Error::not_found("transaction", id))?;
    let request = history::request(pool, first).await?;
    let evaluations = request.evaluations.unwrap_or_default();
    let mut why = None;
    for recorded in chain.into_iter().rev() {
        why = Some(Box::new(link(recorded, &evaluations, why)));
    }
    let mut why = why.ok_or_else(|| Error::not_found("transaction", id))?;
    why.evaluations = evaluations.into_iter().map(considered).collect();
    why.request = Some(RequestView {
        id: request.id,
        actor: request.actor,
        channel: request.channel,
        created_at: request.created_at,
        plan_hash: request.plan_hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        config_version: request.config_version,
    });
    Ok(Json(*why))
}

/// One link of the chain. The outcome of a delivery was made by the scrip whose delivery it is.
fn link(recorded: Recorded, evaluations: &[Evaluation], caused_by: Option<Box<Why>>) -> Why {
    let delivery =
        recorded.data.get("delivery").and_then(|id| id.as_str()).and_then(|id| Uuid::parse_str(id).ok());
    let made = |evaluation: &&Evaluation| {
        evaluation.transactions.contains(&recorded.id)
            || evaluation.deliveries.iter().any(|made| Some(made.0) == delivery)
            // What follows by a rule of tickets was made by the scrip that made what it follows.
            || (recorded.derived && recorded.caused_by.is_some_and(|cause| evaluation.transactions.contains(&cause)))
    };
    let evaluation = evaluations.iter().find(made).cloned().map(considered);
    let scrip = recorded.scrip.clone().map(|(id, name, version)| ScripRef { id, name, version });
    let scrip = scrip.or_else(|| evaluation.as_ref().map(|evaluation| evaluation.scrip.clone()));
    Why { transaction: recorded.into(), scrip, evaluation, caused_by, evaluations: Vec::new(), request: None }
}

fn considered(evaluation: Evaluation) -> ScripConsidered {
    ScripConsidered {
        scrip: ScripRef { id: evaluation.scrip, name: evaluation.name, version: evaluation.version },
        version: evaluation.version,
        stage: evaluation.stage,
        transaction: evaluation.transaction,
        verdict: evaluation.verdict,
        why: evaluation.why,
    }
}
