//! Tickets: made, changed, shown before they change, read, listed.

use super::bodies::{ContentBody, CreateBody, UpdateBody};
use crate::app::App;
use crate::error::{Problem, ProblemDocument, Result};
use crate::extract::{Body, Depth, Explain, Given, Paging, Params, Segments, Ticket, limit};
use crate::views::{self, Changed, DeliveryListed, Preview, Transaction};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tessera_core::Error;
use tessera_core::db;
use tessera_core::desk::{Answer, Conditions, Outcome, Prepared};
use tessera_core::models::page::Page;
use tessera_core::plan::Names;
use tessera_core::plan::command::UpdateTicket;
use utoipa::ToSchema;

/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Makes a ticket.
#[utoipa::path(post, path = "/api/tickets", operation_id = "createTicket", tag = "tickets",
    request_body(content = CreateBody, example = json!({ "queue": "General", "subject": "Kettle leaks", "requestors": ["eve@example.net"], "content": "It drips." })),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to send the request again."),
           ("If-Plan" = Option<String>, Header, description = "The plan_hash of a preview: commit exactly that plan."),
           ("Tessera-Depth" = Option<u32>, Header, maximum = 1000, description = "How many deliveries, each made because of the one before, led to this; at 5 nothing more is sent.")),
    responses(
        (status = 201, body = Changed, description = "It is made."),
        (status = 409, body = ProblemDocument, description = "`transition_denied`, `plan_changed`."),
        (status = 422, body = ProblemDocument, description = "`invalid`, `idempotency_key_reused`.")
))]
pub async fn create(
    State(app): State<App>,
    given: Given,
    Depth(depth): Depth,
    body: Body<CreateBody>,
) -> Result<Response> {
    let caller = app.tessera.administrator()?.at_depth(depth);
    let render = |prepared: &Prepared| answer(StatusCode::CREATED, prepared);
    let outcome =
        app.tessera.create(&caller, body.value.try_into()?, &given.with(body.hash), &render).await?;
    respond(outcome)
}

/// Shows what making a ticket would do. Nothing else happens, and no number is drawn.
#[utoipa::path(post, path = "/api/tickets/preview", operation_id = "previewCreateTicket", tag = "tickets",
    request_body(content = CreateBody, example = json!({ "queue": "General", "subject": "Kettle leaks", "requestors": ["eve@example.net"] })),
    params(Explain), responses(
    (status = 200, body = Preview, description = "What would happen."),
    (status = 409, body = ProblemDocument, description = "`transition_denied` with `allowed`: the request would be refused so."),
    (status = 422, body = ProblemDocument, description = "`invalid`: the request would be refused so.")
))]
pub async fn preview_create(
    State(app): State<App>,
    Depth(depth): Depth,
    Params(Explain { explain }): Params<Explain>,
    body: Body<CreateBody>,
) -> Result<Json<Preview>> {
    let caller = app.tessera.administrator()?.at_depth(depth);
    let prepared = app.tessera.preview_create(&caller, body.value.try_into()?).await?;
    Ok(Json(Preview::of(&prepared, explain)))
}

/// Reads a ticket.
#[utoipa::path(get, path = "/api/tickets/{ref}", operation_id = "getTicket", tag = "tickets", params(("ref" = String, Path, description = "Number or id.")), responses(
    (status = 200, body = views::Ticket, description = "The ticket, with its version as ETag."),
    (status = 404, body = ProblemDocument, description = "There is none.")
))]
pub async fn get(State(app): State<App>, Ticket(ticket): Ticket) -> Result<Response> {
    let catalog = app.tessera.fresh_catalog().await?;
    let actor = app.tessera.administrator()?.user;
    let (ticket, people) = db::search::get(&app.tessera.pools().read, ticket, actor.id).await?;
    let names = Names { catalog: &catalog, people: &people, actor: Some(&actor) };
    Ok(([etag(ticket.version)?], Json(views::Ticket::of(&ticket, names))).into_response())
}

/// Reads a ticket as it was after one of its transactions: its own history folded, with today's names of what it names.
#[utoipa::path(get, path = "/api/tickets/{ref}/at/{seq}", operation_id = "getTicketAt", tag = "tickets",
    params(("ref" = String, Path, description = "Number or id."),
           ("seq" = i64, Path, description = "The `seq` of the transaction, from 1 to the ticket's version.", minimum = 1)), responses(
    (status = 200, body = views::Ticket, description = "The ticket as it was."),
    (status = 404, body = ProblemDocument, description = "There is no such ticket, or no such transaction of it; `detail` says the last.")
))]
pub async fn at(
    State(app): State<App>,
    Segments((ticket, seq)): Segments<(String, i64)>,
) -> Result<Json<views::Ticket>> {
    let catalog = app.tessera.fresh_catalog().await?;
    let (ticket, people) = db::history::at(&app.tessera.pools().read, ticket.parse()?, seq).await?;
    let names = Names { catalog: &catalog, people: &people, actor: None };
    Ok(Json(views::Ticket::of(&ticket, names)))
}

