//! Search: by a query or by a filter in JSON, page by page or explained.

use super::selection::{Picked, Selection};
use crate::app::App;
use crate::error::{PlaceOfQuery, Problem, ProblemDocument, Result};
use crate::extract::{Authenticated, Body, Params, limit};
use crate::schema;
use crate::views::Ticket;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::convert::Infallible;
use std::sync::Arc;
use tessera_core::desk::reads::{Count, Found, Search, Warning};
use tessera_core::desk::{Caller, clock};
use tessera_core::error::Error;
use tessera_core::models;
use tessera_core::models::text::{between_commas, quote};
use tessera_core::plan::{Catalog, Names, People};
use tessera_core::query::sql::{Asker, Sorted};
use tessera_core::query::{Dialect, Query, Zone, filter};
use utoipa::{IntoParams, ToSchema};

schema::body!(FilterInput, "FilterInput", schema::filter());
schema::body!(TicketPart, "TicketPart", schema::part_of::<crate::views::Ticket>());

/// A search.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchBody {
    /// TicketSQL, such as `Status = 'open' AND CF.{Severity} = 'high'`. Without `query` and `filter`, all tickets are found.
    #[serde(default)]
    #[schema(max_length = 8192)]
    pub query: Option<String>,
    /// The same as JSON, instead of `query`: a tree, or the short form in which everything must hold.
    #[serde(default)]
    #[schema(value_type = Option<FilterInput>)]
    pub filter: Option<Value>,
    /// How `query` is read; `tessera` by default.
    #[serde(default)]
    pub dialect: Option<DialectName>,
    /// The order; newest tickets first by default.
    #[serde(default)]
    #[schema(max_items = 5)]
    pub order: Option<Vec<OrderTerm>>,
    /// Items per page; 50 by default.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 200)]
    pub limit: Option<i64>,
    /// `next_cursor` of the previous page, for the same query and order.
    #[serde(default)]
    pub cursor: Option<String>,
    /// How to count all tickets that are found; `none` by default.
    #[serde(default)]
    pub count: Option<CountName>,
    /// The only members to return for each ticket: `number`, `queue`, `custom_fields.Severity`.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 200)]
    pub fields: Option<Vec<String>>,
    /// The time zone in which days begin and end, by its IANA name; `UTC` by default.
    #[serde(default)]
    #[schema(example = "Europe/Berlin")]
    pub timezone: Option<String>,
}

/// How a query is read.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DialectName {
    /// As the page on TicketSQL describes.
    Tessera,
    /// As in RT: AND and OR, dates, patterns, names of priorities, and the place of unset values in an order.
    Rt,
}

/// How to count the tickets that are found.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CountName {
    /// Not at all.
    None,
    /// Exactly up to 1,000, and as an estimate above.
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
    /// `asc` by default. Tickets without a value come last in both directions; with the dialect `rt`, first or last as in RT.
    #[serde(default)]
    pub direction: Option<Direction>,
}

/// The direction of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Smallest first.
    Asc,
    /// Largest first.
    Desc,
}

/// Filters, order and page of a list of tickets.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// TicketSQL, such as `Status = 'open' AND Queue = 'Support'`.
    query: Option<String>,
    /// Instead of `query`: name or id of a queue.
    queue: Option<String>,
    /// Instead of `query`: a status. Deleted tickets are left out unless you ask for that status.
    status: Option<String>,
    /// Instead of `query`: a username, or `Nobody`.
    owner: Option<String>,
    /// `rt` reads the query as RT does.
    #[param(inline)]
    dialect: Option<DialectName>,
    /// Comma-separated fields to order by; `-` reverses one: `-LastUpdated,id`.
    order: Option<String>,
    /// Items per page, 1 to 200; 50 by default.
    limit: Option<i64>,
    /// `next_cursor` of the previous page, for the same query and order.
    cursor: Option<String>,
    /// `none`, `estimate` (exact up to 1,000) or `exact`.
    #[param(inline)]
    count: Option<CountName>,
    /// The only members to return for each ticket, comma-separated: `number,subject,custom_fields.Severity`.
    fields: Option<String>,
    /// The time zone in which days begin and end, such as `Europe/Berlin`; `UTC` by default.
    timezone: Option<String>,
}

/// A page of the tickets that were found.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchPage {
    /// The tickets, with the members in `fields` or with all members.
    #[schema(value_type = Vec<TicketPart>)]
    items: Vec<Item>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
    /// The number of tickets on all pages, if `count` asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<Counted>,
    /// The query as it was parsed, in canonical form; for a filter, the equivalent query.
    query: String,
    /// Remarks on how the query was parsed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<QueryWarning>,
}

/// A ticket that was found.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Item {
    /// All members.
    Whole(Box<Ticket>),
    /// The members in `fields`.
    Part(Picked),
}

/// The number of tickets.
#[derive(Debug, Serialize, ToSchema)]
pub struct Counted {
    /// The number.
    tickets: i64,
    /// Whether the number is exact; otherwise it is an estimate.
    is_exact: bool,
}

/// A remark on how a query was parsed.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueryWarning {
    /// The remark, for people.
    message: String,
    /// A way to resolve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The part of the query that it refers to.
    span: PlaceOfQuery,
    /// The line of its first character, from 1.
    line: usize,
    /// The column of its first character, from 1.
    column: usize,
}

