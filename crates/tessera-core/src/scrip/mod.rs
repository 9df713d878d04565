//! scrip
