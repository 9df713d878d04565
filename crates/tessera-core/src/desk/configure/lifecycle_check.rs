//! Checks a lifecycle without saving it: its faults, the linter's findings, and the tickets, scrips and maps that an edit would
//! strand.

use super::lifecycles::{gone, maps_naming, queues_of, scrips_left};
use super::{Caller, find, live_scrips};
use crate::db::configuration::tickets;
use crate::db::error;
use crate::desk::{Tessera, clock};
use crate::error::{Error, Fault, Kind, Result};
use crate::lifecycle::Lifecycle;
use crate::lifecycle::lint::{Finding, Surroundings, lint};
use crate::models::text::fold;
use crate::models::{LifecycleId, QueueId, StatusClass};
use crate::plan::Catalog;
use crate::plan::documents::{self, LifecycleDocument, Stored};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgConnection;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// The name of a new lifecycle in findings until it has one.
const UNNAMED: &str = "new lifecycle";

/// The result of checking a lifecycle.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LifecycleCheck {
    /// True if it can be saved as it is, without `force`.
    pub is_savable: bool,
    /// The lifecycle that it would replace; null for a new lifecycle.
    pub replaces: Option<Replaced>,
    /// All faults, each with its path.
    pub faults: Vec<Fault>,
    /// The findings of the linter, the most serious first; empty while there are faults.
    pub findings: Vec<Finding>,
    /// The number of tickets in the queues of the lifecycle, by queue and status.
    pub tickets: Vec<StatusUse>,
    /// References to removed statuses, which prevent saving.
    pub stranded: Stranded,
}

/// A lifecycle that an edit replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// The id.
    pub id: Uuid,
    /// The name.
    pub name: String,
    /// The version.
    pub version: i32,
}

/// Tickets in a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusUse {
    /// The queue.
    pub queue: String,
    /// The status.
    pub status: String,
    /// The number of tickets.
    pub tickets: i64,
    /// The list of the status in the definition; null if the definition does not have it.
    pub class: Option<StatusClass>,
}

/// Tickets, scrips and maps that an edit would leave with a removed status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stranded {
    /// Tickets. `force` does not override these.
    pub tickets: Vec<StatusUse>,
    /// Enabled scrips; `?force=true` saves anyway.
    pub scrips: Vec<ScripLeft>,
    /// Other lifecycles whose maps refer to the lifecycle or to a removed status; `?force=true` saves anyway.
    pub maps: Vec<String>,
}

/// A scrip that names a status that no lifecycle of its queues would have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScripLeft {
    /// The name of the scrip.
    pub scrip: String,
    /// The status.
    pub status: String,
}

impl Tessera {
    /// Checks a definition as saving it would, without saving it. `id` (a name or an id) is the lifecycle that it would replace;
    /// by default, that is the lifecycle with the same `name`.
    ///
    /// # Errors
    /// `not_found` if there is no lifecycle `id`; those of the database.
    pub async fn check_lifecycle(
        &self,
        _caller: &Caller,
        id: Option<&str>,
        name: Option<&str>,
        definition: Value,
    ) -> Result<LifecycleCheck> {
        let catalog = self.fresh_catalog().await?;
        let mut db = self.pools.read.acquire().await.map_err(error)?;
        let before = replaced(&mut db, id, name).await?;
        let mut check = LifecycleCheck {
            is_savable: false,
            replaces: before.as_ref().map(|before| Replaced {
                id: before.id,
                name: before.document.name.clone(),
                version: before.version.unwrap_or_default(),
            }),
            faults: Vec::new(),
            findings: Vec::new(),
            tickets: Vec::new(),
            stranded: Stranded::default(),
        };
        let name = name.or(before.as_ref().map(|before| before.document.name.as_str())).unwrap_or(UNNAMED);
        let after = match compiled(before.as_ref().map(|before| before.id), name, definition) {
            Ok(after) => after,
            Err(faults) => {
                check.faults = faults;
                return Ok(check);
            }
        };
        let old = before.and_then(|before| catalog.lifecycles.get(LifecycleId(before.id)).cloned());
        if let Some(old) = &old {
            check.tickets = tickets_of(&mut db, &catalog, old.id(), &after).await?;
            check.stranded = stranded(&mut db, &catalog, old, &after).await?;
            check.stranded.tickets =
                check.tickets.iter().filter(|tickets| tickets.class.is_none()).cloned().collect();
        }
        check.findings = findings(&catalog, old.as_deref(), &after, &check.tickets);
        check.is_savable = check.stranded == Stranded::default();
        Ok(check)
    }
}

