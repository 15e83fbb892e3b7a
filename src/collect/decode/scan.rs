//! GATEWAYZ, and the gateways in STATSZ and in VARZ, as real servers write them, without a general parser in between.
//!
//! Only what every known version writes is read: no blanks, the fields in the order of the server's own types, text
//! without escapes, whole numbers. Anything else, an error included, is none here and left to the general way, which
//! decides what it is. So whatever this reads, that reads alike; it is tested with each answer cut and changed in
//! many places.

use std::ops::Range;

use memchr::memmem;
use serde_json::Deserializer;

use super::duration::go_duration;
use super::names::Names;
use super::wire;
use crate::model::{Configured, Connection, Gatewayz, Name, Outbound, ServerInfo, Time, ToldGateway};

/// The server and what it says; none when it is to be read the general way.
pub(super) fn gatewayz(json: &[u8], names: &mut Names) -> Option<(ServerInfo, Gatewayz)> {
    let mut scan = Scan { rest: std::str::from_utf8(json).ok()? };
    scan.eat(b"{\"server\":")?;
    let server = scan.server()?.into_info(names);
    scan.eat(b",\"data\":{\"server_id\":\"")?;
    if scan.text()? != &*server.id || server.id.is_empty() {
        return None;
    }
    scan.go_to(b",\"name\":\"", BODY)?;
    let name = scan.name(names)?;
    scan.eat(b",\"host\":\"")?;
    let host = scan.name(names)?;
    scan.eat(b",\"port\":")?;
    let port = u16::try_from(scan.number()?).ok()?;
    scan.eat(b",\"outbound_gateways\":{")?;
    let outbound = scan.list(b'}', REMOTES, |scan| {
        let remote = scan.key(names)?;
        let (configured, connection) = scan.remote(names)?;
        Some((remote, Outbound { configured, connection }))
    })?;
    scan.eat(b",\"inbound_gateways\":{")?;
    let inbound = scan.list(b'}', REMOTES, |scan| {
        let remote = scan.key(names)?;
        scan.eat(b"[")?;
        let mut connections = scan.list(b']', 1, |scan| Some(scan.remote(names)?.1))?;
        connections.shrink_to_fit();
        Some((remote, connections))
    })?;
    scan.eat(b"}}")?;
    let some = |name: Name| (!name.is_empty()).then_some(name);
    let gatewayz = Gatewayz {
        name: some(name),
        host: some(host),
        port: Some(port),
        outbound: outbound.into_iter().collect(),
        inbound: inbound.into_iter().collect(),
    };
    scan.rest.is_empty().then_some((server, gatewayz))
}

/// The server, its gateways, and in `others` the rest of the body; none when all of it is to be read the general way.
pub(super) fn statsz<'a>(
    json: &'a [u8],
    names: &mut Names,
    others: &mut Vec<u8>,
) -> Option<(ServerInfo, Vec<ToldGateway<&'a str>>)> {
    let mut scan = Scan { rest: std::str::from_utf8(json).ok()? };
    scan.eat(b"{\"server\":")?;
    let server = scan.server()?.into_info(names);
    scan.eat(b",\"statsz\":")?;
    let (before, gateways) = up_to_gateways(scan.rest)?;
    scan.rest = gateways;
    let gateways = scan.list(b']', REMOTES, |scan| {
        scan.eat(b"{\"gwid\":")?;
        let cid = scan.number()?;
        scan.eat(b",\"name\":\"")?;
        let remote = scan.text()?;
        scan.traffic()?;
        scan.eat(b",\"inbound_connections\":")?;
        let inbounds = u32::try_from(scan.number()?).unwrap_or(u32::MAX);
        scan.eat(b"}")?;
        Some((remote, cid, inbounds))
    })?;
    let after = scan.rest.strip_suffix('}')?;
    let key = GATEWAYS.get(1..GATEWAYS.len() - 2)?;
    if server.id.is_empty() || depth(before)? != 1 || contains(before, key) || contains(after, key) {
        return None;
    }
    others.clear();
    others.extend_from_slice(before.as_bytes());
    others.extend_from_slice(after.as_bytes());
    Some((server, gateways))
}

const GATEWAYS: &str = ",\"gateways\":[";

/// What stands before the gateways of STATSZ, without the routes, and what stands behind their opening bracket.
fn up_to_gateways(json: &str) -> Option<(&str, &str)> {
    let Some((before, routes)) = split_once(json, ",\"routes\":[") else { return split_once(json, GATEWAYS) };
    let mut scan = Scan { rest: routes };
    scan.list(b']', 0, |scan| {
        scan.eat(b"{\"rid\":")?;
        scan.number()?;
        scan.eat(b",\"name\":\"")?;
        scan.text()?;
        scan.traffic()?;
        scan.eat(b",\"pending\":")?;
        scan.number()?;
        scan.eat(b"}")
    })?;
    Some((before, scan.rest.strip_prefix(GATEWAYS)?))
}

