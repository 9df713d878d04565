//! The definition of a lifecycle: the JSON that an administrator writes, and the check that lists all faults in it.

use crate::error::Fault;
use crate::models::StatusClass;
use crate::models::text::{fold, list, name_fault, quote, unseen_fault};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest name of a status, in characters, folded or not. RT: the same.
pub const STATUS_CHARS_MAX: usize = 64;
/// The maximum number of statuses of a lifecycle.
pub const STATUSES_MAX: usize = 100;
/// The maximum number of other lifecycles to which a lifecycle has maps.
pub const MAPS_MAX: usize = 100;
/// The longest name of a right, in ASCII letters and digits. RT: the same.
pub const RIGHT_CHARS_MAX: usize = 25;
/// The maximum number of faults reported for a definition. A last fault states how many more there are.
pub const FAULTS_MAX: usize = 200;

/// The key of a new ticket in transitions.
pub(super) const CREATE: &str = "";
/// The key of any status in rights.
pub(super) const ANY: &str = "*";

/// A lifecycle as its author wrote it, not yet checked.
///
/// It serialises to the same JSON. `Lifecycle::compile` checks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Statuses of tickets that nobody has started to work on.
    pub initial: Vec<String>,
    /// Statuses of tickets in progress.
    pub active: Vec<String>,
    /// Statuses of closed tickets.
    pub inactive: Vec<String>,
    /// Defaults for requests that leave something out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// The statuses that each status can change to, in the order in which they are shown. The key "" stands for a new ticket.
    pub transitions: BTreeMap<String, Vec<String>>,
    /// The right that a transition needs, by "from -> to"; "*" is any status, "''" a new ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<BTreeMap<String, String>>,
    /// How statuses change if a ticket moves to a queue with another lifecycle, by the name of that lifecycle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maps: Option<BTreeMap<String, BTreeMap<String, String>>>,
}

/// Defaults for requests that leave something out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// The status of a new ticket. By default, the first initial status in which tickets can be created, or the first active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_create: Option<String>,
}

impl Definition {
    /// Returns the lifecycle `default` of a new database. RT: `%Lifecycles{default}` in `RT_Config`.
    #[expect(clippy::expect_used, reason = "the file is part of the program, and a test reads it")]
    pub fn stock() -> Self {
        serde_json::from_str(include_str!("default.json")).expect("default.json is a definition")
    }

    /// Returns the statuses of a list.
    pub fn statuses(&self, class: StatusClass) -> &[String] {
        match class {
            StatusClass::Initial => &self.initial,
            StatusClass::Active => &self.active,
            StatusClass::Inactive => &self.inactive,
        }
    }
}

/// A valid definition with every status in its stored (folded) spelling.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Graph {
    /// In the order of the lists.
    pub statuses: Vec<String>,
    pub classes: BTreeMap<String, StatusClass>,
    pub on_create: String,
    /// By status, or [`CREATE`].
    pub transitions: BTreeMap<String, Vec<String>>,
    /// By from ([`CREATE`], [`ANY`] or a status), then by to ([`ANY`] or a status).
    pub rights: BTreeMap<String, BTreeMap<String, String>>,
    /// By the folded name of the other lifecycle, then by status.
    pub maps: BTreeMap<String, BTreeMap<String, String>>,
}

impl Graph {
    /// Checks the definition of the lifecycle `name`.
    pub fn check(name: &str, definition: &Definition) -> Result<Self, Vec<Fault>> {
        let mut check = Check::default();
        if let Some(fault) = name_fault(name) {
            check.fault("name", fault);
        }
        check.statuses(definition);
        if check.faults.len() < FAULTS_MAX && check.graph.statuses.len() <= STATUSES_MAX {
            check.transitions(definition);
            check.on_create(definition);
            check.rights(definition);
            check.maps(name, definition);
        }
        check.finish()
    }
}

/// A check in progress.
#[derive(Default)]
struct Check {
    graph: Graph,
    /// The list of statuses for messages.
    exist: String,
    faults: Vec<Fault>,
    /// Faults beyond [`FAULTS_MAX`].
    untold: usize,
}

