//! The in-memory back end: evaluates a query for one ticket and the current change, with a trace.

use super::ast::{Expr, Query};
use super::date::Zone;
use super::fields::{Date, Fields, People, Person, TextField, TransactionText};
use super::meaning::{Changed, DateTest, Meaning, Number, NumberTest, PersonTest, Test, Who};
use super::text;
use crate::models::steps::{Exhausted, FOLDED, steps};
use crate::models::text::{ADDRESS_MAX, caseless, fold};
use crate::models::{Change, Steps, Ticket, Transaction, TransactionType, User, UserId, Watcher, Why};
use serde_json::{Value, json};
use std::collections::HashMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The maximum number of nodes in a trace. Further tests are evaluated and counted.
pub const TRACE_MAX: usize = 64;
/// A condition looks only at this many bytes at the start of a transaction's text, because it is evaluated during a request.
pub const CONTENT_MAX: usize = 64 * 1024;
/// Characters of a text that a trace shows.
const TEXT_SHOWN: usize = 200;
/// Items of a list that a trace shows.
const LIST_SHOWN: usize = 20;

/// The input of an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The ticket.
    pub ticket: &'a Ticket,
    /// The ticket number; `None` during a create, so that a preview, which draws no number, gives the same result.
    pub number: Option<i64>,
    /// The users among the ticket's people who are not agents.
    pub people: &'a HashMap<UserId, User>,
    /// Agents, and names for traces.
    pub fields: Fields<'a>,
    /// The user that `__CurrentUser__` and, in conditions, `Actor` stand for.
    pub current_user: Option<&'a User>,
    /// The creator of the ticket's last transaction, if that is not the current one.
    pub last_updated_by: Option<UserId>,
    /// The current time.
    pub now: OffsetDateTime,
    /// The time zone in which days begin.
    pub zone: &'a Zone,
    /// The current change; only in conditions.
    pub occasion: Option<Occasion<'a>>,
}

/// The current change, for which a condition is evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    /// The transaction for which a scrip is evaluated.
    pub transaction: &'a Transaction,
    /// The transactions that CHANGED tests.
    pub changes: &'a [Transaction],
    /// The channel of the change.
    pub channel: &'a str,
}

/// Returns true if a query holds.
pub fn holds(query: &Query<Test>, scene: &Scene<'_>) -> bool {
    query.0.as_ref().is_none_or(|expr| scene.passes(expr))
}

/// Evaluates a query and returns a trace of all tests with the expected and the found values, up to [`TRACE_MAX`] nodes. Takes the
/// steps of each test from those that are left; a test that does not fit is not made, and the result means nothing.
pub fn why(query: &Query<Test>, scene: &Scene<'_>, steps: &Steps) -> Why {
    let Some(expr) = &query.0 else { return Why::all(Vec::new()) };
    let mut tracer = Tracer { scene, steps, left: TRACE_MAX - 1, hidden: 0 };
    let why = tracer.node(expr);
    match tracer.hidden {
        0 => why,
        1 => why.because("1 more test is not shown"),
        hidden => why.because(format!("{hidden} more tests are not shown")),
    }
}

struct Tracer<'s, 'a> {
    scene: &'s Scene<'a>,
    steps: &'s Steps,
    /// The number of nodes that still fit.
    left: usize,
    /// The number of tests that did not fit.
    hidden: usize,
}

impl Tracer<'_, '_> {
    fn node(&mut self, expr: &Expr<Test>) -> Why {
        match expr {
            Expr::Test(test) => match self.steps.spend(self.scene.cost(test)) {
                Ok(()) => self.scene.leaf(test),
                Err(Exhausted) => Why::leaf("budget", Value::Null, Value::Null, false),
            },
            Expr::Not(inner) => match self.child(inner) {
                (_, Some(child)) => Why::opposite(child),
                (result, None) => Why::leaf("not", Value::Null, Value::Null, !result),
            },
            Expr::And(members) => match members.as_slice() {
                // Parentheses around one test add nothing to the trace.
                [only] => self.node(only),
                many => self.group(many, Why::all(Vec::new()), |results| !results.contains(&false)),
            },
            Expr::Or(members) => self.group(members, Why::any(Vec::new()), |results| results.contains(&true)),
        }
    }

    fn group(&mut self, members: &[Expr<Test>], group: Why, join: fn(&[bool]) -> bool) -> Why {
        let (results, children): (Vec<bool>, Vec<Option<Why>>) =
            members.iter().map(|member| self.child(member)).unzip();
        Why { result: join(&results), children: children.into_iter().flatten().collect(), ..group }
    }

