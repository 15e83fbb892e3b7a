//! The micro service: what arrives on `<prefix>.api.>`, and what the agent keeps to answer it.
//!
//! Only an agent that leads serves: [`Agent::serve`] and [`Agent::withdraw`] are for whoever decides that.

use std::collections::VecDeque;
use std::sync::Arc;

use async_nats::Client;
use async_nats::service::{self, ServiceExt};
use futures_util::StreamExt;
use futures_util::stream::SelectAll;

use super::{Agent, Effect};
use crate::api::{self, ApiError, Counters, Endpoint, Resolved, View};
use crate::connect::{Inbox, Incoming, Operation};
use crate::findings::Change;
use crate::model::{Name, Refusal, Roster, Sight, Snapshot, Time};
use crate::publish::Message;
use crate::publish::event::EpochCost;

/// How much of what is asked waits to be read, in bytes: more than a thousand of the largest requests that are answered.
const REQUESTS_BYTES_MAX: usize = 32 << 20;

/// What the service is to be.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    /// Of its subjects.
    prefix: String,
    /// Which agent answers.
    agent: String,
}

/// One request, to be answered once.
#[derive(Debug)]
pub(super) struct Question {
    endpoint: Endpoint,
    request: service::Request,
}

impl Incoming for Box<Question> {
    fn message(&mut self) -> &mut async_nats::Message {
        &mut self.request.message
    }
}

impl Question {
    pub(super) async fn answer(self, answer: Result<Vec<u8>, ApiError>) {
        // Nobody waits for an answer.
        if self.request.message.reply.is_none() {
            return;
        }
        let answer = answer
            .map(Into::into)
            .map_err(|error| service::error::Error { status: error.text, code: usize::from(error.code) });
        if let Err(error) = self.request.respond(answer).await {
            tracing::warn!(%error, "cannot answer");
        }
    }
}

/// The service as others see it; none while this agent does not serve.
#[derive(Default)]
pub(super) struct Service {
    running: Option<service::Service>,
    questions: Option<Inbox<Box<Question>>>,
}

impl Service {
    pub(super) async fn start(&mut self, client: &Client, offer: Offer) {
        if self.running.is_some() {
            return;
        }
        match Self::open(client, offer).await {
            Ok(service) => *self = service,
            Err(error) => tracing::error!(%error, "cannot answer requests"),
        }
    }

    async fn open(client: &Client, offer: Offer) -> Result<Self, async_nats::Error> {
        let running = client
            .service_builder()
            .description(api::DESCRIPTION)
            .metadata([("agent".to_owned(), offer.agent)].into())
            .start(api::NAME, env!("CARGO_PKG_VERSION"))
            .await?;
        let group = running.group(format!("{}.api", offer.prefix));
        let mut questions = SelectAll::new();
        for endpoint in Endpoint::ALL {
            let about = [("request".to_owned(), endpoint.example().to_owned())];
            let builder = group.endpoint_builder().name(endpoint.name()).metadata(about.into());
            let requests = builder.add(endpoint.subject()).await?;
            questions.push(requests.map(move |request| Box::new(Question { endpoint, request })).boxed());
        }
        let questions = Some(Inbox::new(questions, REQUESTS_BYTES_MAX));
        Ok(Self { running: Some(running), questions })
    }

    pub(super) async fn stop(&mut self) {
        // Subscriptions end with their streams.
        self.questions = None;
        if let Some(running) = self.running.take()
            && let Err(error) = running.stop().await
        {
            tracing::debug!(%error, "the service ended in disorder");
        }
    }

    /// The next request; none while there is no service.
    pub(super) async fn next(&mut self) -> Option<Box<Question>> {
        self.questions.as_mut()?.next().await
    }

    /// Whether a request was given up since this was asked last.
    pub(super) fn has_lost(&self) -> bool {
        self.questions.as_ref().is_some_and(Inbox::has_lost)
    }
}

/// What answers need beside what the agent knows anyway.
#[derive(Debug, Default)]
pub(super) struct Desk {
    serves: bool,
    snapshot: Option<Snapshot>,
    /// The topology of that look, once somebody asked for it.
    topology: Option<Vec<u8>>,
    epoch: Option<String>,
    resolved: Resolved,
    counters: Counters,
    /// Who waits for a look that begins after they asked.
    sweeps: VecDeque<(Box<Question>, Time)>,
}

impl Desk {
    /// A finding changed.
    pub(super) fn take(&mut self, change: &Change) {
        self.resolved.take(change);
        self.counters.take(change);
    }

    /// A look is over.
    pub(super) fn show(&mut self, snapshot: Snapshot) {
        self.counters.looks += 1;
        self.put_back(snapshot);
    }

    /// A server answered anew: of a large supercluster there is no room for its answer before that.
    pub(super) fn renew(&mut self, id: &Name, roster: &Roster) {
        let server = self.snapshot.as_mut().and_then(|snapshot| snapshot.servers.get_mut(id));
        let Some(server) = server else { return };
        if let (Some(held), Some(told)) = (server.gatewayz.as_mut(), roster.gatewayz(id)) {
            *held = Arc::clone(told);
        }
        if let (Some(held), Some((at, told))) = (server.routez.as_mut(), roster.routez(id)) {
            *held = Arc::clone(told);
            server.routez_at = Some(*at);
        }
    }

    /// Whether a server was seen to have lost its way to us.
    pub(super) fn is_unreachable(&self, id: &Name) -> bool {
        let server = self.snapshot.as_ref().and_then(|snapshot| snapshot.servers.get(id));
        server.is_some_and(|server| server.sight == Sight::Unreachable)
    }

