//! What a look asks: the gateways of all, and what else is due.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::io::Effect;
use super::{Agent, DIRECT_MAX, GREETING, LOOKS_PER_EPOCH};
use crate::collect::decode::Endpoint;
use crate::collect::{Part, Request, Share, Target, parts};
use crate::model::{Name, Time};

/// Configuration changes at a restart only, which is seen by itself; totals and certificates change slowly.
pub(super) const VARZ_EVERY: Duration = Duration::from_secs(30);
/// A server that did not tell its configuration is asked again.
pub(super) const VARZ_RETRY: Duration = Duration::from_secs(1);
/// Routes are asked for at once where a server is silent, each epoch where they are in trouble; else at this pace.
const ROUTEZ_EVERY: Duration = Duration::from_secs(10);
/// Heartbeats bring the same every 10 s or 30 s.
const STATSZ_EVERY: Duration = Duration::from_secs(60);
/// What accounts move is summed up over minutes, and a shorter window has this many answers; it is asked for each
/// epoch while a gateway is jammed.
pub(super) const ACCOUNTZ_EVERY: Duration = Duration::from_secs(10);
pub(super) const ACCOUNTZ_PER_WINDOW: u32 = 5;
/// Streams seldom change their leader: accounts are asked for so often before streams are once.
const ACCOUNTZ_PER_JSZ: u32 = 6;
/// Every version since 2.9 ends the optimistic mode within 50 ms of a connection; the question costs a server
/// 80 bytes for each account of each connection.
const INTEREST_EVERY: Duration = Duration::from_secs(300);
/// In a large supercluster none of these takes up more of the budget than one part in so many.
const BUDGET_PER_KIND: u32 = 10;

fn all(endpoint: Endpoint) -> Request {
    Request { endpoint, target: Target::All }
}

impl Agent {
    /// What this look asks, each with those whose answer is waited for.
    pub(super) fn requests(&mut self, opens_epoch: bool, now: Time) -> Vec<(Request, BTreeSet<Name>)> {
        // Before the first look only our own server has answered: the others are still to be known.
        let prompt: BTreeSet<Name> = if self.looks == 0 { BTreeSet::new() } else { self.prompt() };
        let mut requests = vec![(all(Endpoint::Gatewayz), prompt.clone())];
        let due = self.due_of_all(opens_epoch, now);
        self.asked_all.extend(due.iter().map(|endpoint| (*endpoint, now)));
        if due.contains(&Endpoint::Varz) {
            requests.push((all(Endpoint::Varz), prompt.clone()));
        } else {
            requests.extend(self.configurations(now));
        }
        if due.contains(&Endpoint::Routez) {
            requests.push((all(Endpoint::Routez), prompt));
        } else {
            requests.extend(self.routes(opens_epoch, &prompt));
        }
        // Nobody waits for these: what comes is taken in whenever it does.
        for endpoint in [Endpoint::Statsz, Endpoint::Accountz, Endpoint::Jsz, Endpoint::Interest] {
            if due.contains(&endpoint) {
                requests.push((all(endpoint), BTreeSet::new()));
            }
        }
        requests
    }

    /// Those whose answers are waited for. Who was seen to have lost its way to us has none.
    pub(super) fn prompt(&self) -> BTreeSet<Name> {
        let prompt = self.roster.prompt(self.asked_before_at);
        prompt.filter(|id| !self.late.is_slow(id) && !self.desk.is_unreachable(id)).cloned().collect()
    }

    /// What all are to be asked besides their gateways. Where that takes its time it is one thing a look, the one
    /// that has waited longest for its turn.
    fn due_of_all(&self, opens_epoch: bool, now: Time) -> BTreeSet<Endpoint> {
        let census = self.roster.census(&self.vantage.server_id);
        let is_large = self.is_large();
        let overdue = |endpoint: Endpoint| {
            let every = self.asked_every(endpoint)?;
            let every = if is_large {
                let lasts = self.sizes.lasts(endpoint, &census, self.share());
                every.max(lasts.saturating_mul(BUDGET_PER_KIND))
            } else if endpoint == Endpoint::Accountz && opens_epoch && self.roster.is_pressed() {
                Duration::ZERO
            } else {
                every
            };
            let Some(at) = self.asked_all.get(&endpoint) else { return Some(Duration::MAX) };
            let waited = now.since(*at);
            waited.checked_sub(every)
        };
        let told = is_large && self.roster.have_told_statsz(now.minus(STATSZ_EVERY));
        let mut due: Vec<(Duration, Endpoint)> = Endpoint::ALL
            .into_iter()
            .filter(|endpoint| !(*endpoint == Endpoint::Statsz && told))
            .filter_map(|endpoint| Some((overdue(endpoint)?, endpoint)))
            .collect();
        if is_large {
            due.sort_by(|(a, _), (b, _)| b.cmp(a));
            due.truncate(1);
        }
        due.into_iter().map(|(_, endpoint)| endpoint).collect()
    }

