//! The routes of the configuration: the same four for each type of object, and some that only one type has.

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
