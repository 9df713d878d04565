//! Configure: how queues, lifecycles, fields, templates, scrips, users and secrets are changed; one story for all.
//!
//! A change takes the one row of `config_version`, so it sees the configuration as it is and nobody else changes it
//! meanwhile; checks everything against the catalog read there; writes its rows; and raises the version.

mod connectors;
mod custom_fields;
mod lifecycle_check;
mod lifecycles;
mod mentions;
pub(super) mod missing;
mod queues;
mod scrips;
mod secrets;
mod seed;
mod templates;
mod users;
mod versions;

#[cfg(test)]
mod tests;

use super::{Caller, Tessera, clock};
pub use crate::db::configuration::Version;
use crate::db::configuration::{self, Which};
use crate::db::{catalog, error};
use crate::delivery::guard::Guard;
use crate::error::{Code, Error, Fault, Result};
use crate::failpoint::Failpoint;
use crate::models::page::Page;
use crate::models::text::{fault, list, quote};
use crate::models::{Ids, QueueId, UserId};
use crate::plan::Catalog;
use crate::plan::documents::{self, DESCRIPTION_MAX, ScripDocument, Stored};
pub use connectors::NewConnector;
pub use lifecycle_check::LifecycleCheck;
pub use scrips::scrip_types;
pub use seed::seed;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sqlx::{PgConnection, Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;
pub use versions::{Comparison, Versioned};

/// A kind of object of the configuration: how it is found, read, and checked and written.
pub trait Document: Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync + 'static {
    /// What one is called in messages.
    const WHAT: &'static str;

    /// The id of the one with this name or id.
    fn id_of(db: &mut PgConnection, word: &str) -> impl Future<Output = Result<Option<Uuid>>> + Send;

    /// Those that are wanted, in the order of their ids.
    fn read(
        db: &mut PgConnection,
        which: Which<'_>,
    ) -> impl Future<Output = Result<Vec<Stored<Self>>>> + Send;

    /// Checks it all and writes it, in the place of `before` if there is one; answers its id.
    fn write(
        &self,
        change: &mut Change<'_>,
        before: Option<&Stored<Self>>,
    ) -> impl Future<Output = Result<Uuid>> + Send;

    /// Whether both mean the same.
    fn says_the_same(&self, other: &Self) -> bool {
        self == other
    }

    /// Takes out of the document as it is what the members of a patch say in another form.
    fn make_room(_document: &mut Map<String, Value>, _patch: &Map<String, Value>) {}
}

/// Which objects a list is of; by default all.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only those that are disabled, or only those that are not.
    pub disabled: Option<bool>,
    /// Only those with this in their name, without case.
    pub name: Option<String>,
}

