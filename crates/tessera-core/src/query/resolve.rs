//! Resolves a parsed query: looks up all names, reads all values, and gives every test its meaning.

use super::ast::{
    Like, Name, PATTERN_MAX, Predicate, Query, Value, ValueKind, Verb, WILDCARDS_MAX, unescape, wildcards,
};
use super::date::{DATE_HINT, DateExpr};
use super::error::{QueryError, Result, Span, did_you_mean};
use super::fields::{Field, Fields, Person, Purpose, TextField, TransactionText, is_custom};
use super::meaning::{DateTest, Meaning, Number, NumberTest, PersonTest, Test};
use super::text::{Decimal, Pattern, TextTest};
use super::words::Matcher;
use crate::models::text::{caseless, fold, list};
use crate::models::{QueueId, StatusClass, TicketId, TransactionType};
use std::collections::BTreeSet;

/// The status of tickets that searches leave out.
pub const DELETED: &str = "deleted";

/// Gives every test its meaning.
///
/// # Errors
/// The first invalid name, value or operator.
pub fn resolve(query: &Query<Predicate>, fields: &Fields<'_>) -> Result<Query<Test>> {
    query.try_map(|predicate| resolve_one(predicate, fields))
}

/// Returns true if a search leaves out deleted tickets, which it does unless it names that status.
pub fn hides_deleted(query: &Query<Test>) -> bool {
    !query.tests().iter().any(|test| match &test.meaning {
        Meaning::Status(names, _) => names.iter().any(|name| name == DELETED),
        _ => false,
    })
}

/// Returns the words by which a query names people. Their users must be known before the query is resolved for a search.
pub fn people_named(query: &Query<Predicate>, fields: &Fields<'_>) -> Vec<String> {
    let of_people = query.tests().into_iter().filter(|predicate| {
        let field = fields.find(&predicate.field).map(|(field, _)| field);
        matches!(field, Ok(Field::Person(..) | Field::People(..) | Field::UpdatedBy(_)))
    });
    of_people.flat_map(|predicate| predicate.verb.equals().unwrap_or_default()).map(word_of).collect()
}

/// A test being resolved.
pub(super) struct Resolver<'a> {
    pub(super) predicate: &'a Predicate,
    pub(super) fields: &'a Fields<'a>,
    /// The field in its canonical spelling.
    pub(super) name: &'a Name,
}

fn resolve_one(predicate: &Predicate, fields: &Fields<'_>) -> Result<Test> {
    let (field, name) = fields.find(&predicate.field)?;
    let mut predicate = Predicate { field: name, ..predicate.clone() };
    if matches!((field, &predicate.verb), (Field::Custom(_), Verb::Equal(value)) if is_blank(value)) {
        // No value of a custom field is empty, so this asks whether it has none.
        predicate.verb = Verb::Null;
    }
    let meaning = Resolver { predicate: &predicate, fields, name: &predicate.field }.meaning(field)?;
    if let Verb::Equal(value) | Verb::Order(_, value) = &mut predicate.verb
        && let ValueKind::Name(other) = &mut value.kind
        && compares_fields(&meaning)
    {
        *other = fields.find(other)?.1;
    }
    // The meaning of IS NULL is that a value exists, so IS NULL itself is the negated test.
    let is_negated = predicate.is_negated != matches!(predicate.verb, Verb::Null);
    Ok(Test { predicate, is_negated, meaning })
}

fn is_blank(value: &Value) -> bool {
    matches!(&value.kind, ValueKind::Text(text) if text.trim().is_empty())
}

fn compares_fields(meaning: &Meaning) -> bool {
    match meaning {
        Meaning::Texts(..) => true,
        Meaning::Number(_, test) => matches!(test, NumberTest::Field(..)),
        Meaning::Date(_, test) => matches!(test, DateTest::Field(..)),
        Meaning::Person(_, test) | Meaning::People(_, test) => {
            matches!(test, PersonTest::Field(_) | PersonTest::OneOf(_))
        }
        _ => false,
    }
}

