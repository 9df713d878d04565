//! Export: all tickets that a query finds, as CSV or as lines of JSON, sent while they are read.

use super::search::{Asked, DialectName, SearchBody, order_of};
use super::selection::{Member, Selection};
use crate::app::App;
use crate::error::{Problem, ProblemDocument, Result};
use crate::extract::{Authenticated, Params};
use crate::server::Streamed;
use crate::views::Ticket;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::{self, BoxFuture, FutureExt as _};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use tessera_core::desk::reads::Export;
use tessera_core::models::text::between_commas;
use tessera_core::{Code, Error};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tracing::Span;
use utoipa::{IntoParams, ToSchema};

/// Seconds after which a rejected export can be retried.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("10");
/// Characters with which a spreadsheet formula can begin (OWASP, CSV injection).
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// The tickets to export, and the format.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ExportParams {
    /// TicketSQL; by default, all tickets that are not deleted.
    query: Option<String>,
    /// `csv` by default.
    #[param(inline)]
    format: Option<Format>,
    /// Comma-separated fields to order by; `-` reverses one: `-LastUpdated,id`.
    order: Option<String>,
    /// Comma-separated members of tickets: `number,subject,custom_fields.Severity`; all by default.
    fields: Option<String>,
    /// The time zone in which days begin and end, such as `Europe/Berlin`; `UTC` by default.
    timezone: Option<String>,
    /// `rt` reads the query as RT does.
    #[param(inline)]
    dialect: Option<DialectName>,
    /// For CSV: `true` writes text unchanged, even where a spreadsheet would run it as a formula.
    raw: Option<bool>,
}

/// The format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// CSV with a header row (RFC 4180), in UTF-8.
    Csv,
    /// JSON lines: one ticket a line.
    Jsonl,
}

/// Exports tickets as they were at one moment. A response that breaks off is incomplete.
#[utoipa::path(get, path = "/api/tickets/export", operation_id = "exportTickets", tag = "tickets", params(ExportParams), responses(
    (status = 200, description = "The tickets.", content((String = "text/csv"), (String = "application/x-ndjson"))),
    (status = 400, body = ProblemDocument, description = "`invalid_query` with `span`, `line`, `column` and `hint`; `malformed_query`."),
    (status = 422, body = ProblemDocument, description = "`invalid`: the order, a member or the time zone is not valid; `query_timeout`.")
))]
pub async fn export(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Params(params): Params<ExportParams>,
) -> Result<Response> {
    let body = SearchBody {
        query: params.query,
        dialect: params.dialect,
        order: params.order.as_deref().map(order_of),
        fields: params.fields.as_deref().map(between_commas),
        timezone: params.timezone,
        ..SearchBody::default()
    };
    let asked = Asked::of(body, &app, caller).await?;
    let begun = Instant::now();
    let Ok(place) = Arc::clone(&app.exports).try_acquire_owned() else { return Ok(busy(app.load.exports)) };
    let export = app.tessera.export(&asked.caller, &asked.catalog, &asked.search()).await;
    let mut export = export.map_err(|error| Problem::of_search(error, &asked.query))?;
    export.allow(app.load.export).await?;
    let format = params.format.unwrap_or(Format::Csv);
    let writer = match format {
        Format::Jsonl => Writer::Lines,
        Format::Csv => Writer::Table {
            columns: Selection::columns(asked.selection.as_ref(), &asked.catalog),
            is_raw: params.raw.unwrap_or(false),
            is_begun: false,
        },
    };
    let file = File { export, asked, writer, until: begun + app.load.export, _place: place };
    let mut first = file.next();
    // Errors up to here still become a problem document; after this, the response can only break off.
    if let Ok(part) = timeout_at(begun + app.load.handler / 2, &mut first).await {
        first = future::ready(Ok(part?)).boxed();
    }
    let span = Span::current();
    let parts = stream::try_unfold(first, move |part| {
        let span = span.clone();
        async move {
            let part = part.await.map_err(|error| {
                span.in_scope(|| tracing::warn!(%error, "an export was interrupted; its file is incomplete"));
                io::Error::other(error)
            })?;
            Ok::<_, io::Error>(part.map(|(part, file)| (part, file.next())))
        }
    });
    let (media_type, name) = match format {
        Format::Csv => ("text/csv; charset=utf-8; header=present", "attachment; filename=\"tickets.csv\""),
        Format::Jsonl => ("application/x-ndjson", "attachment; filename=\"tickets.jsonl\""),
    };
    let headers = [(header::CONTENT_TYPE, media_type), (header::CONTENT_DISPOSITION, name)];
    let mut response = (headers, Body::from_stream(parts)).into_response();
    response.extensions_mut().insert(Streamed);
    Ok(response)
}

