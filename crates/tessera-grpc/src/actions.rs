//! The calls of connectors: lease, extend, settle. Limits of the contract are checked here, by field; rights are checked in the
//! core.

use crate::convert::{given, span, timestamp};
use crate::status::status;
use crate::v1::actions_service_server::ActionsService;
use crate::{MESSAGE_MAX, Services, connector, v1};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tessera_core::delivery::connector::{Handed, Message, Receipt, Said, Told, Unsent};
use tessera_core::delivery::settle::LEASE;
use tessera_core::desk::connectors::{Room, TicketKey, WAIT_MAX};
use tessera_core::error::{Error, Fault, Result};
use tessera_core::models::delivery::{Attempt, AttemptOutcome, Health, RecipientAnswer, excerpt, sentence};
use tessera_core::models::text::quote;
use tessera_core::models::{DeliveryId, DeliveryKind};
use tonic::{Request, Response, Status};
use uuid::Uuid;
use v1::delivery::Payload;

/// The time that a lease waits by default.
const WAIT_DEFAULT: Duration = Duration::from_secs(20);
/// The number of kinds in one lease.
const ROOMS: RangeInclusive<usize> = 1..=16;
/// The number of free slots for one kind.
const PLACES: RangeInclusive<i32> = 1..=100;
/// The number of deliveries to one endpoint; 0 = unlimited.
const PER_ENDPOINT: RangeInclusive<i32> = 0..=1_000;
/// The number of endpoints with running deliveries.
const BUSY_MAX: usize = 1_000;
/// The number of deliveries running at one endpoint.
const RUNNING: RangeInclusive<i32> = 1..=1_000;
/// The number of leases in one call of Extend.
const EXTENDED: RangeInclusive<usize> = 1..=1_000;
/// The number of attempts in one call of Settle.
const SETTLED: RangeInclusive<usize> = 1..=100;
/// The number of recipients of one email.
const RECIPIENTS_MAX: usize = 1_000;
/// The size of a delivery in bytes; the rest of [`MESSAGE_MAX`] is for the message around it.
const DELIVERY_MAX: usize = MESSAGE_MAX - 64 * 1024;

#[tonic::async_trait]
impl ActionsService for Services {
    async fn lease(&self, request: Request<v1::LeaseRequest>) -> Result<Response<v1::LeaseResponse>, Status> {
        let (response, unsent) = self.hand_out(request).await.map_err(status)?;
        let mut response = Response::new(response);
        // The body of the response keeps it until the connector has the leases.
        response.extensions_mut().insert(Arc::new(unsent));
        Ok(response)
    }

    async fn extend(
        &self,
        request: Request<v1::ExtendRequest>,
    ) -> Result<Response<v1::ExtendResponse>, Status> {
        self.put_off(request).await.map(Response::new).map_err(status)
    }

    async fn settle(
        &self,
        request: Request<v1::SettleRequest>,
    ) -> Result<Response<v1::SettleResponse>, Status> {
        self.take(request).await.map(Response::new).map_err(status)
    }
}

impl Services {
    async fn hand_out(&self, request: Request<v1::LeaseRequest>) -> Result<(v1::LeaseResponse, Unsent)> {
        let connector = connector(&request)?;
        let (room, wait) = room(request.into_inner())?;
        let (handed, unsent) = self.tessera.lease(&connector, &room, wait, &self.stop).await?;
        let tickets = self.tessera.tickets_of(&handed).await?;
        let (mut deliveries, mut given_up) = (Vec::with_capacity(handed.len()), Vec::new());
        for handed in handed {
            let (id, token) = (handed.leased.delivery.id, handed.leased.token);
            let made = delivery(handed, &tickets);
            match too_large(made.encoded_len()) {
                None => deliveries.push(made),
                Some(attempt) => {
                    given_up.push(Told { delivery: id, token, said: Said::Attempt(attempt) });
                }
            }
        }
        if !given_up.is_empty() {
            self.tessera.settle(&connector, given_up).await?;
        }
        let lease = prost_types::Duration::try_from(LEASE).ok();
        Ok((v1::LeaseResponse { deliveries, lease }, unsent))
    }

    async fn put_off(&self, request: Request<v1::ExtendRequest>) -> Result<v1::ExtendResponse> {
        let connector = connector(&request)?;
        let keys = &request.get_ref().leases;
        let mut faults = Vec::new();
        counted("leases", keys.len(), EXTENDED, &mut faults);
        let held = keys.iter().enumerate().filter_map(|(at, key)| {
            let id = delivery_id(&key.delivery_id, || format!("leases[{at}].delivery_id"), &mut faults)?;
            Some((id, key.lease))
        });
        let held: Vec<_> = held.collect();
        refuse(faults)?;
        let lost = self.tessera.extend(&connector, &held).await?;
        let lost = lost.into_iter().map(|(id, lease)| v1::LeaseKey { delivery_id: id.to_string(), lease });
        Ok(v1::ExtendResponse { lost: lost.collect() })
    }

