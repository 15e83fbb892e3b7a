//! Looking up by name or ID, a hundred thousand times a look.
#![expect(clippy::disallowed_types, reason = "it cannot be walked: its order shows nowhere")]

use std::collections::HashMap;

/// What stands under each name.
#[derive(Debug)]
pub(super) struct Index<'a, V>(HashMap<&'a str, V>);

impl<'a, V: Copy> Index<'a, V> {
    /// Of a name that comes twice the last counts.
    pub(super) fn of(entries: impl Iterator<Item = (&'a str, V)>) -> Self {
        Self(entries.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<V> {
        self.0.get(name).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
