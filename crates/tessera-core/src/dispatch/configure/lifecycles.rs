//! Lifecycles: an edit leaves no ticket, scrip or map behind in a status that is no more, and tickets follow their class.

use super::mentions::Thing;
use super::{Change, Document, limit};
use crate::db::configuration::{lifecycles, tickets};
use crate::error::{Error, Kind, Result};
use crate::lifecycle::Lifecycle;
use crate::lifecycle::lint::{Surroundings, lint};
use crate::models::text::{fold, list, quote};
use crate::models::{LifecycleId, QueueId, StatusClass};
use crate::plan::documents::{DEFAULT_LIFECYCLE, LifecycleDocument, Stored};
use sqlx::PgConnection;
use std::sync::Arc;
use uuid::Uuid;

/// The most lifecycles of a desk.
pub const LIFECYCLES_MAX: usize = 100;
/// How many tickets an edit may move from one class to another.
pub const RECLASSED_MAX: i64 = 10_000;

impl Document for LifecycleDocument {
    const WHAT: &'static str = "lifecycle";

    async fn id_of(db: &mut PgConnection, word: &str) -> Result<Option<Uuid>> {
        lifecycles::id_of(db, word).await
    }

    async fn read(db: &mut PgConnection, from: Uuid, limit: i64) -> Result<Vec<Stored<Self>>> {
        lifecycles::read(db, from, limit).await
    }

    async fn write(&self, change: &mut Change<'_>, before: Option<&Stored<Self>>) -> Result<Uuid> {
        let id = before.map_or_else(|| change.ids.draw(), |before| LifecycleId(before.id));
        let compiled = Lifecycle::compile(id, change.ids.draw(), self.name.clone(), self.definition.clone());
        let after = compiled.map_err(Error::invalid)?;
        let old = change.catalog.lifecycles.get(id).cloned();
        match &old {
            None => limit("lifecycles", change.catalog.lifecycles.len(), LIFECYCLES_MAX)?,
            Some(old) => edit(change, old, &after).await?,
        }
        warn(change, old.as_deref(), &after);
        let version = before.and_then(|before| before.version).unwrap_or(0) + 1;
        lifecycles::write(&mut change.db, &after, version, change.actor, change.version).await?;
        Ok(id.0)
    }
}

/// What an edit asks of the things around the lifecycle, and does to its tickets.
async fn edit(change: &mut Change<'_>, old: &Arc<Lifecycle>, after: &Lifecycle) -> Result<()> {
    let is_renamed = fold(old.name()) != fold(after.name());
    if is_renamed && fold(old.name()) == DEFAULT_LIFECYCLE {
        change.warnings.push(format!(
            "New queues take the lifecycle \"{DEFAULT_LIFECYCLE}\" unless they name one; now there is none."
        ));
    }
    let gone: Vec<String> =
        old.statuses().iter().filter(|status| after.class_of(status).is_none()).cloned().collect();
    let holders = maps_naming(change, old, is_renamed, &gone);
    if !holders.is_empty() {
        let what = if is_renamed { quote(old.name()) } else { list(&gone) };
        change.in_use(format!("Maps of the lifecycles {} name {what}.", list(&holders)))?;
    }
    for status in &gone {
        let scrips = scrips_left(change, old.id(), status).await?;
        change.scrips_in_use(&format!("the status {}", quote(status)), &scrips)?;
    }
    let moves = old.statuses().iter().any(|status| after.class_of(status) != old.class_of(status));
    if moves {
        let of_it = |queue: &&Arc<crate::models::Queue>| queue.lifecycle == old.id();
        let queues: Vec<QueueId> = change.catalog.queues.iter().filter(of_it).map(|queue| queue.id).collect();
        change.fit_tickets(&queues, after).await?;
    }
    Ok(())
}

/// Other lifecycles whose maps to this one name it, or a status that goes.
fn maps_naming(change: &Change<'_>, old: &Lifecycle, is_renamed: bool, gone: &[String]) -> Vec<String> {
    let names = |other: &&Arc<Lifecycle>| {
        let maps = other.definition().maps.iter().flatten();
        maps.filter(|(target, _)| fold(target) == fold(old.name()))
            .any(|(_, map)| is_renamed || map.values().any(|status| gone.contains(&fold(status))))
    };
    let others = change.catalog.lifecycles.iter().filter(|other| other.id() != old.id());
    others.filter(names).map(|other| other.name().to_owned()).collect()
}

/// Scrips that name a status of `lifecycle` which no other lifecycle of their queues has.
async fn scrips_left(change: &mut Change<'_>, lifecycle: LifecycleId, status: &str) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for scrip in change.live_scrips().await? {
        let names = super::mentions::of(&scrip.document);
        let is_named =
            names.iter().any(|mention| mention.thing == Thing::Status && fold(&mention.name) == status);
        let concerned = change.lifecycles_of(&scrip.document);
        let is_concerned = concerned.iter().any(|one| one.id() == lifecycle);
        let is_elsewhere =
            concerned.iter().any(|one| one.id() != lifecycle && one.class_of(status).is_some());
        if is_named && is_concerned && !is_elsewhere {
            left.push(scrip.document.name);
        }
    }
    Ok(left)
}

fn warn(change: &mut Change<'_>, before: Option<&Lifecycle>, after: &Lifecycle) {
    let others: Vec<&Lifecycle> = change.catalog.lifecycles.iter().map(Arc::as_ref).collect();
    let around = Surroundings { before, tickets: None, others: &others };
    // That tickets cannot move to a lifecycle without a map is how it is meant, most of the time.
    let findings = lint(after, &around).into_iter().filter(|finding| finding.code != "no_map");
    change.warnings.extend(findings.map(|finding| finding.text));
}

impl Change<'_> {
    /// Makes the tickets of some queues fit a lifecycle that becomes theirs: refused where one has a status that it does
    /// not have, written where the class of their status is another.
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
                "The lifecycle {} would not have statuses that tickets have: {}. Keep them, or move those tickets first.",
                quote(lifecycle.name()),
                stranded.join(", ")
            );
            return Err(Error::new(Kind::Conflict, "in_use", detail));
        }
        let total: i64 = moved.iter().map(|(count, _)| count.tickets).sum();
        if total > RECLASSED_MAX {
            let detail = format!(
                "{} would go to another class of status, and at most {RECLASSED_MAX} can at once. \
                 Add a status in the new class, and move the tickets to it.",
                tickets_of(total)
            );
            return Err(Error::new(Kind::Conflict, "limit_reached", detail));
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
        let old = StatusClass::from_char(count.class).ok_or_else(|| {
            Error::internal("A ticket has a status class that is none.", count.status.clone())
        })?;
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
