//! What stands around every call: the token, a place to work at, the time it has, its id, a line in the log, the metrics.

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

/// How long a call may take, its request included.
const CALL_MAX: Duration = Duration::from_secs(15);
/// How much longer than its wait a `Lease` may take.
const LEASE_SPARE: Duration = Duration::from_secs(5);
/// Services that need no token: they say whether this process serves, and what `proto/tessera/v1` says.
const OPEN: [&str; 2] = ["grpc.health.v1.", "grpc.reflection."];
/// The label of what no service has. The path itself is never a label: a client could make as many as it likes.
const NO_METHOD: &str = "none";
/// Methods of the open services, for their labels.
const OPEN_METHODS: [&str; 4] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Answers calls.
#[derive(Debug)]
pub struct Calls {
    tessera: Arc<Tessera>,
    routes: Routes,
    methods: BTreeSet<String>,
    lease: String,
    calls: Semaphore,
    leases: Semaphore,
    at_work: TaskTracker,
    /// Cancelled when calls at work had their time to end.
    cut: CancellationToken,
}

impl Calls {
    /// Answers the calls of these services.
    pub fn new(tessera: Arc<Tessera>, routes: Routes, limits: Limits) -> Self {
        let lease = format!("{}/Lease", v1::actions_service_server::ActionsServiceServer::<()>::NAME);
        let methods = methods().chain(OPEN_METHODS.map(str::to_owned)).collect();
        let [calls, leases] = [limits.calls, limits.leases].map(Semaphore::new);
        let (at_work, cut) = (TaskTracker::new(), CancellationToken::new());
        Self { tessera, routes, methods, lease, calls, leases, at_work, cut }
    }

    /// Breaks off what is still at work, and waits until nothing is.
    pub async fn cut(&self) {
        self.cut.cancel();
        self.at_work.close();
        self.at_work.wait().await;
    }

    /// Answers one call. It never fails: what goes wrong is a status.
    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (begun, _at_work) = (Instant::now(), self.at_work.token());
        let id = clock::ids().draw::<Uuid>().to_string();
        let path = request.uri().path().trim_start_matches('/');
        let method = self.methods.get(path).map_or(NO_METHOD, String::as_str);
        let span = self.span(method, &id);
        let answered = self.in_time(method, request, begun).instrument(span.clone()).await;
        let mut response = answered.unwrap_or_else(Status::into_http);
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("x-request-id", value);
        }
        let failed = response.extensions().get::<Status>();
        let code = failed.map_or(tonic::Code::Ok, Status::code);
        span.record("code", grpc_name(code));
        self.tell(method, code, failed, &id, begun.elapsed());
        let labels = [("method", method.to_owned()), ("code", grpc_name(code).to_owned())];
        metrics::counter!(names::GRPC_CALLS, &labels).increment(1);
        metrics::histogram!(names::GRPC_CALL_SECONDS, "method" => method.to_owned()).record(begun.elapsed());
        response
    }

    /// The call, for as long as it may take: as this method may, or as its client says, whichever is less.
    async fn in_time(
        &self,
        method: &str,
        request: Request<Body>,
        begun: Instant,
    ) -> Result<Response<Body>, Status> {
        let most = if method == self.lease { WAIT_MAX + LEASE_SPARE } else { CALL_MAX };
        let most = timeout_of(request.headers()).map_or(most, |asked| asked.min(most));
        let called = AssertUnwindSafe(self.admitted(method, request)).catch_unwind();
        tokio::select! {
            biased;
            called = called => called.unwrap_or_else(|panic| Err(on_panic(&*panic))),
            () = tokio::time::sleep_until(begun + most) => Err(timed_out()),
            () = self.cut.cancelled() => Err(stopping()),
        }
    }

    /// The call, once its token was looked at and there is a place for it.
    async fn admitted(&self, method: &str, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        if !is_open(request.uri().path()) {
            let connector = self.connector(request.headers()).await.map_err(status)?;
            request.extensions_mut().insert(connector);
        }
        let places = if method == self.lease { &self.leases } else { &self.calls };
        let _place = places.try_acquire().map_err(|_| {
            let detail = "Too many calls are at work. Make this one again in a moment.";
            status(Error::new(Code::Overloaded, detail))
        })?;
        let Ok(response) = self.routes.clone().oneshot(request).await;
        response.extensions().get::<Status>().and_then(in_our_words).map_or(Ok(response), Err)
    }

    /// The connector whose token a call has.
    async fn connector(&self, headers: &HeaderMap) -> Result<Connector, Error> {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .ok_or_else(|| {
                let detail = "Send the metadata authorization: Bearer <token>, with the token that `tessera connector add` printed.";
                Error::new(Code::Unauthenticated, detail)
            })?;
        self.tessera.connector(token.1.trim()).await
    }

    /// Methods that connectors call all day long, and of which the log tells only to who wants to know.
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

    /// The one line. A fault of ours stands in it with its causes, which never reach the client.
    fn tell(
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
                tracing::warn!(method, code, ms, request_id, causes, detail, "turned away");
            }
            (tonic::Code::Ok, code) if self.is_quiet(method) => {
                tracing::debug!(method, code, ms, request_id, "answered");
            }
            (_, code) => tracing::info!(method, code, ms, request_id, detail, "answered"),
        }
    }
}

/// Whether a call needs no token.
pub fn is_open(path: &str) -> bool {
    let path = path.trim_start_matches('/');
    OPEN.iter().any(|open| path.starts_with(open))
}

/// Every method of the contract, as `tessera.v1.ActionsService/Lease`.
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

/// How long the client waits, as `grpc-timeout` says: up to 8 digits and a unit. What cannot be read counts as not sent.
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

/// What tonic says of a message that it cannot take, as we say such things: with a code, and not as a fault of ours.
fn in_our_words(said: &Status) -> Option<Status> {
    // Whatever we say has details.
    let error = match said.code() {
        _ if !said.details().is_empty() => return None,
        tonic::Code::OutOfRange => {
            let detail = format!("The message is larger than {MESSAGE_MAX} bytes.");
            Error::new(Code::BodyTooLarge, detail)
        }
        tonic::Code::Internal => {
            let detail = format!("The message is none that this method takes: {}.", said.message());
            Error::new(Code::MalformedMessage, detail)
        }
        _ => return None,
    };
    Some(status(error))
}

fn timed_out() -> Status {
    let detail = "This took too long and was stopped. It may or may not have been done. Call again with the same \
                  idempotency_key; without one, look first.";
    status(Error::new(Code::Timeout, detail))
}

fn stopping() -> Status {
    let detail =
        "Tessera is stopping and broke this off. It may or may not have been done. Call again in a moment.";
    status(Error::new(Code::Busy, detail))
}

/// What a panic is answered: the same as any other fault of ours.
fn on_panic(panic: &(dyn Any + Send)) -> Status {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
        .to_owned();
    status(Error::internal("Something went wrong on our side.", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_client_waits_is_read_in_every_unit_and_what_is_none_is_not() {
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
