//! What the agent counts, as `OpenMetrics` text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::View;
use crate::checks::Severity;
use crate::findings::{Action, Change};
use crate::model::{LinkState, Name, Outbox};
use crate::publish::event::EpochCost;

/// How many checks are told apart: those of other versions may be among them.
const CHECKS_MAX: usize = 256;

/// What was counted since the start.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Epochs that are over.
    pub epochs: u64,
    /// Looks that are over.
    pub looks: u64,
    /// What they cost.
    pub cost: EpochCost,
    /// What waits to be published.
    pub outbox: Outbox,
    /// Whether this agent leads.
    pub leads: bool,
    /// Findings opened and resolved, by check.
    changes: BTreeMap<Name, [u64; 2]>,
}

impl Counters {
    /// Counts what was published of a finding.
    pub fn take(&mut self, change: &Change) {
        let which = match change.action {
            Action::Opened => 0,
            Action::Resolved => 1,
            Action::Updated | Action::Reminded => return,
        };
        let check = &change.finding.check;
        if self.changes.len() < CHECKS_MAX || self.changes.contains_key(check) {
            let counts = self.changes.entry(check.clone()).or_default();
            if let Some(count) = counts.get_mut(which) {
                *count += 1;
            }
        }
    }

    /// Adds what one epoch cost.
    pub fn spend(&mut self, cost: EpochCost) {
        let sum = &mut self.cost;
        sum.requests += cost.requests;
        sum.replies += cost.replies;
        sum.bytes_in += cost.bytes_in;
        sum.decode_errors += cost.decode_errors;
        (sum.duration_ms, sum.interval_ms) = (cost.duration_ms, cost.interval_ms);
    }
}

/// One family of metrics after the other.
#[derive(Default)]
pub(crate) struct Text(String);

impl Text {
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
        if let Some((_, unit)) = name.rsplit_once('_').filter(|(_, unit)| ["seconds", "bytes"].contains(unit))
        {
            let _ = writeln!(self.0, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.0, "# HELP {name} {help}");
    }

    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    pub(crate) fn into_text(self) -> String {
        self.0 + "# EOF\n"
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(&format!("{name}_total"), &[], value);
    }
}

/// As the format wants the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub(super) fn text(view: &View<'_>) -> String {
    let mut out = Text::default();
    let counters = view.counters;
    out.family("gatewatch_build", "info", "The version of the agent that answers.");
    let info = [("version", env!("CARGO_PKG_VERSION")), ("agent", view.agent)];
    out.sample("gatewatch_build_info", &info, 1);
    out.gauge("gatewatch_leader", "1 for the agent that polls and publishes.", u8::from(counters.leads));

    // Each check is there from the start, so that a first finding is a step and not a new series.
    let mut open: BTreeMap<(&str, Severity), [u64; 2]> = BTreeMap::new();
    for (slug, settings) in view.settings.iter().filter(|(_, settings)| settings.enabled) {
        let own = crate::checks::find(slug).map(|check| check.manual().severity);
        if let Some(severity) = settings.severity.or(own) {
            open.insert((slug, severity), [0; 2]);
        }
    }
    for (check, severity, count) in view.ledger.counts() {
        open.entry((check, severity)).or_default()[0] = count as u64;
    }
    for finding in view.ledger.open().filter(|finding| finding.is_silenced()) {
        open.entry((&finding.check, finding.severity)).or_default()[1] += 1;
    }
    for (name, which, help) in [
        ("gatewatch_findings_open", 0, "Open findings, silenced ones among them."),
        ("gatewatch_findings_silenced", 1, "Open findings of which nothing is published for now."),
    ] {
        out.family(name, "gauge", help);
        for ((check, severity), counts) in &open {
            let count = counts.get(which).copied().unwrap_or_default();
            out.sample(name, &[("check", check), ("severity", severity.as_str())], count);
        }
    }
    for (name, which, help) in [
        ("gatewatch_findings_opened", 0, "Findings published as opened since the agent started."),
        ("gatewatch_findings_resolved", 1, "Findings published as resolved since the agent started."),
    ] {
        out.family(name, "counter", help);
        let zero = view.settings.keys().map(|slug| (*slug, [0; 2]));
        let counted = counters.changes.iter().map(|(check, counts)| (&**check, *counts));
        for (check, counts) in zero.chain(counted).collect::<BTreeMap<_, _>>() {
            let count = counts.get(which).copied().unwrap_or_default();
            out.sample(&format!("{name}_total"), &[("check", check)], count);
        }
    }
    out.gauge("gatewatch_silences", "Silences that stand.", view.ledger.silences().len());

    if let Some(snapshot) = view.snapshot {
        let answered = snapshot.expected().filter(|server| server.gatewayz.is_some()).count();
        let connected = snapshot.links.iter().filter(|link| link.state == LinkState::Connected).count();
        out.gauge("gatewatch_servers_expected", "Servers that ought to answer.", snapshot.expected().count());
        out.gauge("gatewatch_servers_answered", "Servers that answered the last look.", answered);
        out.gauge("gatewatch_clusters", "Clusters that are known.", snapshot.clusters.len());
        let help = "Gateways that ought to be there, one for each server and remote.";
        out.gauge("gatewatch_links_expected", help, snapshot.links.len());
        out.gauge("gatewatch_links_connected", "Gateways that are connected.", connected);
    }

    let cost = &counters.cost;
    out.counter("gatewatch_epochs", "Epochs that are over.", counters.epochs);
    out.counter("gatewatch_looks", "Looks at the supercluster that are over.", counters.looks);
    let seconds = |ms: u64| ms as f64 / 1000.0;
    out.gauge(
        "gatewatch_epoch_duration_seconds",
        "How long the last epoch's look took.",
        seconds(cost.duration_ms),
    );
    let help = "Between the beginnings of the last two epochs.";
    out.gauge("gatewatch_epoch_interval_seconds", help, seconds(cost.interval_ms));
    out.counter("gatewatch_requests", "Requests sent to servers.", cost.requests);
    out.counter("gatewatch_replies", "Replies that came.", cost.replies);
    out.counter("gatewatch_received_bytes", "Size of replies, heartbeats and advisories.", cost.bytes_in);
    out.counter("gatewatch_decode_errors", "Replies of no use.", cost.decode_errors);
    out.gauge("gatewatch_outbox_messages", "Messages that wait until they arrived.", counters.outbox.waiting);
    out.gauge("gatewatch_outbox_bytes", "Their size.", counters.outbox.waiting_bytes);
    out.counter(
        "gatewatch_outbox_dropped",
        "Messages given up, for too much waited.",
        counters.outbox.dropped,
    );
    out.into_text()
}
