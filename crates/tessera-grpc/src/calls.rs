//! The layer around every call: authentication, concurrency and time limits, request ids, the log and metrics.

use crate::status::{causes, grpc_name, status};
use crate::{DESCRIPTORS, Limits, MESSAGE_MAX, v1};
use futures::FutureExt as _;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use std::any::Any;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tessera_core::desk::connectors::WAIT_MAX;
use tessera_core::desk::{Tessera, clock};
use tessera_core::metrics as names;
use tessera_core::models::Connector;
use tessera_core::{Code, Error};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response, header};
use tonic::server::NamedService as _;
use tonic::service::Routes;
use tower::ServiceExt as _;
use tracing::field::Empty;
use tracing::{Instrument as _, Level, Span};
use uuid::Uuid;

/// Time limit of a call, including the transfer of its request.
const CALL_MAX: Duration = Duration::from_secs(15);
/// The time that a `Lease` may take in addition to its wait.
const LEASE_SPARE: Duration = Duration::from_secs(5);
/// Services that need no token: they report whether this process is serving, and describe `proto/tessera/v1`.
const OPEN: [&str; 2] = ["grpc.health.v1.", "grpc.reflection."];
/// The label of unknown methods. The path itself is never a label, as a client could create any number of them.
const NO_METHOD: &str = "none";
/// Methods of the open services, which have labels.
const OPEN_METHODS: [&str; 4] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Handles calls.
#[derive(Debug)]
pub struct Calls {
    tessera: Arc<Tessera>,
    routes: Routes,
    methods: BTreeSet<String>,
    lease: String,
    calls: Semaphore,
    leases: Semaphore,
    active: TaskTracker,
    /// Cancelled when the remaining calls must end.
    cut: CancellationToken,
}

impl Calls {
    /// Creates a handler that passes calls to `routes`.
    pub fn new(tessera: Arc<Tessera>, routes: Routes, limits: Limits) -> Self {
        let lease = format!("{}/Lease", v1::actions_service_server::ActionsServiceServer::<()>::NAME);
        let methods = methods().chain(OPEN_METHODS.map(str::to_owned)).collect();
        let [calls, leases] = [limits.calls, limits.leases].map(Semaphore::new);
        let (active, cut) = (TaskTracker::new(), CancellationToken::new());
        Self { tessera, routes, methods, lease, calls, leases, active, cut }
    }

    /// Cancels the remaining calls, and waits until all have ended.
    pub async fn cut(&self) {
        self.cut.cancel();
        self.active.close();
        self.active.wait().await;
    }

    /// Handles one call. Every error becomes a status.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let (started, _active) = (Instant::now(), self.active.token());
        let id = clock::ids().draw::<Uuid>().to_string();
        let path = request.uri().path().trim_start_matches('/');
        let method = self.methods.get(path).map_or(NO_METHOD, String::as_str);
        let span = self.span(method, &id);
        let result = self.in_time(method, request, started).instrument(span.clone()).await;
        let mut response = result.unwrap_or_else(Status::into_http);
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("x-request-id", value);
        }
        let failed = response.extensions().get::<Status>();
        let code = failed.map_or(tonic::Code::Ok, Status::code);
        span.record("code", grpc_name(code));
        self.log(method, code, failed, &id, started.elapsed());
        let labels = [("method", method.to_owned()), ("code", grpc_name(code).to_owned())];
        metrics::counter!(names::GRPC_CALLS, &labels).increment(1);
        metrics::histogram!(names::GRPC_CALL_SECONDS, "method" => method.to_owned())
            .record(started.elapsed());
        response
    }

    /// Runs the call with a time limit: the method's, or the client's if that is shorter.
    async fn in_time(
        &self,
        method: &str,
        request: Request<Body>,
        started: Instant,
    ) -> Result<Response<Body>, Status> {
        let most = if method == self.lease { WAIT_MAX + LEASE_SPARE } else { CALL_MAX };
        let most = timeout_of(request.headers()).map_or(most, |requested| requested.min(most));
        let outcome = AssertUnwindSafe(self.admitted(method, request)).catch_unwind();
        tokio::select! {
            biased;
            outcome = outcome => outcome.unwrap_or_else(|panic| Err(on_panic(&*panic))),
            () = tokio::time::sleep_until(started + most) => Err(timed_out()),
            () = self.cut.cancelled() => Err(stopping()),
        }
    }

    /// Authenticates the call and passes it on, unless too many are active.
    async fn admitted(&self, method: &str, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        if !is_open(request.uri().path()) {
            let connector = self.connector(request.headers()).await.map_err(status)?;
            request.extensions_mut().insert(connector);
        }
        let slots = if method == self.lease { &self.leases } else { &self.calls };
        let _slot = slots.try_acquire().map_err(|_| {
            let detail = "Too many calls are being processed. Retry in a moment.";
            status(Error::new(Code::Overloaded, detail))
        })?;
        let Ok(response) = self.routes.clone().oneshot(request).await;
        response.extensions().get::<Status>().and_then(translate).map_or(Ok(response), Err)
    }

    /// Returns the connector that a call's token belongs to.
    async fn connector(&self, headers: &HeaderMap) -> Result<Connector, Error> {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .ok_or_else(|| {
                let detail = "Send the metadata authorization: Bearer <token>, with the token printed by `tessera connector add`.";
                Error::new(Code::Unauthenticated, detail)
            })?;
        self.tessera.connector(token.1.trim()).await
    }

    /// Returns whether connectors call the method all the time, so that it is logged at debug level only.
    fn is_quiet(&self, method: &str) -> bool {
        let actions = v1::actions_service_server::ActionsServiceServer::<()>::NAME;
        method.starts_with(actions) || is_open(method)
    }

    fn span(&self, method: &str, id: &str) -> Span {
        macro_rules! call {
            ($level:expr) => {
                tracing::span!(
                    $level,
                    "call",
                    otel.name = method,
                    otel.kind = "server",
                    method,
                    code = Empty,
                    request_id = id
                )
            };
        }
        if self.is_quiet(method) { call!(Level::DEBUG) } else { call!(Level::INFO) }
    }

    /// Writes the log line of a call. For internal errors it includes the causes, which are never sent to the client.
    fn log(
        &self,
        method: &str,
        code: tonic::Code,
        failed: Option<&Status>,
        request_id: &str,
        took: Duration,
    ) {
        let ms = took.as_micros() as f64 / 1_000.0;
        let (detail, causes) = failed.map(|failed| (failed.message(), causes(failed))).unwrap_or_default();
        let code = (code, grpc_name(code));
        match code {
            (tonic::Code::Internal | tonic::Code::Unknown | tonic::Code::DataLoss, code) => {
                tracing::error!(method, code, ms, request_id, causes, detail, "failed");
            }
            (tonic::Code::Unavailable | tonic::Code::DeadlineExceeded, code) => {
                tracing::warn!(method, code, ms, request_id, causes, detail, "rejected");
            }
            (tonic::Code::Ok, code) if self.is_quiet(method) => {
                tracing::debug!(method, code, ms, request_id, "finished");
            }
            (_, code) => tracing::info!(method, code, ms, request_id, detail, "finished"),
        }
    }
}

