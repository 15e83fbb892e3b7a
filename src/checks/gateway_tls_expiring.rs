//! A gateway's certificate ends soon, or has ended.

use std::time::Duration;

use serde_json::{Map, json};

use super::verdict::{after_goodbye, forgotten_server, short};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{GatewayConfig, Life, Server, Sight, Snapshot, Time, version};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A certificate's life is bounded by nothing; nobody plans further than this.
const RANGE: (Value, Value) =
    (Value::Duration(Duration::from_secs(60)), Value::Duration(Duration::from_secs(3650 * 24 * 3600)));

pub(super) struct GatewayTlsExpiring;

static MANUAL: Manual = Manual {
    slug: "gateway_tls_expiring",
    code: "GW_007",
    severity: Severity::Warning,
    open_after: 2,
    resolve_after: 2,
    thresholds: &[
        Threshold {
            key: "warning_within",
            default: Value::Duration(Duration::from_secs(30 * 24 * 3600)),
            range: RANGE,
            about: "how long before the end of the certificate it is a warning",
        },
        Threshold {
            key: "critical_within",
            default: Value::Duration(Duration::from_secs(7 * 24 * 3600)),
            range: RANGE,
            about: "how long before the end of the certificate it is critical",
        },
    ],
    detects: "The certificate of a server's gateway ends soon, or has ended.",
    matters: "Gateways prove themselves to each other in both directions. When the certificate has ended, the \
              connections that are up stay up, and none can be made any more: the server is lost to the other \
              clusters at the next restart or network fault, which may be weeks later.",
    decides: "VARZ tells when the gateway's certificate ends (`tls_cert_not_after`, since 2.11.12, 2.12.4 and \
              2.14.0). Less than `warning_within` is a warning, less than `critical_within` is critical, and so \
              is one that has ended. The time is that of the agent's host.",
    silent: "On versions that do not tell; for a gateway without TLS; for a server that does not answer, unless \
             its certificate is known to have ended. The other certificates (clients, routes, leaf nodes, the \
             authorities) are not looked at.",
    todo: "Put a new certificate and key into the files that `gateway.tls` names, and reload the server: \
           certificate files are the one part of the gateway block that a reload takes. Connections that are up \
           keep their session; new ones use the new certificate. No restart is needed.",
};

impl Check for GatewayTlsExpiring {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        snapshot
            .servers
            .values()
            .map(|server| {
                let within = |key| settings.duration(key, server.info.cluster.as_deref(), None);
                let critical = critical_from(server).map(|end| end.minus(within("critical_within")));
                let severity = if critical.is_some_and(|from| snapshot.at >= from) {
                    Severity::Critical
                } else {
                    MANUAL.severity
                };
                let widest = within("warning_within").max(within("critical_within"));
                Verdict {
                    check: MANUAL.slug,
                    severity,
                    entity: Entity::of_server(server),
                    outcome: judge(snapshot, server, widest),
                }
            })
            .collect()
    }

    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        forgotten_server(snapshot, entity)
    }
}

fn gateway(server: &Server) -> Option<&GatewayConfig> {
    server.varz.as_ref()?.gateway.as_ref()
}

fn critical_from(server: &Server) -> Option<Time> {
    gateway(server)?.tls_cert_not_after
}

fn judge(snapshot: &Snapshot, server: &Server, widest: Duration) -> Outcome {
    match (server.life, &server.varz) {
        (Life::Left, _) => return after_goodbye(snapshot, server),
        (Life::Gone | Life::Unknown, _) | (_, None) => return Outcome::Unknown,
        (Life::Alive, Some(_)) => {}
    }
    let Some(config) = gateway(server) else { return Outcome::Gone };
    let Some(not_after) = config.tls_cert_not_after else {
        return if config.tls_required { Outcome::Unknown } else { Outcome::Gone };
    };
    let ended = snapshot.at >= not_after;
    // Who cannot be asked any more for its certificate has ended is told of by what it said before.
    if server.sight != Sight::Answered && !ended {
        return Outcome::Unknown;
    }
    let since = not_after.minus(widest);
    if snapshot.at < since {
        return Outcome::Healthy;
    }
    Outcome::Violated(Box::new(expiring(snapshot, server, not_after, since)))
}

