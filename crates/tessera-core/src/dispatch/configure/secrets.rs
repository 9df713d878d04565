//! Secrets: written and named, never shown.

use super::super::Tessera;
use crate::db::malformed_cursor;
use crate::db::secrets;
use crate::delivery::sign::SigningKey;
use crate::error::{Error, Fault, Result};
use crate::models::page::Page;
use crate::models::secret::Secret;
use crate::models::text::{fault, name_fault};

/// The longest value of a secret, in bytes.
pub const SECRET_MAX: usize = 4_096;

impl Tessera {
    /// Stores a secret, in the place of one of that name. It is in effect for the next attempt of every delivery, and
    /// does not change the configuration's version. Answers whether it is new.
    ///
    /// # Errors
    /// `422 invalid`; those of the database.
    pub async fn put_secret(&self, name: &str, value: &Secret) -> Result<bool> {
        let mut faults: Vec<Fault> = Vec::new();
        faults.extend(name_fault(name).map(|message| Fault::new("name", message)));
        faults.extend(value_fault(value).map(|message| Fault::new("value", message)));
        if !faults.is_empty() {
            return Err(Error::invalid(faults));
        }
        secrets::put(&self.pools.write, name, value).await
    }

    /// The names of the secrets, in their order.
    ///
    /// # Errors
    /// `400 malformed_cursor`; those of the database.
    pub async fn secret_names(&self, cursor: Option<&str>, limit: i64) -> Result<Page<String>> {
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
