//! Trials: tries the condition of a scrip on a transaction, in the same way for plans and for explanations.

use super::{Catalog, People};
use crate::models::{Steps, Ticket, Transaction, User};
use crate::query::{Occasion, Purpose, Scene, Zone};
use crate::scrip::Scrip;
use crate::scrip::condition::Tried;
use time::OffsetDateTime;

/// The input of conditions.
pub(super) struct Trial<'a> {
    pub catalog: &'a Catalog,
    /// The ticket at that point.
    pub ticket: &'a Ticket,
    /// Whether the ticket is being created. Then conditions see no number, so that a preview, which draws none, agrees with the
    /// create.
    pub is_new: bool,
    /// The users among the ticket's people.
    pub people: &'a People,
    /// The user who made the request.
    pub actor: &'a User,
    /// The channel of the request.
    pub channel: &'a str,
    /// The time of the request.
    pub now: OffsetDateTime,
}

impl Trial<'_> {
    /// Tries a scrip's condition on a transaction, and takes the steps for it from those that are left. If they are used up, the
    /// result means nothing. CHANGED refers to `changes`.
    pub fn of(
        &self,
        scrip: &Scrip,
        transaction: &Transaction,
        changes: &[Transaction],
        left: &Steps,
    ) -> Tried {
        let scene = Scene {
            ticket: self.ticket,
            number: self.ticket.number.filter(|_| !self.is_new),
            people: self.people.by_id(),
            fields: self.catalog.query_fields(Purpose::Condition),
            current_user: Some(self.actor),
            last_updated_by: None,
            now: self.now,
            zone: &Zone::utc(),
            occasion: None,
        };
        let occasion = Occasion { transaction, changes, channel: self.channel };
        let lifecycle = self.catalog.lifecycle_of(self.ticket.queue).map(AsRef::as_ref);
        scrip.condition.evaluate(self.catalog.query_of(scrip.id), lifecycle, &scene, occasion, left)
    }
}
