//! What waits for the sink, and what is known of the stream and the bucket there: what may be written next, and
//! what an answer to it means. Pure.
//!
//! In the stream, opened and resolved alternate for each finding, whoever writes. So a message is not written as
//! it came, but as it fits what the stream holds by then; and it is written under the condition that the
//! subject's last message is still the one that this rests on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use crate::findings::{Action, State};
use crate::publish::Message;

/// How much may wait, in bytes: some ten thousand events.
pub const BYTES_MAX: usize = 32 * 1024 * 1024;
/// What one that waits takes besides its text.
const OVERHEAD: usize = 256;
/// So many findings that ended are remembered; of another one, the stream's last message is read when needed.
const ENDED_MAX: usize = 65_536;

/// Which message of a finding: its life, by when it opened, and the revision in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// In milliseconds, as in `Nats-Msg-Id`.
    pub opened_at_ms: u64,
    /// From 1.
    pub revision: u64,
}

/// What the stream's last message of a finding is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its sequence.
    pub sequence: u64,
    /// Of which finding.
    pub fingerprint: String,
    /// Whether that is open after it.
    pub state: State,
    /// Which message.
    pub mark: Mark,
}

impl Stored {
    /// By the headers of the message; none where they are not ours.
    pub fn of(sequence: u64, id: &str, state: &str) -> Option<Self> {
        let (fingerprint, mark) = read_id(id)?;
        let state = match state {
            "open" => State::Open,
            "resolved" => State::Resolved,
            _ => return None,
        };
        Some(Self { sequence, fingerprint, state, mark })
    }

    fn is_open(&self) -> bool {
        self.state == State::Open
    }
}

fn read_id(id: &str) -> Option<(String, Mark)> {
    let mut parts = id.split(':');
    let (print, opened, revision) = (parts.next()?, parts.next()?, parts.next()?);
    let mark = Mark { opened_at_ms: opened.parse().ok()?, revision: revision.parse().ok()? };
    (parts.next().is_none() && print.len() == 16).then(|| (print.to_owned(), mark))
}

/// One message that waits.
#[derive(Clone, Debug)]
struct Want {
    arrival: u64,
    action: Action,
    fingerprint: String,
    mark: Mark,
    message: Message,
}

impl Want {
    fn of(message: &Message, arrival: u64) -> Option<Self> {
        let header =
            |name: &str| message.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let action = match header("Gatewatch-Action")? {
            "opened" => Action::Opened,
            "updated" => Action::Updated,
            "reminded" => Action::Reminded,
            "resolved" => Action::Resolved,
            _ => return None,
        };
        let (fingerprint, mark) = read_id(header("Nats-Msg-Id")?)?;
        Some(Self { arrival, action, fingerprint, mark, message: message.clone() })
    }

    fn bytes(&self) -> usize {
        size(&self.message)
    }
}

fn size(message: &Message) -> usize {
    let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    OVERHEAD + message.subject.len() + message.payload.len() + headers
}

/// One finding's part of the stream.
#[derive(Clone, Debug, Default)]
struct Slot {
    stored: Option<Stored>,
    queue: VecDeque<Want>,
    /// Whether its first is on its way.
    sent: bool,
}

/// What is to be written next.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// To the stream, where the subject's last message has this sequence; 0 for none.
    Event {
        /// What.
        message: Message,
        /// After which.
        after: u64,
    },
    /// To the bucket.
    Put {
        /// Under which key.
        key: String,
        /// The event as last published; none to delete it.
        value: Option<String>,
    },
}

/// What the bucket is to hold under one key.
#[derive(Clone, Debug)]
struct Wish {
    value: Option<String>,
    sent: bool,
    /// Counts up when it changes, so that the answer to an older one is not taken for that to the newer one.
    turn: u64,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Events and values.
    pub waiting: u64,
    /// Their size.
    pub bytes: u64,
    /// Given up since the start, for want of room.
    pub dropped: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Shelf {
    has_stream: bool,
    has_bucket: bool,
    bytes_max: usize,
    slots: BTreeMap<String, Slot>,
    /// Subjects that have something to be written now, oldest first.
    ready: VecDeque<String>,
    wishes: BTreeMap<String, Wish>,
    /// Keys of `wishes` that are not on their way.
    due: VecDeque<String>,
    bytes: usize,
    waiting: u64,
    dropped: u64,
    arrivals: u64,
    ended: usize,
}

impl Shelf {
    /// Nothing waits.
    pub fn new(has_stream: bool, has_bucket: bool) -> Self {
        Self {
            has_stream,
            has_bucket,
            bytes_max: BYTES_MAX,
            slots: BTreeMap::new(),
            ready: VecDeque::new(),
            wishes: BTreeMap::new(),
            due: VecDeque::new(),
            bytes: 0,
            waiting: 0,
            dropped: 0,
            arrivals: 0,
            ended: 0,
        }
    }

