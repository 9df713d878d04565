//! Deliveries: messages that leave, exactly as they will leave. Made by a plan, immutable from then on.

use super::id::{DeliveryId, ScripVersionId, TicketId, TransactionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// What carries a delivery.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryKind {
    /// A mail server.
    Email,
    /// An HTTP POST.
    Webhook,
    /// A connector for this kind.
    Connector(KindName),
}

impl DeliveryKind {
    /// The kinds that the binary itself can deliver.
    pub const BUILTIN: [Self; 2] = [Self::Email, Self::Webhook];

    /// The word in JSON and in the database.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Email => "email",
            Self::Webhook => "webhook",
            Self::Connector(name) => name.as_str(),
        }
    }

    /// The kind of a word.
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

/// The most characters of a kind's name.
pub const KIND_MAX: usize = 32;

/// The endpoint of every mail.
const MAIL_ENDPOINT: &str = "smtp";

/// The name of a kind that only connectors deliver: 1 to [`KIND_MAX`] of a-z, 0-9, `_` and `-`, beginning with a letter, and
/// none of [`DeliveryKind::BUILTIN`]; nor `smtp`, for a kind is an endpoint too, and that is the mails'.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KindName(Arc<str>);

impl KindName {
    /// The name that a word is, if it can be one.
    pub fn parse(word: &str) -> Option<Self> {
        let can_be = word.len() <= KIND_MAX
            && word.starts_with(|first: char| first.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
            && word != MAIL_ENDPOINT
            && DeliveryKind::BUILTIN.iter().all(|kind| kind.as_str() != word);
        can_be.then(|| Self(word.into()))
    }

    /// The word.
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
            format!("\"{word}\" is no kind of a connector: 1 to {KIND_MAX} of a-z, 0-9, _ and -, beginning with a letter; for email (smtp) and webhook there are actions of their own")
        })
    }
}

impl From<KindName> for String {
    fn from(name: KindName) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// A message that leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Its id: in the Message-ID of a mail and the `webhook-id` of a webhook, the same at every attempt.
    pub id: DeliveryId,
    /// The ticket.
    pub ticket: TicketId,
    /// The transaction whose scrip made it.
    pub transaction: TransactionId,
    /// The version of that scrip.
    pub scrip_version: ScripVersionId,
    /// The message.
    pub payload: Payload,
    /// When it was made. `Date` of a mail.
    pub created_at: OffsetDateTime,
}

/// The message itself, as stored in `deliveries.payload` (a webhook's body apart, as bytes).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Payload {
    /// A mail.
    Email(Email),
    /// A webhook.
    Webhook(Webhook),
    /// What a connector delivers.
    Connector(Custom),
}

impl Payload {
    /// What carries it.
    pub fn kind(&self) -> DeliveryKind {
        match self {
            Self::Email(_) => DeliveryKind::Email,
            Self::Webhook(_) => DeliveryKind::Webhook,
            Self::Connector(custom) => DeliveryKind::Connector(custom.connector.clone()),
        }
    }

    /// How many deliveries, each made because of the one before, led to this one, itself included; see [`DEPTH_HEADER`].
    pub fn depth(&self) -> u32 {
        let told = match self {
            Self::Email(email) => email.headers.get(DEPTH_HEADER).map(String::as_str),
            Self::Webhook(webhook) => match webhook.headers.get(DEPTH_HEADER) {
                Some(HeaderValue::Text(text)) => Some(text.as_str()),
                _ => None,
            },
            Self::Connector(custom) => return custom.depth,
        };
        told.and_then(|text| text.parse().ok()).unwrap_or(1)
    }

    /// Where it goes, for breakers and lists: scheme, host and port of a webhook, `smtp`, or the kind of a connector, which
    /// alone knows more.
    pub fn endpoint(&self) -> String {
        match self {
            Self::Email(_) => MAIL_ENDPOINT.to_owned(),
            Self::Webhook(webhook) => url::Url::parse(&webhook.url)
                .map_or_else(|_| webhook.url.clone(), |url| url.origin().ascii_serialization()),
            Self::Connector(custom) => custom.connector.to_string(),
        }
    }
}

/// A mail in parts. What an attempt sends is a pure function of this and the delivery's id and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Email {
    /// The `From` mailbox: `"Name" <address>` or an address.
    pub from: String,
    /// Bare addresses.
    pub to: Vec<String>,
    /// Bare addresses.
    pub cc: Vec<String>,
    /// Bare addresses; in the envelope only.
    pub bcc: Vec<String>,
    /// One line, with `[name #number]`.
    pub subject: String,
    /// Further headers in order of name: `Message-ID`, `In-Reply-To`, `References`, `Auto-Submitted`, `Precedence`,
    /// `X-Tessera-*` and those of the template. Values are one line each.
    pub headers: BTreeMap<String, String>,
    /// The text part.
    pub text: String,
    /// The HTML part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// Every address that was considered, and what became of it.
    pub recipients: Vec<Recipient>,
    /// Recorded as `CommentEmailRecord`.
    #[serde(default)]
    pub as_comment: bool,
}

