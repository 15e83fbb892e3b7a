//! A look that would bring more at once than its share of the budget is asked cluster by cluster.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::decode::Endpoint;
use super::{Request, Target};
use crate::model::Name;

/// The first reply may be any: what it is like is learnt from those that follow.
const FIRST_BYTES_MAX: u64 = 32 * 1024;

/// How large the replies to each question are on the wire, in bytes: about the middle of those that came lately. Who
/// answers with ten megabytes makes no look longer.
#[derive(Clone, Debug, Default)]
pub struct Sizes(BTreeMap<Endpoint, u64>);

impl Sizes {
    /// A reply came.
    pub fn learn(&mut self, endpoint: Endpoint, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let size = match self.0.get(&endpoint) {
            // Who answers first may be no server.
            None => bytes.min(FIRST_BYTES_MAX),
            Some(known) if bytes > *known => known.saturating_add(known / 16 + 1).min(bytes),
            Some(known) => (known - known / 16).max(bytes),
        };
        self.0.insert(endpoint, size);
    }

    /// How large a reply is; where none came yet, as measured of servers with so many gateways.
    fn of(&self, endpoint: Endpoint, gateways: usize) -> u64 {
        let gateways = u64::try_from(gateways).unwrap_or(u64::MAX);
        let (alone, each) = match endpoint {
            Endpoint::Gatewayz => (500, 300),
            Endpoint::Varz => (1500, 40),
            Endpoint::Statsz => (1000, 115),
            Endpoint::Interest => (500, 400),
            Endpoint::Routez | Endpoint::Accountz | Endpoint::Jsz => (1500, 0),
        };
        let unknown = || gateways.saturating_mul(each).saturating_add(alone);
        self.0.get(&endpoint).copied().unwrap_or_else(unknown)
    }

    /// How long the replies of all take up the budget.
    pub fn lasts(&self, endpoint: Endpoint, census: &BTreeMap<Name, usize>, share: Share) -> Duration {
        share.lasts(self.of(endpoint, census.len()), 1, census.values().sum())
    }
}

/// What is asked at once, of some clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Of which.
    pub clusters: Vec<Name>,
    /// What.
    pub requests: Vec<Request>,
    /// How long the replies take up the budget.
    pub lasts: Duration,
}

/// What a look may bring.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// In a second.
    pub bytes_per_s: u64,
    /// How many answers in a second.
    pub answers_per_s: u64,
    /// At once.
    pub at_once: Duration,
    /// Of what comes in parts, each is so much: many answers in a row cost less than each by itself.
    pub in_a_part: Duration,
}

impl Share {
    /// How long so many servers' answers to so many questions, all of so many bytes, take it up.
    fn lasts(self, bytes: u64, questions: usize, servers: usize) -> Duration {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let of = |amount: u64, per_s: u64| {
            let ms = u128::from(amount.saturating_mul(number(servers))) * 1000 / u128::from(per_s.max(1));
            Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
        };
        of(bytes, self.bytes_per_s).max(of(number(questions), self.answers_per_s))
    }
}

