//! The lab against real nats-servers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use gatewatch::lab::control::{self, Command};
use gatewatch::lab::{self, Auth, Direction, GatewaySpec, Lab, RemoteSpec, Spec, TlsSpec, View};

const WITHIN: Duration = Duration::from_secs(20);

fn has(remote: &str) -> impl Fn(&View) -> bool {
    move |view| view.outbound.contains_key(remote)
}

fn lacks(remote: &str) -> impl Fn(&View) -> bool {
    move |view| !view.outbound.contains_key(remote)
}

/// Every server's remotes by connection number: what must not change where no fault is.
async fn links(lab: &Lab) -> BTreeMap<(String, String), u64> {
    let mut links = BTreeMap::new();
    for server in lab.servers() {
        for (remote, outbound) in lab.view(&server).await.unwrap().outbound {
            links.insert((server.clone(), remote), outbound.cid);
        }
    }
    links
}

/// Two clusters, of which `eu-0` starts with another gateway block.
fn small(edit: impl FnOnce(&mut GatewaySpec)) -> Spec {
    let mut spec = Spec::new(&["eu", "us"], 2);
    let mut gateway = GatewaySpec::default();
    edit(&mut gateway);
    spec.gateways.insert("eu-0".to_owned(), gateway);
    spec
}

fn log(lab: &Lab, server: &str) -> String {
    std::fs::read_to_string(lab.dir().join(server).join("server.log")).unwrap()
}

