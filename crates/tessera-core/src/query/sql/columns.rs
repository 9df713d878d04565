//! Tests of the columns of a row: its texts, numbers, dates and people.

use super::bind::Bind;
use super::builder::Builder;
use super::tree::Leaf;
use crate::models::{Role, StatusClass};
use crate::query::ast::Order;
use crate::query::date::Range;
use crate::query::fields::{Date, People, Person};
use crate::query::meaning::{DateTest, Meaning, Number, NumberTest, PersonTest, Who};
use crate::query::text::{Decimal, TextTest};
use uuid::Uuid;

/// The column of a date.
pub(super) fn date_column(date: Date) -> &'static str {
    match date {
        Date::Created => "created_at",
        Date::LastUpdated => "updated_at",
        Date::Started => "started_at",
        Date::Due => "due_at",
        Date::Resolved => "resolved_at",
        Date::Told => "told_at",
    }
}

/// The id of a person of the ticket `t`.
pub(super) fn person_column(person: Person, t: &str) -> String {
    match person {
        Person::Owner => format!("{t}.owner_id"),
        Person::Creator => format!("{t}.creator_id"),
        // `version` is the seq of the last numbered transaction. `Actor` exists only in conditions.
        Person::LastUpdatedBy | Person::Actor => {
            format!(
                "(SELECT l.creator_id FROM transactions l WHERE l.ticket_id = {t}.id AND l.seq = {t}.version)"
            )
        }
    }
}

fn number_column(number: Number, t: &str) -> String {
    match number {
        Number::Id => format!("{t}.number"),
        Number::Priority => format!("{t}.priority"),
    }
}

/// The condition that a text is a number.
pub(super) fn is_number(text: &str) -> String {
    format!("{text} ~ '{}'", Decimal::SQL_PATTERN)
}

/// The condition that two folded texts compare: by number if both are numbers and their order is asked for.
pub(super) fn compared(one: &str, order: Option<Order>, other: &str) -> String {
    let Some(order) = order.map(Order::as_str) else { return format!("{one} = {other}") };
    format!(
        "CASE WHEN {} AND {} THEN {one}::numeric {order} {other}::numeric ELSE {one} {order} {other} COLLATE \"C\" END",
        is_number(one),
        is_number(other)
    )
}

fn sign(order: Option<Order>) -> &'static str {
    order.map_or("=", Order::as_str)
}

