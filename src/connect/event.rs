//! What happens to the link, as the agent hears it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Event, ServerError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::redact;

/// Between two lines in the log about the same vain effort.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// What happened to the link. But for what was refused, whose name depends on who hears it, and for messages that were
/// lost, it is logged already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected again, to the same server or another. The client makes its subscriptions anew.
    Connected,
    /// The link is lost; the client is trying to get it back.
    Disconnected,
    /// Attempts to connect failed.
    Retrying {
        /// Which servers, and why.
        reason: String,
    },
    /// The server is about to leave and will close the link.
    LameDuck,
    /// The server did not carry out something for want of a permission. There is no other answer to it.
    Denied(Denied),
    /// A subscription of ours overflowed: messages are lost, on our side.
    SlowConsumer,
    /// The server complained of something else.
    ServerError {
        /// Its words.
        reason: String,
    },
}

/// What the server did not do, for want of a permission.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Denied {
    /// What we wanted.
    pub operation: Operation,
    /// Of which subject.
    pub subject: String,
}

/// What a permission is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Sending to a subject.
    Publish,
    /// Listening to a subject.
    Subscribe,
    /// Sending to the subject for replies that a request carries.
    Answer,
}

impl Operation {
    /// The word in a server's configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Answer => "answer",
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Denied {
    /// Reads the server's words (`client.go` of nats-server):
    /// `Permissions Violation for Publish to "…"`, `… for Publish with Reply of "…"`,
    /// `… for Subscription to "…"` (also followed by `using queue "…"`).
    pub fn parse(text: &str) -> Option<Self> {
        const START: &str = "permissions violation for ";
        let rest = text.get(START.len()..).filter(|_| starts_with_ignoring_case(text, START))?;
        let operation = if starts_with_ignoring_case(rest, "publish") {
            Operation::Publish
        } else if starts_with_ignoring_case(rest, "subscription") {
            Operation::Subscribe
        } else {
            return None;
        };
        let subject = rest.split('"').nth(1)?;
        Some(Self { operation, subject: subject.to_owned() })
    }
}

fn starts_with_ignoring_case(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|t| t.eq_ignore_ascii_case(start))
}

/// The sending end: logs each event once and hands it on.
pub(super) struct Link {
    events: mpsc::Sender<LinkEvent>,
    /// When the log was last told that there is no connection, so that it is not told every second.
    logged_at: Mutex<Option<Instant>>,
}

impl Link {
    pub(super) fn new(most: usize) -> (Self, mpsc::Receiver<LinkEvent>) {
        let (events, receiver) = mpsc::channel(most);
        (Self { events, logged_at: Mutex::default() }, receiver)
    }

    /// Attempts failed: told to the agent unless it is behind, logged every few seconds.
    pub(super) fn retrying(&self, reason: &str) {
        let reason = redact::control(reason).into_owned();
        if self.log_due() {
            tracing::warn!("cannot connect, trying again: {reason}");
        }
        // The next attempt says it again.
        let _ = self.events.try_send(LinkEvent::Retrying { reason });
    }

    fn logged_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.logged_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_due(&self) -> bool {
        let mut logged_at = self.logged_at();
        let due = logged_at.is_none_or(|at| at.elapsed() >= LOG_EVERY);
        if due {
            *logged_at = Some(Instant::now());
        }
        due
    }

    pub(super) async fn event(&self, event: Event) {
        let event = match event {
            Event::Connected => {
                *self.logged_at() = None;
                tracing::info!("connected");
                LinkEvent::Connected
            }
            Event::Disconnected => {
                tracing::warn!("connection lost, reconnecting");
                LinkEvent::Disconnected
            }
            Event::LameDuckMode => {
                tracing::info!("the server is in lame duck mode and will close the connection");
                LinkEvent::LameDuck
            }
            Event::SlowConsumer(_) => {
                // A flood brings thousands: they neither fill the log, nor stand in the way of what else happens.
                tracing::debug!("messages lost: they come faster than they are read");
                let _ = self.events.try_send(LinkEvent::SlowConsumer);
                return;
            }
            Event::ServerError(ServerError::AuthorizationViolation) => {
                server_error("authorization violation")
            }
            Event::ServerError(ServerError::Other(text)) => match Denied::parse(&text) {
                Some(denied) => {
                    let (operation, subject) = (denied.operation, redact::control(&denied.subject));
                    tracing::debug!("permission denied: {operation} `{subject}`");
                    LinkEvent::Denied(denied)
                }
                None => server_error(&text),
            },
            Event::ServerError(e @ ServerError::SlowConsumer(_)) => server_error(&e.to_string()),
            // Attempts that failed come with their reason by `retrying`; an end that we asked for is none.
            Event::ClientError(_) | Event::Draining | Event::Closed => return,
        };
        // Fails only when the agent is gone.
        let _ = self.events.send(event).await;
    }
}

fn server_error(text: &str) -> LinkEvent {
    let reason = redact::control(text).into_owned();
    tracing::warn!("the server says: {reason}");
    LinkEvent::ServerError { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_violation_names_operation_and_subject() {
        let cases = [
            (
                r#"Permissions Violation for Publish to "$SYS.REQ.X""#,
                Some((Operation::Publish, "$SYS.REQ.X")),
            ),
            (
                r#"permissions violation for subscription to "_INBOX.a.*""#,
                Some((Operation::Subscribe, "_INBOX.a.*")),
            ),
            (
                r#"Permissions Violation for Subscription to "a" using queue "b""#,
                Some((Operation::Subscribe, "a")),
            ),
            (r#"Permissions Violation for Publish with Reply of "r""#, Some((Operation::Publish, "r"))),
            ("Permissions Violation", None),
            ("Stale Connection", None),
            ("", None),
        ];
        for (text, wanted) in cases {
            let found = Denied::parse(text);
            assert_eq!(found.as_ref().map(|d| (d.operation, d.subject.as_str())), wanted, "{text}");
        }
    }
}
