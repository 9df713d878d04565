//! The JSON of deliveries: as planned, as listed, and whole with attempts; and of the endpoints that they go to.

use super::ScripRef;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use tessera_core::db::deliveries::{DeliveryDetail, DeliverySummary, Endpoint, Hold, Stored};
use tessera_core::models::delivery::{HoldReason, Payload, Recipient, RecipientAnswer};
use tessera_core::models::{DeliveryId, TransactionId};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// A delivery in short.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryRef {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: DeliveryId,
    /// `email`, `webhook`, or a kind that connectors deliver.
    pub kind: String,
    /// The scrip that made it.
    pub scrip: Option<ScripRef>,
    /// `available`: it was just made; `held`: no connector of its kind has ever connected.
    pub state: String,
}

/// A delivery in full, as it will leave.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    /// Its id: in the Message-ID of a mail, the `webhook-id` of a webhook.
    #[schema(value_type = Uuid)]
    pub id: DeliveryId,
    /// The scrip that made it.
    pub scrip: Option<ScripRef>,
    /// The message.
    #[serde(flatten)]
    pub message: Message,
    /// Why it will be held; null when it will be tried at once.
    #[schema(required)]
    pub hold: Option<HoldView>,
}

/// What leaves.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Message {
    /// A mail.
    Email {
        /// The sender.
        from: String,
        /// Addresses.
        to: Vec<String>,
        /// Addresses.
        cc: Vec<String>,
        /// Addresses, in the envelope only.
        bcc: Vec<String>,
        /// One line.
        subject: String,
        /// Further headers.
        headers: BTreeMap<String, String>,
        /// The text part.
        text: String,
        /// The HTML part.
        #[serde(skip_serializing_if = "Option::is_none")]
        html: Option<String>,
        /// Every address considered, and what became of it.
        #[schema(value_type = Vec<Object>)]
        recipients: Vec<Recipient>,
    },
    /// An HTTP request.
    Webhook {
        /// The method.
        method: String,
        /// The URL.
        url: String,
        /// Text, or the name of a secret.
        #[schema(value_type = Object)]
        headers: Value,
        /// The body, byte for byte.
        body: String,
        /// The name of the secret that signs it.
        #[serde(skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
    },
    /// What a connector delivers.
    Connector {
        /// The kind of the connector.
        connector: String,
        /// What it is given, in the form that the kind's schema says.
        json: Value,
    },
}

/// A delivery in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryListed {
    /// Its id: in the Message-ID of a mail, the `webhook-id` of a webhook.
    #[schema(value_type = Uuid)]
    pub id: DeliveryId,
    /// The scrip that made it.
    pub scrip: Option<ScripRef>,
    /// The message, while it is kept.
    #[serde(flatten)]
    pub message: MessageKept,
    /// Where it goes: `scheme://host:port`, `smtp`, or the kind that connectors deliver.
    pub endpoint: String,
    /// Where it stands: `held`, `available`, `running`, `completed`, `discarded`, `cancelled`.
    pub state: String,
    /// Why it is held, when it is.
    pub hold: Option<HoldView>,
    /// The ticket's number.
    pub ticket: i64,
    /// The transaction whose scrip made it.
    #[schema(value_type = Uuid)]
    pub transaction: TransactionId,
    /// Attempts begun.
    pub attempts: i32,
    /// When it is tried next if nothing holds it; null when it is finished.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_attempt_at: Option<OffsetDateTime>,
    /// What the last attempt came to.
    pub last_attempt: Option<AttemptView>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// What is kept of a message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum MessageKept {
    /// All of it.
    Whole(Message),
    /// Nothing that can be shown.
    Missing(MessageMissing),
}

/// A message that is not there.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageMissing {
    /// `email`, `webhook`, or a kind that connectors deliver.
    pub kind: String,
    /// Why: `gone` (older than `retention.payloads_days`), `unreadable` (a newer version wrote it).
    pub missing: String,
}

