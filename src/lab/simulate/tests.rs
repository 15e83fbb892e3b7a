use std::collections::BTreeSet;

use serde_json::Value;

use super::answers::Answers;
use super::ask::{Endpoint, Options, release};
use super::command::Command;
use super::render::{ACCOUNT, Renderer};
use super::text::Text;
use super::wire::{Incoming, Reader, Request};
use super::world::{Event, SECOND, World};
use crate::collect::decode::{self, go_duration};
use crate::model::{Fact, Gatewayz, Routez, ServerInfo, Statsz, Time, Varz};

const NOW: u64 = 1_780_000_000 * SECOND;
const HOST_ID: &str = "NHOST";

fn world(clusters: usize, servers: usize) -> World {
    World::new(clusters, servers, 7, HOST_ID, NOW)
}

fn renderer(version: &str) -> Renderer {
    Renderer { version: version.to_owned(), release: release(version).unwrap(), client_port: 4333 }
}

fn body(world: &World, index: usize, endpoint: Endpoint, options: &str, version: &str, now: u64) -> Vec<u8> {
    let mut text = Text::default();
    let options = Options::parse(options.as_bytes()).unwrap();
    renderer(version).reply(&mut text, world, &world.servers[index], endpoint, &options, now);
    if let Some(at) = text.1 {
        drop(text.0.splice(at..at, Renderer::shared(world)));
    }
    text.0
}

fn decoded(world: &World, index: usize, endpoint: Endpoint, now: u64) -> (ServerInfo, Fact) {
    let asked = match endpoint {
        Endpoint::Gatewayz => decode::Endpoint::Gatewayz,
        Endpoint::Varz => decode::Endpoint::Varz,
        Endpoint::Statsz => decode::Endpoint::Statsz,
        Endpoint::Routez => decode::Endpoint::Routez,
        Endpoint::Accountz => decode::Endpoint::Accountz,
        Endpoint::Jsz => decode::Endpoint::Jsz,
        Endpoint::Healthz | Endpoint::Idz => panic!("the agent does not ask that"),
    };
    decode::Decoder::default().reply(asked, None, &body(world, index, endpoint, "", "2.15.1", now)).unwrap()
}

fn gatewayz(world: &World, index: usize, now: u64) -> Gatewayz {
    let (server, Fact::Gatewayz(gatewayz)) = decoded(world, index, Endpoint::Gatewayz, now) else { panic!() };
    assert_eq!(*server.id, *world.servers[index].id);
    gatewayz
}

fn statsz(world: &World, index: usize, now: u64) -> Statsz {
    let (_, Fact::Statsz(statsz)) = decoded(world, index, Endpoint::Statsz, now) else { panic!() };
    statsz
}

fn routez(world: &World, index: usize) -> Routez {
    let (_, Fact::Routez(routez)) = decoded(world, index, Endpoint::Routez, NOW) else { panic!() };
    routez
}

fn varz(world: &World, index: usize) -> Varz {
    let (_, Fact::Varz(varz)) = decoded(world, index, Endpoint::Varz, NOW) else { panic!() };
    *varz
}

/// Lets everything happen until `now`.
fn run(world: &mut World, now: u64) -> Vec<Event> {
    std::iter::from_fn(|| world.step(now)).collect()
}

fn obey(world: &mut World, line: &str, now: u64) -> Vec<String> {
    let done = world.obey(&Command::parse(line).unwrap(), now).unwrap();
    done.into_iter().map(|index| world.servers[index].name.clone()).collect()
}

