//! Variables: the published table of those that a template can use, and the check of a path against it.

use super::aliases::ALIASES;
use crate::models::text;

/// The type of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableKind {
    /// A text, or null, which prints as an empty text.
    Text,
    /// A whole number, or null.
    Number,
    /// A time in RFC 3339, UTC, or null. The filter `date` formats it.
    Time,
    /// A list, for `{% for %}`, `join`, `first`, `last`, `length`.
    List,
    /// The custom fields by name: each a text, a list of texts for a field with several values, or null.
    Fields,
}

/// A variable. `[]` in a path stands for each item of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// The path, with dots between its parts.
    pub path: &'static str,
    /// Its type.
    pub kind: VariableKind,
    /// An example of its value.
    pub example: &'static str,
    /// A description for the documentation.
    pub doc: &'static str,
}

const fn text(path: &'static str, example: &'static str, doc: &'static str) -> Variable {
    Variable { path, kind: VariableKind::Text, example, doc }
}

const fn number(path: &'static str, example: &'static str, doc: &'static str) -> Variable {
    Variable { path, kind: VariableKind::Number, example, doc }
}

const fn time(path: &'static str, doc: &'static str) -> Variable {
    Variable { path, kind: VariableKind::Time, example: "2026-03-04T09:30:00Z", doc }
}

const fn list(path: &'static str, doc: &'static str) -> Variable {
    Variable { path, kind: VariableKind::List, example: "", doc }
}

const UUID: &str = "0195f0a2-5b1c-7d3e-8f00-3a9b5c7d9e01";

/// The value of `ticket.number` for a ticket that has no number yet: in the preview of a create.
pub const NEW_NUMBER: &str = "new";

/// Every variable, in the order of the documentation.
pub const VARIABLES: &[Variable] = &[
    text("ticket.id", UUID, "The ticket's id (a UUID). People use the number."),
    number(
        "ticket.number",
        "42",
        "The ticket's number, as in mail subjects; new in the preview of a create.",
    ),
    text("ticket.url", "https://desk.example.com/t/42", "The ticket's URL."),
    text("ticket.subject", "Printer on fire", "The subject."),
    text("ticket.status", "open", "The status."),
    number("ticket.priority", "50", "The priority; a larger number is more urgent."),
    text("ticket.queue", "Support", "The name of the queue."),
    text("ticket.owner.username", "ann", "The owner's username; Nobody if the ticket has no owner."),
    text("ticket.owner.name", "Ann Lee", "The owner's display name."),
    text("ticket.owner.email", "ann@example.com", "The owner's mail address."),
    text("ticket.creator.username", "bob", "The username of the ticket's creator."),
    text("ticket.creator.name", "Bob Ray", "The creator's display name."),
    text("ticket.creator.email", "bob@example.com", "The creator's mail address."),
    list("ticket.requestors", "The requestors."),
    text("ticket.requestors[].address", "eve@example.net", "The requestor's mail address."),
    text("ticket.requestors[].username", "eve", "The requestor's username; null for a bare address."),
    text("ticket.requestors[].name", "Eve Poe", "The requestor's display name; null for a bare address."),
    list("ticket.cc", "People who get the same mail as the requestors; each has the members of a requestor."),
    list(
        "ticket.admin_cc",
        "People who get all mail, comments included; each has the members of a requestor.",
    ),
    text("ticket.requestor_addresses", "eve@example.net, joe@example.net", "The requestors' mail addresses."),
    text("ticket.cc_addresses", "kim@example.net", "The mail addresses of cc."),
    text("ticket.admin_cc_addresses", "lead@example.com", "The mail addresses of admin_cc."),
    time("ticket.created_at", "When the ticket was created."),
    time("ticket.updated_at", "When the ticket last changed."),
    time("ticket.started_at", "When the ticket first left an initial status."),
    time("ticket.resolved_at", "When the ticket last became inactive."),
    time("ticket.due_at", "When the ticket is due."),
    time("ticket.told_at", "When the requestors were last written to."),
    Variable {
        path: "ticket.cf",
        kind: VariableKind::Fields,
        example: "high",
        doc: "Custom fields by name: ticket.cf[\"Severity\"] or ticket.cf.Severity; cf[\"Severity\"] for short.",
    },
    text("transaction.id", UUID, "The id of the transaction that triggered the scrip."),
    text("transaction.type", "Status", "The transaction's type: Create, Status, Correspond and so on."),
    text("transaction.field", "Severity", "The field that changed."),
    text("transaction.old_value", "low", "The field's value before the change."),
    text("transaction.new_value", "high", "The field's value after the change."),
    text(
        "transaction.content",
        "It burns again.",
        "The text of a Create, Comment or Correspond: all of it in mail, elsewhere cut at 64 KiB with a mark.",
    ),
    text("transaction.description", "Status changed from new to open", "The change in words."),
    time("transaction.created_at", "When the transaction was created."),
    text("transaction.creator.username", "bob", "The username of the transaction's creator."),
    text("transaction.creator.name", "Bob Ray", "The creator's display name."),
    text("transaction.creator.email", "bob@example.com", "The creator's mail address."),
    list("batch", "All transactions of the request so far; each has the members of transaction."),
    list(
        "messages",
        "The first message and the newest 5, this one included, oldest first; comments only in mail sent as a comment.",
    ),
    text("messages[].type", "Correspond", "Create, Correspond or Comment."),
    text(
        "messages[].content",
        "It burns again.",
        "The text, cut at 64 KiB with a mark that says where the rest is.",
    ),
    text("messages[].creator", "eve", "The author's username."),
    time("messages[].created_at", "When the message was written."),
    text("queue.id", UUID, "The queue's id."),
    text("queue.name", "Support", "The queue's name."),
    text("queue.description", "Everything that is broken", "The queue's description."),
    text("queue.correspond_address", "support@example.com", "The address that replies are sent from."),
    text("queue.comment_address", "support-team@example.com", "The address that comments are sent from."),
    text("actor.username", "bob", "The username of the person who made the request."),
    text("actor.name", "Bob Ray", "Their display name."),
    text("actor.email", "bob@example.com", "Their mail address."),
    text("scrip.id", UUID, "The scrip's id."),
    text("scrip.name", "Tell the team", "The scrip's name."),
    number("scrip.version", "3", "The scrip's version."),
    text("scrip.description", "On create, tell the team", "The scrip's description."),
    text("tessera.name", "tessera", "The name of this installation, as in [tessera #42]."),
    text("tessera.base_url", "https://desk.example.com", "The base URL of this installation."),
    time("now", "When the request was made."),
];

