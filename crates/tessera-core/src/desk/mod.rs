//! Dispatch: the story of a request. Load, prepare, and write exactly what was prepared; or stop before the write.

pub mod catalog_cache;
pub mod clock;
pub mod configure;
pub mod connectors;
pub mod import;
mod metrics;
pub mod planner;
pub mod ticket_lock;

#[cfg(test)]
mod tests;

use crate::db::plans::{self, Key, Written};
use crate::db::tickets::{self, Load, Loaded, Replay, TicketRef};
use crate::db::{Pools, error};
use crate::delivery::guard::Guard;
use crate::delivery::wakeup::Wakeup;
use crate::error::{Code, Error, Result};
use crate::failpoint::Failpoint;
use crate::metrics::WRITES_MOVED;
use crate::models::delivery::DEPTH_HEADER;
use crate::models::user::ADMIN_USER;
use crate::models::{Ids, RequestId, User};
use crate::plan::command::{CreateTicket, UpdateTicket};
use crate::plan::{Access, Catalog, Command, Context, Installation, PlanHash, Target};
use catalog_cache::CatalogCache;
use planner::Planner;
pub use planner::Prepared;
use sqlx::PgConnection;
use std::sync::Arc;
use ticket_lock::TicketLocks;
use tokio::sync::Semaphore;

/// How often a write is tried again when the ticket or the configuration moved, before it locks first.
const TRIES: usize = 3;
/// How often a write may find that the configuration moved before it is told to come again.
const MOVES_MAX: usize = 20;

/// The largest depth that a caller may name; far above the few at which deliveries end.
const DEPTH_MAX: u32 = 1_000;
/// The longest idempotency key, in bytes.
pub const KEY_MAX: usize = 255;

/// A desk: its database, its configuration, and the way everything is changed.
#[derive(Debug)]
pub struct Tessera {
    pools: Pools,
    catalog_cache: CatalogCache,
    locks: Arc<TicketLocks>,
    planner: Planner,
    guard: Arc<Guard>,
    wakeup: Arc<Wakeup>,
    leasing: Semaphore,
}

/// Who asks, and through what.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The person or program.
    pub user: User,
    /// Through what.
    pub channel: &'static str,
    /// What they may do.
    pub access: Access,
    /// How many deliveries, each made because of the one before, led to what they ask: [`Context::depth`].
    pub depth: u32,
}

impl Caller {
    /// The same caller, whose request came through this many deliveries.
    pub fn at_depth(self, depth: u32) -> Self {
        Self { depth, ..self }
    }
}

/// The depth that a request names in [`DEPTH_HEADER`], as a header or as metadata.
///
/// # Errors
/// `malformed_header` for what is no whole number from 0 to `DEPTH_MAX`.
pub fn depth_of(value: &str) -> Result<u32> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|depth| digits && *depth <= DEPTH_MAX).ok_or_else(|| {
        let detail = format!(
            "The header {DEPTH_HEADER} is \"{value}\"; it must be a whole number from 0 to {DEPTH_MAX}."
        );
        Error::new(Code::MalformedHeader, detail)
    })
}

/// What must hold for a change to be made.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// The ticket has this version (`If-Match`).
    pub version: Option<i64>,
    /// The plan has this hash (`If-Plan`).
    pub plan: Option<PlanHash>,
    /// This key was not used before (`Idempotency-Key`).
    pub key: Option<IdempotencyKey>,
}

/// A key that makes a request safe to send again.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    /// The key, 1 to [`KEY_MAX`] bytes.
    pub key: String,
    /// SHA-256 over what was asked: method, path and body.
    pub body_hash: Vec<u8>,
}

/// An answer, as it is sent and as it is kept under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status; over gRPC, where an answer that is kept is always `OK`, 200.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// What became of a change.
#[derive(Debug)]
pub enum Outcome {
    /// It was made; this is the answer, and the ticket's version.
    Made(Answer, i64),
    /// It was made before under the same key; this was the answer.
    Replayed(Answer),
    /// Nothing was made: the plan is no longer the one that was named. This is the new one.
    PlanChanged(Box<Prepared>),
}

/// Makes the answer of a plan, before it is written.
pub type Render<'r> = &'r (dyn Fn(&Prepared) -> Result<Answer> + Send + Sync);

impl Tessera {
    /// Opens a desk on a migrated database, and seeds an empty one.
    ///
    /// # Errors
    /// Those of the database, and of a configuration that cannot be understood.
    pub async fn open(pools: Pools, installation: Installation, guard: Arc<Guard>) -> Result<Self> {
        configure::seed(&pools.write, &installation, &guard).await?;
        let catalog_cache = CatalogCache::read(&pools.read, installation).await?;
        let (locks, planner, wakeup) = (Arc::default(), Planner::new(), Arc::default());
        Ok(Self {
            pools,
            catalog_cache,
            locks,
            planner,
            guard,
            wakeup,
            leasing: Semaphore::new(connectors::LEASING_MAX),
        })
    }

