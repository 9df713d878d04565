//! What a connector is handed and what it tells: the same deliveries, schedule and records as those of the binary's workers.

use super::email::build;
use super::settle::{count, settle, settlement, without_doubles};
use super::smtp::{conclude, divide};
use super::webhook::{self, Secrets};
use super::{Attempt, Leased, Outcome, secrets};
use crate::db::deliveries::{self, Given, Holder};
use crate::error::Result;
use crate::models::delivery::{Payload, RecipientAnswer};
use crate::models::secret::Secret;
use crate::models::{DeliveryId, Ids};
use reqwest::header::{HeaderName, HeaderValue};
use sqlx::PgPool;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A delivery in the hands of a connector.
#[derive(Debug, Clone)]
pub struct Handed {
    /// What was leased.
    pub leased: Arc<Leased>,
    /// What is to be sent.
    pub message: Message,
}

/// What a connector sends. It may hold secrets, so its form for logs is only what it is.
#[derive(Clone)]
pub enum Message {
    /// A mail.
    Email {
        /// The sender in the envelope.
        sender: String,
        /// The recipients in the envelope that have no final answer yet.
        recipients: Vec<String>,
        /// The whole message, with CRLF line ends.
        message: Vec<u8>,
    },
    /// A webhook, its secrets in the clear.
    Webhook {
        /// The method.
        method: String,
        /// Complete.
        url: String,
        /// Each one line.
        headers: Vec<(String, String)>,
        /// The body, byte for byte what is signed and sent.
        body: Vec<u8>,
        /// What signs it.
        signing_key: Option<Secret>,
        /// Every secret that is in it, by name.
        secrets: Secrets,
    },
    /// JSON, the same at every attempt.
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
    /// About how many bytes it takes to hand it over.
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

/// What a connector says of a lease.
#[derive(Debug, Clone)]
pub struct Told {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The number of the lease.
    pub token: i64,
    /// What it says.
    pub said: Said,
}

/// What came of a lease.
#[derive(Debug, Clone)]
pub enum Said {
    /// The attempt did not begin, or the connector broke it off as it ended.
    Returned,
    /// An attempt; of a mail with the answers of the recipients that were asked.
    Attempt(Attempt),
}

/// What became of what a connector said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Receipt {
    /// It is recorded.
    Recorded,
    /// The lease was settled before.
    AlreadySettled,
    /// The connector was never given this lease.
    UnknownLease,
    /// It cannot be recorded; the delivery is held until a person looks.
    Held,
}

/// The most bytes that are handed over at once; a single delivery may be larger. What is beyond is given back, and due at once:
/// an answer that the other side does not read would keep its leases for nothing.
pub const HANDED_MAX: usize = 3 * 1024 * 1024;

/// Makes what was leased ready to be handed over. What cannot be sent as it is, because a secret is missing perhaps, is settled
/// at once as an attempt that came to that.
///
/// # Errors
/// Those of the database; the leases run out by themselves.
pub async fn hand_over(pool: &PgPool, leased: Vec<Leased>, ids: &mut Ids) -> Result<Vec<Handed>> {
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
        deliveries::give_back(pool, &beyond).await?;
    }
    Ok(handed)
}

/// What there is to send, or the attempt that ended before it began.
fn message(leased: &Leased, secrets: Option<Secrets>) -> std::result::Result<Message, Box<Attempt>> {
    match &leased.delivery.payload {
        Payload::Email(email) => {
            let built = build(leased.delivery.id, leased.delivery.created_at, email)
                .map_err(|fault| Box::new(Attempt::new(Outcome::Permanent, fault)))?;
            let (open, _) = divide(built.envelope.to(), &leased.answered);
            Ok(Message::Email {
                sender: built.envelope.from().map(ToString::to_string).unwrap_or_default(),
                recipients: open.iter().map(ToString::to_string).collect(),
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

/// Takes what a connector says of its leases; answers one receipt each, in their order.
///
/// # Errors
/// Those of the database. The same call may be made again: a lease is settled once.
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
                // Said twice in one call, it counts once.
                given.is_settled = true;
                match said {
                    Said::Returned => returned.push(key),
                    Said::Attempt(attempt) => {
                        let leased = Arc::new(given.leased.clone());
                        let attempt = blotted(&leased, known.as_ref(), whole(&leased, attempt));
                        count(&leased, &attempt);
                        ended.push((leased, attempt));
                    }
                }
                Receipt::Recorded
            }
        };
    }
    if !returned.is_empty() {
        deliveries::give_back(pool, &returned).await?;
    }
    let (mut has_freed, mut held) = (!returned.is_empty(), BTreeSet::new());
    while !ended.is_empty() {
        let (batch, later) = without_doubles(ended);
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

/// The attempt of a webhook without the secrets that a receiver may have sent back, should the connector not have seen to that.
fn blotted(leased: &Leased, known: Option<&Secrets>, attempt: Attempt) -> Attempt {
    match (&leased.delivery.payload, known) {
        (Payload::Webhook(webhook), Some(secrets)) => webhook::without_secrets(attempt, webhook, secrets),
        _ => attempt,
    }
}

/// The attempt with everything that is known of a mail's recipients: what earlier attempts learned, and of those that were
/// asked now what the connector was told. Words of anybody else are none of ours.
fn whole(leased: &Leased, attempt: Attempt) -> Attempt {
    let Payload::Email(email) = &leased.delivery.payload else {
        return Attempt { recipients: Vec::new(), ..attempt };
    };
    let Ok(built) = build(leased.delivery.id, leased.delivery.created_at, email) else { return attempt };
    let (open, settled) = divide(built.envelope.to(), &leased.answered);
    let said = |address: &str| attempt.recipients.iter().find(|answer| answer.address == address);
    if !open.iter().any(|address| said(address.as_ref()).is_some()) && attempt.outcome == Outcome::Retry {
        return Attempt { recipients: settled, ..attempt };
    }
    // Who was asked and got no answer waits for the next attempt, unless the attempt was said to be that of all of them.
    let answers = open.iter().map(ToString::to_string).map(|address| match said(&address) {
        Some(answer) => answer.clone(),
        None if attempt.recipients.is_empty() => {
            RecipientAnswer { address, outcome: attempt.outcome, answer: attempt.detail.clone() }
        }
        None => RecipientAnswer { address, outcome: Outcome::Retry, answer: "was not asked".to_owned() },
    });
    let concluded = conclude(settled.into_iter().chain(answers).collect());
    Attempt { duration: attempt.duration, wait: attempt.wait, health: attempt.health, ..concluded }
}

#[cfg(test)]
#[path = "connector_tests.rs"]
mod tests;
