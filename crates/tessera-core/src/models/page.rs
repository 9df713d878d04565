//! A page of a list, and the cursor that asks for the next one.

use serde::Serialize;

/// The number of items per page if the request sets no limit.
pub const LIMIT_DEFAULT: i64 = 50;
/// The maximum number of items per page.
pub const LIMIT_MAX: i64 = 200;

/// One page of a list. `next_cursor` is `None` on the last one.
#[derive(Debug, Clone, Serialize)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// The `cursor` of the next page.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Creates a page from `rows`, which were read with a limit of `limit + 1`; `key` returns the cursor of an item.
    pub fn cut(mut rows: Vec<T>, limit: i64, key: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(0);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = if more { rows.last().map(key) } else { None };
        Self { items: rows, next_cursor }
    }

    /// Converts the items of the page.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next_cursor: self.next_cursor }
    }
}
