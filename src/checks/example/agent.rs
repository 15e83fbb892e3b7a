//! The agent's part of the world: it asks, remembers and judges with the real roster, the real checks and the
//! real ledger, at the agent's own pace.

mod glance;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Power, World, jam, ms, secs};
use crate::collect::{self, Late, Pace};
use crate::findings::{Finding, Judgement, Ledger};
use crate::model::{Fact, Look, Name, Roster, ServerInfo, Time, Vantage};
use crate::publish::schema::tests::assert_said_as_shipped;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOK_GAP_MIN: Duration = Duration::from_millis(250);
const UNSETTLED: Duration = Duration::from_secs(3);

/// Answers that get lost or come late by chance, with random choices of their own.
#[derive(Debug, Default)]
pub(super) struct Noise {
    random: u64,
    /// Of a thousand answers.
    lost: u64,
    /// Of a thousand answers.
    late: u64,
    /// How many answers of one kind in a row did not come in time, by server.
    streaks: BTreeMap<(Name, u8), u64>,
}

/// How it looks besides over the server that it is connected to.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    /// Servers that it was told of.
    pub(crate) vantages: Vec<Name>,
    /// No neighbour takes its connection.
    pub(crate) alone: bool,
}

/// Answers that come late.
#[derive(Default)]
pub(super) struct Delays {
    /// The servers whose answers do from now on, and by how many looks.
    of: BTreeMap<Name, u64>,
    /// What is on its way, when it was made, and how many looks it takes yet.
    pub(super) waiting: Vec<(ServerInfo, Fact, Time, u64)>,
    /// The agent's account of those who came so, and the number of its look.
    told: Late,
    looks: u64,
}

impl Delays {
    fn told_before(&mut self, now: Time, answered: &BTreeSet<Name>) -> BTreeMap<Name, Time> {
        self.looks += 1;
        let look = collect::Look::new(self.looks, 0, true, now, Pace::of(secs(2), ms(0)), &[]);
        self.told.after(&look, answered, |_| true, now)
    }
}

/// What becomes of one answer: it comes in time, so many looks late, or never.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    InTime,
    Late(u64),
    Lost,
}

impl Noise {
    /// So much bad luck in a row is not yet a fault.
    const STREAK_MAX: u64 = 2;

    pub(super) fn new(seed: u64, lost: u64, late: u64) -> Self {
        Self { random: seed | 1, lost, late, streaks: BTreeMap::new() }
    }

    fn fate(&mut self, server: &Name, fact: &Fact) -> Fate {
        if self.lost + self.late == 0 {
            return Fate::InTime;
        }
        let kind = match fact {
            Fact::Gatewayz(_) => 0,
            Fact::Varz(_) => 1,
            Fact::Routez(_) => 2,
            _ => 3,
        };
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let chance = (self.random >> 33) % 1000;
        let streak = self.streaks.entry((server.clone(), kind)).or_default();
        if *streak >= Self::STREAK_MAX || chance >= self.lost + self.late {
            *streak = 0;
            return Fate::InTime;
        }
        *streak += 1;
        if chance < self.lost { Fate::Lost } else { Fate::Late(1 + (self.random >> 50) % 4) }
    }
}

impl World {
    /// An agent begins to look from `server`.
    pub(crate) fn watch(&mut self, server: &str) {
        self.agent = Some(server.into());
        self.connected_at = self.now;
        self.grid_at = self.now;
        self.half = false;
        self.asked_at = None;
        self.soon_at = None;
        self.ripe_at = None;
        self.routez_at = None;
        self.delays.waiting.clear();
        self.delays.told = Late::default();
    }

    /// The agent loses its connection and makes another one, to `server`.
    pub(crate) fn reconnect(&mut self, server: &str) {
        self.watch(server);
        self.roster.blink();
    }

