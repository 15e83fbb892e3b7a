use super::super::{Configured, Connection, GatewayConfig, LinkState, Outbound, RoutePeer, Urls};
use super::*;

pub(super) fn at(millis: u64) -> Time {
    Time::from_millis(1_000_000 + millis)
}

pub(super) fn info(name: &str, id: &str, cluster: &str, seq: u64) -> ServerInfo {
    ServerInfo {
        name: name.into(),
        id: id.into(),
        cluster: Some(cluster.into()),
        ver: "2.15.1".into(),
        seq,
        ..ServerInfo::default()
    }
}

pub(super) fn to(ids: &[(&str, &str)]) -> Gatewayz {
    let connection = |id: &str| Connection { cid: 1, peer_id: id.into(), ..Connection::default() };
    Gatewayz {
        name: Some("eu".into()),
        outbound: ids
            .iter()
            .map(|(remote, id)| ((*remote).into(), Outbound { configured: true, connection: connection(id) }))
            .collect(),
        ..Gatewayz::default()
    }
}

pub(super) fn look(millis: u64, answered: &[&str]) -> Look {
    Look {
        epoch: 1,
        asked_at: at(millis),
        settled: true,
        vantage: Vantage {
            agent: "watch-1".into(),
            cluster: Some("eu".into()),
            server: "eu-0".into(),
            server_id: "E0".into(),
            ways: Vec::new(),
        },
        answered: answered.iter().map(|id| Name::from(*id)).collect(),
        elsewhere: BTreeSet::new(),
        late: BTreeMap::new(),
        observer: Observer::default(),
        lasts: Duration::ZERO,
        asked: BTreeMap::new(),
    }
}

#[test]
fn the_one_that_spoke_first_keeps_its_id() {
    let mut roster = Roster::default();
    roster.answer(info("eu-0", "E0", "eu", 1), Fact::Gatewayz(to(&[("us", "U0")])), at(0)).unwrap();
    let impostor = info("evil", "E0", "us", 99);
    let odd = roster.answer(impostor.clone(), Fact::Gatewayz(Gatewayz::default()), at(10)).unwrap_err();
    assert_eq!(odd.to_string(), "claims the ID of eu-0 (eu), as evil (us)");
    assert!(roster.hold_to_its_id(&impostor).is_err());
    assert!(roster.hear(impostor, Signal::Shutdown, at(20)).is_err(), "nor can it say goodbye for it");
    let snapshot = roster.snapshot(look(100, &["E0"]));
    assert_eq!(&*snapshot.servers["E0"].info.name, "eu-0");
    assert!(snapshot.servers["E0"].gatewayz.as_ref().unwrap().outbound.contains_key("us"));
    assert_eq!(snapshot.servers["E0"].sight, Sight::Answered);
}

#[test]
fn what_others_name_is_known_until_they_name_it_no_more() {
    let mut roster = Roster::default();
    assert!(roster.is_empty());
    roster
        .answer(info("eu-0", "E0", "eu", 1), Fact::Gatewayz(to(&[("us", "U0"), ("ap", "")])), at(0))
        .unwrap();
    assert_eq!(roster.len(), 2, "an empty ID is nobody's");
    let snapshot = roster.snapshot(look(0, &["E0"]));
    let named = &snapshot.servers["U0"];
    assert_eq!((named.sight, named.life, &*named.info.name), (Sight::Named, Life::Alive, "U0"));
    assert_eq!(named.named_by, BTreeSet::from(["eu-0".into()]));
    assert!(!roster.knows("U0") && roster.knows("E0"));
    roster.answer(info("eu-0", "E0", "eu", 2), Fact::Gatewayz(to(&[])), at(500)).unwrap();
    assert!(!roster.snapshot(look(500, &["E0"])).servers.contains_key("U0"), "a rumour ends");
}

