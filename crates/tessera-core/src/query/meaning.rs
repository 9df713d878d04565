//! What a resolved test asks; both back ends, SQL and memory, start from this.

use super::ast::{Order, Predicate};
use super::date::{DateExpr, Zone};
use super::fields::{Date, People, Person, TransactionText};
use super::text::TextTest;
use crate::models::{CustomFieldId, QueueId, StatusClass, TicketId, TransactionType, UserId};
use std::fmt;
use time::OffsetDateTime;

/// A test with its meaning. A negated one holds exactly when its positive does not: also where there is no value.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// As it is properly written.
    pub predicate: Predicate,
    /// Whether the opposite of the meaning is asked for.
    pub is_negated: bool,
    /// What it asks.
    pub meaning: Meaning,
}

/// What a test asks of a ticket, or of the change at hand.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// The ticket is one of these.
    Ids(Vec<i64>, Vec<TicketId>),
    /// Its number or priority.
    Number(Number, NumberTest),
    /// Its subject.
    Subject(TextTest),
    /// Its status is one of these, or of one of these classes.
    Status(Vec<String>, Vec<StatusClass>),
    /// It is in one of these queues.
    Queue(Vec<QueueId>),
    /// One person of it.
    Person(Person, PersonTest),
    /// Any of the people of a role.
    People(People, PersonTest),
    /// A date of it.
    Date(Date, DateTest),
    /// Any of the values of a custom field.
    Custom(CustomFieldId, TextTest),
    /// It has a transaction of such a time.
    Updated(DateTest),
    /// It has a transaction by such a person.
    UpdatedBy(PersonTest),
    /// Its subject, or one of its messages.
    Content(TextTest),
    /// The transaction at hand is of one of these types.
    TransactionType(Vec<TransactionType>),
    /// A text of the transaction at hand.
    Transaction(TransactionText, TextTest),
    /// Through what the change came.
    Channel(TextTest),
    /// The change at hand is one of a field, from and to.
    Changed(Changed, Option<Vec<String>>, Option<Vec<String>>),
}

/// A number of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Number {
    /// What people say.
    Id,
    /// How urgent it is.
    Priority,
}

/// A test of a number.
#[derive(Debug, Clone, PartialEq)]
pub enum NumberTest {
    /// It is one of these.
    Equal(Vec<i64>),
    /// It stands in an order to this.
    Order(Order, i64),
    /// Between these, both included.
    Between(i64, i64),
    /// It stands in an order to another of the ticket; `None` = it is equal.
    Field(Option<Order>, Number),
}

/// A test of a date. An unset date passes none.
#[derive(Debug, Clone, PartialEq)]
pub enum DateTest {
    /// It is set.
    Present,
    /// It is within one of these.
    Equal(Vec<DateExpr>),
    /// Before, up to the end of, after the end of, or from the beginning of.
    Order(Order, DateExpr),
    /// From the beginning of the one to the end of the other.
    Between(DateExpr, DateExpr),
    /// It stands in an order to another of the ticket; `None` = it is equal.
    Field(Option<Order>, Date),
}

/// A stretch of time that may have no beginning or no end: from the one up to before the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first moment.
    pub from: Option<OffsetDateTime>,
    /// The first moment after it.
    pub until: Option<OffsetDateTime>,
}

impl Range {
    /// Whether a moment lies in it.
    pub fn contains(&self, at: OffsetDateTime) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }
}

impl DateTest {
    /// When a date is that passes, for somebody in a time zone: within any of these. `None` = that does not rest on time alone.
    pub fn ranges(&self, now: OffsetDateTime, zone: &Zone) -> Option<Vec<Range>> {
        let within = |low: &DateExpr, high: &DateExpr| Range {
            from: Some(low.stretch(now, zone).from),
            until: Some(high.stretch(now, zone).until),
        };
        let before = |until| Range { from: None, until: Some(until) };
        let since = |from| Range { from: Some(from), until: None };
        Some(match self {
            Self::Equal(dates) => dates.iter().map(|date| within(date, date)).collect(),
            Self::Between(low, high) => vec![within(low, high)],
            // "After a day" is after its end, "up to a day" is up to its end.
            Self::Order(order, date) => {
                let stretch = date.stretch(now, zone);
                vec![match order {
                    Order::Less => before(stretch.from),
                    Order::AtMost => before(stretch.until),
                    Order::More => since(stretch.until),
                    Order::AtLeast => since(stretch.from),
                }]
            }
            Self::Present | Self::Field(..) => return None,
        })
    }
}

/// A test of a person.
#[derive(Debug, Clone, PartialEq)]
pub enum PersonTest {
    /// There is one. An owner who is nobody is none.
    Present,
    /// They are one of these.
    Is(Vec<Who>),
    /// Their username passes.
    Name(TextTest),
    /// Their address passes.
    Address(TextTest),
    /// They are the same as another of the ticket.
    Field(Person),
}

/// A person as a query names one. The users known under a word are empty in conditions, which look at the people at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Nobody.
    Nobody,
    /// Who asks: who searches, or whose change it is.
    CurrentUser,
    /// The user of an id.
    User(UserId),
    /// Somebody of this username (folded).
    Name(String, Vec<UserId>),
    /// Somebody of this address (folded).
    Address(String, Vec<UserId>),
    /// Somebody of this username or address (folded).
    Word(String, Vec<UserId>),
}

/// A field of which CHANGED can speak: how its transactions name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Its Status transactions.
    Status,
    /// A Set transaction of this column.
    Column(&'static str),
    /// AddWatcher and DelWatcher of these roles.
    People(People),
    /// CustomField transactions of this field.
    Custom(CustomFieldId),
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.predicate.fmt(f)
    }
}
