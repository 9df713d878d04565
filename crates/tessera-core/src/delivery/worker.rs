//! Workers: lease what is due, send it, settle what came of it. Losing the database or the process loses nothing.
//!
//! One task leases and keeps the leases alive, each attempt is a task of its own, and one task settles in batches. Whatever
//! is not settled when a process ends is leased again by another when its lease has run out.

use super::email::FileTransport;
use super::settle::{Ended, LEASE, count, settle, settlement, without_doubles};
use super::smtp::SmtpTransport;
use super::wakeup::{Listener, Wakeup};
use super::webhook::{self, Secrets, WebhookTransport};
use super::{Attempt, Leased, Outcome, secrets};
use crate::db::deliveries::{self, Holder, Room, Settlement};
use crate::failpoint::Failpoint;
use crate::models::delivery::{DeliveryKind, Payload};
use crate::models::{DeliveryId, Ids};
use sqlx::PgPool;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Webhooks that a process sends at a time.
const WEBHOOKS_MAX: usize = 64;
/// Of these, those to one endpoint: a receiver that hangs holds an eighth of the places and no more.
const WEBHOOKS_PER_ENDPOINT: usize = 8;
/// Mails that a process sends at a time.
const EMAILS_MAX: usize = 8;
/// How often the leases of running attempts are put off.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long the queue is left alone when nobody rings; up to a fifth more, so that processes do not ask together.
const POLL: Duration = Duration::from_millis(1_000);
/// Attempts settled by one statement.
const BATCH_MAX: usize = 100;
/// How long the first of a batch waits for others.
const BATCH_WAIT: Duration = Duration::from_millis(10);
/// Attempts that wait to be settled; when the database is away, workers stop here.
const UNSETTLED_MAX: usize = 200;
/// The first and the longest pause after a failure of the database; each is twice the one before.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a stop waits for attempts to end before it gives their leases back, if nobody says otherwise.
pub const DRAIN: Duration = Duration::from_secs(10);
/// How long a stop then tries to settle what has ended.
const SETTLE_DRAIN: Duration = Duration::from_secs(10);

/// Where mail goes.
pub enum MailTransport {
    /// To a mail server.
    Smtp(SmtpTransport),
    /// Into a folder.
    File(FileTransport),
}

/// How things leave.
pub struct Transports {
    /// Mail.
    pub mail: MailTransport,
    /// Webhooks.
    pub webhook: WebhookTransport,
}

impl Transports {
    /// Makes one attempt, with the secrets that it needs; none when they could not be read.
    async fn attempt(&self, leased: &Leased, secrets: Option<Secrets>, now: OffsetDateTime) -> Attempt {
        match (&leased.delivery.payload, &self.mail, secrets) {
            (Payload::Email(_), MailTransport::Smtp(smtp), _) => smtp.send(leased).await,
            (Payload::Email(_), MailTransport::File(file), _) => file.send(leased).await,
            (Payload::Webhook(_), _, Some(secrets)) => self.webhook.send(leased, &secrets, now).await,
            (Payload::Webhook(_), _, None) => webhook::without_secrets_store(),
            (Payload::Connector(custom), ..) => {
                Attempt::new(Outcome::Retry, format!("only a connector delivers {}", custom.connector))
            }
        }
    }
}

/// How long it is left alone this time, by a number that nobody else draws.
pub fn poll(seed: u64) -> Duration {
    POLL + POLL.mul_f64((seed % 200) as f64 / 1_000.0)
}

/// How many deliveries of a kind a process sends at a time, and how many of them to one endpoint.
fn places(kind: &DeliveryKind) -> (usize, usize) {
    match kind {
        DeliveryKind::Email => (EMAILS_MAX, EMAILS_MAX),
        DeliveryKind::Webhook => (WEBHOOKS_MAX, WEBHOOKS_PER_ENDPOINT),
        DeliveryKind::Connector(_) => (0, 0),
    }
}

