//! Search by a flat filter: `{"Queue": "Support", "Status": "open", "CF.{Severity}": "high"}`.

use super::bodies::{SearchValue, unique};
use super::tickets::TicketPage;
use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Body, limit};
use crate::views::Names;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tessera_core::db::flat::{Filter, NOBODY, tickets, users_named};
use tessera_core::error::{Error, Fault};
use tessera_core::models::text::list;
use tessera_core::models::{CustomFieldId, Role, UserId, user};
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
    #[serde(default, deserialize_with = "unique")]
    #[schema(value_type = BTreeMap<String, SearchValue>)]
    filter: BTreeMap<String, Value>,
    /// Items per page; 50 when not given.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// Searches tickets, newest first.
#[utoipa::path(post, path = "/api/tickets/search", operation_id = "searchTickets", tag = "tickets", request_body(content = SearchBody, example = json!({ "filter": { "Queue": "Support", "Status": ["new", "open"] }, "limit": 20 })), responses(
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
    filter: BTreeMap<String, Value>,
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
async fn resolve(app: &App, catalog: &Catalog, keys: BTreeMap<String, Value>) -> Result<Filter, Error> {
    let mut filter = Filter::default();
    let mut named = BTreeSet::new();
    let mut faults = Vec::new();
    for (key, value) in keys {
        let resolved = match (known(catalog, &key), alternatives(value)) {
            (Ok(key), _) if !named.insert(key) => Err("is named twice; give it a list".to_owned().into()),
            (Ok(key), Ok(words)) => ask(app, catalog, &mut filter, key, words).await,
            (Err(message), _) | (_, Err(message)) => Err(message.into()),
        };
        match resolved {
            Ok(()) => {}
            Err(Unusable::Word(message)) => faults.push(Fault::new(format!("filter.{key}"), message)),
            Err(Unusable::Database(error)) => return Err(error),
        }
    }
    if faults.is_empty() { Ok(filter) } else { Err(Error::invalid(faults)) }
}

/// Why a key cannot be asked for.
enum Unusable {
    /// It says what cannot be.
    Word(String),
    /// What it says could not be looked up.
    Database(Error),
}

impl From<String> for Unusable {
    fn from(message: String) -> Self {
        Self::Word(message)
    }
}

/// What a key asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Member(&'static str),
    Field(CustomFieldId),
}

/// The key of a word, compared without case.
fn known(catalog: &Catalog, word: &str) -> Result<Key, String> {
    if let Some(name) = field_name(word) {
        let field = catalog.fields.find(name).map(|field| Key::Field(field.id));
        let known = || list(catalog.fields.iter().map(|field| field.name.as_str()));
        return field.ok_or_else(|| format!("there is no custom field \"{name}\"; there are {}", known()));
    }
    let member = KEYS.into_iter().find(|key| key.eq_ignore_ascii_case(word)).map(Key::Member);
    member.ok_or_else(|| format!("there is no such key; there are {} and CF.{{Name}}", KEYS.join(", ")))
}

/// Adds to the filter what one key asks for.
async fn ask(
    app: &App,
    catalog: &Catalog,
    filter: &mut Filter,
    key: Key,
    words: Vec<Option<String>>,
) -> Result<(), Unusable> {
    let texts = || -> Result<Vec<String>, String> {
        words.iter().cloned().map(|word| word.ok_or_else(|| "cannot be null".to_owned())).collect()
    };
    match key {
        Key::Field(field) => filter.fields.push((field, words)),
        Key::Member("id") => filter.numbers = numbers(&texts()?)?,
        Key::Member("Subject") => filter.subjects = texts()?,
        Key::Member("Status") => filter.statuses = statuses(catalog, texts()?)?,
        Key::Member("Queue") => filter.queues = queues(catalog, &texts()?)?,
        Key::Member("Owner") => filter.owners = people(app, catalog, &words).await?,
        Key::Member("Creator") => {
            texts()?;
            filter.creators = people(app, catalog, &words).await?;
        }
        Key::Member("Priority") => filter.priorities = numbers(&texts()?)?,
        Key::Member("Requestor") => drop(filter.watchers.insert(Role::Requestor, texts()?)),
        Key::Member("Cc") => drop(filter.watchers.insert(Role::Cc, texts()?)),
        Key::Member(_) => drop(filter.watchers.insert(Role::AdminCc, texts()?)),
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
            let all: BTreeSet<&String> = all.collect();
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
async fn people(app: &App, catalog: &Catalog, words: &[Option<String>]) -> Result<Vec<UserId>, Unusable> {
    let mut ids = Vec::new();
    for word in words.iter().map(|word| word.as_deref().unwrap_or(user::NOBODY)) {
        if word.eq_ignore_ascii_case(user::NOBODY) {
            ids.push(NOBODY);
            continue;
        }
        let found = users_named(&app.tessera.pools().read, &[word.to_owned()]).await;
        let found = found.map_err(Unusable::Database)?;
        if found.is_empty() {
            let agents = list(catalog.agents.iter().map(|agent| agent.username.as_str()));
            return Err(format!("there is no user \"{word}\"; among others there are {agents}").into());
        }
        ids.extend(found);
    }
    Ok(ids)
}