/// Changes a ticket: all of the request, or nothing.
#[utoipa::path(patch, path = "/api/tickets/{ref}", operation_id = "updateTicket", tag = "tickets",
    request_body(content = UpdateBody, example = json!({ "status": "open", "owner": "admin", "comment": "I take it." })),
    params(("ref" = String, Path, description = "Number or id."),
           ("If-Match" = Option<String>, Header, description = "The ETag that the ticket must have."),
           ("If-Plan" = Option<String>, Header, description = "The plan_hash of a preview: commit exactly that plan."),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to send the request again."),
           ("Tessera-Depth" = Option<u32>, Header, maximum = 1000, description = "How many deliveries, each made because of the one before, led to this; at 5 nothing more is sent.")),
    responses(
        (status = 200, body = Changed, description = "It is changed."),
        (status = 409, body = ProblemDocument, description = "`transition_denied` with `allowed`, `no_status_map`, `plan_changed` with `plan`."),
        (status = 412, body = ProblemDocument, description = "`version_mismatch`."),
        (status = 422, body = ProblemDocument, description = "`invalid`, `idempotency_key_reused`.")
))]
pub async fn update(
    State(app): State<App>,
    Ticket(ticket): Ticket,
    given: Given,
    Depth(depth): Depth,
    body: Body<UpdateBody>,
) -> Result<Response> {
    change(&app, depth, ticket, body.value.try_into()?, &given.with(body.hash), StatusCode::OK).await
}

/// Shows what a change would do. Nothing else happens.
#[utoipa::path(post, path = "/api/tickets/{ref}/preview", operation_id = "previewUpdateTicket", tag = "tickets",
    request_body(content = UpdateBody, example = json!({ "status": "open", "owner": "admin", "comment": "I take it." })),
    params(("ref" = String, Path, description = "Number or id."), Explain), responses(
    (status = 200, body = Preview, description = "What would happen."),
    (status = 409, body = ProblemDocument, description = "`transition_denied` with `allowed`, `no_status_map`: the request would be refused so.")
))]
pub async fn preview_update(
    State(app): State<App>,
    Ticket(ticket): Ticket,
    Depth(depth): Depth,
    Params(Explain { explain }): Params<Explain>,
    body: Body<UpdateBody>,
) -> Result<Json<Preview>> {
    let caller = app.tessera.administrator()?.at_depth(depth);
    let prepared = app.tessera.preview_update(&caller, ticket, body.value.try_into()?).await?;
    Ok(Json(Preview::of(&prepared, explain)))
}

/// Writes a message to the team.
#[utoipa::path(post, path = "/api/tickets/{ref}/comment", operation_id = "commentOnTicket", tag = "tickets", request_body(content = ContentBody, example = json!({ "content": "It is tight again." })),
    params(("ref" = String, Path, description = "Number or id."),
           ("If-Match" = Option<String>, Header, description = "The ETag that the ticket must have."),
           ("If-Plan" = Option<String>, Header, description = "The plan_hash of a preview: commit exactly that plan."),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to send the request again.")), responses(
    (status = 201, body = Changed, description = "It is written."),
    (status = 409, body = ProblemDocument, description = "`plan_changed` with `plan`."),
    (status = 412, body = ProblemDocument, description = "`version_mismatch`."),
    (status = 422, body = ProblemDocument, description = "`invalid`, `idempotency_key_reused`.")
))]
pub async fn comment(
    State(app): State<App>,
    Ticket(ticket): Ticket,
    given: Given,
    Depth(depth): Depth,
    body: Body<ContentBody>,
) -> Result<Response> {
    let comment = Some(body.value.into_content("comment").map_err(|fault| Error::invalid(vec![fault]))?);
    let command = UpdateTicket { comment, ..UpdateTicket::default() };
    change(&app, depth, ticket, command, &given.with(body.hash), StatusCode::CREATED).await
}

/// Writes a message to the requestor.
#[utoipa::path(post, path = "/api/tickets/{ref}/correspond", operation_id = "correspondOnTicket", tag = "tickets", request_body(content = ContentBody, example = json!({ "content": "It is tight again." })),
    params(("ref" = String, Path, description = "Number or id."),
           ("If-Match" = Option<String>, Header, description = "The ETag that the ticket must have."),
           ("If-Plan" = Option<String>, Header, description = "The plan_hash of a preview: commit exactly that plan."),
           ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to send the request again.")), responses(
    (status = 201, body = Changed, description = "It is written."),
    (status = 409, body = ProblemDocument, description = "`plan_changed` with `plan`."),
    (status = 412, body = ProblemDocument, description = "`version_mismatch`."),
    (status = 422, body = ProblemDocument, description = "`invalid`, `idempotency_key_reused`.")
))]
pub async fn correspond(
    State(app): State<App>,
    Ticket(ticket): Ticket,
    given: Given,
    Depth(depth): Depth,
    body: Body<ContentBody>,
) -> Result<Response> {
    let reply = Some(body.value.into_content("reply").map_err(|fault| Error::invalid(vec![fault]))?);
    let command = UpdateTicket { reply, ..UpdateTicket::default() };
    change(&app, depth, ticket, command, &given.with(body.hash), StatusCode::CREATED).await
}

