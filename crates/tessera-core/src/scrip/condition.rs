//! Conditions: when a scrip fires. A condition is an event, tried on one transaction, and optionally a query. The result
//! includes the reasons.

use super::mention::{Mention, Thing};
use crate::error::Fault;
use crate::lifecycle::Lifecycle;
use crate::models::steps::{FOLDED, steps};
use crate::models::text::{caseless, fold};
use crate::models::{Change, StatusClass, Steps, Transaction, TransactionType, Why};
use crate::query::ast::QUERY_MAX;
use crate::query::{self, Dialect, Fields, Occasion, Predicate, Query, Scene, Test, eval};
use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A condition, parsed from `condition_type` and `condition_config`.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The event: what the transaction must be.
    pub event: Event,
    /// A query that must hold as well.
    pub query: Option<Asked>,
}

/// The query of a condition, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Its text.
    pub text: String,
    /// Its syntax tree.
    pub query: Query<Predicate>,
}

/// The query with its names resolved in the current configuration; otherwise the first unknown name.
pub type Resolved = Result<Query<Test>, Fault>;

/// The outcome of trying a condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// Whether it holds, and why.
    pub why: Why,
    /// The error, if the query cannot be evaluated.
    pub failure: Option<String>,
}

impl Tried {
    /// Whether it holds or failed: in both cases the scrip has a verdict beyond "not applicable".
    pub fn is_settled(&self) -> bool {
        self.why.result || self.failure.is_some()
    }
}

/// The event that a condition requires: its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The ticket was created. RT: On Create.
    OnCreate,
    /// Any transaction of the scrip's `applicable_types`. RT: On Transaction.
    OnTransaction,
    /// The status changed, from and to given statuses or classes. RT: On Status Change, `StatusChange`.
    OnStatusChange(StatusChangeConfig),
    /// The status became `resolved`. RT: On Resolve.
    OnResolve,
    /// The status became `rejected`. RT: On Reject.
    OnReject,
    /// The status went from active to inactive. RT: On Close.
    OnClose,
    /// The status went from inactive to active. RT: On Reopen.
    OnReopen,
    /// A comment was added. RT: On Comment.
    OnComment,
    /// A reply was added. RT: On Correspond.
    OnCorrespond,
    /// The owner changed. RT: On Owner Change.
    OnOwnerChange,
    /// The queue changed. RT: On Queue Change.
    OnQueueChange,
    /// The priority changed. RT: On Priority Change.
    OnPriorityChange,
    /// A custom field changed.
    OnCustomFieldChange(CustomFieldChangeConfig),
    /// Any transaction of the scrip's `applicable_types`; the rest of the condition is in the query. RT: `UserDefined`.
    UserDefined,
}

/// The configuration of `OnStatusChange`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusChangeConfig {
    /// Old statuses, or classes `initial`, `active`, `inactive`; empty = any. RT's `old: a, b; new: c` sets both members.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "words")]
    #[schemars(with = "Words")]
    pub from: Vec<String>,
    /// New statuses or classes; empty = any.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "words")]
    #[schemars(with = "Words")]
    pub to: Vec<String>,
}

/// The configuration of `OnCustomFieldChange`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomFieldChangeConfig {
    /// The field's name.
    pub field: String,
    /// Old values; empty = any value, or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "words")]
    #[schemars(with = "Words")]
    pub from: Vec<String>,
    /// New values; empty = any value, or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "words")]
    #[schemars(with = "Words")]
    pub to: Vec<String>,
}

/// One word or several.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Words {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

fn words<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match Words::deserialize(deserializer)? {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    })
}

/// The configuration of `UserDefined`.
#[derive(Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "its schema is published; the query is read for every type alike")]
#[serde(deny_unknown_fields)]
struct QueryConfig {
    query: String,
}

/// The configuration of a condition without members.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoConfig {}

/// The most words in a `from` or `to`.
const WORDS_MAX: usize = 100;

/// The member of a configuration that holds the query.
const QUERY: &str = "condition_config.query";

impl Asked {
    /// Parses the query of a condition.
    ///
    /// # Errors
    /// The first syntax error, with its position in the text.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let parsed = query::parse(text, Dialect::Tessera).map_err(|error| error.into_fault(QUERY, text))?;
        if parsed.query.0.is_none() {
            let message = "contains no test; write one, such as CF.{Severity} = 'high'";
            return Err(Fault::new(QUERY, message));
        }
        Ok(Self { text: text.to_owned(), query: parsed.query })
    }

    /// Resolves every name in the query.
    ///
    /// # Errors
    /// The first unknown name or value, with its position in the text.
    pub fn resolve(&self, fields: &Fields<'_>) -> Resolved {
        query::resolve(&self.query, fields).map_err(|error| error.into_fault(QUERY, &self.text))
    }
}