async fn wait_log(lab: &Lab, server: &str, text: &str) {
    let deadline = Instant::now() + WITHIN;
    while !log(lab, server).contains(text) {
        assert!(Instant::now() < deadline, "{}", log(lab, server));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn three_by_three_is_whole_within_five_seconds() {
    let start = Instant::now();
    let lab = Lab::start(Spec::default()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    eprintln!("whole after {:?}", start.elapsed());
    lab.down().await.unwrap();
}

#[tokio::test]
async fn one_cut_link_is_absent_alone_and_stays_so_until_it_is_healed() {
    let lab = Lab::start(Spec::default()).await.unwrap();
    // A server that was started late has been told by its peers how they reach the remotes; that must not
    // open a way around the cut.
    lab.restart("eu-1").await.unwrap();
    lab.wait_healthy(WITHIN).await.unwrap();
    let before = links(&lab).await;
    for server in lab.servers() {
        for remote in lab.ask(&server, "VARZ").await.unwrap()["gateway"]["gateways"].as_array().unwrap() {
            assert_eq!(remote["urls"].as_array().unwrap().len(), 3, "{server} learned another way: {remote}");
        }
    }

    lab.cut("eu-1", "us").await.unwrap();
    lab.wait_until("eu-1", "no gateway to us", WITHIN, lacks("us")).await.unwrap();
    // Three of the server's own attempts go by.
    let until = Instant::now() + Duration::from_millis(3500);
    while Instant::now() < until {
        assert!(lacks("us")(&lab.view("eu-1").await.unwrap()), "came back by another way");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut expected = before.clone();
    expected.remove(&("eu-1".to_owned(), "us".to_owned()));
    assert_eq!(links(&lab).await, expected, "another link was touched");
    assert!(log(&lab, "eu-1").contains("connection refused"), "a cut link refuses");

    lab.heal("eu-1", "us").await.unwrap();
    lab.wait_until("eu-1", "a gateway to us", WITHIN, has("us")).await.unwrap();
}

#[tokio::test]
async fn a_healthy_lab_has_every_route() {
    let binary = Some(crate::common::binary("2.10.26").await);
    let lab = Lab::start(Spec { binary, ..Spec::new(&["eu"], 5) }).await.unwrap();
    // Both ends dial, and drop what they have twice.
    for _ in 0..4 {
        for server in lab.servers() {
            let routes = lab.view(&server).await.unwrap().routes;
            assert!(routes.len() == 4 && routes.values().all(|count| *count == 4), "{server}: {routes:?}");
        }
        lab.cut("eu", "eu").await.unwrap();
        for server in lab.servers() {
            lab.wait_until(&server, "no route", WITHIN, |view| view.routes.is_empty()).await.unwrap();
        }
        lab.heal("eu", "eu").await.unwrap();
        lab.wait_healthy(WITHIN).await.unwrap();
    }
}

#[tokio::test]
async fn a_reset_link_is_dialed_again_after_a_second() {
    let lab = Lab::start(Spec::new(&["eu", "us"], 2)).await.unwrap();
    let before = links(&lab).await;
    let mark = lab.reset("eu-0", "us").await.unwrap();
    let cid = before[&("eu-0".to_owned(), "us".to_owned())];
    let another = |view: &View| view.outbound.get("us").is_some_and(|outbound| outbound.cid != cid);
    let back = lab.wait_until("eu-0", "another connection", WITHIN, another).await;
    back.unwrap_or_else(|error| panic!("{error}\n{}", log(&lab, "eu-0")));
    let took = mark.instant.elapsed();
    eprintln!("back after {took:?}");
    assert!((Duration::from_millis(950)..Duration::from_secs(3)).contains(&took), "took {took:?}");
}

#[tokio::test]
async fn a_killed_server_is_refused_and_comes_back_with_another_id() {
    let lab = Lab::start(Spec::new(&["eu", "us"], 2)).await.unwrap();
    let id = lab.server_id("us-0").await.unwrap();
    lab.kill("us-0").await.unwrap();
    assert_eq!(lab.pid("us-0").await.unwrap(), None);
    for server in ["eu-0", "eu-1"] {
        lab.wait_until(server, "a gateway to the other server of us", WITHIN, |view| {
            view.outbound.get("us").is_some_and(|outbound| outbound.server_id != id)
        })
        .await
        .unwrap();
    }
    lab.start_server("us-0").await.unwrap();
    lab.wait_healthy(WITHIN).await.unwrap();
    assert_ne!(lab.server_id("us-0").await.unwrap(), id);
}

#[tokio::test]
async fn a_black_hole_swallows_one_direction_and_healing_delivers_what_it_held() {
    let lab = Lab::start(Spec::new(&["eu", "us"], 1)).await.unwrap();
    let eu = connect(&lab, "eu-0", "app").await;
    let us = connect(&lab, "us-0", "app").await;
    let mut inbox = us.subscribe("greeting").await.unwrap();
    us.flush().await.unwrap();
    // The subscription reaches the other cluster a moment later.
    let deadline = Instant::now() + WITHIN;
    loop {
        eu.publish("greeting", "first".into()).await.unwrap();
        match tokio::time::timeout(Duration::from_millis(100), inbox.next()).await {
            Ok(_) => break,
            Err(_) => assert!(Instant::now() < deadline, "nothing crosses a healthy link"),
        }
    }
    while tokio::time::timeout(Duration::from_millis(200), inbox.next()).await.is_ok() {}

    lab.blackhole("eu-0", "us", Direction::FromDialer).await.unwrap();
    eu.publish("greeting", "held".into()).await.unwrap();
    eu.flush().await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(700), inbox.next()).await;
    assert!(early.is_err(), "a black hole let something out");
    assert!(has("us")(&lab.view("eu-0").await.unwrap()), "the connection stays open");
    lab.heal("eu-0", "us").await.unwrap();
    let held = tokio::time::timeout(WITHIN, inbox.next()).await.unwrap().unwrap();
    assert_eq!(held.payload, "held");
}

#[tokio::test]
async fn a_delayed_link_answers_a_round_trip_later() {
    let lab = Lab::start(Spec::new(&["eu", "us"], 1)).await.unwrap();
    let client = lab.system_client("eu-0").await.unwrap();
    let subject = format!("$SYS.REQ.SERVER.{}.VARZ", lab.server_id("us-0").await.unwrap());
    client.request(subject.clone(), "".into()).await.unwrap();
    lab.delay("eu-0", "us", Duration::from_millis(150)).await.unwrap();
    let start = Instant::now();
    client.request(subject, "".into()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(150), "took {:?}", start.elapsed());
}

#[tokio::test]
async fn a_throttled_link_piles_up_at_its_dialer_and_drains_when_healed() {
    let lab = Lab::start(Spec::new(&["eu", "us"], 1)).await.unwrap();
    let publisher = connect(&lab, "eu-0", "app").await;
    let subscriber = connect(&lab, "us-0", "app").await;
    let mut inbox = subscriber.subscribe("bulk").await.unwrap();
    subscriber.flush().await.unwrap();
    let drain = tokio::spawn(async move { while inbox.next().await.is_some() {} });
    lab.throttle("eu-0", "us", 1_000_000).await.unwrap();
    let payload = bytes(64 * 1024);
    let deadline = Instant::now() + WITHIN;
    while pending_bytes(&lab).await < 2 << 20 {
        assert!(Instant::now() < deadline, "nothing piles up");
        for _ in 0..32 {
            publisher.publish("bulk", payload.clone().into()).await.unwrap();
        }
        publisher.flush().await.unwrap();
    }
    lab.heal("eu-0", "us").await.unwrap();
    while pending_bytes(&lab).await > 1 << 16 {
        assert!(Instant::now() < deadline, "it does not drain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drain.abort();
}

fn bytes(count: usize) -> Vec<u8> {
    vec![b'x'; count]
}

async fn pending_bytes(lab: &Lab) -> u64 {
    let gateways = lab.ask("eu-0", "GATEWAYZ").await.unwrap();
    gateways["outbound_gateways"]["us"]["connection"]["pending_bytes"].as_u64().unwrap()
}

#[tokio::test]
async fn a_misspelt_remote_never_connects_and_gossip_brings_the_right_one() {
    let wrong = RemoteSpec { leads_to: Some("us".to_owned()), ..RemoteSpec::new("uss") };
    let lab = Lab::start(small(|gateway| gateway.remotes = Some(vec![wrong]))).await.unwrap();
    let view = lab.view("eu-0").await.unwrap();
    assert!(!view.outbound["us"].configured);
    assert!(!view.outbound.contains_key("uss"));
    assert!(log(&lab, "eu-0").contains("remote gateway name is"), "{}", log(&lab, "eu-0"));
}

#[tokio::test]
async fn a_cluster_that_rejects_unknown_remotes_shuts_out_the_one_it_lacks() {
    let mut spec = Spec::new(&["eu", "us", "ap"], 1);
    let remotes = Some(vec![RemoteSpec::new("us")]);
    let gateway = GatewaySpec { remotes, reject_unknown: true, ..GatewaySpec::default() };
    spec.gateways.insert("eu-0".to_owned(), gateway);
    let lab = Lab::start_unsettled(spec).await.unwrap();
    wait_log(&lab, "eu-0", "Rejecting connection from gateway \"ap\"").await;
    lab.wait_until("eu-0", "only us", WITHIN, |view| has("us")(view) && lacks("ap")(view)).await.unwrap();
}

#[tokio::test]
async fn a_cut_route_is_gone_on_both_sides_and_gateways_stay() {
    let lab = Lab::start(Spec::new(&["eu", "us"], 3)).await.unwrap();
    let before = links(&lab).await;
    lab.cut("eu-0", "eu-1").await.unwrap();
    for (server, peer) in [("eu-0", "eu-1"), ("eu-1", "eu-0")] {
        lab.wait_until(server, "no route", WITHIN, |view| !view.routes.contains_key(peer)).await.unwrap();
        assert!(lab.view(server).await.unwrap().routes.contains_key("eu-2"));
    }
    assert_eq!(links(&lab).await, before);
    lab.heal("eu-0", "eu-1").await.unwrap();
    lab.wait_healthy(WITHIN).await.unwrap();
}

/// How much `eu-0` has heard by its routes from `eu-1`, and the other way round.
async fn heard_by_route(lab: &Lab) -> [u64; 2] {
    let mut heard = [0; 2];
    for (heard, (server, peer)) in heard.iter_mut().zip([("eu-0", "eu-1"), ("eu-1", "eu-0")]) {
        let routes = lab.ask(server, "ROUTEZ").await.unwrap();
        let of_peer = |route: &&serde_json::Value| route["remote_name"] == peer;
        let routes = routes["routes"].as_array().unwrap();
        *heard = routes.iter().filter(of_peer).map(|route| route["in_msgs"].as_u64().unwrap()).sum();
    }
    heard
}

/// Makes each server say something to each other.
async fn all_speak(lab: &Lab) {
    for server in ["eu-0", "eu-1"] {
        let client = lab.system_client(server).await.unwrap();
        client.publish("$SYS.REQ.SERVER.PING.STATSZ", "".into()).await.unwrap();
        client.flush().await.unwrap();
    }
}

/// Makes both servers speak until `enough` of what each has heard from the other.
async fn speak_until(lab: &Lab, what: &str, enough: impl Fn([u64; 2]) -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !enough(heard_by_route(lab).await) {
        assert!(Instant::now() < deadline, "{what}");
        all_speak(lab).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_route_falls_silent_in_the_direction_that_is_asked_for_whoever_dialed_it() {
    let lab = Lab::start(Spec::new(&["eu", "us"], 2)).await.unwrap();
    for (from, to, silent) in [("eu-0", "eu-1", 1), ("eu-1", "eu-0", 0)] {
        // A route stands before each end knows what the other subscribes to.
        let new = heard_by_route(&lab).await;
        speak_until(&lab, "they do not hear each other", |heard| heard[0] > new[0] && heard[1] > new[1])
            .await;
        lab.blackhole(from, to, Direction::FromDialer).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = heard_by_route(&lab).await;
        let speaking = 1 - silent;
        speak_until(&lab, "the other direction is silent too", |heard| {
            heard[speaking] >= before[speaking] + 3
        })
        .await;
        let heard = heard_by_route(&lab).await;
        assert_eq!(heard[silent], before[silent], "something passed from {from} to {to}");
        lab.heal(from, to).await.unwrap();
    }
}

#[tokio::test]
async fn a_throttled_route_piles_up_on_both_sides() {
    for (here, there) in [("eu-0", "eu-1"), ("eu-1", "eu-0")] {
        // Anew, for interest waits behind what has piled up.
        let lab = Lab::start(Spec::new(&["eu", "us"], 2)).await.unwrap();
        lab.throttle("eu-0", "eu-1", 500_000).await.unwrap();
        let publisher = connect(&lab, here, "app").await;
        let subscriber = connect(&lab, there, "app").await;
        let mut inbox = subscriber.subscribe(here).await.unwrap();
        subscriber.flush().await.unwrap();
        let drain = tokio::spawn(async move { while inbox.next().await.is_some() {} });
        let deadline = Instant::now() + WITHIN;
        loop {
            let routes = lab.ask(here, "ROUTEZ").await.unwrap();
            let routes = routes["routes"].as_array().unwrap().iter();
            if routes.filter_map(|route| route["pending_size"].as_u64()).sum::<u64>() > 1 << 20 {
                break;
            }
            assert!(Instant::now() < deadline, "nothing piles up at {here}");
            for _ in 0..16 {
                publisher.publish(here, bytes(64 * 1024).into()).await.unwrap();
            }
            publisher.flush().await.unwrap();
        }
        drain.abort();
    }
}

#[tokio::test]
async fn a_half_open_link_stands_at_its_dialer_alone_until_it_is_healed() {
    let lab = Lab::start(Spec::new(&["eu", "us"], 1)).await.unwrap();
    let dialer = lab.server_id("eu-0").await.unwrap();
    let cid = lab.view("eu-0").await.unwrap().outbound["us"].cid;
    let inbound = |view: &View| view.inbound.get("eu").is_some_and(|ids| ids.contains(&dialer));
    lab.half_open("eu-0", "us").await.unwrap();
    lab.wait_until("us-0", "no gateway from eu-0", WITHIN, |view| !inbound(view)).await.unwrap();
    // Three of the dialer's own attempts would go by.
    let until = Instant::now() + Duration::from_millis(3500);
    while Instant::now() < until {
        assert_eq!(lab.view("eu-0").await.unwrap().outbound["us"].cid, cid, "its dialer got to know");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!inbound(&lab.view("us-0").await.unwrap()), "it came back by another way");
    lab.heal("eu-0", "us").await.unwrap();
    lab.wait_until("us-0", "a gateway from eu-0", WITHIN, inbound).await.unwrap();
}

#[tokio::test]
async fn two_servers_of_one_name_do_not_dial_each_other() {
    let lab = Lab::start(Spec::new(&["eu", "us"], 1)).await.unwrap();
    lab.restart_with("us-0", |gateway| gateway.server_name = Some("eu-0".to_owned())).await.unwrap();
    assert_eq!(lab.ask("us-0", "VARZ").await.unwrap()["server_name"], "eu-0");
    wait_log(&lab, "us-0", "duplicate name").await;
    lab.restart_with("us-0", |gateway| gateway.server_name = None).await.unwrap();
    lab.wait_healthy(WITHIN).await.unwrap();
}

#[tokio::test]
async fn a_remote_that_is_not_configured_is_reached_by_gossip_and_can_still_be_cut() {
    let lab = Lab::start(small(|gateway| gateway.remotes = Some(Vec::new()))).await.unwrap();
    assert!(!lab.view("eu-0").await.unwrap().outbound["us"].configured);
    lab.cut("eu-0", "us").await.unwrap();
    lab.wait_until("eu-0", "no gateway to us", WITHIN, lacks("us")).await.unwrap();
}

#[tokio::test]
async fn a_server_without_a_gateway_block_has_no_gateway() {
    let lab = Lab::start_unsettled(small(|gateway| gateway.enabled = false)).await.unwrap();
    lab.wait_until("eu-1", "a gateway to us", WITHIN, has("us")).await.unwrap();
    let varz = lab.ask("eu-0", "VARZ").await.unwrap();
    assert_eq!(varz["gateway"], serde_json::json!({}));
    assert!(lab.view("eu-0").await.unwrap().outbound.is_empty());
}

#[tokio::test]
async fn tls_on_one_server_alone_leaves_it_without_gateways_and_on_all_it_works() {
    let tls = || Some(TlsSpec::default());
    let lab = Lab::start_unsettled(small(|gateway| gateway.tls = tls())).await.unwrap();
    let varz = lab.ask("eu-0", "VARZ").await.unwrap();
    assert_eq!(varz["gateway"]["tls_required"], true);
    lab.wait_until("eu-1", "a gateway to us", WITHIN, has("us")).await.unwrap();
    assert!(lab.view("eu-0").await.unwrap().outbound.is_empty());
    for server in ["eu-1", "us-0", "us-1"] {
        lab.restart_with(server, |gateway| gateway.tls = tls()).await.unwrap();
    }
    lab.wait_healthy(WITHIN).await.unwrap();
    assert_eq!(lab.view("eu-0").await.unwrap().outbound["us"].tls.as_deref(), Some("1.3"));
}

#[tokio::test]
async fn a_certificate_that_ended_shuts_its_server_out_and_a_new_one_needs_no_restart() {
    let tls = |tls: TlsSpec| GatewaySpec { tls: Some(tls), ..GatewaySpec::default() };
    let mut spec = Spec::new(&["eu", "us"], 1);
    let ended = TlsSpec::EndedBefore(Duration::from_secs(3600));
    spec.gateways.insert("eu-0".to_owned(), tls(ended));
    spec.gateways.insert("us-0".to_owned(), tls(TlsSpec::default()));
    let lab = Lab::start_unsettled(spec).await.unwrap();
    wait_log(&lab, "eu-0", "TLS gateway handshake error").await;
    assert!(lacks("us")(&lab.view("eu-0").await.unwrap()));
    assert!(lacks("eu")(&lab.view("us-0").await.unwrap()));
    let start = lab.ask("eu-0", "VARZ").await.unwrap()["start"].clone();
    lab.renew_certificate("eu-0", TlsSpec::default()).await.unwrap();
    lab.wait_healthy(WITHIN).await.unwrap();
    assert_eq!(lab.ask("eu-0", "VARZ").await.unwrap()["start"], start, "it was restarted");
}

#[tokio::test]
async fn a_wrong_password_towards_one_remote_is_refused_and_only_there() {
    let mut spec = Spec::new(&["eu", "us", "ap"], 1);
    let wrong = RemoteSpec { password: Some("wrong".into()), ..RemoteSpec::new("us") };
    let remotes = Some(vec![wrong, RemoteSpec::new("ap")]);
    spec.gateways.insert("eu-0".to_owned(), GatewaySpec { remotes, ..GatewaySpec::default() });
    let lab = Lab::start_unsettled(spec).await.unwrap();
    lab.wait_until("eu-0", "a gateway to ap", WITHIN, has("ap")).await.unwrap();
    lab.wait_until("us-0", "a gateway to eu", WITHIN, has("eu")).await.unwrap();
    wait_log(&lab, "us-0", "authentication error").await;
    // A server lists a gateway for the few milliseconds until it is rejected.
    lab.wait_until("eu-0", "no gateway to us", WITHIN, lacks("us")).await.unwrap();
}

#[tokio::test]
async fn a_changed_password_on_the_accepting_side_shuts_others_out() {
    let lab = Lab::start(Spec::new(&["eu", "us"], 1)).await.unwrap();
    lab.restart_with("us-0", |gateway| gateway.password = Some("new".into())).await.unwrap();
    lab.wait_until("us-0", "a gateway to eu", WITHIN, has("eu")).await.unwrap();
    wait_log(&lab, "us-0", "authentication error").await;
    lab.wait_until("eu-0", "no gateway to us", WITHIN, lacks("us")).await.unwrap();
}

#[tokio::test]
async fn a_gateway_on_another_port_is_reached_there() {
    let lab = Lab::start(Spec::new(&["eu", "us"], 1)).await.unwrap();
    let port = lab.free_port().unwrap();
    lab.restart_with("eu-0", |gateway| gateway.port = Some(port)).await.unwrap();
    lab.wait_healthy(WITHIN).await.unwrap();
    assert_eq!(lab.ask("eu-0", "VARZ").await.unwrap()["gateway"]["port"], port);
}

#[tokio::test]
async fn operator_credentials_and_gateways_work_on_the_oldest_and_the_newest_version_and_mixed() {
    for versions in [["2.10.26", "2.10.26"], ["2.15.1", "2.15.1"], ["2.10.26", "2.15.1"]] {
        let mut spec = Spec::new(&["eu", "us"], 1);
        for (cluster, version) in ["eu", "us"].into_iter().zip(versions) {
            spec.binaries.insert(cluster.to_owned(), lab::nats_server(Some(version)).await.unwrap());
        }
        spec.jetstream = true;
        let lab = Lab::start(spec).await.unwrap();
        for (server, version) in ["eu-0", "us-0"].into_iter().zip(versions) {
            assert_eq!(lab.ask(server, "VARZ").await.unwrap()["version"], version);
        }
        agent_can_ask_across_and_no_more(&lab).await;
    }
}

#[tokio::test]
async fn plain_users_have_the_same_rights_as_the_operators() {
    let lab = Lab::start(Spec { auth: Auth::Users, ..Spec::new(&["eu", "us"], 1) }).await.unwrap();
    agent_can_ask_across_and_no_more(&lab).await;
}

async fn connect(lab: &Lab, server: &str, user: &str) -> async_nats::Client {
    let options = lab.connect_options(user).await.unwrap();
    options.connect(lab.url(server).unwrap()).await.unwrap()
}

async fn agent_can_ask_across_and_no_more(lab: &Lab) {
    let agent = connect(lab, "eu-0", "gatewatch").await;
    let other = lab.server_id("us-0").await.unwrap();
    let reply = agent.request(format!("$SYS.REQ.SERVER.{other}.GATEWAYZ"), "".into()).await.unwrap();
    assert!(String::from_utf8_lossy(&reply.payload).contains("us-0"));
    let kick = agent.request(format!("$SYS.REQ.SERVER.{other}.KICK"), "{}".into());
    let kicked = tokio::time::timeout(Duration::from_millis(500), kick).await;
    assert!(!matches!(kicked, Ok(Ok(_))), "the agent's user may do more than look");
    let app = connect(lab, "us-0", "app").await;
    let mut findings = app.subscribe("gatewatch.finding.>").await.unwrap();
    // The agent's user is not given what the agent does not use yet: who may do everything answers.
    let answerer = connect(lab, "eu-0", "sys").await;
    let mut questions = answerer.subscribe("gatewatch.api.>").await.unwrap();
    app.flush().await.unwrap();
    answerer.flush().await.unwrap();
    let answers = async {
        while let Some(question) = questions.next().await {
            answerer.publish(question.reply.unwrap(), "answer".into()).await.unwrap();
        }
    };
    let asks = async {
        // The interest of the one cluster reaches the other a moment later.
        let deadline = Instant::now() + WITHIN;
        while app.request("gatewatch.api.findings", "".into()).await.is_err() {
            assert!(Instant::now() < deadline, "no answer crosses the accounts");
        }
    };
    tokio::select! { () = answers => {}, () = asks => {} }
    agent.publish("gatewatch.finding.critical.x", "finding".into()).await.unwrap();
    let finding = tokio::time::timeout(WITHIN, findings.next()).await.unwrap().unwrap();
    assert_eq!(finding.payload, "finding");
    assert!(app.request(format!("$SYS.REQ.SERVER.{other}.GATEWAYZ"), "".into()).await.is_err());
}

#[tokio::test]
async fn a_lab_obeys_another_process_until_it_is_told_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let link = || ("eu-0".to_owned(), "us".to_owned());
    let spec = Spec { dir: Some(dir.path().to_owned()), ..Spec::new(&["eu", "us"], 1) };
    let serve = tokio::spawn(control::serve(spec));
    let deadline = Instant::now() + WITHIN;
    let status = loop {
        if let Ok(reply) = control::send(dir.path(), &Command::Status).await {
            break reply.status.unwrap();
        }
        assert!(Instant::now() < deadline && !serve.is_finished(), "no lab comes up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(status.servers.len(), 2);
    let (from, to) = link();
    control::send(dir.path(), &Command::Cut { from, to }).await.unwrap();
    let faults = control::send(dir.path(), &Command::Status).await.unwrap().status.unwrap().faults;
    // A cluster of one is named as a whole.
    assert_eq!(faults, [("eu".to_owned(), "us".to_owned(), "cut".to_owned())]);
    let unknown = control::send(dir.path(), &Command::Kill { server: "xx".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no server or cluster xx; the names are eu, us, eu-0, us-0");
    control::send(dir.path(), &Command::Heal { link: Some(link()) }).await.unwrap();
    assert_eq!(control::down(dir.path()).await.unwrap(), 0);
    serve.await.unwrap().unwrap();
    let gone = control::down(dir.path()).await.unwrap_err().to_string();
    assert!(gone.contains("start one with `gatewatch lab up`"), "{gone}");
}

#[tokio::test]
async fn the_committed_configuration_is_valid_with_the_values_of_containers() {
    let dir = tempfile::tempdir().unwrap();
    lab::creds::ensure(&dir.path().join("creds"), false).unwrap();
    let configs = dir.path().join("nats-configs");
    std::fs::create_dir(&configs).unwrap();
    for name in ["server.conf", "gateway.conf"] {
        std::fs::copy(std::path::Path::new("nats-configs").join(name), configs.join(name)).unwrap();
    }
    for version in ["2.10.26", "2.15.1"] {
        let output = tokio::process::Command::new(lab::nats_server(Some(version)).await.unwrap())
            .arg("-t")
            .arg("-c")
            .arg(configs.join("server.conf"))
            .env("SERVER_NAME", "eu-0")
            .env("CLUSTER", "eu")
            .env("CLIENT_LISTEN", "0.0.0.0:4222")
            .env("ROUTE_LISTEN", "0.0.0.0:6222")
            .env("ROUTES", r#"["nats://eu-1:6222", "nats://eu-2:6222"]"#)
            .env("JETSTREAM", r#"{store_dir: "/data", max_memory_store: 16MB, max_file_store: 64MB}"#)
            .env("GATEWAY_LISTEN", "0.0.0.0:7222")
            .env("GATEWAY_USER", "gateway")
            .env("GATEWAY_PASSWORD", "demo")
            .env(
                "GATEWAYS",
                r#"[{name: us, urls: ["nats://us-0:7222"]}, {name: ap, urls: ["nats://ap-0:7222"]}]"#,
            )
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{version}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
