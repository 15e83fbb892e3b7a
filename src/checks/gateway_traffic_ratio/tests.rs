use super::super::Value as Setting;
use super::super::example::{World, secs};
use super::*;
use crate::findings::Finding;
use crate::model::{Account, Jsz, Led, Moved, Traffic, TrafficOf};

const MB: u64 = 1_000_000;

/// Counts what one server moves of an account in one second.
fn count(world: &mut World, server: &str, name: &str, moved: Moved) {
    let accountz = world.accountz.entry(server.into()).or_default();
    let account = accountz.accounts.entry(name.into()).or_default();
    let add = |traffic: &mut Traffic, bytes: u64, gateways: u64| {
        traffic.bytes += bytes + gateways;
        traffic.of.get_or_insert_with(TrafficOf::default).gateways += gateways;
    };
    add(&mut account.sent, 0, moved.tx_bytes);
    add(&mut account.received, moved.published_bytes, moved.rx_bytes);
}

/// For so many seconds clients in eu publish this much in each, of which this much goes to us.
fn publish(world: &mut World, seconds: u64, published_bytes: u64, crossing_bytes: u64) {
    for _ in 0..seconds {
        let sends = Moved { published_bytes, tx_bytes: crossing_bytes, rx_bytes: 0 };
        count(world, "eu-1", "APP", sends);
        count(world, "us-2", "APP", Moved { rx_bytes: crossing_bytes, ..Moved::default() });
        world.run(secs(1));
    }
}

fn connect(world: &mut World, server: &str, connections: u64) {
    let accountz = world.accountz.entry(server.into()).or_default();
    accountz.accounts.entry("APP".into()).or_default().connections = connections;
}

fn lead(world: &mut World, server: &str, streams: &[&str]) {
    let names = streams.iter().map(|s| Name::from(*s)).collect();
    let led = Led { total: streams.len() as u64, names };
    world.jsz.insert(server.into(), Jsz { leads: [("APP".into(), led)].into() });
}

fn set(world: &mut World, key: &'static str, value: Setting) {
    world.settings.get_mut(MANUAL.slug).expect("it is in the registry").values.insert(key, value);
}

fn found(world: &World) -> Finding {
    let found: Vec<&Finding> = world.ledger.open().filter(|f| &*f.check == MANUAL.slug).collect();
    assert_eq!(found.len(), 1, "{:?}", world.story());
    found[0].clone()
}

const OPENED: &str = "opened gateway_traffic_ratio -@APP unknown";
const RESOLVED: &str = "resolved gateway_traffic_ratio -@APP";

#[test]
fn an_account_that_sends_much_of_what_it_publishes_over_gateways_is_found_and_is_over_when_it_stops() {
    let mut world = World::seen_from("eu-0");
    publish(&mut world, 90, MB, MB / 2);
    assert_eq!(world.take_story(), [OPENED]);
    let finding = found(&world);
    assert_eq!(finding.evidence["ratio"], json!(0.5));
    let figure = |key: &str| finding.evidence[key].as_u64().expect("a number");
    assert_eq!(figure("published_bytes"), 2 * figure("gateway_bytes"));
    assert_eq!(figure("gateway_bytes"), figure("gateway_received_bytes"));
    publish(&mut world, 200, MB, MB / 2);
    assert_eq!(world.take_story(), [""; 0], "and says it once");
    publish(&mut world, 320, MB, 0);
    assert_eq!(world.take_story(), [RESOLVED]);
}

#[test]
fn just_below_each_threshold_it_is_silent_and_just_above_it_speaks() {
    for (published, crossing, spoken) in [
        (100_000, 29_900, false),
        (100_000, 30_100, true),
        // 1 MiB in five minutes.
        (4000, 3490, false),
        (4000, 3505, true),
    ] {
        let mut world = World::seen_from("eu-0");
        publish(&mut world, 360, published, crossing);
        let story = world.story();
        assert_eq!(story, if spoken { vec![OPENED] } else { vec![] }, "{crossing} of {published}");
    }
}

#[test]
fn nothing_is_judged_by_less_than_a_minute() {
    let mut world = World::seen_from("eu-0");
    publish(&mut world, 50, MB, MB);
    assert_eq!(world.story(), [""; 0]);
}