#[test]
fn a_route_tells_the_name_of_who_was_known_by_id_only() {
    let mut roster = Roster::default();
    let peers = |name: Option<&str>| {
        let peer = RoutePeer { name: name.map(Name::from), ip: None, ..RoutePeer::default() };
        Fact::Routez(Routez { peers: [("E1".into(), peer)].into() })
    };
    roster.answer(info("eu-0", "E0", "eu", 1), peers(None), at(0)).unwrap();
    roster.answer(info("eu-0", "E0", "eu", 2), peers(Some("eu-1")), at(1)).unwrap();
    let snapshot = roster.snapshot(look(10, &["E0"]));
    assert_eq!(&*snapshot.servers["E1"].info.name, "eu-1");
    assert_eq!(snapshot.servers["E1"].info.cluster.as_deref(), Some("eu"), "routes stay in a cluster");
}

#[test]
fn an_old_answer_brings_no_ended_life_back() {
    let mut roster = Roster::default();
    roster.answer(info("us-0", "U0", "us", 1), Fact::Gatewayz(to(&[])), at(0)).unwrap();
    roster.answer(info("eu-0", "E0", "eu", 1), Fact::Gatewayz(to(&[("us", "U0")])), at(0)).unwrap();
    roster.snapshot(look(0, &["E0", "U0"]));
    // It restarts: another ID, and eu-0 has a connection with that.
    roster.answer(info("us-0", "U9", "us", 1), Fact::Gatewayz(to(&[])), at(2000)).unwrap();
    roster.answer(info("eu-0", "E0", "eu", 2), Fact::Gatewayz(to(&[("us", "U9")])), at(2000)).unwrap();
    let snapshot = roster.snapshot(look(2000, &["E0", "U9"]));
    assert!(!snapshot.servers.contains_key("U0"), "the new life ends the old one");
    roster.answer(info("eu-0", "E0", "eu", 3), Fact::Gatewayz(to(&[("us", "U0")])), at(2001)).unwrap();
    assert!(!roster.snapshot(look(2500, &["E0", "U9"])).servers.contains_key("U0"));
}

#[test]
fn of_the_lives_that_ended_the_oldest_are_forgotten() {
    let mut roster = Roster::default();
    for n in 0..RETIRED_MAX {
        roster.retired.insert(format!("X{n}").into());
        roster.retired_order.push_back(format!("X{n}").into());
    }
    roster.answer(info("us-0", "U0", "us", 1), Fact::Gatewayz(to(&[])), at(0)).unwrap();
    roster.answer(info("eu-0", "E0", "eu", 1), Fact::Gatewayz(to(&[("us", "U0")])), at(0)).unwrap();
    roster.snapshot(look(0, &["E0", "U0"]));
    roster.answer(info("us-0", "U9", "us", 1), Fact::Gatewayz(to(&[])), at(2000)).unwrap();
    roster.answer(info("eu-0", "E0", "eu", 2), Fact::Gatewayz(to(&[("us", "U9")])), at(2000)).unwrap();
    roster.snapshot(look(2000, &["E0", "U9"]));
    assert_eq!((roster.retired.len(), roster.retired_order.len()), (RETIRED_MAX, RETIRED_MAX));
    let knows = |id: &str| roster.retired.contains(id);
    assert!(knows("U0") && knows("X1") && !knows("X0"));
}

#[test]
fn an_older_answer_does_not_replace_a_newer_one() {
    let mut roster = Roster::default();
    roster.answer(info("eu-0", "E0", "eu", 5), Fact::Gatewayz(to(&[("us", "U0")])), at(500)).unwrap();
    roster.answer(info("eu-0", "E0", "eu", 4), Fact::Gatewayz(to(&[])), at(0)).unwrap();
    let snapshot = roster.snapshot(look(500, &["E0"]));
    let states: Vec<_> = snapshot.links.iter().map(|link| (&*link.cluster, link.state)).collect();
    // Who is dialled dials back, which nobody could tell yet.
    assert_eq!(states, [("eu", LinkState::Connected), ("us", LinkState::Absent)]);
    assert_eq!(snapshot.servers["E0"].answered_at, Some(at(500)));
}

