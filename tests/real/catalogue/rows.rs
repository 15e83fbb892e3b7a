//! The faults.

use std::net::Ipv4Addr;
use std::time::Duration;

use gatewatch::lab::{Auth, Direction, GatewaySpec, RemoteSpec, Spec, TlsSpec};

use super::fault::Plays::{Each, Oldest};
use super::fault::{Do, Fault, US_M, US_N, fault};
use super::{NEWEST, OLD};

const DAY: u64 = 24 * 3600;
/// Both say when a gateway's certificate ends.
const TELLS_CERTIFICATES: &[&str] = &["2.12.8", NEWEST];
/// Both count an account's bytes over gateways.
const COUNTS_ACCOUNTS: &[&str] = &["2.12.8", NEWEST];

/// Nobody listens there.
const NOWHERE: &str = "nats://127.0.0.1:9";
const SAYS_NOTHING: &str = "says nothing";
const REDIALS: &str = "dials again every second and says nothing";
const CLOSES: &str = "lists the link as well for 30 to 45 s, then closes it";

pub(crate) fn links() -> Vec<Fault> {
    vec![
        fault("the agent's own link is cut: eu-0 to us", &[Do::Cut("eu-0", "us")])
            .finds("gateway_disconnected eu/eu-0/us")
            .because("path_cut", "likely")
            .plays(Each)
            .server(REDIALS),
        fault("a link towards the agent's cluster is cut: us-1 to eu", &[Do::Cut("us-1", "eu")])
            .finds("gateway_disconnected us/us-1/eu")
            .because("path_cut", "likely")
            .plays(Oldest)
            .server(REDIALS),
        fault("a link between two other clusters is cut: us-2 to ap", &[Do::Cut("us-2", "ap")])
            .finds("gateway_disconnected us/us-2/ap")
            .because("path_cut", "likely")
            .plays(Oldest)
            .server(REDIALS),
        fault(
            "a link is away for one second: us-2 to ap",
            &[Do::Cut("us-2", "ap"), Do::Wait(900), Do::Heal("us-2", "ap")],
        )
        .leaves_silent("gateway_disconnected")
        .within_s(8),
        fault(
            "a link is away for four seconds: us-2 to ap",
            &[Do::Cut("us-2", "ap"), Do::Wait(4000), Do::Heal("us-2", "ap")],
        )
        .finds("gateway_disconnected us/us-2/ap")
        .server(REDIALS),
        fault("a whole cluster loses a remote that still reaches it: eu to us", &[Do::Cut("eu", "us")])
            .finds("gateway_disconnected eu/_/us")
            .server(REDIALS),
        fault("a link is reset twice: us-1 to ap", &[Do::Reset("us-1", "ap", 2)])
            .leaves_silent("gateway_flapping")
            .within_s(8),
        fault("a link is reset three times in a minute: us-1 to ap", &[Do::Reset("us-1", "ap", 3)])
            .finds("gateway_flapping us/us-1/ap")
            .lasts()
            .server(SAYS_NOTHING),
    ]
}

pub(crate) fn silent_links() -> Vec<Fault> {
    let forth = Direction::FromDialer;
    vec![
        fault("the agent's own link is a black hole: from eu-0 to us", &[Do::Blackhole("eu-0", "us", forth)])
            .finds("gateway_silent eu/eu-0/us")
            .within_s(5)
            .plays(Oldest)
            .server(CLOSES),
        fault(
            "the agent's own link is a black hole both ways: eu-0 and us",
            &[Do::Blackhole("eu-0", "us", Direction::Both)],
        )
        .finds("gateway_silent eu/eu-0/us")
        .within_s(5)
        .server(CLOSES),
        fault(
            "a link towards the agent's cluster is a black hole: from us-1 to eu",
            &[Do::Blackhole("us-1", "eu", forth)],
        )
        .finds("gateway_silent us/us-1/eu")
        .within_s(5)
        .server(CLOSES),
        fault(
            "a link between two other clusters is a black hole: from us-1 to ap",
            &[Do::Blackhole("us-1", "ap", forth)],
        )
        .finds("gateway_silent us/us-1/ap")
        .within_s(15)
        .plays(Oldest)
        .server(CLOSES),
        fault(
            "a link of the agent's cluster is a black hole both ways: eu-1 and ap",
            &[Do::Blackhole("eu-1", "ap", Direction::Both)],
        )
        .finds("gateway_silent eu/eu-1/ap")
        .within_s(15)
        .server(CLOSES),
        fault(
            "only what the acceptor sends is lost, its pongs: from ap to us-2",
            &[Do::Blackhole("us-2", "ap", Direction::FromAcceptor)],
        )
        .finds("gateway_disconnected us/us-2/ap")
        .within_s(60)
        .server("closes it after 30 to 45 s"),
        fault("a link is open at its dialer only: us-1 to ap", &[Do::HalfOpen("us-1", "ap")])
            .finds("gateway_one_way us/us-1/ap")
            .plays(Oldest)
            .server("the dialer lists it as well for 30 to 45 s"),
    ]
}

