//! Resolves CHANGED: the changes that it tests, and their old and new values.

use super::ast::Value;
use super::error::Result;
use super::fields::{Date, Field, Part, Person, Purpose};
use super::meaning::{Changed, Meaning};
use super::resolve::{Resolver, caseless_word, folded_word, word_of};
use crate::models::text::fold;

impl Resolver<'_> {
    pub(super) fn changed(&self, field: Field, from: Option<&Value>, to: Option<&Value>) -> Result<Meaning> {
        if let Purpose::Search(_) = self.fields.purpose {
            return Err(self.no_such_test("CHANGED tests the current change in the condition of a scrip; in a search, use Updated and UpdatedBy"));
        }
        let changed = match field {
            Field::Status => Changed::Status,
            Field::Subject => Changed::Column("Subject"),
            Field::Queue => Changed::Column("Queue"),
            Field::Priority => Changed::Column("Priority"),
            Field::Person(Person::Owner, Part::Whole) => Changed::Column("Owner"),
            Field::Date(Date::Due) => Changed::Column("Due"),
            Field::Date(Date::Started) => Changed::Column("Started"),
            Field::Date(Date::Resolved) => Changed::Column("Resolved"),
            Field::Date(Date::Told) => Changed::Column("Told"),
            Field::People(people, Part::Whole) => Changed::People(people),
            Field::Custom(id) => Changed::Custom(id),
            _ => {
                return Err(self.no_such_test(
                    "CHANGED works with Subject, Status, Queue, Owner, Priority, Due, Started, Resolved, Told, Requestor, Cc, AdminCc, Watcher and custom fields",
                ));
            }
        };
        if matches!(field, Field::Date(_)) && (from.is_some() || to.is_some()) {
            return Err(self.no_such_test(
                "write CHANGED without FROM and TO for a date, and test its new value separately",
            ));
        }
        let side = |value: Option<&Value>| value.map(|value| self.changed_value(field, value)).transpose();
        Ok(Meaning::Changed(changed, side(from)?, side(to)?))
    }

    /// The readable values that one side of a change can have: names in the form in which names are compared, others caseless.
    fn changed_value(&self, field: Field, value: &Value) -> Result<Vec<String>> {
        match field {
            Field::Status => {
                let all = self.fields.statuses();
                let (mut names, classes) = self.statuses(std::slice::from_ref(value), &all)?;
                let of_class = |status: &&&str| {
                    self.fields.lifecycles.iter().any(|lifecycle| {
                        lifecycle.class_of(status).is_some_and(|class| classes.contains(&class))
                    })
                };
                names.extend(all.iter().filter(of_class).map(|status| (*status).to_owned()));
                Ok(names.iter().map(|status| fold(status)).collect())
            }
            Field::Queue => match self.fields.queues.find(&word_of(value)) {
                Some(queue) => Ok(vec![fold(&queue.name)]),
                None => Err(self.fields.unknown_queue(value.span, &word_of(value))),
            },
            Field::Person(Person::Owner, _) => {
                self.who(value, Some(Person::Owner), Part::Whole)?;
                Ok(vec![folded_word(value)])
            }
            Field::Person(..) | Field::People(..) => Ok(vec![folded_word(value)]),
            _ => Ok(vec![caseless_word(value)]),
        }
    }
}