/// A page of history.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct TransactionPage {
    /// The transactions, oldest first.
    items: Vec<Transaction>,
    /// `cursor` of the next page; null on the last.
    next_cursor: Option<String>,
}

/// Reads a ticket's history, oldest first, with what became of its deliveries.
#[utoipa::path(get, path = "/api/tickets/{ref}/transactions", operation_id = "listTicketTransactions", tag = "tickets",
    params(("ref" = String, Path, description = "Number or id."), Paging), responses(
    (status = 200, body = TransactionPage, description = "A page of its history.")
))]
pub async fn transactions(
    State(app): State<App>,
    Ticket(ticket): Ticket,
    Params(paging): Params<Paging>,
) -> Result<Json<TransactionPage>> {
    let pool = &app.tessera.pools().read;
    let page = db::history::list(pool, ticket, limit(paging.limit)?, paging.cursor.as_deref()).await?;
    let Page { items, next_cursor } = page.map(Transaction::from);
    Ok(Json(TransactionPage { items, next_cursor }))
}

/// A page of deliveries.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct DeliveryPage {
    /// The deliveries, newest first.
    pub items: Vec<DeliveryListed>,
    /// `cursor` of the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// Lists what left, or is to leave, because of a ticket.
#[utoipa::path(get, path = "/api/tickets/{ref}/deliveries", operation_id = "listTicketDeliveries", tag = "deliveries",
    params(("ref" = String, Path, description = "Number or id."), Paging), responses(
    (status = 200, body = DeliveryPage, description = "A page of deliveries, newest first.")
))]
pub async fn deliveries(
    State(app): State<App>,
    Ticket(ticket): Ticket,
    Params(paging): Params<Paging>,
) -> Result<Json<DeliveryPage>> {
    let pool = &app.tessera.pools().read;
    let filter = db::deliveries::Filter {
        ticket: Some(db::tickets::id_of(pool, ticket).await?),
        ..Default::default()
    };
    let page = db::deliveries::list(pool, &filter, limit(paging.limit)?, paging.cursor.as_deref()).await?;
    let Page { items, next_cursor } = page.map(DeliveryListed::from);
    Ok(Json(DeliveryPage { items, next_cursor }))
}

async fn change(
    app: &App,
    depth: u32,
    ticket: db::tickets::TicketRef,
    command: UpdateTicket,
    conditions: &Conditions,
    status: StatusCode,
) -> Result<Response> {
    let caller = app.tessera.administrator()?.at_depth(depth);
    let render = |prepared: &Prepared| answer(status, prepared);
    respond(app.tessera.update(&caller, ticket, command, conditions, &render).await?)
}

fn answer(status: StatusCode, prepared: &Prepared) -> Result<Answer, Error> {
    let body = serde_json::to_vec(&Changed::of(prepared));
    let body = body.map_err(|source| Error::internal("The answer cannot be written down.", source))?;
    Ok(Answer { status: status.as_u16(), body })
}

fn respond(outcome: Outcome) -> Result<Response> {
    let (answer, version, is_replayed) = match outcome {
        Outcome::Made(answer, version) => (answer, version, false),
        Outcome::Replayed(answer) => {
            let version = version_in(&answer)?;
            (answer, version, true)
        }
        Outcome::PlanChanged(prepared) => {
            let plan = serde_json::to_value(Preview::of(&prepared, None)).unwrap_or_default();
            return Err(Problem::plan_changed(plan));
        }
    };
    let status = StatusCode::from_u16(answer.status)
        .map_err(|source| Error::internal("A stored answer has no status.", source))?;
    let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut response = (status, [json, etag(version)?], answer.body).into_response();
    if is_replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The version of the ticket in a kept answer: that of then, as the rest of the answer is.
fn version_in(answer: &Answer) -> Result<i64> {
    #[derive(Deserialize)]
    struct Kept {
        ticket: KeptTicket,
    }
    #[derive(Deserialize)]
    struct KeptTicket {
        version: i64,
    }
    let kept: Kept = serde_json::from_slice(&answer.body)
        .map_err(|source| Error::internal("A stored answer cannot be read.", source))?;
    Ok(kept.ticket.version)
}

fn etag(version: i64) -> Result<(HeaderName, HeaderValue)> {
    let value = HeaderValue::from_str(&format!("\"{version}\""));
    Ok((header::ETAG, value.map_err(|source| Error::internal("A version is no header.", source))?))
}