/// Every outbound gateway has its other end, where it counts the same, and there is nothing else.
fn agrees(world: &World, now: u64) {
    let mut inbound = 0;
    let all: Vec<(usize, Gatewayz)> = (0..world.servers.len())
        .filter(|index| world.servers[*index].alive)
        .map(|index| (index, gatewayz(world, index, now)))
        .collect();
    let of = |id: &str| &all.iter().find(|(index, _)| world.servers[*index].id == id).unwrap().1;
    let mut outbound = 0;
    for (index, near) in &all {
        let own = near.name.clone().unwrap();
        inbound += near.inbound.iter().count();
        let statsz = statsz(world, *index, now);
        assert_eq!(statsz.gateways.len(), near.outbound.len());
        for (remote, link) in near.outbound.iter() {
            outbound += 1;
            assert!(link.configured);
            assert_eq!(statsz.gateways[remote], link.connection.cid);
            let far = of(&link.connection.peer_id);
            assert_eq!(far.name.as_deref(), Some(&**remote));
            let id = &world.servers[*index].id;
            let ends: Vec<_> = far.inbound.from_peer(&own, &id.as_str().into()).collect();
            assert_eq!(ends.len(), 1);
            let counted = |c: &crate::model::Connection| (c.in_msgs, c.in_bytes, c.start);
            let sent = (link.connection.out_msgs, link.connection.out_bytes, link.connection.start);
            assert_eq!(counted(&ends[0]), sent);
            assert!(ends[0].rtt.is_some() && link.connection.rtt.is_some());
        }
    }
    assert_eq!(inbound, outbound);
}

#[test]
fn each_server_has_one_gateway_to_each_remote_and_both_ends_agree() {
    let world = world(5, 3);
    agrees(&world, NOW);
    for index in 0..15 {
        let seen = gatewayz(&world, index, NOW);
        assert_eq!(seen.outbound.len(), 4);
        assert_eq!(routez(&world, index).peers.len(), 2);
        assert!(routez(&world, index).peers.iter().all(|(_, peer)| peer.connections == 4));
        assert_eq!(statsz(&world, index, NOW).active_servers, Some(15));
        let varz = varz(&world, index);
        assert_eq!(varz.gateway.unwrap().remotes.len(), 4);
        assert_eq!(varz.system_account.as_deref(), Some(ACCOUNT));
        assert_eq!(varz.client_port, if index == 0 { 4333 } else { 4222 });
    }
}

#[test]
fn what_is_counted_goes_up_with_time_and_a_link_stays_the_same() {
    let world = world(3, 2);
    let (before, after) = (gatewayz(&world, 1, NOW), gatewayz(&world, 1, NOW + 60 * SECOND));
    for (remote, link) in before.outbound.iter() {
        let (old, new) = (link.connection, after.outbound.get(remote).unwrap().connection);
        assert!(new.out_msgs >= old.out_msgs + 6 && new.out_bytes > old.out_bytes);
        assert_eq!((old.cid, old.start, old.rtt), (new.cid, new.start, new.rtt));
    }
}

#[test]
fn the_same_seed_makes_the_same_servers_and_another_seed_others() {
    let bodies = |seed| {
        let world = World::new(4, 3, seed, HOST_ID, NOW);
        (0..12).map(|i| body(&world, i, Endpoint::Gatewayz, "", "2.15.1", NOW)).collect::<Vec<_>>()
    };
    assert_eq!(bodies(1), bodies(1));
    assert_ne!(bodies(1), bodies(2));
}

#[test]
fn who_is_killed_is_dialed_no_more_and_its_dialers_find_another() {
    let mut world = world(4, 3);
    assert_eq!(obey(&mut world, "kill c1-0", NOW), ["c1-0"]);
    agrees(&world, NOW);
    let lost: usize =
        (0..12).map(|i| usize::from(world.servers[i].alive && world.link(i, 1).is_none())).sum();
    assert!(lost > 3, "the servers of c1, and those that had dialed c1-0");
    run(&mut world, NOW + 2 * SECOND);
    agrees(&world, NOW + 2 * SECOND);
    assert!((0..12).filter(|i| !(3..6).contains(i)).all(|i| world.link(i, 1).is_some()));
    assert!(routez(&world, 4).peers.len() == 1);
    assert_eq!(statsz(&world, 0, NOW + 2 * SECOND).active_servers, Some(11));
}

#[test]
fn who_is_restarted_comes_back_with_another_id_and_all_gateways() {
    let mut world = world(3, 3);
    let before = world.servers[4].id.clone();
    assert_eq!(obey(&mut world, "restart c1-1", NOW), ["c1-1"]);
    assert_eq!(world.by_id(&before), None);
    let beats = run(&mut world, NOW + 3 * SECOND);
    assert!(beats.contains(&Event::Beat(4)));
    assert_ne!(world.servers[4].id, before);
    assert_eq!(gatewayz(&world, 4, NOW + 3 * SECOND).outbound.len(), 2);
    agrees(&world, NOW + 3 * SECOND);
}