impl Check {
    fn fault(&mut self, field: impl Into<String>, message: impl Into<String>) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault::new(field, message));
        } else {
            self.untold += 1;
        }
    }

    fn finish(mut self) -> Result<Graph, Vec<Fault>> {
        if self.untold > 0 {
            let more = format!("and {} more faults, which are listed once these are fixed", self.untold);
            self.faults.push(Fault::new("definition", more));
        }
        if self.faults.is_empty() { Ok(self.graph) } else { Err(self.faults) }
    }

    fn statuses(&mut self, definition: &Definition) {
        let mut count = 0;
        for class in StatusClass::ALL {
            for (at, name) in definition.statuses(class).iter().enumerate() {
                count += 1;
                let status = fold(name);
                let fault = status_fault(name).or_else(|| {
                    let other = self.graph.classes.get(&status)?;
                    Some(format!(
                        "{} is already in the list {other}; a status can be listed only once, ignoring case",
                        quote(name)
                    ))
                });
                match fault {
                    Some(message) => self.fault(format!("definition.{class}[{at}]"), message),
                    None => {
                        self.graph.classes.insert(status.clone(), class);
                        self.graph.statuses.push(status);
                    }
                }
            }
        }
        if count > STATUSES_MAX {
            self.fault("definition", format!("has {count} statuses; at most {STATUSES_MAX} are allowed"));
        }
        self.exist = list(&self.graph.statuses);
    }

    fn transitions(&mut self, definition: &Definition) {
        for (from, ways) in &definition.transitions {
            let path = format!("definition.transitions.{}", key(from));
            let status = fold(from);
            if !status.is_empty() && !self.is_known(&status) {
                self.unknown(path, from, "add it to initial, active or inactive, or remove this entry");
            } else if self.graph.transitions.contains_key(&status) {
                self.fault(path, format!("occurs twice, because names ignore case; keep one {status:?}"));
            } else {
                let ways = self.ways(&path, &status, ways);
                self.graph.transitions.insert(status, ways);
            }
        }
        if !definition.transitions.contains_key(CREATE) {
            self.fault(
                "definition.transitions",
                "has no entry \"\", which lists the statuses in which a ticket can be created; add it",
            );
        }
    }

    /// The transitions from a status, without invalid ones.
    fn ways(&mut self, path: &str, from: &str, ways: &[String]) -> Vec<String> {
        let mut good: Vec<String> = Vec::new();
        for (at, to) in ways.iter().enumerate() {
            let (path, status) = (format!("{path}[{at}]"), fold(to));
            if !self.is_known(&status) {
                self.unknown(path, to, "add it to initial, active or inactive, or remove it here");
            } else if status == from {
                self.fault(path, format!("leads from {status:?} to itself; remove it"));
            } else if good.contains(&status) {
                self.fault(path, format!("{status:?} occurs twice in this list; remove one of them"));
            } else {
                good.push(status);
            }
        }
        good
    }

    fn on_create(&mut self, definition: &Definition) {
        let at_create = self.graph.transitions.get(CREATE).cloned().unwrap_or_default();
        let first = |class| at_create.iter().find(|&to| self.graph.classes.get(to) == Some(&class)).cloned();
        let usual = first(StatusClass::Initial).or_else(|| first(StatusClass::Active));
        let wanted = definition.defaults.as_ref().and_then(|defaults| defaults.on_create.as_deref());
        if usual.is_none() && definition.transitions.contains_key(CREATE) {
            self.fault(
                "definition.transitions.\"\"",
                "lists no initial or active status, so every ticket would be created closed; add one",
            );
        }
        match wanted.map(|name| (name, fold(name))) {
            None => self.graph.on_create = usual.unwrap_or_default(),
            Some((name, status)) if !self.is_known(&status) => {
                self.unknown("definition.defaults.on_create".to_owned(), name, "name one of them");
            }
            Some((_, status)) if !at_create.contains(&status) => self.fault(
                "definition.defaults.on_create",
                format!(
                    "a ticket cannot be created with the status {status:?}; definition.transitions.\"\" allows {}",
                    list(&at_create)
                ),
            ),
            Some((_, status)) => self.graph.on_create = status,
        }
    }

    fn rights(&mut self, definition: &Definition) {
        for (edge, right) in definition.rights.iter().flatten() {
            let path = format!("definition.rights.{}", key(edge));
            if !is_right(right) {
                self.fault(
                    path.clone(),
                    format!(
                        "{} is not a valid right; a right has 1 to {RIGHT_CHARS_MAX} ASCII letters or digits, \
                         as ModifyTicket",
                        quote(right)
                    ),
                );
            }
            let Some((from, to)) = ends_of(edge) else {
                self.fault(
                    path,
                    "is not a valid transition; write \"from -> to\", with \"*\" for any status and \"''\" before \
                     \"->\" for a new ticket",
                );
                continue;
            };
            let mut known = true;
            for end in [&from, &to] {
                if end != CREATE && end != ANY && !self.is_known(end) {
                    self.unknown(path.clone(), end, "name one of them, or \"*\" for any");
                    known = false;
                }
            }
            let to_rights = self.graph.rights.entry(from).or_default();
            if known && to_rights.insert(to, right.clone()).is_some() {
                self.fault(path, "occurs twice, because names ignore case; keep one");
            }
        }
    }

    fn maps(&mut self, own_name: &str, definition: &Definition) {
        let count = definition.maps.as_ref().map_or(0, BTreeMap::len);
        if count > MAPS_MAX {
            self.fault(
                "definition.maps",
                format!("names {count} lifecycles; at most {MAPS_MAX} are allowed"),
            );
            return;
        }
        for (target, entries) in definition.maps.iter().flatten() {
            let path = format!("definition.maps.{}", key(target));
            if let Some(fault) = name_fault(target) {
                self.fault(path, format!("the name of the lifecycle {fault}"));
            } else if fold(target) == fold(own_name) {
                self.fault(path, "is this lifecycle itself, which needs no map; remove it");
            } else if self.graph.maps.contains_key(&fold(target)) {
                self.fault(path, "occurs twice, because names ignore case; keep one");
            } else {
                let map = self.map(&path, entries);
                self.graph.maps.insert(fold(target), map);
            }
        }
    }

    /// Checks one map. The statuses it leads to belong to another lifecycle, so only their form is checked here; the linter
    /// checks the rest.
    fn map(&mut self, path: &str, entries: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        for (from, to) in entries {
            let (path, status) = (format!("{path}.{}", key(from)), fold(from));
            if !self.is_known(&status) {
                self.unknown(path, from, "a map goes from the statuses of this lifecycle");
            } else if let Some(fault) = status_fault(to) {
                self.fault(path, format!("leads to an invalid status: {fault}"));
            } else if map.insert(status, fold(to)).is_some() {
                self.fault(path, "occurs twice, because names ignore case; keep one");
            }
        }
        map
    }

    fn is_known(&self, status: &str) -> bool {
        self.graph.classes.contains_key(status)
    }

    fn unknown(&mut self, path: String, name: &str, advice: &str) {
        let message =
            format!("there is no status {}; the statuses are {} ({advice})", quote(name), self.exist);
        self.fault(path, message);
    }
}