/// An address that was considered for a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The address; empty where somebody has none.
    pub address: String,
    /// What they are: `requestor`, `owner`, `cc`, `admin_cc`, `queue_cc`, `queue_admin_cc`, `creator`, `address`.
    pub role: String,
    /// Whether it gets the mail.
    pub outcome: RecipientOutcome,
    /// Where it stands (`To`, `Cc`, `Bcc`), or why it was dropped.
    pub reason: String,
}

/// Whether an address gets a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipientOutcome {
    /// It gets it.
    Included,
    /// It does not; the reason says why.
    Dropped,
}

/// A webhook. Its secret is a name: only the transport resolves it, at the moment of sending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// `POST` unless the scrip says otherwise.
    pub method: String,
    /// Complete.
    pub url: String,
    /// Header values: text, or the name of a secret.
    pub headers: BTreeMap<String, HeaderValue>,
    /// The body, byte for byte what is signed and sent. Stored apart (`deliveries.body`).
    #[serde(skip)]
    pub body: String,
    /// The name of the secret that signs it (Standard Webhooks).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// What a connector delivers, in the form that the schema of its kind says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custom {
    /// Its kind.
    pub connector: KindName,
    /// What it is about.
    pub json: serde_json::Value,
    /// How many deliveries, each made because of the one before, led to this one; see [`DEPTH_HEADER`].
    pub depth: u32,
}

/// The value of a webhook's header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HeaderValue {
    /// Text.
    Text(String),
    /// The value of the secret of this name.
    Secret {
        /// Its name.
        secret: String,
    },
}

/// Where a delivery stands; derived from its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Waits for a person, or for its endpoint.
    Held,
    /// Due now or later.
    Available,
    /// Leased by a worker.
    Running,
    /// Delivered.
    Completed,
    /// Given up.
    Discarded,
    /// A person gave it up.
    Cancelled,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Held, Self::Available, Self::Running, Self::Completed, Self::Discarded, Self::Cancelled];

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Available => "available",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether nothing more will happen by itself.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Discarded | Self::Cancelled)
    }
}

/// Why a delivery is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// A person held it.
    Operator,
    /// This version of Tessera cannot read it; a newer one may.
    Unreadable,
    /// Its message was emptied by retention.
    PayloadGone,
    /// What came of its attempt could not be stored.
    Unrecorded,
    /// A person held its endpoint.
    Endpoint,
    /// Its endpoint does not work, and is tried with one delivery at a time.
    Breaker,
    /// No connector of its kind has ever been there.
    NoConnector,
}

impl HoldReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Operator,
        Self::Unreadable,
        Self::PayloadGone,
        Self::Unrecorded,
        Self::Endpoint,
        Self::Breaker,
        Self::NoConnector,
    ];

    /// The word in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Unreadable => "unreadable",
            Self::PayloadGone => "payload_gone",
            Self::Unrecorded => "unrecorded",
            Self::Endpoint => "endpoint",
            Self::Breaker => "breaker",
            Self::NoConnector => "no_connector",
        }
    }

    /// The reason of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// How an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// A person holds it: nothing is sent.
    Held,
    /// Its breaker is open: one delivery at a time is tried.
    Open,
    /// It failed the last time.
    Failing,
    /// Nothing is known against it.
    Fine,
}

impl EndpointState {
    /// The state of an endpoint: whether a person holds it, whether its breaker is open, its failures in a row.
    pub fn of(is_held: bool, is_open: bool, failures: i32) -> Self {
        match (is_held, is_open, failures) {
            (true, ..) => Self::Held,
            (_, true, _) => Self::Open,
            (_, _, 1..) => Self::Failing,
            _ => Self::Fine,
        }
    }

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Open => "open",
            Self::Failing => "failing",
            Self::Fine => "fine",
        }
    }
}

/// What an attempt says of its endpoint, whatever became of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// It took the message, or judged it: a 404 for one URL or a 550 for one mailbox is a working endpoint's answer.
    Works,
    /// It did not work: refused, broken off, out of time, 408, 429, 5xx; a mail server that turns everybody away.
    Fails,
    /// It was not asked: the address guard refused, a secret is missing, the message cannot be made.
    Unknown,
}

impl Health {
    /// The word in the statement that settles.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Fails => "fails",
            Self::Unknown => "unknown",
        }
    }
}

/// The header that says how many desks and programs a change came through, one after the other. Each delivery carries one
/// more than the request that made it had.
pub const DEPTH_HEADER: &str = "Tessera-Depth";

/// The longest sentence kept of an attempt, in characters.
pub const DETAIL_MAX: usize = 500;
/// The most that is kept of what a receiver answered, in bytes.
pub const EXCERPT_MAX: usize = 4_096;

