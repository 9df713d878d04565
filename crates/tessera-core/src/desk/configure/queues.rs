//! Queues, with their lifecycle, addresses, people and fields.

use super::mentions::Thing;
use super::{Document, Edit, limit};
use crate::db::configuration::{Which, lifecycles, queues, users};
use crate::error::Result;
use crate::models::text::{address_in, fold, is_address, list, name_fault, quote};
use crate::models::{CustomFieldId, LifecycleId, QueueId, UserId, Watcher};
use crate::plan::catalog::QUEUES_MAX;
use crate::plan::documents::{QUEUE_LIST_MAX, QueueDocument, Stored};
use crate::query::ast::Name;
use sqlx::PgConnection;
use uuid::Uuid;

impl Document for QueueDocument {
    const WHAT: &'static str = "queue";

    async fn id_of(db: &mut PgConnection, word: &str) -> Result<Option<Uuid>> {
        queues::id_of(db, word).await
    }

    async fn read(db: &mut PgConnection, which: Which<'_>) -> Result<Vec<Stored<Self>>> {
        queues::read(db, which).await
    }

    async fn write(&self, change: &mut Edit<'_>, before: Option<&Stored<Self>>) -> Result<Uuid> {
        change.fault_if("name", name_fault(&self.name));
        change.description(self.description.as_deref());
        for (field, address) in
            [("correspond_address", &self.correspond_address), ("comment_address", &self.comment_address)]
        {
            let wrong = address.as_deref().filter(|address| !is_address(address));
            change.fault_if(field, wrong.map(|address| format!("{} is not a mail address", quote(address))));
        }
        let lifecycle = self.lifecycle_of(change).await?;
        let fields = self.fields(change);
        let cc = people(change, "cc", &self.cc).await?;
        let admin_cc = people(change, "admin_cc", &self.admin_cc).await?;
        change.check()?;
        let Some(lifecycle) = lifecycle else {
            return Err(crate::Error::not_found("lifecycle", &self.lifecycle));
        };
        let id = match before {
            Some(before) => QueueId(before.id),
            None => {
                limit("queues", change.catalog.queues.len(), QUEUES_MAX)?;
                change.ids.draw()
            }
        };
        if let Some(before) = before {
            self.check_use(change, &before.document).await?;
            let target = change.catalog.lifecycles.get(lifecycle).cloned();
            let is_moved = change.catalog.queues.get(id).is_some_and(|queue| queue.lifecycle != lifecycle);
            if let Some(target) = target.filter(|_| is_moved) {
                change.fit_tickets(&[id], &target).await?;
            }
        }
        queues::write(&mut change.db, id, self, lifecycle, change.version).await?;
        queues::set_watchers(&mut change.db, id, "cc", &cc).await?;
        queues::set_watchers(&mut change.db, id, "admin_cc", &admin_cc).await?;
        queues::set_fields(&mut change.db, id, &fields).await?;
        Ok(id.0)
    }
}

impl QueueDocument {
    async fn lifecycle_of(&self, change: &mut Edit<'_>) -> Result<Option<LifecycleId>> {
        let known = &change.catalog.lifecycles;
        let found = known.find(&self.lifecycle).map(|lifecycle| lifecycle.id());
        match found {
            None => {
                let names = list(known.iter().map(|lifecycle| lifecycle.name()));
                let message =
                    format!("there is no lifecycle {}; existing lifecycles: {names}", quote(&self.lifecycle));
                change.fault("lifecycle", message);
            }
            Some(id) if lifecycles::is_disabled(&mut change.db, id).await? => {
                let message = format!(
                    "the lifecycle {} is disabled; enable it, or choose another",
                    quote(&self.lifecycle)
                );
                change.fault("lifecycle", message);
            }
            Some(_) => {}
        }
        Ok(found)
    }

    /// Returns the ids of the fields, each with an id for its row.
    fn fields(&self, change: &mut Edit<'_>) -> Vec<(Uuid, CustomFieldId)> {
        if self.custom_fields.len() > QUEUE_LIST_MAX {
            let message =
                format!("has {} fields; at most {QUEUE_LIST_MAX} are allowed", self.custom_fields.len());
            change.fault("custom_fields", message);
            return Vec::new();
        }
        let mut fields: Vec<(Uuid, CustomFieldId)> = Vec::new();
        for (at, word) in self.custom_fields.iter().enumerate() {
            let place = format!("custom_fields[{at}]");
            match change.catalog.fields.find(word).map(|field| field.id) {
                None => {
                    let names = list(change.catalog.fields.iter().map(|field| field.name.as_str()));
                    let message =
                        format!("there is no custom field {}; existing custom fields: {names}", quote(word));
                    change.fault(place, message);
                }
                Some(id) if fields.iter().any(|(_, one)| *one == id) => {
                    change.fault(
                        place,
                        format!("{} occurs twice in this list; remove one of them", quote(word)),
                    );
                }
                Some(id) => fields.push((change.ids.draw(), id)),
            }
        }
        fields
    }

    /// Checks that scrips do not name the queue if it is renamed or disabled, nor the fields of the queue that are removed.
    async fn check_use(&self, change: &mut Edit<'_>, before: &Self) -> Result<()> {
        let goes = fold(&self.name) != fold(&before.name) || (self.disabled && !before.disabled);
        if goes {
            let scrips = change.scrips_naming(Thing::Queue, &[&before.name]).await?;
            change.scrips_in_use(&format!("the queue {}", quote(&before.name)), &scrips)?;
        }
        let known = &change.catalog.fields;
        let ids = |words: &[String]| -> Vec<CustomFieldId> {
            words.iter().filter_map(|word| known.find(word)).map(|field| field.id).collect()
        };
        let kept = ids(&self.custom_fields);
        let gone = ids(&before.custom_fields).into_iter().filter(|id| !kept.contains(id));
        let gone = gone.filter_map(|id| known.get(id));
        let gone: Vec<String> =
            gone.map(|field| Name::of(&["CF", &before.name, &field.name]).to_string()).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = gone.iter().map(String::as_str).collect();
        let scrips = change.scrips_naming(Thing::FieldOfQueue, &names).await?;
        change.scrips_in_use(&list(&gone), &scrips)
    }
}

/// Looks up people by username, id or address. The address of a user stands for the user.
async fn people(change: &mut Edit<'_>, role: &str, words: &[String]) -> Result<Vec<Watcher>> {
    if words.len() > QUEUE_LIST_MAX {
        change.fault(role, format!("has {} people; at most {QUEUE_LIST_MAX} are allowed", words.len()));
        return Ok(Vec::new());
    }
    let mut people: Vec<Watcher> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let word = address_in(word);
        let user = user_of(&mut change.db, word).await?;
        let address = user.is_none().then(|| word.to_owned());
        if address.as_deref().is_some_and(|address| !is_address(address)) {
            let message =
                format!("{} is neither a username, the id of a user, nor a mail address", quote(word));
            change.fault(format!("{role}[{at}]"), message);
            continue;
        }
        let person = Watcher { id: change.ids.draw(), user, address };
        if people.iter().any(|other| other.is_same_person(&person)) {
            change.fault(
                format!("{role}[{at}]"),
                format!("{} occurs twice in this list; remove one of them", quote(word)),
            );
        } else {
            people.push(person);
        }
    }
    Ok(people)
}

/// Returns the user with this username, address or id.
async fn user_of(db: &mut PgConnection, word: &str) -> Result<Option<UserId>> {
    if Uuid::parse_str(word).is_ok() {
        return Ok(users::id_of(db, word).await?.map(UserId));
    }
    if word.contains('\0') { Ok(None) } else { users::person(db, word).await }
}