pub(crate) fn slow_links() -> Vec<Fault> {
    vec![
        fault("everything on a link is 200 ms late: us-1 to ap", &[Do::Delay("us-1", "ap", 200)])
            .finds("gateway_rtt_high us/us-1/ap")
            .within_s(45)
            .resolves_in_s(60)
            .server("tells it, up to 15 s later"),
        fault(
            "a link's round trip is 60 ms, another's 40 ms: us-1 and us-2 to ap",
            &[Do::Delay("us-2", "ap", 20), Do::Delay("us-1", "ap", 30)],
        )
        .finds("gateway_rtt_high us/us-1/ap")
        .within_s(45)
        .resolves_in_s(60)
        .server("tells it, up to 15 s later"),
        fault(
            "a throttled link carries what it is given: 100 kB/s from eu-1 to us",
            &[Do::Throttle("eu-1", "us", 1_000_000), Do::Load("eu-1", "us-1", 100_000)],
        )
        .leaves_silent("gateway_pending_pressure")
        .within_s(10),
        fault(
            "a throttled link is given more than it carries, for a while: from eu-1 to us",
            &[Do::Throttle("eu-1", "us", 200_000), Do::Burst("eu-1", "us-1", 11_000_000)],
        )
        .finds("gateway_pending_pressure eu/eu-1/us")
        .which_is("warning")
        .server("tells the bytes that wait")
        .plays(Oldest)
        // Sockets take in megabytes at once: by such a look it drains in a moment, and is none of the kind that is told.
        .wavers()
        .resolves_in_s(30),
        fault(
            "a throttled link is given more and more: 3 MB/s where 1 MB/s pass, from eu-1 to us",
            &[Do::Throttle("eu-1", "us", 1_000_000), Do::Load("eu-1", "us-1", 3_000_000)],
        )
        .finds("gateway_pending_pressure eu/eu-1/us")
        .which_is("warning")
        .which_gives_way()
        .finds("gateway_pending_pressure eu/eu-1/us")
        .which_is("critical")
        .within_s(40)
        .resolves_in_s(60)
        .server("counts a slow consumer every 10 s, and holds publishers back"),
    ]
}

pub(crate) fn servers() -> Vec<Fault> {
    vec![
        fault("the server that the agent asks us through is killed", &[Do::Kill(US_N)])
            .finds("server_missing us/us-n/_")
            .plays(Each)
            .server(SAYS_NOTHING),
        fault("a server is killed and comes back at once: us-1", &[Do::Kill("us-1"), Do::Start("us-1")])
            .leaves_silent("server_missing")
            .within_s(8),
        fault("a cluster is killed: us", &[Do::Kill("us")])
            .finds("cluster_unreachable us/_/_")
            .because("remote_cluster_down", "likely")
            .inhibits(&["eu/eu-0/us", "eu/eu-1/us", "eu/eu-2/us", "ap/ap-0/us", "ap/ap-1/us", "ap/ap-2/us"])
            .plays(Each)
            .server(REDIALS),
        fault("the agent's own server is killed: eu-0", &[Do::Kill("eu-0")])
            .finds("server_missing eu/eu-0/_")
            .plays(Oldest)
            .server(SAYS_NOTHING),
        fault(
            "two servers of one cluster carry one name: eu-1 is called eu-2",
            &[Do::Restart("eu-1", |gateway| gateway.server_name = Some("eu-2".to_owned()))],
        )
        .finds("duplicate_server_name eu/eu-2/eu-2")
        .resolves_in_s(50)
        .server("the two refuse each other, and say so in their logs"),
        fault(
            // Who asks through it loses its gateway with it, and cannot see more until it has another.
            "two servers carry one name: one of us, not the one that the agent asks through, is called eu-1",
            &[Do::Restart(US_M, |gateway| gateway.server_name = Some("eu-1".to_owned()))],
        )
        .finds("duplicate_server_name eu/eu-1/us")
        .resolves_in_s(50)
        .plays(Oldest)
        .server("the two refuse each other, and say so in their logs"),
    ]
}

