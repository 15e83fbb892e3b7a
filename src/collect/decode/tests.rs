use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

fn reply(
    endpoint: Endpoint,
    encoding: Option<&str>,
    payload: &[u8],
) -> Result<(ServerInfo, Fact), Box<Garbled>> {
    Decoder::default().reply(endpoint, encoding, payload)
}

fn heartbeat(payload: &[u8]) -> Result<(ServerInfo, Signal), Box<Garbled>> {
    Decoder::default().heartbeat(payload, |_, _| false)
}

const VERSIONS: [&str; 6] = ["2.9.10", "2.10.27", "2.11.11", "2.12.8", "2.14.6", "2.15.1"];

/// Answers and advisories of real servers: version, file name, text.
fn samples() -> Vec<(&'static str, String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let mut all = Vec::new();
    for version in VERSIONS {
        let folder = root.join(version);
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert!(names.len() > 12, "samples of {version} are missing");
        for name in names {
            let text = std::fs::read(folder.join(&name)).unwrap();
            all.push((version, name, text));
        }
    }
    all
}

fn endpoint(name: &str) -> Option<Endpoint> {
    if name.starts_with("ACCOUNT.PING.STATZ") {
        return Some(Endpoint::Accountz);
    }
    [Endpoint::Gatewayz, Endpoint::Varz, Endpoint::Routez, Endpoint::Statsz, Endpoint::Jsz]
        .into_iter()
        .find(|e| name.starts_with(e.as_str()))
}

fn snappy(text: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(text).unwrap();
    encoder.into_inner().unwrap()
}

fn server() -> Value {
    json!({ "name": "eu-0", "host": "h", "id": "NEU0", "cluster": "eu", "ver": "2.15.1", "jetstream": false,
            "seq": 7, "time": "2026-11-20T19:45:19Z" })
}

fn envelope(data: &Value) -> Vec<u8> {
    json!({ "server": server(), "data": data }).to_string().into_bytes()
}

fn gatewayz(payload: &[u8]) -> Gatewayz {
    match reply(Endpoint::Gatewayz, None, payload) {
        Ok((_, Fact::Gatewayz(gatewayz))) => gatewayz,
        other => panic!("no GATEWAYZ: {other:?}"),
    }
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default()
}

#[test]
fn every_answer_of_every_version_is_read_plain_and_compressed() {
    for (version, name, text) in samples() {
        let Some(endpoint) = endpoint(&name) else { continue };
        if name.contains("badjson") {
            continue;
        }
        let (info, fact) = reply(endpoint, None, &text).unwrap_or_else(|e| panic!("{version} {name}: {e:?}"));
        let raw: Value = serde_json::from_slice(&text).unwrap();
        let head = &raw["server"];
        assert_eq!(&*info.id, head["id"].as_str().unwrap(), "{version} {name}");
        assert_eq!(&*info.ver, version, "{name}");
        assert_eq!(info.cluster.as_deref(), head["cluster"].as_str(), "{version} {name}");
        assert_eq!(info.seq, head["seq"].as_u64().unwrap(), "{version} {name}");
        assert_eq!(info.time, Time::parse(head["time"].as_str().unwrap()), "{version} {name}");
        assert_eq!(info.tags.len(), head["tags"].as_array().map_or(0, Vec::len), "{version} {name}");
        match &fact {
            Fact::Gatewayz(g) => same_gatewayz(g, &raw["data"]),
            Fact::Varz(v) => same_varz(v, &raw["data"]),
            Fact::Routez(r) => {
                let ids: BTreeSet<&str> = raw["data"]["routes"]
                    .as_array()
                    .map(|routes| routes.iter().filter_map(|r| r["remote_id"].as_str()).collect())
                    .unwrap_or_default();
                assert_eq!(r.peers.keys().map(|k| &**k).collect::<BTreeSet<_>>(), ids, "{version} {name}");
                assert!(!ids.is_empty());
                let named = r.peers.names().all(|(_, name)| name.is_some());
                assert_eq!(named, version != "2.9.10", "names of routes are told since 2.10");
            }
            Fact::Statsz(s) => {
                let raw = &raw["statsz"];
                assert_eq!(s.active_servers, raw["active_servers"].as_u64(), "{version} {name}");
                assert_eq!(s.start, Time::parse(raw["start"].as_str().unwrap()));
                for gateway in raw["gateways"].as_array().into_iter().flatten() {
                    let name = gateway["name"].as_str().unwrap();
                    assert_eq!(s.gateways.get(name).copied(), gateway["gwid"].as_u64());
                    let told = s.inbounds().find(|(remote, _)| &***remote == name).map(|(_, n)| u64::from(n));
                    assert_eq!(told, gateway["inbound_connections"].as_u64());
                }
                assert!(!s.gateways.is_empty());
            }
            Fact::Accountz(a) => {
                let raw = raw["data"]["account_statz"].as_array().unwrap();
                assert_eq!(a.accounts.len(), raw.len(), "{version} {name}");
                for raw in raw {
                    let account = &a.accounts[raw["acc"].as_str().unwrap()];
                    assert_eq!(Some(account.connections), raw["conns"].as_u64());
                    for (traffic, raw) in [(account.sent, &raw["sent"]), (account.received, &raw["received"])]
                    {
                        assert_eq!(Some(traffic.bytes), raw["bytes"].as_u64());
                        assert_eq!(traffic.of.map(|of| of.gateways), raw["gateways"]["bytes"].as_u64());
                        assert_eq!(traffic.of.map(|of| of.routes), raw["routes"]["bytes"].as_u64());
                        assert_eq!(traffic.of.map(|of| of.leafs), raw["leafs"]["bytes"].as_u64());
                        let told = !["2.9.10", "2.10.27"].contains(&version);
                        assert_eq!(traffic.of.is_some(), told, "the parts are told since 2.11.10: {version}");
                    }
                }
            }
            Fact::Jsz(j) => assert!(j.leads.is_empty(), "{version}: no stream was made there"),
            Fact::Interest(_) => unreachable!("it is asked for below"),
        }
        let compressed = reply(endpoint, Some("snappy"), &snappy(&text));
        assert_eq!(compressed, Ok((info, fact)), "{version} {name} reads the same when it is compressed");
    }
}

