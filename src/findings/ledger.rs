//! The ledger of open findings, and the one function that changes it by what is seen.

mod adopt;
mod open;

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use self::open::Open;
use super::explain::{RULES, Rule};
use super::silence::{Silence, SilenceError, Silences};
use crate::checks::{Cause, Entity, Outcome, Scope, Settings, Severity, Step, Verdict, Violation, Watched};
use crate::model::{Name, ServerInfo, Time};

/// How long a change of the evidence must stand before it is published: what is on its way to recovery shows
/// many faces.
const UPDATE_PAUSE: Duration = Duration::from_secs(2);
/// How many fingerprints of what it explains a finding lists.
const INHIBITS_MAX: usize = 256;

/// How many findings are open at once, and how many violations are counted: a supercluster of a thousand servers without
/// a single gateway has fewer. What is beyond that is told of by how many there are.
pub const FINDINGS_MAX: usize = 65_536;
const PENDING_MAX: usize = 4 * FINDINGS_MAX;
/// What the agent says of itself is not kept back for that.
const OWN_SIGHT: &str = "observer_degraded";

/// The longest name of a check, known or not.
const CHECK_BYTES_MAX: usize = 64;
/// Of a fingerprint.
const PRINT_CHARS: usize = 16;

/// What happened to a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Action {
    /// It is new.
    Opened,
    /// Evidence that matters changed.
    Updated,
    /// It is still open.
    Reminded,
    /// It is over.
    Resolved,
}

impl Action {
    /// The word in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Reminded => "reminded",
            Self::Resolved => "resolved",
        }
    }

    /// Whether the finding is open after it.
    pub const fn state(self) -> State {
        match self {
            Self::Resolved => State::Resolved,
            _ => State::Open,
        }
    }
}

/// Whether a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum State {
    /// It does.
    Open,
    /// It did.
    Resolved,
}

impl State {
    /// The word in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Resolved => "resolved",
        }
    }
}

/// Why it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Reason {
    /// The check was violated for long enough.
    Violated,
    /// What matters of the evidence changed.
    EvidenceChanged,
    /// It was not spoken of for `repeat_every`.
    StillViolated,
    /// The check was healthy for long enough.
    Recovered,
    /// The entity left on purpose, or nothing expects it any more.
    Gone,
    /// A finding that explains it opened.
    Explained,
    /// Its severity changed; another finding took its place.
    Reclassified,
}

/// What makes two findings the same but for their severity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    check: Name,
    names: [Option<Name>; 5],
}

impl Key {
    fn of(check: &str, entity: &Entity) -> Self {
        Self { check: Name::from(check), names: entity.names().map(Option::<&Name>::cloned) }
    }

    /// What it was made of, but for IDs.
    fn entity(&self) -> Entity {
        let [cluster, server, remote, account, peer_server] = self.names.clone();
        Entity { cluster, server, remote, account, peer_server, ..Entity::default() }
    }
}

/// The identity of a finding: 16 hex digits over check, severity and the entity's raw names, equal for every
/// agent and every start.
pub fn fingerprint(check: &str, severity: Severity, entity: &Entity) -> String {
    let mut hash = Sha256::new();
    for part in
        [Some(check), Some(severity.as_str())].into_iter().chain(entity.names().map(|n| n.map(|n| &**n)))
    {
        // A length before each part, so that no two lists of names read the same.
        let (tag, text) = part.map_or((0_u8, ""), |text| (1, text));
        hash.update([tag]);
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    data_encoding::HEXLOWER.encode(hash.finalize().get(..8).unwrap_or_default())
}

/// One violated check for one entity, from opened to resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// See [`fingerprint`].
    pub fingerprint: String,
    /// The check's slug.
    pub check: Name,
    /// A part of the identity.
    pub severity: Severity,
    /// What it is about.
    pub entity: Entity,
    /// When it opened.
    pub opened_at: Time,
    /// When its check was last seen violated.
    pub last_seen_at: Time,
    /// When it resolved.
    pub resolved_at: Option<Time>,
    /// Counts what was published of it, from 1.
    pub revision: u64,
    /// When that was.
    pub published_at: Time,
    /// One line.
    pub summary: String,
    /// Why.
    pub cause: Cause,
    /// What it does to messages.
    pub impact: String,
    /// What it rests on.
    pub evidence: Map<String, Value>,
    /// What to do.
    pub remediation: Vec<Step>,
    /// The fingerprints of what it explains.
    pub inhibits: BTreeSet<String>,
    /// The server concerned.
    pub server: Option<ServerInfo>,
    /// None where whoever opened it did not tell: what is seen next is what it was.
    #[serde(default)]
    essence: Option<String>,
    #[serde(default)]
    scope: Scope,
    #[serde(default)]
    healthy_epochs: u32,
    #[serde(default)]
    healthy_epoch: u64,
    /// Since when what matters differs from what was published.
    #[serde(default)]
    differs_since: Option<Time>,
    /// Until when nothing is said of it; stays until the end of the silence was spoken of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    muted_until: Option<Time>,
    /// Whether it opened in a silence and nobody was told of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unsaid: bool,
}