#[test]
fn who_speaks_after_a_goodbye_has_not_gone_and_late_words_do_not_count() {
    let mut roster = Roster::default();
    let heartbeat = || Signal::Heartbeat(Statsz::default());
    roster.hear(info("us-0", "U0", "us", 5), heartbeat(), at(0)).unwrap();
    roster.hear(info("us-0", "U0", "us", 6), Signal::LameDuck, at(100)).unwrap();
    assert_eq!(roster.snapshot(look(100, &[])).servers["U0"].life, Life::Left);
    assert_eq!(roster.len(), 0);
    roster.hear(info("us-0", "U0", "us", 4), heartbeat(), at(200)).unwrap();
    assert_eq!(roster.snapshot(look(200, &[])).servers["U0"].sight, Sight::Left, "it was on its way");
    roster.hear(info("us-0", "U0", "us", 7), heartbeat(), at(300)).unwrap();
    assert_ne!(roster.snapshot(look(300, &[])).servers["U0"].life, Life::Left, "as 2.9.10 does");
}

#[test]
fn a_reply_of_no_use_is_a_sign_of_life() {
    let mut roster = Roster::default();
    roster.answer(info("us-0", "U0", "us", 1), Fact::Statsz(Statsz::default()), at(0)).unwrap();
    roster.snapshot(look(500, &[]));
    roster.mumble(&info("us-0", "U0", "us", 2), at(700));
    roster.mumble(&info("xx", "X0", "xx", 2), at(700));
    let snapshot = roster.snapshot(look(1000, &[]));
    assert_eq!((snapshot.servers["U0"].life, snapshot.servers.len()), (Life::Alive, 1));
    assert_eq!(snapshot.servers["U0"].silent_since, Some(at(500)), "and no answer");
}

#[test]
fn the_roster_has_a_bound_and_says_so() {
    let mut roster = Roster::default();
    for n in 0..SERVERS_MAX {
        let id = format!("N{n}");
        roster.hear(info(&id, &id, "us", 1), Signal::Shutdown, at(0)).unwrap();
    }
    let odd = roster.hear(info("x", "X", "us", 1), Signal::Shutdown, at(0)).unwrap_err();
    assert_eq!((odd.clone(), odd.to_string()), (Odd::Full, "more than 20000 servers".to_owned()));
    roster.answer(info("N0", "N0", "us", 2), Fact::Gatewayz(to(&[("zz", "Z")])), at(1)).unwrap();
    let snapshot = roster.snapshot(look(10, &["N0"]));
    assert_eq!((snapshot.observer.servers_over, snapshot.servers.len()), (2, SERVERS_MAX));
}

#[test]
fn a_refused_login_stands_for_six_seconds() {
    let mut roster = Roster::default();
    let varz = Varz {
        gateway: Some(GatewayConfig {
            name: "eu".into(),
            remotes: [("us".into(), Urls::default())].into(),
            ..GatewayConfig::default()
        }),
        ..Varz::default()
    };
    roster.answer(info("eu-0", "E0", "eu", 1), Fact::Varz(Box::new(varz)), at(0)).unwrap();
    let rejected = |roster: &mut Roster, millis| {
        roster.answer(info("eu-0", "E0", "eu", 2), Fact::Gatewayz(to(&[])), at(millis)).unwrap();
        let snapshot = roster.snapshot(look(millis, &["E0"]));
        snapshot.links[0].rejected.as_ref().map(|r| r.by.to_string())
    };
    assert_eq!(rejected(&mut roster, 0), None);
    for n in 0..100 {
        let signal = Signal::GatewayRejected { dialer_id: "E0".into() };
        roster.hear(info("us-1", "U1", "us", n), signal, at(100)).unwrap();
    }
    assert_eq!(rejected(&mut roster, 500).as_deref(), Some("us-1"));
    assert_eq!(rejected(&mut roster, 6101), None, "a server dials again after a second");
}

