use super::super::example::{EVERYWHERE, THREE, Trial, World, ms, secs};
use super::super::{Outcome, evaluate};
use super::*;

fn trial<'a>(opens: &'a [&'a str]) -> Trial<'a> {
    Trial { of: THREE, from: EVERYWHERE, opens, within: secs(26), lasts: secs(60) }
}

#[test]
fn a_cut_route_is_one_finding_from_each_cluster() {
    for (cluster, a, b) in
        [("us", "us-0", "us-1"), ("us", "us-1", "us-2"), ("eu", "eu-1", "eu-2"), ("ap", "ap-0", "ap-2")]
    {
        let expected = format!("route_mesh_incomplete {cluster}/{a}~{b} path_cut");
        trial(&[&expected]).holds(|w| w.cut_route(a, b), World::heal);
    }
}

#[test]
fn where_both_can_be_asked_it_takes_the_time_to_the_next_lists_and_its_patience() {
    let expected = ["route_mesh_incomplete eu/eu-1~eu-2 path_cut"];
    let trial = Trial { from: &["eu-0"], within: ms(14_500), ..trial(&expected) };
    trial.holds(|w| w.cut_route("eu-1", "eu-2"), World::heal);
}

#[test]
fn the_agents_own_server_without_a_route_to_a_peer_does_not_make_the_peer_missing() {
    let expected = ["route_mesh_incomplete eu/eu-0~eu-1 path_cut"];
    let trial = Trial { from: &["eu-0"], lasts: secs(120), ..trial(&expected) };
    trial.holds(|w| w.cut_route("eu-1", "eu-0"), World::heal);
}

#[test]
fn a_server_that_lost_all_its_peers_is_one_finding() {
    let expected = ["route_mesh_incomplete us/us-1 unreachable"];
    let cut = |w: &mut World| ["us-0", "us-2"].iter().for_each(|peer| w.cut_route("us-1", peer));
    trial(&expected).holds(cut, World::heal);
    let inside = Trial { from: &["us-0", "us-2"], ..trial(&expected) };
    inside.holds(cut, World::heal);
    // Only gateways tell of the two others.
    let itself = Trial { from: &["us-1"], within: secs(62), lasts: secs(90), ..trial(&expected) };
    itself.holds(cut, World::heal);
}

#[test]
fn a_cluster_in_two_halves_is_one_finding_for_each_server_of_one() {
    let of: &[(&str, usize)] = &[("eu", 2), ("us", 5), ("ap", 2)];
    let cut = |w: &mut World| {
        for a in ["us-1", "us-3"] {
            for b in ["us-0", "us-2", "us-4"] {
                w.cut_route(a, b);
            }
        }
    };
    let expected = ["route_mesh_incomplete us/us-1 path_cut", "route_mesh_incomplete us/us-3 path_cut"];
    Trial { of, from: &["eu-0", "ap-1"], ..trial(&expected) }.holds(cut, World::heal);
}

#[test]
fn a_route_that_only_one_end_gave_up_is_a_finding_that_says_so() {
    let mut world = World::seen_from("us-0");
    world.lose_route("us-2", "us-1");
    world.run(secs(20));
    assert_eq!(world.take_story(), ["opened route_mesh_incomplete us/us-1~us-2 path_cut"]);
    let finding = world.ledger.open().next().expect("one is open");
    assert_eq!(finding.summary, "us-2 (us) has no route to us-1, which still lists one");
    assert_eq!(finding.evidence["lacking"], json!(["us-2"]));
    assert_eq!(finding.evidence["still_listed_by"], json!(["us-1"]));
    assert_eq!(finding.evidence["missing_peers"], json!(["us-2"]));
    // The other end gives it up too: it is the same fault.
    world.lose_route("us-1", "us-2");
    world.run(secs(10));
    assert_eq!(world.take_story(), ["updated route_mesh_incomplete us/us-1~us-2 path_cut"]);
    world.heal();
    world.run(secs(10));
    assert_eq!(world.take_story(), ["resolved route_mesh_incomplete us/us-1~us-2"]);
}

#[test]
fn one_route_of_several_that_heals_leaves_a_finding_for_the_other() {
    let mut world = World::seen_from("eu-0");
    world.cut_route("us-1", "us-0");
    world.cut_route("us-1", "us-2");
    world.run(secs(30));
    assert_eq!(world.take_story(), ["opened route_mesh_incomplete us/us-1 unreachable"]);
    world.heal();
    world.cut_route("us-1", "us-2");
    world.run(secs(30));
    assert_eq!(
        world.take_story(),
        ["resolved route_mesh_incomplete us/us-1", "opened route_mesh_incomplete us/us-1~us-2 path_cut"]
    );
}

#[test]
fn a_peer_that_dies_is_the_business_of_server_missing_and_a_restart_is_none() {
    for vantage in EVERYWHERE {
        let mut world = World::seen_from(vantage);
        world.kill("us-1");
        world.run(secs(30));
        assert_eq!(world.take_story(), ["opened server_missing us/us-1 unreachable"]);
        world.start("us-1");
        world.run(secs(30));
        assert_eq!(world.take_story(), ["resolved server_missing us/us-1"]);
        for _ in 0..3 {
            world.restart("us-2");
            world.run(ms(7_350));
        }
        world.lame_duck("us-1");
        world.run(secs(30));
        assert_eq!(world.take_story(), [""; 0]);
    }
}

#[test]
fn a_server_that_dies_behind_a_missing_route_is_missing() {
    let mut world = World::seen_from("eu-0");
    world.cut_route("us-1", "us-2");
    world.run(secs(30));
    // It is told anew when it is seen to explain that requests do not reach one of the two.
    let without_updates = |world: &mut World| {
        let story = world.take_story();
        story.into_iter().filter(|line| !line.starts_with("updated")).collect::<Vec<_>>()
    };
    assert_eq!(without_updates(&mut world), ["opened route_mesh_incomplete us/us-1~us-2 path_cut"]);
    world.kill("us-2");
    world.run(secs(30));
    assert_eq!(
        without_updates(&mut world),
        ["resolved route_mesh_incomplete us/us-1~us-2 gone", "opened server_missing us/us-2 unreachable"]
    );
}

#[test]
fn a_route_that_is_away_for_less_than_its_patience_is_no_finding() {
    let mut world = World::seen_from("eu-0");
    for _ in 0..6 {
        world.cut_route("eu-1", "eu-2");
        world.run(ms(2_400));
        world.heal();
        world.run(ms(3_100));
    }
    assert_eq!(world.story(), [""; 0]);
}

#[test]
fn the_patience_can_be_set_for_one_cluster() {
    let mut world = World::seen_from("eu-0");
    let missing_for = |secs| [("missing_for", Value::Duration(Duration::from_secs(secs)))].into();
    let settings = world.settings.get_mut(MANUAL.slug).unwrap();
    settings.overrides.push(super::super::Override {
        cluster: Some("us".into()),
        values: missing_for(60),
        ..Default::default()
    });
    world.cut_route("us-1", "us-2");
    world.cut_route("eu-1", "eu-2");
    world.run(secs(50));
    assert_eq!(world.open(), ["route_mesh_incomplete eu/eu-1~eu-2 path_cut"]);
    world.run(secs(40));
    assert_eq!(world.open().len(), 2);
}

#[test]
fn nothing_is_said_of_routes_that_nobody_tells_of() {
    let mut world = World::seen_from("eu-0");
    world.cut_route("us-1", "us-2");
    world.run(secs(30));
    assert_eq!(world.open().len(), 1, "{:?}", world.take_story());
    world.take_story();
    world.partition("eu", "us");
    world.run(secs(30));
    assert_eq!(world.take_story(), ["opened cluster_unreachable us path_cut"]);
    assert_eq!(world.open().len(), 2, "nobody saw the route come back");
    let open: Vec<(String, Entity)> =
        world.ledger.open().map(|f| (f.check.to_string(), f.entity.clone())).collect();
    let verdicts =
        evaluate(world.view(), &world.settings, &Watched::open(open.iter().map(|(c, e)| (&**c, e))));
    let of_routes =
        verdicts.iter().filter(|v| v.check == MANUAL.slug && v.entity.server.as_deref() == Some("us-1"));
    assert!(of_routes.clone().all(|v| v.outcome == Outcome::Unknown), "{of_routes:?}");
    world.heal();
    world.run(secs(30));
    assert_eq!(world.open(), [""; 0]);
}

#[test]
fn a_server_without_a_name_as_before_2_10_is_not_named_by_its_id() {
    let mut world = World::seen_from("eu-0");
    let id = world.id("eu-2");
    let mut snapshot = world.view().clone();
    let server = snapshot.servers.get_mut(&id).unwrap();
    server.sight = Sight::Named;
    server.info.name = id.clone();
    server.gatewayz = None;
    let lacking = world.id("eu-1");
    snapshot.servers.get_mut(&lacking).unwrap().lacks.insert(id, snapshot.began_at);
    let verdicts =
        RouteMeshIncomplete.evaluate(&snapshot, &world.settings[MANUAL.slug], &Watched::everything());
    assert_eq!(verdicts, [], "it will tell its name, or never");
    world.run(secs(1));
}