    /// Appends a finding's event; other messages are not kept.
    pub fn push(&mut self, message: &Message) {
        self.arrivals += 1;
        let Some(want) = Want::of(message, self.arrivals) else { return };
        if !self.has_stream {
            let value = (want.action != Action::Resolved).then(|| message.payload.clone());
            return self.wish(want.fingerprint, value);
        }
        self.bytes += want.bytes();
        self.waiting += 1;
        let subject = message.subject.clone();
        let slot = self.slots.entry(subject.clone()).or_default();
        slot.queue.push_back(want);
        if slot.queue.len() == 1 {
            self.ready.push_back(subject);
        }
        self.keep_to_the_bound();
    }

    /// Has the bucket hold `value` under `key`, or nothing.
    pub fn wish(&mut self, key: String, value: Option<String>) {
        if !self.has_bucket {
            return;
        }
        self.bytes += OVERHEAD + value.as_ref().map_or(0, String::len);
        self.waiting += 1;
        let turn = self.arrivals;
        self.arrivals += 1;
        let before =
            self.wishes.get(&key).map(|wish| (wish.sent, wish.value.as_ref().map_or(0, String::len)));
        if let Some((_, length)) = before {
            self.bytes -= OVERHEAD + length;
            self.waiting -= 1;
        }
        let sent = before.is_some_and(|(sent, _)| sent);
        if before.is_none() {
            self.due.push_back(key.clone());
        }
        self.wishes.insert(key, Wish { value, sent, turn });
        self.keep_to_the_bound();
    }

    /// What may be written now; it counts as being on its way. With the bucket's comes the turn that the answer
    /// is to be given with.
    pub fn take_next(&mut self) -> Option<(Write, u64)> {
        while let Some(key) = self.due.pop_front() {
            let Some(wish) = self.wishes.get_mut(&key).filter(|wish| !wish.sent) else { continue };
            wish.sent = true;
            return Some((Write::Put { key, value: wish.value.clone() }, wish.turn));
        }
        while let Some(subject) = self.ready.pop_front() {
            let Some(slot) = self.slots.get_mut(&subject).filter(|slot| !slot.sent) else { continue };
            let mut wishes: Vec<(String, Option<String>)> = Vec::new();
            let mut write = None;
            while let Some(want) = slot.queue.front_mut() {
                let before = want.bytes();
                let fit = fit(want, slot.stored.as_ref());
                self.bytes = (self.bytes + want.bytes()).saturating_sub(before);
                if let Fit::After(after) = fit {
                    slot.sent = true;
                    write = Some(Write::Event { message: want.message.clone(), after });
                    break;
                }
                if let Some(want) = slot.queue.pop_front() {
                    self.bytes = self.bytes.saturating_sub(want.bytes());
                    self.waiting -= 1;
                    if fit == Fit::Has {
                        let open = want.action != Action::Resolved;
                        wishes.push((want.fingerprint, open.then_some(want.message.payload)));
                    }
                }
            }
            if write.is_none() {
                self.forget(&subject);
            }
            for (key, value) in wishes {
                self.wish(key, value);
            }
            if let Some(write) = write {
                return Some((write, 0));
            }
            if !self.due.is_empty() {
                return self.take_next();
            }
        }
        None
    }

