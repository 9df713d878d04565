//! The causes of a transaction, back to the person who made the request.

use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Authenticated, Explain, Name, Params};
use crate::views::{ScripConsidered, ScripRef, Transaction};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tessera_core::desk::reads::{Causes, Recorded};
use tessera_core::error::Error;
use tessera_core::models::{RequestId, TransactionId};
use tessera_core::scrip::evaluation::Evaluation;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// A transaction with its causes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Why {
    /// The transaction.
    transaction: Transaction,
    /// The scrip that made it, at that version.
    scrip: Option<ScripRef>,
    /// The evaluation of that scrip; null if no scrip made the transaction or the evaluation is no longer stored.
    evaluation: Option<ScripConsidered>,
    /// The transaction that caused it, with its own causes.
    #[schema(no_recursion)]
    caused_by: Option<Box<Why>>,
    /// Every stored evaluation of the request; only on the outermost object.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    evaluations: Vec<ScripConsidered>,
    /// With `explain=all`, every other scrip with the reason that it was not considered; only on the outermost object.
    #[serde(skip_serializing_if = "Option::is_none")]
    explained: Option<Explained>,
    /// The request; only on the outermost object.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestView>,
}

/// Scrips without a stored evaluation, evaluated again with the current configuration.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explained {
    /// The current version of the configuration.
    config_version: i64,
    /// Whether the request was planned with that version. If not, a scrip may have been different then, and the result shows
    /// what would keep it out now.
    is_as_planned: bool,
    /// Whether the evaluations of the request are still stored. If not, scrips whose condition holds are left out, because their
    /// outcome is unknown.
    is_kept: bool,
    /// The scrips, each `not_applicable`.
    scrips_considered: Vec<ScripConsidered>,
}

/// A request to change a ticket.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequestView {
    /// Its id.
    #[schema(value_type = Uuid)]
    id: RequestId,
    /// The username of the actor.
    actor: String,
    /// `rest`, `grpc` or `cli`.
    channel: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// The hash of its plan.
    plan_hash: String,
    /// The version of the configuration that it was planned with.
    config_version: i64,
}

/// Explains why a transaction exists: the chain of transactions and scrips that led to it, back to the request and its actor.
#[utoipa::path(get, path = "/api/transactions/{id}/why", operation_id = "whyTransaction", tag = "tickets",
    params(("id" = Uuid, Path, description = "The transaction."), Explain), responses(
    (status = 200, body = Why, description = "The transaction with its causes."),
    (status = 404, body = ProblemDocument, description = "The transaction does not exist.")
))]
pub async fn why(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Name(word): Name,
    Params(Explain { explain }): Params<Explain>,
) -> Result<Json<Why>> {
    let missing = || Error::not_found("transaction", &word);
    let id = Uuid::parse_str(&word).map_err(|_| missing())?;
    let causes = app.tessera.why(&caller, TransactionId(id), explain.is_some()).await?;
    Ok(Json(Why::of(causes).ok_or_else(missing)?))
}

impl Why {
    /// The outermost link of the chain, with everything that only it has.
    fn of(causes: Causes) -> Option<Self> {
        let Causes { chain, request, explained } = causes;
        let explained = explained.map(|explained| Explained {
            config_version: explained.config_version(),
            is_as_planned: explained.config_version() == request.config_version,
            is_kept: request.evaluations.is_some(),
            scrips_considered: explained
                .bystanders(&request)
                .into_iter()
                .map(ScripConsidered::from)
                .collect(),
        });
        let evaluations = request.evaluations.unwrap_or_default();
        let mut why = None;
        for recorded in chain.into_iter().rev() {
            why = Some(Box::new(link(recorded, &evaluations, why)));
        }
        let why = *why?;
        Some(Self {
            evaluations: evaluations.into_iter().map(ScripConsidered::from).collect(),
            explained,
            request: Some(RequestView {
                id: request.id,
                actor: request.actor,
                channel: request.channel,
                created_at: request.created_at,
                plan_hash: request.plan_hash.iter().map(|byte| format!("{byte:02x}")).collect(),
                config_version: request.config_version,
            }),
            ..why
        })
    }
}

/// One link of the chain. The outcome of a delivery belongs to the scrip that queued the delivery.
fn link(recorded: Recorded, evaluations: &[Evaluation], caused_by: Option<Box<Why>>) -> Why {
    let delivery =
        recorded.data.get("delivery").and_then(|id| id.as_str()).and_then(|id| Uuid::parse_str(id).ok());
    let made = |evaluation: &&Evaluation| {
        evaluation.transactions.contains(&recorded.id)
            || evaluation.deliveries.iter().any(|made| Some(made.0) == delivery)
            // A derived transaction belongs to the scrip that made the transaction it follows from.
            || (recorded.derived && recorded.caused_by.is_some_and(|cause| evaluation.transactions.contains(&cause)))
    };
    let evaluation = evaluations.iter().find(made).cloned().map(ScripConsidered::from);
    let scrip = recorded.scrip.clone().map(ScripRef::from);
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
