//! Changes of the configuration: queues, lifecycles, fields, templates, scrips, users and secrets.
//!
//! All changes work in the same way. A change locks the only row of `config_version`, so that there are no concurrent changes; reads
//! the catalog under this lock and validates against it; writes its rows; and increments the version.

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
use crate::models::page::{Filling, Page};
use crate::models::text::{composed, fault, list, quote, typed};
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

/// A type of configuration object: how it is found, read, validated and written.
pub trait Document: Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync + 'static {
    /// The name of the type in messages.
    const WHAT: &'static str;

    /// Returns the id of the object with this name or id.
    fn id_of(db: &mut PgConnection, word: &str) -> impl Future<Output = Result<Option<Uuid>>> + Send;

    /// Reads the selected objects, in the order of their ids.
    fn read(
        db: &mut PgConnection,
        which: Which<'_>,
    ) -> impl Future<Output = Result<Vec<Stored<Self>>>> + Send;

    /// Validates the object and writes it, replacing `before` if given; returns its id.
    fn write(
        &self,
        change: &mut Edit<'_>,
        before: Option<&Stored<Self>>,
    ) -> impl Future<Output = Result<Uuid>> + Send;

    /// True if both documents define the same object, perhaps in different forms.
    fn is_equivalent(&self, other: &Self) -> bool {
        self == other
    }

    /// Removes the members of the current document that the patch replaces under other names.
    fn remove_superseded(_document: &mut Map<String, Value>, _patch: &Map<String, Value>) {}
}

/// The filters of a list; by default, all objects are listed.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Lists only disabled objects (`true`), or only enabled ones (`false`).
    pub disabled: Option<bool>,
    /// Lists only objects whose name contains this text, ignoring case.
    pub name: Option<String>,
}

/// An object after a change, with warnings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Saved<D> {
    /// The object.
    #[serde(flatten)]
    pub stored: Stored<D>,
    /// Possible problems that do not prevent the change, as sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Tessera {
    /// Adds an object to the configuration.
    ///
    /// # Errors
    /// `422 invalid` with every fault; `409 name_taken`, `limit_reached`; `busy`; those of the database.
    pub async fn add<D: Document>(&self, caller: &Caller, document: D) -> Result<Saved<D>> {
        let mut change = Edit::begin(self, caller, false).await?;
        let id = document.write(&mut change, None).await?;
        change.commit(self, id).await
    }

    /// Changes an object: each member of the patch replaces the current one, and `null` restores its default. A patch that changes
    /// nothing writes nothing. `force` allows a change even if scrips or lifecycles name what it removes, but never the removal of
    /// statuses or values that tickets have.
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
        let mut change = Edit::begin(self, caller, force).await?;
        let before = find::<D>(&mut change.db, word).await?;
        let after: D = documents::read(patched(&before.document, patch)?)?;
        if after.is_equivalent(&before.document) {
            return Ok(Saved { stored: before, warnings: Vec::new() });
        }
        let id = after.write(&mut change, Some(&before)).await?;
        change.commit(self, id).await
    }

    /// Returns the object with this name or id.
    ///
    /// # Errors
    /// `not_found`; those of the database.
    pub async fn object<D: Document>(&self, _caller: &Caller, word: &str) -> Result<Stored<D>> {
        find(&mut *self.pools.read.acquire().await.map_err(error)?, word).await
    }

    /// Lists a page of at most `limit` objects, in the order of creation.
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
        // No name contains U+0000, and PostgreSQL rejects it in a parameter.
        if name.as_ref().is_some_and(|name| name.contains('\0')) {
            return Ok(Page { items: Vec::new(), next_cursor: None });
        }
        let name = name.as_deref().map(composed);
        let mut db = self.pools.read.acquire().await.map_err(error)?;
        let mut page = Filling::new(limit);
        while let Some(wanted) = page.wants() {
            let from = page.last().map_or(from, |last: &Stored<D>| after(last.id));
            let which = Which { from, disabled: *disabled, name: name.as_deref(), limit: wanted };
            page.add(D::read(&mut db, which).await?, wanted).map_err(unwritable)?;
        }
        Ok(page.page(|stored| stored.id.to_string()))
    }
}

impl Tessera {
    /// Reloads the configuration after a change. A failure is only logged: the change is committed, and the next use of the
    /// configuration reloads it.
    async fn reload_configuration(&self) {
        if let Err(error) = self.fresh_catalog().await {
            tracing::warn!(%error, "cannot reload the configuration after a change; the next request will try again");
        }
    }
}

/// Returns the object with this name or id.
async fn find<D: Document>(db: &mut PgConnection, word: &str) -> Result<Stored<D>> {
    let missing = || Error::not_found(D::WHAT, quote(word));
    // No name contains U+0000, and PostgreSQL rejects it in a parameter.
    if word.contains('\0') {
        return Err(missing());
    }
    let name = typed(word);
    let id = match D::id_of(&mut *db, &name).await? {
        // An older version may have stored a name in another form.
        None if name != word => D::id_of(&mut *db, word).await?,
        found => found,
    };
    let id = id.ok_or_else(missing)?;
    at(db, id).await?.ok_or_else(missing)
}