fn expiring(snapshot: &Snapshot, server: &Server, not_after: Time, since: Time) -> Violation {
    let (name, cluster) = (short(&server.info.name), short(server.cluster()));
    let left = not_after.since(snapshot.at);
    let ended = left.is_zero();
    let mut evidence = Map::new();
    evidence.insert("not_after".into(), json!(not_after));
    evidence.insert("left_s".into(), json!(left.as_secs()));
    evidence.insert("ended".into(), json!(ended));
    let detail = format!("{name} tells that its gateway's certificate ends at {}", not_after.to_the_second());
    Violation {
        since,
        ripe_at: since,
        summary: if ended {
            format!("the gateway certificate of {name} ({cluster}) ended at {}", not_after.to_the_second())
        } else {
            format!("the gateway certificate of {name} ({cluster}) ends in {}", days(left))
        },
        cause: Cause::new(CauseKind::Unknown, Confidence::Certain, detail),
        impact: if ended {
            format!(
                "no gateway can be made to or from {name} any more; what is up stays up until the next restart \
                 or network fault"
            )
        } else {
            format!("from {} on no gateway can be made to or from {name}", not_after.to_the_second())
        },
        essence: format!("{not_after} {ended}"),
        evidence,
        remediation: remediation(server),
        server: Some(server.info.clone()),
        scope: if ended { Scope::AllLinks } else { Scope::Entity },
    }
}

/// `12 days`, `23 h`, `5 min`.
fn days(left: Duration) -> String {
    let minutes = left.as_secs() / 60;
    match (left.as_secs() / DAY.as_secs(), minutes / 60) {
        (days, _) if days >= 2 => format!("{days} days"),
        (_, hours) if hours >= 2 => format!("{hours} h"),
        _ => format!("{minutes} min"),
    }
}