    async fn take(&self, request: Request<v1::SettleRequest>) -> Result<v1::SettleResponse> {
        let connector = connector(&request)?;
        let settlements = request.into_inner().settlements;
        let mut faults = Vec::new();
        counted("settlements", settlements.len(), SETTLED, &mut faults);
        let told = settlements.into_iter().enumerate();
        let told: Vec<_> = told.filter_map(|(at, one)| told_of(at, one, &mut faults)).collect();
        refuse(faults)?;
        let receipts = self.tessera.settle(&connector, told).await?;
        let receipts = receipts.into_iter().map(|receipt| match receipt {
            Receipt::Recorded => v1::Receipt::Recorded,
            Receipt::AlreadySettled => v1::Receipt::AlreadySettled,
            Receipt::UnknownLease => v1::Receipt::UnknownLease,
            Receipt::Held => v1::Receipt::Held,
        });
        Ok(v1::SettleResponse { receipts: receipts.map(Into::into).collect() })
    }
}

/// The connector's free slots, and the time to wait.
fn room(request: v1::LeaseRequest) -> Result<(Room, Duration)> {
    let (mut room, mut faults, mut seen) = (Room::default(), Vec::new(), BTreeSet::new());
    let most = request.busy.iter().map(|busy| busy.running).max().unwrap_or_default();
    counted("rooms", request.rooms.len(), ROOMS, &mut faults);
    for (at, v1::Room { kind, places, per_endpoint }) in request.rooms.into_iter().enumerate() {
        within(&format!("rooms[{at}].places"), places, PLACES, &mut faults);
        within(&format!("rooms[{at}].per_endpoint"), per_endpoint, PER_ENDPOINT, &mut faults);
        let field = format!("rooms[{at}].kind");
        match DeliveryKind::parse(&kind) {
            None => {
                let message = format!("{} is not email, webhook or the kind of a connector", quote(&kind));
                faults.push(Fault::new(field, message));
            }
            Some(kind) if !seen.insert(kind.clone()) => {
                faults.push(Fault::new(field, format!("{kind} occurs twice; remove one")));
            }
            Some(kind) => {
                // Without a limit, an endpoint can take all free slots besides its running deliveries.
                let limit = if per_endpoint > 0 { per_endpoint } else { places.saturating_add(most) };
                room.per_endpoint.push((kind.clone(), limit.into()));
                room.kinds.push((kind, places.into()));
            }
        }
    }
    counted("busy", request.busy.len(), 0..=BUSY_MAX, &mut faults);
    for (at, v1::Busy { endpoint, running }) in request.busy.into_iter().enumerate() {
        within(&format!("busy[{at}].running"), running, RUNNING, &mut faults);
        room.running.push((endpoint, running.into()));
    }
    let wait = request.wait.map_or(Ok(WAIT_DEFAULT), |wait| span(wait, "wait"));
    let wait = wait.and_then(|wait| {
        let too_long = || Fault::new("wait", format!("is longer than {} s", WAIT_MAX.as_secs()));
        Some(wait).filter(|wait| *wait <= WAIT_MAX).ok_or_else(too_long)
    });
    let wait = wait.map_err(|fault| faults.push(fault)).unwrap_or_default();
    refuse(faults).map(|()| (room, wait))
}

/// A delivery as a connector receives it.
fn delivery(handed: Handed, tickets: &BTreeMap<Uuid, TicketKey>) -> v1::Delivery {
    let Handed { leased, message } = handed;
    let made = &leased.delivery;
    let ticket = tickets.get(&made.ticket.0);
    v1::Delivery {
        id: made.id.to_string(),
        lease: leased.token,
        kind: made.payload.kind().to_string(),
        endpoint: leased.endpoint.clone(),
        attempt: leased.attempt,
        created_at: Some(timestamp(made.created_at)),
        ticket: Some(v1::TicketKey {
            id: made.ticket.to_string(),
            number: ticket.map_or(0, |ticket| ticket.number),
            url: ticket.map(|ticket| ticket.url.clone()).unwrap_or_default(),
        }),
        transaction_id: made.transaction.to_string(),
        depth: i32::try_from(made.payload.depth()).unwrap_or(i32::MAX),
        payload: Some(payload(message)),
    }
}

fn payload(message: Message) -> Payload {
    match message {
        Message::Email { sender, recipients, message } => {
            Payload::Email(v1::EmailMessage { sender, recipients, message })
        }
        Message::Webhook { method, url, headers, body, signing_key, secrets } => {
            let header = |(name, value)| v1::Header { name, value };
            let clear = |(name, secret): (String, tessera_core::models::secret::Secret)| {
                (name, secret.expose().to_owned())
            };
            Payload::Webhook(v1::WebhookRequest {
                method,
                url,
                headers: headers.into_iter().map(header).collect(),
                body,
                signing_key: signing_key.map(|key| key.expose().to_owned()).unwrap_or_default(),
                secrets: secrets.into_iter().map(clear).collect(),
            })
        }
        Message::Json(json) => Payload::Json(json),
    }
}