    /// The agent is started anew with what its state file holds.
    pub(crate) fn restart_agent(&mut self, server: &str) {
        let open: Vec<Finding> = self.ledger.open().cloned().collect();
        let file = serde_json::to_string(&open).expect("findings are written");
        let open: Vec<Finding> = serde_json::from_str(&file).expect("findings are read");
        self.roster = Roster::default();
        for finding in &open {
            let e = &finding.entity;
            if let (Some(cluster), Some(name), Some(id)) = (&e.cluster, &e.server, &e.server_id) {
                let info = finding.server.clone().unwrap_or_else(|| ServerInfo {
                    name: name.clone(),
                    id: id.clone(),
                    cluster: Some(cluster.clone()),
                    ..ServerInfo::default()
                });
                self.roster.recall([(info, finding.opened_at)]);
            }
            let was = finding.evidence.get("last_connected_at").and_then(|at| Time::parse(at.as_str()?));
            if let (Some(cluster), Some(name), Some(remote), Some(at)) =
                (&e.cluster, &e.server, &e.remote, was)
            {
                self.roster.recall_link(cluster.clone(), name.clone(), remote, at);
            }
            if let (true, Some(cluster)) = (&*finding.check == "cluster_unreachable", &e.cluster) {
                self.roster.recall_cluster(cluster);
            }
        }
        self.ledger = Ledger::restore(open);
        self.epoch = 0;
        self.varz_at = None;
        self.accountz_at = None;
        self.watch(server);
    }

    pub(super) fn next_look_at(&self) -> Option<Time> {
        self.agent.as_ref()?;
        let mut at = self.grid_at;
        if let Some(ripe_at) = self.ripe_at
            && (ripe_at < at || ripe_at <= at.plus(ms(100)))
        {
            at = ripe_at;
        }
        if let Some(soon_at) = self.soon_at {
            at = at.min(soon_at);
        }
        Some(self.asked_at.map_or(at, |asked| at.max(asked.plus(LOOK_GAP_MIN))))
    }

    /// The answers of `server` come so many looks late from now on.
    pub(crate) fn delay_replies(&mut self, server: &str, looks: u64) {
        self.delays.of.insert(server.into(), looks);
    }

    /// What is late by another look, or comes now.
    fn come_late(&mut self) {
        for (info, fact, made_at, looks) in std::mem::take(&mut self.delays.waiting) {
            if looks > 1 {
                self.delays.waiting.push((info, fact, made_at, looks - 1));
                continue;
            }
            if matches!(fact, Fact::Gatewayz(_)) {
                let cluster = info.cluster.as_ref();
                self.delays.told.note(&info.id, cluster, made_at, false, self.now);
            }
            let _ = self.roster.answer(info, fact, made_at);
        }
    }

    /// Whether a question from `vantage` reaches `server`.
    fn is_asked(&self, server: &str, vantage: &str) -> bool {
        let (node, own) = (&self.nodes[server], &self.nodes[vantage]);
        let hears = node.power == Power::Up && !self.deaf.contains(server);
        hears && own.power == Power::Up && self.reaches(vantage, node)
    }

    /// Whether its answer reaches the agent.
    fn answers(&self, server: &str, vantage: &str) -> bool {
        self.is_asked(server, vantage) && self.reaches(server, &self.nodes[vantage])
    }

    fn answers_in_time(&self, server: &str, by: &Name) -> bool {
        let late = self.late_by(by, &self.cluster_of(server)) + self.late_by(server, &self.cluster_of(by));
        late <= jam::IN_TIME && self.answers(server, by)
    }

