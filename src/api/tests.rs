use serde_json::{Value, json};

use super::*;
use crate::checks::example::{World, defaults, secs};
use crate::findings::{Action, Change, Finding, Reason};

/// What the agent knows of a supercluster with a fault or without.
struct Case {
    world: World,
    ledger: Ledger,
    resolved: Resolved,
    counters: Counters,
    settings: BTreeMap<&'static str, Settings>,
    answer_bytes_max: usize,
}

impl Case {
    fn new() -> Self {
        let mut world = World::seen_from("eu-0");
        world.run(secs(5));
        Self {
            ledger: world.ledger.clone(),
            world,
            resolved: Resolved::default(),
            counters: Counters::default(),
            settings: defaults(),
            answer_bytes_max: ANSWER_BYTES_MAX,
        }
    }

    /// With so many open findings, all of them like a real one.
    fn with(count: usize) -> Self {
        let mut case = Self::new();
        case.world.cut("us-1", "ap");
        case.world.run(secs(5));
        let real = case.world.ledger.open().next().expect("it is found").clone();
        case.ledger = Ledger::restore((0..count).map(|n| like(&real, n)));
        assert_eq!(case.ledger.open().count(), count);
        case
    }

    fn ask(&self, endpoint: Endpoint, body: &str) -> Result<Vec<u8>, ApiError> {
        let view = View {
            now: self.world.now,
            ledger: &self.ledger,
            resolved: &self.resolved,
            snapshot: Some(self.world.view()),
            epoch: None,
            settings: &self.settings,
            counters: &self.counters,
            agent: "watch\"er\n1",
            answer_bytes_max: self.answer_bytes_max,
        };
        answer(endpoint, body.as_bytes(), &view)
    }

    fn json(&self, endpoint: Endpoint, body: &str) -> Value {
        let bytes = self.ask(endpoint, body).unwrap_or_else(|e| panic!("{body}: {e}"));
        serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&bytes)))
    }

    fn add(&mut self, id: &str, body: &Value) -> Result<Vec<u8>, ApiError> {
        add(body.to_string().as_bytes(), &mut self.ledger, id, self.world.now)
    }
}

fn like(real: &Finding, n: usize) -> Finding {
    let mut finding = real.clone();
    finding.fingerprint = format!("{:016x}", n * 7919 % 10_007);
    finding.entity.cluster = Some(format!("c{}", n % 3).into());
    finding.entity.server = Some(format!("s{n}").into());
    finding.severity = [Severity::Info, Severity::Critical, Severity::Warning][n % 3];
    finding
}

use crate::checks::Severity;

fn prints(page: &Value) -> Vec<String> {
    let list = page["findings"].as_array().unwrap();
    list.iter().map(|f| f["fingerprint"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn pages_show_each_open_finding_once_the_worst_first() {
    let case = Case::with(250);
    let (mut seen, mut after, mut severities) = (Vec::new(), Value::Null, Vec::new());
    loop {
        let page = case.json(Endpoint::Findings, &json!({ "limit": 40, "after": after }).to_string());
        assert_eq!(page["total"], 250, "of all pages");
        seen.extend(prints(&page));
        severities.extend(page["findings"].as_array().unwrap().iter().map(|f| f["severity"].clone()));
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
        assert_eq!(page["findings"].as_array().unwrap().len(), 40);
    }
    let unique: std::collections::BTreeSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), unique.len()), (250, 250));
    let at = |severity: &str| severities.iter().position(|s| s == severity).unwrap();
    assert!(at("critical") < at("warning") && at("warning") < at("info"));
    assert!(severities.windows(2).filter(|pair| pair[0] != pair[1]).count() == 2, "they are not mixed");
    assert_eq!(prints(&case.json(Endpoint::Findings, "")).len(), 100, "the default");
}

