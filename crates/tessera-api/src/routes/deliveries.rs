//! Deliveries: what was sent or is to be sent, the endpoints, and what operators do to both.

use super::tickets::DeliveryPage;
use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Authenticated, Body, Name, Params, limit};
use crate::views::{DeliveryListed, DeliveryWhole, EndpointView};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tessera_core::desk::Caller;
use tessera_core::desk::reads::DeliveryFilter;
use tessera_core::error::Error;
use tessera_core::models::delivery::DeliveryState;
use tessera_core::models::page::Page;
use tessera_core::models::text::quote;
use tessera_core::models::{DeliveryId, DeliveryKind};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Filters and the page of a list of deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeliveryParams {
    /// `held`, `available`, `running`, `completed`, `discarded` or `cancelled`.
    state: Option<String>,
    /// `email`, `webhook`, or the kind of a connector.
    kind: Option<String>,
    /// `scheme://host:port`, `smtp`, or the kind of a connector.
    endpoint: Option<String>,
    /// Items per page, 1 to 200; 50 by default.
    limit: Option<i64>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// Lists deliveries, newest first.
#[utoipa::path(get, path = "/api/deliveries", operation_id = "listDeliveries", tag = "deliveries", params(DeliveryParams), responses(
    (status = 200, body = DeliveryPage, description = "A page of deliveries."),
    (status = 422, body = ProblemDocument, description = "The state or the kind is not valid.")
))]
pub async fn list(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Params(params): Params<DeliveryParams>,
) -> Result<Json<DeliveryPage>> {
    let state = |word: String| {
        let all = DeliveryState::ALL.map(DeliveryState::as_str).join(", ");
        DeliveryState::parse(&word)
            .ok_or_else(|| Error::invalid_field("state", format!("{} is not one of {all}", quote(&word))))
    };
    let kind = |word: String| {
        DeliveryKind::parse(&word).ok_or_else(|| {
            Error::invalid_field(
                "kind",
                format!("{} is not email, webhook or the kind of a connector", quote(&word)),
            )
        })
    };
    let filter = DeliveryFilter {
        ticket: None,
        state: params.state.map(state).transpose()?,
        kind: params.kind.map(kind).transpose()?,
        endpoint: params.endpoint,
    };
    let (limit, cursor) = (limit(params.limit)?, params.cursor.as_deref());
    let page = app.tessera.deliveries(&caller, &filter, limit, cursor).await?;
    let Page { items, next_cursor } = page.map(DeliveryListed::from);
    Ok(Json(DeliveryPage { items, next_cursor }))
}

/// Reads a delivery: the message as it is sent, every attempt with its response, and what operators did. Secrets are shown by
/// name only.
#[utoipa::path(get, path = "/api/deliveries/{id}", tag = "deliveries", params(("id" = Uuid, Path, description = "The delivery's id.")), responses(
    (status = 200, body = DeliveryWhole, description = "The delivery."),
    (status = 404, body = ProblemDocument, description = "The delivery does not exist.")
))]
pub async fn get(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Name(id): Name,
) -> Result<Json<DeliveryWhole>> {
    shown(&app, &caller, parse(&id)?).await
}

/// Holds an unfinished delivery until it is released. An attempt that is under way still ends.
#[utoipa::path(post, path = "/api/deliveries/{id}/hold", tag = "deliveries", params(("id" = Uuid, Path, description = "The delivery's id.")), responses(
    (status = 200, body = DeliveryWhole, description = "The delivery is held."),
    (status = 404, body = ProblemDocument, description = "The delivery does not exist."),
    (status = 409, body = ProblemDocument, description = "`delivery_finished`.")
))]
pub async fn hold(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Name(id): Name,
) -> Result<Json<DeliveryWhole>> {
    let id = parse(&id)?;
    app.tessera.hold_delivery(&caller, id).await?;
    shown(&app, &caller, id).await
}

/// Releases an unfinished delivery and attempts it now, even if the breaker of its endpoint is open.
#[utoipa::path(post, path = "/api/deliveries/{id}/release", tag = "deliveries", params(("id" = Uuid, Path, description = "The delivery's id.")), responses(
    (status = 200, body = DeliveryWhole, description = "The delivery is due now."),
    (status = 404, body = ProblemDocument, description = "The delivery does not exist."),
    (status = 409, body = ProblemDocument, description = "`delivery_finished`, `endpoint_held`.")
))]
pub async fn release(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Name(id): Name,
) -> Result<Json<DeliveryWhole>> {
    let id = parse(&id)?;
    app.tessera.release_delivery(&caller, id).await?;
    shown(&app, &caller, id).await
}

