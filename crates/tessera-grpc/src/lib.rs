//! The gRPC services of Tessera, for connectors.
