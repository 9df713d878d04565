//! Connections that the caller returns after its work. Checking one out and in costs no round trip.
//!
//! A pool of sqlx sends a Sync and waits for the response each time that a connection is returned, to find out whether it is
//! still usable. Here the caller decides that: [`Taken::done`] returns the connection after its work is complete. A connection
//! that is dropped earlier, because its request was cancelled during a statement, is closed, and its server process is ended:
//! PostgreSQL does not notice a closed socket while it works. Its place becomes free when that process has ended, so clients
//! who hang up cannot have more statements running than the limit.

use super::session::{Backend, Session};
use super::{ACQUIRE_TIMEOUT, error};
use crate::error::{Error, Kind, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection, PgPool};
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// The maximum idle time of a connection. NAT and some firewalls drop idle connections after minutes, and a statement on a
/// dropped one would wait for a response that never arrives.
const REST_MAX: Duration = Duration::from_secs(600);
/// The maximum time for which a dropped connection keeps its place: longer than the time limit of any statement.
const ENDING_MAX: Duration = Duration::from_secs(15);
/// The time after which the end of a server process is checked again.
const ENDING_POLL: Duration = Duration::from_millis(5);

/// A bounded set of connections, opened on demand.
#[derive(Debug)]
pub struct Connections {
    options: PgConnectOptions,
    session: &'static Session,
    max: usize,
    permits: Arc<Semaphore>,
    /// The idle connections, each with the time since when it is idle; the most recently used one is last.
    idle: Mutex<Vec<(Instant, Open)>>,
    /// The pool over which server processes are ended, because the connections of this set may all be in use.
    reserved: PgPool,
}

/// An open connection.
#[derive(Debug)]
struct Open {
    connection: PgConnection,
    backend: Backend,
}

/// A connection that is checked out.
#[derive(Debug)]
pub struct Taken {
    connection: PgConnection,
    place: Place,
}

/// The place of a connection in its set. Dropping it ends the server process of the connection, unless the permit was taken out.
#[derive(Debug)]
struct Place {
    of: Arc<Connections>,
    backend: Backend,
    permit: Option<OwnedSemaphorePermit>,
}

impl Connections {
    /// Creates an empty set that opens at most `max` connections. It ends the server processes of dropped connections over a
    /// connection of `reserved`.
    pub fn new(
        options: PgConnectOptions,
        session: &'static Session,
        max: usize,
        reserved: PgPool,
    ) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(max));
        Arc::new(Self { options, session, max, permits, idle: Mutex::default(), reserved })
    }

    /// Checks out an idle connection, or opens one. Waiting callers are served in order.
    ///
    /// # Errors
    /// `busy` if all connections stay in use for five seconds; `database_unavailable`, also after [`Connections::close`] and
    /// for a new connection that lacks a setting that it asked for.
    pub async fn take(self: &Arc<Self>) -> Result<Taken> {
        let permit = timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = permit.map_err(|_| error(sqlx::Error::PoolTimedOut))?;
        let permit = permit.map_err(|_| error(sqlx::Error::PoolClosed))?;
        let Open { connection, backend } = match self.rested(Instant::now()) {
            Some(open) => open,
            None => {
                let opened = timeout(ACQUIRE_TIMEOUT, self.session.open(&self.options)).await;
                let late = |_| error(sqlx::Error::Io(io::ErrorKind::TimedOut.into()));
                let (connection, backend) = opened.map_err(late)??;
                Open { connection, backend }
            }
        };
        Ok(Taken { connection, place: Place { of: Arc::clone(self), backend, permit: Some(permit) } })
    }

    /// Closes the idle connections; later calls of [`Connections::take`] fail.
    pub async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        for (_, open) in idle {
            // If the close message is lost, the server notices the closed socket.
            let _ = open.connection.close().await;
        }
    }

    /// The maximum number of connections.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Returns the numbers of idle and of checked out connections.
    pub fn count(&self) -> (usize, usize) {
        (self.idle().len(), self.max.saturating_sub(self.permits.available_permits()))
    }

    /// Removes the most recently used idle connection, and closes those that were idle for too long.
    fn rested(&self, now: Instant) -> Option<Open> {
        let mut idle = self.idle();
        let too_long = idle.partition_point(|(since, _)| now.duration_since(*since) > REST_MAX);
        // Dropped without a close message, which would not arrive on a dropped connection.
        idle.drain(..too_long);
        idle.pop().map(|(_, open)| open)
    }

    /// Keeps a connection for reuse, unless the set is closed. [`Connections::close`] closes the permits before it takes the
    /// idle connections, so none is left over.
    fn put_back(&self, open: Open) {
        let mut idle = self.idle();
        if !self.permits.is_closed() {
            idle.push((Instant::now(), open));
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, Open)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a server process, and returns when it has ended. Without a connection to do so, PostgreSQL ends it when it notices
    /// the closed socket.
    async fn end(&self, backend: &Backend) {
        let gone = async {
            loop {
                let found = sqlx::query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_get_activity($1)
                     WHERE extract(epoch FROM backend_start)::text = $2",
                )
                .bind(backend.process)
                .bind(&backend.started);
                if !matches!(found.fetch_optional(&self.reserved).await, Ok(Some(_))) {
                    return;
                }
                tokio::time::sleep(ENDING_POLL).await;
            }
        };
        let _ = timeout(ENDING_MAX, gone).await;
    }
}

