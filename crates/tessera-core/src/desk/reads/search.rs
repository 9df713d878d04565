//! Searches and exports. They take the configuration in which the names of the query are resolved.

use super::{Explained, Export, Found, Search};
use crate::db::search;
use crate::desk::{Caller, Tessera};
use crate::error::Result;
use crate::plan::Catalog;

impl Tessera {
    /// Finds a page of tickets.
    ///
    /// # Errors
    /// `invalid_query` with its position; `invalid` for the order; `malformed_cursor`; `query_timeout`; those of the database.
    pub async fn search(&self, _caller: &Caller, catalog: &Catalog, search: &Search<'_>) -> Result<Found> {
        search::tickets(&self.pools.searches, catalog, search).await
    }

    /// Explains how a search is parsed and run, without running it.
    ///
    /// # Errors
    /// Those of [`Tessera::search`].
    pub async fn explain_search(
        &self,
        _caller: &Caller,
        catalog: &Catalog,
        search: &Search<'_>,
    ) -> Result<Explained> {
        search::explain(&self.pools.searches, catalog, search).await
    }

    /// Returns the number of exports that may run at the same time: they leave half of the connections to searches.
    pub fn exports_max(&self) -> usize {
        (self.pools.searches.max() / 2).max(1)
    }

    /// Opens an export of all tickets that a search finds, as they are at one moment. It holds a connection for searches until
    /// it ends or is dropped.
    ///
    /// # Errors
    /// Those of [`Tessera::search`].
    pub async fn export(&self, _caller: &Caller, catalog: &Catalog, search: &Search<'_>) -> Result<Export> {
        Export::open(&self.pools.searches, catalog, search).await
    }
}
