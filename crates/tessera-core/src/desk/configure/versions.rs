//! Versions of an object: listing, comparing and restoring them. Restoring runs the checks of any change.

use super::{Document, Edit, Saved, find, unwritable};
use crate::db::configuration::Version;
use crate::db::{error, malformed_cursor};
use crate::desk::{Caller, Tessera};
use crate::error::{Code, Error, Kind, Result};
use crate::models::page::{Filling, Page};
use crate::models::text::quote;
use crate::plan::documents::{self, Stored};
use serde::Serialize;
use serde_json::{Map, Value};
use similar::TextDiff;
use sqlx::PgConnection;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The time limit for comparing all texts of two versions; after it, the differences are coarser.
const DIFF_MAX: Duration = Duration::from_millis(200);
/// The number of unchanged lines shown around a changed line.
const CONTEXT_LINES: usize = 3;

/// A type of object whose versions are all kept.
pub trait Versioned: Document {
    /// Reads the versions of an object, newest first, only those below `below`.
    fn versions(
        db: &mut PgConnection,
        id: Uuid,
        below: Option<i32>,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<Version>>> + Send;
}

/// The differences between two versions of an object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The version that is compared.
    pub from: Version,
    /// The version that it is compared with.
    pub to: Version,
    /// The members that differ.
    pub differences: Vec<Difference>,
}

/// A member in which two versions differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The path of the member, such as `action_config.to`.
    pub member: String,
    /// The value in `from`; also `null` if it lacks the member.
    pub before: Value,
    /// The value in `to`; also `null` if it lacks the member.
    pub after: Value,
    /// For texts of several lines: a unified diff, with removed (`-`) and added (`+`) lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

impl Tessera {
    /// Lists a page of the versions of an object, newest first.
    ///
    /// # Errors
    /// `not_found`; `400 malformed_cursor`; those of the database.
    pub async fn versions<D: Versioned>(
        &self,
        _caller: &Caller,
        word: &str,
        cursor: Option<&str>,
        limit: i64,
    ) -> Result<Page<Version>> {
        let below = cursor.map(|cursor| cursor.parse().map_err(|_| malformed_cursor())).transpose()?;
        let mut db = self.pools.read.acquire().await.map_err(error)?;
        let stored = find::<D>(&mut db, word).await?;
        let mut page = Filling::new(limit);
        while let Some(wanted) = page.wants() {
            let below = page.last().map_or(below, |last: &Version| Some(last.version));
            page.add(D::versions(&mut db, stored.id, below, wanted).await?, wanted).map_err(unwritable)?;
        }
        Ok(page.page(|version| version.version.to_string()))
    }

    /// Returns one version of an object.
    ///
    /// # Errors
    /// `not_found`; those of the database.
    pub async fn version<D: Versioned>(&self, _caller: &Caller, word: &str, version: i32) -> Result<Version> {
        let mut db = self.pools.read.acquire().await.map_err(error)?;
        let stored = find::<D>(&mut db, word).await?;
        version_of(&mut db, &stored, version).await
    }

    /// Compares version `from` of an object with version `to`.
    ///
    /// # Errors
    /// `not_found`; those of the database.
    pub async fn compare<D: Versioned>(
        &self,
        _caller: &Caller,
        word: &str,
        from: i32,
        to: i32,
    ) -> Result<Comparison> {
        let mut db = self.pools.read.acquire().await.map_err(error)?;
        let stored = find::<D>(&mut db, word).await?;
        let from = version_of(&mut db, &stored, from).await?;
        let to = version_of(&mut db, &stored, to).await?;
        // The comparison may take long, and needs neither the connection nor a thread of the server.
        drop(db);
        let compared = tokio::task::spawn_blocking(move || {
            let differences = differences(&from.document, &to.document);
            Comparison { from, to, differences }
        });
        compared.await.map_err(|join| Error::internal("The versions could not be compared.", join))
    }

