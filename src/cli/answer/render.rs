//! The answer in the formats that people and programs want.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::{Answer, OWN_SIGHT, Share, Status, shown};
use crate::api::metrics::Text;
use crate::checks::{CauseKind, Severity};
use crate::cli::output;
use crate::cli::watch::{flow, found};
use crate::config::redact;
use crate::findings::Finding;

/// What it is called where a name is wanted.
const SUITE: &str = "gatewatch";
const NAME: &str = "supercluster";
/// How many findings stand in one line of text.
const LINE_FINDINGS_MAX: usize = 5;
/// The longest line that goes to a monitoring system, in characters; some cut it.
const LINE_CHARS_MAX: usize = 2000;
/// How many findings become a series each.
const SERIES_MAX: usize = 200;
/// Where the second line of a sentence begins.
const INDENT: usize = 2;

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// For people
    #[default]
    Text,
    /// One object, with the keys of `nats server check` and every finding whole
    Json,
    /// One line and numbers, as monitoring plugins print it
    Nagios,
    /// Metrics for a scrape or a textfile collector
    Prometheus,
    /// A test for each check, for pipelines
    Junit,
}

/// How text may look.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cli) struct Look {
    pub(in crate::cli) colour: bool,
    /// None where it has none, such as in a pipe.
    pub(in crate::cli) width: Option<usize>,
}

impl Look {
    /// What standard output can show.
    pub(in crate::cli) fn of_stdout() -> Self {
        let out = io::stdout();
        Self { colour: output::colour(&out), width: out.is_terminal().then(output::width) }
    }
}

impl Share {
    fn words(self, what: &str) -> String {
        format!("{} of {} {what}", self.there, self.expected)
    }
}

impl Answer {
    pub(in crate::cli) fn render(&self, format: Format, look: Look) -> String {
        match format {
            Format::Text => self.text(look),
            Format::Json => format!("{}\n", output::harmless(&format!("{:#}", self.json()))),
            Format::Nagios => self.nagios(),
            Format::Prometheus => self.prometheus(),
            Format::Junit => self.junit(),
        }
    }

    /// Each finding as the agent publishes it, a line each.
    pub(in crate::cli) fn lines(&self) -> String {
        self.findings.iter().map(|f| output::harmless(&self.event(f)).into_owned() + "\n").collect()
    }

    /// Is it whole, and if not, where and why.
    fn headline(&self) -> String {
        let counts = self.from.is_some().then(|| self.counts());
        let unseen = self.unseen.first();
        let mut said = match (self.status, self.worst()) {
            (Status::Ok, None) => "the supercluster is whole".to_owned(),
            (_, Some(worst)) if self.status == Status::Ok || self.is_whole() => {
                let but = if self.status == Status::Ok { ";" } else { ", but" };
                format!("the supercluster is whole{but} {}", self.essence(worst))
            }
            (Status::Unknown, _) => {
                let why = unseen.map_or_else(
                    || self.findings.first().map(|f| shown(&f.summary)).unwrap_or_default(),
                    Clone::clone,
                );
                format!("cannot tell whether the supercluster is whole: {why}")
            }
            (_, Some(worst)) => format!("the supercluster is not whole: {}", self.essence(worst)),
            (_, None) => String::new(),
        };
        if let Some(why) = unseen.filter(|_| self.status != Status::Unknown) {
            let _ = write!(said, "; and {why}");
        }
        counts.into_iter().fold(said, |said, counts| format!("{said} - {counts}"))
    }

    /// Whether all that is expected is there, and nothing is lost.
    fn is_whole(&self) -> bool {
        let shares = [self.clusters, self.servers, self.links];
        self.status == Status::Warning
            && self.unseen.is_empty()
            && shares.iter().all(|s| s.there >= s.expected)
    }

    /// What somebody who has one line wants to know of what was found.
    fn essence(&self, worst: &Finding) -> String {
        let mut said = shown(&worst.summary);
        if worst.cause.kind != CauseKind::Unknown {
            let _ = write!(said, " ({})", worst.cause.kind.as_str());
        }
        match self.findings.len() {
            0 | 1 => said,
            n => format!("{said}, and {} more", n - 1),
        }
    }

