//! The JSON of deliveries (planned, listed, and in detail with attempts) and of their endpoints.

use super::ScripRef;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use tessera_core::desk::reads::{DeliveryDetail, DeliverySummary, Endpoint, Hold, Stored};
use tessera_core::models::delivery::{HoldReason, Payload, Recipient, RecipientAnswer};
use tessera_core::models::{DeliveryId, DeliveryKind, TransactionId};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// A summary of a delivery that a change created.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryRef {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: DeliveryId,
    /// `email`, `webhook`, or a kind that connectors deliver.
    pub kind: String,
    /// The scrip that created it.
    pub scrip: Option<ScripRef>,
    /// `available`, or `held` if no connector has served its kind yet.
    pub state: String,
}

/// A delivery as it would be sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    /// Its id: part of the Message-ID of an email, the `webhook-id` of a webhook.
    #[schema(value_type = Uuid)]
    pub id: DeliveryId,
    /// The scrip that created it.
    pub scrip: Option<ScripRef>,
    /// The message.
    #[serde(flatten)]
    pub message: Message,
    /// The reason for which it would be held; null if it would be tried immediately.
    #[schema(required)]
    pub hold: Option<HoldView>,
}

/// The message of a delivery.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Message {
    /// An email.
    Email {
        /// The sender.
        from: String,
        /// Recipients in the To header.
        to: Vec<String>,
        /// Recipients in the Cc header.
        cc: Vec<String>,
        /// Recipients in the envelope only.
        bcc: Vec<String>,
        /// The subject, a single line.
        subject: String,
        /// The other headers, by name.
        headers: BTreeMap<String, String>,
        /// The text part.
        text: String,
        /// The HTML part.
        #[serde(skip_serializing_if = "Option::is_none")]
        html: Option<String>,
        /// Every address that was considered, with the decision.
        #[schema(value_type = Vec<Object>)]
        recipients: Vec<Recipient>,
    },
    /// An HTTP request.
    Webhook {
        /// The method.
        method: String,
        /// The URL.
        url: String,
        /// The headers by name: text, or the name of a secret.
        #[schema(value_type = Object)]
        headers: Value,
        /// The body, sent byte for byte.
        body: String,
        /// The name of the secret that signs the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
    },
    /// A payload for a connector.
    Connector {
        /// The kind.
        connector: String,
        /// The payload, in the form that the kind's schema defines.
        json: Value,
    },
}

/// A delivery in a list, which leaves out its message.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryListed {
    /// `email`, `webhook`, or `connector` for a kind that connectors deliver.
    pub kind: String,
    /// With `connector`: the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
    /// Its state and what led to it.
    #[serde(flatten)]
    pub facts: DeliveryFacts,
}

/// The state of a delivery, and what led to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryFacts {
    /// Its id: part of the Message-ID of an email, the `webhook-id` of a webhook.
    #[schema(value_type = Uuid)]
    pub id: DeliveryId,
    /// The scrip that created it.
    pub scrip: Option<ScripRef>,
    /// The endpoint: `scheme://host:port`, `smtp`, or a kind that connectors deliver.
    pub endpoint: String,
    /// `held`, `available`, `running`, `completed`, `discarded` or `cancelled`.
    pub state: String,
    /// The hold, if its state is `held`.
    pub hold: Option<HoldView>,
    /// The ticket's number.
    pub ticket: i64,
    /// The transaction on which the scrip fired.
    #[schema(value_type = Uuid)]
    pub transaction: TransactionId,
    /// The number of attempts that were started.
    pub attempts: i32,
    /// The time of the next attempt unless it is held; null if it is finished.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_attempt_at: Option<OffsetDateTime>,
    /// The last attempt that ended.
    pub last_attempt: Option<AttemptView>,
    /// The time of creation.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// The stored message of a delivery.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum MessageKept {
    /// The whole message.
    Whole(Message),
    /// No message that can be shown.
    Missing(MessageMissing),
}

/// A message that is not available.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageMissing {
    /// `email`, `webhook`, or a kind that connectors deliver.
    pub kind: String,
    /// The reason: `gone` (older than `retention.payloads_days`) or `unreadable` (written by a newer version).
    pub missing: String,
}

/// The hold of a delivery.
#[derive(Debug, Serialize, ToSchema)]
pub struct HoldView {
    /// `operator`, `endpoint`, `breaker`, `no_connector`, `unreadable`, `payload_gone` or `unrecorded`.
    pub reason: String,
    /// The reason in words, and how the hold ends.
    pub detail: String,
    /// The username of the operator who held it, if one did.
    pub by: Option<String>,
    /// The time when the hold began, if known.
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
    /// With `breaker`: the time of the next probe. Otherwise null: the hold lasts until somebody releases it, with `no_connector`
    /// until a connector serves the kind.
    #[serde(with = "time::serde::rfc3339::option")]
    pub until: Option<OffsetDateTime>,
}

/// An attempt that ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptView {
    /// `delivered`, `retry` or `permanent`.
    pub outcome: String,
    /// The HTTP or SMTP status code.
    pub status_code: Option<i32>,
    /// A sentence for people to read.
    pub detail: String,
    /// The time of its end.
    #[serde(with = "time::serde::rfc3339")]
    pub finished_at: OffsetDateTime,
}

