//! Between two rounds of a large supercluster: a look at the few clusters where something moved.
//!
//! Heartbeats tell which gateways a server has. Where they are other ones than before, the two clusters concerned are
//! asked at once, and again until what moved is told of or well; all others wait for their turn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::io::Effect;
use super::{Agent, LOOK_SOON};
use crate::checks::{self, Outcome, Verdict};
use crate::collect::decode::Endpoint;
use crate::collect::{Look, Pace, Request, Target};
use crate::findings::{Judgement, Ledger};
use crate::model::{self, Gatewayz, Link, LinkState, Name, ServerInfo, Statsz, Time};

/// How many pairs of clusters are looked at before their turn: where more moved, the look at all is what tells.
const PAIRS_MAX: usize = 4;
/// How long a pair is looked at again.
const FOLLOWED_FOR: Duration = Duration::from_secs(10);
/// Glances take up no more of the budget than one part in so many.
const BUDGET_PER_GLANCE: u32 = 2;

/// What moved.
#[derive(Debug, Default)]
pub(super) struct Glances {
    /// Two clusters, the first by name first, and until when they are looked at.
    pairs: BTreeMap<(Name, Name), Time>,
    /// Whether looks at all take their time; else each of them is soon enough.
    are_needed: bool,
    /// The earliest for the next one, and when it is due.
    free_at: Time,
    due_at: Option<Time>,
    now: Option<Under>,
    /// Whether more moved than they can follow, which a look at all has to tell.
    overran: bool,
}

/// One that is under way.
#[derive(Debug)]
struct Under {
    look: Look,
    clusters: BTreeSet<Name>,
}

impl Glances {
    pub(super) fn are_needed(&self) -> bool {
        self.are_needed
    }

    pub(super) fn look_mut(&mut self) -> Option<&mut Look> {
        self.now.as_mut().map(|under| &mut under.look)
    }

    /// Nobody looked for a while: what is under way is asked again, and what moved is followed for as long as if it
    /// moved now.
    pub(super) fn begin_anew(&mut self, now: Time) {
        self.now = None;
        for until in self.pairs.values_mut() {
            *until = now.plus(FOLLOWED_FOR);
        }
        self.go_on(now.plus(LOOK_SOON));
    }

    fn add(&mut self, ends: impl Iterator<Item = (Name, Name)>, now: Time) {
        let pairs: BTreeSet<(Name, Name)> = ends.map(pair).collect();
        self.pairs.retain(|_, until| *until > now);
        if !self.are_needed || pairs.len() > PAIRS_MAX {
            self.overran |= self.are_needed;
            return;
        }
        for pair in pairs {
            if self.pairs.len() < PAIRS_MAX || self.pairs.contains_key(&pair) {
                self.pairs.insert(pair, now.plus(FOLLOWED_FOR));
                self.due_at.get_or_insert(now.plus(LOOK_SOON));
            } else {
                self.overran = true;
            }
        }
    }

    /// Whether more moved since this was asked last than they can follow.
    pub(super) fn overran(&mut self) -> bool {
        std::mem::take(&mut self.overran)
    }

    /// One that asked at `asked_at` is over: what it left undecided is looked at again, and what moved since has yet to
    /// be.
    fn keep(&mut self, undecided: &BTreeSet<(Name, Name)>, asked_at: Time, now: Time) {
        let moved_since = |until: Time| until > asked_at.plus(FOLLOWED_FOR);
        self.pairs.retain(|pair, until| *until > now && (undecided.contains(pair) || moved_since(*until)));
    }

    /// Where something is still followed, the next one is at `at`, or before.
    fn go_on(&mut self, at: Time) {
        if !self.pairs.is_empty() {
            self.due_at = Some(self.due_at.map_or(at, |due_at| due_at.min(at)));
        }
    }

