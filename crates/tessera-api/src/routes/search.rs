//! Search by a flat filter: `{"Queue": "Support", "Status": "open", "CF.{Severity}": "high"}`.

use super::tickets::TicketPage;
use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Body, limit};
use crate::views::Names;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value};
use tessera_core::db::search::{Filter, NOBODY, tickets, users_named};
use tessera_core::error::{Error, Fault};
use tessera_core::models::text::list;
use tessera_core::models::{Role, UserId, user};
use tessera_core::plan::Catalog;
use utoipa::ToSchema;

/// Alternatives of one key.
const ALTERNATIVES_MAX: usize = 100;
/// The keys besides custom fields.
const KEYS: [&str; 10] =
    ["id", "Subject", "Status", "Queue", "Owner", "Creator", "Requestor", "Cc", "AdminCc", "Priority"];

/// What to search for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchBody {
    /// All of it must hold. A key is `id`, `Subject`, `Status`, `Queue`, `Owner`, `Creator`, `Requestor`, `Cc`, `AdminCc`,
    /// `Priority` or `CF.{Name}`; a value is a text, a number, null, or a list of which any may hold.
    #[serde(default)]
    #[schema(value_type = Object)]
    filter: Map<String, Value>,
    /// Items per page, 1 to 200; 50 when not given.
    #[serde(default)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// Searches tickets, newest first.
#[utoipa::path(post, path = "/api/tickets/search", tag = "tickets", request_body = SearchBody, responses(
    (status = 200, body = TicketPage, description = "A page of tickets."),
    (status = 422, body = ProblemDocument, description = "A key or value that there is not, with what there is.")
))]
pub async fn search(State(app): State<App>, body: Body<SearchBody>) -> Result<Json<TicketPage>> {
    let SearchBody { filter, limit, cursor } = body.value;
    run(&app, filter, limit, cursor.as_deref()).await.map(Json)
}

/// Runs a filter.
pub(super) async fn run(
    app: &App,
    filter: Map<String, Value>,
    count: Option<i64>,
    cursor: Option<&str>,
) -> Result<TicketPage> {
    let catalog = app.tessera.fresh_catalog().await?;
    let filter = resolve(app, &catalog, filter).await?;
    let (page, people) = tickets(&app.tessera.pools().read, &filter, limit(count)?, cursor).await?;
    let names = Names { catalog: &catalog, people: &people, actor: None };
    let items = page.items.iter().map(|ticket| names.ticket(ticket)).collect();
    Ok(TicketPage { items, next_cursor: page.next_cursor })
}

/// Turns keys and words into what the database knows, or says all that is wrong with them.
async fn resolve(app: &App, catalog: &Catalog, keys: Map<String, Value>) -> Result<Filter, Error> {
    let mut filter = Filter::default();
    let mut faults = Vec::new();
    for (key, value) in keys {
        let outcome = match alternatives(value) {
            Ok(words) => one(app, catalog, &mut filter, &key, words).await,
            Err(message) => Err(message),
        };
        match outcome {
            Ok(()) => {}
            Err(message) if message.is_empty() => {
                return Err(Error::internal("People could not be looked up.", key));
            }
            Err(message) => faults.push(Fault::new(format!("filter.{key}"), message)),
        }
    }
    if faults.is_empty() { Ok(filter) } else { Err(Error::invalid(faults)) }
}

