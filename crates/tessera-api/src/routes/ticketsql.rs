//! What can be written in a query here: for completion, and for programs that build queries.

use crate::app::App;
use crate::error::Result;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tessera_core::db::ops::ticket_counts::{Standing, standing};
use tessera_core::desk::clock;
use tessera_core::models::page::{LIMIT_DEFAULT, LIMIT_MAX};
use tessera_core::models::text::fold;
use tessera_core::plan::Catalog;
use tessera_core::query::describe::{DATES, Described, PLACEHOLDERS, describe};
use tessera_core::query::parser::KEYWORDS;
use tessera_core::query::sql::KEYS_MAX;
use tessera_core::query::{Purpose, ast, words};
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;

/// How old the counts may be.
const AGE_MAX: Duration = Duration::from_secs(60);

/// How many tickets there are, counted at most once a minute however many ask.
#[derive(Debug, Default)]
pub struct Census(Mutex<Option<(Instant, Arc<Taken>)>>);

/// A count, and when it was taken.
#[derive(Debug)]
struct Taken {
    at: OffsetDateTime,
    /// `None` = there are more than can be counted in time.
    standing: Option<Vec<Standing>>,
}

impl Census {
    async fn take(&self, app: &App) -> Result<Arc<Taken>> {
        let mut last = self.0.lock().await;
        if let Some((since, taken)) = last.as_ref()
            && since.elapsed() < AGE_MAX
        {
            return Ok(Arc::clone(taken));
        }
        let standing = standing(&app.tessera.pools().read).await?;
        let taken = Arc::new(Taken { at: clock::now(), standing });
        *last = Some((Instant::now(), Arc::clone(&taken)));
        Ok(taken)
    }
}

/// What can be written in a query.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuerySchema {
    /// The fields; the last is for all custom ones.
    fields: Vec<QueryField>,
    /// The custom fields, which are written `CF.{Name}`.
    custom_fields: Vec<QueryCustomField>,
    /// The statuses of all lifecycles.
    statuses: Vec<QueryStatus>,
    /// The queues.
    queues: Vec<QueryQueue>,
    /// When tickets were counted; at most a minute ago. Null when there are more than can be counted in a moment.
    #[serde(with = "time::serde::rfc3339::option")]
    counted_at: Option<OffsetDateTime>,
    /// Words that stand for something else.
    placeholders: Vec<QueryPlaceholder>,
    /// A date of every form.
    dates: Vec<&'static str>,
    /// Words that are never names.
    keywords: Vec<&'static str>,
    /// How much there may be.
    limits: QueryLimits,
}

/// A field of the language.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryField {
    /// As it is written.
    name: String,
    /// What kind of value it has.
    kind: &'static str,
    /// What it is.
    description: &'static str,
    /// Its parts, as in `Requestor.Name`.
    parts: Vec<&'static str>,
    /// What may follow it.
    operators: QueryOperators,
    /// Whether a search can be ordered by it.
    is_orderable: bool,
}

/// What may follow a field; nothing where it is not known.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryOperators {
    /// In a search.
    search: Vec<&'static str>,
    /// In the condition of a scrip.
    condition: Vec<&'static str>,
}

/// A custom field.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryCustomField {
    /// As it is written.
    name: String,
    /// `Freeform`, `SelectSingle` or `SelectMulti`.
    field_type: String,
    /// What may be chosen; of Freeform nothing is listed.
    values: Vec<String>,
    /// Whether a ticket may have several values.
    is_multiple: bool,
    /// The queues that have it.
    queues: Vec<String>,
    /// Disabled ones keep their values.
    disabled: bool,
}

/// A status.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryStatus {
    /// As it is written.
    name: String,
    /// The lifecycles that have it, with its class there: `initial`, `active` or `inactive`.
    lifecycles: BTreeMap<String, &'static str>,
    /// How many tickets have it.
    tickets: Option<i64>,
}

/// A queue.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryQueue {
    /// Its name.
    name: String,
    /// The name of its lifecycle.
    lifecycle: String,
    /// A disabled queue takes no new tickets.
    disabled: bool,
    /// How many tickets are in it.
    tickets: Option<i64>,
}

/// A word that stands for something else.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryPlaceholder {
    /// As it is written.
    word: &'static str,
    /// The fields that take it.
    fields: &'static [&'static str],
    /// What it stands for.
    description: &'static str,
}

/// How much there may be.
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
    /// Items per page when none is asked for.
    page_default: i64,
    /// Exports at a time.
    exports: usize,
}

/// Says what can be written in a query here: fields, operators, names, values, and how many tickets there are of each.
#[utoipa::path(get, path = "/api/ticketsql/schema", operation_id = "getQuerySchema", tag = "tickets", responses(
    (status = 200, body = QuerySchema, description = "The language as the compiler has it, and the names of this desk.")
))]
pub async fn schema(State(app): State<App>) -> Result<Json<QuerySchema>> {
    let catalog = app.tessera.fresh_catalog().await?;
    let census = app.census.take(&app).await?;
    let described = describe(&catalog.query_fields(Purpose::Condition));
    Ok(Json(QuerySchema {
        fields: described.into_iter().map(QueryField::from).collect(),
        custom_fields: custom_fields(&catalog),
        statuses: statuses(&catalog, &census),
        queues: queues(&catalog, &census),
        counted_at: census.standing.is_some().then_some(census.at),
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

impl Taken {
    fn tickets(&self, of: impl Fn(&Standing) -> bool) -> Option<i64> {
        let standing = self.standing.as_ref()?;
        Some(standing.iter().filter(|standing| of(standing)).map(|standing| standing.tickets).sum())
    }
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
    let fields = catalog.fields.iter().map(|field| QueryCustomField {
        name: ast::Name::of(&["CF", &field.name]).to_string(),
        field_type: format!("{:?}", field.field_type),
        values: field.values.clone(),
        is_multiple: field.is_multiple(),
        queues: queues_of(field.id),
        disabled: field.disabled,
    });
    fields.collect()
}

fn statuses(catalog: &Catalog, census: &Taken) -> Vec<QueryStatus> {
    let mut lifecycles: BTreeMap<String, BTreeMap<String, &'static str>> = BTreeMap::new();
    for lifecycle in catalog.lifecycles.iter() {
        for status in lifecycle.statuses() {
            let class = lifecycle.class_of(status).map_or("", |class| class.as_str());
            lifecycles.entry(status.clone()).or_default().insert(lifecycle.name().to_owned(), class);
        }
    }
    let status = |(name, lifecycles): (String, _)| {
        let tickets = census.tickets(|standing| standing.status == fold(&name));
        QueryStatus { name, lifecycles, tickets }
    };
    lifecycles.into_iter().map(status).collect()
}

fn queues(catalog: &Catalog, census: &Taken) -> Vec<QueryQueue> {
    let queues = catalog.queues.iter().map(|queue| QueryQueue {
        name: queue.name.clone(),
        lifecycle: catalog.lifecycle_of(queue.id).map(|life| life.name().to_owned()).unwrap_or_default(),
        disabled: queue.disabled,
        tickets: census.tickets(|standing| standing.queue == queue.id),
    });
    queues.collect()
}
