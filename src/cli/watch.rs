//! `gatewatch watch`: findings as they are published, for people.

use std::fmt::Write as _;
use std::io;

use clap::ValueEnum;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::connection::ConnectionArgs;
use super::{EXIT_CANNOT_SEE, EXIT_USAGE, Failure, load, output};
use crate::checks::{REGISTRY, find};
use crate::config::{Flags, nearest, redact};
use crate::connect::{LinkEvent, Operation, connect};
use crate::model::Time;

/// One text of an event is not printed beyond this; `--json` has it whole.
const TEXT_MAX_CHARS: usize = 1000;
/// How many steps of advice are printed.
const STEPS_MAX: usize = 3;
/// How many lines one step may have.
const LINES_MAX: usize = 40;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only findings of this severity; several with commas
    #[arg(long, value_enum, value_delimiter = ',')]
    severity: Vec<Severity>,
    /// Only findings of this check, a slug or a code; several with commas
    #[arg(long, value_delimiter = ',')]
    check: Vec<String>,
    /// Only findings of this cluster; several with commas
    #[arg(long, value_delimiter = ',')]
    cluster: Vec<String>,
    /// Each event as it came, one line each
    #[arg(long)]
    json: bool,
    /// The first token of the subjects [default: gatewatch, or `publish.prefix`]
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Severity {
    Info,
    Warning,
    Critical,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let checks = args.check.iter().map(|name| slug(name)).collect::<Result<Vec<_>, _>>()?;
    let config = load(&Flags { prefix: args.prefix, ..args.connection.into_flags() })?;
    let subjects = subjects(&config.prefix, &args.severity, &checks, &args.cluster);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let colour = output::colour(&io::stdout());
    let follow = async {
        let (client, mut events) = connect(&config.connect, "watch").await?;
        let mut subscriptions = Vec::new();
        for subject in &subjects {
            let subscription =
                client.subscribe(subject.clone()).await.map_err(|e| Failure::new(1, e, None))?;
            subscriptions.push(subscription);
        }
        let mut messages = stream::select_all(subscriptions);
        tracing::info!("following {}", subjects.join(", "));
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => show(&message.subject, &message.payload, args.json, colour, &args.cluster)?,
                    None => return Ok(()),
                },
                event = events.recv() => match event {
                    Some(LinkEvent::Denied(denied)) if denied.operation == Operation::Subscribe => {
                        return Err(denied_failure(&denied.subject));
                    }
                    Some(_) => {}
                    None => return Ok(()),
                },
            }
        }
    };
    tokio::select! {
        done = follow => done,
        () = stop => Ok(()),
    }
}

fn denied_failure(subject: &str) -> Failure {
    Failure::new(
        EXIT_CANNOT_SEE,
        format!("the user has no permission to subscribe to `{}`", redact::control(subject)),
        Some(
            "`gatewatch permissions --export ACCOUNT` prints what makes findings visible in an account"
                .to_owned(),
        ),
    )
}

/// The slug of a check; one that this version does not know is taken as it is, since the agent may be newer.
fn slug(name: &str) -> Result<String, Failure> {
    if let Some(check) = find(name) {
        return Ok(check.manual().slug.to_owned());
    }
    if !is_token(name) {
        let message = format!("`{}` cannot be the name of a check", redact::control(name));
        return Err(Failure::new(EXIT_USAGE, message, None));
    }
    let hint = nearest(name, REGISTRY.iter().map(|c| c.manual().slug))
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default();
    tracing::warn!("this version has no check `{name}`{hint}");
    Ok(name.to_owned())
}

