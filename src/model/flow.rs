//! What moves on a link, from look to look: whether it arrives, and how often the link was made anew.
//!
//! Both ends of a gateway connection count messages alike (measured on 2.10.26 to 2.15.1): the near end what it
//! sends, the far end what it receives. Within one look the two are not told at the same instant, so only what
//! the near end had sent by the look before is held against what the far end has received by now.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lean::Count;
use super::packed::{Pack, Packer, Packet};
use super::{Connection, Gatewayz, Name, Routez, Time};

/// How many times of re-making a link are kept.
const REMADE_MAX: usize = 64;
/// A rate is that of the last half of this to this time.
const RATE_OVER: Duration = Duration::from_secs(5);
/// Two looks less far apart tell no rate.
const RATE_OVER_MIN: Duration = Duration::from_millis(400);

/// What moves on a link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Flow {
    /// Whether both ends were seen in this look.
    pub both_ends: bool,
    /// When the far end was last seen to have received something, or the link was first seen.
    pub moved_at: Option<Time>,
    /// What most links have none of; it is read as if it stood here.
    #[serde(flatten, with = "trouble")]
    #[cfg_attr(test, schemars(with = "Trouble"))]
    trouble: Option<Box<Trouble>>,
    /// What the near end sends in a second, all of it, where two looks tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<u64>"))]
    bytes_per_s: Option<Count>,
}

/// What may be amiss with what moves on a link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Trouble {
    /// The first look in a row by which the near end had sent what the far end has not received.
    pub stuck_since: Option<Time>,
    /// How many messages those are.
    pub stuck_msgs: u64,
    /// The first look in a row in which the near end listed the connection and its other end, which answered,
    /// did not.
    pub unmatched_since: Option<Time>,
    /// How many looks in a row those are.
    pub unmatched_looks: u32,
    /// When the link was made anew while the server it had led to lived on, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remade: Vec<Time>,
}

static NO_TROUBLE: Trouble = Trouble {
    stuck_since: None,
    stuck_msgs: 0,
    unmatched_since: None,
    unmatched_looks: 0,
    remade: Vec::new(),
};

impl Flow {
    /// What the near end sends in a second, all of it, where two looks tell it.
    pub fn bytes_per_s(&self) -> Option<u64> {
        self.bytes_per_s.map(u64::from)
    }
}

impl Deref for Flow {
    type Target = Trouble;

    fn deref(&self) -> &Trouble {
        self.trouble.as_deref().unwrap_or(&NO_TROUBLE)
    }
}

mod trouble {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{NO_TROUBLE, Trouble};