fn same_gatewayz(g: &Gatewayz, raw: &Value) {
    assert_eq!(g.name.as_deref(), raw["name"].as_str());
    assert_eq!(g.port.map(u64::from), raw["port"].as_u64());
    assert_eq!(
        g.outbound.keys().map(ToString::to_string).collect::<BTreeSet<_>>(),
        names(&raw["outbound_gateways"])
    );
    assert_eq!(
        g.inbound.keys().map(ToString::to_string).collect::<BTreeSet<_>>(),
        names(&raw["inbound_gateways"])
    );
    let same = |c: &Connection, raw: &Value| {
        assert_eq!(Some(c.cid), raw["cid"].as_u64());
        assert_eq!(&*c.peer_id, raw["name"].as_str().unwrap());
        assert_eq!(c.start, Time::parse(raw["start"].as_str().unwrap()));
        let rtt = raw["rtt"].as_str().and_then(go_duration).filter(|d| !d.is_zero());
        assert_eq!(c.rtt, rtt, "a round trip that was not measured yet is none, not zero");
        let counters = [c.pending_bytes, c.in_msgs, c.in_bytes, c.out_msgs, c.out_bytes];
        let keys = ["pending_bytes", "in_msgs", "in_bytes", "out_msgs", "out_bytes"];
        assert_eq!(counters, keys.map(|key| raw[key].as_u64().unwrap_or(0)));
    };
    for (remote, outbound) in g.outbound.iter() {
        let raw = &raw["outbound_gateways"][&**remote];
        assert_eq!(Some(outbound.configured), raw["configured"].as_bool());
        same(&outbound.connection, &raw["connection"]);
    }
    let inbound: Vec<&Value> =
        g.inbound.keys().flat_map(|remote| raw["inbound_gateways"][&**remote].as_array().unwrap()).collect();
    assert_eq!(inbound.len(), g.inbound.iter().count());
    for ((_, connection), raw) in g.inbound.iter().zip(inbound) {
        same(&connection, &raw["connection"]);
    }
}

fn same_varz(v: &Varz, raw: &Value) {
    assert_eq!(v.start, Time::parse(raw["start"].as_str().unwrap()));
    assert_eq!(v.config_load_time, Time::parse(raw["config_load_time"].as_str().unwrap()));
    assert_eq!(u64::from(v.client_port), raw["port"].as_u64().unwrap());
    let raw = &raw["gateway"];
    let gateway = v.gateway.as_ref().expect("each of them has a gateway block");
    assert_eq!(Some(&*gateway.name), raw["name"].as_str());
    assert_eq!(gateway.port.map(u64::from), raw["port"].as_u64());
    let remotes: BTreeSet<&str> =
        raw["gateways"].as_array().into_iter().flatten().filter_map(|g| g["name"].as_str()).collect();
    assert_eq!(gateway.remotes.keys().map(|k| &**k).collect::<BTreeSet<_>>(), remotes);
    assert!(gateway.remotes.values().all(|urls| !urls.is_empty()), "each has URLs");
}

#[test]
fn the_interest_modes_of_every_version_are_read() {
    for (version, name, text) in samples().into_iter().filter(|(_, n, _)| n == "GATEWAYZ.accounts.json") {
        let Ok((_, Fact::Interest(interest))) = reply(Endpoint::Interest, None, &text) else {
            panic!("{version} {name}")
        };
        assert!(interest.remotes.values().all(|modes| modes.accounts > 1), "{version} {interest:?}");
        let raw: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            interest.remotes.keys().map(ToString::to_string).collect::<BTreeSet<_>>(),
            names(&raw["data"]["outbound_gateways"])
        );
        assert!(interest.remotes.values().all(|modes| modes.optimistic_total == 0), "{version}");
        let optimistic = String::from_utf8(text).unwrap().replace("Interest-Only", "Optimistic");
        let Ok((_, Fact::Interest(interest))) = reply(Endpoint::Interest, None, optimistic.as_bytes()) else {
            panic!("{version} {name}")
        };
        assert!(
            interest.remotes.values().all(|m| m.optimistic_total == m.accounts && !m.optimistic.is_empty()),
            "{version} {interest:?}"
        );
    }
}

