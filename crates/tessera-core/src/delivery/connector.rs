//! Connectors: converts leased deliveries to messages, and settles reported attempts with the same schedule and records as the
//! binary's workers.

use super::email::{Receiver, build};
use super::settle::{LEASE, count, settle, settlement, without_duplicates};
use super::smtp::{conclude, divide};
use super::wakeup::Wakeup;
use super::webhook::{self, Secrets};
use super::{Attempt, Leased, Outcome, secrets};
use crate::db::deliveries::{self, Due, Given, Holder, Room};
use crate::error::Result;
use crate::models::delivery::{Payload, RecipientAnswer};
use crate::models::secret::Secret;
use crate::models::{DeliveryId, Ids};
use reqwest::header::{HeaderName, HeaderValue};
use sqlx::PgPool;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;

/// A delivery that is handed over to a connector.
#[derive(Debug, Clone)]
pub struct Handed {
    /// The leased delivery.
    pub leased: Arc<Leased>,
    /// The message to send.
    pub message: Message,
}

/// A message for a connector to send. It may contain secrets, so `Debug` prints only its kind.
#[derive(Clone)]
pub enum Message {
    /// An email.
    Email {
        /// The envelope sender.
        sender: String,
        /// The envelope recipients that have no final answer yet.
        recipients: Vec<String>,
        /// The whole message, with CRLF line endings.
        message: Vec<u8>,
    },
    /// A webhook, with its secrets in plain text.
    Webhook {
        /// The method.
        method: String,
        /// The complete URL.
        url: String,
        /// The names and values of the headers; each value is a single line.
        headers: Vec<(String, String)>,
        /// The body, signed and sent byte for byte.
        body: Vec<u8>,
        /// The key that signs the request, if any.
        signing_key: Option<Secret>,
        /// Every secret in the request, by name.
        secrets: Secrets,
    },
    /// A JSON document, the same at every attempt.
    Json(String),
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Email { .. } => "Email(…)",
            Self::Webhook { .. } => "Webhook(…)",
            Self::Json(_) => "Json(…)",
        })
    }
}

impl Message {
    /// The approximate size of the message when it is handed over, in bytes.
    fn bytes(&self) -> usize {
        match self {
            Self::Email { recipients, message, .. } => {
                message.len() + recipients.iter().map(String::len).sum::<usize>()
            }
            Self::Webhook { url, headers, body, secrets, .. } => {
                let headers = headers.iter().map(|(name, value)| name.len() + value.len());
                let secrets = secrets.iter().map(|(name, secret)| name.len() + secret.expose().len());
                url.len() + body.len() + headers.chain(secrets).sum::<usize>()
            }
            Self::Json(text) => text.len(),
        }
    }
}

/// A connector's report about a lease.
#[derive(Debug, Clone)]
pub struct Told {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The number of the lease.
    pub token: i64,
    /// The result.
    pub said: Said,
}

/// The reported result of a lease.
#[derive(Debug, Clone)]
pub enum Said {
    /// The attempt did not start, or was interrupted because the connector stopped.
    Returned,
    /// The attempt ended; for an email, with the answers for the recipients that were tried.
    Attempt(Attempt),
}

/// The receipt for a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Receipt {
    /// The report was recorded.
    Recorded,
    /// The lease was already settled.
    AlreadySettled,
    /// The lease was never granted to this connector.
    UnknownLease,
    /// The report cannot be recorded; the delivery is held until an operator acts on it.
    Held,
}

/// The maximum size of the messages of one response, in bytes; a single message may be larger. Leases beyond it are given back
/// and due immediately, because a response that the connector rejects as too large would block its leases until they expire.
pub const HANDED_MAX: usize = 3 * 1024 * 1024;

/// Leases on their way to a connector. When this is dropped before [`Unsent::sent`], the connector did not get them, for example
/// because its call was cancelled: they are given back, and their attempts do not count.
#[derive(Debug)]
pub struct Unsent {
    pool: PgPool,
    wakeup: Arc<Wakeup>,
    held: Vec<(DeliveryId, i64)>,
    is_sent: AtomicBool,
}

impl Unsent {
    /// Notes that the response with the leases was sent.
    pub fn sent(&self) {
        self.is_sent.store(true, Ordering::Relaxed);
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        let held = std::mem::take(&mut self.held);
        let Ok(runtime) = Handle::try_current() else { return };
        if held.is_empty() || *self.is_sent.get_mut() {
            return;
        }
        let (pool, wakeup) = (self.pool.clone(), Arc::clone(&self.wakeup));
        runtime.spawn(async move {
            match deliveries::give_back(&pool, &held, Due::Later).await {
                Ok(()) => wakeup.wake(),
                Err(error) => tracing::warn!(
                    error = &error as &dyn StdError,
                    deliveries = held.len(),
                    "leases that a connector did not receive cannot be given back; they expire automatically"
                ),
            }
        });
    }
}

