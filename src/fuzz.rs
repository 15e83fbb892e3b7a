//! What the fuzz targets run, and the test that replays their corpora. No part of a normal build.
//!
//! Each takes what somebody else may have written, reads it, goes on with what was read as the program does, and panics
//! where a promise is broken.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a broken promise is to be seen"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;

use crate::agent::fuzz as agents;
use crate::api::{self, ANSWER_BYTES_MAX, Counters, Resolved, View};
use crate::checks::{REGISTRY, Settings};
use crate::cli::fuzz as printed;
use crate::collect::decode::{self, Decoder, Endpoint, REPLY_BYTES_MAX};
use crate::config::{self, Config, ConfigError, redact, topology};
use crate::findings::{self, Action, Change, Ledger, Reason};
use crate::model::{Fact, Look, Name, Observer, Roster, ServerInfo, Signal, Snapshot, Time, Vantage};
use crate::publish::event::{self, EVENT_BYTES_MAX, Sight, Style};
use crate::publish::{Message, State};

/// A target: its name, which its corpus and its file have too, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// All of them, those first that stand nearest to the network.
pub const TARGETS: [Target; 13] = [
    ("replies", replies),
    ("heartbeats", heartbeats),
    ("advisories", advisories),
    ("snappy", snappy),
    ("agent", agent),
    ("peers", peers),
    ("api", api),
    ("watch", watch),
    ("state", state),
    ("snapshot", snapshot),
    ("config", config),
    ("topology", topology),
    ("words", words),
];

/// 2026-11-20T19:45:20Z, when the samples were taken.
pub(crate) const BEGINNING: Time = Time::from_millis(1_795_203_920_000);

/// A reply to an endpoint, which the first byte chooses.
pub fn replies(data: &[u8]) {
    let Some((first, json)) = data.split_first() else { return };
    let Some(endpoint) = Endpoint::ALL.get(usize::from(first.wrapping_sub(b'0'))) else { return };
    let mut decoder = Decoder::default();
    let read = decoder.reply(*endpoint, None, json);
    assert_eq!(read, decoder.reply(*endpoint, None, json), "what was read before changes nothing");
    assert_eq!(read, decode::generally(*endpoint, json), "the short way and the general way read alike");
    match read {
        Ok((server, fact)) => take(&server, &fact),
        Err(garbled) => assert!(garbled.error.to_string().len() < 4096, "a word of bounded length"),
    }
}

/// A STATSZ that nobody asked for.
pub fn heartbeats(data: &[u8]) {
    let mut decoder = Decoder::default();
    let read = decoder.heartbeat(data, |_, _| false);
    let generally = decode::generally(Endpoint::Statsz, data);
    let unread = decode::unread(data);
    let kept = [data.get(..unread.start), data.get(unread.end..)].map(Option::unwrap_or_default).concat();
    let mut is_asked = false;
    let known = decoder.heartbeat(&kept, |_, _| {
        is_asked = true;
        true
    });
    match read {
        Ok((server, Signal::Heartbeat(statsz))) => {
            assert_eq!(
                decoder.heartbeat(&kept, |_, _| false).as_ref(),
                Ok(&(server.clone(), Signal::Heartbeat(statsz.clone()))),
                "what is not kept is not read"
            );
            let mut rest = statsz.clone();
            if is_asked {
                (rest.gateways, rest.inbounds) = Default::default();
            }
            assert_eq!(known, Ok((server.clone(), Signal::Heartbeat(rest))), "the rest is read alike");
            let fact = Fact::Statsz(statsz.clone());
            assert_eq!(generally, Ok((server.clone(), fact.clone())), "both ways read alike");
            let mut roster = Roster::default();
            drop(roster.hear(server.clone(), Signal::Heartbeat(statsz), BEGINNING));
            look(&mut roster, &server, BEGINNING.plus(Duration::from_millis(500)));
            take(&server, &fact);
        }
        Ok((_, other)) => panic!("no heartbeat: {other:?}"),
        Err(garbled) => assert_eq!(generally.err(), Some(garbled)),
    }
}

/// A goodbye or a login that was refused, whichever it is.
pub fn advisories(data: &[u8]) {
    let mut roster = Roster::default();
    let goodbye = decode::goodbye(data).map(|server| (server, Signal::LameDuck));
    let refused = decode::auth_error(data).ok().flatten();
    for (server, signal) in goodbye.ok().into_iter().chain(refused) {
        drop(roster.hear(server.clone(), signal, BEGINNING));
        look(&mut roster, &server, BEGINNING.plus(Duration::from_millis(500)));
    }
}

