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
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// How long a connection may rest. What stands between us and the database forgets one that says nothing (a NAT after
/// minutes, some firewalls), and a statement on it would wait for an answer that cannot come.
const REST_MAX: Duration = Duration::from_secs(600);

/// Connections of one kind, opened when first needed.
#[derive(Debug)]
pub struct Connections {
    options: PgConnectOptions,
    max: usize,
    places: Semaphore,
    /// Those that nobody has, each since when. The one used last is on top, so the ones below rest longer.
    idle: Mutex<Vec<(Instant, PgConnection)>>,
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
        Self { options, max, places: Semaphore::new(max), idle: Mutex::default() }
    }

    /// Takes one, or opens one. Those who wait for a place get one in the order in which they came.
    ///
    /// # Errors
    /// `busy` when all are in use for too long; `database_unavailable`, also after [`Connections::close`].
    pub async fn take(&self) -> Result<Taken<'_>> {
        let place = tokio::time::timeout(ACQUIRE_TIMEOUT, self.places.acquire()).await;
        let place = place.map_err(|_| error(sqlx::Error::PoolTimedOut))?;
        let _place = place.map_err(|_| error(sqlx::Error::PoolClosed))?;
        let connection = match self.rested(Instant::now()) {
            Some(connection) => connection,
            None => {
                let opened =
                    tokio::time::timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(&self.options)).await;
                opened.map_err(|_| error(sqlx::Error::PoolTimedOut))?.map_err(error)?
            }
        };
        Ok(Taken { of: self, connection, _place })
    }

    /// Closes those that nobody has, and hands out no more.
    pub async fn close(&self) {
        self.places.close();
        let idle = std::mem::take(&mut *self.idle());
        for (_, connection) in idle {
            // Whoever is on the other side finds out by itself when the farewell is lost.
            let _ = connection.close().await;
        }
    }

    /// How many nobody has, and how many are taken.
    pub fn count(&self) -> (usize, usize) {
        (self.idle().len(), self.max.saturating_sub(self.places.available_permits()))
    }

    /// The idle connection that was used last. Those that have rested too long are closed.
    fn rested(&self, now: Instant) -> Option<PgConnection> {
        let mut idle = self.idle();
        let too_long = idle.partition_point(|(since, _)| now.duration_since(*since) > REST_MAX);
        // Without a farewell: on a connection that was forgotten nobody would hear it.
        idle.drain(..too_long);
        idle.pop().map(|(_, connection)| connection)
    }

    /// Takes one back, unless all are closed. [`Connections::close`] closes the places before it looks here, so none
    /// stays behind.
    fn put_back(&self, connection: PgConnection) {
        let mut idle = self.idle();
        if !self.places.is_closed() {
            idle.push((Instant::now(), connection));
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, PgConnection)>> {
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
            _ => self.of.put_back(self.connection),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDb;

    /// The server process behind a connection.
    async fn process(db: &mut PgConnection) -> i32 {
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(db).await.unwrap()
    }

    #[tokio::test]
    async fn one_that_is_given_back_is_handed_out_again_and_one_dropped_on_its_way_is_not() {
        let db = TestDb::new().await;
        let connections = Connections::new(db.options.clone(), 1);
        let mut taken = connections.take().await.unwrap();
        let first = process(&mut taken).await;
        let refused: Result<()> = Err(Error::not_found("ticket", 1));
        assert!(taken.done(refused).is_err());

        let mut taken = connections.take().await.unwrap();
        assert_eq!(process(&mut taken).await, first);
        drop(taken);
        assert_ne!(process(&mut connections.take().await.unwrap()).await, first);
    }

    #[tokio::test]
    async fn one_that_broke_takes_the_idle_ones_with_it() {
        let db = TestDb::new().await;
        let connections = Connections::new(db.options.clone(), 2);
        let (mut broken, mut idle) = (connections.take().await.unwrap(), connections.take().await.unwrap());
        let processes = [process(&mut broken).await, process(&mut idle).await];
        idle.done(Ok(())).unwrap();
        assert!(broken.done::<()>(Err(error(sqlx::Error::PoolClosed))).is_err());
        assert!(!processes.contains(&process(&mut connections.take().await.unwrap()).await));
    }

    #[tokio::test]
    async fn those_that_rested_too_long_are_closed_and_the_others_are_not() {
        let db = TestDb::new().await;
        let connections = Connections::new(db.options.clone(), 2);
        let (one, other) = (connections.take().await.unwrap(), connections.take().await.unwrap());
        assert_eq!(connections.count(), (0, 2));
        one.done(Ok(())).unwrap();
        let first = Instant::now();
        other.done(Ok(())).unwrap();
        assert_eq!(connections.count(), (2, 0));

        assert!(connections.rested(first + REST_MAX).is_some(), "the one on top");
        assert_eq!(connections.count(), (0, 0), "the one below rested too long");
        connections.take().await.unwrap().done(Ok(())).unwrap();
        assert!(connections.rested(Instant::now() + REST_MAX * 2).is_none());
    }

    #[tokio::test]
    async fn one_that_comes_back_after_the_end_is_closed() {
        let db = TestDb::new().await;
        let connections = Connections::new(db.options.clone(), 2);
        let taken = connections.take().await.unwrap();
        connections.close().await;
        taken.done(Ok(())).unwrap();
        assert_eq!(connections.count().0, 0);
        assert_eq!(connections.take().await.unwrap_err().kind(), Kind::Unavailable);
    }
}
