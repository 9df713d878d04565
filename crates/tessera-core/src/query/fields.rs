//! The fields of the language, and the names from the database that the compiler needs.

use super::ast::Name;
use super::error::{QueryError, Result, Span, did_you_mean};
use super::lexer;
use crate::lifecycle::Lifecycle;
use crate::models::{
    CustomField, CustomFieldId, LifecycleId, Named, Queue, QueueId, Role, User, UserId, text,
};
use std::collections::{BTreeSet, HashMap};

/// The names that queries can use.
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
    /// The agents by their folded addresses.
    pub agent_addresses: &'a HashMap<String, UserId>,
    /// The purpose of the query.
    pub purpose: Purpose<'a>,
}

/// The purpose of a query, which determines its fields.
#[derive(Debug, Clone, Copy)]
pub enum Purpose<'a> {
    /// A search for tickets, with all users that the query names by username, address or id.
    Search(&'a [User]),
    /// The condition of a scrip, for one ticket, one transaction and one actor.
    Condition,
}

/// A field of the language.
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
    /// `Owner`, `Creator` and so on, with the tested part.
    Person(Person, Part),
    /// `Requestor`, `Watcher` and so on, with the tested part.
    People(People, Part),
    /// `Created`, `Due` and so on.
    Date(Date),
    /// `CF.{Name}`
    Custom(CustomFieldId),
    /// `Updated`: the time of any transaction.
    Updated,
    /// `UpdatedBy`: the creator of any transaction.
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

/// A single person of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Person {
    /// The owner of the ticket.
    Owner,
    /// The creator of the ticket.
    Creator,
    /// The creator of the last numbered transaction.
    LastUpdatedBy,
    /// The user who makes the current change; only in conditions.
    Actor,
}

/// The people of a role, or of all roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct People(Option<Role>);

impl People {
    /// Returns the roles.
    pub fn roles(self) -> Vec<Role> {
        self.0.map_or_else(|| Role::ALL.to_vec(), |role| vec![role])
    }
}

/// The part of a person that is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The person, by username or address. Patterns test the username, or for roles the address.
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
    /// The time of creation.
    Created,
    /// The time of the last numbered transaction.
    LastUpdated,
    /// The time at which the ticket first left an initial status.
    Started,
    /// The time by which the ticket should be resolved.
    Due,
    /// The time at which the ticket last became inactive.
    Resolved,
    /// The time of the last message to the requestor.
    Told,
}

/// A text of the current transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionText {
    /// The column or custom field that changed.
    Field,
    /// The old value in readable form.
    OldValue,
    /// The new value in readable form.
    NewValue,
    /// The text of a message.
    Content,
}

/// A text of a ticket or of the current transaction that can be compared with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextField {
    /// The subject.
    Subject,
    /// The values of a custom field.
    Custom(CustomFieldId),
    /// A text of the current transaction; only in conditions.
    Transaction(TransactionText),
}

/// The names of fields of one part, in the order of the documentation. RT's other names for them come last.
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
/// The number of RT's other names at the end of [`SIMPLE`].
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
    /// Returns the text that it is, if it is one.
    pub(super) fn text(self) -> Option<TextField> {
        match self {
            Self::Subject => Some(TextField::Subject),
            Self::Custom(id) => Some(TextField::Custom(id)),
            Self::Transaction(text) => Some(TextField::Transaction(text)),
            _ => None,
        }
    }

    /// Returns the names of its parts, as in `Requestor.Name`.
    pub fn parts(self) -> Vec<&'static str> {
        let has_parts = with_part(self, Part::Whole).is_some();
        PARTS.iter().map(|(name, _)| *name).filter(|_| has_parts).collect()
    }
}

/// The field of one part with a name, for any purpose.
pub(super) fn core(name: &Name) -> Option<Field> {
    match name.parts().as_slice() {
        [only] => among(&SIMPLE, only).map(|(_, field)| field),
        _ => None,
    }
}

/// Returns true if a name is that of a custom field.
pub(super) fn is_custom(name: &Name) -> bool {
    matches!(name.parts().as_slice(), [first, _, ..] if lexer::is_custom(first))
}

fn is_for_conditions(field: Field) -> bool {
    matches!(
        field,
        Field::TransactionType | Field::Transaction(_) | Field::Channel | Field::Person(Person::Actor, _)
    )
}

