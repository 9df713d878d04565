//! Search: a query, or a filter that says the same in JSON; page by page, or taken apart.

use super::bodies::strict;
use super::selection::Selection;
use crate::app::App;
use crate::error::{PlaceOfQuery, Problem, ProblemDocument, Result};
use crate::extract::{Body, Params, limit};
use crate::schema;
use crate::views::Ticket;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use tessera_core::db::search::{self, Count, Found, Search, Warning};
use tessera_core::desk::clock;
use tessera_core::error::Error;
use tessera_core::models::text::{between_commas, quote};
use tessera_core::models::{self, User};
use tessera_core::plan::{Catalog, Names, People};
use tessera_core::query::sql::{Asker, Sorted};
use tessera_core::query::{Dialect, Query, Zone, filter};
use utoipa::{IntoParams, ToSchema};

schema::body!(FilterInput, "FilterInput", schema::filter());
schema::body!(TicketPart, "TicketPart", schema::part_of::<crate::views::Ticket>());

/// What to search for, and what to tell of it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchBody {
    /// TicketSQL, as `Status = 'open' AND CF.{Severity} = 'high'`; everything when neither it nor `filter` is given.
    #[serde(default)]
    #[schema(max_length = 8192)]
    pub query: Option<String>,
    /// The same as JSON, in place of `query`: a tree, or in short all that must hold.
    #[serde(default, deserialize_with = "strict")]
    #[schema(value_type = Option<FilterInput>)]
    pub filter: Option<Value>,
    /// How AND and OR on one level of `query` are read; `tessera` when not given.
    #[serde(default)]
    pub dialect: Option<DialectName>,
    /// What comes first; the newest tickets when not given.
    #[serde(default)]
    #[schema(max_items = 5)]
    pub order: Option<Vec<OrderTerm>>,
    /// Items per page; 50 when not given.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 200)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before, of the same query and order.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Whether all that is found is counted; `none` when not given.
    #[serde(default)]
    pub count: Option<CountName>,
    /// Members that each item shall have, and no other: `number`, `queue`, `custom_fields.Severity`.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 200)]
    pub fields: Option<Vec<String>>,
    /// Where days begin and end, by its name in the IANA database; `UTC` when not given.
    #[serde(default)]
    #[schema(example = "Europe/Berlin")]
    pub timezone: Option<String>,
}

/// How a query is read.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DialectName {
    /// AND binds tighter than OR.
    Tessera,
    /// As RT does: a level is joined by the last word that stands on it.
    Rt,
}

/// How exactly all that is found is counted.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CountName {
    /// Not at all.
    None,
    /// Exactly up to 1,000, and by an estimate above.
    Estimate,
    /// Exactly, however long it takes.
    Exact,
}

/// A field to order by.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderTerm {
    /// The field, as in a query.
    pub field: String,
    /// `asc` when not given. Tickets without a value come last in both.
    #[serde(default)]
    pub direction: Option<Direction>,
}

/// Which end comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The least first.
    Asc,
    /// The largest first.
    Desc,
}

/// Which tickets, and what to tell of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// TicketSQL, as `Status = 'open' AND Queue = 'Support'`.
    query: Option<String>,
    /// In place of `query`: name or id of a queue.
    queue: Option<String>,
    /// In place of `query`: a status. Deleted tickets are left out unless it is named.
    status: Option<String>,
    /// In place of `query`: a username, or `Nobody`.
    owner: Option<String>,
    /// `rt` reads AND and OR on one level as RT does.
    #[param(inline)]
    dialect: Option<DialectName>,
    /// Fields to order by, between commas; `-` before one turns it round: `-LastUpdated,id`.
    order: Option<String>,
    /// Items per page, 1 to 200; 50 when not given.
    limit: Option<i64>,
    /// `next_cursor` of the page before, of the same query and order.
    cursor: Option<String>,
    /// `none`, `estimate` (exact up to 1,000) or `exact`.
    #[param(inline)]
    count: Option<CountName>,
    /// Members that each item shall have, between commas: `number,subject,custom_fields.Severity`.
    fields: Option<String>,
    /// Where days begin and end, as `Europe/Berlin`; `UTC` when not given.
    timezone: Option<String>,
}

/// A page of what was found.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchPage {
    /// The tickets; of each what `fields` names, or all.
    #[schema(value_type = Vec<TicketPart>)]
    items: Vec<Value>,
    /// `cursor` of the next page; null on the last.
    next_cursor: Option<String>,
    /// How many tickets there are on all pages, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<Counted>,
    /// The query as it was understood, in one spelling; of a filter its text.
    query: String,
    /// What to know of how it was read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<QueryWarning>,
}

/// How many tickets there are.
#[derive(Debug, Serialize, ToSchema)]
pub struct Counted {
    /// So many.
    tickets: i64,
    /// Whether they were counted; else it is an estimate.
    is_exact: bool,
}