    #[allow(clippy::ref_option, reason = "serde asks by reference")]
    pub(super) fn serialize<S: Serializer>(trouble: &Option<Box<Trouble>>, s: S) -> Result<S::Ok, S::Error> {
        trouble.as_deref().unwrap_or(&NO_TROUBLE).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Box<Trouble>>, D::Error> {
        let trouble = Trouble::deserialize(d)?;
        Ok((trouble != NO_TROUBLE).then(|| Box::new(trouble)))
    }
}

/// What is remembered of one link of one life of a server.
#[derive(Debug, Default)]
pub(super) struct FlowMemory {
    near: Option<Near>,
    far: Option<Far>,
    /// What the near end had sent in the first look after the one in which the far end last moved.
    reference: Option<Count>,
    trouble: Option<Box<Trouble>>,
    sent: Sent,
}

/// What the near end had sent, now and again.
#[derive(Debug, Default)]
struct Sent {
    base: Option<(Time, u64)>,
    next: Option<(Time, u64)>,
}

impl Sent {
    fn look(&mut self, bytes: u64, at: Time) -> Option<u64> {
        let Some((since, before)) = self.base.filter(|(since, before)| at >= *since && bytes >= *before)
        else {
            *self = Self { base: Some((at, bytes)), next: None };
            return None;
        };
        let over = at.since(since);
        if over >= RATE_OVER {
            self.base = self.next.replace((at, bytes)).or(Some((at, bytes)));
        } else if over >= RATE_OVER / 2 {
            self.next.get_or_insert((at, bytes));
        }
        let rate = u128::from(bytes - before) * 1000 / over.as_millis().max(1);
        (over >= RATE_OVER_MIN).then(|| u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

#[derive(Debug)]
struct Near {
    cid: u64,
    start: Option<Time>,
    peer_id: Name,
    out_msgs: u64,
    seen_at: Time,
}

#[derive(Debug)]
struct Far {
    server_id: Name,
    cid: u64,
    in_msgs: u64,
    moved_at: Time,
}

/// The two ends of a link as this look shows them.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends<'a> {
    /// As the server that dials tells.
    pub(super) near: Option<&'a Connection>,
    /// As the server at the other end tells: its ID and the connection.
    pub(super) far: Option<(&'a Name, Connection)>,
    /// The server at the other end answered, and has no such connection.
    pub(super) unmatched: bool,
}

impl Pack for FlowMemory {
    fn pack(&self, to: &mut Packer) {
        let with = |far: &Far| self.near.as_ref().is_some_and(|near| near.peer_id == far.server_id);
        let ends =
            u64::from(self.near.is_some()) | self.far.as_ref().map_or(0, |far| 2 | u64::from(with(far)) << 2);
        let trouble = self.trouble.as_deref();
        to.number(ends | u64::from(trouble.is_some()) << 3);
        if let Some(near) = &self.near {
            to.name(&near.peer_id);
            to.number(near.cid);
            to.time(near.start);
            to.number(near.out_msgs);
            to.time(Some(near.seen_at));
        }
        if let Some(far) = &self.far {
            if !with(far) {
                to.name(&far.server_id);
            }
            to.number(far.cid);
            to.number(far.in_msgs);
            to.time(Some(far.moved_at));
        }
        to.perhaps(self.reference);
        for counted in [self.sent.base, self.sent.next] {
            to.time(counted.map(|(at, _)| at));
            if let Some((_, bytes)) = counted {
                to.number(bytes);
            }
        }
        if let Some(trouble) = trouble {
            to.time(trouble.stuck_since);
            to.number(trouble.stuck_msgs);
            to.time(trouble.unmatched_since);
            to.number(trouble.unmatched_looks);
            to.number(trouble.remade.len() as u64);
            trouble.remade.iter().for_each(|at| to.time(Some(*at)));
        }
    }

    fn unpack(from: &mut Packet<'_>) -> Self {
        let parts = from.number();
        let has = |bit: u32| parts >> bit & 1 == 1;
        let near = has(0).then(|| Near {
            peer_id: from.name(),
            cid: from.number(),
            start: from.time(),
            out_msgs: from.number(),
            seen_at: from.time().unwrap_or_default(),
        });
        let with = near.as_ref().filter(|_| has(2)).map(|near| near.peer_id.clone());
        let far = has(1).then(|| Far {
            server_id: with.unwrap_or_else(|| from.name()),
            cid: from.number(),
            in_msgs: from.number(),
            moved_at: from.time().unwrap_or_default(),
        });
        let reference = from.perhaps().map(Count::from);
        let mut counted = || from.time().map(|at| (at, from.number()));
        let sent = Sent { base: counted(), next: counted() };
        let trouble = has(3).then(|| Trouble {
            stuck_since: from.time(),
            stuck_msgs: from.number(),
            unmatched_since: from.time(),
            unmatched_looks: u32::try_from(from.number()).unwrap_or(u32::MAX),
            remade: (0..from.number()).map_while(|_| from.time()).collect(),
        });
        Self { near, far, reference, trouble: trouble.map(Box::new), sent }
    }
}

impl FlowMemory {
    /// Takes in one look; `lives` says whether a server, by its ID, is known to be alive.
    pub(super) fn look(&mut self, ends: &Ends<'_>, at: Time, lives: impl Fn(&Name) -> bool) -> Flow {
        self.count_remade(ends.near, at, lives);
        let moved_at = self.compare(ends, at);
        if ends.unmatched {
            let trouble = self.trouble.get_or_insert_default();
            trouble.unmatched_since.get_or_insert(at);
            trouble.unmatched_looks = trouble.unmatched_looks.saturating_add(1);
        } else if let (Some(trouble), true) = (&mut self.trouble, ends.far.is_some() || ends.near.is_none()) {
            trouble.unmatched_since = None;
            trouble.unmatched_looks = 0;
        }
        if let Some(trouble) = &mut self.trouble {
            let sent = self.near.as_ref().map(|n| n.out_msgs);
            trouble.stuck_msgs = match (trouble.stuck_since, sent, self.reference) {
                (Some(_), Some(sent), Some(reference)) => sent.saturating_sub(reference.into()),
                _ => 0,
            };
        }
        self.trouble.take_if(|trouble| **trouble == NO_TROUBLE);
        Flow {
            both_ends: ends.near.is_some() && ends.far.is_some(),
            moved_at,
            trouble: self.trouble.clone(),
            bytes_per_s: ends.near.and_then(|near| self.sent.look(near.out_bytes, at)).map(Count::from),
        }
    }

    fn count_remade(&mut self, near: Option<&Connection>, at: Time, lives: impl Fn(&Name) -> bool) {
        let Some(near) = near else { return };
        let again = self.near.as_ref().is_some_and(|n| {
            let other = n.cid != near.cid || n.start != near.start;
            // One whose other end restarted or died was not made anew by a fault of its own.
            other && lives(&n.peer_id)
        });
        if again {
            let remade = &mut self.trouble.get_or_insert_default().remade;
            remade.push(at);
            remade.drain(..remade.len().saturating_sub(REMADE_MAX));
        }
    }

    fn flows_again(&mut self) {
        self.reference = None;
        if let Some(trouble) = &mut self.trouble {
            trouble.stuck_since = None;
        }
    }

    fn compare(&mut self, ends: &Ends<'_>, at: Time) -> Option<Time> {
        let same_near = match (&self.near, ends.near) {
            (Some(known), Some(now)) => known.cid == now.cid && known.start == now.start,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        let same_far = match (&self.far, &ends.far) {
            (Some(known), Some((id, now))) => known.server_id == **id && known.cid == now.cid,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        if !same_near || !same_far {
            self.flows_again();
            if !same_near {
                self.near = None;
                self.far = None;
                self.sent = Sent::default();
            }
        }
        let before = self.near.as_ref().map(|n| (n.out_msgs, n.seen_at));
        if let Some(now) = ends.near {
            self.near = Some(Near {
                cid: now.cid,
                start: now.start,
                peer_id: now.peer_id.clone(),
                out_msgs: now.out_msgs,
                seen_at: at,
            });
        }
        if let Some((id, now)) = &ends.far {
            let moved = self
                .far
                .as_ref()
                .is_none_or(|far| far.server_id != **id || far.cid != now.cid || far.in_msgs != now.in_msgs);
            if moved {
                self.far = Some(Far {
                    server_id: Name::clone(id),
                    cid: now.cid,
                    in_msgs: now.in_msgs,
                    moved_at: at,
                });
                self.flows_again();
            } else if let Some(near) = ends.near {
                match (self.reference, before) {
                    (None, _) => self.reference = Some(near.out_msgs.into()),
                    (Some(reference), Some((sent, sent_at))) if sent > reference.into() => {
                        self.trouble.get_or_insert_default().stuck_since.get_or_insert(sent_at);
                    }
                    _ => {}
                }
            }
        }
        self.far.as_ref().map(|far| far.moved_at)
    }
}

/// Whether a server that does not answer is heard by others: what they have received from it goes on counting.
#[derive(Debug)]
pub(super) struct Voice {
    /// What was received from it before this may have been sent before it went silent.
    from: Time,
    counted: Counted,
    looks: u32,
    last_at: Option<Time>,
}

/// What servers have received from one, and when they were asked.
pub(super) type Counted = BTreeMap<(Name, Path), (Time, u64)>;

/// By which way one server hears another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Path {
    Route,
    Gateway,
}

/// Who hears a server that does not answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Heard {
    /// In how many looks since it went silent somebody had received more from it than in the look before.
    pub looks: u32,
    /// The last of them.
    pub last_at: Option<Time>,
}

impl Voice {
    pub(super) fn from(from: Time) -> Self {
        Self { from, counted: Counted::new(), looks: 0, last_at: None }
    }

    /// Takes in what others have received from it by this look.
    pub(super) fn look(&mut self, mut counted: Counted, at: Time) -> Heard {
        counted.retain(|_, (told_at, _)| *told_at >= self.from);
        if counted.iter().any(|(by, (_, n))| self.counted.get(by).is_some_and(|(_, before)| n > before)) {
            self.looks = self.looks.saturating_add(1);
            self.last_at = Some(at);
        }
        self.counted.extend(counted);
        Heard { looks: self.looks, last_at: self.last_at }
    }
}

/// What servers outside `cluster` and its own peers have received from each other server, by the ID of the one
/// that speaks. Of gateways into `cluster` only what passes them is in question.
pub(super) fn received<'a>(
    servers: impl Iterator<Item = Receiver<'a>>,
    cluster: Option<&Name>,
    of: impl Fn(&Name) -> bool,
) -> BTreeMap<Name, Counted> {
    let mut out: BTreeMap<Name, Counted> = BTreeMap::new();
    for Receiver { id, cluster: own, gatewayz, routez } in servers {
        if let Some((at, gatewayz)) = gatewayz.filter(|_| own != cluster) {
            for (_, connection) in gatewayz.inbound.iter().filter(|(_, c)| of(&c.peer_id)) {
                let by = out.entry(connection.peer_id.clone()).or_default();
                by.insert((id.clone(), Path::Gateway), (*at, connection.in_msgs));
            }
        }
        let Some((at, routez)) = routez else { continue };
        for (peer_id, peer) in routez.peers.iter().filter(|(peer_id, _)| of(peer_id)) {
            let by = out.entry(peer_id.clone()).or_default();
            by.insert((id.clone(), Path::Route), (*at, peer.in_msgs));
        }
    }
    out
}

/// Who tells what it has received, and when it was asked.
pub(super) struct Receiver<'a> {
    pub(super) id: &'a Name,
    pub(super) cluster: Option<&'a Name>,
    pub(super) gatewayz: Option<&'a (Time, Arc<Gatewayz>)>,
    pub(super) routez: Option<&'a (Time, Arc<Routez>)>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Link {
        memory: FlowMemory,
        near: Connection,
        far: Connection,
        far_id: Name,
        at: Time,
    }

