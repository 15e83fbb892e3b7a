//! What is seen differs from what was written down.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, json};

use super::block::{URLS_MAX, quoted, told};
use super::verdict::{list, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{
    Cluster, Life, Link, LinkState, Members, Name, Remotes, Server, Sight, Snapshot, Tie, Time, is_name,
};

pub(super) struct TopologyDrift;

static MANUAL: Manual = Manual {
    slug: "topology_drift",
    code: "GW_010",
    severity: Severity::Warning,
    open_after: 2,
    resolve_after: 2,
    thresholds: &[
        Threshold {
            key: "absent_for",
            default: Value::Duration(Duration::from_secs(300)),
            range: (Value::Duration(Duration::ZERO), Value::Duration(Duration::from_secs(3600))),
            about: "how long an expected server or cluster may be away; a restart by lame duck takes minutes",
        },
        Threshold {
            key: "differs_for",
            default: Value::Duration(Duration::from_secs(30)),
            range: (Value::Duration(Duration::ZERO), Value::Duration(Duration::from_secs(3600))),
            about: "how long a server, cluster or remote that is not expected must be there, or an expected remote \
                    must be lacking",
        },
    ],
    detects: "What is seen differs from the expected topology.",
    matters: "Servers find each other by gossip, so a supercluster works on for a long time while it is no more \
              what somebody decided it to be: a server that was never started again, one that nobody knows of, a \
              remote that the configuration lost and gossip still connects. A file that was reviewed tells which \
              side is wrong; a comparison among the servers cannot, where all of them are wrong in one way.",
    decides: "Compares names with the file of `--expect` or `[expect]`: clusters, the servers of each, and the \
              remotes that each server has, by its configuration (VARZ) or by gossip only (GATEWAYZ). One finding \
              for each difference; for a remote that all servers of a cluster have or lack alike, one for the \
              cluster. What is expected must be away for `absent_for`, counted from the last sign of it, from the \
              agent's start, or from when its cluster began to answer. What is not expected must be there for \
              `differs_for`. `side` in the evidence is the side that has what the other lacks.",
    silent: "Without an expected topology. While a server restarts, and in lame duck. For what cannot be seen: an \
             unreachable cluster, a server that nobody can tell of, one whose configuration did not come yet. \
             Whether a configured remote is connected is the matter of other findings. For servers without a name \
             of their own. What a server that is missing, a cluster that is unreachable, a lost gateway, or a \
             difference inside a cluster already explains is not told again.",
    todo: "Decide which side is right. If the supercluster is, put the change into the file, and start the agent \
           anew: `gatewatch topology --format toml` writes the file as it would have to be now. If the file is, \
           put the server right: start or stop it, or change its gateway block and restart it, for a reload \
           refuses that.",
};

impl Check for TopologyDrift {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        let Some(expected) = snapshot.expected.as_deref() else { return Vec::new() };
        let links = snapshot.links.iter().map(|l| ((&*l.server_id, &*l.remote), l)).collect();
        let view = View { snapshot, settings, links };
        let mut verdicts = Vec::new();
        let names: BTreeSet<&Name> = expected.clusters.keys().chain(snapshot.clusters.keys()).collect();
        for name in names.into_iter().filter(|name| is_name(name)) {
            let members = expected.clusters.get(name);
            let presence = Presence::of(snapshot, name);
            if let Some(outcome) = view.judge_cluster(name, members.is_some(), presence) {
                verdicts.push(verdict(Entity { cluster: Some(name.clone()), ..Entity::default() }, outcome));
            }
            // What nobody expects, or is not there, has one finding for all that belongs to it.
            if let (Some(members), Presence::There, Some(cluster)) =
                (members, presence, snapshot.clusters.get(name))
            {
                view.judge_servers(name, cluster, members, &mut verdicts);
                view.judge_remotes(name, members, &mut verdicts);
            }
        }
        verdicts
    }

    /// In the file no more, and not there either.
    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let Some(expected) = snapshot.expected.as_deref() else { return Outcome::Gone };
        let Some(name) = &entity.cluster else { return Outcome::Unknown };
        let members = expected.clusters.get(name);
        let gone = match (members, &entity.server, &entity.remote) {
            (None, None, None) => Presence::of(snapshot, name) == Presence::Nowhere,
            (Some(_), None, None) => false,
            // Its cluster as a whole is what is not expected.
            (None, _, _) => true,
            (Some(members), Some(server), None) => {
                !members.servers.contains(server) && snapshot.servers_of(name).all(|s| s.info.name != *server)
            }
            (Some(members), Some(server), Some(_)) if !members.servers.contains(server) => true,
            (Some(members), server, Some(remote)) => {
                let has = |s: &Server| {
                    s.varz
                        .as_ref()
                        .and_then(|v| v.gateway.as_ref())
                        .is_some_and(|g| g.remotes.contains_key(remote))
                        || s.gatewayz.as_ref().is_some_and(|g| g.outbound.contains_key(remote))
                };
                let mut alive = snapshot
                    .servers_of(name)
                    .filter(|s| s.life == Life::Alive && server.as_ref().is_none_or(|n| s.info.name == *n))
                    .peekable();
                wanted(members).all(|other| other != remote)
                    && alive.peek().is_some()
                    && alive.all(|s| s.varz.is_some() && s.gatewayz.is_some() && !has(s))
            }
        };
        if gone { Outcome::Gone } else { Outcome::Unknown }
    }
}