fn is_token(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// What to subscribe to. A cluster whose name is no token (the subject then carries it changed) is sorted out
/// by the body.
fn subjects(prefix: &str, severities: &[Severity], checks: &[String], clusters: &[String]) -> Vec<String> {
    let any = || vec!["*".to_owned()];
    let severities = match severities {
        [] => any(),
        list => list.iter().map(|s| format!("{s:?}").to_ascii_lowercase()).collect(),
    };
    let checks = if checks.is_empty() { any() } else { checks.to_vec() };
    let by_subject = !clusters.is_empty() && clusters.iter().all(|c| is_token(c));
    let clusters = if by_subject { clusters.to_vec() } else { any() };
    let mut out: Vec<String> = severities
        .iter()
        .flat_map(|s| checks.iter().map(move |c| (s, c)))
        .flat_map(|(s, c)| clusters.iter().map(move |n| format!("{prefix}.finding.{s}.{c}.{n}.>")))
        .collect();
    // The same word given twice would print everything twice.
    out.sort();
    out.dedup();
    out
}

/// Prints one event; one that is none is said on standard error and skipped.
fn show(subject: &str, payload: &[u8], json: bool, colour: bool, clusters: &[String]) -> Result<(), Failure> {
    let event = match serde_json::from_slice::<Value>(payload) {
        Ok(event) if event.is_object() => event,
        _ => {
            tracing::warn!("skipped a message on `{}` that is no event", redact::control(subject));
            return Ok(());
        }
    };
    let cluster = event.pointer("/entity/cluster").and_then(Value::as_str);
    if !clusters.is_empty() && !clusters.iter().any(|c| Some(c.as_str()) == cluster) {
        return Ok(());
    }
    if json {
        let mut line = payload.trim_ascii_end().to_vec();
        if line.iter().any(|b| matches!(b, b'\n' | b'\r')) {
            // One line each is the promise; this sender did not keep it.
            line = event.to_string().into_bytes();
        }
        line.push(b'\n');
        return Ok(output::bytes(&line)?);
    }
    if let Some(text) = readable(&event, colour) {
        return Ok(output::print(&text)?);
    }
    tracing::warn!("skipped an event on `{}` without action or summary", redact::control(subject));
    Ok(())
}

/// An event in a few lines: what happened, then its cause and what to do. Of a resolved one only the
/// first line.
pub(super) fn readable(event: &Value, colour: bool) -> Option<String> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(clean);
    let (action, summary) = (text("/action")?, text("/summary")?);
    let severity = text("/severity").unwrap_or_default();
    let code = text("/code").or_else(|| text("/check")).unwrap_or_default();
    let at = text("/timestamp").unwrap_or_default();
    let at = Time::parse(&at).map_or(at, |t| {
        let whole = t.to_string();
        format!("{}Z", whole.split('.').next().unwrap_or(&whole).replace('T', " "))
    });
    let resolved = action == "resolved";
    let paint =
        |code: &str, text: String| if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text };
    let severity_colour = match severity.as_str() {
        "critical" => "1;31",
        "warning" => "33",
        _ => "36",
    };
    let mut out = format!(
        "{at} {} {} {code} {summary}",
        paint(if resolved { "32" } else { "1" }, format!("{action:<8}")),
        paint(severity_colour, format!("{severity:<8}")),
    );
    if resolved {
        let reason = text("/reason").map(|r| format!(" ({r})")).unwrap_or_default();
        return Some(out + &reason + "\n");
    }
    if let Some(kind) = text("/cause/kind") {
        let confidence = text("/cause/confidence").map(|c| format!(", {c}")).unwrap_or_default();
        let _ = write!(out, " [{kind}{confidence}]");
    }
    out.push('\n');
    if let Some(detail) = text("/cause/detail").filter(|t| !t.is_empty()) {
        let _ = writeln!(out, "    cause: {detail}");
    }
    let steps = event.pointer("/remediation").and_then(Value::as_array);
    for step in steps.into_iter().flatten().take(STEPS_MAX) {
        for (label, key) in [("do", "do"), ("run", "run")] {
            let Some(told) = step.get(key).and_then(Value::as_str) else { continue };
            // A block of configuration keeps its lines.
            for (n, line) in told.lines().take(LINES_MAX).enumerate() {
                let head = if n == 0 { format!("{label}: ") } else { "      ".to_owned() };
                let _ = writeln!(out, "    {head}{}", clean(line));
            }
        }
    }
    Some(out)
}

/// `text` on one line, bounded, and without anything that a terminal would obey.
fn clean(text: &str) -> String {
    let cut = text.char_indices().nth(TEXT_MAX_CHARS).map_or(text.len(), |(i, _)| i);
    let rest = if cut < text.len() { "…" } else { "" };
    redact::control(text.get(..cut).unwrap_or_default()).into_owned() + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_a_few_lines() {
        let event = json!({
            "timestamp": "2026-11-20T19:36:22.123456789Z", "action": "opened", "severity": "critical",
            "code": "CLUSTER_007", "summary": "eu-1 (eu) has no gateway to us",
            "cause": {"kind": "auth_rejected", "confidence": "certain", "detail": "us-0 refused it"},
            "remediation": [{"do": "set the password", "run": "nats server report"}],
        });
        assert_eq!(
            readable(&event, false).unwrap(),
            "2026-11-20 19:36:22Z opened   critical CLUSTER_007 eu-1 (eu) has no gateway to us [auth_rejected, certain]\n    \
             cause: us-0 refused it\n    do: set the password\n    run: nats server report\n"
        );
        assert!(readable(&event, true).unwrap().contains("\u{1b}[1;31mcritical\u{1b}[0m"));
    }

    #[test]
    fn a_resolved_event_is_one_line_with_its_reason() {
        let event = json!({"action": "resolved", "summary": "s", "severity": "info", "check": "c",
            "reason": "recovered", "timestamp": "yesterday", "cause": {"kind": "unknown"}});
        assert_eq!(readable(&event, false).unwrap(), "yesterday resolved info     c s (recovered)\n");
    }

    #[test]
    fn what_a_server_named_itself_never_steers_the_terminal() {
        let event =
            json!({"action": "opened", "summary": "a\u{1b}]0;x\u{7}b\nc", "severity": "info\u{1b}[2J"});
        let text = readable(&event, false).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
        assert!(clean(&"x".repeat(5000)).chars().count() <= TEXT_MAX_CHARS + 1);
    }

    #[test]
    fn an_event_of_wrong_types_is_none() {
        for event in [json!({}), json!({"action": 5, "summary": "s"}), json!({"action": "opened"})] {
            assert_eq!(readable(&event, false), None, "{event}");
        }
    }

    #[test]
    fn filters_are_subjects() {
        let s = |v: &[&str]| v.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(subjects("p", &[], &[], &[]), ["p.finding.*.*.*.>"]);
        assert_eq!(
            subjects("p", &[Severity::Critical, Severity::Info, Severity::Info], &s(&["c"]), &s(&["eu"])),
            ["p.finding.critical.c.eu.>", "p.finding.info.c.eu.>"]
        );
        assert_eq!(subjects("p", &[], &[], &s(&["eu west"])), ["p.finding.*.*.*.>"]);
    }
}