fn busy(most: usize) -> Response {
    let detail = format!("The limit of {most} concurrent exports is reached. Retry later.");
    let mut response = Problem::from(Error::new(Code::Busy, detail)).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    response
}

/// An export in progress. Dropping it frees its connection and its permit.
struct File {
    export: Export,
    asked: Asked,
    writer: Writer,
    until: Instant,
    _place: OwnedSemaphorePermit,
}

/// A part on its way, with the file to read on from; `None` after the last.
type Part = BoxFuture<'static, Result<Option<(Bytes, File)>, Error>>;

impl File {
    fn next(mut self) -> Part {
        async move { Ok(self.read().await?.map(|part| (part, self))) }.boxed()
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let late = || {
            Error::new(Code::Timeout, "The export exceeded its time limit. Export fewer tickets at a time.")
        };
        if self.until <= Instant::now() {
            return Err(late());
        }
        let batch = timeout_at(self.until, self.export.next()).await.map_err(|_| late())??;
        let is_first = self.writer.is_first();
        let tickets = match &batch {
            Some((tickets, people)) => self.asked.whole(tickets, people),
            None if is_first => Vec::new(),
            None => return Ok(None),
        };
        let part = self.writer.write(tickets, &self.asked);
        part.map(|part| Some(part.into()))
            .map_err(|source| Error::internal("A part of the export could not be written.", source))
    }
}

/// The writer of a format.
enum Writer {
    Lines,
    Table { columns: Vec<Member>, is_raw: bool, is_begun: bool },
}

impl Writer {
    /// Whether the header row is still to be written.
    fn is_first(&self) -> bool {
        matches!(self, Self::Table { is_begun: false, .. })
    }

    fn write(&mut self, tickets: Vec<Ticket>, asked: &Asked) -> io::Result<Vec<u8>> {
        match self {
            Self::Lines => {
                let mut lines = Vec::new();
                for ticket in tickets {
                    serde_json::to_writer(&mut lines, &asked.chosen(ticket))?;
                    lines.push(b'\n');
                }
                Ok(lines)
            }
            Self::Table { columns, is_raw, is_begun } => {
                let mut table =
                    csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
                if !std::mem::replace(is_begun, true) {
                    table.write_record(columns.iter().map(|column| guarded(column.name(), *is_raw)))?;
                }
                for ticket in &tickets {
                    let ticket = json!(ticket);
                    table.write_record(columns.iter().map(|column| cell(column.of(&ticket), *is_raw)))?;
                }
                table.into_inner().map_err(|error| error.into_error())
            }
        }
    }
}

/// A value as a cell: for a person the address or else the username, for a queue the name; several values one a line.
fn cell(value: &Value, is_raw: bool) -> String {
    let text = match value {
        Value::Null => return String::new(),
        // Numbers are our own and cannot be formulas.
        Value::Bool(_) | Value::Number(_) => return value.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(|value| cell(value, true)).collect::<Vec<_>>().join("\n"),
        Value::Object(members) => {
            let told =
                ["address", "username", "name"].into_iter().find_map(|name| members.get(name)?.as_str());
            told.unwrap_or_default().to_owned()
        }
    };
    guarded(text, is_raw)
}

/// Text that no spreadsheet runs: a `'` is put before text that begins like a formula.
fn guarded(text: String, is_raw: bool) -> String {
    if !is_raw && text.starts_with(FORMULA) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cell_is_what_a_person_would_write_into_it_and_never_a_formula() {
        for (value, expected, raw) in [
            (json!(null), "", ""),
            (json!(-5), "-5", "-5"),
            (json!("it's"), "it's", "it's"),
            (json!("=1+1"), "'=1+1", "=1+1"),
            (json!("+1"), "'+1", "+1"),
            (json!("-1"), "'-1", "-1"),
            (json!("@x"), "'@x", "@x"),
            (json!("\tx"), "'\tx", "\tx"),
            (json!("\rx"), "'\rx", "\rx"),
            (json!("a=1"), "a=1", "a=1"),
            (json!(["=a", "b"]), "'=a\nb", "=a\nb"),
            (json!([]), "", ""),
            (json!({ "id": "1", "name": "Support" }), "Support", "Support"),
            (json!([{ "address": "=x@example.org", "username": "x" }]), "'=x@example.org", "=x@example.org"),
            (json!([{ "address": null, "username": "ada" }]), "ada", "ada"),
        ] {
            assert_eq!(
                (cell(&value, false).as_str(), cell(&value, true).as_str()),
                (expected, raw),
                "{value}"
            );
        }
    }
}
