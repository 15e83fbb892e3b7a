//! The agent itself cannot see, or cannot tell.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::verdict::{millis, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{Complaint, Name, Refusal, ServerInfo, Snapshot};

/// Messages that were not taken in this long ago are asked for again by now.
const OVERRUN_COUNTS: Duration = Duration::from_secs(30);
/// A sink that comes back within this is not spoken of.
const SINK_PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct ObserverDegraded;

static MANUAL: Manual = Manual {
    slug: "observer_degraded",
    code: "GW_011",
    severity: Severity::Warning,
    open_after: 2,
    resolve_after: 2,
    thresholds: &[
        Threshold {
            key: "garbled_for",
            default: Value::Duration(Duration::from_secs(10)),
            range: (Value::Duration(Duration::from_secs(1)), Value::Duration(Duration::from_secs(3600))),
            about: "how long an unusable reply counts",
        },
        Threshold {
            key: "behind",
            default: Value::Duration(Duration::from_secs(2)),
            range: (Value::Duration(Duration::from_millis(100)), Value::Duration(Duration::from_secs(3600))),
            about: "how late a look may begin",
        },
    ],
    detects: "The agent cannot see all of the supercluster, or cannot tell what it sees.",
    matters: "What cannot be seen cannot be judged: a fault may stand where no finding does.",
    decides: "From its own work: a permission that the server refused; a further vantage that does not let it in; \
              replies that do not decode, carry an error, or claim another server's ID; more servers, clusters, answers or findings than it can \
              remember; messages that came faster than they could be read; looks that begin late; events that it had to give up because its connection stayed away for \
              too long; a sink that does not take findings for 5 seconds.",
    silent: "When one reply of one look was lost: the next look is half a second away. A server that does not answer \
             at all is judged by the checks about servers and links.",
    todo: "Give the agent's user the permissions that `gatewatch permissions` prints. A server whose replies do not \
           decode is of another version, or something answers in its name: look at who may publish in the system \
           account.",
};

impl Check for ObserverDegraded {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        let verdict =
            |entity, outcome| Verdict { check: MANUAL.slug, severity: MANUAL.severity, entity, outcome };
        let mut verdicts = vec![verdict(Entity::default(), itself(snapshot, settings))];
        verdicts.push(verdict(the_sink(), sink(snapshot)));
        // Whoever answers and is not complained of is well, whatever an earlier start of the agent met.
        let answering = snapshot.servers.values().filter(|s| s.gatewayz.is_some()).map(|s| Some(&s.info));
        for who in answering.chain([None]) {
            let id = who.map(|info| &*info.id).unwrap_or_default();
            if !snapshot.observer.complaints.contains_key(id) {
                verdicts.push(verdict(source(who), Outcome::Healthy));
            }
        }
        let garbled_for = settings.duration("garbled_for", None, None);
        for complaint in snapshot.observer.complaints.values() {
            let entity = source(complaint.server.as_ref());
            let outcome = match (snapshot.at.since(complaint.at) < garbled_for, complaint.recent) {
                (true, 2..) => Outcome::Violated(Box::new(garbled(snapshot, complaint))),
                (true, _) => Outcome::Unknown,
                (false, _) => Outcome::Healthy,
            };
            verdicts.push(verdict(entity, outcome));
        }
        verdicts
    }
}

/// Whose replies a finding is about.
fn source(server: Option<&ServerInfo>) -> Entity {
    match server {
        Some(info) => Entity {
            cluster: info.cluster.clone(),
            server: Some(info.name.clone()),
            server_id: Some(info.id.clone()),
            ..Entity::default()
        },
        // Told apart from the agent's own troubles, which have no server either.
        None => Entity { peer_server: Some(Name::from("unnamed")), ..Entity::default() },
    }
}

fn the_sink() -> Entity {
    Entity { peer_server: Some(Name::from("sink")), ..Entity::default() }
}

fn sink(snapshot: &Snapshot) -> Outcome {
    let Some(trouble) = &snapshot.observer.sink else { return Outcome::Healthy };
    let agent = short(&snapshot.vantage.agent);
    let mut evidence = Map::new();
    evidence.insert("events_waiting".into(), json!(trouble.waiting));
    evidence.insert("events_dropped".into(), json!(trouble.dropped));
    evidence.insert("since".into(), json!(trouble.since));
    let mut essence = trouble.why.clone();
    if trouble.dropped > 0 {
        essence.push_str(" dropped");
    }
    Outcome::Violated(Box::new(Violation {
        since: trouble.since,
        ripe_at: trouble.since.plus(SINK_PATIENCE),
        summary: format!("the sink of agent {agent} does not take findings: {}", short(&trouble.why)),
        cause: Cause::new(CauseKind::Unknown, Confidence::Certain, trouble.why.clone()),
        impact: "findings are published, and wait to be kept".into(),
        evidence,
        remediation: vec![Step::by_hand(trouble.todo.clone())],
        essence,
        server: None,
        scope: Scope::Entity,
    }))
}

