//! Ids: UUIDv7 newtypes, so that the compiler rejects a ticket's id as a queue's; and the source that plans draw them from.

use serde::{Deserialize, Serialize};
use std::fmt;
use time::OffsetDateTime;
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    )+};
}

ids! {
    /// A ticket; people use its number.
    TicketId,
    /// A queue.
    QueueId,
    /// A lifecycle.
    LifecycleId,
    /// One version of a lifecycle's definition.
    LifecycleVersionId,
    /// A user.
    UserId,
    /// A custom field.
    CustomFieldId,
    /// A scrip.
    ScripId,
    /// One version of a scrip.
    ScripVersionId,
    /// A template.
    TemplateId,
    /// One version of a template.
    TemplateVersionId,
    /// A transaction: a line of a ticket's history.
    TransactionId,
    /// A request: everything that one call of a person or program changes.
    RequestId,
    /// A delivery: one message that leaves Tessera.
    DeliveryId,
    /// A connector: a program that delivers messages or reports changes.
    ConnectorId,
    /// A watcher: one person in one role of a ticket.
    WatcherId,
}

/// A source of UUIDv7 that is a value: the same start gives the same ids, so that planning twice gives equal plans.
///
/// Ids of one source sort in the order in which they were drawn.
#[derive(Debug, Clone)]
pub struct Ids {
    millis: u64,
    counter: u16,
    state: u64,
}

impl Ids {
    /// The largest value of the 12 bits that order ids of one millisecond.
    const COUNTER_MAX: u16 = 0x0fff;

    /// Creates a source whose ids contain the time `now`; `seed` determines the bits in which two sources differ.
    pub fn new(now: OffsetDateTime, seed: u64) -> Self {
        let millis = (now.unix_timestamp_nanos() / 1_000_000).clamp(0, (1 << 48) - 1);
        Self { millis: u64::try_from(millis).unwrap_or_default(), counter: 0, state: seed }
    }

    /// Returns the next id.
    pub fn draw<I: From<Uuid>>(&mut self) -> I {
        if self.counter > Self::COUNTER_MAX {
            self.millis += 1;
            self.counter = 0;
        }
        // SplitMix64 spreads a seed well; nothing depends on the ids being hard to guess.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let high = (u128::from(self.millis) << 80) | (0x7 << 76) | (u128::from(self.counter) << 64);
        let low = (0b10 << 62) | (u128::from(bits) >> 2);
        self.counter += 1;
        I::from(Uuid::from_u128(high | low))
    }
}

/// Returns the smallest UUIDv7 with this time, the lower bound of a partition by time.
pub fn first_id_of(moment: OffsetDateTime) -> Uuid {
    let millis = (moment.unix_timestamp_nanos() / 1_000_000).clamp(0, (1 << 48) - 1);
    Uuid::from_u128(u128::try_from(millis).unwrap_or_default() << 80)
}

/// Returns the time in a UUIDv7, to the millisecond; `None` for an id of another version.
pub fn moment_of(id: Uuid) -> Option<OffsetDateTime> {
    let millis = i128::try_from(id.as_u128() >> 80).ok().filter(|_| id.get_version_num() == 7)?;
    OffsetDateTime::from_unix_timestamp_nanos(millis * 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_sort_as_drawn_and_repeat_with_the_seed() {
        let now = OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap();
        let mut source = Ids::new(now, 7);
        let drawn: Vec<Uuid> = (0..5000).map(|_| source.draw()).collect();
        assert!(drawn.is_sorted() && drawn.iter().all(|id| id.get_version_num() == 7));
        assert_eq!(drawn.iter().collect::<std::collections::HashSet<_>>().len(), 5000);
        let mut again = Ids::new(now, 7);
        assert_eq!(drawn[0], again.draw::<Uuid>());
        assert!(first_id_of(now) < drawn[0]);
        let carried = moment_of(drawn[0]).unwrap();
        assert!(carried <= now && now - carried < time::Duration::milliseconds(1), "{carried} of {now}");
        assert_eq!(moment_of(Uuid::from_u128(7)), None);
    }
}
