//! `gatewatch watch`: findings as they are published, for people.

#[cfg(test)]
mod situations;

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use async_nats::Message;
use clap::ValueEnum;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::answer::called;
use super::connection::ConnectionArgs;
use super::{EXIT_CANNOT_SEE, EXIT_USAGE, Failure, generate, load, output};
use crate::checks::{REGISTRY, find};
use crate::config::{Flags, nearest, redact};
use crate::connect::{LinkEvent, Operation, connect};
use crate::model::Time;
use crate::publish::sign::Verifier;

/// One text of an event is not printed beyond this; `--json` has it whole.
const TEXT_MAX_CHARS: usize = 1000;
/// How many steps of advice are printed; `--json` has them all.
const STEPS_MAX: usize = 3;
/// Where what belongs to an event begins.
const INDENT: usize = 4;
/// How wide the column of `cause`, `do` and so on is.
const LABEL: usize = 8;
/// An agent that leads is heard every few seconds, also of a large supercluster.
const SILENCE: Duration = Duration::from_secs(10);
/// How many servers are named that do not answer.
const NAMES_MAX: usize = 5;
/// How many lines one step may have.
const LINES_MAX: usize = 40;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only findings of this severity; several with commas
    #[arg(long, value_enum, value_delimiter = ',')]
    severity: Vec<Severity>,
    /// Only findings of this check, a slug or a code; several with commas
    #[arg(long, value_delimiter = ',', value_parser = generate::CheckName, hide_possible_values = true)]
    check: Vec<String>,
    /// Only findings of this cluster; several with commas
    #[arg(long, value_delimiter = ',')]
    cluster: Vec<String>,
    /// Each event as it came, one line each
    #[arg(long)]
    json: bool,
    /// Only events that one of these public nkeys signed (`publish.sign`); several with commas. Others are refused,
    /// with the reason on standard error
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    verify: Vec<String>,
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
    let verifier = verifier(&args.verify)?;
    let config = load(&Flags { prefix: args.prefix, ..args.connection.into_flags() })?;
    let subjects = subjects(&config.prefix, &args.severity, &checks, &args.cluster);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let heartbeat = format!("{}.epoch.*", config.prefix);
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
        // No finding may mean that all is well, that nobody watches, or that the prefix is a wrong one.
        let mut heartbeats =
            client.subscribe(heartbeat.clone()).await.map_err(|e| Failure::new(1, e, None))?;
        let silence = tokio::time::sleep(SILENCE);
        tokio::pin!(silence);
        // Whether it is known that one watches, and whether it said what is open already.
        let (mut told, mut introduced) = (false, false);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) if proven(&verifier, &message) => {
                        show(&message.subject, &message.payload, args.json, colour, &args.cluster)?;
                    }
                    Some(_) => {}
                    None => return Ok(()),
                },
                // One of the agent that leads is enough.
                Some(message) = heartbeats.next(), if !introduced => {
                    told = true;
                    let trusted = proven(&verifier, &message);
                    let standing = standing(&message.payload).filter(|_| trusted);
                    introduced = standing.is_some() || !trusted;
                    if let Some(standing) = standing {
                        tracing::info!("{standing}");
                    }
                    if introduced {
                        heartbeats.unsubscribe().await.map_err(|e| Failure::new(1, e, None))?;
                    }
                }
                () = &mut silence, if !told => {
                    told = true;
                    tracing::warn!(
                        "no agent was heard on `{heartbeat}` for {} s: none runs, --prefix is not the agent's, or its \
                         `epoch` is not exported to this account",
                        SILENCE.as_secs()
                    );
                }
                event = events.recv() => match event {
                    // Who may not hear that cannot tell, and follows all the same.
                    Some(LinkEvent::Denied(denied)) if denied.subject == heartbeat => told = true,
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

fn verifier(keys: &[String]) -> Result<Verifier, Failure> {
    let mut verifier = Verifier::default();
    for key in keys {
        // What was given is not repeated: it may be a seed.
        verifier.trust(key).map_err(|why| Failure::new(EXIT_USAGE, format!("--verify: {why}"), None))?;
    }
    Ok(verifier)
}

/// Whether `message` is signed as was asked for; where it is not, that is said on standard error.
fn proven(verifier: &Verifier, message: &Message) -> bool {
    if verifier.is_empty() {
        return true;
    }
    let header = |name: &str| message.headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str);
    match verifier.verify(&message.subject, header, &message.payload) {
        Ok(()) => true,
        Err(why) => {
            tracing::warn!("refused an event on `{}`: {why}", redact::control(&message.subject));
            false
        }
    }
}

