//! Turns: writers of one ticket in this process go one after another, so that they need not fail and try again.

use crate::db::tickets::TicketRef;
use crate::error::{Error, Kind, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Writers that may wait for one ticket; one more is told to come again.
pub const WAITING_MAX: usize = 256;

/// The queues, one per ticket that somebody writes now.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<TicketRef, Queue>>);

#[derive(Debug)]
struct Queue {
    turn: Arc<Semaphore>,
    writers: usize,
}

/// A turn; the next writer's begins when it is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    ticket: TicketRef,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Waits for the turn to write `ticket`.
    ///
    /// # Errors
    /// `busy` when [`WAITING_MAX`] writers wait already.
    pub async fn take(self: &Arc<Self>, ticket: TicketRef) -> Result<Turn> {
        let semaphore = self.enter(ticket)?;
        // From here on the drop of `turn` leaves the queue, also when this future is dropped while it waits.
        let mut turn = Turn { turns: Arc::clone(self), ticket, permit: None };
        turn.permit = semaphore.acquire_owned().await.ok();
        Ok(turn)
    }

    fn enter(&self, ticket: TicketRef) -> Result<Arc<Semaphore>> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let queue =
            queues.entry(ticket).or_insert_with(|| Queue { turn: Arc::new(Semaphore::new(1)), writers: 0 });
        if queue.writers > WAITING_MAX {
            let detail = format!(
                "{WAITING_MAX} changes of ticket {ticket} wait already. Send the request again in a moment."
            );
            return Err(Error::new(Kind::Busy, "busy", detail));
        }
        queue.writers += 1;
        Ok(Arc::clone(&queue.turn))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.permit.take();
        let mut queues = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get_mut(&self.ticket) {
            queue.writers -= 1;
            if queue.writers == 0 {
                queues.remove(&self.ticket);
            }
        }
    }
}
