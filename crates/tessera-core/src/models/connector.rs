//! Connectors: programs beside Tessera that deliver messages or report changes.

use super::delivery::DeliveryKind;
use super::id::{ConnectorId, UserId};
use serde_json::Value;
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// A connector, as its token identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connector {
    /// Its id.
    pub id: ConnectorId,
    /// Its name, unique among the connectors that are not revoked.
    pub name: String,
    /// The kinds that it may deliver.
    pub kinds: BTreeSet<DeliveryKind>,
    /// The user as whom it reads and changes tickets; `None` if it may not.
    pub user: Option<UserId>,
}

/// A connector with its state, for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The connector.
    pub connector: Connector,
    /// The username of its user.
    pub username: Option<String>,
    /// The name and version that it last announced.
    pub software: Option<String>,
    /// The time when it was added.
    pub created_at: OffsetDateTime,
    /// The time of its last call, to about ten seconds.
    pub last_seen_at: Option<OffsetDateTime>,
}

/// A kind of delivery, as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct KindRecord {
    /// Its name.
    pub name: String,
    /// The JSON Schema of its payload; `None` if any JSON is valid.
    pub schema: Option<Value>,
    /// The time when a connector first announced it; `None` if no connector has, and then its deliveries are held unless the
    /// binary delivers the kind.
    pub announced_at: Option<OffsetDateTime>,
    /// The names of the scrips that create deliveries of this kind.
    pub scrips: Vec<String>,
    /// The number of unfinished deliveries of this kind.
    pub unfinished: i64,
}
