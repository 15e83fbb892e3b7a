use std::sync::Arc;

use super::super::example::{EVERYWHERE, World, ms, secs};
use super::*;
use crate::findings::judge::tests::assert_alike;
use crate::model::{Remotes, Topology};

/// A healthy world, and a file that says what it is, but for what `edit` changes. What is expected may be away
/// for a minute, so that the tests do not take five.
fn drifting(vantage: &str, edit: impl FnOnce(&mut Topology)) -> World {
    let mut world = World::seen_from(vantage);
    hurry(&mut world);
    expect(&mut world, edit);
    world
}

fn hurry(world: &mut World) {
    let settings = world.settings.get_mut(MANUAL.slug).expect("it is registered");
    settings.values.insert("absent_for", Value::Duration(secs(60)));
}

fn expect(world: &mut World, edit: impl FnOnce(&mut Topology)) {
    let mut topology = Topology::of(world.view());
    edit(&mut topology);
    world.expected = Some(Arc::new(topology));
}

fn members<'a>(topology: &'a mut Topology, cluster: &str) -> &'a mut Members {
    topology.clusters.get_mut(cluster).expect("a cluster")
}

/// Exactly this opens, once, not before `patience`; and resolves, for this reason, when the file is right.
fn one(edit: impl Fn(&mut Topology), patience: Duration, about: &str, resolved: &str) {
    for vantage in EVERYWHERE {
        let mut world = drifting(vantage, &edit);
        // What is not expected was there long before the file was.
        world.run(patience.saturating_sub(secs(10)));
        if patience > secs(30) {
            assert_eq!(world.story(), [""; 0], "not so soon");
        }
        world.run(secs(40));
        assert_eq!(world.take_story(), [format!("opened topology_drift {about}")], "seen from {vantage}");
        assert_alike(&world);
        expect(&mut world, |_| {});
        world.run(secs(10));
        assert_eq!(
            world.take_story(),
            [format!("resolved topology_drift {resolved}")],
            "seen from {vantage}"
        );
        world.assert_in_order();
    }
}

#[test]
fn a_supercluster_as_it_is_expected_makes_no_finding() {
    for vantage in EVERYWHERE {
        let mut world = drifting(vantage, |_| {});
        world.run(secs(100));
        assert_eq!(world.story(), [""; 0]);
        world.expected = None;
        world.run(secs(10));
        assert_eq!(world.story(), [""; 0]);
    }
}

#[test]
fn a_server_in_the_file_only_is_one_finding() {
    let edit = |t: &mut Topology| {
        members(t, "us").servers.insert("us-9".into());
    };
    one(edit, secs(60), "us/us-9 unknown", "us/us-9 gone");
}

#[test]
fn a_cluster_in_the_file_only_is_one_finding() {
    let edit = |t: &mut Topology| {
        let zz = Members {
            servers: BTreeSet::from(["zz-0".into()]),
            remotes: Remotes { configured: BTreeSet::from(["eu".into()]), ..Remotes::default() },
            ..Members::default()
        };
        t.clusters.insert("zz".into(), zz);
        // Part of the same difference.
        members(t, "eu").remotes.configured.insert("zz".into());
    };
    one(edit, secs(60), "zz unknown", "zz gone");
}

#[test]
fn a_server_in_the_supercluster_only_is_one_finding() {
    let edit = |t: &mut Topology| {
        members(t, "us").servers.remove("us-1");
    };
    one(edit, secs(30), "us/us-1 unknown", "us/us-1");
}

#[test]
fn a_cluster_in_the_supercluster_only_is_one_finding() {
    let edit = |t: &mut Topology| {
        t.clusters.remove("ap");
        members(t, "us").remotes.configured.remove("ap");
        members(t, "eu").remotes.configured.remove("ap");
    };
    one(edit, secs(30), "ap unknown", "ap");
}

