//! A whole agent, without its connection: what comes is handed in, what it does is looked at. For `crate::fuzz`.
#![allow(clippy::expect_used, reason = "a broken promise is to be seen")]

use std::time::Duration;

use async_nats::{Message as Incoming, StatusCode};

use super::io::{Action, Effect, Identity};
use super::{Agent, peers};
use crate::checks::REGISTRY;
use crate::collect::decode::Endpoint;
use crate::config::{Config, Environment, Flags};
use crate::connect::LinkEvent;
use crate::fuzz::{BEGINNING, is_subject, judge, published};
use crate::model::{Name, Time};
use crate::peers::Peers;
use crate::publish::State;

/// Lines beyond this are left out, and time beyond this does not pass in one.
const LINES_MAX: usize = 256;
const LOOKS_MAX: u64 = 24;
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The server that the agent is connected to, as in the samples.
const SERVER: &str = "A0";
const SERVER_ID: &str = "NBSEDPTIZSVY32TQVJHQH4WUXHRYYIDXSJ55BQN4T3HBBOBCC3ZG53IX";
const INSTANCE: &str = "PLAY";

struct Play {
    agent: Agent,
    identity: Identity,
    now: Time,
    /// What was answered to GATEWAYZ lately, and whether that was said again.
    told: Vec<Vec<u8>>,
    again: bool,
}

/// Each line begins with what it is: `0` to `6` a reply to that endpoint, `h` a heartbeat, `d` and `l` a goodbye, `e` a
/// refused login, `b` a beat, `w` a word about ledgers, `f` a finding, `n` that nobody listens, `t` milliseconds that
/// pass, `x` that the connection is lost and found, `a` in how many looks more the replies to GATEWAYZ come again.
pub(crate) fn play(script: &[u8], leads: bool, left: Option<State>) {
    let mut play = Play::begin(leads, left);
    for line in script.split(|b| *b == b'\n').take(LINES_MAX) {
        let Some((kind, rest)) = line.split_first() else { continue };
        play.line(*kind, rest);
    }
    play.wait(Duration::from_secs(2));
    play.end();
}

impl Play {
    fn begin(leads: bool, left: Option<State>) -> Self {
        let flags = Flags { name: Some("watch-1".to_owned()), ..Flags::default() };
        let config = Config::load(&flags, &Environment::new(&|_| None), REGISTRY).expect("the defaults");
        let now = BEGINNING;
        let peers = Peers::new(Name::from(INSTANCE), now);
        let mut agent = Agent::new(config, "_INBOX.play".to_owned(), peers, now);
        let identity = Identity {
            connects: 1,
            server: Name::from(SERVER),
            server_id: Name::from(SERVER_ID),
            payload_bytes_max: 1 << 20,
        };
        if let Some(state) = left {
            agent.take_up(state, now);
        }
        let effects = agent.begin(identity.clone(), now);
        let mut play = Self { agent, identity, now, told: Vec::new(), again: false };
        effects.iter().for_each(looked_at);
        if leads {
            play.line(b'n', b"");
            play.wait(Duration::from_millis(500));
        }
        play
    }

    fn act(&mut self, action: Action) {
        let effects = self.agent.apply(action, self.identity.clone(), self.now);
        effects.iter().for_each(looked_at);
    }