    impl Link {
        fn new() -> Self {
            Self {
                memory: FlowMemory::default(),
                near: Connection { cid: 7, peer_id: "U0".into(), out_msgs: 100, ..Connection::default() },
                far: Connection { cid: 9, peer_id: "E0".into(), in_msgs: 100, ..Connection::default() },
                far_id: "U0".into(),
                at: Time::from_millis(1_000_000),
            }
        }

        fn look(&mut self, sent: u64, received: u64) -> Flow {
            self.near.out_msgs += sent;
            self.far.in_msgs += received;
            self.at = self.at.plus(Duration::from_millis(500));
            let ends = Ends {
                near: Some(&self.near),
                far: Some((&self.far_id, self.far.clone())),
                unmatched: false,
            };
            self.memory.look(&ends, self.at, |_| true)
        }
    }

    #[test]
    fn what_was_sent_and_has_not_arrived_by_the_next_look_is_stuck_until_something_arrives() {
        let mut link = Link::new();
        for _ in 0..5 {
            assert_eq!(link.look(3, 3).stuck_since, None);
        }
        assert_eq!(link.look(0, 0).stuck_since, None);
        let sent_at = link.at.plus(Duration::from_millis(500));
        assert_eq!(link.look(1, 0).stuck_since, None, "it may be on its way");
        let flow = link.look(1, 0);
        assert_eq!((flow.stuck_since, flow.stuck_msgs), (Some(sent_at), 2));
        assert_eq!(link.look(0, 0).stuck_since, Some(sent_at));
        assert_eq!(link.look(0, 2).stuck_since, None);
    }