    /// Restores a version of an object as a new version; the history is not rewritten. Writes nothing if the object is already
    /// equivalent.
    ///
    /// # Errors
    /// `not_found`; those of [`Tessera::change`], for members that are not valid in the current configuration.
    pub async fn restore<D: Versioned>(
        &self,
        caller: &Caller,
        word: &str,
        version: i32,
        force: bool,
    ) -> Result<Saved<D>> {
        let mut change = Edit::begin(self, caller, force).await?;
        let before = find::<D>(&mut change.db, word).await?;
        let then = version_of(&mut change.db, &before, version).await?;
        let members = match then.document {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        let not_valid = |error: Error| match error.kind() {
            Kind::Invalid => {
                let detail = format!(
                    "Version {version} of the {} {} is not valid in the current configuration: {}",
                    D::WHAT,
                    quote(word),
                    error.detail()
                );
                Error::new(error.code(), detail).with_faults(error.faults().to_vec())
            }
            _ => error,
        };
        let after: D = documents::read(members).map_err(not_valid)?;
        if after.is_equivalent(&before.document) {
            return Ok(Saved { stored: before, warnings: Vec::new() });
        }
        let id = after.write(&mut change, Some(&before)).await.map_err(not_valid)?;
        change.commit(self, id).await
    }
}

async fn version_of<D: Versioned>(
    db: &mut PgConnection,
    stored: &Stored<D>,
    version: i32,
) -> Result<Version> {
    let found = D::versions(db, stored.id, version.checked_add(1), 1).await?;
    found.into_iter().find(|found| found.version == version).ok_or_else(|| {
        let newest = stored.version.unwrap_or_default();
        let detail = format!(
            "Version {version} of this {} does not exist; existing versions: 1 to {newest}.",
            D::WHAT
        );
        Error::new(Code::NotFound, detail)
    })
}

/// Returns the members that differ, comparing texts for at most [`DIFF_MAX`].
fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), Instant::now() + DIFF_MAX, &mut found);
    found
}

/// Adds the members that differ to `found`. Objects are compared by member, other values as a whole.
fn compare(
    path: &str,
    before: Option<&Value>,
    after: Option<&Value>,
    deadline: Instant,
    found: &mut Vec<Difference>,
) {
    if before == after {
        return;
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (before, after) {
        let members: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for member in members {
            let path = if path.is_empty() { member.clone() } else { format!("{path}.{member}") };
            compare(&path, old.get(member), new.get(member), deadline, found);
        }
        return;
    }
    let value = |value: Option<&Value>| value.cloned().unwrap_or_default();
    let diff = match (before.and_then(Value::as_str), after.and_then(Value::as_str)) {
        (Some(old), Some(new)) if old.contains('\n') || new.contains('\n') => Some(lines(old, new, deadline)),
        _ => None,
    };
    found.push(Difference { member: path.to_owned(), before: value(before), after: value(after), diff });
}

fn lines(old: &str, new: &str, deadline: Instant) -> String {
    let diff = TextDiff::configure().deadline(deadline).diff_lines(old, new);
    diff.unified_diff().context_radius(CONTEXT_LINES).to_string()
}

#[cfg(test)]
mod tests {
    //! Comparisons. The versions themselves are tested with a database.

    use super::*;
    use serde_json::json;

    fn compared(before: &Value, after: &Value) -> Vec<(String, Value, Value, Option<String>)> {
        differences(before, after)
            .into_iter()
            .map(|one| (one.member, one.before, one.after, one.diff))
            .collect()
    }

    #[test]
    fn objects_are_compared_member_by_member_and_lists_whole() {
        let before = json!({ "same": 1, "config": { "to": ["a", "b"], "gone": true }, "name": "x" });
        let after = json!({ "same": 1, "config": { "to": ["a"], "came": null }, "name": "y" });
        let expected = [
            ("config.gone", json!(true), json!(null)),
            ("config.to", json!(["a", "b"]), json!(["a"])),
            ("name", json!("x"), json!("y")),
        ];
        let found = compared(&before, &after);
        let shown: Vec<_> = found.iter().filter(|one| one.0 != "config.came").collect();
        assert_eq!(shown.len(), expected.len(), "{found:?}");
        for (one, (member, before, after)) in shown.into_iter().zip(expected) {
            assert_eq!((one.0.as_str(), &one.1, &one.2, &one.3), (member, &before, &after, &None));
        }
        assert_eq!(found.len(), 4, "an added null is a difference");
        assert_eq!(compared(&before, &before), []);
    }

    #[test]
    fn texts_of_several_lines_are_also_compared_by_line() {
        let [one] =
            compared(&json!({ "body": "a\nb\nc\n" }), &json!({ "body": "a\nB\nc\n" })).try_into().unwrap();
        assert_eq!(one.3.as_deref(), Some("@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"));
    }
}