    fn child(&mut self, expr: &Expr<Test>) -> (bool, Option<Why>) {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                let why = self.node(expr);
                (why.result, Some(why))
            }
            None => {
                let tests = expr.tests();
                self.hidden += tests.len();
                let steps = tests.iter().map(|test| self.scene.cost(test)).sum();
                (self.steps.spend(steps).is_ok() && self.scene.passes(expr), None)
            }
        }
    }
}

/// One of a ticket's people: a user, or a bare address.
#[derive(Clone, Copy)]
struct Somebody<'a> {
    id: Option<UserId>,
    address: Option<&'a str>,
}

impl<'a> Scene<'a> {
    fn passes(&self, expr: &Expr<Test>) -> bool {
        match expr {
            Expr::And(members) => members.iter().all(|member| self.passes(member)),
            Expr::Or(members) => members.iter().any(|member| self.passes(member)),
            Expr::Not(inner) => !self.passes(inner),
            Expr::Test(test) => self.test(test),
        }
    }

    fn test(&self, test: &Test) -> bool {
        self.means(&test.meaning) != test.is_negated
    }

    /// Returns true if a meaning holds. A missing value passes no test.
    fn means(&self, meaning: &Meaning) -> bool {
        let occasion = self.occasion.as_ref();
        match meaning {
            Meaning::Ids(numbers, ids) => {
                self.number.is_some_and(|number| numbers.contains(&number)) || ids.contains(&self.ticket.id)
            }
            Meaning::Number(number, test) => {
                self.number_of(*number).is_some_and(|value| self.number_passes(value, test))
            }
            Meaning::Subject(test) => test.holds(&self.ticket.subject),
            Meaning::Status(names, classes) => {
                names.contains(&self.ticket.status) || classes.contains(&self.ticket.status_class)
            }
            Meaning::Queue(ids) => ids.contains(&self.ticket.queue),
            Meaning::Person(person, test) => self.person_passes(self.person(*person), test),
            Meaning::People(people, test) => {
                self.people(*people).any(|somebody| self.person_passes(somebody, test))
            }
            Meaning::Date(date, test) => self.date_of(*date).is_some_and(|at| self.date_passes(at, test)),
            Meaning::Custom(field, test) => {
                self.ticket.values_of(*field).iter().any(|value| test.holds(value))
            }
            Meaning::Texts(own, order, other) => {
                let others = self.texts(*other);
                let mut own = self.texts(*own).into_iter();
                own.any(|own| others.iter().any(|other| text::compares(own, *order, other)))
            }
            // The history is not loaded: conditions do not have these fields, and searches use SQL.
            Meaning::Updated(_) | Meaning::UpdatedBy(_) | Meaning::Content(_) => false,
            Meaning::TransactionType(types) => {
                occasion.is_some_and(|one| types.contains(&one.transaction.transaction_type))
            }
            Meaning::Transaction(text, test) => {
                self.transaction_text(*text).is_some_and(|text| test.holds(text))
            }
            Meaning::Channel(test) => occasion.is_some_and(|one| test.holds(one.channel)),
            Meaning::Changed(changed, from, to) => {
                let fits = |words: &Option<Vec<String>>, is_old, change: &Transaction| {
                    words.as_ref().is_none_or(|words| {
                        self.sides(change, is_old).iter().any(|value| words.contains(value))
                    })
                };
                self.changes(changed).any(|one| fits(from, true, one) && fits(to, false, one))
            }
        }
    }

    // Costs ---------------------------------------------------------------------------------------------------------