impl Resolver<'_> {
    fn meaning(&self, field: Field) -> Result<Meaning> {
        if let Verb::Changed { from, to } = &self.predicate.verb {
            return self.changed(field, from.as_ref(), to.as_ref());
        }
        if let Some(own) = field.text()
            && let Some(other) = self.other_text(own)?
        {
            return Ok(other);
        }
        let other_people = self.other_people(field);
        Ok(match field {
            Field::Id => return self.id(),
            Field::Priority => Meaning::Number(Number::Priority, self.number()?),
            Field::Subject => Meaning::Subject(
                self.text("every ticket has a subject; to find empty subjects, write Subject = ''")?,
            ),
            Field::Status => return self.status(),
            Field::Queue => Meaning::Queue(self.queues()?),
            Field::Lifecycle => Meaning::Queue(self.queues_of_lifecycles()?),
            Field::Person(person, part) => {
                Meaning::Person(person, other_people.map_or_else(|| self.person(Some(person), part), Ok)?)
            }
            Field::People(people, part) => {
                Meaning::People(people, other_people.map_or_else(|| self.person(None, part), Ok)?)
            }
            Field::Date(date) => Meaning::Date(date, self.date(true)?),
            Field::Custom(id) => Meaning::Custom(id, self.custom()?),
            Field::Updated | Field::UpdatedBy(_) if matches!(self.predicate.verb, Verb::Null) => {
                return Err(
                    self.no_such_test("every ticket has a history; compare it with a date or a username")
                );
            }
            Field::Updated => Meaning::Updated(self.date(false)?),
            Field::UpdatedBy(part) => Meaning::UpdatedBy(self.person(Some(Person::LastUpdatedBy), part)?),
            Field::Content => Meaning::Content(self.content()?),
            Field::TransactionType => Meaning::TransactionType(self.transaction_types()?),
            Field::Transaction(text) => Meaning::Transaction(text, self.transaction(text)?),
            Field::Channel => Meaning::Channel(self.channel()?),
        })
    }

    pub(super) fn error(&self, span: Span, message: impl Into<String>) -> QueryError {
        QueryError::new(span, message)
    }

    /// The error for an operator that the field does not support.
    pub(super) fn no_such_test(&self, hint: impl Into<String>) -> QueryError {
        let verb = self.predicate.verb.keyword();
        self.error(self.predicate.span, format!("{} does not support {verb}", self.name)).hint(hint)
    }

    /// The values of `=` and IN.
    pub(super) fn equals(&self) -> Option<&[Value]> {
        self.predicate.verb.equals()
    }

    /// The field that an unquoted value names.
    pub(super) fn field_of(&self, value: &Value) -> Option<Field> {
        match &value.kind {
            ValueKind::Name(name) => self.fields.find(name).ok().map(|(field, _)| field),
            _ => None,
        }
    }

    fn id(&self) -> Result<Meaning> {
        let Some(values) = self.equals() else {
            return Ok(Meaning::Number(Number::Id, self.number()?));
        };
        if let [value] = values
            && self.field_of(value).is_some()
        {
            return Ok(Meaning::Number(Number::Id, self.number()?));
        }
        let (mut numbers, mut ids) = (Vec::new(), Vec::new());
        for value in values {
            let word = word_of(value);
            match (word.parse(), uuid::Uuid::parse_str(&word)) {
                (Ok(number), _) => numbers.push(number),
                (_, Ok(id)) => ids.push(TicketId(id)),
                _ => {
                    return Err(self
                        .error(value.span, format!("\"{word}\" is not a ticket number"))
                        .hint("write id = 12, or the UUID of a ticket in quotes"));
                }
            }
        }
        Ok(Meaning::Ids(numbers, ids))
    }

    fn number(&self) -> Result<NumberTest> {
        let field = |value: &Value| match self.field_of(value) {
            Some(Field::Id) => Some(Number::Id),
            Some(Field::Priority) => Some(Number::Priority),
            _ => None,
        };
        Ok(match &self.predicate.verb {
            Verb::Equal(value) => match field(value) {
                Some(other) => NumberTest::Field(None, other),
                None => NumberTest::Equal(vec![self.whole(value)?]),
            },
            Verb::Order(order, value) => match field(value) {
                Some(other) => NumberTest::Field(Some(*order), other),
                None => NumberTest::Order(*order, self.whole(value)?),
            },
            Verb::In(values) => {
                NumberTest::Equal(values.iter().map(|value| self.whole(value)).collect::<Result<_>>()?)
            }
            Verb::Between(low, high) => NumberTest::Between(self.whole(low)?, self.whole(high)?),
            Verb::Null => return Err(self.no_such_test("it always has a value; compare it with a number")),
            _ => return Err(self.no_such_test("it is a number: use =, !=, <, <=, >, >=, IN or BETWEEN")),
        })
    }

    fn whole(&self, value: &Value) -> Result<i64> {
        let word = word_of(value);
        word.parse().map_err(|error: std::num::ParseIntError| {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let is_large = matches!(error.kind(), PosOverflow | NegOverflow);
            let what = if is_large { "has too many digits" } else { "is not a whole number" };
            let hint = match (self.name.to_string().as_str(), fold(&word).as_str()) {
                ("Priority", "low" | "medium" | "high") => {
                    "priorities are numbers; RT's Low, Medium and High are 0, 50 and 100".to_owned()
                }
                (name, _) => format!("for example {name} = 10"),
            };
            self.error(value.span, format!("\"{word}\" {what}")).hint(hint)
        })
    }

    /// A test of a text that always exists; `null_hint` is the hint for IS NULL.
    fn text(&self, null_hint: &str) -> Result<TextTest> {
        Ok(match &self.predicate.verb {
            Verb::Null => return Err(self.no_such_test(null_hint)),
            Verb::Order(..) | Verb::Between(..) => {
                return Err(
                    self.no_such_test("it is a text: use =, LIKE, STARTSWITH, ENDSWITH, MATCHES or IN")
                );
            }
            _ => self.any_text()?,
        })
    }

    /// The comparison of a text with another, if the value names a field.
    fn other_text(&self, own: TextField) -> Result<Option<Meaning>> {
        let (order, value) = match &self.predicate.verb {
            Verb::Equal(value) => (None, value),
            Verb::Order(order, value) if own != TextField::Subject => (Some(*order), value),
            _ => return Ok(None),
        };
        let ValueKind::Name(name) = &value.kind else { return Ok(None) };
        let is_word = name.parts.len() == 1;
        // After a text of a transaction, a word is a value: Transaction.Field = Subject.
        if is_word && matches!(own, TextField::Transaction(_)) {
            return Ok(None);
        }
        let quoted = format!("if it is the value, put it in quotes: '{}'", word_of(value));
        match self.fields.find(name) {
            Ok((field, name)) => match field.text() {
                Some(other) => Ok(Some(Meaning::Texts(own, order, other))),
                None => {
                    let message =
                        format!("{} cannot be compared with {name}, which is not a text", self.name);
                    Err(self.error(value.span, message).hint(quoted))
                }
            },
            Err(_) if is_word => Ok(None),
            Err(error) if is_custom(name) => Err(error),
            Err(error) => Err(error.hint(quoted)),
        }
    }

    /// A test of a text by any operator.
    pub(super) fn any_text(&self) -> Result<TextTest> {
        if !matches!(self.predicate.verb, Verb::Equal(_) | Verb::Order(..)) {
            self.check_no_fields()?;
        }
        Ok(match &self.predicate.verb {
            Verb::Equal(value) => TextTest::Equal(vec![caseless_word(value)]),
            Verb::In(values) => TextTest::Equal(values.iter().map(caseless_word).collect()),
            Verb::Like(like, value) => TextTest::Like(pattern(*like, value)?),
            Verb::Matches(value) => TextTest::Words(matcher(value)?),
            Verb::Order(order, value) => match decimal(value)? {
                Some(number) => TextTest::Number(*order, number),
                None => TextTest::Order(*order, caseless_word(value)),
            },
            Verb::Between(low, high) => match (decimal(low)?, decimal(high)?) {
                (Some(low), Some(high)) => TextTest::NumberBetween(low, high),
                (None, None) => TextTest::Between(caseless_word(low), caseless_word(high)),
                _ => {
                    return Err(self
                        .error(low.span.to(high.span), "one of these is a number, the other a text")
                        .hint("write both without quotes to compare numbers, or both with quotes to compare texts"));
                }
            },
            Verb::Null | Verb::Changed { .. } => TextTest::Present,
        })
    }

    /// Rejects fields among the values of operators that compare with values only.
    fn check_no_fields(&self) -> Result<()> {
        let fields = self.predicate.verb.values().into_iter().filter_map(|value| match &value.kind {
            ValueKind::Name(name) if name.parts.len() > 1 => Some((value.span, name)),
            _ => None,
        });
        match fields.into_iter().next() {
            Some((span, name)) => Err(self
                .error(span, format!("expected a value, but {name} is the name of a field"))
                .hint("compare two fields with =, !=, <, <=, > or >=; put a value in quotes")),
            None => Ok(()),
        }
    }

    fn custom(&self) -> Result<TextTest> {
        if matches!(self.predicate.verb, Verb::Matches(_)) {
            return Err(self.no_such_test("use LIKE for part of a value"));
        }
        if let Verb::In(values) = &self.predicate.verb
            && let Some(blank) = values.iter().find(|value| is_blank(value))
        {
            return Err(self
                .error(blank.span, "no value of a custom field is empty")
                .hint(format!("to test for no value as well, write {0} IS NULL OR {0} IN (…)", self.name)));
        }
        self.any_text()
    }

    fn content(&self) -> Result<TextTest> {
        match &self.predicate.verb {
            Verb::Like(..) | Verb::Matches(_) => self.any_text(),
            Verb::Equal(_) => {
                Err(self.no_such_test("write Content MATCHES 'word', or Content LIKE 'part of a word'"))
            }
            _ => Err(self.no_such_test("use MATCHES for words or LIKE for part of a text")),
        }
    }

    fn transaction(&self, text: TransactionText) -> Result<TextTest> {
        let is_words = matches!(self.predicate.verb, Verb::Matches(_));
        if is_words && text != TransactionText::Content {
            return Err(self.no_such_test(
                "MATCHES works with Subject, Content and Transaction.Content; use LIKE for part of this text",
            ));
        }
        self.any_text()
    }

    fn channel(&self) -> Result<TextTest> {
        match self.predicate.verb {
            Verb::Equal(_) | Verb::In(_) | Verb::Like(..) => self.any_text(),
            _ => Err(self.no_such_test("every change has a channel; use =, !=, IN or LIKE")),
        }
    }

    fn transaction_types(&self) -> Result<Vec<TransactionType>> {
        let known = TransactionType::ALL.map(TransactionType::as_str);
        if let Some(values) = self.equals() {
            return values.iter().map(|value| self.transaction_type(value, &known)).collect();
        }
        let names =
            self.among_names(known.iter().copied(), "its values are a fixed list: use =, !=, IN or LIKE")?;
        Ok(names.into_iter().filter_map(TransactionType::parse).collect())
    }

    fn transaction_type(&self, value: &Value, known: &[&str]) -> Result<TransactionType> {
        let word = word_of(value);
        TransactionType::parse(&word).ok_or_else(|| {
            self.error(value.span, format!("there is no transaction type \"{word}\"")).hint(
                did_you_mean(&word, known.iter().copied())
                    .unwrap_or_else(|| format!("the types are {}", known.join(", "))),
            )
        })
    }

    /// The known names that pass the test.
    fn among_names<'n>(&self, known: impl Iterator<Item = &'n str>, hint: &str) -> Result<Vec<&'n str>> {
        match &self.predicate.verb {
            Verb::Like(..) => {
                let test = self.any_text()?;
                Ok(known.filter(|name| test.holds(name)).collect())
            }
            Verb::Null => Err(self.no_such_test("it always has a value")),
            _ => Err(self.no_such_test(hint)),
        }
    }

    fn status(&self) -> Result<Meaning> {
        let all = self.fields.statuses();
        let Some(values) = self.equals() else {
            let hint = "its values are a fixed list: use =, !=, IN, LIKE, or __Active__ and __Inactive__";
            // A pattern does not name the status deleted, so it does not include deleted tickets in a search.
            let is_search = matches!(self.fields.purpose, Purpose::Search(_));
            let names =
                self.among_names(all.into_iter().filter(|name| !is_search || *name != DELETED), hint)?;
            return Ok(Meaning::Status(names.into_iter().map(str::to_owned).collect(), Vec::new()));
        };
        let (names, classes) = self.statuses(values, &all)?;
        Ok(Meaning::Status(names, classes))
    }

    pub(super) fn statuses(
        &self,
        values: &[Value],
        all: &BTreeSet<&str>,
    ) -> Result<(Vec<String>, Vec<StatusClass>)> {
        let (mut names, mut classes) = (Vec::new(), Vec::new());
        for value in values {
            let (written, word) = (word_of(value), folded_word(value));
            match word.as_str() {
                "__active__" => classes.extend([StatusClass::Initial, StatusClass::Active]),
                "__inactive__" => classes.push(StatusClass::Inactive),
                status if all.contains(status) => names.push(word),
                status => {
                    let error = self.error(value.span, format!("no lifecycle has the status \"{written}\""));
                    let near = match status {
                        "active" => Some("write __Active__ for all initial and active statuses".to_owned()),
                        "inactive" => Some("write __Inactive__ for all inactive statuses".to_owned()),
                        _ => did_you_mean(status, all.iter().copied()),
                    };
                    return Err(
                        error.hint(near.unwrap_or_else(|| format!("the statuses are {}", list(all.iter()))))
                    );
                }
            }
        }
        Ok((names, classes))
    }

    fn queues(&self) -> Result<Vec<QueueId>> {
        let queues = self.fields.queues;
        if let Some(values) = self.equals() {
            let find = |value: &Value| {
                let word = word_of(value);
                let found = queues.find(&word).map(|queue| queue.id);
                found.ok_or_else(|| self.fields.unknown_queue(value.span, &word))
            };
            return values.iter().map(find).collect();
        }
        let names = queues.iter().map(|queue| queue.name.as_str());
        let names = self.among_names(names, "its values are a fixed list: use =, !=, IN or LIKE")?;
        Ok(names.into_iter().filter_map(|name| queues.find(name)).map(|queue| queue.id).collect())
    }

    fn queues_of_lifecycles(&self) -> Result<Vec<QueueId>> {
        let lifecycles = self.fields.lifecycles;
        let known: Vec<&str> = lifecycles.iter().map(|lifecycle| lifecycle.name()).collect();
        let ids: BTreeSet<_> = match self.equals() {
            Some(values) => values
                .iter()
                .map(|value| {
                    let word = word_of(value);
                    lifecycles.find(&word).map(|lifecycle| lifecycle.id()).ok_or_else(|| {
                        let near = did_you_mean(&word, known.iter().copied());
                        self.error(value.span, format!("there is no lifecycle \"{word}\""))
                            .hint(near.unwrap_or_else(|| format!("the lifecycles are {}", list(&known))))
                    })
                })
                .collect::<Result<_>>()?,
            None => self
                .among_names(known.iter().copied(), "its values are a fixed list: use =, !=, IN or LIKE")?
                .into_iter()
                .filter_map(|name| lifecycles.find(name))
                .map(|lifecycle| lifecycle.id())
                .collect(),
        };
        Ok(self
            .fields
            .queues
            .iter()
            .filter(|queue| ids.contains(&queue.lifecycle))
            .map(|queue| queue.id)
            .collect())
    }

    /// A test of a date. If `is_field`, it can be compared with another date of the ticket.
    fn date(&self, is_field: bool) -> Result<DateTest> {
        let field = |value: &Value| match self.field_of(value) {
            Some(Field::Date(date)) if is_field => Some(date),
            _ => None,
        };
        Ok(match &self.predicate.verb {
            Verb::Null => DateTest::Present,
            Verb::Equal(value) => match field(value) {
                Some(other) => DateTest::Field(None, other),
                None => DateTest::Equal(vec![self.date_of(value)?]),
            },
            Verb::In(values) => {
                DateTest::Equal(values.iter().map(|value| self.date_of(value)).collect::<Result<_>>()?)
            }
            Verb::Order(order, value) => match field(value) {
                Some(other) => DateTest::Field(Some(*order), other),
                None => DateTest::Order(*order, self.date_of(value)?),
            },
            Verb::Between(low, high) => DateTest::Between(self.date_of(low)?, self.date_of(high)?),
            _ => {
                return Err(
                    self.no_such_test("it is a date: use =, !=, <, <=, >, >=, IN, BETWEEN or IS NULL")
                );
            }
        })
    }

    fn date_of(&self, value: &Value) -> Result<DateExpr> {
        let word = match &value.kind {
            ValueKind::Text(text) => unescape(text),
            ValueKind::Number(number) => {
                return Err(self.error(value.span, format!("{number} is not a date")).hint(DATE_HINT));
            }
            ValueKind::Name(name) => name.to_string(),
        };
        if let Some(Field::Date(_)) = self.field_of(value) {
            return Err(self.error(value.span, format!("expected a date, but {word} is a field")).hint(
                "compare two dates of a ticket one at a time, as in Due >= Created AND Due <= Resolved",
            ));
        }
        DateExpr::parse(&word)
            .map_err(|reason| self.error(value.span, format!("\"{word}\" {reason}")).hint(date_hint(&word)))
    }
}

