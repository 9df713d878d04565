//! The gRPC services of Tessera, for connectors.

/// The messages and services of `proto/tessera/v1`, generated and committed.
#[rustfmt::skip]
#[path = "gen/tessera.v1.rs"]
#[allow(missing_docs, clippy::all, reason = "generated; the contract is proto/tessera/v1")]
pub mod v1;
