//! Changes to tickets: load, plan, and write exactly what was planned. A preview ends with the plan.

mod committed;
mod planner;

#[cfg(test)]
mod tests;

pub use committed::{AddedTransaction, ChangeSummary, Committed, FiredScrip, QueuedDelivery, ScripAtVersion};
pub(super) use planner::Planner;
pub use planner::Prepared;

use super::{Caller, Tessera, clock, metrics};
use crate::db::error;
use crate::db::plans::{self, Key, Written};
use crate::db::tickets::{self, Load, Loaded, Replay, TicketRef};
use crate::error::{Code, Error, Result};
use crate::failpoint::Failpoint;
use crate::metrics::WRITES_MOVED;
use crate::models::{Ids, RequestId};
use crate::plan::command::{CreateTicket, UpdateTicket};
use crate::plan::{Command, Context, PlanHash, Target};
use sqlx::PgConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use uuid::Uuid;

/// The number of attempts without a lock. If the ticket or the configuration changes during each of them, the next attempts lock the
/// row first.
const OPTIMISTIC_ATTEMPTS: usize = 3;
/// The total number of attempts before a change is rejected with `busy`.
const ATTEMPTS_MAX: usize = 20;
/// The maximum length of an idempotency key, in bytes.
pub const KEY_MAX: usize = 255;

/// The preconditions of a change.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// The ticket has this version (`If-Match`).
    pub version: Option<i64>,
    /// The plan has this hash (`If-Plan`).
    pub plan: Option<PlanHash>,
    /// The key has not been used before (`Idempotency-Key`).
    pub key: Option<IdempotencyKey>,
}

/// A key that makes a request safe to retry.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    /// The key, 1 to [`KEY_MAX`] bytes.
    pub key: String,
    /// SHA-256 over the request: method, path and body.
    pub body_hash: Vec<u8>,
}

/// The outcome of a change that was not rejected.
#[derive(Debug)]
pub enum Outcome {
    /// The change is committed, by this request or by an earlier one with the same idempotency key.
    Committed(Box<Committed>),
    /// Nothing was written, because the plan differs from the one in [`Conditions::plan`]. This is the new plan.
    PlanChanged(Box<Prepared>),
}

impl Outcome {
    /// The value of the metric label `outcome`.
    fn label(&self) -> &'static str {
        match self {
            Self::Committed(committed) if committed.is_replayed => "replayed",
            Self::Committed(_) => "made",
            Self::PlanChanged(_) => "plan_changed",
        }
    }
}

#[cfg(test)]
impl Outcome {
    /// The committed change.
    #[track_caller]
    pub(crate) fn committed(self) -> Committed {
        match self {
            Self::Committed(committed) => *committed,
            Self::PlanChanged(prepared) => panic!("the plan changed: {prepared:?}"),
        }
    }
}

impl Tessera {
    /// Creates a ticket.
    ///
    /// # Errors
    /// Those of [`crate::plan::prepare`]; `idempotency_key_reused`; `busy`; those of the database.
    pub async fn create(
        &self,
        caller: &Caller,
        command: CreateTicket,
        conditions: &Conditions,
    ) -> Result<Outcome> {
        let change = ChangeRequest::new(caller, None, Command::Create(command), conditions);
        metrics::count_change("create", self.change_ticket(&change).await, Outcome::label)
    }

    /// Changes a ticket.
    ///
    /// # Errors
    /// `not_found`; those of [`crate::plan::prepare`]; `version_mismatch` if the ticket does not have the version in
    /// `conditions`; `idempotency_key_reused`; `busy`; those of the database.
    pub async fn update(
        &self,
        caller: &Caller,
        ticket: TicketRef,
        command: UpdateTicket,
        conditions: &Conditions,
    ) -> Result<Outcome> {
        let change = ChangeRequest::new(caller, Some(ticket), Command::Update(command), conditions);
        metrics::count_change("update", self.change_ticket(&change).await, Outcome::label)
    }

    /// Plans the creation of a ticket. Nothing is written, and no ticket number is used.
    ///
    /// # Errors
    /// Those of [`crate::plan::prepare`]; `busy`; those of the database.
    pub async fn preview_create(&self, caller: &Caller, command: CreateTicket) -> Result<Box<Prepared>> {
        let conditions = Conditions::default();
        let change = ChangeRequest::new(caller, None, Command::Create(command), &conditions);
        metrics::count_change("preview", self.preview(&change).await, |_| "made")
    }

