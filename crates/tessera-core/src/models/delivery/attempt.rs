//! Attempts to deliver, with their outcomes, and the limits on what is kept of a response.

use super::endpoint::Health;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The maximum length of an attempt's detail, in characters.
pub const DETAIL_MAX: usize = 500;
/// The maximum length of the stored part of a response, in bytes.
pub const EXCERPT_MAX: usize = 4_096;

/// The outcome of an attempt, or of one recipient of an email.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptOutcome {
    /// The receiver accepted it.
    Delivered,
    /// A temporary failure; the retry schedule determines the next attempt.
    Retry,
    /// A permanent failure; a retry cannot help.
    Permanent,
}

impl AttemptOutcome {
    /// The word in JSON and in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Permanent => "permanent",
        }
    }
}

/// The answer of a mail server for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientAnswer {
    /// The recipient's address.
    pub address: String,
    /// The outcome.
    pub outcome: AttemptOutcome,
    /// The text of the server's reply, at most [`DETAIL_MAX`] characters.
    pub answer: String,
}

/// One attempt, as recorded. Its texts contain no secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The outcome.
    pub outcome: AttemptOutcome,
    /// The HTTP or SMTP status code, if the receiver responded.
    pub status_code: Option<i32>,
    /// A sentence for people to read, at most [`DETAIL_MAX`] characters.
    pub detail: String,
    /// The beginning of the response, at most [`EXCERPT_MAX`] bytes.
    pub response: Option<String>,
    /// The answer for each recipient of an email, as known after this attempt; empty for other kinds.
    pub recipients: Vec<RecipientAnswer>,
    /// The duration of the attempt.
    pub duration: Duration,
    /// The health of the endpoint according to this attempt.
    pub health: Health,
    /// The minimum delay before a retry, which the receiver requested or its failure suggests.
    pub wait: Duration,
}

impl Attempt {
    /// Creates an attempt with an outcome; `detail` is truncated to [`DETAIL_MAX`] characters.
    pub fn new(outcome: AttemptOutcome, detail: impl AsRef<str>) -> Self {
        Self {
            outcome,
            status_code: None,
            detail: sentence(detail.as_ref()),
            response: None,
            recipients: Vec::new(),
            duration: Duration::ZERO,
            health: if outcome == AttemptOutcome::Delivered { Health::Works } else { Health::Unknown },
            wait: Duration::ZERO,
        }
    }

    /// Sets the health of the endpoint.
    pub fn with_health(mut self, health: Health) -> Self {
        self.health = health;
        self
    }

    /// Sets the minimum delay before a retry.
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets the receiver's status code.
    pub fn with_status(mut self, code: impl Into<i32>) -> Self {
        self.status_code = Some(code.into());
        self
    }

    /// Sets the answers for the recipients.
    pub fn with_recipients(mut self, recipients: Vec<RecipientAnswer>) -> Self {
        self.recipients = recipients;
        self
    }
}

/// Returns the text as one line of at most [`DETAIL_MAX`] characters that PostgreSQL can store.
pub fn sentence(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    if line.chars().count() <= DETAIL_MAX {
        return line.to_owned();
    }
    line.chars().take(DETAIL_MAX - 1).chain(['…']).collect()
}

/// Returns the beginning of a response, at most [`EXCERPT_MAX`] bytes, cut between characters and without U+0000.
pub fn excerpt(text: &str) -> String {
    let text = text.replace('\0', "\u{fffd}");
    let end = (0..=EXCERPT_MAX.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_attempt_is_bounded_and_can_be_stored() {
        let kept = sentence(&format!("a\r\nb\0{}", "é".repeat(2 * DETAIL_MAX)));
        assert!(kept.starts_with("a  b é") && kept.ends_with('…'));
        assert_eq!(kept.chars().count(), DETAIL_MAX);
        assert_eq!(sentence(" short\n"), "short");

        let kept = excerpt(&format!("\0{}", "é".repeat(EXCERPT_MAX)));
        assert!(kept.len() <= EXCERPT_MAX && kept.len() > EXCERPT_MAX - 4);
        assert!(!kept.contains('\0'));
        assert_eq!(excerpt("ok\n"), "ok\n");
    }
}
