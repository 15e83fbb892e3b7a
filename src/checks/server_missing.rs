//! A server went silent without saying goodbye.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, json};

use super::verdict::{list, millis, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation,
};
use crate::model::{Cluster, Life, Name, Server, Sight, Snapshot, Time};

pub(super) struct ServerMissing;

static MANUAL: Manual = Manual {
    slug: "server_missing",
    code: "GW_008",
    severity: Severity::Warning,
    open_after: 2,
    resolve_after: 2,
    thresholds: &[Threshold {
        key: "silent_for",
        default: Value::Duration(Duration::from_secs(5)),
        range: (Value::Duration(Duration::from_secs(2)), Value::Duration(Duration::from_secs(3600))),
        about: "how long a server must be silent; one that restarts is back within two or three seconds",
    }],
    detects: "A known server went silent without saying goodbye.",
    matters: "Its clients have to reconnect, its cluster has one server less to carry them, and replicas that it \
              holds are behind. A server that is stopped in order says goodbye first; this one crashed, was \
              killed, hangs, or lost its host or its network.",
    decides: "A server that was seen before does not answer, and no server that answers has a gateway connection \
              or a route to it: its peers list their routes, and it is not among them. Where connections to it \
              are still listed, as with a stopped process or a lost host, its heartbeats must have stayed away \
              for one and a half intervals too. A restart brings a new ID under the same name; that is the same \
              server, and it is back.",
    silent: "After a SHUTDOWN or LAMEDUCK advisory: that is a goodbye, and a lame duck says nothing more. When the \
             whole cluster is unreachable, or when the server lives and only its gateway to our cluster is lost: \
             other findings say so.",
    todo: "Look at the process and its host. If it was taken out of service on purpose, stop servers with SIGTERM or \
           lame duck, so that they say goodbye.",
};

impl Check for ServerMissing {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings) -> Vec<Verdict> {
        // Two lives of one name may stand side by side for a look: the one that is well counts.
        let mut by_name: BTreeMap<(&Option<Name>, &Name), (u8, Verdict)> = BTreeMap::new();
        for server in snapshot.servers.values() {
            let outcome = judge(snapshot, server, settings);
            let rank = match outcome {
                Outcome::Healthy => 0,
                Outcome::Unknown => 1,
                Outcome::Violated(_) => 2,
                Outcome::Gone => 3,
            };
            let verdict = Verdict {
                check: MANUAL.slug,
                severity: MANUAL.severity,
                entity: Entity {
                    cluster: server.info.cluster.clone(),
                    server: Some(server.info.name.clone()),
                    server_id: Some(server.info.id.clone()),
                    ..Entity::default()
                },
                outcome,
            };
            let key = (&server.info.cluster, &server.info.name);
            if by_name.get(&key).is_none_or(|(held, _)| rank < *held) {
                by_name.insert(key, (rank, verdict));
            }
        }
        by_name.into_values().map(|(_, verdict)| verdict).collect()
    }
}

fn judge(snapshot: &Snapshot, server: &Server, settings: &Settings) -> Outcome {
    match server.sight {
        Sight::Answered => return Outcome::Healthy,
        Sight::Left => return Outcome::Gone,
        Sight::Named => return Outcome::Unknown,
        Sight::Silent | Sight::Unreachable => {}
    }
    let Some(silent_since) = server.silent_since else { return Outcome::Unknown };
    let silent_for = settings.duration("silent_for", Some(server.cluster()), None);
    let cluster = snapshot.clusters.get(server.cluster());
    let severed = cluster.is_some_and(|c: &Cluster| c.severed_since.is_some());
    match server.life {
        Life::Gone => violated(snapshot, server, silent_since, silent_since.plus(silent_for)),
        // Part of a cluster that nobody sees: told of by that finding.
        Life::Unknown if severed => violated(snapshot, server, silent_since, silent_since.plus(silent_for)),
        Life::Alive if server.sight == Sight::Silent => {
            let quiet_since = server.heard_at.unwrap_or(silent_since).max(silent_since);
            let due_at = quiet_since.plus(server.heartbeat_interval() * 3 / 2);
            if snapshot.at >= due_at && server.hearable {
                violated(snapshot, server, silent_since, due_at)
            } else {
                Outcome::Unknown
            }
        }
        _ => Outcome::Unknown,
    }
}

fn violated(snapshot: &Snapshot, server: &Server, since: Time, ripe_at: Time) -> Outcome {
    let (name, cluster) = (short(&server.info.name), short(server.cluster()));
    let cause = if server.named_by.is_empty() {
        let detail = if server.denied_by.is_empty() {
            format!("{name} does not answer, said no goodbye, and nobody has a connection to it")
        } else {
            format!("no route to {name} on {}, which answer; it said no goodbye", words(&server.denied_by))
        };
        Cause::new(CauseKind::Unreachable, Confidence::Likely, detail)
    } else {
        let detail = format!(
            "connections to {name} are still listed by {}, and it neither answers nor sends heartbeats: stopped, \
             overloaded, or nothing passes on the way from it",
            words(&server.named_by)
        );
        Cause::new(CauseKind::Unknown, Confidence::Possible, detail)
    };
    let last_at = server.heard_at.or(server.answered_at);
    let mut evidence = Map::new();
    evidence.insert("silent_ms".into(), millis(snapshot.at.since(since)));
    evidence.insert("last_answered_at".into(), json!(server.answered_at));
    evidence.insert("last_heard_at".into(), json!(last_at));
    evidence.insert("no_route_from".into(), list(&server.denied_by));
    evidence.insert("still_named_by".into(), list(&server.named_by));
    Outcome::Violated(Box::new(Violation {
        since,
        ripe_at,
        summary: format!("{name} ({cluster}) is silent and said no goodbye"),
        impact: format!("its clients reconnect elsewhere; {cluster} has one server less"),
        essence: format!("{} {}", cause.kind.as_str(), server.named_by.is_empty()),
        cause,
        evidence,
        remediation: vec![
            Step::by_hand(format!(
                "look at the nats-server process of {name} and its host: crash, out of memory, lost network"
            )),
            Step::run("see who answers", "nats req --replies 0 --timeout 2s '$SYS.REQ.SERVER.PING' ''"),
        ],
        server: (!server.info.ver.is_empty()).then(|| server.info.clone()),
        scope: Scope::Entity,
    }))
}
