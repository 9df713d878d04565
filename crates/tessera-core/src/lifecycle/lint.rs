//! The linter of lifecycles: problems that a valid definition can still cause for tickets and other lifecycles.

use super::Lifecycle;
use super::definition::CREATE;
use crate::models::StatusClass;
use crate::models::text::{fold, list, quote};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To be fixed before saving.
    Mend,
    /// A remark; it may be intended.
    Know,
}

/// A finding of the linter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How serious it is.
    pub severity: Severity,
    /// The rule, which is stable: `unreachable`, `no_way_out`, `list_word`, `idle_right`, `tickets_stranded`,
    /// `tickets_lose_way`, `tickets_change_class`, `map_broken`, `map_to_nowhere`, `no_map`.
    pub code: &'static str,
    /// Its subject: a status, `from -> to`, or for maps `lifecycle -> lifecycle`.
    pub place: String,
    /// The text for people.
    pub text: String,
}

/// The context of a lifecycle. The default is no context, so that only the graph is checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings<'a> {
    /// The version in force, if the lifecycle is an edit of one.
    pub before: Option<&'a Lifecycle>,
    /// The number of tickets of its queues in each status (as stored).
    pub tickets: Option<&'a BTreeMap<String, u64>>,
    /// The other lifecycles; the lifecycle itself may be among them.
    pub others: &'a [&'a Lifecycle],
}

/// Returns the findings about a lifecycle, the most serious first.
pub fn lint(lifecycle: &Lifecycle, around: &Surroundings<'_>) -> Vec<Finding> {
    let mut linter = Linter { lifecycle, around, findings: Vec::new() };
    linter.reach();
    linter.ways_out();
    linter.words();
    linter.rights();
    linter.tickets();
    linter.maps();
    linter.findings.sort_by_key(|finding| finding.severity);
    linter.findings
}

struct Linter<'a> {
    lifecycle: &'a Lifecycle,
    around: &'a Surroundings<'a>,
    findings: Vec<Finding>,
}

impl<'a> Linter<'a> {
    fn find(&mut self, severity: Severity, code: &'static str, place: impl Into<String>, text: String) {
        self.findings.push(Finding { severity, code, place: place.into(), text });
    }

    fn others(&self) -> impl Iterator<Item = &'a Lifecycle> + use<'a> {
        let own = self.lifecycle.id();
        self.around.others.iter().copied().filter(move |other| other.id() != own)
    }

    /// Statuses that no ticket can reach: by creation, by transitions, or by a move from another lifecycle.
    fn reach(&mut self) {
        let lifecycle = self.lifecycle;
        let mapped = self
            .others()
            .flat_map(|other| other.statuses().iter().filter_map(|status| other.mapped(lifecycle, status)));
        let mut waiting: VecDeque<&str> = lifecycle.at_create().iter().map(String::as_str).collect();
        waiting.extend(mapped.filter_map(|status| lifecycle.canonical(status)));
        let mut reached: BTreeSet<&str> = waiting.iter().copied().collect();
        while let Some(status) = waiting.pop_front() {
            for next in lifecycle.transitions_from(status) {
                if reached.insert(next) {
                    waiting.push_back(next);
                }
            }
        }
        for status in lifecycle.statuses().iter().filter(|status| !reached.contains(status.as_str())) {
            let text = format!(
                "{status:?} is unreachable: no ticket can be created with it, and no reachable status has a \
                 transition to it. Add a transition to it, or remove it."
            );
            self.find(Severity::Mend, "unreachable", status, text);
        }
    }

    /// Statuses that are not inactive and that a ticket cannot leave except by deletion.
    fn ways_out(&mut self) {
        let lifecycle = self.lifecycle;
        for status in lifecycle.statuses() {
            let Some(class) = lifecycle.class_of(status).filter(|class| *class != StatusClass::Inactive)
            else {
                continue;
            };
            let ways = lifecycle.transitions_from(status);
            if ways.iter().all(|to| to == "deleted") {
                let fate = if ways.is_empty() { "would stay there forever" } else { "could only be deleted" };
                let text = format!(
                    "{status:?} is {class} and has no way out: a ticket in it {fate}. \
                     Add a transition from it, or move it to inactive."
                );
                self.find(Severity::Mend, "no_way_out", status, text);
            }
        }
    }

    /// Statuses named like a list, because conditions and actions with that name mean the status.
    fn words(&mut self) {
        for status in self.lifecycle.statuses() {
            if StatusClass::parse(status).is_some() {
                let text = format!(
                    "{status:?} is also the name of a list of statuses: in this lifecycle, a condition or an \
                     action that names {status:?} means only this status. Choose another name to use the list."
                );
                self.find(Severity::Know, "list_word", status, text);
            }
        }
    }

