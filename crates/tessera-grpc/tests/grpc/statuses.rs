//! The status of every kind of error, and its details.

use tessera_core::error::{FAULTS_MAX, Place};
use tessera_core::{Code, Error, Fault, Kind};
use tessera_grpc::status::{DOMAIN, causes, status};
use tonic_types::StatusExt as _;

#[test]
fn every_kind_of_error_has_its_code() {
    let table = [
        (Code::MalformedHeader, tonic::Code::InvalidArgument),
        (Code::Invalid, tonic::Code::InvalidArgument),
        (Code::Unauthenticated, tonic::Code::Unauthenticated),
        (Code::Forbidden, tonic::Code::PermissionDenied),
        (Code::NotFound, tonic::Code::NotFound),
        (Code::TransitionDenied, tonic::Code::FailedPrecondition),
        (Code::PlanChanged, tonic::Code::Aborted),
        (Code::VersionMismatch, tonic::Code::FailedPrecondition),
        (Code::BodyTooLarge, tonic::Code::OutOfRange),
        (Code::Busy, tonic::Code::Unavailable),
        (Code::Timeout, tonic::Code::DeadlineExceeded),
        (Code::DatabaseUnavailable, tonic::Code::Unavailable),
        (Code::Internal, tonic::Code::Internal),
    ];
    for (code, expected) in table {
        let told = status(Error::new(code, "A sentence."));
        assert_eq!((told.code(), told.message()), (expected, "A sentence."), "{code}");
        let details = told.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (code.as_str(), DOMAIN));
        let comes_again = details.retry_info().and_then(|retry| retry.retry_delay);
        assert_eq!(comes_again.is_some(), matches!(code.kind(), Kind::Busy | Kind::Unavailable), "{code}");
    }
}

#[test]
fn an_internal_error_keeps_its_causes_and_sends_none_of_them() {
    let cause = std::io::Error::other("disk /dev/sda is full");
    let told = status(Error::internal("Something went wrong.", cause));
    assert_eq!(causes(&told), "disk /dev/sda is full");
    let head = told.into_http::<tonic::body::Body>();
    assert!(!format!("{:?}", head.headers()).contains("sda"));
    let theirs = status(Error::not_found("ticket", 7).with_source("a cause"));
    assert_eq!(causes(&theirs), "");
}

#[test]
fn invalid_fields_and_allowed_values_are_reported() {
    let fault = Fault { hint: Some("write 1".into()), ..Fault::new("priority", "is no number") };
    let denied = Error::new(Code::TransitionDenied, "No.")
        .with_allowed(vec!["open".to_owned(), "deleted".to_owned()])
        .with_faults(vec![fault]);
    let details = status(denied).get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["allowed"], "open,deleted");
    let violations = &details.bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "priority");
    assert_eq!(violations[0].description, "is no number; write 1");

    let place = Place { start: 3, end: 5, line: 1, column: 4 };
    let query = Error::new(Code::InvalidQuery, "Not so.").with_place(place, Some("so".into()));
    let details = status(query).get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "query");
    let metadata = &details.error_info().unwrap().metadata;
    assert_eq!((&*metadata["start"], &*metadata["column"], &*metadata["hint"]), ("3", "4", "so"));
}

#[test]
fn the_largest_status_fits_in_the_headers_that_clients_take() {
    let long = "ä".repeat(5_000);
    let faults = (0..FAULTS_MAX).map(|at| Fault::new(format!("custom_fields.{at}{long}"), &*long));
    let allowed = vec![long.clone(); 100];
    let error = Error::invalid(faults.collect()).with_allowed(allowed);
    let head = status(error).into_http::<tonic::body::Body>();
    let size: usize = head.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size < 8 * 1024, "{size} bytes");
}
