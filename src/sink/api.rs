//! What is said to `JetStream`: the few requests that are needed, as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Request, RequestErrorKind, StatusCode};
use data_encoding::BASE64;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::shelf::Stored;
use crate::connect::permissions::covers;

/// The longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// So many messages are asked for at once.
const BATCH: u64 = 256;
/// The window in which the stream drops doubles.
const DUPLICATES: Duration = Duration::from_secs(120);
/// An event is 256 KiB at the most, and its headers are less than 4 KiB.
const MESSAGE_BYTES_MAX: i64 = 260 * 1024;

/// In the server, and for the account.
const NOT_ENABLED: [u64; 2] = [10_076, 10_039];
const NO_STREAM: u64 = 10_059;
const NAME_IN_USE: u64 = 10_058;
const NO_MESSAGE: u64 = 10_037;
/// The subject's last message is another; a cluster says so with another number.
const WRONG_LAST: [u64; 2] = [10_071, 10_164];

/// Why something did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer.
    Silence { subject: String },
    /// Somebody has to do something.
    Refused { why: String, todo: String },
    /// Nothing failed: all is to be read anew.
    Again,
}

fn refused(why: impl Into<String>, todo: impl Into<String>) -> Failure {
    Failure::Refused { why: why.into(), todo: todo.into() }
}

/// What became of a write to the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is there.
    At(u64),
    /// It may be there; in any case this is the subject's last message.
    Last(Option<Stored>),
}

/// A message of a stream.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) subject: String,
    pub(super) sequence: u64,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) payload: Vec<u8>,
}

