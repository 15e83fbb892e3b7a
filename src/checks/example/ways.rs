//! What an agent sees that looks by more than one way.

use super::*;
use crate::checks::Confidence;

fn told_of(of: &[(&str, usize)], from: &str, vantages: &[&str], seed: u64) -> World {
    let mut world = World::of(of, from, seed);
    world.ways.vantages = vantages.iter().map(|name| Name::from(*name)).collect();
    world
}

#[test]
fn two_clusters_that_lose_each_other_are_one_cut_path_for_who_looks_from_both() {
    let two: &[(&str, usize)] = &[("eu", 3), ("us", 3)];
    for (of, from, vantage) in
        [(two, "eu-0", "us-0"), (two, "us-1", "eu-2"), (THREE, "eu-0", "us-2"), (THREE, "us-0", "ap-1")]
    {
        for seed in 1..4 {
            let mut world = told_of(of, from, &[vantage], seed);
            world.partition("eu", "us");
            world.run(secs(4));
            let seen = format!("from {from} and {vantage} with seed {seed}: {:?}", world.story());
            assert_eq!(world.story(), ["opened gateway_disconnected eu→us path_cut"], "{seen}");
            let finding = world.ledger.open().next().expect("one is open").clone();
            assert_eq!(finding.cause.confidence, Confidence::Certain, "{} {seen}", finding.cause.detail);
            crate::findings::judge::tests::assert_alike(&world);
            world.run(secs(60));
            assert_eq!(world.take_story().len(), 1, "{seen}");
            world.heal();
            world.run(secs(10));
            assert_eq!(world.story(), ["resolved gateway_disconnected eu→us"], "{seen}");
            world.run(secs(30));
            assert_eq!(world.open(), [""; 0], "{seen}");
        }
    }
}

#[test]
fn a_cluster_that_dies_with_the_vantage_in_it_is_unreachable() {
    let mut world = told_of(THREE, "eu-0", &["us-0"], 1);
    world.kill_cluster("us");
    world.run(secs(30));
    assert_eq!(world.take_story(), ["opened cluster_unreachable us remote_cluster_down"]);
    world.start_cluster("us");
    world.run(secs(30));
    assert_eq!(world.story(), ["resolved cluster_unreachable us"]);
}

/// One thing after the other opens and resolves while our own server does not see `us`.
fn goes_on(world: &mut World, seen: &str) {
    world.cut("us-1", "ap");
    world.run(secs(4));
    assert_eq!(world.take_story(), ["opened gateway_disconnected us/us-1→ap path_cut"], "{seen}");
    world.allow("us-1", "ap");
    world.run(secs(4));
    assert_eq!(world.take_story(), ["resolved gateway_disconnected us/us-1→ap"], "{seen}");
    world.kill("us-2");
    world.run(secs(8));
    assert_eq!(world.take_story(), ["opened server_missing us/us-2 unreachable"], "{seen}");
    world.start("us-2");
    world.run(secs(8));
    assert_eq!(world.take_story(), ["resolved server_missing us/us-2"], "{seen}");
}

#[test]
fn one_lost_link_of_our_own_server_hides_nothing() {
    for seed in 1..6 {
        let mut world = World::of(THREE, "eu-0", seed);
        world.cut("eu-0", "us");
        world.run(secs(5));
        let seen = format!("with seed {seed}: {:?}", world.story());
        assert_eq!(world.take_story(), ["opened gateway_disconnected eu/eu-0→us path_cut"], "{seen}");
        crate::findings::judge::tests::assert_alike(&world);
        goes_on(&mut world, &seen);
        world.heal();
        world.run(secs(30));
        assert_eq!(world.story(), ["resolved gateway_disconnected eu/eu-0→us"], "{seen}");
    }
}

#[test]
fn one_silent_link_of_our_own_server_hides_nothing() {
    for seed in 1..6 {
        let mut world = World::of(THREE, "eu-0", seed);
        world.swallow("eu-0", "us");
        world.run(secs(5));
        let seen = format!("with seed {seed}: {:?}", world.story());
        assert_eq!(world.take_story()[0], "opened gateway_silent eu/eu-0→us path_cut", "{seen}");
        world.run(secs(5));
        world.take_story();
        goes_on(&mut world, &seen);
        world.heal();
        world.run(secs(30));
        assert_eq!(world.story(), ["resolved gateway_silent eu/eu-0→us"], "{seen}");
    }
}

#[test]
fn whatever_happens_together_resolves_for_who_looks_from_two_places() {
    for (seed, vantage) in (1..40).zip(["us-0", "ap-1", "eu-1"].into_iter().cycle()) {
        let mut world = told_of(THREE, "eu-0", &[vantage], seed);
        for _ in 0..4 {
            let names = world.names();
            let server = names[world.pick(names.len())].clone();
            let others = ["ap", "eu", "us"].into_iter().filter(|c| !server.starts_with(c));
            let others: Vec<&str> = others.collect();
            let remote = others[world.pick(2)];
            match world.pick(6) {
                0 => world.cut(&server, remote),
                1 => world.swallow(&server, remote),
                2 => world.partition("eu", remote),
                // The agent would be elsewhere.
                3 if *server != *"eu-0" => world.kill(&server),
                4 => world.refuse_login(&server, remote),
                _ => world.half_open(&server, remote),
            }
            let time = ms(500 + 500 * world.pick(20) as u64);
            world.run(time);
        }
        world.heal();
        for cluster in ["ap", "eu", "us"] {
            world.start_if_down(cluster);
        }
        world.run(secs(70));
        let open: Vec<String> =
            world.open().into_iter().filter(|line| !line.starts_with("gateway_flapping")).collect();
        assert_eq!(open, [""; 0], "with seed {seed} from {vantage}: {:#?}", world.story());
        world.assert_in_order();
    }
}