/// The meaning of a path on a known root.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A value that can be printed.
    Value,
    /// A variable with parts: their names, as a text.
    Group(String),
    /// A custom field.
    Field(String),
}

/// Whether a name is the first part of a variable.
pub(super) fn is_root(name: &str) -> bool {
    roots().contains(&name)
}

/// Returns the meaning of a path, or an error message with a suggestion.
pub(super) fn meaning(path: &[String]) -> Result<Meaning, String> {
    if let ["ticket", "cf", field, more @ ..] = path.iter().map(String::as_str).collect::<Vec<_>>().as_slice()
    {
        return match more {
            [] => Ok(Meaning::Field((*field).to_owned())),
            [part, ..] => Err(format!(
                "a custom field has no part {}; write ticket.cf[{}]",
                text::quote(part),
                text::quote(field)
            )),
        };
    }
    let Some((root, parts)) = path.split_first() else { return Err("a name is missing here".to_owned()) };
    let mut known = root.clone();
    if !is_root(root) {
        return Err(unknown("", "variable", root, roots()));
    }
    for part in parts {
        let longer = format!("{known}.{part}");
        let below = parts_of(&known);
        if kind_of(&longer).is_none() && parts_of(&longer).is_empty() {
            return Err(match (kind_of(&known), below.is_empty()) {
                (Some(VariableKind::List), _) => {
                    format!("\"{known}\" is a list; loop over it: {{% for one in {known} %}}")
                }
                (_, true) => format!("\"{known}\" has no parts"),
                (_, false) => unknown(&format!("{known}."), "variable", part, below),
            });
        }
        known = longer;
    }
    match kind_of(&known) {
        Some(VariableKind::Fields) => Ok(Meaning::Group("a field, as in ticket.cf[\"Severity\"]".to_owned())),
        Some(_) => Ok(Meaning::Value),
        None => Ok(Meaning::Group(text::list(parts_of(&known)))),
    }
}

fn kind_of(path: &str) -> Option<VariableKind> {
    VARIABLES.iter().find(|variable| variable.path == path).map(|variable| variable.kind)
}

/// Formats the message for an unknown name, with a suggestion or the known names. `holder` is the path before the name, with its
/// dot.
pub(super) fn unknown(holder: &str, what: &str, name: &str, known: Vec<&'static str>) -> String {
    let aliases = ALIASES.iter().map(|alias| alias.name).filter(|_| what == "variable" && holder.is_empty());
    let near = text::nearest(name, known.iter().copied().chain(aliases));
    let name = text::quote(&format!("{holder}{name}"));
    match near {
        Some(near) => format!("unknown {what} {name}; did you mean \"{holder}{near}\"?"),
        None => format!("unknown {what} {name}; known {what}s: {}", text::list(known)),
    }
}

fn roots() -> Vec<&'static str> {
    let mut roots: Vec<_> = VARIABLES.iter().map(|v| v.path.split(['.', '[']).next().unwrap_or("")).collect();
    roots.dedup();
    roots
}

/// Returns the names that can follow a path and a dot.
fn parts_of(path: &str) -> Vec<&'static str> {
    let mut parts: Vec<_> = VARIABLES
        .iter()
        .filter_map(|variable| variable.path.strip_prefix(path)?.strip_prefix('.'))
        .filter_map(|rest| rest.split(['.', '[']).next())
        .collect();
    parts.dedup();
    parts
}
