//! What the compiler must know of the database, and the fields of the language.

use super::ast::Name;
use super::error::{QueryError, Result, Span, did_you_mean};
use crate::lifecycle::Lifecycle;
use crate::models::{
    CustomField, CustomFieldId, LifecycleId, Named, Queue, QueueId, Role, User, UserId, text,
};
use std::collections::{BTreeSet, HashMap};

/// What queries may name.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    /// Queues.
    pub queues: &'a Named<QueueId, Queue>,
    /// Lifecycles.
    pub lifecycles: &'a Named<LifecycleId, Lifecycle>,
    /// Custom fields.
    pub custom_fields: &'a Named<CustomFieldId, CustomField>,
    /// Users who may own tickets.
    pub agents: &'a Named<UserId, User>,
    /// Who of them has an address, which is folded.
    pub agent_addresses: &'a HashMap<String, UserId>,
    /// What the query is for.
    pub purpose: Purpose<'a>,
}

/// What a query is for.
#[derive(Debug, Clone, Copy)]
pub enum Purpose<'a> {
    /// To find tickets. The users are all those that the query names by username, address or id.
    Search(&'a [User]),
    /// To say when a scrip fires: of one ticket, one transaction and one actor.
    Condition,
}

/// A field of the language, found by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `id`
    Id,
    /// `Subject`
    Subject,
    /// `Status`
    Status,
    /// `Queue`
    Queue,
    /// `Lifecycle`
    Lifecycle,
    /// `Priority`
    Priority,
    /// `Owner`, `Creator` and so on, with the part of them.
    Person(Person, Part),
    /// `Requestor`, `Watcher` and so on, with the part of them.
    People(People, Part),
    /// `Created`, `Due` and so on.
    Date(Date),
    /// `CF.{Name}`
    Custom(CustomFieldId),
    /// `Updated`: when a transaction was made.
    Updated,
    /// `UpdatedBy`: who made one.
    UpdatedBy(Part),
    /// `Content`: the words of the subject, comments and replies.
    Content,
    /// `Transaction.Type`
    TransactionType,
    /// `Transaction.Field` and the other texts of the transaction.
    Transaction(TransactionText),
    /// `Channel`
    Channel,
}

/// One person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Person {
    /// Who works on the ticket.
    Owner,
    /// Who made it.
    Creator,
    /// Who made its last numbered transaction.
    LastUpdatedBy,
    /// Who asked for the change at hand; in conditions.
    Actor,
}

/// People of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct People(Option<Role>);

impl People {
    /// The roles.
    pub fn roles(self) -> Vec<Role> {
        self.0.map_or_else(|| Role::ALL.to_vec(), |role| vec![role])
    }
}

/// What of a person is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The person: by username or address; patterns look at the username, those of roles at the address.
    Whole,
    /// `.Name`: the username.
    Name,
    /// `.EmailAddress`
    Address,
    /// `.id`
    Id,
}

/// A date of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Date {
    /// When the ticket was made.
    Created,
    /// When its last numbered transaction was made.
    LastUpdated,
    /// When it first left an initial status.
    Started,
    /// When it should be done.
    Due,
    /// When it last became inactive.
    Resolved,
    /// When the requestor was last written to.
    Told,
}

/// A text of the transaction at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionText {
    /// The column or custom field that changed.
    Field,
    /// The readable old value.
    OldValue,
    /// The readable new value.
    NewValue,
    /// The text of a message.
    Content,
}