/// Leases due deliveries for a connector and converts them to messages. A delivery that cannot be sent, for example because a
/// secret is missing, is settled immediately as a failed attempt. Run this in a task of its own, so that it ends even if the
/// call that waits for it is cancelled.
///
/// # Errors
/// Those of the database; what was leased is then given back.
pub async fn lease(
    pool: PgPool,
    wakeup: Arc<Wakeup>,
    by: Holder,
    room: &Room,
    mut ids: Ids,
) -> Result<(Vec<Handed>, Unsent)> {
    let leased = deliveries::lease(&pool, by, room, LEASE).await?;
    let held = leased.iter().map(|one| (one.delivery.id, one.token)).collect();
    let mut unsent = Unsent { pool, wakeup, held, is_sent: AtomicBool::new(false) };
    let handed = hand_over(&unsent.pool, leased, &mut ids).await?;
    unsent.held = handed.iter().map(|one| (one.leased.delivery.id, one.leased.token)).collect();
    Ok((handed, unsent))
}

async fn hand_over(pool: &PgPool, leased: Vec<Leased>, ids: &mut Ids) -> Result<Vec<Handed>> {
    let all = secrets::of_all(pool, &leased).await;
    let (mut handed, mut failed, mut beyond) = (Vec::with_capacity(leased.len()), Vec::new(), Vec::new());
    let mut bytes = 0;
    for leased in leased.into_iter().map(Arc::new) {
        match message(&leased, secrets::share_of(all.as_ref(), &leased)) {
            Ok(message) if handed.is_empty() || bytes + message.bytes() <= HANDED_MAX => {
                bytes += message.bytes();
                handed.push(Handed { leased, message });
            }
            Ok(_) => beyond.push((leased.delivery.id, leased.token)),
            Err(attempt) => {
                count(&leased, &attempt);
                failed.push(settlement(leased, *attempt, ids));
            }
        }
    }
    if !failed.is_empty() {
        settle(pool, &failed).await?;
    }
    if !beyond.is_empty() {
        deliveries::give_back(pool, &beyond, Due::Now).await?;
    }
    Ok(handed)
}

/// Returns the message to send, or the failed attempt if it cannot be built.
fn message(leased: &Leased, secrets: Option<Secrets>) -> std::result::Result<Message, Box<Attempt>> {
    match &leased.delivery.payload {
        Payload::Email(email) => {
            let built = build(leased.delivery.id, leased.delivery.created_at, email)
                .map_err(|fault| Box::new(Attempt::new(Outcome::Permanent, fault)))?;
            let (open, _) = divide(&built.receivers, &leased.answered);
            Ok(Message::Email {
                sender: built.sender.clone(),
                recipients: open
                    .iter()
                    .map(|receiver| receiver.mailbox.as_ref().unwrap_or(&receiver.address).clone())
                    .collect(),
                message: built.message,
            })
        }
        Payload::Webhook(webhook) => {
            let secrets = secrets.ok_or_else(|| Box::new(webhook::without_secrets_store()))?;
            let headers = webhook::headers(webhook, &secrets)?;
            let line = |(name, value): (&HeaderName, &HeaderValue)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            };
            let key = webhook.secret.as_ref().map(|name| webhook::signing_key(&secrets, name)).transpose()?;
            Ok(Message::Webhook {
                method: webhook.method.clone(),
                url: webhook.url.clone(),
                headers: headers.iter().map(line).collect(),
                body: webhook.body.clone().into_bytes(),
                signing_key: key.map(|(secret, _)| secret.clone()),
                secrets,
            })
        }
        Payload::Connector(custom) => Ok(Message::Json(custom.json.to_string())),
    }
}

