//! Further ways to look, for what our own server does not see: the vantages that the agent was told of, and
//! neighbours of its own server while that has lost a cluster.
//!
//! Gateways are one hop, and a server has one to each cluster: one lost link of our own server would hide a whole
//! cluster. A cluster of which nobody answers over our own server is asked by the other ways too, with the same
//! look. While every cluster answers, nothing is asked by them.

pub(super) mod line;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::Message as Incoming;
use line::{News, Question, To};

use super::may::is_refused_at;
use super::questions::{VARZ_EVERY, VARZ_RETRY};
use super::{Agent, DETOUR_EVERY, DIRECT_MAX, Effect, LOOK_SOON, REFUSALS_MAX};
use crate::collect::decode::Endpoint;
use crate::collect::{Look, Request, Target, parse_inbox};
use crate::config::{Connect, DEFAULT_SERVER, redact};
use crate::model::{Name, Refusal, Snapshot, Time, Way};

/// More places to look from are not used.
pub(super) const VANTAGES_MAX: usize = 16;
/// So many neighbours at once: one may have lost the one cluster, and another the other.
const NEIGHBOURS_MAX: usize = 2;
/// Between two attempts to find one.
const SEARCH_EVERY: Duration = Duration::from_secs(1);
/// A way by which nobody of a cluster answered for this long does not lead there,
const BARREN_AFTER: Duration = Duration::from_secs(3);
/// and is tried again after this.
const BARREN_FOR: Duration = Duration::from_secs(60);
/// How many of those are kept.
const BARREN_MAX: usize = 256;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Ways {
    open: BTreeMap<u64, Path>,
    opened: u64,
    searched_at: Option<Time>,
    nudged_at: Option<Time>,
    /// The clusters that are asked by them.
    dark: BTreeSet<Name>,
    varz_asked: BTreeMap<Name, Time>,
    /// Neighbours that do not lead to a cluster though they have a gateway there, and since when that is known.
    barren: BTreeMap<(Name, Name), Time>,
}

#[derive(Debug)]
struct Path {
    configured: bool,
    /// What it leads to, where it was told.
    to: Name,
    /// The name and ID of the server, while it is connected.
    at: Option<(Name, Name)>,
    /// The clusters that a neighbour may lead to.
    leads_to: BTreeSet<Name>,
    /// The clusters that are asked by it.
    asked: BTreeMap<Name, Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    /// When it was first asked, or last answered.
    since: Time,
    answered: bool,
}

impl Ways {
    fn add(&mut self, to: Option<Name>, leads_to: BTreeSet<Name>) -> u64 {
        self.opened += 1;
        let (configured, to) = (to.is_some(), to.unwrap_or_default());
        self.open.insert(self.opened, Path { configured, to, at: None, leads_to, asked: BTreeMap::new() });
        self.opened
    }

    /// Whether one of them was asked for this cluster.
    pub(super) fn ask(&self, cluster: Option<&Name>) -> bool {
        cluster.is_some_and(|cluster| self.open.values().any(|path| path.asked.contains_key(cluster)))
    }

    fn neighbours(&self) -> impl Iterator<Item = (u64, &Path)> {
        self.open.iter().filter(|(_, path)| !path.configured).map(|(number, path)| (*number, path))
    }
}

/// The agent may not look from there.
fn refusal(to: &Name) -> Refusal {
    Refusal { operation: Refusal::LOOK_FROM.into(), subject: to.clone() }
}

impl Agent {
    /// Opens the vantages that the agent was told of.
    pub(super) fn open_vantages(&mut self) -> Vec<Effect> {
        let told = std::mem::take(&mut self.config.vantages);
        if told.len() > VANTAGES_MAX {
            tracing::warn!(told = told.len(), used = VANTAGES_MAX, "not looked from all vantages");
        }
        let servers = |connect: &Connect| {
            let urls = redact::urls(connect.server.as_deref().unwrap_or(DEFAULT_SERVER));
            Name::from(urls.as_str())
        };
        let opened = told.into_iter().take(VANTAGES_MAX).map(|connect| {
            let name = format!("{} (vantage)", self.config.name);
            Effect::OpenWay(
                self.ways.add(Some(servers(&connect)), BTreeSet::new()),
                To::Vantage { connect: Box::new(connect), name },
            )
        });
        opened.collect()
    }

    /// Where it looks from besides.
    pub(super) fn ways_now(&self) -> Vec<Way> {
        let up = self.ways.open.values().filter_map(|path| Some((path.configured, path.at.as_ref()?)));
        let mut ways: Vec<Way> = up
            .map(|(configured, (server, server_id))| Way {
                cluster: self.roster.cluster_of(server_id),
                server: server.clone(),
                server_id: server_id.clone(),
                configured,
            })
            .collect();
        ways.sort();
        ways
    }

