//! What came and waits to be read: a bounded number of messages, and of bytes.
//!
//! `async-nats` holds what was not read yet by number alone, and a small message as the whole buffer that it was read
//! into. So each subscription is emptied at once, whatever its reader does, and what is kept of it is counted here.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::Message;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, coop};
use tokio::time::{Instant, sleep_until};

/// How many messages wait to be read; what comes beyond is given up, and said. A look that asks all at once brings
/// fewer.
pub const MESSAGES_MAX: usize = 8192;
/// What a message, and each header of one, takes beside what came over the line.
const MESSAGE_BYTES: usize = 512;
const HEADER_BYTES: usize = 256;

/// What comes by a subscription.
pub trait Incoming: Send + 'static {
    /// As it came.
    fn message(&mut self) -> &mut Message;
}

impl Incoming for Message {
    fn message(&mut self) -> &mut Message {
        self
    }
}

/// What came by some subscriptions, until it is read. They end with it.
#[derive(Debug)]
pub struct Inbox<T> {
    arrived: mpsc::Receiver<(usize, T)>,
    held: Arc<Held>,
    task: AbortHandle,
    /// For how long it may rest.
    rest: Duration,
    /// When the last message was read.
    read_at: Option<Instant>,
    rests_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: AtomicUsize,
    has_lost: AtomicBool,
}

impl<T: Incoming> Inbox<T> {
    /// Holds `bytes_max` at the most of what comes.
    pub fn new(stream: impl Stream<Item = T> + Send + 'static, bytes_max: usize) -> Self {
        Self::without(|_| 0..0, stream, bytes_max)
    }

    /// As [`Self::new`]; of each payload it does not keep what is `unread`.
    pub fn without(
        unread: fn(&Message) -> Range<usize>,
        stream: impl Stream<Item = T> + Send + 'static,
        bytes_max: usize,
    ) -> Self {
        let (arrive, arrived) = mpsc::channel(MESSAGES_MAX);
        let held = Arc::new(Held::default());
        let filled = fill(unread, stream, arrive, Arc::clone(&held), bytes_max);
        // Who yields while there is more lets the client's own queue grow.
        let task = tokio::spawn(coop::unconstrained(filled)).abort_handle();
        Self { arrived, held, task, rest: Duration::ZERO, read_at: None, rests_until: None }
    }

    /// Where more comes within `rest`, what comes in that time is read at once: to wake its reader for each message
    /// costs as much as to read it.
    #[must_use]
    pub fn at_once(mut self, rest: Duration) -> Self {
        self.rest = rest;
        self
    }

