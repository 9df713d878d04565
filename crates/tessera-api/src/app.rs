//! What every handler is given, and what stands between a socket and a handler: token, request id, limits, panics.

use crate::error::Problem;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tessera_core::dispatch::{Tessera, clock};
use tessera_core::{Error, Kind};
use uuid::Uuid;

/// Bytes of a request's body.
pub const BODY_MAX: usize = 1024 * 1024;
/// How long a handler may take.
pub const HANDLER_TIMEOUT: Duration = Duration::from_secs(30);
/// Characters of an `X-Request-Id` that is taken over.
const REQUEST_ID_MAX: usize = 128;
/// The header that names a request, in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What every handler is given.
#[derive(Debug, Clone)]
pub struct App {
    /// The desk.
    pub tessera: Arc<Tessera>,
    /// SHA-256 of the administrator's token.
    token: [u8; 32],
}

impl App {
    /// An application that lets in who has this token.
    pub fn new(tessera: Arc<Tessera>, token: &str) -> Self {
        Self { tessera, token: Sha256::digest(token).into() }
    }
}

/// The id of a request, as it is answered and logged.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Gives every request an id, its own or one of ours, and answers it.
pub async fn identify(mut request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_usable = |id: &&str| {
        !id.is_empty() && id.len() <= REQUEST_ID_MAX && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let id = given.filter(is_usable).map_or_else(|| clock::ids().draw::<Uuid>().to_string(), str::to_owned);
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = crate::error::with_request_id(next.run(request).await, &id).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// Lets in who has the token.
pub async fn authenticate(State(app): State<App>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let hash: [u8; 32] = Sha256::digest(token.map_or("", |(_, token)| token.trim())).into();
    // Hashes are compared, so how long it takes says nothing of the token.
    if hash == app.token {
        return next.run(request).await;
    }
    let detail = "Send the header Authorization: Bearer <token>; `tessera token` prints it.";
    let mut response =
        Problem::from(Error::new(Kind::Unauthenticated, "unauthenticated", detail)).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Ends a handler that takes too long.
pub async fn limit_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(HANDLER_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::from(Error::new(
            Kind::Busy,
            "timeout",
            "This took too long and was stopped. Send the request again.",
        ))
        .into_response(),
    }
}

/// What a panic is answered: the same as any other fault of ours.
pub fn on_panic(panic: Box<dyn std::any::Any + Send + 'static>) -> Response<Body> {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
        .to_owned();
    Problem::from(Error::internal("Something went wrong on our side.", message)).into_response()
}
