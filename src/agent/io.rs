//! What the agent waits for, and what it has done: the only part of it that waits.

use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message as Incoming};
use futures_util::stream::select_all;
use tokio::sync::{mpsc, oneshot};

use super::AgentError;
use super::peers::LEDGER_BYTES_MAX;
use super::service::{Offer, Question, Service};
use super::ways::line::{self, Lines, News, To};
use crate::api::ApiError;
use crate::clock::Clock;
use crate::collect::{self, decode};
use crate::config::Connect;
use crate::connect::{self, Account, Inbox, LinkEvent, MESSAGES_MAX};
use crate::model::{Name, Time};
use crate::publish::{Message, State, StateFile};
use crate::sink;

/// How much of what came waits to be read, in bytes: the answers of all servers at once, what they say unasked, and the
/// largest ledger of another agent.
const REPLIES_BYTES_MAX: usize = 128 << 20;
const HEARD_BYTES_MAX: usize = 64 << 20;
const OTHERS_BYTES_MAX: usize = LEDGER_BYTES_MAX;
const PULLS_BYTES_MAX: usize = 1 << 20;
/// Of a shorter heartbeat all is kept: to look for what nobody reads costs more than to keep it.
const LONG_BYTES: usize = 16 << 10;
/// A heartbeat that is of hundreds in a second may wait so long for those after it.
const HEARD_AT_ONCE: Duration = Duration::from_millis(50);
/// So long after something was lost more is likely to come than can be read.
const FLOODED_FOR: Duration = Duration::from_secs(1);

/// One thing that happened.
#[derive(Debug)]
pub(super) enum Action {
    Stop(&'static str),
    Link(LinkEvent),
    Reply(Incoming),
    Heard(Incoming),
    /// Somebody asks us.
    Asked(Box<Question>),
    Way(u64, News),
    Sink(sink::Event),
    /// The server says who we are.
    WhoWeAre(Account),
    Due,
}

/// One thing to do.
#[derive(Debug)]
pub(super) enum Effect {
    Ask {
        subject: String,
        reply: String,
        body: String,
    },
    /// Has a server send a heartbeat to everyone.
    Nudge {
        subject: String,
    },
    OpenWay(u64, To),
    CloseWay(u64),
    AskWay(u64, line::Question),
    Publish(Message),
    /// To other agents.
    Send {
        subject: String,
        reply: Option<String>,
        body: String,
    },
    /// Whether who comes is to find us as the one that leads.
    Listen(bool),
    Save(StateFile, Box<State>),
    /// Answers requests from now on.
    Serve(Offer),
    /// Answers none any more.
    Withdraw,
    Answer(Box<Question>, Result<Vec<u8>, ApiError>),
    /// Asks the server who we are, by the prefix of our subjects.
    AskWhoWeAre(String),
    /// Makes the connection anew, with all subscriptions.
    Reconnect,
}

/// Which server we talk to, and by which connection: it counts up at each reconnect.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Identity {
    pub(super) connects: u64,
    pub(super) server: Name,
    pub(super) server_id: Name,
    /// The largest message that it carries, in bytes.
    pub(super) payload_bytes_max: usize,
}

pub(super) struct Io<S> {
    pub(super) client: Client,
    connect: Connect,
    pub(super) clock: Clock,
    link: mpsc::Receiver<LinkEvent>,
    replies: Inbox<Incoming>,
    heard: Inbox<Incoming>,
    /// Other agents.
    others: Inbox<Incoming>,
    flooded_until: Time,
    /// Where those that come ask who leads.
    pub(super) pull_subject: String,
    pulls: Option<Inbox<Incoming>>,
    service: Service,
    lines: Lines,
    /// What the sink tells.
    pub(super) sink: Option<mpsc::Receiver<sink::Event>>,
    who_we_are: Option<oneshot::Receiver<Account>>,
    stop: Pin<Box<S>>,
    stopped: bool,
    /// How many messages came since something was due.
    past_due: usize,
}

