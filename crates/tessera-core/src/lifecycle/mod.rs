//! Lifecycles: the statuses of a ticket, the transitions between them, and the rights that transitions need.

pub mod definition;
pub mod lint;

use crate::error::{Code, Error, Fault, Result};
use crate::models::text::{fold, list, quote};
use crate::models::{Change, LifecycleId, LifecycleVersionId, StatusClass};
pub use definition::Definition;
use definition::{ANY, CREATE, Graph};

/// A lifecycle with a valid definition. Statuses are stored folded; all methods ignore case.
///
/// RT: `RT::Lifecycle`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lifecycle {
    id: LifecycleId,
    version_id: LifecycleVersionId,
    name: String,
    definition: Definition,
    graph: Graph,
}

impl Lifecycle {
    /// Checks a definition. This is the only way to get a lifecycle.
    ///
    /// # Errors
    /// All faults, up to [`definition::FAULTS_MAX`], with paths such as `definition.transitions.open[1]`.
    pub fn compile(
        id: LifecycleId,
        version_id: LifecycleVersionId,
        name: impl Into<String>,
        definition: Definition,
    ) -> Result<Self, Vec<Fault>> {
        let name = name.into();
        let graph = Graph::check(&name, &definition)?;
        Ok(Self { id, version_id, name, definition, graph })
    }

    /// Returns the id, which is the same for all versions.
    pub fn id(&self) -> LifecycleId {
        self.id
    }

    /// Returns the id of this version of the definition.
    pub fn version_id(&self) -> LifecycleVersionId {
        self.version_id
    }

    /// Returns the name. Names are unique, ignoring case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the definition as its author wrote it.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Returns all statuses: first the initial, then the active, then the inactive ones.
    pub fn statuses(&self) -> &[String] {
        &self.graph.statuses
    }

    /// Returns the list to which a status belongs, or `None` for an unknown status.
    pub fn class_of(&self, status: &str) -> Option<StatusClass> {
        self.graph.classes.get(&fold(status)).copied()
    }

    /// Returns the stored spelling of a status, or `None` for an unknown status.
    pub fn canonical(&self, status: &str) -> Option<&str> {
        self.graph.classes.get_key_value(&fold(status)).map(|(stored, _)| stored.as_str())
    }

    /// Returns the status of a new ticket whose request names none.
    pub fn on_create(&self) -> &str {
        &self.graph.on_create
    }

    /// Returns the statuses in which a ticket can be created.
    pub fn at_create(&self) -> &[String] {
        self.ways(CREATE)
    }

    /// Returns the statuses that a status can change to, in the order of the definition; none for a status without an entry.
    pub fn transitions_from(&self, status: &str) -> &[String] {
        // The entry "" is not a status; `at_create` returns it.
        self.canonical(status).map_or(&[], |status| self.ways(status))
    }

    /// Returns the first status of a list that can be reached in one transition. RT: the action `SetStatus`.
    pub fn first_allowed(&self, from: &str, class: StatusClass) -> Option<&str> {
        self.transitions_from(from).iter().find(|to| self.class_of(to) == Some(class)).map(String::as_str)
    }

    /// Returns the list that a word means: `initial`, `active` or `inactive`, unless the lifecycle has a status of that name.
    pub fn list_of(&self, word: &str) -> Option<StatusClass> {
        StatusClass::parse(word).filter(|_| self.canonical(word).is_none())
    }

    /// Returns true if a word of a condition means this status: its name, or the name of its list.
    pub fn matches(&self, word: &str, status: &str) -> bool {
        fold(word) == fold(status)
            || self.list_of(word).is_some_and(|class| self.class_of(status) == Some(class))
    }

    /// Returns true if a word of a condition means any status of this lifecycle.
    pub fn knows(&self, word: &str) -> bool {
        self.canonical(word).is_some() || StatusClass::parse(word).is_some()
    }

