//! Connections for the statements of changes and previews. Checking one out and in costs no round trip.
//!
//! A pool of sqlx sends a Sync and waits for the response each time that a connection is returned, to find out whether it is
//! still usable. Here the caller decides that: [`Taken::done`] returns the connection after its work is complete. A connection
//! that is dropped earlier, because its request was cancelled during a statement, is closed.

use super::{ACQUIRE_TIMEOUT, error};
use crate::error::{Error, Kind, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// The maximum idle time of a connection. NAT and some firewalls drop idle connections after minutes, and a statement on a
/// dropped one would wait for a response that never arrives.
const REST_MAX: Duration = Duration::from_secs(600);

/// A bounded set of connections, opened on demand.
#[derive(Debug)]
pub struct Connections {
    options: PgConnectOptions,
    max: usize,
    permits: Semaphore,
    /// The idle connections, each with the time since when it is idle; the most recently used one is last.
    idle: Mutex<Vec<(Instant, PgConnection)>>,
}

/// A connection that is checked out.
#[derive(Debug)]
pub struct Taken<'c> {
    of: &'c Connections,
    connection: PgConnection,
    _permit: SemaphorePermit<'c>,
}

impl Connections {
    /// Creates an empty set that opens at most `max` connections.
    pub fn new(options: PgConnectOptions, max: usize) -> Self {
        Self { options, max, permits: Semaphore::new(max), idle: Mutex::default() }
    }

    /// Checks out an idle connection, or opens one. Waiting callers are served in order.
    ///
    /// # Errors
    /// `busy` if all connections stay in use for five seconds; `database_unavailable`, also after [`Connections::close`].
    pub async fn take(&self) -> Result<Taken<'_>> {
        let permit = tokio::time::timeout(ACQUIRE_TIMEOUT, self.permits.acquire()).await;
        let permit = permit.map_err(|_| error(sqlx::Error::PoolTimedOut))?;
        let _permit = permit.map_err(|_| error(sqlx::Error::PoolClosed))?;
        let connection = match self.rested(Instant::now()) {
            Some(connection) => connection,
            None => {
                let opened =
                    tokio::time::timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(&self.options)).await;
                opened.map_err(|_| error(sqlx::Error::PoolTimedOut))?.map_err(error)?
            }
        };
        Ok(Taken { of: self, connection, _permit })
    }

    /// Closes the idle connections; later calls of [`Connections::take`] fail.
    pub async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        for (_, connection) in idle {
            // If the close message is lost, the server notices the closed socket.
            let _ = connection.close().await;
        }
    }

    /// Returns the numbers of idle and of checked out connections.
    pub fn count(&self) -> (usize, usize) {
        (self.idle().len(), self.max.saturating_sub(self.permits.available_permits()))
    }

    /// Removes the most recently used idle connection, and closes those that were idle for too long.
    fn rested(&self, now: Instant) -> Option<PgConnection> {
        let mut idle = self.idle();
        let too_long = idle.partition_point(|(since, _)| now.duration_since(*since) > REST_MAX);
        // Dropped without a close message, which would not arrive on a dropped connection.
        idle.drain(..too_long);
        idle.pop().map(|(_, connection)| connection)
    }

    /// Keeps a connection for reuse, unless the set is closed. [`Connections::close`] closes the permits before it takes the
    /// idle connections, so none is left over.
    fn put_back(&self, connection: PgConnection) {
        let mut idle = self.idle();
        if !self.permits.is_closed() {
            idle.push((Instant::now(), connection));
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, PgConnection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken<'_> {
    /// Returns the connection to the set after its work is complete, if the outcome permits that.
    pub fn done<T>(self, outcome: Result<T>) -> Result<T> {
        match outcome.as_ref().map_err(Error::kind) {
            // The idle connections are probably broken too.
            Err(Kind::Unavailable) => self.of.idle().clear(),
            // The state of the connection is unknown.
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

    /// The id of the server process of a connection.
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
