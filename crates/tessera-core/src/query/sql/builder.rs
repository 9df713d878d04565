//! A statement being built: what is known while its parts are written.

use super::bind::{Bind, Binds};
use crate::models::UserId;
use crate::models::id::first_id_of;
use crate::query::date::Zone;
use crate::query::meaning::DateTest;
use std::collections::HashMap;
use time::{Duration, OffsetDateTime};

/// How far the time in an id may be from the time in its row: the difference between two clocks, and some more.
pub const ID_SLACK: Duration = Duration::hours(1);

/// The user who searches, the time and their time zone.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The user that `__CurrentUser__` stands for.
    pub user: UserId,
    /// The time that `now` stands for.
    pub now: OffsetDateTime,
    /// The time zone in which days begin.
    pub zone: Zone,
}

/// How frequent words are in messages, as far as PostgreSQL's statistics know.
#[derive(Debug, Clone, Default)]
pub struct Frequencies {
    /// The approximate number of messages.
    pub messages: f32,
    /// The share of messages that contain a word, from 0 to 1. Only the most frequent words are listed.
    pub words: HashMap<String, f32>,
}

/// A statement being built.
pub(super) struct Builder<'a> {
    pub asker: &'a Asker,
    pub frequencies: &'a Frequencies,
    pub hides_deleted: bool,
    /// Negated sets so far that PostgreSQL may plan as anti-joins.
    pub anti_joins: usize,
    pub binds: Binds,
}

impl Builder<'_> {
    /// The earliest and the latest time at which a date can pass a test.
    pub(super) fn time_bounds(&self, test: &DateTest) -> (Option<OffsetDateTime>, Option<OffsetDateTime>) {
        let ranges = test.ranges(self.asker.now, &self.asker.zone).unwrap_or_default();
        let from = ranges.iter().map(|range| range.from).min().flatten();
        let until: Option<Vec<_>> = ranges.iter().map(|range| range.until).collect();
        (from, until.unwrap_or_default().into_iter().max())
    }

    /// The bounds of ids created in a stretch of time: `>= $1`, `< $2`. Ids from before 1970 carry 1970.
    pub(super) fn id_bounds(
        &mut self,
        from: Option<OffsetDateTime>,
        until: Option<OffsetDateTime>,
    ) -> Vec<String> {
        let from = from.map(|from| (">=", from.saturating_sub(ID_SLACK)));
        let until = until.map(|until| ("<", until.max(OffsetDateTime::UNIX_EPOCH).saturating_add(ID_SLACK)));
        let bounds = from.into_iter().chain(until);
        bounds.map(|(sign, at)| format!("{sign} {}", self.binds.add(Bind::Id(first_id_of(at))))).collect()
    }
}
