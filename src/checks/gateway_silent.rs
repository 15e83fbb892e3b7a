//! A link is listed as connected, and nothing passes.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, json};

use super::verdict::{ask_gateways, list, millis, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{Life, Link, LinkState, Name, Server, Snapshot, Time};

/// No path between two places on earth is longer, three times there and back.
const FAR_AWAY: Duration = Duration::from_secs(3);
/// Whom others hear less often than this in a row is not known to speak.
const HEARD_LOOKS: u32 = 2;
/// Whom nobody heard for this long may have stopped meanwhile.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

pub(super) struct GatewaySilent;

static MANUAL: Manual = Manual {
    slug: "gateway_silent",
    code: "GW_003",
    severity: Severity::Critical,
    open_after: 1,
    resolve_after: 2,
    thresholds: &[Threshold {
        key: "silent_for",
        default: Value::Duration(Duration::from_millis(2500)),
        range: (Value::Duration(Duration::from_millis(1500)), Value::Duration(Duration::from_secs(3600))),
        about: "how long what is sent must not arrive; at least three round trips of the link are waited for",
    }],
    detects: "A gateway is listed as connected and nothing passes it.",
    matters: "Until the server notices, which takes it 30 to 45 s, everything that the clients of one server send \
              to the remote cluster is lost without an error, and the server reports the gateway as healthy: \
              nothing is pending, the round trip is the old one. A firewall or NAT that forgot the connection, a \
              host that vanished, or a broken path in one direction look like this.",
    decides: "Both ends of a gateway connection count messages alike. What the near end had sent by one look and the \
              far end has not received by the next is stuck; when that lasts, the link is silent. Something is \
              always sent: every heartbeat of a server crosses each of its gateways, at least every 10 s (30 s \
              before 2.10.21). The gateway of the agent's own server is found sooner: when no server of the remote \
              answers over it, the agent asks for heartbeats by way of another server of its cluster; if they come, \
              from the server at the other end too, the remote lives and the gateway does not pass. The way towards \
              the agent's cluster: a server that does not answer is asked for a heartbeat; if its peers or other \
              clusters receive it and the gateway to our cluster stays still, the server lives and that gateway \
              does not pass.",
    silent: "While a link is re-made. When an end does not answer and nobody else can tell, as with a stopped \
             process: server_missing and cluster_unreachable say so. When traffic is jammed, not lost: \
             gateway_pending_pressure says so.",
    todo: "Look for what lies between the two hosts: connection tracking and idle timeouts of firewalls, NAT and load \
           balancers, a route that changed, a lower MTU. The server closes the connection by itself 30 to 45 s after \
           the last PONG and dials again; closing its socket on its host does so at once.",
};

impl Check for GatewaySilent {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, watched: &Watched<'_>) -> Vec<Verdict> {
        let verdict = |link: &Link| Verdict {
            check: MANUAL.slug,
            severity: MANUAL.severity,
            entity: Entity::of_link(link),
            outcome: judge(snapshot, link, settings),
        };
        let own = &snapshot.vantage;
        // Only of these anything can be told.
        let worth = |link: &&Link| {
            link.flow.stuck_since.is_some()
                || link.server_id == own.server_id
                || !link.near && Some(&link.remote) == own.cluster.as_ref()
                || watched.has_link(MANUAL.slug, link)
        };
        snapshot.links.iter().filter(worth).map(verdict).collect()
    }

    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let lives = |s: &Server| Some(&s.info.name) == entity.server.as_ref() && s.life == Life::Alive;
        let cluster = entity.cluster.as_deref().unwrap_or_default();
        if snapshot.servers_of(cluster).any(lives) { Outcome::Unknown } else { Outcome::Gone }
    }
}

/// What was seen to be lost.
struct Loss<'a> {
    since: Time,
    detail: String,
    confidence: Confidence,
    seen_by: &'static str,
    heard: Vec<&'a Name>,
}

