//! Rows: the people and field values that a plan inserts and deletes.

use crate::models::{CustomFieldId, Ids, Role, Ticket, Watcher, WatcherId};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The difference between the ticket before and after, in rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Values to insert, each with the id of its row.
    pub values_in: Vec<(Uuid, CustomFieldId, String)>,
    /// Values to delete.
    pub values_out: Vec<(CustomFieldId, String)>,
    /// People to insert.
    pub watchers_in: Vec<(Role, Watcher)>,
    /// People to delete.
    pub watchers_out: Vec<WatcherId>,
}

impl Rows {
    /// Returns the rows to insert and delete. `before` is `None` for a create.
    pub(super) fn between(before: Option<&Ticket>, after: &Ticket, ids: &mut Ids) -> Self {
        let mut rows = Self::default();
        let nobody = BTreeMap::new();
        let old_values = before.map_or(&nobody, |ticket| &ticket.values);
        for (field, values) in &after.values {
            let old = old_values.get(field).map_or(&[][..], Vec::as_slice);
            let new = values.iter().filter(|value| !old.contains(value));
            rows.values_in.extend(new.map(|value| (ids.draw::<Uuid>(), *field, value.clone())));
        }
        for (field, values) in old_values {
            let gone = values.iter().filter(|value| !after.values_of(*field).contains(value));
            rows.values_out.extend(gone.map(|value| (*field, value.clone())));
        }
        for role in Role::ALL {
            let old = before.map_or(&[][..], |ticket| ticket.watchers(role));
            let new = after.watchers(role);
            let added = new.iter().filter(|one| !old.contains(one));
            rows.watchers_in.extend(added.map(|one| (role, one.clone())));
            rows.watchers_out.extend(old.iter().filter(|one| !new.contains(one)).map(|one| one.id));
        }
        rows
    }
}
