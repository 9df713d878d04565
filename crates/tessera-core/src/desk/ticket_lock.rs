//! Locks that let one writer at a time change a ticket in this process, in the order of arrival, so that writers need not retry.

use crate::db::tickets::TicketRef;
use crate::error::{Code, Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The maximum number of writers that wait for one ticket; further ones are rejected with `busy`.
pub const WAITING_MAX: usize = 256;

/// The locks of all tickets that are being changed.
#[derive(Debug, Default)]
pub struct TicketLocks(Mutex<HashMap<TicketRef, Lock>>);

#[derive(Debug)]
struct Lock {
    semaphore: Arc<Semaphore>,
    /// The number of writers: the one that holds the lock and those that wait for it.
    writers: usize,
}

/// A lock on a ticket; dropping it unlocks the ticket for the next writer.
#[derive(Debug)]
pub struct TicketLock {
    locks: Arc<TicketLocks>,
    ticket: TicketRef,
    permit: Option<OwnedSemaphorePermit>,
}

impl TicketLocks {
    /// Waits for the lock of `ticket`.
    ///
    /// # Errors
    /// `busy` if [`WAITING_MAX`] writers are already waiting.
    pub async fn acquire(self: &Arc<Self>, ticket: TicketRef) -> Result<TicketLock> {
        let semaphore = self.enter(ticket)?;
        // From here on, dropping `lock` decrements the count, even if this future is dropped while it waits.
        let mut lock = TicketLock { locks: Arc::clone(self), ticket, permit: None };
        lock.permit = semaphore.acquire_owned().await.ok();
        Ok(lock)
    }

    fn enter(&self, ticket: TicketRef) -> Result<Arc<Semaphore>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = locks
            .entry(ticket)
            .or_insert_with(|| Lock { semaphore: Arc::new(Semaphore::new(1)), writers: 0 });
        if lock.writers > WAITING_MAX {
            let detail = format!(
                "{WAITING_MAX} changes of ticket {ticket} are already waiting. Retry the request in a moment."
            );
            return Err(Error::new(Code::Busy, detail));
        }
        lock.writers += 1;
        Ok(Arc::clone(&lock.semaphore))
    }
}

impl Drop for TicketLock {
    fn drop(&mut self) {
        self.permit.take();
        let mut locks = self.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get_mut(&self.ticket) {
            lock.writers -= 1;
            if lock.writers == 0 {
                locks.remove(&self.ticket);
            }
        }
    }
}