impl Kept {
    pub(super) fn stored(&self) -> Option<Stored> {
        let header = |name: &str| self.headers.get(name).map(String::as_str);
        Stored::of(self.sequence, header("Nats-Msg-Id")?, header("Gatewatch-State")?)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Api {
    client: Client,
}

impl Api {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    async fn send(&self, subject: &str, headers: HeaderMap, body: String) -> Result<Message, Failure> {
        let request = Request::new().headers(headers).payload(body.into()).timeout(Some(TIMEOUT));
        match self.client.send_request(subject.to_owned(), request).await {
            Ok(message) => Ok(message),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(refused(
                format!("nobody answers to {subject}"),
                "enable JetStream for the account of `[sink]`, or wait until its server has started it",
            )),
            Err(_) => Err(Failure::Silence { subject: subject.to_owned() }),
        }
    }

    /// Asks, and gives the answer or the number and text of the error in it.
    async fn ask(&self, what: &str, body: &Value) -> Result<Result<Value, (u64, String)>, Failure> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let subject = format!("$JS.API.{what}");
        let message = self.send(&subject, HeaderMap::new(), body).await?;
        Ok(answer(&message.payload))
    }

    async fn info(&self, stream: &str) -> Result<Option<Value>, Failure> {
        match self.ask(&format!("STREAM.INFO.{stream}"), &Value::Null).await? {
            Ok(mut info) => Ok(info.get_mut("config").map(Value::take)),
            Err((NO_STREAM, _)) => Ok(None),
            Err((number, text)) => {
                let todo = if NOT_ENABLED.contains(&number) {
                    "enable JetStream for the account of `[sink]`"
                } else {
                    "look at the sink's server: `nats server report jetstream`"
                };
                Err(refused(format!("JetStream says: {text}"), todo))
            }
        }
    }

    async fn create(&self, stream: &str, config: &Value) -> Result<Option<Value>, Failure> {
        match self.ask(&format!("STREAM.CREATE.{stream}"), config).await? {
            Ok(_) => Ok(None),
            // Another agent was faster.
            Err((NAME_IN_USE, _)) => self.info(stream).await,
            Err((_, text)) => Err(refused(
                format!("cannot create stream {stream}: {text}"),
                "make room in the account of `[sink]`, or create it there by hand",
            )),
        }
    }

    /// Makes the stream where there is none, and holds one that is there against what is needed.
    pub(super) async fn ensure_stream(&self, name: &str, subjects: &str) -> Result<(), Failure> {
        let mut found = self.info(name).await?;
        if found.is_none() {
            let config = json!({
                "name": name, "subjects": [subjects], "retention": "limits", "storage": "file",
                "num_replicas": 1, "max_msgs_per_subject": -1, "discard": "old", "allow_direct": true,
                "duplicate_window": u64::try_from(DUPLICATES.as_nanos()).unwrap_or_default(),
                "description": "findings of gatewatch",
            });
            found = self.create(name, &config).await?;
        }
        let Some(config) = found else { return Ok(()) };
        let differences = stream_differs(&config, subjects);
        if differences.is_empty() {
            return Ok(());
        }
        Err(refused(
            format!("stream {name} is not fit for findings: {}", differences.join(", ")),
            format!("change it with `nats stream edit {name}`, or name another stream in `[sink]`"),
        ))
    }

    /// The same for the bucket.
    pub(super) async fn ensure_bucket(&self, bucket: &str) -> Result<(), Failure> {
        let name = format!("KV_{bucket}");
        let mut found = self.info(&name).await?;
        if found.is_none() {
            let config = json!({
                "name": name, "subjects": [format!("$KV.{bucket}.>")], "retention": "limits",
                "storage": "file", "num_replicas": 1, "max_msgs_per_subject": 1, "discard": "new",
                "allow_direct": true, "allow_rollup_hdrs": true, "deny_delete": true,
                "description": "open findings of gatewatch",
            });
            found = self.create(&name, &config).await?;
        }
        let Some(config) = found else { return Ok(()) };
        let differences = bucket_differs(&config, bucket);
        if differences.is_empty() {
            return Ok(());
        }
        Err(refused(
            format!("bucket {bucket} is not fit for findings: {}", differences.join(", ")),
            format!("make it anew with `nats kv add {bucket}`, or name another bucket in `[sink]`"),
        ))
    }

    /// The last message of each subject that `filter` stands for.
    pub(super) async fn last_of_each(
        &self,
        stream: &str,
        filter: &str,
        bodies: bool,
        mut each: impl FnMut(Kept),
    ) -> Result<(), Failure> {
        let config = json!({ "stream_name": stream, "config": {
            "deliver_policy": "last_per_subject", "ack_policy": "none", "replay_policy": "instant",
            "filter_subject": filter, "headers_only": !bodies, "mem_storage": true,
            "inactive_threshold": 30_000_000_000_u64, "num_replicas": 1,
        }});
        let odd = |text: &str| {
            refused(format!("cannot read stream {stream}: {text}"), "look at the log of the sink's server")
        };
        let made = match self.ask(&format!("CONSUMER.CREATE.{stream}"), &config).await? {
            Ok(made) => made,
            Err((_, text)) => return Err(odd(&text)),
        };
        let name = made.get("name").and_then(Value::as_str).ok_or_else(|| odd("no consumer"))?;
        let mut left = made.get("num_pending").and_then(Value::as_u64).unwrap_or_default();
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}");
        let silence = || Failure::Silence { subject: next.clone() };
        let mut seen = 0;
        while left > 0 {
            let inbox = self.client.new_inbox();
            let mut messages = self.client.subscribe(inbox.clone()).await.map_err(|_| silence())?;
            let ask = json!({ "batch": BATCH, "no_wait": true });
            let sent = self.client.publish_with_reply(next.clone(), inbox, ask.to_string().into()).await;
            sent.map_err(|_| silence())?;
            let wanted = left.min(BATCH);
            for _ in 0..wanted {
                let message = tokio::time::timeout(TIMEOUT, messages.next()).await;
                let message = message.ok().flatten().ok_or_else(silence)?;
                let Some(place) = message.reply.as_ref().and_then(|reply| Place::of(reply)) else {
                    // What was there when the consumer was made may be there no more.
                    if message.status == Some(StatusCode::NOT_FOUND) {
                        left = 0;
                        break;
                    }
                    return Err(silence());
                };
                if place.delivered != seen + 1 {
                    return Err(silence());
                }
                (seen, left) = (place.delivered, place.pending);
                each(Kept {
                    subject: message.subject.to_string(),
                    sequence: place.sequence,
                    headers: headers(&message),
                    payload: message.payload.to_vec(),
                });
                if left == 0 {
                    break;
                }
            }
        }
        // It would go by itself; no answer is needed.
        let gone = format!("$JS.API.CONSUMER.DELETE.{stream}.{name}");
        drop(self.client.publish_with_reply(gone, self.client.new_inbox(), "".into()).await);
        Ok(())
    }