pub(crate) fn stopped() -> Vec<Fault> {
    vec![
        fault("a server freezes: SIGSTOP of us-1", &[Do::Stop("us-1")])
            .finds("server_missing us/us-1/_")
            .plays(Oldest)
            .server(CLOSES),
        fault("the server that the agent asks us through freezes: SIGSTOP", &[Do::Stop(US_N)])
            .finds("server_missing us/us-n/_")
            .server(CLOSES),
        fault("a cluster freezes: SIGSTOP of all of ap", &[Do::Stop("ap")])
            .finds("cluster_unreachable ap/_/_")
            .server(CLOSES),
    ]
}

pub(crate) fn partitions() -> Vec<Fault> {
    let cut = [Do::Cut("eu", "us"), Do::Cut("us", "eu")];
    vec![
        fault("two of three clusters lose each other, seen from the first: eu and us", &cut)
            .finds("cluster_unreachable us/_/_")
            .because("path_cut", "likely")
            .seen_by("ap")
            .plays(Oldest)
            .server(REDIALS),
        fault("two of three clusters lose each other, seen from the second: eu and us", &cut)
            .seen_from("us")
            .finds("cluster_unreachable eu/_/_")
            .because("path_cut", "likely")
            .seen_by("ap")
            .server(REDIALS),
        fault("two of three clusters lose each other, seen from the third: eu and us", &cut)
            .seen_from("ap")
            .finds("gateway_disconnected eu/_/us")
            .server(REDIALS),
    ]
}

pub(crate) fn two_clusters() -> Spec {
    Spec::new(&["eu", "us"], 3)
}

pub(crate) fn two() -> Vec<Fault> {
    let hole = Direction::Both;
    vec![
        fault(
            "two clusters lose each other with nobody between: eu and us alone",
            &[Do::Cut("eu", "us"), Do::Cut("us", "eu")],
        )
        .finds("cluster_unreachable us/_/_")
        .plays(Oldest)
        .server(REDIALS),
        fault(
            "a black hole between two clusters with nobody between: eu and us alone",
            &[Do::Blackhole("eu", "us", hole), Do::Blackhole("us", "eu", hole)],
        )
        .finds("cluster_unreachable us/_/_")
        .server(CLOSES),
    ]
}

pub(crate) fn routes() -> Vec<Fault> {
    vec![
        fault("a route of the agent's cluster is cut: eu-1 and eu-2", &[Do::Cut("eu-1", "eu-2")])
            .finds("route_mesh_incomplete eu/eu-1/eu-2")
            .plays(Oldest)
            .server(REDIALS),
        fault("a route of the agent's own server is cut: eu-0 and eu-2", &[Do::Cut("eu-0", "eu-2")])
            .finds("route_mesh_incomplete eu/eu-0/eu-2")
            .server(REDIALS),
        fault("a route of the server that the agent asks us through is cut", &[Do::Cut(US_N, US_M)])
            .finds("route_mesh_incomplete us/us-n/us-m")
            .server(REDIALS),
        fault("a route of another cluster is cut: ap-0 and ap-2", &[Do::Cut("ap-0", "ap-2")])
            .finds("route_mesh_incomplete ap/ap-0/ap-2")
            .server(REDIALS),
        fault(
            "a route is away for a second: us-0 and us-2",
            &[Do::Cut("us-0", "us-2"), Do::Wait(900), Do::Heal("us-0", "us-2")],
        )
        .leaves_silent("route_mesh_incomplete")
        .within_s(8),
        fault(
            "a throttled route carries what it is given: 100 kB/s from eu-1 to eu-2",
            &[Do::Throttle("eu-1", "eu-2", 1_000_000), Do::Load("eu-1", "eu-2", 100_000)],
        )
        .leaves_silent("route_pending_pressure")
        .within_s(10),
        fault(
            "a throttled route is given more than it carries: 3 MB/s from eu-1 to eu-2",
            &[Do::Throttle("eu-1", "eu-2", 1_000_000), Do::Load("eu-1", "eu-2", 3_000_000)],
        )
        .finds("route_pending_pressure eu/eu-1/eu-2")
        .resolves_in_s(60)
        .server("tells the bytes that wait"),
    ]
}