/// A compressed reply. So much of it as the first byte says, in sixteenths, is put into whole frames before: what is
/// behind their checksums is hard to come by.
pub fn snappy(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let (whole, raw) = rest.split_at(rest.len() * usize::from(first % 17) / 16);
    let mut frames = Vec::new();
    if !whole.is_empty() {
        let mut encoder = snap::write::FrameEncoder::new(&mut frames);
        encoder.write_all(whole).expect("it is memory");
        encoder.flush().expect("it is memory");
    }
    frames.extend_from_slice(raw);
    let mut decoder = Decoder::default();
    let read = decoder.reply(Endpoint::Gatewayz, Some("snappy"), &frames);
    drop(decoder.reply(Endpoint::Statsz, Some("snappy"), whole));
    assert_eq!(
        read,
        decoder.reply(Endpoint::Gatewayz, Some("snappy"), &frames),
        "what was read before changes nothing"
    );
    if raw.is_empty() && !whole.is_empty() {
        assert_eq!(read, Decoder::default().reply(Endpoint::Gatewayz, None, whole), "it says the same");
    }
    assert!(frames.len() < REPLY_BYTES_MAX);
}

/// An agent that leads; each line is something that came, or time that passed.
pub fn agent(data: &[u8]) {
    agents::play(data, true, None);
}

/// An agent that hears others, and takes over what they say.
pub fn peers(data: &[u8]) {
    agents::play(data, false, None);
}

/// What an earlier start left, and a few looks of the agent that takes it up.
pub fn state(data: &[u8]) {
    if let Ok(state) = State::read(data) {
        let again = State::read(&serde_json::to_vec(&state).expect("it was read")).expect("it was written");
        assert_eq!(again.findings, state.findings);
        agents::play(b"t2000\nt9000\nt4000", true, Some(state));
    }
}

/// A request to the micro service, to the endpoint that the first byte chooses.
pub fn api(data: &[u8]) {
    static SEEN: LazyLock<Snapshot> = LazyLock::new(|| {
        let file = include_bytes!("../tests/situations/link-lost.json");
        Snapshot::from_file(file).expect("it was written by a sweep")
    });
    let Some((first, body)) = data.split_first() else { return };
    let Some(endpoint) = api::Endpoint::ALL.get(usize::from(first.wrapping_sub(b'0'))) else { return };
    let settings = defaults();
    let mut ledger = Ledger::restore(findings::judge(&SEEN, &settings));
    let mut resolved = Resolved::default();
    for finding in ledger.open().cloned().collect::<Vec<_>>() {
        resolved.take(&Change { action: Action::Resolved, reason: Reason::Recovered, finding });
    }
    let answer = match endpoint {
        api::Endpoint::Sweep => api::sweep(body).map(|()| b"{}".to_vec()),
        api::Endpoint::SilenceAdd => api::add(body, &mut ledger, "ID", BEGINNING),
        api::Endpoint::SilenceRemove => api::remove(body, &mut ledger, BEGINNING),
        endpoint => {
            let view = View {
                now: BEGINNING,
                ledger: &ledger,
                resolved: &resolved,
                snapshot: Some(&SEEN),
                epoch: Some("{}"),
                settings: &settings,
                counters: &Counters::default(),
                agent: "watch-1",
                answer_bytes_max: ANSWER_BYTES_MAX,
            };
            api::answer(*endpoint, body, &view)
        }
    };
    match answer {
        Ok(answer) => {
            assert!(answer.len() <= ANSWER_BYTES_MAX, "{} bytes", answer.len());
            let json = serde_json::from_slice::<Value>(&answer);
            assert!(json.is_ok() || *endpoint == api::Endpoint::Metrics);
        }
        Err(error) => {
            assert!((400..600).contains(&error.code) && error.text.len() < 2048, "{error:?}");
            assert!(!error.text.chars().any(redact::hostile), "it stands in a header: {error:?}");
        }
    }
}

/// A message as somebody sees it who only watches: the subject, a line end, the body.
pub fn watch(data: &[u8]) {
    let line = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (subject, body) = data.split_at(line);
    let Ok(subject) = std::str::from_utf8(subject) else { return };
    clean(printed::message(subject, body.get(1..).unwrap_or_default(), BEGINNING));
}

/// What `gatewatch sweep` is said to have written.
pub fn snapshot(data: &[u8]) {
    match Snapshot::from_file(data) {
        Ok(snapshot) => {
            judge(&snapshot);
            clean(printed::snapshot(&snapshot, &defaults()));
        }
        Err(error) => assert!(error.to_string().len() < 4096),
    }
}

/// A configuration file.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(Path::new("c.toml"), text) {
        Ok(warnings) => clean(warnings.into_iter().map(|text| ("a warning", text)).collect()),
        Err(error) => told(&error),
    }
}

/// The file of an expected topology.
pub fn topology(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match topology::parse(Path::new("t.toml"), text) {
        Ok(read) => {
            let written = topology::write(&read);
            let again = topology::parse(Path::new("t.toml"), &written);
            assert_eq!(again.expect("it was written"), read, "{written}");
            clean(vec![("a topology", written)]);
        }
        Err(error) => told(&error),
    }
}

