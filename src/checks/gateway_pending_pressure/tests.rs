use super::super::Override;
use super::super::example::{EVERYWHERE, THREE, Trial, World, secs};
use super::*;

const MB: u64 = 1_000_000;

fn trial<'a>(from: &'a [&'a str], opens: &'a [&'a str]) -> Trial<'a> {
    Trial { of: THREE, from, opens, within: secs(4), lasts: secs(60) }
}

/// The publisher stops, and what waits passes at once.
fn stop(server: &'static str, remote: &'static str) -> impl Fn(&mut World) {
    move |w| w.jam(server, remote, 0, 100 * MB)
}

#[test]
fn a_slow_jam_between_two_foreign_clusters_is_one_warning() {
    let expected = ["gateway_pending_pressure us/us-1→ap congested"];
    trial(&["eu-0"], &expected).holds(
        |w| {
            w.jam("us-1", "ap", 4 * MB, 0);
            w.run(secs(1));
            w.jam("us-1", "ap", 2 * MB, 2 * MB);
        },
        stop("us-1", "ap"),
    );
}

/// What opened and was not reclassified, in the whole life of the fault.
fn lasting(world: &World) -> Vec<String> {
    let story = world.story();
    story.into_iter().filter(|line| !line.starts_with("updated") && !line.contains("reclassified")).collect()
}

#[test]
fn a_jam_that_grows_is_critical_and_nothing_else_opens() {
    for vantage in EVERYWHERE {
        for (server, remote) in
            [("us-1", "ap"), ("us-1", "eu"), ("eu-0", "us"), ("eu-2", "ap"), ("ap-0", "us")]
        {
            let mut world = World::seen_from(vantage);
            let since = world.now;
            world.jam(server, remote, 20 * MB, 2 * MB);
            world.run(secs(90));
            let cluster = server.split('-').next().unwrap();
            let name = format!("gateway_pending_pressure {cluster}/{server}→{remote} congested");
            assert_eq!(world.open(), [&*name], "seen from {vantage}: {:?}", world.story());
            let finding = world.ledger.open().next().expect("one is open");
            assert_eq!(finding.severity, Severity::Critical);
            let took = finding.opened_at.since(since);
            assert!(took <= secs(16), "{took:?} for {name} from {vantage}: {:?}", world.story());
            for line in lasting(&world) {
                assert_eq!(line, format!("opened {name}"), "seen from {vantage}: {:?}", world.story());
            }
            world.jam(server, remote, 0, 100 * MB);
            world.run(secs(40));
            assert_eq!(world.open(), [""; 0], "{:?}", world.story());
            world.assert_in_order();
        }
    }
}

#[test]
fn a_burst_that_drains_by_itself_and_a_load_below_the_threshold_are_no_finding() {
    let mut world = World::seen_from("eu-0");
    for _ in 0..5 {
        world.jam("us-1", "ap", 40 * MB, 5 * MB);
        world.run(secs(1) / 5);
        world.jam("us-1", "ap", 0, 5 * MB);
        world.run(secs(10));
    }
    world.jam("us-2", "ap", 4 * MB, MB);
    world.run(secs(1) / 4);
    world.jam("us-2", "ap", MB, MB);
    world.run(secs(60));
    assert!(world.pending("us-2", "ap") > PRESSED_BYTES && world.pending("us-2", "ap") < MIB);
    assert_eq!(world.story(), [""; 0]);
}

#[test]
fn a_burst_that_does_not_end_is_told_of() {
    let mut world = World::seen_from("eu-0");
    world.jam("us-1", "ap", 40 * MB, 0);
    world.run(secs(1));
    world.jam("us-1", "ap", 5 * MB, 6 * MB);
    world.run(secs(5));
    let finding = world.ledger.open().next().expect("one is open");
    assert_eq!(finding.evidence["kind"], "bottleneck", "it takes 40 s to drain");
}

#[test]
fn the_thresholds_can_be_set_for_one_pair() {
    let mut world = World::seen_from("eu-0");
    let settings = world.settings.get_mut(MANUAL.slug).unwrap();
    settings.overrides.push(Override {
        cluster: Some("us".into()),
        remote: Some("ap".into()),
        values: [("pending_bytes_max", Value::Bytes(64 * MIB))].into(),
    });
    for cluster in ["us-1", "eu-1"] {
        world.jam(cluster, "ap", 20 * MB, 0);
    }
    world.run(secs(2));
    for cluster in ["us-1", "eu-1"] {
        world.jam(cluster, "ap", MB, MB);
    }
    world.run(secs(5));
    assert_eq!(world.open(), ["gateway_pending_pressure eu/eu-1→ap congested"]);
}

#[test]
fn it_resolves_only_well_below_its_threshold() {
    let mut world = World::seen_from("eu-0");
    world.jam("us-1", "ap", 3 * MB, 0);
    world.run(secs(1));
    world.jam("us-1", "ap", MB, MB);
    world.run(secs(5));
    assert_eq!(world.take_story(), ["opened gateway_pending_pressure us/us-1→ap congested"]);
    // 0.8 MB wait.
    world.jam("us-1", "ap", 0, 22 * MB / 10);
    world.run(secs(1));
    world.jam("us-1", "ap", MB, MB);
    world.run(secs(30));
    assert_eq!(world.take_story(), [""; 0], "{}", world.pending("us-1", "ap"));
    world.jam("us-1", "ap", 0, MB);
    world.run(secs(5));
    assert_eq!(world.take_story(), ["resolved gateway_pending_pressure us/us-1→ap"]);
}

#[test]
fn a_server_that_dies_behind_its_jam_is_missing() {
    let mut world = World::seen_from("eu-0");
    world.jam("us-1", "eu", 20 * MB, 10 * MB);
    world.run(secs(10));
    assert_eq!(world.open(), ["gateway_pending_pressure us/us-1→eu congested"]);
    world.kill("us-1");
    world.run(secs(40));
    assert_eq!(world.open(), ["server_missing us/us-1 unreachable"], "{:?}", world.story());
}

#[test]
fn the_finding_says_what_passes_and_which_side_is_slow() {
    let mut world = World::seen_from("eu-0");
    for server in ["us-0", "us-1", "us-2"] {
        world.jam(server, "ap", 20 * MB, 2 * MB);
    }
    world.run(secs(8));
    let findings: Vec<_> = world.ledger.open().collect();
    assert_eq!(findings.len(), 3);
    for finding in findings {
        let drain = finding.evidence["drain_bytes_per_s"].as_u64().unwrap();
        assert!((MB..4 * MB).contains(&drain), "{drain}");
        let inflow = finding.evidence["inflow_bytes_per_s"].as_u64().unwrap();
        assert!((15 * MB..25 * MB).contains(&inflow), "{inflow}");
        assert_eq!(finding.evidence["kind"], "bottleneck");
        assert_eq!(finding.evidence["top_accounts"], Json::Null);
        assert!(finding.evidence["pending_bytes"].as_u64() > Some(MIB));
        let peers: BTreeSet<_> =
            ["us-0", "us-1", "us-2"].iter().map(|server| world.peer(server, "ap")).collect();
        let side = if peers.len() > 1 { "the way between the clusters" } else { "the server at its end" };
        assert!(finding.evidence["slow_side"] == side || peers.len() == 2, "{:?}", finding.evidence);
    }
}