#[test]
fn an_absence_is_counted_look_by_look_and_a_blink_begins_anew() {
    let mut roster = Roster::default();
    let step = |roster: &mut Roster, millis, ids: &[(&str, &str)]| {
        roster.answer(info("eu-0", "E0", "eu", 2), Fact::Gatewayz(to(ids)), at(millis)).unwrap();
        let snapshot = roster.snapshot(look(millis, &["E0"]));
        let link = snapshot.links.into_iter().next().expect("it had a link once");
        (link.absent_since, link.absent_looks, link.ever_connected_at)
    };
    let was = Some(at(0));
    assert_eq!(step(&mut roster, 0, &[("us", "U0")]), (None, 0, was));
    assert_eq!(step(&mut roster, 500, &[]), (Some(at(500)), 1, was));
    assert_eq!(step(&mut roster, 500, &[]), (Some(at(500)), 1, was), "the same look twice is one");
    assert_eq!(step(&mut roster, 1000, &[]), (Some(at(500)), 2, was));
    assert_eq!(step(&mut roster, 30_000, &[]), (Some(at(30_000)), 1, was), "nobody looked in between");
    roster.blink();
    assert_eq!(step(&mut roster, 30_500, &[]), (Some(at(30_500)), 1, was));
    assert_eq!(step(&mut roster, 31_000, &[("us", "U0")]), (None, 0, Some(at(31_000))));
}

#[test]
fn what_an_earlier_start_knew_is_known_and_does_not_stand_beside_its_next_life() {
    let mut roster = Roster::default();
    roster.recall([(info("us-1", "U1", "us", 0), at(0)), (info("us-1", "U2", "us", 0), at(0))]);
    roster.recall_cluster(&"ap".into());
    roster.recall_link("eu".into(), "eu-0".into(), &"us".into(), at(0));
    assert_eq!(roster.clusters_with_silence(), BTreeSet::from(["us".into()]));
    roster.answer(info("eu-0", "E0", "eu", 1), Fact::Gatewayz(to(&[])), at(500)).unwrap();
    let snapshot = roster.snapshot(look(500, &["E0"]));
    assert_eq!(snapshot.servers.keys().map(|k| &**k).collect::<Vec<_>>(), ["E0", "U1"]);
    assert_eq!(snapshot.clusters.keys().map(|k| &**k).collect::<Vec<_>>(), ["ap", "eu", "us"]);
    assert_eq!(snapshot.links[0].ever_connected_at, Some(at(0)));
    roster.answer(info("us-1", "U9", "us", 1), Fact::Gatewayz(to(&[])), at(1000)).unwrap();
    let snapshot = roster.snapshot(look(1000, &["E0", "U9"]));
    assert!(!snapshot.servers.contains_key("U1"), "its next life answers");
    assert_eq!(roster.cluster_of("U9").as_deref(), Some("us"));
    assert_eq!(roster.members(&"us".into(), &BTreeSet::from(["E0".into(), "U9".into()])).len(), 1);
    assert_eq!(roster.prompt(at(900)).count(), 1);
    assert_eq!(roster.without_varz(at(0)).count(), 2);
}

#[test]
fn versions_are_read_as_far_as_they_are_numbers() {
    use super::super::version;
    assert_eq!(version("2.15.1"), (2, 15, 1));
    assert_eq!(version("2.15.1-beta.2"), (2, 15, 1));
    assert_eq!(version("v2"), (0, 0, 0));
    assert_eq!(version(""), (0, 0, 0));
    assert_eq!(version("99999999999.1.x"), (0, 1, 0));
}