#[test]
fn a_cut_is_seen_at_both_ends_and_healed() {
    let mut world = world(3, 2);
    let far = world.link(3, 2).unwrap().to;
    let before = gatewayz(&world, far, NOW).inbound.peers_of("c1").len();
    assert_eq!(obey(&mut world, "cut c1-1 c2", NOW), ["c1-1"]);
    run(&mut world, NOW + 5 * SECOND);
    assert!(!gatewayz(&world, 3, NOW + 5 * SECOND).outbound.contains_key("c2"));
    let left = gatewayz(&world, far, NOW + 5 * SECOND).inbound.peers_of("c1").len();
    assert_eq!(left, before - 1);
    obey(&mut world, "heal", NOW + 5 * SECOND);
    run(&mut world, NOW + 7 * SECOND);
    assert!(gatewayz(&world, 3, NOW + 7 * SECOND).outbound.contains_key("c2"));
    agrees(&world, NOW + 7 * SECOND);
}

#[test]
fn everybody_tells_once_in_ten_seconds_and_not_at_once() {
    let mut world = world(3, 2);
    for turn in 1..=20 {
        let beats = run(&mut world, NOW + 10 * SECOND + turn * 5 * SECOND - 1);
        assert_eq!(beats.len(), 3, "in each five seconds half of them");
    }
}

#[test]
fn what_cannot_be_done_is_refused_and_said() {
    let mut world = world(2, 2);
    for (line, why) in [
        ("kill c0-0", "connected to"),
        ("restart c0", "connected to"),
        ("kill c9-9", "no server or cluster c9-9"),
        ("cut c0-1 c0", "has no gateway"),
        ("cut c0-1 c1-1", "no cluster c1-1"),
        ("silent 4", "only 3 servers"),
    ] {
        let command = Command::parse(line).unwrap();
        let refused = world.obey(&command, NOW).unwrap_err();
        assert!(refused.contains(why), "{line}: {refused}");
    }
    for line in ["", "explode", "late c0-1", "late c0-1 soon", "lose 101", "cut c0-1", "heal c0-1"] {
        assert!(Command::parse(line).is_err(), "{line}");
    }
    assert_eq!(Command::parse("lose 0.5%"), Ok(Command::Lose(5_000)));
}

#[test]
fn a_heartbeat_crosses_every_gateway_and_an_answer_the_one_to_who_asks() {
    let mut world = world(3, 2);
    let mut answers = Answers::new(&world, renderer("2.15.1"), 1);
    let sent = |world: &World| {
        ["c0", "c1"].map(|c| gatewayz(world, 4, NOW).outbound.get(c).unwrap().connection.out_msgs)
    };
    let [to_c0, to_c1] = sent(&world);
    answers.tell(&mut world, Event::Beat(4), NOW, &mut Vec::new());
    assert_eq!(sent(&world), [to_c0 + 1, to_c1 + 1]);
    ask(&mut answers, &mut world, GATEWAYZ, "", NOW);
    assert_eq!(sent(&world), [to_c0 + 2, to_c1 + 1]);
    agrees(&world, NOW);
    let one = format!("$SYS.REQ.SERVER.{}.STATSZ", world.servers[4].id);
    for (subject, beats) in [("$SYS.REQ.SERVER.PING.STATSZ", 6), (&one, 1), (GATEWAYZ, 0)] {
        let request = Request { subject: subject.to_owned(), reply: None, encoding: None, body: Vec::new() };
        let mut out = Vec::new();
        answers.take(&mut world, request, NOW, &mut out);
        while answers.is_busy() {
            answers.work(&mut world, NOW, &mut out);
        }
        let told = messages(&out);
        assert_eq!(told.len(), beats, "{subject}");
        assert!(told.iter().all(|(subject, ..)| subject.ends_with(".STATSZ")));
    }
}

/// Each key by the way to it; the names of remotes are one key.
fn keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let is_name =
                    at.ends_with("bound_gateways") || at.ends_with("metadata") || at.ends_with("flags");
                let at = format!("{at}.{}", if is_name { "*" } else { key });
                keys(value, &at, found);
                found.insert(at);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, &format!("{at}[]"), found)),
        _ => {}
    }
}

