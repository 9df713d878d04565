//! The query language as this desk has it, for completion and for programs that build queries.

use crate::app::App;
use crate::error::Result;
use crate::extract::Authenticated;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::collections::BTreeMap;
use tessera_core::desk::reads::Counts;
use tessera_core::models::page::{LIMIT_DEFAULT, LIMIT_MAX};
use tessera_core::models::text::fold;
use tessera_core::plan::Catalog;
use tessera_core::query::describe::{DATES, Described, PLACEHOLDERS, describe};
use tessera_core::query::parser::KEYWORDS;
use tessera_core::query::sql::KEYS_MAX;
use tessera_core::query::{Purpose, ast, words};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// The query language.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuerySchema {
    /// The fields; the last one stands for all custom fields.
    fields: Vec<QueryField>,
    /// The custom fields, written `CF.{Name}`. Disabled fields are not listed: a query cannot use them.
    custom_fields: Vec<QueryCustomField>,
    /// The statuses of all lifecycles.
    statuses: Vec<QueryStatus>,
    /// The queues.
    queues: Vec<QueryQueue>,
    /// The time at which tickets were counted, at most a minute ago; null if there are too many to count within a second.
    #[serde(with = "time::serde::rfc3339::option")]
    counted_at: Option<OffsetDateTime>,
    /// Words that stand for other values.
    placeholders: Vec<QueryPlaceholder>,
    /// An example of each form of date.
    dates: Vec<&'static str>,
    /// Reserved words.
    keywords: Vec<&'static str>,
    /// Limits.
    limits: QueryLimits,
}

/// A field of the query language.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryField {
    /// The name, as written in a query.
    name: String,
    /// The kind of its values.
    kind: &'static str,
    /// The meaning.
    description: &'static str,
    /// Its parts, as in `Requestor.Name`.
    parts: Vec<&'static str>,
    /// The operators that can follow it.
    operators: QueryOperators,
    /// Whether searches can be ordered by it.
    is_orderable: bool,
}

/// The operators of a field; empty where the field is not available.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryOperators {
    /// In searches.
    search: Vec<&'static str>,
    /// In conditions of scrips.
    condition: Vec<&'static str>,
}

/// A custom field.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryCustomField {
    /// The name, as written in a query.
    name: String,
    /// `Freeform`, `SelectSingle` or `SelectMulti`.
    field_type: String,
    /// The values to choose from; empty for Freeform.
    values: Vec<String>,
    /// Whether a ticket can have several values.
    is_multiple: bool,
    /// The queues that use it.
    queues: Vec<String>,
}

/// A status.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryStatus {
    /// The name, as written in a query.
    name: String,
    /// The lifecycles that have it, with its class there: `initial`, `active` or `inactive`.
    lifecycles: BTreeMap<String, &'static str>,
    /// The number of tickets that have it.
    tickets: Option<i64>,
}

/// A queue.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryQueue {
    /// Its name.
    name: String,
    /// The name of its lifecycle.
    lifecycle: String,
    /// Whether it is disabled. Disabled queues do not accept new tickets.
    disabled: bool,
    /// The number of tickets in it.
    tickets: Option<i64>,
}

/// A word that stands for another value.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryPlaceholder {
    /// The name, as written in a query.
    word: &'static str,
    /// The fields that accept it.
    fields: &'static [&'static str],
    /// The value that it stands for.
    description: &'static str,
}

/// Limits.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryLimits {
    /// Bytes of a query.
    query_bytes: usize,
    /// Parentheses and NOTs within each other.
    depth: usize,
    /// Tests in a query.
    tests: usize,
    /// Values after IN.
    values: usize,
    /// Words after MATCHES.
    words: usize,
    /// Fields to order by.
    order: usize,
    /// Items per page.
    page: i64,
    /// Items per page by default.
    page_default: i64,
    /// Concurrent exports.
    exports: usize,
}

/// Describes the query language as this desk has it: fields, operators, names, values, and the number of tickets for each.
#[utoipa::path(get, path = "/api/ticketsql/schema", operation_id = "getQuerySchema", tag = "tickets", responses(
    (status = 200, body = QuerySchema, description = "The language and the names of this desk.")
))]
pub async fn schema(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
) -> Result<Json<QuerySchema>> {
    let catalog = app.tessera.configuration(&caller).await?;
    let counts = app.tessera.ticket_counts(&caller).await?;
    let described = describe(&catalog.query_fields(Purpose::Condition));
    Ok(Json(QuerySchema {
        fields: described.into_iter().map(QueryField::from).collect(),
        custom_fields: custom_fields(&catalog),
        statuses: statuses(&catalog, &counts),
        queues: queues(&catalog, &counts),
        counted_at: counts.tickets.is_some().then_some(counts.at),
        placeholders: PLACEHOLDERS
            .map(|(word, fields, description)| QueryPlaceholder { word, fields, description })
            .into(),
        dates: DATES.to_vec(),
        keywords: KEYWORDS.to_vec(),
        limits: QueryLimits {
            query_bytes: ast::QUERY_MAX,
            depth: ast::DEPTH_MAX,
            tests: ast::PREDICATES_MAX,
            values: ast::VALUES_MAX,
            words: words::TERMS_MAX,
            order: KEYS_MAX,
            page: LIMIT_MAX,
            page_default: LIMIT_DEFAULT,
            exports: app.load.exports,
        },
    }))
}

impl From<Described> for QueryField {
    fn from(described: Described) -> Self {
        let Described { name, kind, description, parts, search, condition, is_orderable } = described;
        Self { name, kind, description, parts, operators: QueryOperators { search, condition }, is_orderable }
    }
}

fn custom_fields(catalog: &Catalog) -> Vec<QueryCustomField> {
    let queues_of = |id| {
        let having = catalog.queues.iter().filter(move |queue| queue.custom_fields.contains(&id));
        having.map(|queue| queue.name.clone()).collect()
    };
    let enabled = catalog.fields.iter().filter(|field| !field.disabled);
    let fields = enabled.map(|field| QueryCustomField {
        name: ast::Name::of(&["CF", &field.name]).to_string(),
        field_type: format!("{:?}", field.field_type),
        values: field.values.clone(),
        is_multiple: field.is_multiple(),
        queues: queues_of(field.id),
    });
    fields.collect()
}

fn statuses(catalog: &Catalog, counts: &Counts) -> Vec<QueryStatus> {
    let mut lifecycles: BTreeMap<String, BTreeMap<String, &'static str>> = BTreeMap::new();
    for lifecycle in catalog.lifecycles.iter() {
        for status in lifecycle.statuses() {
            let class = lifecycle.class_of(status).map_or("", |class| class.as_str());
            lifecycles.entry(status.clone()).or_default().insert(lifecycle.name().to_owned(), class);
        }
    }
    let status = |(name, lifecycles): (String, _)| {
        let tickets = counts.total(|count| count.status == fold(&name));
        QueryStatus { name, lifecycles, tickets }
    };
    lifecycles.into_iter().map(status).collect()
}

fn queues(catalog: &Catalog, counts: &Counts) -> Vec<QueryQueue> {
    let queues = catalog.queues.iter().map(|queue| QueryQueue {
        name: queue.name.clone(),
        lifecycle: catalog.lifecycle_of(queue.id).map(|life| life.name().to_owned()).unwrap_or_default(),
        disabled: queue.disabled,
        tickets: counts.total(|count| count.queue == queue.id),
    });
    queues.collect()
}
