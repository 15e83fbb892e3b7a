//! `[checks.<slug>]` and `[[checks.<slug>.override]]`, resolved against what each check declares.

use std::collections::BTreeMap;

use super::mistake::Complaint;
use super::reader::{Section, nearest, show_duration};
use crate::checks::{Check, Manual, Override, Settings, Severity, Threshold, Value};

/// Epochs in a row. Beyond that it is no longer "in a row" but "never".
const EPOCHS_RANGE: (u64, u64) = (1, 1000);

/// The value of a threshold as it is written in a file, quotes left out.
pub fn show_value(value: Value) -> String {
    match value {
        Value::Duration(d) => show_duration(d),
        Value::Ratio(r) => r.to_string(),
        Value::Bytes(n) | Value::Count(n) => n.to_string(),
    }
}

/// Lays what `checks` says over the settings in `out`.
pub(super) fn read(checks: Section<'_>, registry: &[&dyn Check], out: &mut BTreeMap<&'static str, Settings>) {
    for check in registry {
        let manual = check.manual();
        if let Some(s) = checks.section(manual.slug) {
            let settings = out.entry(manual.slug).or_insert_with(|| Settings::of(*check));
            fill(&s, manual, settings);
            s.finish();
        }
    }
    checks.finish();
}

fn fill(s: &Section<'_>, manual: &Manual, settings: &mut Settings) {
    if let Some(enabled) = s.bool("enabled") {
        settings.enabled = enabled;
    }
    if let Some(severity) = severity(s) {
        settings.severity = Some(severity);
    }
    for (key, target) in
        [("open_after", &mut settings.open_after), ("resolve_after", &mut settings.resolve_after)]
    {
        if let Some(n) = s.whole(key, EPOCHS_RANGE).and_then(|n| u32::try_from(n).ok()) {
            *target = n;
        }
    }
    settings.values.extend(values(s, manual));
    for o in s.sections("override") {
        let part =
            Override { cluster: o.string("cluster"), remote: o.string("remote"), values: values(&o, manual) };
        if part.cluster.is_none() && part.remote.is_none() {
            o.refuse_all(format!("{} needs `cluster`, `remote` or both: what it is for", o.title()));
        }
        settings.overrides.push(part);
        o.finish();
    }
}

fn severity(s: &Section<'_>) -> Option<Severity> {
    const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];
    let text = s.string("severity")?;
    let found = ALL.into_iter().find(|v| v.as_str() == text);
    if found.is_none() {
        let hint = match nearest(&text, ALL.into_iter().map(Severity::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "accepted: info, warning, critical".to_owned(),
        };
        s.refuse("severity", Complaint::new(format!("unknown severity `{text}`"), hint));
    }
    found
}

fn values(s: &Section<'_>, manual: &Manual) -> BTreeMap<&'static str, Value> {
    manual.thresholds.iter().filter_map(|t| value(s, t).map(|v| (t.key, v))).collect()
}

fn value(s: &Section<'_>, t: &Threshold) -> Option<Value> {
    match (t.default, t.range) {
        (Value::Duration(_), (Value::Duration(low), Value::Duration(high))) => {
            s.duration(t.key, (low, high)).map(Value::Duration)
        }
        (Value::Ratio(_), (Value::Ratio(low), Value::Ratio(high))) => {
            s.number(t.key, (low, high)).map(Value::Ratio)
        }
        (Value::Bytes(_), (Value::Bytes(low), Value::Bytes(high))) => {
            s.whole(t.key, (low, high)).map(Value::Bytes)
        }
        (Value::Count(_), (Value::Count(low), Value::Count(high))) => {
            s.whole(t.key, (low, high)).map(Value::Count)
        }
        // A range of another unit than its default is a bug of the check; its own test says so.
        _ => None,
    }
}