/// Addresses, times, durations, and what stands in a file with credentials.
pub fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok((bare, Some((_, Some(password))))) = config::split_userinfo(text)
        && password.len() > 4
        && !bare.contains(&password)
    {
        assert!(!redact::urls(text).replace("…@", "").contains(&password), "a password is shown");
    }
    for (number, line) in text.lines().enumerate().take(64) {
        let _ = decode::go_duration(line);
        if let Some(time) = Time::parse(line) {
            assert_eq!(Time::parse(&time.to_string()), Some(time), "{line}");
        }
        clean(vec![("a line", redact::control(line).into_owned())]);
        assert!(redact::line(line, number % 2 == 0).len() <= line.len() * 12 + 16);
        drop(redact::json_line(line));
    }
    clean(crate::connect::fuzz(data));
}

/// What each check is set to where nobody says otherwise.
pub(crate) fn defaults() -> BTreeMap<&'static str, Settings> {
    REGISTRY.iter().map(|check| (check.manual().slug, Settings::of(*check))).collect()
}

/// A server says this in three looks, and is judged.
fn take(server: &ServerInfo, fact: &Fact) {
    let mut roster = Roster::default();
    for at in [0, 500, 3500].map(|ms| BEGINNING.plus(Duration::from_millis(ms))) {
        drop(roster.answer(server.clone(), fact.clone(), at));
        look(&mut roster, server, at);
    }
}

fn look(roster: &mut Roster, server: &ServerInfo, asked_at: Time) {
    let vantage = Vantage {
        agent: Name::from("watch-1"),
        server: server.name.clone(),
        server_id: server.id.clone(),
        cluster: server.cluster.clone(),
        ..Vantage::default()
    };
    let snapshot = roster.snapshot(Look {
        epoch: 1,
        asked_at,
        asked: BTreeMap::new(),
        settled: true,
        vantage,
        answered: BTreeSet::from([server.id.clone()]),
        elsewhere: BTreeSet::new(),
        late: BTreeMap::new(),
        observer: Observer::default(),
        lasts: Duration::ZERO,
    });
    judge(&snapshot);
}

/// What the checks find is published as it was promised.
pub(crate) fn judge(snapshot: &Snapshot) {
    let sight = Sight::of(snapshot);
    let style = Style { prefix: "gatewatch".to_owned(), cloudevents: true, ..Style::default() };
    for finding in findings::judge(snapshot, &defaults()) {
        for text in [&finding.summary, &finding.impact] {
            assert!(!text.chars().any(char::is_control), "{}: {text:?}", finding.check);
        }
        // A block of a configuration has lines.
        for text in finding.remediation.iter().map(|step| &step.action) {
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{}: {text:?}", finding.check);
        }
        let change = Change { action: Action::Opened, reason: Reason::Violated, finding };
        published(&event::finding(&change, &sight, &style, "ID"));
    }
}

/// An event is one line of JSON that an agent reads again, under a subject that nobody else's name reaches into.
pub(crate) fn published(message: &Message) {
    is_subject(&message.subject);
    assert!(
        message.payload.len() <= EVENT_BYTES_MAX,
        "{} bytes on {}",
        message.payload.len(),
        message.subject
    );
    assert!(!message.payload.contains(['\n', '\r']), "{}", message.payload);
    for (name, value) in &message.headers {
        assert!(!name.contains(['\n', '\r', ':']) && !value.contains(['\n', '\r']), "{name}: {value}");
    }
    let body: Value = serde_json::from_str(&message.payload).expect("it is JSON");
    // One that was too large has its names cut, and is known to nobody by them.
    if message.subject.contains(".finding.") && body.pointer("/evidence/left_out_bytes").is_none() {
        assert!(event::read(message.payload.as_bytes()).is_some(), "another agent cannot go on with {body}");
    }
}

/// One that can be published to, of tokens that are ours.
pub(crate) fn is_subject(subject: &str) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'$');
    let sound = subject.split('.').all(|token| !token.is_empty() && token.bytes().all(plain));
    assert!(sound && subject.len() < 1024, "{subject:?}");
}

fn told(error: &ConfigError) {
    clean(vec![("an error", error.to_string()), ("what mends it", error.help().unwrap_or_default())]);
}

/// Nothing that is printed steers a terminal.
fn clean(texts: Vec<(&'static str, String)>) {
    for (what, text) in texts {
        let hostile = text.chars().find(|c| *c != '\n' && redact::hostile(*c));
        assert_eq!(hostile, None, "in {what}: {text:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &str) -> Vec<std::path::PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn every_file_of_every_corpus_is_read_as_it_was_promised() {
        for (name, run) in TARGETS {
            let files = files(&format!("fuzz/corpus/{name}"));
            assert!(files.len() > 2, "fuzz/corpus/{name} has hardly a file");
            for file in files {
                let data = std::fs::read(&file).unwrap();
                let read = std::panic::catch_unwind(|| run(&data));
                assert!(read.is_ok(), "{}", file.display());
            }
        }
    }

    #[test]
    fn every_target_has_its_file() {
        let there = files("fuzz/fuzz_targets");
        let there: BTreeSet<_> = there.iter().filter_map(|f| f.file_stem()?.to_str()).collect();
        let names: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        assert_eq!(there, names, "fuzz/fuzz_targets has a file for each of TARGETS, and no other");
    }
}
