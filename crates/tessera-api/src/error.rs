//! Maps errors to problem documents (RFC 9457), exhaustively.

use crate::schema;
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use std::convert::Infallible;
use std::error::Error as _;
use tessera_core::error::Place;
use tessera_core::{Code, Error, Kind};
use utoipa::ToSchema;

/// The result of a handler that can fail.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// An error that a client receives.
#[derive(Debug)]
pub struct Problem {
    error: Error,
    plan: Option<Value>,
    query: Option<String>,
}

/// The media type of a problem document.
const PROBLEM_JSON: &str = "application/problem+json";
/// Maximum size of a problem document that gets a request id, in bytes: it may contain a new plan, which can be large.
const DOCUMENT_MAX: usize = 8 * 1024 * 1024;

schema::body!(ErrorCode, "ErrorCode", schema::error_code());

/// A problem document.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemDocument {
    /// Identifies the kind of problem; documented in `docs/api.md`.
    #[serde(rename = "type")]
    #[schema(example = "https://tessera.example/problems/transition_denied")]
    kind: String,
    /// A short description of the kind.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// A sentence that explains the problem and what to do.
    detail: String,
    /// A stable name for programs, documented in `docs/api.md`.
    #[schema(value_type = ErrorCode)]
    code: &'static str,
    /// The request's id, as in the header `X-Request-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// The invalid fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// The values that would be allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<Vec<String>>,
    /// With `plan_changed`: the current plan, as a preview shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Value>,
    /// With `invalid_query`: the query as it was read; for a filter, its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    /// With `invalid_query`: the invalid part of the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    span: Option<PlaceOfQuery>,
    /// With `invalid_query`: the line where that part begins, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// With `invalid_query`: the column where that part begins, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    /// With `invalid_query`: a suggested replacement.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// A part of a query, in characters.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct PlaceOfQuery {
    /// The first character, from 0.
    pub start: usize,
    /// The character after the last one.
    pub end: usize,
}

impl From<Place> for PlaceOfQuery {
    fn from(place: Place) -> Self {
        Self { start: place.start, end: place.end }
    }
}

/// One error in a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// The field, as a path.
    field: String,
    /// The reason, and what would be valid.
    message: String,
    /// The line in a text, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// The column in characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    /// The invalid part of a query.
    #[serde(skip_serializing_if = "Option::is_none")]
    span: Option<PlaceOfQuery>,
    /// A suggested replacement.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Problem {
    /// Creates a problem for a change whose plan is no longer the one in `If-Plan`.
    pub fn plan_changed(plan: Value) -> Self {
        let detail = "Nothing was written: the same request would now have other effects. See `plan` for the current plan.";
        Self { plan: Some(plan), ..Error::new(Code::PlanChanged, detail).into() }
    }

    /// Creates a problem for a rejected search; an error in the query includes the query.
    pub fn of_search(error: Error, query: &str) -> Self {
        let query = error.place().map(|_| query.to_owned());
        Self { query, ..error.into() }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self { error, plan: None, query: None }
    }
}

/// An extractor that cannot fail has no problem to report.
impl From<Infallible> for Problem {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Returns the HTTP status of a code.
pub fn status(code: Code) -> StatusCode {
    match (code.kind(), code) {
        // HTTP has specific statuses for these.
        (_, Code::UnsupportedMediaType) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        (_, Code::MethodNotAllowed) => StatusCode::METHOD_NOT_ALLOWED,
        (_, Code::BodyTooSlow) => StatusCode::REQUEST_TIMEOUT,
        (Kind::Malformed, _) => StatusCode::BAD_REQUEST,
        (Kind::Invalid, _) => StatusCode::UNPROCESSABLE_ENTITY,
        (Kind::Unauthenticated, _) => StatusCode::UNAUTHORIZED,
        (Kind::Forbidden, _) => StatusCode::FORBIDDEN,
        (Kind::NotFound, _) => StatusCode::NOT_FOUND,
        (Kind::Conflict, _) => StatusCode::CONFLICT,
        (Kind::Precondition, _) => StatusCode::PRECONDITION_FAILED,
        (Kind::TooLarge, _) => StatusCode::PAYLOAD_TOO_LARGE,
        (Kind::Busy | Kind::Unavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
        (Kind::Internal, _) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { error, plan, query } = self;
        let (code, status) = (error.code(), status(error.code()));
        let fault = status.is_server_error().then(|| Fault::of(&error));
        let place = error.place();
        let document = ProblemDocument {
            kind: format!("https://tessera.example/problems/{code}"),
            title: code.title(),
            status: status.as_u16(),
            detail: error.detail().to_owned(),
            code: code.as_str(),
            request_id: None,
            errors: error
                .faults()
                .iter()
                .map(|fault| FieldError {
                    field: fault.field.clone(),
                    message: fault.message.clone(),
                    line: fault.line,
                    column: fault.column,
                    span: fault.span.map(|(start, end)| PlaceOfQuery { start, end }),
                    hint: fault.hint.as_deref().map(str::to_owned),
                })
                .collect(),
            allowed: error.allowed().map(<[String]>::to_vec),
            plan,
            query,
            span: place.map(|(place, _)| place.into()),
            line: place.map(|(place, _)| place.line),
            column: place.map(|(place, _)| place.column),
            hint: place.and_then(|(_, hint)| hint.map(str::to_owned)),
        };
        let mut response = (status, Json(document)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(fault) = fault {
            response.extensions_mut().insert(fault);
        }
        response
    }
}

/// The details of a failed request for the log; an extension of the response until the line is written.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The error code.
    pub code: &'static str,
    /// The sentence that the client receives.
    pub detail: String,
    /// The causes, outermost first; they are never sent to a client.
    pub causes: String,
}

impl Fault {
    fn of(error: &Error) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(source) = cause {
            causes.push(source.to_string());
            cause = source.source();
        }
        Self { code: error.code().as_str(), detail: error.detail().to_owned(), causes: causes.join(": ") }
    }
}

/// Adds the request's id to a problem document.
pub async fn with_request_id(response: Response, id: &str) -> Response {
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == PROBLEM_JSON);
    if !is_problem {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, DOCUMENT_MAX).await else {
        return (parts, Body::empty()).into_response();
    };
    let Ok(Value::Object(mut document)) = serde_json::from_slice::<Value>(&bytes) else {
        return (parts, Body::from(bytes)).into_response();
    };
    document.insert("request_id".to_owned(), Value::String(id.to_owned()));
    parts.headers.remove(header::CONTENT_LENGTH);
    (parts, Body::from(Value::Object(document).to_string())).into_response()
}