    /// Plans a change to a ticket. Nothing is written; the connection is read-only.
    ///
    /// # Errors
    /// `not_found`; those of [`crate::plan::prepare`]; `busy`; those of the database.
    pub async fn preview_update(
        &self,
        caller: &Caller,
        ticket: TicketRef,
        command: UpdateTicket,
    ) -> Result<Box<Prepared>> {
        let conditions = Conditions::default();
        let change = ChangeRequest::new(caller, Some(ticket), Command::Update(command), &conditions);
        metrics::count_change("preview", self.preview(&change).await, |_| "made")
    }

    /// The number of a ticket. A ticket has one turn, whether requests name it by its number or by its id.
    async fn number_of(&self, ticket: TicketRef) -> Result<i64> {
        let id = match ticket {
            TicketRef::Number(number) => return Ok(number),
            TicketRef::Id(id) => id,
        };
        if let Some(number) = self.locks.number_of(id) {
            return Ok(number);
        }
        let mut db = self.pools.changes.take().await?;
        let found = tickets::number_of(&mut db, id).await;
        let number = db.done(found)?;
        self.locks.remember(id, number);
        Ok(number)
    }

    /// Retries a change until neither the ticket nor the configuration changes during an attempt.
    async fn change_ticket(&self, change: &ChangeRequest<'_>) -> Result<Outcome> {
        let _lock = match change.ticket {
            Some(ticket) => Some(self.locks.acquire(self.number_of(ticket).await?).await?),
            None => None,
        };
        for attempt in 0..ATTEMPTS_MAX {
            let is_optimistic = attempt < OPTIMISTIC_ATTEMPTS;
            let result = match change.ticket {
                Some(ticket) if !is_optimistic => self.attempt_locked(change, ticket).await,
                _ => self.attempt(change).await,
            };
            match result {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => {}
                // Another process has locked the row. An attempt that locks first waits for it.
                Err(error) if error.code() == Code::Locked && is_optimistic => {}
                Err(error) => return Err(error),
            }
            ::metrics::counter!(WRITES_MOVED).increment(1);
        }
        Err(kept_changing())
    }

    /// Loads, plans and writes in two round trips, without holding a connection during planning. Returns `None` if the ticket or the
    /// configuration changed in between.
    async fn attempt(&self, change: &ChangeRequest<'_>) -> Result<Option<Outcome>> {
        change.failpoints.begun.pass();
        let loaded = {
            let mut db = self.pools.changes.take().await?;
            let loaded = self.load(&mut db, change).await;
            db.done(loaded)?
        };
        change.failpoints.loaded.pass();
        let ready = match self.decide(change, loaded).await? {
            Step::Write(ready) => ready,
            Step::Done(outcome) => return Ok(Some(outcome)),
            Step::Retry => return Ok(None),
        };
        change.failpoints.planned.pass();
        let mut db = self.pools.changes.take().await?;
        let written = write(&mut db, change, &ready).await;
        let is_written = db.done(written)?;
        change.failpoints.written.pass();
        Ok(is_written.then(|| self.committed(*ready)))
    }

    /// Does the same in one database transaction that first locks the ticket's row, so that nothing else can change it.
    async fn attempt_locked(&self, change: &ChangeRequest<'_>, ticket: TicketRef) -> Result<Option<Outcome>> {
        let mut db = self.pools.write.begin().await.map_err(error)?;
        tickets::lock(&mut db, ticket).await?;
        Failpoint::LockTaken.pass();
        let loaded = self.load(&mut db, change).await?;
        let decided = timeout(LOCKED_MAX, self.decide(change, loaded)).await.map_err(|_| kept_changing())?;
        let ready = match decided? {
            Step::Write(ready) => ready,
            Step::Done(outcome) => return Ok(Some(outcome)),
            Step::Retry => return Ok(None),
        };
        let is_written = write(&mut db, change, &ready).await?;
        Failpoint::LockedWritten.pass();
        db.commit().await.map_err(error)?;
        Failpoint::LockedCommitted.pass();
        Ok(is_written.then(|| self.committed(*ready)))
    }

