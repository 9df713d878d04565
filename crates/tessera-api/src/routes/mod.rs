//! The one table of routes, and the layers around it.

pub mod bodies;
pub mod config;
pub mod deliveries;
pub mod docs;
pub mod export;
pub mod health;
pub mod metrics;
pub mod search;
mod selection;
pub mod tickets;
pub mod ticketsql;
pub mod transactions;

use crate::app::{self, App};
use crate::error::Problem;
use crate::openapi::Document;
use crate::{encoding, observe};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tessera_core::{Code, Error};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Every route that the document lists. Health demands no token, the metrics look at it themselves, all others demand it.
pub(crate) fn table() -> OpenApiRouter<App> {
    open().merge(guarded())
}

fn open() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(health::health))
        .routes(routes!(metrics::metrics))
}

fn guarded() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(search::list, tickets::create))
        .routes(routes!(tickets::preview_create))
        .routes(routes!(search::search))
        .routes(routes!(search::explain))
        .routes(routes!(export::export))
        .routes(routes!(ticketsql::schema))
        .routes(routes!(tickets::get, tickets::update))
        .routes(routes!(tickets::at))
        .routes(routes!(tickets::preview_update))
        .routes(routes!(tickets::comment))
        .routes(routes!(tickets::correspond))
        .routes(routes!(tickets::transactions))
        .routes(routes!(tickets::deliveries))
        .routes(routes!(transactions::why))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::endpoints))
        .routes(routes!(deliveries::hold_endpoint))
        .routes(routes!(deliveries::release_endpoint))
        .routes(routes!(deliveries::get))
        .routes(routes!(deliveries::hold))
        .routes(routes!(deliveries::release))
        .routes(routes!(deliveries::cancel))
        .routes(routes!(deliveries::resend))
        .merge(config::routes())
}

/// The documentation, which anybody may read.
fn docs() -> Router<App> {
    Router::new()
        .route("/api/openapi.json", get(docs::openapi))
        .route("/api/docs", get(docs::to_page))
        .route("/api/docs/", get(docs::page))
        .route("/api/docs/{*part}", get(docs::part))
}

/// The whole API.
pub fn router(app: App) -> Router {
    let (guarded, _) = guarded().split_for_parts();
    let (open, _) = open().split_for_parts();
    guarded
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn_with_state(app.clone(), app::shed))
        .layer(from_fn_with_state(app.clone(), app::authenticate))
        .merge(open.merge(docs()).method_not_allowed_fallback(not_allowed))
        .layer(DefaultBodyLimit::max(app::BODY_MAX))
        .layer(from_fn_with_state(app.clone(), app::limit_time))
        .layer(CatchPanicLayer::custom(app::on_panic))
        .layer(from_fn(observe::observe))
        .layer(encoding::gzip())
        .layer(from_fn(encoding::frame))
        .with_state(app)
}

async fn unknown(uri: axum::http::Uri) -> Response {
    Problem::from(Error::not_found("resource", uri.path())).into_response()
}

/// What a route says of a method that it does not take; to OPTIONS that is the answer. The router adds `Allow` to both.
async fn not_allowed(method: Method, uri: axum::http::Uri) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let detail = format!("{} does not take {method}; docs/openapi.json lists what it takes.", uri.path());
    Problem::from(Error::new(Code::MethodNotAllowed, detail)).into_response()
}