#[test]
fn a_stream_is_led_where_its_cluster_says_and_else_where_it_lies() {
    let streams = json!([
        { "name": "ORDERS", "cluster": { "leader": "eu-0", "replicas": [] } },
        { "name": "COPY", "cluster": { "leader": "eu-1" } },
        { "name": "LOCAL" },
    ]);
    let account = json!({ "name": "APP", "id": "AAPP", "stream_detail": streams });
    let data = json!({ "server_id": "NEU0", "account_details": [account] });
    let Ok((_, Fact::Jsz(jsz))) = reply(Endpoint::Jsz, None, &envelope(&data)) else { panic!("no JSZ") };
    let led = &jsz.leads["AAPP"];
    assert_eq!((led.total, led.names.len()), (2, 2), "{led:?}");
}

#[test]
fn a_pool_of_routes_is_one_peer() {
    let route = |rid: u64, pending: u64| {
        json!({ "rid": rid, "remote_id": "NEU1", "remote_name": "eu-1", "ip": "127.0.0.1", "rtt": "3ms",
                "pending_size": pending, "in_msgs": 1, "out_msgs": 2, "out_bytes": 30 })
    };
    let data = json!({ "server_id": "NEU0", "routes": [route(1, 10), route(2, 5), route(3, 0)] });
    let Ok((_, Fact::Routez(routez))) = reply(Endpoint::Routez, None, &envelope(&data)) else { panic!() };
    let peer = routez.peers.get("NEU1").unwrap();
    assert_eq!((peer.connections, peer.pending_bytes, peer.in_msgs, peer.out_bytes), (3, 15, 3, 90));
    assert_eq!(routez.peers.len(), 1);
}

#[test]
fn every_advisory_of_every_version_is_read() {
    let mut heard = BTreeSet::new();
    for (version, name, text) in samples() {
        if name.ends_with(".ID.STATSZ.json") {
            let (info, signal) = heartbeat(&text).unwrap();
            assert!(matches!(&signal, Signal::Heartbeat(s) if s.active_servers.is_some()), "{signal:?}");
            assert_eq!(&*info.ver, version);
            heard.insert("STATSZ");
        } else if name.ends_with("SHUTDOWN.json") || name.ends_with("LAMEDUCK.json") {
            let info = goodbye(&text).unwrap();
            assert_eq!((&*info.ver, info.id.len()), (version, 56), "{name}");
            heard.insert(if name.ends_with("SHUTDOWN.json") { "SHUTDOWN" } else { "LAMEDUCK" });
        } else if name.ends_with("AUTH.ERR.json") {
            assert_eq!(auth_error(&text), Ok(None), "{version}: these are of clients, not gateways");
            let mut gateway: Value = serde_json::from_slice(&text).unwrap();
            gateway["client"]["kind"] = "Gateway".into();
            gateway["client"]["name"] = "NDIALER".into();
            let (info, signal) = auth_error(gateway.to_string().as_bytes()).unwrap().unwrap();
            assert_eq!(signal, Signal::GatewayRejected { dialer_id: "NDIALER".into() });
            assert_eq!(info.cluster.as_deref(), Some("B"), "{version}");
            heard.insert("AUTH.ERR");
        }
    }
    assert_eq!(heard.len(), 4, "the samples lack some: {heard:?}");
}

#[test]
fn a_refused_request_is_told_in_the_servers_own_words() {
    for (version, name, text) in samples() {
        if name.contains("badjson") {
            let garbled = reply(Endpoint::Gatewayz, None, &text).unwrap_err();
            assert_eq!(&*garbled.server.unwrap().ver, version);
            let told = garbled.error.to_string();
            assert!(told.starts_with("server answered with error 400: invalid character"), "{told}");
        }
    }
}

#[test]
fn an_answer_cut_at_any_byte_is_refused_and_never_a_half_truth() {
    for (version, name, text) in samples().into_iter().filter(|(v, ..)| *v == "2.15.1" || *v == "2.9.10") {
        let Some(endpoint) = endpoint(&name) else { continue };
        let end = text.iter().rposition(|b| *b == b'}').unwrap();
        for cut in 0..end {
            let garbled = reply(endpoint, None, &text[..cut]).expect_err("a cut answer");
            let told = garbled.error.to_string();
            assert!(told.starts_with("reply is not what"), "{version} {name} cut at {cut}: {told}");
        }
        let packed = snappy(&text);
        for cut in 0..packed.len() {
            // A cut between two frames leaves a shorter text, never another one.
            assert!(
                reply(endpoint, Some("snappy"), &packed[..cut]).is_err(),
                "{version} {name} cut at {cut}"
            );
        }
    }
}