impl Taken {
    /// Returns the connection to the set after its work is complete, if the outcome permits that.
    pub fn done<T>(self, outcome: Result<T>) -> Result<T> {
        let Self { connection, mut place } = self;
        // No statement is running, so there is nothing to end.
        let _permit = place.permit.take();
        match outcome.as_ref().map_err(Error::kind) {
            // The idle connections are probably broken too.
            Err(Kind::Unavailable) => place.of.idle().clear(),
            // The state of the connection is unknown.
            Err(Kind::Internal) => {}
            _ => place.of.put_back(Open { connection, backend: place.backend.clone() }),
        }
        outcome
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        // Without a runtime this process is ending, and PostgreSQL notices the closed socket.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (of, backend) = (Arc::clone(&self.of), self.backend.clone());
            runtime.spawn(async move {
                of.end(&backend).await;
                drop(permit);
            });
        }
    }
}

impl Deref for Taken {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Taken {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::session::READ;
    use crate::testing::TestDb;

    fn set(db: &TestDb, max: usize) -> Arc<Connections> {
        Connections::new(db.options.clone(), &READ, max, db.pools.reserved.clone())
    }

    /// The id of the server process of a connection.
    async fn process(db: &mut PgConnection) -> i32 {
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(db).await.unwrap()
    }

    #[tokio::test]
    async fn one_that_is_given_back_is_handed_out_again_and_one_dropped_on_its_way_is_not() {
        let db = TestDb::new().await;
        let connections = set(&db, 1);
        let mut taken = connections.take().await.unwrap();
        let first = process(&mut taken).await;
        let refused: Result<()> = Err(Error::not_found("ticket", 1));
        assert!(taken.done(refused).is_err());

        let mut taken = connections.take().await.unwrap();
        assert_eq!(process(&mut taken).await, first);
        drop(taken);
        assert_ne!(process(&mut connections.take().await.unwrap()).await, first);
    }

    /// The number of statements that `wait_for_lock` runs in the database.
    async fn waiting(db: &TestDb) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND state = 'active' AND wait_event_type = 'Lock'";
        sqlx::query_scalar(sql).fetch_one(&db.pools.write).await.unwrap()
    }

    async fn wait_for_lock(connections: &Arc<Connections>) {
        let mut taken = connections.take().await.unwrap();
        sqlx::query("SELECT FROM users").execute(&mut *taken).await.unwrap();
    }

    #[tokio::test]
    async fn a_statement_whose_request_was_dropped_ends_in_postgresql_and_keeps_its_place_until_then() {
        let db = TestDb::new().await;
        let connections = set(&db, 2);
        let mut locked = db.pools.write.begin().await.unwrap();
        sqlx::query("LOCK TABLE users").execute(&mut *locked).await.unwrap();
        let asked: Vec<_> = (0..6)
            .map(|_| {
                let connections = Arc::clone(&connections);
                tokio::spawn(async move { wait_for_lock(&connections).await })
            })
            .collect();
        while waiting(&db).await < 2 {
            tokio::task::yield_now().await;
        }
        asked.iter().for_each(tokio::task::JoinHandle::abort);
        // Both places are free again only when no statement is running any more.
        let (one, other) = (connections.take().await.unwrap(), connections.take().await.unwrap());
        assert_eq!(waiting(&db).await, 0);
        one.done(Ok(())).unwrap();
        other.done(Ok(())).unwrap();
    }

    #[tokio::test]
    async fn one_that_broke_takes_the_idle_ones_with_it() {
        let db = TestDb::new().await;
        let connections = set(&db, 2);
        let (mut broken, mut idle) = (connections.take().await.unwrap(), connections.take().await.unwrap());
        let processes = [process(&mut broken).await, process(&mut idle).await];
        idle.done(Ok(())).unwrap();
        assert!(broken.done::<()>(Err(error(sqlx::Error::PoolClosed))).is_err());
        assert!(!processes.contains(&process(&mut connections.take().await.unwrap()).await));
    }

    #[tokio::test]
    async fn those_that_rested_too_long_are_closed_and_the_others_are_not() {
        let db = TestDb::new().await;
        let connections = set(&db, 2);
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
        let connections = set(&db, 2);
        let taken = connections.take().await.unwrap();
        connections.close().await;
        taken.done(Ok(())).unwrap();
        assert_eq!(connections.count().0, 0);
        assert_eq!(connections.take().await.unwrap_err().kind(), Kind::Unavailable);
    }
}