    /// One message, by the leader of the stream: another server may be behind.
    async fn get(&self, stream: &str, which: Value) -> Result<Option<Kept>, Failure> {
        let reply = match self.ask(&format!("STREAM.MSG.GET.{stream}"), &which).await? {
            Ok(reply) => reply,
            Err((NO_MESSAGE, _)) => return Ok(None),
            Err((_, text)) => {
                return Err(refused(
                    format!("cannot read stream {stream}: {text}"),
                    "look at the log of the sink's server",
                ));
            }
        };
        let Some(message) = reply.get("message") else { return Ok(None) };
        let text = |key: &str| message.get(key).and_then(Value::as_str).unwrap_or_default();
        let bytes = |key: &str| BASE64.decode(text(key).as_bytes()).unwrap_or_default();
        let lines = String::from_utf8_lossy(&bytes("hdrs")).into_owned();
        let headers = lines
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Ok(Some(Kept {
            subject: text("subject").to_owned(),
            sequence: message.get("seq").and_then(Value::as_u64).unwrap_or_default(),
            headers,
            payload: bytes("data"),
        }))
    }

    pub(super) async fn by_sequence(&self, stream: &str, sequence: u64) -> Result<Option<Kept>, Failure> {
        self.get(stream, json!({ "seq": sequence })).await
    }

    async fn last_of(&self, stream: &str, subject: &str) -> Result<Option<Stored>, Failure> {
        let last = self.get(stream, json!({ "last_by_subj": subject })).await?;
        match last.as_ref().map(Kept::stored) {
            Some(None) => Err(refused(
                format!("stream {stream} holds something else on {subject}"),
                "let nobody but gatewatch publish there",
            )),
            stored => Ok(stored.flatten()),
        }
    }

    /// Writes a finding's event after the subject's last message, which is to have the sequence `after`.
    pub(super) async fn write(
        &self,
        stream: &str,
        message: &crate::publish::Message,
        after: u64,
    ) -> Result<Written, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in &message.headers {
            headers.insert(name.as_str(), value.as_str());
        }
        headers.insert("Nats-Expected-Stream", stream);
        headers.insert("Nats-Expected-Last-Subject-Sequence", after.to_string().as_str());
        let reply = self.send(&message.subject, headers, message.payload.clone()).await?;
        match answer(&reply.payload) {
            // A double of what is there, which need not be the last.
            Ok(ack) if ack.get("duplicate").and_then(Value::as_bool) == Some(true) => {}
            Ok(ack) => {
                let sequence = ack.get("seq").and_then(Value::as_u64);
                return sequence.map(Written::At).ok_or(Failure::Again);
            }
            Err((number, _)) if WRONG_LAST.contains(&number) => {}
            Err((_, text)) => {
                return Err(refused(
                    format!("stream {stream} does not take findings: {text}"),
                    format!("make room in it: `nats stream info {stream}` tells its limits"),
                ));
            }
        }
        Ok(Written::Last(self.last_of(stream, &message.subject).await?))
    }

    /// Has the bucket hold `value` under `key`; without one, nothing.
    pub(super) async fn put(&self, bucket: &str, key: &str, value: Option<String>) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        if value.is_none() {
            headers.insert("KV-Operation", "PURGE");
            headers.insert("Nats-Rollup", "sub");
        }
        let subject = format!("$KV.{bucket}.{key}");
        let reply = self.send(&subject, headers, value.unwrap_or_default()).await?;
        answer(&reply.payload).map(drop).map_err(|(_, text)| {
            refused(
                format!("bucket {bucket} does not take findings: {text}"),
                format!("make room in it: `nats kv info {bucket}` tells its limits"),
            )
        })
    }
}

/// The number and text of the error in an answer, else the answer.
fn answer(payload: &[u8]) -> Result<Value, (u64, String)> {
    let reply: Value = serde_json::from_slice(payload).unwrap_or_default();
    let Some(error) = reply.get("error") else { return Ok(reply) };
    let number = error.get("err_code").and_then(Value::as_u64).unwrap_or_default();
    let text = error.get("description").and_then(Value::as_str).unwrap_or("an error without a text");
    Err((number, text.chars().filter(|c| !c.is_control()).take(200).collect()))
}

fn headers(message: &Message) -> BTreeMap<String, String> {
    let all = message.headers.iter().flat_map(HeaderMap::iter);
    all.filter_map(|(name, values)| Some((name.to_string(), values.first()?.as_str().to_owned()))).collect()
}

/// What the reply subject of a consumer's message tells.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    sequence: u64,
    delivered: u64,
    pending: u64,
}

