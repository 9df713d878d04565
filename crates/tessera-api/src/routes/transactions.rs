//! Why a line of history is there: its causes, back to the person who asked.

use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Explain, Name, Params};
use crate::views::{ScripConsidered, ScripRef, Transaction};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tessera_core::db::history::{self, Recorded, Request};
use tessera_core::error::Error;
use tessera_core::models::{RequestId, TicketId, TransactionId};
use tessera_core::plan::explain::{Done, bystanders};
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
    /// With `explain=all`, every other scrip with what kept it out; only at the outermost.
    #[serde(skip_serializing_if = "Option::is_none")]
    explained: Option<Explained>,
    /// The request and who asked; only at the outermost.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestView>,
}

/// Scrips of which nothing was kept, worked out anew with the configuration of today.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explained {
    /// The version of the configuration of today.
    config_version: i64,
    /// Whether the request was planned with that version. If not, a scrip may have been another one then, and this says
    /// what would keep it out today.
    is_as_planned: bool,
    /// Whether the verdicts that a request keeps are still there. If not, scrips whose condition holds are left out, as
    /// nobody can tell what became of them.
    is_kept: bool,
    /// The scrips, each `not_applicable`.
    scrips_considered: Vec<ScripConsidered>,
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
#[utoipa::path(get, path = "/api/transactions/{id}/why", operation_id = "whyTransaction", tag = "tickets",
    params(("id" = Uuid, Path, description = "The transaction."), Explain), responses(
    (status = 200, body = Why, description = "Its causes."),
    (status = 404, body = ProblemDocument, description = "There is none.")
))]
pub async fn why(
    State(app): State<App>,
    Name(word): Name,
    Params(Explain { explain }): Params<Explain>,
) -> Result<Json<Why>> {
    let id = Uuid::parse_str(&word).map_err(|_| Error::not_found("transaction", &word))?;
    let pool = &app.tessera.pools().read;
    let chain = history::causes(pool, TransactionId(id)).await?;
    let (ticket, first) = chain
        .first()
        .map(|first| (first.ticket, first.request))
        .ok_or_else(|| Error::not_found("transaction", id))?;
    let request = history::request(pool, first).await?;
    let explained = match explain {
        Some(_) => Some(explained(&app, ticket, &request).await?),
        None => None,
    };
    let evaluations = request.evaluations.unwrap_or_default();
    let mut why = None;
    for recorded in chain.into_iter().rev() {
        why = Some(Box::new(link(recorded, &evaluations, why)));
    }
    let mut why = why.ok_or_else(|| Error::not_found("transaction", id))?;
    why.evaluations = evaluations.into_iter().map(ScripConsidered::from).collect();
    why.explained = explained;
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
    let evaluation = evaluations.iter().find(made).cloned().map(ScripConsidered::from);
    let scrip = recorded.scrip.clone().map(|(id, name, version)| ScripRef { id, name, version });
    let scrip = scrip.or_else(|| evaluation.as_ref().map(|evaluation| evaluation.scrip.clone()));
    Why {
        transaction: recorded.into(),
        scrip,
        evaluation,
        caused_by,
        evaluations: Vec::new(),
        explained: None,
        request: None,
    }
}

/// What kept the other scrips out of a request, by what is recorded of it and the configuration of today.
async fn explained(app: &App, ticket: TicketId, request: &Request) -> Result<Explained> {
    let pool = &app.tessera.pools().read;
    let catalog = app.tessera.fresh_catalog().await?;
    let past = history::past(pool, ticket, request).await?;
    let actor = past.people.get(request.actor_id).ok_or_else(|| Error::not_found("user", &request.actor))?;
    let done = Done {
        actor,
        channel: &request.channel,
        now: request.created_at,
        people: &past.people,
        before: past.before.as_ref(),
        transactions: &past.transactions,
        evaluations: request.evaluations.as_deref().unwrap_or_default(),
    };
    Ok(Explained {
        config_version: catalog.version,
        is_as_planned: catalog.version == request.config_version,
        is_kept: request.evaluations.is_some(),
        scrips_considered: bystanders(&catalog, done).into_iter().map(ScripConsidered::from).collect(),
    })
}
