//! Search: runs compiled queries on the connections for searches, page by page or from end to end.
//!
//! `query` compiles; this module fetches what the compiler needs to know (`lookups`) and runs its statements (`run`).

mod compile;
mod count;
mod cursor;
mod export;
mod lookups;
mod page;
mod run;
mod ticket;

pub use crate::query::search::Warning;
pub use compile::{Count, Search};
pub use count::{COUNT_EXACT_MAX, Counted};
pub(super) use export::Batches;
pub use export::Export;
pub use page::{Explained, Found, explain, tickets};
pub use run::SEARCH_MAX;
#[cfg(any(test, feature = "testing"))]
pub(crate) use run::run;
pub use ticket::get;