    /// One of `cluster` told late how it was: what that says is judged by the next one.
    pub(super) fn hurry(&mut self, cluster: &Name, now: Time) {
        if self.pairs.keys().any(|(a, b)| a == cluster || b == cluster) {
            self.go_on(now.plus(LOOK_SOON));
        }
    }

    /// A look at all that asked at `asked_at` is over. What it saw begin, or end, is seen again before the next one is.
    pub(super) fn follow(&mut self, verdicts: &[Verdict], ledger: &Ledger, asked_at: Time, now: Time) {
        self.are_needed = true;
        let undecided = undecided(verdicts, ledger, asked_at);
        self.add(undecided.into_iter(), now);
    }
}

fn pair((a, b): (Name, Name)) -> (Name, Name) {
    if a <= b { (a, b) } else { (b, a) }
}

/// Of what a glance can judge: what is not ripe yet, and what begins to heal.
fn undecided(verdicts: &[Verdict], ledger: &Ledger, seen_at: Time) -> BTreeSet<(Name, Name)> {
    let open: BTreeSet<_> = ledger.open().map(|f| (&*f.check, f.entity.names())).collect();
    let is_open = |v: &Verdict| open.contains(&(v.check, v.entity.names()));
    let undecided = |v: &&Verdict| match &v.outcome {
        Outcome::Violated(violation) => violation.ripe_at > seen_at && !is_open(v),
        Outcome::Healthy => is_open(v),
        Outcome::Unknown | Outcome::Gone => false,
    };
    let glanced = verdicts.iter().filter(|v| checks::is_seen_at_a_glance(v.check));
    let ends = |v: &Verdict| v.entity.cluster.clone().zip(v.entity.remote.clone());
    glanced.filter(undecided).filter_map(ends).map(pair).collect()
}

impl Agent {
    /// A heartbeat came.
    pub(super) fn note_what_moved(&mut self, server: &ServerInfo, told: &Statsz, now: Time) {
        let remotes = self.roster.moved(server, told, self.vantage.cluster.as_ref());
        self.note_remotes(server, remotes, now);
    }

    /// What a heartbeat tells of gateways is of no more use, but for our own cluster, where looks at all take their
    /// time.
    pub(super) fn use_up(&self, server: &ServerInfo, told: &mut Statsz) {
        let takes_time = self.glances.are_needed || self.look.as_ref().is_some_and(Look::is_in_parts);
        let own = self.roster.cluster_of(&self.vantage.server_id);
        if takes_time && own.is_some() && server.cluster != own {
            (told.gateways, told.inbounds) = Default::default();
        }
    }

    /// A server tells its gateways, in a look at all or in a glance.
    pub(super) fn note_what_is_new(&mut self, server: &ServerInfo, told: &Gatewayz, now: Time) {
        if server.cluster.is_some() && server.cluster == self.vantage.cluster {
            self.roster.note_who_comes_no_more(server, told, now);
        }
        if self.glances.are_needed {
            let remotes = self.roster.answers_anew(server, told, self.vantage.cluster.as_ref());
            self.note_remotes(server, remotes, now);
        }
    }

    /// The gateways of a server to these remotes are other ones than before.
    fn note_remotes(&mut self, server: &ServerInfo, remotes: Vec<Name>, now: Time) {
        let Some(cluster) = &server.cluster else { return };
        self.glances.add(remotes.into_iter().map(|remote| (cluster.clone(), remote)), now);
        self.hurry(now);
    }

    /// Where more moved than glances can follow, the looks at all spare no processor until they have told.
    pub(super) fn hurry(&mut self, now: Time) {
        if !self.glances.overran() {
            return;
        }
        let times = self.thrift.stop();
        if let Some(look) = &mut self.look {
            look.hurry(times, now);
        }
    }

    /// When there is something to be done about one.
    pub(super) fn glance_due(&self) -> Option<Time> {
        if !self.connected || !self.company.peers.leads() {
            return None;
        }
        match &self.glances.now {
            Some(under) => Some(under.look.ends_at()),
            None => self.glances.due_at.map(|due_at| due_at.max(self.glances.free_at)),
        }
    }

