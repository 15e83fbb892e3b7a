//! What the agent's user may not do: told once for each permission, by the name under which `gatewatch permissions`
//! prints it, until it is mended.
//!
//! The server says what a user may, and refuses what is tried. A permission that is given while the agent is connected
//! comes without a word: so it asks again as long as one is missing.

use std::time::Duration;

use super::{Agent, Effect, REFUSALS_MAX};
use crate::connect::permissions::{self, Permission};
use crate::connect::{Account, Denied, Operation, USER_INFO};
use crate::model::{Name, Refusal, Time};

/// How soon it shows that a missing permission is given.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// What the server says of our permissions.
#[derive(Debug, Default)]
pub(super) struct May {
    /// Whether it says anything.
    told: bool,
    missing: Vec<Permission>,
    asked_at: Time,
}

impl Agent {
    /// Takes in who the server says we are.
    pub(super) fn is_told_who_it_is(&mut self, mut account: Account) -> Vec<Effect> {
        if self.outbox.is_closed() {
            // Nothing is published, no other agent is spoken to, and who we are matters no more.
            account.missing.retain(|p| p.subject.starts_with("$SYS.") && p.subject != USER_INFO);
        }
        let given: Vec<Permission> =
            self.may.missing.iter().filter(|p| !account.missing.contains(p)).cloned().collect();
        for permission in &given {
            if self.observer.refused.remove(&refusal(permission, None)) {
                tracing::info!("the user may {} `{}` now", permission.operation, permission.subject);
            }
        }
        self.may.told = account.account.is_some();
        self.may.missing = account.missing;
        for permission in self.may.missing.clone() {
            self.may_not(&permission, None);
        }
        // What was not subscribed to is, by the next connection.
        if given.iter().any(|p| p.operation == Operation::Subscribe) {
            return vec![Effect::Reconnect];
        }
        if self.company.peers.leads() { self.serve() } else { Vec::new() }
    }

    /// The connection is another: what it may not do shows again.
    pub(super) fn ask_anew_what_it_may(&mut self, now: Time) -> Effect {
        self.observer.refused.retain(|r| &*r.operation == Refusal::LOOK_FROM || r.subject.contains(AT));
        self.ask_what_it_may(now)
    }

    /// Asks while something is missing.
    pub(super) fn ask_what_it_may_now(&mut self, now: Time) -> Option<Effect> {
        let due = self.connected && self.may.told && now.since(self.may.asked_at) >= ASK_EVERY;
        (due && !self.may.missing.is_empty()).then(|| self.ask_what_it_may(now))
    }

    fn ask_what_it_may(&mut self, now: Time) -> Effect {
        self.may.asked_at = now;
        Effect::AskWhoWeAre(self.config.prefix.clone())
    }

    /// The server refused something; `at` is a vantage, where it was not our own.
    pub(super) fn was_denied(&mut self, denied: &Denied, at: Option<&Name>) {
        let inbox_prefix = self.config.connect.inbox_prefix.as_deref().unwrap_or("_INBOX");
        let Denied { operation, subject } = denied;
        let row = permissions::of_refused(&self.config.prefix, inbox_prefix, *operation, subject);
        let permission = row.unwrap_or_else(|| Permission {
            operation: *operation,
            subject: subject.clone(),
            reason: "what it is for is not known",
        });
        // An answer that comes too late is refused too.
        if permission.operation != Operation::Answer || !self.may.told {
            self.may_not(&permission, at);
        }
    }

    fn may_not(&mut self, permission: &Permission, at: Option<&Name>) {
        let refusal = refusal(permission, at);
        if self.observer.refused.len() < REFUSALS_MAX && !self.observer.refused.contains(&refusal) {
            tracing::warn!(
                "the user may not {} `{}`: {}; `gatewatch permissions` prints a user with all that is needed",
                refusal.operation,
                refusal.subject.escape_debug(),
                permission.reason
            );
            self.observer.refused.insert(refusal);
        }
    }
}

/// What tells the subject from the vantage where it was refused.
const AT: &str = " at ";

/// Whether it was refused at that vantage.
pub(super) fn is_refused_at(refusal: &Refusal, vantage: &Name) -> bool {
    refusal.subject.strip_suffix(&**vantage).is_some_and(|rest| rest.ends_with(AT))
}

fn refusal(permission: &Permission, at: Option<&Name>) -> Refusal {
    let Permission { operation, subject, .. } = permission;
    let subject = at.map_or_else(|| subject.clone(), |at| format!("{subject}{AT}{at}"));
    Refusal { operation: operation.as_str().into(), subject: subject.as_str().into() }
}