impl Finding {
    fn new(verdict: &Verdict, violation: &Violation, inhibits: BTreeSet<String>, at: Time) -> Self {
        Self {
            fingerprint: fingerprint(verdict.check, verdict.severity, &verdict.entity),
            check: Name::from(verdict.check),
            severity: verdict.severity,
            entity: verdict.entity.clone(),
            opened_at: at,
            last_seen_at: at,
            resolved_at: None,
            revision: 1,
            published_at: at,
            summary: violation.summary.clone(),
            cause: violation.cause.clone(),
            impact: violation.impact.clone(),
            evidence: violation.evidence.clone(),
            remediation: violation.remediation.clone(),
            inhibits,
            server: violation.server.clone(),
            essence: Some(violation.essence.clone()),
            scope: violation.scope.clone(),
            healthy_epochs: 0,
            healthy_epoch: 0,
            differs_since: None,
            muted_until: None,
            unsaid: false,
        }
    }

    /// Whether a silence mutes it, or did until a moment ago.
    pub fn is_silenced(&self) -> bool {
        self.muted_until.is_some()
    }

    /// Whether subscribers were told that it opened.
    pub fn is_said(&self) -> bool {
        !self.unsaid
    }

    fn end(&mut self, at: Time) {
        self.revision = self.revision.saturating_add(1);
        self.published_at = at;
        self.resolved_at = Some(at);
    }

    /// What another agent needs to go on with it, besides what is public.
    pub fn memo(&self) -> (Option<&str>, &Scope) {
        (self.essence.as_deref(), &self.scope)
    }

    /// Leaves out what only agents need of it, beyond what there is of their own.
    pub fn lighten(&mut self) {
        self.essence = None;
        self.scope = Scope::default();
        self.inhibits.retain(|print| print.len() <= PRINT_CHARS);
        while self.inhibits.len() > INHIBITS_MAX {
            self.inhibits.pop_last();
        }
    }

    /// Whether its check can be one, which is a token of its subject, and its fingerprint is that of its names.
    pub fn is_named_right(&self) -> bool {
        let slug = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        (1..=CHECK_BYTES_MAX).contains(&self.check.len())
            && self.check.bytes().all(slug)
            && self.fingerprint == fingerprint(&self.check, self.severity, &self.entity)
    }

    /// Takes over what a newer look tells.
    fn tell(&mut self, verdict: &Verdict, violation: &Violation) {
        self.entity.server_id.clone_from(&verdict.entity.server_id);
        self.summary.clone_from(&violation.summary);
        self.cause.clone_from(&violation.cause);
        self.impact.clone_from(&violation.impact);
        self.evidence.clone_from(&violation.evidence);
        self.remediation.clone_from(&violation.remediation);
        self.server.clone_from(&violation.server);
        self.essence = Some(violation.essence.clone());
    }
}

/// A violation on its way to a finding.
#[derive(Clone, Debug, Default)]
struct Pending {
    epochs: u32,
    epoch: u64,
    /// When it was last explained by something open: patience starts anew from there.
    held_at: Option<Time>,
}

/// One step in the life of a finding, to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What happened.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The finding after it.
    pub finding: Finding,
}

/// What one look says, and what is needed to judge by it.
#[derive(Clone, Debug)]
pub struct Judgement<'a> {
    /// When.
    pub at: Time,
    /// When what is judged was seen, at the earliest: what was violated then and is no longer may not open.
    pub seen_at: Time,
    /// Whether a few clusters alone were looked at: of what is not spoken of nothing is known.
    pub is_glance: bool,
    /// Streaks count epochs, however many looks one has.
    pub epoch: u64,
    /// What the checks said.
    pub verdicts: Vec<Verdict>,
    /// By slug.
    pub settings: &'a BTreeMap<&'static str, Settings>,
    /// How often an open finding is repeated.
    pub repeat_every: Duration,
}

