//! All that is printed of what others said, in every form. For `crate::fuzz`, and for the test of hostile names.

use std::collections::BTreeMap;

use serde_json::Value;

use super::answer::{Answer, Demand, Format, Look};
use super::{output, top, topology, watch};
use crate::checks::Settings;
use crate::model::{Snapshot, Time};

/// What `check`, `judge`, `topology` and `sweep` print of this look.
pub(crate) fn snapshot(
    snapshot: &Snapshot,
    settings: &BTreeMap<&'static str, Settings>,
) -> Vec<(&'static str, String)> {
    let answer = Answer::of(snapshot, settings, Demand::default());
    let formats = [
        ("check --format text", Format::Text),
        ("check --format json", Format::Json),
        ("check --format nagios", Format::Nagios),
        ("check --format prometheus", Format::Prometheus),
        ("check --format junit", Format::Junit),
    ];
    let mut texts: Vec<_> = formats
        .map(|(name, format)| (name, answer.render(format, Look { colour: false, width: Some(80) })))
        .into();
    texts.push(("judge --json", answer.lines()));
    texts.extend(topology::in_every_format(snapshot, settings));
    texts.extend(snapshot.to_file().ok().map(|file| ("sweep", output::harmless(&file).into_owned())));
    texts
}

/// What `watch` and `top` show of this message.
pub(crate) fn message(subject: &str, body: &[u8], now: Time) -> Vec<(&'static str, String)> {
    let mut texts = Vec::new();
    if let Ok(event) = serde_json::from_slice::<Value>(body) {
        texts.extend(watch::readable(&event, false, Some(80)).map(|text| ("watch", text)));
        texts.push(("silent watch", watch::found(&event, false, None)));
    }
    texts.extend(watch::line_of(body).map(|line| ("watch --json", line)));
    texts.extend(watch::standing(body).map(|text| ("watch, at first", text)));
    texts.push(("top", top::drawn(subject, body, now)));
    texts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::checks::example::{World, defaults, secs};
    use crate::config::redact;
    use crate::model::Name;

    /// Clears the screen, in seven bits and in eight, rings, turns the line, ends it, and cannot be seen.
    const EVIL: &str =
        "a\u{1b}[2J\u{7}\u{7f}\u{9b}2J\u{85}\n\u{202e}\u{2066}\u{61c}\u{200b}\u{2028}\u{feff}|<&\"'\\z";

    fn steers(text: &str) -> Option<char> {
        text.chars().find(|c| *c != '\n' && redact::hostile(*c))
    }

    /// A supercluster in trouble, in which every name is hostile.
    fn hostile() -> Snapshot {
        let mut world = World::seen_from("eu-0");
        world.cut("us-1", "ap");
        world.reconfigure("eu-1", |config| *config = None);
        world.stop("ap-1");
        world.run(secs(20));
        let mut file: Value = serde_json::to_value(world.view()).unwrap();
        rename(&mut file);
        serde_json::from_value(file).unwrap()
    }

    /// Puts it into each name of a server, cluster or address, and leaves IDs and times.
    fn rename(value: &mut Value) {
        let odd = |name: &str| {
            let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            (plain && name.contains(['a', 'e', 'u']) && name.len() < 8).then(|| format!("{name}{EVIL}"))
        };
        match value {
            Value::String(text) => {
                if let Some(odd) =
                    odd(text).filter(|_| !["healthy", "alive", "unknown", "absent"].contains(&text.as_str()))
                {
                    *text = odd;
                }
            }
            Value::Array(list) => list.iter_mut().for_each(rename),
            Value::Object(map) => {
                for (key, mut inner) in std::mem::take(map) {
                    let fixed = ["state", "sight", "life", "ver"].contains(&key.as_str());
                    if !fixed {
                        rename(&mut inner);
                    }
                    let named = key.starts_with("eu") || key.starts_with("us") || key.starts_with("ap");
                    map.insert(odd(&key).filter(|_| named).unwrap_or(key), inner);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn no_name_in_a_snapshot_steers_the_terminal_in_any_format() {
        let seen = hostile();
        let clusters: Vec<&Name> = seen.clusters.keys().collect();
        assert!(clusters.iter().all(|name| name.contains(EVIL)), "{clusters:?}");
        let texts = snapshot(&seen, &defaults());
        assert_eq!(texts.len(), 14, "one of each");
        for (what, text) in texts {
            assert_eq!(steers(&text), None, "{what}: {text:?}");
            // A file that lacks what could not be seen is not written.
            assert!(text.len() > 100 || what.ends_with("toml"), "{what}: {text}");
        }
        let answer = Answer::of(&seen, &defaults(), Demand::default());
        let coloured = answer.render(Format::Text, Look { colour: true, width: Some(80) });
        assert!(!coloured.contains("\u{1b}[2J") && !coloured.contains('\u{9b}'), "{coloured:?}");
    }

    #[test]
    fn what_is_escaped_in_json_says_the_same() {
        let seen = hostile();
        let file = seen.to_file().unwrap();
        let printed = output::harmless(&file);
        assert!(file.contains('\u{202e}') && steers(&printed).is_none());
        assert_eq!(
            Snapshot::from_file(printed.as_bytes()).unwrap(),
            Snapshot::from_file(file.as_bytes()).unwrap()
        );
        let tag = json!({ "name": "\u{e0041}" }).to_string();
        assert_eq!(output::harmless(&tag), r#"{"name":"\udb40\udc41"}"#);
    }

    #[test]
    fn no_message_of_the_network_steers_the_terminal() {
        let told = json!({ "action": EVIL, "state": "open", "severity": "critical", "check": EVIL, "code": EVIL,
            "summary": EVIL, "fingerprint": EVIL, "opened_at": "2026-11-20T19:45:20Z", "timestamp": EVIL,
            "reason": EVIL, "entity": { "cluster": EVIL }, "impact": EVIL, "evidence": { EVIL: { EVIL: [EVIL] } },
            "cause": { "kind": EVIL, "confidence": EVIL, "detail": EVIL },
            "remediation": [{ "do": EVIL, "run": format!("{EVIL}\n{EVIL}") }] });
        let epoch = json!({ "agent": EVIL, "epoch": 1, "leader": true, "settled": true,
            "servers": { "expected": 2, "answered": 1, "missing": [EVIL] },
            "open": { "critical": 1 }, "links": { "expected": 1, "connected": 0 },
            "vantage": { "cluster": EVIL, "server": EVIL } });
        let agent = json!({ "agent": EVIL, "event": EVIL, "reason": EVIL });
        let page = json!({ "findings": [told], "total": 1, "next": EVIL });
        let subjects = ["finding.critical.c", "epoch.x", "agent.started.x", "x"];
        for (subject, body) in subjects.into_iter().zip([told, epoch, agent, page]) {
            let texts =
                message(&format!("gatewatch.{subject}"), body.to_string().as_bytes(), crate::fuzz::BEGINNING);
            assert!(texts.len() >= 3, "{subject}");
            for (what, text) in texts {
                assert_eq!(steers(&text), None, "{what} of {subject}: {text:?}");
            }
        }
    }

    #[test]
    fn no_error_and_no_line_of_a_log_steers_the_terminal() {
        let mut line = Vec::new();
        output::write_harmless(&mut line, format!("\u{1b}[2m{EVIL}\u{1b}[0m said\n").as_bytes()).unwrap();
        let line = String::from_utf8(line).unwrap();
        let plain = line.replace("\u{1b}[2m", "").replace("\u{1b}[0m", "");
        assert!(
            line.starts_with("\u{1b}[2ma") && line.ends_with("\u{1b}[0m said\n"),
            "colours stay: {line:?}"
        );
        assert_eq!((steers(&plain), line.lines().count()), (None, 1), "{line:?}");
    }
}
