//! From a request to the messages that answer it, a few servers at a time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::ask::{Endpoint, Options};
use super::chance::Chance;
use super::pack::Packer;
use super::render::{ACCOUNT, Renderer};
use super::text::Text;
use super::wire::{self, Request};
use super::world::{Event, HOST, World};

/// So many servers answer before something else gets its turn.
const SERVERS_AT_ONCE: usize = 32;
/// So many requests wait; those that come then go unanswered.
const REQUESTS_MAX: usize = 10_000;
/// So many bytes of answers are kept to be late; more are lost.
const LATE_BYTES_MAX: usize = 1 << 30;

/// One request that is being answered.
#[derive(Debug)]
struct Job {
    endpoint: Endpoint,
    options: Result<Options, String>,
    /// Where to; without it a heartbeat to everybody is what is asked for.
    reply: Option<String>,
    encoding: Option<&'static str>,
    /// Who is next, and who is the first that is not meant.
    next: usize,
    end: usize,
}

/// All that is being answered.
#[derive(Debug)]
pub(super) struct Answers {
    renderer: Renderer,
    packer: Packer,
    jobs: VecDeque<Job>,
    late: BinaryHeap<Reverse<(u64, u64, Vec<u8>)>>,
    late_bytes: usize,
    /// Of a million answers.
    pub(super) lost: u64,
    chance: Chance,
    body: Text,
    packed: Vec<u8>,
    /// The part of VARZ that is the same for all servers.
    shared: Vec<u8>,
    shared_packed: Vec<u8>,
    told: u64,
}

/// `$SYS.REQ.…`: what a request is for.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    /// All of them.
    Ping(Endpoint),
    /// The server with this ID.
    One(&'a str, Endpoint),
    UserInfo,
    Nobody,
}

fn asked(subject: &str) -> Asked<'_> {
    let parts: Vec<&str> = subject.split('.').collect();
    let known = |endpoint: &str, found: fn(Endpoint) -> Asked<'static>| {
        Endpoint::parse(endpoint).map_or(Asked::Nobody, found)
    };
    match parts.as_slice() {
        ["$SYS", "REQ", "SERVER", "PING"] => Asked::Ping(Endpoint::Statsz),
        ["$SYS", "REQ", "SERVER", "PING", endpoint] => known(endpoint, Asked::Ping),
        ["$SYS", "REQ", "SERVER", id, endpoint] => match Endpoint::parse(endpoint) {
            Some(endpoint) if endpoint != Endpoint::Idz => Asked::One(id, endpoint),
            _ => Asked::Nobody,
        },
        ["$SYS", "REQ", "ACCOUNT", "PING", "STATZ"] => Asked::Ping(Endpoint::Accountz),
        ["$SYS", "REQ", "USER", "INFO"] => Asked::UserInfo,
        _ => Asked::Nobody,
    }
}

