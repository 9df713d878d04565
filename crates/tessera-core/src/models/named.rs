//! Things of one kind by id and by name, as the catalog holds them.

use super::text::fold;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

/// Things of one kind by id and by name, the name compared without case.
#[derive(Debug, Clone)]
pub struct Named<I, T> {
    by_id: BTreeMap<I, Arc<T>>,
    by_name: HashMap<String, I>,
}

impl<I: Copy + Ord + Hash, T> Named<I, T> {
    /// Makes one of things with the id and the name of each.
    pub fn new(things: impl IntoIterator<Item = (I, String, Arc<T>)>) -> Self {
        let mut named = Self { by_id: BTreeMap::new(), by_name: HashMap::new() };
        for (id, name, thing) in things {
            named.by_name.insert(fold(&name), id);
            named.by_id.insert(id, thing);
        }
        named
    }

    /// The thing of an id.
    pub fn get(&self, id: I) -> Option<&Arc<T>> {
        self.by_id.get(&id)
    }

    /// Every thing, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.by_id.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

impl<I: Copy + Ord + Hash + From<uuid::Uuid>, T> Named<I, T> {
    /// The thing of a name, or of an id written out.
    pub fn find(&self, word: &str) -> Option<&Arc<T>> {
        let id =
            self.by_name.get(&fold(word)).copied().or_else(|| uuid::Uuid::parse_str(word).ok().map(I::from));
        id.and_then(|id| self.by_id.get(&id))
    }
}