    /// The database.
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Rung when there is something to deliver.
    pub fn wakeup(&self) -> &Arc<Wakeup> {
        &self.wakeup
    }

    /// The addresses that webhooks may reach.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Asks the database for an answer.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ping(&self) -> Result<()> {
        crate::db::catalog::version(&mut *self.pools.read.acquire().await.map_err(error)?).await.map(drop)
    }

    /// The configuration as this process knows it; another process may have changed it a moment ago.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog_cache.get()
    }

    /// The configuration as it is.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn fresh_catalog(&self) -> Result<Arc<Catalog>> {
        let version =
            crate::db::catalog::version(&mut *self.pools.read.acquire().await.map_err(error)?).await?;
        self.catalog_cache.at_least(&self.pools.read, version).await
    }

    /// The one administrator, until there are log-ins.
    pub fn administrator(&self) -> Result<Caller> {
        let user = self.catalog().agents.get(ADMIN_USER).map(|user| User::clone(user));
        let user =
            user.ok_or_else(|| Error::internal("There is no administrator.", "the stock user is missing"))?;
        Ok(Caller { user, channel: "rest", access: Access::All, depth: 0 })
    }

    /// Makes a ticket.
    ///
    /// # Errors
    /// Refusals of [`crate::plan::prepare`]; `idempotency_key_reused`; `busy`; those of the database.
    pub async fn create(
        &self,
        caller: &Caller,
        command: CreateTicket,
        conditions: &Conditions,
        render: Render<'_>,
    ) -> Result<Outcome> {
        metrics::change("create", self.try_create(caller, command, conditions, render).await, metrics::word)
    }

    async fn try_create(
        &self,
        caller: &Caller,
        command: CreateTicket,
        conditions: &Conditions,
        render: Render<'_>,
    ) -> Result<Outcome> {
        let command = Arc::new(Command::Create(command));
        let people = owned(&command);
        Failpoint::CreateBegun.pass();
        let load = self.load_of(caller, conditions, &people);
        let mut loaded = {
            let mut db = self.pools.changes.take().await?;
            let loaded = tickets::load_new(&mut db, load).await;
            db.done(loaded)?
        };
        Failpoint::CreateLoaded.pass();
        for _ in 0..MOVES_MAX {
            if let Some(outcome) = replayed(conditions, loaded.replay.take())? {
                return Ok(outcome);
            }
            let Some(prepared) = self.prepare(caller, &loaded, &command).await? else { continue };
            if conditions.plan.is_some_and(|hash| hash != prepared.plan.hash) {
                return Ok(Outcome::PlanChanged(prepared));
            }
            let answer = render(&prepared)?;
            Failpoint::CreatePrepared.pass();
            let written = {
                let mut db = self.pools.changes.take().await?;
                let written = plans::create(&mut db, &prepared.plan, kept(conditions, &answer)).await;
                db.done(written)?
            };
            match written {
                Written::Yes => {
                    Failpoint::CreateWritten.pass();
                    return Ok(self.made(&prepared, answer));
                }
                Written::ConfigurationMoved | Written::TicketMoved => {
                    ::metrics::counter!(WRITES_MOVED).increment(1);
                    // The number is drawn already; only the configuration is to be read again.
                    loaded.config_version = self.fresh_catalog().await?.version;
                }
                Written::KeyUsed | Written::NumberTaken => {
                    let mut db = self.pools.changes.take().await?;
                    let again = tickets::load_new(&mut db, load).await;
                    loaded = db.done(again)?;
                }
            }
        }
        Err(moving())
    }

    /// Changes a ticket.
    ///
    /// # Errors
    /// `not_found`; refusals of [`crate::plan::prepare`]; `version_mismatch` when the ticket is not at the version that
    /// was named; `idempotency_key_reused`; `busy`; those of the database.
    pub async fn update(
        &self,
        caller: &Caller,
        ticket: TicketRef,
        command: UpdateTicket,
        conditions: &Conditions,
        render: Render<'_>,
    ) -> Result<Outcome> {
        let change =
            Change { caller, ticket, command: Arc::new(Command::Update(command)), conditions, render };
        metrics::change("update", self.update_in_lock(&change).await, metrics::word)
    }

    async fn update_in_lock(&self, change: &Change<'_>) -> Result<Outcome> {
        let (ticket, people) = (change.ticket, owned(&change.command));
        let _lock = self.locks.acquire(ticket).await?;
        for moved in 0..MOVES_MAX {
            let step = if moved < TRIES {
                self.try_update(change, &people).await
            } else {
                self.update_locked(change, &people).await
            };
            match step {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => {}
                // Somebody else holds the row; that counts as moved, until this is the one that waits in the lock.
                Err(error) if error.code() == Code::Locked && moved < TRIES => {}
                Err(error) => return Err(error),
            }
            ::metrics::counter!(WRITES_MOVED).increment(1);
        }
        Err(moving())
    }

    /// Load, prepare, write in two round trips; `None` when something moved.
    async fn try_update(&self, change: &Change<'_>, people: &[String]) -> Result<Option<Outcome>> {
        Failpoint::UpdateBegun.pass();
        let loaded = {
            let mut db = self.pools.changes.take().await?;
            let load = self.load_of(change.caller, change.conditions, people);
            let loaded = tickets::load(&mut db, change.ticket, load).await;
            db.done(loaded)?
        };
        Failpoint::UpdateLoaded.pass();
        match self.plan_update(change, loaded).await? {
            Step::Again => Ok(None),
            Step::Done(outcome) => Ok(Some(outcome)),
            Step::Write(prepared, answer) => {
                Failpoint::UpdatePrepared.pass();
                let mut db = self.pools.changes.take().await?;
                let written = write(&mut db, change, &prepared, &answer).await;
                let is_written = db.done(written)?;
                Failpoint::UpdateWritten.pass();
                Ok(is_written.then(|| self.made(&prepared, answer)))
            }
        }
    }

    /// The same with the row locked first, in a statement of its own: nobody can move it any more.
    async fn update_locked(&self, change: &Change<'_>, people: &[String]) -> Result<Option<Outcome>> {
        let mut db = self.pools.write.begin().await.map_err(error)?;
        tickets::lock(&mut db, change.ticket).await?;
        Failpoint::LockTaken.pass();
        let load = self.load_of(change.caller, change.conditions, people);
        let loaded = tickets::load(&mut db, change.ticket, load).await?;
        match self.plan_update(change, loaded).await? {
            Step::Again => Ok(None),
            Step::Done(outcome) => Ok(Some(outcome)),
            Step::Write(prepared, answer) => {
                let is_written = write(&mut db, change, &prepared, &answer).await?;
                Failpoint::LockedWritten.pass();
                db.commit().await.map_err(error)?;
                Failpoint::LockedCommitted.pass();
                Ok(is_written.then(|| self.made(&prepared, answer)))
            }
        }
    }

    /// What a loaded ticket and a command come to: an answer at once, or a plan to write.
    async fn plan_update(&self, change: &Change<'_>, mut loaded: Loaded) -> Result<Step> {
        if let Some(outcome) = replayed(change.conditions, loaded.replay.take())? {
            return Ok(Step::Done(outcome));
        }
        if let (Some(wanted), Target::Existing(ticket)) =
            (change.conditions.version, &loaded.situation.ticket)
            && wanted != ticket.version
        {
            let detail = format!(
                "The ticket is at version {}, not {wanted}. Read it again and decide anew.",
                ticket.version
            );
            return Err(Error::new(Code::VersionMismatch, detail));
        }
        let Some(prepared) = self.prepare(change.caller, &loaded, &change.command).await? else {
            return Ok(Step::Again);
        };
        if change.conditions.plan.is_some_and(|hash| hash != prepared.plan.hash) {
            return Ok(Step::Done(Outcome::PlanChanged(prepared)));
        }
        let answer = (change.render)(&prepared)?;
        if prepared.plan.transactions.is_empty() && change.conditions.key.is_none() {
            // Everything is as it was asked to be: there is nothing to write.
            return Ok(Step::Done(Outcome::Made(answer, prepared.plan.ticket.version)));
        }
        Ok(Step::Write(prepared, answer))
    }

    /// What a create would do. Nothing is written and no number is drawn.
    ///
    /// # Errors
    /// Refusals of [`crate::plan::prepare`]; `busy`; those of the database.
    pub async fn preview_create(&self, caller: &Caller, command: CreateTicket) -> Result<Box<Prepared>> {
        metrics::change("preview", self.try_preview_create(caller, command).await, |_| "made")
    }

    async fn try_preview_create(&self, caller: &Caller, command: CreateTicket) -> Result<Box<Prepared>> {
        let command = Arc::new(Command::Create(command));
        let people = owned(&command);
        let conditions = Conditions::default();
        let loaded = {
            let mut db = self.pools.previews.take().await?;
            let load = self.load_of(caller, &conditions, &people);
            let loaded = tickets::load_blank(&mut db, load).await;
            db.done(loaded)?
        };
        self.prepare(caller, &loaded, &command).await?.ok_or_else(moving)
    }

    /// What an update would do. Nothing is written: the load reads through a connection that cannot.
    ///
    /// # Errors
    /// `not_found`; refusals of [`crate::plan::prepare`]; `busy`; those of the database.
    pub async fn preview_update(
        &self,
        caller: &Caller,
        ticket: TicketRef,
        command: UpdateTicket,
    ) -> Result<Box<Prepared>> {
        metrics::change("preview", self.try_preview_update(caller, ticket, command).await, |_| "made")
    }

    async fn try_preview_update(
        &self,
        caller: &Caller,
        ticket: TicketRef,
        command: UpdateTicket,
    ) -> Result<Box<Prepared>> {
        let command = Arc::new(Command::Update(command));
        let people = owned(&command);
        let conditions = Conditions::default();
        for _ in 0..TRIES {
            let loaded = {
                let mut db = self.pools.previews.take().await?;
                let load = self.load_of(caller, &conditions, &people);
                let loaded = tickets::load(&mut db, ticket, load).await;
                db.done(loaded)?
            };
            if let Some(prepared) = self.prepare(caller, &loaded, &command).await? {
                return Ok(prepared);
            }
        }
        Err(moving())
    }

    /// Prepares a plan; `None` when the configuration has come to need more than was loaded.
    async fn prepare(
        &self,
        caller: &Caller,
        loaded: &Loaded,
        command: &Arc<Command>,
    ) -> Result<Option<Box<Prepared>>> {
        let catalog = self.catalog_cache.at_least(&self.pools.read, loaded.config_version).await?;
        if catalog.uses_messages() && !loaded.with_messages {
            return Ok(None);
        }
        let not_before = match &loaded.situation.ticket {
            Target::Existing(ticket) => Some(ticket.updated_at),
            Target::New { .. } => None,
        };
        // A ticket's history never runs backwards, whatever the clocks of two nodes say.
        let now = not_before.map_or_else(clock::now, |not_before| clock::now().max(not_before));
        let mut ids = Ids::new(now, clock::seed());
        let request: RequestId = ids.draw();
        let Caller { user, channel, access, depth } = caller.clone();
        let context = Context { actor: user, channel, now, request, ids, access, depth };
        self.planner.prepare(catalog, loaded.situation.clone(), command, context).await.map(Some)
    }

    fn load_of<'l>(&self, caller: &Caller, conditions: &'l Conditions, people: &'l [String]) -> Load<'l> {
        let key = conditions.key.as_ref().map(|key| key.key.as_str());
        Load { actor: caller.user.id, key, people, messages: self.catalog_cache.get().uses_messages() }
    }

    /// Tells of a plan that stands in the database, and never of one before: wakes the workers when there is something to
    /// deliver, and counts.
    fn made(&self, prepared: &Prepared, answer: Answer) -> Outcome {
        if !prepared.plan.deliveries.is_empty() {
            self.wakeup.wake();
        }
        metrics::scrips(&prepared.plan.evaluations);
        Outcome::Made(answer, prepared.plan.ticket.version)
    }
}