#[test]
fn a_cut_advisory_is_refused() {
    for (_, name, text) in samples().into_iter().filter(|(v, n, _)| *v == "2.15.1" && n.starts_with("EVENT"))
    {
        for cut in 0..text.iter().rposition(|b| *b == b'}').unwrap() {
            let part = &text[..cut];
            let read = heartbeat(part).is_ok() || goodbye(part).is_ok() || auth_error(part).is_ok();
            assert!(!read, "{name} cut at {cut}");
        }
    }
}

#[test]
fn what_is_not_json_is_refused_with_a_clear_word() {
    let odd: [&[u8]; 9] = [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"nonsense",
        b"\xff\xfe",
        b"{\"server\":1}",
        b"\0",
        b"{\"server\":null}",
    ];
    for text in odd {
        for endpoint in [Endpoint::Gatewayz, Endpoint::Varz, Endpoint::Routez, Endpoint::Statsz] {
            let told = reply(endpoint, None, text).unwrap_err().error.to_string();
            assert!(
                told.starts_with(&format!("reply is not what {} answers: ", endpoint.as_str())),
                "{told}"
            );
        }
        assert!(heartbeat(text).is_err() && goodbye(text).is_err() && auth_error(text).is_err(), "{text:?}");
    }
    let deep = "[".repeat(100_000);
    assert!(reply(Endpoint::Varz, None, deep.as_bytes()).is_err(), "nesting has a bound");
}

#[test]
fn a_field_of_another_type_spoils_its_reply_and_names_its_sender() {
    let others = [json!(null), json!(true), json!(-1), json!(1.5), json!("x"), json!([1]), json!({ "a": 1 })];
    for (_, name, text) in samples().into_iter().filter(|(v, ..)| *v == "2.15.1") {
        let Some(endpoint) = endpoint(&name) else { continue };
        let good: Value = serde_json::from_slice(&text).unwrap();
        let mut paths = Vec::new();
        every_path(&good, &mut Vec::new(), &mut paths);
        for path in paths {
            for other in &others {
                let mut bad = good.clone();
                *at(&mut bad, &path) = other.clone();
                let read = reply(endpoint, None, bad.to_string().as_bytes());
                if let Err(garbled) = read {
                    assert!(garbled.error.to_string().len() < 400, "{name} {path:?}: too long a word");
                    let head = path.first().is_some_and(|p| p == "server") || path.is_empty();
                    assert!(
                        head || garbled.server.is_some(),
                        "{name} {path:?} {other}: who sent it is known"
                    );
                }
            }
        }
    }
}

fn every_path(value: &Value, here: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    out.push(here.clone());
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(list) => list.iter().take(1).map(|v| ("0".to_owned(), v)).collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        here.push(key);
        every_path(child, here, out);
        here.pop();
    }
}

fn at<'a>(value: &'a mut Value, path: &[String]) -> &'a mut Value {
    path.iter().fold(value, |value, key| match value {
        Value::Array(list) => &mut list[key.parse::<usize>().unwrap()],
        other => &mut other[key.as_str()],
    })
}

#[test]
fn the_body_of_another_server_is_refused() {
    for endpoint in [Endpoint::Gatewayz, Endpoint::Varz, Endpoint::Routez] {
        let garbled = reply(endpoint, None, &envelope(&json!({ "server_id": "NOTHER" }))).unwrap_err();
        assert_eq!(garbled.error.to_string(), "reply of server NEU0 carries the body of server NOTHER");
        assert_eq!(&*garbled.server.unwrap().name, "eu-0");
    }
}

#[test]
fn a_reply_without_body_or_without_id_is_refused() {
    let bare = json!({ "server": server() }).to_string();
    let told = reply(Endpoint::Gatewayz, None, bare.as_bytes()).unwrap_err().error.to_string();
    assert_eq!(told, "reply is not what GATEWAYZ answers: it has no body");
    let mut nobody = server();
    nobody["id"] = "".into();
    let texts = [
        json!({ "server": nobody, "data": {} }),
        json!({ "server": nobody, "statsz": {} }),
        json!({ "server": nobody, "client": { "kind": "Gateway", "name": "N" } }),
    ];
    for text in texts.map(|t| t.to_string()) {
        let text = text.as_bytes();
        let errors = [
            reply(Endpoint::Gatewayz, None, text).err(),
            heartbeat(text).err(),
            auth_error(text).err(),
            goodbye(nobody.to_string().as_bytes()).err(),
        ];
        assert!(errors.into_iter().flatten().any(|g| g.error == DecodeError::Nameless));
    }
    assert_eq!(DecodeError::Nameless.to_string(), "reply names no server");
}