/// Where the routes of STATSZ stand, which nobody reads; empty where they do not stand as real servers write them.
pub(super) fn routes(json: &[u8]) -> Range<usize> {
    let place = |json: &str| {
        let (before, gateways) = up_to_gateways(json)?;
        Some(before.len()..json.len().checked_sub(GATEWAYS.len() + gateways.len())?)
    };
    std::str::from_utf8(json).ok().and_then(place).unwrap_or_default()
}

/// The server, the URLs that it is configured with for each remote, and in `others` the rest of the body; none when all
/// of it is to be read the general way.
pub(super) fn varz(json: &[u8], names: &mut Names, others: &mut Vec<u8>) -> Option<(ServerInfo, Configured)> {
    const GATEWAYS: &[u8; 13] = b",\"gateways\":[";
    let mut scan = Scan { rest: std::str::from_utf8(json).ok()? };
    scan.eat(b"{\"server\":")?;
    let server = scan.server()?.into_info(names);
    scan.eat(b",\"data\":")?;
    let body = scan.rest.strip_suffix('}')?;
    let (before, block) = split_once(body, ",\"gateway\":{\"name\":\"")?;
    scan.rest = block;
    let own = scan.text()?;
    scan.go_to(GATEWAYS, BLOCK)?;
    let before_list = body.len() - scan.rest.len() - GATEWAYS.len();
    let mut urls = Vec::new();
    let remotes = scan.list(b']', REMOTES, |scan| {
        scan.eat(b"{\"name\":\"")?;
        let remote = scan.text()?;
        urls.clear();
        if scan.eat(b"}").is_none() {
            scan.go_to(b",\"urls\":[", CONFIGURED)?;
            scan.list_of_texts(&mut urls)?;
            scan.eat(b"}")?;
        }
        // A cluster may list itself.
        Some((remote != own).then(|| {
            let remote = names.get(remote);
            let urls = names.urls(&remote, &mut urls);
            (remote, urls)
        }))
    })?;
    let after = scan.rest;
    scan.go_to(b"}", BLOCK)?;
    if server.id.is_empty() || own.is_empty() || depth(before)? != 1 {
        return None;
    }
    others.clear();
    others.extend_from_slice(body.get(..before_list)?.as_bytes());
    others.extend_from_slice(after.as_bytes());
    let remotes = names.configured(own, remotes.into_iter().flatten().collect());
    Some((server, remotes))
}

/// As in the standard library, many times as fast.
fn split_once<'a>(json: &'a str, text: &str) -> Option<(&'a str, &'a str)> {
    let at = memmem::find(json.as_bytes(), text.as_bytes())?;
    Some((json.get(..at)?, json.get(at + text.len()..)?))
}

fn contains(json: &str, text: &str) -> bool {
    memmem::find(json.as_bytes(), text.as_bytes()).is_some()
}

/// How many brackets are open at the end of `json`; none where it ends within a text, or was closed before.
fn depth(json: &str) -> Option<usize> {
    let (mut depth, mut bytes) = (0_usize, json.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return None;
                }
            }
            b'"' => loop {
                match bytes.next()? {
                    b'"' => break,
                    b'\\' => drop(bytes.next()),
                    _ => {}
                }
            },
            _ => {}
        }
    }
    Some(depth)
}

/// What is read of the body and of a connection. One of these where another field is looked for is out of its
/// order or there twice.
const BODY: &[&str] = &["server_id", "name", "host", "port", "outbound_gateways", "inbound_gateways"];
const CONNECTION: &[&str] = &[
    "cid",
    "name",
    "start",
    "rtt",
    "idle",
    "pending_bytes",
    "in_msgs",
    "in_bytes",
    "out_msgs",
    "out_bytes",
    "stalls",
];

/// Of the gateway block and of a remote in it.
const BLOCK: &[&str] = &["gateways"];
const CONFIGURED: &[&str] = &["name", "urls"];

/// Room for so many at first.
const REMOTES: usize = 128;

struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    #[inline]
    fn eat<const N: usize>(&mut self, text: &[u8; N]) -> Option<()> {
        if self.rest.as_bytes().first_chunk() != Some(text) {
            return None;
        }
        self.rest = self.rest.get(N..)?;
        Some(())
    }

    fn server(&mut self) -> Option<wire::Server<'a>> {
        let mut values = Deserializer::from_str(self.rest).into_iter();
        let server = values.next()?.ok()?;
        self.rest = self.rest.get(values.byte_offset()..)?;
        Some(server)
    }

    /// What is between the brackets of which the first is read, up to and with `end`.
    fn list<T>(
        &mut self,
        end: u8,
        room: usize,
        mut one: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        if self.eat(&[end]).is_some() {
            return Some(Vec::new());
        }
        let mut list = Vec::with_capacity(room);
        loop {
            list.push(one(self)?);
            if self.eat(b",").is_none() {
                self.eat(&[end])?;
                return Some(list);
            }
        }
    }

    /// What was sent and received.
    fn traffic(&mut self) -> Option<()> {
        self.eat(b",\"sent\":{\"msgs\":")?;
        self.number()?;
        self.eat(b",\"bytes\":")?;
        self.number()?;
        self.eat(b"},\"received\":{\"msgs\":")?;
        self.number()?;
        self.eat(b",\"bytes\":")?;
        self.number()?;
        self.eat(b"}")
    }

    /// Texts up to and with the closing bracket.
    fn list_of_texts(&mut self, texts: &mut Vec<&'a str>) -> Option<()> {
        if self.eat(b"]").is_some() {
            return Some(());
        }
        loop {
            self.eat(b"\"")?;
            texts.push(self.text()?);
            if self.eat(b",").is_none() {
                return self.eat(b"]");
            }
        }
    }

    #[inline]
    fn remote(&mut self, names: &mut Names) -> Option<(bool, Connection)> {
        self.eat(b"{\"configured\":")?;
        let configured = self.eat(b"true").is_some();
        if !configured {
            self.eat(b"false")?;
        }
        self.eat(b",\"connection\":{\"cid\":")?;
        let cid = self.number()?;
        self.eat(b",\"kind\":\"Gateway\",\"ip\":\"")?;
        self.text()?;
        self.eat(b",\"port\":")?;
        self.number()?;
        self.go_to(b",\"start\":\"", CONNECTION)?;
        let start = Time::parse(self.text()?);
        self.eat(b",\"last_activity\":\"")?;
        self.text()?;
        self.go_to(b",\"rtt\":\"", CONNECTION)?;
        let rtt = go_duration(self.text()?).filter(|d| !d.is_zero());
        self.eat(b",\"uptime\":\"")?;
        self.text()?;
        self.go_to(b",\"idle\":\"", CONNECTION)?;
        let idle = go_duration(self.text()?);
        self.eat(b",\"pending_bytes\":")?;
        let pending_bytes = self.number()?;
        self.eat(b",\"in_msgs\":")?;
        let in_msgs = self.number()?;
        self.eat(b",\"out_msgs\":")?;
        let out_msgs = self.number()?;
        self.eat(b",\"in_bytes\":")?;
        let in_bytes = self.number()?;
        self.eat(b",\"out_bytes\":")?;
        let out_bytes = self.number()?;
        let stalls = match self.eat(b",\"stalls\":") {
            Some(()) => Some(self.number()?),
            None => None,
        };
        self.go_to(b",\"name\":\"", CONNECTION)?;
        let peer_id = self.name(names)?;
        self.go_to(b"}", CONNECTION)?;
        self.eat(b"}")?;
        let connection = Connection {
            cid,
            peer_id,
            start,
            rtt,
            pending_bytes,
            in_msgs,
            in_bytes,
            out_msgs,
            out_bytes,
            idle,
            stalls,
        };
        Some((configured, connection))
    }

    /// Steps over fields that nobody reads until `text` is read.
    #[inline]
    fn go_to<const N: usize>(&mut self, text: &[u8; N], read: &[&str]) -> Option<()> {
        while self.eat(text).is_none() {
            self.eat(b",\"")?;
            let key = self.text()?;
            if read.contains(&key) {
                return None;
            }
            self.eat(b":")?;
            if self.eat(b"\"").is_some() {
                self.text()?;
            } else if self.eat(b"true").is_none() && self.eat(b"false").is_none() {
                self.number()?;
            }
        }
        Some(())
    }

    #[inline]
    fn key(&mut self, names: &mut Names) -> Option<Name> {
        self.eat(b"\"")?;
        let name = self.name(names)?;
        self.eat(b":")?;
        Some(name)
    }

    #[inline]
    fn name(&mut self, names: &mut Names) -> Option<Name> {
        Some(names.get(self.text()?))
    }

    /// The text whose opening quote is read; none with an escape or a control character in it.
    #[inline]
    fn text(&mut self) -> Option<&'a str> {
        let mut len = 0;
        let mut tail = self.rest.as_bytes();
        // Eight bytes at once.
        while let Some((word, rest)) = tail.split_first_chunk::<8>() {
            let odd = odd(u64::from_le_bytes(*word));
            if odd != 0 {
                return self.split(len + odd.trailing_zeros() as usize / 8);
            }
            len += 8;
            tail = rest;
        }
        len += tail.iter().position(|b| *b < b' ' || matches!(b, b'"' | b'\\'))?;
        self.split(len)
    }

    /// The next `len` bytes, if a quote comes then.
    #[inline]
    fn split(&mut self, len: usize) -> Option<&'a str> {
        let (text, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        self.eat(b"\"")?;
        Some(text)
    }

    /// A whole number of at most 19 digits, which fit.
    #[inline]
    fn number(&mut self) -> Option<u64> {
        let (mut number, mut len) = (0_u64, 0);
        for byte in self.rest.as_bytes() {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            if len == 19 {
                return None;
            }
            number = number * 10 + u64::from(digit);
            len += 1;
        }
        if len == 0 || (len > 1 && self.rest.starts_with('0')) {
            return None;
        }
        self.rest = self.rest.get(len..)?;
        Some(number)
    }
}

/// The high bit of each byte that is a quote, a backslash or below a blank. Bytes above the first such one may be
/// marked without reason.
#[inline]
const fn odd(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    let control = word.wrapping_sub(ONES * b' ' as u64) & !word;
    (quote | backslash | control) & HIGH
}