/// An object as it stands after a change, and what deserves a second look.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Saved<D> {
    /// The object.
    #[serde(flatten)]
    pub stored: Stored<D>,
    /// Sentences for a person.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Tessera {
    /// Adds an object to the configuration.
    ///
    /// # Errors
    /// `422 invalid` with every fault; `409 name_taken`, `limit_reached`; `busy`; those of the database.
    pub async fn add<D: Document>(&self, caller: &Caller, document: D) -> Result<Saved<D>> {
        let mut change = Change::begin(self, caller, false).await?;
        let id = document.write(&mut change, None).await?;
        change.commit(self, id).await
    }

    /// Changes an object: each member of the patch takes the place of the one there is, and `null` puts back what holds
    /// where nothing is given. A patch that changes nothing writes nothing. `force` lets a change through although
    /// scrips or lifecycles name what it takes away; tickets are never left without what they have.
    ///
    /// # Errors
    /// `not_found`; those of [`Tessera::add`]; `409 in_use`.
    pub async fn change<D: Document>(
        &self,
        caller: &Caller,
        word: &str,
        patch: Map<String, Value>,
        force: bool,
    ) -> Result<Saved<D>> {
        let mut change = Change::begin(self, caller, force).await?;
        let before = find::<D>(&mut change.db, word).await?;
        let after: D = documents::read(patched(&before.document, patch)?)?;
        if after.says_the_same(&before.document) {
            return Ok(Saved { stored: before, warnings: Vec::new() });
        }
        let id = after.write(&mut change, Some(&before)).await?;
        change.commit(self, id).await
    }

    /// The object of a name or an id.
    ///
    /// # Errors
    /// `not_found`; those of the database.
    pub async fn object<D: Document>(&self, _caller: &Caller, word: &str) -> Result<Stored<D>> {
        find(&mut *self.pools.read.acquire().await.map_err(error)?, word).await
    }

    /// Objects in the order in which they were made, a page at a time, at most `limit`.
    ///
    /// # Errors
    /// `400 malformed_cursor`; those of the database.
    pub async fn objects<D: Document>(
        &self,
        _caller: &Caller,
        wanted: &Wanted,
        cursor: Option<&str>,
        limit: i64,
    ) -> Result<Page<Stored<D>>> {
        let from = match cursor {
            None => Uuid::nil(),
            Some(cursor) => after(Uuid::parse_str(cursor).map_err(|_| crate::db::malformed_cursor())?),
        };
        let Wanted { disabled, name } = wanted;
        // No name holds it, and a query cannot ask for it.
        if name.as_ref().is_some_and(|name| name.contains('\0')) {
            return Ok(Page { items: Vec::new(), next_cursor: None });
        }
        let which = Which { from, disabled: *disabled, name: name.as_deref(), limit: limit + 1 };
        let mut db = self.pools.read.acquire().await.map_err(error)?;
        Ok(Page::cut(D::read(&mut db, which).await?, limit, |stored| stored.id.to_string()))
    }
}

impl Tessera {
    /// Reads a configuration that has just changed. The change stands; whoever uses the configuration next reads it again if
    /// this does not.
    async fn read_again(&self) {
        if let Err(error) = self.fresh_catalog().await {
            tracing::warn!(%error, "the changed configuration could not be read at once");
        }
    }
}

/// The object of a name or an id.
async fn find<D: Document>(db: &mut PgConnection, word: &str) -> Result<Stored<D>> {
    let missing = || Error::not_found(D::WHAT, quote(word));
    // A name cannot hold it, and a query cannot ask for it.
    if word.contains('\0') {
        return Err(missing());
    }
    let id = D::id_of(&mut *db, word).await?.ok_or_else(missing)?;
    at(db, id).await?.ok_or_else(missing)
}

/// The object of an id.
async fn at<D: Document>(db: &mut PgConnection, id: Uuid) -> Result<Option<Stored<D>>> {
    Ok(D::read(db, Which::one(id)).await?.into_iter().find(|stored| stored.id == id))
}

/// The members of a document with those of a patch in their place.
fn patched<D: Document>(document: &D, patch: Map<String, Value>) -> Result<Map<String, Value>> {
    let Ok(Value::Object(mut members)) = serde_json::to_value(document) else {
        return Err(Error::internal("A document could not be written down.", D::WHAT));
    };
    D::make_room(&mut members, &patch);
    members.extend(patch);
    Ok(members)
}