fn no_us(gateway: &mut GatewaySpec) {
    gateway.remotes = Some(vec![RemoteSpec::new("ap")]);
}

fn no_gateway(gateway: &mut GatewaySpec) {
    gateway.enabled = false;
}

fn misspelt(gateway: &mut GatewaySpec) {
    let misspelt = RemoteSpec { leads_to: Some("us".to_owned()), ..RemoteSpec::new("uss") };
    gateway.remotes = Some(vec![misspelt, RemoteSpec::new("ap")]);
}

fn wrong_password(gateway: &mut GatewaySpec, remote: &str, other: &str) {
    let wrong = RemoteSpec { password: Some("wrong".into()), ..RemoteSpec::new(remote) };
    gateway.remotes = Some(vec![wrong, RemoteSpec::new(other)]);
}

pub(crate) fn configurations() -> Vec<Fault> {
    let mismatch = |name, server, edit: fn(&mut GatewaySpec), keys| {
        fault(name, &[Do::Restart(server, edit)]).differs(keys)
    };
    vec![
        fault(
            "one server presents a wrong password: eu-2 to us",
            &[Do::Restart("eu-2", |gateway| wrong_password(gateway, "us", "ap"))],
        )
        .finds("gateway_disconnected eu/eu-2/us")
        .because("auth_rejected", "certain")
        .plays(Each)
        .server("the one that refuses tells a system client of it, once a second"),
        fault(
            "one server presents a wrong password towards the agent's cluster: us-1 to eu",
            &[Do::Restart("us-1", |gateway| wrong_password(gateway, "eu", "ap"))],
        )
        .finds("gateway_disconnected us/us-1/eu")
        .because("auth_rejected", "certain")
        .plays(Oldest)
        .server("the one that refuses tells a system client of it, once a second"),
        fault(
            "a server knows a remote by other URLs: eu-1 has one of us and a dead one",
            &[Do::OneUrl("eu-1", "us")],
        )
        .leaves_silent("gateway_config_mismatch")
        .within_s(8),
        mismatch("one server lacks a remote: eu-1 has no us", "eu-1", no_us, &["remotes"])
            .finds("gateway_config_mismatch eu/eu-1/_")
            .plays(Oldest)
            .server("is told of it by gossip, and works"),
        mismatch("one server has no gateway: eu-1", "eu-1", no_gateway, &["gateway"])
            .finds("gateway_config_mismatch eu/eu-1/_")
            .server(SAYS_NOTHING),
        // It cannot be asked: neither a request nor a reply passes.
        mismatch("one server of another cluster has no gateway: us-1", "us-1", no_gateway, &["gateway"])
            .finds("gateway_config_mismatch us/us-1/_")
            .plays(Oldest)
            .server(SAYS_NOTHING),
        mismatch(
            "one server alone wants TLS: eu-1",
            "eu-1",
            |gateway| gateway.tls = Some(TlsSpec::default()),
            &["tls_required", "tls_verify"],
        )
        .finds("gateway_config_mismatch eu/eu-1/_")
        .server("logs a failed handshake every second"),
        mismatch(
            "one server alone refuses unknown clusters: eu-1",
            "eu-1",
            |gateway| gateway.reject_unknown = true,
            &["reject_unknown"],
        )
        .finds("gateway_config_mismatch eu/eu-1/_")
        .server("has no effect"),
        mismatch("one server misspells a remote: eu-1 has uss for us", "eu-1", misspelt, &["remotes"])
            .finds("gateway_config_mismatch eu/eu-1/_")
            .server("logs the wrong name all the time"),
    ]
}

fn with_stale(gateway: &mut GatewaySpec) {
    let stale = RemoteSpec { urls: Some(vec![NOWHERE.to_owned()]), ..RemoteSpec::new("old") };
    gateway.remotes = Some(vec![RemoteSpec::new("us"), RemoteSpec::new("ap"), stale]);
}

