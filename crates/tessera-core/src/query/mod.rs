//! TicketSQL: one expression language for searches and for the conditions of scrips.
//!
//! `text --parse--> Query<Predicate> --resolve(Fields)--> Query<Test>`, and from there SQL (`sql`) or a bool with a trace (`eval`).
//! `search` takes these steps for a search.

pub mod ast;
mod changed;
pub mod date;
pub mod describe;
pub mod error;
pub mod eval;
pub mod fields;
pub mod filter;
mod lexer;
pub mod meaning;
pub mod parser;
mod people;
pub mod reads;
pub mod resolve;
mod rt;
pub mod search;
pub mod sql;
pub mod text;
pub mod words;

pub use ast::{Expr, Predicate, Query};
pub use date::Zone;
pub use error::{QueryError, Span};
pub use eval::{Occasion, Scene};
pub use fields::{Fields, Purpose};
pub use meaning::{Meaning, Test};
pub use parser::{Dialect, Parsed, parse};
pub use reads::{Read, reads};
pub use resolve::resolve;
