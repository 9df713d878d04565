//! Names: the names behind the ids of a ticket, as every interface shows them.

use super::{Catalog, People};
use crate::models::{CustomField, QueueId, Ticket, User, UserId};

/// Looks up the names behind ids.
#[derive(Debug, Clone, Copy)]
pub struct Names<'n> {
    /// The configuration.
    pub catalog: &'n Catalog,
    /// Users that were loaded with the ticket.
    pub people: &'n People,
    /// The user who made the request.
    pub actor: Option<&'n User>,
}

impl<'n> Names<'n> {
    /// Returns the user with an id.
    pub fn user(&self, id: UserId) -> Option<&'n User> {
        let agent = || self.catalog.agents.get(id).map(AsRef::as_ref);
        self.people.get(id).or_else(agent).or(self.actor.filter(|actor| actor.id == id))
    }

    /// Returns the username of a user; the id if the user is unknown.
    pub fn username(&self, id: UserId) -> String {
        self.user(id).map_or_else(|| id.to_string(), |user| user.username.clone())
    }

    /// Returns the name of a queue; empty if the queue is unknown.
    pub fn queue(&self, id: QueueId) -> &'n str {
        self.catalog.queues.get(id).map_or("", |queue| &queue.name)
    }

    /// Returns the fields of a ticket's queue, in the queue's order, each with its values.
    pub fn fields<'t>(&self, ticket: &'t Ticket) -> impl Iterator<Item = (&'n CustomField, &'t [String])> {
        let Self { catalog, .. } = *self;
        let ids = catalog.queues.get(ticket.queue).into_iter().flat_map(|queue| &queue.custom_fields);
        let fields = ids.filter_map(move |id| catalog.fields.get(*id));
        fields.map(|field| (field.as_ref(), ticket.values_of(field.id)))
    }
}
