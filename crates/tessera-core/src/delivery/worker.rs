//! Workers: lease due deliveries, send them, and settle the results. A failure of the database or the process loses nothing.
//!
//! One task leases and extends the leases, each attempt is its own task, and one task settles in batches. A delivery that is not
//! settled when a process ends is leased again by another one after its lease has expired.

use super::email::FileTransport;
use super::settle::{Ended, LEASE, count, settle, settlement, without_duplicates};
use super::smtp::SmtpTransport;
use super::wakeup::{Listener, Wakeup};
use super::webhook::{self, Secrets, WebhookTransport};
use super::{Attempt, Leased, Outcome, secrets};
use crate::db::deliveries::{self, Due, Holder, Room, Settlement};
use crate::failpoint::Failpoint;
use crate::models::delivery::{DeliveryKind, Payload};
use crate::models::{DeliveryId, Ids};
use sqlx::PgPool;
use std::collections::{BTreeSet, HashMap};
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// The maximum number of concurrent webhooks of a process.
const WEBHOOKS_MAX: usize = 64;
/// The maximum number of concurrent webhooks to one endpoint: a receiver that hangs occupies at most an eighth of the slots.
const WEBHOOKS_PER_ENDPOINT: usize = 8;
/// The maximum number of concurrent emails of a process.
const EMAILS_MAX: usize = 8;
/// The interval at which the leases of running attempts are extended.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The polling interval without wakeups; up to a fifth is added at random, so that processes do not poll at the same time.
const POLL: Duration = Duration::from_millis(1_000);
/// The maximum number of attempts settled by one statement.
const BATCH_MAX: usize = 100;
/// The time for which the first attempt of a batch waits for others.
const BATCH_WAIT: Duration = Duration::from_millis(10);
/// The maximum number of ended attempts that wait to be settled; without a database, workers stop here.
const UNSETTLED_MAX: usize = 200;
/// The first and the longest delay after a database error; the delay doubles each time.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The default time for which a shutdown waits for running attempts before it gives their leases back.
pub const DRAIN: Duration = Duration::from_secs(10);
/// The additional time for which a shutdown tries to settle attempts that have ended.
const SETTLE_DRAIN: Duration = Duration::from_secs(10);

/// The transport for emails.
pub enum MailTransport {
    /// Sends to a mail server.
    Smtp(SmtpTransport),
    /// Writes to a folder.
    File(FileTransport),
}

/// The transports of a process.
pub struct Transports {
    /// For emails.
    pub mail: MailTransport,
    /// For webhooks.
    pub webhook: WebhookTransport,
}

impl Transports {
    /// Makes one attempt with the secrets that it needs; `None` if they could not be read.
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

/// Returns the polling interval for a random number.
pub fn poll(seed: u64) -> Duration {
    POLL + POLL.mul_f64((seed % 200) as f64 / 1_000.0)
}

/// Returns the maximum number of concurrent deliveries of a kind, and of those to one endpoint.
fn limits(kind: &DeliveryKind) -> (usize, usize) {
    match kind {
        DeliveryKind::Email => (EMAILS_MAX, EMAILS_MAX),
        DeliveryKind::Webhook => (WEBHOOKS_MAX, WEBHOOKS_PER_ENDPOINT),
        DeliveryKind::Connector(_) => (0, 0),
    }
}

/// The resources of workers.
#[derive(Clone)]
pub struct Tools {
    /// The pool for writing.
    pub pool: PgPool,
    /// The transports.
    pub transports: Arc<Transports>,
    /// The kinds of [`DeliveryKind::BUILTIN`] that the workers deliver; connectors deliver all others.
    pub kinds: Vec<DeliveryKind>,
    /// Wakes the workers after a commit that created deliveries.
    pub wakeup: Arc<Wakeup>,
    /// Returns the current time.
    pub clock: fn() -> OffsetDateTime,
    /// Returns a random number for the ids of transactions.
    pub seed: fn() -> u64,
    /// The time for which a shutdown waits for running attempts; [`DRAIN`] is the default.
    pub drain: Duration,
}

/// The workers of this process.
pub struct Workers {
    stop: CancellationToken,
    leaser: JoinHandle<()>,
    settler: JoinHandle<()>,
}

impl Workers {
    /// Starts the workers; must be called on a Tokio runtime.
    pub fn start(tools: Tools) -> Self {
        let stop = CancellationToken::new();
        let (ended, unsettled) = mpsc::channel(UNSETTLED_MAX);
        let leases = Leases::default();
        let settler = tokio::spawn(settle_all(tools.clone(), leases.clone(), unsettled, stop.clone()));
        let (running, slots) = (JoinSet::new(), HashMap::new());
        let wakeup = tools.wakeup.listen();
        let leaser =
            Leaser { tools, wakeup, leases, ended, running, slots, brought: 0, ended_since: 0, broken: None };
        Self { leaser: tokio::spawn(leaser.run(stop.clone())), settler, stop }
    }

