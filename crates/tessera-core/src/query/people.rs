//! Resolving tests of people: who a word stands for, and what of them is looked at.

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
    /// A test of one person of the ticket, who may be compared with another.
    pub(super) fn person_or_other(&self, person: Person, part: Part) -> Result<PersonTest> {
        match &self.predicate.verb {
            Verb::Equal(value) => match self.field_of(value) {
                Some(Field::Person(other, Part::Whole)) if part == Part::Whole && other != person => {
                    Ok(PersonTest::Field(other))
                }
                _ => self.person(Some(person), part),
            },
            _ => self.person(Some(person), part),
        }
    }

    /// `person` is the one person that it is about; `None` = people of a role, who may be bare addresses.
    pub(super) fn person(&self, person: Option<Person>, part: Part) -> Result<PersonTest> {
        if let Some(values) = self.equals() {
            let who = values.iter().map(|value| self.who(value, person, part));
            return Ok(PersonTest::Is(who.collect::<Result<_>>()?));
        }
        match &self.predicate.verb {
            // Whether there is that part of them: somebody may have no address, and an address need not be a user's.
            Verb::Null => Ok(match part {
                Part::Name | Part::Id => PersonTest::Name(TextTest::Present),
                Part::Address => PersonTest::Address(TextTest::Present),
                Part::Whole => PersonTest::Present,
            }),
            Verb::Like(..) if part == Part::Id => Err(self.no_such_test("write the whole id: .id = '…'")),
            Verb::Like(..) => {
                let is_name = part == Part::Name || (part == Part::Whole && person.is_some());
                let test = self.any_text()?;
                Ok(if is_name { PersonTest::Name(test) } else { PersonTest::Address(test) })
            }
            _ => {
                Err(self
                    .no_such_test("they are people: use =, !=, IN, LIKE, STARTSWITH, ENDSWITH or IS NULL"))
            }
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
                .hint("write .Name for the username"));
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
            // Only agents are known before the ticket is there, and only they can own one.
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

    /// The error of somebody who is not there.
    fn unknown_person(&self, value: &Value, person: Option<Person>, part: Part) -> QueryError {
        let (written, holder) =
            (word_of(value), self.predicate.field.parts.first().map_or("", String::as_str));
        if let Some(Field::Person(..) | Field::People(..)) = self.field_of(value) {
            return self
                .error(value.span, format!("{} cannot be compared with the field {written}", self.name))
                .hint("Owner, Creator and LastUpdatedBy can, each with another; put a username in quotes");
        }
        let error = self.error(value.span, format!("there is no user \"{written}\""));
        let agents: Vec<&str> = self.fields.agents.iter().map(|agent| agent.username.as_str()).collect();
        match fold(&written) {
            word if word.is_empty() || (word == fold(NOBODY) && person != Some(Person::Owner)) => {
                error.hint(format!("write {} IS NULL to ask for nobody", self.name))
            }
            word if part == Part::Name && word.contains('@') => {
                error.hint(format!("write {holder}.EmailAddress for an address"))
            }
            word if part == Part::Address && !word.contains('@') => {
                error.hint(format!("write {holder}.Name for a username"))
            }
            word => error.hint(
                did_you_mean(&word, agents.iter().copied())
                    .unwrap_or_else(|| format!("among others there are {}", list(agents))),
            ),
        }
    }
}
