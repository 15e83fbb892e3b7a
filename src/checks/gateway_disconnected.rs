//! A server has no gateway to a remote cluster that it ought to have.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::verdict::{ask_gateways, list, millis, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{Life, Link, LinkState, Name, Server, Sight, Snapshot, Time};

/// Who was first seen this soon after the agent began may be old.
const SETTLING: Duration = Duration::from_secs(3);
/// A process younger than this is starting: it dials its remotes 1 s after its start, and has patience of its own.
const STARTING: Duration = Duration::from_secs(5);
/// So long a server may go on meeting one of a doubled name by chance, a dial a second.
const REFUSED_BY_A_DOUBLE: Duration = Duration::from_secs(10);
/// Routes are asked for within ten seconds, and tell the names of those who have not spoken themselves.
const NAMED_WITHIN: Duration = Duration::from_secs(15);
/// One heartbeat in ten seconds is usual; this many in five are one at each dial.
const HEARTBEATS_OF_A_DIALLER: usize = 3;

pub(super) struct GatewayDisconnected;

static MANUAL: Manual = Manual {
    slug: "gateway_disconnected",
    code: "CLUSTER_007",
    severity: Severity::Critical,
    open_after: 1,
    resolve_after: 2,
    thresholds: &[Threshold {
        key: "absent_for",
        default: Value::Duration(Duration::from_millis(2500)),
        range: (Value::Duration(Duration::from_millis(1500)), Value::Duration(Duration::from_secs(3600))),
        about: "how long a link must be absent; a server dials again after 1.0 to 1.15 s by itself",
    }],
    detects: "A server has no outbound gateway to a remote cluster that it ought to have.",
    matters: "A server sends to a remote cluster over its own gateway only; a message that came to it by a route \
              never leaves by a gateway. Without the gateway, what its clients publish does not reach subscribers \
              in that cluster, and publishing gives no error. Their requests to services there get `no responders`, \
              and their answers to requests from there are lost. Clients of the other servers of the same cluster \
              notice nothing. No version has an advisory for it.",
    decides: "GATEWAYZ lists only the gateways that are up, so a lost one is simply absent. A link is expected when \
              the server's configuration (VARZ) lists the remote, when a server of that name was connected to it \
              and the remote still exists, when every other server of the cluster has it, or when the remote has a \
              gateway to a cluster that cannot answer, for then each server there dials back. It is a finding when \
              it was absent in two looks or more over `absent_for`, also when it was never up; where the remote \
              tells that it refused the login (CLIENT.AUTH.ERR), two looks are enough. A server that cannot \
              answer, because it lost the way to our own cluster, is judged by the far end: every server there \
              answered, and none has a connection from it. The cause comes from the advisory of the remote, from \
              the heartbeat that a server sends each time a dial gets through, from the configuration before and \
              after, and from who else still sees the remote. Where every server of both clusters answers and none \
              has a connection with the other cluster, the cut path is certain.",
    silent: "For the second that every reconnect takes, and while a server or the remote restarts. For servers \
             that said goodbye. When neither end can be asked. When a bigger finding explains it: the remote \
             cluster is unreachable, the configuration differs from its peers, the server itself is missing. When \
             all servers of a cluster lost the remote there is one finding, for the cluster.",
    todo: "Follow the cause. `path_cut`, `unreachable`: test the way from that host to the remote's gateway ports \
           (firewall, security group, address in the configuration). `auth_rejected`: the user and password in the \
           URLs of the remote must be those of `gateway.authorization` over there; where a URL has none, the \
           server presents its own. `tls_or_name_rejected`: compare the TLS blocks and the cluster names; the log \
           of either side names the reason. `config_removed`, `not_configured`: put the remote into the \
           `gateways` list. A change of the gateway block needs a restart of the server: a reload refuses it.",
};