/// What to know of how a query was read.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryWarning {
    /// A sentence.
    message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The part of the query.
    span: PlaceOfQuery,
    /// The line of its first character, from 1.
    line: usize,
    /// The column of its first character, from 1.
    column: usize,
}

/// A search taken apart.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchExplained {
    /// The query as it was understood, in one spelling.
    query: String,
    /// Its tree, which `filter` takes.
    #[schema(value_type = FilterInput)]
    tree: Value,
    /// The statement for the page.
    sql: String,
    /// The values of its parameters, `$1` first.
    binds: Vec<String>,
    /// How PostgreSQL would run it: what `EXPLAIN (FORMAT JSON)` says.
    #[schema(value_type = Vec<Object>)]
    plan: Value,
    /// What to know of how it was read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<QueryWarning>,
}

/// Searches tickets by a query or a filter.
#[utoipa::path(post, path = "/api/tickets/search", operation_id = "searchTickets", tag = "tickets",
    request_body(content = SearchBody, example = json!({ "query": "Status = '__Active__' AND Queue = 'Support'", "order": [{ "field": "LastUpdated", "direction": "desc" }], "limit": 20 })), responses(
    (status = 200, body = SearchPage, description = "A page of tickets."),
    (status = 400, body = ProblemDocument, description = "`invalid_query` with `span`, `line`, `column` and `hint`; `malformed_cursor`, also for the cursor of another query or order."),
    (status = 422, body = ProblemDocument, description = "`invalid`: a filter, an order, a member or a time zone that there is not; `query_timeout`.")
))]
pub async fn search(State(app): State<App>, body: Body<SearchBody>) -> Result<Json<SearchPage>> {
    Asked::of(body.value, &app).await?.page(&app).await.map(Json)
}

/// Says how a search is read and run, and does not run it.
#[utoipa::path(post, path = "/api/tickets/search/explain", operation_id = "explainSearch", tag = "tickets",
    request_body(content = SearchBody, example = json!({ "query": "Status = '__Active__' AND Queue = 'General'" })), responses(
    (status = 200, body = SearchExplained, description = "The tree, the statement and PostgreSQL's plan."),
    (status = 400, body = ProblemDocument, description = "As of the search."),
    (status = 422, body = ProblemDocument, description = "As of the search.")
))]
pub async fn explain(State(app): State<App>, body: Body<SearchBody>) -> Result<Json<SearchExplained>> {
    let asked = Asked::of(body.value, &app).await?;
    let explained = search::explain(&app.tessera.pools().read, &asked.catalog, &asked.search()).await;
    let explained = explained.map_err(|error| Problem::of_search(error, &asked.query))?;
    let Ok::<Query<_>, Infallible>(tree) = explained.tree.try_map(|test| Ok(test.predicate.clone()));
    Ok(Json(SearchExplained {
        query: tree.to_string(),
        tree: filter::write(&tree),
        sql: explained.statement.text,
        binds: explained.statement.binds.iter().map(ToString::to_string).collect(),
        plan: explained.plan,
        warnings: explained.warnings.into_iter().map(QueryWarning::from).collect(),
    }))
}

/// Lists tickets, newest first, or in the order and by the query that the URL says.
#[utoipa::path(get, path = "/api/tickets", operation_id = "listTickets", tag = "tickets", params(ListParams), responses(
    (status = 200, body = SearchPage, description = "A page of tickets."),
    (status = 400, body = ProblemDocument, description = "`invalid_query` with `span`, `line`, `column` and `hint`; `malformed_query`; `malformed_cursor`."),
    (status = 422, body = ProblemDocument, description = "`invalid`: an order, a member or a time zone that there is not; `query_timeout`.")
))]
pub async fn list(State(app): State<App>, Params(params): Params<ListParams>) -> Result<Json<SearchPage>> {
    let words = [("Queue", params.queue), ("Status", params.status), ("Owner", params.owner)];
    let words = words.into_iter().filter_map(|(key, word)| Some((key.to_owned(), word?.into())));
    let keys: Map<String, Value> = words.collect();
    if params.query.is_some() && !keys.is_empty() {
        let message = "is given beside queue, status or owner; write these into the query";
        return Err(Error::invalid_field("query", message).into());
    }
    let body = SearchBody {
        query: params.query,
        filter: (!keys.is_empty()).then_some(Value::Object(keys)),
        dialect: params.dialect,
        order: params.order.as_deref().map(order_of),
        limit: params.limit,
        cursor: params.cursor,
        count: params.count,
        fields: params.fields.as_deref().map(between_commas),
        timezone: params.timezone,
    };
    Asked::of(body, &app).await?.page(&app).await.map(Json)
}