pub(crate) fn remotes() -> Vec<Fault> {
    vec![
        fault("no server of a cluster lists a remote: eu has no us", &[Do::Restart("eu", no_us)])
            .finds("gateway_config_mismatch eu/_/_")
            .differs(&["remotes"])
            .server("is told of it by gossip, and works"),
        fault(
            "no server of another cluster lists a remote: us has no ap",
            &[Do::Restart("us", |gateway| gateway.remotes = Some(vec![RemoteSpec::new("eu")]))],
        )
        .finds("gateway_config_mismatch us/_/_")
        .differs(&["remotes"])
        .server("is told of it by gossip, and works"),
        fault("a whole cluster misspells a remote: eu has uss for us", &[Do::Restart("eu", misspelt)])
            .finds("gateway_config_mismatch eu/_/_")
            .server("logs the wrong name all the time"),
        fault("a whole cluster lists a remote that is nowhere: eu has old", &[Do::Restart("eu", with_stale)])
            .finds("gateway_stale_remote eu/_/old")
            .within_s(30)
            .server("dials it every second"),
    ]
}

pub(crate) fn of_two() -> Spec {
    Spec::new(&["eu", "us", "ap"], 2)
}

/// A server that is its whole cluster.
pub(crate) fn with_one_alone() -> Spec {
    let clusters = vec![("eu".to_owned(), 2), ("us".to_owned(), 1)];
    Spec { clusters, ..Spec::default() }
}

fn with_nowhere(gateway: &mut GatewaySpec) {
    let nowhere = RemoteSpec { urls: Some(vec![NOWHERE.to_owned()]), ..RemoteSpec::new("old") };
    gateway.remotes = Some(vec![RemoteSpec::new("eu"), nowhere]);
}

fn no_remotes(gateway: &mut GatewaySpec) {
    gateway.remotes = Some(Vec::new());
}

pub(crate) fn alone() -> Vec<Fault> {
    vec![
        fault(
            "a cluster of one lists a remote that is nowhere: us-0 has old",
            &[Do::Restart("us-0", with_nowhere)],
        )
        .finds("gateway_stale_remote us/_/old")
        .mended_as_told()
        .resolves_in_s(50)
        .plays(Oldest)
        .server("dials it every second"),
        fault("a cluster of one lists no remote: us-0", &[Do::Restart("us-0", no_remotes)])
            .finds("gateway_implicit us/_/eu")
            .mended_as_told()
            .resolves_in_s(50)
            .server("is told of it by gossip, and works"),
        fault("a cluster of one misspells a remote: us-0 has ue for eu", &[Do::Misspell("us-0", "eu", "ue")])
            .finds("gateway_implicit us/_/ue")
            .mended_as_told()
            .resolves_in_s(50)
            .server("logs the wrong name all the time"),
    ]
}

/// Where a cluster has no majority, the rest of the supercluster decides.
pub(crate) fn pairs() -> Vec<Fault> {
    vec![
        fault("one of two servers lacks a remote: eu-1 has no us", &[Do::Restart("eu-1", no_us)])
            .finds("gateway_config_mismatch eu/eu-1/_")
            .differs(&["remotes"])
            .server("is told of it by gossip, and works"),
        fault(
            "one of two servers of another cluster lacks a remote: us-1 has no eu",
            &[Do::Restart("us-1", no_us)],
        )
        .finds("gateway_config_mismatch us/us-1/_")
        .differs(&["remotes"])
        .server("is told of it by gossip, and works"),
        fault("one of two servers has no gateway: eu-1", &[Do::Restart("eu-1", no_gateway)])
            .finds("gateway_config_mismatch eu/eu-1/_")
            .differs(&["gateway"])
            .server(SAYS_NOTHING),
    ]
}

/// The servers of `eu` share a port.
pub(crate) fn of_one_port() -> Spec {
    let mut spec = Spec::default();
    // Not from the lab, whose ports are free on 127.0.0.1 only.
    let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    for number in 0..3 {
        let host = Some(Ipv4Addr::new(127, 0, 0, 2 + number));
        let gateway = GatewaySpec { host, port: Some(port), ..GatewaySpec::default() };
        spec.gateways.insert(format!("eu-{number}"), gateway);
    }
    spec
}