#[test]
fn what_a_server_of_the_same_name_does_elsewhere_ends_nobody() {
    let mut roster = Roster::default();
    let both = [("E0", "eu"), ("U0", "us")];
    for second in 0..12 {
        for (id, cluster) in both {
            roster
                .answer(info("same", id, cluster, second), Fact::Gatewayz(to(&[])), at(second * 1000))
                .unwrap();
        }
        roster.snapshot(look(second * 1000, &["E0", "U0"]));
    }
    // The one falls silent, and the other has a new life.
    roster.answer(info("same", "E1", "eu", 1), Fact::Gatewayz(to(&[])), at(13_000)).unwrap();
    let snapshot = roster.snapshot(look(13_000, &["E1"]));
    let ids: Vec<&str> = snapshot.servers.keys().map(|id| &**id).collect();
    assert_eq!(ids, ["E1", "U0"], "the old life of its own cluster is over, and the other one is not");
}

#[test]
fn a_server_that_moves_to_another_cluster_takes_its_name_along() {
    let mut roster = Roster::default();
    roster.answer(info("same", "E0", "eu", 1), Fact::Gatewayz(to(&[])), at(0)).unwrap();
    roster.snapshot(look(0, &["E0"]));
    roster.answer(info("same", "U0", "us", 1), Fact::Gatewayz(to(&[])), at(1000)).unwrap();
    let snapshot = roster.snapshot(look(1000, &["U0"]));
    let ids: Vec<&str> = snapshot.servers.keys().map(|id| &**id).collect();
    assert_eq!(ids, ["U0"]);
}

#[test]
fn a_door_whose_own_gateways_are_gone_is_dead_though_one_that_dialled_it_fell_silent_with_it() {
    for far_end_answers in [false, true] {
        let mut roster = Roster::default();
        for millis in [0, 500] {
            roster
                .answer(info("eu-0", "E0", "eu", 1), Fact::Gatewayz(to(&[("sa", "S0")])), at(millis))
                .unwrap();
            roster
                .answer(info("us-0", "U0", "us", 1), Fact::Gatewayz(to(&[("eu", "E0")])), at(millis))
                .unwrap();
        }
        roster.answer(info("eu-1", "E1", "eu", 1), Fact::Gatewayz(to(&[("us", "U0")])), at(0)).unwrap();
        roster.answer(info("sa-0", "S0", "sa", 1), Fact::Gatewayz(to(&[("eu", "E1")])), at(0)).unwrap();
        roster.snapshot(look(100, &["E0", "E1", "S0", "U0"]));
        let answered: &[&str] = if far_end_answers { &["E0", "U0"] } else { &["E0"] };
        let snapshot = roster.snapshot(look(600, answered));
        let names: Vec<&str> = snapshot.servers["E1"].named_by.iter().map(|name| &**name).collect();
        let expected: &[&str] = if far_end_answers { &[] } else { &["sa-0"] };
        assert_eq!(names, expected, "the far end of its gateway answers: {far_end_answers}");
    }
}

#[test]
fn answers_to_two_questions_may_overtake_each_other() {
    let mut roster = Roster::default();
    let gateways = || Fact::Gatewayz(to(&[("us", "U0")]));
    let says = |seq| info("eu-0", "E0", "eu", seq);
    assert_eq!(roster.order(&says(7), &gateways(), 1, false), Order::Next, "nobody of that ID has spoken");
    roster.answer(says(7), gateways(), at(0)).unwrap();
    assert_eq!(roster.order(&says(7), &gateways(), 1, false), Order::Copy);
    assert_eq!(roster.order(&says(6), &Fact::Statsz(Statsz::default()), 1, false), Order::Next);
}