impl Check for GatewayDisconnected {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, watched: &Watched<'_>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let absent = |link: &Link| link.state == LinkState::Absent;
        for ((cluster, remote), links) in watched.pairs(MANUAL.slug, &snapshot.links, absent) {
            let group = Group { snapshot, cluster, remote, links: &links };
            let absent_for = settings.duration("absent_for", Some(cluster), Some(remote));
            verdicts.extend(links.iter().map(|link| {
                let entity = Entity {
                    cluster: Some(cluster.clone()),
                    server: Some(link.server.clone()),
                    server_id: Some(link.server_id.clone()),
                    remote: Some(remote.clone()),
                    ..Entity::default()
                };
                verdict(entity, group.judge(link, absent_for))
            }));
            let entity =
                Entity { cluster: Some(cluster.clone()), remote: Some(remote.clone()), ..Entity::default() };
            verdicts.push(verdict(entity, group.judge_all(absent_for)));
        }
        // A server that left takes its links with it.
        for server in snapshot.servers.values().filter(|s| s.life == Life::Left) {
            let known = snapshot.clusters.keys().filter(|remote| &***remote != server.cluster());
            verdicts.extend(known.map(|remote| {
                let entity = Entity {
                    cluster: server.info.cluster.clone(),
                    server: Some(server.info.name.clone()),
                    server_id: Some(server.info.id.clone()),
                    remote: Some(remote.clone()),
                    ..Entity::default()
                };
                verdict(entity, Outcome::Gone)
            }));
        }
        verdicts
    }

    fn is_seen_at_a_glance(&self) -> bool {
        true
    }

    /// Nothing expects the link any more, where those who would have it answer and none of them lists it.
    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let (Some(cluster), Some(remote)) = (&entity.cluster, &entity.remote) else {
            return Outcome::Unknown;
        };
        let mut of_entity = snapshot
            .servers_of(cluster)
            .filter(|s| s.life != Life::Left)
            .filter(|s| entity.server.as_ref().is_none_or(|name| s.info.name == *name))
            .peekable();
        let lists = |s: &Server| {
            let config = s.varz.as_ref().and_then(|v| v.gateway.as_ref());
            config.is_some_and(|g| g.remotes.contains_key(remote))
        };
        let all = of_entity.peek().is_some()
            && of_entity.all(|s| s.gatewayz.is_some() && s.varz.is_some() && !lists(s));
        if all { Outcome::Gone } else { Outcome::Unknown }
    }
}

fn verdict(entity: Entity, outcome: Outcome) -> Verdict {
    Verdict { check: MANUAL.slug, severity: MANUAL.severity, entity, outcome }
}

/// Why a link ought to be there.
#[derive(Clone, Copy, PartialEq)]
enum Expected {
    Configured,
    WasConnected,
    PeersHaveIt,
    /// The remote has a gateway to its cluster, which makes any server dial back.
    RemoteHasOne,
    No,
}

impl Expected {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::WasConnected => "was_connected",
            Self::PeersHaveIt => "peers_have_it",
            Self::RemoteHasOne => "remote_has_one",
            Self::No => "no",
        }
    }
}

/// The links of one cluster to one remote.
struct Group<'a> {
    snapshot: &'a Snapshot,
    cluster: &'a Name,
    remote: &'a Name,
    links: &'a [&'a Link],
}

