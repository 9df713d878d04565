//! The gRPC services of Tessera for connectors, as in `proto/tessera/v1`, on top of the core's functions.

mod actions;
mod calls;
mod convert;
mod listener;
mod scrips;
mod server;
pub mod status;
mod tickets;
/// The messages and services of `proto/tessera/v1`, generated and committed.
#[rustfmt::skip]
#[path = "gen/tessera.v1.rs"]
#[allow(missing_docs, clippy::all, reason = "generated; the contract is proto/tessera/v1")]
pub mod v1;

pub use listener::{Address, Listener, TlsFiles};
pub use server::Limits;

use calls::Calls;
use server::Server;
use std::fmt;
use std::sync::Arc;
use tessera_core::Error;
use tessera_core::desk::Tessera;
use tessera_core::models::Connector;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use v1::actions_service_server::ActionsServiceServer;
use v1::scrips_service_server::ScripsServiceServer;
use v1::tickets_service_server::TicketsServiceServer;

/// The contract as served by reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/tessera.v1.bin");
/// Maximum size of a request or response, in bytes; also the default of clients.
pub const MESSAGE_MAX: usize = 4 * 1024 * 1024;

/// The state that every service gets.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    tessera: Arc<Tessera>,
    /// Cancelled when the process is stopping.
    stop: CancellationToken,
}

/// Serves connectors until `stop` is cancelled, and then until every accepted call has ended or the drain time is over. Returns
/// the number of connections that were closed by force.
pub async fn serve(
    listener: Listener,
    tessera: Arc<Tessera>,
    limits: Limits,
    stop: CancellationToken,
) -> usize {
    let ending = CancellationToken::new();
    let (health, routes) = routes(&Services { tessera: Arc::clone(&tessera), stop: ending.clone() }).await;
    let calls = Arc::new(Calls::new(tessera, routes, limits));
    let server = Server { calls, limits, stop: stop.clone(), ending: ending.clone() };
    let stopping = tokio::spawn(async move {
        stop.cancelled().await;
        // Watchers receive the status before their stream ends.
        report(&health, ServingStatus::NotServing).await;
        ending.cancel();
    });
    let cut_off = Arc::new(server).serve(listener).await;
    stopping.abort();
    cut_off
}

/// Returns every service, and the reporter of their health.
async fn routes(services: &Services) -> (HealthReporter, Routes) {
    macro_rules! limited {
        ($server:ident) => {
            $server::new(services.clone())
                .max_decoding_message_size(MESSAGE_MAX)
                .max_encoding_message_size(MESSAGE_MAX)
        };
    }
    let (health, served) = tonic_health::server::health_reporter();
    report(&health, ServingStatus::Serving).await;
    let mut routes = Routes::builder();
    routes
        .add_service(limited!(ActionsServiceServer))
        .add_service(limited!(ScripsServiceServer))
        .add_service(limited!(TicketsServiceServer))
        .add_service(served);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // Lets a client without the contract decode the details of a status.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    // Older clients only know v1alpha. The descriptors are our own, and a test parses them.
    let (v1, v1alpha) = (reflection().build_v1(), reflection().build_v1alpha());
    if let (Ok(v1), Ok(v1alpha)) = (v1, v1alpha) {
        routes.add_service(v1).add_service(v1alpha);
    }
    (health, routes.routes().prepare())
}

/// Reports the status of every service, and of all together.
async fn report(health: &HealthReporter, status: ServingStatus) {
    let services = [
        "",
        ActionsServiceServer::<Services>::NAME,
        ScripsServiceServer::<Services>::NAME,
        TicketsServiceServer::<Services>::NAME,
    ];
    for service in services {
        health.set_service_status(service, status).await;
    }
}

/// Returns the connector that made a call.
fn connector<T>(request: &Request<T>) -> Result<Connector, Error> {
    // `calls` rejects calls without a token.
    request
        .extensions()
        .get::<Connector>()
        .cloned()
        .ok_or_else(|| Error::internal("An internal error occurred.", "a call without its connector"))
}

impl fmt::Debug for v1::WebhookRequest {
    /// Hides its secrets, which are in plain text and must not appear in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookRequest").field("method", &self.method).finish_non_exhaustive()
    }
}