    /// The stream has the first of `subject` under `sequence`.
    pub fn stored(&mut self, subject: &str, sequence: u64) {
        let Some(slot) = self.slots.get_mut(subject).filter(|slot| slot.sent) else { return };
        slot.sent = false;
        let Some(want) = slot.queue.pop_front() else { return };
        self.bytes = self.bytes.saturating_sub(want.bytes());
        self.waiting -= 1;
        let state = want.action.state();
        slot.stored =
            Some(Stored { sequence, fingerprint: want.fingerprint.clone(), state, mark: want.mark });
        if slot.queue.is_empty() {
            self.forget(subject);
        } else {
            self.ready.push_back(subject.to_owned());
        }
        let value = (state == State::Open).then_some(want.message.payload);
        self.wish(want.fingerprint, value);
    }

    /// The subject's last message is another than was thought: the first is judged anew.
    pub fn reread(&mut self, subject: &str, last: Option<Stored>) {
        let Some(slot) = self.slots.get_mut(subject) else { return };
        slot.stored = last;
        if std::mem::take(&mut slot.sent) {
            self.ready.push_front(subject.to_owned());
        }
    }

    /// The bucket has what was wished for in this turn.
    pub fn kept(&mut self, key: &str, turn: u64) {
        let Some(wish) = self.wishes.get_mut(key) else { return };
        if wish.turn == turn {
            self.bytes -= OVERHEAD + wish.value.as_ref().map_or(0, String::len);
            self.waiting -= 1;
            self.wishes.remove(key);
        } else {
            wish.sent = false;
            self.due.push_back(key.to_owned());
        }
    }

    /// The connection ended, or the sink does not take it now: nothing is on its way any more.
    pub fn rewind(&mut self) {
        let mut ready: Vec<(u64, &String)> = Vec::new();
        for (subject, slot) in &mut self.slots {
            slot.sent = false;
            ready.extend(slot.queue.front().map(|want| (want.arrival, subject)));
        }
        ready.sort_unstable();
        self.ready = ready.into_iter().map(|(_, subject)| subject.clone()).collect();
        self.wishes.values_mut().for_each(|wish| wish.sent = false);
        self.due = self.wishes.keys().cloned().collect();
    }

    /// What the stream's last messages are, by subject, all read anew.
    pub fn read(&mut self, last: BTreeMap<String, Stored>) {
        self.slots.retain(|_, slot| !slot.queue.is_empty());
        self.slots.values_mut().for_each(|slot| slot.stored = None);
        self.ended = 0;
        for (subject, stored) in last {
            let open = stored.is_open();
            let slot = self.slots.entry(subject).or_default();
            slot.stored = Some(stored);
            if !open && slot.queue.is_empty() {
                self.ended += 1;
            }
        }
    }

    /// Subjects for which nothing waits: what the stream holds of them is not about to change.
    pub fn at_rest(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.queue.is_empty())
            .filter_map(|(subject, slot)| Some((subject.as_str(), slot.stored.as_ref()?)))
    }

    /// Findings of which something waits.
    pub fn in_motion(&self) -> BTreeSet<&str> {
        let queued = self.slots.values().flat_map(|slot| &slot.queue).map(|want| want.fingerprint.as_str());
        queued.chain(self.wishes.keys().map(String::as_str)).collect()
    }

    /// How much waits.
    pub fn load(&self) -> Load {
        Load { waiting: self.waiting, bytes: self.bytes as u64, dropped: self.dropped }
    }

    /// What ended is not remembered for ever.
    fn forget(&mut self, subject: &str) {
        let Some(slot) = self.slots.get(subject) else { return };
        if !slot.queue.is_empty() || slot.stored.as_ref().is_some_and(Stored::is_open) {
            return;
        }
        if slot.stored.is_none() || self.ended >= ENDED_MAX {
            self.slots.remove(subject);
        } else {
            self.ended += 1;
        }
    }

