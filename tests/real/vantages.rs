//! More than one way to look: a cut between two clusters is seen from both sides, and one lost link of the agent's
//! own server hides nothing.

use std::time::{Duration, Instant};

use gatewatch::lab::{Direction, Lab, Spec};

use crate::common::{AgentSpec, Event, SETTLE, WITHIN, Watch, binary};

const OLDEST: &str = "2.10.26";
const NEWEST: &str = "2.15.1";

async fn spec(of: Spec, version: &str) -> Spec {
    Spec { binary: Some(binary(version).await), ..of }
}

/// One more place to look from, with the credentials that it takes.
fn vantage(lab: &Lab, server: &str) -> String {
    let login = match (lab.creds(), lab.password()) {
        (Some(creds), _) => format!("creds = \"{}\"", creds.user("gatewatch").display()),
        (None, password) => format!("user = \"gatewatch\"\npassword = {:?}", password.unwrap()),
    };
    let url = lab.url(server).unwrap();
    format!("[[vantage]]\nserver = {url:?}\n{login}\ninbox_prefix = \"_INBOX_gatewatch\"\n")
}

/// What connections of agents this server has, by their names.
async fn agents_at(lab: &Lab, server: &str) -> Vec<String> {
    let connections = lab.ask(server, "CONNZ").await.unwrap();
    let connections = connections["connections"].as_array().unwrap().iter();
    let names = connections.filter_map(|c| c["name"].as_str()).filter(|name| name.contains("gatewatch/"));
    names.map(str::to_owned).collect()
}

/// How many neighbours the agent looks through.
async fn neighbours(lab: &Lab) -> usize {
    let mut count = 0;
    for server in ["eu-1", "eu-2"] {
        count += agents_at(lab, server).await.iter().filter(|name| name.ends_with("elsewhere")).count();
    }
    count
}

