//! What one snapshot alone shows, without a ledger that was there before.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Finding, Judgement, Ledger};
use crate::checks::{self, Settings, Watched};
use crate::model::Snapshot;

/// The findings that a ledger would have open which saw this snapshot for as many epochs as each check wants.
/// What is not ripe yet and what another finding explains is none, and neither is anything in a snapshot that
/// is not settled.
pub fn judge(snapshot: &Snapshot, settings: &BTreeMap<&'static str, Settings>) -> Vec<Finding> {
    if !snapshot.settled {
        return Vec::new();
    }
    let at_once = |s: &Settings| Settings { open_after: 1, ..s.clone() };
    let settings = settings.iter().map(|(slug, s)| (*slug, at_once(s))).collect();
    let mut ledger = Ledger::default();
    ledger.step(Judgement {
        at: snapshot.at,
        seen_at: snapshot.at,
        is_glance: false,
        // Not the snapshot's own, which a file may say to be 0: then no streak would begin.
        epoch: 1,
        verdicts: checks::evaluate(snapshot, &settings, &Watched::default()),
        settings: &settings,
        repeat_every: Duration::MAX,
    });
    ledger.open().cloned().collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::checks::example::{World, defaults, place, secs};

    /// The last snapshot, written and read again, is judged to what is open.
    pub(crate) fn assert_alike(world: &World) {
        let text = world.view().to_file().expect("it is written");
        let read = Snapshot::from_file(text.as_bytes()).expect("it is read");
        let told = |f: &Finding| {
            let entity = &f.entity;
            (f.fingerprint.clone(), f.check.clone(), place(entity), f.cause.kind)
        };
        let judged = judge(&read, &world.settings);
        assert_eq!(
            judged.iter().map(told).collect::<Vec<_>>(),
            world.ledger.open().map(told).collect::<Vec<_>>(),
            "left is what the file shows, right what the running ledger has open"
        );
        // The running ledger knows of consequences that are over, too.
        for (now, ever) in judged.iter().zip(world.ledger.open()) {
            assert!(now.inhibits.is_subset(&ever.inhibits), "{now:?}\n{ever:?}");
        }
    }

    #[test]
    fn a_healthy_snapshot_shows_nothing() {
        let world = World::seen_from("eu-0");
        assert_eq!(judge(world.view(), &defaults()), []);
    }

    #[test]
    fn a_fault_shows_when_it_is_ripe_and_by_the_settings_of_who_judges() {
        let mut world = World::seen_from("eu-0");
        world.cut("us-1", "eu");
        world.run(secs(2));
        assert_eq!(judge(world.view(), &world.settings), [], "a restart would look the same");
        world.run(secs(1));
        assert_alike(&world);
        let [finding] = &judge(world.view(), &world.settings)[..] else { panic!("one fault, one finding") };
        assert_eq!((&*finding.check, finding.revision), ("gateway_disconnected", 1));
        assert_eq!(finding.opened_at, world.view().at, "the same file gives the same finding every time");
        let mut patient = defaults();
        let values = &mut patient.get_mut("gateway_disconnected").unwrap().values;
        values.insert("absent_for", checks::Value::Duration(secs(60)));
        assert_eq!(judge(world.view(), &patient), []);
    }

    #[test]
    fn a_snapshot_that_is_not_settled_shows_nothing() {
        let mut world = World::seen_from("eu-0");
        world.cut("us-1", "eu");
        world.run(secs(5));
        let mut snapshot = world.view().clone();
        snapshot.settled = false;
        assert_eq!(judge(&snapshot, &defaults()), []);
    }

    /// Whatever somebody wrote into a file, judging it ends.
    #[test]
    fn no_value_in_a_file_breaks_the_judge() {
        let mut world = World::of(&[("eu", 2), ("us", 1)], "eu-0", 1);
        world.cut("us-0", "eu");
        world.run(secs(5));
        let whole = serde_json::to_value(world.view()).unwrap();
        let mut pointers = Vec::new();
        paths(&whole, String::new(), &mut pointers);
        assert!(pointers.len() > 200, "found hardly a value: {}", pointers.len());
        let others = [
            json!(null),
            json!(0),
            json!(u64::MAX),
            json!(""),
            json!("\u{1b}[2J\n"),
            json!("2554-07-21T23:34:33Z"),
            json!([]),
            json!({}),
            json!({"secs": u64::MAX, "nanos": 999_999_999}),
            json!(false),
        ];
        let mut read = 0;
        for pointer in &pointers {
            for other in &others {
                let mut changed = whole.clone();
                *changed.pointer_mut(pointer).unwrap() = other.clone();
                if let Ok(snapshot) = serde_json::from_value::<Snapshot>(changed) {
                    read += 1;
                    drop(judge(&snapshot, &defaults()));
                }
            }
        }
        assert!(read > 500, "hardly any was read: {read}");
    }

    fn paths(value: &Value, at: String, out: &mut Vec<String>) {
        let under = |key: &str| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    paths(value, under(key), out);
                }
            }
            Value::Array(list) => {
                for (n, value) in list.iter().enumerate() {
                    paths(value, under(&n.to_string()), out);
                }
            }
            _ => {}
        }
        if !at.is_empty() {
            out.push(at);
        }
    }
}
