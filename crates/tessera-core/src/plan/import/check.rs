//! Checks a line against the configuration and the existing users, and collects what it lacks.

use super::{Line, Values, Who};
use crate::error::Fault;
use crate::models::text::{fold, list, quote};
use crate::models::user::SYSTEM_USER;
use crate::models::{CustomField, CustomFieldId, FieldType, Queue, QueueId, StatusClass, UserId};
use crate::plan::{Catalog, People};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A line that can be imported once its people are users.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    pub(super) queue: QueueId,
    pub(super) status: String,
    pub(super) status_class: StatusClass,
    pub(super) owner: Option<UserId>,
    pub(super) values: BTreeMap<CustomFieldId, Vec<String>>,
}

/// The objects of the configuration that lines need and that do not exist, each once, by its folded name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// Queues.
    pub queues: BTreeMap<String, String>,
    /// Fields, each with its name and whether it takes several values.
    pub fields: BTreeMap<String, (String, bool)>,
    /// Fields that take one value and need to take several.
    pub wider: BTreeSet<String>,
    /// By queue, the existing or missing fields that need to be attached to it, in the order in which lines name them.
    pub queue_fields: BTreeMap<String, Vec<String>>,
    /// Ticket owners who are not privileged users, by their identity, each with their address if a line gives it.
    pub agents: BTreeMap<String, (String, Option<String>)>,
}

/// An object of the configuration, by its folded name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Thing {
    /// A queue.
    Queue(String),
    /// A field.
    Field(String),
    /// The fields attached to a queue.
    QueueFields(String),
    /// A privileged user, by their identity.
    Agent(String),
}

/// The objects that could not be created, and why.
pub type Refused = HashMap<Thing, String>;

impl Missing {
    /// Adds what a line lacks. Only fields in `created`, which this import created, may be changed to fit the line.
    pub fn add(&mut self, line: &Line, catalog: &Catalog, people: &People, created: &HashSet<CustomFieldId>) {
        let queue = catalog.queues.find(&line.queue);
        if queue.is_none() {
            self.queues.entry(fold(&line.queue)).or_insert_with(|| line.queue.clone());
        }
        for (name, values) in &line.custom_fields {
            let field = catalog.fields.find(name);
            let is_multiple = matches!(values, Values::Many(_));
            match field {
                None => {
                    let one = self.fields.entry(fold(name)).or_insert_with(|| (name.clone(), false));
                    one.1 |= is_multiple;
                }
                Some(field) if is_multiple && !field.is_multiple() && created.contains(&field.id) => {
                    self.wider.insert(fold(name));
                }
                Some(_) => {}
            }
            let is_there =
                queue.zip(field).is_some_and(|(queue, field)| queue.custom_fields.contains(&field.id));
            if !is_there && field.is_none_or(|field| !field.disabled) {
                let fields = self.queue_fields.entry(fold(&line.queue)).or_default();
                if !fields.iter().any(|there| fold(there) == fold(name)) {
                    fields.push(name.clone());
                }
            }
        }
        if let Some(Ok(who)) = line.owner().map(Who::parse)
            && who.find(people).is_none_or(|user| !user.privileged && user.id != SYSTEM_USER)
        {
            let agent = self.agents.entry(who.identity());
            agent.or_insert_with(|| (who.username.into_owned(), who.address.map(Cow::into_owned)));
        }
    }

    /// Returns true if nothing is missing.
    pub fn is_empty(&self) -> bool {
        let Self { queues, fields, wider, queue_fields, agents } = self;
        queues.is_empty()
            && fields.is_empty()
            && wider.is_empty()
            && queue_fields.is_empty()
            && agents.is_empty()
    }
}