fn itself(snapshot: &Snapshot, settings: &Settings) -> Outcome {
    let observer = &snapshot.observer;
    let mut reasons: Vec<String> = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    let mut essence: Vec<String> = Vec::new();
    for refusal in &observer.refused {
        reasons.push(format!("may not {} {}", refusal.operation, short(&refusal.subject)));
        essence.push(refusal.subject.to_string());
    }
    let (vantages, permissions): (Vec<_>, Vec<_>) =
        observer.refused.iter().partition(|refusal| &*refusal.operation == Refusal::LOOK_FROM);
    if !vantages.is_empty() {
        steps.push(Step::by_hand(
            "put the credentials or TLS files of that `[[vantage]]` right: the agent's log says what is wrong with \
             them",
        ));
    }
    if !permissions.is_empty() {
        steps.push(Step::run("give the agent's user the permissions it needs", "gatewatch permissions"));
    }
    for (over, what, kind) in [
        (observer.servers_over, "servers more than are remembered", "servers"),
        (observer.clusters_over, "clusters more than are remembered", "clusters"),
        (observer.answers_over, "answers more than there is memory for", "answers"),
        (observer.findings_over, "findings more than are kept open", "findings"),
    ] {
        if over > 0 {
            reasons.push(format!("{over} {what}"));
            essence.push(kind.into());
        }
    }
    if observer.outbox.dropped > 0 {
        reasons
            .push(format!("{} events were given up while the connection was away", observer.outbox.dropped));
        essence.push(format!("dropped {}", observer.outbox.dropped));
        steps.push(Step::by_hand("look for what kept the agent from its server for so long"));
    }
    if observer.overrun_at.is_some_and(|at| snapshot.at.since(at) < OVERRUN_COUNTS) {
        reasons.push("messages came faster than they could be read, and some were not taken in".into());
        essence.push("overrun".into());
        steps.push(Step::by_hand(
            "give the agent's host more processor time, or lower `poll.budget_bytes_per_s`; where neither helps, look \
             for who else publishes to its inbox or to `$SYS.SERVER.>`",
        ));
    }
    let behind = settings.duration("behind", None, None);
    if observer.behind > behind {
        reasons.push(format!("the last look began {} ms late", observer.behind.as_millis()));
        essence.push("behind".into());
        steps.push(Step::by_hand("give the agent's host more processor time, or raise `poll.interval`"));
    }
    if reasons.is_empty() {
        return Outcome::Healthy;
    }
    let agent = short(&snapshot.vantage.agent);
    let mut evidence = Map::new();
    evidence
        .insert("reasons".into(), Json::Array(reasons.iter().take(32).cloned().map(Json::String).collect()));
    evidence.insert("events_waiting".into(), json!(observer.outbox.waiting));
    evidence.insert("events_dropped".into(), json!(observer.outbox.dropped));
    evidence.insert("behind_ms".into(), millis(observer.behind));
    Outcome::Violated(Box::new(Violation {
        since: snapshot.at,
        ripe_at: snapshot.at,
        summary: format!("agent {agent} does not see everything: {}", words(&reasons)),
        cause: Cause::new(CauseKind::Unknown, Confidence::Certain, words(&reasons)),
        impact: "a fault may stand where no finding does".into(),
        evidence,
        remediation: steps,
        essence: essence.join(" "),
        server: None,
        scope: Scope::Entity,
    }))
}