#[test]
fn who_answers_by_another_way_lives_and_is_dark_over_our_own_server() {
    let mut roster = Roster::default();
    roster.answer(info("eu-0", "E0", "eu", 1), Fact::Gatewayz(to(&[])), at(0)).unwrap();
    roster.answer(info("us-0", "U0", "us", 1), Fact::Gatewayz(to(&[])), at(0)).unwrap();
    roster.snapshot(look(0, &["E0", "U0"]));
    roster.answer(info("eu-0", "E0", "eu", 2), Fact::Gatewayz(to(&[])), at(500)).unwrap();
    let snapshot = roster.snapshot(look(500, &["E0"]));
    assert_eq!((snapshot.clusters["us"].answered, snapshot.servers["U0"].silent_since), (0, Some(at(500))));

    // Of two answers under way at once, the newer by the other way does not undo the older by ours.
    let (newer, older) = (info("us-0", "U0", "us", 9), info("us-0", "U0", "us", 8));
    let fact = || Fact::Gatewayz(to(&[("ap", "A0")]));
    roster.answer_elsewhere(newer, fact(), at(1000)).unwrap();
    assert_eq!(roster.order(&older, &fact(), 1, false), Order::Next);
    assert_eq!(roster.order(&older, &fact(), 1, true), Order::Copy);
    let elsewhere = BTreeSet::from([Name::from("U0")]);
    let snapshot = roster.snapshot(Look { elsewhere: elsewhere.clone(), ..look(1000, &["E0"]) });
    let (cluster, server) = (&snapshot.clusters["us"], &snapshot.servers["U0"]);
    assert_eq!((cluster.answered, cluster.dark_since), (1, Some(at(500))));
    assert_eq!((cluster.elsewhere_since, cluster.severed_since), (Some(at(1000)), None));
    assert!(server.elsewhere && server.gatewayz.is_some(), "{server:?}");
    assert_eq!((server.sight, server.life, server.silent_since), (Sight::Answered, Life::Alive, None));
    assert_eq!((server.answered_at, server.heard_at), (Some(at(0)), Some(at(0))), "over our own server");
    assert_eq!(server.last_sign_at(), Some(at(1000)));
    assert_eq!(roster.prompt_elsewhere(&"us".into(), at(600)), elsewhere);
    assert_eq!(roster.lacks_elsewhere(&"us".into(), at(0)), (true, false), "its configuration is not known");
    let lacking: Vec<&Name> = roster.without_varz(at(0)).collect();
    assert_eq!(lacking, [&Name::from("E0")], "ours cannot ask it");

    let snapshot = roster.snapshot(look(1500, &["E0", "U0"]));
    assert!(!snapshot.servers["U0"].elsewhere);
    assert_eq!((snapshot.clusters["us"].dark_since, snapshot.clusters["us"].elsewhere_since), (None, None));
}

#[test]
fn a_heartbeat_that_is_heard_at_two_vantages_is_one() {
    let mut roster = Roster::default();
    for seq in [1, 2] {
        let beat = || Signal::Heartbeat(Statsz::default());
        roster.hear(info("us-0", "U0", "us", seq), beat(), at(0)).unwrap();
        roster.hear_elsewhere(info("us-0", "U0", "us", seq), beat(), at(1)).unwrap();
    }
    let snapshot = roster.snapshot(look(500, &[]));
    assert_eq!(snapshot.servers["U0"].heartbeats, 2);
}

#[test]
fn a_first_look_is_whole_when_nobody_who_is_named_is_missing() {
    let mut roster = Roster::default();
    assert!(!roster.is_whole(), "nobody answered");
    let mut tell = |name: &str, id: &str, cluster: &str, remote: (&str, &str), peers: &[&str]| {
        let route = |peer: &&str| (Name::from(*peer), RoutePeer::default());
        let routez = Routez { peers: peers.iter().map(route).collect() };
        let facts = [
            Fact::Gatewayz(to(&[remote])),
            Fact::Varz(Box::default()),
            Fact::Routez(routez),
            Fact::Statsz(Statsz::default()),
        ];
        facts.map(|fact| {
            roster.answer(info(name, id, cluster, 1), fact, at(0)).unwrap();
            roster.is_whole()
        })
    };
    assert_eq!(tell("eu-0", "E0", "eu", ("us", "U0"), &[]), [false; 4], "U0 is named by a gateway");
    assert_eq!(tell("us-0", "U0", "us", ("eu", "E0"), &["U1"]), [false; 4], "U1 is named by a route");
    assert_eq!(tell("us-1", "U1", "us", ("eu", "E0"), &["U0"]), [false, false, false, true]);
}

