//! The round trip of a gateway is long.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::verdict::{ask_gateways, millis, short};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{Life, Link, LinkState, Name, Snapshot};

/// Names longer than this go into no block of configuration.
const NAME_BYTES_MAX: usize = 128;

pub(super) struct GatewayRttHigh;

static MANUAL: Manual = Manual {
    slug: "gateway_rtt_high",
    code: "SERVER_018",
    severity: Severity::Warning,
    open_after: 2,
    resolve_after: 2,
    thresholds: &[Threshold {
        key: "rtt_max",
        default: Value::Duration(Duration::from_millis(50)),
        range: (Value::Duration(Duration::from_millis(1)), Value::Duration(Duration::from_secs(60))),
        about: "the longest round trip that is usual; set it for each pair of clusters that are far apart",
    }],
    detects: "The round trip of a gateway is longer than it should be.",
    matters: "Every request to a service in the other cluster takes at least one round trip, and one connection \
              carries no more than its TCP window in each of them. A way that became longer often leads over \
              another line than it should.",
    decides: "GATEWAYZ tells the round trip of each gateway, which a server measures about every 15 s. A \
              finding when the last two of a gateway are above `rtt_max`: once says little, for a PING that waited in \
              a black hole is answered when that ends; what stood there when the agent came does not count. When it \
              is so for all gateways of one cluster to another there is one finding, for the pair. The two directions of a pair are one fault: the finding of the \
              first cluster by name speaks for both, and of a slow host the finding that shows it. The agent learns \
              no baseline of its own: what is usual for a pair is set.",
    silent: "For a round trip that began while more than 256 KiB waited on the gateway: that shows the jam, and \
             gateway_pending_pressure is about it. For a single long round trip. While old and new round trips of a \
             pair differ, nothing resolves.",
    todo: "For clusters that are far apart by nature, set `rtt_max` for the pair, as the finding shows. Else compare \
           with `ping` and `traceroute` between the two hosts: a route over another line, a VPN, a proxy between, or \
           a host without processor time to answer.",
};

impl Check for GatewayRttHigh {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, watched: &Watched<'_>) -> Vec<Verdict> {
        let least = settings.least_duration("rtt_max");
        let told = |link: &Link| link.state == LinkState::Connected && link.rtt.last().is_some();
        let high = |link: &Link| told(link) && is_high(link, least);
        let mut verdicts = Vec::new();
        for ((cluster, remote), mut links) in watched.pairs(MANUAL.slug, &snapshot.links, high) {
            links.retain(|link| told(link));
            if links.is_empty() {
                continue;
            }
            let back: Vec<&Link> =
                snapshot.links_from(remote).filter(|l| l.remote == *cluster && told(l)).collect();
            let pair = Pair {
                snapshot,
                cluster,
                remote,
                links: &links,
                back: &back,
                max: settings.duration("rtt_max", Some(cluster), Some(remote)),
                back_max: settings.duration("rtt_max", Some(remote), Some(cluster)),
            };
            let whole = pair.judge();
            let spoken_for = matches!(whole, Outcome::Violated(_));
            verdicts.push(pair.verdict(None, whole));
            verdicts.extend(links.iter().map(|link| {
                let outcome = if spoken_for { Outcome::Unknown } else { pair.judge_link(link) };
                pair.verdict(Some(link), outcome)
            }));
        }
        verdicts
    }

    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let cluster = entity.cluster.as_deref().unwrap_or_default();
        let is = |name: &Name| entity.server.as_ref().is_none_or(|server| server == name);
        let lives = snapshot.servers_of(cluster).any(|s| is(&s.info.name) && s.life != Life::Left);
        let exists = entity.remote.as_ref().is_some_and(|remote| snapshot.clusters.contains_key(remote));
        if lives && exists { Outcome::Unknown } else { Outcome::Gone }
    }
}

/// The gateways of one cluster to another, and those of the way back.
struct Pair<'a> {
    snapshot: &'a Snapshot,
    cluster: &'a Name,
    remote: &'a Name,
    links: &'a [&'a Link],
    back: &'a [&'a Link],
    max: Duration,
    back_max: Duration,
}

