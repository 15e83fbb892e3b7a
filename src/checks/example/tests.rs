use super::*;

/// `what` makes no finding, seen from each cluster.
fn silent(what: impl Fn(&mut World)) {
    for vantage in EVERYWHERE {
        for seed in 1..3 {
            let mut world = World::with_seed(vantage, seed);
            what(&mut world);
            world.run(secs(20));
            let story = world.story();
            assert!(story.is_empty(), "nothing is wrong, seen from {vantage} with seed {seed}: {story:?}");
        }
    }
}

#[test]
fn ten_healthy_minutes_make_no_finding() {
    let mut world = World::seen_from("eu-0");
    world.run(secs(600));
    assert_eq!(world.story(), [""; 0]);
    assert_eq!(world.view().servers.len(), 9, "every server is known");
    assert!(world.view().servers.values().all(|s| s.varz.is_some() && s.statsz.is_some()));
}

#[test]
fn a_rolling_restart_of_all_nine_makes_no_finding() {
    silent(|world| {
        for server in world.names() {
            world.restart(&server);
            world.run(secs(2));
        }
    });
}

#[test]
fn a_hasty_rolling_restart_makes_no_finding() {
    silent(|world| {
        for server in world.names() {
            world.restart(&server);
            world.run(ms(900));
        }
    });
}

#[test]
fn crashes_that_a_supervisor_mends_at_once_make_no_finding() {
    silent(|world| {
        for server in ["eu-1", "us-1", "ap-2", "us-2", "eu-2"] {
            world.kill(server);
            world.start(server);
            world.run(secs(3));
        }
    });
}

#[test]
fn the_restart_of_a_whole_cluster_makes_no_finding() {
    silent(|world| {
        for server in ["us-1", "us-2", "us-0"] {
            world.restart(server);
        }
        world.run(secs(20));
    });
}

#[test]
fn a_lame_duck_makes_no_finding_however_long_it_takes_and_is_back_under_its_name() {
    silent(|world| {
        for server in ["us-1", "eu-2"] {
            world.lame_duck(server);
            world.run(secs(40));
            world.kill(server);
            world.run(secs(1));
            world.start(server);
            world.run(secs(5));
        }
    });
}

#[test]
fn a_server_taken_out_of_service_makes_no_finding_and_is_forgotten() {
    silent(|world| {
        world.shut_down("ap-2");
        let id = world.id("ap-2");
        world.run(secs(30));
        assert!(world.view().servers.contains_key(&id), "it is known to have left");
        world.skip(secs(3700));
        world.run(secs(10));
        assert!(!world.view().servers.contains_key(&id), "an hour later it is forgotten");
    });
}

#[test]
fn ten_reconnects_of_the_agent_make_no_finding() {
    silent(|world| {
        for n in 0..10_u64 {
            world.run(ms(700 * n));
            let next = world.names()[usize::try_from(n * 4 % 9).unwrap()].clone();
            world.reconnect(&next);
        }
    });
}

#[test]
fn a_link_that_is_made_again_after_1150_ms_makes_no_finding() {
    silent(|world| {
        // More than two of them are flapping, which is a finding of its own.
        world.settings.get_mut("gateway_flapping").expect("a check").enabled = false;
        for _ in 0..20 {
            world.reset("us-1", "eu", ms(1150));
            world.reset("eu-0", "us", ms(1150));
            world.run(ms(1750));
        }
    });
}

#[test]
fn a_reply_that_is_lost_now_and_then_makes_no_finding() {
    silent(|world| {
        for n in 0..40 {
            let server = world.names()[n % 9].clone();
            world.lose_reply(&server);
            world.run(ms(900));
        }
    });
}

#[test]
fn replies_that_come_late_or_twice_make_no_finding() {
    silent(|world| {
        world.doubled = true;
        world.delay_replies("us-1", 1);
        world.delay_replies("eu-2", 6);
        world.run(secs(20));
    });
}

#[test]
fn what_is_told_late_counts_as_of_when_it_was_so() {
    let mut world = World::seen_from("eu-0");
    world.delay_replies("us-1", 6);
    world.run(secs(5));
    world.reset("us-1", "ap", ms(1150));
    world.run(secs(20));
    assert_eq!(world.take_story(), [""; 0], "it was back before the first that came told that it was gone");
    world.cut("us-1", "ap");
    world.run(secs(5));
    assert_eq!(world.take_story(), [""; 0], "that it stays away is not told yet");
    world.run(secs(2));
    assert_eq!(world.take_story(), ["opened gateway_disconnected us/us-1→ap path_cut"]);
    world.heal();
    world.run(secs(6));
    assert_eq!(world.take_story(), ["resolved gateway_disconnected us/us-1→ap"]);
}

