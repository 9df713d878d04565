//! Tessera over HTTP.
