//! Deserializers for members of JSON bodies: times, and `null` as different from an omitted member.

use serde::Deserialize;
use serde::de::{self, Deserializer};
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