    /// Loads everything that the plan needs, in one statement; for a create, also draws the ticket number.
    async fn load(&self, db: &mut PgConnection, change: &ChangeRequest<'_>) -> Result<Loaded> {
        let messages = self.catalog_cache.get().message_queues(&change.command);
        let load = change.load(&messages);
        match change.ticket {
            None => tickets::load_new(db, load).await,
            Some(ticket) => tickets::load(db, ticket, load).await,
        }
    }

    /// Decides the next step of a loaded change: return an outcome, write the plan, or retry.
    async fn decide(&self, change: &ChangeRequest<'_>, mut loaded: Loaded) -> Result<Step> {
        if let Some(replay) = loaded.replay.take() {
            return self.replay(change, replay).await.map(Step::Done);
        }
        change.check_version(&loaded)?;
        let Some(prepared) = self.plan(change, loaded).await? else { return Ok(Step::Retry) };
        if change.conditions.plan.is_some_and(|hash| hash != prepared.plan.hash) {
            return Ok(Step::Done(Outcome::PlanChanged(prepared)));
        }
        let ready = ReadyPlan { summary: ChangeSummary::of(&prepared), prepared };
        if ready.prepared.plan.transactions.is_empty() && change.conditions.key.is_none() {
            // The command changes nothing.
            return Ok(Step::Done(ready.outcome()));
        }
        Ok(Step::Write(Box::new(ready)))
    }

    /// Plans a change. Returns `None` if the current configuration needs more than was loaded.
    async fn plan(&self, change: &ChangeRequest<'_>, loaded: Loaded) -> Result<Option<Box<Prepared>>> {
        let catalog = self.catalog_cache.at_least(&self.pools.reserved, loaded.config_version).await?;
        if let Target::Existing(ticket) = &loaded.situation.ticket
            && !loaded.with_messages
            && catalog.message_queues(&change.command).contains(&ticket.queue.0)
        {
            return Ok(None);
        }
        let now = match &loaded.situation.ticket {
            // The times in a ticket's history never decrease, even if the clocks of two nodes differ.
            Target::Existing(ticket) => clock::now().max(ticket.updated_at),
            Target::New { .. } => clock::now(),
        };
        let mut ids = Ids::new(now, clock::seed());
        let request: RequestId = ids.draw();
        let Caller { user, channel, access, depth } = change.caller.clone();
        let context = Context { actor: user, channel, now, request, ids, access, depth };
        self.planner.run(catalog, loaded.situation, &change.command, context).await.map(Some)
    }

    /// Plans a change for display, over a read-only connection.
    async fn preview(&self, change: &ChangeRequest<'_>) -> Result<Box<Prepared>> {
        for _ in 0..OPTIMISTIC_ATTEMPTS {
            let loaded = {
                let mut db = self.pools.previews.take().await?;
                let messages = self.catalog_cache.get().message_queues(&change.command);
                let load = change.load(&messages);
                let loaded = match change.ticket {
                    None => tickets::load_blank(&mut db, load).await,
                    Some(ticket) => tickets::load(&mut db, ticket, load).await,
                };
                db.done(loaded)?
            };
            if let Some(prepared) = self.plan(change, loaded).await? {
                return Ok(prepared);
            }
        }
        Err(kept_changing())
    }

    /// Returns the outcome of the request that used the idempotency key first, with current names.
    async fn replay(&self, change: &ChangeRequest<'_>, replay: Replay) -> Result<Outcome> {
        let key = change.conditions.key.as_ref().filter(|key| key.body_hash == replay.body_hash);
        if key.is_none() {
            let detail = "The Idempotency-Key was already used for a different request. Use a new key for a new request.";
            return Err(Error::new(Code::IdempotencyKeyReused, detail));
        }
        let summary = ChangeSummary::from_bytes(&replay.response)?;
        let mut users: Vec<_> = summary.ticket.people().map(|user| user.0).collect();
        users.extend(summary.transactions.iter().map(|added| added.transaction.creator.0));
        let people = tickets::users(&mut *self.pools.read.acquire().await.map_err(error)?, &users).await?;
        let (catalog, actor) = (self.fresh_catalog().await?, change.caller.user.clone());
        Ok(Outcome::Committed(Box::new(Committed { summary, is_replayed: true, catalog, people, actor })))
    }

    /// Wakes the workers if a committed plan has deliveries, and counts its scrips.
    fn committed(&self, ready: ReadyPlan) -> Outcome {
        if !ready.prepared.plan.deliveries.is_empty() {
            self.wakeup.wake();
        }
        metrics::count_scrips(&ready.prepared.plan.evaluations);
        ready.outcome()
    }
}