fn remediation(server: &Server) -> Vec<Step> {
    let (name, id) = (short(&server.info.name), &server.info.id);
    let mut steps = vec![
        Step::by_hand(format!(
            "put a new certificate and its key into the files that `cert_file` and `key_file` of `gateway.tls` name \
             on {name}, of an authority that the other clusters trust; leave the rest of the block as it is"
        )),
        Step::run(
            format!("on the host of {name}, reload; no restart is needed"),
            "nats-server --signal reload",
        ),
    ];
    // The request is known since 2.10.
    if version(&server.info.ver) >= (2, 10, 0) && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        steps.push(Step::run(
            "or reload it from here, as a system user who may",
            format!("nats req '$SYS.REQ.SERVER.{id}.RELOAD' ''"),
        ));
        steps.push(Step::run(
            "see the new end in `gateway.tls_cert_not_after`",
            format!("nats req '$SYS.REQ.SERVER.{id}.VARZ' ''"),
        ));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::super::example::{EVERYWHERE, World, secs};
    use super::*;

    /// The certificate of `us-1` ends this long after now.
    fn ends_in(world: &mut World, server: &str, left: Duration) {
        let end = world.now.plus(left);
        world.reload(server, |g| {
            let g = g.as_mut().expect("a block");
            g.tls_cert_not_after = Some(end);
        });
    }

    /// All servers have TLS with a certificate for a year.
    fn with_tls(vantage: &str) -> World {
        let mut world = World::seen_from(vantage);
        let end = world.now.plus(DAY * 365);
        for server in world.names() {
            world.reload(&server, |g| {
                let g = g.as_mut().expect("a block");
                (g.tls_required, g.tls_verify, g.tls_cert_not_after) = (true, true, Some(end));
            });
        }
        world.run(secs(40));
        assert_eq!(world.story(), [""; 0], "a year is long");
        world
    }

    #[test]
    fn it_is_a_warning_just_below_thirty_days_and_critical_just_below_seven() {
        let minute = secs(60);
        for (left, expected) in [
            (DAY * 30 + minute, None),
            (secs(30 * 86_400 - 60), Some(Severity::Warning)),
            (DAY * 7 + minute, Some(Severity::Warning)),
            (secs(7 * 86_400 - 60), Some(Severity::Critical)),
            (Duration::ZERO, Some(Severity::Critical)),
        ] {
            for vantage in EVERYWHERE {
                let mut world = with_tls(vantage);
                ends_in(&mut world, "us-1", left);
                world.run(secs(40));
                let open: Vec<_> = world.ledger.open().map(|f| f.severity).collect();
                assert_eq!(open, Vec::from_iter(expected), "{left:?} from {vantage}: {:?}", world.story());
                if expected.is_some() {
                    assert_eq!(world.open(), ["gateway_tls_expiring us/us-1 unknown"]);
                }
                ends_in(&mut world, "us-1", DAY * 365);
                world.run(secs(40));
                assert_eq!(world.open(), [""; 0], "the files were replaced, seen from {vantage}");
                world.assert_in_order();
            }
        }
    }

    #[test]
    fn a_warning_that_becomes_critical_ends_and_opens_anew() {
        let mut world = with_tls("eu-0");
        ends_in(&mut world, "us-1", DAY * 7 + secs(60));
        world.run(secs(40));
        assert_eq!(world.take_story(), ["opened gateway_tls_expiring us/us-1 unknown"]);
        world.run(secs(40));
        assert_eq!(
            world.story(),
            [
                "resolved gateway_tls_expiring us/us-1 reclassified",
                "opened gateway_tls_expiring us/us-1 unknown"
            ]
        );
        assert_eq!(world.ledger.open().next().map(|f| f.severity), Some(Severity::Critical));
    }

    #[test]
    fn a_server_whose_certificate_ended_is_not_also_told_to_lack_its_gateways() {
        for vantage in EVERYWHERE {
            let mut world = with_tls(vantage);
            ends_in(&mut world, "us-1", Duration::ZERO);
            world.run(secs(40));
            for remote in ["eu", "ap"] {
                world.refuse_handshake("us-1", remote);
            }
            world.run(secs(30));
            assert_eq!(world.open(), ["gateway_tls_expiring us/us-1 unknown"], "from {vantage}");
            let finding = world.ledger.open().next().expect("one is open");
            assert!(finding.inhibits.len() >= 2, "it explains the links: {:?}", finding.inhibits);
            world.heal();
            ends_in(&mut world, "us-1", DAY * 365);
            world.run(secs(60));
            assert_eq!(world.open(), [""; 0], "from {vantage}: {:?}", world.story());
            world.assert_in_order();
        }
    }

    #[test]
    fn a_lost_link_is_told_while_the_certificate_is_still_good() {
        let mut world = with_tls("us-0");
        ends_in(&mut world, "us-1", DAY);
        world.cut("us-1", "eu");
        world.run(secs(40));
        assert_eq!(
            world.open(),
            ["gateway_disconnected us/us-1→eu path_cut", "gateway_tls_expiring us/us-1 unknown"]
        );
    }

    #[test]
    fn a_version_that_does_not_tell_and_a_gateway_without_tls_make_no_finding() {
        let mut world = World::seen_from("eu-0");
        let at = world.view().at;
        let us_1 = world.id("us-1");
        let server = world.view().servers[&us_1].clone();
        assert_eq!(judge(world.view(), &server, DAY), Outcome::Gone, "no TLS, nothing to judge");
        world.reload("us-1", |g| g.as_mut().expect("a block").tls_required = true);
        world.run(secs(40));
        let server = world.view().servers[&us_1].clone();
        assert_eq!(judge(world.view(), &server, DAY), Outcome::Unknown, "unknown is not healthy");
        assert!(world.view().at > at);
    }

    #[test]
    fn it_stays_through_a_restart_and_goes_with_a_server_that_leaves() {
        let mut world = with_tls("eu-0");
        ends_in(&mut world, "us-1", DAY * 20);
        world.run(secs(40));
        assert_eq!(world.take_story(), ["opened gateway_tls_expiring us/us-1 unknown"]);
        world.restart("us-1");
        world.run(secs(60));
        assert_eq!(world.story(), [""; 0], "a restart reads the same files");
        world.shut_down("us-1");
        world.run(secs(40));
        assert_eq!(world.story(), ["resolved gateway_tls_expiring us/us-1 gone"]);
    }

    #[test]
    fn the_thresholds_can_be_set_for_one_cluster() {
        let mut world = with_tls("eu-0");
        let settings = world.settings.get_mut("gateway_tls_expiring").expect("it has settings");
        settings.overrides.push(super::super::Override {
            cluster: Some("us".into()),
            remote: None,
            values: [("warning_within", Value::Duration(DAY * 400))].into(),
        });
        world.run(secs(5));
        assert_eq!(world.open().len(), 3, "each of us, and none elsewhere: {:?}", world.open());
    }

    #[test]
    fn the_advice_is_true_for_the_version() {
        let mut world = with_tls("eu-0");
        ends_in(&mut world, "us-1", DAY);
        world.run(secs(40));
        let finding = world.ledger.open().next().expect("one is open").clone();
        assert_eq!(finding.evidence["ended"], false);
        assert!(finding.summary.ends_with("ends in 23 h"), "{}", finding.summary);
        let runs: Vec<_> = finding.remediation.iter().filter_map(|s| s.run.clone()).collect();
        assert_eq!(runs[1], format!("nats req '$SYS.REQ.SERVER.{}.RELOAD' ''", world.id("us-1")));
        let us_1 = world.id("us-1");
        let mut server = world.view().servers[&us_1].clone();
        server.info.ver = "2.9.25".into();
        assert_eq!(remediation(&server).len(), 2, "2.9 does not know the request");
        for (left, text) in [(DAY * 12, "12 days"), (secs(90), "1 min"), (DAY, "24 h")] {
            assert_eq!(days(left), text);
        }
    }
}
