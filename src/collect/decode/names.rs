//! What many servers write alike is kept once.

#![allow(
    clippy::disallowed_types,
    reason = "nobody goes through it: a name is only looked up, hundreds in each answer"
)]

use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher as _;

use foldhash::quality::RandomState;

use crate::model::{Configured, Name, Urls};

/// Names, IDs and addresses that were read. In a supercluster of C clusters the same ID stands in about C answers
/// of each round, so nearly all that is read is here already.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashSet<Name, RandomState>,
    /// The URLs of each remote cluster as they were told last, and what they come to: all servers tell the same ones.
    urls: BTreeMap<Name, (u64, Urls)>,
    /// The remotes that the servers of each cluster were told last to be configured with.
    configured: BTreeMap<Name, Configured>,
    /// The length of the longest name since this was last asked for.
    longest: usize,
}

impl Names {
    /// Forgotten all at once when there are more: 10,000 servers have fewer than this, IDs, names and addresses.
    const COUNT_MAX: usize = 65_536;
    /// Longer ones are not kept.
    const BYTES_MAX: usize = 256;
    /// Of so many clusters what is alike is kept, each of so many entries.
    const SETS_MAX: (usize, usize) = (1024, 1024);

    pub(super) fn get(&mut self, text: &str) -> Name {
        self.longest = self.longest.max(text.len());
        if let Some(name) = self.known.get(text) {
            return Name::clone(name);
        }
        let name = Name::from(text);
        if text.len() <= Self::BYTES_MAX {
            if self.known.len() >= Self::COUNT_MAX {
                self.known.clear();
            }
            self.known.insert(Name::clone(&name));
        }
        name
    }

    /// How long the longest was that was read since the last time, in bytes.
    pub(super) fn take_longest(&mut self) -> usize {
        std::mem::take(&mut self.longest)
    }

    /// The URLs of `remote`, which come in any order.
    pub(super) fn urls(&mut self, remote: &Name, urls: &mut Vec<&str>) -> Urls {
        if let Some(known) = self.known_urls(remote, urls) {
            return known;
        }
        urls.sort_unstable();
        urls.dedup();
        if let Some(known) = self.known_urls(remote, urls) {
            return known;
        }
        let set: Urls = urls.iter().map(|url| self.get(url)).collect();
        if urls.iter().all(|url| url.len() <= Self::BYTES_MAX) {
            let sum = self.sum(urls);
            keep(&mut self.urls, remote, &(sum, set.clone()), set.len());
        }
        set
    }

    fn known_urls(&self, remote: &Name, urls: &[&str]) -> Option<Urls> {
        let (sum, known) = self.urls.get(remote)?;
        (known.len() == urls.len() && *sum == self.sum(urls)).then(|| known.clone())
    }

    /// What texts come to in whatever order. To sort ten thousand of them for each server would take longer than all
    /// else; of which other ones come to the same in 64 bits nobody knows who does not know the hasher's seed.
    fn sum(&self, texts: &[&str]) -> u64 {
        texts.iter().map(|text| self.known.hasher().hash_one(text)).fold(0, u64::wrapping_add)
    }

    /// The remotes of a server of `cluster`.
    pub(super) fn configured(&mut self, cluster: &str, mut remotes: Vec<(Name, Urls)>) -> Configured {
        if remotes.is_empty() {
            return Configured::default();
        }
        remotes.sort_by(|(a, _), (b, _)| a.cmp(b));
        if let Some(known) = self.configured.get(cluster)
            && known.iter().eq(remotes.iter().map(|(remote, urls)| (remote, urls)))
        {
            return known.clone();
        }
        let set = Configured::from_iter(remotes);
        keep(&mut self.configured, cluster, &set, set.len());
        set
    }
}

