//! Users: people with a name. A bare mail address needs none.

use super::id::UserId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The user whose transactions scrips make. RT: `RT_System`.
pub const SYSTEM_USER: UserId = UserId(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));
/// The one administrator until there are log-ins.
pub const ADMIN_USER: UserId = UserId(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0002));
/// What templates and searches call the owner of a ticket that nobody owns. RT: `Nobody`.
pub const NOBODY: &str = "Nobody";

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Unique, compared without case.
    pub username: String,
    /// Unique where given, compared without case.
    pub email: Option<String>,
    /// What people call them.
    pub name: Option<String>,
    /// Privileged users may own tickets.
    pub privileged: bool,
    /// Disabled users keep their history and get nothing.
    pub disabled: bool,
}

impl User {
    /// What to call them: the name, else the username.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.username)
    }
}