fn verdict(entity: Entity, outcome: Outcome) -> Verdict {
    Verdict { check: MANUAL.slug, severity: MANUAL.severity, entity, outcome }
}

/// Every remote that the file has for any server of a cluster.
fn wanted(members: &Members) -> impl Iterator<Item = &Name> {
    std::iter::once(&members.remotes).chain(members.except.values()).flat_map(Remotes::names)
}

/// How a cluster shows itself.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Presence {
    /// A server of it answers or lives, or somebody has a connection with it.
    There,
    /// All of its servers said goodbye, the last one then.
    Left(Time),
    /// Its servers are silent.
    Hidden,
    /// No sign of it but its name, if that.
    Nowhere,
}

impl Presence {
    fn of(snapshot: &Snapshot, name: &str) -> Self {
        let Some(cluster) = snapshot.clusters.get(name) else { return Self::Nowhere };
        let lives = || snapshot.servers_of(name).any(|s| s.life == Life::Alive);
        if cluster.answered > 0 || !cluster.seen_by.is_empty() || lives() {
            Self::There
        } else if let Some(at) = cluster.left_at {
            Self::Left(at)
        } else if cluster.servers.is_empty() {
            Self::Nowhere
        } else {
            Self::Hidden
        }
    }
}

/// One difference, before it is put into words.
struct Drift<'a> {
    server: Option<&'a Server>,
    /// `server eu-1 of eu`
    what: String,
    expected: &'static str,
    seen: &'static str,
    /// Whether the file has what the supercluster lacks.
    in_file: bool,
    since: Time,
    patience: Duration,
    cause: Cause,
    impact: String,
    /// What to do where the file is right.
    right: Vec<Step>,
    /// What to do where the supercluster is.
    edit: String,
}

impl Drift<'_> {
    fn violation(self) -> Outcome {
        let side = if self.in_file { "expected file" } else { "supercluster" };
        let mut evidence = Map::new();
        evidence.insert("side".into(), json!(side));
        evidence.insert("expected".into(), json!(self.expected));
        evidence.insert("seen".into(), json!(self.seen));
        evidence.insert("since".into(), json!(self.since));
        let mut remediation = self.right;
        remediation.push(Step::by_hand(self.edit));
        remediation
            .push(Step::run("see the file as it would have to be now", "gatewatch topology --format toml"));
        Outcome::Violated(Box::new(Violation {
            since: self.since,
            ripe_at: self.since.plus(self.patience),
            summary: format!(
                "{} is {} and expected to be {}: it stands in the {side} only",
                self.what, self.seen, self.expected
            ),
            essence: format!("{} {}", self.expected, self.seen),
            cause: self.cause,
            impact: self.impact,
            evidence,
            remediation,
            server: self.server.filter(|s| !s.info.ver.is_empty()).map(|s| s.info.clone()),
            scope: Scope::Entity,
        }))
    }
}

struct View<'a> {
    snapshot: &'a Snapshot,
    settings: &'a Settings,
    /// By server ID and remote.
    links: BTreeMap<(&'a str, &'a str), &'a Link>,
}

/// How one server has a remote, against how it ought to.
enum Had<'a> {
    AsExpected,
    Unknown,
    Otherwise { server: &'a Server, want: Tie, have: Tie, since: Time },
}