#[test]
fn an_encoding_that_was_not_asked_for_is_refused_by_its_name() {
    let told = reply(Endpoint::Varz, Some("gzip"), b"x").unwrap_err().error.to_string();
    assert_eq!(told, "reply is encoded as \"gzip\", which was not asked for");
    let plain = envelope(&json!({}));
    assert!(reply(Endpoint::Gatewayz, Some("identity"), &plain).is_ok(), "plain, and says so");
    let told = reply(Endpoint::Gatewayz, Some("snappy"), &plain).unwrap_err().error.to_string();
    assert!(told.starts_with("reply does not inflate: "), "{told}");
    let mut packed = snappy(&plain);
    let last = packed.len() - 1;
    packed[last] ^= 0xff;
    assert!(reply(Endpoint::Gatewayz, Some("snappy"), &packed).is_err(), "a flipped byte is noticed");
}

#[test]
fn a_large_answer_is_read_and_a_bomb_is_not() {
    let accounts: Vec<Value> =
        (0..1000).map(|n| json!({ "name": format!("{n}-{}", "x".repeat(10_000)) })).collect();
    let large = envelope(&json!({ "server_id": "NEU0", "name": "eu", "accounts": accounts }));
    assert!(large.len() > 10_000_000);
    assert_eq!(gatewayz(&large).name.as_deref(), Some("eu"), "10 MB are read");

    let bomb = snappy(&vec![b' '; REPLY_BYTES_MAX + 2]);
    assert!(bomb.len() < REPLY_BYTES_MAX / 10, "it is small on the wire");
    let told = reply(Endpoint::Gatewayz, Some("snappy"), &bomb).unwrap_err().error.to_string();
    assert!(told.contains("is larger than the 33554432 that are read"), "{told}");
    let plain = vec![b' '; REPLY_BYTES_MAX + 1];
    assert!(matches!(
        reply(Endpoint::Gatewayz, None, &plain).unwrap_err().error,
        DecodeError::TooLarge { .. }
    ));
}

#[test]
fn names_are_taken_as_they_are() {
    let long = "n".repeat(NAME_BYTES_MAX);
    for name in ["a.b c", "x\ny", "*", ">", "\u{0}", "ä\u{202e}", "\"}{", &long] {
        let data = json!({ "server_id": "NEU0", "name": name,
            "outbound_gateways": { name: { "connection": { "cid": 1, "name": name } } },
            "inbound_gateways": { name: [{ "connection": { "name": name } }], "none": null } });
        let read = gatewayz(&envelope(&data));
        assert_eq!(read.name.as_deref(), Some(name));
        assert_eq!(read.outbound.peer(name).map(|id| &**id), Some(name));
        assert!(!read.outbound.get(name).unwrap().configured, "what is not told is not configured");
        assert!(read.inbound.keys().all(|remote| &**remote != "none"));
    }
}

#[test]
fn a_name_that_is_too_long_spoils_its_reply_wherever_it_stands() {
    let long = "n".repeat(NAME_BYTES_MAX + 1);
    let told = "a name of 1025 bytes is longer than the 1024 that are taken in";
    let bodies = [
        (Endpoint::Gatewayz, json!({ "outbound_gateways": { &long: { "connection": {} } } })),
        (Endpoint::Gatewayz, json!({ "inbound_gateways": { "us": [{ "connection": { "name": long } }] } })),
        (
            Endpoint::Varz,
            json!({ "gateway": { "name": "eu", "gateways": [{ "name": "us", "urls": [long] }] } }),
        ),
        (Endpoint::Routez, json!({ "routes": [{ "remote_id": long }] })),
        (Endpoint::Accountz, json!({ "account_statz": [{ "acc": long }] })),
        (Endpoint::Jsz, json!({ "account_details": [{ "name": "A", "stream_detail": [{ "name": long }] }] })),
    ];
    for (endpoint, body) in bodies {
        let garbled = reply(endpoint, None, &envelope(&body)).expect_err("too long a name");
        assert_eq!(garbled.error.to_string(), told, "{endpoint:?}");
        assert_eq!(garbled.server.map(|server| server.id), Some("NEU0".into()), "who said it is known");
    }
    for key in ["name", "host", "id", "cluster", "domain", "ver"] {
        let mut head = server();
        head[key] = long.as_str().into();
        let text = |body: &Value| body.to_string().into_bytes();
        let errors = [
            reply(Endpoint::Varz, None, &text(&json!({ "server": head, "data": {} }))).err(),
            reply(Endpoint::Varz, None, &text(&json!({ "server": head, "data": 7 }))).err(),
            heartbeat(&text(&json!({ "server": head, "statsz": {} }))).err(),
            goodbye(&text(&head)).err(),
            auth_error(&text(&json!({ "server": head, "client": {} }))).err(),
        ];
        for garbled in errors {
            let garbled = garbled.expect("too long a name");
            assert_eq!(garbled.server, None, "{key}: nothing of it is kept");
        }
    }
    let dialer = json!({ "server": server(), "client": { "kind": "Gateway", "name": long } }).to_string();
    assert_eq!(auth_error(dialer.as_bytes()).unwrap_err().error.to_string(), told);
}