/// A delivery with its message, attempts and operator actions.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryWhole {
    /// The message, while it is stored.
    #[serde(flatten)]
    pub message: MessageKept,
    /// Its state and what led to it.
    #[serde(flatten)]
    pub facts: DeliveryFacts,
    /// Its attempts, newest first; at most 500, and at most 1 MiB.
    pub attempts_made: Vec<AttemptMade>,
    /// Its operator actions, newest first; at most 100.
    pub actions: Vec<ActionTaken>,
}

/// A recorded attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptMade {
    /// The number of the attempt, from 1.
    pub number: i32,
    /// The time of its start.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// Its duration in milliseconds; null if it did not end.
    pub duration_ms: Option<i32>,
    /// `delivered`, `retry` or `permanent`; `running`; or `lost` if its lease expired without a report.
    pub outcome: String,
    /// The HTTP or SMTP status code.
    pub status_code: Option<i32>,
    /// A sentence for people to read.
    pub detail: Option<String>,
    /// The first 4 KiB of the response.
    pub response: Option<String>,
    /// The answer for each recipient of an email, as known after it: `address`, `outcome`, `answer`.
    #[schema(value_type = Vec<Object>)]
    pub recipients: Vec<RecipientAnswer>,
    /// The name of the connector that made it; null for Tessera itself.
    pub connector: Option<String>,
}

/// An action of an operator on a delivery.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActionTaken {
    /// `hold`, `release`, `cancel` or `resend`.
    pub action: String,
    /// The reason, if Tessera acted automatically.
    pub reason: Option<String>,
    /// The username of the operator.
    pub actor: String,
    /// The time of the action.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// An endpoint of deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndpointView {
    /// `scheme://host:port`, `smtp`, or a kind that connectors deliver.
    pub endpoint: String,
    /// `held`, `open` (its breaker), `failing` or `fine`.
    pub state: String,
    /// The number of failures in a row.
    pub failures: i32,
    /// The time of the first of them.
    #[serde(with = "time::serde::rfc3339::option")]
    pub failing_since: Option<OffsetDateTime>,
    /// The detail of the last failure.
    pub last_failure: Option<String>,
    /// The time of the next probe while its breaker is open.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_try_at: Option<OffsetDateTime>,
    /// The time since when an operator holds it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub held_at: Option<OffsetDateTime>,
    /// The username of that operator.
    pub held_by: Option<String>,
    /// The number of available deliveries.
    pub waiting: i64,
    /// The number of held deliveries.
    pub held: i64,
    /// The number of running deliveries.
    pub running: i64,
    /// The median duration of successful attempts, in milliseconds.
    pub median_ms: Option<i32>,
    /// The attempts by the hour in which they started, oldest first, without hours that have none.
    pub hours: Vec<HourView>,
}

/// The attempts of one hour.
#[derive(Debug, Serialize, ToSchema)]
pub struct HourView {
    /// The beginning of the hour.
    #[serde(with = "time::serde::rfc3339")]
    pub hour: OffsetDateTime,
    /// The number of attempts that delivered.
    pub delivered: i64,
    /// The number of attempts that failed.
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
        let is_builtin = DeliveryKind::BUILTIN.iter().any(|kind| kind.as_str() == row.kind);
        let (kind, connector) = match is_builtin {
            true => (row.kind.clone(), None),
            false => ("connector".to_owned(), Some(row.kind.clone())),
        };
        Self { kind, connector, facts: row.into() }
    }
}

impl MessageKept {
    fn of(kind: &str, stored: &Stored) -> Self {
        let missing =
            |word: &str| Self::Missing(MessageMissing { kind: kind.to_owned(), missing: word.to_owned() });
        match stored {
            Stored::Kept(payload) => Self::Whole(message(payload)),
            Stored::Gone => missing("gone"),
            Stored::Unreadable => missing("unreadable"),
        }
    }
}

impl From<DeliverySummary> for DeliveryFacts {
    fn from(row: DeliverySummary) -> Self {
        Self {
            id: row.id,
            scrip: row.scrip.map(|(id, name, version)| ScripRef { id, name, version }),
            hold: row.hold.map(|hold| HoldView::of(hold, &row.endpoint)),
            endpoint: row.endpoint,
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
    /// The hold of a delivery whose kind no connector has served yet.
    pub(super) fn without_connector(endpoint: &str) -> Self {
        Self::of(Hold { reason: HoldReason::NoConnector, by: None, since: None, until: None }, endpoint)
    }

    fn of(hold: Hold, endpoint: &str) -> Self {
        let detail = match hold.reason {
            HoldReason::Operator => "An operator holds it until somebody releases it.".to_owned(),
            HoldReason::Endpoint => {
                format!("An operator holds everything to {endpoint} until somebody releases the endpoint.")
            }
            HoldReason::Breaker => format!(
                "{endpoint} is failing. One delivery at a time is tried until one succeeds or is rejected. Release this one to try it now."
            ),
            HoldReason::NoConnector => {
                format!("No {endpoint} connector has connected yet. The delivery will be sent when one does.")
            }
            HoldReason::Unreadable => {
                "A newer version of Tessera wrote its message. Start that version, then release it.".to_owned()
            }
            HoldReason::PayloadGone => {
                "Its message is no longer stored, so it cannot be sent. Cancel it.".to_owned()
            }
            HoldReason::Unrecorded => {
                "The result of its attempt could not be stored; see the server's log. It may have been delivered. Release it to try again, or cancel it.".to_owned()
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
        Self {
            message: MessageKept::of(&detail.listed.kind, &detail.message),
            facts: detail.listed.into(),
            attempts_made: made.collect(),
            actions: actions.collect(),
        }
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