/// What workers work with.
#[derive(Clone)]
pub struct Tools {
    /// The database, for writing.
    pub pool: PgPool,
    /// How things leave.
    pub transports: Arc<Transports>,
    /// What the workers deliver, of [`DeliveryKind::BUILTIN`]; the rest is left to connectors.
    pub kinds: Vec<DeliveryKind>,
    /// Rung after a commit that made deliveries.
    pub wakeup: Arc<Wakeup>,
    /// The time.
    pub clock: fn() -> OffsetDateTime,
    /// A number nobody else draws, for the ids of outcomes.
    pub seed: fn() -> u64,
    /// How long a stop waits for attempts to end; [`DRAIN`] is a good value.
    pub drain: Duration,
}

/// The workers of this process.
pub struct Workers {
    stop: CancellationToken,
    leaser: JoinHandle<()>,
    settler: JoinHandle<()>,
}

impl Workers {
    /// Starts them; must be called on a Tokio runtime.
    pub fn start(tools: Tools) -> Self {
        let stop = CancellationToken::new();
        let (ended, unsettled) = mpsc::channel(UNSETTLED_MAX);
        let settler = tokio::spawn(settle_all(tools.clone(), unsettled, stop.clone()));
        let (running, places) = (JoinSet::new(), HashMap::new());
        let wakeup = tools.wakeup.listen();
        let leaser =
            Leaser { tools, wakeup, ended, running, places, brought: 0, ended_since: 0, broken: None };
        Self { leaser: tokio::spawn(leaser.run(stop.clone())), settler, stop }
    }

    /// Stops leasing, lets running attempts end for as long as was said, gives back the leases of those that did not, and
    /// settles the others.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in [self.leaser, self.settler] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a delivery worker did not stop in order; its leases run out by themselves");
            }
        }
    }
}

/// A place that an attempt takes.
struct Place {
    leased: Arc<Leased>,
}

impl Place {
    fn kind(&self) -> DeliveryKind {
        self.leased.delivery.payload.kind()
    }
}

/// Leases deliveries, runs their attempts and keeps their leases alive.
struct Leaser {
    tools: Tools,
    wakeup: Listener,
    ended: mpsc::Sender<Ended>,
    running: JoinSet<()>,
    places: HashMap<Id, Place>,
    /// How many deliveries the last lease brought, and how many attempts ended since.
    brought: usize,
    ended_since: usize,
    /// The pause after the last failure of the database, while it lasts.
    broken: Option<Duration>,
}