    /// Returns the change of a ticket's status by a transition. Only this and [`Lifecycle::map_to`] return a [`StatusChange`].
    ///
    /// # Errors
    /// `422 invalid` for an unknown status; `409 transition_denied` if there is no such transition, with the statuses that can
    /// be reached. Keeping the same status is not a transition.
    pub fn transition(&self, from: &str, to: &str) -> Result<StatusChange> {
        let (new, class) = self.find(to)?;
        let allowed = self.transitions_from(from);
        let denied = |sentence: String| {
            Err(Error::new(Code::TransitionDenied, sentence).with_allowed(allowed.to_vec()))
        };
        let Some((old, old_class)) = self.stored(from) else {
            return denied(format!(
                "The ticket's status {} no longer exists in the lifecycle {}, so it has no \
                 transitions. Add the status to the lifecycle again.",
                quote(from),
                quote(&self.name)
            ));
        };
        if old == new {
            return denied(format!("The ticket already has the status {new:?}; {}", self.offer(allowed)));
        }
        if !allowed.iter().any(|way| way == new) {
            return denied(format!("{new:?} is not allowed from {old:?}; {}", self.offer(allowed)));
        }
        Ok(StatusChange {
            old: old.to_owned(),
            new: new.to_owned(),
            old_class,
            class,
            lifecycle_version: self.version_id,
            right: Some(self.right(old, new).to_owned()),
        })
    }

    /// Returns the status of a new ticket: `wanted`, or [`Lifecycle::on_create`].
    ///
    /// # Errors
    /// `422 invalid` for an unknown status; `409 transition_denied` if tickets cannot be created with it, with the statuses that
    /// are allowed.
    pub fn create_status(&self, wanted: Option<&str>) -> Result<StatusAtCreate> {
        let (status, class) = self.find(wanted.unwrap_or_else(|| self.on_create()))?;
        if !self.at_create().iter().any(|way| way == status) {
            let sentence = format!(
                "A ticket cannot be created with the status {status:?}; the lifecycle {} allows {}.",
                quote(&self.name),
                list(self.at_create())
            );
            let error = Error::new(Code::TransitionDenied, sentence);
            return Err(error.with_allowed(self.at_create().to_vec()));
        }
        Ok(StatusAtCreate {
            status: status.to_owned(),
            class,
            lifecycle_version: self.version_id,
            right: self.right_named(CREATE, status).unwrap_or("CreateTicket").to_owned(),
        })
    }

    /// Returns the change of a status if its ticket moves to a queue with the lifecycle `target`, or `None` if neither the status
    /// nor its class changes, which is always so within one lifecycle. The change belongs to `target`'s version.
    ///
    /// RT: `RT::Lifecycle::MoveMap`; without a map a ticket cannot move, even if both lifecycles have its status.
    ///
    /// # Errors
    /// `409 no_status_map`, with the entry to add and the lifecycle to add it to.
    pub fn map_to(&self, target: &Self, status: &str) -> Result<Option<StatusChange>> {
        if self.id == target.id {
            return Ok(None);
        }
        let mapped = self.mapped(target, status);
        let ends = self.stored(status).zip(mapped.and_then(|mapped| target.stored(mapped)));
        let Some(((old, old_class), (new, class))) = ends else {
            return Err(self.no_map(target, status, mapped));
        };
        Ok((old != new || old_class != class).then(|| StatusChange {
            old: old.to_owned(),
            new: new.to_owned(),
            old_class,
            class,
            lifecycle_version: target.version_id,
            right: None,
        }))
    }

    /// The status that the map to `target` gives for a status, even if `target` does not have it.
    fn mapped(&self, target: &Self, status: &str) -> Option<&str> {
        let map = self.graph.maps.get(&fold(&target.name))?;
        map.get(&fold(status)).map(String::as_str)
    }

    fn no_map(&self, target: &Self, status: &str, mapped: Option<&str>) -> Error {
        let (own, theirs) = (quote(&self.name), quote(&target.name));
        let why = match mapped {
            Some(gone) => format!("maps {} to {}, which {theirs} does not have", quote(status), quote(gone)),
            None => format!("has no mapping of {} to a status of {theirs}", quote(status)),
        };
        let sentence = format!(
            "The ticket cannot move: the lifecycle {own} {why}. Set maps.{theirs}.{} in the definition of {own} \
             to one of {}.",
            quote(status),
            list(target.statuses())
        );
        Error::new(Code::NoStatusMap, sentence)
    }

    /// The stored spelling and the class of a status.
    fn stored(&self, status: &str) -> Option<(&str, StatusClass)> {
        self.graph.classes.get_key_value(&fold(status)).map(|(stored, class)| (stored.as_str(), *class))
    }