#[test]
fn the_thresholds_can_be_set() {
    let mut world = World::seen_from("eu-0");
    set(&mut world, "ratio_min", Setting::Ratio(0.6));
    publish(&mut world, 90, MB, MB / 2);
    assert_eq!(world.story(), [""; 0]);
    set(&mut world, "ratio_min", Setting::Ratio(0.2));
    set(&mut world, "bytes_min", Setting::Bytes(1 << 40));
    publish(&mut world, 20, MB, MB / 2);
    assert_eq!(world.story(), [""; 0]);
    set(&mut world, "bytes_min", Setting::Bytes(0));
    set(&mut world, "price_per_gb", Setting::Ratio(0.02));
    publish(&mut world, 20, MB, MB / 2);
    assert_eq!(world.take_story(), [OPENED]);
    let finding = found(&world);
    // 0.5 MB a second are 43.2 GB a day; the first seconds were quiet.
    let per_day = finding.evidence["bytes_per_day"].as_f64().expect("a number");
    assert!((per_day / 43.2e9 - 1.0).abs() < 0.1, "{per_day}");
    assert_eq!(finding.evidence["cost_per_day"], json!(round(per_day / 1e9 * 0.02, 100.0)));
    assert!(finding.impact.contains("GB a day between clusters, which costs 0."), "{}", finding.impact);
}

#[test]
fn it_shows_where_the_connections_and_the_streams_are_and_what_to_move() {
    let mut world = World::seen_from("eu-0");
    connect(&mut world, "eu-0", 2);
    connect(&mut world, "us-0", 4);
    connect(&mut world, "us-1", 6);
    lead(&mut world, "eu-2", &["ORDERS", "a b"]);
    lead(&mut world, "us-0", &[]);
    world.jsz.get_mut("us-0").expect("it is there").leads.clear();
    publish(&mut world, 90, MB, 3 * MB / 2);
    let finding = found(&world);
    assert_eq!(finding.evidence["connections_by_cluster"], json!({ "eu": 2, "us": 10 }));
    assert_eq!(finding.evidence["streams_led_by_cluster"], json!({ "eu": 2 }));
    assert_eq!(finding.evidence["ratio"], json!(1.5), "two remotes can make it more than 1");
    assert_eq!(finding.evidence["rank"], json!(1));
    assert_eq!(
        finding.cause.detail,
        "its 12 connections are in us (10), eu (2); its streams are led in eu (2)"
    );
    let steps: Vec<(&str, Option<&str>)> =
        finding.remediation.iter().map(|s| (&*s.action, s.run.as_deref())).collect();
    let first = "move the stream ORDERS from eu to us, where most connections of the account are";
    assert_eq!(steps[0], (first, Some("nats stream edit ORDERS --cluster us")));
    assert_eq!(steps[1].1, None, "a name that a shell would read makes no command: {steps:?}");
    assert!(steps[2].0.contains("a mirror of it in us"), "{steps:?}");
    assert!(steps[3].0.contains("let what is published in eu be consumed there"), "{steps:?}");
    let summary = &finding.summary;
    assert!(
        summary.contains(" over gateways in ") && summary.ends_with("most of it from eu to us"),
        "{summary}"
    );
}

#[test]
fn a_stream_is_not_told_to_go_where_no_jetstream_is_or_where_others_are_led_already() {
    for there in [None, Some("LOCAL")] {
        let mut world = World::seen_from("eu-0");
        connect(&mut world, "us-0", 9);
        lead(&mut world, "eu-2", &["ORDERS"]);
        if let Some(stream) = there {
            lead(&mut world, "us-1", &[stream]);
        }
        publish(&mut world, 90, MB, MB);
        let finding = found(&world);
        assert!(finding.remediation.iter().all(|s| !s.action.starts_with("move the stream")), "{finding:?}");
    }
}

#[test]
fn an_account_that_published_nothing_and_sends_has_no_ratio_and_is_found() {
    let mut world = World::seen_from("eu-0");
    publish(&mut world, 90, 0, MB);
    let finding = found(&world);
    assert_eq!(finding.evidence["ratio"], Json::Null);
    assert!(finding.summary.contains("and its clients published nothing"), "{}", finding.summary);
}