/// Writes a planned update; answers whether it is written.
async fn write(
    db: &mut PgConnection,
    change: &Change<'_>,
    prepared: &Prepared,
    answer: &Answer,
) -> Result<bool> {
    let key = kept(change.conditions, answer);
    let written = plans::update(db, std::slice::from_ref(&prepared.plan), key).await?;
    // A used key is found by the next load, which answers what was answered.
    Ok(matches!(written.as_slice(), [Written::Yes]))
}

/// An update on its way.
struct Change<'c> {
    caller: &'c Caller,
    ticket: TicketRef,
    command: Arc<Command>,
    conditions: &'c Conditions,
    render: Render<'c>,
}

/// What a planned update comes to.
enum Step {
    /// The configuration has come to need more than was loaded.
    Again,
    Done(Outcome),
    Write(Box<Prepared>, Answer),
}

fn owned(command: &Command) -> Vec<String> {
    command.people().into_iter().map(str::to_owned).collect()
}

fn kept<'k>(conditions: &'k Conditions, answer: &'k Answer) -> Option<Key<'k>> {
    conditions.key.as_ref().map(|key| Key {
        key: &key.key,
        body_hash: &key.body_hash,
        status: answer.status,
        response: &answer.body,
    })
}

/// The answer of before, when the key was used for the same request.
fn replayed(conditions: &Conditions, replay: Option<Replay>) -> Result<Option<Outcome>> {
    match (&conditions.key, replay) {
        (Some(key), Some(replay)) if key.body_hash == replay.body_hash => {
            Ok(Some(Outcome::Replayed(Answer { status: replay.status, body: replay.response })))
        }
        (Some(key), Some(_)) => {
            let detail = format!(
                "The Idempotency-Key {} was used for another request. Use a new key for a new request.",
                key.key
            );
            Err(Error::new(Code::IdempotencyKeyReused, detail))
        }
        _ => Ok(None),
    }
}

fn moving() -> Error {
    Error::new(Code::Busy, "The ticket or the configuration kept changing meanwhile. Send the request again.")
}