/// Why a delivery is held.
#[derive(Debug, Serialize, ToSchema)]
pub struct HoldView {
    /// `operator`, `endpoint`, `breaker`, `no_connector`, `unreadable`, `payload_gone`, `unrecorded`.
    pub reason: String,
    /// The reason in words, with what ends it.
    pub detail: String,
    /// The person who did it: a username.
    pub by: Option<String>,
    /// Since when.
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
    /// With `breaker`: when the next delivery is let through. Otherwise null: until somebody releases it, with `no_connector` until
    /// a connector comes.
    #[serde(with = "time::serde::rfc3339::option")]
    pub until: Option<OffsetDateTime>,
}

/// An attempt that came to an end.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptView {
    /// `delivered`, `retry`, `permanent`.
    pub outcome: String,
    /// Of HTTP or SMTP.
    pub status_code: Option<i32>,
    /// One sentence.
    pub detail: String,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339")]
    pub finished_at: OffsetDateTime,
}

/// A delivery with everything that was tried and done.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryWhole {
    /// What a list shows.
    #[serde(flatten)]
    pub listed: DeliveryListed,
    /// Its attempts, the newest first.
    pub attempts_made: Vec<AttemptMade>,
    /// What people did to it, the newest first.
    pub actions: Vec<ActionTaken>,
}

/// An attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptMade {
    /// From 1.
    pub number: i32,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// How long it took; null when it did not come to an end.
    pub duration_ms: Option<i32>,
    /// `delivered`, `retry`, `permanent`; `running`; `lost` when its worker did not come back.
    pub outcome: String,
    /// Of HTTP or SMTP.
    pub status_code: Option<i32>,
    /// One sentence.
    pub detail: Option<String>,
    /// The first 4 KiB of the answer.
    pub response: Option<String>,
    /// What is known of each recipient of a mail after it: `address`, `outcome`, `answer`.
    #[schema(value_type = Vec<Object>)]
    pub recipients: Vec<RecipientAnswer>,
    /// The name of the connector that made it; null = Tessera itself.
    pub connector: Option<String>,
}

/// Something that a person did to a delivery.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActionTaken {
    /// `hold`, `release`, `cancel`, `resend`.
    pub action: String,
    /// Why, where Tessera did it itself.
    pub reason: Option<String>,
    /// A username.
    pub actor: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// An endpoint: where deliveries go.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndpointView {
    /// `scheme://host:port`, `smtp`, or a kind that connectors deliver.
    pub endpoint: String,
    /// `held`, `open` (its breaker), `failing`, `fine`.
    pub state: String,
    /// Failures in a row.
    pub failures: i32,
    /// Since when it fails.
    #[serde(with = "time::serde::rfc3339::option")]
    pub failing_since: Option<OffsetDateTime>,
    /// What the last failure said.
    pub last_failure: Option<String>,
    /// While its breaker is open: when the next delivery is let through.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_try_at: Option<OffsetDateTime>,
    /// Since when a person holds it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub held_at: Option<OffsetDateTime>,
    /// Who: a username.
    pub held_by: Option<String>,
    /// Deliveries that are available.
    pub waiting: i64,
    /// Deliveries that are held.
    pub held: i64,
    /// Deliveries that are running.
    pub running: i64,
    /// Half of what was delivered took at most this long.
    pub median_ms: Option<i32>,
    /// Attempts by the hour in which they began, oldest first; hours without any are left out.
    pub hours: Vec<HourView>,
}

/// The attempts of an hour.
#[derive(Debug, Serialize, ToSchema)]
pub struct HourView {
    /// Its beginning.
    #[serde(with = "time::serde::rfc3339")]
    pub hour: OffsetDateTime,
    /// Attempts that delivered.
    pub delivered: i64,
    /// Attempts that did not.
    pub failed: i64,
}

pub(super) fn message(payload: &Payload) -> Message {
    match payload.clone() {
        Payload::Email(email) => Message::Email {
            from: email.from,
            to: email.to,
            cc: email.cc,
            bcc: email.bcc,
            subject: email.subject,
            headers: email.headers,
            text: email.text,
            html: email.html,
            recipients: email.recipients,
        },
        Payload::Webhook(webhook) => Message::Webhook {
            method: webhook.method,
            url: webhook.url,
            headers: serde_json::to_value(&webhook.headers).unwrap_or_default(),
            body: webhook.body,
            secret: webhook.secret,
        },
        Payload::Connector(custom) => {
            Message::Connector { connector: custom.connector.into(), json: custom.json }
        }
    }
}