pub(super) fn denied_failure(subject: &str) -> Failure {
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
        return Ok(output::print(&line_of(payload).unwrap_or_default())?);
    }
    // A pipe carries whole lines; only a terminal has a width.
    let width = io::stdout().is_terminal().then(output::width);
    if let Some(text) = readable(&event, colour, width) {
        return Ok(output::print(&text)?);
    }
    tracing::warn!("skipped an event on `{}` without action or summary", redact::control(subject));
    Ok(())
}

/// An event as it came, but for what steers a terminal; none where it is none.
pub(super) fn line_of(payload: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(payload).ok()?.trim_ascii_end();
    let event: Value = serde_json::from_str(text).ok().filter(Value::is_object)?;
    // One line each is the promise; where this sender did not keep it we do.
    let whole = if text.contains(['\n', '\r']) { &event.to_string() } else { text };
    Some(format!("{}\n", output::harmless(whole)))
}

/// What the heartbeat of an agent that leads says of how things stand: what opened before is not told again soon, and
/// who sees all and is silent must not look like one who sees little.
pub(super) fn standing(payload: &[u8]) -> Option<String> {
    let epoch: Value = serde_json::from_slice(payload).ok()?;
    let number = |pointer: &str| epoch.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let text = |pointer: &str| epoch.pointer(pointer).and_then(Value::as_str).map(clean);
    // In its first seconds an agent does not know yet.
    let says = |key: &str| epoch.get(key).and_then(Value::as_bool) == Some(true);
    let agent = text("/agent").filter(|_| says("leader") && says("settled"))?;
    let missing = epoch.pointer("/servers/missing").and_then(Value::as_array).into_iter().flatten();
    let mut missing: Vec<String> =
        missing.filter_map(Value::as_str).map(|name| called(&clean(name))).collect();
    // Who is known by an ID only says little.
    missing.sort_by_key(|name| name.ends_with('…'));
    let more = if missing.len() > NAMES_MAX { " and others" } else { "" };
    missing.truncate(NAMES_MAX);
    let silent =
        if missing.is_empty() { String::new() } else { format!(" (not {}{more})", missing.join(", ")) };
    let open: Vec<String> = ["critical", "warning", "info"]
        .into_iter()
        .map(|severity| (number(&format!("/open/{severity}")), severity))
        .filter(|(n, _)| *n > 0)
        .map(|(n, severity)| format!("{n} {severity}"))
        .collect();
    let open = match open.as_slice() {
        [] => "no finding is open".to_owned(),
        some => format!("open already: {}; `gatewatch top` shows what", some.join(", ")),
    };
    Some(format!(
        "{agent} watches: {} of {} servers answer{silent}, {} of {} links are up, {open}",
        number("/servers/answered"),
        number("/servers/expected"),
        number("/links/connected"),
        number("/links/expected"),
    ))
}

/// An event in a few lines: what happened, then what it does, its cause and what to do. Of a resolved one only
/// the first line. Prose is broken at `width`, where there is one; the lines of a configuration block never are.
pub(super) fn readable(event: &Value, colour: bool, width: Option<usize>) -> Option<String> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(clean);
    let time = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).and_then(Time::parse);
    let (action, summary) = (text("/action")?, text("/summary")?);
    let severity = text("/severity").unwrap_or_default();
    let code = text("/code").or_else(|| text("/check")).unwrap_or_default();
    let at = time("/timestamp").map_or_else(|| text("/timestamp").unwrap_or_default(), Time::to_the_second);
    let resolved = action == "resolved";
    let lasted = time("/opened_at")
        .zip(if resolved { time("/resolved_at") } else { time("/timestamp") })
        .map(|(from, to)| to.since(from));
    let note = match (action.as_str(), lasted) {
        ("resolved", lasted) => {
            let reason = text("/reason").into_iter();
            let after = lasted.map(|d| format!("after {}", spoken(d)));
            Some(reason.chain(after).collect::<Vec<_>>().join(" ")).filter(|note| !note.is_empty())
        }
        ("updated" | "reminded", Some(d)) => Some(format!("open for {}", spoken(d))),
        _ => None,
    };
    let note = note.map(|note| format!(" ({note})")).unwrap_or_default();
    let head = [at, format!("{action:<8}"), format!("{severity:<8}"), code];
    let used = head.iter().map(|part| part.chars().count() + 1).sum();
    let [at, action, severity, code] = head;
    let paint = |code: &str, text: String| paint(colour, code, text);
    let painted = if resolved { severity } else { paint(severity_colour(&severity), severity) };
    let out = format!(
        "{} {} {} {code} {}\n",
        paint("2", at),
        paint(if resolved { "32" } else { "1" }, action),
        painted,
        flow(&format!("{summary}{note}"), used, INDENT, width),
    );
    Some(if resolved { out } else { out + &details(event, colour, width) })
}