async fn wait_neighbours(watch: &Watch, wanted: usize) {
    let deadline = Instant::now() + WITHIN;
    while neighbours(&watch.lab).await != wanted {
        assert!(Instant::now() < deadline, "not {wanted} neighbours\n{}", watch.agent_log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// In health nothing is asked by other ways: an epoch of two looks, with nothing else due, is two requests.
async fn costs_nothing_more(watch: &mut Watch) {
    let mark = watch.mark();
    watch.observe_until(Instant::now() + Duration::from_secs(6)).await;
    let requests: Vec<u64> = watch
        .since(mark)
        .iter()
        .filter(|event| event.is_epoch())
        .filter_map(|event| event.body["requests"].as_u64())
        .collect();
    assert!(requests.iter().filter(|n| **n == 2).count() * 2 > requests.len(), "{requests:?}");
}

fn last(watch: &Watch, mark: usize, opened: &Event) -> Event {
    watch.last_of_each(mark)[opened.text("/fingerprint")].clone()
}

async fn a_cut_seen_from_both_sides(version: &str) {
    let two = spec(Spec::new(&["eu", "us"], 3), version).await;
    let mut watch = Watch::unwatched(two, AgentSpec::default(), true).await;
    let config = Some(vantage(&watch.lab, "us-0"));
    watch.move_to(AgentSpec { config, ..AgentSpec::default() }).await;
    watch.start_agent().await;
    costs_nothing_more(&mut watch).await;
    watch.opened_are(0, &[]);

    let mark = watch.mark();
    watch.lab.cut("eu", "us").await.unwrap();
    watch.lab.cut("us", "eu").await.unwrap();
    let finding = watch.exactly_one(mark, "gateway_disconnected eu/_/us").await;
    let cause = (finding.text("/cause/kind"), finding.text("/cause/confidence"));
    assert_eq!(cause, ("path_cut", "certain"), "{}", finding.line());
    let from = &finding.body["vantage"]["ways"];
    assert_eq!(*from, serde_json::json!([{ "cluster": "us", "server": "us-0" }]), "{}", finding.body);
    watch.lab.heal("eu", "us").await.unwrap();
    watch.lab.heal("us", "eu").await.unwrap();
    watch.resolves(mark, &finding).await;

    // The vantage goes with its cluster, and comes back with it.
    let mark = watch.mark();
    watch.lab.kill_cluster("us").await.unwrap();
    let finding = watch.exactly_one(mark, "cluster_unreachable us/_/_").await;
    for server in ["us-0", "us-1", "us-2"] {
        watch.lab.start_server(server).await.unwrap();
    }
    watch.resolves(mark, &finding).await;
    watch.finish().await;
}

/// One thing after the other is found in `us` and resolves, while the agent's own server does not reach it.
async fn goes_on(watch: &mut Watch) {
    let mark = watch.mark();
    watch.lab.cut("us-1", "ap").await.unwrap();
    let finding = watch.exactly_one(mark, "gateway_disconnected us/us-1/ap").await;
    watch.lab.heal("us-1", "ap").await.unwrap();
    watch.wait_resolved(mark, &finding, WITHIN).await;
    watch.opened_are(mark, &["gateway_disconnected us/us-1/ap"]);

    // Not the one that a silent gateway leads to: whose end it would be is dialled anew, again and again.
    let silent = watch.lab.view("eu-0").await.unwrap().outbound.get("us").map(|link| link.server_id.clone());
    let third = watch.lab.server_id("us-2").await.unwrap();
    let victim = if silent == Some(third) { "us-0" } else { "us-2" };
    let about = format!("server_missing us/{victim}/_");
    let mark = watch.mark();
    watch.lab.kill(victim).await.unwrap();
    let finding = watch.exactly_one(mark, &about).await;
    watch.lab.start_server(victim).await.unwrap();
    watch.wait_resolved(mark, &finding, WITHIN).await;
    watch.opened_are(mark, &[&about]);
}

async fn a_lost_link_of_its_own_server(version: &str) {
    let mut watch = Watch::start(spec(Spec::default(), version).await).await;
    assert_eq!(neighbours(&watch.lab).await, 0, "in health");
    let mark = watch.mark();
    watch.lab.cut("eu-0", "us").await.unwrap();
    let lost = watch.exactly_one(mark, "gateway_disconnected eu/eu-0/us").await;
    // The finding may open a moment before the other way does.
    wait_neighbours(&watch, 1).await;
    goes_on(&mut watch).await;
    let by_another_way = |event: &Event| event.body["vantage"]["ways"][0]["cluster"] == "eu";
    assert!(watch.findings(mark).iter().any(by_another_way), "{}", watch.story(mark));
    let still = last(&watch, mark, &lost);
    assert!(!still.is("resolved"), "{}", still.line());
    watch.lab.heal("eu-0", "us").await.unwrap();
    watch.wait_resolved(mark, &lost, WITHIN).await;
    watch.lab.wait_healthy(WITHIN).await.unwrap();
    wait_neighbours(&watch, 0).await;
    watch.observe_until(Instant::now() + SETTLE).await;
    watch.all_closed();
    watch.finish().await;
}

async fn a_silent_link_of_its_own_server(version: &str) {
    let mut watch = Watch::start(spec(Spec::default(), version).await).await;
    let mark = watch.mark();
    watch.lab.blackhole("eu-0", "us", Direction::FromDialer).await.unwrap();
    let silent = watch.exactly_one(mark, "gateway_silent eu/eu-0/us").await;
    goes_on(&mut watch).await;
    watch.lab.heal("eu-0", "us").await.unwrap();
    watch.wait_resolved(mark, &silent, WITHIN).await;
    watch.lab.wait_healthy(WITHIN).await.unwrap();
    watch.observe_until(Instant::now() + SETTLE).await;
    watch.all_closed();
    watch.finish().await;
}

#[tokio::test]
async fn a_vantage_that_cannot_log_in_is_told_of_and_harms_nothing() {
    let mut watch = Watch::unwatched(spec(Spec::default(), NEWEST).await, AgentSpec::default(), true).await;
    let login = watch.dir().join("later.creds");
    let url = watch.lab.url("us-0").unwrap();
    let config = format!(
        "[[vantage]]\nserver = {url:?}\ncreds = \"{}\"\ninbox_prefix = \"_INBOX_gatewatch\"\n",
        login.display()
    );
    watch.move_to(AgentSpec { config: Some(config), ..AgentSpec::default() }).await;
    watch.start_agent().await;
    let degraded = watch.exactly_one(0, "observer_degraded _/_/_").await;
    assert!(degraded.text("/summary").contains("may not look from nats://"), "{}", degraded.line());
    let mark = watch.mark();
    watch.lab.cut("us-1", "ap").await.unwrap();
    let lost = watch.exactly_one(mark, "gateway_disconnected us/us-1/ap").await;
    watch.lab.heal("us-1", "ap").await.unwrap();
    watch.wait_resolved(mark, &lost, WITHIN).await;
    // It is tried again every half minute.
    std::fs::copy(watch.lab.creds().unwrap().user("gatewatch"), &login).unwrap();
    watch.wait_resolved(mark, &degraded, WITHIN * 2).await;
    watch.finish().await;
}

macro_rules! on_both {
    ($($played:ident: $oldest:ident, $newest:ident;)*) => {
        $(
            #[tokio::test]
            async fn $oldest() { $played(OLDEST).await; }
            #[tokio::test]
            async fn $newest() { $played(NEWEST).await; }
        )*
    };
}

on_both! {
    a_cut_seen_from_both_sides: a_cut_is_certain_on_2_10_26, a_cut_is_certain_on_2_15_1;
    a_lost_link_of_its_own_server: a_lost_link_hides_nothing_on_2_10_26, a_lost_link_hides_nothing_on_2_15_1;
    a_silent_link_of_its_own_server:
        a_silent_link_hides_nothing_on_2_10_26, a_silent_link_hides_nothing_on_2_15_1;
}
