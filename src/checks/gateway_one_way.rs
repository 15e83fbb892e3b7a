//! One direction works and the other does not.

use std::time::Duration;

use serde_json::{Map, json};

use super::verdict::{ask_gateways, list, millis, short};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{Life, Link, LinkState, Name, Server, Sight, Snapshot, Time};

pub(super) struct GatewayOneWay;

static MANUAL: Manual = Manual {
    slug: "gateway_one_way",
    code: "GW_002",
    severity: Severity::Critical,
    open_after: 2,
    resolve_after: 2,
    thresholds: &[Threshold {
        key: "one_way_for",
        default: Value::Duration(Duration::from_secs(3)),
        range: (Value::Duration(Duration::from_secs(2)), Value::Duration(Duration::from_secs(3600))),
        about: "how long only one direction must have worked",
    }],
    detects: "One direction works and the other does not: a gateway that only its dialer knows of, or a server that is \
              heard and that no request reaches.",
    matters: "A gateway that the other end has dropped swallows all that is sent into it until the server that dials \
              notices. A server that no request reaches goes on sending, so that everything looks alive, while \
              requests to its clients' services from elsewhere are lost.",
    decides: "Both ends of a gateway are asked in one look. The dialer lists the connection, and the server whose ID it \
              names answers and lists none from that dialer: the connection exists on one side only. For servers: \
              heartbeats arrive, other servers of that cluster answer, and this one has answered no request since it \
              went silent.",
    silent: "While a link is being made. When the other end does not answer. When answers come that cannot be read, and \
             one of them may be the server's: observer_degraded says so. When the server lacks a route to a peer: \
             route_mesh_incomplete says so, for requests enter a cluster at one server and go on by routes. Servers \
             without a connection from the vantage's cluster are heard and cannot be asked: gateway_disconnected of \
             the vantage's server says so.",
    todo: "For a gateway: look for a device between the two hosts that closed one half of the connection, such as a \
           proxy or load balancer in front of the gateway port; nats-server wants a plain TCP path. The dialer \
           notices by itself after 30 to 45 s. For a server: look at its routes and at its load.",
};

impl Check for GatewayOneWay {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, watched: &Watched<'_>) -> Vec<Verdict> {
        let verdict =
            |entity, outcome| Verdict { check: MANUAL.slug, severity: MANUAL.severity, entity, outcome };
        let worth = |link: &&Link| link.flow.unmatched_since.is_some() || watched.has_link(MANUAL.slug, link);
        let links = snapshot.links.iter().filter(worth).map(|link| {
            let entity = Entity::of_link(link);
            verdict(entity, judge_link(snapshot, link, settings))
        });
        let servers = snapshot.servers.values().map(|server| {
            let entity = Entity::of_server(server);
            verdict(entity, judge_server(snapshot, server, settings))
        });
        links.chain(servers).collect()
    }

    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let lives = |s: &Server| Some(&s.info.name) == entity.server.as_ref() && s.life == Life::Alive;
        let cluster = entity.cluster.as_deref().unwrap_or_default();
        if snapshot.servers_of(cluster).any(lives) { Outcome::Unknown } else { Outcome::Gone }
    }
}

fn judge_link(snapshot: &Snapshot, link: &Link, settings: &Settings) -> Outcome {
    // Whether both ends agree again is seen when there is a connection again.
    if link.state != LinkState::Connected {
        // That a server died is for others to tell.
        let lives = snapshot.servers.get(&link.server_id).is_some_and(|s| s.life == Life::Alive);
        return if lives { Outcome::Unknown } else { Outcome::Gone };
    }
    let Some(since) = link.flow.unmatched_since.filter(|_| link.near) else {
        return if link.flow.both_ends { Outcome::Healthy } else { Outcome::Unknown };
    };
    let one_way_for = settings.duration("one_way_for", Some(&link.cluster), Some(&link.remote));
    let (server, cluster, remote) = (short(&link.server), short(&link.cluster), short(&link.remote));
    let peer = link.peer.as_deref().map(short).unwrap_or_default();
    let mut evidence = Map::new();
    evidence.insert("one_way_ms".into(), millis(snapshot.at.since(since)));
    evidence.insert("looks".into(), json!(link.flow.unmatched_looks));
    evidence.insert("peer".into(), json!(peer));
    let mut remediation = vec![Step::by_hand(format!(
        "look for what closed one half of the connection between {server} and {peer}: a proxy, load balancer or NAT in \
         front of the gateway port of {peer}; to have {server} dial again at once, close its socket on its host, as \
         with `ss --kill`"
    ))];
    remediation.extend(ask_gateways(&link.server, &link.server_id));
    Outcome::Violated(Box::new(Violation {
        since,
        ripe_at: since.plus(one_way_for),
        summary: format!(
            "{server} ({cluster}) lists a gateway to {peer} ({remote}), and {peer} has none from it"
        ),
        cause: Cause::new(
            CauseKind::PathCut,
            Confidence::Likely,
            format!(
                "{peer} answered in {} looks and lists no connection from {server}",
                link.flow.unmatched_looks
            ),
        ),
        impact: format!("what clients of {server} send to {remote} is lost, and publishing gives no error"),
        essence: String::new(),
        evidence,
        remediation,
        server: snapshot.servers.get(&link.server_id).map(|s| s.info.clone()),
        scope: Scope::Entity,
    }))
}

/// What came and could not be read may have been its answer, where it does not tell whose it was.
fn may_have_answered(snapshot: &Snapshot, server: &Server, since: Time) -> bool {
    let complaints = &snapshot.observer.complaints;
    [&*server.info.id, ""].iter().any(|id| complaints.get(*id).is_some_and(|complaint| complaint.at >= since))
}

