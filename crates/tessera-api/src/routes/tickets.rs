//! Tickets: create, read, change, preview; their messages, history and deliveries.

use super::bodies::{ContentBody, CreateBody, UpdateBody};
use crate::app::App;
use crate::error::{Problem, ProblemDocument, Result};
use crate::extract::{ApiRequest, Authenticated, Explain, Paging, Params, Segments, Ticket, limit};
use crate::views::{self, Changed, DeliveryListed, Preview, Transaction};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tessera_core::Error;
use tessera_core::desk::Outcome;
use tessera_core::models::page::Page;
use tessera_core::plan::command::UpdateTicket;
use utoipa::ToSchema;

/// Marks the response to a replayed request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Creates a ticket.
#[utoipa::path(post, path = "/api/tickets", operation_id = "createTicket", tag = "tickets",
    request_body(content = CreateBody, example = json!({ "queue": "General", "subject": "Kettle leaks", "requestors": ["eve@example.net"], "content": "It drips." })),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to retry the request."),
           ("If-Plan" = Option<String>, Header, description = "The `plan_hash` of a preview: commit exactly that plan."),
           ("Tessera-Depth" = Option<u32>, Header, maximum = 1000, description = "The length of the chain of deliveries, each caused by the one before, that led to this request; from 5 on, nothing more is sent.")),
    responses(
        (status = 201, body = Changed, description = "The ticket was created.", headers(("Location" = String, description = "The path of the ticket."))),
        (status = 409, body = ProblemDocument, description = "`transition_denied`, `plan_changed`."),
        (status = 422, body = ProblemDocument, description = "`invalid`, `idempotency_key_reused`.")
))]
pub async fn create(State(app): State<App>, request: ApiRequest<CreateBody>) -> Result<Response> {
    let ApiRequest { caller, conditions, body, .. } = request;
    let outcome = app.tessera.create(&caller, body.try_into()?, &conditions).await?;
    let number = match &outcome {
        Outcome::Committed(committed) => committed.summary.ticket.number,
        Outcome::PlanChanged(_) => None,
    };
    let mut response = respond(StatusCode::CREATED, outcome)?;
    if let Some(Ok(place)) = number.map(|number| HeaderValue::from_str(&format!("/api/tickets/{number}"))) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// Previews the creation of a ticket. Nothing else happens, and no number is drawn.
#[utoipa::path(post, path = "/api/tickets/preview", operation_id = "previewCreateTicket", tag = "tickets",
    request_body(content = CreateBody, example = json!({ "queue": "General", "subject": "Kettle leaks", "requestors": ["eve@example.net"] })),
    params(Explain, ("Tessera-Depth" = Option<u32>, Header, maximum = 1000, description = "The length of the chain of deliveries, each caused by the one before, that led to this request; from 5 on, nothing more is sent.")), responses(
    (status = 200, body = Preview, description = "The plan."),
    (status = 409, body = ProblemDocument, description = "`transition_denied` with `allowed`: the real request would fail with this error."),
    (status = 422, body = ProblemDocument, description = "`invalid`: the real request would fail with this error.")
))]
pub async fn preview_create(
    State(app): State<App>,
    Params(Explain { explain }): Params<Explain>,
    request: ApiRequest<CreateBody>,
) -> Result<Json<Preview>> {
    let prepared = app.tessera.preview_create(&request.caller, request.body.try_into()?).await?;
    Ok(Json(Preview::of(&prepared, explain)))
}

/// Reads a ticket.
#[utoipa::path(get, path = "/api/tickets/{ref}", operation_id = "getTicket", tag = "tickets", params(("ref" = String, Path, description = "Number or id.")), responses(
    (status = 200, body = views::Ticket, description = "The ticket, with its version as ETag."),
    (status = 404, body = ProblemDocument, description = "The ticket does not exist.")
))]
pub async fn get(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Ticket(ticket): Ticket,
) -> Result<Response> {
    let read = app.tessera.ticket(&caller, ticket).await?;
    let view = views::Ticket::of(&read.ticket, read.names());
    Ok(([etag(read.ticket.version)?], Json(view)).into_response())
}

/// Reads a ticket as it was after one of its transactions: its history up to there, with today's names.
#[utoipa::path(get, path = "/api/tickets/{ref}/at/{seq}", operation_id = "getTicketAt", tag = "tickets",
    params(("ref" = String, Path, description = "Number or id."),
           ("seq" = i64, Path, description = "The `seq` of the transaction, from 1 to the ticket's version.", minimum = 1)), responses(
    (status = 200, body = views::Ticket, description = "The ticket as it was."),
    (status = 404, body = ProblemDocument, description = "The ticket or the transaction does not exist; `detail` has the last `seq`."),
    (status = 409, body = ProblemDocument, description = "`limit_reached`: `seq` is above 20,000.")
))]
pub async fn at(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Segments((ticket, seq)): Segments<(String, i64)>,
) -> Result<Json<views::Ticket>> {
    let read = app.tessera.ticket_at(&caller, ticket.parse()?, seq).await?;
    Ok(Json(views::Ticket::of(&read.ticket, read.names())))
}