    fn worst(&self) -> Option<&Finding> {
        self.findings.iter().find(|f| &*f.check != OWN_SIGHT)
    }

    fn counts(&self) -> String {
        let shares =
            [self.clusters.words("clusters"), self.servers.words("servers"), self.links.words("links")];
        shares.join(", ")
    }

    fn text(&self, look: Look) -> String {
        let colour = match self.status {
            Status::Ok => "1;32",
            Status::Warning => "1;33",
            Status::Critical => "1;31",
            Status::Unknown => "1;35",
        };
        let word = self.status.as_str();
        let painted = if look.colour { format!("\u{1b}[{colour}m{word}\u{1b}[0m") } else { word.to_owned() };
        let mut out = format!("{painted}: {}\n", flow(&self.headline(), word.len() + 2, INDENT, look.width));
        for finding in &self.findings {
            if let Ok(event) = serde_json::from_str::<Value>(&self.event(finding)) {
                out += "\n";
                out += &found(&event, look.colour, look.width);
                let code = event.pointer("/code").and_then(Value::as_str).unwrap_or_default();
                let _ = writeln!(out, "    more    gatewatch explain {code}");
            }
        }
        // The first of them stands in the first line.
        let rest = usize::from(self.status == Status::Unknown || self.unseen.len() == 1);
        let notes = self.unseen.iter().skip(rest).map(|why| format!("not seen: {why}"));
        let help = self.help.iter().map(|help| format!("help: {help}"));
        let notes: Vec<String> = notes.chain(help).collect();
        if !notes.is_empty() {
            out += "\n";
        }
        for note in notes {
            let _ = writeln!(out, "{}", flow(&note, 0, INDENT, look.width));
        }
        if let Some((server, cluster)) = &self.from {
            let cluster = cluster.as_deref().unwrap_or("no cluster");
            let at = self.at.map(crate::model::Time::to_the_second).unwrap_or_default();
            let _ = writeln!(out, "\nseen from {server} ({cluster}) at {at}");
        }
        out
    }

    /// The findings of one severity, each in one line, and what was not seen where that is what it is about.
    fn sorted(&self) -> [Vec<String>; 4] {
        let told = |severity| {
            let of = self.findings.iter().filter(move |f| f.severity == severity);
            of.map(|f| shown_line(&f.summary)).collect::<Vec<_>>()
        };
        let unseen = self.unseen.iter().map(|why| shown_line(why)).collect();
        [told(Severity::Critical), told(Severity::Warning), told(Severity::Info), unseen]
    }

    fn numbers(&self) -> Vec<(&'static str, usize, Option<usize>, &'static str)> {
        let count = |severity| self.findings.iter().filter(|f| f.severity == severity).count();
        let mut out = vec![
            ("critical", count(Severity::Critical), None, "Critical findings."),
            ("warning", count(Severity::Warning), None, "Warnings."),
            ("info", count(Severity::Info), None, "Findings that are no trouble."),
        ];
        if self.from.is_some() {
            let of = |share: Share| (share.there, Some(share.expected));
            for (name, (there, expected), help) in [
                ("clusters", of(self.clusters), "Clusters of which some server answered."),
                ("servers", of(self.servers), "Servers that answered."),
                ("links", of(self.links), "Gateways that are connected, one for each server and remote."),
            ] {
                out.push((name, there, expected, help));
            }
        }
        out
    }