impl<'a> View<'a> {
    fn absent_for(&self, cluster: &str) -> Duration {
        self.settings.duration("absent_for", Some(cluster), None)
    }

    fn differs_for(&self, cluster: &str, remote: Option<&str>) -> Duration {
        self.settings.duration("differs_for", Some(cluster), remote)
    }

    /// None where there is no such cluster, and none is expected.
    fn judge_cluster(&self, name: &'a Name, expected: bool, presence: Presence) -> Option<Outcome> {
        let at = self.snapshot.at;
        let cluster = short(name);
        let absent = |since: Time, detail| {
            Drift {
                server: None,
                what: format!("cluster {cluster}"),
                expected: "there",
                seen: "absent",
                in_file: true,
                since,
                patience: self.absent_for(name),
                cause: Cause::new(CauseKind::Unknown, Confidence::Possible, detail),
                impact: format!("nobody reaches what ought to run in {cluster}"),
                right: vec![Step::by_hand(format!(
                    "start the servers of {cluster}, with a `gateway` block of that name whose `gateways` list the \
                     other clusters"
                ))],
                edit: format!(
                    "if it was taken out of service, remove the `[[cluster]]` of {cluster} from the expected \
                     topology, and {cluster} from the `remotes` of the others"
                ),
            }
            .violation()
        };
        Some(match (expected, presence) {
            (true, Presence::There) => Outcome::Healthy,
            (true, Presence::Left(since)) => absent(
                since,
                format!("every server of it said goodbye, the last one at {}", since.to_the_second()),
            ),
            (true, Presence::Nowhere) => {
                let since = self.snapshot.began_at;
                let detail = format!(
                    "no server answers, is heard, or has a connection with one of it, since the agent began to look at {}",
                    since.to_the_second()
                );
                absent(since, detail)
            }
            (_, Presence::Hidden) => Outcome::Unknown,
            (false, Presence::There) => self.stranger(name),
            (false, Presence::Left(left_at)) if at.since(left_at) < self.absent_for(name) => Outcome::Unknown,
            (false, Presence::Left(_)) => Outcome::Gone,
            (false, Presence::Nowhere) => return None,
        })
    }

    fn stranger(&self, name: &'a Name) -> Outcome {
        let cluster = short(name);
        let servers: Vec<&Server> =
            self.snapshot.servers_of(name).filter(|s| s.life == Life::Alive).collect();
        let first = servers.iter().map(|s| s.first_seen_at).min().unwrap_or(self.snapshot.began_at);
        let names: Vec<&Name> = servers.iter().map(|s| &s.info.name).collect();
        Drift {
            server: None,
            what: format!("cluster {cluster}"),
            expected: "absent",
            seen: "there",
            in_file: false,
            since: first,
            patience: self.differs_for(name, None),
            cause: Cause::new(
                CauseKind::Unknown,
                Confidence::Possible,
                format!("seen since {}, with {}", first.to_the_second(), words(&names)),
            ),
            impact: format!("messages flow to and from {cluster}, which nobody wrote down"),
            right: vec![Step::by_hand(format!(
                "find out who runs {cluster}; stop its servers, change the gateway password, or set \
                 `reject_unknown_cluster: true` in every gateway block"
            ))],
            edit: format!("if it belongs here, add a `[[cluster]]` for {cluster} to the expected topology"),
        }
        .violation()
    }

    fn judge_servers(
        &self,
        name: &'a Name,
        cluster: &Cluster,
        members: &'a Members,
        verdicts: &mut Vec<Verdict>,
    ) {
        let mut lives: BTreeMap<&Name, Vec<&Server>> =
            members.servers.iter().map(|server| (server, Vec::new())).collect();
        for server in self.snapshot.servers_of(name).filter(|s| s.is_named()) {
            lives.entry(&server.info.name).or_default().push(server);
        }
        for (server, lives) in lives {
            let alive = lives.iter().find(|s| s.life == Life::Alive).copied();
            let present = alive.or_else(|| lives.first().copied());
            let entity = Entity {
                cluster: Some(name.clone()),
                server: Some(server.clone()),
                // A life that is over would be missed by an agent that starts again and reads of it.
                server_id: alive.map(|s| s.info.id.clone()),
                ..Entity::default()
            };
            let outcome = match present {
                Some(present) if !members.servers.contains(server) => self.judge_extra(name, present),
                _ => self.judge_expected(name, cluster, server, &lives),
            };
            verdicts.push(verdict(entity, outcome));
        }
    }

