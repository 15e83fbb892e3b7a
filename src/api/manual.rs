//! A check's manual as text: what `gatewatch explain` prints and the API answers.

use std::fmt::Write as _;

use crate::checks::Manual;
use crate::config::show_value;

/// The manual as headed sections, in lines of at most `width` characters.
pub fn manual(m: &Manual, width: usize) -> String {
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

/// `text` in lines of at most `width` characters, each after `indent` blanks. Lines that are indented in
/// `text` (examples) and empty lines stay as they are.
pub fn wrap(text: &str, indent: usize, width: usize) -> String {
    let blanks = " ".repeat(indent);
    let mut out = String::new();
    let mut line = String::new();
    let flush = |line: &mut String, out: &mut String| {
        if !line.is_empty() {
            out.push_str(&blanks);
            out.push_str(line);
            out.push('\n');
            line.clear();
        }
    };
    for source in text.lines() {
        if source.trim().is_empty() || source.starts_with(' ') {
            flush(&mut line, &mut out);
            if !source.trim().is_empty() {
                out.push_str(&blanks);
                out.push_str(source.trim_end());
            }
            out.push('\n');
            continue;
        }
        for word in source.split_whitespace() {
            let long = indent + line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && long > width {
                flush(&mut line, &mut out);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    flush(&mut line, &mut out);
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
    fn prose_is_wrapped_and_examples_are_kept() {
        let text = "one two three\nfour\n\n  nats server report\nfive";
        assert_eq!(wrap(text, 2, 12), "  one two\n  three four\n\n    nats server report\n  five\n");
        assert_eq!(wrap("averyveryverylongword x", 0, 10), "averyveryverylongword\nx\n");
    }
}