/// The final failure of a delivery that is too large for a response.
fn too_large(bytes: usize) -> Option<Attempt> {
    let detail = || format!("It has {bytes} bytes; at most {DELIVERY_MAX} can be sent to a connector.");
    (bytes > DELIVERY_MAX).then(|| Attempt::new(AttemptOutcome::Permanent, detail()))
}

/// The settlement of one lease.
fn told_of(at: usize, settlement: v1::Settlement, faults: &mut Vec<Fault>) -> Option<Told> {
    let field = |name: &str| format!("settlements[{at}].{name}");
    let delivery = delivery_id(&settlement.delivery_id, || field("delivery_id"), faults);
    let token = settlement.lease;
    if settlement.outcome() == v1::Outcome::Returned {
        return Some(Told { delivery: delivery?, token, said: Said::Returned });
    }
    let overall = match outcome(settlement.outcome()) {
        // It follows from the outcomes of the recipients.
        None if !settlement.recipients.is_empty() => Some(AttemptOutcome::Retry),
        None => {
            let message = "is missing or unknown; send OUTCOME_DELIVERED, OUTCOME_RETRY, OUTCOME_PERMANENT or OUTCOME_RETURNED";
            faults.push(Fault::new(field("outcome"), message));
            None
        }
        known => known,
    };
    counted(&field("recipients"), settlement.recipients.len(), 0..=RECIPIENTS_MAX, faults);
    let health = settlement.health();
    let mut recipients = Vec::with_capacity(settlement.recipients.len());
    for (index, answer) in settlement.recipients.into_iter().enumerate() {
        match outcome(answer.outcome()) {
            Some(outcome) => recipients.push(RecipientAnswer {
                address: answer.address,
                outcome,
                answer: sentence(&answer.answer),
            }),
            None => {
                let message = "must be OUTCOME_DELIVERED, OUTCOME_RETRY or OUTCOME_PERMANENT";
                faults.push(Fault::new(field(&format!("recipients[{index}].outcome")), message));
            }
        }
    }
    let mut spans = |value: Option<prost_types::Duration>, name: &str| {
        let read = value.map(|value| span(value, &field(name))).transpose();
        read.map_err(|fault| faults.push(fault)).ok().flatten().unwrap_or_default()
    };
    let (wait, duration) =
        (spans(settlement.retry_after, "retry_after"), spans(settlement.duration, "duration"));
    let attempt = Attempt::new(overall?, settlement.detail);
    let attempt = Attempt {
        status_code: Some(settlement.status_code).filter(|code| *code != 0),
        response: given(excerpt(&settlement.response)),
        recipients,
        duration,
        health: match health {
            v1::Health::Works => Health::Works,
            v1::Health::Fails => Health::Fails,
            v1::Health::Unspecified => Health::Unknown,
        },
        wait,
        ..attempt
    };
    Some(Told { delivery: delivery?, token, said: Said::Attempt(attempt) })
}

fn outcome(outcome: v1::Outcome) -> Option<AttemptOutcome> {
    match outcome {
        v1::Outcome::Delivered => Some(AttemptOutcome::Delivered),
        v1::Outcome::Retry => Some(AttemptOutcome::Retry),
        v1::Outcome::Permanent => Some(AttemptOutcome::Permanent),
        v1::Outcome::Unspecified | v1::Outcome::Returned => None,
    }
}

fn delivery_id(word: &str, field: impl Fn() -> String, faults: &mut Vec<Fault>) -> Option<DeliveryId> {
    let id = Uuid::parse_str(word).ok().map(DeliveryId);
    if id.is_none() {
        faults.push(Fault::new(
            field(),
            format!("{} is not the id of a delivery, which is a UUID", quote(word)),
        ));
    }
    id
}

/// Adds a fault if a number is outside its limits.
fn within(field: &str, number: i32, limits: RangeInclusive<i32>, faults: &mut Vec<Fault>) {
    if !limits.contains(&number) {
        let (least, most) = limits.into_inner();
        faults.push(Fault::new(field, format!("is {number}; it must be {least} to {most}")));
    }
}

/// Adds a fault if a list is too long or too short.
fn counted(field: &str, count: usize, limits: RangeInclusive<usize>, faults: &mut Vec<Fault>) {
    if !limits.contains(&count) {
        let (least, most) = limits.into_inner();
        faults.push(Fault::new(field, format!("has {count} items; it must have {least} to {most}")));
    }
}

fn refuse(faults: Vec<Fault>) -> Result<()> {
    if faults.is_empty() { Ok(()) } else { Err(Error::invalid(faults)) }
}