    /// Rights of single transitions that do not exist.
    fn rights(&mut self) {
        let lifecycle = self.lifecycle;
        for (from, rights) in &lifecycle.graph.rights {
            let is_single = from == CREATE || lifecycle.canonical(from).is_some();
            let tos = rights.iter().filter(|(to, _)| is_single && lifecycle.canonical(to).is_some());
            for (to, right) in tos.filter(|(to, _)| !lifecycle.ways(from).contains(to)) {
                let place = edge(from, to);
                let text = format!(
                    "The right {right} of \"{place}\" has no effect, because there is no such transition. \
                     Add the transition, or remove the right."
                );
                self.find(Severity::Know, "idle_right", place, text);
            }
        }
    }

    /// Consequences for existing tickets.
    fn tickets(&mut self) {
        let counts = self.around.tickets.into_iter().flatten().filter(|(_, count)| **count > 0);
        for (status, count) in counts {
            let tickets = tickets(*count);
            match self.lifecycle.stored(status) {
                None => {
                    let text = format!(
                        "{tickets} in {}, which this definition does not have. Keep the status, or move \
                         these tickets to another status first.",
                        quote(status)
                    );
                    self.find(Severity::Mend, "tickets_stranded", status, text);
                }
                Some((status, class)) => self.kept(status, class, &tickets),
            }
        }
    }

    /// Consequences for tickets in a status that remains.
    fn kept(&mut self, status: &str, class: StatusClass, tickets: &str) {
        let Some(before) = self.around.before else { return };
        let ways = self.lifecycle.transitions_from(status);
        let lost: Vec<_> = before.transitions_from(status).iter().filter(|to| !ways.contains(to)).collect();
        if !lost.is_empty() {
            let text = if ways.is_empty() {
                format!(
                    "{tickets} in {status:?}, which no longer has a way out; before, it led to {}.",
                    list(&lost)
                )
            } else {
                format!(
                    "{tickets} in {status:?}, which no longer leads to {}; it still leads to {}.",
                    list(&lost),
                    list(ways)
                )
            };
            self.find(Severity::Know, "tickets_lose_way", status, text);
        }
        if let Some(old) = before.class_of(status).filter(|old| *old != class) {
            let text = format!("{tickets} in {status:?}, which was {old} and becomes {class}.");
            self.find(Severity::Know, "tickets_change_class", status, text);
        }
    }

    /// Moves between queues that would fail.
    fn maps(&mut self) {
        let others: Vec<&Lifecycle> = self.others().collect();
        for &other in &others {
            self.moves(self.lifecycle, other);
            self.moves(other, self.lifecycle);
        }
        // An empty list means that the other lifecycles were not read, not that there are no others.
        let names: BTreeSet<String> = others.iter().map(|other| fold(other.name())).collect();
        for target in self.lifecycle.graph.maps.keys().filter(|target| !names.contains(*target)) {
            if !others.is_empty() {
                let text = format!(
                    "There is a map to the lifecycle {}, which does not exist; the lifecycles are {}.",
                    quote(target),
                    list(others.iter().map(|other| other.name()))
                );
                let place = edge(self.lifecycle.name(), target);
                self.find(Severity::Know, "map_to_nowhere", place, text);
            }
        }
    }

    /// Moves from one lifecycle to another.
    fn moves(&mut self, from: &Lifecycle, to: &Lifecycle) {
        let (place, from_name, to_name) =
            (edge(from.name(), to.name()), quote(from.name()), quote(to.name()));
        let mut missing = Vec::new();
        for status in from.statuses() {
            match from.mapped(to, status) {
                None => missing.push(status),
                Some(mapped) if to.canonical(mapped).is_none() => {
                    let text = format!(
                        "A move from {from_name} to {to_name} changes {status:?} to {}, which {to_name} does \
                         not have; its statuses are {}.",
                        quote(mapped),
                        list(to.statuses())
                    );
                    self.find(Severity::Mend, "map_broken", &place, text);
                }
                Some(_) => {}
            }
        }
        if missing.len() == from.statuses().len() {
            let text = format!(
                "Tickets cannot move from {from_name} to {to_name}. To allow it, add maps.{to_name} to \
                 the definition of {from_name}."
            );
            self.find(Severity::Know, "no_map", place, text);
        } else if !missing.is_empty() {
            let text = format!(
                "Tickets in {} cannot move from {from_name} to {to_name}: maps.{to_name} of {from_name} has no \
                 entry for them.",
                list(missing)
            );
            self.find(Severity::Know, "no_map", place, text);
        }
    }
}

fn edge(from: &str, to: &str) -> String {
    format!("{} -> {to}", if from == CREATE { "''" } else { from })
}

fn tickets(count: u64) -> String {
    if count == 1 { "1 ticket is".to_owned() } else { format!("{count} tickets are") }
}

#[cfg(test)]
mod tests;