    /// A server that the file has.
    fn judge_expected(
        &self,
        name: &'a Name,
        cluster: &Cluster,
        server: &Name,
        lives: &[&'a Server],
    ) -> Outcome {
        if lives.iter().any(|s| s.life == Life::Alive) {
            return Outcome::Healthy;
        }
        let answering = || self.snapshot.servers_of(name).filter(|s| s.gatewayz.is_some());
        let unseen = cluster.answered == 0 || lives.iter().any(|s| s.life == Life::Unknown);
        let Some(answering_since) = cluster.answering_since.filter(|_| !unseen) else {
            return Outcome::Unknown;
        };
        let left = lives.iter().filter_map(|s| s.left_at).max();
        let silent = lives.iter().filter_map(|s| s.silent_since).max();
        let (since, cause) = if let Some(at) = left {
            let detail = format!("it said goodbye at {} and did not come back", at.to_the_second());
            (at, Cause::new(CauseKind::Unknown, Confidence::Possible, detail))
        } else if let Some(at) = silent {
            let detail = format!("it is silent since {}, and nobody has a route to it", at.to_the_second());
            (at, Cause::new(CauseKind::Unreachable, Confidence::Likely, detail))
        } else {
            // Somebody whose name has not come yet may be this one; and without routes nobody would name it.
            let nameless =
                self.snapshot.servers_of(name).any(|s| s.sight == Sight::Named && s.info.name == s.info.id);
            if nameless || !answering().any(|s| s.routez.is_some()) {
                return Outcome::Unknown;
            }
            let at = self.snapshot.began_at;
            let detail = format!(
                "no server of that name was seen since the agent began to look at {}; asked of {}",
                at.to_the_second(),
                words(answering().map(|s| &s.info.name))
            );
            (at, Cause::new(CauseKind::Unknown, Confidence::Possible, detail))
        };
        let (server, of) = (short(server), short(name));
        Drift {
            server: lives.first().copied(),
            what: format!("{server} ({of})"),
            expected: "there",
            seen: "absent",
            in_file: true,
            since: since.max(answering_since),
            patience: self.absent_for(name),
            cause,
            impact: format!("{of} has one server less than it ought to have"),
            right: vec![Step::by_hand(format!("start {server}, or look why it does not come up"))],
            edit: format!(
                "if it was taken out of service, remove {server} from the `servers` of {of} in the expected topology"
            ),
        }
        .violation()
    }

    /// A server that the file does not have.
    fn judge_extra(&self, name: &'a Name, server: &'a Server) -> Outcome {
        match server.life {
            Life::Alive => {}
            Life::Left => {
                let over =
                    server.left_at.is_some_and(|at| self.snapshot.at.since(at) >= self.absent_for(name));
                return if over { Outcome::Gone } else { Outcome::Unknown };
            }
            Life::Gone | Life::Unknown => return Outcome::Unknown,
        }
        let (of, since) = (short(name), server.first_seen_at);
        let server_name = short(&server.info.name);
        Drift {
            server: Some(server),
            what: format!("{server_name} ({of})"),
            expected: "absent",
            seen: "there",
            in_file: false,
            since,
            patience: self.differs_for(name, None),
            cause: Cause::new(
                CauseKind::Unknown,
                Confidence::Possible,
                format!("seen since {}; its peers are {}", since.to_the_second(), self.peers(name, server)),
            ),
            impact: format!("clients connect to {server_name}, which nobody wrote down"),
            right: vec![Step::by_hand(format!("find out who runs {server_name}, and stop it"))],
            edit: format!(
                "if it belongs here, add {server_name} to the `servers` of {of} in the expected topology"
            ),
        }
        .violation()
    }

    fn peers(&self, name: &str, server: &Server) -> String {
        let peers =
            self.snapshot.servers_of(name).filter(|s| s.life == Life::Alive && s.info.id != server.info.id);
        let names: Vec<&Name> = peers.map(|s| &s.info.name).collect();
        if names.is_empty() { "unknown".to_owned() } else { words(names) }
    }

    fn judge_remotes(&self, name: &'a Name, members: &'a Members, verdicts: &mut Vec<Verdict>) {
        let alive: Vec<&Server> = self
            .snapshot
            .servers_of(name)
            .filter(|s| s.life == Life::Alive && members.servers.contains(&s.info.name))
            .collect();
        let mut remotes: BTreeSet<&Name> = wanted(members).collect();
        for server in &alive {
            remotes
                .extend(server.varz.iter().filter_map(|v| v.gateway.as_ref()).flat_map(|g| g.remotes.keys()));
            remotes.extend(server.gatewayz.iter().flat_map(|g| g.outbound.keys()));
        }
        for remote in remotes.into_iter().filter(|remote| *remote != name && is_name(remote)) {
            let had: Vec<Had<'_>> = alive
                .iter()
                .map(|s| self.had(s, members.remotes_of(&s.info.name).tie(remote), remote))
                .collect();
            let whole =
                Entity { cluster: Some(name.clone()), remote: Some(remote.clone()), ..Entity::default() };
            verdicts.push(verdict(whole, self.judge_all(name, remote, &had)));
            for (server, had) in alive.iter().zip(&had) {
                let entity = Entity {
                    cluster: Some(name.clone()),
                    server: Some(server.info.name.clone()),
                    server_id: Some(server.info.id.clone()),
                    remote: Some(remote.clone()),
                    ..Entity::default()
                };
                verdicts.push(verdict(entity, self.judge_one(name, remote, had)));
            }
        }
    }

    fn had(&self, server: &'a Server, want: Tie, remote: &'a Name) -> Had<'a> {
        let link = self.links.get(&(&*server.info.id, &**remote)).copied();
        let outbound = server.gatewayz.as_ref().map(|g| g.outbound.get(remote).map(|o| o.configured));
        let listed = server
            .varz
            .as_ref()
            .map(|v| v.gateway.as_ref().is_some_and(|g| g.remotes.contains_key(remote)))
            .or_else(|| outbound.flatten());
        let connected = match link.map(|l| l.state) {
            Some(LinkState::Connected) => Some(true),
            Some(LinkState::Absent) => Some(false),
            Some(LinkState::Unknown) => None,
            None => outbound.map(|o| o.is_some()),
        };
        let (have, since) = match (listed, connected, want) {
            // A lost connection is the matter of other findings.
            (Some(true), Some(true), _) | (Some(true), _, Tie::None | Tie::Implicit) => {
                (Tie::Configured, server.first_seen_at)
            }
            (Some(false), Some(true), _) => (Tie::Implicit, server.first_seen_at),
            (Some(false), Some(false), Tie::Implicit) => match link.and_then(|l| l.absent_since) {
                // Who answers late may have it by now.
                Some(since) => (Tie::None, since.plus(self.snapshot.lag(&server.info.id))),
                None if link.is_some() => return Had::Unknown,
                None => (Tie::None, server.first_seen_at),
            },
            (Some(false), Some(false), _) => (Tie::None, server.first_seen_at),
            _ => return Had::Unknown,
        };
        if have == want { Had::AsExpected } else { Had::Otherwise { server, want, have, since } }
    }

