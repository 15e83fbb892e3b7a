//! `gatewatch top`: the supercluster on the whole screen.
//!
//! [`state`] is what came, [`view`] what that looks like; both are pure. Here is the loop between NATS, the keys
//! and the terminal.

mod data;
mod keys;
mod links;
mod screen;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod view;

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use async_nats::{Client, Message, RequestErrorKind};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, SelectAll};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, Stdin, stdin};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use self::keys::{Key, Keys};
use self::screen::Screen;
use self::state::{Answer, Effect, Input, Question, State};
use super::connection::ConnectionArgs;
use super::{EXIT_USAGE, Failure, load, watch};
use crate::api::Endpoint;
use crate::clock::Clock;
use crate::config::{Flags, redact};
use crate::connect::{LinkEvent, Operation, connect};

/// Ages are shown in seconds.
const TICK: Duration = Duration::from_secs(1);
/// Not drawn more often than this.
const DRAW_EVERY: Duration = Duration::from_millis(50);
/// What follows an escape sooner than this belongs to it.
const SEQUENCE_WITHIN: Duration = Duration::from_millis(60);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The first token of the subjects [default: gatewatch, or `publish.prefix`]
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// The screen after a message that was asked for nothing: its findings, and all of the last of them.
#[cfg(any(test, fuzzing))]
pub(super) fn drawn(subject: &str, body: &[u8], now: crate::model::Time) -> String {
    use ratatui::buffer::Buffer;
    use ratatui::layout::Rect;
    let mut state = State::new("gatewatch", "A0", now);
    state.apply(Input::Message { subject, body }, now);
    for question in [Question::Findings { after: None }, Question::Topology, Question::Epoch] {
        state.apply(Input::Answer(&question, Answer::Body(body)), now);
    }
    let mut out = String::new();
    for pane in [state::Pane::Links, state::Pane::Findings, state::Pane::Cause, state::Pane::Events] {
        (state.pane, state.zoomed) = (pane, true);
        let area = Rect::new(0, 0, 100, 30);
        let mut buffer = Buffer::empty(area);
        state.drawn = view::draw(&state, view::Look { colour: true, unicode: true }, area, &mut buffer);
        out.extend(buffer.content().iter().map(ratatui::buffer::Cell::symbol));
    }
    out
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    terminal()?;
    let config = load(&Flags { prefix: args.prefix, ..args.connection.into_flags() })?;
    let mut stops = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let stop = async move {
        let stops = stops.iter_mut().map(|stop| stop.recv().boxed_local());
        futures_util::future::select_all(stops).await;
    };
    let follow = async {
        let (client, events) = connect(&config.connect, "top").await?;
        let mut messages = SelectAll::new();
        for what in ["finding", "epoch", "agent"] {
            let subject = format!("{}.{what}.>", config.prefix);
            let subscription = client.subscribe(subject).await.map_err(|e| Failure::new(1, e, None))?;
            messages.push(subscription);
        }
        let screen = Screen::enter()?;
        let clock = Clock::start();
        let state = State::new(&config.prefix, &client.server_info().server_name, clock.now());
        let top = Top {
            clock,
            client,
            prefix: config.prefix.clone(),
            timeout: config.timeout,
            state,
            screen,
            answers: FuturesUnordered::new(),
        };
        top.follow(messages, events).await
    };
    tokio::select! {
        done = follow => done,
        () = stop => Ok(()),
    }
}

/// Whether there is a screen to draw on, and keys that can be read.
fn terminal() -> Result<(), Failure> {
    let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
    let missing = match (io::stdin().is_terminal(), io::stdout().is_terminal()) {
        (_, false) => "standard output is no terminal",
        (false, _) => "standard input is no terminal",
        _ if dumb => "this terminal cannot move its cursor (TERM=dumb)",
        _ => return Ok(()),
    };
    Err(Failure::new(
        EXIT_USAGE,
        format!("`gatewatch top` needs a terminal, and {missing}"),
        Some(
            "in a pipe or a script, `gatewatch watch` follows findings and `gatewatch check` looks once"
                .to_owned(),
        ),
    ))
}

/// A question and what came of it.
type Asked = LocalBoxFuture<'static, (Question, Result<Message, RequestErrorKind>)>;

struct Top {
    clock: Clock,
    client: Client,
    prefix: String,
    timeout: Duration,
    state: State,
    screen: Screen,
    answers: FuturesUnordered<Asked>,
}

/// What woke us.
enum Woken {
    Message(Option<Message>),
    Link(Option<LinkEvent>),
    Answer(Question, Result<Message, RequestErrorKind>),
    Keys(Vec<Key>),
    /// The keyboard is gone.
    NoKeys,
    Suspend,
    /// The terminal may show something else.
    Repaint,
    /// Its size may be another.
    Resized,
    Tick,
}

