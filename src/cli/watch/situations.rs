//! What `watch` shows of five situations, from what an agent would publish that saw them: that it is there, that
//! findings open, and that they end.

use super::*;
use crate::checks::Severity;
use crate::checks::example::{defaults, secs};
use crate::findings::{Action, Change, Ledger, Reason, judge};
use crate::model::Snapshot;
use crate::publish::event::{self, EpochCost, Sight, Speaker, Standing, Style};

const SITUATIONS: [(&str, &str); 5] = [
    ("healthy", include_str!("../../../tests/situations/healthy.json")),
    ("link-lost", include_str!("../../../tests/situations/link-lost.json")),
    ("cluster-down", include_str!("../../../tests/situations/cluster-down.json")),
    ("mismatch", include_str!("../../../tests/situations/mismatch.json")),
    ("blind", include_str!("../../../tests/situations/blind.json")),
];

/// What the agent publishes: its heartbeat, and each finding as it opens and as it resolves.
struct Published {
    heartbeat: String,
    findings: Vec<Value>,
}

fn published(file: &str) -> Published {
    let mut snapshot = Snapshot::from_file(file.as_bytes()).unwrap();
    snapshot.vantage.agent = "eu-watch".into();
    let sight = Sight::of(&snapshot);
    let speaker = Speaker { leads: true, ..Speaker::default() };
    let style = Style { prefix: "gatewatch".to_owned(), speaker, ..Style::default() };
    let found = judge(&snapshot, &defaults());
    let ledger = Ledger::restore(found.clone());
    let open = [Severity::Critical, Severity::Warning, Severity::Info].map(|s| ledger.count(s));
    let standing = Standing { open, silences: 0 };
    let heartbeat =
        event::epoch(&snapshot, &sight, EpochCost::default(), standing, &style, "id", snapshot.at).payload;
    let mut findings = Vec::new();
    for (action, reason) in [(Action::Opened, Reason::Violated), (Action::Resolved, Reason::Recovered)] {
        for mut finding in found.clone() {
            if action == Action::Resolved {
                finding.resolved_at = Some(finding.opened_at.plus(secs(123)));
                finding.published_at = finding.opened_at.plus(secs(123));
            }
            let message = event::finding(&Change { action, reason, finding }, &sight, &style, "id");
            findings.push(serde_json::from_str(&message.payload).unwrap());
        }
    }
    Published { heartbeat, findings }
}

fn seen(published: &Published, colour: bool, width: Option<usize>) -> String {
    let heard = standing(published.heartbeat.as_bytes()).unwrap();
    let events = published.findings.iter().map(|event| readable(event, colour, width).unwrap());
    // On standard error, as a line of the log.
    format!("INFO {heard}\n") + &events.collect::<String>()
}

fn snapshot(name: &str, text: &str) {
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text.replace('\u{1b}', "␛"));
    });
}

#[test]
fn people_see_the_five_situations_narrow_and_wide_and_coloured() {
    for (name, file) in SITUATIONS {
        let published = published(file);
        for columns in [80, 140] {
            let width = Some(output::prose(columns));
            let [plain, coloured] = [false, true].map(|colour| seen(&published, colour, width));
            snapshot(&format!("{name}-{columns}"), &plain);
            snapshot(&format!("{name}-{columns}-colour"), &coloured);
            let mut parts = coloured.split('\u{1b}');
            let first = parts.next().unwrap().to_owned();
            let bare = parts.fold(first, |out, part| out + part.split_once('m').unwrap().1);
            assert_eq!(bare, plain, "{name}: colour changes nothing but the colour");
        }
        // A pipe gets whole lines.
        snapshot(&format!("{name}-pipe"), &seen(&published, false, None));
    }
}

#[test]
fn an_agent_that_does_not_lead_and_one_that_writes_nonsense_say_nothing() {
    let healthy = published(SITUATIONS[0].1).heartbeat;
    let standby = healthy.replace("\"leader\":true", "\"leader\":false");
    assert!(standing(healthy.as_bytes()).is_some() && standing(standby.as_bytes()).is_none(), "{healthy}");
    for nonsense in ["", "[]", "{}", "{\"leader\":true,\"agent\":5}"] {
        assert_eq!(standing(nonsense.as_bytes()), None, "{nonsense}");
    }
    let early = healthy.replace("\"settled\":true", "\"settled\":false");
    assert_eq!(standing(early.as_bytes()), None, "an agent that just began knows nothing");
    let nasty = "{\"leader\":true,\"settled\":true,\"agent\":\"a\\u001b[2J\",\"servers\":{\"missing\":[\"b\\u0007\",5]}}";
    let said = standing(nasty.as_bytes()).unwrap();
    assert!(!said.contains(['\u{1b}', '\u{7}']), "{said:?}");
}