    /// The next snapshot is about to be made, or this one brought up to date.
    pub(super) fn put_away(&mut self) -> Option<Snapshot> {
        self.snapshot.take()
    }

    /// What is on show was brought up to date.
    pub(super) fn put_back(&mut self, snapshot: Snapshot) {
        self.snapshot = Some(snapshot);
        self.topology = None;
    }

    /// An epoch is over.
    pub(super) fn close_epoch(&mut self, message: &Message, cost: EpochCost) {
        self.counters.epochs += 1;
        self.counters.spend(cost);
        self.epoch = Some(message.payload.clone());
    }

    /// The connection is lost, and with it the way back to those who wait.
    pub(super) fn forget_sweeps(&mut self) {
        self.sweeps.clear();
    }
}

impl Agent {
    /// Begins to answer requests, as a leader does. Does nothing where the user may not listen to them.
    pub(super) fn serve(&mut self) -> Vec<Effect> {
        if self.desk.serves || self.outbox.is_closed() {
            return Vec::new();
        }
        let api = format!("{}.api.>", self.config.prefix);
        let refused = |subject: &str| {
            let operation = Operation::Subscribe.as_str().into();
            self.observer.refused.contains(&Refusal { operation, subject: subject.into() })
        };
        if refused(&api) {
            tracing::debug!("requests are not answered: the user may not subscribe to `{api}`");
            return Vec::new();
        }
        self.desk.serves = true;
        self.desk.counters.leads = true;
        let prefix = self.config.prefix.clone();
        vec![Effect::Serve(Offer { prefix, agent: self.config.name.clone() })]
    }

    /// Answers no more requests, as one that stands by or ends. Whoever waits for a look asks the next leader.
    pub(super) fn withdraw(&mut self) -> Vec<Effect> {
        self.desk.counters.leads = false;
        self.desk.forget_sweeps();
        if std::mem::take(&mut self.desk.serves) { vec![Effect::Withdraw] } else { Vec::new() }
    }

    /// Somebody asks.
    pub(super) fn asked(&mut self, question: Box<Question>, now: Time) -> Vec<Effect> {
        let body = question.request.message.payload.clone();
        let answer = match question.endpoint {
            Endpoint::Sweep => match self.queue_sweep(&body) {
                Ok(()) => {
                    self.desk.sweeps.push_back((question, now));
                    self.look_soon(now);
                    return Vec::new();
                }
                Err(error) => Err(error),
            },
            Endpoint::SilenceAdd => api::add(&body, &mut self.ledger, &nuid::next(), now),
            Endpoint::SilenceRemove => api::remove(&body, &mut self.ledger, now),
            Endpoint::Topology if self.desk.topology.is_some() && body.is_empty() => {
                Ok(self.desk.topology.clone().unwrap_or_default())
            }
            endpoint => {
                self.desk.counters.outbox = self.outbox.stat();
                api::answer(endpoint, &body, &self.view(now))
            }
        };
        let changed = matches!(question.endpoint, Endpoint::SilenceAdd | Endpoint::SilenceRemove);
        let mut effects = Vec::new();
        if let (true, Ok(silence)) = (changed, &answer) {
            tracing::info!(silence = %String::from_utf8_lossy(silence), "{}", question.endpoint.subject());
            // What somebody was told of outlives us.
            effects.extend(self.save());
            // Those that stand by see that their copy of the ledger is not ours, and ask for it.
            self.company.changes += 1;
            self.look_soon(now);
        }
        if let (Endpoint::Topology, Ok(topology)) = (question.endpoint, &answer) {
            self.desk.topology = Some(topology.clone());
        }
        effects.push(Effect::Answer(question, answer));
        effects
    }

    fn queue_sweep(&mut self, body: &[u8]) -> Result<(), ApiError> {
        api::sweep(body)?;
        if self.desk.sweeps.len() >= api::SWEEPS_MAX {
            return Err(ApiError::new(503, "too many wait for the next look; ask again in a second"));
        }
        Ok(())
    }

    fn view(&self, now: Time) -> View<'_> {
        View {
            now,
            ledger: &self.ledger,
            resolved: &self.desk.resolved,
            snapshot: self.desk.snapshot.as_ref(),
            epoch: self.desk.epoch.as_deref(),
            settings: &self.config.checks,
            counters: &self.desk.counters,
            agent: &self.config.name,
            answer_bytes_max: api::ANSWER_BYTES_MAX.min(self.identity.payload_bytes_max),
        }
    }

    /// Those who asked before this look began are told what it showed.
    pub(super) fn answer_sweeps(&mut self, snapshot: &Snapshot, asked_at: Time, now: Time) -> Vec<Effect> {
        if self.desk.sweeps.is_empty() {
            return Vec::new();
        }
        let message = self.epoch_message(snapshot, asked_at, now);
        let seen = self.desk.sweeps.iter().take_while(|(_, since)| *since <= asked_at).count();
        let told = self.desk.sweeps.drain(..seen);
        let effects = told
            .map(|(question, _)| Effect::Answer(question, Ok(message.payload.clone().into_bytes())))
            .collect();
        if !self.desk.sweeps.is_empty() {
            self.look_soon(now);
        }
        effects
    }

    fn look_soon(&mut self, now: Time) {
        if self.connected {
            self.soon_at.get_or_insert(now);
        }
    }
}