/// Returns the object with this id.
async fn at<D: Document>(db: &mut PgConnection, id: Uuid) -> Result<Option<Stored<D>>> {
    Ok(D::read(db, Which::one(id)).await?.into_iter().find(|stored| stored.id == id))
}

/// Applies a patch to the members of a document.
fn patched<D: Document>(document: &D, patch: Map<String, Value>) -> Result<Map<String, Value>> {
    let Ok(Value::Object(mut members)) = serde_json::to_value(document) else {
        return Err(Error::internal("The document cannot be serialized.", D::WHAT));
    };
    D::remove_superseded(&mut members, &patch);
    members.extend(patch);
    Ok(members)
}

fn unwritable(source: serde_json::Error) -> Error {
    Error::internal("An object of the configuration cannot be written as JSON.", source)
}

/// Returns the smallest id above `id`.
fn after(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

/// A change of the configuration in progress. Dropping it rolls it back.
pub struct Edit<'t> {
    db: Transaction<'static, Postgres>,
    /// The current configuration, read under the lock.
    catalog: Catalog,
    /// The version of the configuration that this change creates.
    version: i64,
    /// True if it creates a version. Changes of unprivileged users do not, because these are not in the catalog.
    bumps: bool,
    guard: &'t Guard,
    actor: UserId,
    now: OffsetDateTime,
    ids: Ids,
    force: bool,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl<'t> Edit<'t> {
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

    /// Commits. With `bumps`, the configuration gets the new version.
    async fn close(mut self, tessera: &Tessera, bumps: bool) -> Result<()> {
        if bumps {
            configuration::set_version(&mut self.db, self.version).await?;
        }
        Failpoint::ConfigurationWritten.pass();
        self.db.commit().await.map_err(error)?;
        Failpoint::ConfigurationCommitted.pass();
        if bumps {
            tessera.reload_configuration().await;
        }
        Ok(())
    }

    fn fault(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault::new(field, message));
    }

    /// Adds a fault if there is a reason.
    fn fault_if(&mut self, field: &str, reason: Option<String>) {
        self.faults.extend(reason.map(|message| Fault::new(field, message)));
    }

    fn description(&mut self, description: Option<&str>) {
        self.fault_if("description", description.and_then(|text| fault(text, DESCRIPTION_MAX)));
    }

    /// Fails with all faults so far, if there are any.
    fn check(&mut self) -> Result<()> {
        match std::mem::take(&mut self.faults) {
            faults if faults.is_empty() => Ok(()),
            faults => Err(Error::invalid(faults)),
        }
    }

    /// Rejects the change because something names what it removes. With `force`, adds a warning instead.
    fn in_use(&mut self, detail: String) -> Result<()> {
        if self.force {
            self.warnings.push(detail);
            return Ok(());
        }
        let detail = format!("{detail} Change that first, or add ?force=true to make this change anyway.");
        Err(Error::new(Code::InUse, detail))
    }

    /// Rejects the change if enabled scrips name what it removes.
    fn scrips_in_use(&mut self, what: &str, scrips: &[String]) -> Result<()> {
        if scrips.is_empty() {
            return Ok(());
        }
        self.in_use(naming("scrip", scrips, what))
    }

    /// Returns the queue with this name or id, for a member of a document.
    fn queue(&mut self, field: &str, word: &str) -> Option<QueueId> {
        let found = self.catalog.queues.find(word).map(|queue| queue.id);
        if found.is_none() {
            let message = format!(
                "there is no queue \"{word}\"; existing queues: {}",
                list(self.catalog.queue_names())
            );
            self.fault(field, message);
        }
        found
    }

    async fn live_scrips(&mut self) -> Result<Vec<Stored<ScripDocument>>> {
        live_scrips(&mut self.db).await
    }
}

/// Reads every scrip that is not disabled.
async fn live_scrips(db: &mut PgConnection) -> Result<Vec<Stored<ScripDocument>>> {
    ScripDocument::read(db, Which { disabled: Some(false), ..Which::ALL }).await
}

/// Returns the sentence that scrips or templates (`noun`) name an object.
fn naming(noun: &str, names: &[String], object: &str) -> String {
    let (plural, verb) = if names.len() == 1 { ("", "names") } else { ("s", "name") };
    format!("The {noun}{plural} {} {verb} {object}.", list(names))
}

/// Fails if the desk already has the maximum number of objects.
fn limit(what: &str, count: usize, max: usize) -> Result<()> {
    if count < max {
        return Ok(());
    }
    let detail = format!(
        "There are already {count} {what}, and the maximum is {max}. Reuse one that is no longer needed."
    );
    Err(Error::new(Code::LimitReached, detail))
}