    /// All servers of the cluster differ in the same way.
    fn judge_all(&self, name: &'a Name, remote: &'a Name, had: &[Had<'_>]) -> Outcome {
        let differ: Vec<(&Server, (Tie, Tie), Time)> = had
            .iter()
            .filter_map(|h| match h {
                Had::Otherwise { server, want, have, since } => Some((*server, (*want, *have), *since)),
                _ => None,
            })
            .collect();
        if had.iter().any(|h| matches!(h, Had::AsExpected)) {
            return Outcome::Healthy;
        }
        let Some((_, ties, _)) = differ.first().filter(|_| differ.len() == had.len()) else {
            return Outcome::Unknown;
        };
        if differ.iter().any(|(_, other, _)| other != ties) {
            return Outcome::Healthy;
        }
        // Of a cluster of one, the server's own finding says more.
        if differ.len() < 2 {
            return Outcome::Unknown;
        }
        let since = differ.iter().map(|(_, _, since)| *since).max().unwrap_or(self.snapshot.at);
        let servers: Vec<&Name> = differ.iter().map(|(s, _, _)| &s.info.name).collect();
        let mut outcome = self.otherwise(name, remote, None, *ties, since);
        if let Outcome::Violated(violation) = &mut outcome {
            violation.evidence.insert("servers".into(), list(&servers));
        }
        outcome
    }

    fn judge_one(&self, name: &'a Name, remote: &'a Name, had: &Had<'_>) -> Outcome {
        match had {
            Had::AsExpected => Outcome::Healthy,
            Had::Unknown => Outcome::Unknown,
            Had::Otherwise { server, want, have, since } => {
                self.otherwise(name, remote, Some(*server), (*want, *have), *since)
            }
        }
    }

    fn otherwise(
        &self,
        name: &'a Name,
        remote: &'a Name,
        server: Option<&Server>,
        (want, have): (Tie, Tie),
        since: Time,
    ) -> Outcome {
        let to = short(remote);
        let who =
            server.map_or_else(|| short(name), |s| format!("{} ({})", short(&s.info.name), short(name)));
        // Which side has what the other lacks: the remote, or else its place in the configuration.
        let in_file = match (want, have) {
            (Tie::None, _) | (Tie::Implicit, Tie::Configured) => false,
            (Tie::Configured | Tie::Implicit, _) => true,
        };
        let lists = if have == Tie::Configured { "lists" } else { "does not list" };
        let mut edit = format!("if {who} is right as it is, ");
        let _ = match have {
            Tie::Configured => write!(edit, "put {to} into the `remotes` of {}", short(name)),
            Tie::Implicit => write!(edit, "put {to} into the `implicit` of {}", short(name)),
            Tie::None => write!(edit, "take {to} out of the `remotes` and `implicit` of {}", short(name)),
        };
        edit.push_str(" in the expected topology");
        Drift {
            server,
            what: format!("remote {to} of {who}"),
            expected: word(want),
            seen: word(have),
            in_file,
            since,
            patience: self.differs_for(name, Some(remote)),
            cause: Cause::new(
                if want == Tie::Configured { CauseKind::NotConfigured } else { CauseKind::Unknown },
                Confidence::Certain,
                format!("the configuration of {who} {lists} {to}, as VARZ tells"),
            ),
            impact: match (want, have) {
                (Tie::Configured, Tie::Implicit) => {
                    format!("gossip connects {who} with {to} until its peers are gone; then it is cut off")
                }
                (_, Tie::None) => format!("what clients of {who} publish does not reach {to}"),
                _ => format!(
                    "messages pass as before; what runs between {who} and {to} is not what was written down"
                ),
            },
            right: self.put_right(remote, &who, want, have),
            edit,
        }
        .violation()
    }

    fn put_right(&self, remote: &Name, who: &str, want: Tie, have: Tie) -> Vec<Step> {
        let restart = Step::by_hand(format!(
            "restart each server of {who} that was changed, lame duck first: a reload refuses a change of the gateway \
             block (`config reload not supported for Gateway`)"
        ));
        let to = short(remote);
        match (want, have) {
            (Tie::Configured, _) => vec![
                Step::by_hand(format!(
                    "put this into the `gateways` of the gateway block of {who}, with the credentials and certificates \
                     that its other remotes have:\n{}",
                    self.entry(remote)
                )),
                restart,
            ],
            (_, Tie::Configured) => {
                vec![
                    Step::by_hand(format!("take {to} out of the `gateways` of the gateway block of {who}")),
                    restart,
                ]
            }
            (Tie::None, _) => vec![Step::by_hand(format!(
                "set `reject_unknown_cluster: true` in the gateway blocks of both clusters, and restart their servers: \
                 {who} knows {to} by gossip"
            ))],
            _ => vec![Step::by_hand(format!("see why nobody tells {who} of {to} any more"))],
        }
    }

    /// What a gateway block says of `remote`: the URLs that others list for it, else where its servers listen.
    fn entry(&self, remote: &Name) -> String {
        let listed = self
            .snapshot
            .servers
            .values()
            .filter_map(|s| s.varz.as_ref()?.gateway.as_ref()?.remotes.get(remote));
        let mut urls: BTreeSet<String> = listed.flatten().map(|url| format!("nats://{url}")).collect();
        if urls.is_empty() {
            urls = told(self.snapshot, remote).iter().map(|url| format!("nats://{url}")).collect();
        }
        if urls.is_empty() {
            urls.insert("nats://HOST:7222".to_owned());
        }
        let urls: Vec<String> = urls.iter().take(URLS_MAX).map(|url| quoted(url)).collect();
        format!("{{ name: {}, urls: [{}] }}", quoted(remote), urls.join(", "))
    }
}

const fn word(tie: Tie) -> &'static str {
    match tie {
        Tie::Configured => "configured",
        Tie::Implicit => "by gossip only",
        Tie::None => "absent",
    }
}

#[cfg(test)]
mod tests;
