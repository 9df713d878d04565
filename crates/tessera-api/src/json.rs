//! Deserializers for JSON bodies: strict about repeated members, and able to tell `null` from an omitted member.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use tessera_core::models::text::quote;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Deserializes a member that is present, so that `null` differs from an omitted member. Rejects `null` unless `T` allows it.
pub fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Deserializes an RFC 3339 time or null.
pub fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
    let read = |word: String| {
        OffsetDateTime::parse(&word, &Rfc3339).map_err(|_| {
            de::Error::custom(format!("{} is not a time; write it as 2026-11-23T10:00:00Z", quote(&word)))
        })
    };
    Option::<String>::deserialize(deserializer)?.map(read).transpose()
}

/// Deserializes a time or null that is present, as [`given`] does.
pub fn given_moment<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<OffsetDateTime>>, D::Error> {
    moment(deserializer).map(Some)
}

/// Deserializes an object. Rejects a repeated member, because the second one would silently win.
pub fn unique<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    struct Members<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = BTreeMap::new();
            while let Some((name, member)) = map.next_entry::<String, T>()? {
                if members.contains_key(&name) {
                    return Err(de::Error::custom(format!("contains {} twice", quote(&name))));
                }
                members.insert(name, member);
            }
            Ok(members)
        }
    }

    deserializer.deserialize_map(Members(PhantomData))
}

/// Deserializes any JSON value in which no object repeats a member.
pub fn strict<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<serde_json::Value>, D::Error> {
    struct Strict(serde_json::Value);

    impl<'de> Deserialize<'de> for Strict {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Any).map(Self)
        }
    }

    struct Any;

    impl<'de> Visitor<'de> for Any {
        type Value = serde_json::Value;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(serde_json::Value::Null)
        }

        fn visit_bool<E>(self, is: bool) -> Result<Self::Value, E> {
            Ok(is.into())
        }

        fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
            Ok(number.into())
        }

        fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
            Ok(number.into())
        }

        fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
            Ok(number.into())
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(text.into())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut values = Vec::new();
            while let Some(Strict(value)) = list.next_element()? {
                values.push(value);
            }
            Ok(values.into())
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            let members: BTreeMap<String, Strict> = unique(MapAccessDeserializer::new(map))?;
            Ok(members.into_iter().map(|(name, Strict(value))| (name, value)).collect())
        }
    }

    Option::<Strict>::deserialize(deserializer).map(|value| value.map(|Strict(value)| value))
}
