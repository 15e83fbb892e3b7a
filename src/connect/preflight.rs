//! Are we in the system account, and may we ask? Better said once at the start than guessed from silence.

use std::time::Duration;

use async_nats::{Client, Request, RequestErrorKind};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::permissions::{self, Permission};
use super::{Denied, LinkEvent, Operation};
use crate::config::redact;

/// Where a server says who we are.
pub const USER_INFO: &str = "$SYS.REQ.USER.INFO";
const GATEWAYZ: &str = "$SYS.REQ.SERVER.PING.GATEWAYZ";

/// Who the server says we are. Fields are `None` where it does not say (before 2.10, or not permitted).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The account's name or public key.
    pub account: Option<String>,
    /// The user's name or public key.
    pub user: Option<String>,
    /// Permissions that the agent uses and the user does not have; empty also where the server does not say.
    pub missing: Vec<Permission>,
}

/// Why there is nothing to watch from here.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// Nobody answers requests for servers in this account.
    #[error("{} is not a user of the system account: it is in account {}", who(.0), account(.0))]
    NotSystemAccount(Account),
    /// The user may not ask.
    #[error("{} has no permission to {} `{}`", who(.account), .denied.operation, redact::control(&.denied.subject))]
    Denied {
        /// Who.
        account: Account,
        /// What.
        denied: Denied,
        /// The inbox prefix in use.
        inbox_prefix: String,
    },
    /// The server is older than what is known of servers.
    #[error(
        "`{}` runs nats-server {}; gatewatch asks {}.{} and later",
        redact::control(.server), redact::control(.version), OLDEST.0, OLDEST.1
    )]
    TooOld {
        /// Its name, or ID.
        server: String,
        /// Its version.
        version: String,
    },
    /// The link was closed for good.
    #[error("the connection was closed")]
    Closed,
}

fn who(a: &Account) -> String {
    a.user
        .as_deref()
        .filter(|u| !u.is_empty())
        .map_or_else(|| "this user".to_owned(), |u| format!("user `{}`", redact::control(u)))
}

fn account(a: &Account) -> String {
    a.account.as_deref().map_or_else(|| "another".to_owned(), |n| format!("`{}`", redact::control(n)))
}

impl PreflightError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::TooOld { .. } => Some(
                "connect to a newer server of the supercluster, -s nats://HOST:4222, or upgrade this one".to_owned(),
            ),
            Self::NotSystemAccount(Account { account, .. }) if account.as_deref() == Some("$G") => Some(
                "`$G` is the account of who does not say who it is: --creds FILE, or --user NAME --password PASSWORD; \
                 where the server has no user of its system account yet, `gatewatch permissions` prints the block"
                    .to_owned(),
            ),
            Self::NotSystemAccount(_) => Some(
                "connect as a user of the system account, which alone may ask servers: --creds FILE, or --user NAME \
                 --password PASSWORD; `gatewatch permissions` prints such a user"
                    .to_owned(),
            ),
            Self::Denied { denied, inbox_prefix, .. }
                if denied.operation == Operation::Subscribe
                    && is_inbox(&denied.subject, inbox_prefix)
                    && inbox_prefix != permissions::INBOX_PREFIX =>
            {
                Some(format!(
                    "pass the inbox prefix that the user may listen to, for example --inbox-prefix {}",
                    permissions::INBOX_PREFIX
                ))
            }
            Self::Denied { denied, inbox_prefix, .. } => {
                // The table's own subject, which stands for the one that was asked.
                let Denied { operation, subject } = denied;
                Some(match permissions::of_refused("gatewatch", inbox_prefix, *operation, subject) {
                    Some(p) => format!(
                        "add it to the user's permissions, {}: {{ allow: [\"{}\"] }}, and let no `deny` cover it; \
                         `gatewatch permissions` prints a user with all that is needed",
                        p.operation, p.subject
                    ),
                    None => "`gatewatch permissions` prints a user with every permission that is needed".to_owned(),
                })
            }
            Self::Closed => None,
        }
    }
}

fn is_inbox(subject: &str, prefix: &str) -> bool {
    subject.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
}

/// The oldest version that anything is known of by measuring.
const OLDEST: (u64, u64) = (2, 9);