impl Top {
    async fn follow(
        mut self,
        mut messages: impl stream::Stream<Item = Message> + Unpin,
        mut events: mpsc::Receiver<LinkEvent>,
    ) -> Result<(), Failure> {
        let mut keyboard = Keyboard::open();
        let mut signals = Signals::open()?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draw_at = Instant::now();
        let mut changed = true;
        loop {
            let woken = tokio::select! {
                // Keys first: who presses `q` in a flood of events means it.
                biased;
                keys = keyboard.next() => keys.map_or(Woken::NoKeys, Woken::Keys),
                woken = signals.next() => woken,
                () = sleep_until(draw_at), if changed => {
                    self.state.drawn = self.screen.draw(&self.state)?;
                    (changed, draw_at) = (false, Instant::now() + DRAW_EVERY);
                    continue;
                }
                event = events.recv() => Woken::Link(event),
                Some((question, answer)) = self.answers.next() => Woken::Answer(question, answer),
                message = messages.next() => Woken::Message(message),
                _ = tick.tick() => Woken::Tick,
            };
            changed = true;
            for effect in self.take(woken)? {
                match effect {
                    Effect::Ask(question) => self.ask(question),
                    Effect::Repaint => self.screen.repaint()?,
                    Effect::Suspend => self.screen.suspend()?,
                    Effect::Quit => return Ok(()),
                }
            }
        }
    }

    fn take(&mut self, woken: Woken) -> Result<VecDeque<Effect>, Failure> {
        let now = self.clock.now();
        let mut apply = |input| self.state.apply(input, now);
        let effects = match woken {
            Woken::Message(Some(message)) => {
                apply(Input::Message { subject: &message.subject, body: &message.payload })
            }
            Woken::Message(None) | Woken::Link(None) | Woken::NoKeys => vec![Effect::Quit],
            Woken::Link(Some(LinkEvent::Denied(denied)))
                if denied.operation == Operation::Subscribe && denied.subject.contains(".finding.") =>
            {
                return Err(watch::denied_failure(&denied.subject));
            }
            Woken::Link(Some(event)) => {
                if event == LinkEvent::Connected {
                    self.state.at = redact::control(&self.client.server_info().server_name).into_owned();
                }
                self.state.apply(Input::Link(&event), now)
            }
            Woken::Answer(question, answer) => match &answer {
                Ok(message) => apply(Input::Answer(&question, read(message))),
                Err(RequestErrorKind::NoResponders) => apply(Input::Answer(&question, Answer::NobodyThere)),
                Err(_) => apply(Input::Answer(&question, Answer::None)),
            },
            Woken::Keys(keys) => keys.into_iter().flat_map(|key| apply(Input::Key(key))).collect(),
            Woken::Suspend => vec![Effect::Suspend],
            Woken::Repaint => vec![Effect::Repaint],
            Woken::Resized => Vec::new(),
            Woken::Tick => apply(Input::Tick),
        };
        Ok(effects.into())
    }

    fn ask(&self, question: Question) {
        let (endpoint, body) = match &question {
            Question::Findings { after } => {
                let body = serde_json::json!({ "limit": data::FINDINGS_MAX, "after": after });
                (Endpoint::Findings, body.to_string())
            }
            Question::Topology => (Endpoint::Topology, String::new()),
            Question::Epoch => (Endpoint::Epoch, String::new()),
        };
        let subject = format!("{}.api.{}", self.prefix, endpoint.subject());
        let (client, patience) = (self.client.clone(), self.timeout);
        let asked = async move {
            let request = async_nats::Request::new().payload(body.into()).timeout(Some(patience));
            let answer = client.send_request(subject, request).await;
            (question, answer.map_err(|e| e.kind()))
        };
        self.answers.push(asked.boxed_local());
    }
}

fn read(message: &Message) -> Answer<'_> {
    let error = message.headers.as_ref().and_then(|h| h.get("Nats-Service-Error"));
    error.map_or(Answer::Body(&message.payload), |error| Answer::Refused(error.as_str()))
}

/// Standard input, where keys come from.
struct Keyboard {
    stdin: Stdin,
    keys: Keys,
}

impl Keyboard {
    fn open() -> Self {
        Self { stdin: stdin(), keys: Keys::default() }
    }

    /// The next keys; none when there is no keyboard any more. Cancel-safe.
    async fn next(&mut self) -> Option<Vec<Key>> {
        let mut bytes = [0; 1024];
        let read = self.stdin.read(&mut bytes);
        let read = if self.keys.has_begun() { timeout(SEQUENCE_WITHIN, read).await } else { Ok(read.await) };
        match read {
            Err(_) => Some(self.keys.end().into_iter().collect()),
            Ok(Err(_) | Ok(0)) => None,
            Ok(Ok(len)) => Some(self.keys.feed(bytes.get(..len).unwrap_or_default())),
        }
    }
}

/// The signals about the terminal.
struct Signals([tokio::signal::unix::Signal; 3]);

impl Signals {
    fn open() -> io::Result<Self> {
        let of = |s: Signal| signal(SignalKind::from_raw(s as i32));
        Ok(Self([of(Signal::SIGTSTP)?, of(Signal::SIGCONT)?, signal(SignalKind::window_change())?]))
    }

    async fn next(&mut self) -> Woken {
        let [suspend, go_on, resized] = &mut self.0;
        tokio::select! {
            _ = suspend.recv() => Woken::Suspend,
            _ = go_on.recv() => Woken::Repaint,
            _ = resized.recv() => Woken::Resized,
        }
    }
}
