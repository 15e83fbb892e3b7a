//! What must be found and what may be found, drawn from the truth about the servers and their gateways, which
//! no agent can see whole. It shares no code with the roster, the checks and the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::{Dial, Name, Power, STALE_AFTER, Time, World, ms, name, secs};
use crate::checks::Entity;
use crate::findings::Action;

/// What a finding can be about, by the numbers of servers and clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A server's gateway to a cluster.
    Link(usize, usize),
    /// All gateways of a cluster to another.
    Links(usize, usize),
    /// A cluster out of reach.
    Cluster(usize),
    /// A server missing.
    Server(usize),
    /// A server's gateway block.
    Config(usize),
    /// The gateway blocks of a cluster.
    Configs(usize),
    /// A server's gateway to a cluster that nothing passes.
    Silent(usize, usize),
    /// A cluster that exists in a misspelt configuration only, by the one that is meant.
    Ghost(usize),
    /// A server's gateway to such a cluster.
    GhostLink(usize),
    /// A server's gateway to a cluster that is made again and again.
    Flap(usize, usize),
    /// All gateways of a cluster to another that are.
    Flaps(usize, usize),
    /// A cluster that only gossip tells of another.
    Implicit(usize, usize),
    /// A server's version.
    Version(usize),
}

/// How soon after the truth changed a finding may still open: what is judged is half a second old, and routes
/// may be three.
const OPENS_WITHIN: Duration = secs(2);
/// How soon a finding ends once what it is about is well and can be seen to be: two epochs, and answers that
/// get lost.
const RESOLVES_WITHIN: Duration = secs(8);
/// How soon two findings of which one explains the other become one.
const EXPLAINED_WITHIN: Duration = secs(2);
/// How long a cause counts after its end.
const CAUSE_KEPT: Duration = secs(5);

/// Since when something holds without a break, and when it last had held for its time.
#[derive(Clone, Copy, Debug, Default)]
struct Spell {
    since: Option<Time>,
    last: Option<Time>,
}

impl Spell {
    fn set(&mut self, holds: bool, now: Time, at_least: Duration) {
        if holds {
            let since = *self.since.get_or_insert(now);
            if now.since(since) >= at_least {
                self.last = Some(now);
            }
        } else {
            self.since = None;
        }
    }

    fn lasts(&self, now: Time) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.since(since))
    }

    fn was(&self, now: Time, within: Duration) -> bool {
        self.last.is_some_and(|at| now.since(at) <= within)
    }
}

/// What is known of one subject.
#[derive(Debug)]
struct Account {
    subject: Subject,
    /// A fault explains a finding.
    may: Spell,
    /// A fault is in force that can be seen, and nothing that is open covers it.
    must: Spell,
    /// Nothing is wrong, and that can be seen.
    well: Spell,
    /// Something else that is open explains it.
    doubled: Spell,
    demanded: bool,
}

/// What the script did to the servers and links, which their state alone does not tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Deeds {
    /// When a fault of this link was last in force; by server and cluster.
    pub(super) link: BTreeMap<(usize, usize), Time>,
    /// The same, for a login that is refused.
    pub(super) login: BTreeMap<(usize, usize), Time>,
    /// The same, for a link that swallows what is sent.
    pub(super) hole: BTreeMap<(usize, usize), Time>,
    /// When the gateway block of a server was last another than its peers'.
    pub(super) config: BTreeMap<usize, Time>,
    /// Whose block is another now.
    pub(super) mismatched: BTreeMap<usize, bool>,
    /// Who said goodbye so that the agent heard it, and was not seen again.
    pub(super) left: BTreeMap<usize, Time>,
}

/// The truth of one moment.
struct Truth {
    now: Time,
    vantage: Option<(usize, usize)>,
    settled: bool,
    power: Vec<Power>,
    started_at: Vec<Time>,
    /// What a server sends arrives in the cluster.
    passes: Vec<Vec<bool>>,
    /// A connection is listed, whether anything passes or not.
    listed: Vec<Vec<bool>>,
    /// Has a gateway block.
    gateway: Vec<bool>,
    /// Has a gateway connection, to or from whomever.
    linked: Vec<bool>,
    /// A question of the agent comes there and its answer back.
    answers: Vec<bool>,
    heard: Vec<bool>,
}

impl Truth {
    fn up(&self, server: usize) -> bool {
        self.power[server] == Power::Up
    }