    /// When more waits than may: first what is told again by a later one, then what else says that a finding
    /// goes on, then findings that come and go; the oldest of each first.
    fn keep_to_the_bound(&mut self) {
        if self.bytes <= self.bytes_max {
            return;
        }
        let goal = self.bytes_max / 8 * 7;
        for round in 0..3 {
            let mut victims: Vec<(u64, String)> = Vec::new();
            for (subject, slot) in &self.slots {
                for (n, want) in slot.queue.iter().enumerate().skip(usize::from(slot.sent)) {
                    let goes_on = matches!(want.action, Action::Updated | Action::Reminded);
                    if match round {
                        0 => goes_on && n + 1 < slot.queue.len(),
                        1 => goes_on,
                        _ => true,
                    } {
                        victims.push((want.arrival, subject.clone()));
                    }
                }
            }
            victims.sort_unstable();
            for (arrival, subject) in victims {
                if self.bytes <= goal {
                    break;
                }
                let Some(slot) = self.slots.get_mut(&subject) else { continue };
                if let Some(n) = slot.queue.iter().position(|want| want.arrival == arrival)
                    && let Some(want) = slot.queue.remove(n)
                {
                    self.bytes = self.bytes.saturating_sub(want.bytes());
                    self.waiting -= 1;
                    self.dropped += 1;
                }
            }
            if self.bytes <= goal {
                return;
            }
        }
        // What the bucket lacks then is put there when it is compared with the ledger.
        let keys: Vec<String> =
            self.wishes.iter().filter(|(_, wish)| !wish.sent).map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(wish) = self.wishes.remove(&key) {
                self.bytes -= OVERHEAD + wish.value.as_ref().map_or(0, String::len);
                self.waiting -= 1;
                self.dropped += 1;
            }
            if self.bytes <= goal {
                break;
            }
        }
        self.due.retain(|key| self.wishes.contains_key(key));
    }
}

/// What is to become of the first message of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// It is to be written after this sequence.
    After(u64),
    /// The stream says so already: so is the bucket to.
    Has,
    /// It says nothing that is true of what the stream holds.
    Past,
}

/// Makes `want` fit what the stream holds.
fn fit(want: &mut Want, stored: Option<&Stored>) -> Fit {
    let after = stored.map_or(0, |stored| stored.sequence);
    let Some(stored) = stored.filter(|stored| stored.fingerprint == want.fingerprint) else {
        return if want.action == Action::Opened { Fit::After(after) } else { Fit::Past };
    };
    let same_life = stored.mark.opened_at_ms == want.mark.opened_at_ms;
    let is_new = want.mark.revision > stored.mark.revision;
    match (want.action, stored.state) {
        (Action::Opened, State::Open) => {
            // Whoever opened it: the bucket tells of that life.
            if !same_life || want.mark != stored.mark {
                restyle(want, stored.mark);
            }
            Fit::Has
        }
        // It ended in this very life.
        (Action::Opened, State::Resolved) if same_life && !is_new => Fit::Past,
        (Action::Opened, State::Resolved) => {
            // Lives go up, so that none is told twice: of an older one it is not known whether it was here.
            if want.mark.opened_at_ms < stored.mark.opened_at_ms {
                restyle(want, Mark { opened_at_ms: stored.mark.opened_at_ms + 1, ..want.mark });
            }
            Fit::After(after)
        }
        (Action::Resolved, State::Resolved) => Fit::Has,
        (_, State::Resolved) => Fit::Past,
        (Action::Updated | Action::Reminded, State::Open) if same_life && !is_new => {
            if want.mark == stored.mark { Fit::Has } else { Fit::Past }
        }
        (_, State::Open) => {
            if !same_life || !is_new {
                restyle(want, Mark { revision: stored.mark.revision + 1, ..stored.mark });
            }
            Fit::After(after)
        }
    }
}

/// Tells `want` as the next of the life that the stream holds.
fn restyle(want: &mut Want, mark: Mark) {
    let Ok(mut body) = serde_json::from_str::<serde_json::Map<String, Value>>(&want.message.payload) else {
        return;
    };
    body.insert("revision".to_owned(), mark.revision.into());
    if mark.opened_at_ms != want.mark.opened_at_ms {
        let opened_at = crate::model::Time::from_millis(mark.opened_at_ms);
        body.extend(serde_json::to_value(opened_at).ok().map(|at| ("opened_at".to_owned(), at)));
    }
    want.message.payload = Value::Object(body).to_string();
    let id = format!("{}:{}:{}", want.fingerprint, mark.opened_at_ms, mark.revision);
    for (name, value) in &mut want.message.headers {
        if name == "Nats-Msg-Id" {
            value.clone_from(&id);
        }
    }
    want.mark = mark;
}

#[cfg(test)]
mod tests;
