//! Kinds of deliveries: two that the binary delivers itself, and those that only connectors deliver.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The kind of a delivery, which determines who delivers it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryKind {
    /// An email, by SMTP or into a folder.
    Email,
    /// An HTTP request.
    Webhook,
    /// A kind that only connectors deliver.
    Connector(KindName),
}

impl DeliveryKind {
    /// The kinds that the binary can deliver without a connector.
    pub const BUILTIN: [Self; 2] = [Self::Email, Self::Webhook];

    /// The word in JSON and in SQL.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Email => "email",
            Self::Webhook => "webhook",
            Self::Connector(name) => name.as_str(),
        }
    }

    /// The kind with this word; `None` if it is not a valid name of a kind.
    pub fn parse(word: &str) -> Option<Self> {
        Self::BUILTIN
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .or_else(|| KindName::parse(word).map(Self::Connector))
    }
}

impl fmt::Display for DeliveryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The maximum length of a kind's name, in characters.
pub const KIND_MAX: usize = 32;

/// The endpoint of every email.
pub const MAIL_ENDPOINT: &str = "smtp";

/// The name of a kind that only connectors deliver: 1 to [`KIND_MAX`] characters of a-z, 0-9, `_` and `-`, beginning with a
/// letter. The names of [`DeliveryKind::BUILTIN`] are not valid, nor is `smtp`: the name is also the endpoint of its
/// deliveries, and `smtp` is the endpoint of emails.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KindName(Arc<str>);

impl KindName {
    /// Returns the name, or `None` if the word is not valid.
    pub fn parse(word: &str) -> Option<Self> {
        let can_be = word.len() <= KIND_MAX
            && word.starts_with(|first: char| first.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
            && word != MAIL_ENDPOINT
            && DeliveryKind::BUILTIN.iter().all(|kind| kind.as_str() != word);
        can_be.then(|| Self(word.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for KindName {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        Self::parse(&word).ok_or_else(|| {
            format!(
                "\"{word}\" is not a valid connector kind: use 1 to {KIND_MAX} of a-z, 0-9, _ and -, beginning with a letter; emails and webhooks have their own actions"
            )
        })
    }
}

impl From<KindName> for String {
    fn from(name: KindName) -> Self {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_a_name_that_is_no_other_kinds_and_no_endpoint() {
        let kind = |word: &str| DeliveryKind::parse(word).map(|kind| kind.to_string());
        assert!(
            ["chat", "a", "x-1_y", "smtps", "email"].iter().all(|word| kind(word).as_deref() == Some(*word))
        );
        let none = ["", "smtp", "Chat", "1a", "-a", "a b", "ä", &"a".repeat(33), "a.b", "https://a"];
        assert_eq!(none.map(kind), [const { None }; 10]);
    }
}
