//! Deliveries: the messages that leave Tessera. A plan creates them, and they are immutable from then on.

mod attempt;
mod endpoint;
mod kind;
mod payload;
mod state;

pub use attempt::{Attempt, AttemptOutcome, DETAIL_MAX, EXCERPT_MAX, RecipientAnswer, excerpt, sentence};
pub use endpoint::{EndpointState, Health};
pub use kind::{DeliveryKind, KIND_MAX, KindName, MAIL_ENDPOINT};
pub use payload::{
    Custom, DEPTH_HEADER, Email, HeaderValue, Payload, Recipient, RecipientOutcome, Webhook,
    is_reserved_header,
};
pub use state::{DeliveryEvent, DeliveryState, HoldReason};

use super::id::{DeliveryId, ScripVersionId, TicketId, TransactionId};
use time::OffsetDateTime;

/// A message that leaves Tessera.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Its id, the same at every attempt: part of an email's Message-ID, and the `webhook-id` of a webhook.
    pub id: DeliveryId,
    /// The ticket.
    pub ticket: TicketId,
    /// The transaction on which the scrip fired.
    pub transaction: TransactionId,
    /// The version of that scrip.
    pub scrip_version: ScripVersionId,
    /// The message.
    pub payload: Payload,
    /// The time of creation; the `Date` of an email.
    pub created_at: OffsetDateTime,
}

/// A delivery that a worker or connector has leased.
#[derive(Debug, Clone)]
pub struct Leased {
    /// The delivery to send.
    pub delivery: Delivery,
    /// Its destination ([`Payload::endpoint`]), as stored.
    pub endpoint: String,
    /// The number of the attempt, from 1.
    pub attempt: i32,
    /// The number of the attempt within the retry schedule, from 1. A resend restarts the schedule but not `attempt`.
    pub in_schedule: i32,
    /// The number of the lease; each lease has a higher one. Failures count only if the newest lease reports them.
    pub token: i64,
    /// The answers for single recipients of an email that earlier attempts of the schedule received. Recipients with a final
    /// answer are not tried again.
    pub answered: Vec<RecipientAnswer>,
}