/// Whether `version` is older. One that is not written as versions are may be anything.
fn too_old(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split('.').map(str::parse::<u64>);
    matches!((parts.next(), parts.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < OLDEST)
}

/// So often it is asked who we are, until our own server is the first to say.
const ASKED_MAX: u32 = 8;

/// One request's end.
enum Outcome {
    Reply(Vec<u8>),
    NoResponders,
    Denied(Denied),
    Silence,
}

/// Asks the server who we are and whether servers answer us.
///
/// A refused permission comes as an event, not as a reply; so `events` is read meanwhile, and what was in it
/// is gone afterwards. A link that is lost meanwhile is waited for: when this returns `Ok`, the last that was
/// heard of it is that it is up. Silence is not a reason to give up: a server
/// that is too busy to answer is what the agent is there to see.
pub async fn preflight(
    client: &Client,
    events: &mut mpsc::Receiver<LinkEvent>,
    prefix: &str,
    inbox_prefix: &str,
    timeout: Duration,
) -> Result<Account, PreflightError> {
    let server = client.server_info();
    if too_old(&server.version) {
        let name = if server.server_name.is_empty() { server.server_id } else { server.server_name };
        return Err(PreflightError::TooOld { server: name, version: server.version });
    }
    let mut account = Account::default();
    let fail = |account: Account, denied| PreflightError::Denied {
        account,
        denied,
        inbox_prefix: inbox_prefix.to_owned(),
    };
    let mut told = ask(client, events, USER_INFO, inbox_prefix, timeout).await?;
    for _ in 1..ASKED_MAX {
        if !matches!(&told, Outcome::Reply(body) if !is_told_by(body, &server.server_id)) {
            break;
        }
        told = ask(client, events, USER_INFO, inbox_prefix, timeout).await?;
    }
    match told {
        Outcome::Reply(body) => account = read(&body, prefix, inbox_prefix),
        Outcome::Denied(denied) if denied.subject != USER_INFO => return Err(fail(account, denied)),
        Outcome::Denied(denied) => {
            account.missing.extend(permissions::of_refused(
                prefix,
                inbox_prefix,
                denied.operation,
                &denied.subject,
            ));
        }
        Outcome::NoResponders | Outcome::Silence => {}
    }
    match ask(client, events, GATEWAYZ, inbox_prefix, timeout).await? {
        Outcome::NoResponders => Err(PreflightError::NotSystemAccount(account)),
        Outcome::Denied(denied) => Err(fail(account, denied)),
        Outcome::Reply(_) | Outcome::Silence => Ok(account),
    }
}

/// Asks the server once more who we are; nothing where it does not say.
pub async fn who_am_i(client: &Client, prefix: &str, inbox_prefix: &str) -> Option<Account> {
    for _ in 0..ASKED_MAX {
        let reply = client.request(USER_INFO, "".into()).await.ok()?;
        if is_told_by(&reply.payload, &client.server_info().server_id) {
            let account = read(&reply.payload, prefix, inbox_prefix);
            return Some(account).filter(|account| account.account.is_some());
        }
    }
    None
}

/// Whether our own server said it. 2.10 asks other clusters too, of which one may be first, and knows no permissions.
fn is_told_by(body: &[u8], server_id: &str) -> bool {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Reply {
        server: Server,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Server {
        id: String,
    }
    let id = serde_json::from_slice::<Reply>(body).unwrap_or_default().server.id;
    id.is_empty() || id == server_id
}

async fn ask(
    client: &Client,
    events: &mut mpsc::Receiver<LinkEvent>,
    subject: &'static str,
    inbox_prefix: &str,
    timeout: Duration,
) -> Result<Outcome, PreflightError> {
    loop {
        let request = client.send_request(subject, Request::new().timeout(Some(timeout)));
        tokio::pin!(request);
        loop {
            let event = tokio::select! {
                reply = &mut request => return Ok(match reply {
                    Ok(message) => Outcome::Reply(message.payload.to_vec()),
                    Err(e) if e.kind() == RequestErrorKind::NoResponders => Outcome::NoResponders,
                    Err(_) => Outcome::Silence,
                }),
                event = events.recv() => event.ok_or(PreflightError::Closed)?,
            };
            match event {
                LinkEvent::Denied(d) if d.subject == subject || is_inbox(&d.subject, inbox_prefix) => {
                    return Ok(Outcome::Denied(d));
                }
                // What was asked went down with the link.
                LinkEvent::Disconnected => {
                    while events.recv().await.ok_or(PreflightError::Closed)? != LinkEvent::Connected {}
                    break;
                }
                _ => {}
            }
        }
    }
}

/// `data` of the reply to `$SYS.REQ.USER.INFO`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct UserInfo {
    user: Option<String>,
    account: Option<String>,
    permissions: Option<Permissions>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Permissions {
    publish: Option<Subjects>,
    subscribe: Option<Subjects>,
    responses: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Subjects {
    allow: Option<Vec<String>>,
    deny: Option<Vec<String>>,
}

fn read(body: &[u8], prefix: &str, inbox_prefix: &str) -> Account {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Reply {
        data: UserInfo,
    }
    let info = serde_json::from_slice::<Reply>(body).unwrap_or_default().data;
    let lacks = |p: &Permission| {
        let permissions = info.permissions.as_ref();
        let subjects = match p.operation {
            Operation::Publish | Operation::Answer => permissions.and_then(|a| a.publish.as_ref()),
            Operation::Subscribe => permissions.and_then(|a| a.subscribe.as_ref()),
        };
        let Some(subjects) = subjects else { return false };
        let any = |list: &Option<Vec<String>>| {
            list.iter().flatten().any(|allowed| permissions::covers(allowed, &p.subject))
        };
        let unbounded = subjects.allow.as_ref().is_none_or(Vec::is_empty);
        !(unbounded || any(&subjects.allow)) || any(&subjects.deny)
    };
    let mut missing: Vec<Permission> =
        permissions::needed(prefix, inbox_prefix).into_iter().filter(lacks).collect();
    // To whom from another account, and from our own.
    let to = |subject: &str| Permission { subject: subject.to_owned(), ..permissions::answers() };
    let may_answer = info.permissions.as_ref().is_some_and(|p| p.responses.is_some());
    if !may_answer && ["_R_.*", "_INBOX.*"].into_iter().map(to).all(|p| lacks(&p)) {
        missing.push(permissions::answers());
    }
    Account { account: info.account, user: info.user, missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_surely_older_is_too_old() {
        for version in ["2.2.0", "2.8.4", "1.4.1", "v2.8.0-beta"] {
            assert!(too_old(version), "{version}");
        }
        for version in ["2.9.0", "2.15.1", "3.0.0", "", "dev", "2", "2.x", "main-abc"] {
            assert!(!too_old(version), "{version}");
        }
    }

    #[test]
    fn a_user_without_bounds_lacks_nothing() {
        let a = read(br#"{"server":{},"data":{"user":"u","account":"SYS"}}"#, "gatewatch", "_INBOX");
        assert_eq!(a, Account { account: Some("SYS".into()), user: Some("u".into()), missing: vec![] });
    }

    #[test]
    fn what_the_user_lacks_is_told_by_the_table() {
        let body = r#"{"data":{"user":"u","account":"SYS","permissions":{
            "publish":{"allow":["$SYS.REQ.>","gatewatch.>"],"deny":["$SYS.REQ.SERVER.*.ROUTEZ"]},
            "subscribe":{"allow":[">"]}}}}"#;
        let missing = |body: &str| -> Vec<String> {
            read(body.as_bytes(), "gatewatch", "_INBOX").missing.into_iter().map(|p| p.subject).collect()
        };
        assert_eq!(missing(body), ["$SYS.REQ.SERVER.*.ROUTEZ", permissions::ANSWERS]);
        let subscribe = r#""subscribe":{"allow":[">"]}"#;
        let may_answer = body.replace(subscribe, &format!(r#"{subscribe},"responses":{{"max":1,"ttl":5}}"#));
        assert_eq!(missing(&may_answer), ["$SYS.REQ.SERVER.*.ROUTEZ"]);
        let may_publish_there = body.replace(r#""gatewatch.>""#, r#""gatewatch.>","_R_.>""#);
        assert_eq!(missing(&may_publish_there), ["$SYS.REQ.SERVER.*.ROUTEZ"]);
    }

    #[test]
    fn who_we_are_is_told_by_our_own_server_alone() {
        let body = br#"{"server":{"id":"NEU"},"data":{"user":"u","account":"SYS"}}"#;
        assert!(is_told_by(body, "NEU") && !is_told_by(body, "NUS"));
        assert!(is_told_by(b"{}", "NEU"), "who says nothing of itself is no other");
    }

    #[test]
    fn an_answer_that_is_none_says_nothing() {
        for body in [&b""[..], b"not json", b"[]", br#"{"data":{"user":5}}"#, br#"{"error":{"code":400}}"#] {
            assert_eq!(read(body, "gatewatch", "_INBOX"), Account::default());
        }
    }
}
