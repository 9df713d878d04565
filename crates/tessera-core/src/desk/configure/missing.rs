//! Creates what an import lacks of the configuration, as the API would, in the database transaction of the import.

use super::{Document, Edit, at};
use crate::db::catalog;
use crate::db::configuration::{self, users};
use crate::delivery::guard::Guard;
use crate::error::{Kind, Result};
use crate::models::FieldType;
use crate::models::user::ADMIN_USER;
use crate::plan::Catalog;
use crate::plan::documents::{CustomFieldDocument, DEFAULT_LIFECYCLE, QueueDocument, Stored, UserDocument};
use crate::plan::import::{Missing, Refused, Thing};
use sqlx::{Postgres, Transaction};

/// The result: the database transaction that continues, and the configuration in it.
pub struct Created {
    /// The database transaction, which from now on holds the lock of the configuration.
    pub db: Transaction<'static, Postgres>,
    /// The configuration with the created objects.
    pub catalog: Catalog,
    /// The objects that could not be created, and why.
    pub refused: Refused,
    /// The number of objects created or changed.
    pub count: u64,
}

/// Creates what is missing: queues with the default lifecycle, Freeform fields with one or several values, attachments of fields
/// to queues, and privileged users. All of it is one version of the configuration. Objects that cannot be created are skipped
/// and listed in the result.
///
/// # Errors
/// `locked` if another change of the configuration takes longer than the lock timeout; those of the database.
pub async fn create(
    mut db: Transaction<'static, Postgres>,
    previous: &Catalog,
    guard: &Guard,
    missing: &Missing,
) -> Result<Created> {
    let version = configuration::lock(&mut db).await? + 1;
    let catalog = catalog::read_within(&mut db, Some(previous), previous.installation.clone()).await?;
    let mut creation = Creation {
        change: Edit::new(db, catalog, version, guard, ADMIN_USER),
        refused: Refused::new(),
        count: 0,
    };
    for (folded, name) in &missing.queues {
        creation.plant(Thing::Queue(folded.clone()), &queue(name), None).await?;
    }
    for (folded, (name, is_multiple)) in &missing.fields {
        creation.plant(Thing::Field(folded.clone()), &field(name, *is_multiple), None).await?;
    }
    for folded in &missing.wider {
        creation.widen(folded).await?;
    }
    for (folded, fields) in &missing.queue_fields {
        creation.attach(folded, fields).await?;
    }
    // Whoever has an address comes first: who is named without one may be one of them.
    let (bare, addressed): (Vec<_>, Vec<_>) =
        missing.agents.iter().partition(|(_, (_, address))| address.is_none());
    for (identity, (name, address)) in addressed.into_iter().chain(bare) {
        creation.agent(identity, name, address.as_deref()).await?;
    }
    let Creation { mut change, refused, count } = creation;
    if count > 0 {
        configuration::set_version(&mut change.db, version).await?;
        change.catalog.version = version;
    }
    Ok(Created { db: change.db, catalog: change.catalog, refused, count })
}

struct Creation<'g> {
    change: Edit<'g>,
    refused: Refused,
    count: u64,
}

impl Creation<'_> {
    /// Writes one object. If it is invalid, only its own rows are undone.
    async fn plant<D: Document>(
        &mut self,
        thing: Thing,
        document: &D,
        before: Option<&Stored<D>>,
    ) -> Result<()> {
        configuration::mark(&mut self.change.db).await?;
        match self.change.plant(document, before).await {
            Ok(()) => {
                self.count += 1;
                configuration::keep(&mut self.change.db).await
            }
            Err(error) if matches!(error.kind(), Kind::Invalid | Kind::Conflict) => {
                self.refused.insert(thing, error.detail().to_owned());
                self.change.faults.clear();
                configuration::undo(&mut self.change.db).await
            }
            Err(error) => Err(error),
        }
    }

    /// Changes a Freeform field to take several values.
    async fn widen(&mut self, folded: &str) -> Result<()> {
        let Some(id) = self.change.catalog.fields.find(folded).map(|field| field.id.0) else { return Ok(()) };
        let Some(before) = at::<CustomFieldDocument>(&mut self.change.db, id).await? else { return Ok(()) };
        let document = CustomFieldDocument { max_values: Some(0), ..before.document.clone() };
        self.plant(Thing::Field(folded.to_owned()), &document, Some(&before)).await
    }

    /// Attaches fields to a queue.
    async fn attach(&mut self, folded: &str, fields: &[String]) -> Result<()> {
        // A queue that does not exist could not be created above.
        let Some(id) = self.change.catalog.queues.find(folded).map(|queue| queue.id.0) else { return Ok(()) };
        let Some(before) = at::<QueueDocument>(&mut self.change.db, id).await? else { return Ok(()) };
        let mut document = before.document.clone();
        let known = fields.iter().filter(|name| self.change.catalog.fields.find(name).is_some());
        document.custom_fields.extend(known.cloned());
        if document == before.document {
            return Ok(());
        }
        self.plant(Thing::QueueFields(folded.to_owned()), &document, Some(&before)).await
    }

    /// Creates a privileged user, or makes an existing user privileged.
    async fn agent(&mut self, identity: &str, name: &str, address: Option<&str>) -> Result<()> {
        let named = self.user(name).await?;
        let before = match address {
            None => named.clone(),
            // An address identifies a person: who has another one is somebody else.
            Some(address) => self
                .user(address)
                .await?
                .or_else(|| named.clone().filter(|named| named.document.email.is_none())),
        };
        let document = match &before {
            // A line before named the same user differently and already made them privileged.
            Some(before) if before.document.privileged => return Ok(()),
            Some(before) => UserDocument { privileged: true, ..before.document.clone() },
            None => UserDocument {
                username: address.filter(|_| named.is_some()).unwrap_or(name).to_owned(),
                email: address.map(str::to_owned),
                name: named.is_some().then(|| name.to_owned()),
                privileged: true,
                disabled: false,
            },
        };
        self.plant(Thing::Agent(identity.to_owned()), &document, before.as_ref()).await
    }

    /// The user with this username or address.
    async fn user(&mut self, word: &str) -> Result<Option<Stored<UserDocument>>> {
        match users::person(&mut self.change.db, word).await? {
            Some(id) => at(&mut self.change.db, id.0).await,
            None => Ok(None),
        }
    }
}

fn queue(name: &str) -> QueueDocument {
    QueueDocument {
        name: name.to_owned(),
        description: None,
        lifecycle: DEFAULT_LIFECYCLE.to_owned(),
        correspond_address: None,
        comment_address: None,
        cc: Vec::new(),
        admin_cc: Vec::new(),
        custom_fields: Vec::new(),
        disabled: false,
    }
}

fn field(name: &str, is_multiple: bool) -> CustomFieldDocument {
    CustomFieldDocument {
        name: name.to_owned(),
        field_type: FieldType::Freeform,
        values: Vec::new(),
        max_values: Some(u32::from(!is_multiple)),
        pattern: None,
        disabled: false,
    }
}

impl Edit<'_> {
    /// Writes an object as the API would, and reads the configuration again so that the next object can refer to it.
    pub(super) async fn plant<D: Document>(
        &mut self,
        document: &D,
        before: Option<&Stored<D>>,
    ) -> Result<()> {
        document.write(self, before).await?;
        let installation = self.catalog.installation.clone();
        self.catalog = catalog::read_within(&mut self.db, Some(&self.catalog), installation).await?;
        Ok(())
    }
}