#[test]
fn replies_have_the_fields_of_real_ones_of_each_version() {
    for version in ["2.10.27", "2.11.11", "2.12.8", "2.14.6", "2.15.1"] {
        for (file, endpoint, options) in [
            ("GATEWAYZ", Endpoint::Gatewayz, ""),
            ("GATEWAYZ.accounts", Endpoint::Gatewayz, r#"{"accounts":true}"#),
            ("VARZ", Endpoint::Varz, ""),
            ("ROUTEZ", Endpoint::Routez, ""),
            ("STATSZ", Endpoint::Statsz, ""),
            ("ACCOUNT.PING.STATZ.unused", Endpoint::Accountz, ""),
        ] {
            let path = format!("{}/tests/samples/{version}/{file}.json", env!("CARGO_MANIFEST_DIR"));
            let read = |text: &[u8]| {
                let mut found = BTreeSet::new();
                keys(&serde_json::from_slice(text).unwrap(), "", &mut found);
                // The samples are of servers with JetStream; a build tells its commit or does not.
                found.retain(|key| !key.contains(".jetstream.") && !key.ends_with("git_commit"));
                found.retain(|key| !key.ends_with("statsz.jetstream"));
                // It was seen in some samples and not in others of the same version.
                found.retain(|key| !key.contains("feature_flags") && !key.contains("metadata"));
                found
            };
            let real = read(&std::fs::read(&path).unwrap());
            let ours = read(&body(&world(3, 2), 1, endpoint, options, version, NOW));
            // One real server happened to have no inbound gateway.
            let more: Vec<_> =
                ours.difference(&real).filter(|key| !key.contains("inbound_gateways.*")).collect();
            let less: Vec<_> = real.difference(&ours).collect();
            assert!(more.is_empty() && less.is_empty(), "{version} {file}: more {more:?}, less {less:?}");
        }
    }
}

/// What was sent to an inbox, or as a heartbeat: the headers and the body.
fn messages(out: &[u8]) -> Vec<(String, String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut rest = out;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let line = String::from_utf8(rest[..end].to_vec()).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let size: usize = words.last().unwrap().parse().unwrap();
        let head: usize = if words[0] == "HPUB" { words[words.len() - 2].parse().unwrap() } else { 0 };
        let message = &rest[end + 2..end + 2 + size];
        let headers = String::from_utf8(message[..head].to_vec()).unwrap();
        all.push((words[1].to_owned(), headers, message[head..].to_vec()));
        assert_eq!(&rest[end + 2 + size..end + 4 + size], b"\r\n");
        rest = &rest[end + 4 + size..];
    }
    all
}

fn ask(
    answers: &mut Answers,
    world: &mut World,
    subject: &str,
    body: &str,
    now: u64,
) -> Vec<(String, String, Vec<u8>)> {
    let request = Request {
        subject: subject.to_owned(),
        reply: Some("inbox".to_owned()),
        encoding: Some("snappy".to_owned()),
        body: body.as_bytes().to_vec(),
    };
    let mut out = Vec::new();
    answers.take(world, request, now, &mut out);
    while answers.is_busy() {
        answers.work(world, now, &mut out);
    }
    messages(&out)
}

const GATEWAYZ: &str = "$SYS.REQ.SERVER.PING.GATEWAYZ";

