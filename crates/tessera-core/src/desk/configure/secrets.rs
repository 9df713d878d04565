//! Secrets: written and named, never shown.

use super::{Caller, Change, Tessera};
use crate::db::{error, malformed_cursor, secrets};
use crate::delivery::sign::SigningKey;
use crate::error::{Error, Fault, Result};
use crate::models::page::Page;
use crate::models::secret::Secret;
use crate::models::text::{fault, name_fault, quote};
use crate::plan::documents::ScripDocument;
use crate::scrip::action::Action;

/// The longest value of a secret, in bytes.
pub const SECRET_MAX: usize = 4_096;

impl Tessera {
    /// Stores a secret, in the place of one of that name. It is in effect for the next attempt of every delivery, and
    /// does not change the configuration's version. Answers whether it is new.
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

    /// Removes a secret. It is no history, and keeping what nothing needs would only be a risk: so it is not disabled.
    /// `force` removes one that scrips name; their next deliveries fail until there is one of that name again.
    ///
    /// # Errors
    /// `not_found`; `409 in_use`; those of the database.
    pub async fn delete_secret(&self, caller: &Caller, name: &str, force: bool) -> Result<()> {
        let missing = || Error::not_found("secret", quote(name));
        if name.contains('\0') {
            return Err(missing());
        }
        // Under the lock of the configuration no scrip can come to name it meanwhile.
        let mut change = Change::begin(self, caller, force).await?;
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

    /// The names of the secrets, in their order.
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
        return Some("is empty".to_owned());
    }
    if text.starts_with("whsec_") {
        return SigningKey::parse(value).err();
    }
    // A secret goes into a header, which is one line.
    let is_line = !text.chars().any(char::is_control);
    fault(text, SECRET_MAX)
        .or_else(|| (!is_line).then(|| "holds a line break or another control character".to_owned()))
}