/// The hint for an invalid date.
fn date_hint(word: &str) -> String {
    const DAYS: [&str; 4] = ["now", "today", "yesterday", "tomorrow"];
    let word = word.trim().to_lowercase();
    let of_unit = ["last ", "this ", "next "].iter().any(|which| word.starts_with(which));
    let unit = word.split(' ').next_back().unwrap_or_default();
    if of_unit && ["day", "week", "month", "year"].contains(&unit) {
        return format!("write 'beginning of {word}' or 'end of {word}'");
    }
    // Only a single word can be a misspelt `today` and so on.
    let near = if word.chars().all(char::is_alphabetic) { did_you_mean(&word, DAYS) } else { None };
    near.unwrap_or_else(|| DATE_HINT.to_owned())
}

/// The value as a word, without the escapes of patterns.
pub(super) fn word_of(value: &Value) -> String {
    match &value.kind {
        ValueKind::Text(text) => unescape(text),
        ValueKind::Number(number) => number.clone(),
        ValueKind::Name(name) => match name.parts.as_slice() {
            [only] => only.clone(),
            _ => name.to_string(),
        },
    }
}

/// The value as a name.
pub(super) fn folded_word(value: &Value) -> String {
    fold(&word_of(value))
}

/// The value as a text.
pub(super) fn caseless_word(value: &Value) -> String {
    caseless(&word_of(value))
}

