//! Connectors: programs beside Tessera that deliver a kind of thing, or through which things come in.

use super::delivery::DeliveryKind;
use super::id::{ConnectorId, UserId};
use serde_json::Value;
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// A connector, as its token tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connector {
    /// Its id.
    pub id: ConnectorId,
    /// What people call it; one name is one connector that is not revoked.
    pub name: String,
    /// What it may deliver.
    pub kinds: BTreeSet<DeliveryKind>,
    /// As whom it reads and changes tickets; `None` = it may not.
    pub user: Option<UserId>,
}

/// A connector as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// What it is.
    pub connector: Connector,
    /// The name of its user.
    pub username: Option<String>,
    /// What it last called itself.
    pub software: Option<String>,
    /// When it was added.
    pub created_at: OffsetDateTime,
    /// When it last called, to about ten seconds.
    pub last_seen_at: Option<OffsetDateTime>,
}

/// A kind of delivery as it stands in the database.
#[derive(Debug, Clone, PartialEq)]
pub struct KindRecord {
    /// Its name.
    pub name: String,
    /// The JSON Schema of its payload; `None` = every JSON is taken.
    pub schema: Option<Value>,
    /// When a connector first said that it delivers it; `None` = none ever did, and its deliveries are held unless the binary
    /// makes them.
    pub announced_at: Option<OffsetDateTime>,
    /// The names of the scrips that make deliveries of it.
    pub scrips: Vec<String>,
    /// Deliveries of it that are not finished.
    pub unfinished: i64,
}