    /// What `look` asks by other ways.
    pub(super) fn ask_elsewhere(&mut self, look: &mut Look, now: Time) -> Vec<Effect> {
        let mut effects = Vec::new();
        let unseen_since = now.minus(VARZ_EVERY * 2);
        self.ways.varz_asked.retain(|_, at| now.since(*at) < VARZ_RETRY);
        for cluster in self.ways.dark.clone() {
            let prompt = self.roster.prompt_elsewhere(&cluster, self.asked_before_at);
            let (varz, routez) = self.roster.lacks_elsewhere(&cluster, unseen_since);
            let asked_all = |endpoint| self.asked_all.get(&endpoint) == Some(&now);
            let varz = asked_all(Endpoint::Varz) || varz && !self.ways.varz_asked.contains_key(&cluster);
            if varz {
                self.ways.varz_asked.insert(cluster.clone(), now);
            }
            let routez = routez || asked_all(Endpoint::Routez);
            let statsz = asked_all(Endpoint::Statsz);
            let leads = |path: &Path| path.configured || path.leads_to.contains(&cluster);
            let up = self.ways.open.iter_mut().filter(|(_, path)| path.at.is_some() && leads(path));
            for (number, path) in up {
                let first = !path.asked.contains_key(&cluster);
                path.asked.entry(cluster.clone()).or_insert(Asked { since: now, answered: false });
                let asks = [
                    (Endpoint::Gatewayz, true),
                    (Endpoint::Varz, varz || first),
                    (Endpoint::Routez, routez || first),
                    (Endpoint::Statsz, statsz || first),
                ];
                for endpoint in asks.into_iter().filter(|(_, asks)| *asks).map(|(endpoint, _)| endpoint) {
                    let request = Request { endpoint, target: Target::Cluster(cluster.clone()) };
                    let Some(subject) = request.subject() else { continue };
                    let worth = endpoint != Endpoint::Statsz;
                    look.ask_elsewhere(endpoint, if worth { prompt.clone() } else { BTreeSet::new() });
                    self.cost.requests += 1;
                    let token = Some(request.inbox_token(look.number));
                    let question = Question { subject, token, body: request.body() };
                    effects.push(Effect::AskWay(*number, question));
                }
            }
        }
        effects
    }

    /// Takes in what a way tells.
    pub(super) fn way_tells(&mut self, number: u64, news: News, now: Time) -> Vec<Effect> {
        let Some(path) = self.ways.open.get_mut(&number) else { return Vec::new() };
        match news {
            News::Up { server, server_id } => {
                tracing::info!(%server, configured = path.configured, "looking from there too");
                path.asked.clear();
                let at = path.to.clone();
                self.observer.refused.retain(|r| *r != refusal(&at) && !is_refused_at(r, &at));
                path.at = Some((server, server_id));
                if !self.ways.dark.is_empty() && self.connected && self.company.peers.leads() {
                    self.soon_at.get_or_insert(now.plus(LOOK_SOON));
                }
            }
            News::Down => path.at = None,
            News::Refused => {
                if self.observer.refused.len() < REFUSALS_MAX {
                    self.observer.refused.insert(refusal(&path.to));
                }
            }
            News::Denied(denied) => {
                let at = path.to.clone();
                self.was_denied(&denied, Some(&at));
            }
            News::Over => {
                self.ways.open.remove(&number);
                return vec![Effect::CloseWay(number)];
            }
            News::Reply(message) => return self.reply_elsewhere(number, &message, now),
            News::Heard(message) => self.heard(&message, true, now),
            News::Lost => self.lost_some(now),
        }
        Vec::new()
    }

    fn reply_elsewhere(&mut self, number: u64, message: &Incoming, now: Time) -> Vec<Effect> {
        let Some((look, endpoint)) = parse_inbox(&message.subject) else { return Vec::new() };
        if message.status.is_some() {
            return Vec::new();
        }
        let Some(server) = self.take_reply(message, endpoint, look, true, now) else { return Vec::new() };
        if let Some(cluster) = self.roster.cluster_of(&server)
            && let Some(asked) = self.ways.open.get_mut(&number).and_then(|p| p.asked.get_mut(&cluster))
        {
            *asked = Asked { since: now, answered: true };
        }
        if self.look.as_ref().is_some_and(Look::is_complete) { self.finish(now) } else { Vec::new() }
    }