impl Builder<'_> {
    /// A positive test of the ticket's own row, as a condition on the ticket `t`.
    pub(super) fn column(&mut self, leaf: &Leaf<'_>, t: &str) -> String {
        let Some(test) = leaf.tests.first() else { return "true".to_owned() };
        match &test.meaning {
            Meaning::Ids(numbers, ids) => {
                let mut either = Vec::new();
                if !numbers.is_empty() {
                    either.push(format!("{t}.number {}", self.binds.among_numbers(numbers)));
                }
                if !ids.is_empty() {
                    let ids = ids.iter().map(|id| id.0).collect();
                    either.push(format!("{t}.id {}", self.binds.among_ids(ids)));
                }
                any(&either)
            }
            Meaning::Number(number, test) => self.number(test, &number_column(*number, t), t),
            Meaning::Subject(test) => self.subject(test, t),
            Meaning::Status(names, classes) => self.status(names, classes, t),
            Meaning::Queue(queues) => {
                let ids = queues.iter().map(|id| id.0).collect();
                format!("{t}.queue_id {}", self.binds.among_ids(ids))
            }
            Meaning::Person(person, test) => self.person(test, &person_column(*person, t), t),
            Meaning::Date(date, test) => self.date(test, &format!("{t}.{}", date_column(*date)), t),
            // The others are sets, or exist only in conditions, which are never compiled to SQL.
            _ => "false".to_owned(),
        }
    }

    fn status(&mut self, names: &[String], classes: &[StatusClass], t: &str) -> String {
        let mut either = Vec::new();
        if !names.is_empty() {
            either.push(format!("{t}.status {}", self.binds.among_texts(names)));
        }
        if !classes.is_empty() {
            // Constants, as in the index of queue and class.
            let letters: Vec<&str> = classes
                .iter()
                .map(|class| match class {
                    StatusClass::Initial => "'i'",
                    StatusClass::Active => "'a'",
                    StatusClass::Inactive => "'x'",
                })
                .collect();
            either.push(format!("{t}.status_class IN ({})", letters.join(", ")));
        }
        any(&either)
    }

    fn number(&mut self, test: &NumberTest, column: &str, t: &str) -> String {
        match test {
            NumberTest::Equal(numbers) => format!("{column} {}", self.binds.among_numbers(numbers)),
            NumberTest::Order(order, number) => {
                format!("{column} {} {}", order.as_str(), self.binds.add(Bind::Number(*number)))
            }
            NumberTest::Between(low, high) => {
                let (low, high) = (self.binds.add(Bind::Number(*low)), self.binds.add(Bind::Number(*high)));
                format!("{column} BETWEEN {low} AND {high}")
            }
            NumberTest::Field(order, other) => {
                format!("{column} {} {}", sign(*order), number_column(*other, t))
            }
        }
    }

    /// A test of a text in its folded form; `words` is the column for MATCHES.
    pub(super) fn text(&mut self, test: &TextTest, folded: &str, words: Option<&str>) -> String {
        let number = |text: &Decimal| Bind::Text(text.sql());
        let as_number = || format!("CASE WHEN {} THEN {folded}::numeric END", is_number(folded));
        match test {
            TextTest::Present => format!("{folded} IS NOT NULL"),
            TextTest::Equal(texts) => format!("{folded} {}", self.binds.among_texts(texts)),
            TextTest::Like(pattern) => format!("{folded} LIKE {}", self.binds.add(Bind::Text(pattern.sql()))),
            TextTest::Order(order, text) => {
                let text = self.binds.add(Bind::Text(text.clone()));
                format!("{folded} {} {text} COLLATE \"C\"", order.as_str())
            }
            TextTest::Between(low, high) => {
                let (low, high) =
                    (self.binds.add(Bind::Text(low.clone())), self.binds.add(Bind::Text(high.clone())));
                format!("{folded} BETWEEN ({low} COLLATE \"C\") AND ({high} COLLATE \"C\")")
            }
            TextTest::Number(order, value) => {
                format!("{} {} {}::numeric", as_number(), order.as_str(), self.binds.add(number(value)))
            }
            TextTest::NumberBetween(low, high) => {
                let (low, high) = (self.binds.add(number(low)), self.binds.add(number(high)));
                format!("{} BETWEEN {low}::numeric AND {high}::numeric", as_number())
            }
            TextTest::Words(matcher) => {
                let words = words.unwrap_or("NULL::tsvector");
                format!("{words} @@ {}::tsquery", self.binds.add(Bind::Text(matcher.tsquery())))
            }
        }
    }

    /// A test of a text whose caseless form is not stored.
    pub(super) fn caseless_text(&mut self, test: &TextTest, text: &str, words: Option<&str>) -> String {
        match test {
            TextTest::Words(_) => self.text(test, text, words),
            _ => {
                let folded = self.caseless(text);
                self.text(test, &folded, words)
            }
        }
    }

    /// A test of the subject.
    pub(super) fn subject(&mut self, test: &TextTest, t: &str) -> String {
        self.text(test, &format!("{t}.subject_folded"), Some(&format!("{t}.subject_words")))
    }

    /// The ids of the users that a query names.
    pub(super) fn ids_of(&self, who: &[Who]) -> Vec<Uuid> {
        let ids = who.iter().flat_map(|who| match who {
            Who::Nobody => Vec::new(),
            Who::CurrentUser => vec![self.asker.user.0],
            Who::User(id) => vec![id.0],
            Who::Name(_, ids) | Who::Address(_, ids) | Who::Word(_, ids) => {
                ids.iter().map(|id| id.0).collect()
            }
        });
        ids.collect()
    }

    /// The condition that a row of `ticket_watchers` has one of the roles, with AND after it; empty for all roles.
    pub(super) fn role(&mut self, watcher: &str, people: People) -> String {
        match people.roles().as_slice() {
            roles if roles.len() == Role::ALL.len() => String::new(),
            roles => {
                let roles: Vec<String> = roles.iter().map(|role| role.as_str().to_owned()).collect();
                format!("{watcher}.role {} AND ", self.binds.among_texts(&roles))
            }
        }
    }

    /// A test of the person whose id is in a column.
    pub(super) fn person(&mut self, test: &PersonTest, column: &str, t: &str) -> String {
        match test {
            PersonTest::Present => format!("{column} IS NOT NULL"),
            PersonTest::Is(who) => {
                let ids = self.ids_of(who);
                let mut either = Vec::new();
                if !ids.is_empty() {
                    either.push(format!("{column} {}", self.binds.among_ids(ids)));
                }
                if who.contains(&Who::Nobody) {
                    either.push(format!("{column} IS NULL"));
                }
                any(&either)
            }
            PersonTest::Name(test) => {
                format!(
                    "{column} IN (SELECT u.id FROM users u WHERE {})",
                    self.caseless_text(test, "u.username", None)
                )
            }
            PersonTest::Address(test) => {
                format!(
                    "{column} IN (SELECT u.id FROM users u WHERE {})",
                    self.caseless_text(test, "u.email", None)
                )
            }
            PersonTest::Field(other) => format!("{column} = {}", person_column(*other, t)),
            PersonTest::OneOf(people) => {
                let role = self.role("w", *people);
                // OFFSET 0 keeps PostgreSQL from planning it as one more join.
                format!(
                    "EXISTS (SELECT FROM ticket_watchers w WHERE w.ticket_id = {t}.id AND {role}w.user_id = {column} OFFSET 0)"
                )
            }
        }
    }

    /// A test of the date in a column.
    pub(super) fn date(&mut self, test: &DateTest, column: &str, t: &str) -> String {
        if let Some(ranges) = test.ranges(self.asker.now, &self.asker.zone) {
            let within: Vec<String> = ranges.iter().map(|range| self.within(range, column)).collect();
            return any(&within);
        }
        match test {
            DateTest::Field(order, other) => format!("{column} {} {t}.{}", sign(*order), date_column(*other)),
            _ => format!("{column} IS NOT NULL"),
        }
    }

    fn within(&mut self, range: &Range, column: &str) -> String {
        let sides = [(">=", range.from), ("<", range.until)];
        let sides = sides.into_iter().filter_map(|(sign, at)| Some((sign, at?)));
        let sides: Vec<String> =
            sides.map(|(sign, at)| format!("{column} {sign} {}", self.binds.add(Bind::Time(at)))).collect();
        match sides.as_slice() {
            [only] => only.clone(),
            both => format!("({})", both.join(" AND ")),
        }
    }
}

/// The conditions joined by OR; `false` for none.
pub(super) fn any(conditions: &[String]) -> String {
    match conditions {
        [] => "false".to_owned(),
        [only] => only.clone(),
        many => format!("({})", many.join(" OR ")),
    }
}