fn is_high(link: &Link, max: Duration) -> bool {
    link.rtt.last().is_some_and(|rtt| rtt > max)
}

fn was_high(link: &Link, max: Duration) -> bool {
    is_high(link, max) && link.rtt.before().is_some_and(|rtt| rtt > max)
}

fn is_calm(link: &Link, max: Duration) -> bool {
    !is_high(link, max) && link.rtt.before().is_none_or(|rtt| rtt <= max)
}

impl Pair<'_> {
    fn judge(&self) -> Outcome {
        let (max, back_max) = (self.max, self.back_max);
        let both = !self.back.is_empty() && self.back.iter().all(|l| is_high(l, back_max));
        // Once says little: a PING that waited in a black hole or a stopped process is answered when that ends.
        if self.links.iter().all(|l| was_high(l, max)) {
            // They all end at one slow host.
            if !both && self.links.iter().all(|l| self.is_shown_by_the_other_end(l)) {
                return Outcome::Unknown;
            }
            let rtts = self.links.iter().chain(self.back).filter_map(|l| l.rtt.last());
            return Outcome::Violated(Box::new(self.violation(None, rtts.max().unwrap_or_default())));
        }
        // After healing the round trips are measured one by one: those that are old do not speak for themselves.
        if self.lows() == self.links.len() + self.back.len() || self.links.iter().any(|l| is_calm(l, max)) {
            Outcome::Healthy
        } else {
            Outcome::Unknown
        }
    }

    /// How many of the pair were short the last time.
    fn lows(&self) -> usize {
        let low = |links: &[&Link], max| links.iter().filter(|l| !is_high(l, max)).count();
        low(self.links, self.max) + low(self.back, self.back_max)
    }

    fn judge_link(&self, link: &Link) -> Outcome {
        if was_high(link, self.max) {
            // Whether the whole pair is slow is known when each was measured twice.
            let all = self.links.len() > 1 && self.links.iter().all(|l| is_high(l, self.max));
            if all || self.is_shown_by_the_other_end(link) {
                return Outcome::Unknown;
            }
            let rtt = link.rtt.last().unwrap_or_default();
            return Outcome::Violated(Box::new(self.violation(Some(link), rtt)));
        }
        let whole = self.lows() == self.links.len() + self.back.len();
        if is_calm(link, self.max) || !is_high(link, self.max) && whole {
            Outcome::Healthy
        } else {
            Outcome::Unknown
        }
    }

    /// The server at the other end has a long way to our cluster too, and more connections of the pair that are
    /// slow than this one has: it is the slow host.
    fn is_shown_by_the_other_end(&self, link: &Link) -> bool {
        let Some(peer) = &link.peer else { return false };
        let other_high = self.back.iter().any(|l| l.server == *peer && is_high(l, self.back_max));
        let ends = |server: &Name| {
            let forth = self.links.iter().filter(|l| is_high(l, self.max));
            let back = self.back.iter().filter(|l| is_high(l, self.back_max));
            forth.chain(back).filter(|l| l.server == *server || l.peer.as_ref() == Some(server)).count()
        };
        let (near, far) = (ends(&link.server), ends(peer));
        other_high && (far > near || far == near && self.remote < self.cluster)
    }

    fn violation(&self, link: Option<&Link>, rtt: Duration) -> Violation {
        let at = self.snapshot.at;
        let (cluster, remote) = (short(self.cluster), short(self.remote));
        let millis_of = |d: Duration| format!("{} ms", d.as_millis());
        let from = link.map_or_else(
            || format!("every gateway of {cluster}"),
            |l| format!("the gateway of {} ({cluster})", short(&l.server)),
        );
        let told = |links: &[&Link]| -> Json {
            let each = links.iter().take(32).filter_map(|l| {
                Some(json!({
                    "server": short(&l.server),
                    "peer": l.peer.as_deref().map(short),
                    "rtt_ms": millis(l.rtt.last()?),
                }))
            });
            each.collect::<Vec<Json>>().into()
        };
        let others: Vec<Duration> = self.links.iter().filter_map(|l| l.rtt.last()).collect();
        let detail = match (link, others.iter().min()) {
            (Some(_), Some(least)) if *least <= self.max => format!(
                "{} to {remote}; another server of {cluster} has {}: the two hosts or the way between them",
                millis_of(rtt),
                millis_of(*least)
            ),
            (Some(_), _) => format!("{} to {remote}, twice in a row", millis_of(rtt)),
            (None, least) => format!(
                "{} to {} on {} gateways to {remote} and {} from it: the way between the clusters",
                millis_of(least.copied().unwrap_or(rtt)),
                millis_of(rtt),
                self.links.len(),
                self.back.len()
            ),
        };
        let mut evidence = Map::new();
        evidence.insert("rtt_ms".into(), millis(rtt));
        evidence.insert("rtt_max_ms".into(), millis(self.max));
        evidence.insert("rtt_before_ms".into(), json!(link.and_then(|l| l.rtt.before()).map(millis)));
        evidence.insert("links".into(), told(self.links));
        evidence.insert("links_back".into(), told(self.back));
        let mut remediation = vec![Step::by_hand(format!(
            "compare `ping` and `traceroute` from {} to a server of {remote}: another line, a VPN or proxy between, a \
             host without processor time",
            link.map_or_else(
                || format!("a host of {cluster}"),
                |l| format!("the host of {}", short(&l.server))
            )
        ))];
        remediation.extend(usual(self.cluster, self.remote, rtt).map(Step::by_hand));
        remediation.extend(link.and_then(|l| ask_gateways(&l.server, &l.server_id)));
        let own = link.and_then(|l| self.snapshot.servers.get(&l.server_id));
        Violation {
            since: at,
            ripe_at: at,
            summary: format!(
                "{from} to {remote} has a round trip of {}, more than {}",
                millis_of(rtt),
                millis_of(self.max)
            ),
            cause: Cause::new(CauseKind::Unknown, Confidence::Possible, detail),
            impact: format!(
                "a request from {cluster} to a service in {remote} takes {} and more; one connection carries no more \
                 than its TCP window in that time",
                millis_of(rtt)
            ),
            // Twice as long is news.
            essence: rtt.as_millis().checked_ilog2().unwrap_or(0).to_string(),
            evidence,
            remediation,
            server: own.map(|s| s.info.clone()),
            scope: Scope::Entity,
        }
    }

    fn verdict(&self, link: Option<&&Link>, outcome: Outcome) -> Verdict {
        Verdict {
            check: MANUAL.slug,
            severity: MANUAL.severity,
            entity: Entity {
                cluster: Some(self.cluster.clone()),
                server: link.map(|l| l.server.clone()),
                server_id: link.map(|l| l.server_id.clone()),
                remote: Some(self.remote.clone()),
                ..Entity::default()
            },
            outcome,
        }
    }
}

