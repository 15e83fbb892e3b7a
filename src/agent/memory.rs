//! What survives a restart, and what an agent knows by findings that it did not open itself.

use super::io::Effect;
use super::{Agent, COMPLAINTS_MAX};
use crate::findings::{Finding, Ledger};
use crate::model::{Complaint, Name, Roster, ServerInfo, Time};
use crate::publish::{Message, State, event, is_token};

impl Agent {
    /// Takes up what an earlier start left.
    pub(super) fn restore(&mut self, now: Time) {
        let Some(file) = &self.state_file else { return };
        let state = match file.load() {
            Ok(Some(state)) => state,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "starting without the open findings of before");
                match file.set_aside() {
                    Ok(aside) => tracing::warn!(file = %aside.display(), "put aside"),
                    Err(error) => tracing::warn!(%error, "cannot put it aside"),
                }
                return;
            }
        };
        self.take_up(state, now);
    }

    pub(super) fn take_up(&mut self, mut state: State, now: Time) {
        state.findings.retain(Finding::is_named_right);
        let ours = format!("{}.finding.", self.style.prefix);
        let subject =
            |m: &Message| m.subject.strip_prefix(&ours).is_some_and(|rest| rest.split('.').all(is_token));
        state.unconfirmed.retain(|m| subject(m) && m.is_sound() && event::is_finding(m.payload.as_bytes()));
        self.recall(&state.findings);
        self.owes = !state.unconfirmed.is_empty();
        for message in state.unconfirmed {
            self.outbox.push(message);
        }
        tracing::info!(open = state.findings.len(), saved_at = %state.saved_at, now = %now, "took up the ledger");
        self.ledger = Ledger::restore(state.findings);
        self.take_silences(state.silences, now);
    }

    pub(super) fn save(&mut self) -> Vec<Effect> {
        let Some(file) = &self.state_file else { return Vec::new() };
        let state = State {
            version: State::VERSION,
            saved_at: self.asked_last_at,
            findings: self.ledger.open().cloned().collect(),
            unconfirmed: self.outbox.waiting().filter(|m| is_finding(m)).cloned().collect(),
            silences: self.silences(),
        };
        self.owes = !state.unconfirmed.is_empty();
        vec![Effect::Save(file.clone(), Box::new(state))]
    }

    /// Makes known what these findings of others, or of an earlier start, are about.
    pub(super) fn recall(&mut self, findings: &[Finding]) {
        self.roster.recall(findings.iter().filter_map(server_of));
        for finding in findings {
            recall(&mut self.roster, finding);
            let room = self.observer.complaints.len() < COMPLAINTS_MAX;
            self.observer.complaints.extend(recall_complaint(finding).filter(|_| room));
        }
    }
}

pub(super) fn is_finding(message: &Message) -> bool {
    message.headers.iter().any(|(name, _)| name == "Gatewatch-Action")
}

/// The server that a finding of an earlier start is about.
fn server_of(finding: &Finding) -> Option<(ServerInfo, Time)> {
    let entity = &finding.entity;
    // Whoever sends replies of no use is no server on the strength of them.
    let (name, id) = entity.server.as_ref().zip(entity.server_id.as_ref())?;
    let cluster = entity.cluster.clone().filter(|_| &*finding.check != "observer_degraded")?;
    let named =
        || ServerInfo { name: name.clone(), id: id.clone(), cluster: Some(cluster), ..ServerInfo::default() };
    Some((finding.server.clone().unwrap_or_else(named), finding.opened_at))
}

/// Makes known what else such a finding is about.
fn recall(roster: &mut Roster, finding: &Finding) {
    if &*finding.check == "observer_degraded" {
        return;
    }
    let entity = &finding.entity;
    let was = finding.evidence.get("last_connected_at").and_then(|at| Time::parse(at.as_str()?));
    if let (Some(cluster), Some(name), Some(remote), Some(at)) =
        (&entity.cluster, &entity.server, &entity.remote, was)
    {
        roster.recall_link(cluster.clone(), name.clone(), remote, at);
    }
    if &*finding.check == "cluster_unreachable"
        && let Some(cluster) = &entity.cluster
    {
        roster.recall_cluster(cluster);
    }
}

/// Under which ID the replies stand that a finding complains of; empty for those that name no server.
pub(super) fn complained_of(finding: &Finding) -> Option<Name> {
    let entity = &finding.entity;
    let unnamed = entity.peer_server.as_ref().filter(|name| &***name == "unnamed").map(|_| Name::from(""));
    (&*finding.check == "observer_degraded").then(|| entity.server_id.clone().or(unnamed)).flatten()
}

/// The complaint that a finding of an earlier start stands for: over, unless another such reply comes.
fn recall_complaint(finding: &Finding) -> Option<(Name, Complaint)> {
    let id = complained_of(finding)?;
    let entity = &finding.entity;
    let server = entity.server.as_ref().map(|name| ServerInfo {
        name: name.clone(),
        id: id.clone(),
        cluster: entity.cluster.clone(),
        ..ServerInfo::default()
    });
    let at = finding.last_seen_at;
    Some((id, Complaint { server, count: 0, recent: 0, error: String::new(), at }))
}
