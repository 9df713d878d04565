//! TicketSQL: one expression language, to search tickets and to say when a scrip fires.
//!
//! `text --parse--> Query<Predicate> --resolve(Fields)--> Query<Test>`, and from there SQL (`sql`) or a bool with a trace (`eval`).

pub mod ast;
pub mod date;
pub mod error;
pub mod fields;
mod lexer;
pub mod meaning;
pub mod parser;
pub mod resolve;
pub mod sql;
pub mod text;
pub mod words;

pub use ast::{Expr, Predicate, Query};
pub use date::Zone;
pub use error::{QueryError, Span};
pub use fields::{Fields, Purpose};
pub use meaning::{Meaning, Test};
pub use parser::{Dialect, Parsed, parse};
pub use resolve::resolve;