impl<S: Future<Output = &'static str>> Io<S> {
    pub(super) async fn open(
        client: Client,
        connect: Connect,
        link: mpsc::Receiver<LinkEvent>,
        inbox: &str,
        others: &[String],
        stop: Pin<Box<S>>,
    ) -> Result<Self, AgentError> {
        let subscribe = async |subject: String| {
            client
                .subscribe(subject.clone())
                .await
                .map_err(|source| AgentError::Subscribe { subject, source })
        };
        let replies = subscribe(format!("{inbox}.*")).await?;
        let mut heard = Vec::new();
        for subject in [collect::HEARTBEAT, collect::SHUTDOWN, collect::LAMEDUCK, collect::AUTH_ERROR] {
            heard.push(subscribe(subject.to_owned()).await?);
        }
        let mut others_say = Vec::new();
        for subject in others {
            others_say.push(subscribe(subject.clone()).await?);
        }
        let replies = Inbox::new(replies, REPLIES_BYTES_MAX);
        let heard = Inbox::without(unread, select_all(heard), HEARD_BYTES_MAX).at_once(HEARD_AT_ONCE);
        let others = Inbox::new(select_all(others_say), OTHERS_BYTES_MAX);
        Ok(Self {
            client,
            connect,
            clock: Clock::start(),
            link,
            replies,
            heard,
            others,
            flooded_until: Time::default(),
            lines: Lines::default(),
            pull_subject: String::new(),
            pulls: None,
            service: Service::default(),
            sink: None,
            who_we_are: None,
            stop,
            stopped: false,
            past_due: 0,
        })
    }

    pub(super) fn identity(&self) -> Identity {
        let info = self.client.server_info();
        Identity {
            connects: self.client.statistics().connects.load(Ordering::SeqCst),
            server: info.server_name.as_str().into(),
            server_id: info.server_id.as_str().into(),
            payload_bytes_max: info.max_payload,
        }
    }

    /// What the connection says goes first: replies of an old one must not pass for those of a new one. A reply that
    /// is here counts before its look is over, unless they never end.
    pub(super) async fn select(&mut self, due: Time) -> Result<Action, AgentError> {
        let now = self.clock.now();
        if self.has_lost() {
            self.flooded_until = now.plus(FLOODED_FOR);
            return Ok(Action::Link(LinkEvent::SlowConsumer));
        }
        let timer = tokio::time::sleep_until(self.clock.instant(due));
        self.past_due = if now > due { self.past_due + 1 } else { 0 };
        // What is to be done by time waits for those that were here before it was due.
        let goes_first = self.past_due > MESSAGES_MAX || self.past_due > 0 && now < self.flooded_until;
        // Not in order: what never ends of one kind must not hold up the others.
        let message = async {
            tokio::select! {
                message = self.replies.next() => message.map(Action::Reply),
                message = self.heard.next() => message.map(Action::Heard),
                // Who sweeps does not listen to them.
                Some(message) = self.others.next() => Some(Action::Heard(message)),
            }
        };
        tokio::select! {
            biased;
            reason = &mut self.stop, if !self.stopped => {
                self.stopped = true;
                Ok(Action::Stop(reason))
            }
            event = self.link.recv() => event.map(Action::Link).ok_or(AgentError::Closed),
            () = std::future::ready(()), if goes_first => Ok(Action::Due),
            action = message => action.ok_or(AgentError::Closed),
            Some(message) = next(&mut self.pulls) => Ok(Action::Heard(message)),
            Some((number, news)) = self.lines.next() => Ok(Action::Way(number, news)),
            Some(event) = tell(&mut self.sink) => Ok(Action::Sink(event)),
            Some(account) = told(&mut self.who_we_are) => Ok(Action::WhoWeAre(account)),
            () = timer => Ok(Action::Due),
            // After the timer: whoever asks without a pause must not keep the agent from looking.
            Some(question) = self.service.next() => Ok(Action::Asked(question)),
        }
    }

    /// Whether something was given up that came faster than it was read.
    fn has_lost(&self) -> bool {
        let pulls = self.pulls.as_ref().is_some_and(Inbox::has_lost);
        let heard = self.heard.has_lost() | self.others.has_lost();
        self.replies.has_lost() | heard | self.service.has_lost() | pulls
    }

    pub(super) async fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Ask { subject, reply, body } => {
                    let mut headers = HeaderMap::new();
                    // The servers compare it by case.
                    headers.insert("Accept-Encoding", "snappy");
                    let sent = self
                        .client
                        .publish_with_reply_and_headers(subject, reply, headers, body.into())
                        .await;
                    if let Err(error) = sent {
                        tracing::warn!(%error, "cannot ask");
                    }
                }
                Effect::Nudge { subject } => {
                    if let Err(error) = self.client.publish(subject, "".into()).await {
                        tracing::warn!(%error, "cannot ask");
                    }
                }
                Effect::OpenWay(number, to) => {
                    let known = self.client.server_info().connect_urls;
                    self.lines.open(number, to, &self.connect, known);
                }
                Effect::CloseWay(number) => self.lines.close(number),
                Effect::AskWay(number, question) => self.lines.ask(number, question),
                Effect::Publish(message) => {
                    let mut headers = HeaderMap::new();
                    for (name, value) in &message.headers {
                        headers.insert(name.as_str(), value.as_str());
                    }
                    let sent = self
                        .client
                        .publish_with_headers(message.subject, headers, message.payload.into())
                        .await;
                    if let Err(error) = sent {
                        tracing::warn!(%error, "cannot publish");
                    }
                }
                Effect::Send { subject, reply, body } => {
                    let sent = match reply {
                        Some(reply) => self.client.publish_with_reply(subject, reply, body.into()).await,
                        None => self.client.publish(subject, body.into()).await,
                    };
                    if let Err(error) = sent {
                        tracing::warn!(%error, "cannot speak to other agents");
                    }
                }
                Effect::Listen(true) if self.pulls.is_none() => {
                    match self.client.subscribe(self.pull_subject.clone()).await {
                        Ok(pulls) => self.pulls = Some(Inbox::new(pulls, PULLS_BYTES_MAX)),
                        Err(error) => tracing::warn!(%error, "agents that come will not find this one"),
                    }
                }
                Effect::Listen(listens) => {
                    if !listens {
                        self.pulls = None;
                    }
                }
                Effect::Save(file, state) => {
                    let saved = tokio::task::spawn_blocking(move || file.save(&state)).await;
                    if let Ok(Err(error)) = saved {
                        tracing::error!(%error, "open findings would not survive a restart now");
                    }
                }
                Effect::Serve(offer) => self.service.start(&self.client, offer).await,
                Effect::Withdraw => self.service.stop().await,
                Effect::Answer(question, answer) => question.answer(answer).await,
                Effect::AskWhoWeAre(prefix) => {
                    let (tell, told) = oneshot::channel();
                    self.who_we_are = Some(told);
                    let client = self.client.clone();
                    let inbox_prefix = self.connect.inbox_prefix.clone().unwrap_or_else(|| "_INBOX".into());
                    tokio::spawn(async move {
                        // Where it is not told there is nobody to tell.
                        if let Some(account) = connect::who_am_i(&client, &prefix, &inbox_prefix).await {
                            let _ = tell.send(account);
                        }
                    });
                }
                Effect::Reconnect => {
                    if let Err(error) = self.client.force_reconnect().await {
                        tracing::warn!(%error, "cannot connect anew");
                    }
                }
            }
        }
    }
}

/// What comes next, for ever nothing where nobody listens.
async fn next(inbox: &mut Option<Inbox<Incoming>>) -> Option<Incoming> {
    match inbox {
        Some(inbox) => inbox.next().await,
        None => std::future::pending().await,
    }
}

/// What the server says once, for ever nothing where it does not.
async fn told(account: &mut Option<oneshot::Receiver<Account>>) -> Option<Account> {
    let Some(told) = account else { return std::future::pending().await };
    let told = told.await;
    *account = None;
    told.ok()
}

/// The same of the sink.
async fn tell(sink: &mut Option<mpsc::Receiver<sink::Event>>) -> Option<sink::Event> {
    match sink {
        Some(sink) => sink.recv().await,
        None => std::future::pending().await,
    }
}

/// What of a message is not kept.
fn unread(message: &Incoming) -> Range<usize> {
    let is_long = message.payload.len() >= LONG_BYTES && message.subject.ends_with(".STATSZ");
    if is_long { decode::unread(&message.payload) } else { 0..0 }
}