    fn json(&self) -> Value {
        let [critical, warning, info, unseen] = self.sorted();
        let mut out = Map::new();
        out.insert("status".into(), json!(self.status.as_str()));
        out.insert("check_suite".into(), json!(SUITE));
        out.insert("check_name".into(), json!(NAME));
        out.insert("output".into(), json!(self.headline()));
        for (key, list) in
            [("critical", &critical), ("warning", &warning), ("info", &info), ("unknown", &unseen)]
        {
            if !list.is_empty() {
                out.insert(key.into(), json!(list));
            }
        }
        if self.status == Status::Ok {
            out.insert("ok".into(), json!([self.counts()]));
        }
        out.insert("exit".into(), json!(self.status.exit()));
        if let Some(help) = &self.help {
            out.insert("help".into(), json!(help));
        }
        if self.from.is_some() {
            let share = |s: Share, there: &str| json!({ "expected": s.expected, there: s.there });
            out.insert("at".into(), json!(self.at));
            out.insert("vantage".into(), json!(self.sight));
            out.insert("clusters".into(), share(self.clusters, "answered"));
            out.insert("servers".into(), share(self.servers, "answered"));
            out.insert("links".into(), share(self.links, "connected"));
        }
        let data: Vec<Value> = self
            .numbers()
            .into_iter()
            .map(|(name, value, _, help)| json!({ "name": name, "value": value, "help": help }))
            .collect();
        out.insert("perf_data".into(), json!(data));
        let events = self.findings.iter().filter_map(|f| serde_json::from_str::<Value>(&self.event(f)).ok());
        out.insert("findings".into(), events.collect());
        Value::Object(out)
    }

    fn nagios(&self) -> String {
        let [critical, warning, info, unseen] = self.sorted();
        let mut words = vec![format!("{} {SUITE}", self.status.as_str())];
        for (label, list) in [("Crit", critical), ("Warn", warning), ("Info", info), ("Unknown", unseen)] {
            let over = list.len().saturating_sub(LINE_FINDINGS_MAX);
            words.extend(list.into_iter().take(LINE_FINDINGS_MAX).map(|told| format!("{label}:{told}")));
            if over > 0 {
                words.push(format!("{label}:and {over} more"));
            }
        }
        if self.status == Status::Ok {
            words.push(format!("OK:{}", self.counts()));
        }
        // What follows a bar is numbers.
        let text: String = words.join(" ").replace('|', "/").chars().take(LINE_CHARS_MAX).collect();
        let numbers: Vec<String> = self
            .numbers()
            .into_iter()
            .map(|(name, value, expected, _)| match expected {
                Some(expected) => format!("{name}={value};;;0;{expected}"),
                None => format!("{name}={value}"),
            })
            .collect();
        format!("{text} | {}\n", numbers.join(" "))
    }

    fn prometheus(&self) -> String {
        let mut out = Text::default();
        let name = "gatewatch_check_status_code";
        out.family(name, "gauge", "0 ok, 1 warning, 2 critical, 3 unknown.");
        out.sample(name, &[("item", NAME), ("status", self.status.as_str())], self.status.exit());
        for (name, value, expected, help) in self.numbers() {
            let Some(expected) = expected else { continue };
            out.gauge(&format!("gatewatch_check_{name}"), help, value);
            let help = "How many of them there ought to be.";
            out.gauge(&format!("gatewatch_check_{name}_expected"), help, expected);
        }
        // Each check is there, so that a finding is a step and not a new series; but what was not seen is not 0.
        let seen = self.checks.iter().filter(|_| self.unseen.is_empty());
        let mut counts: BTreeMap<&str, usize> = seen.map(|(slug, _)| (*slug, 0)).collect();
        for finding in &self.findings {
            *counts.entry(&finding.check).or_default() += 1;
        }
        if !counts.is_empty() {
            out.family("gatewatch_check_findings", "gauge", "What each check found.");
        }
        for (check, count) in counts {
            out.sample("gatewatch_check_findings", &[("check", check)], count);
        }
        if !self.findings.is_empty() {
            out.family("gatewatch_check_finding", "gauge", "1 for each finding.");
        }
        for finding in self.findings.iter().take(SERIES_MAX) {
            let name = |name: &Option<crate::model::Name>| name.as_deref().map(shown).unwrap_or_default();
            let entity = &finding.entity;
            let peer = entity.remote.clone().or(entity.account.clone()).or(entity.peer_server.clone());
            let (cluster, server, peer) = (name(&entity.cluster), name(&entity.server), name(&peer));
            let labels = [
                ("check", &*finding.check),
                ("severity", finding.severity.as_str()),
                ("cluster", &cluster),
                ("server", &server),
                ("peer", &peer),
                ("fingerprint", &finding.fingerprint),
            ];
            out.sample("gatewatch_check_finding", &labels, 1);
        }
        if let Some(at) = self.at {
            let help = "When this was seen; how old a file is shows by it.";
            out.gauge("gatewatch_check_timestamp_seconds", help, at.as_millis() / 1000);
        }
        out.into_text()
    }

