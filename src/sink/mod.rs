//! Where findings are kept: a stream and a bucket in an account of the user's.
//!
//! A task of its own has the connection; the agent hands events over through the [`Shelf`], which is bounded, and
//! hears by [`Event`]s what the sink holds and what is wrong with it. The agent never waits for it.

mod api;
mod shelf;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::config::{self, redact};
use crate::connect::{self, Denied, LinkEvent};
use crate::findings::{Finding, State};
use crate::publish::{Message, event};
use api::{Api, Failure, Kept, Written};
pub use shelf::{BYTES_MAX, Load, Mark, Shelf, Stored, Write};

/// So many writes are on their way at once, and so many bytes of them.
const IN_FLIGHT_MAX: usize = 128;
const IN_FLIGHT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The pause after a failure, doubled at each further one.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A first connection that takes longer is told of.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Refused permissions that are remembered.
const DENIED_MAX: usize = 16;

/// What the agent hears of the sink.
#[derive(Debug)]
pub enum Event {
    /// All that it holds, as far as nothing waits that changes it.
    Holds(Holds),
    /// It does not take what is to be kept.
    Trouble {
        /// What is wrong.
        why: String,
        /// What to do.
        todo: String,
    },
    /// It took all that waited.
    Well,
}

/// What the sink holds.
#[derive(Debug, Default)]
pub struct Holds {
    /// Open findings.
    pub open: Vec<Finding>,
    /// Fingerprints of those that need not be written anew: what the stream, or without one the bucket, has open,
    /// and those of which something waits.
    pub known: BTreeSet<String>,
    /// The last message of those that ended.
    pub ended: BTreeMap<String, Mark>,
}

/// The agent's end.
#[derive(Debug)]
pub struct Sink {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    shelf: Mutex<Shelf>,
    /// Something is to be written.
    work: Notify,
    /// All is to be read anew.
    again: Notify,
    /// Nothing waits any more.
    empty: Notify,
}

impl Shared {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    /// Starts the task. It ends when nobody listens to its events.
    pub fn start(config: config::Sink, agent: &str, prefix: &str) -> (Self, mpsc::Receiver<Event>) {
        let (events, heard) = mpsc::channel(4);
        let shared = Arc::new(Shared {
            shelf: Mutex::new(Shelf::new(config.stream.is_some(), config.bucket.is_some())),
            work: Notify::new(),
            again: Notify::new(),
            empty: Notify::new(),
        });
        let task = Task {
            name: format!("{agent} sink"),
            subjects: format!("{prefix}.finding.>"),
            config,
            shared: Arc::clone(&shared),
            events,
            told: None,
        };
        tokio::spawn(task.run());
        (Self { shared }, heard)
    }

    /// Hands an event over; only those of findings are kept.
    pub fn keep(&self, message: &Message) {
        self.shared.shelf().push(message);
        self.shared.work.notify_one();
    }

    /// Has the sink tell anew what it holds.
    pub fn read_again(&self) {
        self.shared.again.notify_one();
    }

    /// How much waits.
    pub fn load(&self) -> Load {
        self.shared.shelf().load()
    }

    /// Ends when nothing waits.
    pub async fn drained(&self) {
        while self.load().waiting > 0 {
            self.shared.empty.notified().await;
        }
    }
}

/// How the connection stands.
#[derive(Debug, Default)]
struct Link {
    connected: bool,
    denied: BTreeSet<Denied>,
    reason: String,
}

struct Task {
    config: config::Sink,
    name: String,
    subjects: String,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    /// The trouble that the agent knows of.
    told: Option<String>,
}

/// What came back of a write.
enum Done {
    Event { subject: String, bytes: usize, result: Result<Written, Failure> },
    Put { key: String, turn: u64, bytes: usize, result: Result<(), Failure> },
}