/// Names of fields without a part of their own, in the order of the documentation; RT's other names for them follow.
const SIMPLE: [(&str, Field); 27] = [
    ("id", Field::Id),
    ("Subject", Field::Subject),
    ("Status", Field::Status),
    ("Queue", Field::Queue),
    ("Lifecycle", Field::Lifecycle),
    ("Priority", Field::Priority),
    ("Owner", Field::Person(Person::Owner, Part::Whole)),
    ("Creator", Field::Person(Person::Creator, Part::Whole)),
    ("LastUpdatedBy", Field::Person(Person::LastUpdatedBy, Part::Whole)),
    ("Requestor", Field::People(People(Some(Role::Requestor)), Part::Whole)),
    ("Cc", Field::People(People(Some(Role::Cc)), Part::Whole)),
    ("AdminCc", Field::People(People(Some(Role::AdminCc)), Part::Whole)),
    ("Watcher", Field::People(People(None), Part::Whole)),
    ("Created", Field::Date(Date::Created)),
    ("LastUpdated", Field::Date(Date::LastUpdated)),
    ("Started", Field::Date(Date::Started)),
    ("Due", Field::Date(Date::Due)),
    ("Resolved", Field::Date(Date::Resolved)),
    ("Told", Field::Date(Date::Told)),
    ("Updated", Field::Updated),
    ("UpdatedBy", Field::UpdatedBy(Part::Whole)),
    ("Content", Field::Content),
    ("Actor", Field::Person(Person::Actor, Part::Whole)),
    ("Channel", Field::Channel),
    ("Requestors", Field::People(People(Some(Role::Requestor)), Part::Whole)),
    ("Watchers", Field::People(People(None), Part::Whole)),
    ("HistoryContent", Field::Content),
];
/// How many of them RT's other names are.
const OTHER_NAMES: usize = 3;

const TRANSACTION: [(&str, Field); 5] = [
    ("Type", Field::TransactionType),
    ("Field", Field::Transaction(TransactionText::Field)),
    ("OldValue", Field::Transaction(TransactionText::OldValue)),
    ("NewValue", Field::Transaction(TransactionText::NewValue)),
    ("Content", Field::Transaction(TransactionText::Content)),
];

const PARTS: [(&str, Part); 3] = [("Name", Part::Name), ("EmailAddress", Part::Address), ("id", Part::Id)];

impl Field {
    /// The names of its parts, as in `Requestor.Name`.
    pub fn parts(self) -> Vec<&'static str> {
        let has_parts = with_part(self, Part::Whole).is_some();
        PARTS.iter().map(|(name, _)| *name).filter(|_| has_parts).collect()
    }
}

/// Fields that only conditions have, and what a search says in their place.
fn is_for_conditions(field: Field) -> bool {
    matches!(
        field,
        Field::TransactionType | Field::Transaction(_) | Field::Channel | Field::Person(Person::Actor, _)
    )
}