impl Group<'_> {
    fn judge(&self, link: &Link, absent_for: Duration) -> Outcome {
        match link.state {
            LinkState::Connected => Outcome::Healthy,
            LinkState::Unknown => Outcome::Unknown,
            // A new life is seen by its connections before its name is known, which its peers tell a moment
            // later: the finding must carry the name from its start.
            LinkState::Absent if self.is_nameless(link) && self.may_be_named(link) => Outcome::Unknown,
            // Nobody who knows its name can be asked: the cluster as a whole has the finding.
            LinkState::Absent if self.is_nameless(link) && self.is_dark() => Outcome::Unknown,
            LinkState::Absent => {
                let expected = self.expected(link);
                if expected == Expected::No {
                    return Outcome::Gone;
                }
                match (self.remote_leaves(), self.absent_since(link)) {
                    (false, Some(since)) => {
                        let mut violation = self.lost(link, since, expected, absent_for);
                        if let Some(back_since) = self.back_since().filter(|back| *back > since) {
                            violation.ripe_at = back_since.plus(violation.ripe_at.since(since));
                            violation.since = back_since;
                        }
                        Outcome::Violated(Box::new(violation))
                    }
                    _ => Outcome::Unknown,
                }
            }
        }
    }

    /// All servers of the cluster lost the remote.
    fn judge_all(&self, absent_for: Duration) -> Outcome {
        let links: Vec<&&Link> = self.links.iter().filter(|l| self.expected(l) != Expected::No).collect();
        if links.iter().any(|l| l.state == LinkState::Connected) {
            return Outcome::Healthy;
        }
        if links.is_empty() {
            return Outcome::Gone;
        }
        let since: Option<Vec<Time>> = links
            .iter()
            .map(|l| (l.state == LinkState::Absent).then(|| self.absent_since(l)).flatten())
            .collect();
        let (Some(since), Some(first)) = (since, links.first()) else { return Outcome::Unknown };
        // Of a cluster of one, the server's own finding says more, where its name is known.
        let unnamed = self.is_dark() && links.iter().all(|l| self.is_nameless(l));
        if (since.len() < 2 && !unnamed) || self.remote_leaves() {
            return Outcome::Unknown;
        }
        let each: Vec<Violation> = links
            .iter()
            .zip(&since)
            .map(|(link, since)| self.lost(link, *since, self.expected(link), absent_for))
            .collect();
        let Some(mut whole) = each.first().cloned() else { return Outcome::Unknown };
        whole.since = since.iter().copied().max().unwrap_or(whole.since);
        whole.ripe_at = each.iter().map(|v| v.ripe_at).max().unwrap_or(whole.ripe_at);
        let servers: Vec<&Name> = links.iter().map(|l| &l.server).collect();
        let same = each.iter().all(|v| v.cause.kind == whole.cause.kind);
        if !same {
            let kinds = each.iter().zip(&servers).map(|(v, s)| format!("{s}: {}", v.cause.kind.as_str()));
            whole.cause = Cause::new(CauseKind::Unknown, Confidence::Possible, words(kinds));
        }
        if whole.cause.kind == CauseKind::PathCut && self.is_parted() {
            whole.cause = Cause::new(
                CauseKind::PathCut,
                Confidence::Certain,
                format!(
                    "every server of {} and of {} answers, and none has a connection with the other cluster; no refused \
                     login was told of",
                    short(self.cluster),
                    short(self.remote)
                ),
            );
        }
        whole.summary = format!(
            "no server of {} has a gateway to {}: {}",
            short(self.cluster),
            short(self.remote),
            words(&servers)
        );
        whole.impact = format!(
            "nothing that clients in {cluster} publish reaches subscribers in {remote}, and publishing gives no \
             error; requests to services there get `no responders`",
            cluster = short(self.cluster),
            remote = short(self.remote)
        );
        whole.evidence.insert("servers".into(), list(&servers));
        whole.essence =
            format!("{} {:?} {}", whole.cause.kind.as_str(), whole.cause.confidence, servers.len());
        if first.server_id.is_empty() || servers.len() > 1 {
            whole.server = None;
        }
        Outcome::Violated(Box::new(whole))
    }

    fn expected(&self, link: &Link) -> Expected {
        if link.configured == Some(true) {
            return Expected::Configured;
        }
        if link.ever_connected_at.is_some() && self.remote_exists() {
            return Expected::WasConnected;
        }
        let mut peers = self.links.iter().filter(|l| l.server_id != link.server_id).peekable();
        if peers.peek().is_some() && peers.all(|l| l.state == LinkState::Connected) {
            return Expected::PeersHaveIt;
        }
        // Who answers tells its configuration; of a cluster that cannot there is only this.
        let reached = self.is_dark() && self.is_reached_by_the_remote();
        if reached { Expected::RemoteHasOne } else { Expected::No }
    }

    fn is_reached_by_the_remote(&self) -> bool {
        let back = |l: &Link| l.remote == *self.cluster && l.near && l.state == LinkState::Connected;
        self.snapshot.links_from(self.remote).any(back)
    }

    /// Both clusters are seen from within, whole, and neither has a connection with the other.
    fn is_parted(&self) -> bool {
        let lacks = |s: &Server, other: &Name| {
            s.gatewayz
                .as_ref()
                .is_some_and(|g| !g.outbound.contains_key(other) && g.inbound.peers_of(other).len() == 0)
        };
        let whole = |of: &Name, other: &Name| {
            let mut servers = self.snapshot.servers_of(of).filter(|s| s.may_run()).peekable();
            servers.peek().is_some() && servers.all(|s| lacks(s, other))
        };
        whole(self.cluster, self.remote) && whole(self.remote, self.cluster)
    }

    /// Only others spoke of it, by its ID. A server without a configured name says itself that its ID is one.
    fn is_nameless(&self, link: &Link) -> bool {
        let named = self.snapshot.servers.get(&link.server_id).is_some_and(|s| s.sight == Sight::Named);
        named && link.server == link.server_id
    }

    /// No server of the cluster answers.
    fn is_dark(&self) -> bool {
        self.snapshot.clusters.get(self.cluster).is_none_or(|c| c.answered == 0)
    }

    /// Its peers answer, and were not all asked for their routes yet.
    fn may_be_named(&self, link: &Link) -> bool {
        let first_seen_at = self.snapshot.servers.get(&link.server_id).map(|s| s.first_seen_at);
        self.snapshot.clusters.get(self.cluster).is_some_and(|c| c.answered > 0)
            && first_seen_at.is_some_and(|at| self.snapshot.at.since(at) < NAMED_WITHIN)
    }

    /// Since when the server that dials has been without the link. Told by the far end, that may be its death: a
    /// sign of life since then decides.
    fn absent_since(&self, link: &Link) -> Option<Time> {
        let since = link.absent_since?;
        let own = self.snapshot.servers.get(&link.server_id);
        let lives = |s: &Server| !s.named_by.is_empty() || s.last_sign_at().is_some_and(|at| at > since);
        (link.near || own.is_some_and(lives)).then_some(since)
    }

    /// Since when one of them has the remote that none had before: the others dial anew as well, and come back one by
    /// one.
    fn back_since(&self) -> Option<Time> {
        let connected = self.links.iter().filter(|l| l.state == LinkState::Connected);
        connected.filter_map(|l| l.connected_since).min()
    }

    /// A server of the remote refuses whoever has a server of its own name in the cluster, and a dial finds it by
    /// chance: it takes a few more until one finds another.
    fn shares_a_name(&self) -> bool {
        let alive = |cluster| self.snapshot.servers_of(cluster).filter(|s| s.life == Life::Alive);
        let names: BTreeSet<&Name> = alive(self.cluster).map(|s| &s.info.name).collect();
        alive(self.remote).any(|s| names.contains(&s.info.name))
    }

    fn remote_exists(&self) -> bool {
        self.snapshot.servers_of(self.remote).any(|s| s.life == Life::Alive)
            || self.snapshot.clusters.get(self.remote).is_some_and(|c| !c.seen_by.is_empty())
    }

    /// Every server of the remote said goodbye: whether that is a fault, the cluster's own check tells.
    fn remote_leaves(&self) -> bool {
        self.snapshot.clusters.get(self.remote).is_some_and(|c| c.left_at.is_some())
    }

    fn lost(&self, link: &Link, since: Time, expected: Expected, absent_for: Duration) -> Violation {
        // Who answers late may have the link by now: what counts is what it told.
        let lag = if link.near { self.snapshot.lag(&link.server_id) } else { Duration::ZERO };
        let at = self.snapshot.at;
        let cause = self.cause(link);
        let patience = if link.rejected.is_some() { Duration::ZERO } else { absent_for };
        let mut ripe_at = since.plus(patience);
        if self.shares_a_name() {
            ripe_at = ripe_at.max(since.plus(REFUSED_BY_A_DOUBLE));
        }
        if cause.kind == CauseKind::Restarting
            && let Some(own) = self.snapshot.servers.get(&link.server_id)
        {
            ripe_at = ripe_at.max(own.first_seen_at.plus(STARTING));
        }
        ripe_at = ripe_at.plus(lag);
        if link.absent_looks < 2 {
            ripe_at = ripe_at.max(at.plus(Duration::from_nanos(1)));
        }
        let others = self.links.iter().filter(|l| l.server_id != link.server_id);
        let connected: Vec<&Name> =
            others.filter(|l| l.state == LinkState::Connected).map(|l| &l.server).collect();
        let total = self.links.len().saturating_sub(1);
        let (cluster, remote, server) = (short(self.cluster), short(self.remote), short(&link.server));
        let rest = match (connected.len(), total) {
            (_, 0) => String::new(),
            (0, _) => format!("; none of the {total} other servers in {cluster} is seen to have one"),
            (n, _) => format!("; {n} of {total} other servers in {cluster} still do"),
        };
        let mut evidence = Map::new();
        evidence.insert("absent_ms".into(), millis(at.minus(lag).since(since)));
        evidence.insert("absent_looks".into(), json!(link.absent_looks));
        evidence.insert("configured".into(), json!(link.configured));
        evidence.insert("expected_because".into(), json!(expected.as_str()));
        evidence
            .insert("seen_from".into(), json!(if link.near { "the server itself" } else { "the far end" }));
        evidence.insert("peers_connected".into(), list(&connected));
        evidence.insert("peers_total".into(), json!(total));
        evidence.insert("last_connected_at".into(), json!(link.ever_connected_at));
        evidence.insert("rejected_by".into(), json!(link.rejected.as_ref().map(|r| short(&r.by))));
        evidence.insert("remote_servers".into(), self.remote_servers());
        Violation {
            since,
            ripe_at,
            summary: format!("{server} ({cluster}) has no gateway to {remote}{rest}"),
            impact: format!(
                "what clients of {server} publish does not reach subscribers in {remote}, and publishing gives no \
                 error; requests to services there get `no responders`"
            ),
            essence: format!("{} {:?} {connected:?}", cause.kind.as_str(), cause.confidence),
            remediation: self.remediation(link, cause.kind),
            cause,
            evidence,
            server: self.snapshot.servers.get(&link.server_id).map(|s| s.info.clone()),
            scope: Scope::Entity,
        }
    }

    fn remote_servers(&self) -> Json {
        let (mut answer, mut other): (BTreeSet<&Name>, BTreeSet<&Name>) = Default::default();
        for server in self.snapshot.servers_of(self.remote) {
            let names = if server.gatewayz.is_some() { &mut answer } else { &mut other };
            names.insert(&server.info.name);
        }
        json!({ "answering": list(answer), "not_answering": list(other) })
    }

    fn cause(&self, link: &Link) -> Cause {
        use CauseKind as K;
        use Confidence::{Certain, Likely, Possible};
        let (server, remote) = (short(&link.server), short(self.remote));
        if let Some(rejected) = &link.rejected {
            let by = short(&rejected.by);
            let detail = format!("{by} refused the login of {server} at {}", rejected.at.to_the_second());
            return Cause::new(K::AuthRejected, Certain, detail);
        }
        let own = self.snapshot.servers.get(&link.server_id);
        if let Some(own) = own
            && link.connected_at.is_none()
            && self.snapshot.at.since(own.first_seen_at) < STARTING
            && own.first_seen_at > self.snapshot.began_at.plus(SETTLING)
        {
            let detail = format!("{server} was first seen at {}", own.first_seen_at.to_the_second());
            return Cause::new(K::Restarting, Likely, detail);
        }
        if link.configured == Some(false) && link.connected_at.is_none() && link.ever_connected_at.is_some() {
            let detail = format!(
                "{server} was connected until {}, and its configuration does not list {remote} now",
                link.ever_connected_at.map(Time::to_the_second).unwrap_or_default()
            );
            return Cause::new(K::ConfigRemoved, Certain, detail);
        }
        if link.configured == Some(false) && link.ever_connected_at.is_none() {
            let detail =
                format!("the configuration of {server} does not list {remote}; its peers have the link");
            return Cause::new(K::NotConfigured, Likely, detail);
        }
        let witnesses = self.witnesses(link);
        if witnesses.is_empty() && !self.remote_exists() {
            let detail = format!("no server that answers has a connection to or from {remote}");
            return Cause::new(K::RemoteClusterDown, Possible, detail);
        }
        if let Some(heartbeats) = own.map(|s| s.heartbeats).filter(|n| self.dials_through(*n)) {
            let detail = format!(
                "{server} sent {heartbeats} heartbeats in the last 5 s: it sends one each time that a dial gets \
                 through, and the connection is not accepted then"
            );
            return Cause::new(K::TlsOrNameRejected, Likely, detail);
        }
        let seen = if witnesses.is_empty() {
            format!("{remote} is alive: its servers are heard")
        } else {
            format!("{remote} is alive: connections to or from it at {}", words(&witnesses))
        };
        let refused = "no refused login was told of";
        if let Some(was) = link.ever_connected_at {
            let detail = format!("last seen connected at {}; {seen}; {refused}", was.to_the_second());
            return Cause::new(K::PathCut, Likely, detail);
        }
        Cause::new(K::Unreachable, Likely, format!("never seen connected; {seen}; {refused}"))
    }

    /// Other servers that have a connection to or from the remote: peers and third clusters.
    fn witnesses(&self, link: &Link) -> Vec<String> {
        let seen_by = self.snapshot.clusters.get(self.remote).map(|c| &c.seen_by);
        let names = seen_by.into_iter().flatten().flat_map(|(_, names)| names.iter());
        names.filter(|name| **name != link.server).map(|name| short(name)).collect()
    }

    /// Whether this many heartbeats are those of a server that dials and is sent away: more than others send,
    /// for a server that joins makes all of them send one.
    fn dials_through(&self, heartbeats: usize) -> bool {
        let mut usual: Vec<usize> = self.snapshot.servers.values().map(|s| s.heartbeats).collect();
        usual.sort_unstable();
        let median = usual.get(usual.len() / 2).copied().unwrap_or(0);
        heartbeats >= HEARTBEATS_OF_A_DIALLER + median.min(HEARTBEATS_OF_A_DIALLER)
    }

    fn remediation(&self, link: &Link, cause: CauseKind) -> Vec<Step> {
        let (server, remote) = (short(&link.server), short(self.remote));
        let mut steps = Vec::new();
        match cause {
            CauseKind::AuthRejected => steps.push(Step::by_hand(format!(
                "put the user and password of `gateway.authorization` of the servers in {remote} into the URLs of \
                 `gateways: [{{name: {remote}}}]` on {server}, then restart {server}: a reload refuses a change of the \
                 gateway block"
            ))),
            CauseKind::TlsOrNameRejected => steps.push(Step::by_hand(format!(
                "compare `gateway.tls` and the gateway names of {server} and {remote}; the logs of both name the \
                 reason beside `TLS gateway handshake error` or `Failing connection to gateway`"
            ))),
            CauseKind::ConfigRemoved | CauseKind::NotConfigured => steps.push(Step::by_hand(format!(
                "put {remote} into `gateway.gateways` on {server}, as its peers have it, and restart it (lame duck \
                 first): a reload refuses a change of the gateway block"
            ))),
            CauseKind::RemoteClusterDown => {
                steps.push(Step::by_hand(format!("see whether the servers of {remote} run")));
            }
            _ => {
                steps.push(Step::by_hand(format!(
                    "test the way from the host of {server} to the gateway ports of {remote}: firewall, security \
                     group, routing, a proxy between"
                )));
                steps.extend(self.endpoints(link).into_iter().take(3).map(|(host, port)| {
                    Step::run(format!("on the host of {server}"), format!("nc -vz {host} {port}"))
                }));
            }
        }
        steps.extend(ask_gateways(&link.server, &link.server_id));
        steps
    }

    /// Where the server would dial: what it lists for the remote, else what the remote's servers tell.
    fn endpoints(&self, link: &Link) -> Vec<(String, u16)> {
        let listed = self
            .snapshot
            .servers
            .get(&link.server_id)
            .and_then(|s| s.varz.as_ref()?.gateway.as_ref()?.remotes.get(self.remote).cloned())
            .unwrap_or_default();
        let told = self.snapshot.servers_of(self.remote).filter_map(|s| {
            let gatewayz = s.gatewayz.as_ref()?;
            Some(Name::from(format!("{}:{}", gatewayz.host.as_ref()?, gatewayz.port?)))
        });
        let mut all: Vec<(String, u16)> = listed.iter().filter_map(|url| endpoint(url)).collect();
        if all.is_empty() {
            all = told.filter_map(|url| endpoint(&url)).collect();
        }
        all
    }
}

