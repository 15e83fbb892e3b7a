//! Of whom a good word counts.

use std::collections::{BTreeMap, BTreeSet};

use super::Entity;
use crate::model::{Link, Name};

type Names<'a> = [Option<&'a Name>; 5];

/// The entities with an open finding, or one that may open. Of any other only a violation changes anything: in a large
/// supercluster a check need not speak of each healthy link.
#[derive(Debug, Default)]
pub struct Watched<'a> {
    open: Vec<(&'a str, &'a Entity)>,
    names: BTreeMap<&'a str, BTreeSet<Names<'a>>>,
    everything: bool,
}

impl<'a> Watched<'a> {
    /// Everything is.
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Those with an open finding, by its check. What else is watched is added.
    pub fn open(open: impl IntoIterator<Item = (&'a str, &'a Entity)>) -> Self {
        let mut watched = Self { open: open.into_iter().collect(), ..Self::default() };
        for (check, entity) in &watched.open {
            watched.names.entry(*check).or_default().insert(entity.names());
        }
        watched
    }

    /// Watches one more.
    pub fn add(&mut self, check: &'a str, names: [Option<&'a Name>; 5]) {
        self.names.entry(check).or_default().insert(names);
    }

    /// Those with an open finding, by its check, in the ledger's order.
    pub(super) fn open_findings(&self) -> &[(&'a str, &'a Entity)] {
        &self.open
    }

    /// Whether `entity` is, by `check`.
    pub(super) fn has(&self, check: &str, entity: &Entity) -> bool {
        self.everything || self.names.get(check).is_some_and(|of| of.contains(&entity.names()))
    }

    /// Whether the link is.
    pub(super) fn has_link(&self, check: &str, link: &Link) -> bool {
        let names = || [Some(&link.cluster), Some(&link.server), Some(&link.remote), None, None];
        self.everything || self.names.get(check).is_some_and(|of| of.contains(&names()))
    }

    /// The links of each cluster to each remote where one of them is worth a word of `check`: itself, or for one of
    /// them is watched.
    pub(super) fn pairs<'l>(
        &self,
        check: &str,
        links: &'l [Link],
        worth: impl Fn(&Link) -> bool,
    ) -> BTreeMap<(&'l Name, &'l Name), Vec<&'l Link>> {
        let watched: BTreeSet<(&Name, &Name)> = self
            .names
            .get(check)
            .into_iter()
            .flatten()
            .filter_map(|[cluster, _, remote, ..]| cluster.zip(*remote))
            .collect();
        let mut pairs: BTreeMap<(&Name, &Name), Vec<&Link>> = BTreeMap::new();
        for link in links {
            let pair = (&link.cluster, &link.remote);
            if self.everything || worth(link) || !watched.is_empty() && watched.contains(&pair) {
                pairs.entry(pair).or_default();
            }
        }
        if !pairs.is_empty() {
            for link in links {
                if let Some(of_pair) = pairs.get_mut(&(&link.cluster, &link.remote)) {
                    of_pair.push(link);
                }
            }
        }
        pairs
    }
}