/// The next id that there can be.
fn after(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

/// A change of the configuration under way.
pub struct Change<'t> {
    db: Transaction<'static, Postgres>,
    /// The configuration as it is, read under the lock.
    catalog: Catalog,
    /// The version of the configuration that this change makes.
    version: i64,
    /// Whether it makes one: a user who is not privileged is not in the catalog.
    bumps: bool,
    guard: &'t Guard,
    actor: UserId,
    now: OffsetDateTime,
    ids: Ids,
    force: bool,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl<'t> Change<'t> {
    async fn begin(tessera: &'t Tessera, caller: &Caller, force: bool) -> Result<Self> {
        let previous = tessera.catalog();
        let mut db = tessera.pools.write.begin().await.map_err(error)?;
        let version = configuration::lock(&mut db).await? + 1;
        Failpoint::ConfigurationLocked.pass();
        let installation = previous.installation.clone();
        let catalog = catalog::read_within(&mut db, Some(&previous), installation).await?;
        let guard = &tessera.guard;
        Ok(Self { force, ..Self::new(db, catalog, version, guard, caller.user.id) })
    }

    fn new(
        db: Transaction<'static, Postgres>,
        catalog: Catalog,
        version: i64,
        guard: &'t Guard,
        actor: UserId,
    ) -> Self {
        let (now, ids) = (clock::now(), clock::ids());
        let (faults, warnings) = (Vec::new(), Vec::new());
        Self { db, catalog, version, bumps: true, guard, actor, now, ids, force: false, faults, warnings }
    }

    async fn commit<D: Document>(mut self, tessera: &Tessera, id: Uuid) -> Result<Saved<D>> {
        let stored = at(&mut self.db, id).await?.ok_or_else(|| Error::not_found(D::WHAT, id))?;
        let (bumps, warnings) = (self.bumps, std::mem::take(&mut self.warnings));
        self.close(tessera, bumps).await?;
        Ok(Saved { stored, warnings })
    }

    /// Commits; `bumps` says whether the configuration is another one now.
    async fn close(mut self, tessera: &Tessera, bumps: bool) -> Result<()> {
        if bumps {
            configuration::set_version(&mut self.db, self.version).await?;
        }
        Failpoint::ConfigurationWritten.pass();
        self.db.commit().await.map_err(error)?;
        Failpoint::ConfigurationCommitted.pass();
        if bumps {
            tessera.read_again().await;
        }
        Ok(())
    }

    fn fault(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault::new(field, message));
    }

    /// A fault where there is a reason for one.
    fn fault_if(&mut self, field: &str, reason: Option<String>) {
        self.faults.extend(reason.map(|message| Fault::new(field, message)));
    }

    fn description(&mut self, description: Option<&str>) {
        self.fault_if("description", description.and_then(|text| fault(text, DESCRIPTION_MAX)));
    }

    /// Ends the checks: nothing is written when there was any fault.
    fn check(&mut self) -> Result<()> {
        match std::mem::take(&mut self.faults) {
            faults if faults.is_empty() => Ok(()),
            faults => Err(Error::invalid(faults)),
        }
    }

    /// Something that names what this change takes away; `force` lets it through with a warning.
    fn in_use(&mut self, detail: String) -> Result<()> {
        if self.force {
            self.warnings.push(detail);
            return Ok(());
        }
        let detail = format!("{detail} Change that first, or send ?force=true to do it all the same.");
        Err(Error::new(Code::InUse, detail))
    }

    /// Scrips that run and name what this change takes away.
    fn scrips_in_use(&mut self, what: &str, scrips: &[String]) -> Result<()> {
        if scrips.is_empty() {
            return Ok(());
        }
        let noun = if scrips.len() == 1 { "The scrip" } else { "The scrips" };
        let verb = if scrips.len() == 1 { "names" } else { "name" };
        self.in_use(format!("{noun} {} {verb} {what}.", list(scrips)))
    }

    /// The queue of a name or id, for a member of a document.
    fn queue(&mut self, field: &str, word: &str) -> Option<QueueId> {
        let found = self.catalog.queues.find(word).map(|queue| queue.id);
        if found.is_none() {
            let message =
                format!("there is no queue \"{word}\"; there are {}", list(self.catalog.queue_names()));
            self.fault(field, message);
        }
        found
    }

    /// Every scrip that is not disabled, as it is written.
    async fn live_scrips(&mut self) -> Result<Vec<Stored<ScripDocument>>> {
        live_scrips(&mut self.db).await
    }
}

/// Every scrip that is not disabled, as it is written.
async fn live_scrips(db: &mut PgConnection) -> Result<Vec<Stored<ScripDocument>>> {
    ScripDocument::read(db, Which { disabled: Some(false), ..Which::ALL }).await
}

/// A limit of the desk is reached.
fn limit(what: &str, count: usize, max: usize) -> Result<()> {
    if count < max {
        return Ok(());
    }
    let detail = format!(
        "There are {count} {what} already, and a desk has at most {max}. Change one that is not needed any more."
    );
    Err(Error::new(Code::LimitReached, detail))
}