    fn line(&mut self, kind: u8, rest: &[u8]) {
        let prefix = self.agent.style.prefix.clone();
        let heard = |subject: String| Action::Heard(message(subject, rest));
        match kind {
            b'0'..=b'6' => {
                let Some(endpoint) = Endpoint::ALL.get(usize::from(kind - b'0')) else { return };
                let subject = format!("_INBOX.play.{}-{}", self.agent.looks, endpoint.as_str());
                if *endpoint == Endpoint::Gatewayz {
                    if std::mem::take(&mut self.again) {
                        self.told.clear();
                    }
                    self.told.push(rest.to_vec());
                }
                self.act(Action::Reply(message(subject, rest)));
            }
            b'a' => {
                for _ in 0..number(rest).min(LOOKS_MAX) {
                    self.wait(Duration::from_millis(500));
                    for told in std::mem::take(&mut self.told) {
                        self.again = false;
                        self.line(b'0', &told);
                    }
                    self.again = true;
                }
            }
            b'h' => self.act(heard("$SYS.SERVER.X.STATSZ".to_owned())),
            b'd' => self.act(heard("$SYS.SERVER.X.SHUTDOWN".to_owned())),
            b'l' => self.act(heard("$SYS.SERVER.X.LAMEDUCK".to_owned())),
            b'e' => self.act(heard("$SYS.SERVER.X.CLIENT.AUTH.ERR".to_owned())),
            b'b' => self.act(heard(format!("{prefix}.peer.X"))),
            b'w' => self.act(heard(format!("{prefix}.ledger.{INSTANCE}"))),
            b'f' => self.act(heard(format!("{prefix}.finding.X"))),
            b'n' => {
                let nobody = message(peers::pull_subject(&prefix), b"");
                self.act(Action::Heard(Incoming { status: Some(StatusCode::NO_RESPONDERS), ..nobody }));
            }
            b't' => {
                self.wait(Duration::from_millis(number(rest)).min(WAIT_MAX));
            }
            b'x' => {
                self.act(Action::Link(LinkEvent::Disconnected));
                self.wait(Duration::from_millis(100));
                self.identity.connects += 1;
                self.act(Action::Link(LinkEvent::Connected));
            }
            _ => {}
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now.plus(time);
        for _ in 0..512 {
            let due = self.agent.due();
            if due > until {
                break;
            }
            self.now = self.now.max(due);
            self.act(Action::Due);
        }
        self.now = until;
        self.act(Action::Due);
    }

    fn end(mut self) {
        assert!(self.agent.ledger.open().all(crate::findings::Finding::is_named_right));
        if let Some(snapshot) = self.agent.desk.put_away() {
            judge(&snapshot);
        }
        self.act(Action::Stop("it is over"));
    }
}

fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1)
}

fn message(subject: String, payload: &[u8]) -> Incoming {
    Incoming {
        length: subject.len() + payload.len(),
        subject: subject.into(),
        reply: None,
        payload: payload.to_vec().into(),
        headers: None,
        status: None,
        description: None,
    }
}