    #[test]
    fn a_message_that_one_end_told_of_and_the_other_not_yet_is_not_stuck() {
        let mut link = Link::new();
        link.look(1, 1);
        // The near end answered before it was sent, the far end after it had arrived.
        link.look(0, 1);
        link.look(1, 0);
        for _ in 0..20 {
            assert_eq!(link.look(0, 0).stuck_since, None);
        }
    }

    #[test]
    fn what_is_sent_in_a_second_follows_what_is_sent_now() {
        let mut link = Link::new();
        let mut send = |bytes: u64, looks: u32| {
            let mut rate = None;
            for _ in 0..looks {
                link.near.out_bytes += bytes;
                rate = link.look(1, 1).bytes_per_s();
            }
            rate
        };
        assert_eq!(send(1000, 1), None, "one look tells no rate");
        assert_eq!(send(1000, 1), Some(2000), "two looks half a second apart do");
        assert_eq!(send(1000, 40), Some(2000));
        assert_eq!(send(5000, 11), Some(10_000), "after five seconds what was before is forgotten");
        link.near.cid += 1;
        link.near.out_bytes = 0;
        assert_eq!(link.look(0, 0).bytes_per_s(), None, "a new connection counts from zero");
    }

    #[test]
    fn an_idle_link_is_not_stuck_and_a_busy_one_is_found_at_once() {
        let mut link = Link::new();
        for _ in 0..100 {
            assert_eq!(link.look(0, 0).stuck_since, None);
        }
        let mut link = Link::new();
        link.look(50, 50);
        let stuck: Vec<bool> = (0..4).map(|_| link.look(50, 0).stuck_since.is_some()).collect();
        assert_eq!(stuck, [false, false, true, true]);
    }