fn judge(snapshot: &Snapshot, link: &Link, settings: &Settings) -> Outcome {
    // A gateway that is gone is another matter; whether this one passes again is seen when it is back.
    if link.state != LinkState::Connected {
        // That a server died is for others to tell.
        let lives = snapshot.servers.get(&link.server_id).is_some_and(|s| s.life == Life::Alive);
        return if lives { Outcome::Unknown } else { Outcome::Gone };
    }
    let ours = link.near && link.server_id == snapshot.vantage.server_id;
    let loss = if let (true, Some(since)) = (link.flow.both_ends, link.flow.stuck_since) {
        counted(link, since)
    } else if ours {
        // The other end may answer by another way, and what is stuck shows with the second look at it.
        match unanswered(snapshot, link) {
            Some(loss) => loss,
            None if link.flow.both_ends => return Outcome::Healthy,
            None => return Outcome::Unknown,
        }
    } else if link.flow.both_ends {
        return Outcome::Healthy;
    } else if !link.near && Some(&link.remote) == snapshot.vantage.cluster.as_ref() {
        match unheard(snapshot, link) {
            Some(loss) => loss,
            None => return Outcome::Unknown,
        }
    } else {
        return Outcome::Unknown;
    };
    let silent_for = settings.duration("silent_for", Some(&link.cluster), Some(&link.remote));
    Outcome::Violated(Box::new(violation(snapshot, link, loss, silent_for)))
}

/// Both ends tell: the one has sent what the other has not received.
fn counted<'a>(link: &Link, since: Time) -> Loss<'a> {
    let far = link.peer.as_deref().map(short).unwrap_or_default();
    let detail = format!(
        "{} has sent {} messages since {}, and {far} has received none of them",
        short(&link.server),
        link.flow.stuck_msgs,
        link.flow.moved_at.unwrap_or(since).to_the_second(),
    );
    Loss { since, detail, confidence: Confidence::Certain, seen_by: "both ends", heard: Vec::new() }
}

/// No server of the remote answers over our own server's gateway, and they live.
fn unanswered<'a>(snapshot: &'a Snapshot, link: &'a Link) -> Option<Loss<'a>> {
    let remote = snapshot.clusters.get(&link.remote)?;
    let since = remote.dark_since?.max(link.connected_since?);
    let heard_since = |s: &Server| s.heard_at.is_some_and(|at| at > since.plus(Snapshot::ON_ITS_WAY));
    let answered_since = |s: &Server| s.answered_at.is_some_and(|at| at >= since);
    let servers = || snapshot.servers_of(&link.remote);
    // An answer that comes late has passed.
    if servers().any(answered_since) {
        return None;
    }
    // Where the one at the other end is not heard itself, it is that server which is ill.
    let own = snapshot.servers.get(&link.server_id)?.gatewayz.as_ref()?;
    let peer_id = own.outbound.peer(&link.remote)?;
    if !snapshot.servers.get(peer_id).is_some_and(heard_since) {
        return None;
    }
    let heard: Vec<&Name> = servers().filter(|s| heard_since(s)).map(|s| &s.info.name).collect();
    let detail = format!(
        "no request of ours over this gateway was answered since {}, while heartbeats of {} arrive",
        since.to_the_second(),
        words(&heard)
    );
    Some(Loss { since, detail, confidence: Confidence::Likely, seen_by: "the agent's own requests", heard })
}

/// A server does not answer, others hear it, and its gateway to us stays still.
fn unheard<'a>(snapshot: &'a Snapshot, link: &Link) -> Option<Loss<'a>> {
    let server = snapshot.servers.get(&link.server_id)?;
    let since = server.silent_since?.max(snapshot.asked_since(server.cluster())?);
    // Who has no route to the one that a request comes in by was not asked.
    if snapshot.servers_of(&link.cluster).any(|peer| peer.lacks.contains_key(&link.server_id)) {
        return None;
    }
    let others = &server.heard_by_others;
    let lately = |at: Time| at > since.plus(Snapshot::ON_ITS_WAY) && snapshot.at.since(at) <= HEARD_WITHIN;
    let speaks = others.looks >= HEARD_LOOKS && others.last_at.is_some_and(lately);
    let still = link.flow.moved_at.is_some_and(|at| at <= since.plus(Snapshot::ON_ITS_WAY))
        && server.heard_at.is_none_or(|at| at <= since.plus(Snapshot::ON_ITS_WAY));
    if !speaks || !still {
        return None;
    }
    let name = short(&link.server);
    let detail = format!(
        "other servers go on receiving from {name}, and over its gateway to {} nothing has come since {}",
        short(&link.remote),
        since.to_the_second()
    );
    Some(Loss { since, detail, confidence: Confidence::Likely, seen_by: "the far end", heard: Vec::new() })
}