/// An explained search.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchExplained {
    /// The query as it was parsed, in canonical form.
    query: String,
    /// The query as a tree, as `filter` accepts it.
    #[schema(value_type = FilterInput)]
    tree: Value,
    /// The SQL statement for the page.
    sql: String,
    /// The values of its parameters, `$1` first.
    binds: Vec<String>,
    /// PostgreSQL's plan: the output of `EXPLAIN (FORMAT JSON)`.
    #[schema(value_type = Vec<Object>)]
    plan: Value,
    /// Remarks on how the query was parsed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<QueryWarning>,
}

/// Searches tickets by a query or a filter.
#[utoipa::path(post, path = "/api/tickets/search", operation_id = "searchTickets", tag = "tickets",
    request_body(content = SearchBody, example = json!({ "query": "Status = '__Active__' AND Queue = 'Support'", "order": [{ "field": "LastUpdated", "direction": "desc" }], "limit": 20 })), responses(
    (status = 200, body = SearchPage, description = "A page of tickets."),
    (status = 400, body = ProblemDocument, description = "`invalid_query` with `span`, `line`, `column` and `hint`; `malformed_cursor`, also for a cursor of a different query or order."),
    (status = 422, body = ProblemDocument, description = "`invalid`: the filter, the order, a member or the time zone is not valid; `query_timeout`.")
))]
pub async fn search(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    body: Body<SearchBody>,
) -> Result<Json<SearchPage>> {
    Asked::of(body.value, &app, caller).await?.page(&app).await.map(Json)
}

/// Explains how a search is parsed and run, without running it.
#[utoipa::path(post, path = "/api/tickets/search/explain", operation_id = "explainSearch", tag = "tickets",
    request_body(content = SearchBody, example = json!({ "query": "Status = '__Active__' AND Queue = 'General'" })), responses(
    (status = 200, body = SearchExplained, description = "The tree, the statement and PostgreSQL's plan."),
    (status = 400, body = ProblemDocument, description = "As for the search."),
    (status = 422, body = ProblemDocument, description = "As for the search.")
))]
pub async fn explain(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    body: Body<SearchBody>,
) -> Result<Json<SearchExplained>> {
    let asked = Asked::of(body.value, &app, caller).await?;
    let explained = app.tessera.explain_search(&asked.caller, &asked.catalog, &asked.search()).await;
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

/// Lists tickets, newest first or in the given order.
#[utoipa::path(get, path = "/api/tickets", operation_id = "listTickets", tag = "tickets", params(ListParams), responses(
    (status = 200, body = SearchPage, description = "A page of tickets."),
    (status = 400, body = ProblemDocument, description = "`invalid_query` with `span`, `line`, `column` and `hint`; `malformed_query`; `malformed_cursor`."),
    (status = 422, body = ProblemDocument, description = "`invalid`: the order, a member or the time zone is not valid; `query_timeout`.")
))]
pub async fn list(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Params(params): Params<ListParams>,
) -> Result<Json<SearchPage>> {
    let words = [("Queue", params.queue), ("Status", params.status), ("Owner", params.owner)];
    let words = words.into_iter().filter_map(|(key, word)| Some((key.to_owned(), word?.into())));
    let keys: Map<String, Value> = words.collect();
    if params.query.is_some() && !keys.is_empty() {
        let message = "cannot be combined with queue, status or owner; write them into the query";
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
    Asked::of(body, &app, caller).await?.page(&app).await.map(Json)
}

/// A search in whichever form it was sent: checked, except for the query, which the compiler parses.
pub(super) struct Asked {
    /// The query, or the filter as a query.
    pub query: String,
    /// The configuration in whose terms it is written.
    pub catalog: Arc<Catalog>,
    /// The members of each ticket to return; `None` = all.
    pub selection: Option<Selection>,
    /// The caller.
    pub caller: Caller,
    dialect: Dialect,
    order: Vec<Sorted>,
    limit: i64,
    cursor: Option<String>,
    count: Count,
    asker: Asker,
}

impl Asked {
    /// Checks a search.
    pub async fn of(body: SearchBody, app: &App, caller: Caller) -> Result<Self, Error> {
        let catalog = app.tessera.configuration(&caller).await?;
        let zone = body.timezone.as_deref().map_or_else(|| Ok(Zone::utc()), zone)?;
        let selection = body.fields.map(|words| Selection::parse(&words, &catalog)).transpose()?;
        // A filter is printed in the dialect of Tessera.
        let (query, dialect) = match (body.query, body.filter) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid_field(
                    "filter",
                    "cannot be combined with query; send one of them",
                ));
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
            asker: Asker { user: caller.user.id, now: clock::now(), zone },
            caller,
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

    /// Tickets with all members.
    pub fn whole(&self, tickets: &[models::Ticket], people: &People) -> Vec<Ticket> {
        let names = Names { catalog: &self.catalog, people, actor: Some(&self.caller.user) };
        tickets.iter().map(|ticket| Ticket::of(ticket, names)).collect()
    }

    /// The selected members of a ticket.
    pub fn chosen(&self, ticket: Ticket) -> Item {
        match &self.selection {
            Some(selection) => Item::Part(selection.pick(&ticket)),
            None => Item::Whole(Box::new(ticket)),
        }
    }

    async fn page(&self, app: &App) -> Result<SearchPage> {
        let found = app.tessera.search(&self.caller, &self.catalog, &self.search()).await;
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

/// Parses the order of a query string.
pub(super) fn order_of(text: &str) -> Vec<OrderTerm> {
    Sorted::list(text).into_iter().map(OrderTerm::from).collect()
}

fn zone(name: &str) -> Result<Zone, Error> {
    Zone::parse(name).ok_or_else(|| {
        let message =
            format!("{} is not a time zone; use an IANA name such as Europe/Berlin, or UTC", quote(name));
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
