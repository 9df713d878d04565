//! A map of objects by id and by name, as the catalog uses it.

use super::text::{fold, typed};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

/// Objects of one kind by id and by name; names are compared without case.
#[derive(Debug, Clone)]
pub struct Named<I, T> {
    by_id: BTreeMap<I, Arc<T>>,
    by_name: HashMap<String, I>,
}

impl<I: Copy + Ord + Hash, T> Named<I, T> {
    /// Creates the map from objects with their ids and names.
    pub fn new(things: impl IntoIterator<Item = (I, String, Arc<T>)>) -> Self {
        let mut named = Self { by_id: BTreeMap::new(), by_name: HashMap::new() };
        for (id, name, thing) in things {
            named.by_name.insert(fold(&name), id);
            named.by_id.insert(id, thing);
        }
        named
    }

    /// Returns the object with this id.
    pub fn get(&self, id: I) -> Option<&Arc<T>> {
        self.by_id.get(&id)
    }

    /// Iterates over the objects in order of id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.by_id.values()
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Returns true if it contains no objects.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

impl<I: Copy + Ord + Hash + From<uuid::Uuid>, T> Named<I, T> {
    /// Returns the object with this name, or with this id in text form.
    pub fn find(&self, word: &str) -> Option<&Arc<T>> {
        let id = self
            .by_name
            .get(&fold(&typed(word)))
            .copied()
            .or_else(|| uuid::Uuid::parse_str(word).ok().map(I::from));
        id.and_then(|id| self.by_id.get(&id))
    }
}
