//! The further connections themselves: each is a task of its own, whose failure harms no other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message as Incoming, Subscriber};
use futures_util::stream::select_all;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::collect;
use crate::config::Connect;
use crate::connect::{self, Denied, Inbox, LinkEvent};
use crate::model::Name;

/// What waits to be taken in by the agent, of all ways. Beyond it each way holds the rest.
const NEWS_MAX: usize = 64;
/// How much of the replies, and of what is heard, a way holds that waits to be read, in bytes.
const HELD_BYTES_MAX: usize = 32 << 20;
/// What waits to be asked by one way. More is not asked: the next look asks again.
const QUESTIONS_MAX: usize = 64;
/// After a login that was refused, or a file that is not there: somebody has to mend that first.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// A neighbour that is asked nothing for this long is left.
const IDLE: Duration = Duration::from_secs(10);

/// What a way tells.
#[derive(Debug)]
pub(in crate::agent) enum News {
    /// It is connected to this server.
    Up {
        server: Name,
        server_id: Name,
    },
    /// It is not connected, and tries to be.
    Down,
    /// It was not let in, or cannot say who it is: trying again does not help.
    Refused,
    /// It may not do something there.
    Denied(Denied),
    /// It is no more.
    Over,
    Reply(Incoming),
    Heard(Incoming),
    /// More came than was read.
    Lost,
}

/// What is to be sent by a way; the reply to what is asked comes as [`News::Reply`].
#[derive(Debug)]
pub(in crate::agent) struct Question {
    pub(in crate::agent) subject: String,
    /// The last token of the subject for replies; none where none is wanted.
    pub(in crate::agent) token: Option<String>,
    pub(in crate::agent) body: String,
}

/// Where a way leads.
#[derive(Debug)]
pub(in crate::agent) enum To {
    /// Where it was told to, for as long as the agent runs.
    Vantage { connect: Box<Connect>, name: String },
    /// One of these servers of our own server's cluster.
    Neighbour { wanted: BTreeSet<Name> },
}

/// All ways, by number.
#[derive(Debug)]
pub(in crate::agent) struct Lines {
    open: BTreeMap<u64, (mpsc::Sender<Question>, AbortHandle)>,
    tell: mpsc::Sender<(u64, News)>,
    news: mpsc::Receiver<(u64, News)>,
}

impl Default for Lines {
    fn default() -> Self {
        let (tell, news) = mpsc::channel(NEWS_MAX);
        Self { open: BTreeMap::new(), tell, news }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.open.values().for_each(|(_, task)| task.abort());
    }
}

impl Lines {
    /// `own` is how the agent's own server is reached, and `known` where it says that others of its cluster are.
    pub(in crate::agent) fn open(&mut self, number: u64, to: To, own: &Connect, known: Vec<String>) {
        let (ask, questions) = mpsc::channel(QUESTIONS_MAX);
        let line = Line { number, tell: self.tell.clone(), questions };
        let task = match to {
            To::Vantage { connect, name } => tokio::spawn(line.vantage(*connect, name)),
            To::Neighbour { wanted } => tokio::spawn(line.neighbour(own.clone(), known, wanted)),
        };
        self.open.insert(number, (ask, task.abort_handle()));
    }

    pub(in crate::agent) fn close(&mut self, number: u64) {
        if let Some((_, task)) = self.open.remove(&number) {
            task.abort();
        }
    }

    pub(in crate::agent) fn ask(&self, number: u64, question: Question) {
        let asked = self.open.get(&number).map(|(ask, _)| ask.try_send(question));
        if let Some(Err(error)) = asked {
            tracing::debug!(number, %error, "not asked by this way");
        }
    }

    /// Never ends: we hold a sender ourselves.
    pub(in crate::agent) async fn next(&mut self) -> Option<(u64, News)> {
        self.news.recv().await
    }
}

struct Line {
    number: u64,
    tell: mpsc::Sender<(u64, News)>,
    questions: mpsc::Receiver<Question>,
}

