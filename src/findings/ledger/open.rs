//! Every open finding by what it is about, and in the order in which they are shown.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::ops::Bound;

use super::{Finding, Key};
use crate::checks::Severity;
use crate::model::Name;

/// Where an open finding stands in the list: the worst first, then by fingerprint.
type Place = (Reverse<Severity>, String);

/// Open findings. Thousands may be, of which few are seen, changed or asked for at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    findings: BTreeMap<Key, Finding>,
    /// What of them is shown first.
    order: BTreeMap<Place, Key>,
    /// How many there are of each check and severity.
    counts: BTreeMap<(Name, Severity), usize>,
}

fn place(finding: &Finding) -> Place {
    (Reverse(finding.severity), finding.fingerprint.clone())
}

impl Open {
    /// The one that stood in its place before.
    pub(super) fn insert(&mut self, key: Key, finding: Finding) -> Option<Finding> {
        let before = self.remove(&key);
        self.order.insert(place(&finding), key.clone());
        *self.counts.entry((finding.check.clone(), finding.severity)).or_default() += 1;
        self.findings.insert(key, finding);
        before
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Finding> {
        let finding = self.findings.remove(key)?;
        self.order.remove(&place(&finding));
        let kind = (finding.check.clone(), finding.severity);
        if let btree_map::Entry::Occupied(mut count) = self.counts.entry(kind) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(finding)
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Finding> {
        self.findings.get(key)
    }

    /// What it is called by, its check, severity and fingerprint, stays: another one is to be inserted for that.
    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Finding> {
        self.findings.get_mut(key)
    }

    pub(super) fn contains_key(&self, key: &Key) -> bool {
        self.findings.contains_key(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Finding)> {
        self.findings.iter()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Finding> {
        self.findings.values()
    }

    /// See [`Self::get_mut`].
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Finding> {
        self.findings.values_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.findings.len()
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (&Name, Severity, usize)> {
        self.counts.iter().map(|((check, severity), count)| (check, *severity, *count))
    }

    /// The checks that something is open of.
    pub(super) fn checks(&self) -> BTreeSet<&Name> {
        self.counts.keys().map(|(check, _)| check).collect()
    }

    /// The worst first, behind the one that stands or stood at `after`.
    pub(super) fn in_order<'a>(
        &'a self,
        after: Option<(Severity, &str)>,
    ) -> impl Iterator<Item = (Severity, &'a str, &'a Key)> {
        let from = after.map_or(Bound::Unbounded, |(severity, fingerprint)| {
            Bound::Excluded((Reverse(severity), fingerprint.to_owned()))
        });
        let rest = self.order.range((from, Bound::Unbounded));
        rest.map(|((severity, fingerprint), key)| (severity.0, fingerprint.as_str(), key))
    }
}