/// What was asked, in whichever form: understood, but for the query, which only the compiler understands.
pub(super) struct Asked {
    /// The query; of a filter its text.
    pub query: String,
    /// Of what it speaks.
    pub catalog: Arc<Catalog>,
    /// What is told of each ticket; `None` = all.
    pub selection: Option<Selection>,
    dialect: Dialect,
    order: Vec<Sorted>,
    limit: i64,
    cursor: Option<String>,
    count: Count,
    asker: Asker,
    user: User,
}

impl Asked {
    /// Reads what was asked.
    pub async fn of(body: SearchBody, app: &App) -> Result<Self, Error> {
        let catalog = app.tessera.fresh_catalog().await?;
        let user = app.tessera.administrator()?.user;
        let zone = body.timezone.as_deref().map_or_else(|| Ok(Zone::utc()), zone)?;
        let selection = body.fields.map(|words| Selection::parse(&words, &catalog)).transpose()?;
        // A filter is printed in our own dialect.
        let (query, dialect) = match (body.query, body.filter) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid_field("filter", "is given beside query; send one of them"));
            }
            (_, Some(json)) => {
                let tree = filter::read(&json).map_err(|fault| Error::invalid(vec![fault]))?;
                (tree.to_string(), Dialect::Tessera)
            }
            (query, None) => {
                (query.unwrap_or_default(), body.dialect.map_or_else(Dialect::default, Dialect::from))
            }
        };
        Ok(Self {
            query,
            dialect,
            selection,
            order: body.order.unwrap_or_default().into_iter().map(Sorted::from).collect(),
            limit: limit(body.limit)?,
            cursor: body.cursor,
            count: body.count.map_or(Count::None, Count::from),
            asker: Asker { user: user.id, now: clock::now(), zone },
            user,
            catalog,
        })
    }

    /// The search.
    pub fn search(&self) -> Search<'_> {
        Search {
            query: &self.query,
            dialect: self.dialect,
            order: &self.order,
            limit: self.limit,
            cursor: self.cursor.as_deref(),
            count: self.count,
            asker: self.asker.clone(),
        }
    }

    /// Tickets as they are told, whole.
    pub fn whole(&self, tickets: &[models::Ticket], people: &People) -> Vec<Value> {
        let names = Names { catalog: &self.catalog, people, actor: Some(&self.user) };
        // A view has nothing that cannot be JSON.
        tickets.iter().map(|ticket| json!(Ticket::of(ticket, names))).collect()
    }

    /// What is told of a ticket.
    pub fn chosen(&self, ticket: Value) -> Value {
        match &self.selection {
            Some(selection) => selection.pick(&ticket),
            None => ticket,
        }
    }

    async fn page(&self, app: &App) -> Result<SearchPage> {
        let found = search::tickets(&app.tessera.pools().read, &self.catalog, &self.search()).await;
        let Found { page, people, count, query, warnings } =
            found.map_err(|error| Problem::of_search(error, &self.query))?;
        let items = self.whole(&page.items, &people);
        Ok(SearchPage {
            items: items.into_iter().map(|ticket| self.chosen(ticket)).collect(),
            next_cursor: page.next_cursor,
            count: count.map(|count| Counted { tickets: count.tickets, is_exact: count.is_exact }),
            query,
            warnings: warnings.into_iter().map(QueryWarning::from).collect(),
        })
    }
}

/// An order as a URL says it.
pub(super) fn order_of(text: &str) -> Vec<OrderTerm> {
    Sorted::list(text).into_iter().map(OrderTerm::from).collect()
}

fn zone(name: &str) -> Result<Zone, Error> {
    Zone::parse(name).ok_or_else(|| {
        let message = format!("{} is not the name of a time zone; write Europe/Berlin or UTC", quote(name));
        Error::invalid_field("timezone", message)
    })
}

impl From<DialectName> for Dialect {
    fn from(name: DialectName) -> Self {
        match name {
            DialectName::Tessera => Self::Tessera,
            DialectName::Rt => Self::Rt,
        }
    }
}

impl From<CountName> for Count {
    fn from(name: CountName) -> Self {
        match name {
            CountName::None => Self::None,
            CountName::Estimate => Self::Estimate,
            CountName::Exact => Self::Exact,
        }
    }
}

impl From<OrderTerm> for Sorted {
    fn from(term: OrderTerm) -> Self {
        Self { field: term.field, is_descending: term.direction == Some(Direction::Desc) }
    }
}

impl From<Sorted> for OrderTerm {
    fn from(Sorted { field, is_descending }: Sorted) -> Self {
        Self { field, direction: is_descending.then_some(Direction::Desc) }
    }
}

impl From<Warning> for QueryWarning {
    fn from(Warning { message, hint, place }: Warning) -> Self {
        Self { message, hint, span: place.into(), line: place.line, column: place.column }
    }
}
