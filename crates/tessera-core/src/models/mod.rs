//! The types of the domain: tickets, transactions, queues, deliveries. They contain their own rules and depend on neither the
//! database nor HTTP.

pub mod change;
pub mod connector;
pub mod custom_field;
pub mod delivery;
pub mod html;
pub mod id;
pub mod json;
pub mod named;
pub mod page;
pub mod queue;
pub mod secret;
pub mod steps;
pub mod template;
pub mod text;
pub mod ticket;
pub mod transaction;
pub mod user;
pub mod why;

pub use change::Change;
pub use connector::Connector;
pub use custom_field::{CustomField, FieldType};
pub use delivery::{Delivery, DeliveryKind};
pub use id::*;
pub use named::Named;
pub use queue::Queue;
pub use steps::Steps;
pub use template::TemplateSource;
pub use ticket::{Role, StatusClass, Ticket, Watcher};
pub use transaction::{Transaction, TransactionType};
pub use user::User;
pub use why::Why;