/// What is asked of all servers, cluster by cluster, where that is more than `share` allows at once; none where it is
/// not. `census` tells how many servers each cluster has.
pub fn parts(
    requests: &[Request],
    census: &BTreeMap<Name, usize>,
    sizes: &Sizes,
    share: Share,
) -> Option<VecDeque<Part>> {
    let of_all = || requests.iter().filter(|r| r.target == Target::All);
    let of_one: u64 = of_all().map(|r| sizes.of(r.endpoint, census.len())).fold(0, u64::saturating_add);
    let questions = of_all().count();
    let lasts = |servers: usize| share.lasts(of_one, questions, servers);
    if lasts(census.values().sum()) <= share.at_once {
        return None;
    }
    let mut parts = VecDeque::from([Part::default()]);
    for (cluster, servers) in census {
        let more = lasts(*servers);
        if parts.back().is_some_and(|part| {
            !part.clusters.is_empty() && part.lasts.saturating_add(more) > share.in_a_part
        }) {
            parts.push_back(Part::default());
        }
        if let Some(part) = parts.back_mut() {
            part.lasts = part.lasts.saturating_add(more);
            part.clusters.push(cluster.clone());
            let of_cluster =
                |r: &Request| Request { endpoint: r.endpoint, target: Target::Cluster(cluster.clone()) };
            part.requests.extend(of_all().map(of_cluster));
        }
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(endpoint: Endpoint) -> Request {
        Request { endpoint, target: Target::All }
    }

    fn share(bytes_per_s: u64) -> Share {
        let ms = Duration::from_millis;
        Share { bytes_per_s, answers_per_s: 1000, at_once: ms(500), in_a_part: ms(1000) }
    }

    fn census(clusters: usize, each: usize) -> BTreeMap<Name, usize> {
        (0..clusters).map(|c| (format!("c{c:03}").into(), each)).collect()
    }

    #[test]
    fn what_is_little_is_asked_at_once() {
        let requests = [all(Endpoint::Gatewayz), all(Endpoint::Varz)];
        assert_eq!(parts(&requests, &census(3, 3), &Sizes::default(), share(2_000_000)), None);
        assert_eq!(parts(&requests, &census(10, 10), &Sizes::default(), share(2_000_000)), None);
        assert_eq!(parts(&[], &census(100, 100), &Sizes::default(), share(1)), None);
    }

    #[test]
    fn what_is_much_takes_as_long_as_the_budget_wants_and_asks_each_cluster_once() {
        let mut sizes = Sizes::default();
        (0..200).for_each(|_| sizes.learn(Endpoint::Gatewayz, 20_000));
        let one = Request { endpoint: Endpoint::Varz, target: Target::Server("N".into()) };
        let census = census(100, 10);
        let parts = parts(&[all(Endpoint::Gatewayz), one], &census, &sizes, share(2_000_000)).unwrap();
        assert!(parts.iter().flat_map(|p| &p.clusters).eq(census.keys()));
        assert!(parts.iter().all(|p| p.requests.len() == p.clusters.len() && p.clusters.len() == 10));
        let lasts: Duration = parts.iter().map(|p| p.lasts).sum();
        assert_eq!(lasts, Duration::from_secs(10));
    }

    #[test]
    fn many_small_answers_take_as_long_as_the_servers_are_to_be_spared() {
        let share = Share { answers_per_s: 100, ..share(2_000_000) };
        let requests = [all(Endpoint::Routez), all(Endpoint::Varz)];
        let parts = parts(&requests, &census(10, 10), &Sizes::default(), share).unwrap();
        assert_eq!(parts.iter().map(|p| p.lasts).sum::<Duration>(), Duration::from_secs(2));
    }

    #[test]
    fn sizes_follow_what_came_lately_and_no_reply_overflows_them() {
        let mut sizes = Sizes::default();
        assert_eq!(sizes.of(Endpoint::Gatewayz, 99), 30_200);
        sizes.learn(Endpoint::Gatewayz, 1000);
        assert_eq!(sizes.of(Endpoint::Gatewayz, 99), 1000);
        (0..40).for_each(|_| sizes.learn(Endpoint::Gatewayz, 3000));
        assert_eq!(sizes.of(Endpoint::Gatewayz, 99), 3000);
        for _ in 0..100 {
            sizes.learn(Endpoint::Gatewayz, 10_000_000);
            (0..8).for_each(|_| sizes.learn(Endpoint::Gatewayz, 3000));
            assert!(sizes.of(Endpoint::Gatewayz, 99) < 3300, "one of nine lies");
        }
        let mut sizes = Sizes::default();
        (0..1000).for_each(|_| sizes.learn(Endpoint::Gatewayz, usize::MAX));
        let huge = census(3, usize::MAX / 4);
        let parts = parts(&[all(Endpoint::Gatewayz)], &huge, &sizes, share(0)).unwrap();
        assert_eq!(parts.len(), 3);
    }
}