/// Settles the reports of a connector. Returns a receipt for each report in the same order, and whether deliveries may be due
/// now because leases were given back or a breaker closed.
///
/// # Errors
/// Those of the database. It is safe to repeat the call: a lease is settled only once.
pub async fn take(pool: &PgPool, by: Holder, told: Vec<Told>, ids: &mut Ids) -> Result<(Vec<Receipt>, bool)> {
    let keys: Vec<_> = told.iter().map(|one| (one.delivery, one.token)).collect();
    let mut given: BTreeMap<_, Given> = deliveries::given(pool, by, &keys)
        .await?
        .into_iter()
        .map(|given| ((given.leased.delivery.id, given.leased.token), given))
        .collect();
    let known = secrets::of_all(pool, given.values().map(|given| &given.leased)).await;
    let mut receipts = vec![Receipt::Recorded; told.len()];
    let (mut returned, mut ended) = (Vec::new(), Vec::new());
    for (receipt, told) in receipts.iter_mut().zip(told) {
        let key = (told.delivery, told.token);
        *receipt = match (given.get_mut(&key), told.said) {
            (None, _) => Receipt::UnknownLease,
            (Some(given), _) if given.is_settled => Receipt::AlreadySettled,
            (Some(given), said) => {
                // A second report in the same call does not count.
                given.is_settled = true;
                match said {
                    Said::Returned if given.is_given_back => Receipt::AlreadySettled,
                    Said::Returned => {
                        returned.push(key);
                        Receipt::Recorded
                    }
                    Said::Attempt(attempt) => {
                        let leased = Arc::new(given.leased.clone());
                        let attempt = redacted(&leased, known.as_ref(), whole(&leased, attempt));
                        if given.is_given_back && !has_delivered(&attempt) {
                            Receipt::AlreadySettled
                        } else {
                            count(&leased, &attempt);
                            ended.push((leased, attempt));
                            Receipt::Recorded
                        }
                    }
                }
            }
        };
    }
    if !returned.is_empty() {
        deliveries::give_back(pool, &returned, Due::Later).await?;
    }
    let (mut has_freed, mut held) = (!returned.is_empty(), BTreeSet::new());
    while !ended.is_empty() {
        let (batch, later) = without_duplicates(ended);
        ended = later;
        let batch: Vec<_> =
            batch.into_iter().map(|(leased, attempt)| settlement(leased, attempt, ids)).collect();
        let settled = settle(pool, &batch).await?;
        has_freed |= settled.has_closed;
        held.extend(settled.held);
    }
    for (receipt, (delivery, _)) in receipts.iter_mut().zip(keys) {
        if *receipt == Receipt::Recorded && held.contains(&delivery) {
            *receipt = Receipt::Held;
        }
    }
    Ok((receipts, has_freed))
}

/// Returns whether an attempt reached a receiver; that is a fact, which a connector may also report for a lease that it returned.
fn has_delivered(attempt: &Attempt) -> bool {
    let outcomes = attempt.recipients.iter().map(|answer| answer.outcome).chain([attempt.outcome]);
    outcomes.into_iter().any(|outcome| outcome == Outcome::Delivered)
}

/// Redacts the secrets of a webhook in an attempt, in case the connector did not: the receiver may have sent them back.
fn redacted(leased: &Leased, known: Option<&Secrets>, attempt: Attempt) -> Attempt {
    match (&leased.delivery.payload, known) {
        (Payload::Webhook(webhook), Some(secrets)) => webhook::without_secrets(attempt, webhook, secrets),
        _ => attempt,
    }
}

/// Completes an attempt with the answers for all recipients of an email: those from earlier attempts, and those that the
/// connector reports for recipients that it had to try. Answers for other addresses are ignored.
fn whole(leased: &Leased, attempt: Attempt) -> Attempt {
    let Payload::Email(email) = &leased.delivery.payload else {
        return Attempt { recipients: Vec::new(), ..attempt };
    };
    let Ok(built) = build(leased.delivery.id, leased.delivery.created_at, email) else { return attempt };
    let (open, settled) = divide(&built.receivers, &leased.answered);
    let said = |receiver: &Receiver| {
        let is_of = |answer: &&RecipientAnswer| {
            answer.address == receiver.address || receiver.mailbox.as_ref() == Ok(&answer.address)
        };
        attempt.recipients.iter().find(is_of)
    };
    if !open.iter().any(|receiver| said(receiver).is_some()) && attempt.outcome == Outcome::Retry {
        return Attempt { recipients: settled, ..attempt };
    }
    // A recipient without an answer is tried again, unless the report has no answers at all and so applies to everybody.
    let answers = open.iter().map(|receiver| {
        let (outcome, answer) = match said(receiver) {
            Some(answer) => (answer.outcome, answer.answer.clone()),
            None if attempt.recipients.is_empty() => (attempt.outcome, attempt.detail.clone()),
            None => (Outcome::Retry, "was not asked".to_owned()),
        };
        RecipientAnswer { address: receiver.address.clone(), outcome, answer }
    });
    let concluded = conclude(settled.into_iter().chain(answers).collect());
    Attempt { duration: attempt.duration, wait: attempt.wait, health: attempt.health, ..concluded }
}

#[cfg(test)]
mod tests;
