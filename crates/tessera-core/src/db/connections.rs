//! Connections for the statements that every change is made of. Handing one out and taking it back is no work at all.
//!
//! A pool of sqlx sends a Sync and waits for the answer each time that a connection comes back, to find out whether it can
//! still be used. Here whoever took one says so: [`Taken::done`] takes it back after its work came to an end. One that is
//! dropped before (its request was given up in the middle of a statement) is closed.

use super::{ACQUIRE_TIMEOUT, error};
use crate::error::{Error, Kind, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Connections of one kind, opened when first needed.
#[derive(Debug)]
pub struct Connections {
    options: PgConnectOptions,
    places: Semaphore,
    /// Those that nobody has, the one used last on top: the others may rest.
    idle: Mutex<Vec<PgConnection>>,
}

/// A connection, while somebody has it.
#[derive(Debug)]
pub struct Taken<'c> {
    of: &'c Connections,
    connection: PgConnection,
    _place: SemaphorePermit<'c>,
}

impl Connections {
    /// At most `max` connections.
    pub fn new(options: PgConnectOptions, max: usize) -> Self {
        Self { options, places: Semaphore::new(max), idle: Mutex::default() }
    }

    /// Takes one, or opens one. Those who wait for a place get one in the order in which they came.
    ///
    /// # Errors
    /// `busy` when all are in use for too long; `database_unavailable`.
    pub async fn take(&self) -> Result<Taken<'_>> {
        let place = tokio::time::timeout(ACQUIRE_TIMEOUT, self.places.acquire()).await;
        let _place =
            place.ok().and_then(std::result::Result::ok).ok_or_else(|| error(sqlx::Error::PoolTimedOut))?;
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let opened =
                    tokio::time::timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(&self.options)).await;
                opened.map_err(|_| error(sqlx::Error::PoolTimedOut))?.map_err(error)?
            }
        };
        Ok(Taken { of: self, connection, _place })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<PgConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken<'_> {
    /// Gives it back, now that what it was taken for came to an end.
    pub fn done<T>(self, outcome: Result<T>) -> Result<T> {
        match outcome.as_ref().map_err(Error::kind) {
            // What befell this one befell those that are idle too, and nobody else shall find out the hard way.
            Err(Kind::Unavailable) => self.of.idle().clear(),
            // Nobody knows what its next answer would be.
            Err(Kind::Internal) => {}
            _ => self.of.idle().push(self.connection),
        }
        outcome
    }
}

impl Deref for Taken<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Taken<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