/// Checks a line against the configuration. Disabled queues accept imported tickets, and disabled users may own them.
///
/// # Errors
/// All faults, each with the valid alternatives.
pub fn check(
    line: &Line,
    catalog: &Catalog,
    people: &People,
    refused: &Refused,
) -> Result<Checked, Vec<Fault>> {
    let mut faults = Vec::new();
    let owner = owner(line, people, refused).unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    let Some(queue) = catalog.queues.find(&line.queue) else {
        let names = list(catalog.queues.iter().map(|queue| queue.name.as_str()));
        let message = format!(
            "there is no queue {}; existing queues: {names}. Create it, or use --create-missing",
            quote(&line.queue)
        );
        faults.push(with_reason("queue", message, refused.get(&Thing::Queue(fold(&line.queue)))));
        return Err(faults);
    };
    let status = status(line, catalog, queue).unwrap_or_else(|fault| {
        faults.push(fault);
        (String::new(), StatusClass::Initial)
    });
    let values = values(line, catalog, queue, refused, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    let (status, status_class) = status;
    Ok(Checked { queue: queue.id, status, status_class, owner, values })
}

fn owner(line: &Line, people: &People, refused: &Refused) -> Result<Option<UserId>, Fault> {
    let Some(word) = line.owner() else { return Ok(None) };
    let who = Who::parse(word).map_err(|message| Fault::new("owner", message))?;
    let reason = refused.get(&Thing::Agent(who.identity()));
    match who.find(people) {
        Some(user) if user.privileged => Ok(Some(user.id)),
        Some(user) => {
            let message = format!(
                "{} cannot own tickets: only privileged users can. Make this user privileged, or use --create-missing",
                user.username
            );
            Err(with_reason("owner", message, reason))
        }
        None => {
            let message = format!(
                "there is no user {}; create a privileged user, or use --create-missing",
                quote(word)
            );
            Err(with_reason("owner", message, reason))
        }
    }
}

fn status(line: &Line, catalog: &Catalog, queue: &Queue) -> Result<(String, StatusClass), Fault> {
    let lifecycle = catalog.lifecycle_of(queue.id);
    let found = lifecycle.and_then(|life| life.canonical(&line.status).zip(life.class_of(&line.status)));
    found.map(|(status, class)| (status.to_owned(), class)).ok_or_else(|| {
        let there = lifecycle.map(|life| list(life.statuses())).unwrap_or_default();
        let message = format!(
            "{} is not a status of the queue {}, which has {there}",
            quote(&line.status),
            quote(&queue.name)
        );
        Fault::new("status", message)
    })
}

fn values(
    line: &Line,
    catalog: &Catalog,
    queue: &Queue,
    refused: &Refused,
    faults: &mut Vec<Fault>,
) -> BTreeMap<CustomFieldId, Vec<String>> {
    let mut all = BTreeMap::new();
    for (name, values) in &line.custom_fields {
        let place = format!("custom_fields.{name}");
        let field = match field(name, catalog, queue) {
            Ok(field) => field,
            Err(message) => {
                let reason = refused
                    .get(&Thing::Field(fold(name)))
                    .or_else(|| refused.get(&Thing::QueueFields(fold(&line.queue))));
                faults.push(with_reason(&place, message, reason));
                continue;
            }
        };
        let mut good: Vec<String> = Vec::with_capacity(values.as_slice().len());
        for value in values.as_slice() {
            match field.check_value(value) {
                Ok(value) if good.contains(&value) => {}
                Ok(value) => good.push(value),
                Err(message) => faults.push(Fault::new(&place, message)),
            }
        }
        if let Err(message) = field.check_count(good.len()) {
            let hint = match field.field_type {
                FieldType::Freeform => "; to allow more, set its max_values to 0",
                FieldType::SelectSingle | FieldType::SelectMulti => "",
            };
            faults.push(Fault::new(&place, message + hint));
        }
        if !good.is_empty() {
            all.insert(field.id, good);
        }
    }
    all
}

/// The field of a name, if it is attached to the queue.
fn field<'c>(name: &str, catalog: &'c Catalog, queue: &Queue) -> Result<&'c CustomField, String> {
    let Some(field) = catalog.fields.find(name) else {
        let attached = queue.custom_fields.iter().filter_map(|id| catalog.fields.get(*id));
        let there = list(attached.map(|field| field.name.as_str()));
        return Err(format!(
            "there is no custom field {}; the queue {} has {there}. Create it, or use --create-missing",
            quote(name),
            quote(&queue.name)
        ));
    };
    if field.disabled {
        return Err("is disabled; enable the field first".to_owned());
    }
    if !queue.custom_fields.contains(&field.id) {
        return Err(format!(
            "is not attached to the queue {}; attach it, or use --create-missing",
            quote(&queue.name)
        ));
    }
    Ok(field)
}

fn with_reason(field: &str, message: String, reason: Option<&String>) -> Fault {
    match reason {
        None => Fault::new(field, message),
        Some(reason) => Fault::new(field, format!("could not be created: {reason}")),
    }
}
