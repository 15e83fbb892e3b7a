//! What servers tell each other, and the addresses in it.
//!
//! Servers gossip where other servers are. An address of a server, or of another server's proxy, would
//! lead past the reader's own proxies, and a link that is cut would come back by that way. So each
//! `INFO` is read, and every known address in it becomes the reader's own proxy for that server. Gossip
//! works as ever, and no link leaves the lab's hands.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Longest line that is held back to be read whole. `INFO` lines of a supercluster stay far below.
const LINE_BYTES_MAX: usize = 256 * 1024;

/// What a port leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub(super) enum Kind {
    /// A gateway listener.
    Gateway,
    /// A cluster route listener.
    Route,
}

/// Which server each port leads to, and by which port each server reaches another.
#[derive(Debug, Default)]
pub(super) struct Directory(Mutex<Ports>);

#[derive(Debug, Default)]
struct Ports {
    targets: BTreeMap<u16, (Kind, usize)>,
    /// Listeners on loopback addresses other than 127.0.0.1, which may share a port.
    elsewhere: BTreeMap<SocketAddrV4, (Kind, usize)>,
    proxies: BTreeMap<(Kind, usize, usize), u16>,
}

impl Directory {
    /// `address` is a listener of `server` itself.
    pub(super) fn add_server(&self, kind: Kind, server: usize, address: SocketAddrV4) {
        if *address.ip() == Ipv4Addr::LOCALHOST {
            self.lock().targets.insert(address.port(), (kind, server));
        } else {
            self.lock().elsewhere.insert(address, (kind, server));
        }
    }

    /// `port` is the proxy by which `dialer` reaches `target`.
    pub(super) fn add_proxy(&self, kind: Kind, dialer: usize, target: usize, port: u16) {
        let mut ports = self.lock();
        ports.targets.insert(port, (kind, target));
        ports.proxies.insert((kind, dialer, target), port);
    }

    /// The port of 127.0.0.1 that `reader` is to use instead of `host` and `port`, where the lab knows better.
    fn translate(&self, reader: usize, host: &str, port: u16) -> Option<u16> {
        let ports = self.lock();
        let address = host.parse().ok().map(|ip| SocketAddrV4::new(ip, port));
        let elsewhere = address.and_then(|address| ports.elsewhere.get(&address));
        let (kind, target) = *elsewhere.or_else(|| ports.targets.get(&port))?;
        ports.proxies.get(&(kind, reader, target)).copied()
    }

    /// The same of a route, where nothing but the port is said.
    fn translate_route(&self, reader: usize, port: u16) -> Option<u16> {
        let ports = self.lock();
        let (kind, target) = *ports.targets.get(&port)?;
        (kind == Kind::Route).then(|| ports.proxies.get(&(kind, reader, target)).copied())?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes one direction of a connection on, line by line, with the addresses of `INFO` translated for
/// the server that reads it.
#[derive(Debug)]
pub(super) struct Rewriter {
    reader: usize,
    state: State,
    line: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// At the start or inside of a line.
    Line,
    /// This many bytes of a message's body are to come.
    Body(usize),
    /// TLS, or not NATS at all: nothing can be read any more.
    Opaque,
}

impl Rewriter {
    pub(super) fn new(reader: usize) -> Self {
        Self { reader, state: State::Line, line: Vec::new() }
    }

    /// Takes the next bytes and appends what the reader is to see to `out`.
    pub(super) fn feed(&mut self, directory: &Directory, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            match &mut self.state {
                State::Opaque => {
                    out.extend_from_slice(input);
                    return;
                }
                State::Body(left) => {
                    let (body, rest) = input.split_at((*left).min(input.len()));
                    out.extend_from_slice(body);
                    *left -= body.len();
                    if *left == 0 {
                        self.state = State::Line;
                    }
                    input = rest;
                }
                State::Line => {
                    // A TLS record begins with 20..=23, a line of the protocol with a letter or a sign.
                    if self.line.is_empty() && input.first().is_some_and(|byte| (20..=23).contains(byte)) {
                        self.state = State::Opaque;
                        continue;
                    }
                    let end = input.iter().position(|byte| *byte == b'\n').map_or(input.len(), |at| at + 1);
                    let (part, rest) = input.split_at(end);
                    self.line.extend_from_slice(part);
                    input = rest;
                    if self.line.ends_with(b"\n") {
                        self.end_line(directory, out);
                    } else if self.line.len() > LINE_BYTES_MAX {
                        out.append(&mut self.line);
                        self.state = State::Opaque;
                    }
                }
            }
        }
    }

    fn end_line(&mut self, directory: &Directory, out: &mut Vec<u8>) {
        match self.line.strip_prefix(b"INFO ").and_then(|info| translate_info(directory, self.reader, info)) {
            Some(info) => {
                out.extend_from_slice(b"INFO ");
                out.extend_from_slice(&info);
                out.extend_from_slice(b"\r\n");
            }
            None => out.extend_from_slice(&self.line),
        }
        if let Some(body_bytes) = body_bytes(&self.line) {
            self.state = State::Body(body_bytes + 2);
        }
        self.line.clear();
    }
}

/// How long the body is that follows a line, without its line end; `None` where none follows.
fn body_bytes(line: &[u8]) -> Option<usize> {
    let line = line.trim_ascii_end();
    let verb = line.split(|byte| *byte == b' ').next()?;
    if !matches!(verb, b"RMSG" | b"HMSG" | b"LMSG" | b"MSG" | b"PUB" | b"HPUB") {
        return None;
    }
    std::str::from_utf8(line.rsplit(|byte| *byte == b' ').next()?).ok()?.parse().ok()
}

/// The `INFO` with its addresses translated, or `None` where there is nothing to change.
fn translate_info(directory: &Directory, reader: usize, info: &[u8]) -> Option<Vec<u8>> {
    let mut info: Value = serde_json::from_slice(info).ok()?;
    let fields = info.as_object_mut()?;
    let mut changed = false;
    if let Some(Value::Array(urls)) = fields.get_mut("gateway_urls") {
        let mut seen = BTreeSet::new();
        for url in urls.iter_mut() {
            if let Some(new) = url.as_str().and_then(|old| translate_url(directory, reader, old)) {
                *url = Value::String(new);
                changed = true;
            }
        }
        urls.retain(|url| seen.insert(url.to_string()));
    }
    // A server dials an acceptor of routes where its INFO says that it listens.
    if let Some(port) = fields.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok())
        && let Some(new) = directory.translate_route(reader, port)
    {
        fields.insert("port".to_owned(), Value::from(new));
        changed = true;
    }
    if let Some(ip) = fields.get_mut("ip")
        && let Some(new) = ip.as_str().and_then(|old| translate_url(directory, reader, old))
    {
        *ip = Value::String(new);
        changed = true;
    }
    changed.then(|| serde_json::to_vec(&info).ok()).flatten()
}