#[test]
fn a_page_begins_where_the_one_before_ended_also_when_its_last_finding_is_gone() {
    let mut case = Case::with(100);
    let page = case.json(Endpoint::Findings, r#"{"limit":10}"#);
    let all = prints(&case.json(Endpoint::Findings, ""));
    let rest: Vec<Finding> = case.ledger.open().filter(|f| f.fingerprint != all[9]).cloned().collect();
    case.ledger = Ledger::restore(rest);
    let next = case.json(Endpoint::Findings, &json!({ "limit": 10, "after": page["next"] }).to_string());
    assert_eq!(prints(&next), all[10..20]);
}

#[test]
fn filters_choose_and_are_all_met() {
    let case = Case::with(99);
    let total = |filter: Value| case.json(Endpoint::Findings, &filter.to_string())["total"].clone();
    assert_eq!(total(json!({ "severity": "critical" })), 33);
    assert_eq!(total(json!({ "cluster": "c1" })), 33);
    assert_eq!(total(json!({ "severity": "critical", "cluster": "c1" })), 33);
    assert_eq!(total(json!({ "severity": "critical", "cluster": "c2" })), 0);
    assert_eq!(total(json!({ "check": "cluster_007" })), 99, "a code is as good as a slug");
    assert_eq!(total(json!({ "check": "server_missing", "state": "open" })), 0);
    assert_eq!(total(json!({ "state": "resolved" })), 0);
    assert_eq!(total(json!({ "check": null, "limit": null })), 99, "null is not said");
}

#[test]
fn an_answer_keeps_its_bound_whatever_stands_in_a_finding() {
    let mut case = Case::with(50);
    case.answer_bytes_max = 20_000;
    let (mut seen, mut after) = (0, Value::Null);
    loop {
        let body = json!({ "limit": 1000, "after": after }).to_string();
        let bytes = case.ask(Endpoint::Findings, &body).unwrap();
        assert!(bytes.len() <= 20_000, "{} bytes", bytes.len());
        let page: Value = serde_json::from_slice(&bytes).unwrap();
        seen += prints(&page).len();
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!(seen, 50);
    // Names of kilobytes leave room for the finding itself.
    let real = case.ledger.open().next().unwrap().clone();
    let mut huge = real.clone();
    huge.entity.server = Some("\u{1}".repeat(100_000).into());
    huge.evidence.insert("x".into(), json!("y".repeat(1_000_000)));
    case.ledger = Ledger::restore([huge]);
    let bytes = case.ask(Endpoint::Findings, "").unwrap();
    assert!(bytes.len() <= 20_000, "{} bytes", bytes.len());
    let page: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(prints(&page), [real.fingerprint]);
    assert!(page["findings"][0]["evidence"]["left_out_bytes"].as_u64() > Some(1_000_000));
}

#[test]
fn what_resolved_is_kept_for_a_while_the_last_first() {
    let mut case = Case::with(1);
    let real = case.ledger.open().next().unwrap().clone();
    for n in 0..1500_u64 {
        let mut finding = like(&real, usize::try_from(n).unwrap());
        finding.resolved_at = Some(Time::from_millis(n));
        let change = Change { action: Action::Resolved, reason: Reason::Recovered, finding };
        case.resolved.take(&change);
        case.resolved.take(&Change { action: Action::Updated, ..change });
    }
    let page = case.json(Endpoint::Findings, r#"{"state":"resolved","limit":2}"#);
    assert!(page["total"].as_u64() <= Some(1000) && page["total"].as_u64() > Some(500), "{}", page["total"]);
    let times: Vec<&Value> = page["findings"].as_array().unwrap().iter().map(|f| &f["resolved_at"]).collect();
    assert_eq!(times, [&json!(Time::from_millis(1499)), &json!(Time::from_millis(1498))]);
    assert_eq!(page["findings"][0]["reason"], "recovered");
    let body = json!({ "state": "resolved", "limit": 1, "after": page["next"] }).to_string();
    let next = case.json(Endpoint::Findings, &body);
    assert_eq!(next["findings"][0]["resolved_at"], json!(Time::from_millis(1497)));
    // Large ones are fewer.
    let mut large = real.clone();
    large.resolved_at = Some(Time::from_millis(9999));
    large.evidence.insert("x".into(), json!("y".repeat(60_000)));
    let change = Change { action: Action::Resolved, reason: Reason::Gone, finding: large };
    (0..200).for_each(|_| case.resolved.take(&change));
    let total = case.json(Endpoint::Findings, r#"{"state":"resolved"}"#)["total"].as_u64().unwrap();
    assert!((10..80).contains(&total), "{total} of 60 kB each");
}

#[test]
fn a_request_that_is_none_is_told_what_would_be_one() {
    let case = Case::new();
    let cases = [
        (Endpoint::Findings, "nonsense", 400, "for example: {"),
        (Endpoint::Findings, "[]", 400, "a JSON object"),
        (Endpoint::Findings, r#"{"chek":"x"}"#, 400, "unknown field `chek`, expected one of `check`"),
        (Endpoint::Findings, r#"{"check":5}"#, 400, "expected a string"),
        (Endpoint::Findings, r#"{"severity":"huge"}"#, 400, "expected one of `info`, `warning`, `critical`"),
        (Endpoint::Findings, r#"{"state":"closed"}"#, 400, "expected `open` or `resolved`"),
        (Endpoint::Findings, r#"{"limit":0}"#, 400, "`limit` is 1 to 1000, and not 0"),
        (Endpoint::Findings, r#"{"limit":1001}"#, 400, "1 to 1000"),
        (Endpoint::Findings, r#"{"limit":-1}"#, 400, "invalid value"),
        (Endpoint::Findings, r#"{"after":"x"}"#, 400, "`after` is the `next`"),
        (Endpoint::Findings, r#"{"check":"GW_998"}"#, 404, "there is no check `GW_998`; did you mean `GW_00"),
        (Endpoint::Explain, "{}", 400, "missing field `check`"),
        (Endpoint::Explain, r#"{"check":"zzzzzzzzzzzzzzzzz"}"#, 404, "the endpoint `checks` lists all"),
        (Endpoint::Checks, "7", 400, "a JSON object"),
        (Endpoint::SilenceList, r#"{"limit":"many"}"#, 400, "expected u64"),
        (Endpoint::Epoch, "", 503, "ask again in a second"),
    ];
    for (endpoint, body, code, words) in cases {
        let error = case.ask(endpoint, body).expect_err(body);
        assert!(error.code == code && error.text.contains(words), "{body}: {error:?}");
    }
    let huge = format!("{{\"cluster\":\"{}\"}}", "x".repeat(REQUEST_BYTES_MAX));
    assert_eq!(case.ask(Endpoint::Findings, &huge).expect_err("it is too large").code, 413);
}

#[test]
fn an_error_is_one_short_line_whatever_was_sent() {
    let case = Case::new();
    let hostile = ["\r\nMSG x", "\u{1b}[2J", "\u{202e}", "\u{0}", &"x".repeat(10_000), &"[".repeat(10_000)];
    for text in hostile {
        for body in [text.to_owned(), json!({ text: 1 }).to_string(), json!({ "check": text }).to_string()] {
            for endpoint in [Endpoint::Findings, Endpoint::Explain] {
                let error = case.ask(endpoint, &body).expect_err("it is nonsense");
                assert!(!error.text.chars().any(char::is_control), "{error:?}");
                assert!(error.text.len() < 2000, "{} bytes", error.text.len());
            }
        }
    }
}

#[test]
fn nothing_at_all_is_an_empty_object() {
    let case = Case::new();
    for body in ["", " \n", "{}"] {
        assert_eq!(case.json(Endpoint::Findings, body)["total"], 0);
        assert_eq!(case.json(Endpoint::Checks, body)["checks"].as_array().unwrap().len(), REGISTRY.len());
    }
}

#[test]
fn the_topology_is_the_one_that_the_command_prints() {
    let case = Case::new();
    let expected = serde_json::to_value(Seen::of(case.world.view())).unwrap();
    assert_eq!(case.json(Endpoint::Topology, ""), expected);
    assert_eq!(expected["clusters"]["eu"]["servers"], json!(["eu-0", "eu-1", "eu-2"]));
    assert_eq!(expected["matrix"]["links"]["eu"]["us"]["connected"], 3);
}

#[test]
fn a_manual_is_the_one_that_the_command_prints() {
    let case = Case::new();
    let explained = case.json(Endpoint::Explain, r#"{"check":"Cluster_007"}"#);
    let check = checks::find("gateway_disconnected").unwrap();
    assert_eq!(explained["text"], manual(check.manual(), 80));
    assert_eq!(explained["check"], "gateway_disconnected");
}

#[test]
fn a_silence_is_added_listed_and_removed() {
    let mut case = Case::with(3);
    let body = json!({ "match": { "check": "CLUSTER_007", "cluster": "c1" }, "for": "1h 30m", "why": "disks", "who": "jo" });
    let added: Value = serde_json::from_slice(&case.add("one", &body).unwrap()).unwrap();
    assert_eq!(
        added["silence"],
        json!({
            "id": "one", "match": { "check": "gateway_disconnected", "cluster": "c1" }, "why": "disks", "who": "jo",
            "added_at": case.world.now, "ends_at": case.world.now.plus(secs(5400)),
        })
    );
    let silenced = |case: &Case| {
        let page = case.json(Endpoint::Findings, "");
        page["findings"].as_array().unwrap().iter().filter(|f| f["silenced"] == true).count()
    };
    assert_eq!(silenced(&case), 1);
    for n in 0..150 {
        case.add(&format!("{n:03}"), &body).unwrap();
    }
    let page = case.json(Endpoint::SilenceList, r#"{"limit":150}"#);
    assert_eq!((&page["total"], &page["next"]), (&json!(151), &json!("149")));
    let last = case.json(Endpoint::SilenceList, r#"{"after":"149"}"#);
    assert_eq!(last["silences"], json!([added["silence"]]));
    let now = case.world.now;
    assert!(remove(br#"{"id":"one"}"#, &mut case.ledger, now).is_ok());
    assert_eq!(remove(br#"{"id":"one"}"#, &mut case.ledger, now).unwrap_err().code, 404);
    assert_eq!(remove(b"", &mut case.ledger, now).unwrap_err().code, 400);
}

/// What the format of `OpenMetrics` asks for.
#[test]
fn metrics_are_open_metrics() {
    let mut case = Case::with(30);
    let real = case.ledger.open().next().unwrap().clone();
    case.counters.take(&Change { action: Action::Opened, reason: Reason::Violated, finding: real });
    case.add("a", &json!({ "match": { "cluster": "c1" }, "for": "1h", "why": "w", "who": "w" })).unwrap();
    let text = String::from_utf8(case.ask(Endpoint::Metrics, "").unwrap()).unwrap();
    assert!(text.ends_with("\n# EOF\n"));
    let mut families: BTreeMap<&str, &str> = BTreeMap::new();
    let mut family = "";
    let mut series = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(families.insert(name, kind).is_none(), "{name} comes twice");
            family = name;
        } else if let Some(rest) = line.strip_prefix("# ") {
            let (word, rest) = rest.split_once(' ').unwrap();
            assert!(["HELP", "UNIT"].contains(&word) && rest.starts_with(&format!("{family} ")), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
            let end = match families[family] {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            assert_eq!(name, format!("{family}{end}"), "samples stand below their family");
            assert!(labels.ends_with('}') && value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(line.rsplit_once(' ').unwrap().0), "{line} comes twice");
        }
    }
    assert!(families.len() > 15, "{families:?}");
    for line in [
        r#"gatewatch_build_info{version="0.1.0",agent="watch\"er\n1"} 1"#,
        r#"gatewatch_findings_open{check="gateway_disconnected",severity="critical"} 10"#,
        r#"gatewatch_findings_silenced{check="gateway_disconnected",severity="critical"} 10"#,
        r#"gatewatch_findings_open{check="server_missing",severity="warning"} 0"#,
        r#"gatewatch_findings_opened_total{check="gateway_disconnected"} 1"#,
        "gatewatch_servers_expected 9",
        "gatewatch_links_expected 18",
        "gatewatch_silences 1",
        "gatewatch_outbox_dropped_total 0",
    ] {
        let line = line.replace("0.1.0", env!("CARGO_PKG_VERSION"));
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }
}

#[test]
fn every_endpoint_has_a_name_of_its_own_and_an_example_that_is_taken() {
    let mut case = Case::with(1);
    let names: std::collections::BTreeSet<String> = Endpoint::ALL.iter().map(|e| e.name()).collect();
    assert_eq!(names.len(), Endpoint::ALL.len());
    for endpoint in Endpoint::ALL {
        let example = endpoint.example();
        let now = case.world.now;
        let done = match endpoint {
            Endpoint::SilenceAdd => add(example.as_bytes(), &mut case.ledger, "…", now),
            Endpoint::SilenceRemove => remove(example.as_bytes(), &mut case.ledger, now),
            Endpoint::Sweep => sweep(example.as_bytes()).map(|()| Vec::new()),
            Endpoint::Epoch => continue,
            endpoint => case.ask(endpoint, example),
        };
        assert!(done.is_ok(), "{example}: {done:?}");
    }
}