/// Cancels an unfinished delivery. An attempt that is under way may still succeed, and is then recorded as delivered.
#[utoipa::path(post, path = "/api/deliveries/{id}/cancel", tag = "deliveries", params(("id" = Uuid, Path, description = "The delivery's id.")), responses(
    (status = 200, body = DeliveryWhole, description = "The delivery is cancelled."),
    (status = 404, body = ProblemDocument, description = "The delivery does not exist."),
    (status = 409, body = ProblemDocument, description = "`delivery_finished`.")
))]
pub async fn cancel(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Name(id): Name,
) -> Result<Json<DeliveryWhole>> {
    let id = parse(&id)?;
    app.tessera.cancel_delivery(&caller, id).await?;
    shown(&app, &caller, id).await
}

/// Sends a finished delivery again: the same bytes with the same Message-ID or `webhook-id`, to all of its recipients, some of
/// whom may get it twice.
#[utoipa::path(post, path = "/api/deliveries/{id}/resend", tag = "deliveries", params(("id" = Uuid, Path, description = "The delivery's id.")), responses(
    (status = 200, body = DeliveryWhole, description = "The delivery is queued again."),
    (status = 404, body = ProblemDocument, description = "The delivery does not exist."),
    (status = 409, body = ProblemDocument, description = "`delivery_unfinished`, `payload_gone`.")
))]
pub async fn resend(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Name(id): Name,
) -> Result<Json<DeliveryWhole>> {
    let id = parse(&id)?;
    app.tessera.resend_delivery(&caller, id).await?;
    shown(&app, &caller, id).await
}

/// The period that endpoints report on.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EndpointParams {
    /// Hours of attempts, 1 to 168; 24 by default.
    hours: Option<i32>,
}

/// Endpoints.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct EndpointList {
    /// The worst endpoints first; at most 1,000.
    items: Vec<EndpointView>,
}

/// Lists the endpoints that were tried recently, that have unfinished deliveries, or that are held or failing.
#[utoipa::path(get, path = "/api/deliveries/endpoints", tag = "deliveries", params(EndpointParams), responses(
    (status = 200, body = EndpointList, description = "The endpoints."),
    (status = 422, body = ProblemDocument, description = "The number of hours is not valid.")
))]
pub async fn endpoints(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Params(params): Params<EndpointParams>,
) -> Result<Json<EndpointList>> {
    let items = app.tessera.endpoints(&caller, params.hours).await?;
    Ok(Json(EndpointList { items: items.into_iter().map(EndpointView::from).collect() }))
}

/// The name of an endpoint.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointBody {
    /// `scheme://host:port`, `smtp`, or the kind of a connector, as in lists.
    #[schema(example = "https://hooks.example.org")]
    endpoint: String,
}

/// Holds all deliveries to an endpoint until it is released.
#[utoipa::path(post, path = "/api/deliveries/endpoints/hold", tag = "deliveries", request_body = EndpointBody, responses(
    (status = 200, body = EndpointView, description = "The endpoint is held."),
    (status = 404, body = ProblemDocument, description = "No delivery has ever gone to this endpoint.")
))]
pub async fn hold_endpoint(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    body: Body<EndpointBody>,
) -> Result<Json<EndpointView>> {
    let endpoint = body.value.endpoint;
    app.tessera.hold_endpoint(&caller, &endpoint).await?;
    Ok(Json(app.tessera.endpoint(&caller, &endpoint).await?.into()))
}

/// Releases an endpoint and closes its breaker.
#[utoipa::path(post, path = "/api/deliveries/endpoints/release", tag = "deliveries", request_body = EndpointBody, responses(
    (status = 200, body = EndpointView, description = "The endpoint is released."),
    (status = 404, body = ProblemDocument, description = "No delivery has ever gone to this endpoint.")
))]
pub async fn release_endpoint(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    body: Body<EndpointBody>,
) -> Result<Json<EndpointView>> {
    let endpoint = body.value.endpoint;
    app.tessera.release_endpoint(&caller, &endpoint).await?;
    Ok(Json(app.tessera.endpoint(&caller, &endpoint).await?.into()))
}

fn parse(id: &str) -> Result<DeliveryId, Error> {
    id.parse::<Uuid>().map(DeliveryId).map_err(|_| Error::not_found("delivery", id))
}

async fn shown(app: &App, caller: &Caller, id: DeliveryId) -> Result<Json<DeliveryWhole>> {
    Ok(Json(app.tessera.delivery(caller, id).await?.into()))
}
