//! Locks that let one writer at a time change a ticket in this process, in the order of arrival, so that writers need not retry.

use crate::error::{Code, Error, Result};
use crate::models::TicketId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The maximum number of writers that wait for one ticket; further ones are rejected with `busy`.
pub const WAITING_MAX: usize = 256;

/// The maximum number of tickets whose numbers are remembered by their ids; beyond it, all are forgotten.
const NUMBERS_MAX: usize = 10_000;

/// The locks of all tickets that are being changed, by number.
#[derive(Debug, Default)]
pub struct TicketLocks {
    locks: Mutex<HashMap<i64, Lock>>,
    /// The numbers of tickets that were named by id, which never change.
    numbers: Mutex<HashMap<TicketId, i64>>,
}

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
    number: i64,
    permit: Option<OwnedSemaphorePermit>,
}

impl TicketLocks {
    /// Waits for the lock of the ticket with this number.
    ///
    /// # Errors
    /// `busy` if [`WAITING_MAX`] writers are already waiting.
    pub async fn acquire(self: &Arc<Self>, number: i64) -> Result<TicketLock> {
        let semaphore = self.enter(number)?;
        // From here on, dropping `lock` decrements the count, even if this future is dropped while it waits.
        let mut lock = TicketLock { locks: Arc::clone(self), number, permit: None };
        lock.permit = semaphore.acquire_owned().await.ok();
        Ok(lock)
    }

    /// Returns the number of a ticket, if it was remembered.
    pub fn number_of(&self, id: TicketId) -> Option<i64> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// Remembers the number of a ticket.
    pub fn remember(&self, id: TicketId, number: i64) {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if numbers.len() >= NUMBERS_MAX {
            numbers.clear();
        }
        numbers.insert(id, number);
    }

    /// The number of writers that hold the lock of a ticket or wait for it.
    #[cfg(test)]
    pub fn writers_of(&self, number: i64) -> usize {
        let locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.get(&number).map_or(0, |lock| lock.writers)
    }

    fn enter(&self, number: i64) -> Result<Arc<Semaphore>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = locks
            .entry(number)
            .or_insert_with(|| Lock { semaphore: Arc::new(Semaphore::new(1)), writers: 0 });
        if lock.writers > WAITING_MAX {
            let detail = format!(
                "{WAITING_MAX} changes of ticket #{number} are already waiting. Retry the request in a moment."
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
        let mut locks = self.locks.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get_mut(&self.number) {
            lock.writers -= 1;
            if lock.writers == 0 {
                locks.remove(&self.number);
            }
        }
    }
}
