//! How tickets are asked for: the words of the full text.

pub mod words;
