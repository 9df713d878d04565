//! The cached catalog: read without waiting, and reloaded, one reload at a time, when the database has a newer configuration.

use crate::db;
use crate::error::{Code, Error, Result};
use crate::plan::{Catalog, Installation};
use arc_swap::ArcSwap;
use sqlx::PgPool;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The minimum time between two reloads, so at most 20 per second.
const RELOAD_EVERY: Duration = Duration::from_millis(50);

/// The catalog that this process uses.
#[derive(Debug)]
pub struct CatalogCache {
    catalog: ArcSwap<Catalog>,
    reload: Mutex<Option<Instant>>,
}

impl CatalogCache {
    /// Reads the catalog for the first time.
    ///
    /// # Errors
    /// Those of [`db::catalog::read`].
    pub async fn read(pool: &PgPool, installation: Installation) -> Result<Self> {
        let catalog = db::catalog::read(pool, None, installation).await?;
        Ok(Self { catalog: ArcSwap::from_pointee(catalog), reload: Mutex::new(None) })
    }

    /// Returns the cached catalog.
    pub fn get(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// Returns the catalog at `version` or newer, and reloads it if it is older.
    ///
    /// # Errors
    /// Those of [`db::catalog::read`]; `busy` if the database still returns an older version than `version`.
    pub async fn at_least(&self, pool: &PgPool, version: i64) -> Result<Arc<Catalog>> {
        let catalog = self.get();
        if catalog.version >= version {
            return Ok(catalog);
        }
        let mut last = self.reload.lock().await;
        let catalog = self.get();
        if catalog.version >= version {
            return Ok(catalog);
        }
        if let Some(last) = *last {
            tokio::time::sleep_until(last + RELOAD_EVERY).await;
        }
        *last = Some(Instant::now());
        let fresh = Arc::new(db::catalog::read(pool, Some(&catalog), catalog.installation.clone()).await?);
        self.catalog.store(Arc::clone(&fresh));
        if fresh.version < version {
            return Err(Error::new(
                Code::Busy,
                "The configuration has just changed and is being reloaded. Retry the request.",
            ));
        }
        Ok(fresh)
    }
}