impl Task {
    async fn run(mut self) {
        let Some((client, mut link)) = self.connect().await else { return };
        let api = Api::new(client);
        let mut pause = PAUSE_MIN;
        while !self.events.is_closed() {
            let began = Instant::now();
            let failure = self.session(&api, &mut link).await;
            self.shared.shelf().rewind();
            if failure == Failure::Again {
                continue;
            }
            self.explain(failure, &link).await;
            pause = if began.elapsed() > PAUSE_MAX * 2 { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            // A connection that comes back is used at once.
            let back = async {
                if link.wait_for(|link| !link.connected).await.is_ok() {
                    drop(link.wait_for(|link| link.connected).await);
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = back => {}
                () = self.events.closed() => {}
            }
        }
    }

    /// Connects, however long it takes.
    async fn connect(&mut self) -> Option<(Client, watch::Receiver<Link>)> {
        loop {
            let (config, name) = (self.config.connect.clone(), self.name.clone());
            let attempt = connect::connect(&config, &name);
            tokio::pin!(attempt);
            let connected = loop {
                tokio::select! {
                    connected = &mut attempt => break connected,
                    () = self.events.closed() => return None,
                    () = tokio::time::sleep(CONNECT_WITHIN) => {
                        let at = config.server.as_deref().map(redact::urls).unwrap_or_default();
                        self.trouble(format!("cannot reach {at}"), "start it, or look at what stands between".into())
                            .await;
                    }
                }
            };
            match connected {
                Ok((client, events)) => return Some((client, watch_link(events))),
                Err(error) => {
                    let todo = error.help().unwrap_or("mend the credentials of `[sink]`").to_owned();
                    self.trouble(error.to_string(), todo).await;
                    tokio::time::sleep(PAUSE_MAX).await;
                }
            }
        }
    }

    async fn tell(&self, event: Event) {
        // Fails only when the agent is gone.
        drop(self.events.send(event).await);
    }

    async fn trouble(&mut self, why: String, todo: String) {
        if self.told.as_ref() != Some(&why) {
            tracing::warn!("the sink does not take findings: {why}; {todo}");
            self.told = Some(why.clone());
            self.tell(Event::Trouble { why, todo }).await;
        }
    }

    async fn well(&mut self) {
        if self.told.take().is_some() {
            tracing::info!("the sink has all that waited");
            self.tell(Event::Well).await;
        }
    }

    async fn explain(&mut self, failure: Failure, link: &watch::Receiver<Link>) {
        let (why, todo) = match failure {
            Failure::Again => return,
            Failure::Refused { why, todo } => (why, todo),
            Failure::Silence { subject } => {
                let link = link.borrow();
                let denied = link.denied.iter().next();
                match denied {
                    Some(denied) => (
                        format!("its user may not {} {}", denied.operation, redact::control(&denied.subject)),
                        "give it what `gatewatch permissions --sink` prints".to_owned(),
                    ),
                    None if !link.connected => {
                        (format!("no connection: {}", link.reason), "look at the sink's server".to_owned())
                    }
                    None => {
                        let kind =
                            if subject.starts_with("$JS.API") { "JetStream's API" } else { "its stream" };
                        (format!("no answer from {kind}"), "look at the sink's server".to_owned())
                    }
                }
            }
        };
        self.trouble(why, todo).await;
    }

    /// From reading what is there to the first failure.
    async fn session(&mut self, api: &Api, link: &mut watch::Receiver<Link>) -> Failure {
        if !link.borrow_and_update().connected {
            return Failure::Silence { subject: String::new() };
        }
        let dropped = self.shared.shelf().load().dropped;
        let holds = tokio::select! {
            holds = self.read(api) => holds,
            // Answers to requests on an old connection do not come.
            _ = link.wait_for(|link| !link.connected) => return Failure::Silence { subject: String::new() },
        };
        match holds {
            Ok(holds) => self.tell(Event::Holds(holds)).await,
            Err(failure) => return failure,
        }
        let mut on_their_way = FuturesUnordered::new();
        let mut bytes = 0;
        loop {
            while on_their_way.len() < IN_FLIGHT_MAX && bytes < IN_FLIGHT_BYTES_MAX {
                let Some((write, turn)) = self.shared.shelf().take_next() else { break };
                let length = match &write {
                    Write::Event { message, .. } => message.payload.len(),
                    Write::Put { value, .. } => value.as_ref().map_or(0, String::len),
                };
                bytes += length;
                on_their_way.push(self.write(api, write, turn, length));
            }
            if on_their_way.is_empty() && self.shared.shelf().load().waiting == 0 {
                self.shared.empty.notify_waiters();
                // What was given up is made good by what the ledger says now.
                if self.shared.shelf().load().dropped > dropped {
                    return Failure::Again;
                }
                self.well().await;
            }
            tokio::select! {
                Some(done) = on_their_way.next() => {
                    bytes -= match done {
                        Done::Event { subject, bytes, result } => {
                            let mut shelf = self.shared.shelf();
                            match result {
                                Ok(Written::At(sequence)) => shelf.stored(&subject, sequence),
                                Ok(Written::Last(last)) => shelf.reread(&subject, last),
                                Err(failure) => return failure,
                            }
                            bytes
                        }
                        Done::Put { key, turn, bytes, result } => match result {
                            Ok(()) => {
                                self.shared.shelf().kept(&key, turn);
                                bytes
                            }
                            Err(failure) => return failure,
                        },
                    };
                }
                () = self.shared.work.notified() => {}
                () = self.shared.again.notified(), if on_their_way.is_empty() => return Failure::Again,
                _ = link.wait_for(|link| !link.connected) => {
                    return Failure::Silence { subject: String::new() };
                }
                () = self.events.closed() => return Failure::Again,
            }
        }
    }

    fn write(&self, api: &Api, write: Write, turn: u64, bytes: usize) -> impl Future<Output = Done> + use<> {
        let (api, stream, bucket) = (api.clone(), self.config.stream.clone(), self.config.bucket.clone());
        async move {
            match write {
                Write::Event { message, after } => {
                    let result = api.write(stream.as_deref().unwrap_or_default(), &message, after).await;
                    Done::Event { subject: message.subject, bytes, result }
                }
                Write::Put { key, value } => {
                    let result = api.put(bucket.as_deref().unwrap_or_default(), &key, value).await;
                    Done::Put { key, turn, bytes, result }
                }
            }
        }
    }

    /// Makes or checks stream and bucket, reads both, and mends what an earlier end left between them.
    async fn read(&self, api: &Api) -> Result<Holds, Failure> {
        let mut last: BTreeMap<String, Stored> = BTreeMap::new();
        if let Some(stream) = &self.config.stream {
            api.ensure_stream(stream, &self.subjects).await?;
            let each = |kept: Kept| last.extend(kept.stored().map(|stored| (kept.subject, stored)));
            api.last_of_each(stream, &self.subjects, false, each).await?;
        }
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        if let Some(bucket) = &self.config.bucket {
            api.ensure_bucket(bucket).await?;
            let start = format!("$KV.{bucket}.");
            let each = |kept: Kept| {
                let key =
                    kept.subject.strip_prefix(&start).filter(|_| !kept.headers.contains_key("KV-Operation"));
                if let (Some(key), Ok(value)) = (key, String::from_utf8(kept.payload)) {
                    values.insert(key.to_owned(), value);
                }
            };
            api.last_of_each(&format!("KV_{bucket}"), &format!("{start}>"), true, each).await?;
        }
        let resting: Vec<Stored> = {
            let mut shelf = self.shared.shelf();
            shelf.rewind();
            shelf.read(last);
            shelf.at_rest().map(|(_, stored)| stored.clone()).collect()
        };
        let mut holds = Holds::default();
        let mut mended: Vec<(String, Option<String>)> = Vec::new();
        for stored in resting {
            let print = stored.fingerprint;
            let value = values.remove(&print);
            if stored.state == State::Resolved {
                holds.ended.insert(print.clone(), stored.mark);
                if value.is_some() {
                    mended.push((print, None));
                }
                continue;
            }
            let fresh = value.as_ref().and_then(|v| event::read(v.as_bytes())).filter(|told| {
                let finding = &told.finding;
                finding.fingerprint == print
                    && finding.opened_at.as_millis() == stored.mark.opened_at_ms
                    && finding.revision == stored.mark.revision
            });
            let finding = if let Some(told) = fresh {
                Some(told.finding)
            } else {
                let stream = self.config.stream.as_deref().unwrap_or_default();
                let kept = api.by_sequence(stream, stored.sequence).await?;
                kept.and_then(|kept| {
                    let finding = event::read(&kept.payload)?.finding;
                    mended.push((print.clone(), String::from_utf8(kept.payload).ok()));
                    Some(finding)
                })
            };
            holds.open.extend(finding.filter(|finding| finding.resolved_at.is_none()));
            holds.known.insert(print);
        }
        let mut shelf = self.shared.shelf();
        let moving: BTreeSet<String> = shelf.in_motion().into_iter().map(str::to_owned).collect();
        for (print, value) in values.into_iter().filter(|(print, _)| !moving.contains(print)) {
            let told = event::read(value.as_bytes()).filter(|told| told.finding.fingerprint == print);
            let Some(told) = told else { continue };
            holds.open.push(told.finding);
            if self.config.stream.is_none() {
                holds.known.insert(print);
            }
        }
        holds.open.retain(|finding| !moving.contains(&finding.fingerprint));
        holds.known.extend(moving.iter().cloned());
        for (key, value) in mended.into_iter().filter(|(key, _)| !moving.contains(key)) {
            shelf.wish(key, value);
        }
        Ok(holds)
    }
}

/// Keeps what is known of the connection, so that its events are always taken.
fn watch_link(mut events: mpsc::Receiver<LinkEvent>) -> watch::Receiver<Link> {
    let (known, link) = watch::channel(Link { connected: true, ..Link::default() });
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            known.send_modify(|link| match event {
                LinkEvent::Connected => *link = Link { connected: true, ..Link::default() },
                LinkEvent::Disconnected => link.connected = false,
                LinkEvent::Retrying { reason } => link.reason = reason,
                LinkEvent::Denied(denied) if link.denied.len() < DENIED_MAX => {
                    link.denied.insert(denied);
                }
                _ => {}
            });
        }
    });
    link
}
