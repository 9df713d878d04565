//! A page of a list, and the cursor that asks for the next one.

use serde::Serialize;

/// The number of items per page if the request sets no limit.
pub const LIMIT_DEFAULT: i64 = 50;
/// The maximum number of items per page.
pub const LIMIT_MAX: i64 = 200;
/// The maximum size of a page in bytes of stored text, before it is written as JSON. A page has at least one item, however large.
pub const BYTES_MAX: i64 = 1024 * 1024;
/// The size of an item without its texts, in bytes: ids, times, and the names of members.
pub const ITEM_BYTES: i64 = 1024;

/// One page of a list. `next_cursor` is `None` on the last one.
#[derive(Debug, Clone, Serialize)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// The `cursor` of the next page.
    pub next_cursor: Option<String>,
}

/// The number of rows that [`Filling`] takes at a time: so many may be in memory beyond a page.
const CHUNK: i64 = 20;

/// A page that is filled with chunks of rows, for objects whose size is known only once they are read.
#[derive(Debug)]
pub struct Filling<T> {
    rows: Vec<T>,
    /// The size of the rows, in bytes of JSON.
    bytes: i64,
    limit: i64,
    /// True once there is nothing more to read.
    is_full: bool,
    has_more: bool,
}

impl<T> Filling<T> {
    /// Begins a page of at most `limit` items.
    pub fn new(limit: i64) -> Self {
        Self { rows: Vec::new(), bytes: 0, limit, is_full: false, has_more: false }
    }

    /// Returns the number of rows to read next; `None` if the page is complete.
    pub fn wants(&self) -> Option<i64> {
        let left = self.limit + 1 - i64::try_from(self.rows.len()).unwrap_or(i64::MAX);
        (!self.is_full).then_some(left.min(CHUNK))
    }

    /// Returns the last row, after which to read on.
    pub fn last(&self) -> Option<&T> {
        self.rows.last()
    }

    /// Adds the rows that were read because the page wanted that many.
    pub fn add(&mut self, rows: Vec<T>, wanted: i64) -> serde_json::Result<()>
    where
        T: Serialize,
    {
        self.is_full = i64::try_from(rows.len()).unwrap_or(i64::MAX) < wanted;
        for row in rows {
            let mut size = Size(0);
            serde_json::to_writer(&mut size, &row)?;
            self.bytes = self.bytes.saturating_add(size.0);
            let is_long = self.rows.len() >= usize::try_from(self.limit).unwrap_or(0);
            let is_large = !self.rows.is_empty() && self.bytes > BYTES_MAX;
            if is_long || is_large {
                (self.is_full, self.has_more) = (true, true);
                break;
            }
            self.rows.push(row);
        }
        Ok(())
    }

    /// Returns the page; `key` returns the cursor of an item.
    pub fn page(self, key: impl Fn(&T) -> String) -> Page<T> {
        let next_cursor = if self.has_more { self.rows.last().map(key) } else { None };
        Page { items: self.rows, next_cursor }
    }
}

/// Counts the bytes that are written to it.
struct Size(i64);

impl std::io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<T> Page<T> {
    /// Creates a page from `rows`, which were read with a limit of `limit + 1`; `key` returns the cursor of an item.
    pub fn cut(rows: Vec<T>, limit: i64, key: impl Fn(&T) -> String) -> Self {
        let found = rows.len();
        Self::fit(rows, found, limit, key)
    }

    /// Creates a page from the `rows` that fit into [`BYTES_MAX`], the first of the `found` rows that were found with a limit
    /// of `limit + 1`.
    pub fn fit(mut rows: Vec<T>, found: usize, limit: i64, key: impl Fn(&T) -> String) -> Self {
        rows.truncate(usize::try_from(limit).unwrap_or(0));
        let more = found > rows.len();
        let next_cursor = if more { rows.last().map(key) } else { None };
        Self { items: rows, next_cursor }
    }

    /// Converts the items of the page.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next_cursor: self.next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_at_its_limit_or_at_the_last_item_that_fits() {
        let page = |rows: i64, found, limit| {
            let page = Page::fit((1..=rows).collect(), found, limit, i64::to_string);
            (page.items.len(), page.next_cursor)
        };
        assert_eq!(page(3, 3, 5), (3, None));
        assert_eq!(page(6, 6, 5), (5, Some("5".to_owned())));
        assert_eq!(page(3, 6, 5), (3, Some("3".to_owned())), "the fourth did not fit");
        assert_eq!(page(5, 6, 5), (5, Some("5".to_owned())));
        assert_eq!(page(1, 2, 5), (1, Some("1".to_owned())));
        assert_eq!(page(0, 0, 5), (0, None));
    }

    #[test]
    fn a_page_of_large_objects_ends_after_its_bytes_and_its_pages_have_every_object_once() {
        // 100 objects of 1 byte, 100 KB and 2 MB.
        let sizes: Vec<usize> = (0..100).map(|n| [1, 100_000, 2_000_000][n % 3]).collect();
        for limit in [1, 7, 50, 200] {
            let (mut seen, mut after) = (0, 0);
            loop {
                let mut filling = Filling::new(limit);
                while let Some(wanted) = filling.wants() {
                    let from = filling.last().map_or(after, |(at, _): &(usize, String)| *at);
                    let rows = from..sizes.len().min(from + usize::try_from(wanted).unwrap());
                    let rows: Vec<_> = rows.map(|at| (at + 1, "x".repeat(sizes[at]))).collect();
                    filling.add(rows, wanted).unwrap();
                }
                let page = filling.page(|(at, _)| at.to_string());
                let bytes: usize = page.items.iter().map(|(_, text)| text.len()).sum();
                assert!(bytes <= 1024 * 1024 || page.items.len() == 1, "{bytes}");
                assert!(page.items.len() <= usize::try_from(limit).unwrap());
                assert!(page.items.iter().map(|(at, _)| *at).eq(seen + 1..=seen + page.items.len()));
                seen += page.items.len();
                let Some(cursor) = page.next_cursor else { break };
                after = cursor.parse().unwrap();
            }
            assert_eq!(seen, sizes.len(), "limit {limit}");
        }
    }
}