impl From<DeliverySummary> for DeliveryListed {
    fn from(row: DeliverySummary) -> Self {
        let missing =
            |kind, word: &str| MessageKept::Missing(MessageMissing { kind, missing: word.to_owned() });
        Self {
            id: row.id,
            scrip: row.scrip.map(|(id, name, version)| ScripRef { id, name, version }),
            hold: row.hold.map(|hold| HoldView::of(hold, &row.endpoint)),
            endpoint: row.endpoint,
            message: match row.message {
                Stored::Kept(payload) => MessageKept::Whole(message(&payload)),
                Stored::Gone => missing(row.kind, "gone"),
                Stored::Unreadable => missing(row.kind, "unreadable"),
            },
            state: row.state.as_str().to_owned(),
            ticket: row.number,
            transaction: row.transaction,
            attempts: row.attempts,
            next_attempt_at: row.due_at,
            last_attempt: row.last.map(|last| AttemptView {
                outcome: last.outcome,
                status_code: last.status_code,
                detail: last.detail,
                finished_at: last.finished_at,
            }),
            created_at: row.created_at,
        }
    }
}

impl HoldView {
    /// Of what no connector ever came for.
    pub(super) fn without_connector(endpoint: &str) -> Self {
        Self::of(Hold { reason: HoldReason::NoConnector, by: None, since: None, until: None }, endpoint)
    }

    fn of(hold: Hold, endpoint: &str) -> Self {
        let detail = match hold.reason {
            HoldReason::Operator => "Held by a person, until somebody releases it.".to_owned(),
            HoldReason::Endpoint => {
                format!("Everything to {endpoint} is held by a person, until somebody releases the endpoint.")
            }
            HoldReason::Breaker => format!(
                "{endpoint} does not work. One delivery at a time is tried until one gets an answer; a release sends this one now."
            ),
            HoldReason::NoConnector => {
                format!("No {endpoint} connector has ever connected. It goes out when one does.")
            }
            HoldReason::Unreadable => {
                "A newer version of Tessera wrote it. Start that version, then release it.".to_owned()
            }
            HoldReason::PayloadGone => {
                "Its message is no longer kept, so it cannot be sent. Cancel it.".to_owned()
            }
            HoldReason::Unrecorded => {
                "What came of its attempt could not be stored; the log says why. It may have arrived. Release it to try again, or cancel it.".to_owned()
            }
        };
        Self {
            reason: hold.reason.as_str().to_owned(),
            detail,
            by: hold.by,
            since: hold.since,
            until: hold.until,
        }
    }
}

impl From<DeliveryDetail> for DeliveryWhole {
    fn from(detail: DeliveryDetail) -> Self {
        let made = detail.attempts.into_iter().map(|one| AttemptMade {
            number: one.attempt,
            started_at: one.started_at,
            duration_ms: one.duration_ms,
            outcome: one.outcome,
            status_code: one.status_code,
            detail: one.detail,
            response: one.response,
            recipients: one.recipients,
            connector: one.connector,
        });
        let actions = detail.actions.into_iter().map(|one| ActionTaken {
            action: one.action,
            reason: one.reason,
            actor: one.actor,
            at: one.at,
        });
        Self { listed: detail.listed.into(), attempts_made: made.collect(), actions: actions.collect() }
    }
}

impl From<Endpoint> for EndpointView {
    fn from(row: Endpoint) -> Self {
        let hours = row.hours.into_iter().map(|hour| HourView {
            hour: hour.hour,
            delivered: hour.delivered,
            failed: hour.failed,
        });
        Self {
            endpoint: row.endpoint,
            state: row.state.as_str().to_owned(),
            failures: row.failures,
            failing_since: row.failing_since,
            last_failure: row.last_failure,
            next_try_at: row.probe_at,
            held_at: row.held_at,
            held_by: row.held_by,
            waiting: row.waiting,
            held: row.held,
            running: row.running,
            median_ms: row.median_ms,
            hours: hours.collect(),
        }
    }
}
