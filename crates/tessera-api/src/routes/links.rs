//! The page that a link to a ticket in a mail leads to until tickets have pages: an explanation for people.

use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

/// Nothing is loaded or sent from the page, and no other page may frame it.
const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Keeps the page out of search engines.
const ROBOTS: HeaderName = HeaderName::from_static("x-robots-tag");
/// Punctuation that mail programs take for a part of a link before it.
const PUNCTUATION: [char; 9] = ['/', '.', ',', ';', ':', ')', ']', '>', '"'];

/// Explains the link to a ticket. The page depends on nothing but the number in the link, so that it reveals nothing about the
/// ticket, not even whether it exists.
pub async fn ticket(Path(number): Path<String>) -> Response {
    let number = number.trim().trim_end_matches(PUNCTUATION);
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse::<i64>().ok().filter(|number| is_number && *number > 0);
    match number {
        Some(number) => respond(StatusCode::OK, of_ticket(number)),
        None => incomplete().await,
    }
}

/// Explains a link that names no ticket.
pub async fn incomplete() -> Response {
    respond(StatusCode::NOT_FOUND, of_nothing())
}

fn respond(status: StatusCode, page: String) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (ROBOTS, HeaderValue::from_static("noindex")),
    ];
    (status, headers, Html(page)).into_response()
}

fn of_ticket(number: i64) -> String {
    page(
        &format!("Ticket #{number}"),
        &format!(
            "<p>This link names ticket #{number} of this help desk. Tickets cannot be read in a browser here yet, so there is \
             nothing more to see on this page.</p>\n\
             <ul>\n\
             <li><strong>If you asked for help:</strong> reply to the mail that contains this link, and keep its subject, so that \
             the people who work on the ticket recognize it.</li>\n\
             <li><strong>If you work here:</strong> ask your administrator how to read tickets. Programs read this one at \
             <code>/api/tickets/{number}</code>, with a token.</li>\n\
             </ul>\n\
             <p>For the sake of privacy, this page is the same for every number, whether or not there is such a ticket.</p>"
        ),
    )
}

fn of_nothing() -> String {
    page(
        "This link is not complete",
        "<p>A link to a ticket ends with the number of the ticket, such as <code>/t/42</code>; this one does not.</p>\n\
         <p>Your mail program may have cut it. Copy the whole link from the mail.</p>",
    )
}

fn page(title: &str, text: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{text}\n</main>\n</body>\n</html>\n"
    )
}