    fn down(&self, server: usize) -> bool {
        self.power[server] == Power::Down
    }

    fn age(&self, server: usize) -> Duration {
        self.now.since(self.started_at[server])
    }
}

pub(super) struct Reference {
    pub(super) servers: Vec<Name>,
    pub(super) clusters: Vec<Name>,
    pub(super) cluster_of: Vec<usize>,
    ids: BTreeMap<Name, usize>,
    old: Vec<bool>,
    /// Whether the servers of a cluster are of several versions.
    mixed: Vec<bool>,
    accounts: Vec<Account>,
    /// How long the agent has answers of this life of a server.
    known: Vec<(Name, Spell)>,
    down: Vec<Spell>,
    all_left: Vec<Spell>,
    /// The connection of each link, and when it was made anew in one life of its server.
    remade: BTreeMap<(usize, usize), (u64, Vec<Time>)>,
    seen: usize,
    /// How many faults lasted so long that a finding was due, and had it.
    pub(super) met: u64,
}

impl Reference {
    pub(super) fn of(world: &World) -> Self {
        let servers = world.names();
        let mut clusters: Vec<Name> = world.nodes.values().map(|n| n.cluster.clone()).collect();
        clusters.dedup();
        clusters.sort();
        clusters.dedup();
        let number = |cluster: &Name| clusters.iter().position(|c| c == cluster).expect("a cluster");
        let cluster_of: Vec<usize> = world.nodes.values().map(|n| number(&n.cluster)).collect();
        let mut subjects = Vec::new();
        for cluster in 0..clusters.len() {
            subjects.push(Subject::Cluster(cluster));
            subjects.push(Subject::Configs(cluster));
            subjects.push(Subject::Ghost(cluster));
            for remote in (0..clusters.len()).filter(|r| *r != cluster) {
                subjects.push(Subject::Links(cluster, remote));
                subjects.push(Subject::Flaps(cluster, remote));
                subjects.push(Subject::Implicit(cluster, remote));
            }
        }
        for (server, own) in cluster_of.iter().enumerate() {
            subjects.push(Subject::Server(server));
            subjects.push(Subject::Config(server));
            subjects.push(Subject::GhostLink(server));
            subjects.push(Subject::Version(server));
            subjects.extend((0..clusters.len()).filter(|r| r != own).map(|r| Subject::Silent(server, r)));
            subjects.extend((0..clusters.len()).filter(|r| r != own).map(|r| Subject::Flap(server, r)));
            subjects.extend((0..clusters.len()).filter(|r| r != own).map(|r| Subject::Link(server, r)));
        }
        let account = |subject| Account {
            subject,
            may: Spell::default(),
            must: Spell::default(),
            well: Spell::default(),
            doubled: Spell::default(),
            demanded: false,
        };
        Self {
            ids: BTreeMap::new(),
            mixed: clusters
                .iter()
                .map(|c| {
                    let of: BTreeSet<&Name> =
                        world.nodes.values().filter(|n| n.cluster == *c).map(|n| &n.ver).collect();
                    of.len() > 1
                })
                .collect(),
            old: world.nodes.values().map(|n| &*n.ver == "2.9.10").collect(),
            accounts: subjects.into_iter().map(account).collect(),
            known: vec![(Name::from(""), Spell::default()); servers.len()],
            down: vec![Spell::default(); servers.len()],
            all_left: vec![Spell::default(); clusters.len()],
            servers,
            clusters,
            cluster_of,
            remade: BTreeMap::new(),
            seen: 0,
            met: 0,
        }
    }

