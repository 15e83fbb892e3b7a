use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::checks::example::{World, defaults, secs};
use crate::cli::output;

const SITUATIONS: [(&str, &str, Status); 5] = [
    ("healthy", include_str!("../../../tests/situations/healthy.json"), Status::Ok),
    ("link-lost", include_str!("../../../tests/situations/link-lost.json"), Status::Critical),
    ("cluster-down", include_str!("../../../tests/situations/cluster-down.json"), Status::Critical),
    ("mismatch", include_str!("../../../tests/situations/mismatch.json"), Status::Warning),
    ("blind", include_str!("../../../tests/situations/blind.json"), Status::Unknown),
];
const FORMATS: [Format; 5] = [Format::Text, Format::Json, Format::Nagios, Format::Prometheus, Format::Junit];

fn answers() -> impl Iterator<Item = (&'static str, Answer, Status)> {
    SITUATIONS.iter().map(|(name, file, status)| {
        let snapshot = Snapshot::from_file(file.as_bytes()).unwrap();
        (*name, Answer::of(&snapshot, &defaults(), Demand::default()), *status)
    })
}

fn snapshot(name: &str, text: &str) {
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn people_see_the_five_situations_narrow_and_wide_and_coloured() {
    for (name, answer, status) in answers() {
        assert_eq!(answer.status, status, "{name}");
        for columns in [80, 140] {
            let width = Some(output::prose(columns));
            let text = answer.render(Format::Text, Look { colour: false, width });
            snapshot(&format!("{name}-{columns}"), &text);
            let coloured = answer.render(Format::Text, Look { colour: true, width });
            snapshot(&format!("{name}-{columns}-colour"), &coloured.replace('\u{1b}', "␛"));
            assert_eq!(plain(&coloured), text, "{name}: colour changes nothing but the colour");
        }
        let piped = answer.render(Format::Text, Look::default());
        assert_eq!(
            words(&piped),
            words(&answer.render(Format::Text, Look { colour: false, width: Some(80) }))
        );
    }
}

#[test]
fn programs_see_the_five_situations() {
    for (name, answer, _) in answers() {
        for (format, ending) in [
            (Format::Json, "json"),
            (Format::Nagios, "nagios"),
            (Format::Prometheus, "prometheus"),
            (Format::Junit, "junit"),
        ] {
            snapshot(&format!("{name}-{ending}"), &answer.render(format, Look::default()));
        }
    }
}

#[test]
fn who_never_got_to_look_is_told_why_in_every_format() {
    let help = Some("say where a server is: --server nats://HOST:4222".to_owned());
    let answer = Answer::blind("no server answered within 4 s".to_owned(), help, &defaults());
    assert_eq!(answer.status.exit(), 3);
    for format in FORMATS {
        let text = answer.render(format, Look { colour: false, width: Some(80) });
        snapshot(&format!("unreached-{}", format!("{format:?}").to_lowercase()), &text);
    }
}

fn plain(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| out + part.split_once('m').map_or("", |(_, rest)| rest))
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[test]
fn the_first_line_says_whether_it_is_whole_and_else_where_and_why() {
    let first = |answer: &Answer| {
        answer.render(Format::Text, Look::default()).lines().next().unwrap_or_default().to_owned()
    };
    let lines: BTreeMap<&str, String> = answers().map(|(name, answer, _)| (name, first(&answer))).collect();
    for (name, wanted) in [
        ("healthy", ["OK: ", "is whole", "9 of 9 servers"]),
        ("link-lost", ["CRITICAL: ", "us-1 (us) has no gateway to ap", "17 of 18 links"]),
        ("cluster-down", ["CRITICAL: ", "no server of us answers", "2 of 3 clusters"]),
        ("mismatch", ["WARNING: ", "is whole, but", "eu-1"]),
        ("blind", ["UNKNOWN: ", "cannot tell", "did not answer"]),
    ] {
        let line = &lines[name];
        assert!(wanted.iter().all(|wanted| line.contains(wanted)), "{line}");
    }
}

fn view(world: &World, demand: Demand) -> Answer {
    Answer::of(world.view(), &world.settings, demand)
}

#[test]
fn it_is_never_ok_when_not_enough_was_seen() {
    let status = |snapshot: &Snapshot| Answer::of(snapshot, &defaults(), Demand::default()).status;
    let world = World::seen_from("eu-0");
    assert_eq!(status(world.view()), Status::Ok);

    let mut early = world.view().clone();
    early.settled = false;
    assert_eq!(status(&early), Status::Unknown, "the first seconds of a server");

    let mut silent = world.view().clone();
    silent.servers.values_mut().next().unwrap().gatewayz = None;
    assert_eq!(status(&silent), Status::Unknown, "one reply is missing");

    let mut untold = world.view().clone();
    untold.servers.values_mut().next().unwrap().varz = None;
    assert_eq!(status(&untold), Status::Unknown, "the configuration of one is missing");

    let mut refused = world.view().clone();
    let refusal = Refusal { operation: "publish".into(), subject: "$SYS.REQ.SERVER.*.ROUTEZ".into() };
    refused.observer.refused.insert(refusal);
    assert_eq!(status(&refused), Status::Unknown, "a permission is missing");
    let mut settings = defaults();
    settings.get_mut("observer_degraded").unwrap().enabled = false;
    let answer = Answer::of(&refused, &settings, Demand::default());
    assert_eq!(answer.status, Status::Unknown, "whichever checks are asked for");

    let mut nobody = world.view().clone();
    nobody.servers.clear();
    nobody.clusters.clear();
    nobody.links.clear();
    assert_eq!(status(&nobody), Status::Unknown, "nobody answered");

    let demand = |servers| view(&world, Demand { servers, ..Demand::default() });
    assert_eq!(demand(9).status, Status::Ok);
    let short = demand(10);
    assert_eq!(short.status, Status::Unknown);
    assert_eq!(short.unseen, ["9 servers answered, and 10 are expected"]);

    let mut cut = view(&world, Demand::default());
    cut.cut_short("for something to cross every gateway");
    assert_eq!(cut.status, Status::Unknown, "something was still about to show");
}

#[test]
fn what_is_found_counts_though_not_all_was_seen_and_what_may_hide_is_said() {
    let mut world = World::seen_from("eu-0");
    world.cut("us-1", "ap");
    world.delay_replies("ap-1", 100);
    world.run(secs(5));
    let answer = view(&world, Demand::default());
    assert_eq!(answer.status, Status::Critical);
    let line = answer.render(Format::Nagios, Look::default());
    assert!(line.contains("Crit:us-1 (us) has no gateway to ap"), "{line}");
    assert!(line.contains("Unknown:1 of 9 servers did not answer: ap-1"), "{line}");
}

#[test]
fn less_than_what_is_to_fail_is_told_and_changes_nothing() {
    let mut world = World::seen_from("eu-0");
    world.cut("us-1", "ap");
    world.run(secs(5));
    world.settings.get_mut("gateway_disconnected").unwrap().severity = Some(Severity::Warning);
    let of = |world: &World, fail_on| view(world, Demand { fail_on, ..Demand::default() });
    assert_eq!(of(&world, Severity::Warning).status, Status::Warning);
    assert_eq!(of(&world, Severity::Info).status, Status::Warning);
    let quiet = of(&world, Severity::Critical);
    assert_eq!(quiet.status, Status::Ok);
    for format in FORMATS {
        let text = quiet.render(format, Look::default());
        assert!(text.contains("us-1 (us) has no gateway to ap") || format == Format::Prometheus, "{text}");
    }
    assert!(quiet.render(Format::Junit, Look::default()).contains("failures=\"0\""));
    world.settings.get_mut("gateway_disconnected").unwrap().severity = Some(Severity::Info);
    assert_eq!(of(&world, Severity::Warning).status, Status::Ok);
    assert_eq!(of(&world, Severity::Info).status, Status::Warning);
}

#[test]
fn the_worst_status_wins_and_unknown_is_worse_than_a_warning() {
    let order = [Status::Ok, Status::Warning, Status::Unknown, Status::Critical];
    assert!(order.is_sorted());
    assert_eq!(order.map(Status::exit), [0, 1, 3, 2]);
}

/// Names are what somebody configured, or sent in the name of a server.
#[test]
fn no_name_breaks_a_format() {
    let mut world = World::seen_from("eu-0");
    world.cut("us-1", "ap");
    world.run(secs(5));
    let nasty = "a\u{1b}[2J|\n\"<&>]]>\\'\u{7}";
    let mut snapshot = world.view().clone();
    for link in snapshot.links.iter_mut().filter(|l| &*l.server == "us-1") {
        link.server = nasty.into();
    }
    let server = snapshot.servers.values_mut().find(|s| &*s.info.name == "us-1").unwrap();
    server.info.name = nasty.into();
    let answer = Answer::of(&snapshot, &defaults(), Demand::default());
    assert_eq!(answer.status, Status::Critical);
    for format in FORMATS {
        let text = answer.render(format, Look::default());
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{format:?}: {text}");
    }
    let line = answer.render(Format::Nagios, Look::default());
    assert_eq!((line.lines().count(), line.matches('|').count()), (1, 1), "{line}");
    let json: Value = serde_json::from_str(&answer.render(Format::Json, Look::default())).unwrap();
    assert_eq!(json["exit"], 2);
    let junit = answer.render(Format::Junit, Look::default());
    assert!(!junit.contains("\"<&>"), "{junit}");
    // Every tag is closed, in order.
    let mut open = Vec::new();
    for tag in junit.split('<').skip(2).filter_map(|part| part.split_once('>')).map(|(tag, _)| tag) {
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{junit}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn metrics_are_of_families_with_help_and_type() {
    for (name, answer, _) in answers() {
        let text = answer.render(Format::Prometheus, Look::default());
        let mut families = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(families.insert(rest.split(' ').next().unwrap()), "{name}: twice: {line}");
            } else if !line.starts_with('#') {
                let family = line.split(['{', ' ']).next().unwrap();
                assert!(families.contains(family), "{name}: {line}");
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{name}: {line}");
            }
        }
        assert_eq!(text.matches("# HELP").count(), families.len(), "{name}");
    }
}