async fn replaced(
    db: &mut PgConnection,
    id: Option<&str>,
    name: Option<&str>,
) -> Result<Option<Stored<LifecycleDocument>>> {
    if let Some(id) = id {
        return find(db, id).await.map(Some);
    }
    let Some(name) = name else { return Ok(None) };
    match find::<LifecycleDocument>(db, name).await {
        // `find` also takes ids, but an id is not a valid name.
        Ok(found) => Ok(Some(found).filter(|found| fold(&found.document.name) == fold(name))),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Compiles a definition, or returns all of its faults.
fn compiled(id: Option<Uuid>, name: &str, definition: Value) -> Result<Lifecycle, Vec<Fault>> {
    let members = [("name".to_owned(), Value::from(name)), ("definition".to_owned(), definition)];
    let document: LifecycleDocument =
        documents::read(Map::from_iter(members)).map_err(|error: Error| error.faults().to_vec())?;
    let mut ids = clock::ids();
    let id = id.map_or_else(|| ids.draw(), LifecycleId);
    Lifecycle::compile(id, ids.draw(), document.name, document.definition)
}

async fn tickets_of(
    db: &mut PgConnection,
    catalog: &Catalog,
    lifecycle: LifecycleId,
    after: &Lifecycle,
) -> Result<Vec<StatusUse>> {
    let queues: Vec<Uuid> = queues_of(catalog, lifecycle).map(|queue| queue.id.0).collect();
    let rows = tickets::statuses_by_queue(db, &queues).await?;
    let of_queue = |row: tickets::QueueStatus| StatusUse {
        queue: catalog.queues.get(QueueId(row.queue)).map(|queue| queue.name.clone()).unwrap_or_default(),
        class: after.class_of(&row.status),
        status: row.status,
        tickets: row.tickets,
    };
    Ok(rows.into_iter().map(of_queue).collect())
}

/// The scrips and maps that an edit would leave behind.
async fn stranded(
    db: &mut PgConnection,
    catalog: &Catalog,
    old: &Lifecycle,
    after: &Lifecycle,
) -> Result<Stranded> {
    let gone = gone(old, after);
    let live = live_scrips(db).await?;
    let left = |status: &String| {
        let scrips = scrips_left(catalog, &live, old.id(), status);
        scrips.into_iter().map(|scrip| ScripLeft { scrip, status: status.clone() }).collect::<Vec<_>>()
    };
    let is_renamed = fold(old.name()) != fold(after.name());
    Ok(Stranded {
        tickets: Vec::new(),
        scrips: gone.iter().flat_map(left).collect(),
        maps: maps_naming(catalog, old, is_renamed, &gone),
    })
}

fn findings(
    catalog: &Catalog,
    before: Option<&Lifecycle>,
    after: &Lifecycle,
    tickets: &[StatusUse],
) -> Vec<Finding> {
    let others: Vec<&Lifecycle> = catalog.lifecycles.iter().map(Arc::as_ref).collect();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for one in tickets {
        *counts.entry(one.status.clone()).or_default() += u64::try_from(one.tickets).unwrap_or_default();
    }
    lint(after, &Surroundings { before, tickets: Some(&counts), others: &others })
}