/// The cluster that answers the agent over this link, and over no other.
fn answers_over(snapshot: &Snapshot, link: &Link) -> BTreeSet<Name> {
    let ours = Some(&link.remote) == snapshot.vantage.cluster.as_ref();
    let alone = snapshot.servers_of(&link.cluster).filter(|s| s.may_run()).nth(1).is_none();
    (ours && alone).then(|| link.cluster.clone()).into_iter().collect()
}

fn violation(snapshot: &Snapshot, link: &Link, loss: Loss<'_>, silent_for: Duration) -> Violation {
    let (server, cluster, remote) = (short(&link.server), short(&link.cluster), short(&link.remote));
    let own = snapshot.servers.get(&link.server_id);
    let rtt = own
        .and_then(|s| s.gatewayz.as_ref())
        .and_then(|g| g.outbound.get(&link.remote))
        .and_then(|o| o.connection.rtt);
    // A round trip that was measured while nothing passed tells nothing of the path.
    let patience = silent_for.max((rtt.unwrap_or_default() * 3).min(FAR_AWAY));
    let peer = link.peer.as_deref().map(short);
    let mut evidence = Map::new();
    evidence.insert("silent_ms".into(), millis(snapshot.at.since(loss.since)));
    evidence.insert("seen_by".into(), json!(loss.seen_by));
    evidence.insert("peer".into(), json!(peer));
    evidence.insert("lost_msgs".into(), json!(link.flow.both_ends.then_some(link.flow.stuck_msgs)));
    evidence.insert("last_received_at".into(), json!(link.flow.moved_at));
    evidence.insert("heartbeats_from".into(), list(&loss.heard));
    let to = peer.map_or_else(|| remote.clone(), |p| format!("{remote} ({p})"));
    let mut remediation = vec![Step::by_hand(format!(
        "test the path between the hosts of {server} and {to}: connection tracking and idle timeouts of firewalls, \
         NAT and load balancers, a changed route, the MTU"
    ))];
    remediation.push(Step::by_hand(format!(
        "to have {server} dial again before it notices by itself (30 to 45 s), close its socket to the gateway of \
         {to} on its host, as with `ss --kill`; a restart in lame duck mode does so too"
    )));
    remediation.extend(ask_gateways(&link.server, &link.server_id));
    Violation {
        since: loss.since,
        ripe_at: loss.since.plus(patience),
        summary: format!("the gateway of {server} ({cluster}) to {to} is up and nothing passes it"),
        cause: Cause::new(CauseKind::PathCut, loss.confidence, loss.detail),
        impact: format!(
            "everything that clients of {server} send to {remote} is lost, and publishing gives no error; so are \
             their answers to requests from there"
        ),
        essence: loss.seen_by.to_owned(),
        evidence,
        remediation,
        server: own.map(|s| s.info.clone()),
        scope: Scope::Remotes(answers_over(snapshot, link)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::{EVERYWHERE, THREE, Trial, World, secs};
    use super::*;

    fn trial<'a>(from: &'a [&'a str], opens: &'a [&'a str]) -> Trial<'a> {
        Trial { of: THREE, from, opens, within: secs(5), lasts: secs(100) }
    }

    #[test]
    fn a_black_hole_behind_the_agents_own_server_is_found_in_five_seconds_and_is_one_finding() {
        trial(&["eu-0"], &["gateway_silent eu/eu-0→us path_cut"])
            .holds(|w| w.swallow("eu-0", "us"), World::heal);
    }

    #[test]
    fn a_black_hole_towards_the_agents_cluster_is_found_in_five_seconds_and_is_one_finding() {
        for server in ["us-0", "us-1", "us-2"] {
            let expected = format!("gateway_silent us/{server}→eu path_cut");
            trial(&["eu-0"], &[&expected]).holds(|w| w.swallow(server, "eu"), World::heal);
        }
    }

    #[test]
    fn a_black_hole_anywhere_is_found_in_fifteen_seconds_from_everywhere() {
        let expected = ["gateway_silent us/us-1→ap path_cut"];
        Trial { within: secs(15), ..trial(EVERYWHERE, &expected) }
            .holds(|w| w.swallow("us-1", "ap"), World::heal);
        let expected = ["gateway_silent eu/eu-2→us path_cut"];
        Trial { within: secs(15), ..trial(EVERYWHERE, &expected) }
            .holds(|w| w.swallow("eu-2", "us"), World::heal);
    }

    #[test]
    fn a_stopped_server_and_a_stopped_cluster_are_no_silent_links() {
        for server in ["us-0", "us-1", "us-2"] {
            let mut world = World::seen_from("eu-0");
            world.stop(server);
            world.run(secs(80));
            assert_eq!(world.story(), [format!("opened server_missing us/{server} unknown")]);
        }
        let mut world = World::seen_from("eu-0");
        for server in ["us-0", "us-1", "us-2"] {
            world.stop(server);
        }
        world.run(secs(35));
        assert_eq!(world.story(), ["opened cluster_unreachable us unknown"]);
    }

    #[test]
    fn who_was_not_asked_for_want_of_a_route_is_not_silent() {
        let mut world = World::seen_from("eu-0");
        world.swallow("us-1", "eu");
        world.run(secs(5));
        let mut snapshot = world.view().clone();
        let outcome = |snapshot: &Snapshot| {
            let verdicts =
                GatewaySilent.evaluate(snapshot, &world.settings[MANUAL.slug], &Watched::everything());
            let of = |v: &Verdict| {
                v.entity.server.as_deref() == Some("us-1") && v.entity.remote.as_deref() == Some("eu")
            };
            verdicts.into_iter().find(of).expect("the link is spoken of").outcome
        };
        assert!(matches!(outcome(&snapshot), Outcome::Violated(_)), "{:?}", world.story());
        let (peer, at) = (world.id("us-2"), snapshot.at);
        snapshot.servers.get_mut(&peer).unwrap().lacks.insert(world.id("us-1"), at);
        assert_eq!(outcome(&snapshot), Outcome::Unknown);
    }

    #[test]
    fn the_finding_says_who_counted_what() {
        let mut world = World::seen_from("ap-0");
        world.swallow("us-1", "eu");
        world.run(secs(16));
        let finding = world.ledger.open().next().expect("one is open");
        assert_eq!(finding.evidence["seen_by"], "both ends");
        assert!(finding.evidence["lost_msgs"].as_u64() > Some(0), "{:?}", finding.evidence);
        assert!(finding.cause.detail.contains("has received none"), "{}", finding.cause.detail);
    }

    #[test]
    fn a_gateway_that_is_up_again_is_not_blamed_for_the_time_before() {
        let mut world = World::seen_from("eu-0");
        world.reset("eu-0", "us", secs(30));
        world.run(secs(25));
        for server in ["us-0", "us-1", "us-2"] {
            world.cut(server, "eu");
        }
        world.run(secs(15));
        let story = world.story();
        assert!(story.iter().all(|line| !line.contains("gateway_silent")), "{story:?}");
    }

    #[test]
    fn a_silent_gateway_between_two_others_does_not_hide_that_a_cluster_is_out_of_reach() {
        let mut world = World::of(&[("ap", 2), ("eu", 2), ("us", 1)], "ap-0", 1);
        world.swallow("us-0", "eu");
        world.run(secs(15));
        assert_eq!(world.open(), ["gateway_silent us/us-0→eu path_cut"]);
        world.partition("ap", "us");
        world.run(secs(10));
        let open = world.open();
        assert!(open.contains(&"cluster_unreachable us path_cut".to_owned()), "{open:?}");
    }

    #[test]
    fn one_silent_gateway_of_several_does_not_keep_back_that_the_cluster_is_out_of_reach() {
        let mut world = World::of(&[("sa", 1), ("eu", 3)], "sa-0", 1);
        world.swallow("eu-1", "sa");
        world.run(secs(10));
        assert_eq!(world.take_story(), ["opened gateway_silent eu/eu-1→sa path_cut"]);
        // Its far end cannot be asked any more, so that nothing tells whether it passes again.
        world.refuse_handshake("sa-0", "eu");
        world.run(secs(1));
        world.heal();
        world.refuse_handshake("sa-0", "eu");
        world.run(secs(15));
        for server in ["eu-0", "eu-1", "eu-2"] {
            world.cut(server, "sa");
        }
        world.run(secs(6));
        let story = world.story();
        assert!(story.iter().any(|line| line.starts_with("opened cluster_unreachable eu")), "{story:?}");
    }
}