#[test]
fn a_version_without_the_counters_is_unknown_and_never_zero() {
    let mut world = World::seen_from("eu-0");
    publish(&mut world, 90, MB, MB / 2);
    assert_eq!(world.take_story(), [OPENED]);
    // The account moves to a server that does not tell gateways apart; the others count nothing any more.
    for n in 0..700 {
        let plain = |bytes| Traffic { bytes, of: None };
        let account = Account { sent: plain(n * MB), received: plain(n * MB), ..Account::default() };
        world
            .accountz
            .insert("ap-0".into(), crate::model::Accountz { accounts: [("APP".into(), account)].into() });
        world.run(secs(1));
    }
    assert_eq!(world.story(), [""; 0], "it neither opens nor resolves");
}

#[test]
fn a_server_that_cannot_be_asked_leaves_it_unknown() {
    let mut world = World::seen_from("eu-0");
    publish(&mut world, 90, MB, MB / 2);
    assert_eq!(world.take_story(), [OPENED]);
    world.cut("ap-1", "eu");
    publish(&mut world, 400, MB, 0);
    let story = world.take_story();
    assert!(!story.iter().any(|line| line.contains(MANUAL.slug)), "{story:?}");
    world.heal();
    publish(&mut world, 120, MB, 0);
    assert!(world.take_story().contains(&RESOLVED.to_owned()));
}

#[test]
fn what_one_end_sent_and_the_other_did_not_receive_is_not_judged() {
    let mut world = World::seen_from("eu-0");
    for _ in 0..120 {
        count(&mut world, "eu-1", "APP", Moved { published_bytes: MB, tx_bytes: MB, rx_bytes: 0 });
        count(&mut world, "us-1", "APP", Moved { rx_bytes: MB * 8 / 10, ..Moved::default() });
        world.run(secs(1));
    }
    assert_eq!(world.story(), [""; 0]);
}

#[test]
fn lost_late_and_doubled_answers_and_a_restart_move_the_ratio_by_little() {
    let mut world = World::seen_from("eu-0");
    world.doubled = true;
    publish(&mut world, 70, MB, MB / 2);
    world.delay_replies("us-2", 1);
    publish(&mut world, 25, MB, MB / 2);
    world.restart("eu-1");
    world.accountz.remove("eu-1");
    publish(&mut world, 45, MB, MB / 2);
    let story = world.take_story();
    assert_eq!(story.iter().filter(|line| line.contains(MANUAL.slug)).count(), 1, "{story:?}");
    let ratio = found(&world).evidence["ratio"].as_f64().expect("a number");
    assert!((ratio - 0.5).abs() < 0.05, "{ratio}");
}

#[test]
fn an_agent_that_restarts_keeps_it_open_until_it_has_seen_enough() {
    let mut world = World::seen_from("eu-0");
    publish(&mut world, 90, MB, MB / 2);
    world.restart_agent("eu-2");
    publish(&mut world, 55, 0, 0);
    assert_eq!(world.take_story(), [OPENED]);
    publish(&mut world, 30, 0, 0);
    assert_eq!(world.take_story(), [RESOLVED], "nothing moves any more");
}

#[test]
fn an_account_that_is_no_more_leaves() {
    let mut world = World::seen_from("eu-0");
    publish(&mut world, 90, MB, MB / 2);
    world.accountz.clear();
    world.run(secs(360));
    assert_eq!(world.story(), [OPENED, "resolved gateway_traffic_ratio -@app gone"]);
}

#[test]
fn figures_are_read_at_a_glance_and_maps_have_an_end() {
    assert_eq!([0.0, 999.0, 1.25e6, 3.6e12].map(size), ["0 bytes", "999 bytes", "1.2 MB", "3.6 TB"]);
    let many = by_cluster((0..100_u64).map(|n| (Name::from(format!("c{n}")), n)));
    let many = many.as_object().expect("a map");
    assert_eq!(
        (many.len(), &many["c99"], &many["and 68 more"]),
        (33, &json!(99), &json!((0..68).sum::<u64>()))
    );
}