impl Condition {
    /// Every type, in the order of the documentation.
    pub const TYPES: [&str; 14] = [
        "OnCreate",
        "OnTransaction",
        "OnStatusChange",
        "OnResolve",
        "OnReject",
        "OnClose",
        "OnReopen",
        "OnComment",
        "OnCorrespond",
        "OnOwnerChange",
        "OnQueueChange",
        "OnPriorityChange",
        "OnCustomFieldChange",
        "UserDefined",
    ];

    /// Parses a condition as it is stored.
    ///
    /// # Errors
    /// Faults of `condition_type` or `condition_config`, with the values that are accepted.
    pub fn parse(condition_type: &str, config: &Value) -> Result<Self, Vec<Fault>> {
        let mut config = config.clone();
        let query = match config.as_object_mut().and_then(|config| config.remove("query")) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(Asked::parse(&text)),
            Some(_) => Some(Err(Fault::new(QUERY, "is not a string; write a TicketSQL query"))),
        };
        if query.is_none() && condition_type == "UserDefined" {
            let message = "is missing; UserDefined requires a query, such as Priority > 50";
            return Err(vec![Fault::new(QUERY, message)]);
        }
        match (Event::parse(condition_type, &config), query.transpose()) {
            (Ok(event), Ok(query)) => Ok(Self { event, query }),
            (event, query) => Err(event.err().into_iter().flatten().chain(query.err()).collect()),
        }
    }

    /// Returns the JSON Schema of the configuration of a type.
    pub fn schema(condition_type: &str) -> Option<Schema> {
        let mut schema = match condition_type {
            "OnStatusChange" => schema_for!(StatusChangeConfig),
            "OnCustomFieldChange" => schema_for!(CustomFieldChangeConfig),
            "UserDefined" => schema_for!(QueryConfig),
            other if Self::TYPES.contains(&other) => schema_for!(NoConfig),
            _ => return None,
        };
        let properties = schema.ensure_object().entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            let about = "A TicketSQL query over the ticket after the change, Transaction, Actor, Channel and CHANGED. It must hold as well.";
            let query = json!({"type": "string", "maxLength": QUERY_MAX, "description": about});
            properties.insert("query".to_owned(), query);
        }
        Some(schema)
    }

    /// Returns the transaction types that the condition can hold for. A scrip is a candidate for no others.
    /// RT: `ScripConditions.ApplicableTransTypes`.
    pub fn natural_types(&self) -> BTreeSet<TransactionType> {
        self.event.natural_types()
    }

    /// Tries the condition on a transaction of a type that it applies to, and takes the steps for it from those that are left. If
    /// they are used up, the result means nothing. `query` is its resolved query, and `lifecycle` that of the ticket.
    pub fn evaluate(
        &self,
        query: Option<&Resolved>,
        lifecycle: Option<&Lifecycle>,
        scene: &Scene<'_>,
        occasion: Occasion<'_>,
        left: &Steps,
    ) -> Tried {
        // Whether there were enough shows in what is left.
        let _ =
            left.spend(self.event.cost(occasion.transaction) + self.query.as_ref().map_or(0, Asked::cost));
        let event = self.event.evaluate(occasion.transaction, lifecycle);
        let (asked, failure) = match query {
            None => return Tried { why: event, failure: None },
            Some(Ok(query)) => (eval::why(query, &Scene { occasion: Some(occasion), ..*scene }, left), None),
            Some(Err(fault)) => {
                let text = self.query.as_ref().map_or("", |asked| asked.text.as_str());
                let sentence = told(fault);
                let broken = Why::leaf("query", text, Value::Null, false).because(sentence.as_str());
                (broken, event.result.then_some(sentence))
            }
        };
        let why = match self.event {
            Event::UserDefined => asked,
            _ if event.children.is_empty() => Why::all(vec![event, asked]),
            _ => Why::all([event.children, vec![asked]].concat()),
        };
        Tried { why, failure }
    }
}

impl Asked {
    /// The steps for showing its tests in a trace.
    fn cost(&self) -> u64 {
        steps(self.text.len(), FOLDED)
    }
}

impl Event {
    /// The steps for trying it: a scrip that is considered, and the words of its configuration.
    fn cost(&self, transaction: &Transaction) -> u64 {
        /// Steps for considering a scrip.
        const SCRIP: u64 = 40;
        let words = |words: &[String]| words.iter().map(|word| 2 + steps(word.len(), FOLDED)).sum::<u64>();
        SCRIP
            + match self {
                Self::OnStatusChange(config) => words(&config.from) + words(&config.to),
                Self::OnCustomFieldChange(config) => {
                    let values = [&transaction.old_value, &transaction.new_value];
                    let bytes = values.into_iter().flatten().map(String::len).sum();
                    words(&config.from) + words(&config.to) + steps(bytes, FOLDED)
                }
                _ => 0,
            }
    }