impl Fields<'_> {
    /// Returns the names of the fields of one part that are available for this purpose, for completion and hints.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let is_search = matches!(self.purpose, Purpose::Search(_));
        let simple = SIMPLE.iter().take(SIMPLE.len() - OTHER_NAMES);
        simple.filter(move |(_, field)| is_for(is_search, *field)).map(|(name, _)| *name)
    }

    /// Returns all fields that are available for this purpose with their names, except custom fields.
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

    /// Returns the field with a name, and the canonical spelling of the name.
    ///
    /// # Errors
    /// An unknown name, with a suggestion; a field that is not available for this purpose.
    pub fn find(&self, name: &Name) -> Result<(Field, Name)> {
        let (field, parts) = self.look_up(name)?;
        self.check_purpose(field, name)?;
        Ok((field, Name { parts, span: name.span }))
    }

    fn look_up(&self, name: &Name) -> Result<(Field, Vec<String>)> {
        let parts = name.parts();
        let is = |word: &str, known: &str| word.eq_ignore_ascii_case(known);
        match parts.as_slice() {
            [_, rest @ ..] if is_custom(name) => self.custom(name, rest),
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
                        .hint(format!("write {known} without a part")));
                }
                let (part, found) = among(&PARTS, second)
                    .ok_or_else(|| unknown(name, known, second, PARTS.map(|(name, _)| name)))?;
                let proper = SIMPLE.iter().find(|(_, other)| *other == field).map_or(known, |(name, _)| name);
                let field = with_part(field, found).unwrap_or(field);
                Ok((field, vec![proper.to_owned(), part.to_owned()]))
            }
            _ => Err(QueryError::new(name.span, format!("there is no field {name}")).hint(
                "a field has at most one part, as in Requestor.Name; a custom field is written CF.{Severity}",
            )),
        }
    }

    /// `CF.{Name}`, `CF.Name`, and `CF.Queue.{Name}` for a field of that queue.
    fn custom(&self, name: &Name, rest: &[&str]) -> Result<(Field, Vec<String>)> {
        let (queue, word) = match rest {
            [word] => (None, *word),
            [queue, word] => (Some(*queue), *word),
            _ => {
                return Err(QueryError::new(name.span, format!("{name} is not a custom field"))
                    .hint("write CF.{Name} or CF.Queue.{Name}"));
            }
        };
        let field = self.custom_fields.find(word).ok_or_else(|| {
            let enabled = self.custom_fields.iter().filter(|field| !field.disabled);
            let known: Vec<&str> = enabled.map(|field| field.name.as_str()).collect();
            let near = did_you_mean_field(word, &known);
            QueryError::new(name.span, format!("there is no custom field \"{word}\""))
                .hint(near.unwrap_or_else(|| format!("the custom fields are {}", text::list(&known))))
        })?;
        if field.disabled {
            let message = format!("the custom field \"{}\" is disabled", field.name);
            return Err(QueryError::new(name.span, message).hint(
                "remove the test, or enable the field again; it keeps its values while it is disabled",
            ));
        }
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
            let message = format!("{name} is only available in the conditions of scrips");
            return Err(QueryError::new(name.span, message)
                .hint("to search the history, use Updated, UpdatedBy and Content"));
        }
        let hint = match field {
            Field::Content => "use Subject or Transaction.Content",
            _ => "use Actor for the user who makes the change; its time is now",
        };
        Err(QueryError::new(
            name.span,
            format!("{name} searches the ticket's history, which is not available in conditions"),
        )
        .hint(hint))
    }

    fn unknown_field(&self, name: &Name, word: &str) -> QueryError {
        let error = QueryError::new(name.span, format!("there is no field {name}"));
        if lexer::is_custom(word) {
            return error.hint("add the name of the custom field: CF.{Severity}");
        }
        if word.eq_ignore_ascii_case("Transaction") || word.eq_ignore_ascii_case("Txn") {
            return error.hint("add a part: Transaction.Type, .Field, .OldValue, .NewValue or .Content");
        }
        if let Some(field) = self.custom_fields.find(word).filter(|field| !field.disabled) {
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
        error.hint(near.unwrap_or_else(|| format!("the fields are {} and CF.{{Name}}", all.join(", "))))
    }

    /// The error for an unknown queue.
    pub(super) fn unknown_queue(&self, span: Span, word: &str) -> QueryError {
        let known: Vec<&str> = self.queues.iter().map(|queue| queue.name.as_str()).collect();
        QueryError::new(span, format!("there is no queue \"{word}\"")).hint(
            did_you_mean(word, known.iter().copied())
                .unwrap_or_else(|| format!("the queues are {}", text::list(&known))),
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
            "the parts are {}",
            known.iter().map(|part| format!("{holder}.{part}")).collect::<Vec<_>>().join(", ")
        )
    }))
}

fn did_you_mean_field(word: &str, known: &[&str]) -> Option<String> {
    did_you_mean(word, known.iter().copied())
        .map(|near| near.replacen('`', "`CF.{", 1).replacen("`?", "}`?", 1))
}