#[test]
fn all_answer_compressed_as_asked_and_heartbeats_never() {
    let mut world = world(10, 10);
    let mut answers = Answers::new(&world, renderer("2.15.1"), 1);
    let replies = ask(&mut answers, &mut world, GATEWAYZ, "", NOW);
    assert_eq!(replies.len(), 100);
    for (subject, headers, body) in replies {
        assert_eq!((subject.as_str(), headers.contains("Content-Encoding: snappy\r\n")), ("inbox", true));
        let (_, Fact::Gatewayz(seen)) =
            decode::Decoder::default().reply(decode::Endpoint::Gatewayz, Some("snappy"), &body).unwrap()
        else {
            panic!()
        };
        assert_eq!(seen.outbound.len(), 9);
    }
    for (_, headers, body) in ask(&mut answers, &mut world, "$SYS.REQ.SERVER.PING", "", NOW) {
        assert!(headers.is_empty() && decode::Decoder::default().heartbeat(&body, |_, _| false).is_ok());
    }
    let one = format!("$SYS.REQ.SERVER.{}.VARZ", world.servers[42].id);
    assert_eq!(ask(&mut answers, &mut world, &one, "", NOW).len(), 1);
    let replies = ask(&mut answers, &mut world, "$SYS.REQ.SERVER.PING.VARZ", "", NOW);
    for (_, _, body) in &replies {
        let (_, Fact::Varz(seen)) =
            decode::Decoder::default().reply(decode::Endpoint::Varz, Some("snappy"), body).unwrap()
        else {
            panic!()
        };
        assert_eq!(seen.gateway.unwrap().remotes.len(), 9);
    }
    assert_eq!(replies.len(), 100);
    let filtered = ask(&mut answers, &mut world, GATEWAYZ, r#"{"cluster":"c3"}"#, NOW);
    assert_eq!(filtered.len(), 10);
}

#[test]
fn nobody_answers_for_who_is_dead_or_out_of_reach() {
    let mut world = world(3, 3);
    let mut answers = Answers::new(&world, renderer("2.15.1"), 1);
    let status =
        |replies: Vec<(String, String, Vec<u8>)>| replies.into_iter().map(|r| r.1).collect::<Vec<_>>();
    let one = format!("$SYS.REQ.SERVER.{}.VARZ", world.servers[4].id);
    obey(&mut world, "cut c0-0 c1", NOW);
    assert_eq!(status(ask(&mut answers, &mut world, &one, "", NOW)), ["NATS/1.0 503\r\n\r\n"]);
    assert_eq!(ask(&mut answers, &mut world, GATEWAYZ, "", NOW).len(), 6, "gateways are one hop");
    let mut out = Vec::new();
    answers.tell(&mut world, Event::Beat(4), NOW, &mut out);
    assert_eq!(messages(&out).len(), 1, "the other way is whole");
    obey(&mut world, "heal", NOW);
    run(&mut world, NOW + 2 * SECOND);
    obey(&mut world, "cut c1-1 c0", NOW);
    assert_eq!(ask(&mut answers, &mut world, &one, "", NOW).len(), 0, "it hears, and cannot answer");
    obey(&mut world, "kill c1-1", NOW);
    assert_eq!(status(ask(&mut answers, &mut world, &one, "", NOW)), ["NATS/1.0 503\r\n\r\n"]);
}

#[test]
fn nobody_receives_more_of_who_is_silent() {
    let mut world = world(3, 3);
    let (server, peer) = (3, 4);
    let received = |world: &World, at: u64| {
        let (_, Fact::Routez(routez)) = decoded(world, peer, Endpoint::Routez, at) else { panic!() };
        let link = world.link(server, 0).unwrap();
        let server = world.server(server).unwrap();
        (routez.peers.get(&server.id).unwrap().in_msgs, world.sent(server, link, at).msgs)
    };
    let (before, after) = (received(&world, NOW), received(&world, NOW + 60 * SECOND));
    assert!(after.0 > before.0 && after.1 > before.1, "{before:?} {after:?}");
    obey(&mut world, "silent c1-0", NOW);
    assert_eq!(received(&world, NOW + 60 * SECOND), before);
}

#[test]
fn the_silent_the_late_the_damaged_and_the_lost_are_as_many_as_asked_for() {
    let mut world = world(10, 10);
    let mut answers = Answers::new(&world, renderer("2.15.1"), 1);
    assert_eq!(obey(&mut world, "silent 10", NOW).len(), 10);
    assert_eq!(ask(&mut answers, &mut world, GATEWAYZ, "", NOW).len(), 90);
    assert_eq!(obey(&mut world, "late 20 400", NOW).len(), 20);
    assert_eq!(ask(&mut answers, &mut world, GATEWAYZ, "", NOW).len(), 70);
    assert_eq!(answers.due(), NOW + 400_000_000);
    let mut out = Vec::new();
    answers.work(&mut world, NOW + 400_000_000, &mut out);
    assert_eq!(messages(&out).len(), 20);
    assert_eq!(ask(&mut answers, &mut world, GATEWAYZ, "", NOW + 100_000_000).len(), 70);
    obey(&mut world, "heal", NOW);
    let came = ask(&mut answers, &mut world, GATEWAYZ, "", NOW + 400_000_000).len();
    assert_eq!(came, 80, "no answer overtakes those of its server that are on their way");
    assert_eq!(answers.due(), NOW + 500_000_000);
    let mut out = Vec::new();
    answers.work(&mut world, NOW + 500_000_000, &mut out);
    assert_eq!((messages(&out).len(), answers.due()), (40, u64::MAX));
    let now = NOW + 600_000_000;
    assert_eq!(ask(&mut answers, &mut world, GATEWAYZ, "", now).len(), 100);
    assert_eq!(obey(&mut world, "garble 30", NOW).len(), 30);
    let bad = ask(&mut answers, &mut world, GATEWAYZ, "", now).into_iter().filter(|(_, _, body)| {
        decode::Decoder::default().reply(decode::Endpoint::Gatewayz, Some("snappy"), body).is_err()
    });
    assert_eq!(bad.count(), 30);
    obey(&mut world, "heal", NOW);
    answers.lost = 500_000;
    let came = ask(&mut answers, &mut world, GATEWAYZ, "", now).len();
    assert!((30..70).contains(&came), "{came}");
}

#[test]
fn times_and_durations_are_written_as_go_does() {
    let text = |write: &dyn Fn(&mut Text)| {
        let mut text = Text::default();
        write(&mut text);
        String::from_utf8(text.0).unwrap()
    };
    for (nanos, expected) in [
        (0, "\"1970-01-01T00:00:00Z\""),
        (951_782_400 * SECOND + 120_000_000, "\"2000-02-29T00:00:00.12Z\""),
        (1_795_216_522 * SECOND + 1, "\"2026-11-20T23:15:22.000000001Z\""),
    ] {
        let written = text(&|text| _ = text.time(nanos));
        assert_eq!(written, expected);
        assert_eq!(Time::parse(written.trim_matches('"')), Some(Time::from_nanos(nanos)));
    }
    for (micros, expected) in [
        (0, "\"0s\""),
        (198, "\"198µs\""),
        (1_120, "\"1.12ms\""),
        (2_000, "\"2ms\""),
        (1_500_000, "\"1.5s\""),
    ] {
        let written = text(&|text| _ = text.micros(micros));
        assert_eq!(written, expected);
        let read = go_duration(written.trim_matches('"')).unwrap();
        assert_eq!(read, std::time::Duration::from_micros(micros));
    }
    assert_eq!(text(&|text| _ = text.uptime(93_784 * SECOND)), "\"1d2h3m4s\"");
}

#[tokio::test]
async fn messages_are_read_wherever_the_stream_is_cut() {
    let headers = "NATS/1.0\r\nAccept-Encoding: snappy\r\n\r\n";
    let all = headers.len() + 2;
    let stream = format!(
        "PING\r\nMSG a.b 1 in.box 3\r\nMSG\r\n+OK\r\nHMSG c 2 in {} {all}\r\n{headers}{{}}\r\nMSG d 3 0\r\n\r\n",
        headers.len()
    );
    for size in 1..stream.len() {
        let (mut near, far) = tokio::io::duplex(size);
        let mut reader = Reader::new(far);
        let bytes = stream.clone().into_bytes();
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut near, &bytes).await });
        assert!(matches!(reader.next().await, Ok(Incoming::Ping)));
        let mut seen = Vec::new();
        for _ in 0..3 {
            let Ok(Incoming::Request(request)) = reader.next().await else { panic!("a message") };
            let Request { subject, reply, encoding, body } = request;
            seen.push((subject, reply.unwrap_or_default(), encoding.unwrap_or_default(), body));
        }
        let is = |n: usize, subject: &str, reply: &str, encoding: &str, body: &[u8]| {
            assert_eq!(seen[n], (subject.into(), reply.into(), encoding.into(), body.to_vec()), "in {size}s");
        };
        is(0, "a.b", "in.box", "", b"MSG");
        is(1, "c", "in", "snappy", b"{}");
        is(2, "d", "", "", b"");
        assert!(reader.next().await.is_err(), "it has ended");
    }
}