#[test]
fn how_long_a_server_runs_is_told_by_its_own_clock() {
    let mut roster = Roster::default();
    let spoke_at = |millis| ServerInfo { time: Some(at(millis)), ..info("eu-0", "E0", "eu", millis) };
    assert_eq!(roster.uptime("E0"), None);
    roster.answer(spoke_at(70_000), Fact::Gatewayz(to(&[])), at(0)).unwrap();
    assert_eq!(roster.uptime("E0"), None, "it did not tell when it started");
    let statsz = Statsz { start: Some(at(68_500)), ..Statsz::default() };
    roster.answer(spoke_at(70_100), Fact::Statsz(statsz), at(0)).unwrap();
    assert_eq!(roster.uptime("E0"), Some(Duration::from_millis(1600)));
}

#[test]
fn whoever_makes_up_clusters_fills_no_memory_and_the_known_ones_stay() {
    let mut roster = Roster::default();
    roster.answer(info("eu-0", "E0", "eu", 1), Fact::Gatewayz(to(&[("us", "U0")])), at(0)).unwrap();
    drop(roster.snapshot(look(100, &["E0"])));
    // One server after the other takes the name of the one before, each in a cluster of its own.
    for n in 0..CLUSTERS_MAX {
        drop(roster.answer(
            info("evil", &n.to_string(), &format!("c{n}"), 1),
            Fact::Statsz(Statsz::default()),
            at(0),
        ));
    }
    let late = roster.answer(info("new", "N", "new", 1), Fact::Gatewayz(Gatewayz::default()), at(10));
    assert_eq!(late.unwrap_err().to_string(), "more than 4096 clusters");
    // Others name clusters that nobody has seen, other ones each time.
    for round in 0..3 {
        let names: Vec<String> = (0..2 * CLUSTERS_MAX).map(|n| format!("r{round}-{n}")).collect();
        let remotes: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "X")).collect();
        let config = GatewayConfig {
            name: "eu".into(),
            remotes: names.iter().map(|name| (name.as_str().into(), Urls::default())).collect(),
            ..GatewayConfig::default()
        };
        let varz = Varz { gateway: Some(config), ..Varz::default() };
        roster.answer(info("eu-0", "E0", "eu", 2 + round), Fact::Varz(Box::new(varz)), at(20)).unwrap();
        roster.answer(info("eu-0", "E0", "eu", 2 + round), Fact::Gatewayz(to(&remotes)), at(20)).unwrap();
        let snapshot = roster.snapshot(look(1000 * (1 + round), &["E0"]));
        assert!(snapshot.clusters.len() <= CLUSTERS_MAX, "{}", snapshot.clusters.len());
        assert!(snapshot.clusters["eu"].servers.contains("E0") && snapshot.observer.clusters_over > 0);
        assert!(roster.clusters.len() <= CLUSTERS_MAX);
    }
}

#[test]
fn answers_that_there_is_no_memory_for_are_told_of_and_what_is_known_stays() {
    let mut roster = Roster::default();
    let large = || {
        let peers = (0..100_000).map(|n| (Name::from(format!("{n}")), RoutePeer::default()));
        Fact::Routez(Routez { peers: peers.collect() })
    };
    let small = || Fact::Gatewayz(to(&[("us", "U0")]));
    roster.answer(info("eu-0", "E0", "eu", 1), small(), at(0)).unwrap();
    roster.facts_bytes = FACTS_BYTES_MAX - 1_000_000;
    let odd = roster.answer(info("evil", "X", "eu", 1), large(), at(10)).unwrap_err();
    assert_eq!(odd.to_string(), "what the servers say takes more than 2048 MiB");
    roster.answer(info("eu-0", "E0", "eu", 2), small(), at(20)).unwrap();
    roster.facts_bytes = FACTS_BYTES_MAX;
    roster.answer(info("eu-0", "E0", "eu", 3), small(), at(30)).expect("what grows no larger has its room");
    let snapshot = roster.snapshot(look(100, &["E0"]));
    assert_eq!(snapshot.observer.answers_over, 1);
    assert!(snapshot.servers["X"].routez.is_none() && snapshot.servers["E0"].gatewayz.is_some());
}

