//! Payloads: the message of a delivery, as it is stored and sent.

use super::kind::{DeliveryKind, KindName, MAIL_ENDPOINT};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The header with the number of deliveries that led to a request, each caused by the one before. A delivery carries one more
/// than the request that created it.
pub const DEPTH_HEADER: &str = "Tessera-Depth";

/// The headers of a webhook that belong to Tessera or to the connection (RFC 9110, 7.6.1), so that a scrip cannot set them. The
/// webhook connector has the same list.
const RESERVED_HEADERS: [&str; 17] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "tessera-depth",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// Returns true for a header of a webhook that a scrip cannot set.
pub fn is_reserved_header(name: &str) -> bool {
    RESERVED_HEADERS.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}

/// The message of a delivery, as stored in `deliveries.payload`; the body of a webhook is stored as bytes in `deliveries.body`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Payload {
    /// An email.
    Email(Email),
    /// A webhook.
    Webhook(Webhook),
    /// A JSON document that a connector delivers.
    Connector(Custom),
}

impl Payload {
    /// The kind of delivery.
    pub fn kind(&self) -> DeliveryKind {
        match self {
            Self::Email(_) => DeliveryKind::Email,
            Self::Webhook(_) => DeliveryKind::Webhook,
            Self::Connector(custom) => DeliveryKind::Connector(custom.connector.clone()),
        }
    }

    /// The number of deliveries, each caused by the one before, that led to this one, itself included; see [`DEPTH_HEADER`].
    pub fn depth(&self) -> u32 {
        let header = match self {
            Self::Email(email) => email.headers.get(DEPTH_HEADER).map(String::as_str),
            Self::Webhook(webhook) => match webhook.headers.get(DEPTH_HEADER) {
                Some(HeaderValue::Text(text)) => Some(text.as_str()),
                _ => None,
            },
            Self::Connector(custom) => return custom.depth,
        };
        header.and_then(|text| text.parse().ok()).unwrap_or(1)
    }

    /// The destination, for breakers and lists: scheme, host and port of a webhook, `smtp` for an email, otherwise the kind,
    /// because only the connector knows the destination.
    pub fn endpoint(&self) -> String {
        match self {
            Self::Email(_) => MAIL_ENDPOINT.to_owned(),
            Self::Webhook(webhook) => url::Url::parse(&webhook.url)
                .map_or_else(|_| webhook.url.clone(), |url| url.origin().ascii_serialization()),
            Self::Connector(custom) => custom.connector.to_string(),
        }
    }
}

/// An email in parts. The bytes that an attempt sends depend only on these and on the delivery's id and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Email {
    /// The `From` mailbox: `"Name" <address>` or an address.
    pub from: String,
    /// Bare addresses.
    pub to: Vec<String>,
    /// Bare addresses.
    pub cc: Vec<String>,
    /// Bare addresses, for the envelope only.
    pub bcc: Vec<String>,
    /// A single line that contains `[name #number]`.
    pub subject: String,
    /// The other headers by name: `Message-ID`, `In-Reply-To`, `References`, `Auto-Submitted`, `Precedence`, `X-Tessera-*` and
    /// those of the template. Each value is a single line.
    pub headers: BTreeMap<String, String>,
    /// The text part.
    pub text: String,
    /// The HTML part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// Every address that was considered, with the decision.
    pub recipients: Vec<Recipient>,
    /// True if its delivery is recorded as `CommentEmailRecord`.
    #[serde(default)]
    pub as_comment: bool,
}

/// An address that was considered as a recipient of an email.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The address; empty if the person has none.
    pub address: String,
    /// The role: `requestor`, `owner`, `cc`, `admin_cc`, `queue_cc`, `queue_admin_cc`, `creator`, `address`.
    pub role: String,
    /// The decision.
    pub outcome: RecipientOutcome,
    /// The header (`To`, `Cc` or `Bcc`), or the reason for dropping it.
    pub reason: String,
}

/// The decision whether an address becomes a recipient of an email.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipientOutcome {
    /// It is a recipient.
    Included,
    /// It is not a recipient; the reason explains why.
    Dropped,
}

/// A webhook. Secrets are names here; only the transport resolves them, at the moment of sending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// The HTTP method; `POST` unless the scrip sets another.
    pub method: String,
    /// The complete URL.
    pub url: String,
    /// The values of the headers by name: text, or the name of a secret.
    pub headers: BTreeMap<String, HeaderValue>,
    /// The body, signed and sent byte for byte; stored in `deliveries.body`.
    #[serde(skip)]
    pub body: String,
    /// The name of the secret that signs the request (Standard Webhooks).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// The payload of a kind that connectors deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custom {
    /// The kind.
    pub connector: KindName,
    /// The document, in the form that the schema of the kind defines.
    pub json: serde_json::Value,
    /// The number of deliveries, each caused by the one before, that led to this one; see [`DEPTH_HEADER`].
    pub depth: u32,
}

/// The value of a header of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HeaderValue {
    /// Text.
    Text(String),
    /// The value of the secret with this name.
    Secret {
        /// The name.
        secret: String,
    },
}