/// A change that is being attempted.
struct ChangeRequest<'c> {
    caller: &'c Caller,
    /// `None` for a create.
    ticket: Option<TicketRef>,
    command: Arc<Command>,
    /// The usernames and addresses in the command.
    people: Vec<String>,
    conditions: &'c Conditions,
    failpoints: &'static Failpoints,
}

/// The points at which the fault suite kills the process.
struct Failpoints {
    begun: Failpoint,
    loaded: Failpoint,
    planned: Failpoint,
    written: Failpoint,
}

const CREATE: Failpoints = Failpoints {
    begun: Failpoint::CreateBegun,
    loaded: Failpoint::CreateLoaded,
    planned: Failpoint::CreatePrepared,
    written: Failpoint::CreateWritten,
};
const UPDATE: Failpoints = Failpoints {
    begun: Failpoint::UpdateBegun,
    loaded: Failpoint::UpdateLoaded,
    planned: Failpoint::UpdatePrepared,
    written: Failpoint::UpdateWritten,
};

impl<'c> ChangeRequest<'c> {
    fn new(
        caller: &'c Caller,
        ticket: Option<TicketRef>,
        command: Command,
        conditions: &'c Conditions,
    ) -> Self {
        let people = command.people().into_iter().map(str::to_owned).collect();
        let failpoints = if ticket.is_none() { &CREATE } else { &UPDATE };
        Self { caller, ticket, command: Arc::new(command), people, conditions, failpoints }
    }

    fn load<'a>(&'a self, messages: &'a [Uuid]) -> Load<'a> {
        let key = self.conditions.key.as_ref().map(|key| key.key.as_str());
        Load { actor: self.caller.user.id, key, people: &self.people, messages }
    }

    fn check_version(&self, loaded: &Loaded) -> Result<()> {
        let (Some(expected), Target::Existing(ticket)) = (self.conditions.version, &loaded.situation.ticket)
        else {
            return Ok(());
        };
        if expected == ticket.version {
            return Ok(());
        }
        let detail = format!(
            "The ticket has version {}, not {expected}. Read the ticket again and decide whether the change still applies.",
            ticket.version
        );
        Err(Error::new(Code::VersionMismatch, detail))
    }
}

/// A plan that is ready to be written, and its summary.
struct ReadyPlan {
    prepared: Box<Prepared>,
    summary: ChangeSummary,
}

impl ReadyPlan {
    fn outcome(self) -> Outcome {
        let Prepared { catalog, situation, context, .. } = *self.prepared;
        Outcome::Committed(Box::new(Committed {
            summary: self.summary,
            is_replayed: false,
            catalog,
            people: situation.people,
            actor: context.actor,
        }))
    }
}

/// The next step of a loaded change.
enum Step {
    /// The current configuration needs more than was loaded.
    Retry,
    /// The outcome is known, and nothing has to be written.
    Done(Outcome),
    Write(Box<ReadyPlan>),
}

/// Writes a plan in one statement. Returns `false` if nothing was written because the ticket or the configuration changed, or another
/// request used the key; the next load finds out which.
async fn write(db: &mut PgConnection, change: &ChangeRequest<'_>, ready: &ReadyPlan) -> Result<bool> {
    let response = match &change.conditions.key {
        Some(_) => Some(ready.summary.to_bytes()?),
        None => None,
    };
    let key = change.conditions.key.as_ref().zip(response.as_ref()).map(|(key, response)| Key {
        key: &key.key,
        body_hash: &key.body_hash,
        response,
    });
    let plan = &ready.prepared.plan;
    let written = match change.ticket {
        None => plans::create(db, plan, key).await?,
        Some(_) => {
            let written = plans::update(db, std::slice::from_ref(plan), key).await?;
            written.first().copied().unwrap_or(Written::TicketMoved)
        }
    };
    Ok(written == Written::Yes)
}

/// The longest time that a plan may take or wait while its ticket is locked: below the time after which PostgreSQL ends an idle
/// database transaction.
const LOCKED_MAX: Duration = Duration::from_secs(5);

fn kept_changing() -> Error {
    let detail = "The ticket or the configuration kept changing during the request. Retry the request.";
    Error::new(Code::Busy, detail)
}