/// The text of a pattern with its escapes.
fn kept(value: &Value) -> String {
    match &value.kind {
        ValueKind::Text(text) => text.clone(),
        _ => word_of(value),
    }
}

fn pattern(like: Like, value: &Value) -> Result<Pattern> {
    let kept = kept(value);
    let wildcards = if like == Like::Like { wildcards(&kept) } else { 0 };
    let too = |what: String| {
        QueryError::new(value.span, what)
            .hint("search for whole words with MATCHES, or join shorter patterns with AND")
    };
    if kept.len() > PATTERN_MAX {
        return Err(too(format!(
            "this pattern is {} bytes long; at most {PATTERN_MAX} are allowed",
            kept.len()
        )));
    }
    if wildcards > WILDCARDS_MAX {
        return Err(too(format!(
            "this pattern has {wildcards} wildcards; at most {WILDCARDS_MAX} are allowed"
        )));
    }
    Ok(Pattern::new(like, &kept))
}

/// A number without quotes.
fn decimal(value: &Value) -> Result<Option<Decimal>> {
    match &value.kind {
        ValueKind::Number(number) => Decimal::parse(number).map(Some).ok_or_else(|| {
            QueryError::new(value.span, format!("{number} has too many digits"))
                .hint("a number has at most 18 digits before the point and 9 after it")
        }),
        _ => Ok(None),
    }
}

fn matcher(value: &Value) -> Result<Matcher> {
    let text = word_of(value);
    Matcher::parse(&text).map_err(|error| {
        let span = match &value.kind {
            // The position within the quotes. If escapes were removed, positions differ, and the whole value is marked.
            ValueKind::Text(_)
                if value.span.end - value.span.start == text.len() + 2
                    && (1..text.len()).contains(&error.at.len()) =>
            {
                let start = value.span.start + 1;
                Span::new(start + error.at.start, start + error.at.end)
            }
            _ => value.span,
        };
        QueryError::new(span, format!("MATCHES '{text}': {}", error.message))
            .hint("write words, \"a phrase\", -excluded or prefix*")
    })
}
