//! Deliveries: what left or is to leave, the endpoints it goes to, and what people can do about it.

use super::tickets::DeliveryPage;
use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Body, Name, Params, limit};
use crate::views::{DeliveryListed, DeliveryWhole, EndpointView};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tessera_core::db::deliveries::{self, Filter, Order};
use tessera_core::desk::clock;
use tessera_core::error::Error;
use tessera_core::models::delivery::DeliveryState;
use tessera_core::models::page::Page;
use tessera_core::models::{DeliveryId, DeliveryKind};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Hours of attempts shown of endpoints, when nothing else is asked for.
const HOURS_DEFAULT: i32 = 24;
/// The most: a week.
const HOURS_MAX: i32 = 168;

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeliveryParams {
    /// `held`, `available`, `running`, `completed`, `discarded` or `cancelled`.
    state: Option<String>,
    /// `email` or `webhook`.
    kind: Option<String>,
    /// `scheme://host:port`, or `smtp`.
    endpoint: Option<String>,
    /// Items per page, 1 to 200; 50 when not given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists deliveries, newest first.
#[utoipa::path(get, path = "/api/deliveries", operation_id = "listDeliveries", tag = "deliveries", params(DeliveryParams), responses(
    (status = 200, body = DeliveryPage, description = "A page of deliveries."),
    (status = 422, body = ProblemDocument, description = "A state or kind that there is not.")
))]
pub async fn list(
    State(app): State<App>,
    Params(params): Params<DeliveryParams>,
) -> Result<Json<DeliveryPage>> {
    let state = |word: String| {
        let all = DeliveryState::ALL.map(DeliveryState::as_str).join(", ");
        DeliveryState::parse(&word)
            .ok_or_else(|| Error::invalid_field("state", format!("\"{word}\" is not one of {all}")))
    };
    let kind = |word: String| {
        DeliveryKind::parse(&word).ok_or_else(|| {
            Error::invalid_field(
                "kind",
                format!("\"{word}\" is no kind of delivery: email, webhook or that of a connector"),
            )
        })
    };
    let filter = Filter {
        ticket: None,
        state: params.state.map(state).transpose()?,
        kind: params.kind.map(kind).transpose()?,
        endpoint: params.endpoint,
    };
    let pool = &app.tessera.pools().read;
    let page = deliveries::list(pool, &filter, limit(params.limit)?, params.cursor.as_deref()).await?;
    let Page { items, next_cursor } = page.map(DeliveryListed::from);
    Ok(Json(DeliveryPage { items, next_cursor }))
}

/// Reads a delivery: the message as it is sent, every attempt with its answer, and what people did. Secrets are named only.
#[utoipa::path(get, path = "/api/deliveries/{id}", tag = "deliveries", params(("id" = Uuid, Path, description = "Its id.")), responses(
    (status = 200, body = DeliveryWhole, description = "The delivery."),
    (status = 404, body = ProblemDocument, description = "There is none.")
))]
pub async fn get(State(app): State<App>, Name(id): Name) -> Result<Json<DeliveryWhole>> {
    shown(&app, named(&id)?).await
}

/// Holds a delivery that is not finished, until somebody releases it. An attempt under way comes to its end.
#[utoipa::path(post, path = "/api/deliveries/{id}/hold", tag = "deliveries", params(("id" = Uuid, Path, description = "Its id.")), responses(
    (status = 200, body = DeliveryWhole, description = "It is held."),
    (status = 404, body = ProblemDocument, description = "There is none."),
    (status = 409, body = ProblemDocument, description = "`delivery_finished`.")
))]
pub async fn hold(State(app): State<App>, Name(id): Name) -> Result<Json<DeliveryWhole>> {
    let id = named(&id)?;
    deliveries::hold(&app.tessera.pools().write, id, order(&app)?).await?;
    shown(&app, id).await
}

/// Sends a delivery that is not finished now: it is held no more, and goes through an open breaker too, as its next try.
#[utoipa::path(post, path = "/api/deliveries/{id}/release", tag = "deliveries", params(("id" = Uuid, Path, description = "Its id.")), responses(
    (status = 200, body = DeliveryWhole, description = "It is on its way."),
    (status = 404, body = ProblemDocument, description = "There is none."),
    (status = 409, body = ProblemDocument, description = "`delivery_finished`, `endpoint_held`.")
))]
pub async fn release(State(app): State<App>, Name(id): Name) -> Result<Json<DeliveryWhole>> {
    let id = named(&id)?;
    deliveries::release(&app.tessera.pools().write, id, order(&app)?).await?;
    app.tessera.wakeup().wake();
    shown(&app, id).await
}

/// Gives a delivery up that is not finished. An attempt under way may still arrive, and is then recorded as delivered.
#[utoipa::path(post, path = "/api/deliveries/{id}/cancel", tag = "deliveries", params(("id" = Uuid, Path, description = "Its id.")), responses(
    (status = 200, body = DeliveryWhole, description = "It is given up."),
    (status = 404, body = ProblemDocument, description = "There is none."),
    (status = 409, body = ProblemDocument, description = "`delivery_finished`.")
))]
pub async fn cancel(State(app): State<App>, Name(id): Name) -> Result<Json<DeliveryWhole>> {
    let id = named(&id)?;
    deliveries::cancel(&app.tessera.pools().write, id, order(&app)?).await?;
    shown(&app, id).await
}