impl Leaser {
    async fn run(mut self, stop: CancellationToken) {
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.lease().await;
        let mut poll = Instant::now() + self.pause();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = heartbeat.tick() => self.extend().await,
                Some(ended) = self.running.join_next_with_id() => {
                    self.vacate(ended).await;
                    // Whatever ended meanwhile, or each lease would find the one place that its end made free.
                    while let Some(ended) = self.running.try_join_next_with_id() {
                        self.vacate(ended).await;
                    }
                    if !self.is_worth_asking() {
                        continue;
                    }
                    self.lease().await;
                }
                () = self.wakeup.woken(), if self.broken.is_none() => self.lease().await,
                () = sleep_until(poll) => self.lease().await,
            }
            poll = Instant::now() + self.pause();
        }
        self.drain().await;
    }

    /// Leases as much as there is room for, and starts it.
    async fn lease(&mut self) {
        let Some(room) = self.room() else { return };
        // An endpoint with its share running, or a kind with all of its places taken, may have more waiting, which this lease
        // does not see.
        let share = WEBHOOKS_PER_ENDPOINT.min(EMAILS_MAX) as i64;
        let crowded = room.kinds.len() < self.tools.kinds.len()
            || room.running.iter().any(|(_, running)| *running >= share);
        self.ended_since = 0;
        match deliveries::lease(&self.tools.pool, Holder::Worker, &room, LEASE).await {
            Ok(leased) => {
                self.recovered();
                if !leased.is_empty() {
                    Failpoint::DeliveryLeased.pass();
                }
                self.brought = leased.len().max(usize::from(crowded));
                let all = secrets::of_all(&self.tools.pool, &leased).await;
                for leased in leased {
                    let secrets = secrets::share_of(all.as_ref(), &leased);
                    self.begin(leased, secrets);
                }
            }
            Err(error) => {
                self.brought = 0;
                self.fell_out("lease deliveries", &error);
            }
        }
    }

    /// Whether places that became free should be filled now: when the last lease brought something, there may be more, and
    /// asking once for every half of it keeps the places busy with few statements.
    fn is_worth_asking(&self) -> bool {
        self.broken.is_none() && self.brought > 0 && self.ended_since * 2 >= self.brought
    }

    /// What there is room for; `None` when every place is taken.
    fn room(&self) -> Option<Room> {
        let taken = |kind: &DeliveryKind| self.places.values().filter(|place| place.kind() == *kind).count();
        let free = |kind| i64::try_from(places(kind).0.saturating_sub(taken(kind))).unwrap_or(0);
        let kinds = self.tools.kinds.iter().map(|kind| (kind.clone(), free(kind)));
        let kinds: Vec<_> = kinds.filter(|(_, places)| *places > 0).collect();
        if kinds.is_empty() {
            return None;
        }
        let mut running: HashMap<String, i64> = HashMap::new();
        for place in self.places.values() {
            *running.entry(place.leased.endpoint.clone()).or_default() += 1;
        }
        Some(Room {
            kinds,
            per_endpoint: self.tools.kinds.iter().map(|kind| (kind.clone(), places(kind).1 as i64)).collect(),
            running: running.into_iter().collect(),
        })
    }

    fn begin(&mut self, leased: Leased, secrets: Option<Secrets>) {
        let (tools, ended) = (self.tools.clone(), self.ended.clone());
        let leased = Arc::new(leased);
        let job = Arc::clone(&leased);
        let task = self.running.spawn(async move {
            let attempt = tools.transports.attempt(&job, secrets, (tools.clock)()).await;
            count(&job, &attempt);
            Failpoint::DeliveryAttempted.pass();
            // Fails only when the settler is gone, and then the lease runs out.
            let _ = ended.send((job, attempt)).await;
        });
        self.places.insert(task.id(), Place { leased });
    }

    async fn vacate(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let place = self.places.remove(&id);
        self.ended_since += 1;
        if let (Some(place), Err(error)) = (place, ended)
            && error.is_panic()
        {
            tracing::error!(%error, delivery = %place.leased.delivery.id, "an attempt broke inside Tessera");
            let attempt = Attempt::new(Outcome::Retry, "the attempt broke inside Tessera; the log says more");
            let _ = self.ended.send((place.leased, attempt)).await;
        }
    }

    fn held(&self) -> Vec<(DeliveryId, i64)> {
        self.places.values().map(|place| (place.leased.delivery.id, place.leased.token)).collect()
    }

    async fn extend(&mut self) {
        if self.places.is_empty() {
            return;
        }
        match deliveries::extend(&self.tools.pool, Holder::Worker, &self.held(), LEASE).await {
            Ok(_) => self.recovered(),
            Err(error) => self.fell_out("keep the leases of deliveries", &error),
        }
    }

    async fn drain(&mut self) {
        let until = Instant::now() + self.tools.drain;
        while let Ok(Some(ended)) = tokio::time::timeout_at(until, self.running.join_next_with_id()).await {
            self.vacate(ended).await;
        }
        self.running.abort_all();
        while let Some(ended) = self.running.join_next_with_id().await {
            // Only what was cut off keeps its place; what ended meanwhile is settled.
            if !ended.as_ref().is_err_and(JoinError::is_cancelled) {
                self.vacate(ended).await;
            }
        }
        let held = self.held();
        if held.is_empty() {
            return;
        }
        Failpoint::LeasesHeld.pass();
        tracing::info!(
            deliveries = held.len(),
            "giving back deliveries whose receivers did not answer in time"
        );
        if let Err(error) = deliveries::give_back(&self.tools.pool, &held).await {
            tracing::warn!(%error, "the leases could not be given back; they run out by themselves");
        }
    }

    /// How long until the queue is looked at again.
    fn pause(&self) -> Duration {
        self.broken.unwrap_or_else(|| poll((self.tools.seed)()))
    }

    fn recovered(&mut self) {
        if self.broken.take().is_some() {
            tracing::info!("deliveries go on: the database answers again");
        }
    }

    /// Notes a failure of the database: logged once, until it answers again.
    fn fell_out(&mut self, doing: &str, error: &crate::Error) {
        let next = match self.broken {
            None => {
                tracing::error!(error = error as &dyn StdError, "cannot {doing}; trying again");
                BACKOFF.0
            }
            Some(pause) => (pause * 2).min(BACKOFF.1),
        };
        self.broken = Some(next);
    }
}

