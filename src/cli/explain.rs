//! `gatewatch explain CHECK`: one check's manual.

use std::fmt::Write as _;

use super::output::{print, width, wrap};
use super::{EXIT_USAGE, Failure};
use crate::checks::{Manual, REGISTRY, find};
use crate::config::{nearest, redact, show_value};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A slug or a code, such as `gateway_disconnected` or `CLUSTER_007`
    check: String,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match find(&args.check) {
        Some(check) => Ok(print(&manual(check.manual(), width()))?),
        None => Err(unknown(&args.check)),
    }
}

fn unknown(name: &str) -> Failure {
    let names = || REGISTRY.iter().flat_map(|c| [c.manual().slug, c.manual().code]);
    let help = match nearest(name, names()) {
        Some(near) => format!("did you mean `{near}`? `gatewatch checks` lists all"),
        None => "`gatewatch checks` lists the checks there are".to_owned(),
    };
    Failure::new(EXIT_USAGE, format!("there is no check `{}`", redact::control(name)), Some(help))
}

/// The manual as headed sections, in lines of at most `width` characters.
fn manual(m: &Manual, width: usize) -> String {
    let mut out = format!("{} ({}), {}\n", m.slug, m.code, m.severity);
    let sections = [
        ("What it detects", m.detects),
        ("Why it matters", m.matters),
        ("How it decides", m.decides),
        ("When it stays silent", m.silent),
        ("What to do", m.todo),
    ];
    for (head, text) in sections {
        // Writing to a String does not fail.
        let _ = write!(out, "\n{head}\n{}", wrap(text, 2, width));
    }
    let _ = write!(out, "\nSettings, in [checks.{}]\n", m.slug);
    let mut rows = vec![
        ("enabled", "true".to_owned(), "true or false: whether it is looked at".to_owned()),
        ("severity", format!("{:?}", m.severity.as_str()), "info, warning or critical".to_owned()),
        (
            "open_after",
            m.open_after.to_string(),
            "violated epochs in a row before a finding opens".to_owned(),
        ),
        (
            "resolve_after",
            m.resolve_after.to_string(),
            "healthy epochs in a row before it resolves".to_owned(),
        ),
    ];
    for t in m.thresholds {
        let default = match t.default {
            crate::checks::Value::Duration(_) => format!("{:?}", show_value(t.default)),
            other => show_value(other),
        };
        let (low, high) = t.range;
        rows.push((t.key, default, format!("{} ({} to {})", t.about, show_value(low), show_value(high))));
    }
    for (key, default, about) in rows {
        let _ = write!(out, "  {key} = {default}\n{}", wrap(&about, 6, width));
    }
    let _ = write!(
        out,
        "{}",
        wrap(
            &format!(
                "\nThresholds for one cluster or remote: [[checks.{}.override]] with `cluster`, `remote` or both.",
                m.slug
            ),
            2,
            width
        )
    );
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::checks::{Severity, Threshold, Value};

    static MANUAL: Manual = Manual {
        slug: "fake_check",
        code: "GW_999",
        severity: Severity::Warning,
        open_after: 2,
        resolve_after: 3,
        thresholds: &[Threshold {
            key: "absent_for",
            default: Value::Duration(Duration::from_millis(2500)),
            range: (Value::Duration(Duration::from_secs(1)), Value::Duration(Duration::from_secs(60))),
            about: "how long it may be away",
        }],
        detects: "A thing that is not there.",
        matters: "It should be.",
        decides: "By looking.",
        silent: "At night.",
        todo: "Put it back.",
    };

    #[test]
    fn a_manual_has_every_section_and_every_setting() {
        let text = manual(&MANUAL, 80);
        for wanted in [
            "fake_check (GW_999), warning\n",
            "\nWhat it detects\n  A thing that is not there.\n",
            "\nWhen it stays silent\n  At night.\n",
            "\nSettings, in [checks.fake_check]\n",
            "  absent_for = \"2s 500ms\"\n      how long it may be away (1s to 1m)\n",
            "  severity = \"warning\"\n",
        ] {
            assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
        }
        assert!(manual(&MANUAL, 40).lines().all(|l| l.chars().count() <= 40));
    }

    #[test]
    fn an_unknown_name_is_a_usage_error() {
        let e = unknown("nonsense");
        assert_eq!((e.exit, e.error.to_string().as_str()), (2, "there is no check `nonsense`"));
    }
}
