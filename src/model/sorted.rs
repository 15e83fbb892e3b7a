//! Walking what is in order side by side, instead of looking each up.

use std::cmp::Ordering;
use std::collections::btree_map::Iter;
use std::iter::Peekable;

use super::Name;

/// A place in a map, which only goes forward.
#[derive(Debug)]
pub(super) struct Cursor<'a, V>(Option<Peekable<Iter<'a, Name, V>>>);

impl<'a, V> Cursor<'a, V> {
    /// At the beginning; nothing is found in no map.
    pub(super) fn new(map: Option<&'a std::collections::BTreeMap<Name, V>>) -> Self {
        Self(map.map(|map| map.iter().peekable()))
    }

    /// What `key` has. Each key is to come after the one before it.
    pub(super) fn seek(&mut self, key: &Name) -> Option<&'a V> {
        let iter = self.0.as_mut()?;
        loop {
            match iter.peek()?.0.cmp(key) {
                Ordering::Less => drop(iter.next()),
                Ordering::Equal => return iter.next().map(|(_, value)| value),
                Ordering::Greater => return None,
            }
        }
    }
}

/// What is in either, each in order and once.
pub(super) fn union<'a>(
    a: impl Iterator<Item = &'a Name>,
    b: impl Iterator<Item = &'a Name>,
) -> Vec<&'a Name> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    let mut all = Vec::with_capacity(a.size_hint().0.max(b.size_hint().0));
    loop {
        let order = match (a.peek(), b.peek()) {
            (Some(left), Some(right)) => left.cmp(right),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return all,
        };
        let next = if order == Ordering::Greater { b.next() } else { a.next() };
        if order == Ordering::Equal {
            b.next();
        }
        all.extend(next);
    }
}

/// What `name` has of what is in order.
pub(super) fn found<'a, V>(kept: &'a [(Name, V)], name: &Name) -> Option<&'a V> {
    let at = kept.binary_search_by(|(known, _)| known.cmp(name)).ok()?;
    kept.get(at).map(|(_, value)| value)
}

/// Adds what is lacking for `names`, both in order; how many that were, `room` at the most.
pub(super) fn make_room<'a, V: Default>(
    kept: &mut Vec<(Name, V)>,
    names: impl ExactSizeIterator<Item = &'a Name> + Clone,
    room: usize,
) -> usize {
    if kept.iter().map(|(name, _)| name).eq(names.clone()) {
        return 0;
    }
    let lacking: Vec<Name> = names.filter(|name| found(kept, name).is_none()).take(room).cloned().collect();
    let added = lacking.len();
    if added > 0 {
        kept.reserve_exact(added);
        kept.extend(lacking.into_iter().map(|name| (name, V::default())));
        kept.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    added
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn names(text: &str) -> BTreeSet<Name> {
        text.split_whitespace().map(Name::from).collect()
    }

    #[test]
    fn a_cursor_finds_what_the_map_has() {
        let map: BTreeMap<Name, usize> = names("a c d f").into_iter().zip(0..).collect();
        for wanted in ["a b c d e f g", "c f", "b", "", "g", "a", "f"] {
            let mut cursor = Cursor::new(Some(&map));
            for key in names(wanted) {
                assert_eq!(cursor.seek(&key), map.get(&key), "{key} of {wanted}");
            }
        }
        assert_eq!(Cursor::<usize>::new(None).seek(&"a".into()), None);
    }

    #[test]
    fn a_union_has_each_once_and_in_order() {
        for (a, b) in [("", ""), ("a b", ""), ("", "a b"), ("a c e", "b c d"), ("a b", "a b"), ("x", "a b z")]
        {
            let (a, b) = (names(a), names(b));
            let both: Vec<&Name> = a.union(&b).collect();
            assert_eq!(union(a.iter(), b.iter()), both);
        }
    }
}