#[test]
fn a_remote_that_a_whole_cluster_has_or_lacks_is_one_finding() {
    let unexpected = |t: &mut Topology| {
        members(t, "us").remotes.configured.remove("ap");
    };
    one(unexpected, secs(30), "us→ap unknown", "us→ap");
    let implicit = |t: &mut Topology| {
        let remotes = &mut members(t, "us").remotes;
        remotes.configured.remove("ap");
        remotes.implicit.insert("ap".into());
    };
    one(implicit, secs(30), "us→ap unknown", "us→ap");
}

#[test]
fn a_remote_that_one_server_ought_to_have_otherwise_is_one_finding() {
    let edit = |t: &mut Topology| {
        let us = members(t, "us");
        let mut own = us.remotes.clone();
        own.configured.remove("ap");
        us.except.insert("us-1".into(), own);
    };
    one(edit, secs(30), "us/us-1→ap unknown", "us/us-1→ap");
}

#[test]
fn a_remote_that_the_configuration_lost_is_found_though_gossip_hides_it() {
    let mut world = World::of(&[("eu", 3), ("us", 3)], "eu-0", 1);
    expect(&mut world, |_| {});
    for server in ["us-0", "us-1", "us-2"] {
        world.reconfigure(server, |g| {
            g.as_mut().expect("a block").remotes.remove("eu");
        });
    }
    world.run(secs(60));
    // The other is info, and must not hide a warning.
    assert_eq!(
        world.take_story(),
        ["opened gateway_implicit us→eu not_configured", "opened topology_drift us→eu not_configured"]
    );
    let finding = world.ledger.open().find(|f| &*f.check == MANUAL.slug).expect("it is open");
    assert_eq!(
        finding.summary,
        "remote eu of us is by gossip only and expected to be configured: it stands in the expected file only"
    );
    assert_eq!(finding.evidence["side"], "expected file");
    assert_eq!(
        (&finding.evidence["expected"], &finding.evidence["seen"]),
        (&json!("configured"), &json!("by gossip only"))
    );
    assert_eq!(finding.evidence["servers"], json!(["us-0", "us-1", "us-2"]));
    assert!(
        finding.remediation[0].action.ends_with("\n{ name: \"eu\", urls: [\"nats://10.0.0.1:7222\"] }"),
        "{:?}",
        finding.remediation
    );
    for server in ["us-0", "us-1", "us-2"] {
        world.reconfigure(server, |g| {
            g.as_mut().expect("a block").remotes.insert("eu".into(), crate::model::Urls::default());
        });
    }
    world.run(secs(20));
    assert_eq!(world.take_story(), ["resolved gateway_implicit us→eu", "resolved topology_drift us→eu"]);
}

#[test]
fn a_difference_inside_a_cluster_is_told_by_the_other_check() {
    let mut world = drifting("eu-0", |_| {});
    world.reconfigure("us-1", |g| {
        g.as_mut().expect("a block").remotes.remove("ap");
    });
    world.run(secs(100));
    assert_eq!(world.story(), ["opened gateway_config_mismatch us/us-1 unknown"]);
    world.reconfigure("us-1", |g| {
        g.as_mut().expect("a block").remotes.insert("ap".into(), crate::model::Urls::default());
    });
    world.run(secs(20));
    assert_eq!(world.open(), [""; 0], "{:?}", world.story());
}

#[test]
fn a_rolling_restart_opens_nothing() {
    for vantage in EVERYWHERE {
        let mut world = drifting(vantage, |_| {});
        for server in world.names() {
            world.restart(&server);
            world.run(secs(4));
        }
        world.run(secs(70));
        assert_eq!(world.story(), [""; 0], "seen from {vantage}");
    }
}