    /// Does what is due.
    pub(super) fn glance(&mut self, now: Time) -> Vec<Effect> {
        if self.glance_due().is_none_or(|due_at| now < due_at) {
            return Vec::new();
        }
        if self.glances.now.is_some() { self.finish_glance(now) } else { self.begin_glance(now) }
    }

    /// Ends it when everybody has answered.
    pub(super) fn end_glance(&mut self, now: Time) -> Vec<Effect> {
        let is_complete = self.glances.now.as_ref().is_some_and(|under| under.look.is_complete());
        if is_complete { self.finish_glance(now) } else { Vec::new() }
    }

    fn begin_glance(&mut self, now: Time) -> Vec<Effect> {
        self.glances.due_at = None;
        self.glances.pairs.retain(|_, until| *until > now);
        let clusters: BTreeSet<Name> =
            self.glances.pairs.keys().flat_map(|(cluster, remote)| [cluster, remote]).cloned().collect();
        if clusters.is_empty() {
            return Vec::new();
        }
        let mut census = self.roster.census(&self.vantage.server_id);
        census.retain(|cluster, _| clusters.contains(cluster));
        let lasts = self.sizes.lasts(Endpoint::Gatewayz, &census, self.share());
        let prompt = self.prompt();
        let of_cluster = |cluster: &Name| {
            let target = Target::Cluster(cluster.clone());
            (Request { endpoint: Endpoint::Gatewayz, target }, self.roster.members(cluster, &prompt))
        };
        let mut requests: Vec<(Request, BTreeSet<Name>)> = clusters.iter().map(of_cluster).collect();
        // Who has no way to our cluster cannot answer: that it lives, its peers tell.
        let own = self.vantage.cluster.as_ref();
        for (a, b) in self.glances.pairs.keys() {
            let other = [(a, b), (b, a)].into_iter().find(|(one, _)| own == Some(*one));
            requests.extend(other.map(|(_, other)| {
                let target = Target::Cluster(other.clone());
                (Request { endpoint: Endpoint::Routez, target }, self.roster.members(other, &prompt))
            }));
        }
        self.looks += 1;
        // Who lost its way to us never answers, and the first time the verdict of the others waits for it.
        let pace = Pace::of(self.config.timeout, self.slowest / 2);
        let look = Look::new(self.looks, self.epoch, false, now, pace, &requests);
        self.glances.now = Some(Under { look, clusters });
        self.glances.free_at = now.plus((lasts * BUDGET_PER_GLANCE).max(super::LOOK_GAP_MIN));
        if let Some(look) = &mut self.look {
            look.give_way(lasts);
        }
        let mut effects = self.send(now);
        self.mark = self.outbox.mark();
        effects.extend(requests.iter().filter_map(|(request, _)| self.question(request, self.looks)));
        effects
    }

