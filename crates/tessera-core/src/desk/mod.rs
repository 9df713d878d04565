//! The desk: the only entry point of the core. Every read, change and operator action is a method that takes its caller first.
//!
//! There are no permissions yet, so a caller may do everything. Reads take the caller as well, so that none is left unchecked when
//! permissions are added.

pub mod catalog_cache;
pub mod changes;
pub mod clock;
pub mod configure;
pub mod connectors;
pub mod import;
mod metrics;
mod operator;
pub mod reads;
mod ticket_lock;

pub use changes::{Committed, Conditions, IdempotencyKey, KEY_MAX, Outcome, Prepared};
pub use metrics::Gauges;

use crate::db::{Pools, catalog, error};
use crate::delivery::guard::Guard;
use crate::delivery::wakeup::Wakeup;
use crate::error::{Code, Error, Result};
use crate::models::User;
use crate::models::delivery::DEPTH_HEADER;
use crate::models::user::ADMIN_USER;
use crate::plan::{Access, Catalog, Installation};
use catalog_cache::CatalogCache;
use changes::Planner;
use reads::TicketCounts;
use std::sync::Arc;
use ticket_lock::TicketLocks;
use tokio::sync::Semaphore;

/// The largest depth that a caller may send. Deliveries are stopped at a much smaller depth.
const DEPTH_MAX: u32 = 1_000;

/// A desk: a database, its configuration, and all operations on them.
#[derive(Debug)]
pub struct Tessera {
    pools: Pools,
    catalog_cache: CatalogCache,
    locks: Arc<TicketLocks>,
    planner: Planner,
    guard: Arc<Guard>,
    wakeup: Arc<Wakeup>,
    leasing: Arc<Semaphore>,
    lookups: Semaphore,
    ticket_counts: TicketCounts,
}

/// The person or program that makes a request, and the channel of the request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user as whom the request acts.
    pub user: User,
    /// The channel: `rest` or `grpc`.
    pub channel: &'static str,
    /// The rights of the user.
    pub access: Access,
    /// The number of deliveries, each caused by the one before, that led to the request: [`crate::plan::Context::depth`].
    pub depth: u32,
}

impl Caller {
    /// Returns the caller of a request to which `depth` deliveries led.
    pub fn at_depth(self, depth: u32) -> Self {
        Self { depth, ..self }
    }
}

/// Parses the value of [`DEPTH_HEADER`], sent as a header or as metadata.
///
/// # Errors
/// `malformed_header` unless it is a whole number from 0 to 1,000.
pub fn parse_depth(value: &str) -> Result<u32> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|depth| digits && *depth <= DEPTH_MAX).ok_or_else(|| {
        let detail = format!(
            "The header {DEPTH_HEADER} is \"{value}\"; it must be a whole number from 0 to {DEPTH_MAX}."
        );
        Error::new(Code::MalformedHeader, detail)
    })
}

impl Tessera {
    /// Opens a desk on a migrated database, and writes the default configuration if the database has none.
    ///
    /// # Errors
    /// Those of the database; `internal` if the stored configuration cannot be read.
    pub async fn open(pools: Pools, installation: Installation, guard: Arc<Guard>) -> Result<Self> {
        configure::seed(&pools.write, &installation, &guard).await?;
        let catalog_cache = CatalogCache::read(&pools.reserved, installation).await?;
        let writes = usize::try_from(pools.write.options().get_max_connections()).unwrap_or(1);
        Ok(Self {
            pools,
            catalog_cache,
            locks: Arc::default(),
            planner: Planner::new(),
            guard,
            wakeup: Arc::default(),
            leasing: Arc::new(Semaphore::new(connectors::leasing_max(writes))),
            lookups: Semaphore::new(connectors::lookups_max(writes)),
            ticket_counts: TicketCounts::default(),
        })
    }

    /// Returns the signal that wakes the workers when deliveries become due.
    pub fn wakeup(&self) -> &Arc<Wakeup> {
        &self.wakeup
    }

    /// Checks that the database responds.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ping(&self) -> Result<()> {
        catalog::version(&mut *self.pools.reserved.acquire().await.map_err(error)?).await.map(drop)
    }

    /// Returns the administrator, as whom holders of the administrator token act.
    ///
    /// # Errors
    /// `internal` if the built-in user `admin` is missing.
    pub fn administrator(&self) -> Result<Caller> {
        let user = self.catalog().agents.get(ADMIN_USER).map(|user| User::clone(user));
        let user = user.ok_or_else(|| {
            Error::internal("The administrator does not exist.", "the user admin is missing")
        })?;
        Ok(Caller { user, channel: "rest", access: Access::All, depth: 0 })
    }

    /// Returns the current configuration.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn configuration(&self, _caller: &Caller) -> Result<Arc<Catalog>> {
        self.fresh_catalog().await
    }

    /// Returns the configuration cached in this process, which may be older than that of the database.
    fn catalog(&self) -> Arc<Catalog> {
        self.catalog_cache.get()
    }

    /// Returns the configuration, reloaded if the database has a newer one.
    async fn fresh_catalog(&self) -> Result<Arc<Catalog>> {
        let version = catalog::version(&mut *self.pools.reserved.acquire().await.map_err(error)?).await?;
        self.catalog_cache.at_least(&self.pools.reserved, version).await
    }
}