/// A delivery in the hands of a worker.
#[derive(Debug, Clone)]
pub struct Leased {
    /// What is to be sent.
    pub delivery: Delivery,
    /// Where it goes ([`Payload::endpoint`]), as stored.
    pub endpoint: String,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// Which attempt of its schedule this is, from 1: sending it again begins the schedule anew, and the numbers go on.
    pub in_schedule: i32,
    /// The number of the lease; it only grows. A failure is believed from the holder of the newest only.
    pub token: i64,
    /// What earlier attempts of the schedule learned about single recipients of a mail; final answers are not asked for
    /// again.
    pub answered: Vec<RecipientAnswer>,
}

/// What an attempt, or one recipient of a mail, came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptOutcome {
    /// The receiver took it.
    Delivered,
    /// Not now; the schedule says when again.
    Retry,
    /// Never; trying again cannot help.
    Permanent,
}

impl AttemptOutcome {
    /// The word in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Permanent => "permanent",
        }
    }
}

/// What a mail server said of one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientAnswer {
    /// The recipient.
    pub address: String,
    /// What it came to.
    pub outcome: AttemptOutcome,
    /// The server's words, at most [`DETAIL_MAX`] characters.
    pub answer: String,
}

/// One attempt, as recorded. No text in it holds a secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// What it came to.
    pub outcome: AttemptOutcome,
    /// The status code of HTTP or SMTP, when the receiver answered.
    pub status_code: Option<i32>,
    /// One sentence for a person, at most [`DETAIL_MAX`] characters.
    pub detail: String,
    /// The beginning of what the receiver answered, at most [`EXCERPT_MAX`] bytes.
    pub response: Option<String>,
    /// What is known of each recipient of a mail after this attempt; empty for a webhook.
    pub recipients: Vec<RecipientAnswer>,
    /// How long it took.
    pub duration: Duration,
    /// What it says of the endpoint.
    pub health: Health,
    /// How long the receiver asked to be left alone, or its trouble asks for, should it be tried again.
    pub wait: Duration,
}

impl Attempt {
    /// An attempt that came to `outcome`; `detail` is cut to what is kept.
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

    /// The same, with what it says of the endpoint.
    pub fn with_health(mut self, health: Health) -> Self {
        self.health = health;
        self
    }

    /// The same, not tried again before `wait` has passed.
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// The same, with the receiver's status code.
    pub fn with_status(mut self, code: impl Into<i32>) -> Self {
        self.status_code = Some(code.into());
        self
    }

    /// The same, with what is known of each recipient.
    pub fn with_recipients(mut self, recipients: Vec<RecipientAnswer>) -> Self {
        self.recipients = recipients;
        self
    }
}

/// One line of at most [`DETAIL_MAX`] characters that PostgreSQL can store.
pub fn sentence(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    if line.chars().count() <= DETAIL_MAX {
        return line.to_owned();
    }
    line.chars().take(DETAIL_MAX - 1).chain(['…']).collect()
}

/// The beginning of an answer, at most [`EXCERPT_MAX`] bytes, cut between characters and without U+0000.
pub fn excerpt(text: &str) -> String {
    let text = text.replace('\0', "\u{fffd}");
    let end = (0..=EXCERPT_MAX.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_as_bad_as_the_worst_that_is_known_of_it() {
        let table = [
            ((false, false, 0), EndpointState::Fine),
            ((false, false, 1), EndpointState::Failing),
            ((false, false, 9), EndpointState::Failing),
            ((false, true, 10), EndpointState::Open),
            ((true, false, 0), EndpointState::Held),
            ((true, true, 10), EndpointState::Held),
        ];
        for ((held, open, failures), state) in table {
            assert_eq!(EndpointState::of(held, open, failures), state, "{held} {open} {failures}");
        }
    }

    #[test]
    fn a_kind_has_a_name_that_is_no_other_kinds_and_no_endpoint() {
        let kind = |word: &str| DeliveryKind::parse(word).map(|kind| kind.to_string());
        assert!(
            ["chat", "a", "x-1_y", "smtps", "email"].iter().all(|word| kind(word).as_deref() == Some(*word))
        );
        let none = ["", "smtp", "Chat", "1a", "-a", "a b", "ä", &"a".repeat(33), "a.b", "https://a"];
        assert_eq!(none.map(kind), [const { None }; 10]);
    }

    #[test]
    fn words_lead_back_to_what_they_name() {
        assert!(DeliveryState::ALL.iter().all(|state| DeliveryState::parse(state.as_str()) == Some(*state)));
        assert!(HoldReason::ALL.iter().all(|reason| HoldReason::parse(reason.as_str()) == Some(*reason)));
        let finished: Vec<_> = DeliveryState::ALL.iter().filter(|state| state.is_finished()).collect();
        assert_eq!(finished.len(), 3, "{finished:?}");
    }

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