/// An open finding in a list.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// How bad it is.
    pub severity: Severity,
    /// Which it is.
    pub fingerprint: &'a str,
    key: &'a Key,
}

impl Listed<'_> {
    /// Of which check it is.
    pub fn check(&self) -> &str {
        &self.key.check
    }

    /// Which cluster it is about.
    pub fn cluster(&self) -> Option<&str> {
        self.key.names.first().and_then(Option::as_deref)
    }
}

/// Every open finding, and every violation that may become one.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    open: Open,
    pending: BTreeMap<Key, Pending>,
    silences: Silences,
    /// How many did not open in the last step, for so many are open.
    over: u64,
}

impl Ledger {
    /// The ledger that an earlier start left.
    pub fn restore(findings: impl IntoIterator<Item = Finding>) -> Self {
        let mut ledger = Self::default();
        for finding in findings.into_iter().take(FINDINGS_MAX) {
            ledger.open.insert(Key::of(&finding.check, &finding.entity), finding);
        }
        ledger
    }

    /// What a good word counts of: all that is open, and every violation that may open.
    pub fn watched(&self) -> Watched<'_> {
        let mut watched = Watched::open(self.open().map(|f| (&*f.check, &f.entity)));
        for key in self.pending.keys() {
            watched.add(&key.check, key.names.each_ref().map(Option::as_ref));
        }
        watched
    }

    /// The silences that stand.
    pub fn silences(&self) -> &Silences {
        &self.silences
    }

    /// Takes up `silence`: what it covers is mute from the next step on.
    ///
    /// # Errors
    /// It matches nothing, lasts too long, or there are too many.
    pub fn silence(&mut self, silence: Silence, at: Time) -> Result<(), SilenceError> {
        for finding in self.open.values_mut().filter(|finding| silence.matches.covers(finding)) {
            finding.muted_until = finding.muted_until.max(Some(silence.ends_at));
        }
        self.silences.add(silence, at)
    }

    /// Ends a silence before its time. What it muted, and no other silence does, is spoken of by the next step.
    pub fn unsilence(&mut self, id: &str, at: Time) -> Option<Silence> {
        let silence = self.silences.remove(id)?;
        for finding in self.open.values_mut().filter(|finding| silence.matches.covers(finding)) {
            finding.muted_until = self.silences.until(finding).max(Some(at));
        }
        Some(silence)
    }

    /// Every open finding, ordered by check and entity.
    pub fn open(&self) -> impl Iterator<Item = &Finding> {
        self.open.values()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.open.len() == 0
    }

    /// How many more would have opened in the last step if there were room.
    pub fn over(&self) -> u64 {
        self.over
    }

    /// Whether there is room for one about this.
    fn has_room(&self, key: &Key) -> bool {
        self.open.len() < FINDINGS_MAX || &*key.check == OWN_SIGHT || self.open.contains_key(key)
    }

    /// How many of each check and severity are open.
    pub fn counts(&self) -> impl Iterator<Item = (&Name, Severity, usize)> {
        self.open.counts()
    }

    /// How many of this severity are open.
    pub fn count(&self, severity: Severity) -> usize {
        self.counts().filter(|(_, of, _)| *of == severity).map(|(_, _, count)| count).sum()
    }

    /// What is open, the worst first, behind the place of `after`.
    pub fn in_order<'a>(&'a self, after: Option<(Severity, &str)>) -> impl Iterator<Item = Listed<'a>> {
        let listed = |(severity, fingerprint, key)| Listed { severity, fingerprint, key };
        self.open.in_order(after).map(listed)
    }

    /// The finding of an item of [`Self::in_order`].
    pub fn listed(&self, item: &Listed<'_>) -> Option<&Finding> {
        self.open.get(item.key)
    }

    /// Draws the consequences of one look. Whatever opens, changes or resolves is in the answer, in the order
    /// in which it is to be published; what is in the answer is already in the ledger.
    ///
    /// Of what a silence covers, only the end of something that subscribers know of is in the answer: a pager
    /// must be able to close. What opens and resolves in silence is never told of. When a silence ends, what
    /// it muted and is still open is told of: as opened where it never was, else as updated or reminded.
    pub fn step(&mut self, judgement: Judgement<'_>) -> Vec<Change> {
        let Judgement { at, seen_at, is_glance, epoch, verdicts, settings, repeat_every } = judgement;
        self.silences.expire(at);
        let mut view = View::of(verdicts, settings);
        if is_glance {
            self.hold_what_may_be_explained(&mut view);
        }
        self.count_streaks(&view, epoch, is_glance);
        let explained = self.explain(&mut view, (at, seen_at), settings);

        let mut changes = Vec::new();
        self.resolve_absent(&view, at, epoch, settings, &mut changes);
        self.open_ripe(&view, &explained, (at, seen_at), settings, &mut changes);
        self.resolve_explained(&explained, at, &mut changes);
        self.refresh(&view, at, repeat_every, &mut changes);
        changes
    }

    /// What a glance does not see may explain what it does: a violation that waits and shares a name with it, but no
    /// single link another. The look at all decides then.
    fn hold_what_may_be_explained(&self, view: &mut View) {
        let is_seen = |key: &Key| view.violated.contains_key(key) || view.unknown.contains(key);
        let waits = |key: &&Key| !self.open.contains_key(key) && !is_seen(key);
        let waiting: Vec<(&Key, Entity)> =
            self.pending.keys().filter(waits).map(|key| (key, key.entity())).collect();
        let may_explain = |(by, entity): &(&Key, Entity), of: &Key| {
            let holds = |rule: &Rule| *rule.by == *by.check && *rule.of == *of.check && rule.may_hold(entity);
            by.names.iter().any(|name| name.is_some() && of.names.contains(name)) && RULES.iter().any(holds)
        };
        let held: Vec<Key> = view
            .violated
            .keys()
            .filter(|key| !self.open.contains_key(key) && waiting.iter().any(|by| may_explain(by, key)))
            .cloned()
            .collect();
        for key in held {
            view.violated.remove(&key);
            view.unknown.insert(key);
        }
    }

    fn count_streaks(&mut self, view: &View, epoch: u64, is_glance: bool) {
        self.pending.retain(|key, _| {
            if is_glance && !view.healthy.contains(key) && !view.gone.contains(key) {
                return true;
            }
            // Unknown is inert: it neither adds to a streak nor ends it. Of what is open and not spoken of, nothing
            // is known either.
            let unseen =
                || self.open.contains_key(key) && !view.healthy.contains(key) && !view.gone.contains(key);
            view.violated.contains_key(key) || view.unknown.contains(key) || unseen()
        });
        for key in view.violated.keys() {
            if self.pending.len() >= PENDING_MAX
                && &*key.check != OWN_SIGHT
                && !self.pending.contains_key(key)
            {
                continue;
            }
            let pending = self.pending.entry(key.clone()).or_default();
            if pending.epoch != epoch {
                pending.epochs = pending.epochs.saturating_add(1);
                pending.epoch = epoch;
            }
        }
    }

    fn ripe(&self, key: &Key, violation: &Violation, at: Time, open_after: u32) -> bool {
        let Some(pending) = self.pending.get(key) else { return false };
        let patience = violation.ripe_at.since(violation.since);
        pending.epochs >= open_after
            && at >= violation.ripe_at
            && pending.held_at.is_none_or(|held_at| at.since(held_at) >= patience)
    }

    /// For each violation: by what it is explained. What only waits to open holds it back; what is open or
    /// opens now takes its place.
    fn explain(
        &mut self,
        view: &mut View,
        (at, seen_at): (Time, Time),
        settings: &BTreeMap<&'static str, Settings>,
    ) -> BTreeMap<Key, Explained> {
        let mut by: BTreeMap<Name, Vec<By>> = BTreeMap::new();
        for (key, (verdict, violation)) in &view.violated {
            let open_after = settings.get(verdict.check).map_or(1, |s| s.open_after);
            let active = self.open.contains_key(key) || self.ripe(key, violation, seen_at, open_after);
            by.entry(key.check.clone()).or_default().push(By {
                key: key.clone(),
                entity: verdict.entity.clone(),
                scope: violation.scope.clone(),
                active,
            });
        }
        // What is open explains until it resolves, also while it cannot be seen or only begins to heal.
        let mut of: BTreeSet<&str> = self.open.checks().into_iter().map(|check| &**check).collect();
        of.extend(view.violated.keys().map(|key| &*key.check));
        let mut rules: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
        for rule in RULES.iter().filter(|rule| of.contains(rule.of)) {
            rules.entry(rule.by).or_default().push(rule);
        }
        if self.open.checks().into_iter().any(|check| rules.contains_key(&**check)) {
            let may_explain = |finding: &Finding| {
                rules
                    .get(&*finding.check)
                    .is_some_and(|rules| rules.iter().any(|r| r.may_hold(&finding.entity)))
            };
            for (key, finding) in self.open.iter().filter(|(key, finding)| {
                // Thousands may be open that explain nothing.
                may_explain(finding) && !view.violated.contains_key(*key)
            }) {
                by.entry(key.check.clone()).or_default().push(By {
                    key: key.clone(),
                    entity: finding.entity.clone(),
                    scope: finding.scope.clone(),
                    active: true,
                });
            }
        }
        let told = self.told(view, &by);
        let mut explained = explained_by(&told, &by);
        // What is explained itself and not open explains nothing: one that is open and holds for it does.
        loop {
            let before: usize = by.values().map(Vec::len).sum();
            for explainers in by.values_mut() {
                explainers.retain(|e| {
                    self.open.contains_key(&e.key) || !explained.get(&e.key).is_some_and(|by| by.active)
                });
            }
            if by.values().map(Vec::len).sum::<usize>() == before {
                break;
            }
            explained = explained_by(&told, &by);
        }
        for (key, e) in &explained {
            if e.active
                && let Some(pending) = self.pending.get_mut(key)
            {
                pending.held_at = Some(at);
            }
        }
        for (key, e) in &explained {
            if let Some((verdict, _)) = view.violated.get(key) {
                let print = fingerprint(verdict.check, verdict.severity, &verdict.entity);
                for by in &e.by {
                    view.inhibits.entry(by.clone()).or_default().insert(print.clone());
                }
            }
        }
        explained
    }

    /// What these may explain, by check.
    fn told<'a>(
        &'a self,
        view: &'a View,
        by: &BTreeMap<Name, Vec<By>>,
    ) -> BTreeMap<&'a str, Vec<(&'a Key, &'a Entity)>> {
        let of: BTreeSet<&str> =
            RULES.iter().filter(|rule| by.contains_key(rule.by)).map(|rule| rule.of).collect();
        let mut told: BTreeMap<&str, Vec<(&Key, &Entity)>> = BTreeMap::new();
        if of.is_empty() {
            return told;
        }
        let violated = view.violated.iter().map(|(key, (verdict, _))| (key, &verdict.entity));
        // What stands open and cannot be seen now is explained as well.
        let mut seen = view.seen();
        let unseen = self.open.iter().filter(|(key, _)| !seen.has(key)).map(|(key, f)| (key, &f.entity));
        for (key, entity) in violated.chain(unseen).filter(|(key, _)| of.contains(&*key.check)) {
            told.entry(&key.check).or_default().push((key, entity));
        }
        told
    }

    fn resolve_absent(
        &mut self,
        view: &View,
        at: Time,
        epoch: u64,
        settings: &BTreeMap<&'static str, Settings>,
        changes: &mut Vec<Change>,
    ) {
        let mut over: BTreeMap<Key, Reason> = BTreeMap::new();
        // Another agent's check that this version does not have is left to those that do.
        let is_off = |check: &&Name| settings.get(&***check).is_some_and(|set| !set.enabled);
        let off: BTreeSet<&Name> = self.open.checks().into_iter().filter(is_off).collect();
        if !off.is_empty() {
            let keys = self.open.iter().map(|(key, _)| key).filter(|key| off.contains(&key.check));
            over.extend(keys.map(|key| (key.clone(), Reason::Gone)));
        }
        for key in view.gone.iter().filter(|key| self.open.contains_key(key)) {
            over.entry(key.clone()).or_insert(Reason::Gone);
        }
        for key in &view.healthy {
            let Some(finding) = self.open.get_mut(key) else { continue };
            let Some(set) = settings.get(&*finding.check) else { continue };
            if finding.healthy_epoch != epoch {
                finding.healthy_epochs += 1;
                finding.healthy_epoch = epoch;
            }
            if finding.healthy_epochs >= set.resolve_after {
                over.entry(key.clone()).or_insert(Reason::Recovered);
            }
        }
        for (key, (verdict, _)) in &view.violated {
            if self.open.get(key).is_some_and(|finding| finding.severity != verdict.severity) {
                over.entry(key.clone()).or_insert(Reason::Reclassified);
            }
        }
        for (key, reason) in over {
            self.resolve(&key, reason, at, changes);
        }
    }

    fn resolve(&mut self, key: &Key, reason: Reason, at: Time, changes: &mut Vec<Change>) {
        if let Some(mut finding) = self.open.remove(key)
            && finding.is_said()
        {
            finding.end(at);
            changes.push(Change { action: Action::Resolved, reason, finding });
        }
    }

    fn open_ripe(
        &mut self,
        view: &View,
        explained: &BTreeMap<Key, Explained>,
        (at, seen_at): (Time, Time),
        settings: &BTreeMap<&'static str, Settings>,
        changes: &mut Vec<Change>,
    ) {
        self.over = 0;
        for (key, (verdict, violation)) in &view.violated {
            if self.open.contains_key(key) || explained.contains_key(key) {
                continue;
            }
            let open_after = settings.get(verdict.check).map_or(1, |s| s.open_after);
            if !self.ripe(key, violation, seen_at, open_after) {
                continue;
            }
            if !self.has_room(key) {
                self.over += 1;
                continue;
            }
            let mut finding = Finding::new(verdict, violation, view.inhibited_by(key), at);
            finding.muted_until = self.silences.until(&finding);
            finding.unsaid = finding.is_silenced();
            if finding.is_said() {
                let finding = finding.clone();
                changes.push(Change { action: Action::Opened, reason: Reason::Violated, finding });
            }
            self.open.insert(key.clone(), finding);
        }
    }

    fn resolve_explained(
        &mut self,
        explained: &BTreeMap<Key, Explained>,
        at: Time,
        changes: &mut Vec<Change>,
    ) {
        for (key, _) in explained.iter().filter(|(_, e)| e.active) {
            self.resolve(key, Reason::Explained, at, changes);
        }
    }

    /// Brings what is open up to date, and speaks of it where that is due.
    fn refresh(&mut self, view: &View, at: Time, repeat_every: Duration, changes: &mut Vec<Change>) {
        // Of thousands that are open, few are seen or due.
        let due = self.open.iter().filter(|(_, finding)| {
            finding.muted_until.is_some() || at.since(finding.published_at) >= repeat_every
        });
        let mut keys: BTreeSet<Key> = due.map(|(key, _)| key.clone()).collect();
        keys.extend(view.violated.keys().filter(|key| self.open.contains_key(key)).cloned());
        for key in &keys {
            let Some(finding) = self.open.get_mut(key) else { continue };
            // What it has explained once stays among what it explains: consequences come and go.
            let mut inhibits = view.inhibited_by(key);
            let more = inhibits.iter().any(|print| !finding.inhibits.contains(print));
            inhibits
                .extend(finding.inhibits.iter().take(INHIBITS_MAX.saturating_sub(inhibits.len())).cloned());
            let violated = view.violated.get(key);
            let mut news = false;
            if let Some((_, violation)) = violated {
                finding.last_seen_at = at;
                finding.healthy_epochs = 0;
                finding.scope = violation.scope.clone();
                let essence = finding.essence.get_or_insert_with(|| violation.essence.clone());
                let differs = *essence != violation.essence || more;
                finding.differs_since = differs.then(|| finding.differs_since.unwrap_or(at));
                news = finding.differs_since.is_some_and(|since| at.since(since) >= UPDATE_PAUSE);
            }
            let silent_for = at.since(finding.published_at);
            let (opened, updated, reminded) = (
                (Action::Opened, Reason::Violated),
                (Action::Updated, Reason::EvidenceChanged),
                (Action::Reminded, Reason::StillViolated),
            );
            let (action, reason) = match finding.muted_until {
                Some(until) if at < until => continue,
                // What begins to heal is over in a moment.
                Some(_) if finding.healthy_epochs > 0 => continue,
                Some(_) if finding.unsaid => opened,
                Some(_) if finding.differs_since.is_some() => updated,
                Some(_) => reminded,
                None if news => updated,
                None if silent_for >= repeat_every => reminded,
                None => continue,
            };
            finding.muted_until = None;
            // What was published last stands until it is published anew: a resolved finding tells the same story.
            if let Some((verdict, violation)) = violated {
                finding.tell(verdict, violation);
                finding.inhibits = inhibits;
                finding.differs_since = None;
            }
            // The first that subscribers hear of it is the first revision.
            if !std::mem::take(&mut finding.unsaid) {
                finding.revision = finding.revision.saturating_add(1);
            }
            finding.published_at = at;
            changes.push(Change { action, reason, finding: finding.clone() });
        }
    }

    /// When the next violation that waits becomes worth a finding: a look is due then.
    pub fn next_ripe(verdicts: &[Verdict], now: Time) -> Option<Time> {
        verdicts
            .iter()
            .filter_map(|v| match &v.outcome {
                Outcome::Violated(violation) if violation.ripe_at > now => Some(violation.ripe_at),
                _ => None,
            })
            .min()
    }
}

