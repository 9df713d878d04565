//! The current catalog: a pointer that is read without waiting, and reloaded by one at a time when the database is ahead.

use crate::db;
use crate::error::{Code, Error, Result};
use crate::plan::{Catalog, Installation};
use arc_swap::ArcSwap;
use sqlx::PgPool;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The least time between two reloads: at most 20 a second.
const RELOAD_EVERY: Duration = Duration::from_millis(50);

/// The catalog in use.
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

    /// The catalog as this process knows it.
    pub fn get(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// The catalog of the configuration of `version` or newer, reloading it when it is older.
    ///
    /// # Errors
    /// Those of [`db::catalog::read`]; `busy` when the database still has an older one than was seen.
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
            return Err(Error::new(Code::Busy, "The configuration is being read. Send the request again."));
        }
        Ok(fresh)
    }
}