impl Fields<'_> {
    /// Every name of a field that has no part and is for this purpose, for completion and hints.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let is_search = matches!(self.purpose, Purpose::Search(_));
        let simple = SIMPLE.iter().take(SIMPLE.len() - OTHER_NAMES);
        simple.filter(move |(_, field)| is_for(is_search, *field)).map(|(name, _)| *name)
    }

    /// Every field that is for this purpose, with its name, but for the custom ones.
    pub fn all(&self) -> impl Iterator<Item = (String, Field)> {
        let is_search = matches!(self.purpose, Purpose::Search(_));
        let simple = SIMPLE.iter().take(SIMPLE.len() - OTHER_NAMES);
        let simple = simple.map(|(name, field)| ((*name).to_owned(), *field));
        let parts = TRANSACTION.iter().map(|(name, field)| (format!("Transaction.{name}"), *field));
        simple.chain(parts).filter(move |(_, field)| is_for(is_search, *field))
    }

    /// The statuses of all lifecycles.
    pub(super) fn statuses(&self) -> BTreeSet<&str> {
        let statuses = self.lifecycles.iter().flat_map(|lifecycle| lifecycle.statuses());
        statuses.map(String::as_str).collect()
    }

    /// The field of a name, with the name as it is properly written.
    ///
    /// # Errors
    /// What is not known in it, and what may have been meant; a field that is not for this purpose.
    pub fn find(&self, name: &Name) -> Result<(Field, Name)> {
        let (field, parts) = self.look_up(name)?;
        self.check_purpose(field, name)?;
        Ok((field, Name { parts, span: name.span }))
    }

    fn look_up(&self, name: &Name) -> Result<(Field, Vec<String>)> {
        let parts = name.parts();
        let is = |word: &str, known: &str| word.eq_ignore_ascii_case(known);
        match parts.as_slice() {
            [first, rest @ ..] if is_custom(first) && !rest.is_empty() => self.custom(name, rest),
            [first, second] if is(first, "Transaction") || is(first, "Txn") => {
                let (known, field) = among(&TRANSACTION, second)
                    .ok_or_else(|| unknown(name, "Transaction", second, TRANSACTION.map(|(name, _)| name)))?;
                Ok((field, vec!["Transaction".to_owned(), known.to_owned()]))
            }
            [only] => {
                let (known, field) = among(&SIMPLE, only).ok_or_else(|| self.unknown_field(name, only))?;
                let proper = SIMPLE.iter().find(|(_, other)| *other == field).map_or(known, |(name, _)| name);
                Ok((field, vec![proper.to_owned()]))
            }
            [first, second] => {
                let (known, field) = among(&SIMPLE, first).ok_or_else(|| self.unknown_field(name, first))?;
                if with_part(field, Part::Whole).is_none() {
                    return Err(QueryError::new(name.span, format!("{known} has no part {second}"))
                        .hint(format!("write {known} alone")));
                }
                let (part, found) = among(&PARTS, second)
                    .ok_or_else(|| unknown(name, known, second, PARTS.map(|(name, _)| name)))?;
                let proper = SIMPLE.iter().find(|(_, other)| *other == field).map_or(known, |(name, _)| name);
                let field = with_part(field, found).unwrap_or(field);
                Ok((field, vec![proper.to_owned(), part.to_owned()]))
            }
            _ => Err(QueryError::new(name.span, format!("there is no field {name}")).hint(
                "a field has one part at most, as in Requestor.Name, and a custom field is CF.{Severity}",
            )),
        }
    }

    /// `CF.{Name}`, `CF.Name`, and `CF.Queue.{Name}` for a field of that queue.
    fn custom(&self, name: &Name, rest: &[&str]) -> Result<(Field, Vec<String>)> {
        let (queue, word) = match rest {
            [word] => (None, *word),
            [queue, word] => (Some(*queue), *word),
            _ => {
                return Err(QueryError::new(name.span, format!("{name} names no custom field"))
                    .hint("write CF.{Name} or CF.Queue.{Name}"));
            }
        };
        let field = self.custom_fields.find(word).ok_or_else(|| {
            let known: Vec<&str> = self.custom_fields.iter().map(|field| field.name.as_str()).collect();
            let near = did_you_mean_field(word, &known);
            QueryError::new(name.span, format!("there is no custom field \"{word}\""))
                .hint(near.unwrap_or_else(|| format!("there are {}", text::list(&known))))
        })?;
        let mut parts = vec!["CF".to_owned(), field.name.clone()];
        if let Some(queue) = queue {
            let found = self.queues.find(queue).ok_or_else(|| self.unknown_queue(name.span, queue))?;
            if !found.custom_fields.contains(&field.id) {
                let message = format!("the queue \"{}\" has no custom field \"{}\"", found.name, field.name);
                return Err(QueryError::new(name.span, message).hint(format!("write CF.{{{}}}", field.name)));
            }
            parts.insert(1, found.name.clone());
        }
        Ok((Field::Custom(field.id), parts))
    }

    fn check_purpose(&self, field: Field, name: &Name) -> Result<()> {
        let is_search = matches!(self.purpose, Purpose::Search(_));
        if is_for(is_search, field) {
            return Ok(());
        }
        if is_search {
            let message = format!("{name} is known only to the condition of a scrip");
            return Err(QueryError::new(name.span, message)
                .hint("of a ticket's history a search knows Updated, UpdatedBy and Content"));
        }
        let hint = match field {
            Field::Content => "write Subject or Transaction.Content",
            _ => "write Actor for who makes this change; when is now",
        };
        Err(QueryError::new(
            name.span,
            format!("{name} is the ticket's history, which a condition does not read"),
        )
        .hint(hint))
    }

    fn unknown_field(&self, name: &Name, word: &str) -> QueryError {
        let error = QueryError::new(name.span, format!("there is no field {name}"));
        if is_custom(word) {
            return error.hint("write which custom field: CF.{Severity}");
        }
        if word.eq_ignore_ascii_case("Transaction") || word.eq_ignore_ascii_case("Txn") {
            return error
                .hint("write what of it: Transaction.Type, .Field, .OldValue, .NewValue or .Content");
        }
        if let Some(field) = self.custom_fields.find(word) {
            return error.hint(format!("a custom field is written CF.{{{}}}", field.name));
        }
        let other = match word.to_lowercase().as_str() {
            "title" | "summary" => Some("Subject"),
            "number" | "ticket" => Some("id"),
            "state" => Some("Status"),
            "assignee" | "assigned" | "agent" => Some("Owner"),
            "reporter" | "customer" | "from" => Some("Requestor"),
            "updatedat" | "modified" => Some("LastUpdated"),
            "createdat" | "date" => Some("Created"),
            "body" | "text" | "description" | "comment" => Some("Content"),
            _ => None,
        };
        let near = other.map(|other| format!("did you mean `{other}`?"));
        let near = near.or_else(|| did_you_mean(word, self.names().chain(["CF", "Transaction"])));
        let all: Vec<&str> = self.names().collect();
        error.hint(near.unwrap_or_else(|| format!("there are {} and CF.{{Name}}", all.join(", "))))
    }

    /// The error of a queue that is not there.
    pub(super) fn unknown_queue(&self, span: Span, word: &str) -> QueryError {
        let known: Vec<&str> = self.queues.iter().map(|queue| queue.name.as_str()).collect();
        QueryError::new(span, format!("there is no queue \"{word}\"")).hint(
            did_you_mean(word, known.iter().copied())
                .unwrap_or_else(|| format!("there are {}", text::list(&known))),
        )
    }
}