#[test]
fn what_cannot_be_seen_neither_opens_nor_resolves() {
    // From eu-0 alone, all of us is dark while eu-0 has no gateway to it; who lives there is unknown.
    let mut world = World::seen_from("eu-0");
    world.ways.alone = true;
    world.kill("us-1");
    world.run(secs(10));
    assert_eq!(world.story(), ["opened server_missing us/us-1 unreachable"]);
    world.cut("eu-0", "us");
    world.start("us-1");
    world.run(secs(1));
    let before = world.open();
    world.lose_reply("us-0");
    assert_eq!(before, ["server_missing us/us-1 unreachable"], "its heartbeats have yet to come");
    world.kill("us-2");
    world.run(secs(9));
    assert!(
        world.story().iter().all(|line| !line.contains("us/us-2")),
        "nobody who would know was asked: {:?}",
        world.story()
    );
    world.heal();
    world.start("us-2");
    world.run(secs(15));
    assert_eq!(world.open(), [""; 0]);
    world.assert_in_order();
}

#[test]
fn an_agent_that_starts_during_a_fault_finds_it_level_and_not_edge() {
    type Fault = fn(&mut World);
    let faults: [(Fault, &str, &str); 5] = [
        (|w| w.cut("us-1", "eu"), "eu-0", "opened gateway_disconnected us/us-1→eu unreachable"),
        (|w| w.cut("eu-0", "us"), "eu-0", "opened gateway_disconnected eu/eu-0→us unreachable"),
        (|w| w.refuse_login("us-1", "eu"), "ap-0", "opened gateway_disconnected us/us-1→eu auth_rejected"),
        (|w| w.kill_cluster("us"), "eu-0", "opened cluster_unreachable us remote_cluster_down"),
        (|w| w.partition("eu", "us"), "us-0", "opened cluster_unreachable eu path_cut"),
    ];
    for (fault, vantage, expected) in faults {
        let mut world = World::unwatched(THREE, 3);
        fault(&mut world);
        world.run(secs(5));
        world.watch(vantage);
        world.run(secs(20));
        assert_eq!(world.take_story(), [expected], "a fault that is older than the agent");
        world.heal();
        world.start_if_down("us");
        world.run(secs(20));
        assert_eq!(world.take_story().len(), 1, "it resolves once");
        assert_eq!(world.open(), [""; 0]);
    }
}

#[test]
fn an_agent_restarted_during_a_fault_opens_nothing_twice_and_resolves_once() {
    for (vantage, cluster) in [("eu-0", "us"), ("us-0", "eu"), ("ap-0", "us")] {
        type Fault = fn(&mut World, &str);
        let faults: [Fault; 3] = [
            |w, c| w.cut(&format!("{c}-1"), "ap"),
            |w, c| w.kill(&format!("{c}-1")),
            |w, c| w.kill_cluster(c),
        ];
        for (n, fault) in faults.iter().enumerate() {
            let mut world = World::seen_from(vantage);
            fault(&mut world, cluster);
            world.run(secs(10));
            world.restart_agent(vantage);
            world.run(secs(10));
            assert_eq!(world.open().len(), 1, "it is still open, fault {n} from {vantage}");
            world.heal();
            world.start_if_down(cluster);
            world.run(secs(20));
            let ends = |action| world.published.iter().filter(|c| c.action == action).count();
            assert_eq!(
                (ends(Action::Opened), ends(Action::Resolved), world.open().len()),
                (1, 1, 0),
                "fault {n} from {vantage}: {:?}",
                world.story()
            );
            world.assert_in_order();
        }
    }
}

#[test]
fn what_healed_while_the_agent_was_away_resolves_after_its_start() {
    let mut world = World::seen_from("eu-0");
    world.kill("us-1");
    world.kill_cluster("ap");
    world.run(secs(10));
    assert_eq!(world.open().len(), 2);
    world.agent = None;
    world.start("us-1");
    world.start_cluster("ap");
    world.run(secs(10));
    world.restart_agent("eu-0");
    world.run(secs(15));
    assert_eq!(world.open(), [""; 0], "{:?}", world.story());
}

#[test]
fn servers_before_2_10_21_are_judged_by_their_slower_heartbeat_and_nameless_routes() {
    let mut world = World::unwatched(THREE, 2);
    world.version("2.9.10");
    world.watch("us-0");
    world.run(secs(40));
    assert_eq!(world.take_story(), [""; 0]);
    world.stop("us-1");
    world.run(secs(40));
    assert_eq!(world.take_story(), [""; 0], "a heartbeat may take 30 s; nothing before one and a half");
    world.run(secs(20));
    assert_eq!(world.take_story(), ["opened server_missing us/us-1 unknown"]);
}