    /// Who is silent is asked for a heartbeat, and a cluster that is dark by another way.
    fn provoke(&mut self, vantage: &Name) {
        let Some(snapshot) = self.snapshot.as_ref().filter(|s| s.settled) else { return };
        let mute: Vec<Name> = snapshot.mute().map(|s| s.info.name.clone()).collect();
        let dark: Vec<Name> = snapshot.dark_behind_a_gateway().cloned().collect();
        for name in mute {
            if self.nodes.contains_key(&name) && self.is_asked(&name, vantage) {
                self.heartbeat(&name);
            }
        }
        let own = self.names_of(&self.cluster_of(vantage));
        let Some(other) = own.into_iter().find(|n| n != vantage && self.nodes[n].power == Power::Up) else {
            return;
        };
        let there: Vec<Name> = dark.iter().flat_map(|cluster| self.names_of(cluster)).collect();
        for name in there {
            if self.is_asked(&name, &other) {
                self.heartbeat(&name);
            }
        }
    }

    /// Asks the clusters that were dark in the last look by another way: from each further vantage, and by the
    /// first neighbour that gets an answer. Returns the IDs of who answers.
    fn look_elsewhere(&mut self, now: Time) -> BTreeSet<Name> {
        let mut answered = BTreeSet::new();
        let Some(snapshot) = &self.snapshot else { return answered };
        let of_id = |id: &Name| self.nodes.values().find(|n| n.id == *id).map(|n| n.name.clone());
        let ways: Vec<(Name, Vec<Name>)> = snapshot
            .dark()
            .map(|cluster| {
                let neighbours = snapshot.neighbours_towards(cluster);
                (cluster.clone(), neighbours.iter().filter_map(of_id).collect())
            })
            .collect();
        for (cluster, neighbours) in ways {
            let there = self.names_of(&cluster);
            let gets = |by: &&Name| there.iter().any(|name| self.answers_in_time(name, by));
            let neighbour = neighbours.iter().find(gets).filter(|_| !self.ways.alone).cloned();
            let by: Vec<Name> = self.ways.vantages.iter().cloned().chain(neighbour).collect();
            for by in &by {
                for remote in self.nodes[by].dials.keys().cloned().collect::<Vec<_>>() {
                    self.send(by, &remote);
                }
            }
            for name in there {
                if !by.iter().any(|by| self.answers_in_time(&name, by)) {
                    continue;
                }
                for cluster in by.iter().map(|by| self.cluster_of(by)).collect::<BTreeSet<_>>() {
                    if cluster != self.cluster_of(&name) {
                        self.send(&name, &cluster);
                    }
                }
                self.node(&name).seq += 1;
                let info = self.info(&name);
                let facts = [
                    Fact::Gatewayz(self.gatewayz(&name)),
                    Fact::Varz(Box::new(self.varz(&name))),
                    Fact::Routez(self.routez(&name)),
                ];
                for fact in facts {
                    if matches!(fact, Fact::Routez(_)) && self.muted.contains(&name) {
                        continue;
                    }
                    let _ = self.roster.answer_elsewhere(info.clone(), fact, now);
                }
                answered.insert(info.id);
            }
        }
        answered
    }

