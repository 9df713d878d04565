//! Maps errors of the core to gRPC statuses, exhaustively, with the details that programs read (google.rpc).

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;
use tessera_core::{Code, Error, Kind};
use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "tessera";
/// The wait in `RetryInfo`.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Maximum number of field violations per status. A status travels in headers, and some clients accept only 8 KiB of them.
const FIELDS_MAX: usize = 8;
/// Maximum length of a field's name, in bytes.
const FIELD_MAX: usize = 100;
/// Maximum length of a message, in bytes.
const MESSAGE_MAX: usize = 350;

/// Converts an error to the status that the client receives.
///
/// `ErrorInfo` has the code in `docs/api.md` as its reason. Its metadata has `allowed`, and the position of an error in a
/// query. An internal error is also the status's source, which is logged and never sent.
pub fn status(error: Error) -> Status {
    let mut details = ErrorDetails::with_error_info(error.code().as_str(), DOMAIN, metadata(&error));
    let violations: Vec<_> = violations(&error).take(FIELDS_MAX).collect();
    if !violations.is_empty() {
        details.set_bad_request(violations);
    }
    if is_retryable(error.kind()) {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    let mut status =
        Status::with_error_details(grpc_code(error.code()), cut(error.detail(), MESSAGE_MAX), details);
    if is_logged(error.kind()) {
        status.set_source(Arc::new(error));
    }
    status
}

/// Returns the causes of an internal error, outermost first, for the log; empty for every other status.
pub fn causes(status: &Status) -> String {
    let mut causes = Vec::new();
    let mut cause = status.source().and_then(std::error::Error::source);
    while let Some(source) = cause {
        causes.push(source.to_string());
        cause = source.source();
    }
    causes.join(": ")
}

/// Returns the gRPC status of a code.
pub fn grpc_code(code: Code) -> tonic::Code {
    match (code.kind(), code) {
        // gRPC has specific statuses for these.
        (_, Code::PlanChanged) => tonic::Code::Aborted,
        (_, Code::Timeout) => tonic::Code::DeadlineExceeded,
        (Kind::Malformed | Kind::Invalid, _) => tonic::Code::InvalidArgument,
        (Kind::Unauthenticated, _) => tonic::Code::Unauthenticated,
        (Kind::Forbidden, _) => tonic::Code::PermissionDenied,
        (Kind::NotFound, _) => tonic::Code::NotFound,
        (Kind::Conflict | Kind::Precondition, _) => tonic::Code::FailedPrecondition,
        // tonic uses this status for a message that is larger than its limit.
        (Kind::TooLarge, _) => tonic::Code::OutOfRange,
        (Kind::Busy | Kind::Unavailable, _) => tonic::Code::Unavailable,
        (Kind::Internal, _) => tonic::Code::Internal,
    }
}

/// Returns the name of a gRPC status in the specification: `INVALID_ARGUMENT`.
pub fn grpc_name(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::Ok => "OK",
        tonic::Code::Cancelled => "CANCELLED",
        tonic::Code::Unknown => "UNKNOWN",
        tonic::Code::InvalidArgument => "INVALID_ARGUMENT",
        tonic::Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        tonic::Code::NotFound => "NOT_FOUND",
        tonic::Code::AlreadyExists => "ALREADY_EXISTS",
        tonic::Code::PermissionDenied => "PERMISSION_DENIED",
        tonic::Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        tonic::Code::FailedPrecondition => "FAILED_PRECONDITION",
        tonic::Code::Aborted => "ABORTED",
        tonic::Code::OutOfRange => "OUT_OF_RANGE",
        tonic::Code::Unimplemented => "UNIMPLEMENTED",
        tonic::Code::Internal => "INTERNAL",
        tonic::Code::Unavailable => "UNAVAILABLE",
        tonic::Code::DataLoss => "DATA_LOSS",
        tonic::Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn is_retryable(kind: Kind) -> bool {
    matches!(kind, Kind::Busy | Kind::Unavailable)
}

fn is_logged(kind: Kind) -> bool {
    matches!(kind, Kind::Busy | Kind::Unavailable | Kind::Internal)
}

fn metadata(error: &Error) -> HashMap<String, String> {
    let mut metadata = HashMap::new();
    if let Some(allowed) = error.allowed() {
        metadata.insert("allowed".to_owned(), cut(&allowed.join(","), MESSAGE_MAX));
    }
    if let Some((place, hint)) = error.place() {
        let numbers =
            [("start", place.start), ("end", place.end), ("line", place.line), ("column", place.column)];
        metadata.extend(numbers.map(|(name, number)| (name.to_owned(), number.to_string())));
        metadata.extend(hint.map(|hint| ("hint".to_owned(), cut(hint, MESSAGE_MAX))));
    }
    metadata
}

/// Returns the invalid fields, and for an error in a query the field `query`.
fn violations(error: &Error) -> impl Iterator<Item = FieldViolation> {
    let query = error.place().map(|_| FieldViolation::new("query", cut(error.detail(), MESSAGE_MAX)));
    let faults = error.faults().iter().map(|fault| {
        let hint = fault.hint.as_ref().map_or_else(String::new, |hint| format!("; {hint}"));
        FieldViolation::new(
            cut(&fault.field, FIELD_MAX),
            cut(&format!("{}{hint}", fault.message), MESSAGE_MAX),
        )
    });
    faults.chain(query)
}

/// Truncates a text to at most `most` bytes and an ellipsis, without splitting a character.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..most).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}
