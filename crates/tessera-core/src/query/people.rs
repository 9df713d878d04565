//! Resolves tests of people: the users a word stands for, and the part of them that is tested.

use super::ast::{Value, Verb};
use super::error::{QueryError, Result, did_you_mean};
use super::fields::{Field, Part, Person, Purpose};
use super::meaning::{PersonTest, Who};
use super::resolve::{Resolver, folded_word, word_of};
use super::text::TextTest;
use crate::models::text::{fold, list};
use crate::models::user::NOBODY;
use crate::models::{User, UserId};

impl Resolver<'_> {
    /// A test that compares with the other people of the ticket, if the value names them. `own` is the field itself.
    pub(super) fn other_people(&self, own: Field) -> Option<PersonTest> {
        let Verb::Equal(value) = &self.predicate.verb else { return None };
        let other = self.field_of(value).filter(|other| *other != own)?;
        let is_whole = matches!(own, Field::Person(_, Part::Whole) | Field::People(_, Part::Whole));
        match other {
            Field::Person(other, Part::Whole) if is_whole => Some(PersonTest::Field(other)),
            Field::People(other, Part::Whole) if is_whole => Some(PersonTest::OneOf(other)),
            _ => None,
        }
    }

    /// A test of people. `person` is the single person; `None` = people of a role, who can be bare addresses.
    pub(super) fn person(&self, person: Option<Person>, part: Part) -> Result<PersonTest> {
        if let Some(values) = self.equals() {
            let who = values.iter().map(|value| self.who(value, person, part));
            return Ok(PersonTest::Is(who.collect::<Result<_>>()?));
        }
        match &self.predicate.verb {
            // This tests whether the part exists: a user may have no address, and an address may have no user.
            Verb::Null => Ok(match part {
                Part::Name | Part::Id => PersonTest::Name(TextTest::Present),
                Part::Address => PersonTest::Address(TextTest::Present),
                Part::Whole => PersonTest::Present,
            }),
            Verb::Like(..) if part == Part::Id => Err(self.no_such_test("compare the whole id: .id = '…'")),
            Verb::Like(..) => {
                let is_name = part == Part::Name || (part == Part::Whole && person.is_some());
                let test = self.any_text()?;
                Ok(if is_name { PersonTest::Name(test) } else { PersonTest::Address(test) })
            }
            _ => Err(self
                .no_such_test("its values are people: use =, !=, IN, LIKE, STARTSWITH, ENDSWITH or IS NULL")),
        }
    }

    pub(super) fn who(&self, value: &Value, person: Option<Person>, part: Part) -> Result<Who> {
        let (written, word) = (word_of(value), folded_word(value));
        if word == "__currentuser__" {
            return Ok(Who::CurrentUser);
        }
        if person == Some(Person::Owner) && word == fold(NOBODY) {
            return Ok(Who::Nobody);
        }
        if let Ok(id) = uuid::Uuid::parse_str(&word) {
            return Ok(Who::User(UserId(id)));
        }
        if part == Part::Id {
            return Err(self
                .error(value.span, format!("\"{written}\" is not an id"))
                .hint("use .Name for a username"));
        }
        let (may_be_name, may_be_address) = (part != Part::Address, part != Part::Name);
        let known: Vec<UserId> = match self.fields.purpose {
            Purpose::Search(users) => {
                let is_word = |text: &str| fold(text) == word;
                let is_meant = |user: &&User| {
                    (may_be_name && is_word(&user.username))
                        || (may_be_address && user.email.as_deref().is_some_and(is_word))
                };
                users.iter().filter(is_meant).map(|user| user.id).collect()
            }
            Purpose::Condition => Vec::new(),
        };
        let is_known = match self.fields.purpose {
            Purpose::Search(_) => !known.is_empty(),
            // Only agents are known without a ticket, and only agents can own tickets.
            Purpose::Condition => {
                let has_name = may_be_name && self.fields.agents.find(&word).is_some();
                let has_address = may_be_address && self.fields.agent_addresses.contains_key(&word);
                person != Some(Person::Owner) || has_name || has_address
            }
        };
        let may_be_bare = person.is_none() && may_be_address && word.contains('@');
        let is_field = matches!(self.field_of(value), Some(Field::Person(..) | Field::People(..)));
        if !(is_known || may_be_bare) || (is_field && known.is_empty()) {
            return Err(self.unknown_person(value, person, part));
        }
        Ok(match part {
            Part::Name => Who::Name(word, known),
            Part::Address => Who::Address(word, known),
            Part::Whole | Part::Id => Who::Word(word, known),
        })
    }

    /// The error for an unknown person.
    fn unknown_person(&self, value: &Value, person: Option<Person>, part: Part) -> QueryError {
        let (written, holder) =
            (word_of(value), self.predicate.field.parts.first().map_or("", String::as_str));
        if let Some(Field::Person(..) | Field::People(..)) = self.field_of(value) {
            return self
                .error(value.span, format!("{} cannot be compared with the field {written}", self.name))
                .hint(
                    "compare a whole person with another, as in Owner = Requestor; put a username in quotes",
                );
        }
        let error = self.error(value.span, format!("there is no user \"{written}\""));
        let agents: Vec<&str> = self.fields.agents.iter().map(|agent| agent.username.as_str()).collect();
        match fold(&written) {
            word if word.is_empty() || (word == fold(NOBODY) && person != Some(Person::Owner)) => {
                error.hint(format!("to test for nobody, write {} IS NULL", self.name))
            }
            word if part == Part::Name && word.contains('@') => {
                error.hint(format!("use {holder}.EmailAddress for an address"))
            }
            word if part == Part::Address && !word.contains('@') => {
                error.hint(format!("use {holder}.Name for a username"))
            }
            word => error.hint(
                did_you_mean(&word, agents.iter().copied())
                    .unwrap_or_else(|| format!("existing users include {}", list(agents))),
            ),
        }
    }
}