    pub(super) fn look(&mut self) {
        let vantage = self.agent.clone().expect("an agent looks");
        let now = self.now;
        let on_grid = now >= self.grid_at;
        if on_grid && !self.half || self.epoch == 0 {
            self.epoch += 1;
        }
        if on_grid {
            self.half = !self.half;
            while self.grid_at <= now {
                self.grid_at = self.grid_at.plus(LOOK_EVERY);
            }
        }
        self.soon_at = None;
        self.ripe_at = None;
        self.asked_at = Some(now);
        self.come_late();

        let due = |at: Option<Time>, every| at.is_none_or(|at| now.since(at) >= every);
        let all_varz = due(self.varz_at, secs(30));
        let all_routez = due(self.routez_at, secs(10));
        if all_varz {
            self.varz_at = Some(now);
        }
        if all_routez {
            self.routez_at = Some(now);
        }
        let accounts = due(self.accountz_at, secs(10));
        if accounts {
            self.accountz_at = Some(now);
        }
        let lacking: BTreeSet<Name> = self.roster.without_varz(now.minus(secs(60))).cloned().collect();
        let mut silent = self.roster.clusters_with_silence();
        if on_grid && self.half {
            silent.extend(self.roster.clusters_with_route_trouble());
        }
        let mut answered = BTreeSet::new();
        let own = self.nodes[&vantage].cluster.clone();
        let remotes: Vec<Name> = self.nodes[&vantage].dials.keys().cloned().collect();
        for remote in remotes {
            self.send(&vantage, &remote);
        }
        for name in self.names() {
            if self.is_asked(&name, &vantage) && self.nodes[&name].cluster != own {
                self.send(&name, &own);
            }
            if !self.answers(&name, &vantage) {
                continue;
            }
            self.node(&name).seq += 1;
            let info = self.info(&name);
            let mut facts = Vec::new();
            if !self.lost.remove(&name) {
                facts.push(Fact::Gatewayz(self.gatewayz(&name)));
            }
            if all_varz || lacking.contains(&info.id) {
                facts.push(Fact::Varz(Box::new(self.varz(&name))));
            }
            let told = self.muted.contains(&name);
            if !told && (all_routez || silent.contains(&self.nodes[&name].cluster)) {
                facts.push(Fact::Routez(self.routez(&name)));
            }
            if accounts {
                facts.push(Fact::Accountz(self.accountz.get(&name).cloned().unwrap_or_default()));
                facts.extend(self.jsz.get(&name).cloned().map(Fact::Jsz));
            }
            for fact in facts {
                if self.is_stuck(&info, &fact, &vantage) {
                    continue;
                }
                match self.noise.fate(&name, &fact) {
                    Fate::Lost => continue,
                    Fate::Late(looks) => {
                        self.delays.waiting.push((info.clone(), fact, now, looks));
                        continue;
                    }
                    Fate::InTime => {}
                }
                if let Some(looks) = self.delays.of.get(&name) {
                    self.delays.waiting.push((info.clone(), fact, now, *looks));
                    continue;
                }
                if matches!(fact, Fact::Gatewayz(_)) {
                    self.delays.told.forget(&info.id);
                    answered.insert(info.id.clone());
                }
                if self.doubled {
                    let _ = self.roster.answer(info.clone(), fact.clone(), now);
                }
                let _ = self.roster.answer(info.clone(), fact, now);
            }
        }
        let elsewhere = self.look_elsewhere(now);
        self.judge(&vantage, answered, elsewhere);
    }

    fn judge(&mut self, vantage: &Name, answered: BTreeSet<Name>, elsewhere: BTreeSet<Name>) {
        let now = self.now;
        let server_id = self.id(vantage);
        let settled = now.since(self.connected_at) >= UNSETTLED && answered.contains(&server_id);
        let mut snapshot = self.roster.snapshot(Look {
            epoch: self.epoch,
            asked_at: now,
            settled,
            vantage: Vantage {
                agent: "watch-1".into(),
                cluster: self.roster.cluster_of(&server_id),
                server: self.nodes[vantage].called.clone(),
                server_id,
                ways: Vec::new(),
            },
            late: self.delays.told_before(now, &answered),
            answered,
            elsewhere,
            observer: self.observer.clone(),
            lasts: Duration::ZERO,
            asked: BTreeMap::new(),
        });
        snapshot.expected.clone_from(&self.expected);
        if settled {
            let verdicts = super::super::evaluate(&snapshot, &self.settings, &self.ledger.watched());
            self.ripe_at = Ledger::next_ripe(&verdicts, now);
            let changes = self.ledger.step(Judgement {
                at: now,
                seen_at: now,
                is_glance: false,
                epoch: self.epoch,
                verdicts,
                settings: &self.settings,
                repeat_every: secs(3600),
            });
            assert_said_as_shipped(&snapshot, &changes);
            self.published.extend(changes);
        }
        self.snapshot = Some(snapshot);
        self.provoke(vantage);
    }
}
