//! The table of routes, and the middleware around it.

pub mod bodies;
pub mod config;
pub mod deliveries;
pub mod docs;
pub mod export;
pub mod health;
pub mod links;
pub mod metrics;
pub mod search;
mod selection;
pub mod tickets;
pub mod ticketsql;
pub mod transactions;

use crate::app::{self, App};
use crate::error::Problem;
use crate::{encoding, observe, openapi};
use axum::Router;
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tessera_core::models::text::quote;
use tessera_core::{Code, Error};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Returns the OpenAPI document of all routes, as JSON with a line break at its end.
///
/// # Errors
/// The document cannot be serialized, which no route causes.
pub fn document() -> Result<String, serde_json::Error> {
    openapi::complete(open().merge(guarded()).into_openapi())
}

/// The routes without the token check: health needs no token, and metrics accepts one of its own.
fn open() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
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

/// The pages for people, which are public: the documentation, and the explanation of links to tickets.
fn pages() -> Router<App> {
    Router::new()
        .route("/t", get(links::incomplete))
        .route("/t/", get(links::incomplete))
        .route("/t/{*number}", get(links::ticket))
        .route("/api/openapi.json", get(docs::openapi))
        .route("/api/docs", get(docs::redirect))
        .route("/api/docs/", get(docs::page))
        .route("/api/docs/{*part}", get(docs::part))
}

/// Builds the router of the whole API.
pub fn router(app: App) -> Router {
    let (guarded, _) = guarded().split_for_parts();
    let (open, _) = open().split_for_parts();
    guarded
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn_with_state(app.clone(), app::limit_time))
        .layer(from_fn_with_state(app.clone(), app::shed))
        .layer(from_fn_with_state(app.clone(), app::receive))
        .layer(from_fn_with_state(app.clone(), app::authenticate))
        .merge(
            open.merge(pages())
                .method_not_allowed_fallback(not_allowed)
                .layer(from_fn_with_state(app.clone(), app::limit_time)),
        )
        .layer(from_fn_with_state(app.clone(), app::limit_answers))
        .layer(CatchPanicLayer::custom(app::on_panic))
        .layer(from_fn(observe::observe))
        .layer(from_fn(encoding::frame))
        .with_state(app)
}

async fn unknown(uri: axum::http::Uri) -> Response {
    Problem::from(Error::not_found("resource", uri.path())).into_response()
}

/// The response to a method that the route does not support, and to OPTIONS. The router adds `Allow` to both.
async fn not_allowed(method: Method, uri: axum::http::Uri) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let detail = format!(
        "{} does not support {method}; the header Allow lists the methods that it supports.",
        quote(uri.path())
    );
    Problem::from(Error::new(Code::MethodNotAllowed, detail)).into_response()
}