/// Changes a ticket: the whole request or nothing.
#[utoipa::path(patch, path = "/api/tickets/{ref}", operation_id = "updateTicket", tag = "tickets",
    request_body(content = UpdateBody, example = json!({ "status": "open", "owner": "admin", "comment": "I take it." })),
    params(("ref" = String, Path, description = "Number or id."),
           ("If-Match" = Option<String>, Header, description = "The ETag that the ticket must have."),
           ("If-Plan" = Option<String>, Header, description = "The `plan_hash` of a preview: commit exactly that plan."),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to retry the request."),
           ("Tessera-Depth" = Option<u32>, Header, maximum = 1000, description = "The length of the chain of deliveries, each caused by the one before, that led to this request; from 5 on, nothing more is sent.")),
    responses(
        (status = 200, body = Changed, description = "The ticket was changed."),
        (status = 409, body = ProblemDocument, description = "`transition_denied` with `allowed`, `no_status_map`, `plan_changed` with `plan`."),
        (status = 412, body = ProblemDocument, description = "`version_mismatch`."),
        (status = 422, body = ProblemDocument, description = "`invalid`, `idempotency_key_reused`.")
))]
pub async fn update(State(app): State<App>, request: ApiRequest<UpdateBody, Ticket>) -> Result<Response> {
    let ApiRequest { caller, ticket: Ticket(ticket), conditions, body } = request;
    let outcome = app.tessera.update(&caller, ticket, body.try_into()?, &conditions).await?;
    respond(StatusCode::OK, outcome)
}

/// Previews a change of a ticket. Nothing else happens.
#[utoipa::path(post, path = "/api/tickets/{ref}/preview", operation_id = "previewUpdateTicket", tag = "tickets",
    request_body(content = UpdateBody, example = json!({ "status": "open", "owner": "admin", "comment": "I take it." })),
    params(("ref" = String, Path, description = "Number or id."), Explain, ("Tessera-Depth" = Option<u32>, Header, maximum = 1000, description = "The length of the chain of deliveries, each caused by the one before, that led to this request; from 5 on, nothing more is sent.")), responses(
    (status = 200, body = Preview, description = "The plan."),
    (status = 409, body = ProblemDocument, description = "`transition_denied` with `allowed`, `no_status_map`: the real request would fail with this error."),
    (status = 422, body = ProblemDocument, description = "`invalid`: the real request would fail with this error.")
))]
pub async fn preview_update(
    State(app): State<App>,
    Params(Explain { explain }): Params<Explain>,
    request: ApiRequest<UpdateBody, Ticket>,
) -> Result<Json<Preview>> {
    let ApiRequest { caller, ticket: Ticket(ticket), body, .. } = request;
    let prepared = app.tessera.preview_update(&caller, ticket, body.try_into()?).await?;
    Ok(Json(Preview::of(&prepared, explain)))
}

/// Adds a comment, a message to the team.
#[utoipa::path(post, path = "/api/tickets/{ref}/comment", operation_id = "commentOnTicket", tag = "tickets", request_body(content = ContentBody, example = json!({ "content": "It is tight again." })),
    params(("ref" = String, Path, description = "Number or id."),
           ("If-Match" = Option<String>, Header, description = "The ETag that the ticket must have."),
           ("If-Plan" = Option<String>, Header, description = "The `plan_hash` of a preview: commit exactly that plan."),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to retry the request."),
           ("Tessera-Depth" = Option<u32>, Header, maximum = 1000, description = "The length of the chain of deliveries, each caused by the one before, that led to this request; from 5 on, nothing more is sent.")), responses(
    (status = 201, body = Changed, description = "The comment was added."),
    (status = 409, body = ProblemDocument, description = "`plan_changed` with `plan`."),
    (status = 412, body = ProblemDocument, description = "`version_mismatch`."),
    (status = 422, body = ProblemDocument, description = "`invalid`, `idempotency_key_reused`.")
))]
pub async fn comment(State(app): State<App>, request: ApiRequest<ContentBody, Ticket>) -> Result<Response> {
    let ApiRequest { caller, ticket: Ticket(ticket), conditions, body } = request;
    let comment = Some(body.into_content("comment").map_err(|fault| Error::invalid(vec![fault]))?);
    let command = UpdateTicket { comment, ..UpdateTicket::default() };
    let outcome = app.tessera.update(&caller, ticket, command, &conditions).await?;
    respond(StatusCode::CREATED, outcome)
}

