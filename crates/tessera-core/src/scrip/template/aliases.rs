//! Aliases: the names of RT's Simple templates, with the paths that they stand for.

use crate::models::text::fold;

/// An RT name (`{$TicketSubject}`) and the path that it stands for. `TicketCF<Name>` is supported as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// RT's name.
    pub name: &'static str,
    /// The path in [`super::VARIABLES`].
    pub path: &'static str,
}

const fn alias(name: &'static str, path: &'static str) -> Alias {
    Alias { name, path }
}

/// Every RT name that has an equivalent. RT: `RT::Template::_ParseContentSimple`.
pub const ALIASES: &[Alias] = &[
    alias("TicketId", "ticket.number"),
    alias("TicketSubject", "ticket.subject"),
    alias("TicketStatus", "ticket.status"),
    alias("TicketPriority", "ticket.priority"),
    alias("TicketTold", "ticket.told_at"),
    alias("TicketStarted", "ticket.started_at"),
    alias("TicketDue", "ticket.due_at"),
    alias("TicketResolved", "ticket.resolved_at"),
    alias("TicketRequestorAddresses", "ticket.requestor_addresses"),
    alias("TicketCcAddresses", "ticket.cc_addresses"),
    alias("TicketAdminCcAddresses", "ticket.admin_cc_addresses"),
    alias("TicketQueueId", "queue.id"),
    alias("TicketQueueName", "queue.name"),
    alias("TicketOwnerName", "ticket.owner.username"),
    alias("TicketOwnerEmailAddress", "ticket.owner.email"),
    alias("TransactionId", "transaction.id"),
    alias("TransactionType", "transaction.type"),
    alias("TransactionField", "transaction.field"),
    alias("TransactionOldValue", "transaction.old_value"),
    alias("TransactionNewValue", "transaction.new_value"),
    alias("TransactionContent", "transaction.content"),
    alias("TransactionDescription", "transaction.description"),
    alias("TransactionBriefDescription", "transaction.description"),
    alias("rtname", "tessera.name"),
    alias("Requestor", "ticket.requestor_addresses"),
];

/// The meaning of an RT name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The path that it stands for.
    Path(&'static str),
    /// The custom field of `TicketCF…`, written without the blanks and signs of its name.
    Field(String),
}

/// Returns the meaning of an RT name.
pub(super) fn meaning(name: &str) -> Option<Meaning> {
    if let Some(alias) = ALIASES.iter().find(|alias| alias.name == name) {
        return Some(Meaning::Path(alias.path));
    }
    let field = name.strip_prefix("TicketCF").filter(|field| !field.is_empty())?;
    Some(Meaning::Field(field.to_owned()))
}

/// Whether a name in a template is that of a custom field: case does not matter, and RT's names (`TicketCFFirstName`) lack
/// the blanks and signs of the field's ("First Name").
pub fn is_field(written: &str, field: &str) -> bool {
    let bare =
        |name: &str| fold(name).chars().filter(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    fold(written) == fold(field) || (!written.is_empty() && fold(written) == bare(field))
}