#[test]
fn of_tags_and_metadata_as_much_is_kept_as_is_reasonable() {
    let mut head = server();
    let long = "n".repeat(NAME_BYTES_MAX + 1);
    head["tags"] = (0..100).map(|n| n.to_string()).chain([long.clone()]).rev().collect();
    head["metadata"] =
        (0..100).map(|n| (n.to_string(), json!("x"))).chain([(long.clone(), json!(long))]).collect();
    let reply = reply(Endpoint::Gatewayz, None, json!({ "server": head, "data": {} }).to_string().as_bytes());
    for info in [reply.unwrap().0, goodbye(head.to_string().as_bytes()).unwrap()] {
        assert_eq!((info.tags.len(), info.metadata.len()), (64, 64));
        assert!(info.tags.iter().chain(info.metadata.keys()).all(|text| text.len() < 10));
    }
}

#[test]
fn numbers_beyond_their_field_are_refused_and_the_largest_are_not() {
    let connection = |value: Value| json!({ "outbound_gateways": { "us": { "connection": { "name": "N", "out_bytes": value } } } });
    let read = gatewayz(&envelope(&connection(json!(u64::MAX))));
    assert_eq!(read.outbound.get("us").unwrap().connection.out_bytes, u64::MAX);
    let texts = [
        r#"{"server":{"name":"a","id":"N"},"data":{"port":70000}}"#,
        r#"{"server":{"name":"a","id":"N"},"data":{"port":1e400}}"#,
        r#"{"server":{"name":"a","id":"N"},"data":{"port":-1}}"#,
        r#"{"server":{"name":"a","id":"N","seq":99999999999999999999999},"data":{}}"#,
    ];
    for text in texts {
        assert!(reply(Endpoint::Gatewayz, None, text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_server_without_a_gateway_block_and_a_filter_without_a_match_are_read_as_such() {
    let none = gatewayz(&envelope(&json!({ "outbound_gateways": null, "inbound_gateways": {} })));
    assert_eq!(none, Gatewayz::default());
    let none = gatewayz(&envelope(&json!({ "name": "", "host": "" })));
    assert_eq!((none.name, none.host), (None, None), "an empty name is none");
    let (_, fact) = reply(Endpoint::Varz, None, &envelope(&json!({ "gateway": {} }))).unwrap();
    assert!(matches!(fact, Fact::Varz(v) if v.gateway.is_none()));
}

#[test]
fn a_cluster_that_lists_itself_is_no_remote_of_its_own() {
    let data = json!({ "gateway": { "name": "eu", "advertise": "", "gateways": [
        { "name": "eu", "urls": ["h:1"] }, { "name": "us" } ] } });
    let (_, fact) = reply(Endpoint::Varz, None, &envelope(&data)).unwrap();
    let Fact::Varz(varz) = fact else { panic!("{fact:?}") };
    let gateway = varz.gateway.unwrap();
    assert_eq!(gateway.remotes.keys().map(|k| &**k).collect::<Vec<_>>(), ["us"]);
    assert_eq!(gateway.advertise, None, "an empty address is none");
}

#[test]
fn durations_are_read_as_go_writes_them() {
    let table = [
        ("0s", Some(0)),
        ("0", Some(0)),
        ("1ns", Some(1)),
        ("645µs", Some(645_000)),
        ("645μs", Some(645_000)),
        ("645us", Some(645_000)),
        ("1.12155ms", Some(1_121_550)),
        ("14.373793017s", Some(14_373_793_017)),
        ("1m0s", Some(60_000_000_000)),
        ("1h2m3.5s", Some(3_723_500_000_000)),
        ("2562047h47m16.854775807s", Some(9_223_372_036_854_775_807)),
        ("1.5h", Some(5_400_000_000_000)),
        (".5s", Some(500_000_000)),
        ("5.s", Some(5_000_000_000)),
        ("0.0000000019s", Some(1)),
        ("5124095h34m34s", None),
        ("5sx", None),
        ("", None),
        ("s", None),
        ("5", None),
        ("5 s", None),
        ("5x", None),
        ("-5s", None),
        ("1.2.3s", None),
        (".", None),
        ("1e9s", None),
        ("NaNs", None),
    ];
    for (text, ns) in table {
        assert_eq!(go_duration(text).map(|d| d.as_nanos()), ns, "{text:?}");
    }
    assert_eq!(go_duration(&format!("{}h", "9".repeat(400))), None, "more than a duration holds");
}

/// As it came over the wire: the samples were laid out for people.
fn as_sent(text: &[u8]) -> String {
    let mut within = false;
    let text = std::str::from_utf8(text).unwrap().replace("\\u00b5", "µ");
    text.chars()
        .filter(|c| {
            within ^= *c == '"';
            within || !c.is_ascii_whitespace()
        })
        .collect()
}

type Read = Result<(ServerInfo, Fact), Box<Garbled>>;

/// An endpoint that has a short way, and the two ways.
struct Ways {
    samples: &'static [&'static str],
    short: fn(&[u8]) -> Option<(ServerInfo, Fact)>,
    general: fn(&[u8]) -> Read,
}

const GATEWAYZ: Ways = Ways {
    samples: &["GATEWAYZ.json", "GATEWAYZ.B0.json", "GATEWAYZ.C0.json", "GATEWAYZ.name.json"],
    short: |json| {
        let (server, gatewayz) = scan::gatewayz(json, &mut Names::default())?;
        Some((server, Fact::Gatewayz(gatewayz)))
    },
    general: |json| open::<wire::Gatewayz<'_>>(Endpoint::Gatewayz, json, &mut Names::default()),
};

const STATSZ: Ways = Ways {
    samples: &["STATSZ.json", "STATSZ.B0.json", "STATSZ.C0.json", "EVENT.SYS.SERVER.ID.STATSZ.json"],
    short: |json| {
        let (names, mut others) = (&mut Names::default(), Vec::new());
        scan::statsz(json, names, &mut others)?;
        serde_json::from_slice::<wire::Statsz<'_>>(&others).ok()?;
        statsz(json, names, &mut others, |_, _| false).ok()
    },
    general: |json| open::<wire::Statsz<'_>>(Endpoint::Statsz, json, &mut Names::default()),
};

const VARZ: Ways = Ways {
    samples: &["VARZ.json", "VARZ.B0.json", "VARZ.C0.json"],
    short: |json| {
        let (names, mut others) = (&mut Names::default(), Vec::new());
        let (server, _) = scan::varz(json, names, &mut others)?;
        let body = serde_json::from_slice::<wire::Varz<'_>>(&others).ok()?;
        (*body.server_id? == *server.id).then_some(())?;
        varz(json, names, &mut others).ok()
    },
    general: |json| open::<wire::Varz<'_>>(Endpoint::Varz, json, &mut Names::default()),
};

impl Ways {
    fn as_sent(&self) -> Vec<String> {
        let all = samples().into_iter().filter(|(_, name, _)| self.samples.contains(&name.as_str()));
        all.map(|(_, _, text)| as_sent(&text)).collect()
    }
}

#[test]
fn what_every_version_sends_is_read_the_short_way_and_alike() {
    for ways in [GATEWAYZ, STATSZ, VARZ] {
        let all = ways.as_sent();
        assert!(all.len() >= 2 * VERSIONS.len(), "{}", all.len());
        for json in all {
            let short = (ways.short)(json.as_bytes()).expect("as servers write it");
            assert_eq!(Ok(short), (ways.general)(json.as_bytes()));
        }
    }
}

#[test]
fn what_the_short_way_reads_of_gateways_the_general_way_reads_alike() {
    hold_against_the_general_way(&GATEWAYZ);
}

#[test]
fn what_the_short_way_reads_of_totals_the_general_way_reads_alike() {
    hold_against_the_general_way(&STATSZ);
}

#[test]
fn what_the_short_way_reads_of_a_configuration_the_general_way_reads_alike() {
    hold_against_the_general_way(&VARZ);
}

fn hold_against_the_general_way(ways: &Ways) {
    const PIECES: [&str; 42] = [
        r#","cid":5"#,
        r#","name":"x""#,
        r#","gateways":[]"#,
        r#","gateways":null"#,
        r#","active_servers":5"#,
        r#","gateways":[{"name":"A"}]"#,
        r#","gateway":{"name":"B","gateways":[]}"#,
        r#"{"name":"D","urls":["a:1"]},"#,
        r#","urls":null"#,
        r#"{"gwid":5,"name":"B"},"#,
        r#","rtt":"1ms""#,
        r#","stalls":7"#,
        r#","stalls":null"#,
        r#","server_id":"x""#,
        r#","x":"y""#,
        r#","x":1.5"#,
        r#","x":01"#,
        r#","x":-1"#,
        r#","x":true"#,
        r#","x":[{}]"#,
        r#","x":"\n""#,
        r#","x":1e400"#,
        r#","tls_version":"1.3""#,
        "\"",
        "\\",
        "\\u0041",
        "{",
        "}",
        "[",
        "]",
        "{}",
        "null",
        "0",
        "18446744073709551616",
        "9999999999999999999",
        "\u{1}",
        "é",
        " ",
        ",",
        ":",
        "\"\":",
        "-",
    ];
    let all = ways.as_sent();
    let mut state = 7_u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % n.max(1)
    };
    let mut read = 0;
    for round in 0..40_000 {
        let mut json = all[below(all.len())].clone().into_bytes();
        for _ in 0..=below(3) {
            let (from, len) = (below(json.len()), below(40));
            let to = (from + len).min(json.len());
            match below(6) {
                0 => json.truncate(from),
                1 => drop(json.drain(from..to)),
                5 => json.extend(PIECES[below(PIECES.len())].bytes()),
                2 => drop(json.splice(from..from, PIECES[below(PIECES.len())].bytes())),
                3 => json.get_mut(from).into_iter().for_each(|b| *b = u8::try_from(below(256)).unwrap()),
                // Where a field may stand.
                _ => {
                    let ends: Vec<usize> =
                        json.windows(2).enumerate().filter(|(_, w)| w == b",\"").map(|(i, _)| i).collect();
                    let at = ends.get(below(ends.len())).copied().unwrap_or(0);
                    drop(json.splice(at..at, PIECES[below(PIECES.len())].bytes()));
                }
            }
        }
        if let Some(short) = (ways.short)(&json) {
            let general = (ways.general)(&json);
            assert_eq!(Ok(short), general, "round {round}: {}", String::from_utf8_lossy(&json));
            read += 1;
        }
    }
    assert!((1_000..39_000).contains(&read), "{read} of 40,000 were read: nothing is compared");
}

#[test]
fn what_came_before_changes_nothing() {
    let mut decoder = Decoder::default();
    for (version, name, text) in samples().into_iter().filter(|(v, ..)| *v == "2.15.1" || *v == "2.9.10") {
        let Some(endpoint) = endpoint(&name) else { continue };
        let packed = snappy(&text);
        let mut flipped = packed.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let no_head = packed.get(10..).unwrap();
        let large = snappy(&[text.clone(), vec![b' '; 3_000_000]].concat());
        let cut = &packed[..packed.len() - 1];
        // What is no stream by itself is none after one that was.
        let payloads =
            [&packed[..], no_head, &packed, cut, &flipped, &large, &packed[..5], &packed, &[], &packed];
        for payload in payloads {
            let anew = reply(endpoint, Some("snappy"), payload);
            assert_eq!(decoder.reply(endpoint, Some("snappy"), payload), anew, "{version} {name}");
        }
        assert_eq!(decoder.reply(endpoint, None, &text), reply(endpoint, None, &text), "{version} {name}");
    }
}

#[test]
fn gateways_that_are_known_are_left_out_of_a_heartbeat() {
    for json in STATSZ.as_sent() {
        let (server, Signal::Heartbeat(all)) = heartbeat(json.as_bytes()).unwrap() else {
            panic!("no heartbeat")
        };
        assert!(!all.gateways.is_empty());
        let backwards = all.gateways.iter().rev().map(|(remote, cid)| (&**remote, *cid));
        let expected = imprint(backwards);
        let mut asked = None;
        let known = Decoder::default().heartbeat(json.as_bytes(), |server, imprint| {
            asked = Some((server.clone(), imprint));
            true
        });
        assert_eq!(asked, Some((server.clone(), expected)), "in any order");
        let alone = Statsz { gateways: BTreeMap::new(), inbounds: Box::default(), ..all.clone() };
        assert_eq!(known, Ok((server, Signal::Heartbeat(alone))));
        let mut other = all.gateways.clone();
        other.values_mut().last().map(|cid| *cid += 1).unwrap();
        assert_ne!(imprint(other.iter().map(|(remote, cid)| (&**remote, *cid))), expected);
        other.pop_last();
        assert_ne!(imprint(other.iter().map(|(remote, cid)| (&**remote, *cid))), expected);
    }
}

#[test]
fn servers_that_are_configured_alike_share_what_is_kept_of_it() {
    let mut decoder = Decoder::default();
    let mut remotes = |json: &str| {
        let (_, fact) = decoder.reply(Endpoint::Varz, None, json.as_bytes()).unwrap();
        let Fact::Varz(varz) = fact else { panic!("no configuration") };
        varz.gateway.expect("it has gateways").remotes
    };
    for json in VARZ.as_sent() {
        let [first, again] = [remotes(&json), remotes(&json)];
        let generally = remotes(&json.replacen("{\"server\"", "{ \"server\"", 1));
        assert!(!first.is_empty());
        assert_eq!([again.place(), generally.place()], [first.place(); 2]);
    }
}

#[test]
fn a_heartbeat_reads_alike_without_what_nobody_reads() {
    let mut cut = 0;
    for json in STATSZ.as_sent() {
        let bytes = json.as_bytes();
        let unread = unread(bytes);
        assert!(unread.is_empty() || bytes[unread.clone()].starts_with(b",\"routes\":["));
        let rest = [&bytes[..unread.start], &bytes[unread.end..]].concat();
        assert_eq!(heartbeat(&rest), heartbeat(bytes));
        assert_eq!(super::unread(&rest).len(), 0);
        cut += usize::from(!unread.is_empty());
        let broken = json.replacen("\"rid\":", "\"rid\": ", 1);
        assert!(super::unread(broken.as_bytes()).is_empty() || unread.is_empty());
    }
    assert!(cut >= VERSIONS.len(), "{cut}");
    assert!(super::unread(b"").is_empty() && super::unread(b",\"routes\":[],\"gateways\":[\xff").is_empty());
}