impl Answers {
    pub(super) fn new(world: &World, renderer: Renderer, seed: u64) -> Self {
        let mut packer = Packer::default();
        let shared = Renderer::shared(world);
        Self {
            renderer,
            shared_packed: packer.frames(&shared).to_vec(),
            shared,
            packer,
            jobs: VecDeque::new(),
            late: BinaryHeap::new(),
            late_bytes: 0,
            lost: 0,
            chance: Chance::new(seed),
            body: Text::default(),
            packed: Vec::new(),
            told: 0,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// When the next late answer is due.
    pub(super) fn due(&self) -> u64 {
        self.late.peek().map_or(u64::MAX, |Reverse((at, _, _))| *at)
    }

    /// Takes a request.
    pub(super) fn take(&mut self, world: &mut World, request: Request, now: u64, out: &mut Vec<u8>) {
        let Request { subject, reply, encoding, body } = request;
        let asked = asked(&subject);
        // Who is asked by all its gateways has sent something over each of them.
        if let (Asked::Ping(_), Some(host)) = (&asked, world.servers.get_mut(HOST)) {
            host.told = host.told.saturating_add(1);
            host.told_at = now;
        }
        let nobody = |out: &mut Vec<u8>| {
            if let Some(reply) = &reply {
                wire::no_responders(out, reply);
            }
        };
        let (endpoint, range) = match asked {
            Asked::Ping(endpoint) => (endpoint, 0..world.servers.len()),
            Asked::One(id, endpoint) => match world.by_id(id) {
                Some(index) if world.is_reached(index) => (endpoint, index..index + 1),
                _ => return nobody(out),
            },
            Asked::UserInfo => return self.user_info(world, reply.as_deref(), now, out),
            Asked::Nobody => return nobody(out),
        };
        if self.jobs.len() >= REQUESTS_MAX || (reply.is_none() && endpoint != Endpoint::Statsz) {
            return;
        }
        let encoding = encoding.filter(|_| endpoint.is_compressed()).map(|encoding| {
            if encoding.contains("snappy") || encoding.contains("s2") { "snappy" } else { "identity" }
        });
        let options = Options::parse(&body).map_err(|error| error.to_string());
        self.jobs.push_back(Job { endpoint, options, reply, encoding, next: range.start, end: range.end });
    }

    /// Answers for some servers, each request in its turn.
    pub(super) fn work(&mut self, world: &mut World, now: u64, out: &mut Vec<u8>) {
        while self.late.peek().is_some_and(|Reverse((at, _, _))| *at <= now) {
            let Some(Reverse((_, _, message))) = self.late.pop() else { break };
            self.late_bytes -= message.len();
            out.extend_from_slice(&message);
        }
        let Some(mut job) = self.jobs.pop_front() else { return };
        let end = job.end.min(job.next + SERVERS_AT_ONCE);
        while job.next < end {
            match &job.reply {
                Some(reply) => self.answer(world, &job, reply, job.next, now, out),
                None if world.is_reached(job.next) => self.tell(world, Event::Beat(job.next), now, out),
                None => {}
            }
            job.next += 1;
        }
        if job.next < job.end {
            self.jobs.push_back(job);
        }
    }

    fn answer(
        &mut self,
        world: &mut World,
        job: &Job,
        reply: &str,
        index: usize,
        now: u64,
        out: &mut Vec<u8>,
    ) {
        let (is_reached, reaches) = (world.is_reached(index), world.reaches(index));
        let Some(server) = world.server(index) else { return };
        let fault = server.fault;
        let is_meant = match &job.options {
            Ok(options) => {
                options.mean(world, server, self.renderer.release) || job.endpoint == Endpoint::Idz
            }
            Err(_) => true,
        };
        if !is_reached || fault.silent_since.is_some() || !is_meant {
            return;
        }
        let mut comes_at = now;
        if let Some(server) = world.servers.get_mut(index) {
            comes_at = server.late_until.max(now + fault.late_ms * 1_000_000);
            server.late_until = comes_at;
            server.seq += 1;
            server.replied = server.replied.saturating_add(1);
            server.told_at = now;
        }
        if !reaches || (self.lost > 0 && self.chance.next() % 1_000_000 < self.lost) {
            return;
        }
        let Some(server) = world.server(index) else { return };
        self.body.clear();
        let mut encoding = job.encoding;
        match &job.options {
            Ok(options) => self.renderer.reply(&mut self.body, world, server, job.endpoint, options, now),
            Err(why) => {
                encoding = encoding.and(None);
                self.renderer.refusal(&mut self.body, world, server, why, now);
            }
        }
        let body = if encoding == Some("snappy") {
            self.packed.clear();
            let (head, tail) = self.body.0.split_at(self.body.1.unwrap_or(self.body.0.len()));
            self.packer.pack(head, &mut self.packed);
            if self.body.1.is_some() {
                self.packed.extend_from_slice(&self.shared_packed);
                self.packed.extend_from_slice(self.packer.frames(tail));
            }
            &mut self.packed
        } else {
            if let Some(at) = self.body.1 {
                drop(self.body.0.splice(at..at, self.shared.iter().copied()));
            }
            &mut self.body.0
        };
        if fault.garbles {
            damage(body, &mut self.chance);
        }
        if comes_at == now {
            wire::publish(out, reply, encoding, body);
            return;
        }
        let mut message = Vec::new();
        wire::publish(&mut message, reply, encoding, body);
        if self.late_bytes + message.len() <= LATE_BYTES_MAX {
            self.late_bytes += message.len();
            self.told += 1;
            self.late.push(Reverse((comes_at, self.told, message)));
        }
    }

    /// Publishes what a server tells by itself.
    pub(super) fn tell(&mut self, world: &mut World, event: Event, now: u64, out: &mut Vec<u8>) {
        let (Event::Beat(index) | Event::Shutdown(index)) = event;
        let reaches = world.reaches(index);
        let Some(server) = world.servers.get_mut(index).filter(|s| s.alive && s.fault.silent_since.is_none())
        else {
            return;
        };
        server.seq += 1;
        server.told = server.told.saturating_add(1);
        server.told_at = now;
        let Some(server) = world.server(index).filter(|_| reaches) else { return };
        self.body.clear();
        let subject = if matches!(event, Event::Beat(_)) {
            let options = Options::default();
            self.renderer.reply(&mut self.body, world, server, Endpoint::Statsz, &options, now);
            "STATSZ"
        } else {
            self.renderer.server(&mut self.body, world, server, now);
            "SHUTDOWN"
        };
        wire::publish(out, &format!("$SYS.SERVER.{}.{subject}", server.id), None, &self.body.0);
    }

    /// Only the server that the client is connected to knows it.
    fn user_info(&mut self, world: &World, reply: Option<&str>, now: u64, out: &mut Vec<u8>) {
        let (Some(server), Some(reply)) = (world.server(HOST), reply) else { return };
        self.body.clear();
        self.body.raw("{\"server\":");
        self.renderer.server(&mut self.body, world, server, now);
        let data = serde_json::json!({ "user": "sim", "account": ACCOUNT, "account_name": ACCOUNT });
        self.body.raw(",\"data\":").raw(&data.to_string()).raw("}");
        wire::publish(out, reply, None, &self.body.0);
    }
}

/// Cuts a body short, or changes some of it.
fn damage(body: &mut Vec<u8>, chance: &mut Chance) {
    if chance.next().is_multiple_of(2) {
        body.truncate(chance.below(body.len().max(1)));
        return;
    }
    let from = chance.below(body.len().max(1));
    for byte in body.iter_mut().skip(from).take(16) {
        *byte = u8::try_from(chance.next() % 256).unwrap_or_default();
    }
}