    fn parse(condition_type: &str, config: &Value) -> Result<Self, Vec<Fault>> {
        let plain = |event: Self| read::<NoConfig>(config).map(|_| event);
        match condition_type {
            "OnCreate" => plain(Self::OnCreate),
            "OnTransaction" => plain(Self::OnTransaction),
            "OnStatusChange" => read_status_change(config).map(Self::OnStatusChange),
            "OnResolve" => plain(Self::OnResolve),
            "OnReject" => plain(Self::OnReject),
            "OnClose" => plain(Self::OnClose),
            "OnReopen" => plain(Self::OnReopen),
            "OnComment" => plain(Self::OnComment),
            "OnCorrespond" => plain(Self::OnCorrespond),
            "OnOwnerChange" => plain(Self::OnOwnerChange),
            "OnQueueChange" => plain(Self::OnQueueChange),
            "OnPriorityChange" => plain(Self::OnPriorityChange),
            "OnCustomFieldChange" => read::<CustomFieldChangeConfig>(config).and_then(|config| {
                bounded("from", &config.from)?;
                bounded("to", &config.to)?;
                Ok(Self::OnCustomFieldChange(config))
            }),
            "UserDefined" => plain(Self::UserDefined),
            unknown => Err(vec![Fault::new(
                "condition_type",
                format!("unknown condition \"{unknown}\"; use one of: {}", Condition::TYPES.join(", ")),
            )]),
        }
    }

