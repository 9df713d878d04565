//! Trying the condition of a scrip on a transaction: one way for plans and for what explains them.

use super::{Catalog, People};
use crate::models::{Ticket, Transaction, User};
use crate::query::{Occasion, Purpose, Scene, Zone};
use crate::scrip::Scrip;
use crate::scrip::condition::Tried;
use time::OffsetDateTime;

/// What conditions are tried on.
pub(super) struct Trial<'a> {
    pub catalog: &'a Catalog,
    /// The ticket as it is then.
    pub ticket: &'a Ticket,
    /// Whether it is being made: then it has no number, so that a preview, which draws none, sees what a create does.
    pub is_new: bool,
    /// The users among its people.
    pub people: &'a People,
    /// Who asked.
    pub actor: &'a User,
    /// Through what.
    pub channel: &'a str,
    /// When.
    pub now: OffsetDateTime,
}

impl Trial<'_> {
    /// Tries a scrip's condition on a transaction; CHANGED looks at `changes`.
    pub fn of(&self, scrip: &Scrip, transaction: &Transaction, changes: &[Transaction]) -> Tried {
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
        scrip.condition.evaluate(self.catalog.query_of(scrip.id), &scene, occasion)
    }
}
