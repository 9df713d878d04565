//! Lifecycles: which statuses there are, where a ticket may go from each, and what right that needs.

pub mod definition;
pub mod lint;

use crate::error::{Code, Error, Fault, Result};
use crate::models::text::{fold, list, quote};
use crate::models::{Change, LifecycleId, LifecycleVersionId, StatusClass};
pub use definition::Definition;
use definition::{ANY, CREATE, Graph};

/// A lifecycle whose definition was checked. Statuses are stored folded; every method takes them in any case.
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
    /// Checks a definition: the only way to a lifecycle.
    ///
    /// # Errors
    /// Every fault there is (up to [`definition::FAULTS_MAX`]), with paths such as `definition.transitions.open[1]`.
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

    /// Its id.
    pub fn id(&self) -> LifecycleId {
        self.id
    }

    /// The version of its definition.
    pub fn version_id(&self) -> LifecycleVersionId {
        self.version_id
    }

    /// Unique, compared without case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The definition as it was written.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Every status: the initial ones, the active ones, the inactive ones.
    pub fn statuses(&self) -> &[String] {
        &self.graph.statuses
    }

    /// The list in which a status stands.
    pub fn class_of(&self, status: &str) -> Option<StatusClass> {
        self.graph.classes.get(&fold(status)).copied()
    }

    /// The stored spelling of a status.
    pub fn canonical(&self, status: &str) -> Option<&str> {
        self.graph.classes.get_key_value(&fold(status)).map(|(stored, _)| stored.as_str())
    }

    /// The status of a ticket for which none was asked.
    pub fn on_create(&self) -> &str {
        &self.graph.on_create
    }

    /// The statuses in which a ticket may be created.
    pub fn at_create(&self) -> &[String] {
        self.ways(CREATE)
    }

    /// Where a ticket in a status may go, in the order of the definition. A status without an entry has no way out.
    pub fn transitions_from(&self, status: &str) -> &[String] {
        // The entry "" is no status: where a create may begin is asked of `at_create`.
        self.canonical(status).map_or(&[], |status| self.ways(status))
    }

    /// The first status of a list that may be reached from here in one step. RT: the action `SetStatus`.
    pub fn first_allowed(&self, from: &str, class: StatusClass) -> Option<&str> {
        self.transitions_from(from).iter().find(|to| self.class_of(to) == Some(class)).map(String::as_str)
    }

    /// Whether a word of a condition means this status: its name, or `initial`, `active`, `inactive` for its list.
    pub fn matches(&self, word: &str, status: &str) -> bool {
        fold(word) == fold(status)
            || StatusClass::parse(word).is_some_and(|class| self.class_of(status) == Some(class))
    }

    /// Whether a word means any status of this lifecycle at all.
    pub fn knows(&self, word: &str) -> bool {
        self.canonical(word).is_some() || StatusClass::parse(word).is_some()
    }

    /// The change of a ticket's status along a transition: with [`Lifecycle::map_to`], the only way to a [`StatusChange`].
    ///
    /// # Errors
    /// `422 invalid` for a status that this lifecycle does not have; `409 transition_denied` for one that cannot be
    /// reached from here, with what can. Staying where one is is not a transition either.
    pub fn transition(&self, from: &str, to: &str) -> Result<StatusChange> {
        let (new, class) = self.find(to)?;
        let allowed = self.transitions_from(from);
        let denied = |sentence: String| {
            Err(Error::new(Code::TransitionDenied, sentence).with_allowed(allowed.to_vec()))
        };
        let Some((old, old_class)) = self.stored(from) else {
            return denied(format!(
                "The ticket's status {} is not in the lifecycle {} any more, so nothing leads out of it; \
                 add it to the lifecycle again.",
                quote(from),
                quote(&self.name)
            ));
        };
        if old == new {
            return denied(format!("The ticket is {new:?} already; {}", self.offer(allowed)));
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

    /// The status of a new ticket: the one asked for, or [`Lifecycle::on_create`].
    ///
    /// # Errors
    /// `422 invalid` for a status that this lifecycle does not have, `409 transition_denied` for one that no ticket
    /// begins in, with those that tickets do.
    pub fn create_status(&self, wanted: Option<&str>) -> Result<StatusAtCreate> {
        let (status, class) = self.find(wanted.unwrap_or_else(|| self.on_create()))?;
        if !self.at_create().iter().any(|way| way == status) {
            let sentence = format!(
                "{status:?} is not allowed at create; the lifecycle {} allows {}.",
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

    /// What becomes of a status when its ticket moves to a queue with the lifecycle `target`: `None` where both the
    /// status and its class stay, always so within one lifecycle. The change is one of `target`'s version.
    ///
    /// RT: `RT::Lifecycle::MoveMap`; without a map a ticket does not move, even if both lifecycles have its status.
    ///
    /// # Errors
    /// `409 no_status_map`, with what to add to which lifecycle.
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

    /// What the map to `target` says of a status, whether `target` has it or not.
    fn mapped(&self, target: &Self, status: &str) -> Option<&str> {
        let map = self.graph.maps.get(&fold(&target.name))?;
        map.get(&fold(status)).map(String::as_str)
    }

    fn no_map(&self, target: &Self, status: &str, mapped: Option<&str>) -> Error {
        let (own, theirs) = (quote(&self.name), quote(&target.name));
        let why = match mapped {
            Some(gone) => format!("maps {} to {}, which {theirs} does not have", quote(status), quote(gone)),
            None => format!("does not say what {} becomes in {theirs}", quote(status)),
        };
        let sentence = format!(
            "The ticket cannot move: the lifecycle {own} {why}. Set maps.{theirs}.{} in the definition of {own} \
             to one of {}.",
            quote(status),
            list(target.statuses())
        );
        Error::new(Code::NoStatusMap, sentence)
    }

    /// The stored spelling and the class of a status, if there is such a one.
    fn stored(&self, status: &str) -> Option<(&str, StatusClass)> {
        self.graph.classes.get_key_value(&fold(status)).map(|(stored, class)| (stored.as_str(), *class))
    }

    /// The same, of a status that somebody asked for.
    fn find(&self, status: &str) -> Result<(&str, StatusClass)> {
        self.stored(status).ok_or_else(|| {
            let message = format!(
                "there is no status {} in the lifecycle {}; there are {}",
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
            [] => format!("the lifecycle {} allows nothing from there.", quote(&self.name)),
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

/// A change of a ticket's status that its lifecycle allows, made by [`Lifecycle::transition`] or [`Lifecycle::map_to`].
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
    /// From.
    pub fn old_status(&self) -> &str {
        &self.old
    }

    /// To. The same as the old one where the map of a queue move changes the class alone.
    pub fn new_status(&self) -> &str {
        &self.new
    }

    /// The class of the old status.
    pub fn old_class(&self) -> StatusClass {
        self.old_class
    }

    /// The class of the new status.
    pub fn class(&self) -> StatusClass {
        self.class
    }

    /// The version of the lifecycle that has the new status.
    pub fn lifecycle_version(&self) -> LifecycleVersionId {
        self.lifecycle_version
    }

    /// The right that the actor needs; `None` for the map of a queue move, which needs only the rights of the move.
    pub fn right(&self) -> Option<&str> {
        self.right.as_deref()
    }

    /// Whether the map of a queue move made it.
    pub fn is_mapped(&self) -> bool {
        self.right.is_none()
    }

    /// Whether work begins with it. RT: Started is set, if unset.
    pub fn leaves_initial(&self) -> bool {
        self.old_class == StatusClass::Initial && self.class != StatusClass::Initial
    }

    /// Whether it ends in an inactive status, also from another one. RT: Resolved is set.
    pub fn enters_inactive(&self) -> bool {
        self.class == StatusClass::Inactive
    }

    /// What the transaction says.
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

/// The status of a new ticket that its lifecycle allows, made by [`Lifecycle::create_status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusAtCreate {
    status: String,
    class: StatusClass,
    lifecycle_version: LifecycleVersionId,
    right: String,
}

impl StatusAtCreate {
    /// The status.
    pub fn status(&self) -> &str {
        &self.status
    }

    /// Its class.
    pub fn class(&self) -> StatusClass {
        self.class
    }

    /// The version of the lifecycle that allowed it.
    pub fn lifecycle_version(&self) -> LifecycleVersionId {
        self.lifecycle_version
    }

    /// The right that the actor needs.
    pub fn right(&self) -> &str {
        &self.right
    }
}

#[cfg(test)]
mod tests;