async fn one(
    app: &App,
    catalog: &Catalog,
    filter: &mut Filter,
    key: &str,
    words: Vec<Option<String>>,
) -> Result<(), String> {
    if let Some(name) = field_name(key) {
        let field = catalog.fields.find(name);
        let known = || list(catalog.fields.iter().map(|field| field.name.as_str()));
        let field =
            field.ok_or_else(|| format!("there is no custom field \"{name}\"; there are {}", known()))?;
        filter.fields.push((field.id, words));
        return Ok(());
    }
    let known = KEYS.into_iter().find(|known| known.eq_ignore_ascii_case(key));
    let texts = || {
        words
            .iter()
            .map(|word| word.clone().ok_or_else(|| "cannot be null".to_owned()))
            .collect::<Result<Vec<_>, _>>()
    };
    match known {
        Some("id") => filter.numbers = numbers(&texts()?)?,
        Some("Subject") => filter.subjects = texts()?,
        Some("Status") => filter.statuses = statuses(catalog, texts()?)?,
        Some("Queue") => filter.queues = queues(catalog, &texts()?)?,
        Some("Owner") => filter.owners = people(app, &words).await?,
        Some("Creator") => filter.creators = people(app, &words).await?,
        Some("Priority") => filter.priorities = numbers(&texts()?)?,
        Some("Requestor") => drop(filter.watchers.insert(Role::Requestor, texts()?)),
        Some("Cc") => drop(filter.watchers.insert(Role::Cc, texts()?)),
        Some("AdminCc") => drop(filter.watchers.insert(Role::AdminCc, texts()?)),
        _ => return Err(format!("there is no such key; there are {} and CF.{{Name}}", KEYS.join(", "))),
    }
    Ok(())
}

/// The name in `CF.{Name}` or `CF.Name`.
fn field_name(key: &str) -> Option<&str> {
    let name = key.strip_prefix("CF.").or_else(|| key.strip_prefix("cf."))?;
    Some(name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name))
}

fn alternatives(value: Value) -> Result<Vec<Option<String>>, String> {
    let word = |value: Value| match value {
        Value::Null => Ok(None),
        Value::String(text) if text.contains('\0') => Err("holds the character U+0000".to_owned()),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        other => Err(format!("holds {other}; give a text, a number, null or a list of them")),
    };
    match value {
        Value::Array(values) if values.is_empty() || values.len() > ALTERNATIVES_MAX => {
            Err(format!("is a list of {}; it must have 1 to {ALTERNATIVES_MAX}", values.len()))
        }
        Value::Array(values) => values.into_iter().map(word).collect(),
        value => word(value).map(|word| vec![word]),
    }
}

fn numbers<N: std::str::FromStr>(words: &[String]) -> Result<Vec<N>, String> {
    let number =
        |word: &String| word.parse().map_err(|_| format!("\"{word}\" is not a whole number in range"));
    words.iter().map(number).collect()
}

fn statuses(catalog: &Catalog, words: Vec<String>) -> Result<Vec<String>, String> {
    for word in &words {
        if !catalog.lifecycles.iter().any(|lifecycle| lifecycle.class_of(word).is_some()) {
            let all = catalog.lifecycles.iter().flat_map(|lifecycle| lifecycle.statuses());
            let all: std::collections::BTreeSet<&String> = all.collect();
            return Err(format!("no lifecycle has the status \"{word}\"; there are {}", list(all)));
        }
    }
    Ok(words)
}

fn queues(catalog: &Catalog, words: &[String]) -> Result<Vec<tessera_core::models::QueueId>, String> {
    let queue = |word: &String| {
        let known = || list(catalog.queues.iter().map(|queue| queue.name.as_str()));
        catalog
            .queues
            .find(word)
            .map(|queue| queue.id)
            .ok_or_else(|| format!("there is no queue \"{word}\"; there are {}", known()))
    };
    words.iter().map(queue).collect()
}

/// Users of usernames and addresses; null and `Nobody` are nobody.
async fn people(app: &App, words: &[Option<String>]) -> Result<Vec<UserId>, String> {
    let mut ids = Vec::new();
    for word in words {
        match word.as_deref() {
            None => ids.push(NOBODY),
            Some(word) if word.eq_ignore_ascii_case(user::NOBODY) => ids.push(NOBODY),
            Some(word) => {
                let found = users_named(&app.tessera.pools().read, &[word.to_owned()])
                    .await
                    .map_err(|_| String::new())?;
                if found.is_empty() {
                    return Err(format!("there is no user \"{word}\""));
                }
                ids.extend(found);
            }
        }
    }
    Ok(ids)
}