    /// Stops leasing, waits for running attempts as configured, gives back the leases of those that did not end, and settles the
    /// others.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in [self.leaser, self.settler] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a delivery worker stopped with an error; its leases expire automatically");
            }
        }
    }
}

/// The leases to extend: those of running attempts, and of ended ones until they are settled. Otherwise a delivery whose
/// settlement is retried for longer than a lease would be sent again.
#[derive(Debug, Clone, Default)]
struct Leases(Arc<Mutex<BTreeSet<(DeliveryId, i64)>>>);

impl Leases {
    fn begin(&self, leased: &Leased) {
        self.locked().insert((leased.delivery.id, leased.token));
    }

    fn end(&self, settled: &[Settlement]) {
        let mut leases = self.locked();
        settled.iter().for_each(|one| {
            leases.remove(&(one.leased.delivery.id, one.leased.token));
        });
    }

    fn all(&self) -> Vec<(DeliveryId, i64)> {
        self.locked().iter().copied().collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeSet<(DeliveryId, i64)>> {
        // Nothing that holds the lock can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that a running attempt occupies.
struct Slot {
    leased: Arc<Leased>,
}

impl Slot {
    fn kind(&self) -> DeliveryKind {
        self.leased.delivery.payload.kind()
    }
}

/// Leases deliveries, runs their attempts and keeps their leases alive.
struct Leaser {
    tools: Tools,
    wakeup: Listener,
    leases: Leases,
    ended: mpsc::Sender<Ended>,
    running: JoinSet<()>,
    slots: HashMap<Id, Slot>,
    /// The number of deliveries in the last lease, and of attempts that have ended since.
    brought: usize,
    ended_since: usize,
    /// The current delay after a database error, until the next success.
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
                    // Collect all ended attempts, or each lease would find only one free slot.
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

    /// Leases as many deliveries as there are free slots, and starts their attempts.
    async fn lease(&mut self) {
        let Some(room) = self.room() else { return };
        // An endpoint at its limit, or a kind without free slots, may have more waiting deliveries, which this lease does not
        // return.
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

    /// Returns true if the free slots should be filled now. If the last lease returned something, there may be more; leasing once
    /// half of it has ended keeps the slots busy with few statements.
    fn is_worth_asking(&self) -> bool {
        self.broken.is_none() && self.brought > 0 && self.ended_since * 2 >= self.brought
    }

    /// Returns the free capacity; `None` if no slot is free.
    fn room(&self) -> Option<Room> {
        let taken = |kind: &DeliveryKind| self.slots.values().filter(|slot| slot.kind() == *kind).count();
        let free = |kind| i64::try_from(limits(kind).0.saturating_sub(taken(kind))).unwrap_or(0);
        let kinds = self.tools.kinds.iter().map(|kind| (kind.clone(), free(kind)));
        let kinds: Vec<_> = kinds.filter(|(_, free)| *free > 0).collect();
        if kinds.is_empty() {
            return None;
        }
        let mut running: HashMap<String, i64> = HashMap::new();
        for slot in self.slots.values() {
            *running.entry(slot.leased.endpoint.clone()).or_default() += 1;
        }
        Some(Room {
            kinds,
            per_endpoint: self.tools.kinds.iter().map(|kind| (kind.clone(), limits(kind).1 as i64)).collect(),
            running: running.into_iter().collect(),
        })
    }

    fn begin(&mut self, leased: Leased, secrets: Option<Secrets>) {
        let (tools, ended) = (self.tools.clone(), self.ended.clone());
        self.leases.begin(&leased);
        let leased = Arc::new(leased);
        let job = Arc::clone(&leased);
        let task = self.running.spawn(async move {
            let attempt = tools.transports.attempt(&job, secrets, (tools.clock)()).await;
            count(&job, &attempt);
            Failpoint::DeliveryAttempted.pass();
            // Fails only if the settler is gone, and then the lease expires.
            let _ = ended.send((job, attempt)).await;
        });
        self.slots.insert(task.id(), Slot { leased });
    }

    async fn vacate(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let slot = self.slots.remove(&id);
        self.ended_since += 1;
        if let (Some(slot), Err(error)) = (slot, ended)
            && error.is_panic()
        {
            tracing::error!(%error, delivery = %slot.leased.delivery.id, "an attempt panicked");
            let attempt = Attempt::new(
                Outcome::Retry,
                "the attempt failed because of an internal error; see the server's log",
            );
            let _ = self.ended.send((slot.leased, attempt)).await;
        }
    }

    fn held(&self) -> Vec<(DeliveryId, i64)> {
        self.slots.values().map(|slot| (slot.leased.delivery.id, slot.leased.token)).collect()
    }

    async fn extend(&mut self) {
        let held = self.leases.all();
        if held.is_empty() {
            return;
        }
        match deliveries::extend(&self.tools.pool, Holder::Worker, &held, LEASE).await {
            Ok(_) => self.recovered(),
            Err(error) => self.fell_out("extend the leases of deliveries", &error),
        }
    }

    async fn drain(&mut self) {
        let until = Instant::now() + self.tools.drain;
        while let Ok(Some(ended)) = tokio::time::timeout_at(until, self.running.join_next_with_id()).await {
            self.vacate(ended).await;
        }
        self.running.abort_all();
        while let Some(ended) = self.running.join_next_with_id().await {
            // Only cancelled attempts keep their slot; those that ended meanwhile are settled.
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
            "giving back the leases of deliveries whose receivers did not respond in time"
        );
        if let Err(error) = deliveries::give_back(&self.tools.pool, &held, Due::Now).await {
            tracing::warn!(%error, "the leases could not be given back; they expire automatically");
        }
    }

    /// Returns the time until the next poll.
    fn pause(&self) -> Duration {
        self.broken.unwrap_or_else(|| poll((self.tools.seed)()))
    }

    fn recovered(&mut self) {
        if self.broken.take().is_some() {
            tracing::info!("deliveries continue: the database responds again");
        }
    }

    /// Handles a database error, which is logged only once until the database responds again.
    fn fell_out(&mut self, doing: &str, error: &crate::Error) {
        let next = match self.broken {
            None => {
                tracing::error!(error = error as &dyn StdError, "cannot {doing}; retrying");
                BACKOFF.0
            }
            Some(pause) => (pause * 2).min(BACKOFF.1),
        };
        self.broken = Some(next);
    }
}

/// Settles attempts until the leaser has ended and none is left.
async fn settle_all(
    tools: Tools,
    leases: Leases,
    mut unsettled: mpsc::Receiver<Ended>,
    stop: CancellationToken,
) {
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
        let (batch, later) = without_duplicates(std::mem::take(&mut next));
        next = later;
        let batch: Vec<Settlement> =
            batch.into_iter().map(|(leased, attempt)| settlement(leased, attempt, &mut ids)).collect();
        Failpoint::DeliverySettling.pass();
        if !settle_until_done(&tools, &batch, &stop).await {
            tracing::error!(
                deliveries = batch.len() + next.len(),
                "the database does not respond, so attempts are not recorded; their deliveries will be attempted again"
            );
            return;
        }
        leases.end(&batch);
        Failpoint::DeliverySettled.pass();
    }
}

/// Collects attempts that end within [`BATCH_WAIT`], up to [`BATCH_MAX`].
async fn gather(batch: &mut Vec<Ended>, unsettled: &mut mpsc::Receiver<Ended>) {
    let until = Instant::now() + BATCH_WAIT;
    while batch.len() < BATCH_MAX {
        match tokio::time::timeout_at(until, unsettled.recv()).await {
            Ok(Some(ended)) => batch.push(ended),
            Ok(None) | Err(_) => return,
        }
    }
}

/// Settles a batch, and retries until the database responds; during a shutdown only until [`SETTLE_DRAIN`]. Returns true if the
/// batch is settled.
async fn settle_until_done(tools: &Tools, batch: &[Settlement], stop: &CancellationToken) -> bool {
    let done = persist(&tools.pool, batch);
    tokio::pin!(done);
    tokio::select! {
        closed = &mut done => {
            if closed {
                // Deliveries to its endpoint may be due now.
                tools.wakeup.wake();
            }
            return true;
        }
        () = stop.cancelled() => {}
    }
    timeout(tools.drain + SETTLE_DRAIN, done).await.is_ok()
}

/// Retries until the database accepts the batch. Returns true if a breaker closed.
async fn persist(pool: &PgPool, batch: &[Settlement]) -> bool {
    let mut pause = Duration::ZERO;
    loop {
        match settle(pool, batch).await {
            Ok(settled) => return settled.has_closed,
            Err(error) if pause.is_zero() => {
                tracing::error!(
                    error = &error as &dyn StdError,
                    "cannot record the outcomes of deliveries; retrying"
                );
            }
            Err(_) => {}
        }
        pause = (pause * 2).clamp(BACKOFF.0, BACKOFF.1);
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests;