    /// The steps that a test takes, with its line in the trace.
    fn cost(&self, test: &Test) -> u64 {
        /// Steps for a test of a single short value.
        const TEST: u64 = 20;
        /// Steps for looking up and folding the names of a person or of a change.
        const NAMES: u64 = 4;
        let somebody = |count: usize, test: &PersonTest| {
            let each = match test {
                PersonTest::Is(whos) => NAMES * whos.len() as u64,
                PersonTest::Name(test) | PersonTest::Address(test) => NAMES + test.cost(ADDRESS_MAX),
                PersonTest::Present | PersonTest::Field(_) => NAMES,
                PersonTest::OneOf(people) => NAMES * self.people(*people).count() as u64,
            };
            count as u64 * (NAMES + each)
        };
        let asked = match &test.meaning {
            Meaning::Ids(numbers, ids) => (numbers.len() + ids.len()) as u64,
            Meaning::Number(_, NumberTest::Equal(numbers)) => numbers.len() as u64,
            Meaning::Status(names, classes) => (names.len() + classes.len()) as u64,
            Meaning::Queue(ids) => ids.len() as u64,
            Meaning::Subject(test) => test.cost(self.ticket.subject.len()),
            Meaning::Person(_, test) => somebody(1, test),
            Meaning::People(people, test) => somebody(self.people(*people).count(), test),
            Meaning::Custom(field, test) => {
                self.ticket.values_of(*field).iter().map(|value| test.cost(value.len())).sum()
            }
            Meaning::Texts(own, _, other) => {
                let (own, others) = (self.texts(*own), self.texts(*other));
                let bytes = |texts: &[&str]| texts.iter().map(|text| text.len()).sum::<usize>();
                let folded = own.len() * bytes(&others) + others.len() * bytes(&own);
                (own.len() * others.len()) as u64 + steps(folded, FOLDED)
            }
            Meaning::Transaction(text, test) => test.cost(self.transaction_text(*text).map_or(0, str::len)),
            Meaning::Channel(test) => test.cost(self.occasion.map_or(0, |one| one.channel.len())),
            Meaning::Changed(changed, from, to) => {
                let words = from.iter().chain(to).map(Vec::len).sum::<usize>() as u64;
                let texts = |one: &Transaction| {
                    [&one.old_value, &one.new_value].into_iter().flatten().map(String::len).sum::<usize>()
                };
                let change = |one| NAMES * (1 + words) + steps(texts(one), FOLDED);
                let all = self.occasion.map_or(0, |occasion| occasion.changes.len()) as u64;
                all + self.changes(changed).map(change).sum::<u64>()
            }
            Meaning::Number(..)
            | Meaning::Date(..)
            | Meaning::TransactionType(_)
            | Meaning::Updated(_)
            | Meaning::UpdatedBy(_)
            | Meaning::Content(_) => 0,
        };
        TEST + asked
    }

    // Values --------------------------------------------------------------------------------------------------------

    fn current_id(&self) -> Option<UserId> {
        self.current_user.map(|user| user.id)
    }

