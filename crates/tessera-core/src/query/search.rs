//! A search on its way from text to statements. Each step says what it needs from the database, and its caller fetches that.
//!
//! [`ParsedSearch::parse`] · fetch the users of [`ParsedSearch::people`] · [`ParsedSearch::resolve`] · fetch the frequencies of
//! [`ResolvedSearch::words`] · [`ResolvedSearch::compiler`].

use super::Query;
use super::error::QueryError;
use super::fields::Fields;
use super::meaning::Test;
use super::parser::{Dialect, Parsed, parse};
use super::resolve::{people_named, resolve};
use super::sql::{Asker, Compiler, Frequencies, Keys, Sorted, words_of};
use crate::error::{Error, Place, Result};

/// A search whose query has been parsed.
#[derive(Debug)]
pub struct ParsedSearch<'t> {
    text: &'t str,
    dialect: Dialect,
    parsed: Parsed,
}

/// A search whose names have been looked up.
#[derive(Debug)]
pub struct ResolvedSearch {
    /// The query.
    pub query: Query<Test>,
    /// The order of the results.
    pub keys: Keys,
    /// Remarks on how the query was read.
    pub warnings: Vec<Warning>,
}

/// A remark on how a query was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// A sentence without its full stop.
    pub message: String,
    /// A suggestion.
    pub hint: Option<String>,
    /// The part of the query.
    pub place: Place,
}

impl<'t> ParsedSearch<'t> {
    /// Parses the query of a search.
    ///
    /// # Errors
    /// `invalid_query` with its position.
    pub fn parse(text: &'t str, dialect: Dialect) -> Result<Self> {
        let parsed = parse(text, dialect).map_err(|error| error.into_error(text))?;
        Ok(Self { text, dialect, parsed })
    }

    /// Returns the usernames, addresses and ids by which the query names people. Resolving needs the users who have them.
    pub fn people(&self, fields: &Fields<'_>) -> Vec<String> {
        people_named(&self.parsed.query, fields)
    }

    /// Resolves the query and the order. `fields` must know the users of [`Self::people`].
    ///
    /// # Errors
    /// `invalid_query` with its position; `invalid` for the order.
    pub fn resolve(self, order: &[Sorted], fields: &Fields<'_>) -> Result<ResolvedSearch> {
        let Self { text, dialect, parsed: Parsed { query, warnings } } = self;
        let query = resolve(&query, fields).map_err(|error| error.into_error(text))?;
        let keys = Keys::resolve(order, fields, dialect).map_err(Error::invalid)?;
        let warning = |QueryError { span, message, hint }| Warning { message, hint, place: span.place(text) };
        Ok(ResolvedSearch { query, keys, warnings: warnings.into_iter().map(warning).collect() })
    }
}

impl ResolvedSearch {
    /// Returns the words that the query searches messages for. Compiling needs their frequencies.
    pub fn words(&self) -> Vec<String> {
        words_of(&self.query)
    }

    /// Returns the compiler of its statements.
    pub fn compiler<'a>(&'a self, asker: &'a Asker, frequencies: &'a Frequencies) -> Compiler<'a> {
        Compiler { query: &self.query, asker, frequencies, keys: &self.keys }
    }
}