fn garbled(snapshot: &Snapshot, complaint: &Complaint) -> Violation {
    let who = complaint
        .server
        .as_ref()
        .map_or_else(|| "a server that gives no name".to_owned(), |info| short(&info.name));
    let mut evidence = Map::new();
    evidence.insert("error".into(), json!(short(&complaint.error)));
    evidence.insert("count".into(), json!(complaint.count));
    evidence.insert("last_at".into(), json!(complaint.at));
    Violation {
        since: complaint.at,
        ripe_at: snapshot.at,
        summary: format!("replies of {who} cannot be used: {}", short(&complaint.error)),
        cause: Cause::new(CauseKind::Unknown, Confidence::Certain, complaint.error.clone()),
        impact: format!("{who} is not judged by what it says"),
        evidence,
        remediation: vec![Step::by_hand(
            "compare the server's version with the README's table; if it is a known one, look at who else may answer \
             in the system account",
        )],
        essence: String::new(),
        server: complaint.server.clone().filter(|s| !s.ver.is_empty()),
        scope: Scope::Entity,
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::{World, secs};
    use super::*;
    use crate::model::{Observer, Outbox, Refusal, SinkTrouble, Time};

    fn complaint(world: &World, server: Option<&str>, recent: u64) -> Complaint {
        Complaint {
            server: server.map(|name| world.info(name)),
            count: 7,
            recent,
            error: "reply is not what VARZ answers: expected u16".into(),
            at: world.now,
        }
    }

    #[test]
    fn each_thing_that_keeps_the_agent_from_seeing_is_told_and_ends() {
        let refused = Refusal { operation: "publish".into(), subject: "$SYS.REQ.SERVER.*.VARZ".into() };
        let troubles: [(Observer, &str, Option<&str>); 4] = [
            (
                Observer { refused: [refused].into(), ..Observer::default() },
                "agent watch-1 does not see everything: may not publish $SYS.REQ.SERVER.*.VARZ",
                Some("gatewatch permissions"),
            ),
            (
                Observer {
                    overrun_at: Some(Time::parse("2554-07-21T00:00:00Z").unwrap()),
                    ..Observer::default()
                },
                "agent watch-1 does not see everything: messages came faster than they could be read, and some were \
                 not taken in",
                None,
            ),
            (
                Observer { outbox: Outbox { dropped: 3, ..Outbox::default() }, ..Observer::default() },
                "agent watch-1 does not see everything: 3 events were given up while the connection was away",
                None,
            ),
            (
                Observer { behind: secs(3), ..Observer::default() },
                "agent watch-1 does not see everything: the last look began 3000 ms late",
                None,
            ),
        ];
        for (observer, summary, run) in troubles {
            let mut world = World::seen_from("eu-0");
            world.observer = observer;
            world.run(secs(4));
            assert_eq!(world.story(), ["opened observer_degraded - unknown"]);
            let finding = world.ledger.open().next().expect("one is open").clone();
            assert_eq!(finding.summary, summary);
            assert_eq!(finding.remediation.first().and_then(|step| step.run.as_deref()), run);
            world.observer = Observer::default();
            world.run(secs(4));
            assert_eq!(world.open(), [""; 0]);
        }
    }

    #[test]
    fn a_sink_that_stays_away_is_one_finding_of_its_own_and_ends_when_it_is_back() {
        let mut world = World::seen_from("eu-0");
        let trouble = |since| SinkTrouble {
            since,
            why: "its user may not publish $JS.API.STREAM.INFO.X".into(),
            todo: "give it what `gatewatch permissions --sink` prints".into(),
            waiting: 3,
            dropped: 0,
        };
        world.observer.sink = Some(trouble(world.now));
        world.run(secs(4));
        assert_eq!(world.story(), [""; 0], "it may come back");
        world.run(secs(4));
        assert_eq!(world.story(), ["opened observer_degraded -~sink unknown"]);
        let finding = world.ledger.open().next().expect("one is open").clone();
        assert_eq!(finding.remediation[0].action, "give it what `gatewatch permissions --sink` prints");
        assert_eq!(finding.evidence["events_waiting"], 3);
        world.observer.sink = None;
        world.run(secs(4));
        assert_eq!(world.open(), [""; 0]);
    }

    #[test]
    fn more_than_is_remembered_is_told_of() {
        let well = Observer::default();
        let over = [
            ("12 servers more than are remembered", Observer { servers_over: 12, ..well.clone() }),
            ("3 clusters more than are remembered", Observer { clusters_over: 3, ..well.clone() }),
            ("7 answers more than there is memory for", Observer { answers_over: 7, ..well.clone() }),
            ("1 findings more than are kept open", Observer { findings_over: 1, ..well }),
        ];
        for (told, observer) in over {
            let mut snapshot = World::seen_from("eu-0").view().clone();
            snapshot.observer = observer;
            let settings = Settings::of(&ObserverDegraded);
            let Outcome::Violated(violation) = itself(&snapshot, &settings) else {
                panic!("it cannot see them")
            };
            assert!(violation.summary.ends_with(told), "{}", violation.summary);
        }
    }

    #[test]
    fn replies_of_no_use_name_their_server_and_end_when_they_end() {
        let mut world = World::seen_from("eu-0");
        for _ in 0..6 {
            let complaint = complaint(&world, Some("us-1"), 3);
            world.observer.complaints.insert(world.id("us-1"), complaint);
            world.run(secs(1));
        }
        assert_eq!(world.story(), ["opened observer_degraded us/us-1 unknown"]);
        let finding = world.ledger.open().next().expect("one is open").clone();
        assert_eq!(finding.evidence["error"], "reply is not what VARZ answers: expected u16");
        assert_eq!(finding.evidence["count"], 7);
        world.run(secs(15));
        assert_eq!(world.open(), [""; 0], "none for ten seconds");
    }

    #[test]
    fn one_reply_of_no_use_is_no_finding() {
        let mut world = World::seen_from("eu-0");
        let complaint = complaint(&world, Some("us-1"), 1);
        world.observer.complaints.insert(world.id("us-1"), complaint);
        world.run(secs(20));
        assert_eq!(world.story(), [""; 0]);
    }

    #[test]
    fn replies_that_name_nobody_are_a_finding_of_their_own() {
        let mut world = World::seen_from("eu-0");
        for _ in 0..4 {
            let complaint = complaint(&world, None, 3);
            world.observer.complaints.insert(Name::from(""), complaint);
            world.run(secs(1));
        }
        assert_eq!(world.story(), ["opened observer_degraded -~unnamed unknown"]);
        let finding = world.ledger.open().next().expect("one is open").clone();
        assert!(finding.summary.contains("gives no name"), "{}", finding.summary);
    }
}
