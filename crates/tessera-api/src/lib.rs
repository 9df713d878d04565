//! Tessera over HTTP: one table of routes, problem documents, OpenAPI.

pub mod app;
pub mod encoding;
pub mod error;
pub mod extract;
mod json;
pub mod observe;
mod openapi;
mod pulse;
pub mod routes;
mod schema;
pub mod server;
pub mod views;

pub use app::App;
pub use routes::{document, router};