#[test]
fn what_ends_gives_its_memory_back() {
    let mut roster = Roster::default();
    let statsz = || Fact::Statsz(Statsz { gateways: [("us".into(), 1)].into(), ..Statsz::default() });
    roster.answer(info("eu-0", "E0", "eu", 1), statsz(), at(0)).unwrap();
    let one = roster.facts_bytes;
    assert!(one > 0);
    for life in 1..100_u64 {
        let id = format!("E{life}");
        roster.answer(info("eu-0", &id, "eu", 1), statsz(), at(life * 5000)).unwrap();
        drop(roster.snapshot(look(life * 5000 + 100, &[&id])));
        roster
            .hear(info("eu-0", &id, "eu", 2), Signal::Heartbeat(Statsz::default()), at(life * 5000 + 200))
            .unwrap();
    }
    assert!(roster.facts_bytes <= 2 * one, "{} of one server", roster.facts_bytes);
}

#[test]
fn a_configuration_that_many_servers_have_takes_its_room_once() {
    let mut roster = Roster::default();
    let urls = |n: u64| (0..100).map(|url| Name::from(format!("{n}.{url}:7222"))).collect::<Urls>();
    let remotes =
        |n| (0..100).map(|remote| (Name::from(format!("c{remote}")), urls(n))).collect::<Configured>();
    let varz = |remotes: &Configured| {
        let config =
            GatewayConfig { name: "eu".into(), remotes: remotes.clone(), ..GatewayConfig::default() };
        Fact::Varz(Box::new(Varz { gateway: Some(config), ..Varz::default() }))
    };
    let [first, other] = [remotes(0), remotes(1)];
    let server = |n: u64, seq| info(&format!("eu-{n}"), &format!("E{n}"), "eu", seq);
    for n in 0..50 {
        roster.answer(server(n, 1), varz(&first), at(n)).unwrap();
    }
    let one = first.bytes();
    assert!((one..2 * one).contains(&roster.facts_bytes), "{} of {one}", roster.facts_bytes);
    // The last one that has it gives its room back.
    for n in 0..50 {
        assert!(roster.facts_bytes >= one);
        roster.answer(server(n, 2), varz(&other), at(100 + n)).unwrap();
        roster.answer(server(n, 3), varz(&other), at(200 + n)).unwrap();
    }
    assert!((one..2 * one).contains(&roster.facts_bytes), "{} of {one}", roster.facts_bytes);
    assert_eq!(roster.alike.len(), 1);
    // What is nobody else's is counted of each.
    for n in 0..10 {
        roster.answer(server(n, 4), varz(&remotes(2 + n)), at(300 + n)).unwrap();
    }
    assert!((11 * one..12 * one).contains(&roster.facts_bytes), "{} of {one}", roster.facts_bytes);
    roster.facts_bytes = FACTS_BYTES_MAX;
    roster.answer(server(20, 4), varz(&remotes(20)), at(400)).unwrap_err();
    roster.answer(server(0, 5), varz(&other), at(400)).expect("what is there already takes no room");
    assert_eq!(roster.alike.len(), 10);
}

#[test]
fn what_others_have_open_makes_no_more_servers_known_than_there_may_be() {
    let mut roster = Roster::default();
    for n in 0..SERVERS_MAX {
        roster.records.insert(n.to_string().into(), Record::new(info("s", "S", "eu", 1), true, at(0)));
    }
    roster.recall([(info("new", "N", "eu", 1), at(0))]);
    assert_eq!((roster.records.len(), roster.over), (SERVERS_MAX, 1));
}