    /// Returns the objects that its configuration names.
    pub fn mentions(&self) -> Vec<Mention> {
        let mention =
            |thing, word: &str, place: String| Mention::of(thing, word, format!("condition_config.{place}"));
        match self {
            Self::OnStatusChange(config) => {
                let sides = [("from", &config.from), ("to", &config.to)];
                let words = sides.into_iter().flat_map(|(side, words)| {
                    words.iter().enumerate().map(move |(at, word)| (word, format!("{side}[{at}]")))
                });
                words.filter_map(|(word, place)| mention(Thing::Status, word, place)).collect()
            }
            Self::OnCustomFieldChange(config) => {
                mention(Thing::Field, &config.field, "field".to_owned()).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn natural_types(&self) -> BTreeSet<TransactionType> {
        match self {
            Self::OnCreate => BTreeSet::from([TransactionType::Create]),
            Self::OnTransaction | Self::UserDefined => {
                TransactionType::ALL.into_iter().filter(|kind| kind.is_activating()).collect()
            }
            Self::OnStatusChange(_) | Self::OnResolve | Self::OnReject | Self::OnClose | Self::OnReopen => {
                BTreeSet::from([TransactionType::Status])
            }
            Self::OnComment => BTreeSet::from([TransactionType::Comment]),
            Self::OnCorrespond => BTreeSet::from([TransactionType::Correspond]),
            Self::OnOwnerChange | Self::OnQueueChange | Self::OnPriorityChange => {
                BTreeSet::from([TransactionType::Set])
            }
            Self::OnCustomFieldChange(_) => BTreeSet::from([TransactionType::CustomField]),
        }
    }

    fn evaluate(&self, transaction: &Transaction, lifecycle: Option<&Lifecycle>) -> Why {
        match self {
            Self::OnCreate => of_type(transaction, TransactionType::Create),
            Self::OnComment => of_type(transaction, TransactionType::Comment),
            Self::OnCorrespond => of_type(transaction, TransactionType::Correspond),
            Self::OnTransaction | Self::UserDefined => {
                Why::leaf("transaction.type", "any", transaction.transaction_type.as_str(), true)
            }
            Self::OnStatusChange(config) => {
                let list_of = |word: &str| match lifecycle {
                    Some(lifecycle) => lifecycle.list_of(word),
                    None => StatusClass::parse(word),
                };
                status(transaction, &config.from, &config.to, list_of)
            }
            Self::OnResolve => status(transaction, &[], &["resolved"], |_| None),
            Self::OnReject => status(transaction, &[], &["rejected"], |_| None),
            Self::OnClose => status(
                transaction,
                &[StatusClass::Active.as_str()],
                &[StatusClass::Inactive.as_str()],
                StatusClass::parse,
            ),
            Self::OnReopen => status(
                transaction,
                &[StatusClass::Inactive.as_str()],
                &[StatusClass::Active.as_str()],
                StatusClass::parse,
            ),
            Self::OnOwnerChange => set_of(transaction, "Owner"),
            Self::OnQueueChange => set_of(transaction, "Queue"),
            Self::OnPriorityChange => set_of(transaction, "Priority"),
            Self::OnCustomFieldChange(config) => custom_field(transaction, config),
        }
    }
}

/// Formats an error in a query with its position, for people who read about it later.
fn told(fault: &Fault) -> String {
    let (line, column) = (fault.line.unwrap_or(1), fault.column.unwrap_or(1));
    Fault { field: format!("{QUERY}, line {line}, column {column}"), ..fault.clone() }.to_string()
}

fn of_type(transaction: &Transaction, wanted: TransactionType) -> Why {
    let found = transaction.transaction_type;
    Why::leaf("transaction.type", wanted.as_str(), found.as_str(), wanted == found)
}

fn set_of(transaction: &Transaction, column: &'static str) -> Why {
    let found = transaction.field.as_deref();
    let holds = transaction.transaction_type == TransactionType::Set && found == Some(column);
    Why::leaf("transaction.field", column, found, holds)
}

/// Tests the statuses before and after. `list_of` returns the list that a word means, if it means no status of that name.
fn status<W: AsRef<str>>(
    transaction: &Transaction,
    from: &[W],
    to: &[W],
    list_of: impl Fn(&str) -> Option<StatusClass>,
) -> Why {
    let Change::Status { old, new, old_class, class, .. } = &transaction.change else {
        return of_type(transaction, TransactionType::Status);
    };
    let side = |predicate, words: &[W], status: &str, class: StatusClass| {
        let status_folded = fold(status);
        let means =
            |word: &str| list_of(word).map_or_else(|| fold(word) == status_folded, |list| list == class);
        let holds = words.is_empty() || words.iter().any(|word| means(word.as_ref()));
        Why::leaf(predicate, any_of(words), format!("{status} ({class})"), holds)
    };
    Why::all(vec![side("status.from", from, old, *old_class), side("status.to", to, new, *class)])
}

fn custom_field(transaction: &Transaction, config: &CustomFieldChangeConfig) -> Why {
    let name = transaction.field.as_deref();
    let side = |predicate, words: &[String], value: Option<&str>| {
        let folded = value.map(caseless);
        let holds =
            words.is_empty() || folded.is_some_and(|value| words.iter().any(|word| caseless(word) == value));
        Why::leaf(predicate, any_of(words), value, holds)
    };
    Why::all(vec![
        Why::leaf(
            "transaction.field",
            config.field.as_str(),
            name,
            name.is_some_and(|name| fold(name) == fold(&config.field)),
        ),
        side("value.from", &config.from, transaction.old_value.as_deref()),
        side("value.to", &config.to, transaction.new_value.as_deref()),
    ])
}

fn any_of<W: AsRef<str>>(words: &[W]) -> Value {
    match words {
        [] => json!("any"),
        [one] => json!(one.as_ref()),
        many => many.iter().map(AsRef::as_ref).collect::<Vec<_>>().into(),
    }
}

/// Deserializes a configuration. The message is serde's, which names the member and the accepted ones.
pub(super) fn read<T: serde::de::DeserializeOwned>(config: &Value) -> Result<T, Vec<Fault>> {
    T::deserialize(config).map_err(|error| vec![Fault::new("condition_config", error.to_string())])
}

fn read_status_change(config: &Value) -> Result<StatusChangeConfig, Vec<Fault>> {
    let config = match config.as_str() {
        Some(argument) => read_rt_argument(argument)?,
        None => match config.get("argument").and_then(Value::as_str) {
            Some(argument) => read_rt_argument(argument)?,
            None => read(config)?,
        },
    };
    bounded("from", &config.from)?;
    bounded("to", &config.to)?;
    Ok(config)
}

/// Parses RT's `old: a, b; new: c`. A status alone is the new one.
fn read_rt_argument(argument: &str) -> Result<StatusChangeConfig, Vec<Fault>> {
    let list = |text: &str| {
        text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
    };
    let mut config = StatusChangeConfig::default();
    for part in argument.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once(':').map(|(side, text)| (side.trim().to_ascii_lowercase(), text)) {
            Some((side, text)) if side == "old" => config.from = list(text),
            Some((side, text)) if side == "new" => config.to = list(text),
            None => config.to = list(part),
            Some((side, _)) => {
                return Err(vec![Fault::new(
                    "condition_config",
                    format!("unknown key \"{side}\"; write `old: a, b; new: c`"),
                )]);
            }
        }
    }
    Ok(config)
}

fn bounded(side: &str, words: &[String]) -> Result<(), Vec<Fault>> {
    if words.len() > WORDS_MAX {
        return Err(vec![Fault::new(
            format!("condition_config.{side}"),
            format!("has {} values; at most {WORDS_MAX} are allowed", words.len()),
        )]);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
