//! The names behind the ids of a ticket, as every edge tells them.

use super::{Catalog, People};
use crate::models::{CustomField, QueueId, Ticket, User, UserId};

/// The names behind ids.
#[derive(Debug, Clone, Copy)]
pub struct Names<'n> {
    /// The configuration.
    pub catalog: &'n Catalog,
    /// Users that were loaded.
    pub people: &'n People,
    /// Who asks.
    pub actor: Option<&'n User>,
}

impl<'n> Names<'n> {
    /// The user of an id.
    pub fn user(&self, id: UserId) -> Option<&'n User> {
        let agent = || self.catalog.agents.get(id).map(AsRef::as_ref);
        self.people.get(id).or_else(agent).or(self.actor.filter(|actor| actor.id == id))
    }

    /// Their username; the id where nobody is known by it.
    pub fn username(&self, id: UserId) -> String {
        self.user(id).map_or_else(|| id.to_string(), |user| user.username.clone())
    }

    /// The name of a queue; empty where there is none.
    pub fn queue(&self, id: QueueId) -> &'n str {
        self.catalog.queues.get(id).map_or("", |queue| &queue.name)
    }

    /// The fields of a ticket's queue, in its order, each with its values.
    pub fn fields<'t>(&self, ticket: &'t Ticket) -> impl Iterator<Item = (&'n CustomField, &'t [String])> {
        let Self { catalog, .. } = *self;
        let ids = catalog.queues.get(ticket.queue).into_iter().flat_map(|queue| &queue.custom_fields);
        let fields = ids.filter_map(move |id| catalog.fields.get(*id));
        fields.map(|field| (field.as_ref(), ticket.values_of(field.id)))
    }
}
