//! Findings by filter, in pages: what is open, the worst first; or what resolved lately, the last first.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ApiError, Endpoint, Page, View, check_named, list, read};
use crate::checks::{self, Cause, Entity, Severity, Step};
use crate::findings::{Action, Change, Finding, Reason, State};
use crate::model::{Name, ServerInfo, Time};
use crate::publish::event;

/// How many resolved findings are kept.
const RESOLVED_MAX: usize = 1000;
/// How many bytes of them.
const RESOLVED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The largest item, in bytes: what it rests on is left out of a larger one.
const ITEM_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    #[serde(default)]
    check: Option<String>,
    #[serde(default)]
    severity: Option<Severity>,
    #[serde(default)]
    cluster: Option<String>,
    #[serde(default)]
    state: Option<State>,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(default)]
    after: Option<String>,
}

/// Where an item stands in its list: by rank, then by fingerprint. So a page begins where the one before it
/// ended, also when findings opened or resolved meanwhile.
type Place<'a> = (u64, &'a str);

pub(super) fn page(body: &[u8], view: &View<'_>) -> Result<Vec<u8>, ApiError> {
    let filter: Filter = read(Endpoint::Findings, body)?;
    let page = Page::of(filter.limit, filter.after.as_deref())?;
    let check = filter.check.as_deref().map(check_named).transpose()?.map(|check| check.manual().slug);
    let wanted = |its_check: &str, severity: Severity, cluster: Option<&str>| {
        check.is_none_or(|check| check == its_check)
            && filter.severity.is_none_or(|wanted| wanted == severity)
            && filter.cluster.as_deref().is_none_or(|wanted| cluster == Some(wanted))
    };
    let after: Option<Place<'_>> = page.after.map(place).transpose()?;
    let kind = "findings_response";
    if filter.state == Some(State::Resolved) {
        let all = view.resolved.0.iter().filter(|k| wanted(&k.check, k.severity, k.cluster.as_deref()));
        let (found, total) = first(all.map(|k| (k.place(), k)), after, page.limit);
        let items = found.into_iter().map(|(place, kept)| (cursor(place), Cow::Borrowed(&*kept.json)));
        return Ok(list(kind, "findings", items, [page.limit, total, view.answer_bytes_max]));
    }
    let severity = |rank| RANKS.get(usize::try_from(rank).ok()?).copied();
    let after = match after {
        None => None,
        Some((rank, print)) => Some((severity(rank).ok_or_else(no_cursor)?, print)),
    };
    let among = |after| view.ledger.in_order(after).filter(|f| wanted(f.check(), f.severity, f.cluster()));
    let total = if filter.cluster.is_some() {
        among(None).count()
    } else {
        let counts = view.ledger.counts().filter(|(check, severity, _)| wanted(check, *severity, None));
        counts.map(|(_, _, count)| count).sum()
    };
    let items = among(after).take(page.limit + 1).filter_map(|listed| {
        let rank = RANKS.iter().position(|severity| *severity == listed.severity)? as u64;
        let finding = view.ledger.listed(&listed)?;
        Some((cursor((rank, listed.fingerprint)), Cow::Owned(item(finding, None))))
    });
    Ok(list(kind, "findings", items, [page.limit, total, view.answer_bytes_max]))
}

/// The worst first.
const RANKS: [Severity; 3] = [Severity::Critical, Severity::Warning, Severity::Info];

fn cursor((rank, fingerprint): Place<'_>) -> String {
    format!("{rank}.{fingerprint}")
}

fn place(cursor: &str) -> Result<Place<'_>, ApiError> {
    let parts = cursor.split_once('.').and_then(|(rank, print)| Some((rank.parse().ok()?, print)));
    parts.ok_or_else(no_cursor)
}

fn no_cursor() -> ApiError {
    ApiError::new(400, "`after` is the `next` of the page before, as it stands there")
}

/// The first `limit` behind `after`, and one more where there is one; and how many there are in all.
fn first<'a, T>(
    all: impl Iterator<Item = (Place<'a>, T)>,
    after: Option<Place<'_>>,
    limit: usize,
) -> (Vec<(Place<'a>, T)>, usize) {
    let mut total = 0;
    let mut rest: Vec<_> =
        all.inspect(|_| total += 1).filter(|(place, _)| after.is_none_or(|after| *place > after)).collect();
    rest.sort_by(|a, b| a.0.cmp(&b.0));
    rest.truncate(limit + 1);
    (rest, total)
}

/// A finding as its events have it, without what belongs to one event.
#[derive(Serialize)]
struct Item<'a> {
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    silenced: bool,
    severity: Severity,
    check: &'a str,
    code: &'a str,
    summary: &'a str,
    fingerprint: &'a str,
    revision: u64,
    opened_at: Time,
    last_seen_at: Time,
    resolved_at: Option<Time>,
    entity: &'a Entity,
    cause: &'a Cause,
    impact: &'a str,
    evidence: &'a Map<String, Value>,
    remediation: &'a [Step],
    inhibits: Vec<&'a str>,
    server: Option<&'a ServerInfo>,
}

fn item(f: &Finding, reason: Option<Reason>) -> Vec<u8> {
    let json_of = |f: &Finding| {
        let item = Item {
            state: if f.resolved_at.is_some() { State::Resolved } else { State::Open },
            reason,
            silenced: f.is_silenced(),
            severity: f.severity,
            check: &f.check,
            code: checks::find(&f.check).map_or("", |c| c.manual().code),
            summary: &f.summary,
            fingerprint: &f.fingerprint,
            revision: f.revision,
            opened_at: f.opened_at,
            last_seen_at: f.last_seen_at,
            resolved_at: f.resolved_at,
            entity: &f.entity,
            cause: &f.cause,
            impact: &f.impact,
            evidence: &f.evidence,
            remediation: &f.remediation,
            inhibits: f.inhibits.iter().map(String::as_str).collect(),
            server: f.server.as_ref(),
        };
        serde_json::to_vec(&item).unwrap_or_default()
    };
    let json = json_of(f);
    if json.len() > ITEM_BYTES_MAX { json_of(&event::abridged(f, json.len())) } else { json }
}

/// The findings that resolved last, for as long as there is room.
#[derive(Debug, Default)]
pub struct Resolved(VecDeque<Kept>, usize);

#[derive(Debug)]
struct Kept {
    at: Time,
    fingerprint: String,
    check: Name,
    severity: Severity,
    cluster: Option<Name>,
    json: Box<[u8]>,
}

impl Kept {
    fn place(&self) -> Place<'_> {
        // The last first.
        (u64::MAX - self.at.as_nanos(), &self.fingerprint)
    }
}

impl Resolved {
    /// Keeps `change` where it is the end of a finding.
    pub fn take(&mut self, change: &Change) {
        if change.action != Action::Resolved {
            return;
        }
        let f = &change.finding;
        let json = item(f, Some(change.reason)).into_boxed_slice();
        self.1 += json.len();
        self.0.push_back(Kept {
            at: f.resolved_at.unwrap_or(f.published_at),
            fingerprint: f.fingerprint.clone(),
            check: f.check.clone(),
            severity: f.severity,
            cluster: f.entity.cluster.clone(),
            json,
        });
        while self.0.len() > RESOLVED_MAX || self.1 > RESOLVED_BYTES_MAX {
            let Some(oldest) = self.0.pop_front() else { break };
            self.1 -= oldest.json.len();
        }
    }
}