    #[test]
    fn a_new_connection_is_counted_anew_and_as_made_anew() {
        let mut link = Link::new();
        link.look(1, 1);
        for _ in 0..4 {
            link.look(1, 0);
        }
        link.near.cid += 1;
        link.far.cid += 1;
        let flow = link.look(0, 0);
        assert_eq!((flow.stuck_since, flow.remade.len()), (None, 1));
        link.near.cid += 1;
        let ends = Ends { near: Some(&link.near), ..Ends::default() };
        let flow = link.memory.look(&ends, link.at, |_| false);
        assert_eq!(flow.remade.len(), 1, "its other end died: that is another matter");
    }

    #[test]
    fn a_look_that_only_one_end_answers_changes_nothing() {
        let mut link = Link::new();
        link.look(1, 1);
        link.look(0, 0);
        link.look(1, 0);
        let flow = link.memory.look(&Ends { near: Some(&link.near), ..Ends::default() }, link.at, |_| true);
        assert_eq!((flow.stuck_since, flow.both_ends), (None, false));
        assert!(link.look(0, 0).stuck_since.is_some());
    }

    #[test]
    fn who_is_heard_by_others_is_counted_by_looks() {
        let at = Time::from_millis(1000);
        let mut voice = Voice::from(at);
        let count = |n: u64| BTreeMap::from([((Name::from("U1"), Path::Route), (at, n))]);
        assert_eq!(voice.look(count(5), at).looks, 0, "the first count says nothing");
        assert_eq!(voice.look(count(5), at).looks, 0);
        assert_eq!(voice.look(count(6), at), Heard { looks: 1, last_at: Some(at) });
        assert_eq!(voice.look(count(2), at).looks, 1, "a route that was made anew counts from zero");
    }

    #[test]
    fn what_was_sent_before_the_silence_is_not_heard_in_it_however_late_it_is_told() {
        let at = Time::from_millis;
        let mut voice = Voice::from(at(1000));
        let told = |by: &str, told_at: u64, n: u64| {
            BTreeMap::from([((Name::from(by), Path::Gateway), (at(told_at), n))])
        };
        for (by, told_at, n) in [("U1", 999, 5), ("U2", 400, 5), ("U1", 1000, 6), ("U2", 3000, 6)] {
            assert_eq!(voice.look(told(by, told_at, n), at(told_at)).looks, 0, "{by} {told_at}");
        }
        assert_eq!(voice.look(told("U2", 5000, 7), at(5000)), Heard { looks: 1, last_at: Some(at(5000)) });
    }
}