pub(crate) fn ports() -> Vec<Fault> {
    let another: fn(&mut GatewaySpec) = |gateway| gateway.port = gateway.port.map(|port| port + 1);
    vec![
        fault("one server has another port than those that share one: eu-1", &[Do::Restart("eu-1", another)])
            .finds("gateway_config_mismatch eu/eu-1/_")
            .differs(&["port"])
            .server("is told of it by gossip, and works"),
    ]
}

pub(crate) fn with_tls() -> Spec {
    let mut spec = Spec::default();
    for (cluster, servers) in spec.clusters.clone() {
        for number in 0..servers {
            let gateway = GatewaySpec { tls: Some(TlsSpec::default()), ..GatewaySpec::default() };
            spec.gateways.insert(format!("{cluster}-{number}"), gateway);
        }
    }
    spec
}

fn ends_in(days: u64, hours: u64) -> TlsSpec {
    TlsSpec::EndsIn(Duration::from_secs(days * DAY + hours * 3600))
}

fn ended(gateway: &mut GatewaySpec) {
    gateway.tls = Some(TlsSpec::EndedBefore(Duration::from_secs(3600)));
}

pub(crate) fn certificates() -> Vec<Fault> {
    vec![
        // A server is asked for its configuration every 30 s.
        fault(
            "a certificate ends in 30 days less an hour, another an hour later than that: eu-1, eu-2",
            &[Do::Certificate("eu-2", ends_in(30, 1)), Do::Certificate("eu-1", ends_in(29, 23))],
        )
        .finds("gateway_tls_expiring eu/eu-1/_")
        .which_is("warning")
        .only(TELLS_CERTIFICATES)
        .within_s(40)
        .resolves_in_s(40)
        .server("tells the date"),
        fault("a certificate ends in 7 days less an hour, another in 7 days and an hour: us-1, us-2", &[])
            .before(&[Do::Certificate("us-2", ends_in(7, 1)), Do::Certificate("us-1", ends_in(6, 23))])
            .finds("gateway_tls_expiring us/us-1/_")
            .which_is("critical")
            .finds("gateway_tls_expiring us/us-2/_")
            .which_is("warning")
            .only(TELLS_CERTIFICATES)
            .resolves_in_s(40)
            .server("tells the date"),
        fault("a server starts with a certificate that has ended: eu-1", &[Do::Restart("eu-1", ended)])
            .finds("gateway_tls_expiring eu/eu-1/_")
            .which_is("critical")
            .only(TELLS_CERTIFICATES)
            .plays(Oldest)
            .server("both ends log a failed handshake every second"),
        fault(
            "a server that tells no date starts with a certificate that has ended: eu-1",
            &[Do::Restart("eu-1", ended)],
        )
        .finds("gateway_disconnected eu/eu-1/us")
        .finds("gateway_disconnected eu/eu-1/ap")
        // Who had its gateway to eu there dials one of three at random, once a second, until it is another.
        .config("[checks.gateway_disconnected]\nabsent_for = \"10s\"\n")
        .only(&[OLD])
        .server("both ends log a failed handshake every second"),
    ]
}

/// An operator's are known by their keys.
pub(crate) fn with_named_accounts() -> Spec {
    Spec { auth: Auth::Users, ..Spec::default() }
}

const SOON: &str = "[checks.gateway_traffic_ratio]\nwindow = \"10s\"\n";

pub(crate) fn traffic() -> Vec<Fault> {
    vec![
        fault(
            "a quarter of what an account publishes crosses gateways: eu-1 to us",
            &[Do::Load("eu-1", "us-1", 250_000), Do::Unheard("eu-1", 750_000)],
        )
        .leaves_silent("gateway_traffic_ratio")
        .config(SOON)
        .only(COUNTS_ACCOUNTS)
        .within_s(25),
        fault(
            "a third of what an account publishes crosses gateways: eu-1 to us",
            &[Do::Load("eu-1", "us-1", 350_000), Do::Unheard("eu-1", 650_000)],
        )
        .finds("gateway_traffic_ratio _/_/APP")
        .only(COUNTS_ACCOUNTS)
        .config(SOON)
        .plays(Oldest)
        .within_s(40)
        .resolves_in_s(40)
        .server("counts it by account"),
        fault(
            "half of what an account publishes crosses gateways, on servers that do not count it",
            &[Do::Load("eu-1", "us-1", 500_000), Do::Unheard("eu-1", 500_000)],
        )
        .leaves_silent("gateway_traffic_ratio")
        .config(SOON)
        .only(&[OLD])
        .within_s(25),
    ]
}