    /// The same for a status from a request.
    fn find(&self, status: &str) -> Result<(&str, StatusClass)> {
        self.stored(status).ok_or_else(|| {
            let message = format!(
                "there is no status {} in the lifecycle {}; its statuses are {}",
                quote(status),
                quote(&self.name),
                list(self.statuses())
            );
            Error::invalid_field("status", message)
        })
    }

    fn ways(&self, stored: &str) -> &[String] {
        self.graph.transitions.get(stored).map_or(&[], Vec::as_slice)
    }

    fn offer(&self, allowed: &[String]) -> String {
        match allowed {
            [] => format!("the lifecycle {} allows no transition from there.", quote(&self.name)),
            some => format!("from there the lifecycle {} allows {}.", quote(&self.name), list(some)),
        }
    }

    /// The right that a transition needs. RT: `RT::Lifecycle::CheckRight`, in its order.
    fn right(&self, from: &str, to: &str) -> &str {
        [(from, to), (ANY, to), (from, ANY), (ANY, ANY)]
            .into_iter()
            .find_map(|(from, to)| self.right_named(from, to))
            .unwrap_or(if to == "deleted" { "DeleteTicket" } else { "ModifyTicket" })
    }

    fn right_named(&self, from: &str, to: &str) -> Option<&str> {
        self.graph.rights.get(from)?.get(to).map(String::as_str)
    }
}

/// A change of a ticket's status that its lifecycle allows, returned by [`Lifecycle::transition`] or [`Lifecycle::map_to`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusChange {
    old: String,
    new: String,
    old_class: StatusClass,
    class: StatusClass,
    lifecycle_version: LifecycleVersionId,
    right: Option<String>,
}

impl StatusChange {
    /// Returns the old status.
    pub fn old_status(&self) -> &str {
        &self.old
    }

    /// Returns the new status. It equals the old one if the map of a queue move changes only the class.
    pub fn new_status(&self) -> &str {
        &self.new
    }

    /// Returns the class of the old status.
    pub fn old_class(&self) -> StatusClass {
        self.old_class
    }

    /// Returns the class of the new status.
    pub fn class(&self) -> StatusClass {
        self.class
    }

    /// Returns the version of the lifecycle that has the new status.
    pub fn lifecycle_version(&self) -> LifecycleVersionId {
        self.lifecycle_version
    }

    /// Returns the right that the actor needs, or `None` for the map of a queue move, which needs only the rights of the move.
    pub fn right(&self) -> Option<&str> {
        self.right.as_deref()
    }

    /// Returns true if the change comes from the map of a queue move.
    pub fn is_mapped(&self) -> bool {
        self.right.is_none()
    }

    /// Returns true if the ticket leaves the initial statuses. RT: Started is set, if unset.
    pub fn leaves_initial(&self) -> bool {
        self.old_class == StatusClass::Initial && self.class != StatusClass::Initial
    }

    /// Returns true if the new status is inactive, even if the old one was too. RT: Resolved is set.
    pub fn enters_inactive(&self) -> bool {
        self.class == StatusClass::Inactive
    }

    /// Returns the change as the transaction stores it.
    pub fn into_change(self) -> Change {
        Change::Status {
            mapped: self.is_mapped(),
            old: self.old,
            new: self.new,
            old_class: self.old_class,
            class: self.class,
            lifecycle_version: self.lifecycle_version,
        }
    }
}

/// The status of a new ticket that its lifecycle allows, returned by [`Lifecycle::create_status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusAtCreate {
    status: String,
    class: StatusClass,
    lifecycle_version: LifecycleVersionId,
    right: String,
}

impl StatusAtCreate {
    /// Returns the status.
    pub fn status(&self) -> &str {
        &self.status
    }

    /// Returns its class.
    pub fn class(&self) -> StatusClass {
        self.class
    }

    /// Returns the version of the lifecycle that allows it.
    pub fn lifecycle_version(&self) -> LifecycleVersionId {
        self.lifecycle_version
    }

    /// Returns the right that the actor needs.
    pub fn right(&self) -> &str {
        &self.right
    }
}

#[cfg(test)]
mod tests;