/// What is alike of a cluster, `len` long. All of that is forgotten at once when there are more clusters.
fn keep<T: Clone>(kept: &mut BTreeMap<Name, T>, cluster: &str, set: &T, len: usize) {
    let (clusters_max, len_max) = Names::SETS_MAX;
    if len <= len_max && cluster.len() <= Names::BYTES_MAX {
        if kept.len() >= clusters_max && !kept.contains_key(cluster) {
            kept.clear();
        }
        kept.insert(cluster.into(), set.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_is_kept_once_and_a_long_one_not_at_all() {
        let mut names = Names::default();
        let (one, again) = (names.get("eu"), names.get("eu"));
        assert!(std::ptr::eq::<str>(&raw const *one, &raw const *again));
        let long = "n".repeat(Names::BYTES_MAX + 1);
        assert_eq!(&*names.get(&long), long);
        assert_eq!(names.known.len(), 1);
    }

    #[test]
    fn whoever_makes_up_names_fills_no_memory() {
        let mut names = Names::default();
        let early = names.get("early");
        for n in 0..2 * Names::COUNT_MAX {
            assert_eq!(&*names.get(&n.to_string()), n.to_string());
        }
        assert!(names.known.len() <= Names::COUNT_MAX);
        assert_eq!(names.get("early"), early, "it is the same name, kept anew");
        for n in 0..2 * Names::SETS_MAX.0 {
            names.urls(&Name::from(n.to_string()), &mut vec!["a:1"]);
        }
        let many: Vec<String> = (0..=Names::SETS_MAX.1).map(|n| n.to_string()).collect();
        let set = names.urls(&"many".into(), &mut many.iter().map(String::as_str).collect());
        assert_eq!(set.len(), many.len());
        assert!(names.urls.len() <= Names::SETS_MAX.0 && !names.urls.contains_key("many"));
        for n in 0..2 * Names::SETS_MAX.0 {
            names.configured(&n.to_string(), vec![("us".into(), Urls::default())]);
        }
        let many = many.into_iter().map(|name| (name.into(), Urls::default())).collect();
        assert_eq!(names.configured("many", many).len(), Names::SETS_MAX.1 + 1);
        assert!(names.configured.len() <= Names::SETS_MAX.0 && !names.configured.contains_key("many"));
    }

    #[test]
    fn the_remotes_of_a_cluster_are_kept_once_in_whatever_order_they_come() {
        let mut names = Names::default();
        let mut of = |cluster: &str, listed: &[(&str, &str)]| {
            let one = |(remote, url): &(&str, &str)| (Name::from(*remote), Urls::from([Name::from(*url)]));
            names.configured(cluster, listed.iter().map(one).collect())
        };
        let one = of("eu", &[("ap", "a:1"), ("us", "u:1")]);
        let again = of("eu", &[("us", "u:1"), ("ap", "a:1")]);
        assert!(std::ptr::eq::<BTreeMap<Name, Urls>>(&raw const *one, &raw const *again), "no second copy");
        let other = of("eu", &[("us", "u:2"), ("ap", "a:1"), ("us", "u:1"), ("us", "u:3")]);
        assert_eq!(*other["us"], BTreeSet::from(["u:3".into()]), "of two the last counts");
        assert_eq!(of("us", &[]).len(), 0);
    }

    #[test]
    fn urls_are_kept_once_in_whatever_order_they_come() {
        let (mut names, us) = (Names::default(), Name::from("us"));
        let one = names.urls(&us, &mut vec!["a:1", "b:1"]);
        let again = names.urls(&us, &mut vec!["b:1", "a:1", "b:1"]);
        assert!(std::ptr::eq::<BTreeSet<Name>>(&raw const *one, &raw const *again), "no second copy");
        assert_eq!(names.urls(&us, &mut vec!["b:1"]).iter().map(|url| &**url).collect::<Vec<_>>(), ["b:1"]);
        for told in [["b:1", "c:1"], ["a:1", "c:1"], ["c:1", "b:1"]] {
            assert_eq!(*names.urls(&us, &mut told.to_vec()), BTreeSet::from(told.map(Name::from)));
        }
        let long = "u".repeat(Names::BYTES_MAX + 1);
        for _ in 0..2 {
            names.take_longest();
            names.urls(&us, &mut vec![&*long]);
            assert_eq!(names.take_longest(), long.len(), "it is too long each time that it is told");
        }
    }
}
