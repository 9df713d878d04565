//! The nouns: what a desk is made of. They carry their own rules and know nothing of databases or HTTP.

pub mod connector;
pub mod custom_field;
pub mod delivery;
pub mod id;
pub mod named;
pub mod page;
pub mod queue;
pub mod secret;
pub mod template;
pub mod text;
pub mod ticket;
pub mod transaction;
pub mod user;
pub mod why;

pub use connector::Connector;
pub use custom_field::{CustomField, FieldType};
pub use delivery::{Delivery, DeliveryKind};
pub use id::*;
pub use named::Named;
pub use queue::Queue;
pub use template::TemplateSource;
pub use ticket::{Role, StatusClass, Ticket, Watcher};
pub use transaction::{Change, Transaction, TransactionType};
pub use user::User;
pub use why::Why;