impl Place {
    /// `$JS.ACK.<stream>.<consumer>.<count>.<sequence>.<delivered>.<time>.<pending>`, or the same with domain and
    /// account hash before the stream and perhaps a token at the end.
    fn of(reply: &str) -> Option<Self> {
        let rest: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let numbers = rest.get(if rest.len() == 7 { 2.. } else { 4.. })?;
        let number = |n: usize| numbers.get(n)?.parse().ok();
        Some(Self { sequence: number(1)?, delivered: number(2)?, pending: number(4)? })
    }
}

fn stream_differs(config: &Value, subjects: &str) -> Vec<String> {
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
    let set = |key: &str| config.get(key).is_some_and(|v| !matches!(v, Value::Null | Value::Bool(false)));
    let mut out = Vec::new();
    let covered = config.get("subjects").and_then(Value::as_array).into_iter().flatten();
    if !covered.filter_map(Value::as_str).any(|subject| covers(subject, subjects)) {
        out.push(format!("it does not keep {subjects}"));
    }
    if text("retention") != "limits" {
        out.push("its retention is not `limits`".to_owned());
    }
    for (key, why) in [
        ("no_ack", "it acknowledges nothing (`no_ack`)"),
        ("sealed", "it is sealed"),
        ("mirror", "it is a mirror"),
        ("subject_transform", "it renames subjects (`subject_transform`)"),
    ] {
        if set(key) {
            out.push(why.to_owned());
        }
    }
    let largest = config.get("max_msg_size").and_then(Value::as_i64).unwrap_or(-1);
    if (0..MESSAGE_BYTES_MAX).contains(&largest) && largest != 0 {
        out.push(format!("it takes messages of {largest} bytes at the most, and an event may have 256 KiB"));
    }
    out
}

fn bucket_differs(config: &Value, bucket: &str) -> Vec<String> {
    let mut out = stream_differs(config, &format!("$KV.{bucket}.>"));
    if config.get("allow_rollup_hdrs").and_then(Value::as_bool) != Some(true) {
        out.push("it allows no purge (`allow_rollup_hdrs`)".to_owned());
    }
    if config.get("max_msgs_per_subject").and_then(Value::as_i64) != Some(1) {
        out.push("its history is not 1".to_owned());
    }
    if config.get("max_age").and_then(Value::as_u64).unwrap_or_default() > 0 {
        out.push("its values expire (`max_age`)".to_owned());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_subject_tells_the_place_with_and_without_a_domain() {
        let place = Some(Place { sequence: 7, delivered: 3, pending: 9 });
        assert_eq!(Place::of("$JS.ACK.S.C.1.7.3.1700000000000000000.9"), place);
        assert_eq!(Place::of("$JS.ACK.hub.ACC.S.C.1.7.3.1700000000000000000.9"), place);
        assert_eq!(Place::of("$JS.ACK.hub.ACC.S.C.1.7.3.1700000000000000000.9.x"), place);
        assert_eq!(Place::of("_INBOX.a"), None);
        assert_eq!(Place::of("$JS.ACK.S.C.1.7"), None);
    }

    #[test]
    fn each_difference_that_matters_is_named_and_no_other() {
        let good = json!({
            "subjects": ["a", "g.finding.>"], "retention": "limits", "max_msg_size": -1, "max_age": 5,
            "no_ack": false, "storage": "memory",
        });
        assert_eq!(stream_differs(&good, "g.finding.>"), [""; 0]);
        for (key, value, told) in [
            ("subjects", json!(["g.finding.critical.>"]), "does not keep g.finding.>"),
            ("retention", json!("workqueue"), "retention"),
            ("no_ack", json!(true), "no_ack"),
            ("sealed", json!(true), "sealed"),
            ("mirror", json!({ "name": "x" }), "mirror"),
            ("subject_transform", json!({ "src": "a" }), "subject_transform"),
            ("max_msg_size", json!(1024), "1024 bytes"),
        ] {
            let mut config = good.clone();
            config[key] = value;
            let told_of = stream_differs(&config, "g.finding.>");
            assert!(told_of.len() == 1 && told_of[0].contains(told), "{told_of:?}");
        }
        let bucket = json!({
            "subjects": ["$KV.b.>"], "retention": "limits", "max_msgs_per_subject": 1,
            "allow_rollup_hdrs": true, "max_age": 0,
        });
        assert_eq!(bucket_differs(&bucket, "b"), [""; 0]);
        for (key, value) in
            [("max_msgs_per_subject", json!(5)), ("allow_rollup_hdrs", json!(false)), ("max_age", json!(1))]
        {
            let mut config = bucket.clone();
            config[key] = value;
            assert_eq!(bucket_differs(&config, "b").len(), 1, "{key}");
        }
    }
}