    /// What came first; none when the connection is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<T> {
        if let Some(until) = self.rests_until.filter(|until| Instant::now() < *until) {
            sleep_until(until).await;
        }
        self.rests_until = None;
        let (bytes, message) = self.arrived.recv().await?;
        self.held.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if !self.rest.is_zero() && self.arrived.is_empty() {
            let now = Instant::now();
            let before = self.read_at.replace(now);
            let often = before.is_some_and(|at| now.duration_since(at) < self.rest * 2);
            self.rests_until = often.then(|| now + self.rest);
        }
        Some(message)
    }

    /// Whether something was given up since this was asked last.
    pub fn has_lost(&self) -> bool {
        self.held.has_lost.swap(false, Ordering::Relaxed)
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn fill<T: Incoming>(
    unread: fn(&Message) -> Range<usize>,
    stream: impl Stream<Item = T>,
    arrive: mpsc::Sender<(usize, T)>,
    held: Arc<Held>,
    bytes_max: usize,
) {
    let mut stream = pin!(stream);
    while let Some(mut message) = stream.next().await {
        let unread = unread(message.message());
        let bytes = weigh(message.message()).saturating_sub(unread.len());
        let is_room = held.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= bytes_max;
        let place = if is_room { arrive.try_reserve().ok() } else { None };
        let Some(place) = place else {
            held.has_lost.store(true, Ordering::Relaxed);
            continue;
        };
        // As it came, it is a part of a buffer that lives as long as any of its parts.
        let payload = &mut message.message().payload;
        *payload = match (payload.get(..unread.start), payload.get(unread.end..)) {
            (Some(before), Some(after)) => [before, after].concat().into(),
            _ => payload.to_vec().into(),
        };
        held.bytes.fetch_add(bytes, Ordering::Relaxed);
        place.send((bytes, message));
    }
}

/// About what it takes in memory.
fn weigh(message: &Message) -> usize {
    let headers =
        message.headers.as_ref().map_or(0, |headers| headers.iter().map(|(_, v)| 1 + v.len()).sum());
    message.length + MESSAGE_BYTES + HEADER_BYTES * headers
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, stream};

    use super::*;

    fn message(payload: &str, headers: usize) -> Message {
        let mut map = async_nats::HeaderMap::new();
        (0..headers).for_each(|number| map.insert(format!("h{number}"), ""));
        Message {
            subject: "a".into(),
            reply: None,
            payload: payload.to_owned().into(),
            headers: (headers > 0).then_some(map),
            status: None,
            description: None,
            length: payload.len(),
        }
    }

    #[tokio::test]
    async fn what_nobody_reads_takes_no_room() {
        let long = "x".repeat(100_000) + "end";
        let messages = || stream::iter((0..99).map(|_| message(&long, 0)).collect::<Vec<_>>());
        let mut inbox = Inbox::without(|m| 1..m.payload.len() - 3, messages(), 1 << 20);
        for _ in 0..99 {
            assert_eq!(inbox.next().await.unwrap().payload, "xend");
        }
        assert!(inbox.next().await.is_none() && !inbox.has_lost());
        let mut inbox = Inbox::without(|_| 7..9, stream::iter([message("short", 0)]), 1 << 20);
        assert_eq!(inbox.next().await.unwrap().payload, "short", "there is nothing there");
    }

    /// What is left of these when nobody reads before all came, and whether some is told to be lost.
    async fn held(messages: Vec<Message>, bytes_max: usize) -> (Vec<String>, bool) {
        let mut inbox = Inbox::new(stream::iter(messages), bytes_max);
        while !inbox.arrived.is_closed() {
            tokio::task::yield_now().await;
        }
        let has_lost = inbox.has_lost();
        assert!(!inbox.has_lost(), "told once");
        let mut held = Vec::new();
        while let Some(message) = inbox.next().await {
            held.push(String::from_utf8(message.payload.to_vec()).unwrap());
        }
        assert_eq!(inbox.held.bytes.load(Ordering::Relaxed), 0);
        (held, has_lost)
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes() {
        let long = "x".repeat(100 << 10);
        let messages = |number| vec![message(&long, 0); number];
        assert_eq!(held(messages(9), 1 << 20).await, (vec![long.clone(); 9], false));
        assert_eq!(held(messages(99), 1 << 20).await, (vec![long.clone(); 10], true));
        // What is smaller still has room.
        let mixed = [messages(99), vec![message("y", 0)]].concat();
        let (left, _) = held(mixed, 1 << 20).await;
        assert_eq!(left.last().map(String::as_str), Some("y"));
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_messages() {
        let messages = |number| vec![message("", 0); number];
        assert_eq!(
            held(messages(MESSAGES_MAX), usize::MAX).await,
            (vec![String::new(); MESSAGES_MAX], false)
        );
        assert_eq!(
            held(messages(2 * MESSAGES_MAX), usize::MAX).await,
            (vec![String::new(); MESSAGES_MAX], true)
        );
    }

    #[tokio::test]
    async fn headers_count_as_what_they_take() {
        let (left, has_lost) = held(vec![message("", 1000); 99], 1 << 20).await;
        assert!((1..=4).contains(&left.len()) && has_lost, "{}", left.len());
    }

    #[tokio::test]
    async fn a_small_message_does_not_hold_the_buffer_that_it_came_in() {
        let mut whole = message(&"x".repeat(1 << 20), 0);
        let buffer = whole.payload.clone();
        whole.payload = buffer.slice(..4);
        whole.length = 4;
        let mut inbox = Inbox::new(stream::iter([whole]), 1 << 20);
        let kept = inbox.next().await.unwrap();
        assert_eq!(&*kept.payload, b"xxxx");
        assert!(buffer.is_unique(), "it is held");
    }

    #[tokio::test]
    async fn what_comes_fast_is_read_at_once_and_what_comes_alone_without_delay() {
        let rest = Duration::from_millis(400);
        let (send, receive) = mpsc::channel(8);
        let stream = stream::unfold(receive, |mut receive| async { Some((receive.recv().await?, receive)) });
        let mut inbox = Inbox::new(stream, 1 << 20).at_once(rest);
        let come = async |inbox: &Inbox<Message>, number: usize| {
            for _ in 0..number {
                send.send(message("", 0)).await.unwrap();
            }
            while inbox.arrived.len() < number {
                tokio::task::yield_now().await;
            }
        };
        for _ in 0..2 {
            come(&inbox, 1).await;
            assert!(inbox.next().now_or_never().is_some(), "at once");
        }
        let began = Instant::now();
        come(&inbox, 3).await;
        assert!(inbox.next().now_or_never().is_none(), "it may have to wait for more");
        assert!(inbox.next().await.is_some() && began.elapsed() >= rest * 3 / 4);
        assert!((0..2).all(|_| inbox.next().now_or_never().is_some()), "all that came");
        tokio::time::sleep(rest * 2).await;
        for _ in 0..2 {
            come(&inbox, 1).await;
            assert!(inbox.next().now_or_never().is_some(), "it came alone");
        }
    }

    #[tokio::test]
    async fn what_was_read_makes_room() {
        let long = "x".repeat(600 << 10);
        let (send, receive) = mpsc::channel(1);
        let stream = stream::unfold(receive, |mut receive| async { Some((receive.recv().await?, receive)) });
        let mut inbox = Inbox::new(stream, 1 << 20);
        for _ in 0..9 {
            send.send(message(&long, 0)).await.unwrap();
            assert!(inbox.next().await.is_some());
        }
        assert!(!inbox.has_lost());
    }
}