/// Sends a finished delivery again: the same Message-ID or `webhook-id` and the same bytes, to all of its recipients, so
/// whoever got it may get it twice.
#[utoipa::path(post, path = "/api/deliveries/{id}/resend", tag = "deliveries", params(("id" = Uuid, Path, description = "Its id.")), responses(
    (status = 200, body = DeliveryWhole, description = "It is on its way again."),
    (status = 404, body = ProblemDocument, description = "There is none."),
    (status = 409, body = ProblemDocument, description = "`delivery_unfinished`, `payload_gone`.")
))]
pub async fn resend(State(app): State<App>, Name(id): Name) -> Result<Json<DeliveryWhole>> {
    let id = named(&id)?;
    deliveries::resend(&app.tessera.pools().write, id, order(&app)?).await?;
    app.tessera.wakeup().wake();
    shown(&app, id).await
}

/// How far back.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EndpointParams {
    /// Hours of attempts, 1 to 168; 24 when not given.
    hours: Option<i32>,
}

/// Endpoints.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct EndpointList {
    /// The worst first; at most 1,000.
    items: Vec<EndpointView>,
}

/// Lists the endpoints that deliveries go to: those that were tried lately, that something waits for, or that are held or in
/// trouble.
#[utoipa::path(get, path = "/api/deliveries/endpoints", tag = "deliveries", params(EndpointParams), responses(
    (status = 200, body = EndpointList, description = "The endpoints."),
    (status = 422, body = ProblemDocument, description = "A number of hours that cannot be.")
))]
pub async fn endpoints(
    State(app): State<App>,
    Params(params): Params<EndpointParams>,
) -> Result<Json<EndpointList>> {
    let hours = params.hours.unwrap_or(HOURS_DEFAULT);
    if !(1..=HOURS_MAX).contains(&hours) {
        let message = format!("is {hours}; it must be 1 to {HOURS_MAX}");
        return Err(Error::invalid_field("hours", message).into());
    }
    let items = deliveries::endpoints(&app.tessera.pools().read, hours, None).await?;
    Ok(Json(EndpointList { items: items.into_iter().map(EndpointView::from).collect() }))
}

/// An endpoint, named.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointBody {
    /// `scheme://host:port`, or `smtp`, as the lists show it.
    #[schema(example = "https://hooks.example.org")]
    endpoint: String,
}

/// Holds everything that goes to an endpoint, until somebody releases it.
#[utoipa::path(post, path = "/api/deliveries/endpoints/hold", tag = "deliveries", request_body = EndpointBody, responses(
    (status = 200, body = EndpointView, description = "It is held."),
    (status = 404, body = ProblemDocument, description = "Nothing ever went there.")
))]
pub async fn hold_endpoint(State(app): State<App>, body: Body<EndpointBody>) -> Result<Json<EndpointView>> {
    let endpoint = body.value.endpoint;
    deliveries::hold_endpoint(&app.tessera.pools().write, &endpoint, order(&app)?).await?;
    shown_endpoint(&app, &endpoint).await
}

/// Releases an endpoint: what goes there is held no more, and its breaker is closed.
#[utoipa::path(post, path = "/api/deliveries/endpoints/release", tag = "deliveries", request_body = EndpointBody, responses(
    (status = 200, body = EndpointView, description = "It is released."),
    (status = 404, body = ProblemDocument, description = "Nothing ever went there.")
))]
pub async fn release_endpoint(
    State(app): State<App>,
    body: Body<EndpointBody>,
) -> Result<Json<EndpointView>> {
    let endpoint = body.value.endpoint;
    deliveries::release_endpoint(&app.tessera.pools().write, &endpoint, order(&app)?).await?;
    app.tessera.wakeup().wake();
    shown_endpoint(&app, &endpoint).await
}

fn order(app: &App) -> Result<Order, Error> {
    Ok(Order { actor: app.tessera.administrator()?.user.id, ids: clock::ids() })
}

fn named(id: &str) -> Result<DeliveryId, Error> {
    id.parse::<Uuid>().map(DeliveryId).map_err(|_| Error::not_found("delivery", id))
}

async fn shown(app: &App, id: DeliveryId) -> Result<Json<DeliveryWhole>> {
    Ok(Json(deliveries::whole(&app.tessera.pools().read, id).await?.into()))
}

async fn shown_endpoint(app: &App, endpoint: &str) -> Result<Json<EndpointView>> {
    let found = deliveries::endpoints(&app.tessera.pools().read, HOURS_DEFAULT, Some(endpoint)).await?.pop();
    Ok(Json(found.ok_or_else(|| Error::not_found("endpoint", endpoint))?.into()))
}