/// `host:port` or `scheme://host:port/` as `reader` is to use it.
fn translate_url(directory: &Directory, reader: usize, url: &str) -> Option<String> {
    let (head, port) = url.rsplit_once(':')?;
    let digits = port.trim_end_matches('/');
    let (scheme, host) =
        head.rsplit_once('/').map_or(("", head), |(_, host)| head.split_at(head.len() - host.len()));
    let new = directory.translate(reader, host, digits.parse().ok()?)?;
    Some(format!("{scheme}{}:{new}{}", Ipv4Addr::LOCALHOST, "/".repeat(port.len() - digits.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READER: usize = 0;

    fn directory() -> Directory {
        let directory = Directory::default();
        let local = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        directory.add_server(Kind::Gateway, 1, local(7001));
        directory.add_server(Kind::Gateway, 2, SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 7001));
        directory.add_proxy(Kind::Gateway, READER, 2, 8002);
        directory.add_proxy(Kind::Gateway, READER, 1, 8001);
        directory.add_proxy(Kind::Gateway, 2, 1, 9001);
        directory.add_server(Kind::Route, 1, local(6001));
        directory.add_proxy(Kind::Route, READER, 1, 6101);
        directory
    }

    /// Feeds `input` in pieces of every size; the result must not depend on where TCP cuts.
    fn check(input: &str, expected: &str) {
        for size in 1..=input.len() {
            let (mut rewriter, mut out) = (Rewriter::new(READER), Vec::new());
            for piece in input.as_bytes().chunks(size) {
                rewriter.feed(&directory(), piece, &mut out);
            }
            assert_eq!(String::from_utf8_lossy(&out), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_server_and_anothers_proxy_become_the_readers_proxy_named_once() {
        check(
            "INFO {\"gateway\":\"us\",\"gateway_urls\":[\"127.0.0.1:7001\",\"127.0.0.1:9001\",\"far:1\"]}\r\n",
            "INFO {\"gateway\":\"us\",\"gateway_urls\":[\"127.0.0.1:8001\",\"far:1\"]}\r\n",
        );
    }

    #[test]
    fn a_route_that_is_told_to_the_cluster_goes_by_the_readers_proxy() {
        check(
            "INFO {\"ip\":\"nats-route://127.0.0.1:6001/\"}\r\n",
            "INFO {\"ip\":\"nats-route://127.0.0.1:6101/\"}\r\n",
        );
    }

    #[test]
    fn where_a_server_listens_for_routes_is_the_readers_proxy_and_for_gateways_is_not() {
        check(
            "INFO {\"host\":\"127.0.0.1\",\"port\":6001}\r\nINFO {\"port\":7001}\r\n",
            "INFO {\"host\":\"127.0.0.1\",\"port\":6101}\r\nINFO {\"port\":7001}\r\n",
        );
    }

    #[test]
    fn a_body_that_looks_like_info_is_left_alone() {
        let body = "INFO {\"gateway_urls\":[\"127.0.0.1:7001\"]}\r\n";
        let message = format!("RMSG $G a.b {}\r\n{body}\r\nPING\r\n", body.len());
        check(&message, &message);
    }

    #[test]
    fn a_body_with_headers_is_as_long_as_its_last_number_says() {
        check(
            "HMSG $G a 12 14\r\nNATS/1.0\r\n\r\nhi\r\nINFO {\"gateway_urls\":[\"127.0.0.2:7001\"]}\r\n",
            "HMSG $G a 12 14\r\nNATS/1.0\r\n\r\nhi\r\nINFO {\"gateway_urls\":[\"127.0.0.1:8002\"]}\r\n",
        );
    }

    #[test]
    fn info_without_known_addresses_stays_byte_for_byte() {
        check("INFO { \"b\":1, \"a\":2 }\r\nRS+ $G a\r\n", "INFO { \"b\":1, \"a\":2 }\r\nRS+ $G a\r\n");
    }

    #[test]
    fn tls_passes_as_it_is() {
        check("\u{16}\u{3}INFO \n{\"gateway_urls\"\n", "\u{16}\u{3}INFO \n{\"gateway_urls\"\n");
    }
}