fn explained_by(
    told: &BTreeMap<&str, Vec<(&Key, &Entity)>>,
    by: &BTreeMap<Name, Vec<By>>,
) -> BTreeMap<Key, Explained> {
    let mut explained: BTreeMap<Key, Explained> = BTreeMap::new();
    for rule in RULES {
        let (Some(explainers), Some(told)) = (by.get(rule.by), told.get(rule.of)) else { continue };
        let explainers: Vec<&By> = explainers.iter().filter(|e| rule.may_hold(&e.entity)).collect();
        for (key, entity) in told {
            for explainer in &explainers {
                if (rule.holds)(&explainer.entity, &explainer.scope, entity) && explainer.key != **key {
                    let entry = explained.entry((*key).clone()).or_default();
                    entry.active |= explainer.active;
                    entry.by.insert(explainer.key.clone());
                }
            }
        }
    }
    explained
}

/// One that explains others: open, or on its way.
struct By {
    key: Key,
    entity: Entity,
    scope: Scope,
    active: bool,
}

#[derive(Default)]
struct Explained {
    /// One that explains it is open, or opens now.
    active: bool,
    by: BTreeSet<Key>,
}

/// The keys of what was seen, to be asked for in their order: of thousands that are open, few are.
struct Seen<'a>(Peekable<std::vec::IntoIter<&'a Key>>);

