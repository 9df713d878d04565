//! The routes of the configuration: the same four for each kind of object, and the few that a kind has besides.

mod connectors;
mod kinds;
mod secrets;
mod types;
mod versions;

#[cfg(test)]
mod tests;

use crate::app::App;
use utoipa_axum::router::OpenApiRouter;

/// Every route of the configuration.
pub fn routes() -> OpenApiRouter<App> {
    kinds::routes()
        .merge(versions::routes())
        .merge(types::routes())
        .merge(secrets::routes())
        .merge(connectors::routes())
}
