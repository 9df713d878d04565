//! Lifecycles: an edit cannot leave tickets, scrips or maps with a removed status, and tickets follow the class of their status.

use super::mentions::Thing;
use super::scrips::lifecycles_of;
use super::{Document, Edit, Versioned, limit};
use crate::db::configuration::{Version, Which, lifecycles, tickets};
use crate::error::{Code, Error, Result};
use crate::lifecycle::Lifecycle;
use crate::lifecycle::lint::{Surroundings, lint};
use crate::models::text::{fold, list, quote};
use crate::models::{LifecycleId, Queue, QueueId, StatusClass};
use crate::plan::Catalog;
use crate::plan::documents::{DEFAULT_LIFECYCLE, LifecycleDocument, ScripDocument, Stored};
use sqlx::PgConnection;
use std::sync::Arc;
use uuid::Uuid;

/// The maximum number of lifecycles.
pub const LIFECYCLES_MAX: usize = 100;
/// The maximum number of tickets that an edit moves from one class to another.
pub const RECLASSED_MAX: i64 = 10_000;

impl Document for LifecycleDocument {
    const WHAT: &'static str = "lifecycle";

    async fn id_of(db: &mut PgConnection, word: &str) -> Result<Option<Uuid>> {
        lifecycles::id_of(db, word).await
    }

    async fn read(db: &mut PgConnection, which: Which<'_>) -> Result<Vec<Stored<Self>>> {
        lifecycles::read(db, which).await
    }

    async fn write(&self, change: &mut Edit<'_>, before: Option<&Stored<Self>>) -> Result<Uuid> {
        let id = before.map_or_else(|| change.ids.draw(), |before| LifecycleId(before.id));
        let compiled = Lifecycle::compile(id, change.ids.draw(), self.name.clone(), self.definition.clone());
        let after = compiled.map_err(Error::invalid)?;
        let old = change.catalog.lifecycles.get(id).cloned();
        match &old {
            None => limit("lifecycles", change.catalog.lifecycles.len(), LIFECYCLES_MAX)?,
            Some(old) => edit(change, old, &after).await?,
        }
        if self.disabled && before.is_some_and(|before| !before.document.disabled) {
            self.check_queues(change, id)?;
        }
        warn(change, old.as_deref(), &after);
        let version = before.and_then(|before| before.version).unwrap_or(0) + 1;
        lifecycles::write(&mut change.db, &after, version, self.disabled, change.actor, change.version)
            .await?;
        Ok(id.0)
    }
}

impl Versioned for LifecycleDocument {
    async fn versions(
        db: &mut PgConnection,
        id: Uuid,
        below: Option<i32>,
        limit: i64,
    ) -> Result<Vec<Version>> {
        lifecycles::versions(db, id, below, limit).await
    }
}

impl LifecycleDocument {
    /// Rejects disabling a lifecycle that a queue uses. Disabled queues count, because their tickets still exist.
    fn check_queues(&self, change: &mut Edit<'_>, id: LifecycleId) -> Result<()> {
        let queues = queues_of(&change.catalog, id).map(|queue| queue.name.clone()).collect::<Vec<_>>();
        if !queues.is_empty() {
            let detail = format!(
                "The queues {} use the lifecycle {}. Give them another lifecycle first.",
                list(&queues),
                quote(&self.name)
            );
            return Err(Error::new(Code::InUse, detail));
        }
        if fold(&self.name) == DEFAULT_LIFECYCLE {
            change.warnings.push(format!(
                "New queues that name no lifecycle use \"{DEFAULT_LIFECYCLE}\", which is now disabled. From now on, every new queue must name a lifecycle."
            ));
        }
        Ok(())
    }
}

/// The queues of a lifecycle, including disabled ones.
pub(super) fn queues_of(catalog: &Catalog, lifecycle: LifecycleId) -> impl Iterator<Item = &Arc<Queue>> {
    catalog.queues.iter().filter(move |queue| queue.lifecycle == lifecycle)
}

/// Checks that an edit leaves no reference behind, and moves tickets to the new class of their status.
async fn edit(change: &mut Edit<'_>, old: &Arc<Lifecycle>, after: &Lifecycle) -> Result<()> {
    let is_renamed = fold(old.name()) != fold(after.name());
    if is_renamed && fold(old.name()) == DEFAULT_LIFECYCLE {
        change.warnings.push(format!(
            "New queues that name no lifecycle use \"{DEFAULT_LIFECYCLE}\", which no longer exists. From now on, every new queue must name a lifecycle."
        ));
    }
    let gone = gone(old, after);
    let holders = maps_naming(&change.catalog, old, is_renamed, &gone);
    if !holders.is_empty() {
        let what = if is_renamed { quote(old.name()) } else { list(&gone) };
        change.in_use(format!("The maps of the lifecycles {} refer to {what}.", list(&holders)))?;
    }
    if is_renamed {
        let scrips = change.scrips_naming(Thing::Lifecycle, &[old.name()]).await?;
        change.scrips_in_use(&format!("the lifecycle {}", quote(old.name())), &scrips)?;
    }
    let live = change.live_scrips().await?;
    for status in &gone {
        let scrips = scrips_left(&change.catalog, &live, old.id(), status);
        change.scrips_in_use(&format!("the status {}", quote(status)), &scrips)?;
    }
    let moves = old.statuses().iter().any(|status| after.class_of(status) != old.class_of(status));
    if moves {
        let queues: Vec<QueueId> = queues_of(&change.catalog, old.id()).map(|queue| queue.id).collect();
        change.fit_tickets(&queues, after).await?;
    }
    Ok(())
}