impl Seen<'_> {
    fn has(&mut self, key: &Key) -> bool {
        while self.0.next_if(|seen| *seen < key).is_some() {}
        self.0.peek().is_some_and(|seen| *seen == key)
    }
}

/// The verdicts by what they say.
#[derive(Default)]
struct View {
    violated: BTreeMap<Key, (Verdict, Violation)>,
    healthy: BTreeSet<Key>,
    unknown: BTreeSet<Key>,
    gone: BTreeSet<Key>,
    inhibits: BTreeMap<Key, BTreeSet<String>>,
}

impl View {
    fn of(verdicts: Vec<Verdict>, settings: &BTreeMap<&'static str, Settings>) -> Self {
        let mut view = Self::default();
        // Of what is open and cannot be seen there may be thousands, in order: a set is made of them at once.
        let mut unknown: Vec<Key> = Vec::new();
        for mut verdict in verdicts {
            let Some(set) = settings.get(verdict.check).filter(|s| s.enabled) else { continue };
            verdict.severity = set.severity.unwrap_or(verdict.severity);
            let key = Key::of(verdict.check, &verdict.entity);
            match &verdict.outcome {
                Outcome::Healthy => drop(view.healthy.insert(key)),
                Outcome::Unknown => unknown.push(key),
                Outcome::Gone => drop(view.gone.insert(key)),
                Outcome::Violated(violation) => {
                    let violation = (**violation).clone();
                    view.violated.insert(key, (verdict, violation));
                }
            }
        }
        view.unknown = unknown.into_iter().collect();
        // Two lives of one name may stand side by side: what is wrong with one of them is wrong, and one that
        // left takes nothing along that the other still has.
        let Self { violated, healthy, unknown, gone, .. } = &mut view;
        healthy.retain(|key| !violated.contains_key(key));
        gone.retain(|key| !violated.contains_key(key) && !healthy.contains(key) && !unknown.contains(key));
        view
    }

    /// What was seen to be well, ill or gone.
    fn seen(&self) -> Seen<'_> {
        let mut keys: Vec<&Key> = self.violated.keys().chain(&self.healthy).chain(&self.gone).collect();
        keys.sort();
        Seen(keys.into_iter().peekable())
    }

    fn inhibited_by(&self, key: &Key) -> BTreeSet<String> {
        self.inhibits.get(key).into_iter().flatten().take(INHIBITS_MAX).cloned().collect()
    }
}

#[cfg(test)]
mod muted;
#[cfg(test)]
mod tests;