    fn finish_glance(&mut self, now: Time) -> Vec<Effect> {
        let Some(Under { look, clusters }) = self.glances.now.take() else { return Vec::new() };
        self.glances.go_on(look.asked_at.plus(self.config.interval));
        let answered = look.answered(Endpoint::Gatewayz, false);
        let late = self.late.after(&look, &answered, |id| self.roster.knows(id), now);
        let Some(mut whole) = self.desk.put_away() else { return Vec::new() };
        if !whole.settled || !self.may_judge(now) || !self.kept.may_judge(now) {
            self.desk.put_back(whole);
            return Vec::new();
        }
        let asked_at = look.asked_at;
        let glance = model::Glance { asked_at, clusters, answered, late };
        let links = self.roster.glance(&mut whole, &glance);
        let all = std::mem::replace(&mut whole.links, links);
        let at = std::mem::replace(&mut whole.at, asked_at);
        let verdicts = checks::glance(&whole, &self.config.checks, &self.ledger.watched());
        let links = std::mem::replace(&mut whole.links, all);
        whole.at = at;
        self.desk.put_back(whole);
        if now.since(self.turned_at) >= self.config.interval {
            self.take_a_turn(now);
        }
        let changes = self.ledger.step(Judgement {
            at: asked_at.max(now),
            seen_at: asked_at,
            is_glance: true,
            epoch: self.turn,
            verdicts: verdicts.clone(),
            settings: &self.config.checks,
            repeat_every: self.config.repeat_every,
        });
        let mut followed = undecided(&verdicts, &self.ledger, asked_at);
        // What was told late may be of before it moved.
        let is_open =
            |link: &Link| link.state == LinkState::Unknown || glance.late.contains_key(&link.server_id);
        followed.extend(links.into_iter().filter(is_open).map(|link| pair((link.cluster, link.remote))));
        self.glances.keep(&followed, asked_at, now);
        if let Some(ripe_at) = Ledger::next_ripe(&verdicts, asked_at) {
            self.glances.go_on(ripe_at);
        }
        self.publish_changes(&changes);
        let mut effects = if changes.is_empty() { Vec::new() } else { self.save() };
        effects.extend(self.send(now));
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(glances: &Glances) -> Vec<String> {
        glances.pairs.keys().map(|(a, b)| format!("{a} {b}")).collect()
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(1_000_000_000_000).plus(Duration::from_millis(ms))
    }

    #[test]
    fn what_was_looked_at_when_the_agent_stood_still_is_looked_at_anew() {
        let mut glances = Glances { are_needed: true, ..Glances::default() };
        glances.add([(Name::from("eu"), Name::from("ap"))].into_iter(), at(0));
        // It was begun, and its answers are lost.
        glances.due_at = None;
        glances.begin_anew(at(12_000));
        assert_eq!(glances.due_at, Some(at(12_000).plus(LOOK_SOON)));
        glances.keep(&[pair((Name::from("ap"), Name::from("eu")))].into(), at(12_050), at(13_000));
        assert_eq!(pairs(&glances), ["ap eu"]);
        let mut nothing = Glances::default();
        nothing.begin_anew(at(0));
        assert_eq!(nothing.due_at, None, "nothing moved");
    }

    #[test]
    fn what_moves_beyond_their_reach_is_told_once() {
        let ends = |n: usize| (0..n).map(|n| (Name::from("ap"), Name::from(format!("eu{n}"))));
        let mut glances = Glances { are_needed: true, ..Glances::default() };
        glances.add(ends(PAIRS_MAX), at(0));
        assert!(!glances.overran());
        glances.add(ends(PAIRS_MAX), at(10));
        assert!(!glances.overran(), "they are followed already");
        glances.add(ends(PAIRS_MAX + 1), at(20));
        assert!(glances.overran() && !glances.overran());
        glances.add([(Name::from("ap"), Name::from("us"))].into_iter(), at(30));
        assert!(glances.overran() && pairs(&glances).len() == PAIRS_MAX);
    }

    #[test]
    fn what_moves_while_a_glance_is_under_way_is_looked_at_after_it() {
        let ends = |a: &str, b: &str| [(Name::from(a), Name::from(b))].into_iter();
        let mut glances = Glances { are_needed: true, ..Glances::default() };
        for remote in ["eu", "us"] {
            glances.add(ends(remote, "ap"), at(0));
        }
        let asked_at = at(50);
        glances.add(ends("sa", "ap"), at(80));
        glances.keep(&[pair((Name::from("ap"), Name::from("us")))].into(), asked_at, at(100));
        assert_eq!(pairs(&glances), ["ap sa", "ap us"], "one is well, one is undecided, one was not asked");
        glances.keep(&BTreeSet::new(), at(1050), at(1100));
        assert_eq!(pairs(&glances), [""; 0]);
    }
}
