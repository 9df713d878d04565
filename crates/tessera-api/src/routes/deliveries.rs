//! Deliveries: what left, or is to leave.

use super::tickets::DeliveryPage;
use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Params, limit};
use crate::views::DeliveryListed;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tessera_core::db::deliveries::{self, Filter};
use tessera_core::error::Error;
use tessera_core::models::DeliveryKind;
use tessera_core::models::delivery::DeliveryState;
use tessera_core::models::page::Page;
use utoipa::IntoParams;

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeliveryParams {
    /// `available`, `running`, `completed` or `discarded`.
    state: Option<String>,
    /// `email` or `webhook`.
    kind: Option<String>,
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
        let known = DeliveryState::ALL.into_iter().find(|state| state.as_str() == word);
        let all = DeliveryState::ALL.map(DeliveryState::as_str).join(", ");
        known.ok_or_else(|| Error::invalid_field("state", format!("\"{word}\" is not one of {all}")))
    };
    let kind = |word: String| {
        DeliveryKind::parse(&word)
            .ok_or_else(|| Error::invalid_field("kind", format!("\"{word}\" is not one of email, webhook")))
    };
    let filter = Filter {
        ticket: None,
        state: params.state.map(state).transpose()?,
        kind: params.kind.map(kind).transpose()?,
    };
    let pool = &app.tessera.pools().read;
    let page = deliveries::list(pool, filter, limit(params.limit)?, params.cursor.as_deref()).await?;
    let Page { items, next_cursor } = page.map(DeliveryListed::from);
    Ok(Json(DeliveryPage { items, next_cursor }))
}