/// All versions of the table have another one.
pub(crate) fn with_an_older_one() -> Spec {
    let mut spec = Spec::default();
    spec.binaries.insert("us-2".to_owned(), "2.14.6".into());
    spec
}

pub(crate) fn skewed() -> Vec<Fault> {
    vec![
        fault("a server has had another version than its cluster for a moment: us-2", &[])
            .leaves_silent("version_skew")
            .within_s(8),
        fault("a server has another version than its cluster: us-2", &[])
            .config("[checks.version_skew]\nskewed_for = \"1s\"\n")
            .finds("version_skew us/us-2/_")
            .lasts()
            .server(SAYS_NOTHING),
    ]
}

const EXPECTS: &str = "[expect]\ntopology = \"topology.toml\"\n";
const EXPECTS_SOON: &str = "[expect]\ntopology = \"topology.toml\"\n[checks.topology_drift]\n\
                            absent_for = \"3s\"\ndiffers_for = \"2s\"\n";
const WITHOUT_US_2: &str = r#"
[[cluster]]
name = "ap"
servers = ["ap-0", "ap-1", "ap-2"]
remotes = ["eu", "us"]
[[cluster]]
name = "eu"
servers = ["eu-0", "eu-1", "eu-2"]
remotes = ["ap", "us"]
[[cluster]]
name = "us"
servers = ["us-0", "us-1"]
remotes = ["ap", "eu"]
"#;
const WITH_EU_3: &str = r#"
[[cluster]]
name = "ap"
servers = ["ap-0", "ap-1", "ap-2"]
remotes = ["eu", "us"]
[[cluster]]
name = "eu"
servers = ["eu-0", "eu-1", "eu-2", "eu-3"]
remotes = ["ap", "us"]
[[cluster]]
name = "us"
servers = ["us-0", "us-1", "us-2"]
remotes = ["ap", "eu"]
"#;

pub(crate) fn expected() -> Vec<Fault> {
    vec![
        fault("a server that nobody expects has been there for a moment: us-2", &[])
            .config(EXPECTS)
            .topology(WITHOUT_US_2)
            .leaves_silent("topology_drift")
            .within_s(8),
        fault("a server is there that nobody expects: us-2", &[])
            .config(EXPECTS_SOON)
            .topology(WITHOUT_US_2)
            .finds("topology_drift us/us-2/_")
            .lasts()
            .server(SAYS_NOTHING),
        fault("a server that is expected is not there: eu-3", &[])
            .config(EXPECTS_SOON)
            .topology(WITH_EU_3)
            .finds("topology_drift eu/eu-3/_")
            .lasts()
            .server(SAYS_NOTHING),
    ]
}

pub(crate) fn observer() -> Vec<Fault> {
    vec![
        fault("one reply cannot be understood", &[Do::Garble(1)])
            .leaves_silent("observer_degraded")
            .within_s(8),
        fault("something answers that cannot be understood", &[Do::Garble(usize::MAX)])
            .finds("observer_degraded _/_/unnamed")
            .resolves_in_s(30)
            .server(SAYS_NOTHING),
        // Synthetic: no version that can be run here is ever in this mode.
        fault("a server says that it is optimistic about an account: us-1 towards ap", &[])
            .before(&[Do::Optimistic("us-1", "ap")])
            .finds("gateway_interest_mode us/us-1/ap")
            .lasts()
            .server("tells it to whoever asks"),
    ]
}

pub(crate) fn with_jetstream() -> Spec {
    Spec { jetstream: true, ..with_named_accounts() }
}

pub(crate) fn streams() -> Vec<Fault> {
    vec![
        fault("four clients of an account are far from its only stream: at eu-1, which is in us", &[])
            .before(&[Do::Stream("us"), Do::Clients("eu-1", 4)])
            .leaves_silent("cross_cluster_stream_access")
            .within_s(12),
        fault("five clients of an account are far from its only stream: at eu-1, which is in us", &[])
            // Streams are asked for once a minute.
            .before(&[Do::Stream("us"), Do::Clients("eu-1", 5)])
            .finds("cross_cluster_stream_access eu/_/APP")
            .lasts()
            .server("tells where each stream has its leader"),
    ]
}
