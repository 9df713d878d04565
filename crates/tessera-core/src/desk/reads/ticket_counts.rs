//! The number of tickets by queue and status, counted at most once a minute, regardless of the number of requests.

use crate::db::ops::ticket_counts;
pub use crate::db::ops::ticket_counts::TicketCount;
use crate::desk::{Caller, Tessera, clock};
use crate::error::Result;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The maximum age of a count that is returned.
const AGE_MAX: Duration = Duration::from_secs(60);

/// The last count.
#[derive(Debug, Default)]
pub struct TicketCounts(Mutex<Option<(Instant, Arc<Counts>)>>);

/// A count of all tickets.
#[derive(Debug)]
pub struct Counts {
    /// The time of the count.
    pub at: OffsetDateTime,
    /// The tickets by queue and status; `None` if they could not be counted within a second.
    pub tickets: Option<Vec<TicketCount>>,
}

impl Counts {
    /// Returns the number of tickets in the groups that match `which`; `None` if they could not be counted.
    pub fn total(&self, which: impl Fn(&TicketCount) -> bool) -> Option<i64> {
        let groups = self.tickets.as_ref()?.iter();
        Some(groups.filter(|group| which(group)).map(|group| group.tickets).sum())
    }
}

impl Tessera {
    /// Returns the number of tickets by queue and status, at most a minute old.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ticket_counts(&self, _caller: &Caller) -> Result<Arc<Counts>> {
        let mut last = self.ticket_counts.0.lock().await;
        if let Some((since, counts)) = last.as_ref()
            && since.elapsed() < AGE_MAX
        {
            return Ok(Arc::clone(counts));
        }
        let tickets = ticket_counts::standing(&self.pools.read).await?;
        let counts = Arc::new(Counts { at: clock::now(), tickets });
        *last = Some((Instant::now(), Arc::clone(&counts)));
        Ok(counts)
    }
}