    /// A test is skipped where the check found nothing and not all could be seen: then it did not pass.
    fn junit(&self) -> String {
        let blind = self.unseen.join("; ");
        let fails = |f: &&Finding| f.severity >= self.fail_on && &*f.check != OWN_SIGHT;
        let (mut cases, mut failures, mut skipped) = (String::new(), 0, 0);
        for (slug, code) in &self.checks {
            let found: Vec<&Finding> = self.findings.iter().filter(|f| &*f.check == *slug).collect();
            let mut inside = String::new();
            for f in found.iter().copied().filter(|f| fails(f)) {
                let text: String = found_text(self, f);
                let _ = writeln!(
                    inside,
                    "      <failure type=\"{}\" message=\"{}\">{}</failure>",
                    f.severity,
                    xml(&f.summary),
                    xml(&text)
                );
            }
            let remarks: String =
                found.iter().copied().filter(|f| !fails(f)).map(|f| found_text(self, f)).collect();
            failures += usize::from(!inside.is_empty());
            if inside.is_empty() && !blind.is_empty() {
                skipped += 1;
                let _ = writeln!(inside, "      <skipped message=\"{}\"/>", xml(&blind));
            }
            if !remarks.is_empty() {
                let _ = writeln!(inside, "      <system-out>{}</system-out>", xml(&remarks));
            }
            let head = format!("    <testcase classname=\"{SUITE}\" name=\"{slug} ({code})\" time=\"0\"");
            let _ = if inside.is_empty() {
                writeln!(cases, "{head}/>")
            } else {
                write!(cases, "{head}>\n{inside}    </testcase>\n")
            };
        }
        // Who reads nothing but this file must not take what was skipped for what passed.
        let error = if self.status == Status::Unknown {
            let why = xml(&self.headline());
            let help = xml(self.help.as_deref().unwrap_or_default());
            format!(
                "    <testcase classname=\"{SUITE}\" name=\"sight\" time=\"0\">\n      \
                     <error type=\"unknown\" message=\"{why}\">{help}</error>\n    </testcase>\n"
            )
        } else {
            format!("    <testcase classname=\"{SUITE}\" name=\"sight\" time=\"0\"/>\n")
        };
        let totals = format!(
            "tests=\"{}\" failures=\"{failures}\" errors=\"{}\" skipped=\"{skipped}\" time=\"0\"",
            self.checks.len() + 1,
            usize::from(self.status == Status::Unknown),
        );
        let at = self.at.map(|at| format!(" timestamp=\"{}\"", stamp(at))).unwrap_or_default();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"{SUITE}\" {totals}>\n  \
             <testsuite name=\"{NAME}\" {totals}{at}>\n{error}{cases}  </testsuite>\n</testsuites>\n"
        )
    }
}

/// A finding in a few lines, without colours.
fn found_text(answer: &Answer, finding: &Finding) -> String {
    let event = serde_json::from_str::<Value>(&answer.event(finding)).unwrap_or_default();
    found(&event, false, None)
}

fn shown_line(text: &str) -> String {
    shown(text).replace(['\n', '\r'], " ")
}

/// `2026-11-20T19:36:22`, in UTC.
fn stamp(at: crate::model::Time) -> String {
    at.to_the_second().trim_end_matches('Z').replace(' ', "T")
}

/// As XML wants text and the values of attributes; what no XML may hold becomes an escape that people read.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push('\n'),
            c if redact::hostile(c) || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}