/// Settles attempts until all workers are gone and nothing is left.
async fn settle_all(tools: Tools, mut unsettled: mpsc::Receiver<Ended>, stop: CancellationToken) {
    let mut next = Vec::new();
    loop {
        if next.is_empty() {
            match unsettled.recv().await {
                Some(first) => next.push(first),
                None => return,
            }
            gather(&mut next, &mut unsettled).await;
        }
        let mut ids = Ids::new((tools.clock)(), (tools.seed)());
        let (batch, later) = without_doubles(std::mem::take(&mut next));
        next = later;
        let batch: Vec<Settlement> =
            batch.into_iter().map(|(leased, attempt)| settlement(leased, attempt, &mut ids)).collect();
        Failpoint::DeliverySettling.pass();
        if !settle_until_done(&tools, &batch, &stop).await {
            tracing::error!(
                deliveries = batch.len() + next.len(),
                "the database does not answer, so attempts stay unrecorded; the deliveries will be made again"
            );
            return;
        }
        Failpoint::DeliverySettled.pass();
    }
}

/// Takes what ends within [`BATCH_WAIT`], up to [`BATCH_MAX`].
async fn gather(batch: &mut Vec<Ended>, unsettled: &mut mpsc::Receiver<Ended>) {
    let until = Instant::now() + BATCH_WAIT;
    while batch.len() < BATCH_MAX {
        match tokio::time::timeout_at(until, unsettled.recv()).await {
            Ok(Some(ended)) => batch.push(ended),
            Ok(None) | Err(_) => return,
        }
    }
}

/// Settles a batch, however long the database takes to come back; while stopping, for [`SETTLE_DRAIN`]. Answers whether it
/// is done.
async fn settle_until_done(tools: &Tools, batch: &[Settlement], stop: &CancellationToken) -> bool {
    let done = persist(&tools.pool, batch);
    tokio::pin!(done);
    tokio::select! {
        closed = &mut done => {
            if closed {
                // What was held for this endpoint may go.
                tools.wakeup.wake();
            }
            return true;
        }
        () = stop.cancelled() => {}
    }
    timeout(tools.drain + SETTLE_DRAIN, done).await.is_ok()
}

/// Settles a batch as soon as the database takes it. Answers whether a breaker closed.
async fn persist(pool: &PgPool, batch: &[Settlement]) -> bool {
    let mut pause = Duration::ZERO;
    loop {
        match settle(pool, batch).await {
            Ok(settled) => return settled.has_closed,
            Err(error) if pause.is_zero() => {
                tracing::error!(error = &error as &dyn StdError, "cannot settle deliveries; trying again");
            }
            Err(_) => {}
        }
        pause = (pause * 2).clamp(BACKOFF.0, BACKOFF.1);
        sleep(pause).await;
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