    /// Opens, closes and remembers what the next look asks by which way.
    pub(super) fn tend_ways(&mut self, snapshot: &Snapshot, now: Time) -> Vec<Effect> {
        let dark: BTreeSet<Name> = snapshot.dark().take(DIRECT_MAX).cloned().collect();
        for path in self.ways.open.values_mut() {
            path.asked.retain(|cluster, _| dark.contains(cluster));
            path.leads_to.retain(|cluster| dark.contains(cluster));
        }
        let mut effects = self.nudge_elsewhere(snapshot, now);
        self.ways.barren.retain(|_, at| now.since(*at) < BARREN_FOR);
        for cluster in &dark {
            let since = snapshot.clusters.get(cluster).and_then(|c| c.dark_since);
            // A server dials again within a second or two; one look that is lost is nothing.
            if since.is_some_and(|since| snapshot.at > since) {
                effects.extend(self.look_by_a_neighbour(snapshot, cluster, now));
            }
        }
        self.ways.dark = dark;
        let own = &self.vantage.server_id;
        let over: Vec<u64> = self
            .ways
            .neighbours()
            .filter(|(_, path)| {
                // Our own connection has moved there.
                path.at.as_ref().is_some_and(|(_, id)| id == own)
            })
            .map(|(number, _)| number)
            .collect();
        for number in over {
            self.ways.open.remove(&number);
            effects.push(Effect::CloseWay(number));
        }
        effects
    }

    fn look_by_a_neighbour(&mut self, snapshot: &Snapshot, cluster: &Name, now: Time) -> Option<Effect> {
        let ways = &mut self.ways;
        let answers = |path: &Path| path.asked.get(cluster).is_some_and(|asked| asked.answered);
        if ways.open.values().any(|path| path.configured && path.at.is_some() && answers(path)) {
            for path in ways.open.values_mut() {
                path.leads_to.remove(cluster);
            }
            return None;
        }
        for path in ways.open.values().filter(|path| !path.configured) {
            if let (Some((_, id)), Some(asked)) = (&path.at, path.asked.get(cluster))
                && now.since(asked.since) > BARREN_AFTER
                && ways.barren.len() < BARREN_MAX
            {
                ways.barren.entry((id.clone(), cluster.clone())).or_insert(now);
            }
        }
        let towards: Vec<Name> = snapshot
            .neighbours_towards(cluster)
            .into_iter()
            .filter(|id| !ways.barren.contains_key(&(id.clone(), cluster.clone())))
            .collect();
        let mut has_one = false;
        for path in ways.open.values_mut().filter(|path| !path.configured) {
            match &path.at {
                None => has_one = true,
                Some((_, id)) if towards.contains(id) => {
                    has_one = true;
                    path.leads_to.insert(cluster.clone());
                }
                Some(_) => drop(path.leads_to.remove(cluster)),
            }
        }
        let due = ways.searched_at.is_none_or(|at| now.since(at) >= SEARCH_EVERY);
        if has_one || towards.is_empty() || !due || ways.neighbours().count() >= NEIGHBOURS_MAX {
            return None;
        }
        ways.searched_at = Some(now);
        let to = To::Neighbour { wanted: towards.into_iter().collect() };
        Some(Effect::OpenWay(ways.add(None, BTreeSet::from([cluster.clone()])), to))
    }

    /// A cluster that our own gateway leads to and that does not answer is asked for heartbeats: whether it lives,
    /// and which ways from it are open, is seen by who receives them.
    fn nudge_elsewhere(&mut self, snapshot: &Snapshot, now: Time) -> Vec<Effect> {
        let ways: Vec<u64> =
            self.ways.open.iter().filter(|(_, p)| p.at.is_some()).map(|(number, _)| *number).collect();
        let due = self.ways.nudged_at.is_none_or(|at| now.since(at) >= DETOUR_EVERY);
        let dark: Vec<&Name> = snapshot.dark_behind_a_gateway().take(DIRECT_MAX).collect();
        if !snapshot.settled || !due || ways.is_empty() || dark.is_empty() {
            return Vec::new();
        }
        self.ways.nudged_at = Some(now);
        let mut effects = Vec::new();
        for cluster in dark {
            let target = Target::Cluster(cluster.clone());
            let request = Request { endpoint: Endpoint::Statsz, target };
            let Some(subject) = request.subject() else { continue };
            for number in &ways {
                self.cost.requests += 1;
                let question = Question { subject: subject.clone(), token: None, body: request.body() };
                effects.push(Effect::AskWay(*number, question));
            }
        }
        effects
    }
}