fn judge_server(snapshot: &Snapshot, server: &Server, settings: &Settings) -> Outcome {
    match server.sight {
        // By another way a request reaches it; by ours that is not known.
        Sight::Answered if server.elsewhere => return Outcome::Unknown,
        Sight::Answered => return Outcome::Healthy,
        Sight::Left => return Outcome::Gone,
        Sight::Silent => {}
        Sight::Unreachable | Sight::Named => return Outcome::Unknown,
    }
    let (Some(silent_since), Some(asked_since), Some(heard_at)) =
        (server.silent_since, snapshot.asked_since(server.cluster()), server.heard_at)
    else {
        return Outcome::Unknown;
    };
    let since = silent_since.max(asked_since);
    let answering: Vec<&Name> = snapshot
        .servers_of(server.cluster())
        .filter(|s| s.gatewayz.is_some())
        .map(|s| &s.info.name)
        .collect();
    let one_way_for = settings.duration("one_way_for", Some(server.cluster()), None);
    let heard = heard_at > since.plus(one_way_for.min(Duration::from_secs(3)));
    // An answer that comes late has come.
    let answers = server.answered_at.is_some_and(|at| at >= since);
    if !heard || answers || answering.is_empty() || may_have_answered(snapshot, server, since) {
        return Outcome::Unknown;
    }
    let (name, cluster) = (short(&server.info.name), short(server.cluster()));
    let mut evidence = Map::new();
    evidence.insert("silent_ms".into(), millis(snapshot.at.since(since)));
    evidence.insert("last_heard_at".into(), json!(heard_at));
    evidence.insert("last_answered_at".into(), json!(server.answered_at));
    evidence.insert("answering".into(), list(&answering));
    Outcome::Violated(Box::new(Violation {
        since,
        ripe_at: since.plus(one_way_for),
        summary: format!(
            "{name} ({cluster}) is heard, and no request reaches it; other servers of {cluster} answer"
        ),
        cause: Cause::new(
            CauseKind::PathCut,
            Confidence::Possible,
            format!(
                "a heartbeat of {name} came at {}, and it has answered nothing since {}",
                heard_at.to_the_second(),
                since.to_the_second()
            ),
        ),
        impact: format!(
            "requests from {} to services of clients of {name} are lost",
            short(&snapshot.vantage.server)
        ),
        essence: String::new(),
        evidence,
        remediation: vec![
            Step::by_hand(format!(
                "compare the routes of {name} with those of its peers: a request enters {cluster} at one server and \
                 goes on by a route; then look at the load of {name}"
            )),
            Step::run("see who answers", "nats req --replies 0 --timeout 2s '$SYS.REQ.SERVER.PING' ''"),
        ],
        server: Some(server.info.clone()),
        scope: Scope::Entity,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::example::{THREE, Trial, World, secs};
    use crate::model::{Complaint, Name};

    fn trial<'a>(opens: &'a [&'a str]) -> Trial<'a> {
        Trial { of: THREE, from: &["eu-0"], opens, within: secs(6), lasts: secs(30) }
    }

    #[test]
    fn a_connection_that_only_its_dialer_knows_of_is_one_finding_wherever_the_dialer_answers() {
        Trial { from: &["eu-0", "us-0"], ..trial(&["gateway_one_way us/us-1→ap path_cut"]) }
            .holds(|w| w.half_open("us-1", "ap"), World::heal);
        // Where the dialer's answers are lost on it, the far end tells that there is none.
        Trial { from: &["ap-0"], ..trial(&["gateway_disconnected us/us-1→ap path_cut"]) }
            .holds(|w| w.half_open("us-1", "ap"), World::heal);
    }

    #[test]
    fn a_server_that_is_heard_and_that_no_request_reaches_is_one_finding() {
        Trial { within: secs(16), ..trial(&["gateway_one_way us/us-2 path_cut"]) }
            .holds(|w| w.deafen("us-2"), World::heal);
    }

    #[test]
    fn a_server_whose_answers_cannot_be_read_is_not_one_way() {
        for named in [true, false] {
            let mut world = World::seen_from("eu-0");
            world.deafen("us-2");
            let server = named.then(|| world.info("us-2"));
            let id = server.as_ref().map(|info| info.id.clone()).unwrap_or_default();
            for _ in 0..60 {
                let (at, error) = (world.now, "the checksum is wrong".to_owned());
                let complaint = Complaint { server: server.clone(), count: 9, recent: 9, error, at };
                world.observer.complaints.insert(Name::clone(&id), complaint);
                world.run(secs(1));
            }
            let story = world.story();
            assert!(story.iter().all(|line| line.starts_with("opened observer_degraded")), "{story:?}");
            assert_eq!(story.len(), 1, "{story:?}");
        }
    }

    #[test]
    fn a_server_that_answers_late_is_not_one_way() {
        let mut world = World::seen_from("eu-0");
        world.delay_replies("us-2", 1);
        world.run(secs(60));
        assert!(world.story().iter().all(|line| !line.contains("one_way")), "{:?}", world.story());
    }

    #[test]
    fn a_server_that_was_heard_before_it_could_be_asked_again_is_not_one_way() {
        let mut world = World::seen_from("eu-0");
        world.reset("eu-0", "us", secs(30));
        world.run(secs(25));
        world.stop("us-1");
        world.run(secs(12));
        let story = world.story();
        assert!(story.iter().all(|line| !line.contains("gateway_one_way")), "{story:?}");
    }
}