fn is_for(is_search: bool, field: Field) -> bool {
    if is_search {
        !is_for_conditions(field)
    } else {
        !matches!(field, Field::Content | Field::Updated | Field::UpdatedBy(_))
    }
}

fn is_custom(word: &str) -> bool {
    ["CF", "CustomField", "CustomFieldValue"].iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn among<T: Copy>(known: &[(&'static str, T)], word: &str) -> Option<(&'static str, T)> {
    known.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).copied()
}

fn with_part(field: Field, part: Part) -> Option<Field> {
    match field {
        Field::Person(person, _) => Some(Field::Person(person, part)),
        Field::People(people, _) => Some(Field::People(people, part)),
        Field::UpdatedBy(_) => Some(Field::UpdatedBy(part)),
        _ => None,
    }
}

fn unknown(
    name: &Name,
    holder: &str,
    word: &str,
    known: impl IntoIterator<Item = &'static str>,
) -> QueryError {
    let known: Vec<&str> = known.into_iter().collect();
    let near = did_you_mean(word, known.iter().copied());
    let near = near.map(|near| near.replacen('`', &format!("`{holder}."), 1));
    QueryError::new(name.span, format!("{holder} has no part {word}")).hint(near.unwrap_or_else(|| {
        format!(
            "there are {}",
            known.iter().map(|part| format!("{holder}.{part}")).collect::<Vec<_>>().join(", ")
        )
    }))
}

fn did_you_mean_field(word: &str, known: &[&str]) -> Option<String> {
    did_you_mean(word, known.iter().copied())
        .map(|near| near.replacen('`', "`CF.{", 1).replacen("`?", "}`?", 1))
}