    /// How often all are asked for it; none where no check wants it, or it is asked in each look.
    fn asked_every(&self, endpoint: Endpoint) -> Option<Duration> {
        let (every, checks): (Duration, &[&str]) = match endpoint {
            Endpoint::Gatewayz => return None,
            Endpoint::Varz => return Some(VARZ_EVERY),
            Endpoint::Routez => return Some(ROUTEZ_EVERY),
            Endpoint::Statsz => return Some(STATSZ_EVERY),
            Endpoint::Accountz => (
                self.accountz_every,
                &["gateway_traffic_ratio", "cross_cluster_stream_access", "gateway_pending_pressure"],
            ),
            Endpoint::Jsz => (
                self.accountz_every * ACCOUNTZ_PER_JSZ,
                &["cross_cluster_stream_access", "gateway_traffic_ratio"],
            ),
            Endpoint::Interest => (INTEREST_EVERY, &["gateway_interest_mode"]),
        };
        let is_on = |check: &&str| self.config.checks.get(*check).is_some_and(|settings| settings.enabled);
        checks.iter().any(is_on).then_some(every)
    }

    /// Who answers and did not tell its configuration is asked for it.
    fn configurations(&mut self, now: Time) -> Vec<(Request, BTreeSet<Name>)> {
        let since = now.minus(VARZ_EVERY * 2);
        let asked = &mut self.varz_asked;
        asked.retain(|_, at| now.since(*at) < VARZ_RETRY);
        let lacking: Vec<Name> =
            self.roster.without_varz(since).filter(|id| !asked.contains_key(*id)).cloned().collect();
        asked.extend(lacking.iter().map(|id| (id.clone(), now)));
        if lacking.len() > DIRECT_MAX {
            return vec![(all(Endpoint::Varz), lacking.into_iter().collect())];
        }
        let direct = |id: Name| {
            let target = Target::Server(id.clone());
            (Request { endpoint: Endpoint::Varz, target }, BTreeSet::from([id]))
        };
        lacking.into_iter().map(direct).collect()
    }

    /// Where a server is silent, or routes are in trouble, its cluster is asked for its routes.
    fn routes(&self, opens_epoch: bool, prompt: &BTreeSet<Name>) -> Vec<(Request, BTreeSet<Name>)> {
        let mut silent = self.roster.clusters_with_silence();
        if opens_epoch {
            silent.extend(self.roster.clusters_with_route_trouble());
        }
        if silent.len() > DIRECT_MAX {
            let request = opens_epoch.then(|| (all(Endpoint::Routez), prompt.clone()));
            return request.into_iter().collect();
        }
        let of_cluster = |name: Name| {
            let members = self.roster.members(&name, prompt);
            (Request { endpoint: Endpoint::Routez, target: Target::Cluster(name) }, members)
        };
        silent.into_iter().map(of_cluster).collect()
    }

    /// Of a supercluster of which nothing is known our own server tells first how large it is.
    pub(super) fn greet(&mut self, now: Time) -> Vec<Effect> {
        self.greeted = Some(now.plus(GREETING));
        let target = Target::Server(self.vantage.server_id.clone());
        self.question(&Request { endpoint: Endpoint::Statsz, target }, self.looks).into_iter().collect()
    }

    /// Whether a look at all takes its time.
    pub(super) fn is_large(&self) -> bool {
        self.parts(&[(all(Endpoint::Gatewayz), BTreeSet::new())]).is_some()
    }

    /// What is asked of all, cluster by cluster, where it is more than may come at once.
    pub(super) fn parts(&self, requests: &[(Request, BTreeSet<Name>)]) -> Option<VecDeque<Part>> {
        let census = self.roster.census(&self.vantage.server_id);
        let requests: Vec<Request> = requests.iter().map(|(request, _)| request.clone()).collect();
        parts(&requests, &census, &self.sizes, self.share())
    }

    pub(super) fn ask_next_part(&mut self, now: Time) -> Vec<Effect> {
        let Some(look) = &mut self.look else { return Vec::new() };
        let number = look.number;
        let Some(part) = look.next_part(now) else { return Vec::new() };
        part.requests.iter().filter_map(|request| self.question(request, number)).collect()
    }

    pub(super) fn share(&self) -> Share {
        Share {
            bytes_per_s: self.config.budget_bytes_per_s,
            answers_per_s: self.config.budget_requests_per_s,
            at_once: self.config.interval / LOOKS_PER_EPOCH,
            in_a_part: self.config.interval,
        }
    }
}