impl Line {
    async fn vantage(mut self, to: Connect, name: String) {
        loop {
            match connect::connect(&to, &name).await {
                Ok((client, link)) => drop(self.serve(client, Loss::Vantage(link)).await),
                Err(error) => {
                    tracing::error!(%error, "no look from there until this is mended");
                    if self.tell(News::Refused).await.is_none() {
                        return;
                    }
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
            if self.tell(News::Down).await.is_none() {
                return;
            }
        }
    }

    async fn neighbour(mut self, own: Connect, known: Vec<String>, wanted: BTreeSet<Name>) {
        if let Some((client, lost)) = connect::connect_to(&own, &known, &wanted).await {
            self.serve(client, Loss::Neighbour(lost)).await;
        }
        self.tell(News::Over).await;
    }

    async fn tell(&self, news: News) -> Option<()> {
        self.tell.send((self.number, news)).await.ok()
    }

    async fn up(&self, client: &Client) -> Option<()> {
        let info = client.server_info();
        let (server, server_id) = (info.server_name.as_str().into(), info.server_id.as_str().into());
        self.tell(News::Up { server, server_id }).await
    }

    /// Asks and listens until the connection is over, or nobody wants it any more.
    async fn serve(&mut self, client: Client, mut loss: Loss) -> Option<()> {
        let inbox = client.new_inbox();
        let mut replies = Inbox::new(client.subscribe(format!("{inbox}.*")).await.ok()?, HELD_BYTES_MAX);
        // What a neighbour hears our own server hears too.
        let heard: &[&str] = match loss {
            Loss::Vantage(_) => {
                &[collect::HEARTBEAT, collect::SHUTDOWN, collect::LAMEDUCK, collect::AUTH_ERROR]
            }
            Loss::Neighbour(_) => &[],
        };
        let mut subscriptions: Vec<Subscriber> = Vec::new();
        for subject in heard {
            subscriptions.push(client.subscribe(*subject).await.ok()?);
        }
        let mut heard = Inbox::new(select_all(subscriptions), HELD_BYTES_MAX);
        self.up(&client).await?;
        let mut asked_at = Instant::now();
        loop {
            if replies.has_lost() | heard.has_lost() {
                self.tell(News::Lost).await?;
            }
            tokio::select! {
                biased;
                event = loss.next() => match event {
                    Some(LinkEvent::Connected) => self.up(&client).await?,
                    Some(LinkEvent::Disconnected) => self.tell(News::Down).await?,
                    Some(LinkEvent::Denied(denied)) => self.tell(News::Denied(denied)).await?,
                    Some(_) => {}
                    None => return Some(()),
                },
                question = self.questions.recv() => {
                    asked_at = Instant::now();
                    send(&client, &inbox, question?).await;
                }
                reply = replies.next() => self.tell(News::Reply(reply?)).await?,
                Some(message) = heard.next() => self.tell(News::Heard(message)).await?,
                () = tokio::time::sleep_until(asked_at + IDLE), if !loss.is_vantage() => return Some(()),
            }
        }
    }
}

/// How the loss of a connection is told.
enum Loss {
    Vantage(mpsc::Receiver<LinkEvent>),
    Neighbour(tokio::sync::oneshot::Receiver<()>),
}

impl Loss {
    const fn is_vantage(&self) -> bool {
        matches!(self, Self::Vantage(_))
    }

    /// None when the connection is lost for good.
    async fn next(&mut self) -> Option<LinkEvent> {
        match self {
            Self::Vantage(link) => link.recv().await,
            Self::Neighbour(lost) => lost.await.ok().map(|()| LinkEvent::Connected),
        }
    }
}

async fn send(client: &Client, inbox: &str, question: Question) {
    let Question { subject, token, body } = question;
    let sent = match token {
        Some(token) => {
            let mut headers = HeaderMap::new();
            // The servers compare it by case.
            headers.insert("Accept-Encoding", "snappy");
            let reply = format!("{inbox}.{token}");
            client.publish_with_reply_and_headers(subject, reply, headers, body.into()).await
        }
        None => client.publish(subject, body.into()).await,
    };
    if let Err(error) = sent {
        tracing::warn!(%error, "cannot ask by another way");
    }
}