/// The statuses that an edit removes.
pub(super) fn gone(old: &Lifecycle, after: &Lifecycle) -> Vec<String> {
    old.statuses().iter().filter(|status| after.class_of(status).is_none()).cloned().collect()
}

/// Other lifecycles whose maps to this one refer to its old name or to a removed status.
pub(super) fn maps_naming(
    catalog: &Catalog,
    old: &Lifecycle,
    is_renamed: bool,
    gone: &[String],
) -> Vec<String> {
    let names = |other: &&Arc<Lifecycle>| {
        let maps = other.definition().maps.iter().flatten();
        maps.filter(|(target, _)| fold(target) == fold(old.name()))
            .any(|(_, map)| is_renamed || map.values().any(|status| gone.contains(&fold(status))))
    };
    let others = catalog.lifecycles.iter().filter(|other| other.id() != old.id());
    others.filter(names).map(|other| other.name().to_owned()).collect()
}

/// Scrips that name a status of `lifecycle` which no other lifecycle of their queues has.
pub(super) fn scrips_left(
    catalog: &Catalog,
    live: &[Stored<ScripDocument>],
    lifecycle: LifecycleId,
    status: &str,
) -> Vec<String> {
    let is_left = |scrip: &&Stored<ScripDocument>| {
        let mentions = super::mentions::of(catalog, &scrip.document);
        let names =
            |thing| mentions.iter().any(|mention| mention.thing == thing && fold(&mention.name) == status);
        let concerned = lifecycles_of(catalog, &scrip.document);
        let is_concerned = concerned.iter().any(|one| one.id() == lifecycle);
        let is_elsewhere =
            concerned.iter().any(|one| one.id() != lifecycle && one.class_of(status).is_some());
        let others = catalog.lifecycles.iter().filter(|other| other.id() != lifecycle);
        let is_anywhere = others.into_iter().any(|other| other.class_of(status).is_some());
        (names(Thing::Status) && is_concerned && !is_elsewhere) || (names(Thing::AnyStatus) && !is_anywhere)
    };
    live.iter().filter(is_left).map(|scrip| scrip.document.name.clone()).collect()
}

fn warn(change: &mut Edit<'_>, before: Option<&Lifecycle>, after: &Lifecycle) {
    let others: Vec<&Lifecycle> = change.catalog.lifecycles.iter().map(Arc::as_ref).collect();
    let around = Surroundings { before, tickets: None, others: &others };
    // A missing map is usually intended.
    let findings = lint(after, &around).into_iter().filter(|finding| finding.code != "no_map");
    change.warnings.extend(findings.map(|finding| finding.text));
}

impl Edit<'_> {
    /// Adapts the tickets of some queues to their new lifecycle. Fails if a ticket has a status that the lifecycle does not have;
    /// updates tickets whose status has a different class.
    pub(super) async fn fit_tickets(&mut self, queues: &[QueueId], lifecycle: &Lifecycle) -> Result<()> {
        let queues: Vec<Uuid> = queues.iter().map(|queue| queue.0).collect();
        tickets::hold(&mut self.db).await?;
        let counts = tickets::statuses(&mut self.db, &queues).await?;
        let mut stranded = Vec::new();
        let mut moved = Vec::new();
        for count in counts {
            match lifecycle.class_of(&count.status) {
                None => stranded.push(format!("{} in {}", tickets_of(count.tickets), quote(&count.status))),
                Some(class) if class.as_char() != count.class => moved.push((count, class)),
                Some(_) => {}
            }
        }
        if !stranded.is_empty() {
            let detail = format!(
                "The lifecycle {} would no longer have statuses that tickets are in: {}. Keep these statuses, or move the tickets first.",
                quote(lifecycle.name()),
                stranded.join(", ")
            );
            return Err(Error::new(Code::InUse, detail));
        }
        let total: i64 = moved.iter().map(|(count, _)| count.tickets).sum();
        if total > RECLASSED_MAX {
            let detail = format!(
                "{} would change to another class, and at most {RECLASSED_MAX} can do so at a time. \
                 Add a status in the new class, and move the tickets to it.",
                tickets_of(total)
            );
            return Err(Error::new(Code::LimitReached, detail));
        }
        for (count, class) in moved {
            self.reclass(&queues, &count, class).await?;
        }
        Ok(())
    }

    async fn reclass(
        &mut self,
        queues: &[Uuid],
        count: &tickets::StatusCount,
        new: StatusClass,
    ) -> Result<()> {
        let old = StatusClass::from_char(count.class)
            .ok_or_else(|| Error::internal("A ticket has an unknown status class.", count.status.clone()))?;
        let tickets = tickets::in_status(&mut self.db, queues, &count.status, count.class).await?;
        let rows: Vec<_> =
            tickets.into_iter().map(|ticket| (ticket, self.ids.draw(), self.ids.draw())).collect();
        let moved = tickets::Reclass {
            old,
            new,
            tickets: &rows,
            actor: self.actor,
            config_version: self.version,
            now: self.now,
        };
        tickets::reclass(&mut self.db, &moved).await
    }
}

fn tickets_of(count: i64) -> String {
    if count == 1 { "1 ticket".to_owned() } else { format!("{count} tickets") }
}