/// A finding as it stands, in a few lines: what and where, then as [`readable`].
pub(super) fn found(event: &Value, colour: bool, width: Option<usize>) -> String {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(clean).unwrap_or_default();
    let (severity, code) = (format!("{:<8}", text("/severity")), text("/code"));
    let used = severity.chars().count() + code.chars().count() + 2;
    let summary = flow(&text("/summary"), used, INDENT, width);
    let severity = paint(colour, severity_colour(&severity), severity);
    format!("{severity} {code} {summary}\n{}", details(event, colour, width))
}

fn paint(colour: bool, code: &str, text: String) -> String {
    if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text }
}

fn severity_colour(severity: &str) -> &'static str {
    match severity.trim_end() {
        "critical" => "1;31",
        "warning" => "33",
        _ => "36",
    }
}

/// What an event's finding does, its cause and what to do.
fn details(event: &Value, colour: bool, width: Option<usize>) -> String {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(clean);
    let mut out = String::new();
    let mut line = |label: &str, told: &str, whole: bool| {
        let width = width.filter(|_| !whole);
        let told = flow(told, INDENT + LABEL, INDENT + LABEL, width);
        let label = paint(colour, "2", format!("{label:<LABEL$}"));
        // Writing to a String does not fail.
        let _ = writeln!(out, "{:INDENT$}{label}{told}", "");
    };
    if let Some(impact) = text("/impact").filter(|t| !t.is_empty()) {
        line("impact", &impact, false);
    }
    if let Some(cause) = cause(text("/cause/kind"), text("/cause/confidence"), text("/cause/detail")) {
        line("cause", &cause, false);
    }
    let explained = event.pointer("/inhibits").and_then(Value::as_array).map_or(0, Vec::len);
    if explained > 0 {
        let noun = if explained == 1 { "finding" } else { "findings" };
        line("covers", &format!("{explained} more {noun}, explained by this one and not published"), false);
    }
    let steps = event.pointer("/remediation").and_then(Value::as_array);
    let (mut last, mut shown) = (None, 0);
    for step in steps.into_iter().flatten() {
        let (told, run) = (step.get("do").and_then(Value::as_str), step.get("run").and_then(Value::as_str));
        // Several commands for one purpose are one step.
        if told != last || shown == 0 {
            shown += 1;
            if shown > STEPS_MAX {
                break;
            }
            let mut lines = told.unwrap_or_default().lines().take(LINES_MAX);
            line("do", &clean(lines.next().unwrap_or_default()), false);
            // A block of configuration keeps its lines.
            lines.for_each(|block| line("", &clean(block), true));
            last = told;
        }
        for (n, command) in run.into_iter().flat_map(str::lines).take(LINES_MAX).enumerate() {
            line(if n == 0 { "run" } else { "" }, &clean(command), true);
        }
    }
    out
}

/// Why, in a sentence. Where no kind of cause fits, that is no news; what was seen is.
pub(super) fn cause(
    kind: Option<String>,
    confidence: Option<String>,
    detail: Option<String>,
) -> Option<String> {
    let kind = kind.filter(|kind| kind != "unknown");
    let confidence = confidence.map(|c| format!(" ({c})")).unwrap_or_default();
    let kind = kind.map(|kind| kind + &confidence);
    let parts: Vec<String> = kind.into_iter().chain(detail.filter(|t| !t.is_empty())).collect();
    (!parts.is_empty()).then(|| parts.join(": "))
}

/// `text` with a line break, and `indent` blanks, before each word that would pass `width`. The first line
/// begins in column `used`.
pub(super) fn flow(text: &str, used: usize, indent: usize, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let (mut out, mut column, mut fresh) = (String::new(), used, true);
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let chars = word.chars().count();
        if column + usize::from(!fresh) + chars > width && column > indent {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            (column, fresh) = (indent, true);
        }
        if !fresh {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += chars;
        fresh = false;
    }
    out
}

