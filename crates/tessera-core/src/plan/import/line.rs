//! The format of a line, which an import reads and an export writes.

use super::Who;
use crate::models::text::{typed, typed_member};
use crate::models::transaction::Content;
use crate::models::user::NOBODY;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::fmt;
use time::OffsetDateTime;

/// A ticket on a line of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The ticket number; assigned automatically if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// The name of a queue.
    #[serde(deserialize_with = "typed_member")]
    pub queue: String,
    /// A single line of text.
    #[serde(deserialize_with = "typed_member")]
    pub subject: String,
    /// A status of the queue's lifecycle.
    #[serde(deserialize_with = "typed_member")]
    pub status: String,
    /// A person; no owner if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// A person (see [`Who`]).
    pub creator: String,
    /// Persons.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub requestors: Vec<String>,
    /// Persons.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub cc: Vec<String>,
    /// Persons.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub admin_cc: Vec<String>,
    /// 0 if absent.
    #[serde(default, deserialize_with = "or_default")]
    pub priority: i32,
    /// The time of creation.
    #[serde(with = "date")]
    pub created_at: OffsetDateTime,
    /// The time of the last change; if absent, that of the last transaction.
    #[serde(default, with = "date::option", skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<OffsetDateTime>,
    /// The person who changed the ticket last; if absent, that of the last transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_by: Option<String>,
    /// The time at which the ticket first left an initial status.
    #[serde(default, with = "date::option", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<OffsetDateTime>,
    /// The time by which the ticket should be resolved.
    #[serde(default, with = "date::option", skip_serializing_if = "Option::is_none")]
    pub due_at: Option<OffsetDateTime>,
    /// The time of the last message to the requestors.
    #[serde(default, with = "date::option", skip_serializing_if = "Option::is_none")]
    pub told_at: Option<OffsetDateTime>,
    /// The time at which the ticket last became inactive.
    #[serde(default, with = "date::option", skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<OffsetDateTime>,
    /// Values by field name, in the order of the line.
    #[serde(default, with = "pairs", skip_serializing_if = "Vec::is_empty")]
    pub custom_fields: Vec<(String, Values)>,
    /// The ticket's history.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub transactions: Vec<Past>,
}

impl Line {
    /// Returns the people for whom an import creates users if necessary: all except watchers with only an address.
    pub fn users(&self) -> impl Iterator<Item = Who<'_>> {
        let watchers = self.watchers().filter_map(|word| Who::parse(word).ok()).filter(|who| !who.is_bare);
        self.makers().filter_map(|word| Who::parse(word).ok()).chain(watchers)
    }

    /// Returns the usernames and addresses of the people on this line.
    pub fn people(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let words = self.makers().chain(self.owner()).chain(self.watchers());
        words.filter_map(|word| Who::parse(word).ok()).flat_map(Who::words)
    }

    /// The person who changed the ticket last; if the line does not say it, that of the last transaction, or the creator.
    /// The transactions must be in order of time.
    pub(super) fn updated_by(&self) -> &str {
        let last = || self.transactions.last().map(|past| past.creator.as_str());
        self.updated_by.as_deref().or_else(last).unwrap_or(&self.creator)
    }

    /// The owner; `Nobody` means no owner.
    pub(super) fn owner(&self) -> Option<&str> {
        self.owner.as_deref().filter(|owner| !owner.trim().eq_ignore_ascii_case(NOBODY))
    }

    fn makers(&self) -> impl Iterator<Item = &str> {
        let of_ticket = [Some(self.creator.as_str()), self.updated_by.as_deref()];
        of_ticket.into_iter().flatten().chain(self.transactions.iter().map(|past| past.creator.as_str()))
    }

    fn watchers(&self) -> impl Iterator<Item = &str> {
        [&self.requestors, &self.cc, &self.admin_cc].into_iter().flatten().map(String::as_str)
    }
}

/// A transaction of a ticket's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// `Create`, `Status`, `Set` and so on.
    pub r#type: String,
    /// The time of the transaction.
    #[serde(with = "date")]
    pub created_at: OffsetDateTime,
    /// A person (see [`Who`]).
    pub creator: String,
    /// The column or field that changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The old value in readable form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_value: Option<String>,
    /// The new value in readable form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_value: Option<String>,
    /// The text of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// `text/plain` or `text/html`; `text/plain` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

impl Past {
    /// Returns the message, unless it is empty. Its type was checked when the line was read.
    pub(super) fn message(&self) -> Option<Content> {
        let sent = self.content.clone().filter(|sent| !sent.is_empty())?;
        Content::of_type(self.content_type.clone(), sent).ok()
    }
}

/// The values of a field: null, a text, or a list of texts. A list means that the field takes several values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Values {
    /// No value.
    None,
    /// One value.
    One(String),
    /// Any number of values.
    Many(Vec<String>),
}

impl Values {
    /// Returns the values.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a list of texts, or null")
            }

            fn visit_unit<E>(self) -> Result<Values, E> {
                Ok(Values::None)
            }

            fn visit_str<E>(self, value: &str) -> Result<Values, E> {
                Ok(Values::One(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = items.next_element()? {
                    values.push(value);
                }
                Ok(Values::Many(values))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// Reads `null` like an absent member.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A JSON object as a list of its members in order, including duplicates.
mod pairs {
    use super::{Cow, MapAccess, Values, Visitor, fmt, typed};
    use serde::ser::SerializeMap;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        pairs: &[(String, Values)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(pairs.len()))?;
        for (name, values) in pairs {
            map.serialize_entry(name, values)?;
        }
        map.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(String, Values)>, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Vec<(String, Values)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a member for each field, or null")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Vec::new())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, values)) = members.next_entry::<Cow<'_, str>, _>()? {
                    pairs.push((typed(&name).into_owned(), values));
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_any(Pairs)
    }
}

/// Times in RFC 3339, converted to UTC and microseconds. The year is limited to what JSON, SQL and COPY can all write.
mod date {
    use crate::models::text::quote;
    use crate::plan::context::to_micros;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::borrow::Cow;
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    pub(super) fn serialize<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        time::serde::rfc3339::serialize(time, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<OffsetDateTime, D::Error> {
        parse(&Cow::<str>::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    fn parse(word: &str) -> Result<OffsetDateTime, String> {
        let time = OffsetDateTime::parse(word, &Rfc3339).map_err(|_| {
            format!(
                "{} is not a time; write 2026-11-23T10:00:00Z, with its offset from UTC if that is not Z",
                quote(word)
            )
        })?;
        let time = to_micros(time);
        let is_within = time.offset().is_utc() && (1..=9_999).contains(&time.year());
        is_within.then_some(time).ok_or_else(|| "is outside the years 1 to 9999 in UTC".to_owned())
    }

    pub(super) mod option {
        use super::{Cow, Deserialize, Deserializer, OffsetDateTime, Serializer, parse};
        use serde::de::Error as _;

        pub(in super::super) fn serialize<S: Serializer>(
            time: &Option<OffsetDateTime>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            time::serde::rfc3339::option::serialize(time, serializer)
        }

        /// RT: a date that is not set is 1970-01-01T00:00:00Z.
        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<OffsetDateTime>, D::Error> {
            let word = Option::<Cow<'_, str>>::deserialize(deserializer)?;
            let time = word.map(|word| parse(&word)).transpose().map_err(D::Error::custom)?;
            Ok(time.filter(|time| *time != OffsetDateTime::UNIX_EPOCH))
        }
    }
}