#[test]
fn a_lame_duck_may_be_away_for_minutes_and_one_that_does_not_come_back_is_drift() {
    let mut world = World::seen_from("eu-0");
    expect(&mut world, |_| {});
    world.lame_duck("us-1");
    world.run(secs(120));
    world.kill("us-1");
    world.run(secs(150));
    assert_eq!(world.story(), [""; 0], "it may come back");
    world.run(secs(60));
    assert_eq!(world.take_story(), ["opened topology_drift us/us-1 unknown"]);
    let finding = world.ledger.open().next().expect("one is open");
    assert_eq!(
        finding.summary,
        "us-1 (us) is absent and expected to be there: it stands in the expected file only"
    );
    world.restart_agent("ap-0");
    world.run(secs(30));
    assert_eq!(world.story(), [""; 0], "it stays open, and nobody takes it for a crash");
    world.skip(secs(3700));
    world.run(secs(20));
    assert_eq!(
        world.story(),
        ["reminded topology_drift us/us-1 unknown"],
        "also when its goodbye is long forgotten"
    );
    world.take_story();
    world.start("us-1");
    world.run(secs(10));
    assert_eq!(world.story(), ["resolved topology_drift us/us-1"]);
}

#[test]
fn a_planned_stop_of_a_cluster_is_told_once_and_its_servers_have_their_time_when_it_is_back() {
    let mut world = World::seen_from("eu-0");
    expect(&mut world, |_| {});
    for server in ["us-0", "us-1", "us-2"] {
        world.shut_down(server);
    }
    world.run(secs(320));
    assert_eq!(world.take_story(), ["opened cluster_unreachable us remote_cluster_down"]);
    world.start("us-0");
    world.run(secs(200));
    assert_eq!(world.take_story(), ["resolved cluster_unreachable us"], "the others are on their way");
    world.start("us-1");
    world.run(secs(200));
    assert_eq!(world.take_story(), ["opened topology_drift us/us-2 unknown"], "it did not come");
}

#[test]
fn what_bigger_findings_say_is_not_said_again() {
    type Fault = fn(&mut World);
    let faults: &[(Fault, &str)] = &[
        (|w| w.kill("us-1"), "opened server_missing us/us-1 unreachable"),
        (|w| w.kill_cluster("us"), "opened cluster_unreachable us remote_cluster_down"),
        (|w| w.partition("eu", "us"), "opened cluster_unreachable us path_cut"),
        (|w| w.cut("us-1", "ap"), "opened gateway_disconnected us/us-1→ap path_cut"),
    ];
    for (fault, opened) in faults {
        let mut world = drifting("eu-0", |_| {});
        fault(&mut world);
        world.run(secs(150));
        assert_eq!(world.story(), [*opened]);
    }
}

#[test]
fn an_open_difference_gives_way_to_a_bigger_finding() {
    let mut world = drifting("eu-0", |t| {
        members(t, "us").servers.remove("us-1");
    });
    world.run(secs(60));
    assert_eq!(world.take_story(), ["opened topology_drift us/us-1 unknown"]);
    world.kill_cluster("us");
    world.run(secs(10));
    assert_eq!(
        world.take_story(),
        ["opened cluster_unreachable us remote_cluster_down", "resolved topology_drift us/us-1 explained"]
    );
}

#[test]
fn an_unexpected_server_that_leaves_is_gone_after_the_time_of_a_restart() {
    let mut world = drifting("eu-0", |t| {
        members(t, "us").servers.remove("us-1");
    });
    world.run(secs(60));
    world.take_story();
    world.restart("us-1");
    world.run(secs(30));
    assert_eq!(world.story(), [""; 0], "a restart changes nothing");
    world.shut_down("us-1");
    world.run(secs(50));
    assert_eq!(world.story(), [""; 0]);
    world.run(secs(20));
    assert_eq!(world.story(), ["resolved topology_drift us/us-1 gone"]);
}