    pub(super) fn of_cluster(&self, cluster: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.servers.len()).filter(move |s| self.cluster_of[*s] == cluster)
    }

    /// The agent remembers nothing but its findings.
    pub(super) fn forget(&mut self) {
        for (id, spell) in &mut self.known {
            *id = "".into();
            *spell = Spell::default();
        }
    }

    fn truth(&self, world: &World) -> Truth {
        let nodes: Vec<_> = world.nodes.values().collect();
        let vantage = world
            .agent
            .as_ref()
            .and_then(|agent| self.servers.iter().position(|s| s == agent))
            .map(|server| (server, self.cluster_of[server]));
        let matrix = |f: &dyn Fn(usize, &Name) -> bool| -> Vec<Vec<bool>> {
            (0..nodes.len()).map(|s| self.clusters.iter().map(|c| f(s, c)).collect()).collect()
        };
        let passes = matrix(&|s, c| world.passes(&self.servers[s], c));
        let is_up = |dial: &Dial| {
            dial.up.as_ref().is_some_and(|(peer, id)| {
                let peer = &world.nodes[peer];
                peer.exists() && peer.id == *id
            })
        };
        let is_stale =
            |power: Power| matches!(power, Power::Stopped(at) if world.now.since(at) > STALE_AFTER);
        let power: Vec<Power> = nodes.iter().map(|n| n.power).collect();
        let own_up = vantage.is_some_and(|(v, _)| power[v] == Power::Up);
        let heard: Vec<bool> = (0..nodes.len())
            .map(|s| vantage.is_some_and(|(_, c)| power[s] == Power::Up && passes[s][c]))
            .collect();
        Truth {
            now: world.now,
            vantage,
            settled: own_up && world.now.since(world.connected_at) >= secs(3),
            answers: (0..nodes.len())
                .map(|s| own_up && heard[s] && vantage.is_some_and(|(v, _)| passes[v][self.cluster_of[s]]))
                .collect(),
            linked: nodes
                .iter()
                .map(|n| {
                    !is_stale(n.power) && n.dials.values().any(is_up)
                        || nodes.iter().any(|o| {
                            let mut far = o.dials.values().filter_map(|d| d.up.as_ref());
                            o.exists() && !is_stale(o.power) && far.any(|(_, id)| *id == n.id)
                        })
                })
                .collect(),
            listed: matrix(&|s, c| {
                nodes[s].exists() && !is_stale(nodes[s].power) && nodes[s].dials.get(c).is_some_and(is_up)
            }),
            started_at: nodes.iter().map(|n| n.started_at).collect(),
            gateway: nodes.iter().map(|n| n.gateway.is_some()).collect(),
            passes,
            power,
            heard,
        }
    }

    /// Holds what the agent said so far against the truth of now. The error is what is wrong.
    pub(super) fn sample(&mut self, world: &World, deeds: &mut Deeds) -> Result<(), String> {
        let truth = self.truth(world);
        for (server, node) in world.nodes.values().enumerate() {
            if !self.ids.contains_key(&node.id) {
                self.ids.insert(node.id.clone(), server);
            }
            let (id, spell) = &mut self.known[server];
            let reborn = *id != node.id;
            if reborn {
                *id = node.id.clone();
                *spell = Spell::default();
            }
            for (remote, dial) in node.dials.iter().filter(|(_, d)| d.up.is_some()) {
                let Some(r) = self.clusters.iter().position(|c| c == remote) else { continue };
                let (cid, times) = self.remade.entry((server, r)).or_default();
                if reborn {
                    times.clear();
                } else if *cid != dial.cid {
                    times.push(truth.now);
                    times.retain(|at| truth.now.since(*at) < secs(610));
                }
                *cid = dial.cid;
            }
            // Known stays known.
            if spell.last.is_none() {
                spell.set(truth.answers[server] && truth.settled, truth.now, ms(2500));
            }
            if truth.up(server) && (truth.answers[server] || truth.heard[server]) {
                deeds.left.remove(&server);
            }
            // The goodbye was that of the life before.
            let fell = matches!(truth.power[server], Power::Stopped(_) | Power::Down);
            if fell && deeds.left.get(&server).is_some_and(|at| *at < node.started_at) {
                deeds.left.remove(&server);
            }
            self.down[server].set(truth.down(server), truth.now, Duration::ZERO);
        }
        for cluster in 0..self.clusters.len() {
            let all = self.of_cluster(cluster).all(|s| deeds.left.contains_key(&s) && !truth.up(s));
            self.all_left[cluster].set(all, truth.now, Duration::ZERO);
        }
        let open = self.open(world)?;
        let mut accounts = std::mem::take(&mut self.accounts);
        let mut wrong = self.opened(world, &truth, &mut accounts, deeds);
        for account in &mut accounts {
            if let (Ok(()), Err(why)) = (&wrong, self.weigh(account, &truth, deeds, &open)) {
                wrong = Err(why);
            }
        }
        self.accounts = accounts;
        self.seen = world.published.len();
        wrong
    }

    /// Whatever opened has an explanation in the truth.
    fn opened(
        &self,
        world: &World,
        truth: &Truth,
        accounts: &mut [Account],
        deeds: &Deeds,
    ) -> Result<(), String> {
        for account in accounts.iter_mut() {
            let (may, at_least) = self.may(account.subject, truth, deeds);
            account.may.set(may, truth.now, at_least);
        }
        for change in world.published.iter().skip(self.seen).filter(|c| c.action == Action::Opened) {
            let subject = self.subject(&change.finding.check, &change.finding.entity)?;
            let account = accounts.iter().find(|a| a.subject == subject).expect("every subject has one");
            if !account.may.was(truth.now, OPENS_WITHIN) {
                return Err(format!("no fault makes this finding: {}", name(&change.finding)));
            }
        }
        Ok(())
    }

    /// What is open.
    fn open(&self, world: &World) -> Result<Vec<Subject>, String> {
        world.ledger.open().map(|f| self.subject(&f.check, &f.entity)).collect()
    }

    fn subject(&self, check: &str, entity: &Entity) -> Result<Subject, String> {
        let number =
            |name: &Option<Name>| name.as_ref().and_then(|name| self.clusters.iter().position(|c| c == name));
        let server = entity.server.as_ref().and_then(|name| {
            self.servers.iter().position(|s| s == name).or_else(|| self.ids.get(name).copied())
        });
        let ghost =
            |name: &Option<Name>| self.clusters.iter().position(|c| name.as_deref() == Some(&misspelt(c)));
        if let ("cluster_unreachable", Some(c)) = (check, ghost(&entity.cluster)) {
            return Ok(Subject::Ghost(c));
        }
        if let ("gateway_stale_remote" | "gateway_implicit", Some(c)) = (check, ghost(&entity.remote)) {
            return Ok(Subject::Ghost(c));
        }
        if let ("gateway_disconnected", Some(c)) = (check, ghost(&entity.remote)) {
            return Ok(server.map_or(Subject::Ghost(c), Subject::GhostLink));
        }
        match (check, number(&entity.cluster), entity.server.is_some(), server, number(&entity.remote)) {
            ("gateway_disconnected", Some(_), true, Some(s), Some(r)) => Ok(Subject::Link(s, r)),
            ("gateway_disconnected", Some(c), false, _, Some(r)) => Ok(Subject::Links(c, r)),
            ("gateway_silent", Some(_), true, Some(s), Some(r)) => Ok(Subject::Silent(s, r)),
            ("gateway_flapping", Some(_), true, Some(s), Some(r)) => Ok(Subject::Flap(s, r)),
            ("gateway_flapping", Some(c), false, _, Some(r)) => Ok(Subject::Flaps(c, r)),
            ("gateway_implicit", Some(c), false, _, Some(r)) => Ok(Subject::Implicit(c, r)),
            ("version_skew", Some(_), true, Some(s), None) => Ok(Subject::Version(s)),
            ("cluster_unreachable", Some(c), false, _, None) => Ok(Subject::Cluster(c)),
            ("server_missing", Some(_), true, Some(s), None) => Ok(Subject::Server(s)),
            ("gateway_config_mismatch", Some(_), true, Some(s), None) => Ok(Subject::Config(s)),
            ("gateway_config_mismatch", Some(c), false, _, None) => Ok(Subject::Configs(c)),
            _ => Err(format!("nothing here can be what {check} tells of: {entity:?}")),
        }
    }

    fn weigh(
        &mut self,
        account: &mut Account,
        truth: &Truth,
        deeds: &Deeds,
        open: &[Subject],
    ) -> Result<(), String> {
        let subject = account.subject;
        let now = truth.now;
        let is_open = open.contains(&subject);
        let covered = open.iter().any(|o| self.covers(*o, subject) || self.may_cover(*o, subject));

        account.well.set(
            is_open && !account.may.was(now, ms(500)) && self.well(subject, truth, deeds),
            now,
            Duration::ZERO,
        );
        if account.well.lasts(now) > RESOLVES_WITHIN {
            return Err(format!(
                "{} is over for {:?} and can be seen to be, and its finding is still open",
                self.tell(subject),
                account.well.lasts(now)
            ));
        }
        account.doubled.set(
            is_open
                && !self.is_stranger(subject)
                && open.iter().any(|o| *o != subject && self.covers(*o, subject)),
            now,
            Duration::ZERO,
        );
        if account.doubled.lasts(now) > EXPLAINED_WITHIN {
            return Err(format!(
                "{} has a finding of its own beside one that explains it: {:?}",
                self.tell(subject),
                open.iter().map(|o| self.tell(*o)).collect::<Vec<_>>()
            ));
        }
        let (must, bound) = self.must(subject, truth, deeds);
        if must && covered && account.must.lasts(now) > Duration::ZERO && !account.demanded {
            self.met += 1;
            account.demanded = true;
        }
        if !must {
            account.demanded = false;
        }
        account.must.set(must && !covered, now, Duration::ZERO);
        if account.must.lasts(now) > bound {
            return Err(format!(
                "{} lasts for {:?} where the agent can see it, and no finding tells of it; open are {:?}",
                self.tell(subject),
                account.must.lasts(now),
                open.iter().map(|o| self.tell(*o)).collect::<Vec<_>>()
            ));
        }
        Ok(())
    }

    pub(super) fn tell(&self, subject: Subject) -> String {
        match subject {
            Subject::Link(s, c) => format!("the gateway {}→{}", self.servers[s], self.clusters[c]),
            Subject::Links(a, b) => format!("all gateways {}→{}", self.clusters[a], self.clusters[b]),
            Subject::Cluster(c) => format!("the cluster {}", self.clusters[c]),
            Subject::Server(s) => format!("the server {}", self.servers[s]),
            Subject::Config(s) => format!("the gateway block of {}", self.servers[s]),
            Subject::Configs(c) => format!("the gateway blocks of {}", self.clusters[c]),
            Subject::Silent(s, c) => format!("the silent gateway {}→{}", self.servers[s], self.clusters[c]),
            Subject::Flap(s, c) => format!("the flapping gateway {}→{}", self.servers[s], self.clusters[c]),
            Subject::Flaps(a, b) => format!("flapping gateways {}→{}", self.clusters[a], self.clusters[b]),
            Subject::Implicit(a, b) => format!("gossip {}→{}", self.clusters[a], self.clusters[b]),
            Subject::Version(s) => format!("the version of {}", self.servers[s]),
            Subject::Ghost(c) => format!("the misspelt cluster {}", self.clusters[c]),
            Subject::GhostLink(s) => format!("the misspelt gateway of {}", self.servers[s]),
        }
    }

    /// Whether a finding about the one says enough about the other.
    fn covers(&self, by: Subject, of: Subject) -> bool {
        use Subject::{Cluster, Link, Links, Server, Silent};
        if by == of {
            return true;
        }
        let at = |s: usize| self.cluster_of[s];
        match (by, of) {
            (Links(a, b), Link(s, r)) => at(s) == a && r == b || at(s) == b && r == a && a < b,
            (Links(a, b), Links(c, d)) => (a, b) == (d, c) && a < b,
            (Cluster(c), Server(s)) => at(s) == c,
            (Server(x), Link(s, _)) | (Silent(x, _), Server(s)) => x == s,
            (Silent(x, y), Link(s, r)) => (x, y) == (s, r),
            _ => false,
        }
    }

    /// Whether it is a gateway of a life that only the routes of an old server tell of: without its name.
    fn is_stranger(&self, subject: Subject) -> bool {
        let Subject::Link(s, _) = subject else { return false };
        self.known[s].1.last.is_none() && self.of_cluster(self.cluster_of[s]).any(|p| self.old[p])
    }

    /// Whether it may, depending on what exactly is wrong there.
    fn may_cover(&self, by: Subject, of: Subject) -> bool {
        use Subject::{Cluster, Config, Configs, Link, Links, Silent};
        let ends = match of {
            Link(s, r) | Silent(s, r) => [self.cluster_of[s], r],
            Links(c, r) => [c, r],
            Cluster(c) => [c, c],
            _ => return false,
        };
        match by {
            Silent(s, r) => matches!(of, Cluster(c) if c == r || c == self.cluster_of[s]),
            Cluster(c) | Configs(c) => ends.contains(&c),
            Config(s) => ends.contains(&self.cluster_of[s]) && !matches!(of, Cluster(_)),
            _ => false,
        }
    }

    /// Who runs there with a gateway that can be dialled.
    fn lives(&self, truth: &Truth, cluster: usize) -> bool {
        self.of_cluster(cluster).any(|s| truth.up(s) && truth.gateway[s])
    }

    fn config_near(&self, truth: &Truth, deeds: &Deeds, cluster: usize) -> bool {
        self.of_cluster(cluster).any(|s| caused(deeds.config.get(&s), truth.now))
    }

    /// Whether some fault made it that nobody serves a cluster: not everyone said goodbye.
    fn fell(&self, truth: &Truth, deeds: &Deeds, cluster: usize) -> bool {
        !self.lives(truth, cluster) && self.of_cluster(cluster).any(|s| !deeds.left.contains_key(&s))
    }

    /// Whether the truth explains a finding, once it has held for the time that is told with it.
    fn may(&self, subject: Subject, truth: &Truth, deeds: &Deeds) -> (bool, Duration) {
        let now = truth.now;
        match subject {
            Subject::Link(s, r) => {
                let cause = caused(deeds.link.get(&(s, r)), now)
                    || caused(deeds.config.get(&s), now)
                    || self.config_near(truth, deeds, r)
                    || self.fell(truth, deeds, r);
                let login = caused(deeds.login.get(&(s, r)), now);
                // One that hangs, or ends and was not heard to say so, makes no link anew.
                let hangs = !truth.up(s) && !truth.down(s) && !deeds.left.contains_key(&s);
                // The far end drops one that hangs after 41 s.
                let dropped = matches!(truth.power[s], Power::Stopped(at) if now.since(at) > STALE_AFTER);
                (
                    !truth.passes[s][r] && (truth.up(s) && cause || hangs) || dropped,
                    if login { Duration::ZERO } else { ms(1500) },
                )
            }
            Subject::Links(c, r) => {
                let mut at_least = ms(1500);
                let mut any = false;
                for s in self.of_cluster(c) {
                    let (may, time) = self.may(Subject::Link(s, r), truth, deeds);
                    if !may && truth.up(s) {
                        return (false, at_least);
                    }
                    // Of what is left when the others said goodbye.
                    let rest = !truth.up(s) && caused(deeds.link.get(&(s, r)), now);
                    any |= may || rest;
                    if rest {
                        at_least = Duration::ZERO;
                    }
                    at_least = at_least.min(time);
                }
                (any, at_least)
            }
            Subject::Cluster(c) => {
                let Some((v, own)) = truth.vantage else { return (false, ms(1500)) };
                if own == c {
                    return (false, ms(1500));
                }
                let mute = self.of_cluster(c).all(|s| !truth.up(s) || !truth.passes[s][own]);
                let severed = mute && (!truth.passes[v][c] || !self.lives(truth, c));
                let swallowed = self.of_cluster(c).any(|s| caused(deeds.hole.get(&(s, own)), now));
                let linked = caused(deeds.link.get(&(v, c)), now)
                    || self.config_near(truth, deeds, c)
                    || self.config_near(truth, deeds, own)
                    || self.fell(truth, deeds, c);
                if self.all_left[c].since.is_some() {
                    (severed && self.all_left[c].lasts(now) >= secs(175), Duration::ZERO)
                } else {
                    let at_least = if severed { ms(1500) } else { unheard(v, c, truth, deeds) };
                    (mute && (linked || swallowed), at_least)
                }
            }
            Subject::Server(s) => {
                // A goodbye that the agent did not hear is none.
                let fell = !truth.up(s) && !deeds.left.contains_key(&s);
                // From here one that is not heard cannot always be told from one that hangs.
                let swallowed = truth
                    .vantage
                    .filter(|(_, own)| !truth.passes[s][*own] && caused(deeds.hole.get(&(s, *own)), now));
                let at_least = swallowed
                    .filter(|_| !fell)
                    .map_or(ms(4000), |(v, _)| unheard(v, self.cluster_of[s], truth, deeds));
                (fell || swallowed.is_some(), at_least)
            }
            Subject::Config(s) => {
                let c = self.cluster_of[s];
                let here = caused(deeds.config.get(&s), now);
                // A server that is cut off or hangs from the start cannot be told from one without a block.
                let nowhere = !truth.down(s)
                    && !truth.linked[s]
                    && (matches!(truth.power[s], Power::Stopped(_))
                        || (0..self.clusters.len()).any(|r| caused(deeds.link.get(&(s, r)), now)));
                (here || nowhere || self.split(truth, deeds, c), Duration::ZERO)
            }
            Subject::Configs(c) | Subject::Implicit(c, _) => (self.split(truth, deeds, c), Duration::ZERO),
            Subject::Silent(s, r) => {
                let hole = truth.up(s) && !truth.passes[s][r] && caused(deeds.hole.get(&(s, r)), now);
                (hole, ms(1500))
            }
            Subject::Flap(s, r) => (self.remade(s, r, now) >= 3, Duration::ZERO),
            Subject::Flaps(c, r) => (self.of_cluster(c).any(|s| self.remade(s, r, now) >= 3), Duration::ZERO),
            Subject::Version(s) => (self.mixed[self.cluster_of[s]], Duration::ZERO),
            // A name that all of a cluster's configurations have which can be asked for.
            Subject::Ghost(_) => {
                ((0..self.clusters.len()).any(|c| self.split(truth, deeds, c)), Duration::ZERO)
            }
            Subject::GhostLink(s) => (caused(deeds.config.get(&s), now), Duration::ZERO),
        }
    }

    /// How often a link was made anew in ten minutes.
    fn remade(&self, server: usize, remote: usize, now: Time) -> usize {
        let times = self.remade.get(&(server, remote)).map(|(_, times)| times);
        times.into_iter().flatten().filter(|at| now.since(**at) < secs(610)).count()
    }

    /// Whether no more of the servers that run have the block that all should have than have another.
    fn split(&self, truth: &Truth, deeds: &Deeds, cluster: usize) -> bool {
        let runs: Vec<usize> = self.of_cluster(cluster).filter(|s| !truth.down(*s)).collect();
        let other = runs.iter().filter(|s| caused(deeds.config.get(s), truth.now)).count();
        other > 0 && other * 2 >= runs.len()
    }

    /// Whether the agent can see that nothing is wrong.
    fn well(&self, subject: Subject, truth: &Truth, deeds: &Deeds) -> bool {
        if !truth.settled {
            return false;
        }
        let answers = |s: usize| truth.answers[s] && truth.age(s) > secs(1);
        match subject {
            Subject::Link(s, r) => answers(s) && truth.passes[s][r] || deeds.left.contains_key(&s),
            Subject::Links(c, r) => self.of_cluster(c).any(|s| answers(s) && truth.passes[s][r]),
            Subject::Cluster(c) => {
                truth.vantage.is_some_and(|(_, own)| own == c) || self.of_cluster(c).any(answers)
            }
            Subject::Server(s) => answers(s) || deeds.left.contains_key(&s),
            Subject::Config(s) => {
                answers(s) && self.all_well(truth, deeds, self.cluster_of[s]) || deeds.left.contains_key(&s)
            }
            Subject::Configs(c) => self.all_well(truth, deeds, c),
            // These are held to their end at the end of the history only.
            Subject::Flap(..) | Subject::Flaps(..) | Subject::Version(_) | Subject::Implicit(..) => false,
            Subject::Silent(s, r) => {
                answers(s) && truth.passes[s][r] && self.of_cluster(r).all(answers)
                    || deeds.left.contains_key(&s)
            }
            Subject::Ghost(_) => (0..self.clusters.len()).all(|c| self.all_well(truth, deeds, c)),
            Subject::GhostLink(s) => self.all_well(truth, deeds, self.cluster_of[s]),
        }
    }

    fn all_well(&self, truth: &Truth, deeds: &Deeds, cluster: usize) -> bool {
        self.of_cluster(cluster)
            .all(|s| truth.answers[s] && !deeds.mismatched.get(&s).copied().unwrap_or_default())
    }

    /// Whether a finding is due after the time that is told with it, for the truth is bad, and nothing keeps the
    /// agent from seeing that.
    fn must(&self, subject: Subject, truth: &Truth, deeds: &Deeds) -> (bool, Duration) {
        let Some((v, own)) = truth.vantage.filter(|_| truth.settled) else { return (false, secs(8)) };
        let mismatched = |s: usize| deeds.mismatched.get(&s).copied().unwrap_or_default();
        let any_mismatch = |c: usize| self.of_cluster(c).any(mismatched);
        let known = |s: usize| self.known[s].1.last.is_some();
        match subject {
            Subject::Link(s, r) => {
                let c = self.cluster_of[s];
                let absent = truth.up(s) && truth.age(s) > secs(6) && !truth.listed[s][r];
                let there = self.of_cluster(r).any(|p| {
                    truth.up(p) && known(p) && !deeds.left.contains_key(&p) && truth.age(p) > secs(4)
                });
                let plain = !any_mismatch(c) && !any_mismatch(r);
                let near = truth.answers[s];
                let far = r == own
                    && known(s)
                    && self.of_cluster(c).any(|p| p != s && truth.answers[p])
                    && self.all_speak(truth, deeds, own);
                (absent && there && plain && (near || far), secs(9))
            }
            Subject::Links(..)
            | Subject::Configs(_)
            | Subject::Ghost(_)
            | Subject::GhostLink(_)
            | Subject::Flap(..)
            | Subject::Flaps(..)
            | Subject::Implicit(..)
            | Subject::Version(_) => (false, secs(9)),
            Subject::Silent(s, r) => {
                let hole = truth.up(s)
                    && truth.listed[s][r]
                    && !truth.passes[s][r]
                    && deeds.hole.get(&(s, r)).is_some_and(|at| truth.now.since(*at) <= secs(1));
                let both = truth.answers[s] && self.of_cluster(r).all(|p| truth.answers[p]);
                // The agent's own gateway: heartbeats are asked for by another way.
                let around = s == v
                    && self.of_cluster(own).any(|p| p != s && truth.up(p) && truth.passes[p][r])
                    && self.of_cluster(r).all(|p| truth.heard[p] && known(p));
                let due = if s == v { secs(9) } else { secs(if self.old[s] { 38 } else { 18 }) };
                (hole && (both || around), due)
            }
            Subject::Cluster(c) => {
                let listed = truth.listed[v][c] || self.of_cluster(c).any(|s| truth.listed[s][own]);
                let known = self.of_cluster(c).any(|s| known(s) && !deeds.left.contains_key(&s));
                let plain = !any_mismatch(c) && !any_mismatch(own);
                let dark = c != own && !listed && known && plain && self.all_speak(truth, deeds, own);
                (dark, secs(8))
            }
            Subject::Server(s) => {
                let c = self.cluster_of[s];
                let told = self.of_cluster(c).any(|p| p != s && truth.answers[p]);
                // The routes of an old server tell of a peer, and not that it is another one.
                let stranger = self.of_cluster(c).any(|p| p != s && !truth.down(p) && !known(p))
                    && self.of_cluster(c).any(|p| self.old[p]);
                let fell = truth.down(s) && !deeds.left.contains_key(&s) && known(s) && told && !stranger;
                let hearable = c == own || truth.listed[s][own] && truth.passes[v][c];
                let hangs = matches!(truth.power[s], Power::Stopped(_)) && known(s) && told && hearable;
                let due = if self.old[s] { secs(45) } else { secs(15) };
                (fell || hangs, if fell { secs(11) } else { due + secs(6) })
            }
            Subject::Config(s) => {
                let c = self.cluster_of[s];
                let plain = self.of_cluster(c).filter(|p| truth.answers[*p] && !mismatched(*p)).count();
                let odd = self.of_cluster(c).filter(|p| mismatched(*p)).count();
                (mismatched(s) && truth.answers[s] && odd == 1 && plain >= 2, secs(8))
            }
        }
    }

    /// Whether each server of a cluster answers, or is known to be gone.
    fn all_speak(&self, truth: &Truth, deeds: &Deeds, cluster: usize) -> bool {
        self.of_cluster(cluster).all(|s| {
            truth.answers[s]
                || truth.down(s) && (deeds.left.contains_key(&s) || self.down[s].lasts(truth.now) > secs(5))
        })
    }
}

/// How long nothing must have come from a cluster before its heartbeats are overdue, at 15 s after the last.
/// Who could be asked until then was heard to the end; of others the last one may be 10 s older.
fn unheard(vantage: usize, cluster: usize, truth: &Truth, deeds: &Deeds) -> Duration {
    let asked = deeds.link.get(&(vantage, cluster)).is_none_or(|at| truth.now.since(*at) > secs(15));
    if truth.passes[vantage][cluster] && asked { secs(12) } else { ms(4000) }
}

/// How a misspelt configuration calls a cluster.
pub(super) fn misspelt(cluster: &str) -> String {
    format!("{cluster}{cluster}")
}

fn caused(at: Option<&Time>, now: Time) -> bool {
    at.is_some_and(|at| now.since(*at) <= CAUSE_KEPT)
}