/// What to put into the agent's configuration where that is the usual round trip: half as much again.
fn usual(cluster: &str, remote: &str, rtt: Duration) -> Option<String> {
    let plain = |name: &str| name.len() <= NAME_BYTES_MAX && short(name) == name;
    if !plain(cluster) || !plain(remote) {
        return None;
    }
    // JSON writes a string as TOML reads it.
    let (a, b) = (json!(cluster).to_string(), json!(remote).to_string());
    let max = (rtt * 3 / 2).as_millis().div_ceil(10) * 10;
    let block = |from: &str, to: &str| {
        format!(
            "[[checks.gateway_rtt_high.override]]\ncluster = {from}\nremote = {to}\nrtt_max = \"{max}ms\""
        )
    };
    Some(format!(
        "where the two clusters are that far apart by nature, say so in the agent's configuration, for both \
         directions, and restart the agent:\n{}\n\n{}",
        block(&a, &b),
        block(&b, &a)
    ))
}

#[cfg(test)]
mod tests {
    use super::super::example::{EVERYWHERE, THREE, Trial, World, ms, secs};
    use super::*;

    fn trial<'a>(opens: &'a [&'a str]) -> Trial<'a> {
        Trial { of: THREE, from: EVERYWHERE, opens, within: secs(33), lasts: secs(60) }
    }

    fn far(a: &'static str, b: &'static str, rtt: u64) -> impl Fn(&mut World) {
        move |w| w.delay(a, b, ms(rtt))
    }

    #[test]
    fn two_clusters_far_apart_are_one_finding_from_each_cluster() {
        trial(&["gateway_rtt_high eu→us unknown"]).holds(far("eu", "us", 51), World::heal);
        trial(&["gateway_rtt_high ap→us unknown"]).holds(far("us", "ap", 400), World::heal);
    }

    #[test]
    fn just_below_the_threshold_is_none() {
        trial(&[]).holds(far("eu", "us", 49), World::heal);
    }

    #[test]
    fn one_slow_host_is_one_finding_however_many_connect_to_it() {
        for seed in 1..6 {
            for (server, other) in [("eu-1", "us"), ("us-1", "eu")] {
                let mut world = World::with_seed("ap-0", seed);
                world.delay(server, other, ms(80));
                world.run(secs(60));
                let cluster = server.split('-').next().unwrap();
                let opened = [format!("opened gateway_rtt_high {cluster}/{server}→{other} unknown")];
                assert_eq!(world.story(), opened, "seed {seed}");
                world.heal();
                world.run(secs(40));
                assert_eq!(world.open(), [""; 0], "seed {seed}");
            }
        }
    }

    #[test]
    fn one_long_round_trip_is_none() {
        let mut world = World::seen_from("eu-0");
        for _ in 0..5 {
            world.delay("us-1", "ap", ms(900));
            world.run(secs(15));
            world.heal();
            world.run(secs(15));
        }
        assert_eq!(world.story(), [""; 0]);
    }

    #[test]
    fn the_block_in_the_finding_is_what_the_configuration_takes_and_ends_it() {
        let mut world = World::seen_from("eu-0");
        world.delay("eu", "us", ms(160));
        world.run(secs(30));
        assert_eq!(world.take_story(), ["opened gateway_rtt_high eu→us unknown"]);
        let finding = world.ledger.open().next().expect("one is open");
        assert_eq!(finding.evidence["rtt_ms"], 160);
        let step = finding.remediation.iter().find(|s| s.action.contains("[[checks")).expect("a block");
        let (_, block) = step.action.split_once(":\n").expect("it stands on lines of its own");
        let table: toml::Table = block.parse().expect("it is TOML");
        let overrides = table["checks"]["gateway_rtt_high"]["override"].as_array().expect("a list").clone();
        assert_eq!(overrides.len(), 2);
        let settings = world.settings.get_mut(MANUAL.slug).unwrap();
        for o in overrides {
            let text = |key: &str| o[key].as_str().expect("a string").to_owned();
            assert_eq!(text("rtt_max"), "240ms");
            settings.overrides.push(super::super::Override {
                cluster: Some(text("cluster")),
                remote: Some(text("remote")),
                values: [("rtt_max", Value::Duration(ms(240)))].into(),
            });
        }
        world.run(secs(5));
        assert_eq!(world.take_story(), ["resolved gateway_rtt_high eu→us"]);
        assert_eq!(usual("a\nb", "us", ms(80)), None, "a name that is none");
    }

    #[test]
    fn a_jam_makes_no_finding_about_round_trips() {
        let mut world = World::seen_from("eu-0");
        world.jam("us-1", "ap", 20_000_000, 2_000_000);
        world.run(secs(60));
        world.jam("us-1", "ap", 0, 100_000_000);
        world.run(secs(60));
        assert!(
            world.story().iter().all(|line| line.contains("gateway_pending_pressure")),
            "{:?}",
            world.story()
        );
    }
}
