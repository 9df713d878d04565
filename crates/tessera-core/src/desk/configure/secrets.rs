//! Secrets: they can be written, listed by name and deleted, but never read.

use super::{Caller, Edit, Tessera};
use crate::db::{error, malformed_cursor, secrets};
use crate::delivery::sign::SigningKey;
use crate::error::{Error, Fault, Result};
use crate::models::page::Page;
use crate::models::secret::Secret;
use crate::models::text::{fault, name_fault, quote};
use crate::plan::documents::ScripDocument;
use crate::scrip::action::Action;

/// The maximum length of a secret, in bytes.
pub const SECRET_MAX: usize = 4_096;

impl Tessera {
    /// Stores a secret, replacing one of the same name. The next attempt of every delivery uses it; the version of the configuration
    /// does not change. Returns true if the secret is new.
    ///
    /// # Errors
    /// `422 invalid`; those of the database.
    pub async fn put_secret(&self, _caller: &Caller, name: &str, value: &Secret) -> Result<bool> {
        let mut faults: Vec<Fault> = Vec::new();
        faults.extend(name_fault(name).map(|message| Fault::new("name", message)));
        faults.extend(value_fault(value).map(|message| Fault::new("value", message)));
        if !faults.is_empty() {
            return Err(Error::invalid(faults));
        }
        secrets::put(&self.pools.write, name, value).await
    }

    /// Deletes a secret. Unlike other objects it is not disabled, because keeping unused secrets would only be a risk. `force` deletes a
    /// secret that scrips name; their next deliveries fail until a secret of this name exists again.
    ///
    /// # Errors
    /// `not_found`; `409 in_use`; those of the database.
    pub async fn delete_secret(&self, caller: &Caller, name: &str, force: bool) -> Result<()> {
        let missing = || Error::not_found("secret", quote(name));
        if name.contains('\0') {
            return Err(missing());
        }
        // The lock of the configuration ensures that no scrip starts to use the secret meanwhile.
        let mut change = Edit::begin(self, caller, force).await?;
        if !secrets::delete(&mut change.db, name).await? {
            return Err(missing());
        }
        let names = |document: &ScripDocument| {
            Action::compile(&document.action_type, &document.action_config)
                .is_ok_and(|action| action.secrets().contains(&name))
        };
        let scrips = change.live_scrips().await?.into_iter().filter(|scrip| names(&scrip.document));
        let scrips: Vec<String> = scrips.map(|scrip| scrip.document.name).collect();
        change.scrips_in_use(&format!("the secret {}", quote(name)), &scrips)?;
        change.db.commit().await.map_err(error)
    }

    /// Lists the names of the secrets, sorted by name.
    ///
    /// # Errors
    /// `400 malformed_cursor`; those of the database.
    pub async fn secret_names(
        &self,
        _caller: &Caller,
        cursor: Option<&str>,
        limit: i64,
    ) -> Result<Page<String>> {
        let after = cursor.unwrap_or_default();
        if after.contains('\0') {
            return Err(malformed_cursor());
        }
        let names = secrets::names(&self.pools.read, after, limit + 1).await?;
        Ok(Page::cut(names, limit, Clone::clone))
    }
}

fn value_fault(value: &Secret) -> Option<String> {
    let text = value.expose();
    if text.is_empty() {
        return Some(format!("is empty; a secret has 1 to {SECRET_MAX} bytes"));
    }
    if text.starts_with("whsec_") {
        return SigningKey::parse(value).err();
    }
    // Secrets are sent in headers, which are one line.
    let is_line = !text.chars().any(char::is_control);
    fault(text, SECRET_MAX).or_else(|| {
        (!is_line)
            .then(|| "contains a line break or another control character; it must be one line".to_owned())
    })
}
