//! Users: people and programs with a username. People who only have a mail address are not users.

use super::id::UserId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The user who creates the transactions of scrips. RT: `RT_System`.
pub const SYSTEM_USER: UserId = UserId(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));
/// The only administrator until Tessera has user authentication.
pub const ADMIN_USER: UserId = UserId(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0002));
/// The owner's name in templates and searches for a ticket without an owner. RT: `Nobody`.
pub const NOBODY: &str = "Nobody";

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Unique, compared without case.
    pub username: String,
    /// Unique if set, compared without case.
    pub email: Option<String>,
    /// The name for display.
    pub name: Option<String>,
    /// True if the user may own tickets.
    pub privileged: bool,
    /// True if the user is disabled: they keep their history and get no mail.
    pub disabled: bool,
}

impl User {
    /// Returns the name for display: the name, or else the username.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.username)
    }
}
