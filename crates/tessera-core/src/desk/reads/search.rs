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
        search::tickets(&self.pools.read, catalog, search).await
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
        search::explain(&self.pools.read, catalog, search).await
    }

    /// Opens an export of all tickets that a search finds, as they are at one moment. It holds a connection of the read
    /// pool until it is dropped.
    ///
    /// # Errors
    /// Those of [`Tessera::search`].
    pub async fn export(&self, _caller: &Caller, catalog: &Catalog, search: &Search<'_>) -> Result<Export> {
        Export::open(&self.pools.read, catalog, search).await
    }
}