/// The reason why a name cannot be a status, if there is one.
fn status_fault(name: &str) -> Option<String> {
    let chars = name.chars().count().max(fold(name).chars().count());
    if name.is_empty() {
        Some(format!("is empty; a status has 1 to {STATUS_CHARS_MAX} characters"))
    } else if chars > STATUS_CHARS_MAX {
        Some(format!("is {chars} characters long; a status has 1 to {STATUS_CHARS_MAX}"))
    } else if name.chars().any(char::is_control) {
        Some(format!("{} contains a line break or another control character; remove it", quote(name)))
    } else if let Some(fault) = unseen_fault(name) {
        Some(format!("{} {fault}", quote(name)))
    } else if name.trim() != name {
        Some(format!("{} begins or ends with a space; remove it", quote(name)))
    } else if [ANY, "''", "\"\""].contains(&name) || name.contains("->") {
        Some(format!("{} is reserved for the notation of rights and cannot be a status", quote(name)))
    } else {
        None
    }
}

fn is_right(right: &str) -> bool {
    (1..=RIGHT_CHARS_MAX).contains(&right.len()) && right.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The two ends of `from -> to`, folded; `to` is never [`CREATE`]. RT writes `''` or `""` for a new ticket.
fn ends_of(edge: &str) -> Option<(String, String)> {
    let (from, to) = edge.split_once("->")?;
    let (from, to) = (fold(from.trim()), fold(to.trim()));
    let from = if from == "''" || from == "\"\"" { CREATE.to_owned() } else { from };
    (!to.is_empty()).then_some((from, to))
}

/// A key in a path: bare if it consists of letters, digits, `_` and `-`, otherwise quoted.
fn key(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.len() <= STATUS_CHARS_MAX && name.bytes().all(plain) {
        name.to_owned()
    } else {
        quote(name)
    }
}

#[cfg(test)]
mod tests;