fn looked_at(effect: &Effect) {
    match effect {
        Effect::Ask { subject, reply, .. } => {
            is_subject(subject);
            is_subject(reply);
        }
        Effect::Nudge { subject } => is_subject(subject),
        Effect::Send { subject, reply, body } => {
            is_subject(subject);
            if let Some(reply) = reply {
                is_subject(reply);
            }
            assert!(body.len() < 1 << 20, "{} bytes to other agents", body.len());
        }
        Effect::Publish(message) => published(message),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::connect::{Denied, Operation};
    use serde_json::{Value, json};

    use super::*;

    fn beat(instance: &str, agent: &str) -> Value {
        json!({ "instance": instance, "agent": agent, "leading_since": BEGINNING,
                "next_in": { "secs": 1, "nanos": 0 }, "hears": [] })
    }

    fn page(n: usize, findings: &[Value], last: bool) -> Value {
        json!({ "beat": beat("OTHER", "eu-2"), "number": n, "last": last, "findings": findings })
    }

    fn finding() -> Value {
        let file = include_bytes!("../../tests/situations/link-lost.json");
        let snapshot = crate::model::Snapshot::from_file(file).unwrap();
        let found = crate::findings::judge(&snapshot, &crate::fuzz::defaults());
        serde_json::to_value(found.first().expect("a link is lost")).unwrap()
    }

    #[test]
    fn an_agent_whose_name_is_none_is_not_heard() {
        for (name, is_heard) in [("eu-2", true), (&*"x".repeat(129), false), ("a\u{1b}b", false)] {
            let mut play = Play::begin(false, None);
            play.line(b'b', beat("OTHER", name).to_string().as_bytes());
            assert_eq!(play.agent.company.peers.leader().is_some(), is_heard, "{name:?}");
        }
    }

    #[test]
    fn who_judges_for_long_goes_on_to_lead_once_it_has_said_so() {
        let secs = Duration::from_secs;
        let mut play = Play::begin(true, None);
        assert!(play.agent.company.peers.leads());
        assert!(play.agent.cost.interval_ms <= 1000, "since 1970, for it stood by before");
        let busy = |play: &mut Play, worked: u64, lasts: u64| {
            let due = play.agent.due();
            play.now = due.plus(secs(lasts));
            play.agent.wakes(due, secs(worked), play.now);
            play.act(Action::Due);
            play.agent.company.peers.leads()
        };
        assert!(!busy(&mut play, 3, 3), "nobody was told to wait so long");
        play.line(b'n', b"");
        play.wait(secs(3));
        assert!(play.agent.company.peers.leads());
        assert!(busy(&mut play, 6, 3), "the beat told of it");
        play.wait(secs(3));
        assert!(!busy(&mut play, 6, 8), "it was away for longer");
        play.line(b'n', b"");
        play.wait(secs(700));
        play.agent.wakes(play.now, secs(6), play.now);
        assert_eq!(play.agent.busy.lasts(), Duration::ZERO, "that was long ago");
    }

    #[test]
    fn who_judges_thousands_for_the_first_time_goes_on_to_lead() {
        let mut play = Play::begin(true, None);
        for n in 0..6000 {
            let server = json!({ "name": n.to_string(), "id": n.to_string(), "cluster": "eu", "seq": 1 });
            play.line(b'h', json!({ "server": server, "statsz": {} }).to_string().as_bytes());
        }
        play.wait(Duration::from_secs(3));
        assert!(play.agent.company.peers.leads());
        let due = play.agent.due();
        play.now = due.plus(Duration::from_millis(2900));
        play.agent.wakes(due, Duration::from_millis(2900), play.now);
        play.act(Action::Due);
        assert!(play.agent.company.peers.leads());
    }

    #[test]
    fn a_ledger_that_is_too_large_is_not_taken_in() {
        let pad = " ".repeat(32 << 20);
        for (copies, is_taken) in [(7, true), (8, false)] {
            let mut play = Play::begin(false, None);
            play.line(b'b', beat("OTHER", "eu-2").to_string().as_bytes());
            for n in 0..copies {
                let word = json!({ "copy": page(n, &[], false) }).to_string() + &pad;
                play.line(b'w', word.as_bytes());
            }
            play.line(b'w', json!({ "copy": page(copies, &[finding()], true) }).to_string().as_bytes());
            assert_eq!(play.agent.ledger.len(), usize::from(is_taken), "{copies}");
        }
    }

    #[test]
    fn no_more_is_taken_over_than_there_is_room_for() {
        let pad = " ".repeat(32 << 20);
        for (offers, is_taken) in [(7, true), (8, false)] {
            let mut play = Play::begin(true, None);
            // Something is open, so that what is taken over adds up.
            let mut another = finding();
            another["entity"]["remote"] = Value::Null;
            let named: crate::findings::Finding = serde_json::from_value(another.clone()).unwrap();
            another["fingerprint"] =
                crate::findings::fingerprint(&named.check, named.severity, &named.entity).into();
            play.line(b'w', json!({ "offer": page(0, &[another], true) }).to_string().as_bytes());
            assert_eq!(play.agent.ledger.len(), 1);
            for n in 0..offers {
                play.line(b'w', (json!({ "offer": page(n, &[], false) }).to_string() + &pad).as_bytes());
            }
            play.line(b'w', json!({ "offer": page(0, &[finding()], true) }).to_string().as_bytes());
            assert_eq!(play.agent.ledger.len(), 1 + usize::from(is_taken), "{offers}");
        }
    }

    #[test]
    fn whoever_answers_nonsense_under_many_names_fills_no_memory() {
        let mut play = Play::begin(true, None);
        for n in 0..2 * super::super::COMPLAINTS_MAX {
            let server = json!({ "name": format!("s{n}"), "id": format!("N{n}"), "cluster": "eu" });
            play.line(b'0', json!({ "server": server, "data": 7 }).to_string().as_bytes());
        }
        assert_eq!(play.agent.observer.complaints.len(), super::super::COMPLAINTS_MAX);
        for n in 0..1000 {
            let denied = Denied { operation: Operation::Subscribe, subject: format!("a.{n}") };
            play.agent.was_denied(&denied, None);
        }
        assert_eq!(play.agent.observer.refused.len(), super::super::REFUSALS_MAX);
    }

    #[test]
    fn what_others_have_open_fills_no_memory_either() {
        let mut play = Play::begin(false, None);
        let complaint = |n: usize| {
            let mut other = finding();
            other["check"] = "observer_degraded".into();
            other["entity"]["server_id"] = format!("N{n}").into();
            serde_json::from_value(other).unwrap()
        };
        let open: Vec<crate::findings::Finding> = (0..1000).map(complaint).collect();
        play.agent.recall(&open);
        assert_eq!(play.agent.observer.complaints.len(), super::super::COMPLAINTS_MAX);
    }

    #[test]
    fn who_stands_by_knows_whom_the_one_that_leads_has_heard() {
        let mut leader = Play::begin(true, None);
        let server =
            |id: &str| json!({ "name": "eu-1", "id": id, "cluster": "eu", "ver": "2.15.1", "seq": 1 });
        leader.line(b'h', json!({ "server": server("NEU1"), "statsz": {} }).to_string().as_bytes());
        let ask = message(format!("gatewatch.ledger.{INSTANCE}"), br#"{"ask":"OTHER"}"#);
        let answer = leader.agent.apply(Action::Heard(ask), leader.identity.clone(), leader.now);
        let [Effect::Send { body, .. }] = answer.as_slice() else { panic!("{answer:?}") };

        let mut word: Value = serde_json::from_str(body).unwrap();
        word["copy"]["beat"] = beat("OTHER", "eu-2");
        let long = json!({ "name": "x".repeat(1025), "id": "NEU2", "cluster": "eu" });
        let servers = word["copy"]["servers"].as_array_mut().unwrap();
        servers.extend([server("NEU3"), long].map(|server| json!({ "server": server, "ms_ago": 7 })));
        let mut next = Play::begin(false, None);
        next.line(b'b', beat("OTHER", "eu-2").to_string().as_bytes());
        next.line(b'w', word.to_string().as_bytes());
        assert_eq!(next.agent.roster.cluster_of("NEU1"), Some("eu".into()));
        assert_eq!(next.agent.roster.len(), 1, "one life of each, and none whose name is none");
    }

    #[test]
    fn what_a_state_file_says_is_published_only_where_it_is_an_event_of_ours() {
        let sound = crate::publish::Message {
            subject: "gatewatch.finding.critical.x.y.z.w".to_owned(),
            headers: vec![
                ("Nats-Msg-Id".to_owned(), "1".to_owned()),
                ("Gatewatch-Action".to_owned(), "opened".to_owned()),
            ],
            payload: r#"{"type":"io.nats.gatewatch.advisory.v1.finding","evidence":{"left_out_bytes":9}}"#
                .to_owned(),
        };
        assert!(sound.is_sound());
        let odd = |change: fn(&mut crate::publish::Message)| {
            let mut message = sound.clone();
            change(&mut message);
            message
        };
        let state = State {
            version: State::VERSION,
            unconfirmed: vec![
                sound.clone(),
                odd(|m| m.subject.push_str(".a b")),
                odd(|m| m.subject.push_str("\r\nPUB b 0")),
                odd(|m| m.subject.push_str("..b")),
                odd(|m| m.subject.push_str(".u?")),
                odd(|m| m.subject = "$SYS.REQ.SERVER.PING".to_owned()),
                odd(|m| m.headers[0].1.push('\n')),
                odd(|m| m.headers[0].0.push(':')),
                odd(|m| m.payload = "{}".to_owned()),
                odd(|m| m.payload.insert(1, '\n')),
            ],
            ..State::default()
        };
        let mut play = Play::begin(false, None);
        let before = play.agent.outbox.waiting().count();
        play.agent.take_up(state, BEGINNING);
        assert_eq!(play.agent.outbox.waiting().count(), before + 1);
        assert_eq!(play.agent.outbox.waiting().last(), Some(&sound));
    }

    #[test]
    fn the_check_of_a_finding_of_another_agent_is_a_token_of_its_subject() {
        let mut play = Play::begin(true, None);
        for (check, is_taken) in
            [("a.b", false), ("a b", false), (">", false), ("", false), ("of_tomorrow", true)]
        {
            let mut other: crate::findings::Finding = serde_json::from_value(finding()).unwrap();
            other.check = check.into();
            other.fingerprint = crate::findings::fingerprint(check, other.severity, &other.entity);
            let other = serde_json::to_value(other).unwrap();
            play.line(b'w', json!({ "offer": page(0, &[other], true) }).to_string().as_bytes());
            assert_eq!(play.agent.ledger.len(), usize::from(is_taken), "{check:?}");
        }
    }

    #[test]
    fn no_more_vantages_are_used_than_there_may_be() {
        let mut play = Play::begin(false, None);
        let most = super::super::ways::VANTAGES_MAX;
        play.agent.config.vantages = vec![crate::config::Connect::default(); most + 1];
        assert_eq!(play.agent.open_vantages().len(), most);
    }

    #[test]
    fn beats_that_never_come_back_fill_no_memory() {
        let mut play = Play::begin(true, None);
        let most = super::super::peers::RECEIPTS_MAX;
        for _ in 0..2 * most {
            play.agent.beat(false, BEGINNING);
        }
        assert_eq!(play.agent.company.receipts.len(), most);
    }

    /// An answer of a server in `eu`, with a gateway to each of `remotes`.
    fn answer(name: &str, seq: u64, remotes: &[&str]) -> Vec<u8> {
        let server = json!({ "name": name, "id": "NEU1", "cluster": "eu", "ver": "2.15.1", "seq": seq });
        let gateway = |remote: &&str| {
            let connection = json!({ "cid": 9, "name": "NX", "kind": "Gateway" });
            ((*remote).to_owned(), json!({ "configured": true, "connection": connection }))
        };
        let outbound: serde_json::Map<String, Value> = remotes.iter().map(gateway).collect();
        let data = json!({ "server_id": "NEU1", "name": "eu", "outbound_gateways": outbound });
        json!({ "server": server, "data": data }).to_string().into_bytes()
    }

    /// What is believed of the gateways of that server, and what was said against it.
    fn believed(play: &Play) -> (Vec<Name>, Option<String>) {
        let told = play.agent.roster.gatewayz("NEU1").map(|told| told.outbound.keys().cloned().collect());
        let complaint = play.agent.observer.complaints.get("NEU1");
        (told.unwrap_or_default(), complaint.filter(|c| c.recent > 1).map(|c| c.error.clone()))
    }

    #[test]
    fn a_heartbeat_counts_as_of_when_it_was_made_by_the_clock_of_the_answers() {
        let ahead = Duration::from_secs(3600);
        let server = |seq: u64, made_at: Time| {
            json!({ "name": "eu-1", "id": "NEU1", "cluster": "eu", "ver": "2.15.1", "seq": seq,
                    "time": made_at.plus(ahead) })
        };
        let mut play = Play::begin(true, None);
        play.wait(Duration::from_millis(500));
        let beat_of = |play: &mut Play, seq: u64, ago: u64| {
            let made_at = play.now.minus(Duration::from_secs(ago));
            let beat = json!({ "server": server(seq, made_at), "statsz": {} });
            play.line(b'h', beat.to_string().as_bytes());
            let sign_at = play.agent.roster.known().next().expect("it was heard").1;
            play.now.since(sign_at).as_secs()
        };
        assert_eq!(beat_of(&mut play, 1, 7), 0, "its clock is not known");
        play.wait(Duration::from_secs(10));
        let answer = json!({ "server": server(2, play.now), "data": { "server_id": "NEU1", "name": "eu" } });
        play.line(b'0', answer.to_string().as_bytes());
        play.wait(Duration::from_secs(20));
        assert_eq!(beat_of(&mut play, 3, 7), 7, "it waited");
        assert_eq!(beat_of(&mut play, 4, 3600), 0, "its clock was set back");
    }

    fn look_and_hear(play: &mut Play, answers: &[Vec<u8>]) {
        play.wait(Duration::from_millis(500));
        for answer in answers {
            play.line(b'0', answer);
        }
    }

    #[test]
    fn who_answers_after_a_server_under_its_whole_identity_is_told_of_and_not_believed() {
        let mut play = Play::begin(true, None);
        for seq in [10, 20, 30] {
            let (own, lie) = (answer("eu-1", seq, &["us"]), answer("eu-1", seq + 1, &[]));
            look_and_hear(&mut play, &[own.clone(), own, lie]);
        }
        let (told, complaint) = believed(&play);
        assert_eq!(told, ["us".into()]);
        assert_eq!(complaint.unwrap(), "it answers one question twice: somebody else answers under its ID");
    }

    #[test]
    fn who_answers_before_a_server_is_told_of_and_believed_until_it_stops() {
        let mut play = Play::begin(true, None);
        for seq in [10, 20, 30] {
            let lie = answer("eu-1", u64::MAX - 100 + seq, &[]);
            look_and_hear(&mut play, &[lie, answer("eu-1", seq, &["us"])]);
        }
        let (told, complaint) = believed(&play);
        assert_eq!(told, [""; 0].map(Name::from), "nothing tells them apart");
        assert!(complaint.unwrap().ends_with("to 30: somebody else answers under its ID"));
        for (seq, is_heard) in [(40, false), (50, true), (60, true)] {
            look_and_hear(&mut play, &[answer("eu-1", seq, &["us"])]);
            assert_eq!(believed(&play).0.len(), usize::from(is_heard), "{seq}");
        }
    }

    #[test]
    fn an_answer_that_is_copied_again_and_again_is_neither_believed_nor_told_of() {
        let mut play = Play::begin(true, None);
        let copy = answer("eu-1", 10, &[]);
        look_and_hear(&mut play, std::slice::from_ref(&copy));
        for seq in [20, 30, 40] {
            look_and_hear(&mut play, &[answer("eu-1", seq, &["us"]), copy.clone(), copy.clone()]);
        }
        assert_eq!(believed(&play), (vec!["us".into()], None));
    }
}