/// A duration as one says it: `3.2 s`, `2 min 3 s`, `5 h 7 min`, `3 d 4 h`.
pub(super) fn spoken(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..10 => format!("{:.1} s", d.as_secs_f64()),
        10..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
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
            "code": "CLUSTER_007", "summary": "eu-1 (eu) has no gateway to us", "impact": "messages are lost",
            "cause": {"kind": "auth_rejected", "confidence": "certain", "detail": "us-0 refused it"},
            "remediation": [{"do": "set the password", "run": "nats server report"}], "inhibits": ["a", "b"],
        });
        assert_eq!(
            readable(&event, false, None).unwrap(),
            "2026-11-20 19:36:22Z opened   critical CLUSTER_007 eu-1 (eu) has no gateway to us\n    \
             impact  messages are lost\n    cause   auth_rejected (certain): us-0 refused it\n    \
             covers  2 more findings, explained by this one and not published\n    \
             do      set the password\n    run     nats server report\n"
        );
        assert!(readable(&event, true, None).unwrap().contains("\u{1b}[1;31mcritical\u{1b}[0m"));
    }

    #[test]
    fn a_terminal_gets_prose_in_its_width_and_a_block_as_it_is() {
        let event = json!({
            "timestamp": "2026-11-20T19:36:22Z", "action": "opened", "severity": "info", "code": "C",
            "summary": "one two three four", "remediation": [{"do": "use this instead of what is there:\na {\n  \
            long: \"0123456789 0123456789\"\n}"}],
        });
        assert_eq!(
            readable(&event, false, Some(50)).unwrap(),
            "2026-11-20 19:36:22Z opened   info     C one two\n    three four\n    \
             do      use this instead of what is there:\n            a {\n              \
             long: \"0123456789 0123456789\"\n            }\n"
        );
        assert_eq!(flow("averyveryverylongword x", 4, 4, Some(10)), "averyveryverylongword\n    x");
    }

    #[test]
    fn commands_for_one_purpose_are_one_step() {
        let ping = |n: u8| json!({"do": "on the host of eu-1", "run": format!("nc -vz us-{n} 7222")});
        let event = json!({"timestamp": "t", "action": "opened", "severity": "info", "code": "C", "summary": "s",
            "remediation": [{"do": "test the way"}, ping(0), ping(1), {"do": "ask"}, {"do": "a fourth step"}]});
        assert_eq!(
            readable(&event, false, None).unwrap(),
            "t opened   info     C s\n    do      test the way\n    do      on the host of eu-1\n    \
             run     nc -vz us-0 7222\n    run     nc -vz us-1 7222\n    do      ask\n"
        );
    }

    #[test]
    fn a_resolved_event_is_one_line_with_its_reason_and_how_long_it_lasted() {
        let mut event = json!({"action": "resolved", "summary": "s", "severity": "info", "check": "c",
            "reason": "recovered", "timestamp": "yesterday", "cause": {"kind": "unknown"}});
        assert_eq!(readable(&event, false, None).unwrap(), "yesterday resolved info     c s (recovered)\n");
        event["opened_at"] = json!("2026-11-20T19:36:22Z");
        event["resolved_at"] = json!("2026-11-20T19:38:25Z");
        let text = readable(&event, false, None).unwrap();
        assert_eq!(text, "yesterday resolved info     c s (recovered after 2 min 3 s)\n");
    }

    #[test]
    fn a_reminder_says_for_how_long() {
        let event = json!({"action": "reminded", "summary": "s", "severity": "info", "code": "C",
            "timestamp": "2026-11-20T20:36:22Z", "opened_at": "2026-11-20T19:36:22Z"});
        let text = readable(&event, false, None).unwrap();
        assert_eq!(text, "2026-11-20 20:36:22Z reminded info     C s (open for 1 h 0 min)\n");
        for (s, said) in
            [(0, "0.0 s"), (9, "9.0 s"), (59, "59 s"), (86_399, "23 h 59 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(spoken(Duration::from_secs(s)), said);
        }
    }

    #[test]
    fn what_a_server_named_itself_never_steers_the_terminal() {
        let event =
            json!({"action": "opened", "summary": "a\u{1b}]0;x\u{7}b\nc", "severity": "info\u{1b}[2J"});
        let text = readable(&event, false, None).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
        assert!(clean(&"x".repeat(5000)).chars().count() <= TEXT_MAX_CHARS + 1);
    }

    #[test]
    fn an_event_of_wrong_types_is_none() {
        for event in [json!({}), json!({"action": 5, "summary": "s"}), json!({"action": "opened"})] {
            assert_eq!(readable(&event, false, None), None, "{event}");
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