/// Adds a reply, a message to the requestor.
#[utoipa::path(post, path = "/api/tickets/{ref}/correspond", operation_id = "correspondOnTicket", tag = "tickets", request_body(content = ContentBody, example = json!({ "content": "It is tight again." })),
    params(("ref" = String, Path, description = "Number or id."),
           ("If-Match" = Option<String>, Header, description = "The ETag that the ticket must have."),
           ("If-Plan" = Option<String>, Header, description = "The `plan_hash` of a preview: commit exactly that plan."),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to retry the request."),
           ("Tessera-Depth" = Option<u32>, Header, maximum = 1000, description = "The length of the chain of deliveries, each caused by the one before, that led to this request; from 5 on, nothing more is sent.")), responses(
    (status = 201, body = Changed, description = "The reply was added."),
    (status = 409, body = ProblemDocument, description = "`plan_changed` with `plan`."),
    (status = 412, body = ProblemDocument, description = "`version_mismatch`."),
    (status = 422, body = ProblemDocument, description = "`invalid`, `idempotency_key_reused`.")
))]
pub async fn correspond(
    State(app): State<App>,
    request: ApiRequest<ContentBody, Ticket>,
) -> Result<Response> {
    let ApiRequest { caller, ticket: Ticket(ticket), conditions, body } = request;
    let reply = Some(body.into_content("reply").map_err(|fault| Error::invalid(vec![fault]))?);
    let command = UpdateTicket { reply, ..UpdateTicket::default() };
    let outcome = app.tessera.update(&caller, ticket, command, &conditions).await?;
    respond(StatusCode::CREATED, outcome)
}

/// A page of history.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct TransactionPage {
    /// The transactions, oldest first.
    items: Vec<Transaction>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// Lists a ticket's history, oldest first, including the outcomes of its deliveries.
#[utoipa::path(get, path = "/api/tickets/{ref}/transactions", operation_id = "listTicketTransactions", tag = "tickets",
    params(("ref" = String, Path, description = "Number or id."), Paging), responses(
    (status = 200, body = TransactionPage, description = "A page of the history.")
))]
pub async fn transactions(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Ticket(ticket): Ticket,
    Params(paging): Params<Paging>,
) -> Result<Json<TransactionPage>> {
    let (limit, cursor) = (limit(paging.limit)?, paging.cursor.as_deref());
    let page = app.tessera.history(&caller, ticket, limit, cursor).await?;
    let Page { items, next_cursor } = page.map(Transaction::from);
    Ok(Json(TransactionPage { items, next_cursor }))
}

/// A page of deliveries.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct DeliveryPage {
    /// The deliveries, newest first.
    pub items: Vec<DeliveryListed>,
    /// The `cursor` of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// Lists the deliveries of a ticket, finished or not, newest first.
#[utoipa::path(get, path = "/api/tickets/{ref}/deliveries", operation_id = "listTicketDeliveries", tag = "deliveries",
    params(("ref" = String, Path, description = "Number or id."), Paging), responses(
    (status = 200, body = DeliveryPage, description = "A page of deliveries, newest first.")
))]
pub async fn deliveries(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Ticket(ticket): Ticket,
    Params(paging): Params<Paging>,
) -> Result<Json<DeliveryPage>> {
    let (limit, cursor) = (limit(paging.limit)?, paging.cursor.as_deref());
    let page = app.tessera.deliveries_of(&caller, ticket, limit, cursor).await?;
    let Page { items, next_cursor } = page.map(DeliveryListed::from);
    Ok(Json(DeliveryPage { items, next_cursor }))
}

/// The response to a change.
fn respond(status: StatusCode, outcome: Outcome) -> Result<Response> {
    let committed = match outcome {
        Outcome::Committed(committed) => committed,
        Outcome::PlanChanged(prepared) => {
            let plan = serde_json::to_value(Preview::of(&prepared, None)).unwrap_or_default();
            return Err(Problem::plan_changed(plan));
        }
    };
    let etag = etag(committed.summary.ticket.version)?;
    let mut response = (status, [etag], Json(Changed::of(&committed))).into_response();
    if committed.is_replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn etag(version: i64) -> Result<(HeaderName, HeaderValue)> {
    let value = HeaderValue::from_str(&format!("\"{version}\""));
    Ok((header::ETAG, value.map_err(|source| Error::internal("An internal error occurred.", source))?))
}