/// Returns whether a call needs no token.
pub fn is_open(path: &str) -> bool {
    let path = path.trim_start_matches('/');
    OPEN.iter().any(|open| path.starts_with(open))
}

/// Returns every method of the contract, as `tessera.v1.ActionsService/Lease`.
fn methods() -> impl Iterator<Item = String> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default().file;
    files.into_iter().flat_map(|file| {
        let package = file.package().to_owned();
        file.service.into_iter().flat_map(move |service| {
            let name = format!("{package}.{}", service.name());
            service.method.into_iter().map(move |method| format!("{name}/{}", method.name()))
        })
    })
}

/// Parses the client's timeout in `grpc-timeout`: up to 8 digits and a unit. An invalid one is ignored.
fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    const DIGITS_MAX: usize = 8;
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = digits.len() <= DIGITS_MAX && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Replaces tonic's status about an invalid message with one of Tessera's, which has a code and is not an internal error.
fn translate(original: &Status) -> Option<Status> {
    // Tessera's own statuses always have details.
    let error = match original.code() {
        _ if !original.details().is_empty() => return None,
        tonic::Code::OutOfRange => {
            let detail = format!("The message is larger than {MESSAGE_MAX} bytes.");
            Error::new(Code::BodyTooLarge, detail)
        }
        tonic::Code::Internal => {
            let detail = format!("The message is not valid for this method: {}.", original.message());
            Error::new(Code::MalformedMessage, detail)
        }
        _ => return None,
    };
    Some(status(error))
}

fn timed_out() -> Status {
    let detail = "The call took too long and was cancelled. It may or may not have taken effect. Retry with the same \
                  idempotency_key; without one, check first.";
    status(Error::new(Code::Timeout, detail))
}

fn stopping() -> Status {
    let detail =
        "Tessera is stopping and cancelled the call. It may or may not have taken effect. Retry in a moment.";
    status(Error::new(Code::Busy, detail))
}

/// Converts a panic to a status, the same as for other internal errors.
fn on_panic(panic: &(dyn Any + Send)) -> Status {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
        .to_owned();
    status(Error::internal("An internal error occurred.", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_in_every_unit_and_an_invalid_one_is_ignored() {
        let read = |text: &'static str| {
            timeout_of(&HeaderMap::from_iter([(
                "grpc-timeout".parse().unwrap(),
                HeaderValue::from_static(text),
            )]))
        };
        for (text, expected) in [
            ("1H", Duration::from_secs(3_600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("40m", Duration::from_millis(40)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(read(text), Some(expected), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", "+1S", "1 S"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(timeout_of(&HeaderMap::new()), None);
    }

    #[test]
    fn every_method_of_the_contract_has_a_label() {
        let methods: BTreeSet<String> = methods().collect();
        assert!(methods.contains("tessera.v1.ActionsService/Lease"), "{methods:?}");
        assert_eq!(methods.len(), 12);
    }
}