/// Host and port of `host:port`, if a shell could take them as they are.
fn endpoint(url: &str) -> Option<(String, u16)> {
    let (host, port) = url.rsplit_once(':')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty() && !host.starts_with('-') && host.chars().all(plain))
        .then_some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::example::{EVERYWHERE, THREE, Trial, World, ms, secs};
    use super::*;

    /// It has never heard from there, and knows the servers by their IDs only.
    #[test]
    fn who_comes_after_a_whole_cluster_lost_its_way_to_ours_finds_it() {
        let of = |servers| [("eu", servers), ("us", servers), ("ap", servers)];
        for (clusters, from) in
            [(of(1).as_slice(), "eu-0"), (of(3).as_slice(), "eu-1"), (&[("eu", 2), ("us", 1)], "eu-0")]
        {
            let mut world = World::unwatched(clusters, 1);
            world.run(secs(5));
            for server in world.names().iter().filter(|name| name.starts_with("us")) {
                world.cut(server, "eu");
            }
            world.run(secs(5));
            world.watch(from);
            world.run(secs(60));
            let open = world.open();
            assert!(open.len() == 1 && open[0].starts_with("gateway_disconnected us→eu "), "{open:?}");
            world.heal();
            world.run(secs(60));
            let story = world.take_story();
            assert!(story.len() == 2 && world.open().is_empty(), "{clusters:?}: {story:?}");
        }
    }

    fn trial<'a>(opens: &'a [&'a str]) -> Trial<'a> {
        Trial { of: THREE, from: EVERYWHERE, opens, within: ms(3000), lasts: secs(30) }
    }

    #[test]
    fn a_cut_link_is_one_finding_within_3_s_from_each_cluster() {
        trial(&["gateway_disconnected us/us-1→eu path_cut"]).holds(|w| w.cut("us-1", "eu"), World::heal);
        trial(&["gateway_disconnected ap/ap-2→us path_cut"]).holds(|w| w.cut("ap-2", "us"), World::heal);
    }

    #[test]
    fn a_cut_at_the_agents_own_server_is_one_finding_though_a_whole_cluster_goes_dark() {
        trial(&["gateway_disconnected eu/eu-0→us path_cut"]).holds(|w| w.cut("eu-0", "us"), World::heal);
    }

    #[test]
    fn a_refused_login_is_told_within_2_s_with_its_cause() {
        let trial = Trial { within: ms(2000), ..trial(&["gateway_disconnected us/us-1→eu auth_rejected"]) };
        trial.holds(|w| w.refuse_login("us-1", "eu"), World::heal);
    }

    #[test]
    fn a_server_that_is_turned_away_in_the_handshake_shows_itself_by_its_heartbeats() {
        for vantage in ["us-0", "ap-0"] {
            let mut world = World::seen_from(vantage);
            world.refuse_handshake("us-1", "eu");
            world.run(secs(15));
            assert_eq!(world.open(), ["gateway_disconnected us/us-1→eu tls_or_name_rejected"]);
        }
    }

    #[test]
    fn when_all_servers_of_a_cluster_lose_a_remote_there_is_one_finding() {
        trial(&["gateway_disconnected us→eu path_cut"])
            .holds(|w| ["us-0", "us-1", "us-2"].iter().for_each(|s| w.cut(s, "eu")), World::heal);
        trial(&["gateway_disconnected us→eu auth_rejected"])
            .holds(|w| ["us-0", "us-1", "us-2"].iter().for_each(|s| w.refuse_login(s, "eu")), World::heal);
    }

    #[test]
    fn two_clusters_that_lost_each_other_are_one_finding_seen_from_a_third() {
        Trial { from: &["ap-0", "ap-2"], ..trial(&["gateway_disconnected eu→us path_cut"]) }
            .holds(|w| w.partition("eu", "us"), World::heal);
    }

    #[test]
    fn a_server_cut_off_from_two_clusters_is_two_findings() {
        trial(&["gateway_disconnected us/us-1→ap path_cut", "gateway_disconnected us/us-1→eu path_cut"])
            .holds(
                |w| {
                    w.cut("us-1", "eu");
                    w.cut("us-1", "ap");
                },
                World::heal,
            );
    }

    #[test]
    fn small_superclusters_are_judged_alike() {
        for of in [&[("eu", 3), ("us", 3)][..], &[("eu", 1), ("us", 1)], &[("eu", 1), ("us", 2)]] {
            // With no third cluster it takes a look at the routes to know that a server lives.
            let trial = |opens| Trial { of, from: &["eu-0"], within: ms(3500), ..trial(opens) };
            trial(&["gateway_disconnected eu/eu-0→us path_cut"]).holds(|w| w.cut("eu-0", "us"), World::heal);
            trial(&["gateway_disconnected us/us-0→eu path_cut"]).holds(|w| w.cut("us-0", "eu"), World::heal);
            trial(&["gateway_disconnected us/us-0→eu auth_rejected"])
                .holds(|w| w.refuse_login("us-0", "eu"), World::heal);
        }
    }

    #[test]
    fn the_finding_says_enough_to_judge_it_without_asking_again() {
        let mut world = World::seen_from("eu-0");
        world.cut("us-1", "eu");
        world.run(secs(5));
        let finding = world.ledger.open().next().expect("one is open").clone();
        let keys: Vec<&str> = finding.evidence.keys().map(String::as_str).collect();
        for key in ["absent_ms", "configured", "peers_connected", "peers_total"] {
            assert!(keys.contains(&key), "the contract names {key}; there are {keys:?}");
        }
        assert_eq!(finding.evidence["peers_connected"], json!(["us-0", "us-2"]));
        assert_eq!(
            finding.evidence["seen_from"], "the far end",
            "gateways are one hop: us-1 cannot answer eu"
        );
        assert_eq!(finding.evidence["configured"], true);
        assert_eq!(finding.summary, "us-1 (us) has no gateway to eu; 2 of 2 other servers in us still do");
        assert!(
            finding.cause.detail.contains("eu is alive: connections to or from it at ap-0"),
            "{}",
            finding.cause.detail
        );
        let runs: Vec<&str> = finding.remediation.iter().filter_map(|s| s.run.as_deref()).collect();
        assert!(runs.contains(&"nc -vz eu.example 7222"), "{runs:?}");
        assert!(runs.contains(&&*format!("nats req '$SYS.REQ.SERVER.{}.GATEWAYZ' ''", world.id("us-1"))));
        assert_eq!(finding.server.expect("it introduced itself").name, world.info("us-1").name);
    }

    #[test]
    fn a_finding_outlives_the_restart_of_its_server_while_the_fault_lasts() {
        for vantage in EVERYWHERE {
            let mut world = World::seen_from(vantage);
            world.cut("us-1", "eu");
            world.run(secs(10));
            world.restart("us-1");
            world.run(secs(15));
            assert_eq!(world.open(), ["gateway_disconnected us/us-1→eu path_cut"], "{:?}", world.story());
            world.heal();
            world.run(secs(10));
            assert_eq!(world.open(), [""; 0]);
            world.assert_in_order();
        }
    }

    #[test]
    fn a_link_whose_server_dies_is_explained_by_that() {
        let mut world = World::seen_from("eu-0");
        world.cut("us-1", "eu");
        world.run(secs(10));
        world.kill("us-1");
        world.run(secs(20));
        world.heal();
        world.start("us-1");
        world.run(secs(10));
        assert_eq!(
            world.story(),
            [
                "opened gateway_disconnected us/us-1→eu path_cut",
                "opened server_missing us/us-1 unreachable",
                "resolved gateway_disconnected us/us-1→eu explained",
                "resolved server_missing us/us-1",
            ]
        );
    }

    #[test]
    fn a_lame_ducks_links_go_with_it() {
        let mut world = World::seen_from("us-0");
        world.cut("us-1", "eu");
        world.run(secs(10));
        world.take_story();
        world.lame_duck("us-1");
        world.run(secs(5));
        assert_eq!(world.take_story(), ["resolved gateway_disconnected us/us-1→eu gone"]);
    }

    #[test]
    fn a_link_that_left_the_configuration_and_exists_nowhere_is_gone() {
        let mut world = World::seen_from("us-0");
        world.settings.get_mut("gateway_stale_remote").expect("it would explain this").enabled = false;
        let remotes = |add: bool| {
            move |w: &mut World| {
                for server in ["us-1", "us-2", "us-0"] {
                    w.reconfigure(server, |g| {
                        let remotes = &mut g.as_mut().expect("a block").remotes;
                        if add {
                            remotes.insert("zz".into(), ["zz.example:7222".into()].into());
                        } else {
                            remotes.remove("zz");
                        }
                    });
                    w.run(secs(3));
                }
            }
        };
        remotes(true)(&mut world);
        world.run(secs(10));
        assert_eq!(world.open(), ["gateway_disconnected us→zz remote_cluster_down"]);
        remotes(false)(&mut world);
        world.run(secs(10));
        assert_eq!(world.open(), [""; 0], "nothing expects us→zz: {:?}", world.story());
        world.assert_in_order();
    }

    #[test]
    fn a_remote_removed_from_the_configuration_is_named_as_the_cause_where_gossip_does_not_help() {
        let mut world = World::seen_from("us-0");
        world.partition("us", "eu");
        for server in ["us-1", "us-2", "us-0"] {
            world.reconfigure(server, |g| {
                g.as_mut().expect("a block").remotes.remove("eu");
            });
            world.run(secs(3));
        }
        world.run(secs(10));
        let causes: Vec<Cause> = world
            .view()
            .links
            .iter()
            .filter(|l| &*l.cluster == "us" && &*l.remote == "eu")
            .map(|link| {
                let group = Group {
                    snapshot: world.view(),
                    cluster: &link.cluster,
                    remote: &link.remote,
                    links: &[link],
                };
                group.cause(link)
            })
            .collect();
        assert_eq!(causes.len(), 3, "they were connected once, and eu exists");
        assert!(causes.iter().all(|c| c.kind == CauseKind::ConfigRemoved), "{causes:?}");
        assert!(causes.iter().all(|c| c.confidence == Confidence::Certain), "VARZ says so");
    }

    #[test]
    fn only_what_a_shell_takes_as_it_is_becomes_a_command() {
        assert_eq!(endpoint("eu.example:7222"), Some(("eu.example".into(), 7222)));
        assert_eq!(endpoint("[2001:db8::1]:7222"), Some(("2001:db8::1".into(), 7222)));
        for odd in ["", ":7222", "host", "host:", "host:99999", "a b:1", "$(id):1", "-x:1", "a;b:1", "a'b:1"]
        {
            assert_eq!(endpoint(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn a_link_to_a_lame_duck_stands_until_that_ends_also_where_only_the_far_end_tells() {
        for seed in 1..6 {
            let mut world = World::of(&[("eu", 2), ("us", 2), ("ap", 2)], "eu-0", seed);
            world.cut("us-1", "eu");
            world.run(secs(5));
            assert_eq!(world.take_story(), ["opened gateway_disconnected us/us-1→eu path_cut"]);
            let far = world.peer("us-1", "ap").expect("us-1 has a gateway to ap");
            world.lame_duck(&far);
            world.run(secs(30));
            assert_eq!(world.story(), [""; 0], "seed {seed}");
        }
    }

    #[test]
    fn those_who_come_back_one_after_another_have_not_lost_it_again() {
        let mut world = World::seen_from("us-0");
        for (server, back_after) in [("eu-0", 4000), ("eu-1", 2000), ("eu-2", 4000)] {
            world.reset(server, "ap", ms(back_after));
        }
        world.run(secs(10));
        assert_eq!(world.story(), [""; 0]);
        // One that does not come back is told of all the same.
        for (server, back_after) in [("eu-0", 2000), ("eu-1", 2000), ("eu-2", 20_000)] {
            world.reset(server, "ap", ms(back_after));
        }
        world.run(secs(7));
        assert_eq!(world.take_story(), ["opened gateway_disconnected eu/eu-2→ap path_cut"]);
    }

    #[test]
    fn a_server_that_dies_where_it_cannot_be_asked_has_not_lost_its_gateways_and_is_missed_later() {
        let mut world = World::seen_from("eu-0");
        world.ways.alone = true;
        world.cut("eu-0", "us");
        world.run(secs(20));
        world.kill("us-1");
        world.run(secs(30));
        let open = world.open();
        assert!(open.iter().all(|line| !line.contains("us-1")), "nobody can tell: {open:?}");
        world.heal();
        world.run(secs(25));
        assert_eq!(world.open(), ["server_missing us/us-1 unreachable"]);
    }
}
