//! What is said, until the server has it.
//!
//! Core NATS confirms nothing, so a publish on a connection that is about to break is lost without a word. But
//! a server works off one connection in order: when the reply to a request comes back, everything published
//! before that request has arrived. The agent asks twice a second anyway, so each look confirms what was sent
//! before it; and it hears its own beats, which do the same where another agent asks. What was not confirmed when a
//! connection ends is sent again on the next, under the same `Nats-Msg-Id`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::model;

/// How much may wait, in bytes. At a kilobyte or two an event, that is several thousand.
pub const BYTES_MAX: usize = 16 * 1024 * 1024;

/// One message to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Where to.
    pub subject: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// One line of JSON.
    pub payload: String,
}

impl Message {
    /// Whether it can be published: a file may say that anything was.
    pub fn is_sound(&self) -> bool {
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '*' && c != '>';
        let subject = self.subject.split('.').all(|token| !token.is_empty() && token.chars().all(plain));
        let one_line = |text: &str| !text.contains(['\r', '\n']);
        let headers = self.headers.iter().all(|(name, value)| {
            one_line(value)
                && !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        subject && headers && one_line(&self.payload)
    }

    fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(k, v)| k.len() + v.len()).sum();
        self.subject.len() + headers + self.payload.len()
    }
}

/// Messages in order, each kept until it is known to have arrived.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Message>,
    bytes: usize,
    /// How many at the front of the queue were sent on this connection.
    sent: usize,
    /// How many have left the queue at its front, ever.
    gone: u64,
    dropped: u64,
    closed: bool,
}

impl Outbox {
    /// One that takes nothing in: who has it publishes nothing.
    pub fn closed() -> Self {
        Self { closed: true, ..Self::default() }
    }

    /// Whether it is such a one.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Appends `message`. When more waits than is allowed, the oldest goes.
    pub fn push(&mut self, message: Message) {
        if self.closed {
            return;
        }
        self.bytes += message.bytes();
        self.queue.push_back(message);
        while self.bytes > BYTES_MAX && self.queue.len() > 1 {
            self.pop();
            self.dropped += 1;
        }
    }

    /// What was not sent on this connection yet; it counts as sent from here on.
    pub fn send(&mut self) -> Vec<Message> {
        let unsent = self.queue.iter().skip(self.sent).cloned().collect();
        self.sent = self.queue.len();
        unsent
    }

    /// A mark for all that was sent so far, to be given to [`Self::confirm`] when an answer to something sent
    /// after it has come.
    pub fn mark(&self) -> u64 {
        self.gone + self.sent as u64
    }

    /// Everything up to `mark` has arrived. Whether that was anything.
    pub fn confirm(&mut self, mark: u64) -> bool {
        let before = self.gone;
        while self.gone < mark && self.sent > 0 {
            self.pop();
        }
        self.gone != before
    }

    /// The connection ended: what was not confirmed may be lost, and is sent again.
    pub fn rewind(&mut self) {
        self.sent = 0;
    }

    /// What was not sent on this connection and will not be.
    pub fn take_unsent(&mut self) -> Vec<Message> {
        let unsent: Vec<Message> = self.queue.drain(self.sent..).collect();
        self.bytes -= unsent.iter().map(Message::bytes).sum::<usize>();
        unsent
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What waits, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &Message> {
        self.queue.iter()
    }

    /// What a snapshot tells of it.
    pub fn stat(&self) -> model::Outbox {
        model::Outbox {
            waiting: self.queue.len() as u64,
            waiting_bytes: self.bytes as u64,
            dropped: self.dropped,
        }
    }

    fn pop(&mut self) {
        if let Some(message) = self.queue.pop_front() {
            self.bytes -= message.bytes();
            self.gone += 1;
            self.sent = self.sent.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: usize) -> Message {
        Message { subject: n.to_string(), headers: Vec::new(), payload: String::new() }
    }

    fn subjects(messages: &[Message]) -> Vec<&str> {
        messages.iter().map(|m| m.subject.as_str()).collect()
    }

    #[test]
    fn what_an_answer_does_not_confirm_is_sent_again_on_the_next_connection() {
        let mut outbox = Outbox::default();
        outbox.push(message(1));
        outbox.push(message(2));
        assert_eq!(subjects(&outbox.send()), ["1", "2"]);
        let mark = outbox.mark();
        outbox.push(message(3));
        assert_eq!(subjects(&outbox.send()), ["3"]);
        assert!(outbox.confirm(mark), "an answer to a request sent after 2");
        outbox.rewind();
        assert_eq!(subjects(&outbox.send()), ["3"], "3 was sent and not confirmed, 1 and 2 were");
        assert!(outbox.confirm(outbox.mark()));
        assert!(outbox.is_empty());
        assert!(!outbox.confirm(mark), "an old mark confirms nothing twice");
    }

    #[test]
    fn a_closed_one_has_nothing_to_send() {
        let mut outbox = Outbox::closed();
        outbox.push(message(1));
        assert!(outbox.is_closed() && outbox.send().is_empty() && outbox.is_empty());
        assert_eq!(outbox.stat(), model::Outbox::default(), "nothing is missed either");
    }

    #[test]
    fn when_the_bound_is_met_the_oldest_goes_and_is_counted() {
        let mut outbox = Outbox::default();
        let large = |n: usize| Message { payload: "x".repeat(BYTES_MAX / 4), ..message(n) };
        for n in 0..6 {
            outbox.push(large(n));
        }
        assert!(outbox.stat().waiting_bytes <= BYTES_MAX as u64);
        assert_eq!(outbox.stat().waiting + outbox.stat().dropped, 6);
        assert_eq!(outbox.send().first().map(|m| m.subject.clone()), Some(outbox.stat().dropped.to_string()));
    }
}
