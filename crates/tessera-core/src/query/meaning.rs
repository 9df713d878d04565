//! The meaning of resolved tests, from which both back ends (SQL and memory) start.

use super::ast::{Order, Predicate};
use super::date::{DateExpr, Range, Zone};
use super::fields::{Date, People, Person, TextField, TransactionText};
use super::text::TextTest;
use crate::models::{CustomFieldId, QueueId, StatusClass, TicketId, TransactionType, UserId};
use std::fmt;
use time::OffsetDateTime;

/// A test with its meaning. A negated test holds exactly if its positive does not, so also if there is no value.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// The test in its canonical spelling.
    pub predicate: Predicate,
    /// True if the meaning must not hold.
    pub is_negated: bool,
    /// The meaning of the positive test.
    pub meaning: Meaning,
}

/// The meaning of a test of a ticket or of the current change.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// The ticket has one of these numbers or ids.
    Ids(Vec<i64>, Vec<TicketId>),
    /// A test of its number or priority.
    Number(Number, NumberTest),
    /// A test of its subject.
    Subject(TextTest),
    /// The status is one of these, or has one of these classes.
    Status(Vec<String>, Vec<StatusClass>),
    /// The ticket is in one of these queues.
    Queue(Vec<QueueId>),
    /// A test of a single person.
    Person(Person, PersonTest),
    /// A test that any person of a role passes.
    People(People, PersonTest),
    /// A test of a date.
    Date(Date, DateTest),
    /// A test that any value of a custom field passes.
    Custom(CustomFieldId, TextTest),
    /// A text compares in this order to another text; `None` = equal. Any value of each may match.
    Texts(TextField, Option<Order>, TextField),
    /// The ticket has a transaction with such a time.
    Updated(DateTest),
    /// The ticket has a transaction by such a person.
    UpdatedBy(PersonTest),
    /// A test that the subject or one of the messages passes.
    Content(TextTest),
    /// The current transaction has one of these types.
    TransactionType(Vec<TransactionType>),
    /// A test of a text of the current transaction.
    Transaction(TransactionText, TextTest),
    /// A test of the channel of the change.
    Channel(TextTest),
    /// The current change is a change of a field, from and to these values.
    Changed(Changed, Option<Vec<String>>, Option<Vec<String>>),
}

/// A number of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Number {
    /// The ticket number.
    Id,
    /// The priority.
    Priority,
}

/// A test of a number.
#[derive(Debug, Clone, PartialEq)]
pub enum NumberTest {
    /// The number is one of these.
    Equal(Vec<i64>),
    /// The number compares in this order to the given one.
    Order(Order, i64),
    /// The number lies between these, both included.
    Between(i64, i64),
    /// The number compares in this order to another number of the ticket; `None` = equal.
    Field(Option<Order>, Number),
}

/// A test of a date. An unset date passes no test.
#[derive(Debug, Clone, PartialEq)]
pub enum DateTest {
    /// The date is set.
    Present,
    /// The date lies within one of these.
    Equal(Vec<DateExpr>),
    /// The date is before the other's beginning (`<`), up to its end (`<=`), after its end (`>`), or from its beginning (`>=`).
    Order(Order, DateExpr),
    /// The date lies between the beginning of the first and the end of the second.
    Between(DateExpr, DateExpr),
    /// The date compares in this order to another date of the ticket; `None` = equal.
    Field(Option<Order>, Date),
}

impl DateTest {
    /// Returns the ranges in which a date passes the test, or `None` if that depends on more than time.
    pub fn ranges(&self, now: OffsetDateTime, zone: &Zone) -> Option<Vec<Range>> {
        Some(match self {
            Self::Equal(dates) => dates.iter().flat_map(|date| date.within(now, zone)).collect(),
            Self::Between(low, high) => DateExpr::between(low, high, now, zone),
            Self::Order(order, date) => date.in_order(*order, now, zone),
            Self::Present | Self::Field(..) => return None,
        })
    }
}

/// A test of a person.
#[derive(Debug, Clone, PartialEq)]
pub enum PersonTest {
    /// There is a person. The owner `Nobody` does not count.
    Present,
    /// The person is one of these.
    Is(Vec<Who>),
    /// The username passes.
    Name(TextTest),
    /// The address passes.
    Address(TextTest),
    /// The person is the same as another person of the ticket.
    Field(Person),
    /// The person is one of the people of a role: the same user, or the same address without a user.
    OneOf(People),
}

/// A person named in a query, with the users of that name. Conditions have no such users; they compare the names of the people
/// of the ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// No person.
    Nobody,
    /// The user who searches or makes the change.
    CurrentUser,
    /// The user with an id.
    User(UserId),
    /// A person with this username (folded).
    Name(String, Vec<UserId>),
    /// A person with this address (folded).
    Address(String, Vec<UserId>),
    /// A person with this username or address (folded).
    Word(String, Vec<UserId>),
}

/// A field that CHANGED can test, by its transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// `Status` transactions.
    Status,
    /// `Set` transactions of this column.
    Column(&'static str),
    /// `AddWatcher` and `DelWatcher` transactions of these roles.
    People(People),
    /// `CustomField` transactions of this field.
    Custom(CustomFieldId),
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.predicate.fmt(f)
    }
}