#[test]
fn an_agent_that_starts_again_ends_what_the_file_no_longer_has() {
    let mut world = drifting("eu-0", |t| {
        members(t, "us").servers.insert("us-9".into());
    });
    world.run(secs(70));
    assert_eq!(world.take_story(), ["opened topology_drift us/us-9 unknown"]);
    world.restart_agent("eu-0");
    world.run(secs(20));
    assert_eq!(world.story(), [""; 0], "it stays open");
    world.restart_agent("eu-1");
    let mut topology = world.expected.as_deref().expect("a file").clone();
    members(&mut topology, "us").servers.remove("us-9");
    world.expected = Some(Arc::new(topology));
    world.run(secs(10));
    assert_eq!(world.take_story(), ["resolved topology_drift us/us-9 gone"]);

    expect(&mut world, |t| {
        members(t, "us").servers.insert("us-9".into());
    });
    world.run(secs(70));
    world.take_story();
    world.restart_agent("eu-0");
    world.expected = None;
    world.run(secs(10));
    assert_eq!(world.story(), ["resolved topology_drift us/us-9 gone"], "nobody expects anything");
}

#[test]
fn an_agent_that_just_started_gives_what_it_has_not_seen_its_time() {
    let mut world = World::seen_from("eu-0");
    hurry(&mut world);
    let topology = Arc::new(Topology::of(world.view()));
    world.lame_duck("us-1");
    world.run(secs(1));
    world.restart_agent("eu-0");
    world.roster = crate::model::Roster::default();
    world.expected = Some(topology);
    world.run(secs(30));
    world.kill("us-1");
    world.run(secs(20));
    world.start("us-1");
    world.run(secs(70));
    assert_eq!(world.story(), [""; 0]);
}

#[test]
fn a_server_that_cannot_speak_to_us_is_known_by_its_peers() {
    for ver in ["2.15.1", "2.9.10"] {
        let mut world = World::unwatched(&[("eu", 3), ("us", 3)], 1);
        world.version(ver);
        world.cut("us-1", "eu");
        let mut healthy = World::of(&[("eu", 3), ("us", 3)], "eu-0", 1);
        healthy.run(ms(1));
        world.expected = Some(Arc::new(Topology::of(healthy.view())));
        world.watch("eu-0");
        hurry(&mut world);
        world.run(secs(100));
        let drift = world.story().into_iter().filter(|line| line.contains("topology_drift")).count();
        assert_eq!(drift, 0, "on {ver}: {:?}", world.story());
    }
}

#[test]
fn what_is_seen_is_written_by_names_only_and_what_differs_stands_apart() {
    let mut world = World::seen_from("eu-0");
    let before = Topology::of(world.view());
    for server in world.names() {
        world.restart(&server);
        world.run(secs(4));
    }
    assert_eq!(Topology::of(world.view()), before, "new IDs change nothing");
    assert_eq!(Topology::of(World::with_seed("us-2", 7).view()), before, "nor does the vantage");
    world.reconfigure("us-1", |g| {
        let remotes = &mut g.as_mut().expect("a block").remotes;
        remotes.remove("ap");
        remotes.insert("nowhere".into(), crate::model::Urls::default());
    });
    world.run(secs(10));
    let mut after = before;
    let own = Remotes { configured: BTreeSet::from(["eu".into()]), implicit: BTreeSet::from(["ap".into()]) };
    members(&mut after, "us").except.insert("us-1".into(), own);
    assert_eq!(Topology::of(world.view()), after);
}

#[test]
fn names_of_others_do_no_harm_in_a_finding() {
    let evil = "x\u{1b}[31m'; rm -rf /\n".repeat(40);
    let mut world = drifting("eu-0", |t| {
        members(t, "us").servers.insert("us-9\u{202e}\n".into());
        t.clusters.insert(evil.get(..200).expect("long enough").into(), Members::default());
    });
    world.run(secs(80));
    assert_eq!(world.ledger.open().count(), 2);
    for finding in world.ledger.open() {
        let text = format!(
            "{} {} {} {:?}",
            finding.summary, finding.impact, finding.cause.detail, finding.remediation
        );
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text}");
    }
}