    fn user(&self, id: UserId) -> Option<&'a User> {
        let agent = || self.fields.agents.get(id).map(AsRef::as_ref);
        self.people.get(&id).or_else(agent).or(self.current_user.filter(|user| user.id == id))
    }

    fn number_of(&self, number: Number) -> Option<i64> {
        match number {
            Number::Id => self.number,
            Number::Priority => Some(i64::from(self.ticket.priority)),
        }
    }

    fn date_of(&self, date: Date) -> Option<OffsetDateTime> {
        match date {
            Date::Created => Some(self.ticket.created_at),
            // The current transaction is the ticket's last one.
            Date::LastUpdated => {
                let at_hand = self.occasion.map(|occasion| occasion.transaction.created_at);
                at_hand.or(Some(self.ticket.updated_at))
            }
            Date::Started => self.ticket.started_at,
            Date::Due => self.ticket.due_at,
            Date::Resolved => self.ticket.resolved_at,
            Date::Told => self.ticket.told_at,
        }
    }

    fn person(&self, person: Person) -> Somebody<'a> {
        let id = match person {
            Person::Owner => self.ticket.owner,
            Person::Creator => Some(self.ticket.creator),
            Person::LastUpdatedBy => {
                let at_hand = self.occasion.map(|occasion| occasion.transaction.creator);
                at_hand.or(self.last_updated_by)
            }
            Person::Actor => self.occasion.and(self.current_id()),
        };
        Somebody { id, address: None }
    }

    fn people(&self, people: People) -> impl Iterator<Item = Somebody<'a>> {
        let somebody =
            |watcher: &'a Watcher| Somebody { id: watcher.user, address: watcher.address.as_deref() };
        let ticket = self.ticket;
        people.roles().into_iter().flat_map(move |role| ticket.watchers(role)).map(somebody)
    }

    fn transaction_text(&self, text: TransactionText) -> Option<&'a str> {
        let transaction = self.occasion?.transaction;
        match text {
            TransactionText::Field => transaction.field.as_deref(),
            TransactionText::OldValue => transaction.old_value.as_deref(),
            TransactionText::NewValue => transaction.new_value.as_deref(),
            TransactionText::Content => transaction.content.as_ref().and_then(|content| {
                let end = content.body.floor_char_boundary(CONTENT_MAX);
                content.body.get(..end)
            }),
        }
    }

    fn texts(&self, field: TextField) -> Vec<&'a str> {
        let ticket = self.ticket;
        match field {
            TextField::Subject => vec![&ticket.subject],
            TextField::Custom(id) => ticket.values_of(id).iter().map(String::as_str).collect(),
            TextField::Transaction(text) => self.transaction_text(text).into_iter().collect(),
        }
    }

    /// The current changes of a field. Creating a ticket changes nothing.
    fn changes(&self, changed: &Changed) -> impl Iterator<Item = &'a Transaction> {
        let all = self.occasion.map_or(&[][..], |occasion| occasion.changes);
        all.iter().filter(move |one| match changed {
            Changed::Status => one.transaction_type == TransactionType::Status,
            Changed::Column(column) => {
                one.transaction_type == TransactionType::Set && one.field.as_deref() == Some(column)
            }
            Changed::People(people) => match &one.change {
                Change::AddWatcher { role, .. } | Change::DelWatcher { role, .. } => {
                    people.roles().contains(role)
                }
                _ => false,
            },
            Changed::Custom(id) => matches!(&one.change, Change::CustomField { field, .. } if field == id),
        })
    }

    /// The names of one side of a change, as names are compared: its readable value, which is empty for no value, and for users also
    /// the address and the id. A subject and a value of a custom field are caseless.
    fn sides(&self, change: &Transaction, is_old: bool) -> Vec<String> {
        let readable = if is_old { &change.old_value } else { &change.new_value };
        let readable = readable.as_deref().unwrap_or_default();
        let mut sides = match &change.change {
            Change::Subject { .. } | Change::CustomField { .. } => vec![caseless(readable)],
            _ => vec![fold(readable)],
        };
        let person = match &change.change {
            Change::Owner { old, new } => {
                if is_old {
                    *old
                } else {
                    *new
                }
            }
            Change::AddWatcher { watcher, .. } if !is_old => watcher.user,
            Change::DelWatcher { watcher, .. } if is_old => watcher.user,
            _ => None,
        };
        if let Some(id) = person {
            sides.push(id.to_string());
            sides.extend(self.address_of(Somebody { id: Some(id), address: None }).map(fold));
            sides.extend((self.current_id() == Some(id)).then(|| "__currentuser__".to_owned()));
        }
        sides
    }

    fn username_of(&self, somebody: Somebody<'a>) -> Option<&'a str> {
        somebody.id.and_then(|id| self.user(id)).map(|user| user.username.as_str())
    }

    fn address_of(&self, somebody: Somebody<'a>) -> Option<&'a str> {
        match somebody.id {
            Some(id) => self.user(id).and_then(|user| user.email.as_deref()),
            None => somebody.address,
        }
    }

    // Tests ---------------------------------------------------------------------------------------------------------

    fn number_passes(&self, value: i64, test: &NumberTest) -> bool {
        match test {
            NumberTest::Equal(numbers) => numbers.contains(&value),
            NumberTest::Order(order, number) => order.holds(&value, number),
            NumberTest::Between(low, high) => (*low..=*high).contains(&value),
            NumberTest::Field(order, other) => self
                .number_of(*other)
                .is_some_and(|other| order.map_or(value == other, |order| order.holds(&value, &other))),
        }
    }

    fn date_passes(&self, at: OffsetDateTime, test: &DateTest) -> bool {
        if let Some(ranges) = test.ranges(self.now, self.zone) {
            return ranges.iter().any(|range| range.contains(at));
        }
        match test {
            DateTest::Field(order, other) => self
                .date_of(*other)
                .is_some_and(|other| order.map_or(at == other, |order| order.holds(&at, &other))),
            // The date is set, which is all that is tested.
            _ => true,
        }
    }

    fn person_passes(&self, somebody: Somebody<'a>, test: &PersonTest) -> bool {
        match test {
            PersonTest::Present => somebody.id.is_some() || somebody.address.is_some(),
            PersonTest::Is(whos) => whos.iter().any(|who| self.is(somebody, who)),
            PersonTest::Name(test) => self.username_of(somebody).is_some_and(|name| test.holds(name)),
            PersonTest::Address(test) => self.address_of(somebody).is_some_and(|address| test.holds(address)),
            PersonTest::Field(other) => somebody.id.is_some() && somebody.id == self.person(*other).id,
            PersonTest::OneOf(people) => self.people(*people).any(|other| match (somebody.id, other.id) {
                (None, None) => somebody.address.map(fold) == other.address.map(fold),
                (one, other) => one == other,
            }),
        }
    }

    fn is(&self, somebody: Somebody<'a>, who: &Who) -> bool {
        let is_known = |users: &[UserId]| somebody.id.is_some_and(|id| users.contains(&id));
        let is_named = |word: &String| self.username_of(somebody).is_some_and(|name| fold(name) == *word);
        let is_at = |word: &String| self.address_of(somebody).is_some_and(|address| fold(address) == *word);
        match who {
            Who::Nobody => somebody.id.is_none() && somebody.address.is_none(),
            Who::CurrentUser => somebody.id.is_some() && somebody.id == self.current_id(),
            Who::User(id) => somebody.id == Some(*id),
            Who::Name(word, users) => is_known(users) || is_named(word),
            Who::Address(word, users) => is_known(users) || is_at(word),
            Who::Word(word, users) => is_known(users) || is_named(word) || is_at(word),
        }
    }

    // Traces --------------------------------------------------------------------------------------------------------

    fn leaf(&self, test: &Test) -> Why {
        let written = test.predicate.to_string();
        let field = test.predicate.field.to_string();
        let expected = cut(written.strip_prefix(&field).unwrap_or(&written).trim_start());
        Why::leaf(field, expected, self.found(test), self.test(test))
    }

    /// The value that a test found.
    fn found(&self, test: &Test) -> Value {
        match &test.meaning {
            Meaning::Ids(numbers, _) if numbers.is_empty() => json!(self.ticket.id),
            Meaning::Ids(..) => json!(self.number),
            Meaning::Number(number, _) => json!(self.number_of(*number)),
            Meaning::Subject(_) => json!(cut(&self.ticket.subject)),
            Meaning::Status(_, classes) if classes.is_empty() => json!(self.ticket.status),
            Meaning::Status(..) => json!(format!("{} ({})", self.ticket.status, self.ticket.status_class)),
            Meaning::Queue(_) => self.queue_name(test),
            Meaning::Person(person, asked) => json!(self.called(self.person(*person), asked, false)),
            Meaning::People(people, asked) => {
                listed(self.people(*people).filter_map(|somebody| self.called(somebody, asked, true)))
            }
            Meaning::Date(date, _) => json!(self.date_of(*date).and_then(|at| at.format(&Rfc3339).ok())),
            Meaning::Custom(field, _) => listed(self.ticket.values_of(*field).iter().map(|value| cut(value))),
            Meaning::Texts(own, ..) => listed(self.texts(*own).into_iter().map(cut)),
            Meaning::Updated(_) | Meaning::UpdatedBy(_) | Meaning::Content(_) => Value::Null,
            Meaning::TransactionType(_) => json!(self.occasion.map(|one| one.transaction.transaction_type)),
            Meaning::Transaction(text, _) => json!(self.transaction_text(*text).map(cut)),
            Meaning::Channel(_) => json!(self.occasion.map(|one| one.channel)),
            Meaning::Changed(changed, ..) => {
                let side = |value: &Option<String>| value.as_deref().map_or_else(|| "nothing".into(), cut);
                let arrow =
                    |one: &Transaction| format!("{} -> {}", side(&one.old_value), side(&one.new_value));
                listed(self.changes(changed).map(arrow))
            }
        }
    }

    fn queue_name(&self, test: &Test) -> Value {
        let Some(queue) = self.fields.queues.get(self.ticket.queue) else { return Value::Null };
        let lifecycle = || self.fields.lifecycles.get(queue.lifecycle).map(|lifecycle| lifecycle.name());
        match test.predicate.field.parts().as_slice() {
            ["Lifecycle"] => json!(lifecycle()),
            _ => json!(queue.name),
        }
    }

    /// The name of a person in a trace: the part that the test compares, or for people of a role the address.
    fn called(&self, somebody: Somebody<'a>, asked: &PersonTest, has_role: bool) -> Option<String> {
        let id = || somebody.id.map(|id| id.to_string());
        let name = || self.username_of(somebody).map(cut);
        let address = || self.address_of(somebody).map(cut);
        let who = match asked {
            PersonTest::Is(whos) => whos.first(),
            _ => None,
        };
        match (asked, who) {
            (PersonTest::Name(_), _) | (_, Some(Who::Name(..))) => name().or_else(id),
            (PersonTest::Address(_), _) | (_, Some(Who::Address(..))) => address().or_else(name).or_else(id),
            (_, Some(Who::User(_))) => id().or_else(address),
            _ if has_role => address().or_else(name).or_else(id),
            _ => name().or_else(id),
        }
    }
}

/// Null for no value, the value if there is one, otherwise a list that is cut after [`LIST_SHOWN`] items.
fn listed(found: impl Iterator<Item = String>) -> Value {
    let mut found: Vec<String> = found.collect();
    if found.len() > LIST_SHOWN {
        let rest = found.len() - LIST_SHOWN;
        found.truncate(LIST_SHOWN);
        found.push(format!("and {rest} more"));
    }
    match found.as_slice() {
        [] => Value::Null,
        [only] => json!(only),
        many => json!(many),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
